"""What has to leave: the facts of a stream in sequence, and how far the city has them.

Read-only on the file that holds the stream; acknowledgements live in `sync.db` alone.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from edge.messages import NO_DIGEST, Stream, StreamHead, digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One epoch of a stream, as its file has it."""

    life: int
    stream: Stream
    epoch: str
    head: int
    digest: str
    held_from: int


def lives(db: sqlite3.Connection, stream: Stream) -> list[Life]:
    """All epochs of a stream, oldest first."""
    rows = db.execute(
        "SELECT life, epoch, head, digest, held_from FROM lives WHERE stream = ? ORDER BY life",
        (stream.value,),
    )
    return [
        Life(life=life, stream=stream, epoch=epoch, head=head, digest=digest, held_from=held_from)
        for life, epoch, head, digest, held_from in rows
    ]


def stream_head(life: Life) -> StreamHead:
    return StreamHead(
        stream=life.stream,
        epoch=life.epoch,
        head=life.head,
        digest=life.digest,
        held_from=life.held_from,
    )


def next_facts(
    db: sqlite3.Connection, life: int, first: int, *, rows_max: int, bytes_max: int
) -> list[bytes]:
    """Facts from `first` on: at most so many rows and bytes, but one at least if there is one.

    Stops before a missing sequence, so a hole can never travel unnoticed inside a batch.
    """
    facts: list[bytes] = []
    size = 0
    rows = db.execute(
        "SELECT sequence, body FROM facts WHERE life = ? AND sequence >= ? ORDER BY sequence"
        " LIMIT ?",
        (life, first, rows_max),
    )
    for sequence, body in rows:
        size += len(body) + 1
        if sequence != first + len(facts) or (facts and size > bytes_max):
            break
        facts.append(body)
    return facts


def kinds_between(db: sqlite3.Connection, life: int, first: int, last: int) -> dict[str, int]:
    """How many facts of each kind stand in a range."""
    rows = db.execute(
        "SELECT kind, count(*) FROM facts WHERE life = ? AND sequence BETWEEN ? AND ? GROUP BY 1",
        (life, first, last),
    )
    return dict(rows.fetchall())


def digest_at(db: sqlite3.Connection, life: int, sequence: int) -> str | None:
    """The digest of one held fact; "" before the first; None when it is not held."""
    if sequence == 0:
        return NO_DIGEST
    row = db.execute(
        "SELECT body FROM facts WHERE life = ? AND sequence = ?", (life, sequence)
    ).fetchone()
    return None if row is None else digest_of(row[0])


def chain_problem(db: sqlite3.Connection, life: Life) -> str:
    """ "" when every held fact follows the one before it, else where the chain breaks."""
    from edge.messages import decode_fact_key

    expected: str | None = NO_DIGEST if life.held_from == 1 else None
    sequence = life.held_from
    rows = db.execute(
        "SELECT sequence, body FROM facts WHERE life = ? ORDER BY sequence", (life.life,)
    )
    for number, body in rows:
        key = decode_fact_key(body)
        if number != sequence or key.sequence != number:
            return f"{life.stream} {life.epoch}: {number} stands where {sequence} should"
        if expected is not None and key.previous != expected:
            return f"{life.stream} {life.epoch}: the chain breaks before {number}"
        expected = digest_of(body)
        sequence += 1
    if sequence != life.head + 1 or (expected is not None and expected != life.digest):
        return f"{life.stream} {life.epoch}: ends at {sequence - 1}, its head says {life.head}"
    return ""
