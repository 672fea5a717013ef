"""What people of a synthetic school are written down as: frozen records, no rule. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edge.model import Category, PassbackMode, Tariff, Tender, UidKind

PURSE: Final = "main"
# Profile of a card that can prove itself (hil/city/card_keys.py) -> what it is worth.
SMART_TIERS: Final = {"pupil-ev2": 6, "staff-424": 6, "guest-sun": 4, "band-aes": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    cardholder_id: str
    name: str = field(repr=False)
    group: str  # A class, or what a member of staff does.
    category: Category
    account_id: str | None
    rights: tuple[tuple[str, str], ...]  # (zone_id, schedule_id)
    allergens: tuple[str, ...] = ()
    ward_ids: tuple[str, ...] = ()
    relations: tuple[tuple[str, str], ...] = ()  # (ward, what the guardian is to it)
    barred_ward_ids: tuple[str, ...] = ()  # By a court or the family.


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One credential as plastic: its number, and whose it is."""

    uid: bytes = field(repr=False)
    uid_kind: UidKind
    cardholder_id: str | None  # None: a card nobody has registered.
    label: str = ""  # The bench's name for it.
    profile: str = ""  # How it proves itself, by the city's name for that; "": it cannot.
    key_version: int | None = None
    hot: str = ""  # Why it is on the hot list: lost, replaced, blocked.

    @property
    def tier(self) -> int:
        """What it can prove (credentials.md): a 125 kHz number nothing, a UID that it has one."""
        if self.profile:
            return SMART_TIERS[self.profile]
        return 0 if self.uid_kind is UidKind.PROX125 else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SchoolAccount:
    account_id: str
    balance_minor: int
    day_limit_minor: int | None = None
    week_limit_minor: int | None = None
    banned_products: tuple[str, ...] = ()
    banned_categories: tuple[str, ...] = ()
    buffet_minor: int = 0
    low_balance_minor: int | None = None
    item_limits: tuple[tuple[str, int], ...] = ()  # (category, pieces a day)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchoolProduct:
    product_id: str
    name: str
    category: str
    price_minor: int
    allergens: tuple[str, ...]
    allergens_checked: bool
    purse: str = PURSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    schedule_id: str
    windows: tuple[tuple[int, int], ...]  # Minutes of the week, `[start, stop)`.
    terms: tuple[tuple[str, str], ...] = ()  # First and last day; none: all the year.
    holidays: tuple[tuple[str, str], ...] = ()
    days: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MealSlot:
    slot_id: str
    start_minute: int  # Of the day, `[start, stop)`.
    stop_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """What this site's city has chosen; defaults are the design's."""

    time_zone: str = "Europe/Moscow"
    currency: str = "RUB"
    floor_limit_minor: int = 300_00
    list_age_amber_s: int = 24 * 60 * 60
    list_age_refer_s: int = 7 * 24 * 60 * 60
    passback_mode: PassbackMode = PassbackMode.SOFT
    passback_window_s: int = 300
    base_age_days_max: int = 3
    peer_brokers: tuple[tuple[str, str], ...] = ()  # (device, endpoint): the first, its stand-by.
    passback_by_zone: Mapping[str, PassbackMode] = field(default_factory=dict)
    out_is_free: bool = True
    tariffs: Mapping[str, Tariff] = field(default_factory=dict)
    photos: bool = False
    referral_ms_max: int = 60_000
    meal_slots: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tenders: tuple[Tender, ...] = (Tender.PREORDER, Tender.ENTITLEMENT, Tender.ACCOUNT)
    issue_only_tills: tuple[str, ...] = ()
    substitutions: tuple[str, ...] = ("нет в наличии", "аллергия", "просьба ребёнка")
    emergency_minor_max: int = 300_00
    admission_again_s: int = 1_800
