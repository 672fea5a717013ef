"""Goal: the true reason why a broker cannot be used is told.

Method: as in `test_doctor.py`: TLS servers that are wrong in one thing each.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from provisioning.checks.finding import State
from provisioning.cli import GOOD
from provisioning.doctor import exit_code
from tests.provisioning.doctor.looking import look, worst
from tests.provisioning.enrolment_city import DAY, EnrolmentCity, certificate, pem
from tests.provisioning.running import running, sync_status


@contextmanager
def broker(
    installed: Path,
    city: EnrolmentCity,
    *,
    host: str = "localhost",
    trust: str | None = None,
    revoked: bool = False,
    life: timedelta = 30 * DAY,
    stranger: bool = False,
    answer: bytes = b"",
) -> Iterator[str]:
    """A TLS server that wants a certificate, then says nothing: as a broker before CONNECT."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = EnrolmentCity().issuing_key if stranger else city.issuing_key
    leaf = certificate(
        "broker",
        key.public_key(),
        "issuing",
        signer,
        datetime.now(UTC) - DAY,
        life=life,
        purpose=ExtendedKeyUsageOID.SERVER_AUTH,
        host=host,
    )
    folder = installed.parent
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "broker.pem").write_bytes(secret + (pem(leaf) + pem(city.issuing)).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "broker.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=trust or pem(city.issuing) + pem(city.root))
    if revoked:
        (folder / "crl.pem").write_text(_revocations(installed, city))
        context.load_verify_locations(folder / "crl.pem")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(5)
                try:
                    with context.wrap_socket(client, server_side=True) as secured:
                        if answer:
                            return
                        secured.recv(1)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    endpoint = f"mqtts://localhost:{listener.getsockname()[1]}"
    text = installed.read_text().replace("mqtts://broker.example:8883", endpoint)
    installed.write_text(text)
    try:
        yield endpoint
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _revocations(installed: Path, city: EnrolmentCity) -> str:
    leaf = x509.load_pem_x509_certificates((installed.parent / "identity/device.crt").read_bytes())[
        0
    ]
    now = datetime.now(UTC)
    gone = x509.RevokedCertificateBuilder().serial_number(leaf.serial_number)
    listed = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(city.issuing.subject)
        .last_update(now - DAY)
        .next_update(now + DAY)
        .add_revoked_certificate(gone.revocation_date(now - DAY).build())
        .sign(city.issuing_key, hashes.SHA256())
    )
    return listed.public_bytes(serialization.Encoding.PEM).decode()


NOT_WELCOMED = sync_status(connected=False, endpoint="", reason="")


@pytest.mark.parametrize(
    ("server", "found", "do"),
    [
        ({"host": "other.example"}, "not the city's", "is the name right"),
        ({"stranger": True}, "not the city's", "do not go on"),
        ({"life": timedelta(hours=1)}, "not good at this moment", "doctor clock"),
        ({"revoked": True}, "this device is revoked", "new claim"),
        ({"trust": "of that name"}, "does not know our issuer", "same city"),
        ({"trust": "other"}, "does not know our issuer", "same city"),
        ({"answer": b"close"}, "closes the connection", "knows this device"),
    ],
    ids=["name", "stranger", "dates", "revoked", "same name", "other issuer", "closes"],
)
def test_the_true_reason_of_tls_is_told(
    installed: Path, city: EnrolmentCity, server: dict[str, Any], found: str, do: str
) -> None:
    if server.get("trust") == "of that name":
        server = {"trust": pem(EnrolmentCity().root)}
    elif server.get("trust"):
        key = city.issuing_key
        now = datetime.now(UTC)
        other = certificate("elsewhere", key.public_key(), "elsewhere", key, now, ca=True)
        server = {"trust": pem(other)}
    with (
        broker(installed, city, **server) as endpoint,
        running(installed, "sync", {"status": NOT_WELCOMED}),
    ):
        finding = worst(look(installed, "broker"), endpoint, found)
    assert finding.state is State.WRONG and do in finding.do


def test_a_session_of_sync_is_believed_and_not_thrown_out(
    installed: Path, city: EnrolmentCity, monkeypatch: pytest.MonkeyPatch, short_alert: None
) -> None:
    monkeypatch.setattr("sync.bridge.Bridge.connect", None)  # Whoever calls it fails.
    with (
        broker(installed, city) as endpoint,
        running(installed, "sync", {"status": sync_status(endpoint=endpoint)}),
    ):
        findings = look(installed, "broker")
    assert [finding.state for finding in findings] == [State.OK, State.OK]
    assert "sync is connected" in findings[0].found and "reached" in findings[1].found


def test_one_broker_of_two_is_attention(
    installed: Path, city: EnrolmentCity, short_alert: None
) -> None:
    with broker(installed, city) as endpoint:
        text = installed.read_text()
        installed.write_text(text.replace(f'"{endpoint}"', f'"mqtts://127.0.0.1:9", "{endpoint}"'))
        with running(installed, "sync", {"status": NOT_WELCOMED}):
            findings = look(installed, "broker")
    finding = worst(findings, "127.0.0.1:9", "no TCP connection")
    assert finding.state is State.ATTENTION and "firewall" in finding.do
    assert exit_code(findings) == GOOD


def test_a_name_that_cannot_be_found(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", nobody)
    finding = worst(look(installed, "broker"), "name cannot be found")
    assert finding.state is State.WRONG and "name server" in finding.do


def test_plain_mqtt_beyond_this_machine_is_refused(installed: Path) -> None:
    text = installed.read_text().replace("mqtts://broker.example:8883", "mqtt://10.0.0.9")
    installed.write_text(text)
    assert "mqtts://" in worst(look(installed, "broker"), "without TLS").do


def test_missing_identity_files_are_named(installed: Path) -> None:
    (installed.parent / "identity/authority.pem").unlink()
    assert worst(look(installed, "broker"), "authority.pem").state is State.WRONG


def test_a_session_without_the_citys_answer_is_told(
    installed: Path, city: EnrolmentCity, short_alert: None
) -> None:
    with broker(installed, city) as endpoint:
        waiting = sync_status(connected=False, endpoint=endpoint, reason="no welcome")
        with running(installed, "sync", {"status": waiting}):
            finding = worst(look(installed, "broker"), "no welcome")
    assert finding.state is State.ATTENTION and "operator" in finding.do
