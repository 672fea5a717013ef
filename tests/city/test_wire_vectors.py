"""Goal: the golden bytes are what the city's code makes and what the product's code reads, and the
conversations go as they say.

Method: the files are made again and compared; then the product's decoders, its verifier, its key
store and its set digest take every value from the files alone; each conversation is played to an
empty reference city.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.messages import (
    CHUNK_ROWS_BYTES_MAX,
    Ack,
    Delta,
    Head,
    Manifest,
    Order,
    PushChunk,
    PushDelta,
    PushKeys,
    PushManifest,
    PushPhoto,
    PushRelease,
    PushReleaseChunk,
    Release,
    Root,
    Row,
    ScopeKey,
    SealedKeys,
    Signed,
    SignedWhat,
    Welcome,
    b64u,
    decode_body,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    row_hash,
    set_digest,
    set_digest_bytes,
    signing_input,
)
from edge.model import UidKind
from edge.trust import (
    FileKeyStore,
    Verifier,
    credential_id,
    open_root,
    open_scope_key,
    unseal_column,
    write_secret,
)
from hil.vectors import FOLDER, files, text
from sync.scope_intake import root_of
from tests.city.sham import NOON_MS, Sham, make_core

SECRETS, LISTS, SIGNED, EXCHANGES = (
    json.loads((FOLDER / f"{name}.json").read_text())
    for name in ("secrets", "lists", "signed", "exchanges")
)
KINDS: dict[SignedWhat, Any] = {
    SignedWhat.ROOT: Root,
    SignedWhat.HEAD: Head,
    SignedWhat.WELCOME: Welcome,
    SignedWhat.MANIFEST: Manifest,
    SignedWhat.DELTA: Delta,
    SignedWhat.KEYS: SealedKeys,
    SignedWhat.ORDER: Order,
    SignedWhat.RELEASE: Release,
}
PACKED = {SignedWhat.MANIFEST, SignedWhat.DELTA, SignedWhat.KEYS, SignedWhat.RELEASE}


@pytest.mark.parametrize("name", files())
def test_the_files_are_what_the_citys_code_makes(name: str) -> None:
    found = (FOLDER / name).read_text()
    assert found == text(files()[name]), "the wire changed: run python -m hil.vectors"


# ------------------------------------------------------------------------------------ secrets


@pytest.mark.parametrize("one", SECRETS["credentials"], ids=lambda one: one["uid"])
def test_an_id_from_a_uid(one: dict[str, Any]) -> None:
    key = bytes.fromhex(SECRETS["identifier_key"])
    found = credential_id(key, UidKind(one["kind"]), bytes.fromhex(one["uid"]))
    assert found == one["text"] == b64u(bytes.fromhex(one["id"]))


@pytest.mark.parametrize("one", SECRETS["columns"], ids=lambda one: one["text"])
def test_a_sealed_column_opens(one: dict[str, Any]) -> None:
    found = unseal_column(
        {one["version"]: bytes.fromhex(SECRETS["seal_key"])},
        bytes.fromhex(one["sealed"]),
        scope=one["scope"],
        row_key=one["row_key"].encode(),
        column=one["column"],
    )
    assert found == one["text"]


@pytest.mark.parametrize("one", SECRETS["scope_keys"], ids=lambda one: one["purpose"])
def test_a_scope_key_opens_with_the_devices_key(tmp_path: Path, one: dict[str, Any]) -> None:
    scalar = int(SECRETS["device_private"], 16)
    key = ec.derive_private_key(scalar, ec.SECP256R1())
    path = tmp_path / "device.key"
    write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    store = FileKeyStore(path)
    assert store.public_point().hex() == SECRETS["device_point"]
    sealed = ScopeKey(
        scope=one["scope"],
        purpose=one["purpose"],
        version=one["version"],
        sealed=bytes.fromhex(one["sealed"]),
    )
    assert open_scope_key(store, sealed).hex() == one["secret"]


# -------------------------------------------------------------------------------------- lists


def row(one: dict[str, Any]) -> Row:
    return Row(one["kind"], bytes.fromhex(one["key"]), bytes.fromhex(one["body"]))


def test_rows_hashes_and_set_digests() -> None:
    rows = [row(one) for one in LISTS["rows"]]
    for one, golden in zip(rows, LISTS["rows"], strict=True):
        assert f"{row_hash(one):064x}" == golden["hash"]
        decode_body(one)
    assert set_digest_bytes(set_digest(rows)).hex() == LISTS["set_digest"]
    assert set_digest_bytes(set_digest(reversed(rows))).hex() == LISTS["set_digest"]
    assert set_digest_bytes(set_digest([])).hex() == LISTS["empty_set_digest"]
    delta = LISTS["delta"]
    for when in ("before", "after"):
        total = set_digest(row(one) for one in delta[when])
        assert set_digest_bytes(total).hex() == delta[f"set_digest_{when}"]


def test_a_chunk_unpacks_to_the_rows() -> None:
    raw = zstandard.ZstdDecompressor().decompress(
        bytes.fromhex(LISTS["chunk"]), max_output_size=CHUNK_ROWS_BYTES_MAX
    )
    assert raw.hex() == LISTS["unpacked_chunk"]
    rows = decode_pack(list[Row], raw, size_max=CHUNK_ROWS_BYTES_MAX)
    assert rows == [row(one) for one in LISTS["rows"]]
    assert rows == sorted(rows, key=lambda one: (one.kind, one.key))


# ------------------------------------------------------------------------------------- signed


def messages() -> dict[SignedWhat, dict[str, Any]]:
    return {SignedWhat(one["what"]): one for one in SIGNED["messages"]}


def root_key() -> bytes:
    return next(bytes.fromhex(key["public"]) for key in SIGNED["keys"] if key["role"] == "root")


@pytest.mark.parametrize("what", SignedWhat)
def test_a_signed_message_is_what_devices_believe(what: SignedWhat) -> None:
    golden = messages()[what]
    payload, message = bytes.fromhex(golden["payload"]), bytes.fromhex(golden["message"])
    signed = decode_pack(Signed, message) if what in PACKED else decode_signed_lines(message)
    assert signed.payload == payload and signed.key_id == golden["key_id"]
    assert signed.signature.hex() == golden["signature"]
    assert signing_input(what, payload).hex() == golden["signing_input"]
    if what not in PACKED:
        assert golden["text"].encode() == message
    decode: Any = decode_pack if what in PACKED else decode_json
    decode(KINDS[what], payload)
    seed = next(key["seed"] for key in SIGNED["keys"] if key["key_id"] == golden["key_id"])
    made = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).sign(
        bytes.fromhex(golden["signing_input"])
    )
    assert made.hex() == golden["signature"]
    root = open_root(root_key(), decode_signed_lines(bytes.fromhex(_message(SignedWhat.ROOT))))
    if what is not SignedWhat.ROOT:
        assert Verifier(root).open(what, signed) == payload


def _message(what: SignedWhat) -> str:
    return str(messages()[what]["message"])


def test_head_manifest_and_chunk_belong_together() -> None:
    head = decode_json(Head, bytes.fromhex(messages()[SignedWhat.HEAD]["payload"]))
    manifest = decode_pack(Manifest, bytes.fromhex(messages()[SignedWhat.MANIFEST]["payload"]))
    assert head.root == root_of(manifest) == LISTS["root"]
    assert [one.hex() for one in manifest.chunk_hashes] == [LISTS["chunk_hash"]]
    assert manifest.set_digest.hex() == LISTS["set_digest"]
    assert head.set_digest == b64u(manifest.set_digest)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("manifest", PushManifest),
        ("chunk", PushChunk),
        ("delta", PushDelta),
        ("keys", PushKeys),
        ("photo", PushPhoto),
        ("release", PushRelease),
        ("release_chunk", PushReleaseChunk),
    ],
)
def test_the_answers_to_a_pull(name: str, kind: type) -> None:
    assert isinstance(decode_push(bytes.fromhex(SIGNED["pushes"][name])), kind)


# ---------------------------------------------------------------------------------- exchanges


@pytest.mark.parametrize("name", EXCHANGES["exchanges"])
def test_a_conversation_goes_as_it_says(tmp_path: Path, name: str) -> None:
    core = make_core(tmp_path)
    Sham(core, EXCHANGES["device"])
    for step in EXCHANGES["exchanges"][name]:
        outs = core.receive(EXCHANGES["topic"], step["batch"].encode(), NOON_MS)
        acks = [out.payload for out in outs if out.topic == EXCHANGES["ack_topic"]]
        assert acks == [step["ack"].encode()]
        decode_json(Ack, acks[0])
    core.store.close()
