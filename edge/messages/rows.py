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

    kind: KindByte  # The number of the kind of row.
    key: KeyBytes  # Unique among the rows of its kind in a list.
    body: bytes  # These bytes are hashed and signed, so keep them: another encoder makes others.


class RowKey(Struct, frozen=True, array_like=True):
    """`[kind, key]`: which row is removed."""

    kind: KindByte  # As in `Row`.
    key: KeyBytes  # As in `Row`.


class RowBody(Struct, frozen=True, array_like=True):
    """Bodies are arrays; a newer city may append fields."""


class CardholderRow(RowBody, frozen=True, array_like=True):
    """Key: cardholder id. A person: what they may do, and what is eaten and owed by whom."""

    category: Category  # What kind of person.
    account_id: str | None  # Who pays, a key of `AccountRow`; null: nobody.
    suspended: bool  # True: refused, at entrances and tills.
    here: bool  # False: belongs to another school (`wrong_site`).
    rights: dict[str, str]  # Zone id -> schedule id (a key of `ScheduleRow`); absent: no right.
    allergens: tuple[str, ...]  # The words that `ProductRow.allergens` uses.
    ward_ids: tuple[str, ...]  # Of a guardian: whom they may bring and collect.
    sealed_name: bytes = b""  # Column `name`.
    sealed_group: bytes = b""  # Column `group`: class or group as a person reads it.
    photo_hash: str = ""  # base64url SHA-256 of the photo, sealed as column `photo`; "": none.
    # Of a guardian: ward -> what they are to it, sealed as the column `relation/<ward>`.
    sealed_relations: dict[str, bytes] = field(default_factory=dict)
    barred_ward_ids: tuple[str, ...] = ()  # Revoked, by a court or the family.
    group: str = ""  # Id of the class or group, see `GroupRow`.


class CredentialRow(RowBody, frozen=True, array_like=True):
    """Key: the 16 raw bytes of the credential id. A card, and whose it is.

    A card that can prove itself has a profile (a `ProfileRow` of the settings) and its own derived
    key: 16 bytes, sealed as a column `key` of this row.
    """

    cardholder_id: str  # Whose it is, a key of `CardholderRow`.
    tier: int  # What it must prove at least, 0 to 6: see "Cards that prove something".
    valid_from_utc_s: int  # The first second that it is good.
    valid_until_utc_s: int  # The first second that it is good no more.
    profile: str = ""  # How it is asked, a key of `ProfileRow`; "": its number is all there is.
    key_version: int | None = None  # Of its own key, as the card may name it; null: not known.
    sealed_key: bytes = b""  # Column `key`: its own derived key, 16 bytes; "": it has none.


class HotRow(RowBody, frozen=True, array_like=True):
    """Key: the 16 raw bytes of the credential id. Refuse it at once, at any age of the list."""

    why: str  # lost, replaced, blocked


class StaffRow(RowBody, frozen=True, array_like=True):
    """Key: cardholder id. Who may sign in at a station, with what PIN."""

    roles: tuple[StaffRole, ...]  # What they may sign in as.
    sealed_pin: bytes  # Column `pin`: the PIN's argon2id hash in its usual text form.


class GroupRow(RowBody, frozen=True, array_like=True):
    """Key: group id. A class, or a group of a pre-school."""

    member_ids: tuple[str, ...]  # Cardholder ids.
    sealed_name: bytes = b""  # Column `name`.
    owner_till: str = ""  # The till that serves it when tills cannot hear each other.


class AccountRow(RowBody, frozen=True, array_like=True):
    """Key: account id. The money of a family, as of the applied vector of its list."""

    suspended: bool  # True: nothing is sold on it.
    balance_minor_by_purse: dict[str, int]  # Less open holds and earmarks; may be below zero.
    day_limit_minor: int | None  # Spend of a business date at most; null: no limit.
    week_limit_minor: int | None  # Spend of Monday to Sunday at most; null: no limit.
    spent_date: str  # The date that the next two and `items_day` are of; "": nothing spent yet.
    spent_day_minor: int  # Spent on `spent_date`.
    spent_week_minor: int  # Spent in the week of `spent_date`.
    banned_products: tuple[str, ...]  # Product ids that the family wants not sold.
    banned_categories: tuple[str, ...]  # The same for all products of a category.
    item_limits: dict[str, int] = field(default_factory=dict)  # Category -> pieces a day.
    items_day: dict[str, int] = field(default_factory=dict)  # Category -> bought on spent_date.
    low_balance_minor: int | None = None  # Below it the family is warned.


