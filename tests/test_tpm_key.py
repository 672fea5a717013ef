"""Goal: what is decided about a key in a TPM without asking it: whether a file is one, whose; what
is asked of the chip once and not again; that nobody who cannot wait waits for it.

Method: a key file of a TPM in software that is gone, cut anywhere and with each bit turned; a chip
played by a few lines, which can be slow, and forget; a station whose lists change meanwhile. The
real thing is in `tests/process/test_tpm.py`.
"""

from __future__ import annotations

import base64
import copy
import grp
import os
import pwd
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from edge import tpm, tpm_openssl
from edge.certificates import Identity, new_key
from edge.looking import START_WAIT_S
from edge.messages import ScopeKey
from edge.model import CorruptData, DeviceFault, Outcome, SetupProblem, Station
from edge.offline_cache.apply import store_scope_keys
from edge.offline_cache.store import FileKind, Writer
from edge.tpm_openssl import Refused
from edge.trust import (
    FileKeyStore,
    _open_box,
    candidate_path,
    former_path,
    is_in_tpm,
    key_fingerprint,
    public_point,
    read_key,
    usable_key,
    write_secret,
)
from hil.bench.station import SITE
from provisioning import enroll, identity
from provisioning.checks.finding import told
from provisioning.city import Answer
from provisioning.site import render_openssl
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
        self.held: set[int] = set()
        self.fails = 0  # So many of the next commands.
        self.takes = True

    def read(self, data: bytes) -> int:
        self.reads += 1
        if not self.takes:
            raise Refused("cannot load key")
        self.held.add(self.reads)
        return self.reads

    def free(self, key: int) -> None:
        self.held.remove(key)

    def sign(self, key: int, data: bytes) -> bytes:
        self._work(key)
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def derive(self, key: int, peer: ec.EllipticCurvePublicKey) -> bytes:
        self._work(key)
        return self.key.exchange(ec.ECDH(), peer)

    def _work(self, key: int) -> None:
        assert self.open.wait(WAIT_S)
        self.works += 1
        assert key in self.held
        if self.fails:
            self.fails -= 1
            raise Refused("no such handle")


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Chip:
    chip = Chip()
    monkeypatch.setattr(tpm, "crypto", lambda: chip)
    tpm.key_of.cache_clear()  # Of the chips before.
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
    with pytest.raises(DeviceFault, match=r"the TPM refuses \(no such handle\)") as caught:
        key.sign(b"", ec.ECDSA(hashes.SHA256()))
    assert "put it aside" not in str(caught.value)  # It is this chip's: it has signed.


def test_a_key_that_the_chip_does_not_take_is_told_at_once(chip: Chip, tmp_path: Path) -> None:
    """The doctor shows what to do from the last semicolon on: nothing is thrown away untold why."""
    chip.takes = False
    with pytest.raises(SetupProblem, match=r"device\.key: .*\(cannot load key\)") as caught:
        store_of(chip, tmp_path)
    do = told("identity", tmp_path / "device.key", caught.value, "").do
    assert do.startswith("if the TPM was cleared or the file is another machine's, put it aside")
    assert "provision anew, else start the machine anew" in do


def test_a_spare_of_a_chip_that_was_cleared_is_in_nobodys_way(chip: Chip, tmp_path: Path) -> None:
    store = store_of(chip, tmp_path)
    box = scope_key(store)
    write_secret(former_path(tmp_path / "device.key"), KEY_FILE)
    assert key_fingerprint(store.public_point()) == key_fingerprint(public_point(chip.key))
    place = b"\0".join((box.scope.encode(), b"seal", b"1"))
    assert store.open_box(box.sealed, place=place) == SECRET
    spoilt = box.sealed[:-1] + bytes([box.sealed[-1] ^ 1])
    for looks in range(2):
        chip.fails = 2  # The spare is asked, twice; the key in use has been.
        with pytest.raises(CorruptData):
            store.open_box(spoilt, place=place)
        assert chip.fails == 0
        chip.fails = 1
        works = chip.works
        for _ in range(3):  # The looks after it wait for no chip,
            with pytest.raises(CorruptData):
                store.open_box(spoilt, place=place)
        assert (chip.fails, chip.works) == (1, works)
        stamp = 1_000_000_000 * (looks + 1)
        os.utime(former_path(tmp_path / "device.key"), ns=(stamp, stamp))  # until there is another.


@pytest.mark.parametrize("dead", [True, False])
def test_a_spare_that_does_not_open_it_hides_none_behind_it(
    chip: Chip, tmp_path: Path, dead: bool
) -> None:
    store = store_of(chip, tmp_path)
    spare = former_path(tmp_path / "device.key")
    write_secret(spare, new_key())
    box = scope_key(FileKeyStore(spare))
    write_secret(candidate_path(tmp_path / "device.key"), KEY_FILE if dead else new_key())
    place = b"\0".join((box.scope.encode(), b"seal", b"1"))
    with pytest.raises(CorruptData):  # Now the chip has been asked for the key in use.
        key_of_box = read_key(tmp_path / "device.key")
        assert isinstance(key_of_box, tpm.TpmKey)
        _open_box(key_of_box, box.sealed, place)
    chip.fails = 2 if dead else 0
    assert store.open_box(box.sealed, place=place) == SECRET
    assert chip.fails == 0


