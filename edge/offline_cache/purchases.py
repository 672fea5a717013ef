"""What a purchase rests on, beside the person: tail, peers and claims; then the money picture.

Read in this order (journal, `sync.db`, picture), and all of `sync.db` in one transaction: a report
that counts as cover is never read without the facts it speaks of.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from edge.messages import (
    ROW_NUMBERS,
    AccountRow,
    EntitlementRow,
    GroupRow,
    MealUsedRow,
    PreorderRow,
    ProductRow,
    RosterRow,
    RowKind,
    Stream,
)
from edge.model import (
    Account,
    Cardholder,
    CorruptData,
    Entitlement,
    Moment,
    PeerTill,
    Pieces,
    Preorder,
    Product,
    Spend,
    Station,
    meal_claim,
    preorder_claim,
)
from edge.offline_cache import till_books
from edge.offline_cache.live_tills import live_tills
from edge.offline_cache.peer_books import peers_claims, peers_pieces, peers_tail
from edge.offline_cache.peers import Known, PeerState, is_complete, known, peer_states
from edge.offline_cache.picture import PictureMeta
from edge.offline_cache.store import reading

ACCOUNT: Final = ROW_NUMBERS[RowKind.ACCOUNT]
GROUP: Final = ROW_NUMBERS[RowKind.GROUP]
ENTITLEMENT: Final = ROW_NUMBERS[RowKind.ENTITLEMENT]
MEAL_USED: Final = ROW_NUMBERS[RowKind.MEAL_USED]
PREORDER: Final = ROW_NUMBERS[RowKind.PREORDER]
NO_PEERS: Final = Known(store="", up_to={})
Vector = Mapping[tuple[str, str, str], int]

_ROW: Final = "SELECT body FROM rows WHERE kind = ? AND key = ?"
_ROWS_OF: Final = "SELECT key, body FROM rows WHERE kind = ? AND key > ? AND key < ?"
_ACCOUNT_ROW: Final = msgspec.msgpack.Decoder(AccountRow)
_ENTITLEMENT_ROW: Final = msgspec.msgpack.Decoder(EntitlementRow)
_PREORDER_ROW: Final = msgspec.msgpack.Decoder(PreorderRow)
_GROUP_ROW: Final = msgspec.msgpack.Decoder(GroupRow)
_MEAL_USED_ROW: Final = msgspec.msgpack.Decoder(MealUsedRow)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Above:
    """What stands above the base, of one account and its cardholder."""

    tail: tuple[Spend, ...] = ()
    pieces: tuple[Pieces, ...] = ()
    claims: frozenset[str] = frozenset()
    states: Mapping[str, PeerState]
    known: Known
    live: frozenset[str] = frozenset()  # Tills that the city named live.
    # Of this till's journal: after the first, it may have forgotten what it reported.
    epochs: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What the money picture says of one account and its cardholder."""

    account: Account | None
    entitlements: tuple[Entitlement, ...]
    preorders: tuple[Preorder, ...]
    claims: frozenset[str]


def read_above(
    journal: sqlite3.Connection,
    sync: sqlite3.Connection | None,
    device: str,
    person: Cardholder,
    moment: Moment,
) -> Above:
    """First the journal, in the caller's transaction; then `sync.db`, in one of its own."""
    account_id, cardholder_id = person.account_id or "", person.cardholder_id
    tail = till_books.own_tail(journal, device, account_id)
    pieces = till_books.own_pieces(journal, device, account_id)
    claims = till_books.own_claims(journal, cardholder_id)
    rows = journal.execute("SELECT epoch FROM lives WHERE stream = ?", (Stream.MAIN.value,))
    epochs = frozenset(epoch for (epoch,) in rows)
    states: Mapping[str, PeerState] = {}
    told, live = NO_PEERS, frozenset[str]()
    if sync is not None:
        with reading(sync):
            tail += peers_tail(sync, account_id)
            pieces += peers_pieces(sync, account_id)
            claims |= peers_claims(sync, cardholder_id)
            states, told = peer_states(sync, moment), known(sync)
            live = live_tills(sync, moment)
    return Above(
        tail=tail,
        pieces=pieces,
        claims=claims,
        states=states,
        known=told,
        live=live,
        epochs=epochs,
    )


