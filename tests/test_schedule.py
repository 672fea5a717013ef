"""Goal: rows of a schedule become exactly the minutes they name, on the dates they name, and
nonsense is refused whole.

Method: sampled rows against a set of minutes; every date of a year against a rule written anew; the
edges by example; both nights on which the clock is changed, walked minute by minute through the
real time zone.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import moment_at
from edge.model import MINUTES_PER_WEEK, ClockQuality, CorruptData
from edge.schedule import (
    MINUTES_PER_DAY,
    NEVER,
    WINDOWS_MAX,
    Calendar,
    clipped,
    minute_of_week,
    windows_of_week,
)

ROWS = st.lists(
    st.tuples(st.integers(0, MINUTES_PER_WEEK), st.integers(0, MINUTES_PER_WEEK)).filter(
        lambda row: row[0] < row[1]
    ),
    max_size=WINDOWS_MAX,
)


@given(ROWS)
def test_the_ranges_hold_the_same_minutes_in_order_and_apart(rows: list[tuple[int, int]]) -> None:
    windows = windows_of_week(rows)
    assert {minute for window in windows for minute in window} == {
        minute for start, stop in rows for minute in range(start, stop)
    }
    for before, after in pairwise(windows):
        assert before.stop < after.start


@pytest.mark.parametrize(
    "row", [(5, 5), (6, 5), (-1, 5), (0, MINUTES_PER_WEEK + 1), (MINUTES_PER_WEEK, 1)], ids=str
)
def test_a_row_that_is_no_stretch_of_the_week_is_refused(row: tuple[int, int]) -> None:
    with pytest.raises(CorruptData, match="window 2 is"):
        windows_of_week([(0, MINUTES_PER_WEEK), row])


def test_a_schedule_is_bounded() -> None:
    windows_of_week([(0, 1)] * WINDOWS_MAX)
    with pytest.raises(CorruptData, match="65 windows"):
        windows_of_week([(0, 1)] * (WINDOWS_MAX + 1))


def test_no_rows_is_a_right_that_never_holds() -> None:
    assert windows_of_week([]) == ()


def test_the_week_begins_on_monday_and_ends_on_sunday() -> None:
    assert minute_of_week(datetime(2026, 8, 31)) == 0  # noqa: DTZ001 - wall time is meant.
    assert minute_of_week(datetime(2026, 9, 6, 23, 59)) == MINUTES_PER_WEEK - 1  # noqa: DTZ001


@pytest.mark.parametrize(
    ("first", "minutes_of_day"),
    [
        (datetime(2026, 3, 28, 23, tzinfo=UTC), 23 * 60),  # Spring: 02:00 to 03:00 never comes.
        (datetime(2026, 10, 24, 22, tzinfo=UTC), 25 * 60),  # Autumn: it comes twice.
    ],
    ids=["spring", "autumn"],
)
def test_rights_follow_the_clock_on_the_wall(first: datetime, minutes_of_day: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    sunday = 6 * 24 * 60
    seen: list[int] = []
    moment = first
    while not seen or moment.astimezone(zone).weekday() == 6:
        seen.append(minute_of_week(moment.astimezone(zone)) - sunday)
        moment += timedelta(minutes=1)
    assert len(seen) == minutes_of_day
    assert seen[0] == 0
    assert seen[-1] == 24 * 60 - 1
    (school,) = windows_of_week([(sunday + 8 * 60, sunday + 9 * 60)])
    assert sum(minute + sunday in school for minute in seen) == 60


# ------------------------------------------------------------------------------ calendar

LESSONS = (range(8 * 60, 15 * 60),)  # Of a Monday.
YEAR = [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]


def test_every_date_of_a_year_has_the_windows_that_the_rows_say() -> None:
    terms = (("2026-01-12", "2026-03-20"), ("2026-09-01", "2026-12-29"))
    holidays = (("2026-02-23", "2026-02-23"), ("2026-10-05", "2026-10-11"))
    days = {
        "2026-02-23": (range(600, 660),),  # On a holiday.
        "2026-07-06": (range(540, 720), range(800, 801)),  # Outside the terms.
        "2026-09-07": (),  # No lessons at all.
    }
    calendar = Calendar(windows=LESSONS, terms=terms, holidays=holidays, days=days)
    kinds = set()
    for day in YEAR:
        name = day.isoformat()
        start = day.weekday() * MINUTES_PER_DAY
        if name in days:
            kind, minutes = "special", {start + m for w in days[name] for m in w}
        elif any(date.fromisoformat(a) <= day <= date.fromisoformat(b) for a, b in holidays):
            kind, minutes = "holiday", set()
        elif any(date.fromisoformat(a) <= day <= date.fromisoformat(b) for a, b in terms):
            kind, minutes = "term", set(LESSONS[0])
        else:
            kind, minutes = "vacation", set()
        kinds.add(kind)
        windows = calendar.on(name)
        assert {minute for window in windows for minute in window} == minutes, name
        assert windows, "a right outside its hours is not no right"
    assert kinds == {"special", "holiday", "term", "vacation"}


def test_without_terms_it_is_all_the_year_and_without_windows_no_right() -> None:
    assert all(Calendar(windows=LESSONS).on(day.isoformat()) == LESSONS for day in YEAR)
    assert Calendar(windows=()).on("2026-03-02") == ()
    assert Calendar(windows=(), holidays=(("2026-01-01", "2026-12-31"),)).on("2026-03-02") == NEVER


@pytest.mark.parametrize(
    ("zone", "night", "hours"),
    [("Europe/Berlin", date(2026, 3, 29), 23), ("Europe/Berlin", date(2026, 10, 25), 25)],
)
def test_both_nights_of_the_clock_keep_their_special_day(
    zone: str, night: date, hours: int
) -> None:
    # Every minute of UTC around the day, through the real zone and the agent's own clock.
    day = Calendar(windows=(), days={night.isoformat(): (range(3 * 60),)})
    start = datetime(night.year, night.month, night.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    begin_ms = int(start.timestamp()) * 1000
    held, of_the_day = 0, 0
    for minute in range(-120, hours * 60 + 120):
        moment = moment_at(
            boot="b",
            mono_ms=0,
            wall_ms=begin_ms + minute * 60_000,
            quality=ClockQuality.CITY,
            zone=ZoneInfo(zone),
        )
        today = moment.local_date == night.isoformat()
        assert today is (0 <= minute < hours * 60)
        if today:
            of_the_day += 1
            assert moment.day_start_ms == begin_ms
        holds = any(moment.minute_of_week in window for window in day.on(moment.local_date))
        assert not holds or today
        held += holds
    assert of_the_day == hours * 60
    assert held == (hours - 21) * 60, "two hours on the short night, four on the long one"


def test_a_row_that_makes_no_sense_takes_no_right_away() -> None:
    assert clipped([(-5, 10), (10_000, 99_999), (7, 7)]) == [
        range(10),
        range(10_000, MINUTES_PER_WEEK),
        range(7, 7),
    ]
    assert clipped([(0, 5_000)], minutes=MINUTES_PER_DAY) == [range(MINUTES_PER_DAY)]
