"""The thread behind every reader: opens, serves, reopens, and never decides.

A driver brings a `Session`: what it takes to open its device and serve it until something breaks.
The worker owns the rest, the same for all drivers: the thread, the back-off, the queue, repeats,
random UIDs, and the watch over a session that hangs. It touches no database and no relay.

A port that was pulled out is looked for twice a second: whoever puts the plug back after an hour
sees the reader come up at once, and not when a long delay is over.
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge.model import DeviceFault, UidKind
from edge.readers.dialogue import Evidence, Failure
from edge.readers.mailbox import Mailbox
from edge.readers.reader import (
    ALIVE_AGE_MS_MAX,
    CardRead,
    LinkDown,
    LinkUp,
    ReaderCounters,
    ReaderEvent,
    ReadFailed,
    Signal,
    is_random_uid,
)
from edge.readers.watch import REOPEN_JITTER, REOPEN_MS, Backoff, LinkState, Repeats

WAIT_SLICE_MS_MAX = 500  # The longest a worker goes without a sign of life on purpose.
CLOSE_MS_MAX = 2_000  # Our choice: past it the worker hangs in its device and is left behind.

assert WAIT_SLICE_MS_MAX * 10 <= ALIVE_AGE_MS_MAX
assert REOPEN_MS[-1] * (1 + REOPEN_JITTER) > WAIT_SLICE_MS_MAX  # So a wait needs slices.
assert CLOSE_MS_MAX > WAIT_SLICE_MS_MAX


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Session(Protocol):
    """One device. `serve` runs in the worker's thread, the others in the caller's."""

    def serve(self, worker: ReaderWorker) -> None:
        """Open, tell `worker.up`, report what comes; return when `worker.stopping`.

        Raises DeviceFault, with a sentence for the technician, when the device has to be opened
        anew. Waits for at most `WAIT_SLICE_MS_MAX` at a time and calls `worker.beat` between.
        Closes what it opened.
        """
        ...

    def signal(self, signal: Signal) -> None: ...


class ReaderWorker:
    """A Reader (see `reader.py`) made of a session and a thread, which starts at once."""

    def __init__(
        self,
        *,
        reader_id: str,
        session: Session,
        wake: Callable[[], None],
        now_ms: Callable[[], int] = monotonic_ms,
        jitter: Callable[[], float] = random.random,
        port: str = "",
    ) -> None:
        """`port` is the path that comes and goes with the plug; "" where there is none."""
        self._reader_id = reader_id
        self._session = session
        self._port = port
        self._wake = wake
        self._jitter = jitter
        self.now_ms = now_ms
        self._stop = threading.Event()
        self._closed = False
        self._mailbox = Mailbox()
        self._repeats = Repeats()
        self._backoff = Backoff()
        self._link = LinkState()  # As the worker knows it.
        self._opened_before = False
        self._told = LinkState()  # As `poll` has told it.
        self._hung = False
        self._alive_ms = now_ms()
        self._thread = threading.Thread(target=self._run, name=f"reader {reader_id}", daemon=True)
        self._thread.start()

    # For the agent's loop.

    @property
    def reader_id(self) -> str:
        return self._reader_id

    @property
    def alive_ms(self) -> int:
        return self._alive_ms

    def poll(self) -> list[ReaderEvent]:
        """See `Reader.poll`."""
        if self._closed:
            return []
        events = self._watched_over(self._mailbox.take_all())
        return [event for event in events if self._is_news(event)]

    def signal(self, signal: Signal) -> None:
        self._session.signal(signal)

    def counters(self) -> ReaderCounters:
        return self._mailbox.counters()

    def close(self) -> None:
        self._closed = True
        self._stop.set()
        self._thread.join(CLOSE_MS_MAX / 1_000)

    def _watched_over(self, events: list[ReaderEvent]) -> list[ReaderEvent]:
        """The watchdog outside the thread: some calls into a driver can block without limit.

        A hang ends what was queued before it; what comes after one begins with the link's return.
        """
        age_ms = self.now_ms() - self._alive_ms
        if age_ms > ALIVE_AGE_MS_MAX and not self._hung:
            self._hung = True
            reason = (
                f"reader {self._reader_id}: no answer from its driver for {age_ms // 1_000} s; "
                "unplug it and plug it in again"
            )
            return [*events, LinkDown(reader_id=self._reader_id, reason=reason)]
        if age_ms <= ALIVE_AGE_MS_MAX and self._hung:
            self._hung = False
            if self._link.is_up:
                return [LinkUp(reader_id=self._reader_id), *events]
        return events

    def _is_news(self, event: ReaderEvent) -> bool:
        if isinstance(event, LinkUp | LinkDown):
            return self._told.changes_to(isinstance(event, LinkUp))
        return True

    # For the session, in the worker's thread.

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def beat(self) -> None:
        """A sign of life."""
        self._alive_ms = self.now_ms()

    def up(self) -> None:
        """The device is open, and what it buffered is gone: the next card counts."""
        self._backoff.up(now_ms=self.now_ms())
        if self._link.changes_to(True):
            self._mailbox.count(reopened=int(self._opened_before))
            self._opened_before = True
            self._put(LinkUp(reader_id=self._reader_id))

    def down(self, reason: str) -> None:
        """No card can be read now, and the session waits for that to change by itself."""
        if self._link.changes_to(False):
            self._put(LinkDown(reader_id=self._reader_id, reason=reason))

    def read(
        self,
        uid: bytes,
        *,
        at_ms: int,
        kind: UidKind,
        tier: int,
        evidence: Evidence | None = None,
    ) -> None:
        """A number was read. Repeats are counted, random ids refused, the rest is queued."""
        if not self._repeats.is_new(uid, now_ms=at_ms):
            self._mailbox.count(repeats=1)
        elif is_random_uid(uid, kind):
            self.failed(Failure.RANDOM_UID, at_ms=at_ms)
        else:
            self._mailbox.count(reads=1)
            self._put(
                CardRead(
                    uid=uid,
                    at_ms=at_ms,
                    kind=kind,
                    tier=tier,
                    reader_id=self._reader_id,
                    evidence=evidence,
                )
            )

    def still_there(self, uid: bytes, *, at_ms: int) -> None:
        """The card was in the field until now: shown again at once, it is the same presentation."""
        self._repeats.is_new(uid, now_ms=at_ms)

    def failed(self, failure: Failure, *, at_ms: int) -> None:
        """A card was shown and named nobody. One held back is still the sighting before it."""
        if failure is Failure.HELD_BACK:
            self._mailbox.count(repeats=1)
            return
        self._mailbox.count(refused=1)
        self._put(ReadFailed(at_ms=at_ms, failure=failure, reader_id=self._reader_id))

    def discarded(self, count: int) -> None:
        """Bytes, or cards, that came before the link was up."""
        self._mailbox.count(discarded_after_reopen=count)

    def noise(self, size: int) -> None:
        """Bytes that were part of no valid frame."""
        self._mailbox.count(noise_bytes=size)

    # The thread.

    def _run(self) -> None:
        while not self.stopping:
            try:
                self._session.serve(self)
                continue
            except DeviceFault as fault:
                self.down(str(fault))
            except Exception as mistake:
                # In our own code or a driver's. A thread that ends would look like a quiet lane;
                # the others go on, this one is tried again, and the log says what to report.
                self.down(f"reader {self._reader_id}: {_where(mistake)}; report this")
            delay_ms = self._backoff.failed(now_ms=self.now_ms(), jitter=self._jitter())
            self._wait(delay_ms)

    def _wait(self, delay_ms: int) -> None:
        was_gone = self._is_gone()
        while delay_ms > 0 and not self.stopping:
            if was_gone and not self._is_gone():
                self._backoff = Backoff()
                break
            self.beat()
            slice_ms = min(delay_ms, WAIT_SLICE_MS_MAX)
            self._stop.wait(slice_ms / 1_000)
            delay_ms -= slice_ms
        self.beat()

    def _is_gone(self) -> bool:
        return bool(self._port) and not Path(self._port).exists()

    def _put(self, event: ReaderEvent) -> None:
        if not self.stopping:
            self._mailbox.put(event)
            self._wake()


def _where(mistake: Exception) -> str:
    """The kind and the place of a mistake; its text could hold what a card said."""
    place = traceback.extract_tb(mistake.__traceback__)[-1]
    return f"{type(mistake).__name__} at {Path(place.filename).name}:{place.lineno}"
