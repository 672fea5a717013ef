"""What other tills' facts come to, in `sync.db`: as `till_books.py` for those of one's own.

Only what lowers is believed at once: a peer's debit, a meal it served. What it gives back counts
where it ends a hold of its own that is known here; of a void the city tells.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from edge.messages import Fact, Hold, Restates, Void
from edge.model import Pieces, Spend
from edge.offline_cache.outbox import schema_version
from edge.offline_cache.store import telling
from edge.offline_cache.till_books import Effects, decode_known, effects_of

AMOUNT_MINOR_MAX: Final = 2**53  # Our choice: what every JSON reader holds exactly.
PIECES_MAX: Final = 10_000  # Our choice: more than a school's kitchen makes of one thing.
TEXT_CHARS_MAX: Final = 200  # Our choice: no id or claim of ours is as long.


def add(db: sqlite3.Connection, device: str, epoch: str, sequence: int, fact: Fact) -> None:
    """What a peer's fact comes to, under the key it came by."""
    key, first = (device, epoch, sequence), (epoch, sequence)
    inner: Fact | None = fact
    if isinstance(fact, Restates):
        # The same fact under a new key. Where it is held under the old one too, it moves.
        inner, first = decode_known(fact.body), (fact.old_epoch, fact.old_sequence)
        old = db.execute(
            "SELECT body FROM peer_facts WHERE device = ? AND epoch = ? AND sequence = ?",
            (device, *first),
        ).fetchone()
        if old is not None and old[0] == fact.body:
            _move(db, effects_of(inner), (device, *first), key)
            return
    if inner is None or isinstance(inner, Void):
        return
    effects = effects_of(inner)
    if effects is not None:
        _add(db, effects, key, (device, *first), is_hold=isinstance(inner, Hold))


def _add(
    db: sqlite3.Connection,
    effects: Effects,
    key: tuple[str, str, int],
    first: tuple[str, str, int],
    *,
    is_hold: bool,
) -> None:
    amounts, date = {}, effects.business_date
    for purse, amount_minor in effects.amount_minor_by_purse.items():
        if 0 < amount_minor <= AMOUNT_MINOR_MAX:
            amounts[purse] = amount_minor
    if is_hold:
        for purse, amount_minor in amounts.items():
            db.execute(
                "INSERT OR REPLACE INTO peer_holds VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*first, purse, effects.account, amount_minor, date),
            )
    if effects.ends is not None:
        hold = (key[0], *effects.ends, effects.account)
        where = "device = ? AND epoch = ? AND sequence = ? AND account_id = ?"
        rows = db.execute(
            f"SELECT purse, amount_minor, business_date FROM peer_holds WHERE {where}", hold
        ).fetchall()
        db.execute(f"DELETE FROM peer_holds WHERE {where}", hold)
        for purse, held_minor, day in rows:
            amounts[purse] = amounts.get(purse, 0) - held_minor
            date = date or day
    for purse, amount_minor in amounts.items():
        db.execute(
            "INSERT OR REPLACE INTO peer_tail VALUES (?, ?, ?, ?, ?, ?, ?)",
            (effects.account, *key, purse, amount_minor, date),
        )
    for category, pieces in effects.pieces_by_category.items():
        if 0 < pieces <= PIECES_MAX:
            db.execute(
                "INSERT OR REPLACE INTO peer_items VALUES (?, ?, ?, ?, ?, ?, ?)",
                (effects.account, *key, category, pieces, date),
            )
    for claim in effects.claims:
        if len(claim) + len(effects.cardholder) <= 2 * TEXT_CHARS_MAX:
            db.execute(
                "INSERT OR REPLACE INTO peer_claims VALUES (?, ?, ?, ?, ?)",
                (effects.cardholder, claim, *key),
            )


def _move(
    db: sqlite3.Connection,
    effects: Effects | None,
    source: tuple[str, str, int],
    target: tuple[str, str, int],
) -> None:
    if effects is None:
        return
    for table, column, owner in (
        ("peer_tail", "account_id", effects.account),
        ("peer_items", "account_id", effects.account),
        ("peer_claims", "cardholder_id", effects.cardholder),
    ):
        db.execute(
            f"UPDATE {table} SET epoch = ?, sequence = ?"
            f" WHERE {column} = ? AND device = ? AND epoch = ? AND sequence = ?",
            (*target[1:], owner, *source),
        )


# -------------------------------------------------------------------------------- asked about


@telling()
def peers_tail(sync_db: sqlite3.Connection, account_id: str) -> tuple[Spend, ...]:
    """What other tills spent from an account, as far as their facts are held."""
    if schema_version(sync_db) < 2:
        return ()  # A sync of before, which heard nobody.
    rows = sync_db.execute(
        "SELECT device, epoch, sequence, purse, amount_minor, business_date FROM peer_tail"
        " WHERE account_id = ?",
        (account_id,),
    )
    return tuple(
        Spend(
            device=device,
            epoch=epoch,
            sequence=sequence,
            purse=purse,
            amount_minor=amount_minor,
            business_date=business_date,
            own=False,
            hold_ended=amount_minor < 0,  # Nothing else is let in below zero.
        )
        for device, epoch, sequence, purse, amount_minor, business_date in rows
    )


@telling()
def peers_pieces(sync_db: sqlite3.Connection, account_id: str) -> tuple[Pieces, ...]:
    if schema_version(sync_db) < 3:
        return ()
    rows = sync_db.execute(
        "SELECT device, epoch, sequence, category, pieces, business_date FROM peer_items"
        " WHERE account_id = ?",
        (account_id,),
    )
    return tuple(
        Pieces(
            device=device,
            epoch=epoch,
            sequence=sequence,
            category=category,
            pieces=pieces,
            business_date=business_date,
        )
        for device, epoch, sequence, category, pieces, business_date in rows
    )


@telling()
def peers_claims(sync_db: sqlite3.Connection, cardholder_id: str) -> frozenset[str]:
    if schema_version(sync_db) < 3:
        return frozenset()
    rows = sync_db.execute(
        "SELECT claim FROM peer_claims WHERE cardholder_id = ?", (cardholder_id,)
    )
    return frozenset(claim for (claim,) in rows)


@telling()
def fact_of_peer(
    sync_db: sqlite3.Connection, device: str, epoch: str, sequence: int
) -> Fact | None:
    row = sync_db.execute(
        "SELECT body FROM peer_facts WHERE device = ? AND epoch = ? AND sequence = ?",
        (device, epoch, sequence),
    ).fetchone()
    return None if row is None else decode_known(row[0])
