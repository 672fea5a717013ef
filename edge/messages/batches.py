"""Batches of facts up, and what the city answers. Pure."""

from __future__ import annotations

import msgspec

from edge.messages.wire import WIRE_VERSION, Stream, Wire


class Gap(Wire, frozen=True, kw_only=True):
    """Facts that are truly gone: the one way to move the city's high water past a hole."""

    source: int  # First missing sequence.
    target: int  # Last missing sequence.
    digest: str  # Of the last missing fact: what the next one carries in `previous`.
    counts: dict[str, int]  # By kind, as far as known.


class BatchHeader(Wire, frozen=True, kw_only=True):
    """First line of a batch."""

    device: str  # Whose facts.
    stream: Stream  # As in the topic.
    epoch: str  # Which life of its journal; 16 hex digits.
    first: int  # Sequence of the first fact, from 1.
    count: int  # Facts behind this line, 0 to 100; 0 only with a gap.
    digest: str  # Of its last fact (or of the gap when it has no rows).
    v: int = WIRE_VERSION
    gap: Gap | None = None  # Stands before the rows: `first` is `gap.target + 1`.


def batch_of_lines(header: BatchHeader, lines: bytes) -> bytes:
    """As `encode_batch`, of facts that stand one a line already; none where the header says so."""
    first = msgspec.json.encode(header)
    return b"\n".join((first, lines)) if header.count else first


class Ack(Wire, frozen=True, kw_only=True):
    """The city has committed everything up to here. Cumulative: losing one is harmless."""

    device: str  # Whose stream it is.
    stream: Stream  # Which stream.
    epoch: str  # Which life of its journal.
    up_to: int  # Your high water; 0: nothing yet.
    rewind: bool = False  # A batch began above `up_to + 1`: send again from there.
    problem: str = ""  # fork; corrupt: the batch cannot be read; or any word for a person.
    # Facts a second that this stream may send, when you are crowded. Each Ack says it anew:
    # one without it lifts the limit.
    throttle_per_s: int | None = None
