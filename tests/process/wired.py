"""A device's whole sync on a real socket, facts in its real journal, and a city that keeps its
books to the letter; between them a real broker, or a scripted one that does what no broker should.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

from edge.certificates import Identity, new_key
from edge.clock import Clock
from edge.config import load
from edge.messages import Ack, Stream, b64u, decode_batch, digest_of, encode_json
from edge.model import Station
from edge.offline_cache import outbox
from edge.offline_cache.record import open_journal
from edge.offline_cache.store import FileKind, Writer
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore, read_key, write_secret
from sync.bridge import Bridge
from sync.bridge_events import Connected, Message, SubscriptionsReady
from sync.contact import Contact
from sync.loop import Sync
from sync.neighbour import Neighbour
from sync.parts import Parts
from sync.roots import Roots
from sync.session import Endpoint, Session, parse_endpoints, session_for
from sync.sessions import Sessions
from sync.topics import TopicKind, parse
from tests.process.brokers import (
    CONNECT,
    PINGREQ,
    PUBLISH,
    SUBSCRIBE,
    Packet,
    ScriptedBroker,
    connack,
    puback,
    publish,
)
from tests.provisioning.enrolment_city import pem
from tests.support import facts, small_city
from tests.sync.sync_world import DEVICE, SITE, TOML, City, FakeNeighbour, signed_lines

WAIT_S = 60.0  # Our choice: many times what anything here takes on an idle machine.
UP = ("hello", "renew", "pull", "up/main", "up/agent", "up/diag")
Place = tuple[str, str]


class BookCity(City):
    """Takes batches by the wire's rule and nothing else: in order, once, the bytes as they came."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.utc_ms = lambda: time.time_ns() // 1_000_000
        self.books: dict[Place, list[bytes]] = {}
        self.batches = 0
        self.acknowledges: Callable[[Ack], bool] = lambda _ack: True

    def take(self, topic: str, payload: bytes) -> None:
        found = parse(topic)
        assert found is not None
        if found.kind is not TopicKind.UP:
            super().take(topic, payload)
            return
        header, bodies = decode_batch(payload)
        self.batches += 1
        held = self.books.setdefault((header.stream, header.epoch), [])
        assert header.gap is None
        rewind = header.first > len(held) + 1
        if not rewind:
            again = held[header.first - 1 : header.first - 1 + len(bodies)]
            assert again == bodies[: len(again)], "the same key, other bytes"
            held += bodies[len(again) :]
            if held:
                self.waters[header.stream, header.epoch] = (len(held), digest_of(held[-1]))
        ack = Ack(
            device=DEVICE,
            stream=header.stream,
            epoch=header.epoch,
            up_to=len(held),
            rewind=rewind,
        )
        if self.acknowledges(ack):
            self.bridge.deliver(f"mk/v1/d/{DEVICE}/ack", encode_json(ack))


class CityBridge:
    """The city's own connection to a real broker."""

    def __init__(self, city: City, endpoint: Endpoint, *, receive_max: int | None = None) -> None:
        self._city = city
        session = session_for("city", None)
        if receive_max is not None:
            session = replace(session, receive_max=receive_max)
        # It is looked at and never waited for: its thread turns it.
        self.bridge = Bridge(session, woken=lambda: None)
        self.bridge.connect(endpoint, will_topic="", will=b"")
        self._expect(Connected)
        self.bridge.subscribe([f"mk/v1/d/{DEVICE}/{topic}" for topic in UP])
        self._expect(SubscriptionsReady)
        city.bridge = cast(Any, self)

    def deliver(self, topic: str, payload: bytes) -> None:
        self.bridge.publish(topic, payload, qos=1)

    def pump(self) -> None:
        for event in self.bridge.poll():
            if isinstance(event, Message):
                self._city.take(event.topic, event.payload)
                self.bridge.done(event.token)

    def _expect(self, kind: type) -> None:
        until_s = time.monotonic() + WAIT_S
        while not any(isinstance(event, kind) for event in self.bridge.poll()):
            assert time.monotonic() < until_s, kind
            self.bridge.wait(20)


@dataclass(kw_only=True)
class CityBroker:
    """Broker and city in one, by script: `pubacks` decides over each PUBLISH with QoS 1."""

    city: City
    properties: bytes = b""  # Of CONNACK.
    pubacks: Callable[[Packet], bytes] = lambda packet: puback(packet.mid)
    keeps: Callable[[Packet], bool] = lambda _packet: True  # Whether the city hears of it.
    in_flight: int = 0
    sizes: list[int] = field(default_factory=list)
    _send: Callable[[bytes], None] = lambda _data: None
    _mid: int = 0

    def broker(self) -> ScriptedBroker:
        self.city.bridge = cast(Any, self)
        return ScriptedBroker(on_packet=self._take)

    def deliver(self, topic: str, payload: bytes) -> None:
        self._mid = self._mid % 60_000 + 1
        self._send(publish(topic, payload, mid=self._mid))

    def _take(self, packet: Packet, send: Callable[[bytes], None]) -> bool:
        self._send = send
        if packet.kind == CONNECT:
            send(connack(version=5, properties=self.properties))
        elif packet.kind == SUBSCRIBE:
            count = _topics(packet.body[3 + packet.body[2] :])
            send(bytes([0x90, 3 + count]) + packet.body[:2] + b"\0" + bytes([1] * count))
        elif packet.kind == PINGREQ:
            send(b"\xd0\x00")
        elif packet.kind == PUBLISH:
            self._publish(packet, send)
        return True

    def _publish(self, packet: Packet, send: Callable[[bytes], None]) -> None:
        self.sizes.append(len(packet.body))
        size = int.from_bytes(packet.body[:2], "big")
        topic, rest = packet.body[2 : 2 + size].decode(), packet.body[2 + size :]
        if packet.first & 6:
            send(self.pubacks(packet))
            rest = rest[2:]
        payload = rest[1 + rest[0] :]  # Its properties are few: one byte of length.
        found = parse(topic)
        heard = found is not None and topic.split("/")[-1] not in ("status", "health")
        if heard and self.keeps(packet):
            self.city.take(topic, payload)


