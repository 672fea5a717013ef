"""A station with its pages, and nothing else: real files, a real edge process, no city.

Its people are a handful, each with a name and some with a photo; its lists are those that sync
would have brought. A card is shown through the control socket, as on a bench.
"""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

import zstandard
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import structs

from edge.clock import Clock
from edge.config import load
from edge.control import ask
from edge.messages import (
    ROW_NUMBERS,
    AccountRow,
    CardholderRow,
    CredentialRow,
    EntitlementRow,
    GroupRow,
    Manifest,
    PreorderRow,
    ProductRow,
    Row,
    RowBody,
    RowKind,
    ScheduleRow,
    ScopeKey,
    SiteRow,
    StaffRow,
    VersionMark,
    b64u,
    encode_pack,
    from_b64u,
    set_digest,
    set_digest_bytes,
)
from edge.model import Category, DeviceFault, PassbackMode, StaffRole, UidKind
from edge.offline_cache import marks, peers
from edge.offline_cache.apply import Pictures, SnapshotBuilder, store_scope_keys
from edge.offline_cache.photos import PhotoFiles
from edge.offline_cache.store import FileKind, Writer
from edge.pin import hash_pin
from edge.settings import DeviceSettings
from edge.trust import credential_id, public_point, write_secret
from tests.support import facts
from tests.support.small_city import sealed_column, sealed_to, secret

SITE: Final = "s0001"
PEOPLE: Final = f"{SITE}/people"
UP_S_MAX: Final = 60.0
TOML: Final = """schema = 1
[device]
id = "s0001-{station}"
site = "s0001"
station = "{station}"
[city]
endpoints = ["mqtt://127.0.0.1:9"]
[control]
simulated_taps = true
log_level = "error"
[screens]
port = {port}
[[readers]]
id = "r1"
driver = "serial"
port = "/nonexistent/reader"
frame = "hex_line"
{access_point}
"""
LANE: Final = """[[lanes]]
id = "north"
driver = "mock"
fire = {pin = 5}
[[lanes.access_points]]
id = "north-in"
direction = "in"
zone = "school"
relay = {pin = 17}
rotation = {pin = 27}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Someone:
    """One person of the list. Their card's number is made of their id."""

    id: str
    name: str
    group: str = ""
    category: Category = Category.PUPIL
    rights: Mapping[str, str] = field(default_factory=lambda: {"school": "always"})
    roles: tuple[StaffRole, ...] = ()
    pin: str = ""
    wards: Mapping[str, str] = field(default_factory=dict)  # Id -> relation.
    photo: bytes = b""
    balance_minor: int = 100_000
    account: bool = True
    fed: bool = False  # A lunch by right, and on the list of the group.
    inside: bool = False  # An entrance saw them come in today.
    ordered: tuple[tuple[str, int, int], ...] = ()  # For today's lunch, and charged.

    @property
    def uid(self) -> bytes:
        return b"\x04" + hashlib.sha256(self.id.encode()).digest()[:6]


def seal(data: bytes, *, row_key: bytes, column: str) -> bytes:
    nonce = hashlib.sha256(row_key + column.encode()).digest()[:12]
    place = PEOPLE.encode() + b"\0" + row_key + b"\0" + column.encode()
    return b"\1" + nonce + AESGCM(secret(f"seal {PEOPLE} 1")).encrypt(nonce, data, place)


def _people_rows(people: Sequence[Someone]) -> Iterator[tuple[RowKind, bytes, RowBody]]:
    for one in people:
        key = one.id.encode()
        photo = seal(one.photo, row_key=key, column="photo") if one.photo else b""
        yield (
            RowKind.CARDHOLDER,
            key,
            CardholderRow(
                category=one.category,
                account_id=f"a-{one.id}" if one.account else None,
                suspended=False,
                here=True,
                rights=dict(one.rights),
                allergens=(),
                ward_ids=tuple(one.wards),
                sealed_name=sealed_column(one.name, row_key=key, column="name", scope=PEOPLE),
                sealed_group=sealed_column(one.group, row_key=key, column="group", scope=PEOPLE),
                photo_hash=b64u(hashlib.sha256(photo).digest()) if photo else "",
                sealed_relations={
                    ward: sealed_column(
                        relation, row_key=key, column=f"relation/{ward}", scope=PEOPLE
                    )
                    for ward, relation in one.wards.items()
                },
            ),
        )
        identifier = credential_id(secret("identifier"), UidKind.ISO14443, one.uid)
        yield (
            RowKind.CREDENTIAL,
            from_b64u(identifier),
            CredentialRow(
                cardholder_id=one.id, tier=1, valid_from_utc_s=0, valid_until_utc_s=1 << 33
            ),
        )
        if one.roles:
            pin = sealed_column(hash_pin(one.pin), row_key=key, column="pin", scope=PEOPLE)
            yield RowKind.STAFF, key, StaffRow(roles=one.roles, sealed_pin=pin)


