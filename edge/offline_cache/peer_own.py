"""What this device tells its peers, read from its own journal: how far it has come and has seen,
and its facts in batches. Read-only.

A heartbeat takes heads and what was seen from one read transaction, so they are true of the same
moment: whatever stands above a head was decided with at least this much seen.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from edge.messages import (
    BATCH_BYTES_MAX,
    BATCH_ROWS_MAX,
    BatchHeader,
    Gap,
    Handover,
    PeerLife,
    PeerSeen,
    SideRange,
    Stream,
    digest_of,
    encode_batch,
    encode_sides,
)
from edge.model import Station
from edge.offline_cache import outbox
from edge.offline_cache.moves import moves
from edge.offline_cache.record import decode_known
from edge.offline_cache.store import reading

LIVES_TOLD: Final = 4  # Our choice: sync/peer_state.py takes as many.
SIDE_FACTS_BACK: Final = 10_000  # Our choice: sides end at midnight, and no lane has more a day.
SIDE_KINDS: Final = ("forgiven", "handover", "passage")  # Kinds of facts that can move somebody.


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnReport:
    """What a heartbeat says of the journal."""

    lives: tuple[PeerLife, ...]
    seen: tuple[PeerSeen, ...]


def own_report(journal: sqlite3.Connection, *, store: str, station: Station) -> OwnReport:
    """Heads and what was seen, from one read. Seen counts for the store it was seen in alone."""
    with reading(journal) as db:
        lives = [
            life
            for life in outbox.lives(db, Stream.MAIN)
            if life.sent_head and life.held_from <= life.sent_head
        ]
        told = []
        for life in lives[-LIVES_TOLD:]:
            is_till = station is Station.TILL
            side = 0 if is_till else _last_side(db, life)
            told.append(
                PeerLife(
                    epoch=life.epoch,
                    held_from=life.held_from,
                    head=life.sent_head if is_till else side,
                    side=side,
                )
            )
        seen: tuple[PeerSeen, ...] = ()
        if outbox.schema_version(db) >= 2:
            rows = db.execute(
                "SELECT device, epoch, up_to FROM seen WHERE store = ? ORDER BY device, epoch",
                (store,),
            )
            seen = tuple(PeerSeen(device=d, epoch=e, up_to=u) for d, e, u in rows)
    return OwnReport(lives=tuple(told), seen=seen)


def spend_batch(
    journal: sqlite3.Connection, device: str, epoch: str, after: int
) -> tuple[bytes, int] | None:
    """The next batch of own facts behind `after`, as it goes to the city, and where it ends; None
    when there is nothing, or what should come next was dropped."""
    with reading(journal) as db:
        life = _life(db, epoch)
        if life is None or after >= life.sent_head:
            return None
        gap = None
        hole = outbox.hole_at(db, life.life, after + 1)
        if hole is not None:
            gap = Gap(source=after + 1, target=hole.target, digest=hole.digest, counts=hole.counts)
        elif after + 1 < life.held_from:
            return None
        first = after + 1 if gap is None else gap.target + 1
        rows_max = min(BATCH_ROWS_MAX, life.sent_head - first + 1)
        facts: list[bytes] = []
        if rows_max > 0:
            facts = outbox.next_facts(
                db, life.life, first, rows_max=rows_max, bytes_max=BATCH_BYTES_MAX
            )
    if not facts and gap is None:
        return None
    header = BatchHeader(
        device=device,
        stream=Stream.MAIN,
        epoch=epoch,
        first=first,
        count=len(facts),
        digest=digest_of(facts[-1]) if facts else "" if gap is None else gap.digest,
        gap=gap,
    )
    return encode_batch(header, facts), first + len(facts) - 1


def side_batch(
    journal: sqlite3.Connection, device: str, site: str, epoch: str, after: int
) -> tuple[bytes, int] | None:
    """The next facts behind `after` that move somebody, or say for whom a guardian came, and up
    to where they are all. What lies further back than a day can reach is left out: nobody is there
    any more."""
    with reading(journal) as db:
        life = _life(db, epoch)
        last = 0 if life is None else _last_side(db, life)
        if life is None or after >= last:
            return None
        rows = db.execute(
            "SELECT sequence, body FROM facts WHERE life = ? AND sequence > ? AND sequence <= ?"
            " AND kind IN (?, ?, ?) ORDER BY sequence",
            (life.life, max(after, life.sent_head - SIDE_FACTS_BACK), last, *SIDE_KINDS),
        )
        facts: list[bytes] = []
        up_to, size = last, 0
        for sequence, body in rows:
            fact = decode_known(body)
            if fact is None or not (moves(fact) or isinstance(fact, Handover)):
                continue
            size += len(body) + 1
            if len(facts) == BATCH_ROWS_MAX or (facts and size > BATCH_BYTES_MAX):
                up_to = sequence - 1
                break
            facts.append(body)
    header = SideRange(
        device=device, site=site, epoch=epoch, after=after, up_to=up_to, count=len(facts)
    )
    return encode_sides(header, facts), up_to


def _life(db: sqlite3.Connection, epoch: str) -> outbox.Life | None:
    return next((one for one in outbox.lives(db, Stream.MAIN) if one.epoch == epoch), None)


def _last_side(db: sqlite3.Connection, life: outbox.Life) -> int:
    row = db.execute(
        "SELECT sequence FROM facts WHERE life = ? AND sequence > ? AND sequence <= ?"
        " AND kind IN (?, ?, ?) ORDER BY sequence DESC LIMIT 1",
        (life.life, life.sent_head - SIDE_FACTS_BACK, life.sent_head, *SIDE_KINDS),
    ).fetchone()
    return 0 if row is None else int(row[0])
