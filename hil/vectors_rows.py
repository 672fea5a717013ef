"""One golden row of each kind, for `tests/vectors/wire/lists.json`: values, body as bytes, hash.

Each has a value in every place that it can have one in, so that whoever makes the same bytes has
the order of the places right. `hil/vectors.py` writes them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from edge.messages import (
    ROW_BODIES,
    AccountRow,
    AdmissionRow,
    CardholderRow,
    CredentialRow,
    DeviceRow,
    EntitlementRow,
    GroupRow,
    HotRow,
    MealUsedRow,
    PeerBroker,
    PreorderRow,
    ProductRow,
    ProfileRow,
    RosterRow,
    Row,
    RowKind,
    ScheduleRow,
    SdmMarks,
    SiteRow,
    StaffRow,
    b64u,
    row_hash,
    set_digest,
    set_digest_bytes,
)
from edge.model import Category, PassbackMode, StaffRole, Station, Tariff, Tender, UidKind
from hil.city.card_keys import SUN_MAC, SUN_PICC_DATA, SUN_TEMPLATE
from hil.city.crypto import NONCE_BYTES, credential_id, seal_bytes
from hil.row_pages import LIST_OF
from hil.vectors import DEVICE, PEOPLE, SITE, point, private_key, row, secret

CARD: Final = credential_id(secret("identifier"), UidKind.ISO14443, bytes.fromhex("04a1b2c3d4e580"))
SETTINGS: Final = f"{SITE}/settings"
# Of 2222. A hash of a PIN has a random salt; here it is `moskvenok golden`.
PIN: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1$bW9za3Zlbm9rIGdvbGRlbg"
    "$quLfV5sob1O17Mkgkta0zyyGf2cjM/2Qr7/gA9s20cM"
)


def kinds() -> dict[str, Any]:
    """What stands in the file: the rows in the order of their numbers, and their set digest."""
    rows = sorted(((kind, made) for kind, made in _rows().items()), key=lambda one: one[1].kind)
    assert len(rows) == len(RowKind), "a row of the new kind is missing"
    return {
        "kinds": [_shown(kind, made) for kind, made in rows],
        "set_digest_of_kinds": set_digest_bytes(set_digest(made for _, made in rows)).hex(),
    }


def _shown(kind: RowKind, made: Row) -> dict[str, Any]:
    body = msgspec.msgpack.decode(made.body, type=ROW_BODIES[made.kind])
    return {
        "kind": made.kind,
        "row": type(body).__name__,
        "list": LIST_OF[kind],
        "key": made.key.hex(),
        "values": _named(body),
        "body": made.body.hex(),
        "hash": f"{row_hash(made):064x}",
    }


def _named(value: Any) -> Any:
    """Places by name, bytes as hex."""
    if isinstance(value, Struct):
        return {name: _named(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, tuple | list):
        return [_named(one) for one in value]
    if isinstance(value, dict):
        return {name: _named(one) for name, one in value.items()}
    return value


def _sealed(text: str | bytes, *, row_key: bytes, column: str, scope: str = PEOPLE) -> bytes:
    """A column under version 2 of the test seal key. Bytes are sealed as they are."""
    return seal_bytes(
        secret("seal"),
        2,
        scope=scope,
        row_key=row_key,
        column=column,
        data=text.encode() if isinstance(text, str) else text,
        nonce=secret(f"nonce {row_key.hex()} {column}")[:NONCE_BYTES],
    )


def _rows() -> dict[RowKind, Row]:
    found = {**_people(), **_money(), **_settings()}
    found[RowKind.PRODUCT] = row(
        RowKind.PRODUCT,
        b"salad-9",
        ProductRow(
            name="Салат из свёклы",
            category="salad",
            price_minor=450_50,
            allergens=("nuts",),
            allergens_checked=True,
            purse="main",
            barcode="2100042",
            unit="kg",
        ),
    )
    found[RowKind.ADMISSION] = row(
        RowKind.ADMISSION, secret("a token")[:16], AdmissionRow(category="pupil")
    )
    return found


def _people() -> dict[RowKind, Row]:
    guardian, group = b"s0001c5001", b"s0001g01"
    holder = CardholderRow(
        category=Category.GUARDIAN,
        account_id=None,
        suspended=False,
        here=True,
        rights={"nursery": "mornings"},
        allergens=("nuts",),
        ward_ids=("s0001c0001",),
        sealed_name=_sealed("Иванова Ольга Петровна", row_key=guardian, column="name"),
        sealed_group=_sealed("гости", row_key=guardian, column="group"),
        photo_hash=b64u(secret("a photo")),
        sealed_relations={
            "s0001c0001": _sealed("мама", row_key=guardian, column="relation/s0001c0001")
        },
        barred_ward_ids=("s0001c0002",),
        group=group.decode(),
    )
    card = CredentialRow(
        cardholder_id=guardian.decode(),
        tier=4,
        valid_from_utc_s=1_693_526_400,
        valid_until_utc_s=2_082_758_400,
        profile="guest-sun",
        key_version=1,
        sealed_key=_sealed(secret("a card")[:16], row_key=CARD, column="key"),
    )
    staff = StaffRow(
        roles=(StaffRole.CASHIER, StaffRole.SUPERVISOR),
        sealed_pin=_sealed(PIN, row_key=b"s0001c9003", column="pin"),
    )
    members = GroupRow(
        member_ids=("s0001c0001", "s0001c0002"),
        sealed_name=_sealed("3 «Б»", row_key=group, column="name"),
        owner_till=DEVICE,
    )
    return {
        RowKind.CARDHOLDER: row(RowKind.CARDHOLDER, guardian, holder),
        RowKind.CREDENTIAL: row(RowKind.CREDENTIAL, CARD, card),
        RowKind.HOT: row(RowKind.HOT, CARD, HotRow(why="lost")),
        RowKind.STAFF: row(RowKind.STAFF, b"s0001c9003", staff),
        RowKind.GROUP: row(RowKind.GROUP, group, members),
    }


def _money() -> dict[RowKind, Row]:
    account = AccountRow(
        suspended=False,
        balance_minor_by_purse={"main": 100_00, "buffet": -5_00},
        day_limit_minor=300_00,
        week_limit_minor=1_000_00,
        spent_date="2025-09-09",
        spent_day_minor=85_00,
        spent_week_minor=170_00,
        banned_products=("soda-1",),
        banned_categories=("chocolate",),
        item_limits={"bakery": 2},
        items_day={"bakery": 1},
        low_balance_minor=50_00,
    )
    entitlement = EntitlementRow(
        slots=("breakfast",),
        categories=("hot",),
        first_date="2025-09-01",
        last_date="2026-05-31",
        weekdays=(1, 2, 3, 4, 5, 6),
        except_dates=("2025-11-04",),
        owner_till=DEVICE,
    )
    preorder = PreorderRow(
        business_date="2025-09-10",
        slot="lunch",
        lines=(("soup-1", 1, 85_00), ("bun-2", 2, 30_00)),
        charged=True,
        collected=False,
    )
    used = MealUsedRow(device=DEVICE, epoch="00c0ffee00c0ffee", sequence=17)
    meal = b"s0001c0001\x002025-09-09\x00breakfast\x00primary-breakfast"
    return {
        RowKind.ACCOUNT: row(RowKind.ACCOUNT, b"s0001a0001", account),
        RowKind.ENTITLEMENT: row(
            RowKind.ENTITLEMENT, b"s0001c0001\x00primary-breakfast", entitlement
        ),
        RowKind.MEAL_USED: row(RowKind.MEAL_USED, meal, used),
        RowKind.PREORDER: row(RowKind.PREORDER, b"s0001c0001\x009f3c", preorder),
    }


def _settings() -> dict[RowKind, Row]:
    schedule = ScheduleRow(
        windows=((480, 900), (1_920, 2_340)),  # Monday and Tuesday, 8:00 to 15:00.
        terms=(("2025-09-01", "2025-10-26"),),
        holidays=(("2025-10-06", "2025-10-06"),),
        days={"2025-09-01": ((540, 660),)},
    )
    device = DeviceRow(
        version=3,
        values={"health_s": 30, "endpoints": ("mqtts://broker-1:8883", "mqtts://broker-2:8883")},
    )
    return {
        RowKind.SITE: row(RowKind.SITE, b"site", _site()),
        RowKind.SCHEDULE: row(RowKind.SCHEDULE, b"mornings", schedule),
        RowKind.ROSTER: row(
            RowKind.ROSTER,
            DEVICE.encode(),
            RosterRow(station=Station.TILL, public=point(private_key("device"))),
        ),
        RowKind.DEVICE: row(RowKind.DEVICE, DEVICE.encode(), device),
        RowKind.PROFILE: row(RowKind.PROFILE, b"guest-sun", _profile()),
    }


def _site() -> SiteRow:
    return SiteRow(
        time_zone="Europe/Moscow",
        currency="RUB",
        floor_limit_minor=500_00,
        list_age_amber_s=86_400,
        list_age_refer_s=604_800,
        passback_mode=PassbackMode.SOFT,
        passback_window_s=300,
        base_age_days_max=3,
        peer_brokers=(PeerBroker(device="s0001-north", endpoint="mqtts://10.1.0.5:8883"),),
        passback_by_zone={"nursery": PassbackMode.OFF},
        out_is_free=True,
        tariffs={"pupil": Tariff.PUPIL, "staff": Tariff.REDUCED},
        photos=True,
        referral_ms_max=60_000,
        meal_slots={"breakfast": (480, 600), "lunch": (720, 840)},
        tenders=(Tender.PREORDER, Tender.ENTITLEMENT, Tender.ACCOUNT, Tender.CASH),
        issue_only_tills=("s0001-till-2",),
        substitutions=("sold out",),
        emergency_minor_max=300_00,
        admission_again_s=1_800,
    )


def _profile() -> ProfileRow:
    """A SUN card's; what other families need beside stands in the other places."""
    return ProfileRow(
        family="ntag424_sun",
        aid=bytes.fromhex("014b4d"),
        key_no=2,
        read=(1, 0, 16, "mac"),
        uid_key_no=3,
        uid_key_version=1,
        sealed_uid_key=_sealed(
            secret("uid key")[:16], row_key=b"guest-sun", column="uid_key", scope=SETTINGS
        ),
        non_first=False,
        read_key_version=False,
        cmac=True,
        version_page=None,
        sdm=SdmMarks(
            template=SUN_TEMPLATE, mac_input=SUN_PICC_DATA, mac=SUN_MAC, picc_data=SUN_PICC_DATA
        ),
        sealed_meta_key=_sealed(
            secret("meta key")[:16], row_key=b"guest-sun", column="meta_key", scope=SETTINGS
        ),
    )
