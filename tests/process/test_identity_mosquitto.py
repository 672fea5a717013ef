"""Goal: what the kernels promise of clocks, renewal and revocation holds on a real TLS connection.

Method: a real Mosquitto with client certificates and a revocation list; the whole of sync in this
process with its real bridge; the city of `tests/sync/sync_world.py`, on a connection of its own.
The machine's clock is taken to be wrong by giving the broker a certificate that begins in years:
OpenSSL, which asks the machine, would refuse it, and the city's signed time says that it is good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.certificates import new_key
from edge.clock import Clock
from edge.config import load
from edge.messages import Renew, b64u
from edge.trust import read_key, write_secret
from sync.bridge import Bridge
from sync.bridge_events import Connected, Message, SubscriptionsReady
from sync.contact import Contact
from sync.loop import Sync
from sync.renewal import Step
from sync.session import session_for, tls_context
from tests.process.brokers import Broker, mosquitto
from tests.process.wired import sync_running
from tests.provisioning.enrolment_city import certificate, pem
from tests.support import small_city
from tests.sync.sync_world import DEVICE, TOML, City, signed_lines

WAIT_S = 15.0  # Our choice: many times what anything here takes on an idle machine.
NOW = datetime.now(UTC)
IN_YEARS = NOW + 5 * timedelta(days=365)  # The authority itself is good for longer.
YEAR = timedelta(days=365)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


class CityEnd:
    """The city's own connection: what comes goes to `City`, what it says is published."""

    def __init__(self, city: City, bridge: Bridge) -> None:
        self._city, self._bridge = city, bridge

    def deliver(self, topic: str, payload: bytes) -> None:
        self._bridge.publish(topic, payload, qos=1)

    def pump(self) -> None:
        for event in self._bridge.poll():
            if isinstance(event, Message):
                self._city.take(event.topic, event.payload)
                self._bridge.done(event.token)


