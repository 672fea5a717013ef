"""Goal: rows of a schedule become exactly the minutes they name, and nonsense is refused whole.

Method: sampled rows against a set of minutes; the edges by example; both nights on which the
clock is changed, walked minute by minute through the real time zone.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import MINUTES_PER_WEEK, CorruptData
from edge.turnstile.schedule import WINDOWS_MAX, minute_of_week, windows_of_week

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
