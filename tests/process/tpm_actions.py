"""What a test has done in a process of its own, for its TPM: `python -m tests.process.tpm_actions
ACTION WORD...` prints the answer as one line of JSON. See `tests/process/tpm.py`.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edge.certificates import Identity
from edge.config import load
from edge.model import SetupProblem
from edge.settings import DeviceSettings
from edge.tpm import new_key
from edge.tpm_openssl import crypto, in_software
from edge.trust import (
    FileKeyStore,
    candidate_path,
    former_path,
    is_in_tpm,
    key_fingerprint,
    read_key,
    signed_by_device,
    usable_key,
    write_secret,
)
from edge.web import ScreensServer
from sync.bridge import Bridge
from sync.bridge_events import Connected, Disconnected, Published
from sync.session import Endpoint, session_for, tls_context
from tests.contract.key_store import CONTRACT, SECRET, scope_key
from tests.provisioning.enrolment_city import certificate, pem
from tests.support.small_city import PEOPLE

WAIT_S = 20.0
PLACE = b"\0".join((PEOPLE.encode(), b"seal", b"1"))  # Of `scope_key`.
THREADS, ROUNDS = 3, 4


def contract(folder: str) -> list[str]:
    """Every promise of a key store that does not hold."""
    path = Path(folder) / "device.key"
    write_secret(path, new_key())
    assert is_in_tpm(path)
    store = FileKeyStore(path)
    broken = []
    for keeps in CONTRACT:
        try:
            keeps(store)
        except BaseException as error:  # pytest.raises fails with what is no Exception.
            broken.append(f"{keeps.__name__}: {error!r}")
    return broken


def together(folder: str) -> list[str]:
    """What goes wrong when several threads use the key at once, and others' keys beside it."""
    path = Path(folder) / "device.key"
    store = FileKeyStore(path)
    wrong: list[str] = []

    def use() -> None:
        try:
            for _ in range(ROUNDS):
                assert signed_by_device(store.public_point(), b"data", store.sign(b"data"))
                assert store.open_box(scope_key(store).sealed, place=PLACE) == SECRET
                new_key()
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=use) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def read(folder: str) -> str:
    """What the key is of any use for here: nothing, or the problem in words."""
    settings = load(Path(folder) / "device.toml")
    try:
        FileKeyStore(settings.key_path)
        _context(settings)
    except SetupProblem as problem:
        return str(problem)
    return ""


def connect(folder: str, port: str) -> list[str]:
    """A broker with mutual TLS takes a session, and a publish, while the TPM has other work; how
    it was done."""
    settings = load(Path(folder) / "device.toml")
    _context(settings)  # Certificates are read first, as the doctor does: OpenSSL remembers.
    over = threading.Event()
    busy = threading.Thread(target=_keep_busy, args=(over,))
    busy.start()
    try:
        done = _connect_each_way(settings, port)
    finally:
        over.set()
        busy.join()
    return done


def _keep_busy(over: threading.Event) -> None:
    """The TPM, as the rest of a device does now and then."""
    while not over.is_set():
        new_key()


def _connect_each_way(settings: DeviceSettings, port: str) -> list[str]:
    done = []
    for version, curve in product((ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2), ("", "P-256")):
        context = _context(settings)
        context.maximum_version = version
        if curve:
            context.set_ecdh_curve("prime256v1")  # One that the TPM has as well.
        bridge = Bridge(session_for(settings.device_id, context))
        try:
            bridge.connect(
                Endpoint(host="localhost", port=int(port), tls=True), will_topic="will", will=b""
            )
            _until(bridge, Connected)
            bridge.publish("there", b"x", qos=1)
            _until(bridge, Published)
        finally:
            bridge.close()
        done.append(f"{version.name} {curve}")
    return done


def _until(bridge: Bridge, kind: type) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        bridge.wait(50)
        for event in bridge.poll():
            if isinstance(event, kind):
                return
            assert not isinstance(event, Disconnected), event
    raise AssertionError(f"no {kind.__name__}")


def _context(settings: DeviceSettings) -> ssl.SSLContext:
    return tls_context(
        ca_file=settings.authority_path,
        certificate_file=settings.certificate_path,
        key_file=settings.key_path,
        usable=usable_key,
    )


def web(folder: str) -> list[bool]:
    """Whether this process can check RSA 4096: with a key of the TPM, aside of it, and after it."""
    FileKeyStore(load(Path(folder) / "device.toml").key_path)
    public = rsa.RSAPublicNumbers(65_537, (1 << 4096) - 1).public_key()  # Nobody has this key.
    done = [not crypto().why_not_checked(public)]
    with in_software():
        done.append(not crypto().why_not_checked(public))
    return [*done, not crypto().why_not_checked(public)]


def serve(folder: str) -> str:
    """The station's pages, on every address, until somebody has seen one; the word they need."""
    settings = load(Path(folder) / "screens.toml")
    server = ScreensServer(settings, lambda: None)
    try:
        print(server.token, flush=True)
        sys.stdin.read()
    finally:
        server.close()
    return server.token


def renew(folder: str) -> dict[str, Any]:
    """A device that renews its certificate, by an authority that is here for it alone."""
    place = Path(folder)
    now = datetime.now(UTC)
    issuer = ec.generate_private_key(ec.SECP256R1())
    root = certificate("root", issuer.public_key(), "root", issuer, now, ca=True)
    one = Identity(
        device_id="gate-1",
        key=place / "device.key",
        certificate=place / "device.crt",
        authority=place / "authority.pem",
    )
    write_secret(one.key, new_key())
    one.authority.write_text(pem(root))
    store = FileKeyStore(one.key)
    one.certificate.write_text(
        pem(certificate("gate-1", read_key(one.key).public_key(), "root", issuer, now))
    )
    before = store.public_point()
    first = scope_key(store)
    request = x509.load_pem_x509_csr(one.request().encode())
    public = request.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    one.take(pem(certificate("gate-1", public, "root", issuer, now)), pem(root), now)
    candidate = one.fingerprint(candidate=True)
    one.promote()
    second = scope_key(store)
    return {
        "proves itself": request.is_signature_valid,
        "ready": candidate == one.fingerprint() == key_fingerprint(store.public_point()),
        "new": before != store.public_point(),
        "in the TPM": [is_in_tpm(path) for path in (one.key, former_path(one.key))],
        "candidate left": candidate_path(one.key).exists(),
        "opens": [store.open_box(key.sealed, place=PLACE) == SECRET for key in (first, second)],
    }


ACTIONS: dict[str, Callable[..., object]] = {
    action.__name__: action for action in (contract, together, read, connect, web, serve, renew)
}

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](*sys.argv[2:])))