@pytest.mark.parametrize("passing", [True, False])
def test_a_candidate_of_a_chip_that_was_cleared_is_thrown_away(
    chip: Chip, tmp_path: Path, passing: bool
) -> None:
    """But not for a fault that every key would meet."""
    store_of(chip, tmp_path)
    one = Identity(
        device_id="gate-1",
        key=tmp_path / "device.key",
        certificate=tmp_path / "device.crt",
        authority=tmp_path / "authority.pem",
    )
    write_secret(one.candidate_key, KEY_FILE)
    chip.fails = 4 if passing else 2  # Each key is tried twice.
    with pytest.raises(DeviceFault, match="no such handle") as caught:
        one.request()
    assert chip.fails == 0
    assert one.candidate_key.exists() is passing
    assert ("thrown away" in str(caught.value)) is not passing


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


def test_work_that_ends_unexpectedly_is_not_done() -> None:
    def fails() -> None:
        raise KeyError("no such thing")

    ahead = tpm.Ahead()
    with pytest.raises(DeviceFault, match="no such thing"):
        ahead.is_done("boxes", fails, wait_s=WAIT_S)
    assert ahead.is_done("boxes", dict, wait_s=WAIT_S)


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


def test_what_stands_between_us_and_the_chip_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    has, groups = [False], [7]
    monkeypatch.delenv("TPM2OPENSSL_TCTI", raising=False)
    monkeypatch.setattr(tpm_openssl, "DEVICE", tmp_path / "tpmrm0")
    monkeypatch.setattr(tpm_openssl, "_has_daemon", lambda: has[0])
    monkeypatch.setattr(os, "geteuid", lambda: 9)
    monkeypatch.setattr(os, "getgroups", lambda: groups)
    monkeypatch.setattr(grp, "getgrnam", lambda _name: SimpleNamespace(gr_gid=4_711))
    assert "switch the TPM on" in tpm_openssl.where()
    (tmp_path / "tpmrm0").touch()
    packages = "tpm2-openssl tpm2-abrmd libtss2-tcti-tabrmd0"
    assert tpm_openssl.where().endswith(f"run: apt-get install {packages}")
    has[0] = True
    assert tpm_openssl.where().endswith("run: adduser USER tss")
    groups.append(4_711)
    assert "run: systemctl start tpm2-abrmd" in tpm_openssl.where()
    monkeypatch.setenv("TPM2OPENSSL_TCTI", "swtpm:port=9")
    assert tpm_openssl.where() == "swtpm:port=9"


def test_devices_ask_by_the_daemon_as_tests_do() -> None:
    """The kernel's own manager has three places, and TLS that proves both sides needs more."""
    assert tpm_openssl.TCTI_DEFAULT == "tabrmd:bus_type=system"
    assert "\ntcti = tabrmd:bus_type=system\n" in render_openssl()


@pytest.mark.parametrize("works", [True, False])
def test_a_chip_that_only_seems_to_work_gets_no_key(
    chip: Chip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, works: bool
) -> None:
    settings: Any = SimpleNamespace(key_path=tmp_path / "device.key")
    monkeypatch.setattr(chip, "generate", lambda: key_of(chip)._data, raising=False)
    monkeypatch.setattr(tpm, "why_not", lambda: "")
    chip.fails = 0 if works else 2
    if not works:
        with pytest.raises(SetupProblem, match="--key tpm: the TPM refuses"):
            identity.device_key(settings, identity.KeyPlace.TPM)
        assert not settings.key_path.exists()
        chip.fails = 2
    _, made = identity.device_key(settings)
    assert is_in_tpm(settings.key_path) is works
    assert made.startswith("in this machine's TPM" if works else "in a file: the TPM refuses (no")


class Library:
    """libcrypto that does nothing, and remembers which properties hold."""

    def __init__(self) -> None:
        self.holds = [tpm_openssl.PROPERTIES]

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*words: Any) -> int:
            if name == "EVP_set_default_properties":
                self.holds.append(words[1])
                return 1
            return 0

        setattr(self, name, call)
        return call


def test_the_city_is_asked_in_software(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its web chain may have RSA 4096, which no TPM checks; the request needs the TPM's key."""
    library: Any = Library()
    held = {}

    def certificate_request(_key: object, _device_id: str) -> str:
        held["request"] = library.holds[-1]
        return "a request"

    def ask_city(*_words: object, csr_pem: str, **_more: object) -> Answer:
        held["city"] = library.holds[-1]
        raise CorruptData(f"no answer to {csr_pem}")

    monkeypatch.setattr(tpm_openssl, "_loaded", [tpm_openssl.Crypto(library)])
    monkeypatch.setattr(identity, "certificate_request", certificate_request)
    wish = enroll.Wish(config=Path("device.toml"), city="https://city.example", claim="claim")
    settings: Any = SimpleNamespace(device_id="gate-1", site_id="s", station=Station.ENTRANCE)
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(CorruptData, match="no answer to a request"):
        enroll._ask(wish, settings, key, "why", ask_city, datetime.now(UTC))
    assert held == {"request": tpm_openssl.PROPERTIES, "city": b"?provider=default"}
    assert library.holds[-1] == tpm_openssl.PROPERTIES
    assert len(library.holds) == 3


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


@pytest.mark.parametrize(("groups", "closed"), [([9, 7], False), ([9, 8], True)])
def test_root_is_told_when_the_agent_may_not_use_the_tpm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, groups: list[int], closed: bool
) -> None:
    key = tmp_path / "device.key"
    monkeypatch.setattr(grp, "getgrnam", lambda _name: SimpleNamespace(gr_gid=7))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getgrouplist", lambda _user, _group: groups)
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: SimpleNamespace(pw_uid=9, pw_gid=9))
    settings: Any = SimpleNamespace(key_path=key)
    assert identity.closed_tpm(settings) == ""  # No key, and so no key in a TPM.
    write_secret(key, KEY_FILE)
    said = identity.closed_tpm(settings)
    assert ("adduser moskvenok tss" in said) is closed
