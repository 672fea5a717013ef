"""Goal: the shell of the school's network raises nothing, keeps before it tells, speaks on every
broker that is there, and takes no more time than its share, whatever brokers and disk do.

Method: real files and the real kernel between two devices; bridges are stood in for by ones that
do as told; time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edge.clock import Clock
from edge.messages import Ack, PeerBroker, PeerKind, RosterRow, RowBody, SiteRow, Stream
from edge.model import DeviceFault, Moment, PassbackMode, SetupProblem, Station
from edge.offline_cache import peers
from edge.offline_cache.apply import Pictures
from edge.offline_cache.epochs import new_store, open_store
from edge.offline_cache.record import Journal
from edge.offline_cache.store import Writer
from edge.settings import DeviceSettings, Folders
from edge.trust import public_point
from sync import peer_brokers, peer_link
from sync.bridge_events import (
    BridgeEvent,
    Connected,
    Disconnected,
    Loss,
    Message,
    SubscriptionsReady,
    Token,
)
from sync.hand_in import DEAD_MS
from sync.peer_brokers import BACKOFF_MS_MAX, MESSAGES_PER_S
from sync.peer_link import FAULT_MS, PeerLink
from sync.peer_topics import topic_of
from sync.peer_voice import HEARD_MS
from sync.session import Endpoint, session_for
from tests.support import facts
from tests.support.pictures import Station as Installing
from tests.support.pictures import open_station
from tests.support.small_city import Scope
from tests.support.times import at

SITE = "school-7"
BROKERS = (
    PeerBroker("till-1", "mqtts://192.0.2.1:8883"),
    PeerBroker("till-2", "mqtts://192.0.2.2:8883"),
)
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("till-1", "till-2")}


class Keys:
    """As a KeyStore signs."""

    def __init__(self, name: str) -> None:
        self._key = KEYS[name]

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def public_point(self) -> bytes:
        return public_point(self._key)

    def open_box(self, sealed: bytes, *, place: bytes) -> bytes:
        raise AssertionError("nothing is sealed here")

    def opens_now(self, sealed: bytes, *, place: bytes) -> bool:
        raise AssertionError("nothing is sealed here")

    def opens_at_once(self, boxes: object, *, wait_s: float) -> bool:
        raise AssertionError("nothing is sealed here")


class SetClock(Clock):
    """Stands where it is put."""

    def __init__(self) -> None:
        self.after_ms = 0

    def moment(self) -> Moment:
        return at(self.after_ms)

    def mono_ms(self) -> int:
        return self.moment().mono_ms


@dataclass
class Air:
    """The brokers: which are there, and who listens at each."""

    up: set[str] = field(default_factory=lambda: {"192.0.2.1", "192.0.2.2"})
    bridges: list[StandIn] = field(default_factory=list)


class StandIn:
    """A bridge: events are put in by hand or by the air."""

    air = Air()

    def __init__(self, _session: object, *, woken: Callable[[], None] | None = None) -> None:
        assert woken is not None
        self.events: list[BridgeEvent] = []
        self.done_tokens: list[Token] = []
        self.host = ""
        self.closed = False
        self.polls = self.connects = self.published = 0

    def connect(
        self, endpoint: Endpoint, *, will_topic: str, will: bytes, session: object = None
    ) -> None:
        assert not will_topic and session is not None
        self.connects += 1
        self.host = endpoint.host
        if endpoint.host in self.air.up:
            connected = Connected(
                endpoint=endpoint,
                protocol="5",
                receive_max=20,
                packet_bytes_max=None,
                keepalive_s=45,
            )
            self.events.append(connected)
            self.air.bridges.append(self)
        else:
            self.lose(Loss.UNREACHABLE)

    def lose(self, loss: Loss = Loss.LOST) -> None:
        if self in self.air.bridges:
            self.air.bridges.remove(self)
        self.events.append(Disconnected(loss=loss, detail=loss.value, was_connected=True))

    def subscribe(self, topics: Sequence[str]) -> None:
        assert all(topic.startswith(f"peer/{SITE}/+/") for topic in topics)
        self.events.append(SubscriptionsReady(refused=()))

    def publish(self, topic: str, payload: bytes, *, qos: int, retained: bool = False) -> int:
        assert not retained
        if self not in self.air.bridges:
            raise DeviceFault("no connection")
        self.published += 1
        for bridge in self.air.bridges:
            if bridge.host == self.host:
                bridge.deliver(topic, payload)
        return 1

    def deliver(self, topic: str, payload: bytes) -> None:
        token = Token(1, len(self.events) + 1)
        self.events.append(Message(topic=topic, payload=payload, retained=False, token=token))

    @property
    def has_news(self) -> bool:
        return bool(self.events)

    def poll(self) -> list[BridgeEvent]:
        self.polls += 1
        events, self.events = self.events[:256], self.events[256:]
        return events

    def done(self, *tokens: Token) -> None:
        self.done_tokens.extend(tokens)

    def close(self) -> None:
        self.closed = True
        if self in self.air.bridges:
            self.air.bridges.remove(self)


class Till:
    def __init__(self, folder: Path, name: str, rows: list[tuple[Any, RowBody]]) -> None:
        folder.mkdir()
        scope = Scope(f"{SITE}/settings")
        scope.put(*rows)
        station = open_station(folder)
        station.install(scope)
        station.close()
        self.scope = scope
        self.folder = folder
        self.clock = SetClock()
        self.rings: list[int] = []
        self.refused: list[tuple[str, str, str]] = []
        self.writer: Writer = open_store(folder / "sync.db", machine="m", moment=at())
        self.journal = Journal(folder / "journal.db", device=name, site=SITE)
        self.journal.open_epoch(at(), why="new_store", station=Station.TILL)
        settings = DeviceSettings(
            source=folder / "device.toml",
            device_id=name,
            site_id=SITE,
            station=Station.TILL,
            time_zone="Europe/Moscow",
            folders=Folders(state=folder, identity=folder, runtime=folder),
            endpoints=(),
            readers=(),
            lanes=(),
        )
        self.link = PeerLink(
            settings,
            clock=self.clock,
            writer=self.writer,
            keys=Keys(name),
            random=lambda: 0.5,
            ring_edge=lambda: self.rings.append(1),
            wake=lambda: None,
            refused=lambda *words: self.refused.append(words),
            sessions=lambda _device, _dated: session_for(name, None),
        )

    def sell(self, amount_minor: int) -> None:
        with self.journal.record(at()) as tap:
            tap.add(facts.sale(tap.stamp(at()), amounts=(("meals", amount_minor),)))

    def spent(self) -> int:
        return sum(one.amount_minor for one in peers.peers_tail(self.writer.db, "a1"))

    def bridges(self) -> list[StandIn]:
        return [b.bridge for b in self.link._brokers._brokers]  # type: ignore[misc]

    def close(self) -> None:
        self.link.stop()
        self.journal.close()
        self.writer.close()


@dataclass
class School:
    one: Till
    two: Till

    def run(self, for_ms: int, *, each_ms: int = 100) -> None:
        for _ in range(for_ms // each_ms):
            for till in (self.one, self.two):
                till.clock.after_ms += each_ms
                till.link.step(rung=True)


def rows_of(
    brokers: tuple[PeerBroker, ...] = BROKERS, names: tuple[str, ...] = ("till-1", "till-2")
) -> list[tuple[Any, RowBody]]:
    site = SiteRow("Europe/Moscow", "RUB", 1, 2, 3, PassbackMode.SOFT, 4, 5, brokers)
    roster = [
        ((50, name.encode()), RosterRow(Station.TILL, public_point(KEYS[name]))) for name in names
    ]
    return [((48, b"site"), site), *roster]


@pytest.fixture
def air(monkeypatch: pytest.MonkeyPatch) -> Air:
    air = Air()
    monkeypatch.setattr(StandIn, "air", air)
    monkeypatch.setattr(peer_brokers, "Bridge", StandIn)
    return air


@pytest.fixture
def school(tmp_path: Path, air: Air) -> Iterator[School]:
    tills = [Till(tmp_path / name, name, rows_of()) for name in ("till-1", "till-2")]
    yield School(*tills)
    for till in tills:
        till.close()


def heard(till: Till, name: str) -> bool:
    return bool(till.link.status()["devices"][name]["heard"])


def test_what_is_said_goes_over_both_brokers_and_counts_once(school: School, air: Air) -> None:
    school.run(2_000)
    school.one.sell(100)
    school.run(1_000)
    assert school.two.spent() == 100 and heard(school.one, "till-2")
    assert all(bridge.published > 2 for bridge in school.one.bridges())
    assert school.two.rings and not school.two.refused
    assert all(bridge.done_tokens for bridge in school.two.bridges())
    for gone in ("192.0.2.1", "192.0.2.2"):
        air.up.discard(gone)
        for bridge in list(air.bridges):
            if bridge.host == gone:
                bridge.lose()
        school.one.sell(10)
        school.run(25_000)
    assert school.two.spent() == 110 and not heard(school.two, "till-1")
    connects = sum(bridge.connects for bridge in school.one.bridges())
    school.run(60_000, each_ms=500)
    after = sum(bridge.connects for bridge in school.one.bridges())
    assert 4 <= after - connects <= 2 * (60_000 // (BACKOFF_MS_MAX // 2) + 2)
    air.up.add("192.0.2.2")
    school.run(BACKOFF_MS_MAX + 3_000)
    assert school.two.spent() == 120 and heard(school.two, "till-1")


def test_a_disk_that_refuses_costs_nothing_but_time(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    school.run(2_000)

    def refuse(*_: object) -> None:
        raise DeviceFault("the disk is full")

    bridges = school.two.bridges()
    done = [len(bridge.done_tokens) for bridge in bridges]
    with monkeypatch.context() as broken:
        broken.setattr(peer_link, "keep", refuse)
        school.one.sell(100)
        school.run(1_000)
        assert school.two.link.counters["peer_start_overs"] >= 1
        assert all(bridge.closed for bridge in bridges)
        assert [len(bridge.done_tokens) for bridge in bridges] == done, "nothing was kept"
    school.run(2 * FAULT_MS + 5_000)
    assert school.two.spent() == 100, "what the kernel knew and the disk did not is asked for"


def test_a_flood_is_looked_at_in_small_pieces(school: School) -> None:
    school.run(2_000)
    bridge, other = school.two.bridges()
    for _ in range(20_000):
        bridge.deliver(topic_of(SITE, "till-9", PeerKind.BEAT), b"rubbish")
    before = len(bridge.events)
    school.run(10_000)
    taken = before - len(bridge.events)
    # What one look brings, 256 messages, is not cut in the middle; eleven seconds are touched.
    assert 10 * 256 <= taken <= 11 * (MESSAGES_PER_S + 256)
    assert school.two.link.counters["peer_messages_waited"] > 0
    assert heard(school.one, "till-2")
    assert other.polls > 0


def test_a_step_with_nothing_to_do_asks_no_broker_and_what_comes_is_taken_at_once(
    school: School,
) -> None:
    """While a backlog leaves for the city there are a thousand steps a second."""
    school.run(2_000)
    two, (bridge, _) = school.two, school.two.bridges()
    two.link.step()
    before = bridge.polls
    for _ in range(100):
        two.link.step()
    assert bridge.polls == before
    assert two.link.due_ms() > two.clock.mono_ms()
    bridge.deliver(topic_of(SITE, "till-9", PeerKind.BEAT), b"rubbish")
    two.link.step()
    assert not bridge.events and bridge.done_tokens


def test_stepped_only_when_due_or_when_something_came_they_hear_each_other(school: School) -> None:
    school.run(8_000)
    for _ in range(600):
        for till in (school.one, school.two):
            till.clock.after_ms += 100
            news = any(bridge.events for bridge in till.bridges())
            if news or till.clock.mono_ms() >= till.link.due_ms():
                till.link.step()
        assert heard(school.one, "till-2") and heard(school.two, "till-1")
    school.one.sell(7)
    school.run(1_000)
    assert school.two.spent() == 7


def test_what_one_step_leaves_unsaid_the_next_one_says(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    school.run(2_000)
    monkeypatch.setattr(peer_link, "ROUNDS_MAX", 1)
    one, (bridge, _) = school.one, school.one.bridges()
    for _ in range(250):
        one.sell(1)
    before = bridge.published
    one.link.step(rung=True)
    assert bridge.published == before + 1, "a batch"
    for _ in range(3):
        one.link.step()
    assert bridge.published >= before + 3, "no time has passed"


def test_settings_that_name_no_broker_or_not_us_leave_us_alone(tmp_path: Path, air: Air) -> None:
    wrong = (PeerBroker("till-1", "http://x"), BROKERS[1])
    cases: list[tuple[list[tuple[Any, RowBody]], int, int]] = [
        (rows_of(()), 0, 0),
        (rows_of(names=("till-2",)), 0, 0),
        (rows_of(wrong), 1, 1),
        (rows_of((*BROKERS, PeerBroker("till-1", "mqtts://192.0.2.9:8883"))), 2, 0),
    ]
    for number, (rows, connections, refused) in enumerate(cases):
        till = Till(tmp_path / f"case-{number}", "till-1", rows)
        till.link.step()
        assert len(till.bridges()) == connections, number
        assert len(till.refused) == refused
        assert till.link.due_ms() >= till.clock.mono_ms()
        till.close()


def test_another_roster_and_other_brokers_are_used_at_once(school: School) -> None:
    school.run(2_000)
    before = school.one.bridges()
    scope = school.one.scope
    scope.put(*rows_of(BROKERS[1:]), remove=((50, b"till-2"),))
    pictures = open_pictures(school.one)
    pictures(scope)
    school.run(1_000)
    (kept,) = school.one.bridges()
    assert kept is before[1] and before[0].closed
    assert school.one.link.status()["devices"] == {}


def open_pictures(till: Till) -> Callable[[Scope], None]:
    """Puts a list in force with the till's own writer, as its downlink does."""
    installing = Installing(till.folder, till.writer, Pictures(till.folder, till.writer))

    def install(scope: Scope) -> None:
        installing.install(scope)
        installing.pictures.close()

    return install


