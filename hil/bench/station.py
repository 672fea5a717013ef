"""A station made for measuring: its files as sync would have written them, with as many people
as wanted, and no city. Cards are numbered; `uid_of` gives the n-th.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

import zstandard
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.certificates import new_key
from edge.clock import Clock
from edge.config import load
from edge.messages import (
    ROW_NUMBERS,
    AccountRow,
    CardholderRow,
    CredentialRow,
    Manifest,
    ProductRow,
    Row,
    RowKind,
    ScheduleRow,
    ScopeKey,
    SiteRow,
    VersionMark,
    encode_pack,
    from_b64u,
    set_digest,
    set_digest_bytes,
)
from edge.model import Category, PassbackMode, UidKind
from edge.offline_cache import marks
from edge.offline_cache.apply import Pictures, SnapshotBuilder, store_scope_keys
from edge.offline_cache.store import FileKind, Writer
from edge.settings import DeviceSettings
from edge.trust import BOX_INFO, credential_id, read_key, write_secret

SITE = "s0001"
DEVICE = "s0001-bench"
ROWS_PER_CHUNK = 1_000  # Our choice: 50 KB packed with these rows; a chunk holds 56.
IDENTIFIER_KEY = hashlib.sha256(b"bench identifier").digest()

DEVICE_TOML = f"""schema = 1
[device]
id = "{DEVICE}"
site = "{SITE}"
station = "entrance"
[city]
endpoints = ["mqtt://127.0.0.1:9"]
[control]
simulated_taps = true
log_level = "error"
[[readers]]
id = "r1"
driver = "serial"
port = "/nonexistent/reader"
frame = "hex_line"
access_point = "north-in"
[[lanes]]
id = "north"
driver = "mock"
[[lanes.access_points]]
id = "north-in"
direction = "in"
zone = "school"
relay = {{pin = 17}}
rotation = {{pin = 27}}
"""


TILL_TOML = f"""schema = 1
[device]
id = "{DEVICE}"
site = "{SITE}"
station = "till"
[city]
endpoints = ["mqtt://127.0.0.1:9"]
[control]
simulated_taps = true
log_level = "error"
[[readers]]
id = "r1"
driver = "serial"
port = "/nonexistent/reader"
frame = "hex_line"
"""
BALANCE_MINOR = 100_000


def uid_of(number: int) -> bytes:
    """Seven bytes as ISO/IEC 14443-3 chips of NXP have them."""
    return b"\x04" + hashlib.sha256(number.to_bytes(4, "big")).digest()[:6]


def build(
    folder: Path,
    people: int,
    *,
    till: bool = False,
    device_toml: str = "",
    instead: Mapping[str, Iterator[Row]] = MappingProxyType({}),
) -> DeviceSettings:
    """Make the station's folder: configuration, identity, keys, lists in force.

    An entrance, or a till at which everybody has 1,000 roubles and may buy everything. `instead`
    are other rows of a list, by its name.
    """
    for name in ("state", "identity", "run"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    text = device_toml or (TILL_TOML if till else DEVICE_TOML)
    (folder / "device.toml").write_text(text)
    settings = load(folder / "device.toml")
    write_secret(settings.key_path, new_key())
    key = read_key(settings.key_path)
    writer = Writer(settings.sync_path, FileKind.SYNC)
    clock = Clock(zone=_zone(settings))
    marks.set_anchor(writer, clock.moment(), clock.moment().wall_ms)
    sealed = _seal(key.public_key(), f"{SITE}/people", IDENTIFIER_KEY)
    store_scope_keys(
        writer,
        [ScopeKey(scope=f"{SITE}/people", purpose="identifier", version=1, sealed=sealed)],
    )
    pictures = Pictures(settings.folders.state, writer)
    moment = clock.moment()
    lists = [
        (f"{SITE}/settings", iter(_settings_rows())),
        (f"{SITE}/people", _people_rows(people)),
    ]
    if till:
        lists += [(f"{SITE}/menu", _menu_rows()), (f"{SITE}/money", _money_rows(people))]
    for scope, usual in lists:
        rows = instead.get(scope.removeprefix(f"{SITE}/"), usual)
        path, generation, manifest = make_snapshot(settings, scope, rows, moment.wall_ms)
        pictures.put_in_force(path, scope, generation, manifest.issued_utc_ms, moment)
    pictures.close()
    writer.close()
    return settings


def _zone(settings: DeviceSettings) -> ZoneInfo:

    return ZoneInfo(settings.time_zone)


def make_snapshot(
    settings: DeviceSettings, scope: str, rows: Iterator[Row], issued_utc_ms: int
) -> tuple[Path, int, Manifest]:
    manifest, chunks = pack(scope, rows, issued_utc_ms)
    builder = SnapshotBuilder(settings.folders.state, manifest, 1)
    for index, chunk in enumerate(chunks):
        builder.add_chunk(index, chunk)
    builder.finish()
    return builder.path, 1, manifest


def pack(scope: str, rows: Iterator[Row], issued_utc_ms: int) -> tuple[Manifest, list[bytes]]:
    """As a city sends it."""
    packer = zstandard.ZstdCompressor(level=1)
    chunks, total, count = [], 0, 0
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_PER_CHUNK:
            chunks.append(packer.compress(encode_pack(batch)))
            total += set_digest(batch)
            count += len(batch)
            batch = []
    if batch:
        chunks.append(packer.compress(encode_pack(batch)))
        total += set_digest(batch)
        count += len(batch)
    manifest = Manifest(
        scope=scope,
        version=VersionMark(1, 1),
        snapshot_id=secrets.token_hex(16),
        chunk_hashes=tuple(hashlib.sha256(chunk).digest() for chunk in chunks),
        rows=count,
        set_digest=set_digest_bytes(total % (1 << 256)),
        issued_utc_ms=issued_utc_ms,
        identifier_key_version=1,
        seal_key_version=1,
    )
    return manifest, chunks


def _settings_rows() -> list[Row]:
    site = SiteRow(
        time_zone="Europe/Moscow",
        currency="RUB",
        floor_limit_minor=30_000,
        list_age_amber_s=86_400,
        list_age_refer_s=604_800,
        passback_mode=PassbackMode.SOFT,
        passback_window_s=300,
        base_age_days_max=3,
    )
    always = ScheduleRow(windows=((0, 7 * 24 * 60),))
    return [
        Row(ROW_NUMBERS[RowKind.SITE], b"site", encode_pack(site)),
        Row(ROW_NUMBERS[RowKind.SCHEDULE], b"always", encode_pack(always)),
    ]


def _people_rows(people: int) -> Iterator[Row]:
    """One credential and one cardholder each, in the order of their keys, as a city sends them."""
    for number in range(people):
        person = CardholderRow(
            category=Category.PUPIL,
            account_id=f"a{number:08}",
            suspended=False,
            here=True,
            rights={"school": "always"},
            allergens=(),
            ward_ids=(),
        )
        key = f"c{number:08}".encode()
        yield Row(ROW_NUMBERS[RowKind.CARDHOLDER], key, encode_pack(person))
    ids = sorted(
        (from_b64u(credential_id(IDENTIFIER_KEY, UidKind.ISO14443, uid_of(n))), n)
        for n in range(people)
    )
    for identifier, number in ids:
        credential = CredentialRow(
            cardholder_id=f"c{number:08}",
            tier=1,
            valid_from_utc_s=0,
            valid_until_utc_s=1 << 33,
        )
        yield Row(ROW_NUMBERS[RowKind.CREDENTIAL], identifier, encode_pack(credential))


def _menu_rows() -> Iterator[Row]:
    for name, category, price_minor in (
        ("chocolate", "chocolate", 7_000),
        ("compote", "drink", 2_500),
        ("soup", "soup", 8_500),
    ):
        product = ProductRow(
            name=name,
            category=category,
            price_minor=price_minor,
            allergens=(),
            allergens_checked=True,
            purse="main",
        )
        yield Row(ROW_NUMBERS[RowKind.PRODUCT], name.encode(), encode_pack(product))


def _money_rows(people: int) -> Iterator[Row]:
    account = AccountRow(
        suspended=False,
        balance_minor_by_purse={"main": BALANCE_MINOR},
        day_limit_minor=None,
        week_limit_minor=None,
        spent_date="",
        spent_day_minor=0,
        spent_week_minor=0,
        banned_products=(),
        banned_categories=(),
    )
    body = encode_pack(account)
    for number in range(people):
        yield Row(ROW_NUMBERS[RowKind.ACCOUNT], f"a{number:08}".encode(), body)


def _seal(public: ec.EllipticCurvePublicKey, scope: str, secret: bytes) -> bytes:
    own = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    point, target = own.public_key().public_bytes(*form), public.public_bytes(*form)
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=point + target, info=BOX_INFO).derive(
        own.exchange(ec.ECDH(), public)
    )
    nonce = secrets.token_bytes(12)
    place = b"\0".join((scope.encode(), b"identifier", b"1"))
    return b"\x01" + point + nonce + AESGCM(key).encrypt(nonce, secret, place)
