"""Goal: with its key in a TPM a device does all that it does with a key in a file, and the files of
a stolen card do nothing anywhere else, and say so.

Method: a real TPM in software behind its resource manager; the command that technicians run; a real
Mosquitto, as the city's broker and as the school's own, and the station's pages; the same files on
another machine, with another TPM, and on one without. All that uses a TPM runs in processes of
their own (`tests/process/tpm.py`).
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.certificates import new_key
from edge.config import load
from edge.settings import DeviceSettings
from edge.trust import TPM_KEY, read_key, write_secret
from sync.bridge import Bridge
from sync.bridge_events import Connected
from sync.peer_session import peer_session
from sync.session import Endpoint
from tests.process.brokers import Broker, free_port, mosquitto, mosquitto_program
from tests.process.tpm import NO_TPM, Machine, tpm
from tests.process.tpm_actions import _until
from tests.provisioning.enrolment_city import CLAIM, DAY, EnrolmentCity, certificate, pem
from tests.support.screen_loop import accepts, until

pytestmark = [pytest.mark.process, pytest.mark.slow]

NOW = datetime.now(UTC)
SERVES = ExtendedKeyUsageOID.SERVER_AUTH


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with tpm(tmp_path_factory.mktemp("chip")) as machine:
        yield machine


@pytest.fixture(scope="module")
def city() -> Iterator[EnrolmentCity]:
    with EnrolmentCity().serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def device(machine: Machine, city: EnrolmentCity, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a device that was provisioned with its key in the TPM. Not to be changed."""
    folder = tmp_path_factory.mktemp("device")
    said = machine.moskvenok(*visit(city, folder), "--json")
    (made,) = [step for step in json.loads(said.stdout)["steps"] if step["part"] == "key"]
    assert made["state"] == "done" and made["text"].endswith("in this machine's TPM")
    return folder


def visit(city: EnrolmentCity, folder: Path) -> list[str]:
    return [
        *("provision", "--config", str(folder / "device.toml")),
        *("--city", city.url, "--claim", CLAIM),
        *("--device", "gate-1", "--site", "school-7", "--station", "entrance"),
        *("--reader", "r1:serial:/dev/ttyUSB0:id12:access_point=north-in"),
        *("--lane", "north:mock:north-in=in:school:relay=17"),
    ]


def examined(machine: Machine, folder: Path, *, code: int) -> dict[str, str]:
    """What the doctor finds of the identity: by file."""
    words = ("doctor", "--config", folder / "device.toml", "--json", "identity")
    found = json.loads(machine.moskvenok(*words, expect=code).stdout)["findings"]
    return {Path(one["where"]).name: f"{one['found']} -> {one['do']}" for one in found}


def settings_of(folder: Path) -> DeviceSettings:
    return load(folder / "device.toml")


def test_a_key_store_in_a_tpm_keeps_the_contract(machine: Machine, tmp_path: Path) -> None:
    assert machine.apart("contract", tmp_path) == []
    assert machine.apart("together", tmp_path) == []


def test_a_visit_makes_the_key_in_the_tpm_by_itself(
    machine: Machine, device: Path, city: EnrolmentCity
) -> None:
    path = settings_of(device).key_path
    assert path.read_bytes().startswith(TPM_KEY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    request = x509.load_pem_x509_csr(city.asked[0]["csr_pem"].encode())  # The city has checked it.
    assert request.public_key() == read_key(path).public_key()  # Read without a TPM.
    found = examined(machine, device, code=0)
    assert found["device.key"].startswith("an EC P-256 key in this machine's TPM")
    before = path.read_bytes()
    machine.moskvenok("provision", "--config", device / "device.toml", "--key", "tpm")
    assert path.read_bytes() == before
    words = ("provision", "--config", device / "device.toml", "--key", "file")
    said = machine.moskvenok(*words, expect=1).stderr
    assert "of the kind --key tpm" in said and "put this one aside" in " ".join(said.split())


def test_the_citys_broker_takes_it(machine: Machine, device: Path, city: EnrolmentCity) -> None:
    with city_broker(city, device, settings_of(device).authority_path) as broker:
        done = machine.apart("connect", device, broker.port)
    assert done == ["TLSv1_3 ", "TLSv1_3 P-256", "TLSv1_2 ", "TLSv1_2 P-256"]


@contextmanager
def city_broker(city: EnrolmentCity, device: Path, authority: Path) -> Iterator[Broker]:
    folder = device.parent / f"broker-of-{device.name}"
    folder.mkdir(exist_ok=True)
    key, leaf = folder / "server.key", folder / "server.crt"
    write_secret(key, new_key())
    public = read_key(key).public_key()
    served = certificate(
        "broker", public, "issuing", city.issuing_key, NOW, purpose=SERVES, host="localhost"
    )
    leaf.write_text(pem(served) + pem(city.issuing))
    with mosquitto(folder, ca_file=authority, certificate=leaf, key=key) as broker:
        yield broker


def test_an_authority_that_no_tpm_can_check_is_named(
    machine: Machine, device: Path, city: EnrolmentCity, tmp_path: Path
) -> None:
    """Its certificates would be refused in every handshake, for no reason anybody could see."""
    copy = tmp_path / "copy"
    shutil.copytree(device, copy)
    said = {}
    for bits in (2048, 4096):
        # Nobody has this key: only its kind matters.
        public = rsa.RSAPublicNumbers(65_537, (1 << bits) - 1).public_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"RSA {bits}")])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(1)
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .sign(city.root_key, hashes.SHA256())
        )
        settings_of(copy).authority_path.write_text(pem(city.root) + pem(made))
        said[bits] = machine.apart("read", copy)
    assert said[2048] == ""
    assert "CN=RSA 4096 has a key (RSA, 4096 bits)" in said[4096] and "--key file" in said[4096]
    assert "cannot check (" in said[4096] and "(no reason given)" not in said[4096]


