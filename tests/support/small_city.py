"""A city of one school for tests: signs, seals, numbers and packs as the wire's page says.

Written from the description of the wire and not from the device's code or the bench's city, so
that what both agree on was said twice: the set digest, ids, seals, boxes and signatures here are
computed anew. It knows nothing of topics and brokers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

import msgspec
import zstandard
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.messages import (
    AccountRow,
    CardholderRow,
    CredentialRow,
    Delta,
    Head,
    HotRow,
    Manifest,
    Order,
    ProductRow,
    Root,
    RootKey,
    Row,
    RowBody,
    RowKey,
    ScheduleRow,
    Signed,
    SignedWhat,
    SiteRow,
    VectorEntry,
    VersionMark,
    b64u,
)
from edge.model import Category, PassbackMode, UidKind
from tests.support.times import NOON_MS

SITE = "school-7"
DEVICE = "till-1"
PEOPLE, MONEY, MENU, SETTINGS = (f"{SITE}/{n}" for n in ("people", "money", "menu", "settings"))
ROLES = ("list", "freshness", "order", "release")
CARDHOLDER, CREDENTIAL, HOT, ACCOUNT, PRODUCT, SITE_KIND, SCHEDULE = 1, 2, 3, 16, 32, 48, 49
FIRST_DAY_S = 1_700_000_000
LAST_DAY_S = 1_900_000_000

Key = tuple[int, bytes]


# ------------------------------------------------------------------------------ keys


@cache
def private_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def public_bytes(name: str) -> bytes:
    return private_key(name).public_key().public_bytes_raw()


def secret(name: str) -> bytes:
    return hashlib.sha256(b"secret " + name.encode()).digest()


def sign(what: SignedWhat, payload: bytes, *, key: str, key_id: str | None = None) -> Signed:
    """Ed25519 over `moskvenok/v1/<what>`, a newline and the payload."""
    signature = private_key(key).sign(b"moskvenok/v1/" + what.encode() + b"\n" + payload)
    return Signed(payload, key if key_id is None else key_id, signature)


def root_document(*, version: int = 1, roles: Mapping[str, str] | None = None) -> Root:
    """Key ids are the roles, unless `roles` says which key id has which."""
    named = {role: role for role in ROLES} if roles is None else roles
    return Root(
        version=version,
        keys=tuple(
            RootKey(key_id=key_id, role=role, public=b64u(public_bytes(key_id)))
            for key_id, role in named.items()
        ),
        issued_utc_ms=NOON_MS,
    )


def signed_root(root: Root | None = None) -> Signed:
    document = root_document() if root is None else root
    return sign(SignedWhat.ROOT, msgspec.json.encode(document), key="root")


def id_bytes(uid: bytes, *, kind: UidKind = UidKind.ISO14443, scope: str = PEOPLE) -> bytes:
    """First 16 bytes of HMAC-SHA-256(identifier key, kind byte, length byte, UID)."""
    message = bytes([int(kind)]) + bytes([len(uid)]) + uid
    return hmac.digest(secret(f"identifier {scope}"), message, "sha256")[:16]


def sealed_column(
    text: str, *, row_key: bytes, column: str, scope: str = PEOPLE, version: int = 1
) -> bytes:
    """Version byte, nonce, AES-256-GCM under the scope's seal key, bound to its place."""
    nonce = hashlib.sha256(row_key + column.encode()).digest()[:12]
    place = scope.encode() + b"\x00" + row_key + b"\x00" + column.encode()
    box = AESGCM(secret(f"seal {scope} {version}")).encrypt(nonce, text.encode(), place)
    return bytes([version]) + nonce + box


def sealed_to(public_point: bytes, key: bytes, *, scope: str, purpose: str, version: int) -> bytes:
    """A scope key for one device: 0x01, ephemeral point, nonce, AES-256-GCM of the key."""
    device = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_point)
    once = ec.generate_private_key(ec.SECP256R1())
    point = once.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    wrapping = HKDF(
        algorithm=hashes.SHA256(),
        length=32,
        salt=point + public_point,
        info=b"moskvenok/v1/scope-key",
    ).derive(once.exchange(ec.ECDH(), device))
    nonce = bytes(range(12))
    place = f"{scope}\x00{purpose}\x00{version}".encode()
    return b"\x01" + point + nonce + AESGCM(wrapping).encrypt(nonce, key, place)


# ------------------------------------------------------------------------------ rows


def cardholder(
    cardholder_id: str = "p1",
    *,
    account_id: str | None = "a1",
    suspended: bool = False,
    rights: Mapping[str, str] | None = None,
    allergens: tuple[str, ...] = (),
) -> tuple[Key, RowBody]:
    key = cardholder_id.encode()
    return (CARDHOLDER, key), CardholderRow(
        category=Category.PUPIL,
        account_id=account_id,
        suspended=suspended,
        here=True,
        rights={"school": "always"} if rights is None else dict(rights),
        allergens=allergens,
        ward_ids=(),
        sealed_name=sealed_column("Аня", row_key=key, column="name"),
        sealed_group=sealed_column("7Б", row_key=key, column="group"),
    )


