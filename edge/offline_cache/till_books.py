"""What a till's facts change beside themselves: tail, pieces, holds, claims, sales of the shift.

All of it follows from the fact alone. `journal.db` has this till's, `sync.db` the peers'
(`peer_books.py`); what a fact comes to is said here once for both.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from edge.messages import (
    CloseOut,
    Fact,
    Hold,
    HoldReleased,
    MealServed,
    PreorderUncollected,
    Refund,
    Restates,
    SaleFact,
    Void,
    decode_fact,
)
from edge.model import CorruptData, Pieces, Spend, meal_claim, preorder_claim
from edge.offline_cache import undone

# Spend of a closed epoch that is not restated yet stands so far above its number that no vector
# can seem to include it; every JSON reader still holds the sum exactly.
TAIL_OPEN: Final = 2**52
# Facts with something of their own beside them, by their tag.
KINDS: Final = ("sale", "hold", "hold_released", "void", "meal_served", "restates", "refund")
CLOSED: Final = "closed_out"  # The note: the last close-out, and up to where its ranges go.
BASE_SEEN: Final = "base_seen"  # The note: rows of the money picture last told of.

_AT: Final = "epoch = ?1 AND sequence IN (?2, ?2 + 4503599627370496)"  # TAIL_OPEN
assert TAIL_OPEN == 4503599627370496
Key = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What one fact comes to. `ends` is the hold it replaces or releases."""

    account: str
    business_date: str = ""
    amount_minor_by_purse: Mapping[str, int] = field(default_factory=dict)
    pieces_by_category: Mapping[str, int] = field(default_factory=dict)
    ends: Key | None = None
    cardholder: str = ""
    claims: tuple[str, ...] = ()


def effects_of(fact: Fact | None) -> Effects | None:
    """None: it changes nothing at a till."""
    match fact:
        case SaleFact():
            spent = _spent(fact)
            meals = (meal_claim(fact.business_date, m.slot, m.entitlement) for m in fact.meals)
            return Effects(
                account=fact.account,
                business_date=fact.business_date,
                amount_minor_by_purse=spent,
                pieces_by_category=fact.pieces() if any(n > 0 for n in spent.values()) else {},
                ends=None if fact.hold is None else (fact.epoch, fact.hold),
                cardholder=fact.cardholder,
                claims=(*meals, *(preorder_claim(p.preorder) for p in fact.preorders)),
            )
        case Hold() | Void():
            return Effects(
                account=fact.account,
                business_date=fact.business_date,
                amount_minor_by_purse=_spent(fact),
            )
        case HoldReleased():
            return Effects(account=fact.account, ends=(fact.hold_epoch, fact.hold))
        case MealServed():
            meal = fact.meal
            return Effects(
                account="",
                cardholder=fact.cardholder,
                claims=(meal_claim(fact.business_date, meal.slot, meal.entitlement),),
            )
        case PreorderUncollected():
            return Effects(
                account="", cardholder=fact.cardholder, claims=(preorder_claim(fact.preorder),)
            )
        case _:
            return None


def _spent(fact: SaleFact | Hold | Void) -> dict[str, int]:
    spent: dict[str, int] = {}
    for posting in fact.postings:
        if posting.account == fact.account:
            spent[posting.purse] = spent.get(posting.purse, 0) - posting.amount_minor
    return spent


# ------------------------------------------------------------------------- as facts are added


def note(db: sqlite3.Connection, fact: Fact) -> None:
    """All that a new fact of this till changes here."""
    key = (fact.epoch, fact.sequence)
    match fact:
        case Restates():
            inner = decode_known(fact.body)
            old = (fact.old_epoch, fact.old_sequence)
            if not move(db, inner, source=old, target=key) and inner is not None:
                _add(db, inner, key)
        case CloseOut():
            db.execute("DELETE FROM shift_sales")
            closed = _closed(db)[1] | {one.epoch: one.last for one in fact.ranges}
            closed[fact.epoch] = fact.sequence
            text = json.dumps({"number": fact.number, "closed": closed})
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (CLOSED, text))
        case _:
            _add(db, fact, key)
            _stand(db, fact, key)


def add_to_tail(db: sqlite3.Connection, fact: Fact, *, epoch: str, sequence: int) -> None:
    """Of a fact that was recorded before: what it spends, and nothing that stands."""
    _add(db, fact, (epoch, sequence))


