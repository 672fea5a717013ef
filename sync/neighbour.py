"""Asks edge over its socket without waiting for it: the question goes to a thread, the answer waits
in a queue. An edge that hangs costs sync nothing but the answer.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.control import ask
from edge.model import CorruptData, DeviceFault

WAITING_MAX: Final = 4  # Our choice: a status and a few orders; more means nobody answers.
ANSWER_S: Final = 3.0  # Our choice: edge answers within a step; sync's stop waits no longer.


@dataclass(frozen=True, slots=True)
class Answered:
    """What edge said to one question; None when it did not."""

    about: str
    body: dict[str, Any] | None


class Neighbour:
    """One thread. `wake` is called when an answer is there."""

    def __init__(self, path: Path, wake: Callable[[], None]) -> None:
        self._path = path
        self._wake = wake
        self._questions: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue(WAITING_MAX)
        self._answers: queue.SimpleQueue[Answered] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="neighbour", daemon=True)
        self._thread.start()

    def ask(self, about: str, request: dict[str, Any]) -> bool:
        """Taken on; False when too many wait. One `Answered` with this `about` follows."""
        try:
            self._questions.put_nowait((about, request))
        except queue.Full:
            return False
        return True

    def poll(self) -> list[Answered]:
        """Answers that are there, without waiting."""
        found = []
        while True:
            try:
                found.append(self._answers.get_nowait())
            except queue.Empty:
                return found

    def close(self) -> None:
        try:
            while True:
                self._questions.get_nowait()
        except queue.Empty:
            self._questions.put(None)
        self._thread.join(2 * ANSWER_S)

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            about, request = question
            body: dict[str, Any] | None
            try:
                body = ask(self._path, request, timeout_s=ANSWER_S)
            except (DeviceFault, CorruptData):
                body = None
            if body is not None and body.get("ok") is not True:
                body = None
            self._answers.put(Answered(about, body))
            self._wake()