def test_a_web_server_may_have_what_no_tpm_can_check(machine: Machine, device: Path) -> None:
    assert machine.apart("web", device) == [False, True, False]


@pytest.fixture
def server(device: Path, city: EnrolmentCity, tmp_path: Path) -> Path:
    """A copy of the device whose certificate is for a server too, as the city makes them."""
    copy = tmp_path / "copy"
    shutil.copytree(device, copy)
    public = read_key(settings_of(copy).key_path).public_key()
    leaf = certificate("gate-1", public, "issuing", city.issuing_key, NOW, purpose=SERVES)
    settings_of(copy).certificate_path.write_text(pem(leaf) + pem(city.issuing))
    return copy


def test_the_schools_own_broker_shows_it(
    machine: Machine, server: Path, city: EnrolmentCity, tmp_path: Path
) -> None:
    port = free_port()
    folder = tmp_path / "site"
    words = ("--config", server / "device.toml", "--folder", folder, "--address", "127.0.0.1")
    said = machine.moskvenok("site", *words, "--port", port).stdout
    (start,) = [line for line in said.splitlines() if line.startswith("start it:")]
    named, program, *rest = start.removeprefix("start it:").split()
    assert (named, program) == (f"OPENSSL_CONF={folder}/openssl.cnf", "mosquitto")
    broker = Broker(
        command=["env", *_named(machine.environment), named, mosquitto_program(), *rest],
        port=port,
        tls=True,
        log=tmp_path / "log",
    )
    peer = _peer(server, city, tmp_path)
    broker.start()
    try:
        endpoint = Endpoint(host="127.0.0.1", port=port, tls=True)
        bridge = Bridge(peer_session(peer, "gate-1", utc_s=None))
        try:
            bridge.connect(endpoint, will_topic="", will=b"")  # As peers do.
            _until(bridge, Connected)
        finally:
            bridge.close()
    finally:
        broker.stop()


def _named(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


def _peer(device: Path, city: EnrolmentCity, folder: Path) -> DeviceSettings:
    """Another device of the school, with a key in a file."""
    write_secret(folder / "peer.key", new_key())
    public = read_key(folder / "peer.key").public_key()
    leaf = certificate("till-1", public, "issuing", city.issuing_key, NOW)
    own = settings_of(device)
    identity = folder / "identity"
    identity.mkdir()
    shutil.copy(own.authority_path, identity / own.authority_path.name)
    peer = replace(own, device_id="till-1", folders=replace(own.folders, identity=identity))
    shutil.copy(folder / "peer.key", peer.key_path)
    peer.certificate_path.write_text(pem(leaf) + pem(city.issuing))
    return peer


def test_the_stations_pages_are_served_with_it(machine: Machine, server: Path) -> None:
    port = free_port()
    text = (server / "device.toml").read_text()
    (server / "screens.toml").write_text(f'{text}\n[screens]\nport = {port}\nhost = "0.0.0.0"\n')
    with subprocess.Popen(
        [sys.executable, "-m", "tests.process.tpm_actions", "serve", str(server)],
        env={**os.environ, **machine.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as served:
        try:
            assert served.stdout is not None and served.stdin is not None
            token = served.stdout.readline().strip()
            assert token
            until(lambda: accepts(port))
            context = ssl.create_default_context(cafile=str(settings_of(server).authority_path))
            context.check_hostname = False  # A device's name is no host's.
            client = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
            client.request("GET", "/")
            assert client.getresponse().status in {200, 401, 403}
            client.close()
        finally:
            served.communicate("")
    assert served.returncode == 0


def test_the_files_are_of_no_use_elsewhere(machine: Machine, device: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(device, copy)
    assert machine.apart("read", copy) == ""  # Here they are.
    with tpm(tmp_path / "other") as other:
        said = other.apart("read", copy)
        assert "another machine" in said and "provision anew" in said
        found = examined(other, copy, code=1)["device.key"]
        assert "does not take the key" in found and "-> if the TPM was cleared" in found
        assert "put it aside" in found and "else start the machine anew" in found
        words = ("provision", "--config", copy / "device.toml")
        assert "another machine" in " ".join(other.moskvenok(*words, expect=1).stderr.split())
        # As the manual says: put aside, and a new claim.
        settings_of(copy).key_path.rename(copy / "lost.key")
    found = examined(NO_TPM, device, code=1)["device.key"]
    assert "the TPM does not answer" in found


def test_without_a_tpm_the_key_is_in_a_file_unless_a_tpm_was_asked_for(
    city: EnrolmentCity, tmp_path: Path
) -> None:
    said = NO_TPM.moskvenok(*visit(city, tmp_path), "--key", "tpm", expect=1).stderr
    assert "--key tpm: the TPM does not answer" in " ".join(said.split())
    assert not settings_of_key(tmp_path).exists()
    said = NO_TPM.moskvenok(*visit(city, tmp_path)).stdout
    assert "in a file: the TPM does not answer" in said
    assert b"BEGIN PRIVATE KEY" in settings_of_key(tmp_path).read_bytes()


def settings_of_key(folder: Path) -> Path:
    return folder / "identity" / "device.key"


def test_a_renewal_makes_the_next_key_in_the_tpm(machine: Machine, tmp_path: Path) -> None:
    assert machine.apart("renew", tmp_path) == {
        "proves itself": True,
        "ready": True,
        "new": True,
        "in the TPM": [True, True],
        "candidate left": False,
        "opens": [True, True],
    }
