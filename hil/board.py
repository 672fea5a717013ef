"""What the page shows: one JSON object, a number that grows with it, and a wait for the next one.

The parts of the miniature put their piece here under its name; the page gets the whole thing
whenever it differs from before. Times in it are milliseconds since 1970, never ages: a picture in
which nothing happens does not change.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Final

import msgspec

FEED_MAX: Final = 40  # Our choice: what fits a phone's screen a few times over.
NEWS_MAX: Final = 20  # Our choice: the newest warnings; all of them are in the logs.
STEADY_MS: Final = 2_500  # Our choice: ages come in whole seconds; a time moves by more or stays.


class Board:
    """Used in one event loop."""

    def __init__(self) -> None:
        self.number = 0
        self.closed = False
        self._parts: dict[str, Any] = {}
        self._feed: deque[dict[str, Any]] = deque(maxlen=FEED_MAX)
        self._news: deque[dict[str, Any]] = deque(maxlen=NEWS_MAX)
        self._bytes = b"{}"
        self._changed = asyncio.Event()

    def put(self, name: str, part: Any) -> None:
        """Show `part` under `name`."""
        if name not in self._parts or self._parts[name] != part:
            self._parts[name] = part
            self._turn()

    def part(self, name: str) -> Any:
        return self._parts.get(name)

    def add_message(self, message: dict[str, Any]) -> None:
        """One message of the city to parents, newest first on the page."""
        self._feed.appendleft(message)
        self.put("feed", list(self._feed))

    def add_news(self, who: str, level: str, words: str) -> None:
        """Something a person should see: a warning, a process that died."""
        at_ms = time.time_ns() // 1_000_000
        self._news.appendleft({"at_ms": at_ms, "who": who, "level": level, "words": words})
        self.put("news", list(self._news))

    def whole(self) -> bytes:
        """The newest picture as JSON."""
        return self._bytes

    async def newer_than(self, number: int, *, wait_s: float) -> bool:
        """Wait for a picture after `number`. False when none came in time."""
        if self.number > number or self.closed:
            return not self.closed
        try:
            await asyncio.wait_for(self._changed.wait(), wait_s)
        except TimeoutError:
            return False
        return not self.closed

    def close(self) -> None:
        """Whoever waits goes home."""
        self.closed = True
        self._changed.set()

    def _turn(self) -> None:
        self.number += 1
        self._bytes = msgspec.json.encode({"number": self.number, **self._parts})
        self._changed.set()
        self._changed = asyncio.Event()


def steady_ms(before_ms: int | None, now_ms: int) -> int:
    """A time worked out of an age in whole seconds: the one before unless it really moved."""
    if before_ms is not None and abs(now_ms - before_ms) < STEADY_MS:
        return before_ms
    return now_ms
