"""Credential id -> what the decision needs: base plus tail.

Read order is journal, then `sync.db`, then picture: whatever leaves one because it entered the
next cannot be missed. Pointers are read anew at every lookup, so a list that came in force a
moment ago decides this tap. Connections here are read-only but for the journal's, which is
edge's own. Small scopes (settings, menu) are kept in memory and read again when they change.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

from edge.messages import (
    ROW_NUMBERS,
    AccountRow,
    CardholderRow,
    CredentialRow,
    ProductRow,
    ProfileRow,
    RowKind,
    ScheduleRow,
    ScopeKey,
    SiteRow,
    Stream,
    VersionMark,
    from_b64u,
)
from edge.model import (
    MINUTES_PER_WEEK,
    Account,
    CacheView,
    Cardholder,
    CorruptData,
    Credential,
    DeviceFault,
    Direction,
    ListState,
    Moment,
    Product,
    PurchaseView,
    Spend,
    Version,
)
from edge.offline_cache.apply import (
    InForce,
    PictureMeta,
    held_scope_keys,
    in_force,
    newer,
    picture_meta,
    picture_path,
)
from edge.offline_cache.marks import StoreView, TimeAnchor, store_view, time_anchor
from edge.offline_cache.peers import Known, PeerState, known, peer_states, peers_tail
from edge.offline_cache.standing import log_level
from edge.offline_cache.store import FileKind, file_id, open_reader, reading, telling

CREDENTIAL: Final = ROW_NUMBERS[RowKind.CREDENTIAL]
CARDHOLDER: Final = ROW_NUMBERS[RowKind.CARDHOLDER]
HOT: Final = ROW_NUMBERS[RowKind.HOT]
ACCOUNT: Final = ROW_NUMBERS[RowKind.ACCOUNT]
PRODUCT: Final = ROW_NUMBERS[RowKind.PRODUCT]
SITE: Final = ROW_NUMBERS[RowKind.SITE]
SCHEDULE: Final = ROW_NUMBERS[RowKind.SCHEDULE]
PROFILE: Final = ROW_NUMBERS[RowKind.PROFILE]

# A right whose schedule is not known is a right outside its hours: such a person goes to the
# officer and not back to the street.
UNKNOWN_SCHEDULE: Final = (range(0),)

_ROW: Final = "SELECT body FROM rows WHERE kind = ? AND key = ?"
_CREDENTIAL_ROW: Final = msgspec.msgpack.Decoder(CredentialRow)
_CARDHOLDER_ROW: Final = msgspec.msgpack.Decoder(CardholderRow)
_ACCOUNT_ROW: Final = msgspec.msgpack.Decoder(AccountRow)
_SITE_ROW: Final = msgspec.msgpack.Decoder(SiteRow)
_SCHEDULE_ROW: Final = msgspec.msgpack.Decoder(ScheduleRow)
_PRODUCT_ROW: Final = msgspec.msgpack.Decoder(ProductRow)
_PROFILE_ROW: Final = msgspec.msgpack.Decoder(ProfileRow)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallLists:
    """The scopes that fit in memory, at the versions they were read at."""

    site: SiteRow | None
    schedules: Mapping[str, tuple[range, ...]]
    products: Mapping[str, Product]
    menu: VersionMark | None
    profiles: Mapping[str, ProfileRow] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    pointer: InForce
    db: sqlite3.Connection


class Cache:
    """edge's reading side of everything the city sent."""

    def __init__(
        self, folder: Path, *, device: str, site: str, journal: sqlite3.Connection
    ) -> None:
        self.folder = folder
        self.device = device
        self.scopes = {name: f"{site}/{name}" for name in ("people", "money", "menu", "settings")}
        self.small = SmallLists(
            site=None, schedules=MappingProxyType({}), products=MappingProxyType({}), menu=None
        )
        self._journal = journal
        self._sync: sqlite3.Connection | None = None
        self._sync_id: tuple[int, int] | None = None
        self._open: dict[str, _Open] = {}
        self._small_at: dict[str, tuple[int, VersionMark] | None] = {}

    # -------------------------------------------------------------- what sync has for us

    @telling()
    def refresh(self) -> None:
        """Look for a new picture of a small scope; called when rung and every second."""
        sync_id = file_id(self.folder / "sync.db")
        if self._sync is not None and sync_id is not None and sync_id != self._sync_id:
            self._sync.close()
            self._sync = None  # Set aside; another took its name.
        for name in ("people", "money"):
            # Open before it is needed: opening takes room, which a full disk has not. What is
            # wrong with it the tap will say.
            with suppress(CorruptData, DeviceFault):
                self._picture(self.scopes[name])
        problem: CorruptData | None = None
        for name in ("settings", "menu"):
            try:
                opened = self._picture(self.scopes[name])
                at = None if opened is None else (opened.pointer.generation, opened.pointer.floor)
                if at != self._small_at.get(name):
                    self._read_small(name, opened)
                    self._small_at[name] = at
            except CorruptData as found:
                problem = found  # It keeps no other list from being read.
        if problem is not None:
            raise problem

    @telling()
    def sealed_keys(self) -> list[ScopeKey]:
        db = self._sync_db()
        return [] if db is None else held_scope_keys(db)

    @telling()
    def anchor(self) -> TimeAnchor | None:
        """The newest time the city signed, or None while it has not."""
        db = self._sync_db()
        return None if db is None else time_anchor(db)

    def log_level(self) -> str:
        """What the city set for this device; "" for what device.toml says."""
        db = self._sync_db()
        return "" if db is None else log_level(db)

    @telling()
    def acknowledged(self, stream: str, epoch: str) -> int:
        """Up to which sequence the city has committed a stream."""
        db = self._sync_db()
        row = (
            None
            if db is None
            else db.execute(
                "SELECT up_to FROM acks WHERE stream = ? AND epoch = ?", (stream, epoch)
            ).fetchone()
        )
        return 0 if row is None else int(row[0])

    @telling()
    def store_view(self) -> StoreView | None:
        """What sync knows of our `main`, and whose store it is; None while there is no store."""
        db = self._sync_db()
        if db is None:
            return None
        with reading(db):
            return store_view(db, Stream.MAIN)

    @telling()
    def included(self) -> dict[str, int]:
        """Epoch of this device -> up to which fact the money picture in force includes it."""
        opened = self._picture(self.scopes["money"])
        if opened is None:
            return {}
        vector = picture_meta(opened.db).vector
        return {
            e.epoch: e.sequence for e in vector if (e.device, e.stream) == (self.device, "main")
        }

    @telling()
    def waiting_orders(self, after_counter: int) -> list[tuple[int, bytes]]:
        """Orders that sync verified and edge has not answered: (counter, signed payload)."""
        db = self._sync_db()
        if db is None:
            return []
        rows = db.execute(
            "SELECT counter, payload FROM orders WHERE counter > ? ORDER BY counter",
            (after_counter,),
        )
        return rows.fetchall()

    @telling()
    def identifier_version(self, scope: str) -> int:
        """Which version of the scope's identifier key its picture was made with; 0: no picture."""
        opened = self._picture(scope)
        return 0 if opened is None else picture_meta(opened.db).identifier_key_version

    @telling()
    def list_states(self, moment: Moment) -> dict[str, ListState]:
        """Every scope in force, with its age, for status and health."""
        states = {}
        for scope in self.scopes.values():
            opened = self._picture(scope)
            if opened is not None:
                meta = picture_meta(opened.db)
                states[scope] = _list_state(opened.pointer, meta, moment)
        return states

    @telling()
    def peers_known(self) -> Known | None:
        """How far other tills' facts are known: every lookup from here on rests on them."""
        db = self._sync_db()
        return None if db is None else known(db)

    @telling()
    def peer_states(self, moment: Moment) -> dict[str, PeerState]:
        """Who of the school's devices is heard, and what they reported."""
        db = self._sync_db()
        return {} if db is None else peer_states(db, moment)

    # ------------------------------------------------------------------------ one tap

    @telling()
    def access_view(self, credential_id: str, zone_id: str, moment: Moment) -> CacheView:
        """What an access decision needs, all of it from one version of the list."""
        last: tuple[Direction | None, int | None] = (None, None)
        opened = self._picture(self.scopes["people"])
        if opened is None:
            return CacheView(
                people=None, hot_listed=False, credential=None, cardholder=None, last_direction=None
            )
        with reading(opened.db) as db:
            people = _list_state(opened.pointer, picture_meta(db), moment)
            hot_listed, credential, cardholder = self._person(db, credential_id)
        if cardholder is not None:
            # A side changes only here, by our own passages, so it may be read after the person.
            last = self._side(cardholder.cardholder_id, zone_id, moment)
        return CacheView(
            people=people,
            hot_listed=hot_listed,
            credential=credential,
            cardholder=cardholder,
            last_direction=last[0],
            last_passage_age_s=last[1],
        )

    @telling()
    def purchase_view(self, credential_id: str, moment: Moment) -> PurchaseView:
        """Base plus tail for one credential. The tail is read first: see the module's text."""
        with reading(self._journal) as journal:
            people_view = self._people_only(credential_id, moment)
            cardholder = people_view.cardholder
            account_id = None if cardholder is None else cardholder.account_id
            tail = () if account_id is None else _own_tail(journal, self.device, account_id)
            sync = self._sync_db()
            if sync is not None and account_id is not None:
                tail += peers_tail(sync, account_id)
            opened = self._picture(self.scopes["money"])
        if opened is None:
            return people_view
        account: Account | None = None
        with reading(opened.db) as db:
            meta = picture_meta(db)
            if account_id is not None:
                row = db.execute(_ROW, (ACCOUNT, account_id.encode())).fetchone()
                if row is not None:
                    account = _to_account(account_id, _decode(_ACCOUNT_ROW, row[0]))
        return replace(
            people_view,
            money=_list_state(opened.pointer, meta, moment),
            account=account,
            tail=tail,
            vector={(e.device, e.stream, e.epoch): e.sequence for e in meta.vector},
        )

    def close(self) -> None:
        for opened in self._open.values():
            opened.db.close()
        self._open.clear()
        if self._sync is not None:
            self._sync.close()
            self._sync = None

    # ----------------------------------------------------------------------- helpers

    def _people_only(self, credential_id: str, moment: Moment) -> PurchaseView:
        opened = self._picture(self.scopes["people"])
        people: ListState | None = None
        person: tuple[bool, Credential | None, Cardholder | None] = (False, None, None)
        if opened is not None:
            with reading(opened.db) as db:
                people = _list_state(opened.pointer, picture_meta(db), moment)
                person = self._person(db, credential_id)
        return PurchaseView(
            people=people,
            money=None,
            hot_listed=person[0],
            credential=person[1],
            cardholder=person[2],
            account=None,
            tail=(),
        )

    def _person(
        self, db: sqlite3.Connection, credential_id: str
    ) -> tuple[bool, Credential | None, Cardholder | None]:
        key = from_b64u(credential_id)
        hot_listed = db.execute(_ROW, (HOT, key)).fetchone() is not None
        row = db.execute(_ROW, (CREDENTIAL, key)).fetchone()
        if row is None:
            return hot_listed, None, None
        found = _decode(_CREDENTIAL_ROW, row[0])
        credential = Credential(
            credential_id=credential_id,
            cardholder_id=found.cardholder_id,
            tier=found.tier,
            valid_from_utc_s=found.valid_from_utc_s,
            valid_until_utc_s=found.valid_until_utc_s,
        )
        row = db.execute(_ROW, (CARDHOLDER, found.cardholder_id.encode())).fetchone()
        if row is None:
            return hot_listed, None, None  # A credential of nobody lets nobody in.
        return (
            hot_listed,
            credential,
            self._to_cardholder(found.cardholder_id, _decode(_CARDHOLDER_ROW, row[0])),
        )

    def _to_cardholder(self, cardholder_id: str, row: CardholderRow) -> Cardholder:
        schedules = self.small.schedules
        return Cardholder(
            cardholder_id=cardholder_id,
            category=row.category,
            account_id=row.account_id,
            suspended=row.suspended,
            here=row.here,
            windows_by_zone={
                zone: schedules.get(schedule, UNKNOWN_SCHEDULE)
                for zone, schedule in row.rights.items()
            },
            allergens=frozenset(row.allergens),
            ward_ids=frozenset(row.ward_ids),
            sealed_name=row.sealed_name,
            sealed_group=row.sealed_group,
            photo_hash=row.photo_hash,
        )

    def _side(
        self, cardholder_id: str, zone_id: str, moment: Moment
    ) -> tuple[Direction | None, int | None]:
        row = self._journal.execute(
            "SELECT direction, wall_ms, local_date FROM sides"
            " WHERE cardholder_id = ? AND zone_id = ?",
            (cardholder_id, zone_id),
        ).fetchone()
        if row is None or row[2] != moment.local_date:
            return None, None  # lane.md: sides are forgotten at local midnight.
        return Direction(row[0]), max(0, (moment.wall_ms - row[1]) // 1000)

    def _sync_db(self) -> sqlite3.Connection | None:
        if self._sync is None:
            self._sync_id = file_id(self.folder / "sync.db")
            self._sync = open_reader(self.folder / "sync.db", FileKind.SYNC)
        return self._sync

    def _picture(self, scope: str) -> _Open | None:
        """The picture in force now; reopened when its pointer has moved."""
        sync = self._sync_db()
        pointer = None if sync is None else in_force(sync, scope)
        opened = self._open.get(scope)
        if pointer is None:
            return None
        if opened is not None and opened.pointer.generation == pointer.generation:
            opened.pointer = pointer
            return opened
        path = picture_path(self.folder, scope, pointer.generation)
        db = open_reader(path, FileKind.PICTURE)
        if db is None:
            raise CorruptData(f"{path}: in force, but not there; sync will fetch it again")
        if opened is not None:
            opened.db.close()
        self._open[scope] = _Open(pointer, db)
        return self._open[scope]

    def _read_small(self, name: str, opened: _Open | None) -> None:
        if opened is None:
            return
        with reading(opened.db) as db:
            meta = picture_meta(db)
            if name == "settings":
                site = db.execute(_ROW, (SITE, b"site")).fetchone()
                self.small = replace(
                    self.small,
                    site=None if site is None else _decode(_SITE_ROW, site[0]),
                    schedules={
                        _text(key): _windows(_decode(_SCHEDULE_ROW, body))
                        for key, body in _rows(db, SCHEDULE)
                    },
                    profiles={
                        _text(key): _decode(_PROFILE_ROW, body) for key, body in _rows(db, PROFILE)
                    },
                )
            else:
                self.small = replace(
                    self.small,
                    products={
                        _text(key): _to_product(_text(key), _decode(_PRODUCT_ROW, body))
                        for key, body in _rows(db, PRODUCT)
                    },
                    menu=meta.version,
                )


def _own_tail(journal: sqlite3.Connection, device: str, account_id: str) -> tuple[Spend, ...]:
    rows = journal.execute(
        "SELECT epoch, sequence, purse, amount_minor, business_date FROM tail WHERE account_id = ?",
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
        )
        for epoch, sequence, purse, amount_minor, business_date in rows
    )