def _group_rows(people: Sequence[Someone]) -> Iterator[tuple[RowKind, bytes, RowBody]]:
    for group in sorted({one.group for one in people if one.fed}):
        ids = tuple(one.id for one in people if one.fed and one.group == group)
        yield RowKind.GROUP, group.encode(), GroupRow(member_ids=ids)


def _money_rows(people: Sequence[Someone], today: str) -> Iterator[tuple[RowKind, bytes, RowBody]]:
    for one in people:
        if one.fed:
            right = EntitlementRow(
                slots=("lunch",),
                categories=("soup", "main"),
                first_date=today,
                last_date=today,
                weekdays=(1, 2, 3, 4, 5, 6, 7),
            )
            yield RowKind.ENTITLEMENT, f"{one.id}\0e1".encode(), right
        if one.ordered:
            order = PreorderRow(business_date=today, slot="lunch", lines=one.ordered, charged=True)
            yield RowKind.PREORDER, f"{one.id}\0o1".encode(), order
        if not one.account:
            continue
        account = AccountRow(
            suspended=False,
            balance_minor_by_purse={"main": one.balance_minor},
            day_limit_minor=None,
            week_limit_minor=None,
            spent_date="",
            spent_day_minor=0,
            spent_week_minor=0,
            banned_products=(),
            banned_categories=(),
        )
        yield RowKind.ACCOUNT, f"a-{one.id}".encode(), account


MENU: Final = (
    ("borsch", "Борщ", "soup", 8_500),
    ("solyanka", "Солянка", "soup", 9_500),
    ("kasha", "Каша гречневая", "main", 6_000),
    ("kotleta", "Котлета с пюре", "main", 12_000),
    ("kompot", "Компот", "drink", 2_500),
    ("chai", "Чай с лимоном", "drink", 2_000),
    ("bulochka", "Булочка", "pastry", 4_000),
    ("salat", "Салат из свёклы", "salad", 40_000),  # A kilogram.
)
BARCODES: Final = {"kompot": "4006381333931", "salat": "2112345"}


def _menu_rows() -> Iterator[tuple[RowKind, bytes, RowBody]]:
    for name, shown, category, price_minor in MENU:
        product = ProductRow(
            name=shown,
            category=category,
            price_minor=price_minor,
            allergens=(),
            allergens_checked=True,
            purse="main",
            barcode=BARCODES.get(name, ""),
            unit="kg" if name == "salat" else "piece",
        )
        yield RowKind.PRODUCT, name.encode(), product


def _settings_rows(*, photos: bool) -> Iterator[tuple[RowKind, bytes, RowBody]]:
    site = SiteRow(
        time_zone="Europe/Moscow",
        currency="RUB",
        floor_limit_minor=30_000,
        list_age_amber_s=86_400,
        list_age_refer_s=604_800,
        passback_mode=PassbackMode.SOFT,
        passback_window_s=300,
        base_age_days_max=3,
        photos=photos,
        meal_slots={"lunch": (0, 1_440)},
        substitutions=("закончилось",),
    )
    yield RowKind.SITE, b"site", site
    yield RowKind.SCHEDULE, b"always", ScheduleRow(windows=((0, 7 * 24 * 60),))


def _install(
    pictures: Pictures,
    settings: DeviceSettings,
    scope: str,
    rows: Iterator[tuple[RowKind, bytes, RowBody]],
    clock: Clock,
) -> None:
    listed = [Row(ROW_NUMBERS[kind], key, encode_pack(body)) for kind, key, body in rows]
    listed.sort(key=lambda row: (row.kind, row.key))
    chunk = zstandard.ZstdCompressor().compress(encode_pack(listed))
    moment = clock.moment()
    manifest = Manifest(
        scope=scope,
        version=VersionMark(1, 1),
        snapshot_id=scope,
        chunk_hashes=(hashlib.sha256(chunk).digest(),),
        rows=len(listed),
        set_digest=set_digest_bytes(set_digest(listed)),
        issued_utc_ms=moment.wall_ms,
        identifier_key_version=1,
        seal_key_version=1,
    )
    builder = SnapshotBuilder(settings.folders.state, manifest, 1)
    builder.add_chunk(0, chunk)
    builder.finish()
    pictures.put_in_force(builder.path, scope, 1, manifest.issued_utc_ms, moment)