def read_base(
    db: sqlite3.Connection, people: sqlite3.Connection | None, person: Cardholder
) -> Base:
    """Inside a reading of the money picture. `people` is that list, for the class's own till."""
    prefix = person.cardholder_id.encode() + b"\0"
    until = prefix[:-1] + b"\1"
    account = None
    if person.account_id is not None:
        row = db.execute(_ROW, (ACCOUNT, person.account_id.encode())).fetchone()
        if row is not None:
            account = _account(person.account_id, decoded(_ACCOUNT_ROW, row[0]))
    entitlements = [
        _entitlement(key_text(key[len(prefix) :]), decoded(_ENTITLEMENT_ROW, body))
        for key, body in db.execute(_ROWS_OF, (ENTITLEMENT, prefix, until))
    ]
    if people is not None and any(not one.owner_till for one in entitlements):
        entitlements = _owned(people, person, entitlements)
    claims, preorders = set(), []
    for key, body in db.execute(_ROWS_OF, (MEAL_USED, prefix, until)):
        words = key_text(key[len(prefix) :]).split("\0")
        decoded(_MEAL_USED_ROW, body)
        if len(words) != 3:
            raise CorruptData("a used meal whose key is none")
        claims.add(meal_claim(*words))
    for key, body in db.execute(_ROWS_OF, (PREORDER, prefix, until)):
        name, order = key_text(key[len(prefix) :]), decoded(_PREORDER_ROW, body)
        if order.collected:
            claims.add(preorder_claim(name))
        preorders.append(
            Preorder(
                preorder_id=name,
                business_date=order.business_date,
                slot=order.slot,
                lines=order.lines,
                charged=order.charged,
            )
        )
    return Base(
        account=account,
        entitlements=tuple(entitlements),
        preorders=tuple(preorders),
        claims=frozenset(claims),
    )


def _owned(
    people: sqlite3.Connection, person: Cardholder, entitlements: list[Entitlement]
) -> list[Entitlement]:
    row = people.execute(_ROW, (GROUP, person.group.encode())).fetchone()
    owner = "" if row is None else decoded(_GROUP_ROW, row[0]).owner_till
    return [
        Entitlement(
            entitlement_id=one.entitlement_id,
            slots=one.slots,
            categories=one.categories,
            first_date=one.first_date,
            last_date=one.last_date,
            weekdays=one.weekdays,
            except_dates=one.except_dates,
            owner_till=one.owner_till or owner,
        )
        for one in entitlements
    ]


def due_preorders(
    db: sqlite3.Connection, business_date: str, slot: str
) -> list[tuple[str, str, PreorderRow]]:
    """Every (cardholder, pre-order) of a date and slot that the base does not call collected."""
    found = []
    for key, body in db.execute("SELECT key, body FROM rows WHERE kind = ?", (PREORDER,)):
        order = decoded(_PREORDER_ROW, body)
        if (order.business_date, order.slot, order.collected) == (business_date, slot, False):
            cardholder, _, name = key_text(key).partition("\0")
            found.append((cardholder, name, order))
    return found


def peer_tills(
    roster: Mapping[str, RosterRow], device: str, above: Above, vector: Vector
) -> tuple[PeerTill, ...]:
    """The other tills of the roster.

    One that was never heard may have done anything. To a till in its first life that is no hole:
    it never told anybody that it held something. After a new store or epoch it may have, and
    forgotten it; so it waits for a report of each. An old till's new disk has one epoch only, but
    the city names another.
    """
    named = {e for d, stream, e in vector if (d, stream) == (device, Stream.MAIN)}
    reborn = len(above.epochs | named) > 1
    tills = []
    for name, row in sorted(roster.items()):
        if name == device or row.station is not Station.TILL:
            continue
        state = above.states.get(name)
        tills.append(
            PeerTill(
                device=name,
                heard=name in above.live or (state is not None and state.heard),
                complete=not reborn if state is None else is_complete(state, above.known, vector),
                covers={} if state is None else state.covers,
            )
        )
    return tuple(tills)


def vector_of(meta: PictureMeta) -> dict[tuple[str, str, str], int]:
    return {(e.device, e.stream, e.epoch): e.sequence for e in meta.vector}


def to_product(product_id: str, row: ProductRow) -> Product:
    return Product(
        product_id=product_id,
        name=row.name,
        category=row.category,
        price_minor=row.price_minor,
        allergens=frozenset(row.allergens),
        allergens_checked=row.allergens_checked,
        purse=row.purse,
        weighed=row.unit == "kg",
        barcode=row.barcode,
    )


def _account(account_id: str, row: AccountRow) -> Account:
    return Account(
        account_id=account_id,
        suspended=row.suspended,
        balance_minor_by_purse=row.balance_minor_by_purse,
        day_limit_minor=row.day_limit_minor,
        week_limit_minor=row.week_limit_minor,
        spent_day_minor=row.spent_day_minor,
        spent_week_minor=row.spent_week_minor,
        spent_date=row.spent_date,
        banned_products=frozenset(row.banned_products),
        banned_categories=frozenset(row.banned_categories),
        item_limits=row.item_limits,
        items_day=row.items_day,
    )


def _entitlement(name: str, row: EntitlementRow) -> Entitlement:
    return Entitlement(
        entitlement_id=name,
        slots=row.slots,
        categories=row.categories,
        first_date=row.first_date,
        last_date=row.last_date,
        weekdays=row.weekdays,
        except_dates=row.except_dates,
        owner_till=row.owner_till,
    )


def decoded(decoder: msgspec.msgpack.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"a row that does not decode: {error}") from error


def key_text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise CorruptData(f"a row's key that is no text: {error}") from error


def groups(people: sqlite3.Connection) -> Iterable[tuple[str, GroupRow]]:
    """Every class or group, by id."""
    for key, body in people.execute("SELECT key, body FROM rows WHERE kind = ?", (GROUP,)):
        yield key_text(key), decoded(_GROUP_ROW, body)