class EntitlementRow(RowBody, frozen=True, array_like=True):
    """Key: cardholder id, a zero byte, entitlement id. A right to meals in some slots of a day."""

    slots: tuple[str, ...]  # Keys of `SiteRow.meal_slots`.
    categories: tuple[str, ...]  # Of the products it pays for, a piece of each a slot.
    first_date: str  # ISO, the first day that counts.
    last_date: str  # ISO, the last day that counts.
    weekdays: tuple[int, ...] = (1, 2, 3, 4, 5)  # ISO 8601: Monday is 1.
    except_dates: tuple[str, ...] = ()  # Holidays, absences known before.
    owner_till: str = ""  # "": the class's till, or by rendezvous hash.


class MealUsedRow(RowBody, frozen=True, array_like=True):
    """Key: cardholder id, business date, slot, entitlement id, with zero bytes between. A meal that
    was had: by which `main` fact, the one that is kept where two tills served it."""

    device: str  # The till.
    epoch: str  # Of its `main`.
    sequence: int  # Of the fact.


class PreorderRow(RowBody, frozen=True, array_like=True):
    """Key: cardholder id, a zero byte, pre-order id. Meals chosen beforehand."""

    business_date: str  # ISO: the day it is for.
    slot: str  # A key of `SiteRow.meal_slots`.
    # `[product, quantity, price_minor]`: of one piece; of a weighed one portions, at an estimate.
    lines: tuple[tuple[str, int, int], ...]
    charged: bool  # The city has debited it already.
    collected: bool = False  # True: it was handed over, and is not handed over again.


class AdmissionRow(RowBody, frozen=True, array_like=True):
    """Key: 16 bytes, as a credential id, under the city-wide scope's own key. Who may enter
    museums, and nothing else of them."""

    category: str  # pupil, or a word of the site's tariffs


class ProductRow(RowBody, frozen=True, array_like=True):
    """Key: product id. What can be sold, at what price."""

    name: str  # As the cashier reads it.
    category: str  # What bans, piece limits and entitlements speak of.
    price_minor: int  # Of a piece, or of a kilogram.
    allergens: tuple[str, ...]  # The words that `CardholderRow.allergens` uses.
    allergens_checked: bool  # False: nobody has looked, so whoever has an allergy is not sold it.
    purse: str  # Which purse of the account pays for it: a key of `balance_minor_by_purse`.
    barcode: str = ""  # As a scanner reads it; of a weighed product prefix and item, 7 digits.
    unit: str = "piece"  # piece, or kg: then `price_minor` is for a kilogram.


class PeerBroker(Struct, frozen=True, array_like=True):
    """A broker in the school: the device whose certificate it shows, and where it listens."""

    device: str  # The device's id.
    endpoint: str  # mqtts://host:port


class SiteRow(RowBody, frozen=True, array_like=True):
    """Key: the word `site`. The settings of a school, in force at the next tap."""

    time_zone: str  # IANA, such as Europe/Moscow.
    currency: str  # ISO 4217, such as RUB.
    floor_limit_minor: int  # What a till may sell on a purse that other tills have not heard of.
    list_age_amber_s: int  # An older list is named in each decision (`old_list`).
    list_age_refer_s: int  # By a list older than this, a card that it lacks goes to the officer.
    passback_mode: PassbackMode  # A second passage in the same direction.
    passback_window_s: int  # Mode `timed`: so long after the first one it counts.
    base_age_days_max: int  # School days that a till sells on account by the same money list.
    peer_brokers: tuple[PeerBroker, ...] = ()  # The first, and its stand-by.
    passback_by_zone: dict[str, PassbackMode] = field(default_factory=dict)  # Else `passback_mode`.
    out_is_free: bool = True  # Who leaves is let out whatever is found; the fact says what.
    tariffs: dict[str, Tariff] = field(default_factory=dict)  # Category -> what admission costs.
    photos: bool = False  # The officer's screen shows photos outside pre-schools too.
    referral_ms_max: int = 60_000  # So long the officer may take to answer; then it is no.
    # `[first, end]`, by slot: minutes of the day; at `end` it is over.
    meal_slots: dict[str, tuple[int, int]] = field(default_factory=dict)
    # What may pay for a basket, in the order in which it is tried.
    tenders: tuple[Tender, ...] = (Tender.PREORDER, Tender.ENTITLEMENT, Tender.ACCOUNT)
    issue_only_tills: tuple[str, ...] = ()  # Entitlements and pre-orders, no money.
    substitutions: tuple[str, ...] = ()  # Words a cashier may give for one.
    emergency_minor_max: int = 30_000  # A basket on a supervisor's word costs at most this.
    admission_again_s: int = 1_800  # The same card again is the same visit to a museum.


