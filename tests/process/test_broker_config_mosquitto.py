"""Goal: behind the city's broker as `moskvenok broker config` sets it up, a device writes its own
up topics, reads its own down topics and its station's lists, and nothing else gets through in
either direction, whatever it claims; a revoked one is out.

Method: a real Mosquitto with mutual TLS. Every client publishes to every topic that there can be,
its own, another's, of its site, of another site, and a watcher that the list lets do everything
says what arrived; then the watcher publishes to all of them, and each client, which subscribed to
`#`, says what it got. An acknowledgement proves nothing there, delivery does. What is right is
written down here once more, not taken from the table that the access list is made of.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from getpass import getuser
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.certificates import new_key
from edge.trust import read_key, write_secret
from provisioning.cli import main
from tests.process.brokers import Broker, free_port, mosquitto_program
from tests.provisioning.enrolment_city import certificate, pem

NOW = datetime.now(UTC)
WAIT_S = 20.0  # Our choice: many times what anything here takes on an idle machine.
UP = ("status", "hello", "pull", "renew", "health", "up/main", "up/agent", "up/diag")
DOWN = ("welcome", "ack", "push", "renewed", "order")
LISTS = ("people", "money", "menu", "settings")
DEVICES = {  # Device -> site, station, the lists that it reads.
    "gate-a": ("site-a", "entrance", {"site-a/people", "site-a/settings"}),
    "garden-a": ("site-a", "preschool", {"site-a/people", "site-a/settings"}),
    "till-a": ("site-a", "till", {f"site-a/{one}" for one in LISTS}),
    "museum-a": ("site-a", "admission", {"city/museum", "site-a/settings"}),
    "till-b": ("site-b", "till", {f"site-b/{one}" for one in LISTS}),
    "stolen-a": ("site-a", "till", set[str]()),  # On the list of the revoked.
    "unlisted": ("", "", set[str]()),  # A good certificate, and on no list.
}
CITY, WATCHER, STRANGER = "city", "watcher", "stranger"
NAMES = (*DEVICES, CITY, WATCHER)

pytestmark = [pytest.mark.process, pytest.mark.slow]


def universe() -> list[str]:
    """Every topic of the wire for every device and site here, and what a liar may try beside."""
    found = [f"mk/v1/d/{device}/{one}" for device in DEVICES for one in (*UP, *DOWN)]
    found += [f"mk/v1/d/{one}/up/for/{other}" for one in DEVICES for other in DEVICES]
    scopes = [f"{site}/{one}" for site in ("site-a", "site-b") for one in LISTS]
    found += [
        f"mk/v1/s/{scope}/{end}" for scope in (*scopes, "city/museum") for end in ("head", "delta")
    ]
    found += ["mk/v1/c/root", "mk/v1/c/other", "mk/v1/d/gate-a/up", "mk/v1/d/gate-a/up/other"]
    found += ["mk/v1/d/gate-a", "mk/v1/d/gate-a/new", "mk/v1/s/site-a/new/head", "mk/v1/d/city/ack"]
    return [*found, "peer/site-a/gate-a/side", "will", "mk/v2/d/gate-a/status"]


def may_write(who: str, topic: str) -> bool:
    if who == CITY:
        kind = topic.rpartition("/")[2]
        down = topic.startswith("mk/v1/d/") and kind in DOWN
        return down or topic == "mk/v1/c/root" or _is_list(topic)
    if who == "stolen-a":
        return False
    own = topic.removeprefix(f"mk/v1/d/{who}/")
    return own != topic and (own in UP or own.startswith("up/for/"))


def may_read(who: str, topic: str) -> bool:
    if who == CITY:
        device, _, own = topic.removeprefix("mk/v1/d/").partition("/")
        of_device = topic.startswith("mk/v1/d/") and (own in UP or own.startswith("up/for/"))
        # What is for every name is for this one, too: harmless.
        return of_device or topic == "mk/v1/c/root" or (device == CITY and own in DOWN)
    if who == "stolen-a":
        return False
    scope = topic.removeprefix("mk/v1/s/").rpartition("/")[0]
    return (
        topic == "mk/v1/c/root"
        or topic.removeprefix(f"mk/v1/d/{who}/") in DOWN
        or (_is_list(topic) and scope in DEVICES[who][2])
    )


def _is_list(topic: str) -> bool:
    words = topic.split("/")
    return words[:3] == ["mk", "v1", "s"] and len(words) == 6 and words[5] in ("head", "delta")


class Client:
    """One certificate's connection. `got` keeps what was delivered: topic and text."""

    def __init__(
        self, bench: Bench, name: str, *, version: int = 5, will: str = "", client_id: str = ""
    ) -> None:
        self.got: list[tuple[str, str]] = []
        self._answers = 0
        self._changed = threading.Condition()
        protocol = MQTTProtocolVersion.MQTTv5 if version == 5 else MQTTProtocolVersion.MQTTv311
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id or f"liar-{name}", protocol=protocol
        )
        self._client.tls_set_context(bench.tls(name))
        if will:
            self._client.will_set(will, b"will", qos=1)
        self._client.on_connect = lambda *_: self._answer()
        self._client.on_subscribe = lambda *_: self._answer()
        self._client.on_publish = lambda *_: self._answer()
        self._client.on_message = self._take
        self._client.connect("localhost", bench.broker.port)
        self._client.loop_start()
        self.wait(lambda: self._answers >= 1)

    def publish(self, topic: str, text: str, *, retained: bool = False) -> None:
        self._client.publish(topic, text.encode(), qos=1, retain=retained)

    def publish_all(self, topics: list[str], text: str) -> None:
        """And wait for every acknowledgement, which is no proof of anything else."""
        before = self._answers
        for topic in topics:
            self.publish(topic, text)
        self.wait(lambda: self._answers >= before + len(topics))

    def subscribe(self, topic: str) -> None:
        """What was sent before arrived before the answer."""
        before = self._answers
        self._client.subscribe(topic, qos=1)
        self.wait(lambda: self._answers > before)

    def wait(self, is_so: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(is_so, WAIT_S), f"{len(self.got)} got"

    def cut(self) -> None:
        """The line goes without a goodbye: its will is published."""
        sock = self._client.socket()
        assert sock is not None
        self._client.loop_stop()
        sock.close()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _answer(self) -> None:
        with self._changed:
            self._answers += 1
            self._changed.notify_all()

    def _take(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.got.append((message.topic, message.payload.decode()))
            self._changed.notify_all()


class Bench:
    """Certificates of a city, the command, and the broker it describes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._root = certificate("root", self._key.public_key(), "root", self._key, NOW, ca=True)
        (folder / "ca.pem").write_text(pem(self._root))
        self.serials = {name: self._issue(name) for name in (*NAMES, STRANGER, "crl-a")}
        self._issue("localhost", purpose=ExtendedKeyUsageOID.SERVER_AUTH, host="localhost")
        rows = [f"{name},{site},{station}" for name, (site, station, _) in DEVICES.items() if site]
        (folder / "devices.csv").write_text("\n".join(["device,site,station", *rows]) + "\n")
        (folder / "revoked.txt").write_text("# stolen\nstolen-a\n")
        self.write_crl()
        port = free_port()
        self.configure(port)
        program = mosquitto_program()
        configuration = folder / "broker" / "mosquitto.conf"
        self.broker = Broker(
            command=(program, "-c", str(configuration)),
            port=port,
            tls=True,
            log=folder / "mosquitto.log",
        )

    def configure(self, port: int, *more: str) -> None:
        folder = self.folder
        done = CliRunner().invoke(
            main,
            [
                *("broker", "config", "--out", str(folder / "broker"), "--port", str(port)),
                *("--address", "127.0.0.1", "--authority", str(folder / "ca.pem")),
                *("--certificate", str(folder / "localhost.crt")),
                *("--key", str(folder / "localhost.key"), "--crl", str(folder / "crl.pem")),
                *("--devices", str(folder / "devices.csv")),
                *("--revoked", str(folder / "revoked.txt"), "--user", getuser(), *more),
            ],
        )
        assert done.exit_code == 0, done.output
        access = folder / "broker" / "acl"
        access.write_text(access.read_text() + f"\nuser {WATCHER}\ntopic readwrite #\n")

    def write_crl(self) -> None:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._root.subject)
            .last_update(NOW - timedelta(days=1))
            .next_update(NOW + timedelta(days=30))
        )
        entry = x509.RevokedCertificateBuilder().serial_number(self.serials["crl-a"])
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW).build())
        made = builder.sign(self._key, hashes.SHA256())
        (self.folder / "crl.pem").write_bytes(made.public_bytes(Encoding.PEM))

    def tls(self, name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return context

    def _issue(
        self, name: str, *, purpose: Any = ExtendedKeyUsageOID.CLIENT_AUTH, host: str = ""
    ) -> int:
        write_secret(self.folder / f"{name}.key", new_key())
        issuer, key = "root", self._key
        if name == STRANGER:  # A city of the same name, with a key of its own.
            key = ec.generate_private_key(ec.SECP256R1())
        made = certificate(
            name,
            read_key(self.folder / f"{name}.key").public_key(),
            issuer,
            key,
            NOW,
            life=timedelta(days=90),
            purpose=purpose,
            host=host,
        )
        (self.folder / f"{name}.crt").write_text(pem(made))
        return made.serial_number


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("broker-config"))
    made.broker.start()
    try:
        yield made
    finally:
        made.broker.stop()


@pytest.fixture
def connect(bench: Bench) -> Iterator[Callable[..., Client]]:
    with contextlib.ExitStack() as stack:

        def one(name: str, **more: Any) -> Client:
            client = Client(bench, name, **more)
            stack.callback(client.close)
            return client

        yield one


Connect = Callable[..., Client]


@pytest.mark.parametrize("version", [4, 5])
def test_what_anybody_writes_arrives_only_where_it_may(connect: Connect, version: int) -> None:
    topics = universe()
    watcher = connect(WATCHER)
    watcher.subscribe("#")
    for name in (*DEVICES, CITY):
        connect(name, version=version).publish_all(topics, name)
    watcher.publish("end", "end")
    watcher.wait(lambda: ("end", "end") in watcher.got)
    wanted = {
        (topic, name) for name in (*DEVICES, CITY) for topic in topics if may_write(name, topic)
    }
    assert set(watcher.got) - {("end", "end")} == wanted
    assert len(watcher.got) == len(wanted) + 1, "each once"
    # Six devices their eight and seven hand-ins; the city what goes down to seven and to itself
    # (`ack` alone is tried), the root, and ten scopes (one of them new).
    assert len(wanted) == 6 * 15 + 7 * 5 + 1 + 1 + 19


@pytest.mark.parametrize("version", [4, 5])
def test_who_listens_to_everything_gets_only_what_is_for_it(connect: Connect, version: int) -> None:
    topics = universe()
    clients = {name: connect(name, version=version) for name in (*DEVICES, CITY)}
    for client in clients.values():
        client.subscribe("#")
        client.subscribe("mk/v1/s/+/+/head")
        client.subscribe("mk/v1/d/+/order")
    connect(WATCHER).publish_all(topics, "said")
    for name, client in clients.items():
        client.subscribe("barrier")
        wanted = {topic for topic in topics if may_read(name, topic)}
        assert {topic for topic, _ in client.got} == wanted, name


def test_what_is_retained_is_for_the_same_eyes(connect: Connect) -> None:
    topics = [topic for topic in universe() if topic.endswith(("/head", "/status", "/root"))]
    watcher = connect(WATCHER)
    for topic in topics:
        watcher.publish(topic, "kept", retained=True)
    watcher.publish_all(["mk/v1/x"], "")
    try:
        for name in (*DEVICES, CITY):
            client = connect(name)
            client.subscribe("#")
            client.subscribe("barrier")
            assert {t for t, _ in client.got} == {t for t in topics if may_read(name, t)}, name
    finally:
        for topic in topics:
            watcher.publish(topic, "", retained=True)
        watcher.publish_all(["mk/v1/x"], "")


def test_a_will_is_no_way_around(connect: Connect) -> None:
    watcher = connect(WATCHER)
    watcher.subscribe("mk/v1/d/+/status")
    connect("till-a", will="mk/v1/d/till-b/status").cut()
    connect("till-a", will="mk/v1/d/till-a/status").cut()
    watcher.wait(lambda: bool(watcher.got))
    watcher.subscribe("barrier")
    assert watcher.got == [("mk/v1/d/till-a/status", "will")]


def test_a_client_id_of_another_throws_nobody_out(connect: Connect) -> None:
    """The name in the certificate is the client id, whatever is said."""
    victim = connect("till-b", client_id="till-b")
    liar = connect("till-a", client_id="till-b")
    victim.subscribe("mk/v1/d/till-b/ack")
    liar.subscribe("mk/v1/d/till-b/ack")
    connect(CITY).publish_all(["mk/v1/d/till-b/ack"], "for b")
    victim.wait(lambda: bool(victim.got))
    liar.subscribe("barrier")
    assert not liar.got


@pytest.mark.parametrize("name", ["crl-a", STRANGER])
def test_who_is_revoked_by_certificate_or_of_another_city_is_not_let_in(
    bench: Bench, name: str
) -> None:
    """TLS 1.3 tells a client only after its handshake that its certificate is refused."""
    answers = {}
    for one in (name, "gate-a"):
        with contextlib.suppress(OSError), _line(bench, one) as line:
            line.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x2d\x00\x01x")
            answers[one] = line.recv(4)
    assert not answers.get(name) and answers["gate-a"] == b"\x20\x02\x00\x00"


def test_a_device_that_is_revoked_while_it_talks_falls_silent_at_once(
    bench: Bench, connect: Connect
) -> None:
    """The access list holds for live sessions after SIGHUP; the revocation list would not."""
    watcher, till = connect(WATCHER), connect("till-b")
    watcher.subscribe("mk/v1/d/till-b/#")
    till.subscribe("mk/v1/s/site-b/people/head")
    watcher.publish_all(["mk/v1/s/site-b/people/head"], "before")
    till.publish_all(["mk/v1/d/till-b/status"], "before")
    till.wait(lambda: bool(till.got))
    watcher.wait(lambda: bool(watcher.got))
    (bench.folder / "revoked.txt").write_text("stolen-a\ntill-b\n")
    try:
        bench.configure(bench.broker.port, "--force")
        _reload(bench, watcher)
        till.publish_all(["mk/v1/d/till-b/status", "mk/v1/d/till-b/up/main"], "after")
        watcher.publish_all(["mk/v1/s/site-b/people/head", "mk/v1/d/till-b/ack"], "after")
        for client in (watcher, till):
            client.subscribe("barrier")
        assert [text for _, text in till.got] == ["before"]
        assert [text for topic, text in watcher.got if topic.endswith(("status", "main"))] == [
            "before"
        ]
    finally:
        (bench.folder / "revoked.txt").write_text("stolen-a\n")
        bench.configure(bench.broker.port, "--force", "--let-in", "till-b")
        _reload(bench, watcher)
    till.publish_all(["mk/v1/d/till-b/status"], "again")
    watcher.wait(lambda: ("mk/v1/d/till-b/status", "again") in watcher.got)


def _reload(bench: Bench, watcher: Client) -> None:
    """SIGHUP, and until the broker has read: it says so in its log."""
    before = bench.broker.log.read_text().count("Reloading config")
    bench.broker.reload()
    deadline_s = time.monotonic() + WAIT_S
    while bench.broker.log.read_text().count("Reloading config") == before:
        assert time.monotonic() < deadline_s, bench.broker.log.read_text()
        time.sleep(0.02)
    watcher.publish_all(["mk/v1/x"], "")  # It reads the files in the same turn of its loop.


def _line(bench: Bench, name: str) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", bench.broker.port), timeout=WAIT_S)
    return bench.tls(name).wrap_socket(plain, server_hostname="localhost")
