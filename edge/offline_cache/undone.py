"""Which facts have undone a sale: voids, and refunds of it in part or whole.

Of this till's own it is noted as they are recorded, and holds for as long as they do. Of peers it
is read from the facts that are held of them; when those have gone, the city alone knows, and judges
what is given back here.
"""

from __future__ import annotations

import sqlite3

from edge.messages import Fact, Refund, Void, decode_fact
from edge.model import CorruptData
from edge.offline_cache.store import telling

Key = tuple[str, int]


def note(db: sqlite3.Connection, device: str, sale: Key, by: Key) -> None:
    """A new fact of this journal undoes that sale, whoever sold."""
    db.execute("INSERT OR IGNORE INTO undone VALUES (?, ?, ?, ?, ?)", (device, *sale, *by))


def drop(db: sqlite3.Connection, by: Key) -> None:
    """That fact is not held any more."""
    db.execute("DELETE FROM undone WHERE by_epoch = ? AND by_sequence = ?", by)


def told_here(journal: sqlite3.Connection, device: str, epoch: str, sale: int) -> list[Key]:
    """Facts of this journal, oldest first."""
    rows = journal.execute(
        "SELECT by_epoch, by_sequence FROM undone JOIN lives ON lives.epoch = by_epoch"
        " AND lives.stream = 'main' WHERE device = ? AND undone.epoch = ? AND sale = ?"
        " ORDER BY life, by_sequence",
        (device, epoch, sale),
    )
    return [(by_epoch, by_sequence) for by_epoch, by_sequence in rows]


@telling()
def told_by_peers(
    sync_db: sqlite3.Connection, device: str, epoch: str, sale: int
) -> tuple[Fact, ...]:
    """Facts of other tills, as far as they are held here. They are few, and asked for when a
    supervisor stands at the till."""
    found: list[Fact] = []
    for (body,) in sync_db.execute(
        "SELECT body FROM peer_facts WHERE instr(body, CAST(? AS BLOB)) OR"
        " (device = ? AND instr(body, CAST(? AS BLOB)))",
        ('"refund"', device, '"void"'),
    ):
        try:
            fact = decode_fact(body)
        except CorruptData:
            continue  # Of a newer version.
        match fact:
            case Refund() if (fact.sale_device, fact.sale_epoch, fact.sale) == (
                device,
                epoch,
                sale,
            ):
                found.append(fact)
            case Void() if (fact.device, fact.sale_epoch, fact.sale) == (device, epoch, sale):
                found.append(fact)
            case _:
                pass
    return tuple(found)