def build(
    folder: Path, *, station: str, people: Sequence[Someone], port: int, more_toml: str = ""
) -> DeviceSettings:
    """The station's folder, with everything that sync would have brought."""
    for name in ("state", "identity", "run"):
        (folder / name).mkdir(parents=True)
    lane = station != "till"
    toml = TOML.format(
        station=station, port=port, access_point='access_point = "north-in"' if lane else ""
    )
    (folder / "device.toml").write_text(toml + (LANE if lane else "") + more_toml)
    settings = load(folder / "device.toml")
    key = ec.generate_private_key(ec.SECP256R1())
    encoded = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_secret(settings.key_path, encoded)
    clock = Clock(settings_zone(settings))
    writer = Writer(settings.sync_path, FileKind.SYNC)
    marks.set_anchor(writer, clock.moment(), clock.moment().wall_ms)
    secrets = {"identifier": secret("identifier"), "seal": secret(f"seal {PEOPLE} 1")}
    store_scope_keys(
        writer,
        [
            ScopeKey(
                scope=PEOPLE,
                purpose=purpose,
                version=1,
                sealed=sealed_to(public_point(key), made, scope=PEOPLE, purpose=purpose, version=1),
            )
            for purpose, made in secrets.items()
        ],
    )
    pictures = Pictures(settings.folders.state, writer)
    named = chain(_people_rows(people), _group_rows(people))
    lists = {"settings": _settings_rows(photos=True), "people": named}
    if not lane:
        money = _money_rows(people, clock.moment().local_date)
        lists |= {"menu": _menu_rows(), "money": money}
        _let_in(writer, [one for one in people if one.inside], clock)
    for part, rows in lists.items():
        _install(pictures, settings, f"{SITE}/{part}", rows, clock)
    pictures.close()
    writer.close()
    files = PhotoFiles(settings.folders.state)
    for one in people:
        if one.photo:
            sealed = seal(one.photo, row_key=one.id.encode(), column="photo")
            files.put(b64u(hashlib.sha256(sealed).digest()), sealed)
    return settings


def _let_in(writer: Writer, people: Sequence[Someone], clock: Clock) -> None:
    """What an entrance of the school told of them."""
    for number, one in enumerate(people, 1):
        header = facts.stamp(number, device="gate-1")
        came = facts.passage(header, cardholder=one.id)
        wall_ms = clock.moment().wall_ms - 60_000
        with writer.transaction() as db:
            told = structs.replace(came, wall_ms=wall_ms)
            peers.take_sides(db, "gate-1", header["epoch"], number, [told])


def settings_zone(settings: DeviceSettings) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(settings.time_zone)


@dataclass
class ScreenStation:
    """A running one."""

    settings: DeviceSettings
    address: str

    def tap(self, person: Someone) -> None:
        body = {"request": "tap", "reader": "r1", "uid": person.uid.hex()}
        assert ask(self.settings.socket_path("edge"), body)["ok"]

    def walk(self) -> None:
        """A body pushes the arm round."""
        for active in (True, False):
            body = {"request": "move", "line": "north-in.rotation", "active": active}
            assert ask(self.settings.socket_path("edge"), body)["ok"]
            time.sleep(0.05)  # The line is debounced.

    def move(self, line: str, *, active: bool) -> None:
        body = {"request": "move", "line": line, "active": active}
        assert ask(self.settings.socket_path("edge"), body)["ok"]


@contextmanager
def running(
    folder: Path, *, station: str, people: Sequence[Someone], more_toml: str = ""
) -> Iterator[ScreenStation]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = build(folder, station=station, people=people, port=port, more_toml=more_toml)
    command = (sys.executable, "-m", "edge", "--config", str(settings.source))
    with subprocess.Popen(command) as process:
        try:
            _wait_for(settings, port, process)
            yield ScreenStation(settings, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(UP_S_MAX)


def _wait_for(settings: DeviceSettings, port: int, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + UP_S_MAX
    while time.monotonic() < until_s:
        assert process.poll() is None, "the station ended"
        try:
            ask(settings.socket_path("edge"), {"request": "status"})
            socket.create_connection(("127.0.0.1", port), 1).close()
        except (DeviceFault, OSError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the station did not come up")
