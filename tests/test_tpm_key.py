"""Goal: what is decided about a key in a TPM without asking it: whether a file is one, whose; what
is asked of the chip once and not again; that nobody who cannot wait waits for it.

Method: a key file of a TPM in software that is gone, cut anywhere and with each bit turned; a chip
played by a few lines, which can be slow, and forget; a station whose lists change meanwhile. The
real thing is in `tests/process/test_tpm.py`.
"""

from __future__ import annotations

import base64
import copy
import os
import pwd
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from edge import tpm
from edge.certificates import Identity
from edge.looking import START_WAIT_S
from edge.messages import ScopeKey
from edge.model import CorruptData, DeviceFault, Outcome, SetupProblem
from edge.offline_cache.apply import store_scope_keys
from edge.offline_cache.store import FileKind, Writer
from edge.tpm_openssl import Refused
from edge.trust import (
    FileKeyStore,
    former_path,
    is_in_tpm,
    key_fingerprint,
    public_point,
    read_key,
    usable_key,
    write_secret,
)
from hil.bench.station import SITE
from provisioning import identity
from tests.contract.key_store import SECRET, scope_key
from tests.support import small_city
from tests.support.agent_bench import station

KEY_FILE = b"""-----BEGIN TSS2 PRIVATE KEY-----
MIHwBgZngQUKAQOgAwEBAQIEQAAAAQRYAFYAIwALAAYAcgAAABAAEAADABAAIJYT
vHbWjcYqlazUNXTd0P+dH/OB04g3ldcGLxky9cZhACDuH+HerXLL8L1H/0EHmMbU
a2Zmk6Ip2phs+DjnMxuyagSBgAB+ACDKYi6o2yljF4y+XLOC3uP9Se4NHzEd7Nku
fyX5qHXcrAAQsc0raUwbfmdPoGbLkclSKEaC49PWvqbz5ygfYV/HGQFkukNFMmzn
nwZmRPYy9nYPeQR9nSimn/P371NIWWZyrY0LkTULACOM8VTzV9UpSEnRSohJ6eX+
CN7B
-----END TSS2 PRIVATE KEY-----
"""
X = "9613bc76d68dc62a95acd43574ddd0ff9d1ff381d3883795d7062f1932f5c661"
Y = "ee1fe1dead72cbf0bd47ff410798c6d46b666693a229da986cf838e7331bb26a"
WAIT_S = 20.0  # Our choice: a thread that never ends is found; none here waits so long.


def file_of(der: bytes) -> bytes:
    first, last = KEY_FILE.splitlines()[0], KEY_FILE.splitlines()[-1]
    return b"\n".join((first, base64.encodebytes(der).strip(), last, b""))


def der_of(file: bytes) -> bytes:
    return base64.b64decode(b"".join(file.splitlines()[1:-1]))


# ---------------------------------------------------------------------------------- the file


def test_a_key_file_is_read_without_a_tpm(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    write_secret(path, KEY_FILE)
    assert is_in_tpm(path)
    assert public_point(read_key(path)) == bytes.fromhex(f"04{X}{Y}")
    path.chmod(0o644)
    with pytest.raises(SetupProblem, match="chmod 600"):
        read_key(path)


def test_no_damage_to_a_key_file_is_taken_for_another_key() -> None:
    der = der_of(KEY_FILE)
    good = public_point(tpm.TpmKey(KEY_FILE))
    for cut in range(len(der)):
        with pytest.raises(ValueError):
            tpm.TpmKey(file_of(der[:cut]))
    for bit in range(8 * len(der)):
        spoilt = bytearray(der)
        spoilt[bit // 8] ^= 1 << bit % 8
        try:
            point = public_point(tpm.TpmKey(file_of(bytes(spoilt))))
        except ValueError:
            continue
        assert point == good  # In what only the chip can read.
    for text in (b"", KEY_FILE[:-20], KEY_FILE.replace(b"MIHw", b"M!Hw"), KEY_FILE[40:]):
        with pytest.raises(ValueError):
            tpm.TpmKey(text)


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (b"\x00\x06\x00\x72", b"\x00\x06\x00\x60", "may leave"),  # Neither fixedTPM nor -Parent.
        (b"\x00\x06\x00\x72", b"\x00\x06\x00\x70", "may leave"),  # Not fixedTPM.
        (b"\x00\x23\x00\x0b", b"\x00\x01\x00\x0b", "no plain EC"),  # TPM_ALG_RSA.
        (b"\x00\x03\x00\x10\x00\x20", b"\x00\x04\x00\x10\x00\x20", "no plain EC"),  # P-384.
    ],
)
def test_only_a_plain_key_of_one_chip_is_taken(
    tmp_path: Path, place: bytes, value: bytes, why: str
) -> None:
    der = der_of(KEY_FILE)
    assert der.count(place) == 1
    path = tmp_path / "device.key"
    write_secret(path, file_of(der.replace(place, value)))
    with pytest.raises(SetupProblem, match=why):
        read_key(path)