def _list_state(pointer: InForce, meta: PictureMeta, moment: Moment) -> ListState:
    """Version and age. With a trusted clock the age counts from the head's `issued`, else from
    reception on the monotonic clock; across a reboot without trusted time it cannot be told."""
    age_s: int | None = None
    if newer(pointer.floor, meta.version):
        pass  # Below what was in force before: an old list until it has caught up.
    elif moment.clock_trusted:
        age_s = max(0, (moment.wall_ms - pointer.issued_utc_ms) // 1000)
    elif pointer.received_boot == moment.boot:
        age_s = max(0, (moment.mono_ms - pointer.received_mono_ms) // 1000)
    version = Version(list_epoch=meta.version.list_epoch, number=meta.version.number)
    return ListState(version=version, age_s=age_s, issued_utc_ms=pointer.issued_utc_ms)


def _rows(db: sqlite3.Connection, kind: int) -> list[tuple[bytes, bytes]]:
    return db.execute("SELECT key, body FROM rows WHERE kind = ?", (kind,)).fetchall()


def _decode(decoder: msgspec.msgpack.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"a row that does not decode: {error}") from error


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise CorruptData(f"a row's key that is no text: {error}") from error


def _windows(row: ScheduleRow) -> tuple[range, ...]:
    return tuple(range(max(0, a), min(b, MINUTES_PER_WEEK)) for a, b in row.windows)


def _to_product(product_id: str, row: ProductRow) -> Product:
    return Product(
        product_id=product_id,
        name=row.name,
        category=row.category,
        price_minor=row.price_minor,
        allergens=frozenset(row.allergens),
        allergens_checked=row.allergens_checked,
        purse=row.purse,
    )


def _to_account(account_id: str, row: AccountRow) -> Account:
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
    )
