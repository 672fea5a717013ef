"""Goal: what peers did is kept as it came, counts against an account until the base has it and not
a moment longer, and reports say no more than is true; a till's own report is of one moment.

Method: real files; facts recorded by one journal, batched by `peer_own`, taken by another store;
the base moved on, back and over reboots; lookups through edge's `Cache` on pictures in force.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import (
    PassageFact,
    PeerBeat,
    PeerBroker,
    PeerLife,
    RosterRow,
    SiteRow,
    Stream,
    VectorEntry,
    VersionMark,
    b64u,
    decode_batch,
    decode_fact,
    decode_peer,
    decode_sides,
)
from edge.model import (
    ClockQuality,
    Direction,
    PassageResult,
    PassbackMode,
    PurchaseView,
    Station,
)
from edge.offline_cache import epochs, peer_own, peers
from edge.offline_cache.lookup import Cache
from edge.offline_cache.outbox import lives
from edge.offline_cache.peer_lists import PeerLists
from edge.offline_cache.record import Journal
from edge.offline_cache.store import FileKind, Writer, open_reader
from edge.pos.ledger import available_minor
from tests.support import agent_bench, facts
from tests.support.pictures import open_station
from tests.support.small_city import (
    MONEY,
    PEOPLE,
    SETTINGS,
    SITE,
    SITE_KIND,
    Scope,
    account,
    cardholder,
    credential,
    id_bytes,
)
from tests.support.times import at

ME, OTHER, GATE = "till-1", "till-2", "lane-1"
CARD = bytes.fromhex("04a1b2c3d4e580")
TILL, LANE = Station.TILL, Station.ENTRANCE
MINUTE_MS = 60_000


@dataclass
class Neighbour:
    """Another till: its journal, and how its facts come to us."""

    journal: Journal

    def sell(self, amount_minor: int, *, account_id: str = "a1", purse: str = "meals") -> int:
        with self.journal.record(at()) as tap:
            header = tap.stamp(at())
            tap.add(facts.sale(header, account=account_id, amounts=((purse, amount_minor),)))
        return self.journal.head

    def give(self, store: Writer, *, after: int = 0) -> int:
        """All after that, batch by batch, as sync stores it."""
        epoch = self.journal.epoch
        while True:
            batch = peer_own.spend_batch(self.journal.writer.db, OTHER, epoch, after)
            if batch is None:
                return after
            header, rows = decode_batch(batch[0])
            with store.transaction() as db:
                peers.move_life(db, OTHER, epoch, after=0, up_to=batch[1], digest=header.digest)
                peers.take_facts(
                    db,
                    OTHER,
                    epoch,
                    first=header.first,
                    facts=rows,
                    batch=(header.first, batch[1]),
                    header=batch[0].partition(b"\n")[0],
                    signature=b"signature",
                )
            after = batch[1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Writer]:
    (tmp_path / "me").mkdir()
    writer = epochs.open_store(tmp_path / "me" / "sync.db", machine="m", moment=at())
    yield writer
    writer.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Neighbour]:
    (tmp_path / "other").mkdir()
    journal = Journal(tmp_path / "other" / "journal.db", device=OTHER, site=SITE)
    journal.open_epoch(at(), why="new_store", station=TILL)
    yield Neighbour(journal)
    journal.close()


def vector_of(other: Neighbour, up_to: int) -> dict[tuple[str, str], int]:
    return {(OTHER, other.journal.epoch): up_to}


def spent(store: Writer, account_id: str = "a1") -> int:
    return sum(one.amount_minor for one in peers.peers_tail(store.db, account_id))


# ------------------------------------------------------------------------------ facts


def test_facts_are_kept_as_they_came_with_what_their_till_signed(
    store: Writer, other: Neighbour
) -> None:
    for amount in (100, 200, 300):
        other.sell(amount)
    other.give(store)
    epoch = other.journal.epoch
    (held,) = peers.held_lives(store.db)
    assert (held.device, held.epoch, held.after, held.up_to) == (OTHER, epoch, 0, 4)
    assert held.digest == other.journal.digest
    signed = peers.signed_batch(store.db, OTHER, epoch, 2)
    assert signed is not None and signed[1] == 4
    opened = decode_peer(signed[0])
    assert (opened.key_id, opened.signature) == (OTHER, b"signature")
    batch = peer_own.spend_batch(other.journal.writer.db, OTHER, epoch, 0)
    assert batch is not None and opened.payload == batch[0], "not a byte was changed"
    assert peers.signed_batch(store.db, OTHER, epoch, 4) is None
    assert peers.signed_batch(store.db, "till-9", epoch, 0) is None
    assert spent(store) == 600 and peers.held_bytes(store.db)[OTHER] > 500


def test_only_spending_counts_and_only_of_the_account_that_pays(
    store: Writer, other: Neighbour
) -> None:
    for amount in (100, -5_000, 0):
        other.sell(amount)
    other.sell(70, account_id="a2")
    other.give(store)
    assert (spent(store), spent(store, "a2"), spent(store, "sales:school-7")) == (100, 70, 0)
    assert all(not one.own for one in peers.peers_tail(store.db, "a1"))


def test_taking_the_same_again_counts_once(store: Writer, other: Neighbour) -> None:
    other.sell(100)
    other.give(store)
    other.give(store)
    assert spent(store) == 100


def test_a_restated_sale_counts_under_its_new_key_alone(store: Writer, other: Neighbour) -> None:
    """The neighbour's journal was an old copy: it says again what the city may not have."""
    other.sell(100)
    other.sell(200)
    other.give(store)
    old = lives(other.journal.writer.db, Stream.MAIN)[-1]
    epochs.close_life(other.journal, old, kept=2, moment=at(), why="city_ahead", station=TILL)
    while epochs.restate_some(other.journal, at()):
        pass
    other.give(store)
    tail = {(one.epoch, one.amount_minor) for one in peers.peers_tail(store.db, "a1")}
    assert tail == {(old.epoch, 100), (other.journal.epoch, 200)}