def credential(uid: bytes, cardholder_id: str = "p1", *, tier: int = 1) -> tuple[Key, RowBody]:
    return (CREDENTIAL, id_bytes(uid)), CredentialRow(
        cardholder_id=cardholder_id,
        tier=tier,
        valid_from_utc_s=FIRST_DAY_S,
        valid_until_utc_s=LAST_DAY_S,
    )


def hot(uid: bytes, why: str = "lost") -> tuple[Key, RowBody]:
    return (HOT, id_bytes(uid)), HotRow(why=why)


def account(account_id: str = "a1", *, balance_minor: int = 50_000) -> tuple[Key, RowBody]:
    return (ACCOUNT, account_id.encode()), AccountRow(
        suspended=False,
        balance_minor_by_purse={"meals": balance_minor},
        day_limit_minor=None,
        week_limit_minor=None,
        spent_date="2026-03-02",
        spent_day_minor=0,
        spent_week_minor=0,
        banned_products=(),
        banned_categories=(),
    )


def product(product_id: str = "soup", *, price_minor: int = 12_000) -> tuple[Key, RowBody]:
    return (PRODUCT, product_id.encode()), ProductRow(
        name="Суп",
        category="hot",
        price_minor=price_minor,
        allergens=(),
        allergens_checked=True,
        purse="meals",
    )


def schedule(schedule_id: str, *windows: tuple[int, int]) -> tuple[Key, RowBody]:
    return (SCHEDULE, schedule_id.encode()), ScheduleRow(windows=windows)


def site(*, floor_limit_minor: int = 30_000) -> tuple[Key, RowBody]:
    return (SITE_KIND, b"site"), SiteRow(
        time_zone="Europe/Moscow",
        currency="RUB",
        floor_limit_minor=floor_limit_minor,
        list_age_amber_s=86_400,
        list_age_refer_s=7 * 86_400,
        passback_mode=PassbackMode.SOFT,
        passback_window_s=300,
        base_age_days_max=3,
    )


# ------------------------------------------------------------------------------ lists


def set_digest_of(rows: Mapping[Key, bytes]) -> bytes:
    """The sum modulo 2**256 of SHA-256(kind byte, key length in two bytes, key, body)."""
    total = 0
    for (kind, key), body in rows.items():
        data = bytes([kind]) + len(key).to_bytes(2, "big") + key + body
        total += int.from_bytes(hashlib.sha256(data).digest(), "big")
    return (total % 2**256).to_bytes(32, "big")


def pack_chunk(rows: Iterable[Row]) -> bytes:
    return zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(list(rows)))


@dataclass(slots=True)
class Scope:
    """One list at the city: its rows, its version, and every change as a delta."""

    name: str
    list_epoch: int = 1
    number: int = 0
    rows: dict[Key, bytes] = field(default_factory=dict)
    vector: tuple[VectorEntry, ...] = ()

    @property
    def version(self) -> VersionMark:
        return VersionMark(self.list_epoch, self.number)

    @property
    def set_digest(self) -> bytes:
        return set_digest_of(self.rows)

    def put(self, *rows: tuple[Key, RowBody], remove: tuple[Key, ...] = ()) -> Delta:
        """Change rows: a new version, and the delta to it."""
        return self.put_raw(
            {key: msgspec.msgpack.encode(body) for key, body in rows}, remove=remove
        )

    def put_raw(self, rows: Mapping[Key, bytes], *, remove: tuple[Key, ...] = ()) -> Delta:
        base = self.version
        self.number += 1
        self.rows.update(rows)
        for key in remove:
            self.rows.pop(key, None)
        return Delta(
            scope=self.name,
            base=base,
            target=self.version,
            upserts=tuple(Row(kind, key, body) for (kind, key), body in rows.items()),
            removes=tuple(RowKey(kind, key) for kind, key in remove),
            set_digest=self.set_digest,
            issued_utc_ms=NOON_MS,
            vector=self.vector,
        )

    def snapshot(self, *, rows_per_chunk: int = 100) -> tuple[Manifest, list[bytes]]:
        ordered = [Row(kind, key, body) for (kind, key), body in sorted(self.rows.items())]
        chunks = [
            pack_chunk(ordered[start : start + rows_per_chunk])
            for start in range(0, len(ordered), rows_per_chunk)
        ]
        manifest = Manifest(
            scope=self.name,
            version=self.version,
            snapshot_id=f"{self.number:032x}",
            chunk_hashes=tuple(hashlib.sha256(chunk).digest() for chunk in chunks),
            rows=len(ordered),
            set_digest=self.set_digest,
            issued_utc_ms=NOON_MS,
            identifier_key_version=1,
            seal_key_version=1,
            vector=self.vector,
        )
        return manifest, chunks

    def head(self, *, issued_utc_ms: int = NOON_MS) -> Head:
        return Head(
            scope=self.name,
            version=self.version,
            snapshot_id="",
            snapshot_version=self.version,
            root="",
            set_digest=b64u(self.set_digest),
            issued_utc_ms=issued_utc_ms,
            valid_until_utc_ms=issued_utc_ms + 86_400_000,
        )


def order(
    counter: int = 1, *, access_point: str | None = "north-in", what: str = "open_once"
) -> Order:
    """Good for ten seconds from noon."""
    return Order(
        device=DEVICE,
        counter=counter,
        order=what,
        not_before_utc_ms=NOON_MS,
        not_after_utc_ms=NOON_MS + 10_000,
        access_point=access_point,
    )
