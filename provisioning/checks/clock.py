"""Is wall time to be believed? Certificates, timetables and limits of a day hang on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from edge.clock import Anchor, Clock
from edge.model import ClockQuality, CorruptData, DeviceFault, Moment, SetupProblem
from edge.offline_cache.marks import time_anchor
from edge.offline_cache.store import FileKind, open_reader, telling
from edge.settings import DeviceSettings
from provisioning.checks.finding import Device, Finding, attention, ok, wrong

PART: Final = "clock"
SET: Final = 'set it with "timedatectl set-ntp true", or let the device reach the city'
APART_S: Final = 60  # Our choice: more than any drift between two looks; a wrong hour is 3600.


def examine(device: Device) -> Iterator[Finding]:
    moment = moment_now(device.settings)
    machine = device.now.astimezone(ZoneInfo(device.settings.time_zone))
    where = f"{machine:%Y-%m-%d %H:%M:%S %Z}"
    apart_s = abs(moment.wall_ms / 1000 - device.now.timestamp())
    match moment.quality:
        case ClockQuality.FLOOR:
            floor = datetime.fromtimestamp(moment.wall_ms / 1000, UTC)
            found = f"earlier than the newest time the city has signed ({floor:%Y-%m-%d %H:%M} UTC)"
            yield wrong(PART, where, found, SET)
        case ClockQuality.UNKNOWN:
            found = "nobody vouches for this time: neither NTP nor the city since the last start"
            yield attention(PART, where, found, SET)
        case _ if apart_s > APART_S:
            found = f"{apart_s:.0f} s away from the city's time, which the agent goes by"
            yield attention(PART, where, found, 'run "timedatectl set-ntp true"')
        case _:
            yield ok(PART, where, f"vouched for by {moment.quality}")


def moment_now(settings: DeviceSettings) -> Moment:
    """This moment as the agent would judge it, from what the city signed so far."""
    clock = Clock(ZoneInfo(settings.time_zone))
    try:
        db = open_reader(settings.sync_path, FileKind.SYNC)
    except (CorruptData, DeviceFault, SetupProblem):
        db = None  # The databases part says what is wrong with it.
    if db is not None:
        anchor = None
        try:
            with telling():
                anchor = time_anchor(db)
        except (CorruptData, DeviceFault):
            pass  # As above.
        finally:
            db.close()
        if anchor is not None:
            clock.floor_ms = anchor.floor_utc_ms
            if anchor.boot:  # "" marks a floor that came without a time of its own.
                clock.anchor = Anchor(
                    boot=anchor.boot, mono_ms=anchor.mono_ms, utc_ms=anchor.utc_ms
                )
    return clock.moment()
