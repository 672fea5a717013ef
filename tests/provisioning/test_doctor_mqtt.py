"""Goal: the last step of the doctor, a session with our own certificate, against a real Mosquitto:
taken, refused, and ended without leaving a will behind.

Method: one broker per test on a free port, with certificates of the tests' own authority.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from provisioning.checks.finding import State
from provisioning.doctor import examine
from tests.provisioning.enrolment_city import DAY, EnrolmentCity, certificate, pem

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
STARTED_S_MAX = 10.0

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not Path(MOSQUITTO).exists(), reason="mosquitto is not installed"),
]


@pytest.fixture
def installed(template: tuple[EnrolmentCity, Path], tmp_path: Path) -> Path:
    shutil.copytree(template[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / "device.toml"


@contextmanager
def mosquitto(config: Path, city: EnrolmentCity, *, identity: bool) -> Iterator[Path]:
    """A broker of the city in a folder of its own. Without `identity` it wants a password, which
    a device has not. Gives its log."""
    folder = config.parent / "broker"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = certificate(
        "broker",
        key.public_key(),
        "issuing",
        city.issuing_key,
        datetime.now(UTC),
        life=30 * DAY,
        purpose=ExtendedKeyUsageOID.SERVER_AUTH,
        host="localhost",
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "server.pem").write_text(pem(leaf) + pem(city.issuing))
    (folder / "chain.pem").write_text(pem(city.issuing) + pem(city.root))
    who = "use_identity_as_username true\n" if identity else "allow_anonymous false\n"
    (folder / "mosquitto.conf").write_text(
        f"user root\nlog_dest stderr\nlog_type all\nlistener {port} 127.0.0.1\n"
        f"cafile {folder}/chain.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/key.pem\n"
        f"require_certificate true\n{who}"
    )
    log = folder / "log"
    with log.open("wb") as written:
        broker = subprocess.Popen([MOSQUITTO, "-c", folder / "mosquitto.conf"], stderr=written)
    try:
        _wait_for(port, broker)
        text = config.read_text().replace("broker.example:8883", f"localhost:{port}")
        config.write_text(text)
        yield log
    finally:
        broker.terminate()
        broker.wait(5)


def _wait_for(port: int, broker: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTED_S_MAX
    while time.monotonic() < until and broker.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the broker did not start")


def test_the_broker_takes_this_device(
    installed: Path, template: tuple[EnrolmentCity, Path]
) -> None:
    with mosquitto(installed, template[0], identity=True) as log:
        (finding,) = examine(installed, ["broker"], datetime.now(UTC))
    assert finding.state is State.OK and "MQTT 5: the broker takes this device" in finding.found
    said = log.read_text()
    assert "as gate-1" in said and "Received DISCONNECT from gate-1" in said
    assert "PUBLISH" not in said  # No will came out, and nothing was published.


def test_the_broker_refuses_this_device(
    installed: Path, template: tuple[EnrolmentCity, Path]
) -> None:
    with mosquitto(installed, template[0], identity=False):
        (finding,) = examine(installed, ["broker"], datetime.now(UTC))
    assert finding.state is State.WRONG
    assert "denied" in finding.found and "knows this device" in finding.do
