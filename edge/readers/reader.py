"""The Reader contract: what a card reader tells the agent, and what the agent may ask of it.

Every driver (serial, PC/SC) keeps this contract, and so does its virtual counterpart in
`hil/devices`; one suite, `tests/contract/test_reader.py`, holds them to it. Who the card belongs
to and whether it may pass is decided elsewhere: a reader reports numbers and times, no more.

`edge/settings.py` has the settings of a reader, `open_reader.py` checks them and opens it.

Pure: values and a Protocol. Times are milliseconds of the monotonic clock given to `open_reader`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Protocol

from edge.model import UidKind
from edge.readers.dialogue import Evidence, Failure

UID_SIZES = (4, 7, 10)  # ISO/IEC 14443-3: single, double, triple.
RANDOM_UID_SIZE = 4  # ISO/IEC 14443-3: a random id is a single-size UID ...
RANDOM_UID_FIRST_BYTE = 0x08  # ... that begins with 08. Phones and some DESFire cards show one.
WHOLE_NUMBER_SIZE_MIN = 4  # credentials.md: of 3 bytes, 5,000 pupils share one with odds of 53 %.

READS_QUEUED_MAX = 64  # Our choice: half a minute of the busiest lane; older reads are stale.
ALIVE_AGE_MS_MAX = 5_000  # Our choice: ten of the longest bounded waits of any worker.


@unique
class Signal(StrEnum):
    """What the reader's own lamp or buzzer should tell the person in front of it."""

    GRANTED = "granted"
    REFUSED = "refused"
    ASK = "ask"  # Please see the officer.
    DOWN = "down"  # This lane does not take cards now.


ReadFailure = Failure  # What a reader reports of a card is what the dialogue with it found.


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRead:
    """A card was shown. The UID is personal: it ends in `edge/trust.py` and is never in a repr."""

    uid: bytes = field(repr=False)
    at_ms: int  # When its last byte came, never later: whoever acts on it sees how old it is.
    kind: UidKind
    tier: int  # What the card proved, see credentials.md; a claimed chip type never raises it.
    reader_id: str
    evidence: Evidence | None = None  # What the dialogue with it proved; None from a bare number.

    @property
    def is_ambiguous(self) -> bool:
        """Whether two people of one school may well share this number (Wiegand 26).

        It may open a lane, where an officer sees the photo; nothing is ever bought with it.
        """
        return len(self.uid) < WHOLE_NUMBER_SIZE_MIN


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFailed:
    """A card was shown and named nobody: the screen says so, nobody is refused in silence."""

    at_ms: int
    failure: ReadFailure
    reader_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUp:
    """From here on a card that is shown is reported."""

    reader_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDown:
    """No card is reported until the next LinkUp. The worker goes on trying by itself."""

    reader_id: str
    reason: str  # What was found, where, and what to do: a sentence for the technician.


ReaderEvent = CardRead | ReadFailed | LinkUp | LinkDown


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderCounters:
    """Since the reader was opened here. Gauges for the technician and the status report."""

    reads: int = 0  # Put in the queue.
    dropped: int = 0  # Lost from the queue's old end because nobody polled.
    repeats: int = 0  # Sightings of a card that was still there.
    refused: int = 0  # ReadFailed of any kind.
    noise_bytes: int = 0  # Bytes that were part of no valid frame.
    reopened: int = 0  # Times the link came up again after the first.
    discarded_after_reopen: int = 0  # Bytes, or cards, that came before the link was up.


class Reader(Protocol):
    """One reader, driven by a worker of its own.

    A reader counts as down until its first LinkUp; after that LinkDown and LinkUp alternate.
    Cards shown before LinkUp, or that were buffered while the link was down, are never reported.
    """

    @property
    def reader_id(self) -> str: ...

    @property
    def alive_ms(self) -> int:
        """When the worker last showed that it is not stuck; `poll` watches this too."""
        ...

    def poll(self) -> list[ReaderEvent]:
        """Take what was queued, oldest first; never blocks.

        Call it when woken and at least once a second: it is also the watchdog that reports a
        stuck worker as LinkDown. Raises nothing: a reader heals itself and tells by LinkUp.
        """
        ...

    def signal(self, signal: Signal) -> None:
        """Show this at the reader; does nothing where the reader has no lamp. Never blocks."""
        ...

    def counters(self) -> ReaderCounters: ...

    def close(self) -> None:
        """Let go of the device and end the worker. Twice is fine; afterwards poll gives []."""
        ...


def is_random_uid(uid: bytes, kind: UidKind) -> bool:
    """Whether this number is made up anew each time and so names nobody.

    >>> is_random_uid(bytes.fromhex("08A1B2C3"), UidKind.ISO14443)
    True
    """
    return (
        kind is UidKind.ISO14443 and len(uid) == RANDOM_UID_SIZE and uid[0] == RANDOM_UID_FIRST_BYTE
    )