def test_a_session_that_cannot_be_made_is_told_and_tried_again(
    tmp_path: Path, air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    till = Till(tmp_path / "till", "till-1", rows_of())
    try:
        till.link.step()
        assert len(till.bridges()) == 2

        def refuse(_device: str, _dated: bool) -> None:
            raise SetupProblem("device.crt: no such file")

        monkeypatch.setattr(till.link._brokers, "_sessions", refuse)
        for bridge in till.bridges():
            bridge.lose()
        for _ in range(100):
            till.clock.after_ms += 1_000
            till.link.step()
        reasons = {one["reason"] for one in till.link.status()["brokers"]}
        assert reasons == {"device.crt: no such file"}
    finally:
        till.close()


class CityBridge:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes, *, qos: int) -> int:
        assert qos == 1
        self.sent.append((topic, payload))
        return 1


def test_a_dead_neighbours_facts_are_handed_in_as_it_signed_them(school: School) -> None:
    school.run(2_000)
    money = Scope(f"{SITE}/money")
    money.put()
    open_pictures(school.two)(money)
    school.one.sell(100)
    school.run(1_000)
    school.one.sell(20)
    school.run(1_000)
    city, two = CityBridge(), school.two
    two.link.hand_in(city)  # type: ignore[arg-type]
    assert not city.sent, "it is alive"
    for _ in range((DEAD_MS + HEARD_MS) // 1_000 + 1):
        two.clock.after_ms += 1_000
        two.link.step()
        two.link.hand_in(city)  # type: ignore[arg-type]
    epoch = school.one.journal.epoch
    (topic, payload) = city.sent[0]
    assert topic == "mk/v1/d/till-2/up/for/till-1"
    assert payload == b"\n".join(payload.splitlines()) and b'"key_id":"till-1"' in payload
    high_water = 0
    while high_water < school.one.journal.head:
        last = city.sent[-1][1]
        header = last.partition(b"\n")[0]
        high_water = max(high_water, len(last.splitlines()) - 2 + int(first_of(header)) - 1)
        ack = Ack(device="till-1", stream=Stream.MAIN, epoch=epoch, up_to=high_water)
        assert two.link.handed_in(ack)
        two.link.hand_in(city)  # type: ignore[arg-type]
    before = len(city.sent)
    two.clock.after_ms += 60_000
    two.link.hand_in(city)  # type: ignore[arg-type]
    assert len(city.sent) == before, "the city has it all"
    mine = Ack(device="till-2", stream=Stream.MAIN, epoch=epoch, up_to=1)
    assert not two.link.handed_in(mine)


def first_of(header: bytes) -> int:
    return int(msgspec.json.decode(header)["first"])


def test_in_another_store_everybody_is_asked_again(school: School) -> None:
    """What was heard in the store before counts for nothing: peers may have gone on since."""
    one = school.one
    school.two.sell(100)
    school.run(3_000)
    assert heard(one, "till-2")
    with one.writer.transaction() as db:
        new_store(db)
    count = "SELECT count(*) FROM peer_reports"
    assert one.writer.db.execute(count).fetchone() == (0,)
    school.run(4_000)
    assert one.writer.db.execute(count).fetchone() == (1,)
    assert heard(one, "till-2") and one.link.counters["peer_new_stores"] == 1
