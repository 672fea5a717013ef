"""Goal: a renewed identity takes the old one's place whole, a power cut anywhere in between is
mended, and nothing is taken that is not ours or ends in a root we do not know.

Method: real files and certificates; `promote` is cut off before each of its steps, and what is left
is settled; each way an answer can be wrong, alone. Two processes see one folder.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.certificates import Identity, Misfit, Validity, new_key, validity
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.trust import (
    FileKeyStore,
    candidate_path,
    former_path,
    key_fingerprint,
    read_key,
    write_secret,
)
from tests.provisioning.enrolment_city import certificate, pem
from tests.support import small_city

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
LIFE = timedelta(days=90)
NAME = "gate-1"


class Authority:
    """A root and an issuing certificate under it."""

    def __init__(self, name: str = "root") -> None:
        self.root_key, self.issuing_key = (ec.generate_private_key(ec.SECP256R1()) for _ in "12")
        self.root = certificate(name, self.root_key.public_key(), name, self.root_key, NOW, ca=True)
        self.issuing = certificate(
            f"{name} issuing", self.issuing_key.public_key(), name, self.root_key, NOW, ca=True
        )
        self.name = name

    @property
    def chain(self) -> str:
        return pem(self.issuing) + pem(self.root)

    def issue(self, public: Any, *, name: str = NAME, begins: datetime = NOW) -> x509.Certificate:
        return certificate(
            name, public, f"{self.name} issuing", self.issuing_key, begins, life=LIFE
        )


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def identity(tmp_path: Path, authority: Authority) -> Identity:
    """A device as it is after enrolment."""
    one = Identity(
        device_id=NAME,
        key=tmp_path / "device.key",
        certificate=tmp_path / "device.crt",
        authority=tmp_path / "authority.pem",
    )
    write_secret(one.key, new_key())
    one.certificate.write_text(pem(authority.issue(read_key(one.key).public_key())))
    one.authority.write_text(authority.chain)
    return one


def public_of(csr_pem: str) -> Any:
    request = x509.load_pem_x509_csr(csr_pem.encode())
    assert request.is_signature_valid
    return request.public_key()


def ready(identity: Identity, authority: Authority) -> Identity:
    leaf = authority.issue(public_of(identity.request()))
    identity.take(pem(leaf), authority.chain, NOW)
    assert identity.is_ready()
    return identity


def test_a_request_is_by_a_new_key_and_the_same_until_it_is_used(identity: Identity) -> None:
    first, second = (public_of(identity.request()) for _ in "12")
    assert first == second != read_key(identity.key).public_key()
    assert stat.S_IMODE(identity.candidate_key.stat().st_mode) == 0o600
    assert not identity.is_ready()


def test_a_spoilt_candidate_key_is_thrown_away(identity: Identity) -> None:
    write_secret(identity.candidate_key, b"nothing")
    with pytest.raises(DeviceFault):
        identity.request()
    assert public_of(identity.request())


def test_the_candidate_takes_over_and_the_former_is_kept(
    identity: Identity, authority: Authority
) -> None:
    before = identity.key.read_bytes(), identity.certificate.read_bytes()
    ready(identity, authority)
    named = identity.fingerprint(candidate=True)
    identity.promote()
    assert identity.fingerprint() == named and identity.fingerprint(candidate=True) == ""
    kept = former_path(identity.key), former_path(identity.certificate)
    assert tuple(path.read_bytes() for path in kept) == before
    assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600
    leaves = x509.load_pem_x509_certificates(identity.certificate.read_bytes())
    assert len(leaves) == 2, "the issuing certificate goes with it, the root does not"
    assert identity.settle() == "" and not identity.is_ready()


STEPS = ("_copy", "_copy", "replace", "replace", "_sync_folder")


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_cut_off_before_any_step_it_is_one_whole_identity_after_the_start(
    identity: Identity, authority: Authority, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(identity, authority)
    left = [step]

    def cutting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return real(*args)

        return call

    with monkeypatch.context() as patched:
        for name in ("_copy", "_sync_folder"):
            module = __import__("edge.certificates", fromlist=[name])
            patched.setattr(module, name, cutting(getattr(module, name)))
        patched.setattr(Path, "replace", _cutting_replace(left, identity))
        with pytest.raises(KeyboardInterrupt):
            identity.promote()
    identity.settle()
    key = read_key(identity.key).public_key()
    leaf = x509.load_pem_x509_certificates(identity.certificate.read_bytes())[0]
    assert leaf.public_key() == key
    promoted = not identity.is_ready()
    assert promoted is (step >= 3), "from the first rename on it goes forward"
    if not promoted:
        identity.promote()
        assert not identity.is_ready()


def _cutting_replace(left: list[int], identity: Identity) -> Callable[[Path, Path], Path]:
    real = Path.replace
    counted = (identity.candidate_key, identity.candidate_certificate)

    def replace(path: Path, target: Path) -> Path:
        if path in counted:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
        return real(path, target)

    return replace


def test_a_new_key_without_its_certificate_is_taken_back(
    identity: Identity, authority: Authority
) -> None:
    ready(identity, authority)
    before = identity.key.read_bytes()
    shutil.copy(identity.key, former_path(identity.key))
    identity.candidate_key.replace(identity.key)
    identity.candidate_certificate.write_text("torn")
    assert identity.settle() == "taken back"
    assert identity.key.read_bytes() == before and identity.settle() == ""


def test_what_never_fitted_is_left_for_the_technician(identity: Identity) -> None:
    write_secret(identity.key, new_key())
    before = identity.key.read_bytes()
    assert identity.settle() == "" and identity.key.read_bytes() == before


SPOILS: dict[str, Callable[[Authority, Any], tuple[str, str]]] = {
    "another key": lambda a, public: (
        pem(a.issue(ec.generate_private_key(ec.SECP256R1()).public_key())),
        a.chain,
    ),
    "another name": lambda a, public: (pem(a.issue(public, name="gate-2")), a.chain),
    "ended": lambda a, public: (pem(a.issue(public, begins=NOW - 2 * LIFE)), a.chain),
    "not begun": lambda a, public: (pem(a.issue(public, begins=NOW + LIFE)), a.chain),
    "chain without root": lambda a, public: (pem(a.issue(public)), pem(a.issuing)),
    "chain of none": lambda a, public: (pem(a.issue(public)), ""),
    "no pem": lambda a, public: ("certificate", a.chain),
    "too long": lambda a, public: (pem(a.issue(public)), a.chain * 60),
    "other root": lambda a, public: _from_stranger(public),
}


def _from_stranger(public: Any) -> tuple[str, str]:
    """Everything right, but for whom we trust; even the names are the same."""
    stranger = Authority()
    return pem(stranger.issue(public)), stranger.chain


@pytest.mark.parametrize("spoilt", SPOILS)
def test_an_answer_with_one_thing_wrong_is_not_kept(
    identity: Identity, authority: Authority, spoilt: str
) -> None:
    leaf, chain = SPOILS[spoilt](authority, public_of(identity.request()))
    with pytest.raises(Misfit):
        identity.take(leaf, chain, NOW)
    assert not identity.is_ready() and not identity.candidate_certificate.exists()


def test_an_issuing_certificate_of_the_same_root_may_be_another(
    identity: Identity, authority: Authority
) -> None:
    authority.issuing_key = ec.generate_private_key(ec.SECP256R1())
    authority.issuing = certificate(
        "root issuing",
        authority.issuing_key.public_key(),
        "root",
        authority.root_key,
        NOW,
        ca=True,
    )
    ready(identity, authority)


def test_the_dates_of_a_certificate(identity: Identity, tmp_path: Path) -> None:
    found = validity(identity.certificate)
    assert found == Validity(
        from_utc_s=int((NOW - timedelta(days=1)).timestamp()),
        until_utc_s=int((NOW + LIFE).timestamp()) + 1,
    )
    (tmp_path / "spoilt").write_text("x")
    assert validity(tmp_path / "spoilt") is None and validity(tmp_path / "none") is None


# ------------------------------------------------- the key store, while the key is renewed


def sealed(point: bytes) -> bytes:
    return small_city.sealed_to(point, bytes(32), scope="s/people", purpose="seal", version=1)


PLACE = b"s/people\0seal\0" + b"1"


def point_of(path: Path) -> bytes:
    return (
        read_key(path)
        .public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    )


def test_boxes_open_whichever_of_the_three_keys_they_are_sealed_to(
    identity: Identity, authority: Authority
) -> None:
    store = FileKeyStore(identity.key)  # As edge has it, all the time.
    first = sealed(store.public_point())
    assert store.opens_now(first, place=PLACE)
    ready(identity, authority)
    second = sealed(point_of(identity.candidate_key))
    assert store.open_box(second, place=PLACE) == bytes(32)
    assert not store.opens_now(second, place=PLACE)
    named = identity.fingerprint(candidate=True)
    identity.promote()
    for box in (first, second):
        assert store.open_box(box, place=PLACE) == bytes(32)
    assert store.opens_now(second, place=PLACE) and not store.opens_now(first, place=PLACE)
    assert key_fingerprint(store.public_point()) == named
    assert FileKeyStore(identity.key).open_box(first, place=PLACE) == bytes(32)
    ready(identity, authority).promote()
    with pytest.raises(CorruptData):  # Of the key before the one before.
        store.open_box(first, place=PLACE)


def test_a_spoilt_spare_or_a_change_halfway_stops_nobody(identity: Identity) -> None:
    store = FileKeyStore(identity.key)
    box = sealed(store.public_point())
    for spare in (candidate_path(identity.key), former_path(identity.key)):
        write_secret(spare, b"spoilt")
        assert store.open_box(box, place=PLACE) == bytes(32)
        assert FileKeyStore(identity.key).open_box(box, place=PLACE) == bytes(32)
    aside = identity.key.with_name("aside")
    identity.key.rename(aside)
    assert store.open_box(box, place=PLACE) == bytes(32), "what is held goes on"
    with pytest.raises(SetupProblem):
        FileKeyStore(identity.key)
    aside.rename(identity.key)
    os.utime(identity.key, ns=(1, 1))
    assert store.open_box(box, place=PLACE) == bytes(32)
