"""Stands where the agent's loop stands: opens a reader, is woken, polls, and keeps what came.

For benches and tests that drive a real `Reader` against a virtual device. It polls only when
woken, so a reader that forgets to wake is found out.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from edge.readers.reader import Reader, ReaderEvent

WAIT_S_MAX = 15.0  # Our choice: three of the longest reopening delays; a pass takes far less.

E = TypeVar("E", bound=ReaderEvent)


class Listener:
    """`open_with` is given the wake callback and returns the reader that was opened with it."""

    def __init__(self, open_with: Callable[[Callable[[], None]], Reader]) -> None:
        self._woken = threading.Event()
        self._events: deque[ReaderEvent] = deque()
        self.reader = open_with(self._woken.set)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def next(self, limit_s: float = WAIT_S_MAX) -> ReaderEvent:
        """The next event. Raises TimeoutError when none comes."""
        until_s = time.monotonic() + limit_s
        while not self._events:
            if not self._woken.wait(max(0.0, until_s - time.monotonic())):
                raise TimeoutError(f"reader {self.reader.reader_id}: no event for {limit_s} s")
            self._woken.clear()
            self._events.extend(self.reader.poll())
        return self._events.popleft()

    def expect(self, kind: type[E], limit_s: float = WAIT_S_MAX) -> E:
        """The next event, which must be of this kind."""
        event = self.next(limit_s)
        assert isinstance(event, kind), f"{event} came, {kind.__name__} was expected"
        return event

    def wait_until(self, is_so: Callable[[], bool], limit_s: float = WAIT_S_MAX) -> None:
        """Wait for something that no event tells, such as a counter."""
        until_s = time.monotonic() + limit_s
        while not is_so():
            if time.monotonic() > until_s:
                raise TimeoutError(f"reader {self.reader.reader_id}: not so after {limit_s} s")
            self._woken.wait(0.01)
