"""Rows of the lists, by scope and kind. Pure."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Annotated, Final

from msgspec import Meta, Struct, field

from edge.model import Category, PassbackMode, StaffRole, Station, Tariff, Tender


@unique
class RowKind(StrEnum):
    """Kinds of rows, by scope; `ROW_NUMBERS` gives the byte on the wire."""

    CARDHOLDER = "cardholder"
    CREDENTIAL = "credential"
    HOT = "hot"
    ACCOUNT = "account"
    PRODUCT = "product"
    SITE = "site"
    SCHEDULE = "schedule"
    ROSTER = "roster"
    DEVICE = "device"
    PROFILE = "profile"
    STAFF = "staff"
    GROUP = "group"
    ENTITLEMENT = "entitlement"
    MEAL_USED = "meal_used"
    PREORDER = "preorder"
    ADMISSION = "admission"


ROW_NUMBERS: Final[dict[RowKind, int]] = {
    RowKind.CARDHOLDER: 1,
    RowKind.CREDENTIAL: 2,
    RowKind.HOT: 3,
    RowKind.ACCOUNT: 16,
    RowKind.PRODUCT: 32,
    RowKind.SITE: 48,
    RowKind.SCHEDULE: 49,
    RowKind.ROSTER: 50,
    RowKind.DEVICE: 51,
    RowKind.PROFILE: 52,
    RowKind.STAFF: 4,
    RowKind.GROUP: 5,
    RowKind.ENTITLEMENT: 17,
    RowKind.MEAL_USED: 18,
    RowKind.PREORDER: 19,
    RowKind.ADMISSION: 64,
}
KindByte = Annotated[int, Meta(ge=0, le=255)]  # As `row_hash` writes it: one byte,
KeyBytes = Annotated[bytes, Meta(max_length=0xFFFF)]  # and the key's length in two.


class Row(Struct, frozen=True, array_like=True):
    """`[kind, key, body]`: the body is MessagePack of the struct for that kind."""

    kind: KindByte
    key: KeyBytes
    body: bytes


class RowKey(Struct, frozen=True, array_like=True):
    kind: KindByte
    key: KeyBytes


class RowBody(Struct, frozen=True, array_like=True):
    """Bodies are arrays; a newer city may append fields."""


class CardholderRow(RowBody, frozen=True, array_like=True):
    category: Category
    account_id: str | None
    suspended: bool
    here: bool
    rights: dict[str, str]  # zone_id -> schedule_id
    allergens: tuple[str, ...]
    ward_ids: tuple[str, ...]
    sealed_name: bytes = b""
    sealed_group: bytes = b""
    photo_hash: str = ""
    # Of a guardian: ward -> what they are to it, sealed as the column `relation/<ward>`.
    sealed_relations: dict[str, bytes] = field(default_factory=dict)
    barred_ward_ids: tuple[str, ...] = ()  # Revoked, by a court or the family.
    group: str = ""  # Id of the class or group, see `GroupRow`.


class CredentialRow(RowBody, frozen=True, array_like=True):
    """Key: the 16 raw bytes of the credential id.

    A card that can prove itself has a profile (a `ProfileRow` of the settings) and its own derived
    key: 16 bytes, sealed as a column `key` of this row.
    """

    cardholder_id: str
    tier: int
    valid_from_utc_s: int
    valid_until_utc_s: int
    profile: str = ""
    key_version: int | None = None
    sealed_key: bytes = b""


class HotRow(RowBody, frozen=True, array_like=True):
    """Key as `CredentialRow`. Refuse it at once, at any age of the list."""

    why: str  # lost, replaced, blocked


class StaffRow(RowBody, frozen=True, array_like=True):
    """Key: cardholder id. Who may sign in at a station, with what PIN.

    The PIN's argon2id hash in its usual text form, sealed as the column `pin` of this row.
    """

    roles: tuple[StaffRole, ...]
    sealed_pin: bytes


class GroupRow(RowBody, frozen=True, array_like=True):
    """Key: group id. A class, or a group of a pre-school."""

    member_ids: tuple[str, ...]
    sealed_name: bytes = b""  # Column `name`.
    owner_till: str = ""  # The till that serves it when tills cannot hear each other.


class AccountRow(RowBody, frozen=True, array_like=True):
    suspended: bool
    balance_minor_by_purse: dict[str, int]
    day_limit_minor: int | None
    week_limit_minor: int | None
    spent_date: str
    spent_day_minor: int
    spent_week_minor: int
    banned_products: tuple[str, ...]
    banned_categories: tuple[str, ...]
    item_limits: dict[str, int] = field(default_factory=dict)  # Category -> pieces a day.
    items_day: dict[str, int] = field(default_factory=dict)  # Category -> bought on spent_date.
    low_balance_minor: int | None = None  # Below it the family is warned.


class EntitlementRow(RowBody, frozen=True, array_like=True):
    """Key: cardholder id, a zero byte, entitlement id. A right to meals in some slots of a day."""

    slots: tuple[str, ...]
    categories: tuple[str, ...]  # Of the products it pays for, a piece of each a slot.
    first_date: str
    last_date: str
    weekdays: tuple[int, ...] = (1, 2, 3, 4, 5)  # ISO 8601: Monday is 1.
    except_dates: tuple[str, ...] = ()  # Holidays, absences known before.
    owner_till: str = ""  # "": the class's till, or by rendezvous hash.


class MealUsedRow(RowBody, frozen=True, array_like=True):
    """Key: cardholder id, business date, slot, entitlement id, with zero bytes between."""

    device: str
    epoch: str
    sequence: int


class PreorderRow(RowBody, frozen=True, array_like=True):
    """Key: cardholder id, a zero byte, pre-order id. Meals chosen beforehand."""

    business_date: str
    slot: str
    # Product, quantity, price_minor of one piece; of a weighed one portions, at an estimate.
    lines: tuple[tuple[str, int, int], ...]
    charged: bool  # The city has debited it already.
    collected: bool = False


class AdmissionRow(RowBody, frozen=True, array_like=True):
    """Key: 16 bytes, as a credential id, under the city-wide scope's own key. Nothing else."""

    category: str  # pupil, or a word of the site's tariffs


