"""The golden stick of `tests/vectors/wire/stick.json`: for whoever writes sticks for devices.

One till's stick: root document, the keys sealed to it, its people in two chunks, and its money as a
snapshot with the delta behind it; each file as bytes and as the messages in it, and what a device
says of them. Made from the same test keys as the other vectors; `hil/vectors.py` writes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

import zstandard
from msgspec.structs import replace

from edge.messages import (
    CHUNK_ROWS_BYTES_MAX,
    STICK_INDEX,
    Delta,
    Head,
    Manifest,
    PushChunk,
    PushDelta,
    PushKeys,
    PushManifest,
    Row,
    RowKey,
    ScopeKey,
    SealedKeys,
    SignedWhat,
    StickFile,
    StickIndex,
    StickWhat,
    VectorEntry,
    VersionMark,
    b64u,
    decode_push,
    encode_json,
    encode_pack,
    frame,
    set_digest,
    set_digest_bytes,
)
from hil.vectors import (
    DEVICE,
    FOLDER,
    MONEY,
    NAMES,
    NOON_MS,
    PEOPLE,
    SITE,
    SNAPSHOT,
    UIDS,
    account_row,
    documents,
    people_rows,
    secrets,
    signing_key,
)

FILE: Final = "stick.json"
LIFE_MS: Final = 3 * 24 * 60 * 60 * 1000  # Of a head on a stick: as long as a round of schools.
MONEY_SNAPSHOT: Final = "ffeeddccbbaa99887766554433221100"
LEFT: Final = b"s0001a0009"  # An account that the delta takes away.

Message = tuple[str, bytes]  # What it is, and its bytes as they would come by wire.


def stick() -> dict[str, Any]:
    """What stands in the file."""
    files: list[StickFile] = []
    made: list[dict[str, Any]] = []
    held = _held_chunks()
    for name, what, scope, messages in (
        ("root", StickWhat.ROOT, "", _root()),
        (f"keys-{DEVICE}", StickWhat.KEYS, "", _keys()),
        ("list-people", StickWhat.LIST, PEOPLE, _people(held)),
        ("list-money", StickWhat.LIST, MONEY, _money(held)),
    ):
        content = b"".join(frame(message) for _, message in messages)
        device = DEVICE if what is StickWhat.KEYS else ""
        files.append(
            StickFile(name=name, what=what, size_bytes=len(content), scope=scope, device=device)
        )
        made.append(
            {
                "name": name,
                "messages": [_shown(kind, message) for kind, message in messages],
                "content": content.hex(),
            }
        )
    index = encode_json(StickIndex(files=tuple(files), made_utc_ms=NOON_MS))
    return {
        "device": DEVICE,
        "site": SITE,
        "station": "till",
        "device_private": secrets()["device_private"],
        "root_public": signing_key("root").public.hex(),
        "index_name": STICK_INDEX,
        "index": index.decode(),
        "files": made,
        "expected": _expected(),
    }


def _shown(kind: str, message: bytes) -> dict[str, Any]:
    shown: dict[str, Any] = {"what": kind, "message": message.hex()}
    if kind in ("root", "head"):
        shown["text"] = message.decode()
    if kind == "chunk":
        push = decode_push(message)
        assert isinstance(push, PushChunk)
        shown["unpacked"] = _unpacked(push.data).hex()
    return shown


def _expected() -> dict[str, Any]:
    """Of a device of this name and key that believes this root and holds no list."""
    scopes = (PEOPLE, 7), (MONEY, 42)
    return {
        "in_time": {
            "root": "taken",
            "keys": "taken",
            "lists": [
                {"scope": scope, "in_force": True, "version": [1, number], "reason": ""}
                for scope, number in scopes
            ],
        },
        "valid_until_utc_ms": NOON_MS + LIFE_MS,
        "after_that": {
            "root": "taken",
            "keys": "taken",
            "lists": [
                {"scope": scope, "in_force": False, "version": None, "reason": "frozen"}
                for scope, _ in scopes
            ],
        },
        "set_digests": {
            PEOPLE: set_digest_bytes(set_digest(people_rows())).hex(),
            MONEY: set_digest_bytes(set_digest(_money_after())).hex(),
        },
        "known_uid": UIDS[0][1],
        "known_uid_kind": UIDS[0][0].value,
        "cardholder": "s0001c0001",
        "name": NAMES[0][1],
    }


# --------------------------------------------------------------------------------- the files


def _root() -> list[Message]:
    payload = documents(b"")[SignedWhat.ROOT]
    return [("root", signing_key("root").sign_lines(SignedWhat.ROOT, payload))]


def _keys() -> list[Message]:
    """Both keys of people; money has no sealed column, and no ids of cards."""
    keys = tuple(
        ScopeKey(
            scope=one["scope"],
            purpose=one["purpose"],
            version=one["version"],
            sealed=bytes.fromhex(one["sealed"]),
        )
        for one in secrets()["scope_keys"]
    )
    payload = encode_pack(SealedKeys(device=DEVICE, keys=keys, issued_utc_ms=NOON_MS))
    signed = signing_key("list").sign(SignedWhat.KEYS, payload)
    return [("keys", encode_pack(PushKeys(signed=signed)))]


def _people(held: dict[bytes, bytes]) -> list[Message]:
    """Two chunks: the rows of a snapshot stand in order, cut anywhere between two of them."""
    rows = people_rows()
    return _list(
        Manifest(
            scope=PEOPLE,
            version=VersionMark(1, 7),
            snapshot_id=SNAPSHOT,
            chunk_hashes=(),
            rows=len(rows),
            set_digest=set_digest_bytes(set_digest(rows)),
            issued_utc_ms=NOON_MS,
            identifier_key_version=1,
            seal_key_version=2,
        ),
        [_packed(part, held) for part in (rows[:2], rows[2:])],
    )


def _money(held: dict[bytes, bytes]) -> list[Message]:
    """A snapshot, and one delta: the head is newer."""
    account = account_row(100_00)
    before = [account, replace(account, key=LEFT)]
    after = _money_after()
    delta = Delta(
        scope=MONEY,
        base=VersionMark(1, 41),
        target=VersionMark(1, 42),
        upserts=tuple(after),
        removes=(RowKey(account.kind, LEFT),),
        set_digest=set_digest_bytes(set_digest(after)),
        issued_utc_ms=NOON_MS,
        vector=(VectorEntry(DEVICE, "main", "00c0ffee00c0ffee", 2),),
    )
    return _list(
        Manifest(
            scope=MONEY,
            version=VersionMark(1, 41),
            snapshot_id=MONEY_SNAPSHOT,
            chunk_hashes=(),
            rows=len(before),
            set_digest=set_digest_bytes(set_digest(before)),
            issued_utc_ms=NOON_MS,
            identifier_key_version=1,
            seal_key_version=2,
            vector=(VectorEntry(DEVICE, "main", "00c0ffee00c0ffee", 1),),
        ),
        [_packed(before, held)],
        delta,
    )


def _money_after() -> list[Row]:
    return [account_row(15_00)]


def _list(manifest: Manifest, chunks: Sequence[bytes], delta: Delta | None = None) -> list[Message]:
    """Head, manifest, chunks, and the delta that leads from there to the head."""
    hashes = tuple(hashlib.sha256(chunk).digest() for chunk in chunks)
    manifest = replace(manifest, chunk_hashes=hashes)
    newest: Manifest | Delta = manifest if delta is None else delta
    head = Head(
        scope=manifest.scope,
        version=manifest.version if delta is None else delta.target,
        snapshot_id=manifest.snapshot_id,
        snapshot_version=manifest.version,
        root=b64u(hashlib.sha256(b"".join(hashes)).digest()),
        set_digest=b64u(newest.set_digest),
        issued_utc_ms=NOON_MS,
        valid_until_utc_ms=NOON_MS + LIFE_MS,
    )
    key = signing_key("list")
    messages: list[Message] = [
        ("head", signing_key("freshness").sign_lines(SignedWhat.HEAD, encode_json(head))),
        (
            "manifest",
            encode_pack(PushManifest(signed=key.sign(SignedWhat.MANIFEST, encode_pack(manifest)))),
        ),
    ]
    for index, chunk in enumerate(chunks):
        push = PushChunk(
            scope=manifest.scope, snapshot_id=manifest.snapshot_id, index=index, data=chunk
        )
        messages.append(("chunk", encode_pack(push)))
    if delta is not None:
        push_delta = PushDelta(signed=key.sign(SignedWhat.DELTA, encode_pack(delta)))
        messages.append(("delta", encode_pack(push_delta)))
    return messages


def _packed(rows: Sequence[Row], held: dict[bytes, bytes]) -> bytes:
    """As it stands in the file already, for another zstd may make other bytes of the same rows."""
    raw = encode_pack(rows)
    if raw not in held:
        held[raw] = zstandard.ZstdCompressor(level=10).compress(raw)
    return held[raw]


def _unpacked(chunk: bytes) -> bytes:
    raw: bytes = zstandard.ZstdDecompressor().decompress(
        chunk, max_output_size=CHUNK_ROWS_BYTES_MAX
    )
    return raw


def _held_chunks() -> dict[bytes, bytes]:
    """Unpacked -> packed, of the file as it is."""
    path = FOLDER / FILE
    if not path.exists():
        return {}
    pushes = [
        bytes.fromhex(message["message"])
        for one in json.loads(path.read_text())["files"]
        for message in one["messages"]
        if message["what"] == "chunk"
    ]
    chunks = [push.data for one in pushes if isinstance(push := decode_push(one), PushChunk)]
    return {_unpacked(chunk): chunk for chunk in chunks}
