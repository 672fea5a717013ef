"""Goal: only what the right key of the city signed is taken, and only for what it was signed for;
a UID ends in an id nobody can turn back; what is sealed opens here and nowhere else.

Method: every kind of signed thing with every role's key; every single bit of a payload and its
signature turned; seals and boxes made by another hand (`tests/support/small_city.py`, from the
wire's description) and opened at every wrong place.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.messages import (
    SIGNING_ROLE,
    RootKey,
    ScopeKey,
    Signed,
    SignedWhat,
    b64u,
    from_b64u,
)
from edge.model import CorruptData, SetupProblem, UidKind
from edge.trust import (
    FileKeyStore,
    KeyStore,
    Verifier,
    credential_id,
    open_root,
    open_scope_keys,
    unseal_column,
    write_secret,
)
from tests.contract.key_store import CONTRACT, flipped
from tests.support import small_city
from tests.support.small_city import PEOPLE, ROLES, public_bytes, sign

PAYLOAD = b'{"a":1}'
BELOW_ROOT = [what for what in SignedWhat if what is not SignedWhat.ROOT]


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier(small_city.root_document())


# ------------------------------------------------------------------------- signatures


def test_each_thing_has_its_own_role() -> None:
    assert set(SIGNING_ROLE) == set(SignedWhat)
    assert {SIGNING_ROLE[what] for what in BELOW_ROOT} == set(ROLES)


@pytest.mark.parametrize(("what", "role"), list(product(SignedWhat, [*ROLES, "root", "stranger"])))
def test_only_the_key_with_the_role_may_sign(
    verifier: Verifier, what: SignedWhat, role: str
) -> None:
    signed = sign(what, PAYLOAD, key=role)
    if role == SIGNING_ROLE[what] and role in ROLES:
        assert verifier.open(what, signed) == PAYLOAD
    else:
        with pytest.raises(CorruptData):
            verifier.open(what, signed)


@pytest.mark.parametrize(("meant", "used"), list(product(SignedWhat, SignedWhat)))
def test_a_signature_serves_one_purpose(
    verifier: Verifier, meant: SignedWhat, used: SignedWhat
) -> None:
    """Even of the right role: a head is no welcome, a manifest no delta."""
    if SIGNING_ROLE[used] not in ROLES:
        return
    signed = sign(meant, PAYLOAD, key=SIGNING_ROLE[used])
    if meant is used:
        assert verifier.open(used, signed) == PAYLOAD
    else:
        with pytest.raises(CorruptData, match="signature is wrong"):
            verifier.open(used, signed)


def test_a_key_under_anothers_name_is_refused(verifier: Verifier) -> None:
    for key, key_id in product((*ROLES, "root", "stranger"), (*ROLES, "", "root")):
        for what in BELOW_ROOT:
            signed = sign(what, PAYLOAD, key=key, key_id=key_id)
            if key == key_id == SIGNING_ROLE[what]:
                continue
            with pytest.raises(CorruptData):
                verifier.open(what, signed)


@pytest.mark.parametrize("what", BELOW_ROOT)
def test_one_bit_is_enough_to_be_refused(verifier: Verifier, what: SignedWhat) -> None:
    good = sign(what, PAYLOAD, key=SIGNING_ROLE[what])
    for payload in flipped(good.payload):
        with pytest.raises(CorruptData):
            verifier.open(what, Signed(payload, good.key_id, good.signature))
    for signature in flipped(good.signature):
        with pytest.raises(CorruptData):
            verifier.open(what, Signed(good.payload, good.key_id, signature))
    for key_id in flipped(good.key_id.encode()):
        with pytest.raises(CorruptData):
            verifier.open(what, Signed(good.payload, key_id.decode("latin-1"), good.signature))


@pytest.mark.parametrize("cut", [b"", b"x" * 63, b"x" * 65, b"x" * 10_000])
def test_a_signature_of_another_length_is_refused(verifier: Verifier, cut: bytes) -> None:
    with pytest.raises(CorruptData):
        verifier.open(SignedWhat.HEAD, Signed(PAYLOAD, "freshness", cut))
    good = sign(SignedWhat.HEAD, PAYLOAD, key="freshness")
    with pytest.raises(CorruptData):
        verifier.open(SignedWhat.HEAD, Signed(PAYLOAD, "freshness", good.signature + b"\0"))


@given(st.binary(max_size=200), st.sampled_from(BELOW_ROOT))
def test_what_is_signed_is_given_back_untouched(payload: bytes, what: SignedWhat) -> None:
    verifier = Verifier(small_city.root_document())
    assert verifier.open(what, sign(what, payload, key=SIGNING_ROLE[what])) == payload


# ----------------------------------------------------------------------- root document


def test_a_root_document_is_opened_with_the_enrolled_key() -> None:
    root = small_city.root_document(version=3)
    assert open_root(public_bytes("root"), small_city.signed_root(root)) == root
    assert Verifier(root).root_version == 3


@pytest.mark.parametrize("key", [*ROLES, "stranger"])
def test_no_other_key_makes_a_root_document(key: str) -> None:
    payload = msgspec.json.encode(small_city.root_document())
    with pytest.raises(CorruptData):
        open_root(public_bytes("root"), sign(SignedWhat.ROOT, payload, key=key, key_id="root"))


def test_a_changed_root_document_is_refused() -> None:
    good = small_city.signed_root()
    for payload in flipped(good.payload)[::5]:
        with pytest.raises(CorruptData):
            open_root(public_bytes("root"), Signed(payload, "root", good.signature))
    for signature in flipped(good.signature):
        with pytest.raises(CorruptData):
            open_root(public_bytes("root"), Signed(good.payload, "root", signature))
    for what in BELOW_ROOT:  # Signed by the root key, but as something else.
        with pytest.raises(CorruptData):
            open_root(public_bytes("root"), sign(what, good.payload, key="root"))


@pytest.mark.parametrize("enrolled", [b"", b"\0" * 31, b"\xff" * 32, b"x" * 33])
def test_a_spoilt_enrolled_key_opens_nothing(enrolled: bytes) -> None:
    with pytest.raises(CorruptData):
        open_root(enrolled, small_city.signed_root())


@pytest.mark.parametrize("public", ["", "!", b64u(bytes(31)), b64u(bytes(33)), "\u00e9"])
def test_a_root_document_with_one_bad_key_is_not_taken(public: str) -> None:
    root = small_city.root_document()
    bad = RootKey(key_id="list-2", role="list", public=public)
    spoilt = msgspec.structs.replace(root, keys=(*root.keys, bad))
    with pytest.raises(CorruptData):
        open_root(public_bytes("root"), small_city.signed_root(spoilt))


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b"[" * 9_000, b'{"version":"1"}'])
def test_a_signed_root_that_is_no_document_is_refused(payload: bytes) -> None:
    with pytest.raises(CorruptData):
        open_root(public_bytes("root"), sign(SignedWhat.ROOT, payload, key="root"))


def test_a_rotated_key_takes_the_place_of_the_old_one() -> None:
    verifier = Verifier(small_city.root_document(roles={"new list": "list"}))
    good = sign(SignedWhat.DELTA, PAYLOAD, key="new list")
    assert verifier.open(SignedWhat.DELTA, good) == PAYLOAD
    for key in ROLES:
        with pytest.raises(CorruptData, match="not in the root file"):
            verifier.open(SignedWhat.DELTA, sign(SignedWhat.DELTA, PAYLOAD, key=key))


# ----------------------------------------------------------------------- UID to id


def test_the_documented_example() -> None:
    found = credential_id(bytes(32), UidKind.ISO14443, bytes.fromhex("04a1b2c3d4e580"))
    assert found == "sz15c5AwM0F_kKv0Hotr5w"


@given(st.binary(min_size=1, max_size=10), st.sampled_from(UidKind))
def test_an_id_is_the_formula_of_the_wire(uid: bytes, kind: UidKind) -> None:
    key = small_city.secret(f"identifier {PEOPLE}")
    found = credential_id(key, kind, uid)
    assert from_b64u(found) == small_city.id_bytes(uid, kind=kind)
    # HMAC written out (RFC 2104), so that no library vouches for itself.
    block = key + bytes(32)
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + bytes([kind, len(uid)]) + uid)
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner.digest())
    assert from_b64u(found) == outer.digest()[:16]
    assert len(found) == 22


def test_ids_differ_by_key_kind_and_length() -> None:
    uid = b"\4\1\2\3"
    ids = {
        credential_id(small_city.secret(scope), kind, uid + b"\0" * more)
        for scope in ("one", "two")
        for kind in UidKind
        for more in range(4)
    }
    assert len(ids) == 16


@pytest.mark.parametrize(("key", "uid"), [(b"", b"1"), (bytes(31), b"1"), (bytes(32), b"")])
def test_a_key_or_uid_that_cannot_be_is_our_mistake(key: bytes, uid: bytes) -> None:
    with pytest.raises(AssertionError):
        credential_id(key, UidKind.ISO14443, uid)
    with pytest.raises(AssertionError):
        credential_id(bytes(32), UidKind.ISO14443, bytes(11))


# ----------------------------------------------------------------------- sealed columns

SEALS = {version: small_city.secret(f"seal {PEOPLE} {version}") for version in (1, 2)}


def unsealed(sealed: bytes, **place: object) -> str:
    fields: dict[str, object] = {"scope": PEOPLE, "row_key": b"p1", "column": "name"} | place
    return unseal_column(SEALS, sealed, **fields)  # type: ignore[arg-type]


def test_a_sealed_column_opens_at_its_place_with_its_key() -> None:
    for version, column in product((1, 2), ("name", "group")):
        sealed = small_city.sealed_column(
            "Аня Ёлкина", row_key=b"p1", column=column, version=version
        )
        assert unsealed(sealed, column=column) == "Аня Ёлкина"
    assert unsealed(b"") == ""


@pytest.mark.parametrize(
    "place",
    [
        {"scope": "school-8/people"},
        {"scope": "school-7/peopl", "row_key": b"e\0p1"},
        {"row_key": b"p2"},
        {"row_key": b""},
        {"column": "group"},
        {"row_key": b"p1\0name", "column": ""},
    ],
)
def test_a_sealed_column_opens_nowhere_else(place: dict[str, object]) -> None:
    sealed = small_city.sealed_column("Аня", row_key=b"p1", column="name")
    with pytest.raises(CorruptData, match="does not open"):
        unsealed(sealed, **place)


def test_a_changed_sealed_column_does_not_open() -> None:
    sealed = small_city.sealed_column("Аня", row_key=b"p1", column="name")
    for spoilt in (*flipped(sealed), *(sealed[:length] for length in range(1, len(sealed)))):
        with pytest.raises(CorruptData):
            unsealed(spoilt)
    with pytest.raises(CorruptData):
        unseal_column({1: SEALS[2]}, sealed, scope=PEOPLE, row_key=b"p1", column="name")
    with pytest.raises(CorruptData, match="key version 1, not held"):
        unseal_column({2: SEALS[2]}, sealed, scope=PEOPLE, row_key=b"p1", column="name")


def test_what_does_not_open_says_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = small_city.sealed_column("Аня", row_key=b"p1-secret-person", column="name")
    with pytest.raises(CorruptData) as told:
        unsealed(sealed, row_key=b"p1-secret-person", column="group")
    assert "secret-person" not in str(told.value)


# ----------------------------------------------------------------------- the device key


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return write_key(tmp_path / "device.key", ec.generate_private_key(ec.SECP256R1()))


def write_key(path: Path, key: object, *, passphrase: bytes = b"") -> Path:
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey)
    write_secret(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption(),
        ),
    )
    return path


def test_a_key_that_others_may_read_or_the_group_write_is_refused(key_file: Path) -> None:
    for mode in range(0o400, 0o1000):
        key_file.chmod(mode)
        if mode & 0o027:
            with pytest.raises(SetupProblem, match=f"mode {mode:04o}.*chmod 600"):
                FileKeyStore(key_file)
        else:
            FileKeyStore(key_file)


def test_what_is_no_p256_key_is_a_setup_problem(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    with pytest.raises(SetupProblem, match="provision"):
        FileKeyStore(path)
    for key in (
        ec.generate_private_key(ec.SECP384R1()),
        Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65_537, 2_048),
    ):
        with pytest.raises(SetupProblem, match="P-256"):
            FileKeyStore(write_key(path, key))
    locked = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SetupProblem, match="PKCS#8"):
        FileKeyStore(write_key(path, locked, passphrase=b"word"))
    for content in (b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"):
        write_secret(path, content)
        with pytest.raises(SetupProblem, match="PKCS#8"):
            FileKeyStore(path)
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(SetupProblem):
        FileKeyStore(path)


@pytest.mark.parametrize("keeps", CONTRACT, ids=lambda promise: promise.__name__)
def test_a_key_in_a_file_keeps_the_contract(
    key_file: Path, keeps: Callable[[KeyStore], None]
) -> None:
    keeps(FileKeyStore(key_file))


def test_the_keys_of_a_scope_by_version(key_file: Path) -> None:
    store = FileKeyStore(key_file)
    keys = [
        ScopeKey(
            scope=scope,
            purpose=purpose,
            version=version,
            sealed=small_city.sealed_to(
                store.public_point(),
                small_city.secret(f"{scope} {purpose} {version}"),
                scope=scope,
                purpose=purpose,
                version=version,
            ),
        )
        for scope in (PEOPLE, "school-7/money")
        for purpose in ("identifier", "seal")
        for version in (2, 10, 3)
    ]
    opened = open_scope_keys(store, PEOPLE, keys)
    assert opened is not None
    assert set(opened.identifier) == set(opened.seal) == {2, 3, 10}
    assert opened.newest_identifier == small_city.secret(f"{PEOPLE} identifier 10")
    assert opened.seal[3] == small_city.secret(f"{PEOPLE} seal 3")
    assert open_scope_keys(store, "school-9/people", keys) is None
    assert open_scope_keys(store, PEOPLE, [k for k in keys if k.purpose == "seal"]) is None
    for secret in (*opened.identifier.values(), *opened.seal.values()):
        assert repr(secret) not in repr(opened)
    assert replace(opened, scope="x").scope == "x"


def test_a_secret_is_written_whole_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for content in (b"first", b"second" * 1_000, b""):
        write_secret(path, content)
        assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    write_secret(path, b"again")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


def test_a_secret_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"old")

    def refuse(_descriptor: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError):
        write_secret(path, b"new")
    assert path.read_bytes() == b"old"
