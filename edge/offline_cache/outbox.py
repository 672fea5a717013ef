"""What has to leave: the facts of a stream in sequence, and what of them is gone and declared.

Read-only on the file that holds the stream; acknowledgements live in `sync.db` alone. A reader
takes files of one schema version before: what they do not have yet is as if it had never happened.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

import msgspec

from edge.messages import (
    NO_DIGEST,
    AccessFact,
    OrderAnswer,
    OrderOutcome,
    Override,
    PassageFact,
    ReferralEnded,
    Stream,
    StreamHead,
    decode_fact,
    decode_fact_key,
    digest_of,
)
from edge.model import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One epoch of a stream, as its file has it."""

    life: int
    stream: Stream
    epoch: str
    head: int
    digest: str
    held_from: int
    held_after: str = ""  # Digest of the fact before `held_from`; "" where it is not known.
    closed_at: int | None = None  # Facts above it live on as restated ones; None: a life as ever.
    restated_to: int = 0

    @property
    def sent_head(self) -> int:
        """The last fact that leaves under its own key."""
        return self.head if self.closed_at is None else self.closed_at

    @property
    def restating(self) -> bool:
        """Closed, and not all of it restated and told of yet."""
        return self.closed_at is not None and self.restated_to <= self.head


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Facts that went from the middle of a life to make room."""

    source: int
    target: int
    digest: str  # Of the fact at `target`.
    counts: dict[str, int]


def schema_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def lives(db: sqlite3.Connection, stream: Stream) -> list[Life]:
    """All epochs of a stream, oldest first."""
    more = ", held_after, closed_at, restated_to" if schema_version(db) >= 2 else ", '', NULL, 0"
    rows = db.execute(
        f"SELECT life, epoch, head, digest, held_from{more} FROM lives WHERE stream = ?"
        " ORDER BY life",
        (stream.value,),
    )
    return [
        Life(
            life=life,
            stream=stream,
            epoch=epoch,
            head=head,
            digest=digest,
            held_from=held_from,
            held_after=held_after,
            closed_at=closed_at,
            restated_to=restated_to,
        )
        for life, epoch, head, digest, held_from, held_after, closed_at, restated_to in rows
    ]


def holes(db: sqlite3.Connection, life: int) -> list[Hole]:
    """What went from the middle of a life, in order."""
    if schema_version(db) < 2:
        return []
    rows = db.execute(
        "SELECT source, target, digest, counts FROM gaps WHERE life = ? ORDER BY source", (life,)
    )
    return [
        Hole(source=source, target=target, digest=digest, counts=counts_of(counts))
        for source, target, digest, counts in rows
    ]


def hole_at(db: sqlite3.Connection, life: int, sequence: int) -> Hole | None:
    """The hole that a fact went into."""
    for hole in holes(db, life):
        if hole.source <= sequence <= hole.target:
            return hole
    return None


def counts_of(text: str) -> dict[str, int]:
    return msgspec.json.decode(text, type=dict[str, int])


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


def next_lines(
    db: sqlite3.Connection, life: int, first: int, *, rows_max: int
) -> tuple[int, bytes] | None:
    """As many facts from `first` on, and their bytes as lines, as a batch has them: in one row,
    for at each row that it steps to, Python's module lets other threads run in between. None when
    one of them is missing: `next_facts` says where."""
    count, last, lines = db.execute(
        "SELECT count(*), max(sequence), CAST(group_concat(body, char(10)) AS BLOB) FROM facts"
        " WHERE life = ? AND sequence BETWEEN ? AND ?",
        (life, first, first + rows_max - 1),
    ).fetchone()
    if count == 0 or last != first + count - 1:
        return None
    return count, lines


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


def known_digest(db: sqlite3.Connection, life: Life, sequence: int) -> str | None:
    """The digest of a fact, also of one that went, as far as the chain still tells."""
    digest = digest_at(db, life.life, sequence)
    if digest is not None:
        return digest
    if sequence == life.head:
        return life.digest
    if sequence == life.held_from - 1 and life.held_after:
        return life.held_after
    row = db.execute(
        "SELECT body FROM facts WHERE life = ? AND sequence = ?", (life.life, sequence + 1)
    ).fetchone()
    return None if row is None else decode_fact_key(row[0]).previous


RESTARTED: Final = "restarted"  # Why an order was not done: its process ended meanwhile.
UNENDED_LOOK: Final = 256  # Our choice: a lane's wait is seconds; this is minutes of a rush.


def unended_grants(db: sqlite3.Connection, life: Life) -> list[AccessFact | Override | OrderAnswer]:
    """Of the newest facts, the grants that no passage has ended: the agent was gone before it.
    An admission (it has a tariff) is none of them: no lane may have been opened for it. Nor is an
    order that a lane would not take; of one that was cut off, nobody knows whether it opened."""
    rows = db.execute(
        "SELECT body FROM facts WHERE life = ? AND sequence > ?"
        " AND kind IN ('access', 'override', 'passage', 'order_answer', 'order_outcome')"
        " ORDER BY sequence",
        (life.life, life.head - UNENDED_LOOK),
    )
    grants: dict[str, AccessFact | Override | OrderAnswer] = {}
    orders: dict[int, str] = {}  # Counter -> the grant it is.
    for (body,) in rows:
        match decode_fact(body):
            case AccessFact(outcome=Outcome.GRANT, tariff=None) | Override() as grant:
                grants[f"{grant.epoch}.{grant.sequence}"] = grant
            case PassageFact(passage=str(passage)):
                grants.pop(passage, None)
            case OrderAnswer(accepted=True, access_point=str()) as opened:
                key = orders[opened.counter] = f"{opened.epoch}.{opened.sequence}"
                grants[key] = opened
            case OrderOutcome(done=False) as refused if refused.why != RESTARTED:
                grants.pop(orders.get(refused.counter, ""), None)
            case _:
                pass
    return list(grants.values())


def unended_referrals(db: sqlite3.Connection, life: Life) -> list[str]:
    """Of the newest facts, the decisions that were referred to an officer and have no end."""
    rows = db.execute(
        "SELECT body FROM facts WHERE life = ? AND sequence > ?"
        " AND kind IN ('access', 'referral_ended') ORDER BY sequence",
        (life.life, life.head - UNENDED_LOOK),
    )
    waiting: dict[str, None] = {}
    for (body,) in rows:
        match decode_fact(body):
            case AccessFact(outcome=Outcome.REFER, tariff=None) as referred:
                waiting[f"{referred.epoch}.{referred.sequence}"] = None
            case ReferralEnded(access=access):
                waiting.pop(access, None)
            case _:
                pass
    return list(waiting)


def chain_problem(db: sqlite3.Connection, life: Life) -> str:
    """ "" when every held fact follows the one before it, or a hole that is on record, else where
    the chain breaks."""
    expected: str | None = NO_DIGEST if life.held_from == 1 else life.held_after or None
    sequence = life.held_from
    gone = {hole.source: hole for hole in holes(db, life.life)}
    rows = db.execute(
        "SELECT sequence, body FROM facts WHERE life = ? ORDER BY sequence", (life.life,)
    )
    for number, body in rows:
        while number != sequence and sequence in gone:
            hole = gone.pop(sequence)
            sequence, expected = hole.target + 1, hole.digest
        key = decode_fact_key(body)
        if number != sequence or key.sequence != number:
            return f"{life.stream} {life.epoch}: {number} stands where {sequence} should"
        if expected is not None and key.previous != expected:
            return f"{life.stream} {life.epoch}: the chain breaks before {number}"
        expected = digest_of(body)
        sequence += 1
    while sequence in gone:
        hole = gone.pop(sequence)
        sequence, expected = hole.target + 1, hole.digest
    if sequence != life.head + 1 or (expected is not None and expected != life.digest):
        return f"{life.stream} {life.epoch}: ends at {sequence - 1}, its head says {life.head}"
    return ""
