"""Whether a connection is still to be believed: its thread turns, and the broker is heard. Pure.

A thread can hang or die while its client still says that it is connected, and a line can be dead
for minutes before TCP says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STUCK_MS: Final = 30_000  # Our choice: a turn of the thread takes milliseconds.


@dataclass(slots=True, kw_only=True)
class Pulse:
    """Of one connection; all times of one monotonic clock."""

    started_ms: int
    connect_ms_max: int
    keepalive_s: int
    beat_ms: int  # When a turn of it last began.
    heard_ms: int  # When the broker last said something.
    resting: bool = False  # By our own wish nothing is read: the broker is not to blame.

    def problem(self, now_ms: int, *, connected: bool) -> str:
        """Why it cannot be believed any more, or ""."""
        if not connected:
            if now_ms - self.started_ms >= self.connect_ms_max:
                return f"no connection after {self.connect_ms_max} ms"
        elif now_ms - self.beat_ms >= STUCK_MS:
            return f"it was not turned for {STUCK_MS} ms"
        elif not self.resting and now_ms - self.heard_ms >= 2_000 * self.keepalive_s:
            return f"nothing heard for {2 * self.keepalive_s} s"
        return ""