def _add(db: sqlite3.Connection, fact: Fact, key: Key) -> None:
    effects = effects_of(fact)
    if effects is None:
        return
    amounts, date = dict(effects.amount_minor_by_purse), effects.business_date
    if effects.ends is not None:
        for purse, held_minor, day in _held(db, effects.account, effects.ends):
            amounts[purse] = amounts.get(purse, 0) - held_minor
            date = date or day
    for purse, amount_minor in amounts.items():
        db.execute(
            "INSERT OR REPLACE INTO tail (account_id, epoch, sequence, purse, amount_minor,"
            " business_date, hold_ended) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(effects.account, *key, purse, amount_minor, date),
                int(effects.ends is not None),
            ),
        )
    for category, pieces in effects.pieces_by_category.items():
        db.execute(
            "INSERT OR REPLACE INTO tail_items VALUES (?, ?, ?, ?, ?, ?)",
            (effects.account, *key, category, pieces, date),
        )
    for claim in effects.claims:
        db.execute(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)", (effects.cardholder, claim, *key)
        )


def _held(db: sqlite3.Connection, account: str, hold: Key) -> list[tuple[str, int, str]]:
    rows = db.execute(
        "SELECT purse, amount_minor, business_date FROM holds WHERE epoch = ? AND sequence = ?",
        hold,
    ).fetchall()
    return (
        rows
        or db.execute(
            f"SELECT purse, amount_minor, business_date FROM tail WHERE {_AT} AND account_id = ?3",
            (*hold, account),
        ).fetchall()
    )


def _stand(db: sqlite3.Connection, fact: Fact, key: Key) -> None:
    """What stands by a new fact until another one ends it."""
    match fact:
        case Hold():
            for purse, amount_minor in _spent(fact).items():
                db.execute(
                    "INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?)",
                    (*key, purse, fact.account, amount_minor, fact.business_date),
                )
        case SaleFact():
            if fact.hold is not None:
                _end_hold(db, (fact.epoch, fact.hold))
            db.execute("INSERT INTO shift_sales VALUES (?, ?, 0, 0)", key)
        case HoldReleased():
            _end_hold(db, (fact.hold_epoch, fact.hold))
        case Void():
            sale = (fact.sale_epoch, fact.sale)
            db.execute("UPDATE shift_sales SET voided = 1 WHERE epoch = ? AND sequence = ?", sale)
            # Pieces and claims of that sale are free again, here: the city tells the others.
            db.execute(
                f"DELETE FROM tail_items WHERE {_AT} AND account_id = ?3", (*sale, fact.account)
            )
            db.execute("DELETE FROM claims WHERE epoch = ? AND sequence = ?", sale)
            undone.note(db, fact.device, sale, key)
        case Refund():
            undone.note(db, fact.sale_device, (fact.sale_epoch, fact.sale), key)
        case _:
            pass


def _end_hold(db: sqlite3.Connection, hold: Key) -> None:
    db.execute("DELETE FROM holds WHERE epoch = ? AND sequence = ?", hold)


def leave_open(db: sqlite3.Connection, epoch: str, kept: int) -> None:
    """Of an epoch that closes: what stands above `kept` is still spent, though the city's count
    of that epoch may go past these numbers."""
    for table in ("tail", "tail_items"):
        db.execute(
            f"UPDATE {table} SET sequence = sequence + ?1"
            " WHERE epoch = ?2 AND sequence > ?3 AND sequence < ?1",
            (TAIL_OPEN, epoch, kept),
        )


def move(db: sqlite3.Connection, fact: Fact | None, *, source: Key, target: Key) -> bool:
    """The same spend under another key; False when nothing of it stood under the old one."""
    effects = effects_of(fact)
    if effects is None:
        return True
    moved = 0
    for table in ("tail", "tail_items"):
        moved += db.execute(
            f"UPDATE {table} SET epoch = ?4, sequence = ?5 WHERE account_id = ?3 AND {_AT}",
            (*source, effects.account, *target),
        ).rowcount
    moved += db.execute(
        f"UPDATE claims SET epoch = ?4, sequence = ?5 WHERE cardholder_id = ?3 AND {_AT}",
        (*source, effects.cardholder, *target),
    ).rowcount
    return moved > 0


def drop(db: sqlite3.Connection, fact: Fact | None, epoch: str, sequence: int) -> None:
    """The fact goes, and what of the tail is its own."""
    undone.drop(db, (epoch, sequence))
    effects = effects_of(decode_known(fact.body) if isinstance(fact, Restates) else fact)
    if effects is None:
        return
    for table in ("tail", "tail_items"):
        db.execute(
            f"DELETE FROM {table} WHERE account_id = ? AND epoch = ? AND sequence = ?",
            (effects.account, epoch, sequence),
        )
    db.execute(
        "DELETE FROM claims WHERE cardholder_id = ? AND epoch = ? AND sequence = ?",
        (effects.cardholder, epoch, sequence),
    )


# -------------------------------------------------------------------------------- asked about


def own_tail(journal: sqlite3.Connection, device: str, account_id: str) -> tuple[Spend, ...]:
    rows = journal.execute(
        "SELECT epoch, sequence, purse, amount_minor, business_date, hold_ended FROM tail"
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
            hold_ended=bool(hold_ended),
        )
        for epoch, sequence, purse, amount_minor, business_date, hold_ended in rows
    )


