"""The bounded queue between one reader's worker thread and the agent's loop.

It holds what the worker saw until someone polls, counts what was lost, and decides nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from edge.readers.reader import (
    READS_QUEUED_MAX,
    LinkDown,
    LinkUp,
    ReaderCounters,
    ReaderEvent,
)


class Mailbox:
    """At most `READS_QUEUED_MAX` events, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[ReaderEvent] = deque()
        self._counters = ReaderCounters()

    def put(self, event: ReaderEvent) -> None:
        with self._lock:
            if len(self._events) == READS_QUEUED_MAX:
                self._make_room()
            self._events.append(event)

    def take_all(self) -> list[ReaderEvent]:
        with self._lock:
            taken = list(self._events)
            self._events.clear()
        return taken

    def count(
        self,
        *,
        reads: int = 0,
        repeats: int = 0,
        refused: int = 0,
        noise_bytes: int = 0,
        reopened: int = 0,
        discarded_after_reopen: int = 0,
    ) -> None:
        """Add to the counters of these names."""
        with self._lock:
            was = self._counters
            self._counters = replace(
                was,
                reads=was.reads + reads,
                repeats=was.repeats + repeats,
                refused=was.refused + refused,
                noise_bytes=was.noise_bytes + noise_bytes,
                reopened=was.reopened + reopened,
                discarded_after_reopen=was.discarded_after_reopen + discarded_after_reopen,
            )

    def counters(self) -> ReaderCounters:
        with self._lock:
            return self._counters

    def _make_room(self) -> None:
        """The oldest read goes and is counted; what the link did stays true.

        Where nothing but link changes is left, the oldest two go: they were an up and a down, and
        up and down still alternate.
        """
        for index, event in enumerate(self._events):
            if not isinstance(event, LinkUp | LinkDown):
                del self._events[index]
                self._counters = replace(self._counters, dropped=self._counters.dropped + 1)
                return
        self._events.popleft()
        self._events.popleft()