def test_the_key_itself_is_nowhere() -> None:
    key: Any = tpm.TpmKey(KEY_FILE)
    for taken in (key.private_numbers, lambda: key.private_bytes(1, 2, 3)):
        with pytest.raises(TypeError, match="never leaves"):
            taken()
    assert copy.copy(key) is copy.deepcopy(key) is key
    assert key.curve.name == "secp256r1" and key.key_size == 256
    with pytest.raises(ValueError, match="SHA-256"):
        key.sign(b"", ec.ECDSA(hashes.SHA384()))
    with pytest.raises(ValueError, match="SHA-256"):
        key.sign(b"", ec.ECDSA(Prehashed(hashes.SHA256())))
    with pytest.raises(ValueError, match="P-256"):
        key.exchange(ec.ECDH(), ec.generate_private_key(ec.SECP384R1()).public_key())


def test_a_key_in_a_file_needs_no_tpm(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with usable_key(path, path) as lock:
        assert lock is None


# ---------------------------------------------------------------------------------- the chip


class Chip:
    """libcrypto with a TPM behind it, as `TpmKey` uses it."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.open = threading.Event()
        self.open.set()
        self.reads = self.works = 0
        self.fails = 0  # So many of the next commands.
        self.takes = True

    def read(self, data: bytes) -> int:
        self.reads += 1
        if not self.takes:
            raise Refused("cannot load key")
        return self.reads

    def free(self, key: int) -> None:
        assert key == self.reads

    def sign(self, key: int, data: bytes) -> bytes:
        self._work(key)
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def derive(self, key: int, peer: ec.EllipticCurvePublicKey) -> bytes:
        self._work(key)
        return self.key.exchange(ec.ECDH(), peer)

    def _work(self, key: int) -> None:
        assert self.open.wait(WAIT_S)
        self.works += 1
        assert key == self.reads
        if self.fails:
            self.fails -= 1
            raise Refused("no such handle")


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Chip:
    chip = Chip()
    monkeypatch.setattr(tpm, "crypto", lambda: chip)
    return chip


def key_of(chip: Chip) -> tpm.TpmKey:
    """A key file of this chip."""
    at = public_point(chip.key)[1:]
    der = der_of(KEY_FILE).replace(bytes.fromhex(X), at[:32]).replace(bytes.fromhex(Y), at[32:])
    return tpm.TpmKey(file_of(der))


def store_of(chip: Chip, folder: Path) -> FileKeyStore:
    write_secret(folder / "device.key", key_of(chip)._data)
    return FileKeyStore(folder / "device.key")


def test_the_chip_is_asked_once_for_each_box(chip: Chip) -> None:
    key = key_of(chip)
    others = [ec.generate_private_key(ec.SECP256R1()) for _ in range(tpm.EXCHANGES_KEPT + 1)]
    for _ in range(3):
        assert key.exchange(ec.ECDH(), others[0].public_key()) == others[0].exchange(
            ec.ECDH(), chip.key.public_key()
        )
    assert chip.works == 1
    for other in others[1:]:
        key.exchange(ec.ECDH(), other.public_key())
    assert len(key._exchanges) == tpm.EXCHANGES_KEPT
    key.exchange(ec.ECDH(), others[0].public_key())  # Forgotten by now.
    assert chip.works == len(others) + 1


def test_a_chip_that_forgot_the_key_is_given_it_again(chip: Chip) -> None:
    key = key_of(chip)
    key.sign(b"", ec.ECDSA(hashes.SHA256()))
    chip.fails = 1
    key.sign(b"", ec.ECDSA(hashes.SHA256()))
    assert chip.reads == 2
    chip.fails = 2
    with pytest.raises(DeviceFault, match="no such handle"):
        key.sign(b"", ec.ECDSA(hashes.SHA256()))
    chip.fails, chip.takes = 1, False
    with pytest.raises(DeviceFault, match="another machine"):
        key.sign(b"", ec.ECDSA(hashes.SHA256()))


def test_a_key_that_the_chip_does_not_take_is_told_at_once(chip: Chip, tmp_path: Path) -> None:
    chip.takes = False
    with pytest.raises(SetupProblem, match=r"device\.key: .*another machine.*provision anew"):
        store_of(chip, tmp_path)


def test_a_spare_of_a_chip_that_was_cleared_is_in_nobodys_way(chip: Chip, tmp_path: Path) -> None:
    store = store_of(chip, tmp_path)
    box = scope_key(store)
    write_secret(former_path(tmp_path / "device.key"), KEY_FILE)
    assert key_fingerprint(store.public_point()) == key_fingerprint(public_point(chip.key))
    place = b"\0".join((box.scope.encode(), b"seal", b"1"))
    assert store.open_box(box.sealed, place=place) == SECRET
    chip.fails = 2  # The spare is asked, twice; the key in use has been.
    with pytest.raises(CorruptData):
        store.open_box(box.sealed[:-1] + bytes([box.sealed[-1] ^ 1]), place=place)
    assert chip.fails == 0


# ------------------------------------------------------------------------------------- ahead


def test_boxes_are_opened_in_a_thread_and_then_at_once(chip: Chip, tmp_path: Path) -> None:
    store = store_of(chip, tmp_path)
    place = b"\0".join((b"school-7/people", b"seal", b"1"))
    boxes = [(scope_key(store).sealed, place) for _ in range(3)]
    chip.open.clear()
    for _ in range(5):
        assert not store.opens_at_once(boxes, wait_s=0.0)
    assert chip.works == 0
    chip.open.set()
    assert store.opens_at_once(boxes, wait_s=WAIT_S)
    assert chip.works == 3
    chip.open.clear()  # Who asks the chip now would wait.
    assert store.opens_at_once(boxes, wait_s=0.0)
    assert all(store.open_box(sealed, place=place) == SECRET for sealed, place in boxes)
    others = [(scope_key(store).sealed, place)]
    assert not store.opens_at_once(others, wait_s=0.0)
    assert not store.opens_at_once(boxes + others, wait_s=0.0)  # Asked anew, meanwhile.
    chip.open.set()
    store.opens_at_once(boxes + others, wait_s=WAIT_S)
    assert store.opens_at_once(boxes + others, wait_s=WAIT_S)
    assert chip.works == 4


def test_a_chip_that_fails_meanwhile_is_told_and_tried_again(chip: Chip, tmp_path: Path) -> None:
    store = store_of(chip, tmp_path)
    boxes = [(scope_key(store).sealed, b"\0".join((b"school-7/people", b"seal", b"1")))]
    chip.fails = 2
    with pytest.raises(DeviceFault, match="no such handle"):
        store.opens_at_once(boxes, wait_s=WAIT_S)
    assert store.opens_at_once(boxes, wait_s=WAIT_S)


def test_no_tap_waits_for_keys_that_a_tpm_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first look, before anybody could pass, has a moment's patience."""
    is_open, waits = [True], []

    def opens_at_once(_self: FileKeyStore, boxes: object, *, wait_s: float) -> bool:
        waits.append(wait_s)
        return is_open[0]

    monkeypatch.setattr(FileKeyStore, "opens_at_once", opens_at_once)
    with station(tmp_path, people=1) as bench:
        assert waits == [START_WAIT_S]
        store, people = bench.agent.parts.keys, f"{SITE}/people"
        is_open[0] = False
        sealed = small_city.sealed_to(
            store.public_point(), SECRET, scope=people, purpose="seal", version=2
        )
        writer = Writer(bench.agent.parts.settings.sync_path, FileKind.SYNC)
        key = ScopeKey(scope=people, purpose="seal", version=2, sealed=sealed)
        store_scope_keys(writer, [key])
        writer.close()
        bench.step(1_000)
        assert waits[1:] == [0.0]
        assert not bench.agent.looking.keys[people].seal
        bench.tap(0)
        assert getattr(bench.facts()[-1], "outcome", "") == Outcome.GRANT
        is_open[0] = True
        bench.step(1_000)
        assert bench.agent.looking.keys[people].seal == {2: SECRET}
        bench.step(1_000)
        assert set(waits[1:]) == {0.0}


# ------------------------------------------------------------------------- who may, and may not


def test_a_machine_without_a_tpm_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tpm, "DEVICE", tmp_path / "tpmrm0")
    monkeypatch.delenv("TPM2OPENSSL_TCTI", raising=False)
    assert tpm.why_not() == f"this machine has no TPM (no {tmp_path}/tpmrm0)"


