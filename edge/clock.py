"""Wall time, monotonic time, and whether wall time is to be believed.

Order and waiting use the monotonic clock alone. Wall time is believed when the kernel says it is
disciplined (`ntp`) or when an anchor of this boot says so: sync stores the pair (monotonic, UTC)
of a time the city signed, and edge counts on from there. Neither may lie below the floor, the
newest time the city ever signed to us; below it the floor itself is given as `floor`.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from datetime import time as time_of_day
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from edge.model import ClockQuality, Moment

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised.
TIMEX_BYTES = 256  # sizeof(struct timex) is 208 on 64-bit Linux; room to spare.
NTP_LOOK_MS = 10_000  # Our choice: the kernel's state is asked at most every 10 s.
MIDNIGHT = time_of_day()
FLOOR_SLACK_MS = 5_000  # Our choice: signed time travels; so far below is not "below".


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A time the city signed, tied to this machine's monotonic clock."""

    boot: str
    mono_ms: int
    utc_ms: int


def boot_id() -> str:
    """The kernel's id of this boot, 12 digits of it: enough to tell boots of one device apart."""
    return BOOT_ID.read_text().strip().replace("-", "")[:12]


def ntp_synchronised() -> bool:
    """What the kernel says of its clock (adjtimex with no change asked for)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = int(libc.adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))
    except (OSError, AttributeError):
        return False
    return 0 <= state < TIME_ERROR


class Clock:
    """Looks at all clocks at once. `anchor` and `floor_ms` are set by whoever reads `sync.db`."""

    def __init__(
        self,
        zone: ZoneInfo,
        *,
        boot: str | None = None,
        mono_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        ntp: Callable[[], bool] = ntp_synchronised,
    ) -> None:
        self.zone = zone
        self.boot = boot if boot is not None else boot_id()
        self.anchor: Anchor | None = None
        self.floor_ms = 0
        self._mono_ms = mono_ms
        self._wall_ms = wall_ms
        self._ntp = ntp
        self._ntp_said = False
        self._ntp_asked_ms: int | None = None

    def mono_ms(self) -> int:
        return self._mono_ms()

    def moment(self) -> Moment:
        mono_ms = self._mono_ms()
        if self._ntp_asked_ms is None or mono_ms - self._ntp_asked_ms >= NTP_LOOK_MS:
            self._ntp_asked_ms = mono_ms
            self._ntp_said = self._ntp()
        wall_ms, quality = judge_time(
            boot=self.boot,
            mono_ms=mono_ms,
            wall_ms=self._wall_ms(),
            ntp=self._ntp_said,
            anchor=self.anchor,
            floor_ms=self.floor_ms,
        )
        return moment_at(
            boot=self.boot, mono_ms=mono_ms, wall_ms=wall_ms, quality=quality, zone=self.zone
        )


def judge_time(
    *, boot: str, mono_ms: int, wall_ms: int, ntp: bool, anchor: Anchor | None, floor_ms: int
) -> tuple[int, ClockQuality]:
    """UTC in ms and its quality. An anchor of this boot goes before the kernel's word: the city
    signed it over our own nonce, and the monotonic clock cannot be set."""
    quality = ClockQuality.NTP if ntp else ClockQuality.UNKNOWN
    if anchor is not None:
        floor_ms = max(floor_ms, anchor.utc_ms)
        if anchor.boot == boot and mono_ms >= anchor.mono_ms:
            wall_ms = anchor.utc_ms + (mono_ms - anchor.mono_ms)
            quality = ClockQuality.CITY
    if wall_ms < floor_ms - FLOOR_SLACK_MS:
        return floor_ms, ClockQuality.FLOOR
    return wall_ms, quality


def moment_at(
    *, boot: str, mono_ms: int, wall_ms: int, quality: ClockQuality, zone: ZoneInfo
) -> Moment:
    """A `Moment` with its local calendar."""
    minute_of_week, local_date, day_start_ms = _calendar_of(wall_ms // 60_000, zone)
    return Moment(
        boot=boot,
        mono_ms=mono_ms,
        wall_ms=wall_ms,
        quality=quality,
        minute_of_week=minute_of_week,
        local_date=local_date,
        day_start_ms=day_start_ms,
    )


@lru_cache(maxsize=4)  # Our choice: this minute, and the one that a stepped clock left.
def _calendar_of(minute_utc: int, zone: ZoneInfo) -> tuple[int, str, int]:
    """Minute of the week, date, and when that date began. All of a minute share them: since 1972
    every zone is whole minutes away from UTC, and changes at whole minutes."""
    local = datetime.fromtimestamp(minute_utc * 60, UTC).astimezone(zone)
    return (
        local.weekday() * 1440 + local.hour * 60 + local.minute,
        local.date().isoformat(),
        int(datetime.combine(local.date(), MIDNIGHT, zone).timestamp()) * 1000,
    )