@pytest.mark.parametrize(("minutes", "kept"), [(9, True), (11, False)])
def test_facts_go_ten_minutes_after_the_base_has_them(
    store: Writer, other: Neighbour, minutes: int, kept: bool
) -> None:
    other.sell(100)
    last = other.sell(200)
    other.give(store)
    vector = vector_of(other, last - 1)
    with store.transaction() as db:
        peers.sweep(db, vector, at())
    with store.transaction() as db:
        (held,) = peers.sweep(db, vector, at(minutes * MINUTE_MS))
    assert spent(store) == (300 if kept else 200)
    assert (held.after, held.up_to) == (0 if kept else last - 1, last)
    # A batch that is not whole any more cannot be handed in; what follows is asked of the till.
    assert (peers.signed_batch(store.db, OTHER, held.epoch, 0) is not None) is kept


def test_a_reboot_or_a_base_that_went_back_begins_the_ten_minutes_anew(
    store: Writer, other: Neighbour
) -> None:
    last = other.sell(100)
    other.give(store)
    full = vector_of(other, last)

    def sweep(vector: dict[tuple[str, str], int], minute: int, boot: str = "b1") -> int:
        with store.transaction() as db:
            peers.sweep(db, vector, at(minute * MINUTE_MS, boot=boot))
        return spent(store)

    assert sweep(full, 0) == 100
    assert sweep(full, 20, boot="b2") == 100
    assert sweep({}, 25, boot="b2") == 100
    assert sweep(full, 31, boot="b2") == 100, "it was out of the base in between"
    assert sweep(full, 42, boot="b2") == 0
    (held,) = peers.held_lives(store.db)
    assert (held.after, held.up_to) == (last, last)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["sell", "give", "base", "sweep"]),
                                st.integers(0, 8)), max_size=25))  # fmt: skip
