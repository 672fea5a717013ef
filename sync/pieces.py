"""What one batch of facts is made of, read from the file that holds the stream. Decides nothing:
how much, and from where, the pump has said.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.messages import Gap, digest_of
from edge.offline_cache import outbox
from edge.offline_cache.store import Connection
from sync.answers import Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one batch is made of."""

    first: int
    facts: list[bytes]
    gap: Gap | None
    digest: str


def read_piece(db: Connection, life: outbox.Life, send: Send) -> Piece:
    """The rows asked for; in front of them, where facts went, the gap that says so."""
    first = send.first
    gap: Gap | None = None
    if send.gap is not None:
        digest = outbox.known_digest(db, life, send.gap.target) or ""
        gap = Gap(source=send.gap.source, target=send.gap.target, digest=digest, counts={})
    rows_max, bytes_max = send.rows_max, send.bytes_max
    facts = outbox.next_facts(db, life.life, first, rows_max=rows_max, bytes_max=bytes_max)
    while not facts and (hole := outbox.hole_at(db, life.life, first)) is not None:
        counts = dict(gap.counts) if gap is not None else {}
        for kind, count in hole.counts.items():
            counts[kind] = counts.get(kind, 0) + count
        source = gap.source if gap is not None else hole.source
        gap = Gap(source=source, target=hole.target, digest=hole.digest, counts=counts)
        first = hole.target + 1
        facts = outbox.next_facts(db, life.life, first, rows_max=rows_max, bytes_max=bytes_max)
    closed_at = life.closed_at
    if closed_at is not None:
        facts = facts[: max(0, closed_at + 1 - first)]
    digest = digest_of(facts[-1]) if facts else (gap.digest if gap is not None else "")
    return Piece(first=first, facts=facts, gap=gap, digest=digest)