class Live:
    """One device on a real broker. `begins`: of the broker's certificate."""

    def __init__(self, folder: Path, *, begins: datetime = NOW) -> None:
        self.folder = folder
        self.city = City(folder)
        self.city.utc_ms = lambda: time.time_ns() // 1_000_000
        self._stack = ExitStack()
        self._serve(begins)
        self._enrol()
        self.broker: Broker = self._stack.enter_context(
            mosquitto(
                folder,
                ca_file=folder / "ca.pem",
                certificate=folder / "server.crt",
                key=folder / "server.key",
                settings=(f"crlfile {folder / 'crl.pem'}",),
            )
        )
        self._connect_city()

    # ------------------------------------------------------------------------- the city

    def _serve(self, begins: datetime) -> None:
        (self.folder / "ca.pem").write_text(pem(self.city.authority))
        for name, purpose, starts in (
            ("server", ExtendedKeyUsageOID.SERVER_AUTH, begins),
            ("city", ExtendedKeyUsageOID.CLIENT_AUTH, NOW),
        ):
            write_secret(self.folder / f"{name}.key", new_key())
            leaf = certificate(
                name,
                read_key(self.folder / f"{name}.key").public_key(),
                "root",
                self.city.authority_key,
                starts,
                life=YEAR,
                purpose=purpose,
                host="localhost",
            )
            (self.folder / f"{name}.crt").write_text(pem(leaf))
        self.revoke()

    def revoke(self, *serials: int) -> None:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.city.authority.subject)
            .last_update(NOW - timedelta(days=1))
            .next_update(NOW + YEAR)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
            builder = builder.add_revoked_certificate(entry.build())
        made = builder.sign(self.city.authority_key, hashes.SHA256())
        (self.folder / "crl.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def _connect_city(self) -> None:
        context = tls_context(
            ca_file=self.folder / "ca.pem",
            certificate_file=self.folder / "city.crt",
            key_file=self.folder / "city.key",
            check_time=False,  # The broker's certificate may begin in years.
        )
        bridge = Bridge(replace(session_for("city", None), tls=context), woken=lambda: None)
        self._stack.callback(bridge.close)
        bridge.connect(self.broker.endpoint, will_topic="will", will=b"")
        _expect(bridge, Connected)
        up = ("hello", "renew", "pull", "up/main", "up/agent", "up/diag")
        bridge.subscribe([f"mk/v1/d/{DEVICE}/{topic}" for topic in up])
        _expect(bridge, SubscriptionsReady)
        self.end = CityEnd(self.city, bridge)
        self.city.bridge = cast(Any, self.end)

    # ----------------------------------------------------------------------- the device

    def _enrol(self) -> None:
        for name in ("state", "identity", "run"):
            (self.folder / name).mkdir()
        (self.folder / "device.toml").write_text(TOML)
        self.settings = load(self.folder / "device.toml")
        write_secret(self.settings.key_path, new_key())
        key = read_key(self.settings.key_path).public_key()
        self.city.know(key)
        self.leaf = self.city.leaf(key, begins_ms=ms(NOW))
        self.settings.certificate_path.write_text(pem(self.leaf))
        self.settings.authority_path.write_text(pem(self.city.authority))
        self.settings.root_key_path.write_text(b64u(small_city.public_bytes("root")))
        self.settings.root_document_path.write_bytes(signed_lines(small_city.signed_root()))

    @contextmanager
    def syncing(self, *, clock_trusted: bool = True) -> Iterator[Sync]:
        """sync from its start to its stop. Without a trusted clock it is 1970."""
        wall_ms: Callable[[], int] = self.city.utc_ms if clock_trusted else lambda: 0
        clock = Clock(
            ZoneInfo("Europe/Moscow"), boot="b1", wall_ms=wall_ms, ntp=lambda: clock_trusted
        )
        endpoint = f"mqtts://localhost:{self.broker.port}"
        with sync_running(self.settings, clock, endpoint) as sync:
            yield sync

    def run(self, sync: Sync, until: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not until():
            assert time.monotonic() < deadline, f"{what}: {sync.link.reason}"
            sync.step()
            self.end.pump()
            sync.wait(5)

    def restart_broker(self) -> None:
        """With the revocation list as it is now."""
        self.broker.stop()
        self.broker.start()
        self._connect_city()

    def close(self) -> None:
        self._stack.close()


def _expect(bridge: Bridge, kind: type) -> None:
    deadline = time.monotonic() + WAIT_S
    while not any(isinstance(event, kind) for event in bridge.poll()):
        assert time.monotonic() < deadline, kind
        bridge.wait(20)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., Live]]:
    made: list[Live] = []

    def make(**more: Any) -> Live:
        made.append(Live(tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def serials_of(path: Path) -> Sequence[int]:
    return [one.serial_number for one in x509.load_pem_x509_certificates(path.read_bytes())]


@pytest.mark.process
def test_at_1970_the_time_is_fetched_and_then_everything_is_checked_by_it(
    live: Callable[..., Live],
) -> None:
    one = live(begins=IN_YEARS)
    began_ms = time.monotonic_ns() // 1_000_000
    one.city.utc_ms = lambda: ms(IN_YEARS) + time.monotonic_ns() // 1_000_000 - began_ms
    with one.syncing(clock_trusted=False) as sync:
        one.run(sync, lambda: sync.link.welcomed, "welcomed")
        assert sync.link.contact is Contact.FULL
        assert [bool(hello.streams) for hello in one.city.hellos] == [False, True]
        assert sync.counters["first_contacts"] == 1
        assert abs(sync.clock.moment().wall_ms - one.city.utc_ms()) < 5_000


@pytest.mark.process
def test_a_broker_whose_certificate_is_not_good_by_the_citys_time_is_left(
    live: Callable[..., Live],
) -> None:
    one = live(begins=IN_YEARS)
    one.city.utc_ms = lambda: ms(IN_YEARS + 2 * YEAR)
    with one.syncing(clock_trusted=False) as sync:
        one.run(sync, lambda: sync.link.refusal == "dates", "refused for its dates")
        assert sync.counters["first_contacts"] == 1 and not sync.link.welcomed
        assert len(one.city.hellos) == 1, "nothing was said to it but the name"


@pytest.mark.process
def test_a_renewed_certificate_is_in_force_after_a_real_connection_with_it(
    live: Callable[..., Live],
) -> None:
    one = live()
    with one.syncing() as sync:
        one.run(sync, lambda: sync.link.welcomed, "welcomed")
        sync.renewing.renewal.want()
        one.run(sync, lambda: len(one.city.hellos) == 2 and sync.link.welcomed, "as candidate")
        assert sync.renewing.renewal.step is Step.REST and not sync.renewing.renewal.wanted
    assert one.leaf.serial_number not in serials_of(one.settings.certificate_path)
    one.revoke(one.leaf.serial_number)
    one.restart_broker()
    with one.syncing() as sync:
        one.run(sync, lambda: sync.link.welcomed, "welcomed by the new one alone")


@pytest.mark.process
def test_a_certificate_the_broker_refuses_never_takes_the_old_ones_place(
    live: Callable[..., Live],
) -> None:
    one = live()
    before = one.settings.certificate_path.read_bytes()
    issue = one.city.issue

    def issue_and_revoke(renew: Renew) -> Any:
        renewed = issue(renew)
        leaf = x509.load_pem_x509_certificate(renewed.certificate_pem.encode())
        one.revoke(leaf.serial_number)
        one.broker.reload()
        return renewed

    one.city.answer_renew = issue_and_revoke
    with one.syncing() as sync:
        one.run(sync, lambda: sync.link.welcomed, "welcomed")
        sync.renewing.renewal.want()
        one.run(sync, lambda: sync.counters.get("candidates_failed", 0) > 0, "refused")
        one.run(sync, lambda: sync.link.welcomed, "welcomed as before")
        assert one.settings.certificate_path.read_bytes() == before
        assert sync.renewing.renewal.step is Step.READY, "it is tried again in a while"


@pytest.mark.process
def test_a_revoked_device_knows_that_it_is_revoked(live: Callable[..., Live]) -> None:
    one = live()
    one.revoke(one.leaf.serial_number)
    one.restart_broker()
    with one.syncing() as sync:
        one.run(sync, lambda: sync.link.refusal == "revoked", "the alert is understood")
        status = sync.reports.status(sync.clock.moment())
        assert not status["connected"] and "new claim" in status["refusal_text"]
