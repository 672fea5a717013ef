"""A school in virtual time for the kernel of its own network: devices, a net that misbehaves, and
an oracle that knows everything.

Each device has a journal (facts as they are encoded, in a chain), a store that takes what the
kernel answers, and an edge that now and then notes what it has seen. The net loses, doubles, delays
past one another and cuts off. Whatever a kernel claims is held against the truth at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from edge.messages import (
    NO_DIGEST,
    BatchHeader,
    Fact,
    PassageFact,
    PeerBeat,
    PeerKind,
    PeerLife,
    PeerSeen,
    SideRange,
    Stream,
    VersionMark,
    decode_fact,
    decode_json,
    digest_of,
    encode_batch,
    encode_fact,
    encode_peer,
    encode_sides,
    peer_signing_input,
)
from edge.model import Direction, PassageResult, Station
from sync.peer_answers import (
    Cover,
    Forget,
    Heard,
    MoveLife,
    PeerAnswer,
    PeerDevice,
    Publish,
    RefusedPeer,
    SendRange,
    TakeFacts,
    TakeReport,
    TakeSides,
)
from sync.peer_topics import subscriptions, topic_of
from sync.peer_voice import HEARD_MS
from sync.peers import Peers
from tests.support import facts

SITE = "school-7"
BATCH_ROWS = 20  # Smaller than the wire's, so that a hole takes several answers.


def point_of(device: str) -> bytes:
    return b"key of " + device.encode()


def sign(device: str, data: bytes) -> bytes:
    """Stands in for ECDSA: what a signature protects is tried with the real one elsewhere."""
    return sha256(point_of(device) + data).digest()


def verify(point: bytes, data: bytes, signature: bytes) -> bool:
    return signature == sha256(point + data).digest()


def message(device: str, kind: PeerKind, payload: bytes) -> bytes:
    return encode_peer(payload, device, sign(device, peer_signing_input(kind, payload)))


@dataclass
class Store:
    """What outlives a restart of sync."""

    store_id: str
    facts: dict[tuple[str, str], dict[int, bytes]] = field(default_factory=dict)
    lives: dict[tuple[str, str], tuple[int, int, str]] = field(default_factory=dict)
    sides: dict[tuple[str, str], int] = field(default_factory=dict)
    people: dict[tuple[str, str], Direction] = field(default_factory=dict)
    reports: dict[str, PeerBeat] = field(default_factory=dict)
    covers: dict[tuple[str, str, str], int] = field(default_factory=dict)
    heard_until_ms: dict[str, int] = field(default_factory=dict)


@dataclass
class Epoch:
    name: str
    rows: list[bytes] = field(default_factory=list)

    @property
    def side(self) -> int:
        """The last passage."""
        for sequence in range(len(self.rows), 0, -1):
            if isinstance(decode_fact(self.rows[sequence - 1]), PassageFact):
                return sequence
        return 0


class Device:
    def __init__(self, world: World, name: str, station: Station) -> None:
        self.world, self.name, self.station = world, name, station
        self.epochs: list[Epoch] = []
        self.store = Store(store_id=f"{name}-s1")
        self.seen: dict[tuple[str, str], int] = {}
        self.seen_store = self.store.store_id
        self.said: list[tuple[int, PeerBeat]] = []
        self.refused: list[RefusedPeer] = []
        self.base: tuple[VersionMark | None, dict[tuple[str, str], int]] = (None, {})
        self.online = True
        self.starts = 0
        self.open_epoch()
        self.kernel = self.start()

    # ------------------------------------------------------------------------- life

    def start(self) -> Peers:
        self.starts += 1
        count = iter(range(1_000_000))
        self.kernel = Peers(
            device=self.name,
            site=SITE,
            station=self.station,
            session=f"{self.name}-{self.starts}",
            verify=verify,
            nonce=lambda: f"{self.name}-{self.starts}-{next(count)}",
        )
        for (device, epoch), (after, up_to, digest) in self.store.lives.items():
            side = self.store.sides.get((device, epoch), 0)
            self.kernel.held(
                device=device, epoch=epoch, after=after, up_to=up_to, digest=digest, side=side
            )
        self.take(self.kernel.roster(self.world.roster()))
        self.take(self.kernel.base(*self.base))
        self.tell_mine()
        if self.online:
            self.kernel.connected()
        return self.kernel

    def open_epoch(self) -> None:
        self.epochs.append(Epoch(f"{self.name}-e{len(self.epochs) + 1}"))
        self.record(None)

    def lose_store(self) -> None:
        """Another sync.db, and so another epoch."""
        self.store = Store(store_id=f"{self.name}-s{self.starts + 1}")
        self.open_epoch()
        self.start()

    def record(self, cardholder: str | None, *, taken: bool = True) -> None:
        epoch = self.epochs[-1]
        header = facts.stamp(
            len(epoch.rows) + 1,
            digest_of(epoch.rows[-1]) if epoch.rows else NO_DIGEST,
            device=self.name,
            epoch=epoch.name,
        )
        fact: Fact
        if cardholder is None:
            fact = facts.opened(header) if not epoch.rows else facts.access(header)
        elif self.station is Station.TILL:
            fact = facts.sale(header, account=cardholder)
        else:
            way = self.world.random.choice(list(Direction))
            result = PassageResult.TAKEN if taken else PassageResult.NOT_TAKEN
            fact = facts.passage(header, cardholder=cardholder, direction=way, result=result)
        epoch.rows.append(encode_fact(fact))

    def note_seen(self) -> None:
        """What edge does when rung: from here its decisions rest on this."""
        self.seen = {key: up_to for key, (_, up_to, _) in self.store.lives.items() if up_to}
        self.seen_store = self.store.store_id

    def tell_mine(self) -> None:
        till = self.station is Station.TILL
        lives = tuple(
            PeerLife(
                epoch=epoch.name,
                held_from=1,
                head=len(epoch.rows) if till else epoch.side,
                side=0 if till else epoch.side,
            )
            for epoch in self.epochs[-4:]
        )
        seen: tuple[PeerSeen, ...] = ()
        if self.seen_store == self.store.store_id:
            seen = tuple(
                PeerSeen(device=d, epoch=e, up_to=u) for (d, e), u in sorted(self.seen.items())
            )
        self.kernel.mine(lives=lives, store=self.store.store_id, seen=seen)

    def connect(self, online: bool) -> None:
        self.online = online
        (self.kernel.connected if online else self.kernel.disconnected)()

    def put_base(self, version: VersionMark, vector: dict[tuple[str, str], int]) -> None:
        self.base = (version, vector)
        self.take(self.kernel.base(version, vector))

    # ------------------------------------------------------------------------ answers

    def step(self) -> None:
        for _ in range(16):
            answers = self.kernel.step(now_ms=self.world.now_ms)
            self.take(answers)
            if not any(isinstance(answer, SendRange) for answer in answers):
                return
        raise AssertionError("the kernel asks to send for ever")

    def receive(self, sender: str, kind: PeerKind, data: bytes) -> None:
        self.take(self.kernel.receive(kind, sender, data, now_ms=self.world.now_ms))

    def take(self, answers: list[PeerAnswer]) -> None:
        store = self.store
        for answer in answers:
            match answer:
                case Publish(kind=kind, payload=payload):
                    if kind is PeerKind.BEAT:
                        self.said.append((self.world.now_ms, decode_json(PeerBeat, payload)))
                    self.world.publish(self.name, kind, message(self.name, kind, payload))
                case SendRange():
                    self.send(answer)
                case TakeFacts(device=device, epoch=epoch):
                    rows = store.facts.setdefault((device, epoch), {})
                    rows.update(enumerate(answer.facts, start=answer.first))
                    store.lives[device, epoch] = (answer.after, answer.up_to, answer.digest)
                    self.world.check_held(self, device, epoch)
                case MoveLife(device=device, epoch=epoch):
                    store.lives[device, epoch] = (answer.after, answer.up_to, answer.digest)
                    self.world.check_held(self, device, epoch)
                case TakeSides(device=device, epoch=epoch, up_to=up_to):
                    store.sides[device, epoch] = up_to
                    for fact in answer.facts:
                        assert isinstance(fact, PassageFact), "this world has no officers"
                        store.people[fact.cardholder or "", device] = fact.direction
                case TakeReport(device=device, beat=beat):
                    store.reports[device] = beat
                case Cover(device=device, store=other, epoch=epoch, up_to=up_to):
                    self.world.check_cover(self, answer)
                    store.covers[device, other, epoch] = up_to
                case Heard(until_ms=until_ms):
                    store.heard_until_ms |= until_ms
                case Forget(device=device):
                    store.reports.pop(device, None)
                case RefusedPeer():
                    self.refused.append(answer)

    def send(self, wanted: SendRange) -> None:
        epoch = next(one for one in self.epochs if one.name == wanted.epoch)
        rows = epoch.rows[wanted.after : wanted.after + BATCH_ROWS]
        up_to = wanted.after + len(rows)
        if not rows:
            payload, end = b"", None
        elif wanted.kind is PeerKind.SPEND:
            header = BatchHeader(
                device=self.name,
                stream=Stream.MAIN,
                epoch=epoch.name,
                first=wanted.after + 1,
                count=len(rows),
                digest=digest_of(rows[-1]),
            )
            payload, end = encode_batch(header, rows), up_to
        else:
            taken = [row for row in rows if is_taken(row)]
            side = SideRange(
                device=self.name,
                site=SITE,
                epoch=epoch.name,
                after=wanted.after,
                up_to=up_to,
                count=len(taken),
            )
            payload, end = encode_sides(side, taken), up_to
        if payload:
            self.world.publish(self.name, wanted.kind, message(self.name, wanted.kind, payload))
        self.kernel.sent(wanted.kind, wanted.epoch, after=wanted.after, up_to=end)


def is_taken(row: bytes) -> bool:
    fact = decode_fact(row)
    return isinstance(fact, PassageFact) and fact.result is PassageResult.TAKEN


@dataclass(frozen=True, kw_only=True)
class Net:
    """Chances, per message."""

    lost: float = 0.0
    doubled: float = 0.0
    late_ms_max: int = 5


class World:
    def __init__(self, random: Random, stations: dict[str, Station], net: Net) -> None:
        self.random, self.net, self.now_ms = random, net, 1_000
        self.stations = stations
        self.apart: set[frozenset[str]] = set()
        self.messages = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.devices: dict[str, Device] = {}
        for name, station in stations.items():
            self.devices[name] = Device(self, name, station)

    def roster(self) -> dict[str, PeerDevice]:
        return {n: PeerDevice(station=s, public=point_of(n)) for n, s in self.stations.items()}

    def tills(self) -> list[Device]:
        return [d for d in self.devices.values() if d.station is Station.TILL]

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._count, action))

    def run(self, for_ms: int) -> None:
        """A kernel is stepped when something came or when it asked to be, never otherwise."""
        until_ms = self.now_ms + for_ms
        while True:
            due = min(
                (d.kernel.due_ms(self.now_ms), n, d) for n, d in enumerate(self.devices.values())
            )
            if self._queue and self._queue[0][0] <= due[0]:
                if self._queue[0][0] > until_ms:
                    break
                self.now_ms, _, action = heapq.heappop(self._queue)
                action()
                for device in self.devices.values():
                    device.tell_mine()
                    device.step()
                continue
            if due[0] > until_ms:
                break
            assert due[0] > self.now_ms or self.stepped_at != (due[0], due[1]), "never satisfied"
            self.stepped_at = (due[0], due[1])
            self.now_ms = due[0]
            due[2].step()
        self.now_ms = until_ms

    stepped_at = (-1, -1)

    def publish(self, sender: str, kind: PeerKind, data: bytes) -> None:
        if not self.devices[sender].online:
            return
        topic = topic_of(SITE, sender, kind)
        for name, station in self.stations.items():
            heard = topic.replace(f"/{sender}/", "/+/") in subscriptions(SITE, station)
            if not heard or (name != sender and frozenset((name, sender)) in self.apart):
                continue
            copies = 2 if self.random.random() < self.net.doubled else 1
            for _ in range(copies):
                if self.random.random() >= self.net.lost:
                    self.messages += 1
                    self.at(
                        self.random.randint(1, self.net.late_ms_max),
                        lambda name=name: self._deliver(name, sender, kind, data),  # type: ignore[misc]
                    )

    def _deliver(self, name: str, sender: str, kind: PeerKind, data: bytes) -> None:
        if self.devices[name].online:
            self.devices[name].receive(sender, kind, data)

    # -------------------------------------------------------------------------- the oracle

    def truth(self, device: str, epoch: str) -> list[bytes]:
        return next(one.rows for one in self.devices[device].epochs if one.name == epoch)

    def check_held(self, me: Device, device: str, epoch: str) -> None:
        """No hole, and no byte that was not recorded so."""
        after, up_to, _ = me.store.lives[device, epoch]
        rows, truth = me.store.facts.get((device, epoch), {}), self.truth(device, epoch)
        included = me.base[1].get((device, epoch), 0)
        assert after <= max(included, after) and up_to <= len(truth)
        for sequence in range(after + 1, up_to + 1):
            assert rows[sequence] == truth[sequence - 1]

    def check_cover(self, me: Device, cover: Cover) -> None:
        """Some report said so, and all that its maker had done by then is known."""
        assert cover.store == me.store.reports[cover.device].store, "of a store that is no more"
        for _, beat in self.devices[cover.device].said:
            seen = {(one.device, one.epoch): one.up_to for one in beat.seen}
            known = all(me.kernel.known(cover.device, e.epoch) >= e.head for e in beat.lives)
            saw = seen.get((me.name, cover.epoch)) == cover.up_to
            if known and saw and beat.store == cover.store:
                return
        raise AssertionError(f"{me.name}: {cover} has no ground")

    def check_heard(self) -> None:
        """Who is heard spoke a moment ago, whatever the net repeats."""
        for me in self.devices.values():
            for name, other in self.devices.items():
                if name != me.name and me.kernel.heard(name, now_ms=self.now_ms):
                    assert any(at >= self.now_ms - HEARD_MS for at, _ in other.said[-400:])

    def check_settled(self) -> None:
        """Everybody has everything, and knows that."""
        for me in self.devices.values():
            for name, other in self.devices.items():
                if name == me.name:
                    continue
                assert me.kernel.heard(name, now_ms=self.now_ms), (me.name, name)
                for epoch in other.epochs[-4:]:
                    if other.station is not Station.TILL:
                        assert me.store.sides.get((name, epoch.name), 0) >= epoch.side
                        self._check_people(me, other)
                    elif me.station is Station.TILL:
                        assert me.kernel.known(name, epoch.name) == len(epoch.rows)
                if Station.TILL is me.station is other.station:
                    assert me.kernel.complete(name)
                    newest = me.epochs[-1]
                    key = (name, other.store.store_id, newest.name)
                    assert me.store.covers[key] == len(newest.rows), key

    def _check_people(self, me: Device, lane: Device) -> None:
        last = {}
        for epoch in lane.epochs[-4:]:
            for row in epoch.rows:
                fact = decode_fact(row)
                if is_taken(row) and isinstance(fact, PassageFact):
                    last[fact.cardholder or "", lane.name] = fact.direction
        known = {key: way for key, way in me.store.people.items() if key[1] == lane.name}
        assert known == last
