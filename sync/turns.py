"""Who turns a link: its own thread, or the loop that waits for it anyway. Knows no link.

Two threads at one interpreter hand over at each message, and a hand-over costs more than what most
messages ask for. So the thread that made a connection lends it to the loop, which turns it for as
long as it has nothing else to do. The thread stays: while the borrower is at long work of its own
(a list of a million rows, a disk that is slow) it turns in its place, for the broker must hear of
us; and it says the last word.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

STAND_IN_MS: Final = 200  # Our choice: how long the borrower may be away. A keepalive is seconds.


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Turns:
    """`turn` gets how long it may wait, in ms, and says whether the borrower is called elsewhere;
    `failed` gets what a turn or a deed raised; `over`: nothing is to be turned any more."""

    def __init__(
        self,
        turn: Callable[[int], bool],
        *,
        failed: Callable[[Exception], None],
        over: Callable[[], bool],
    ) -> None:
        self._turn = turn
        self._failed = failed
        self._over = over
        self._lock = threading.Lock()  # Who has it, has the link.
        self._lending = False
        self._back = threading.Event()  # Once given back it stays so.
        self._turned_ms = 0

    @property
    def lent(self) -> bool:
        """To the borrower, who may `serve`."""
        return self._lending and not self._back.is_set()

    # ---------------------------------------------------------------- for the borrower, while lent

    def serve(self, timeout_ms: int) -> bool:
        """One turn. What goes wrong in it ends the loan, and never the borrower."""
        with self._lock:
            return self._guarded(lambda: self._turn(timeout_ms))

    def do(self, deed: Callable[[], object]) -> None:
        """Something else with the link, between two turns."""
        with self._lock:
            self._guarded(deed)

    def give_back(self) -> None:
        """The borrower serves no more; also when nothing is lent."""
        self._back.set()

    # ------------------------------------------------------------------ for the link's own thread

    def lend(self, *, call: Callable[[], None]) -> None:
        """Until it is given back or over. `call` has the borrower look: the link is its to turn
        now, or there was a turn that it did not see."""
        self._turned_ms = monotonic_ms()
        if self._over():
            self.give_back()
        self._lending = True
        try:
            call()
            while not self._back.wait(STAND_IN_MS / 1000):
                if self._stand_in():
                    call()
        finally:
            with self._lock:  # The borrower's last turn is done.
                self._lending = False

    def _stand_in(self) -> bool:
        if not self._lock.acquire(blocking=False):
            return False  # The borrower is at it.
        try:
            if monotonic_ms() - self._turned_ms < STAND_IN_MS:
                return False
            self._guarded(lambda: self._turn(0))
            return True
        finally:
            self._lock.release()

    def _guarded(self, deed: Callable[[], object]) -> bool:
        try:
            return not self._over() and bool(deed())
        except Exception as error:
            self._failed(error)
            return False
        finally:
            self._turned_ms = monotonic_ms()
            if self._over():
                self.give_back()