def test_a_tpm_that_makes_no_key_renews_nothing(
    chip: Chip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def generate() -> bytes:
        raise Refused("cannot create primary")

    monkeypatch.setattr(chip, "generate", generate, raising=False)
    with pytest.raises(SetupProblem, match=r"cannot create primary.*--key file"):
        tpm.new_key()
    store_of(chip, tmp_path)
    one = Identity(
        device_id="gate-1",
        key=tmp_path / "device.key",
        certificate=tmp_path / "device.crt",
        authority=tmp_path / "authority.pem",
    )
    with pytest.raises(DeviceFault, match="cannot create primary"):
        one.request()
    assert not one.candidate_key.exists()


@pytest.mark.parametrize(
    ("mode", "groups", "closed"),
    [(0o660, [7], False), (0o660, [8], True), (0o600, [7], True), (0o666, [8], False)],
)
def test_root_is_told_when_the_agent_may_not_use_the_tpm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, groups: list[int], closed: bool
) -> None:
    key = tmp_path / "device.key"
    state = SimpleNamespace(st_mode=0o020000 | mode, st_uid=0, st_gid=7)
    monkeypatch.setattr("edge.tpm_openssl.DEVICE", SimpleNamespace(stat=lambda: state))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getgrouplist", lambda _user, _group: groups)
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: SimpleNamespace(pw_uid=9, pw_gid=9))
    settings: Any = SimpleNamespace(key_path=key)
    assert identity.closed_tpm(settings) == ""  # No key, and so no key in a TPM.
    write_secret(key, KEY_FILE)
    said = identity.closed_tpm(settings)
    assert ("adduser moskvenok tss" in said) is closed
