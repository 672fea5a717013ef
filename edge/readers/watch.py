"""The small rules every reader's worker lives by: repeats, reopening, and how old a byte may be.

Pure: times are passed in, and so is the jitter. The workers in `serial_port.py` and `pcsc.py` ask
here and act.
"""

from __future__ import annotations

from enum import Enum, auto, unique

from edge.readers.frame import BYTE_GAP_MS_MAX

REPEAT_MS_MAX = 1_000  # Our choice: many repeats of a 125 kHz module; a second tap takes longer.
CARDS_REMEMBERED_MAX = 8  # Our choice: two cards in one wallet, four times over.

# Our choice: a hand that wiggles a plug sees it back at once; a dead port costs little.
REOPEN_MS = (100, 200, 500, 1_000, 2_000, 5_000)
REOPEN_JITTER = 0.2  # Of the delay, both ways, so that readers on one dead hub spread out.
STABLE_MS = 10_000  # Our choice: twice the longest delay; a link that dies sooner was never back.

GUARD_MS = 250  # Our choice: a USB adapter's buffer (16 ms) and an OSDP-like replay come sooner.
BABBLE_MS_MAX = 3_000  # Our choice: a reader that does not pause once in so long sends no frames.

READ_WAIT_MS = 100  # The longest a serial worker waits at the port: also how fast it ends.
LATE_MS_MAX = 200  # Our choice: past it the process was held up, not the wire silent.

assert GUARD_MS > BYTE_GAP_MS_MAX
assert BABBLE_MS_MAX > GUARD_MS + REPEAT_MS_MAX
assert 2 * REOPEN_MS[-1] <= STABLE_MS
assert LATE_MS_MAX > READ_WAIT_MS > BYTE_GAP_MS_MAX


class Repeats:
    """A card left on the reader is one read, however often the reader says it.

    Holds the last few UIDs for about a second and forgets them.
    """

    def __init__(self) -> None:
        self._seen_ms: dict[bytes, int] = {}

    def is_new(self, uid: bytes, *, now_ms: int) -> bool:
        """Whether this sighting is a new presentation; either way it counts as a sighting."""
        self._seen_ms = {
            seen: at_ms for seen, at_ms in self._seen_ms.items() if now_ms - at_ms <= REPEAT_MS_MAX
        }
        known = self._seen_ms.pop(uid, None) is not None
        self._seen_ms[uid] = now_ms  # Youngest last.
        if len(self._seen_ms) > CARDS_REMEMBERED_MAX:
            del self._seen_ms[next(iter(self._seen_ms))]
        return not known


class Backoff:
    """When to try again. Starts over once the link has been up for `STABLE_MS`."""

    def __init__(self) -> None:
        self._failures = 0
        self._up_at_ms: int | None = None

    def up(self, *, now_ms: int) -> None:
        self._up_at_ms = now_ms

    def failed(self, *, now_ms: int, jitter: float) -> int:
        """The delay in milliseconds before the next try; `jitter` is in [0, 1)."""
        assert 0 <= jitter < 1
        if self._up_at_ms is not None and now_ms - self._up_at_ms >= STABLE_MS:
            self._failures = 0
        self._up_at_ms = None
        delay_ms = REOPEN_MS[min(self._failures, len(REOPEN_MS) - 1)]
        self._failures += 1
        return round(delay_ms * (1 + REOPEN_JITTER * (2 * jitter - 1)))


class LinkState:
    """Up and down alternate: each change is told once. Down until the first up."""

    def __init__(self) -> None:
        self._up: bool | None = None  # None: nothing was told yet.

    @property
    def is_up(self) -> bool:
        return self._up is True

    def changes_to(self, up: bool) -> bool:
        """Whether this is news; from then on it is not."""
        changed = self._up is not up
        self._up = up
        return changed


@unique
class Guard(Enum):
    """What to do with bytes that come soon after a port was opened."""

    DISCARD = auto()
    READY = auto()
    BABBLING = auto()


class OpenGuard:
    """After opening, what was buffered is dropped: an old tap opens no gate.

    Ready after `GUARD_MS`, and then at the first pause, so that reading begins between two
    frames. The caller drops what it read until then; at `READY` there is nothing to drop.
    """

    def __init__(self, *, opened_ms: int) -> None:
        self._opened_ms = opened_ms
        self._byte_at_ms = opened_ms

    def look(self, size: int, *, now_ms: int) -> Guard:
        if size:
            self._byte_at_ms = now_ms
        if now_ms - self._opened_ms < GUARD_MS:
            return Guard.DISCARD
        if now_ms - self._byte_at_ms > BYTE_GAP_MS_MAX:
            return Guard.READY
        return Guard.BABBLING if now_ms - self._opened_ms > BABBLE_MS_MAX else Guard.DISCARD


def arrived_ms(*, looked_ms: int, asked_ms: int, answered_ms: int, waiting: bool) -> int:
    """The earliest moment at which bytes read from a port may have come.

    A process that was held up finds old bytes and must not think them fresh: a read older than it
    looks could open a lane for a child who left. `looked_ms` is when the port was last seen empty,
    `asked_ms` when this read began, `answered_ms` when it gave bytes; `waiting` says that they
    were there already when it began.

    >>> arrived_ms(looked_ms=10, asked_ms=3_000, answered_ms=3_001, waiting=True)
    10
    """
    assert looked_ms <= asked_ms <= answered_ms
    if waiting:
        return looked_ms
    return asked_ms if answered_ms - asked_ms > LATE_MS_MAX else answered_ms