class ProductRow(RowBody, frozen=True, array_like=True):
    name: str
    category: str
    price_minor: int
    allergens: tuple[str, ...]
    allergens_checked: bool
    purse: str
    barcode: str = ""
    unit: str = "piece"  # piece, or kg: then `price_minor` is for a kilogram.


class PeerBroker(Struct, frozen=True, array_like=True):
    """A broker in the school: the device whose certificate it shows, and where it listens."""

    device: str
    endpoint: str  # mqtts://host:port


class SiteRow(RowBody, frozen=True, array_like=True):
    """Key `site`: the settings a site's city has chosen, in force at the next tap."""

    time_zone: str
    currency: str
    floor_limit_minor: int
    list_age_amber_s: int
    list_age_refer_s: int
    passback_mode: PassbackMode
    passback_window_s: int
    base_age_days_max: int
    peer_brokers: tuple[PeerBroker, ...] = ()  # The first, and its stand-by.
    passback_by_zone: dict[str, PassbackMode] = field(default_factory=dict)  # Else `passback_mode`.
    out_is_free: bool = True
    tariffs: dict[str, Tariff] = field(default_factory=dict)  # Category -> what admission costs.
    photos: bool = False  # The officer's screen shows photos outside pre-schools too.
    referral_ms_max: int = 60_000
    meal_slots: dict[str, tuple[int, int]] = field(default_factory=dict)  # Minutes of the day.
    tenders: tuple[Tender, ...] = (Tender.PREORDER, Tender.ENTITLEMENT, Tender.ACCOUNT)
    issue_only_tills: tuple[str, ...] = ()  # Entitlements and pre-orders, no money.
    substitutions: tuple[str, ...] = ()  # Words a cashier may give for one.
    emergency_minor_max: int = 30_000
    admission_again_s: int = 1_800  # The same card again is the same visit to a museum.


class ScheduleRow(RowBody, frozen=True, array_like=True):
    """Windows of the week as minutes `[start, stop)`."""

    windows: tuple[tuple[int, int], ...]
    # ISO dates, first and last day. No terms: all the year. A date of `days` has its own windows,
    # minutes of that day, whatever else is said of it.
    terms: tuple[tuple[str, str], ...] = ()
    holidays: tuple[tuple[str, str], ...] = ()
    days: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)


class RosterRow(RowBody, frozen=True, array_like=True):
    """Key: device id."""

    station: Station
    public: bytes = b""  # The device key: EC P-256, an uncompressed point.


class SdmMarks(Struct, frozen=True, array_like=True):
    """Offsets in bytes from the start of the NDEF file; NT4H2421Gx 9.3."""

    template: bytes
    mac_input: int
    mac: int
    picc_data: int | None = None
    uid: int | None = None
    counter: int | None = None
    file_data: int | None = None
    file_data_size: int = 0
    lrp: bool = False


class DeviceRow(RowBody, frozen=True, array_like=True):
    """Key: device id. What is set from afar on this one device; other versions, other settings."""

    version: int  # Above 0.
    values: dict[str, str | int | tuple[str, ...]]  # sync/desired.py lists what is known.


class ProfileRow(RowBody, frozen=True, array_like=True):
    """Key: profile id. How the city personalised one kind of card, and how it is asked.

    `family` is a word of `edge/readers/profile.py`. Shared keys are 16 bytes, sealed with the seal
    key of the *people* scope as columns `uid_key` and `meta_key` of this row.
    """

    family: str
    aid: bytes = b""  # DESFire: three bytes as they are sent.
    key_no: int = 0  # Of the card's own key.
    read: tuple[int, int, int, str] | None = None  # File, offset, size, mode; None: the real UID.
    uid_key_no: int | None = None  # Random UIDs: the shared key that opens GetCardUID.
    uid_key_version: int | None = None
    sealed_uid_key: bytes = b""
    non_first: bool = False
    read_key_version: bool = False
    cmac: bool = True  # Ultralight AES: False takes cards whose CMAC is off, as tier 2.
    version_page: int | None = None  # Ultralight: where the version of the key stands.
    sdm: SdmMarks | None = None  # NTAG 424 SUN: where its message is in the file.
    sealed_meta_key: bytes = b""


ROW_BODIES: Final[dict[int, type[RowBody]]] = {
    1: CardholderRow,
    2: CredentialRow,
    3: HotRow,
    16: AccountRow,
    32: ProductRow,
    48: SiteRow,
    49: ScheduleRow,
    50: RosterRow,
    51: DeviceRow,
    52: ProfileRow,
    4: StaffRow,
    5: GroupRow,
    17: EntitlementRow,
    18: MealUsedRow,
    19: PreorderRow,
    64: AdmissionRow,
}