class ScheduleRow(RowBody, frozen=True, array_like=True):
    """Key: schedule id. When a right holds, in the school's own time; at most 64 windows."""

    # `[start, stop]`: minutes of the week, Monday 00:00 is 0; `stop` is outside.
    windows: tuple[tuple[int, int], ...]
    # `[first, last]`: ISO dates, both inside. None: all the year.
    terms: tuple[tuple[str, str], ...] = ()
    # `[first, last]`: ISO dates, both inside, on which the windows do not hold.
    holidays: tuple[tuple[str, str], ...] = ()
    # `[start, stop]`, by ISO date: minutes of that day, whatever else is said of it.
    days: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)


class RosterRow(RowBody, frozen=True, array_like=True):
    """Key: device id. A device that belongs to the school."""

    station: Station  # What it is.
    public: bytes = b""  # The device key: EC P-256, an uncompressed point.


class SdmMarks(Struct, frozen=True, array_like=True):
    """Offsets in bytes from the start of the NDEF file; NT4H2421Gx 9.3."""

    template: bytes  # The file as it was personalised, up to the end of the MAC.
    mac_input: int  # The MAC covers the text from here to itself.
    mac: int  # Where the MAC is mirrored.
    picc_data: int | None = None  # Where UID and counter are mirrored enciphered.
    uid: int | None = None  # Where the UID is mirrored in the clear.
    counter: int | None = None  # Where the counter is mirrored in the clear.
    file_data: int | None = None  # A stretch that is mirrored enciphered.
    file_data_size: int = 0  # In text, so twice the bytes; whole blocks.
    lrp: bool = False  # The chip was switched to LRP.


class DeviceRow(RowBody, frozen=True, array_like=True):
    """Key: device id. What is set from afar on this one device; other versions, other settings."""

    version: int  # Above 0, and higher with each change.
    values: dict[str, str | int | tuple[str, ...]]  # See "Desired configuration".


class ProfileRow(RowBody, frozen=True, array_like=True):
    """Key: profile id. How the city personalised one kind of card, and how it is asked.

    Shared keys are 16 bytes, sealed with the seal key of the *people* scope as columns `uid_key`
    and `meta_key` of this row.
    """

    # desfire_ev1, desfire_ev2, ntag424, ntag424_lrp, ntag424_sun, ultralight_c, ultralight_aes
    family: str
    aid: bytes = b""  # DESFire: three bytes as they are sent.
    key_no: int = 0  # Of the card's own key.
    # `[file, offset, size, mode]`: plain, mac or full; null: the real UID is asked for.
    read: tuple[int, int, int, str] | None = None
    uid_key_no: int | None = None  # Random UIDs: the shared key that opens GetCardUID.
    uid_key_version: int | None = None  # Its version on the card.
    sealed_uid_key: bytes = b""  # Column `uid_key`.
    non_first: bool = False  # Authenticate with EV2NonFirst where the card is in a session.
    read_key_version: bool = False  # DESFire: ask the card which version its own key has.
    cmac: bool = True  # Ultralight AES: False takes cards whose CMAC is off, as tier 2.
    version_page: int | None = None  # Ultralight: where the version of the key stands.
    sdm: SdmMarks | None = None  # NTAG 424 SUN: where its message is in the file.
    sealed_meta_key: bytes = b""  # Column `meta_key`: opens the PICC data.


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
