"""Credential id -> what the decision needs: base plus tail.

Read order is journal, then `sync.db`, then picture: whatever leaves one because it entered the
next cannot be missed. Pointers are read anew at every lookup, so a list that came in force a
moment ago decides this tap. Connections here are read-only but for the journal's, which is
edge's own. Small scopes (settings, menu) are kept in memory and read again when they change.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from edge.area import Side, inside, latest
from edge.messages import (
    Fact,
    ScopeKey,
    Stream,
    VersionMark,
)
from edge.model import (
    AdmissionView,
    CacheView,
    Cardholder,
    CorruptData,
    Credential,
    DeviceFault,
    ListState,
    Moment,
    PurchaseView,
    Station,
)
from edge.offline_cache import sides
from edge.offline_cache.apply import (
    held_scope_keys,
    picture_meta,
)
from edge.offline_cache.list_rows import admission_category, cardholder, members, person
from edge.offline_cache.live_tills import live_tills
from edge.offline_cache.marks import StoreView, TimeAnchor, store_view, time_anchor
from edge.offline_cache.opened import MUSEUM, Open, Opened, list_state, noting
from edge.offline_cache.peer_books import fact_of_peer
from edge.offline_cache.peers import Known, PeerState, known, peer_states
from edge.offline_cache.purchases import (
    peer_tills,
    read_above,
    read_base,
    vector_of,
)
from edge.offline_cache.sides import LANE_STATIONS, unknown_lanes
from edge.offline_cache.small_lists import SmallLists, with_menu, with_settings
from edge.offline_cache.standing import log_level
from edge.offline_cache.store import file_id, reading, telling
from edge.offline_cache.undone import told_by_peers


class Cache(Opened):
    """edge's reading side of everything the city sent."""

    def __init__(
        self, folder: Path, *, device: str, site: str, journal: sqlite3.Connection
    ) -> None:
        super().__init__(folder, site=site)
        self.device = device
        self.small = SmallLists(
            site=None, schedules=MappingProxyType({}), products=MappingProxyType({}), menu=None
        )
        self._journal = journal
        self._small_at: dict[str, tuple[int, VersionMark] | None] = {}

    # -------------------------------------------------------------- what sync has for us

    @noting
    def refresh(self) -> None:
        """Look for a new picture of a small scope; called when rung and every second."""
        sync_id = file_id(self.folder / "sync.db")
        if self._sync is not None and sync_id is not None and sync_id != self._sync_id:
            self._sync.close()
            self._sync = None  # Set aside; another took its name.
        for name in ("people", "money", MUSEUM):
            # Open before it is needed: opening takes room, which a full disk has not. What is
            # wrong with it the tap will say.
            try:
                with telling():
                    self._picture(self.scopes[name])
            except (CorruptData, DeviceFault):
                self._suspect()
        problem: CorruptData | None = None
        for name in ("settings", "menu"):
            try:
                opened = self._picture(self.scopes[name])
                at = None if opened is None else (opened.pointer.generation, opened.pointer.floor)
                if at != self._small_at.get(name):
                    self._read_small(name, opened)
                    self._small_at[name] = at
            except CorruptData as found:
                self._suspect()
                problem = found  # It keeps no other list from being read.
        if problem is not None:
            raise problem

    @noting
    def sealed_keys(self) -> list[ScopeKey]:
        db = self._sync_db()
        return [] if db is None else held_scope_keys(db)

    @noting
    def anchor(self) -> TimeAnchor | None:
        """The newest time the city signed, or None while it has not."""
        db = self._sync_db()
        return None if db is None else time_anchor(db)

    def log_level(self) -> str:
        """What the city set for this device; "" for what device.toml says."""
        db = self._sync_db()
        return "" if db is None else log_level(db)

    @noting
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

    @noting
    def store_view(self) -> StoreView | None:
        """What sync knows of our `main`, and whose store it is; None while there is no store."""
        db = self._sync_db()
        if db is None:
            return None
        with reading(db):
            return store_view(db, Stream.MAIN)

    @noting
    def included(self) -> dict[str, int]:
        """Epoch of this device -> up to which fact the money picture in force includes it."""
        opened = self._picture(self.scopes["money"])
        if opened is None:
            return {}
        vector = picture_meta(opened.db).vector
        return {
            e.epoch: e.sequence for e in vector if (e.device, e.stream) == (self.device, "main")
        }

    @noting
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

    @noting
    def identifier_version(self, scope: str) -> int:
        """Which version of the scope's identifier key its picture was made with; 0: no picture."""
        opened = self._picture(scope)
        return 0 if opened is None else picture_meta(opened.db).identifier_key_version

    @noting
    def list_states(self, moment: Moment) -> dict[str, ListState]:
        """Every scope in force, with its age, for status and health."""
        states = {}
        for scope in self.scopes.values():
            opened = self._picture(scope)
            if opened is not None:
                meta = picture_meta(opened.db)
                states[scope] = list_state(opened.pointer, meta, moment)
        return states

    @noting
    def peers_known(self) -> Known | None:
        """How far other tills' facts are known: every lookup from here on rests on them."""
        db = self._sync_db()
        return None if db is None else known(db)

    @noting
    def peer_states(self, moment: Moment) -> dict[str, PeerState]:
        """Who of the school's devices is heard, and what they reported."""
        db = self._sync_db()
        return {} if db is None else peer_states(db, moment)

    # ------------------------------------------------------------------------ one tap

    @noting
    def access_view(self, credential_id: str, zone_id: str, moment: Moment) -> CacheView:
        """What an access decision needs, all of it from one version of the list."""
        opened = self._picture(self.scopes["people"])
        if opened is None:
            return CacheView(
                people=None, hot_listed=False, credential=None, cardholder=None, last_direction=None
            )
        with reading(opened.db) as db:
            people = list_state(opened.pointer, picture_meta(db), moment)
            hot_why, credential, cardholder = person(
                db, credential_id, self.small.windows_on(moment.local_date)
            )
        side: Side | None = None
        if cardholder is not None:
            # No list tells a side, so it may be read after the person.
            side = self._side(cardholder.cardholder_id, zone_id, moment)
        passed = side is not None and side.direction is not None
        return CacheView(
            people=people,
            hot_listed=hot_why is not None,
            hot_why=hot_why or "",
            credential=credential,
            cardholder=cardholder,
            last_direction=side.direction if side is not None else None,
            last_passage_age_s=max(0, (moment.wall_ms - side.wall_ms) // 1000)
            if side is not None and passed
            else None,
        )

    @noting
    def admission_view(self, credential_id: str, moment: Moment) -> AdmissionView:
        """What the list of all the city's visitors says of one card."""
        opened = self._picture(self.scopes[MUSEUM])
        if opened is None:
            return AdmissionView(visitors=None, category=None)
        with reading(opened.db) as db:
            state = list_state(opened.pointer, picture_meta(db), moment)
            category = admission_category(db, credential_id)
        return AdmissionView(visitors=state, category=category)

    @noting
    def person(self, cardholder_id: str, moment: Moment) -> Cardholder | None:
        """Somebody of the list of people by id; None for who is not on it."""
        return self.persons((cardholder_id,), moment).get(cardholder_id)

    @noting
    def persons(self, cardholder_ids: Iterable[str], moment: Moment) -> dict[str, Cardholder]:
        """Those of them who are on the list of people, all from one version of it."""
        opened = self._picture(self.scopes["people"])
        if opened is None:
            return {}
        windows = self.small.windows_on(moment.local_date)
        with reading(opened.db) as db:
            people = {one: cardholder(db, one, windows) for one in cardholder_ids}
        return {one: found for one, found in people.items() if found is not None}

    # ------------------------------------------------------------------- who is where

    @noting
    def inside(self, moment: Moment) -> dict[str, list[str]]:
        """Zone -> who is in it today, by own passages and what is known of the peers'."""
        return inside(sides.all_sides(self._journal, self._sync_db(), moment))

    @noting
    def present(self, moment: Moment, group: str = "") -> frozenset[str]:
        """Who is anywhere inside now: everybody, or the members of one group. At a pre-school the
        children among them follow from handovers."""
        present = frozenset(one for ids in self.inside(moment).values() for one in ids)
        if not group:
            return present
        opened = self._picture(self.scopes["people"])
        if opened is None:
            return frozenset()
        with reading(opened.db) as db:
            return present & members(db, group)

    @noting
    def alone(self, moment: Moment) -> bool:
        """Whether a lane of the school, other than this device, is not heard now, or says more
        than is known here: then nobody can tell who passed there."""
        others = {
            device
            for device, row in self.small.roster.items()
            if row.station in LANE_STATIONS and device != self.device
        }
        if not others:
            return False
        db = self._sync_db()
        return db is None or not moment.clock_trusted or bool(unknown_lanes(db, others, moment))

    @noting
    def purchase_view(
        self, credential_id: str, moment: Moment, *, cardholder_id: str = ""
    ) -> PurchaseView:
        """Base plus tail for one credential, or for a person who was pointed at by name. The tail
        is read first: see the module's text."""
        with reading(self._journal) as journal:
            view = self._people_only(credential_id, moment, cardholder_id)
            person = view.cardholder
            sync = self._sync_db()
            above = (
                None if person is None else read_above(journal, sync, self.device, person, moment)
            )
            opened = self._picture(self.scopes["money"])
        if opened is None:
            return view
        people = self._picture(self.scopes["people"])
        with reading(opened.db) as db:
            meta = picture_meta(db)
            base = (
                None
                if person is None
                else read_base(db, None if people is None else people.db, person)
            )
        money, vector = list_state(opened.pointer, meta, moment), vector_of(meta)
        if above is None or base is None:
            return replace(view, money=money, vector=vector)
        return replace(
            view,
            money=money,
            account=base.account,
            tail=above.tail,
            vector=vector,
            peers=peer_tills(self.small.roster, self.device, above, vector),
            pieces=above.pieces,
            entitlements=base.entitlements,
            preorders=base.preorders,
            claims=base.claims | above.claims,
        )

    @property
    def tills(self) -> tuple[str, ...]:
        """The other tills of the roster."""
        roster = self.small.roster.items()
        return tuple(
            name for name, row in roster if row.station is Station.TILL and name != self.device
        )

    @noting
    def heard_tills(self, moment: Moment) -> frozenset[str]:
        """Those of them that are heard now, in the school or by the city."""
        db = self._sync_db()
        if db is None:
            return frozenset()
        with reading(db):
            states, live = peer_states(db, moment), live_tills(db, moment)
        heard = live | {name for name, state in states.items() if state.heard}
        return heard & frozenset(self.tills)

    @noting
    def peer_fact(self, device: str, epoch: str, sequence: int) -> Fact | None:
        """A fact of another till, as long as it is held here."""
        db = self._sync_db()
        return None if db is None else fact_of_peer(db, device, epoch, sequence)

    @noting
    def peers_undone(self, device: str, epoch: str, sale: int) -> tuple[Fact, ...]:
        """What other tills told of undoing that sale, as long as it is held here."""
        db = self._sync_db()
        return () if db is None else told_by_peers(db, device, epoch, sale)

    @noting
    def money_rows(self) -> tuple[VersionMark, str] | None:
        """Version of the money picture in force, and a word that changes when its rows do: a
        vector alone that moved on is nothing to tell of."""
        opened = self._picture(self.scopes["money"])
        if opened is None:
            return None
        meta = picture_meta(opened.db)
        return meta.version, f"{meta.version.list_epoch} {meta.set_digest.hex()}"

    def picture(self, name: str) -> sqlite3.Connection | None:
        """The picture in force of people, money, menu or settings, for what else stands in it;
        None: there is none. Good for one reading, inside `telling`."""
        opened = self._picture(self.scopes[name])
        return None if opened is None else opened.db

    def store(self) -> sqlite3.Connection | None:
        """What sync keeps, of other devices above all; None: there is none. Good for one reading,
        inside `telling`."""
        return self._sync_db()

    # ----------------------------------------------------------------------- helpers

    def _people_only(
        self, credential_id: str, moment: Moment, cardholder_id: str = ""
    ) -> PurchaseView:
        opened = self._picture(self.scopes["people"])
        people: ListState | None = None
        found: tuple[str | None, Credential | None, Cardholder | None] = (None, None, None)
        if opened is not None:
            with reading(opened.db) as db:
                people = list_state(opened.pointer, picture_meta(db), moment)
                windows = self.small.windows_on(moment.local_date)
                if cardholder_id:
                    found = (None, None, cardholder(db, cardholder_id, windows))
                else:
                    found = person(db, credential_id, windows)
        return PurchaseView(
            people=people,
            money=None,
            hot_listed=found[0] is not None,
            credential=found[1],
            cardholder=found[2],
            account=None,
            tail=(),
        )

    def _side(self, cardholder_id: str, zone_id: str, moment: Moment) -> Side | None:
        """The newest of what was taken here and at the other lanes today."""
        own = sides.own_side(self._journal, cardholder_id, zone_id, moment)
        heard = sides.peers_of(self._sync_db(), cardholder_id, zone_id, moment)
        return latest((own, *heard) if own is not None else heard)

    def _read_small(self, name: str, opened: Open | None) -> None:
        if opened is None:
            return
        with reading(opened.db) as db:
            read_anew = with_settings if name == "settings" else with_menu
            self.small = read_anew(self.small, db)
