"""The words of the domain, as frozen values. Standard library only; everyone may import it.

Units stand last in a name (`age_ms`, `valid_until_utc_s`). Money is whole minor units, never
float. An id is an opaque string; raw card UIDs stop at `edge/trust.py`. The closed lists (reasons,
stations, tenders) stand in `edge/words.py` and are imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.words import (
    AccessReason,
    Category,
    Caveat,
    ClockQuality,
    Direction,
    HandoverKind,
    Outcome,
    OverrideReason,
    PassageResult,
    PassbackMode,
    PurchaseReason,
    StaffRole,
    Station,
    SupervisedAct,
    Tariff,
    Tender,
    UidKind,
)

__all__ = [  # What is given on; all that is made here is public too.
    "AccessReason",
    "Category",
    "Caveat",
    "ClockQuality",
    "Direction",
    "HandoverKind",
    "Outcome",
    "OverrideReason",
    "PassageResult",
    "PassbackMode",
    "PurchaseReason",
    "StaffRole",
    "Station",
    "SupervisedAct",
    "Tariff",
    "Tender",
    "UidKind",
]

MINUTES_PER_WEEK = 7 * 24 * 60


class DeviceFault(Exception):
    """An outside thing (reader, line, disk, link) failed: whoever owns it reopens it."""


class CorruptData(Exception):
    """What arrived or was found is not what it should be: refuse it, count it, ask again."""


class SetupProblem(Exception):
    """The installation is wrong; only a technician can mend it. The text says where and how."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Version:
    """A list's version. Only the city's root key raises the epoch."""

    list_epoch: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What a decision may know of the time."""

    utc_s: int
    minute_of_week: int  # Local wall time, Monday 00:00 is 0. The shell knows the time zone.
    clock_trusted: bool  # False from boot until the time came from somewhere believable.


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One look at all clocks: what facts are stamped with and decisions are given."""

    boot: str  # The kernel's boot id.
    mono_ms: int  # Since boot; the only clock that order and waiting use.
    wall_ms: int  # UTC. A note on a fact, never an order.
    quality: ClockQuality
    minute_of_week: int
    local_date: str  # ISO date in the station's time zone; the business date of a sale.
    day_start_ms: int = 0  # When that date began, UTC: what others did since counts as of today.

    @property
    def clock_trusted(self) -> bool:
        return self.quality in (ClockQuality.NTP, ClockQuality.CITY, ClockQuality.RTC)

    def now(self) -> Now:
        return Now(
            utc_s=self.wall_ms // 1000,
            minute_of_week=self.minute_of_week,
            clock_trusted=self.clock_trusted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPoint:
    access_point_id: str
    zone_id: str
    direction: Direction  # One way only: a gate used both ways is two access points.
    lockdown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """A credential shown at an access point or a till."""

    credential_id: str
    age_ms: int  # Since the reader's last byte, on the monotonic clock.
    tier: int = 1  # What the card proved, see `credentials.md`.
    replayed: bool = False  # Its counter was not above the last one seen.
    ambiguous: bool = False  # Two people may share this number (Wiegand 26): it buys nothing.


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    credential_id: str
    cardholder_id: str
    tier: int  # Enrolled: a floor.
    valid_from_utc_s: int
    valid_until_utc_s: int  # The first second at which it is no longer valid.


@dataclass(frozen=True, slots=True, kw_only=True)
class Cardholder:
    """One person as the list of people knows it; names stay sealed until a screen shows them."""

    cardholder_id: str
    category: Category
    account_id: str | None
    suspended: bool
    here: bool  # Has a right to this site at all; False is `wrong_site`.
    windows_by_zone: Mapping[str, tuple[range, ...]]  # Minutes of the week.
    allergens: frozenset[str] = frozenset()
    ward_ids: frozenset[str] = frozenset()  # Children this guardian may bring or collect.
    sealed_name: bytes = field(default=b"", repr=False)
    sealed_group: bytes = field(default=b"", repr=False)
    photo_hash: str = ""
    # Of a guardian: what they are to each ward, and those whom a court or the family barred.
    sealed_relations: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    barred_ward_ids: frozenset[str] = frozenset()
    group: str = ""  # Id of the class or group.


@dataclass(frozen=True, slots=True, kw_only=True)
class ListState:
    """The picture of a scope that a decision rested on."""

    version: Version
    age_s: int | None  # None: cannot be told (reboot without a trusted clock).
    issued_utc_ms: int | None = None  # By the city's own clock.


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheView:
    """What the cache holds on one credential, for an access decision."""

    people: ListState | None  # None: no list was ever received.
    hot_listed: bool
    credential: Credential | None
    cardholder: Cardholder | None
    last_direction: Direction | None  # Of the last passage taken in this zone.
    last_passage_age_s: int | None = None  # None: unknown or of another day.
    hot_why: str = ""  # lost, replaced, blocked; for the officer's text.
    choice_pending: bool = False  # A guardian's dialogue opened at entry has no choice yet.


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionView:
    """What the city-wide list says of one card: no person, a category alone."""

    visitors: ListState | None  # None: no list was ever received.
    category: str | None  # None: not on it.


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """What the site settings choose about access. Defaults are the design's."""

    list_age_amber_s: int = 24 * 60 * 60  # A: one school day; past it the decision says so.
    list_age_refer_s: int = 7 * 24 * 60 * 60  # B: past it unknown people go to the officer.
    passback_mode: PassbackMode = PassbackMode.SOFT
    passback_window_s: int = 300  # Timed mode. Our choice: long enough to hand a card back out.
    alone: bool = False  # Lanes of the school cannot hear each other.
    out_is_free: bool = True  # Direction out is granted with the reason kept.


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    product_id: str
    name: str
    category: str
    price_minor: int
    allergens: frozenset[str]
    allergens_checked: bool
    purse: str
    weighed: bool = False  # `price_minor` is for a kilogram.
    barcode: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineItem:
    """One row of a basket, priced from the catalogue version in force."""

    product: Product
    quantity: int
    grams: int = 0  # Of a weighed product, whose quantity is 1.


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The base: what the money picture says of one account, up to its applied vector."""

    account_id: str
    suspended: bool
    balance_minor_by_purse: Mapping[str, int]
    day_limit_minor: int | None
    week_limit_minor: int | None
    spent_day_minor: int  # Spent on `spent_date`; another business date counts as 0.
    spent_week_minor: int  # Spent in the week of `spent_date`.
    spent_date: str
    banned_products: frozenset[str]
    banned_categories: frozenset[str]
    item_limits: Mapping[str, int] = field(default_factory=dict)  # Category -> pieces a day.
    items_day: Mapping[str, int] = field(default_factory=dict)  # Bought on `spent_date`.


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """One fact above the vector, as the tail knows it: a debit, or what a void gave back."""

    device: str
    epoch: str
    sequence: int
    purse: str
    amount_minor: int
    business_date: str
    own: bool = True
    hold_ended: bool = False  # A hold of that till sold or released: it gives back everywhere.


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """How many pieces of a category a fact above the vector sold, or a void gave back."""

    device: str
    epoch: str
    sequence: int
    category: str
    pieces: int
    business_date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTill:
    """Another till of the roster, as far as it is known here."""

    device: str
    heard: bool  # A heartbeat made in the last moments came from it.
    complete: bool  # Nothing of what it said it had done is missing here.
    covers: Mapping[str, int]  # Own epoch -> it has seen my facts so far, and I hold all it had
    # done by then.


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """A right to a meal in some slots of a day; dates are ISO."""

    entitlement_id: str
    slots: tuple[str, ...]
    categories: tuple[str, ...]  # Of the products it pays for, a piece of each a slot.
    first_date: str
    last_date: str
    weekdays: tuple[int, ...]  # ISO 8601: Monday is 1.
    except_dates: tuple[str, ...]
    owner_till: str = ""  # Of the class, or its own; "": by rendezvous hash.


@dataclass(frozen=True, slots=True, kw_only=True)
class Preorder:
    """Meals chosen beforehand, and not known to be collected."""

    preorder_id: str
    business_date: str
    slot: str
    # Product, quantity, price_minor of one piece; of a weighed one portions, at an estimate.
    lines: tuple[tuple[str, int, int], ...]
    charged: bool  # The city has debited it already.


def meal_claim(business_date: str, slot: str, entitlement_id: str) -> str:
    """What a person claims once: a meal by an entitlement."""
    return f"meal/{business_date}/{slot}/{entitlement_id}"


def preorder_claim(preorder_id: str) -> str:
    """What a person claims once: a pre-order."""
    return f"preorder/{preorder_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseView:
    """Base plus tail for one credential at a till, read journal first, then sync, then picture."""

    people: ListState | None
    money: ListState | None
    hot_listed: bool
    credential: Credential | None
    cardholder: Cardholder | None
    account: Account | None
    tail: tuple[Spend, ...]
    vector: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    peers: tuple[PeerTill, ...] = ()  # The other tills of the roster: none, no cap.
    pieces: tuple[Pieces, ...] = ()
    entitlements: tuple[Entitlement, ...] = ()
    preorders: tuple[Preorder, ...] = ()
    claims: frozenset[str] = frozenset()  # Meals and pre-orders known to be handed over.
