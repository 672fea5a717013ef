"""When a link's thread tells the bridge's of what came. Pure.

Two threads at work at once share one interpreter, and each hand-over costs more than what most
messages ask for. So what comes on a quiet line is told at once; in a rush several together, and
then the link holds still for a moment: the answer is what leaves next.
"""

from __future__ import annotations

from typing import Final

NEWS_MAX: Final = 4  # Measured: half a window of batches; with 2 or 6 fewer facts leave a second.
NEWS_MS_MAX: Final = 1  # Our choice: what is lost by waiting when no more comes.
RUSH_MS: Final = 2  # Our choice: news so soon after the last are a rush; many batches in a window.

assert NEWS_MS_MAX < RUSH_MS


class News:
    """`now_ms` is one monotonic clock throughout."""

    def __init__(self) -> None:
        self.rush = False  # The last that was told of came soon after the one before.
        self._count = 0
        self._since_ms: int | None = None
        self._told_ms: int | None = None

    def add(self, *, urgent: bool = False) -> None:
        """Something came that the other thread is to look at."""
        self._count += NEWS_MAX if urgent else 1

    @property
    def waiting(self) -> bool:
        return self._count > 0

    def due(self, now_ms: int) -> bool:
        """Whether to tell now; then all of it is told."""
        if not self._count:
            return False
        if self._since_ms is None:
            self._since_ms = now_ms
        rush = self._told_ms is not None and now_ms - self._told_ms < RUSH_MS
        if rush and self._count < NEWS_MAX and now_ms - self._since_ms < NEWS_MS_MAX:
            return False
        self.rush, self._told_ms = rush, now_ms
        self._count, self._since_ms = 0, None
        return True
