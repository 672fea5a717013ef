"""`python -m hil.vectors`: golden bytes of the wire, for whoever writes a city or another device.

Made with the reference city's own code from fixed test keys, so that running it again changes
nothing; `tests/vectors/wire/README.md` says what stands in each file. `facts.json` beside them is
`tests/support/wire_vectors.py`'s. A value that changes here is a changed wire.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Final

import zstandard
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.messages import (
    ROW_NUMBERS,
    SIGNING_ROLE,
    AccountRow,
    CardholderRow,
    CredentialRow,
    Delta,
    Head,
    HighWater,
    HotRow,
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
    RootKey,
    Row,
    RowBody,
    RowKey,
    RowKind,
    ScopeKey,
    SealedKeys,
    SignedWhat,
    Stream,
    VectorEntry,
    VersionMark,
    Welcome,
    b64u,
    encode_json,
    encode_pack,
    row_hash,
    set_digest,
    set_digest_bytes,
    signing_input,
)
from edge.model import Category, UidKind
from hil.city.crypto import (
    SigningKey,
    credential_id,
    credential_text,
    seal_column,
    seal_key_to_device,
)

FOLDER: Final = Path(__file__).parent.parent / "tests" / "vectors" / "wire"
SITE: Final = "s0001"
DEVICE: Final = "s0001-till-1"
PEOPLE: Final = f"{SITE}/people"
MONEY: Final = f"{SITE}/money"
NOON_MS: Final = 1_757_408_400_000  # Tuesday 2025-09-09, 12:00 in Moscow.
SNAPSHOT: Final = "00112233445566778899aabbccddeeff"
UIDS: Final = (
    (UidKind.ISO14443, "04a1b2c3d4e580"),
    (UidKind.ISO14443, "deadbeef"),
    (UidKind.ISO14443, "04112233445566778899"),
    (UidKind.PROX125, "0123456789"),
)
NAMES: Final = (("name", "Иванова Мария Сергеевна"), ("group", "3 «Б»"), ("name", ""))


def secret(name: str) -> bytes:
    """32 bytes that anybody can make: SHA-256 of `moskvenok test ` and the name."""
    return hashlib.sha256(b"moskvenok test " + name.encode()).digest()


def signing_key(role: str) -> SigningKey:
    key_id = "root" if role == "root" else f"{role}-1"
    return SigningKey(key_id=key_id, role=role, seed=secret(key_id))


def private_key(name: str) -> ec.EllipticCurvePrivateKey:
    """P-256; the scalar is the secret of that name, which is below the order."""
    return ec.derive_private_key(int.from_bytes(secret(name), "big"), ec.SECP256R1())


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


# ------------------------------------------------------------------------------------ secrets


def secrets() -> dict[str, Any]:
    """Ids from UIDs, sealed columns, keys sealed to a device."""
    identifier, seal, device = secret("identifier"), secret("seal"), private_key("device")
    row_key, nonce = b"s0001c0001", secret("nonce")[:12]
    boxes = []
    for purpose, version, inside in (("identifier", 1, identifier), ("seal", 2, seal)):
        ephemeral = private_key(f"ephemeral {purpose}")
        sealed = seal_key_to_device(
            inside,
            device.public_key(),
            scope=PEOPLE,
            purpose=purpose,
            version=version,
            once=(ephemeral, nonce),
        )
        boxes.append(
            {
                "scope": PEOPLE,
                "purpose": purpose,
                "version": version,
                "secret": inside.hex(),
                "ephemeral_private": secret(f"ephemeral {purpose}").hex(),
                "nonce": nonce.hex(),
                "sealed": sealed.hex(),
            }
        )
    return {
        "identifier_key": identifier.hex(),
        "credentials": [
            {
                "kind": kind.value,
                "uid": uid,
                "id": credential_id(identifier, kind, bytes.fromhex(uid)).hex(),
                "text": credential_text(credential_id(identifier, kind, bytes.fromhex(uid))),
            }
            for kind, uid in UIDS
        ],
        "seal_key": seal.hex(),
        "columns": [
            {
                "scope": PEOPLE,
                "row_key": row_key.decode(),
                "column": column,
                "text": text,
                "version": 2,
                "nonce": nonce.hex(),
                "sealed": _column(column, text).hex(),
            }
            for column, text in NAMES
        ],
        "device_private": secret("device").hex(),
        "device_point": point(device).hex(),
        "scope_keys": boxes,
    }


def _column(column: str, text: str) -> bytes:
    return seal_column(
        secret("seal"),
        2,
        scope=PEOPLE,
        row_key=b"s0001c0001",
        column=column,
        text=text,
        nonce=secret("nonce")[:12],
    )


# -------------------------------------------------------------------------------------- lists


def row(kind: RowKind, key: bytes, body: RowBody) -> Row:
    return Row(ROW_NUMBERS[kind], key, encode_pack(body))


def people_rows() -> list[Row]:
    """A pupil and a blocked card, in the order of a snapshot."""
    pupil = CardholderRow(
        category=Category.PUPIL,
        account_id="s0001a0001",
        suspended=False,
        here=True,
        rights={"school": "always"},
        allergens=("nuts",),
        ward_ids=(),
        sealed_name=_column("name", NAMES[0][1]),
        sealed_group=_column("group", NAMES[1][1]),
    )
    ids = [credential_id(secret("identifier"), kind, bytes.fromhex(uid)) for kind, uid in UIDS]
    credentials = [
        row(RowKind.CREDENTIAL, one, CredentialRow("s0001c0001", 1, 1_693_526_400, 2_082_758_400))
        for one in sorted(ids[:2])
    ]
    hot = row(RowKind.HOT, ids[1], HotRow("lost"))
    return [row(RowKind.CARDHOLDER, b"s0001c0001", pupil), *credentials, hot]


def account_row(balance_minor: int) -> Row:
    body = AccountRow(
        suspended=False,
        balance_minor_by_purse={"main": balance_minor},
        day_limit_minor=300_00,
        week_limit_minor=None,
        spent_date="2025-09-09",
        spent_day_minor=85_00,
        spent_week_minor=170_00,
        banned_products=(),
        banned_categories=("chocolate",),
    )
    return row(RowKind.ACCOUNT, b"s0001a0001", body)


def lists() -> dict[str, Any]:
    """Rows, their hashes, set digests, a chunk, and a delta that leads from one set to another."""
    rows = people_rows()
    packed = zstandard.ZstdCompressor(level=10).compress(encode_pack(rows))
    before, after = [account_row(100_00)], [account_row(15_00)]
    return {
        "rows": [
            {
                "kind": one.kind,
                "key": one.key.hex(),
                "body": one.body.hex(),
                "hash": f"{row_hash(one):064x}",
            }
            for one in rows
        ],
        "set_digest": set_digest_bytes(set_digest(rows)).hex(),
        "empty_set_digest": set_digest_bytes(set_digest([])).hex(),
        "unpacked_chunk": encode_pack(rows).hex(),
        "chunk": packed.hex(),
        "chunk_hash": hashlib.sha256(packed).hexdigest(),
        "root": b64u(hashlib.sha256(hashlib.sha256(packed).digest()).digest()),
        "delta": {
            "before": [_plain(one) for one in before],
            "set_digest_before": set_digest_bytes(set_digest(before)).hex(),
            "after": [_plain(one) for one in after],
            "set_digest_after": set_digest_bytes(set_digest(after)).hex(),
        },
    }


def _plain(one: Row) -> dict[str, Any]:
    return {"kind": one.kind, "key": one.key.hex(), "body": one.body.hex()}


# ------------------------------------------------------------------------------------- signed


def _lists(chunk: bytes) -> dict[SignedWhat, bytes]:
    """What is signed of a list."""
    rows, hashes = people_rows(), (hashlib.sha256(chunk).digest(),)
    digest, version = set_digest(rows), VersionMark(1, 7)
    head = Head(
        scope=PEOPLE,
        version=version,
        snapshot_id=SNAPSHOT,
        snapshot_version=version,
        root=b64u(hashlib.sha256(b"".join(hashes)).digest()),
        set_digest=b64u(set_digest_bytes(digest)),
        issued_utc_ms=NOON_MS,
        valid_until_utc_ms=NOON_MS + 86_400_000,
    )
    manifest = Manifest(
        scope=PEOPLE,
        version=version,
        snapshot_id=SNAPSHOT,
        chunk_hashes=hashes,
        rows=len(rows),
        set_digest=set_digest_bytes(digest),
        issued_utc_ms=NOON_MS,
        identifier_key_version=1,
        seal_key_version=2,
    )
    after = [account_row(15_00)]
    delta = Delta(
        scope=MONEY,
        base=VersionMark(1, 41),
        target=VersionMark(1, 42),
        upserts=tuple(after),
        removes=(RowKey(ROW_NUMBERS[RowKind.ACCOUNT], b"s0001a0009"),),
        set_digest=set_digest_bytes(set_digest(after)),
        issued_utc_ms=NOON_MS,
        vector=(VectorEntry(DEVICE, "main", "00c0ffee00c0ffee", 2),),
    )
    return {
        SignedWhat.HEAD: encode_json(head),
        SignedWhat.MANIFEST: encode_pack(manifest),
        SignedWhat.DELTA: encode_pack(delta),
    }


def documents(chunk: bytes) -> dict[SignedWhat, bytes]:
    """One payload of every kind that is signed."""
    root = Root(
        version=1,
        keys=tuple(
            RootKey(key_id=f"{role}-1", role=role, public=b64u(signing_key(role).public))
            for role in ("list", "freshness", "order", "release")
        ),
        issued_utc_ms=NOON_MS,
    )
    welcome = Welcome(
        device=DEVICE,
        nonce="q83vASNFZ4mrze8B",
        utc_ms=NOON_MS,
        high_water=(HighWater(stream=Stream.MAIN, epoch="00c0ffee00c0ffee", up_to=2),),
        wanted={PEOPLE: VersionMark(1, 7)},
        live=("s0001-till-2",),
    )
    order = Order(
        device="s0001-north",
        counter=3,
        order="open_once",
        not_before_utc_ms=NOON_MS - 5_000,
        not_after_utc_ms=NOON_MS + 10_000,
        access_point="north-in",
    )
    box = bytes.fromhex(secrets()["scope_keys"][0]["sealed"])
    keys = SealedKeys(
        device=DEVICE,
        keys=(ScopeKey(scope=PEOPLE, purpose="identifier", version=1, sealed=box),),
        issued_utc_ms=NOON_MS,
    )
    release = Release(
        release="0.2.0",
        sha256=hashlib.sha256(chunk).hexdigest(),  # Any bytes do for a bundle of one chunk.
        size_bytes=len(chunk),
        chunk_hashes=(hashlib.sha256(chunk).digest(),),
        platform="linux-aarch64",
        python="3.11",
        schema_from={"journal": 1, "sync": 1},
        issued_utc_ms=NOON_MS,
    )
    return {
        SignedWhat.ROOT: encode_json(root),
        **_lists(chunk),
        SignedWhat.KEYS: encode_pack(keys),
        SignedWhat.WELCOME: encode_json(welcome),
        SignedWhat.ORDER: encode_json(order),
        SignedWhat.RELEASE: encode_pack(release),
    }


PACKED: Final = (SignedWhat.MANIFEST, SignedWhat.DELTA, SignedWhat.KEYS, SignedWhat.RELEASE)


def signed(chunk: bytes) -> dict[str, Any]:
    """Keys, and each signed message: what is signed, the signature, the message as it travels."""
    made = []
    for what, payload in documents(chunk).items():
        key = signing_key(SIGNING_ROLE[what])
        one = key.sign(what, payload)
        message = encode_pack(one) if what in PACKED else key.sign_lines(what, payload)
        made.append(
            {
                "what": what.value,
                "key_id": key.key_id,
                "payload": payload.hex(),
                "signing_input": signing_input(what, payload).hex(),
                "signature": one.signature.hex(),
                "message": message.hex(),
            }
        )
        if what not in PACKED:
            made[-1]["text"] = message.decode()
    keys = [signing_key(role) for role in ("root", "list", "freshness", "order", "release")]
    return {
        "keys": [
            {
                "key_id": key.key_id,
                "role": key.role,
                "seed": key.seed.hex(),
                "public": key.public.hex(),
            }
            for key in keys
        ],
        "messages": made,
        "pushes": _pushes(chunk),
    }


def _pushes(chunk: bytes) -> dict[str, str]:
    """The answers to a pull, as they travel."""
    # Any bytes do: a device checks their hash, and opens them as a sealed column of the row.
    photo = hashlib.sha256(b"a photo").digest() * 8
    digest = hashlib.sha256(photo).digest()
    payloads = documents(chunk)
    key = signing_key("list")
    digest_of_chunk = hashlib.sha256(chunk).hexdigest()
    pushes = {
        "manifest": PushManifest(
            signed=key.sign(SignedWhat.MANIFEST, payloads[SignedWhat.MANIFEST])
        ),
        "chunk": PushChunk(scope=PEOPLE, snapshot_id=SNAPSHOT, index=0, data=chunk),
        "delta": PushDelta(signed=key.sign(SignedWhat.DELTA, payloads[SignedWhat.DELTA])),
        "keys": PushKeys(signed=key.sign(SignedWhat.KEYS, payloads[SignedWhat.KEYS])),
        "photo": PushPhoto(scope=PEOPLE, hash=b64u(digest), part=0, parts=1, data=photo),
        "release": PushRelease(
            sha256=digest_of_chunk,
            signed=signing_key("release").sign(SignedWhat.RELEASE, payloads[SignedWhat.RELEASE]),
        ),
        "release_chunk": PushReleaseChunk(sha256=digest_of_chunk, index=0, data=chunk),
    }
    return {name: encode_pack(push).hex() for name, push in pushes.items()}


# ---------------------------------------------------------------------------------- exchanges


def files() -> dict[str, dict[str, Any]]:
    """Name -> content of every file made here."""
    from hil.vector_exchanges import exchanges
    from hil.vectors_rows import kinds
    from hil.vectors_stick import stick

    found = {"secrets.json": secrets(), "lists.json": lists() | kinds(), "stick.json": stick()}
    # What zstd makes of the rows may differ by its version; the file says what is golden.
    path = FOLDER / "lists.json"
    if path.exists():
        held = json.loads(path.read_text())
        if held["unpacked_chunk"] == found["lists.json"]["unpacked_chunk"]:
            found["lists.json"] = found["lists.json"] | {
                name: held[name] for name in ("chunk", "chunk_hash", "root")
            }
    chunk = bytes.fromhex(found["lists.json"]["chunk"])
    return {**found, "signed.json": signed(chunk), "exchanges.json": exchanges()}


def text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (FOLDER / name).write_text(text(content))
        print(FOLDER / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