def own_pieces(journal: sqlite3.Connection, device: str, account_id: str) -> tuple[Pieces, ...]:
    rows = journal.execute(
        "SELECT epoch, sequence, category, pieces, business_date FROM tail_items"
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
        for epoch, sequence, category, pieces, business_date in rows
    )


def own_claims(journal: sqlite3.Connection, cardholder_id: str) -> frozenset[str]:
    rows = journal.execute("SELECT claim FROM claims WHERE cardholder_id = ?", (cardholder_id,))
    return frozenset(claim for (claim,) in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenHold:
    epoch: str
    sequence: int
    account_id: str


def open_holds(journal: sqlite3.Connection) -> list[OpenHold]:
    rows = journal.execute(
        "SELECT DISTINCT epoch, sequence, account_id FROM holds ORDER BY epoch, sequence"
    )
    return [OpenHold(epoch=e, sequence=s, account_id=a) for e, s, a in rows]


def shift_sales(journal: sqlite3.Connection, *, unlit: bool = False) -> list[Key]:
    """Sales of this shift that stand; with `unlit` those whose light nobody saw."""
    rows = journal.execute(
        "SELECT epoch, sequence FROM shift_sales WHERE voided = 0 AND (lit = 0 OR ?)"
        " ORDER BY epoch, sequence",
        (int(not unlit),),
    )
    return [(epoch, sequence) for epoch, sequence in rows]


def is_voidable(journal: sqlite3.Connection, epoch: str, sequence: int) -> bool:
    row = journal.execute(
        "SELECT voided FROM shift_sales WHERE epoch = ? AND sequence = ?", (epoch, sequence)
    ).fetchone()
    return row is not None and not row[0]


def set_lit(db: sqlite3.Connection) -> None:
    """Whatever was sold so far was shown green."""
    db.execute("UPDATE shift_sales SET lit = 1 WHERE lit = 0")


def told_base(db: sqlite3.Connection, mark: str) -> None:
    """With a `BaseSeen`: of which rows it tells."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (BASE_SEEN, mark))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What happened since the last close-out."""

    number: int  # Of the close-out that will end it.
    ranges: tuple[tuple[str, int, int], ...]  # Epoch, first, last; oldest first.


def shift(journal: sqlite3.Connection) -> Shift:
    """Facts since the last close-out, in every epoch that has any."""
    number, closed = _closed(journal)
    rows = journal.execute(
        "SELECT epoch, held_from, head FROM lives WHERE stream = 'main' ORDER BY life"
    ).fetchall()
    ranges = ((e, max(held_from, closed.get(e, 0) + 1), head) for e, held_from, head in rows)
    return Shift(
        number=number + 1,
        ranges=tuple((epoch, first, last) for epoch, first, last in ranges if first <= last),
    )


def closed_up_to(journal: sqlite3.Connection, epoch: str) -> int | None:
    """Up to which fact of an epoch the day was counted; None: this till never counts one."""
    number, closed = _closed(journal)
    return closed.get(epoch, 0) if number else None


def _closed(journal: sqlite3.Connection) -> tuple[int, dict[str, int]]:
    """The last close-out's number, and up to where each epoch was ever closed out."""
    row = journal.execute("SELECT value FROM meta WHERE key = ?", (CLOSED,)).fetchone()
    if row is None:
        return 0, {}
    note = json.loads(row[0])
    return int(note["number"]), dict(note["closed"])


def facts_between(
    journal: sqlite3.Connection, ranges: Iterable[tuple[str, int, int]]
) -> Iterator[Fact]:
    """Facts of these ranges in order, as far as they are held and known."""
    for epoch, first, last in ranges:
        rows = journal.execute(
            "SELECT body FROM facts JOIN lives USING (life) WHERE stream = 'main' AND epoch = ?"
            " AND sequence BETWEEN ? AND ? ORDER BY sequence",
            (epoch, first, last),
        )
        for (body,) in rows:
            fact = decode_known(body)
            if fact is not None:
                yield fact


def fact_at(journal: sqlite3.Connection, epoch: str, sequence: int) -> Fact | None:
    """A fact of this journal; None when it is not held or not known."""
    row = journal.execute(
        "SELECT body FROM facts JOIN lives USING (life) WHERE stream = 'main' AND epoch = ?"
        " AND sequence = ?",
        (epoch, sequence),
    ).fetchone()
    return None if row is None else decode_known(row[0])


def decode_known(body: bytes) -> Fact | None:
    """A stored fact; None for a kind that this version does not know (a newer one wrote it)."""
    try:
        return decode_fact(body)
    except CorruptData:
        return None
