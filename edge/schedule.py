"""The calendar of rights: from a schedule to the minutes of the week a right holds in, on a date.

Pure. A week is local wall time, Monday 00:00 is minute 0. Rights follow the clock on the wall: on
the spring night the minutes that are skipped never come, on the autumn night the doubled ones
hold twice. The time zone and today's date are the shell's (`edge/clock.py`), the rows are the
city's (`edge/offline_cache/lookup.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as Date
from datetime import datetime
from typing import Final

from edge.model import MINUTES_PER_WEEK, CorruptData

# Our choice: nine stretches on each of seven days; a school's densest timetable has lessons and
# two breaks. A longer schedule is a mistake of whoever wrote it.
WINDOWS_MAX = 64
MINUTES_PER_DAY: Final = 24 * 60

# A right outside its hours, and not a right that there is not: such a person goes to the officer
# and not back to the street.
NEVER: Final = (range(0),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """One schedule. Dates are ISO, stretches of them with their first and last day.

    A date of `days` has its own windows, minutes of that day, whatever else is said of it. Any
    other has none outside the terms (no terms: all the year) and on holidays.
    """

    windows: tuple[range, ...]
    terms: tuple[tuple[str, str], ...] = ()
    holidays: tuple[tuple[str, str], ...] = ()
    days: Mapping[str, tuple[range, ...]] = field(default_factory=dict)

    def on(self, local_date: str) -> tuple[range, ...]:
        """The minutes of the week that hold on this date; `NEVER` on one that has none.

        >>> september = Calendar(windows=(range(480, 600),), terms=(("2026-09-01", "2026-10-30"),))
        >>> september.on("2026-10-30"), september.on("2026-10-31")
        ((range(480, 600),), (range(0, 0),))
        """
        day = self.days.get(local_date)
        if day is not None:
            start = Date.fromisoformat(local_date).weekday() * MINUTES_PER_DAY
            return tuple(range(start + w.start, start + w.stop) for w in day) or NEVER
        if _falls_in(local_date, self.holidays):
            return NEVER
        if self.terms and not _falls_in(local_date, self.terms):
            return NEVER
        return self.windows


def _falls_in(local_date: str, stretches: Sequence[tuple[str, str]]) -> bool:
    """ISO dates stand in the order of their letters."""
    return any(first <= local_date <= last for first, last in stretches)


def windows_of_week(
    rows: Sequence[tuple[int, int]], *, minutes: int = MINUTES_PER_WEEK
) -> tuple[range, ...]:
    """Windows `[start, stop)` as ranges in rising order; touching and overlapping ones joined.

    A window over Sunday midnight is two rows. `minutes` is the length of the week, or of the day
    that the rows are of. Raises `CorruptData` for a row that is no stretch of it, and for more
    than `WINDOWS_MAX` rows; no rows is a right that never holds.

    >>> windows_of_week([(480, 600), (600, 720), (60, 120)])
    (range(60, 120), range(480, 720))
    """
    if len(rows) > WINDOWS_MAX:
        raise CorruptData(f"schedule: {len(rows)} windows, more than {WINDOWS_MAX}")
    for number, (start, stop) in enumerate(rows, start=1):
        if not 0 <= start < stop <= minutes:
            raise CorruptData(
                f"schedule: window {number} is [{start}, {stop}), which is no stretch of the "
                f"minutes 0 to {minutes}"
            )
    joined: list[range] = []
    for start, stop in sorted(rows):
        if joined and start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, stop))
        else:
            joined.append(range(start, stop))
    return tuple(joined)


def clipped(rows: Sequence[tuple[int, int]], *, minutes: int = MINUTES_PER_WEEK) -> list[range]:
    """What of these rows lies in the week, or the day. A list in force is used as it is: a row
    that makes no sense takes no right away that the others give."""
    return [range(max(0, start), min(stop, minutes)) for start, stop in rows]


def minute_of_week(local: datetime) -> int:
    """Minutes since Monday 00:00 on the wall clock that `local` shows.

    >>> minute_of_week(datetime(2026, 9, 1, 8, 15))  # A Tuesday.
    1935
    """
    return (local.weekday() * 24 + local.hour) * 60 + local.minute
