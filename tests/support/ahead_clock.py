"""The monotonic clock of this machine, and as far ahead of it as a test wants."""

from __future__ import annotations

from edge.readers.worker import monotonic_ms


class Clock:
    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return monotonic_ms() + self.ahead_ms