def _topics(rest: bytes) -> int:
    """How many a SUBSCRIBE names."""
    count = 0
    while rest:
        rest = rest[2 + int.from_bytes(rest[:2], "big") + 1 :]
        count += 1
    return count


@contextmanager
def sync_running(
    settings: DeviceSettings, clock: Clock, *endpoints: str, session: Session | None = None
) -> Iterator[Sync]:
    """sync of this station from its start to its stop, with its first endpoint or this session."""
    identity = Identity(
        device_id=DEVICE,
        key=settings.key_path,
        certificate=settings.certificate_path,
        authority=settings.authority_path,
    )
    sessions = Sessions(identity, lambda: clock.moment().wall_ms // 1000)
    parsed = parse_endpoints(list(endpoints))
    writer = Writer(settings.sync_path, FileKind.SYNC)
    sync = Sync(
        Parts(
            settings=settings,
            clock=clock,
            writer=writer,
            bridge=Bridge(session or sessions.of(Contact.FULL, parsed[0])),
            keys=FileKeyStore(settings.key_path),
            roots=Roots(settings, writer),
            identity=identity,
            sessions=sessions,
            neighbour=cast(Neighbour, FakeNeighbour()),
            endpoints=parsed,
            random=lambda: random.random() / 100,  # Waits that a test need not sit out.
            ring_edge=lambda: None,
        )
    )
    try:
        yield sync
    finally:
        sync.stop()


class Wired:
    """One device with facts in its journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.city = BookCity(folder)
        for name in ("state", "identity", "run"):
            (folder / name).mkdir()
        (folder / "device.toml").write_text(TOML)
        self.settings = load(folder / "device.toml")
        write_secret(self.settings.key_path, new_key())
        key = read_key(self.settings.key_path).public_key()
        self.city.know(key)
        leaf = self.city.leaf(key, begins_ms=self.city.utc_ms())
        self.settings.certificate_path.write_text(pem(leaf))
        self.settings.authority_path.write_text(pem(self.city.authority))
        self.settings.root_key_path.write_text(b64u(small_city.public_bytes("root")))
        self.settings.root_document_path.write_bytes(signed_lines(small_city.signed_root()))
        self.ends: list[CityBridge] = []
        self.clock = Clock(ZoneInfo("Europe/Moscow"), boot="b1", ntp=lambda: True)
        self.journal = open_journal(
            self.settings.journal_path,
            device=DEVICE,
            site=SITE,
            station=Station.TILL,
            machine="m",
            moment=self.clock.moment(),
        )

    def record(self, count: int, *, money: bool = False) -> None:
        moment = self.clock.moment()
        make = facts.sale if money else facts.access
        for _ in range(count):
            with self.journal.record(moment) as tap:
                tap.add(make(tap.stamp(moment)))

    @contextmanager
    def syncing(self, *endpoints: str, session: Session | None = None) -> Iterator[Sync]:
        with sync_running(self.settings, self.clock, *endpoints, session=session) as sync:
            yield sync

    def run(
        self,
        sync: Sync,
        until: Callable[[], object],
        what: str,
        *,
        also: Callable[[], object] = lambda: None,
    ) -> None:
        until_s = time.monotonic() + WAIT_S
        while not until():
            assert time.monotonic() < until_s, f"{what}: {sync.link.reason} {sync.counters}"
            sync.step(rung=True)
            also()
            sync.wait(5)

    def arrived(self) -> bool:
        """The city has the journal, byte for byte, and this device knows it."""
        db = self.journal.writer.db
        (life,) = outbox.lives(db, Stream.MAIN)
        ours = outbox.next_facts(db, life.life, 1, rows_max=life.head, bytes_max=1 << 30)
        assert len(ours) == life.head
        return self.city.books.get((Stream.MAIN, life.epoch)) == ours

    def city_on(self, endpoint: Endpoint, *, receive_max: int | None = None) -> CityBridge:
        """The city comes (again), taking on so many messages at once; closed with this world at the
        latest."""
        self.ends.append(CityBridge(self.city, endpoint, receive_max=receive_max))
        return self.ends[-1]

    def close(self) -> None:
        for end in self.ends:
            end.bridge.close()
        self.journal.close()