def test_whatever_the_order_no_spend_is_missed_that_the_base_does_not_have(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("peers")
    store = Writer(folder / "sync.db", FileKind.SYNC)
    journal = Journal(folder / "journal.db", device=OTHER, site=SITE)
    journal.open_epoch(at(), why="new_store", station=TILL)
    other, given, included, minute = Neighbour(journal), 0, 0, 0
    try:
        for what, number in steps:
            minute += number
            if what == "sell":
                other.sell(10 + number)
            elif what == "give":
                given = other.give(store, after=given)
            elif what == "base":
                included = min(given, included + number)
            else:
                with store.transaction() as db:
                    peers.sweep(db, vector_of(other, included), at(minute * MINUTE_MS))
            held = {one.sequence for one in peers.peers_tail(store.db, "a1")}
            assert held >= set(range(max(2, included + 1), given + 1))
    finally:
        journal.close()
        store.close()


# ------------------------------------------------------------------------------ reports


def beat_of(other: Neighbour, *, store_id: str = "s1", head: int = 3) -> PeerBeat:
    life = PeerLife(epoch=other.journal.epoch, held_from=1, head=head)
    return PeerBeat(
        device=OTHER,
        site=SITE,
        session="x",
        counter=1,
        nonce="n",
        echo={},
        lives=(life,),
        store=store_id,
        base=VersionMark(1, 7),
    )


def test_who_is_heard_is_so_until_its_time_and_in_this_boot_alone(
    store: Writer, other: Neighbour
) -> None:
    now = at()
    with store.transaction() as db:
        peers.store_heard(db, {OTHER: now.mono_ms + 30_000}, now.boot)
    assert peers.peer_states(store.db, now) == {}, "it has not said a word"
    with store.transaction() as db:
        peers.store_report(db, OTHER, beat_of(other))
        peers.store_heard(db, {OTHER: now.mono_ms + 30_000}, now.boot)
    state = peers.peer_states(store.db, now)[OTHER]
    assert state.heard and state.base == VersionMark(1, 7) and state.lives[0].head == 3
    assert not peers.peer_states(store.db, at(30_000))[OTHER].heard, "a dead sync is not believed"
    assert not peers.peer_states(store.db, at(0, boot="another"))[OTHER].heard
    with store.transaction() as db:
        peers.store_report(db, OTHER, beat_of(other, head=4))
    assert peers.peer_states(store.db, now)[OTHER].heard, "a report says nothing of that"
    with store.transaction() as db:
        peers.store_heard(db, {OTHER: 0}, now.boot)
    assert not peers.peer_states(store.db, now)[OTHER].heard
    with store.transaction() as db:
        peers.forget(db, OTHER)
    assert peers.peer_states(store.db, now) == {}


def test_a_cover_is_of_one_store(store: Writer, other: Neighbour) -> None:
    with store.transaction() as db:
        peers.store_report(db, OTHER, beat_of(other, store_id="s1"))
        peers.store_cover(db, OTHER, "s1", "mine", 5)
    assert peers.peer_states(store.db, at())[OTHER].covers == {"mine": 5}
    with store.transaction() as db:
        peers.store_report(db, OTHER, beat_of(other, store_id="s2"))
    assert peers.peer_states(store.db, at())[OTHER].covers == {}
    with store.transaction() as db:
        peers.store_cover(db, OTHER, "s2", "mine", 2)
    assert peers.peer_states(store.db, at())[OTHER].covers == {"mine": 2}


def test_a_tail_with_a_hole_is_not_complete(store: Writer, other: Neighbour) -> None:
    other.sell(100)
    other.give(store)
    with store.transaction() as db:
        peers.store_report(db, OTHER, beat_of(other, head=3))
    state = peers.peer_states(store.db, at())[OTHER]
    key = (OTHER, "main", other.journal.epoch)
    assert not peers.is_complete(state, peers.known(store.db), {})
    assert peers.is_complete(state, peers.known(store.db), {key: 3})
    other.sell(100)
    other.give(store)
    assert peers.is_complete(state, peers.known(store.db), {})


def test_what_was_seen_is_noted_with_its_store_and_told_with_it_alone(
    store: Writer, other: Neighbour, tmp_path: Path
) -> None:
    other.sell(100)
    other.give(store)
    journal = Journal(tmp_path / "me" / "journal.db", device=ME, site=SITE)
    journal.open_epoch(at(), why="new_store", station=TILL)
    try:
        seen = peers.known(store.db)
        assert seen.store and seen.up_to == {(OTHER, other.journal.epoch): 2}
        with journal.writer.transaction() as db:
            peers.note_seen(db, seen)
        assert peers.seen_of(journal.writer.db) == seen
        reader = open_reader(tmp_path / "me" / "journal.db", FileKind.JOURNAL)
        assert reader is not None
        report = peer_own.own_report(reader, store=seen.store, station=TILL)
        assert [(one.device, one.up_to) for one in report.seen] == [(OTHER, 2)]
        assert [(life.epoch, life.head) for life in report.lives] == [(journal.epoch, 1)]
        # Another sync.db holds nothing of what the one before had.
        assert peer_own.own_report(reader, store="another", station=TILL).seen == ()
        reader.close()
    finally:
        journal.close()


# ------------------------------------------------------------------------------ lanes


def lane(tmp_path: Path) -> Journal:
    (tmp_path / "lane").mkdir()
    journal = Journal(tmp_path / "lane" / "journal.db", device=GATE, site=SITE)
    journal.open_epoch(at(), why="new_store", station=LANE)
    return journal


def test_a_lane_tells_of_passages_taken_and_of_nothing_else(tmp_path: Path) -> None:
    journal = lane(tmp_path)
    try:
        with journal.record(at()) as tap:
            for number in range(230):
                tap.add(facts.access(tap.stamp(at())))
                result = PassageResult.NOT_TAKEN if number % 10 == 0 else PassageResult.TAKEN
                tap.add(facts.passage(tap.stamp(at()), cardholder=f"p{number}", result=result))
            tap.add(facts.access(tap.stamp(at())))
        db, epoch = journal.writer.db, journal.epoch
        (life,) = peer_own.own_report(db, store="", station=LANE).lives
        assert life.head == life.side == journal.head - 1, "the last passage"
        after, told = 0, []
        while (batch := peer_own.side_batch(db, GATE, SITE, epoch, after)) is not None:
            header, passages = decode_sides(batch[0])
            assert header.after == after and header.up_to == batch[1] > after
            told += [fact.cardholder for fact in passages if isinstance(fact, PassageFact)]
            after = batch[1]
        assert after == life.side
        assert told == [f"p{n}" for n in range(230) if n % 10]
        assert peer_own.side_batch(db, GATE, SITE, "no such epoch", 0) is None
    finally:
        journal.close()


def test_the_last_passage_of_each_lane_is_found(store: Writer) -> None:
    def passed(way: Direction, *, device: str = GATE, wall_ms: int = 1) -> PassageFact:
        fact = facts.passage(facts.stamp(2, device=device), direction=way)
        return decoded(fact, wall_ms)

    with store.transaction() as db:
        peers.take_sides(db, GATE, "e", 9, [passed(Direction.IN), passed(Direction.OUT, wall_ms=2)])
        peers.take_sides(db, "lane-2", "e", 4, [passed(Direction.IN, device="lane-2")])
    sides = {one.device: one for one in peers.peers_sides(store.db, "p1", "school")}
    assert {d: one.direction for d, one in sides.items()} == {
        GATE: Direction.OUT,
        "lane-2": Direction.IN,
    }
    assert (sides[GATE].wall_ms, sides[GATE].clock) == (2, ClockQuality.CITY)
    assert peers.peers_sides(store.db, "p1", "museum") == ()
    assert {one.device: one.side for one in peers.held_lives(store.db)} == {GATE: 9, "lane-2": 4}


def decoded(fact: PassageFact, wall_ms: int) -> PassageFact:
    return msgspec.structs.replace(fact, wall_ms=wall_ms)


def test_a_lane_that_makes_up_people_fills_no_disk(
    store: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "SIDES_MAX", 10)
    made_up = [
        decoded(facts.passage(facts.stamp(n, device=GATE), cardholder=f"x{n}"), n)
        for n in range(1, 50)
    ]
    with store.transaction() as db:
        peers.take_sides(db, GATE, "e", 50, made_up)
    (count,) = store.db.execute("SELECT count(*) FROM peer_sides").fetchone()
    assert count == 10
    assert peers.peers_sides(store.db, "x49", "school")


# ------------------------------------------------------------------------------ lookups


def test_a_lookup_counts_what_peers_spent_above_the_base(tmp_path: Path, other: Neighbour) -> None:
    folder = tmp_path / "station"
    station = open_station(folder)
    people, money = Scope(PEOPLE), Scope(MONEY)
    people.put(cardholder("p1", account_id="a1"), credential(CARD))
    money.put(account("a1", balance_minor=50_000))
    station.install(people)
    station.install(money)
    journal = Journal(folder / "journal.db", device=ME, site=SITE)
    journal.open_epoch(at(), why="new_store", station=TILL)
    cache = Cache(folder, device=ME, site=SITE, journal=journal.writer.db)

    def view() -> PurchaseView:
        return cache.purchase_view(b64u(id_bytes(CARD)), at())

    def available() -> int:
        seen = view()
        assert seen.account is not None
        return available_minor(seen.account, "meals", seen.tail, seen.vector)

    try:
        assert available() == 50_000
        with journal.record(at()) as tap:
            tap.add(facts.sale(tap.stamp(at()), amounts=(("meals", 1_000),)))
        other.sell(7_000)
        last = other.sell(300)
        other.give(station.writer)
        assert available() == 50_000 - 1_000 - 7_300
        assert {one.own for one in view().tail} == {True, False}
        # The base takes the first of them in: it counts once, whatever is still held.
        money.vector = (VectorEntry(OTHER, "main", other.journal.epoch, last - 1),)
        money.put(account("a1", balance_minor=43_000))
        station.install(money)
        assert available() == 43_000 - 1_000 - 300
        known = cache.peers_known()
        assert known is not None and known.up_to == {(OTHER, other.journal.epoch): last}
        assert cache.peer_states(at()) == {}
    finally:
        cache.close()
        journal.close()
        station.close()


@pytest.mark.parametrize("is_till", [True, False])
def test_edge_notes_what_its_sales_rest_on_and_rings(
    tmp_path: Path, other: Neighbour, is_till: bool
) -> None:
    """Once for each change, in its own journal; a lane decides nothing by it."""
    folder = tmp_path / "station"
    folder.mkdir()
    with agent_bench.station(folder, people=2, till=is_till) as bench:
        settings = bench.agent.parts.settings
        writer = Writer(settings.sync_path, FileKind.SYNC)
        try:
            with writer.transaction() as db:
                epochs.new_store(db)
            other.sell(100)
            last = other.give(writer)
            expected = peers.known(writer.db)
        finally:
            writer.close()
        assert expected.up_to == {(OTHER, other.journal.epoch): last}
        bench.rings.clear()
        bench.agent.step(bench.clock.moment(), rung=True)
        seen = peers.seen_of(bench.agent.parts.journal.writer.db)
        assert (seen == expected) is is_till and bool(bench.rings) is is_till
        bench.rings.clear()
        bench.agent.step(bench.clock.moment(), rung=True)
        assert not bench.rings, "nothing is new"


def test_the_settings_name_the_school_and_the_money_its_vector(tmp_path: Path) -> None:
    station = open_station(tmp_path / "station")
    lists = PeerLists(station.folder, station.writer.db, site=SITE)
    try:
        assert lists.school().roster == {} and lists.base().version is None
        scope, money = Scope(SETTINGS), Scope(MONEY)
        brokers = (PeerBroker("till-1", "mqtts://192.0.2.1:8883"),)
        row = SiteRow("Europe/Moscow", "RUB", 1, 2, 3, PassbackMode.SOFT, 4, 5, brokers)
        scope.put(
            ((SITE_KIND, b"site"), row),
            ((50, OTHER.encode()), RosterRow(TILL, b"point")),
            ((50, GATE.encode()), RosterRow(LANE)),
        )
        money.vector = (
            VectorEntry(OTHER, "main", "e1", 7),
            VectorEntry(OTHER, "agent", "e2", 9),
        )
        money.put(account("a1"))
        station.install(scope)
        station.install(money)
        school = lists.school()
        assert school.brokers == brokers
        assert school.roster == {OTHER: RosterRow(TILL, b"point"), GATE: RosterRow(LANE, b"")}
        assert lists.base().vector == {(OTHER, "e1"): 7}
        assert lists.school() is school, "read once a version"
        scope.put(remove=((50, GATE.encode()),))
        station.install(scope)
        assert set(lists.school().roster) == {OTHER}
    finally:
        lists.close()
        station.close()


def test_a_fact_is_read_as_it_was_written(other: Neighbour) -> None:
    other.sell(100)
    batch = peer_own.spend_batch(other.journal.writer.db, OTHER, other.journal.epoch, 1)
    assert batch is not None
    _, rows = decode_batch(batch[0])
    assert [decode_fact(row).sequence for row in rows] == [2]
