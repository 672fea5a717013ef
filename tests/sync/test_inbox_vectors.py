"""Goal: the golden stick of `tests/vectors/wire/stick.json` is one that a device takes, with the
result that stands beside it; so who writes a stick like it has written a good one.

Method: the values of the file alone, by the wire's page: index, lengths, names, order. Then the
whole of sync, without a network, as the device of the file: its key, its root, its name.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.config import load
from edge.messages import (
    CardholderRow,
    CredentialRow,
    Head,
    Manifest,
    PushChunk,
    PushDelta,
    PushKeys,
    PushManifest,
    StickIndex,
    b64u,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    from_b64u,
    is_file_name,
    read_frame,
)
from edge.model import UidKind
from edge.offline_cache.apply import held_scope_keys
from edge.settings import DeviceSettings
from edge.trust import credential_id, open_scope_keys, unseal_column, write_secret
from tests.provisioning.enrolment_city import pem
from tests.support.pictures import seen
from tests.support.small_city import CARDHOLDER, CREDENTIAL, set_digest_of
from tests.sync import sync_world
from tests.sync.sticks import NAME, Offline, inbox, taken
from tests.sync.sync_world import TOML

GOLDEN = json.loads((Path(__file__).parents[1] / "vectors" / "wire" / "stick.json").read_text())
EXPECTED = GOLDEN["expected"]
FILES = {one["name"]: one for one in GOLDEN["files"]}
PUSHES = {"manifest": PushManifest, "chunk": PushChunk, "delta": PushDelta, "keys": PushKeys}


def messages(name: str, kind: str) -> list[bytes]:
    return [bytes.fromhex(one["message"]) for one in FILES[name]["messages"] if one["what"] == kind]


def index() -> StickIndex:
    return decode_json(StickIndex, GOLDEN["index"].encode())


def test_the_index_names_each_file_and_its_size() -> None:
    assert [one.name for one in index().files] == list(FILES)
    for one in index().files:
        assert is_file_name(one.name)
        assert one.size_bytes == len(bytes.fromhex(FILES[one.name]["content"]))


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_its_messages_each_behind_its_length(name: str) -> None:
    read = io.BytesIO(bytes.fromhex(FILES[name]["content"])).read
    found = list(iter(lambda: read_frame(read), None))
    assert found == [bytes.fromhex(one["message"]) for one in FILES[name]["messages"]]
    for message, one in zip(found, FILES[name]["messages"], strict=True):
        if "text" in one:
            assert one["text"].encode() == message
        else:
            assert isinstance(decode_push(message), PUSHES[one["what"]])
        if one["what"] == "chunk":
            chunk = decode_push(message)
            assert isinstance(chunk, PushChunk)
            raw = zstandard.ZstdDecompressor().decompress(chunk.data, max_output_size=1 << 20)
            assert raw.hex() == one["unpacked"]


def test_a_list_begins_with_its_head_and_its_pieces_belong_together() -> None:
    order = {name: [one["what"] for one in FILES[name]["messages"]] for name in FILES}
    assert order == {
        "root": ["root"],
        f"keys-{GOLDEN['device']}": ["keys"],
        "list-people": ["head", "manifest", "chunk", "chunk"],
        "list-money": ["head", "manifest", "chunk", "delta"],
    }
    for name in ("list-people", "list-money"):
        head = decode_json(Head, decode_signed_lines(messages(name, "head")[0]).payload)
        push = decode_push(messages(name, "manifest")[0])
        assert isinstance(push, PushManifest)
        manifest = decode_pack(Manifest, push.signed.payload)
        chunks = [decode_push(one) for one in messages(name, "chunk")]
        hashes = [hashlib.sha256(one.data).digest() for one in chunks if isinstance(one, PushChunk)]
        assert list(manifest.chunk_hashes) == hashes
        assert head.root == b64u(hashlib.sha256(b"".join(hashes)).digest())
        assert from_b64u(head.set_digest).hex() == EXPECTED["set_digests"][head.scope]
        assert head.valid_until_utc_ms == EXPECTED["valid_until_utc_ms"]


class GoldenTill(Offline):
    """The device of the file; no clock that it could ask, unless told."""

    def _enrol(self) -> DeviceSettings:
        super()._enrol()
        path = self.folder / "device.toml"
        text = TOML.replace('"till-1"', f'"{GOLDEN["device"]}"')
        path.write_text(text.replace('"school-7"', f'"{GOLDEN["site"]}"'))
        settings = load(path)
        key = ec.derive_private_key(int(GOLDEN["device_private"], 16), ec.SECP256R1())
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(settings.key_path, secret)
        leaf = self.city.leaf(key.public_key(), begins_ms=self.city.utc_ms())
        settings.certificate_path.write_text(pem(leaf))
        root = b64u(bytes.fromhex(GOLDEN["root_public"]))
        settings.root_key_path.write_text(root + "\n")
        settings.root_document_path.write_bytes(messages("root", "root")[0])
        return settings


@pytest.fixture
def till(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoldenTill]:
    monkeypatch.setattr(sync_world, "DEVICE", GOLDEN["device"])
    made = GoldenTill(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def put_in(world: GoldenTill) -> None:
    folder = inbox(world) / NAME
    folder.mkdir(parents=True)
    for name, one in FILES.items():
        (folder / name).write_bytes(bytes.fromhex(one["content"]))
    (folder / GOLDEN["index_name"]).write_text(GOLDEN["index"])


def answer_of(world: GoldenTill) -> Any:
    """As it stands in the answer's file."""
    answer = json.loads(msgspec.json.encode(taken(world)))
    assert answer.pop("problem") == ""
    return answer


def test_a_device_takes_it_and_knows_whose_card_it_is(till: GoldenTill) -> None:
    till.restart(clock_trusted=False)
    put_in(till)
    assert answer_of(till) == EXPECTED["in_time"]
    rows = {}
    for scope, digest in EXPECTED["set_digests"].items():
        found = seen(till.settings.folders.state, scope)
        assert found is not None
        rows[scope] = found[1]
        assert set_digest_of(found[1]).hex() == digest
    scope = f"{GOLDEN['site']}/people"
    keys = open_scope_keys(till.keys, scope, held_scope_keys(till.writer.db))
    assert keys is not None
    (identifier,) = keys.identifier.values()
    uid = bytes.fromhex(EXPECTED["known_uid"])
    card = credential_id(identifier, UidKind(EXPECTED["known_uid_kind"]), uid)
    credential = decode_pack(CredentialRow, rows[scope][CREDENTIAL, from_b64u(card)])
    assert credential.cardholder_id == EXPECTED["cardholder"]
    row_key = EXPECTED["cardholder"].encode()
    person = decode_pack(CardholderRow, rows[scope][CARDHOLDER, row_key])
    name = unseal_column(keys.seal, person.sealed_name, scope=scope, row_key=row_key, column="name")
    assert name == EXPECTED["name"]


def test_a_device_that_knows_that_its_time_is_over_does_not(till: GoldenTill) -> None:
    assert till.city.utc_ms() > EXPECTED["valid_until_utc_ms"]
    put_in(till)
    assert answer_of(till) == EXPECTED["after_that"]
