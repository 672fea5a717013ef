"""The calendar of rights: from rows of a schedule to the minutes of the week a right holds in.

Pure. A week is local wall time, Monday 00:00 is minute 0. Rights follow the clock on the wall: on
the spring night the minutes that are skipped never come, on the autumn night the doubled ones
hold twice. The time zone and today's date are the shell's (`edge/clock.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from edge.model import MINUTES_PER_WEEK, CorruptData

# Our choice: nine stretches on each of seven days; a school's densest timetable has lessons and
# two breaks. A longer schedule is a mistake of whoever wrote it.
WINDOWS_MAX = 64


def windows_of_week(rows: Sequence[tuple[int, int]]) -> tuple[range, ...]:
    """Windows `[start, stop)` as ranges in rising order; touching and overlapping ones joined.

    A window over Sunday midnight is two rows. Raises `CorruptData` for a row that is no stretch
    of the week, and for more than `WINDOWS_MAX` rows; no rows is a right that never holds.

    >>> windows_of_week([(480, 600), (600, 720), (60, 120)])
    (range(60, 120), range(480, 720))
    """
    if len(rows) > WINDOWS_MAX:
        raise CorruptData(f"schedule: {len(rows)} windows, more than {WINDOWS_MAX}")
    for number, (start, stop) in enumerate(rows, start=1):
        if not 0 <= start < stop <= MINUTES_PER_WEEK:
            raise CorruptData(
                f"schedule: window {number} is [{start}, {stop}), which is no stretch of the "
                f"week's minutes 0 to {MINUTES_PER_WEEK}"
            )
    joined: list[range] = []
    for start, stop in sorted(rows):
        if joined and start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, stop))
        else:
            joined.append(range(start, stop))
    return tuple(joined)


def minute_of_week(local: datetime) -> int:
    """Minutes since Monday 00:00 on the wall clock that `local` shows.

    >>> minute_of_week(datetime(2026, 9, 1, 8, 15))  # A Tuesday.
    1935
    """
    return (local.weekday() * 24 + local.hour) * 60 + local.minute
