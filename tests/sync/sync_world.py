"""A device's whole sync in virtual time: real files, kernels and shells; a bridge and a city in our
hands.

The bridge is a fake that keeps the promises of `sync/bridge.py` as far as the loop leans on them:
one `Disconnected` per `connect`, events in order. The city answers at once and by the wire's page:
it signs with `tests/support/small_city.py`, issues certificates with keys of its own, and keeps
what it was told. Time passes only by `run`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import structs

from edge.certificates import Identity, new_key
from edge.clock import Clock
from edge.config import load
from edge.messages import (
    Ack,
    AnyFact,
    DeviceRow,
    Hello,
    HighWater,
    Order,
    Pull,
    PushKeys,
    Renew,
    Renewed,
    Root,
    ScopeKey,
    SealedKeys,
    Signed,
    SignedWhat,
    Stream,
    VersionMark,
    Welcome,
    b64u,
    decode_batch,
    decode_fact,
    decode_json,
    encode_json,
    encode_pack,
    encode_signed_lines,
)
from edge.model import DeviceFault
from edge.offline_cache import outbox
from edge.offline_cache.store import FileKind, Writer
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore, key_fingerprint, write_secret
from sync.bridge import Bridge
from sync.bridge_events import (
    BridgeEvent,
    Connected,
    Disconnected,
    Loss,
    Message,
    SubscriptionsReady,
    Token,
)
from sync.loop import Sync
from sync.neighbour import Answered, Neighbour
from sync.network_watch import NetworkWatch
from sync.parts import Parts
from sync.roots import Roots
from sync.session import Endpoint, Session, parse_endpoints
from sync.sessions import Sessions
from sync.topics import TopicKind, parse
from tests.provisioning.enrolment_city import certificate, pem
from tests.support import small_city
from tests.support.pictures import Station as Files
from tests.support.times import BOOT, MOSCOW, NOON_MS

DEVICE, SITE = "till-1", "school-7"
ENDPOINT = "mqtts://first.example:8883"
LIFE = timedelta(days=90)
TOML = f"""schema = 1
[device]
id = "{DEVICE}"
site = "{SITE}"
station = "till"
[city]
endpoints = ["{ENDPOINT}"]
[[readers]]
id = "r1"
driver = "pcsc"
"""


@dataclass
class FakeNeighbour:
    """edge, as far as it is asked."""

    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    says: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda request: None
    full: bool = False

    def ask(self, about: str, request: dict[str, Any]) -> bool:
        if self.full:
            return False
        self.asked.append((about, request))
        self.answers.append(Answered(about, self.says(request)))
        return True

    def poll(self) -> list[Answered]:
        answers, self.answers = self.answers, []
        return answers

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class FakeNetwork:
    """Comes back when the test says so."""

    back: bool = False

    def came_back(self) -> bool:
        was, self.back = self.back, False
        return was

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class FakeBridge:
    """Connections end where the test says so; everything published goes to the city."""

    city: City
    events: list[BridgeEvent] = field(default_factory=list)
    connected: bool = False
    session: Session | None = None
    endpoint: Endpoint | None = None
    connects: list[str] = field(default_factory=list)
    wills: list[tuple[str, bytes]] = field(default_factory=list)  # Of each attempt: topic, payload.
    topics: tuple[str, ...] = ()
    at_most_once: frozenset[str] = frozenset()
    packet_bytes_max: int | None = None
    overfull: int = 0  # Connections that ended over a packet above that.

    def connect(
        self, endpoint: Endpoint, *, will_topic: str, will: bytes, session: Session | None
    ) -> None:
        assert not self.connected
        self.session, self.endpoint = session, endpoint
        self.connects.append(endpoint.host)
        self.wills.append((will_topic, will))
        refusal = self.city.refuses(endpoint)
        if refusal is not None:
            loss, detail = refusal
            self.events.append(Disconnected(loss=loss, detail=detail, was_connected=False))
            return
        self.connected = True
        self.events.append(
            Connected(
                endpoint=endpoint,
                protocol="5",
                receive_max=20,
                packet_bytes_max=self.packet_bytes_max,
                keepalive_s=45,
            )
        )

    def disconnect(self) -> None:
        self.lose(Loss.ASKED, "ended by this device")

    def lose(self, loss: Loss, detail: str) -> None:
        if self.connected:
            self.connected = False
            self.events.append(Disconnected(loss=loss, detail=detail, was_connected=True))

    def subscribe(self, topics: tuple[str, ...], *, at_most_once: Collection[str] = ()) -> None:
        self.topics, self.at_most_once = topics, frozenset(at_most_once)
        self.events.append(SubscriptionsReady(refused=()))
        self.city.subscribed(topics)

    def publish(self, topic: str, payload: bytes, *, qos: int, retained: bool = False) -> int:
        if not self.connected:
            raise DeviceFault("no connection")
        size = len(payload) + len(topic) + 10
        if self.packet_bytes_max is not None and size > self.packet_bytes_max:
            self.overfull += 1
            self.lose(Loss.LOST, "the broker ended it: packet too large")
            return 1
        self.city.take(topic, payload)
        return 1

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()  # What is published is there at once.

    def done(self, *tokens: Token) -> None:
        """The city keeps nothing in flight."""

    def deliver(self, topic: str, payload: bytes) -> None:
        if self.connected and topic in self.topics:
            message = Message(topic=topic, payload=payload, retained=False, token=Token(1, 1))
            self.events.append(message)

    def poll(self) -> list[BridgeEvent]:
        events, self.events = self.events, []
        return events

    def wake(self) -> None:
        """Nobody waits."""

    def wait(self, timeout_ms: int) -> None:
        raise AssertionError("time passes by the world's hand")

    def close(self) -> None:
        self.connected = False


class City:
    """What it was told, and what it answers. Change `utc_ms`, `up` and the rest at will."""

    def __init__(self, folder: Path) -> None:
        self.live: tuple[str, ...] = ()  # Tills that it hears.
        self.wanted: dict[str, VersionMark] = {}  # Said in each welcome,
        self.throttle_per_s: int | None = None  # and this in each acknowledgement too.
        self.acknowledging = True
        self.folder = folder
        self.bridge: FakeBridge
        self.up = True
        self.utc_ms: Callable[[], int] = lambda: NOON_MS
        self.freshness, self.list_key, self.root_version = "freshness", "list", 1
        self.refused: Callable[[Endpoint], tuple[Loss, str] | None] = lambda endpoint: None
        self.hellos: list[Hello] = []
        self.published: list[tuple[str, bytes]] = []
        self.waters: dict[tuple[Stream, str], tuple[int, str]] = {}
        self.renews: list[Renew] = []
        self.pulls: list[Pull] = []
        self.root_document = b""  # Retained on c/root.
        self.answer_pull: Callable[[Pull], None] = lambda pull: None  # `lists_city.py` answers.
        self.answer_renew: Callable[[Renew], Renewed | None] = self.issue
        self.key_of: Callable[[str], bytes] = lambda scope: small_city.secret(f"identifier {scope}")
        begins = datetime.fromtimestamp(NOON_MS / 1000, UTC)
        self.authority_key = ec.generate_private_key(ec.SECP256R1())
        self.authority = certificate(
            "root", self.authority_key.public_key(), "root", self.authority_key, begins, ca=True
        )
        self.points: dict[str, bytes] = {}  # Fingerprint -> point, of keys it gave certificates.
        self.sealed_to = b""

    def refuses(self, endpoint: Endpoint) -> tuple[Loss, str] | None:
        return self.refused(endpoint)

    def leaf(
        self, public: ec.EllipticCurvePublicKey, *, begins_ms: int, name: str = DEVICE
    ) -> x509.Certificate:
        begins = datetime.fromtimestamp(begins_ms / 1000, UTC)
        return certificate(name, public, "root", self.authority_key, begins, life=LIFE)

    def issue(self, renew: Renew) -> Renewed:
        request = x509.load_pem_x509_csr(renew.csr_pem.encode())
        assert request.is_signature_valid
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.know(key)
        leaf = self.leaf(key, begins_ms=self.utc_ms())
        return Renewed(device=DEVICE, certificate_pem=pem(leaf), chain_pem=pem(self.authority))

    def know(self, key: ec.EllipticCurvePublicKey) -> None:
        point = key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.points[key_fingerprint(point)] = point

    def subscribed(self, topics: tuple[str, ...]) -> None:
        if self.root_document and "mk/v1/c/root" in topics:
            self.bridge.deliver("mk/v1/c/root", self.root_document)

    def take(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, payload))
        found = parse(topic)
        assert found is not None and found.device == DEVICE
        match found.kind:
            case TopicKind.HELLO:
                hello = decode_json(Hello, payload)
                self.hellos.append(hello)
                if hello.key in self.points:
                    self.sealed_to = self.points[hello.key]
                if self.up:
                    self.welcome(hello)
            case TopicKind.UP:
                header, _ = decode_batch(payload)
                ack = Ack(
                    device=DEVICE,
                    stream=header.stream,
                    epoch=header.epoch,
                    up_to=header.first + header.count - 1,
                    throttle_per_s=self.throttle_per_s,
                )
                if self.acknowledging:
                    self.waters[header.stream, header.epoch] = (ack.up_to, header.digest)
                    self.bridge.deliver(f"mk/v1/d/{DEVICE}/ack", encode_json(ack))
            case TopicKind.RENEW:
                renew = decode_json(Renew, payload)
                self.renews.append(renew)
                answer = self.answer_renew(renew)
                if answer is not None:
                    self.bridge.deliver(f"mk/v1/d/{DEVICE}/renewed", encode_json(answer))
            case TopicKind.PULL:
                pull = decode_json(Pull, payload)
                self.pulls.append(pull)
                if pull.keys:
                    self.push_keys(pull.keys)
                else:
                    self.answer_pull(pull)
            case _:
                pass

    def welcome(self, hello: Hello, **changes: Any) -> bytes:
        """Answers it, and returns the answer as it went out. `changes`: what is said otherwise."""
        high_water = tuple(
            HighWater(stream=stream, epoch=epoch, up_to=up_to, digest=digest)
            for (stream, epoch), (up_to, digest) in self.waters.items()
        )
        welcome = Welcome(
            device=DEVICE,
            nonce=hello.nonce,
            utc_ms=self.utc_ms(),
            high_water=high_water,
            wanted=self.wanted,
            throttle_per_s=self.throttle_per_s,
            live=self.live,
        )
        said = encode_json(structs.replace(welcome, **changes))
        return self.send("welcome", SignedWhat.WELCOME, said, key=self.freshness)

    def push_keys(self, scopes: tuple[str, ...]) -> None:
        keys = tuple(
            ScopeKey(
                scope=scope,
                purpose="identifier",
                version=1,
                sealed=small_city.sealed_to(
                    self.sealed_to,
                    self.key_of(scope),
                    scope=scope,
                    purpose="identifier",
                    version=1,
                ),
            )
            for scope in scopes
        )
        told = SealedKeys(device=DEVICE, keys=keys, issued_utc_ms=self.utc_ms())
        signed = small_city.sign(SignedWhat.KEYS, encode_pack(told), key=self.list_key)
        self.bridge.deliver(f"mk/v1/d/{DEVICE}/push", encode_pack(PushKeys(signed=signed)))

    def order(self, counter: int, word: str, **more: Any) -> None:
        now_ms = self.utc_ms()
        fields: dict[str, Any] = {
            "device": DEVICE,
            "counter": counter,
            "order": word,
            "not_before_utc_ms": now_ms - 1_000,
            "not_after_utc_ms": now_ms + 60_000,
        }
        order = Order(**(fields | more))
        self.send("order", SignedWhat.ORDER, encode_json(order), key="order")

    def send(
        self, kind: str, what: SignedWhat, payload: bytes, *, key: str, key_id: str | None = None
    ) -> bytes:
        lines = signed_lines(small_city.sign(what, payload, key=key, key_id=key_id))
        self.bridge.deliver(f"mk/v1/d/{DEVICE}/{kind}", lines)
        return lines

    def rotate(self, root: Root) -> bytes:
        """A root document, as it stands retained on `c/root`."""
        self.root_document = signed_lines(small_city.signed_root(root))
        self.bridge.deliver("mk/v1/c/root", self.root_document)
        return self.root_document

    def of(self, kind: TopicKind) -> list[bytes]:
        """Payloads of one topic, oldest first."""
        name = f"mk/v1/d/{DEVICE}/{kind}"
        return [payload for topic, payload in self.published if topic == name]


def signed_lines(signed: Signed) -> bytes:
    return encode_signed_lines(signed.payload, signed.key_id, signed.signature)


class World:
    """One device; `restart` is a process that ended and was started again."""

    def __init__(
        self, folder: Path, *, seed: int = 7, endpoints: tuple[str, ...] = (ENDPOINT,)
    ) -> None:
        self.folder = folder
        self.city = City(folder)
        self.seed, self.endpoints = seed, endpoints
        self.mono_ms, self.boot, self.wall_ms = 1_000_000, BOOT, 0
        self.city.utc_ms = lambda: NOON_MS + self.mono_ms - 1_000_000
        self.neighbour = FakeNeighbour()
        self.network = FakeNetwork()
        self.rings = 0
        self.settings = self._enrol()
        self.start()

    def _enrol(self) -> DeviceSettings:
        for name in ("state", "identity", "run"):
            (self.folder / name).mkdir()
        text = TOML.replace(f'"{ENDPOINT}"', ", ".join(f'"{one}"' for one in self.endpoints))
        (self.folder / "device.toml").write_text(text)
        settings = load(self.folder / "device.toml")
        write_secret(settings.key_path, new_key())
        key = serialization.load_pem_private_key(settings.key_path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.city.know(key.public_key())
        leaf = self.city.leaf(key.public_key(), begins_ms=NOON_MS)
        settings.certificate_path.write_text(pem(leaf))
        settings.authority_path.write_text(pem(self.city.authority))
        settings.root_key_path.write_text(b64u(small_city.public_bytes("root")) + "\n")
        settings.root_document_path.write_bytes(signed_lines(small_city.signed_root()))
        return settings

    def start(self, *, clock_trusted: bool = True, wall_ms: int | None = None) -> None:
        """`clock_trusted`: NTP holds from the first moment; else nothing is known of the time.
        `wall_ms`: what the machine's clock says from there on, in place of the city's time."""
        began_ms = self.mono_ms

        def machine_ms() -> int:
            if wall_ms is not None:
                return wall_ms + self.mono_ms - began_ms
            return self.city.utc_ms() if clock_trusted else self.wall_ms

        settings = self.settings
        identity = Identity(
            device_id=DEVICE,
            key=settings.key_path,
            certificate=settings.certificate_path,
            authority=settings.authority_path,
        )
        identity.settle()
        self.clock = Clock(
            MOSCOW,
            boot=self.boot,
            mono_ms=lambda: self.mono_ms,
            wall_ms=machine_ms,
            ntp=lambda: clock_trusted,
        )
        self.writer = Writer(settings.sync_path, FileKind.SYNC)
        self.bridge = self.city.bridge = FakeBridge(self.city)
        self.keys = FileKeyStore(settings.key_path)
        self.random = random.Random(self.seed).random
        self.sync = Sync(
            Parts(
                settings=settings,
                clock=self.clock,
                writer=self.writer,
                bridge=cast(Bridge, self.bridge),
                keys=self.keys,
                roots=Roots(settings, self.writer),
                identity=identity,
                sessions=Sessions(identity, lambda: self.clock.moment().wall_ms // 1000),
                neighbour=cast(Neighbour, self.neighbour),
                network=cast(NetworkWatch, self.network),
                endpoints=parse_endpoints(settings.endpoints),
                random=lambda: self.random(),
                ring_edge=self._ring,
            )
        )

    def _ring(self) -> None:
        self.rings += 1

    def stop(self) -> None:
        self.sync.stop()

    def kill(self) -> None:
        """The process ends without a word; what is committed stays."""
        self.sync.uplink.close()
        self.sync.downlink.close()
        self.sync.pictures.close()
        self.writer.close()

    def restart(
        self, *, reboot: bool = False, clock_trusted: bool = True, wall_ms: int | None = None
    ) -> None:
        self.kill()
        if reboot:
            self.boot, self.mono_ms = f"{int(self.boot[1:] or 0) + 1:012}", self.mono_ms + 60_000
        self.start(clock_trusted=clock_trusted, wall_ms=wall_ms)

    def run(self, ms: int = 0) -> None:
        """Time passes, as the process's own loop would let it: woken, and at least each second."""
        until_ms = self.mono_ms + ms
        while True:
            for _ in range(50):
                self.sync.step(rung=True)
                if not self.bridge.events and not self.neighbour.answers:
                    break
            else:
                raise AssertionError("it never comes to rest")
            if self.mono_ms >= until_ms:
                return
            due_ms = self.sync.due_ms()
            self.mono_ms = min(until_ms, max(self.mono_ms + 1, due_ms))

    def install_settings(self, *rows: tuple[small_city.Key, Any], number: int) -> None:
        """The settings list in force, as if it had been pulled."""
        self.install(
            small_city.Scope(small_city.SETTINGS, number=number - 1), small_city.site(), *rows
        )

    def install(self, scope: small_city.Scope, *rows: tuple[small_city.Key, Any]) -> None:
        """A list in force with these rows more, one version on."""
        scope.put(*rows)
        files = Files(self.settings.folders.state, self.writer, self.sync.pictures)
        files.install(scope, moment=self.clock.moment())
        self.sync.configuring.lists_changed = True

    def facts(self, stream: str = "agent") -> list[AnyFact]:
        """All facts of sync's own stream, chain checked."""
        found: list[AnyFact] = []
        for life in outbox.lives(self.writer.db, Stream(stream)):
            assert outbox.chain_problem(self.writer.db, life) == ""
            bodies = outbox.next_facts(
                self.writer.db, life.life, 1, rows_max=1_000, bytes_max=1 << 20
            )
            found += [decode_fact(body) for body in bodies]
        return found


def device_row(version: int, **values: Any) -> tuple[small_city.Key, DeviceRow]:
    return (51, DEVICE.encode()), DeviceRow(version=version, values=values)
