"""Goal: wall time is believed for a reason that is named, never lies below what the city signed,
and is a local calendar on both days of the year that are no 24 hours.

Method: a table of every case of `judge_time`; the clock itself with all its sources passed in.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from itertools import product
from random import Random
from zoneinfo import ZoneInfo

import pytest

from edge.clock import (
    FLOOR_SLACK_MS,
    NTP_LOOK_MS,
    Anchor,
    Clock,
    boot_id,
    judge_time,
    moment_at,
    ntp_synchronised,
)
from edge.model import ClockQuality

CITY, NTP, FLOOR, UNKNOWN = (
    *(ClockQuality.CITY, ClockQuality.NTP),
    *(ClockQuality.FLOOR, ClockQuality.UNKNOWN),
)
NOW = 1_772_442_000_000  # 2026-03-02 09:00 UTC
Y1970, Y2099 = 0, 4_070_908_800_000
HERE = Anchor(boot="this", mono_ms=50_000, utc_ms=NOW)
OTHER = Anchor(boot="other", mono_ms=50_000, utc_ms=NOW)
SLACK = FLOOR_SLACK_MS

# (anchor, floor, wall clock, ntp) -> (time, quality), the monotonic clock 10 s after the anchor.
TABLE = [
    # Nothing known: the wall clock as it is, believed only on the kernel's word.
    (None, 0, NOW, False, NOW, UNKNOWN),
    (None, 0, NOW, True, NOW, NTP),
    (None, 0, Y1970, False, Y1970, UNKNOWN),
    (None, 0, Y1970, True, Y1970, NTP),
    (None, 0, Y2099, False, Y2099, UNKNOWN),
    (None, 0, Y2099, True, Y2099, NTP),
    # A floor: below it is the floor itself, whoever says otherwise; above it nothing changes.
    (None, NOW, Y1970, False, NOW, FLOOR),
    (None, NOW, Y1970, True, NOW, FLOOR),
    (None, NOW, NOW, False, NOW, UNKNOWN),
    (None, NOW, NOW - SLACK, False, NOW - SLACK, UNKNOWN),
    (None, NOW, NOW - SLACK - 1, False, NOW, FLOOR),
    (None, NOW, NOW - SLACK, True, NOW - SLACK, NTP),
    (None, NOW, NOW - SLACK - 1, True, NOW, FLOOR),
    (None, NOW, Y2099, False, Y2099, UNKNOWN),
    (None, NOW, Y2099, True, Y2099, NTP),
    # An anchor of another boot is a floor and no more.
    (OTHER, 0, Y1970, False, NOW, FLOOR),
    (OTHER, 0, Y1970, True, NOW, FLOOR),
    (OTHER, 0, NOW + 1, False, NOW + 1, UNKNOWN),
    (OTHER, 0, NOW + 1, True, NOW + 1, NTP),
    (OTHER, NOW + 60_000, NOW, True, NOW + 60_000, FLOOR),
    (OTHER, 0, Y2099, False, Y2099, UNKNOWN),
    # An anchor of this boot goes before every wall clock.
    (HERE, 0, Y1970, False, NOW + 10_000, CITY),
    (HERE, 0, Y1970, True, NOW + 10_000, CITY),
    (HERE, 0, NOW, True, NOW + 10_000, CITY),
    (HERE, 0, Y2099, False, NOW + 10_000, CITY),
    (HERE, 0, Y2099, True, NOW + 10_000, CITY),
    (HERE, NOW, NOW, False, NOW + 10_000, CITY),
    # But what the city signed later is later: the monotonic clock stood still in between.
    (HERE, NOW + 10_000 + SLACK, NOW, False, NOW + 10_000, CITY),
    (HERE, NOW + 10_001 + SLACK, NOW, False, NOW + 10_001 + SLACK, FLOOR),
    (HERE, NOW + 86_400_000, Y2099, True, NOW + 86_400_000, FLOOR),
]


@pytest.mark.parametrize(("anchor", "floor", "wall", "ntp", "utc", "quality"), TABLE)
def test_the_table_of_all_cases(
    anchor: Anchor | None, floor: int, wall: int, ntp: bool, utc: int, quality: ClockQuality
) -> None:
    judged = judge_time(
        boot="this", mono_ms=60_000, wall_ms=wall, ntp=ntp, anchor=anchor, floor_ms=floor
    )
    assert judged == (utc, quality)


def test_an_anchor_of_the_future_of_this_boot_is_none() -> None:
    judged = judge_time(
        boot="this", mono_ms=49_999, wall_ms=Y1970, ntp=False, anchor=HERE, floor_ms=0
    )
    assert judged == (NOW, FLOOR)


def test_no_case_lies_below_what_was_signed() -> None:
    for anchor, floor, wall, ntp, mono_ms in product(
        (None, HERE, OTHER),
        (0, NOW - 1, NOW, NOW + 1, Y2099),
        (Y1970, NOW - SLACK, NOW, Y2099),
        (False, True),
        (0, 50_000, 60_000),
    ):
        utc, quality = judge_time(
            boot="this", mono_ms=mono_ms, wall_ms=wall, ntp=ntp, anchor=anchor, floor_ms=floor
        )
        lowest = max(floor, anchor.utc_ms if anchor is not None else 0)
        assert utc >= lowest - SLACK
        if quality is CITY:
            assert anchor is HERE
        if quality is NTP:
            assert ntp
            assert utc == wall


class Sources:
    def __init__(self) -> None:
        self.mono = 0
        self.wall = NOW
        self.ntp = False
        self.asked = 0

    def ntp_said(self) -> bool:
        self.asked += 1
        return self.ntp

    def clock(self) -> Clock:
        return Clock(
            ZoneInfo("Europe/Moscow"),
            boot="this",
            mono_ms=lambda: self.mono,
            wall_ms=lambda: self.wall,
            ntp=self.ntp_said,
        )


def test_the_kernel_is_asked_now_and_then() -> None:
    sources = Sources()
    clock = sources.clock()
    assert clock.moment().quality is UNKNOWN
    sources.ntp = True
    sources.mono = NTP_LOOK_MS - 1
    assert clock.moment().quality is UNKNOWN
    assert sources.asked == 1
    sources.mono = NTP_LOOK_MS
    moment = clock.moment()
    assert (moment.quality, moment.clock_trusted, sources.asked) == (NTP, True, 2)
    assert (moment.boot, moment.mono_ms, moment.wall_ms) == ("this", NTP_LOOK_MS, NOW)


def test_a_wall_clock_that_steps_moves_no_anchored_time() -> None:
    sources = Sources()
    clock = sources.clock()
    clock.anchor = Anchor(boot="this", mono_ms=0, utc_ms=NOW)
    for sources.wall in (NOW, NOW - 3_600_000, NOW + 3_600_000, 0, Y2099):
        sources.mono += 1_000
        moment = clock.moment()
        assert (moment.wall_ms, moment.quality) == (NOW + sources.mono, CITY)


def at(*when: int, zone: str = "Europe/Moscow") -> tuple[int, str]:
    utc_ms = int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]
    moment = moment_at(boot="b", mono_ms=0, wall_ms=utc_ms, quality=CITY, zone=ZoneInfo(zone))
    return moment.minute_of_week, moment.local_date


def test_the_local_calendar() -> None:
    assert at(2026, 3, 1, 20, 59, 59) == (7 * 1440 - 1, "2026-03-01")
    assert at(2026, 3, 1, 21, 0) == (0, "2026-03-02")  # Monday begins in Moscow.
    assert at(2026, 12, 31, 21, 0) == (4 * 1440, "2027-01-01")
    # Both days of summer time, where there is one: local noon is local noon.
    noon = 6 * 1440 + 12 * 60
    for month, day in ((3, 29), (10, 25)):
        assert at(2026, month, day, 10, 0, zone="Europe/Berlin")[0] == noon + (
            0 if month == 3 else -60
        )
    assert at(2026, 3, 29, 0, 59, zone="Europe/Berlin")[0] == 6 * 1440 + 119
    assert at(2026, 3, 29, 1, 0, zone="Europe/Berlin")[0] == 6 * 1440 + 180
    assert at(2026, 10, 25, 1, 0, zone="Europe/Berlin")[0] == 6 * 1440 + 120


def test_all_of_a_minute_share_its_calendar_and_no_two_zones_do() -> None:
    """What is worked out once for a minute is what would be worked out for each moment of it."""
    draw = Random("calendars")
    for name in ("Europe/Moscow", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"):
        zone = ZoneInfo(name)
        for _ in range(400):
            wall_ms = draw.randrange(-86_400_000, Y2099)
            moment = moment_at(boot="b", mono_ms=0, wall_ms=wall_ms, quality=CITY, zone=zone)
            local = datetime.fromtimestamp(wall_ms / 1000, UTC).astimezone(zone)
            began = datetime.combine(local.date(), time(), zone)
            assert moment.wall_ms == wall_ms
            assert moment.minute_of_week == local.weekday() * 1440 + local.hour * 60 + local.minute
            assert moment.local_date == local.date().isoformat()
            assert moment.day_start_ms == int(began.timestamp()) * 1000


def test_this_machine_has_a_boot_and_an_answer_about_its_clock() -> None:
    assert len(boot_id()) == 12
    int(boot_id(), 16)
    assert boot_id() == boot_id()
    assert ntp_synchronised() in (True, False)
    clock = Clock(ZoneInfo("Europe/Moscow"))
    first, second = clock.moment(), clock.moment()
    assert first.boot == boot_id()
    assert second.mono_ms >= first.mono_ms == pytest.approx(clock.mono_ms(), abs=5_000)
