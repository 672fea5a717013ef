"""The words in which a fact is judged: what it may come to, where and when, and for which family.

Pure. `posting.py` and `sales.py` judge with them; `batches.py` and `tills.py` carry out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum, unique
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from edge.messages import AnyFact, Posting
from edge.model import ClockQuality

TRUSTED_CLOCKS: Final = (ClockQuality.NTP, ClockQuality.CITY, ClockQuality.RTC)
FACT_TIME_MS_MAX: Final = 4_102_444_800_000  # 2100-01-01: what a date can be printed for.
CURRENCY_SIGNS: Final = {"RUB": "₽"}


@unique
class SuspenseReason(StrEnum):
    """Why a fact could not be posted, in checking order. For a person at the city."""

    UNDECODABLE = "undecodable"  # A kind or form this city does not know.
    EPOCH_NOT_OPENED = "epoch_not_opened"
    DECLARED_LOST = "declared_lost"  # It came after all, behind its own declared gap.
    WRONG_SITE = "wrong_site"
    NOT_A_TILL = "not_a_till"
    BAD_DATE = "bad_date"
    BAD_AMOUNTS = "bad_amounts"  # Lines, total, tenders and postings do not agree.
    UNKNOWN_CARDHOLDER = "unknown_cardholder"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_PURSE = "unknown_purse"
    UNKNOWN_PRODUCT = "unknown_product"
    UNKNOWN_SALE = "unknown_sale"  # Of a void, or of a refund whose sale has not come yet.
    VOIDED_ALREADY = "voided_already"
    REFUNDED_ALREADY = "refunded_already"  # More would be given back than was paid.
    UNKNOWN_PREORDER = "unknown_preorder"
    CITY_FAULT = "city_fault"  # Our own mistake met this fact; it is kept for us to look at.


class Directory(Protocol):
    """What posting asks the city's records."""

    def account_of(self, cardholder: str) -> str | None: ...

    def purses_of(self, account: str) -> frozenset[str] | None: ...

    def product_name(self, product: str) -> str | None: ...

    def person_name(self, cardholder: str) -> str | None: ...

    def relation(self, guardian: str, ward: str) -> str:
        """What the guardian is to the child; "" when that is not known."""
        ...

    def token_owner(self, token: str) -> str | None:
        """Whose credential of the museum list this is, as far as this city knows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and when the city is while it judges."""

    site: str
    time_zone: ZoneInfo
    currency: str
    now_ms: int

    @property
    def today(self) -> date:
        return datetime.fromtimestamp(self.now_ms / 1000, self.time_zone).date()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLine:
    """One line for the family. `at` is ISO 8601 in the site's time zone."""

    at_ms: int
    at: str
    cardholder: str
    kind: str  # came, left, brought, collected, bought, voided, visited, …: hil/city/README.md
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one fact comes to by itself. What it does to what came before is `tills.py`'s."""

    postings: tuple[Posting, ...] = ()
    spends: tuple[tuple[str, str, int], ...] = ()  # (account, business date, amount)
    items: tuple[tuple[str, str, str, int], ...] = ()  # (account, date, category, pieces)
    feeds: tuple[FeedLine, ...] = ()
    suspense: SuspenseReason | None = None

    @property
    def feed(self) -> FeedLine | None:
        """The first line, where there is one."""
        return self.feeds[0] if self.feeds else None


NOTHING: Final = Meaning()


def counted_date(text: str, today: date) -> date | None:
    """The business date spend counts on. A till that believes in 2099 counts as tomorrow at most,
    or its one sale would hide every later day from the limits."""
    try:
        named = date.fromisoformat(text)
    except ValueError:
        return None
    if named.isoformat() != text:
        return None
    return min(named, today + timedelta(days=1))


def money(amount_minor: int) -> str:
    """Minor units as people write them: 8500 is 85.00."""
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{abs(amount_minor) // 100}.{abs(amount_minor) % 100:02d}"


def money_of(amount_minor: int, place: Place) -> str:
    return f"{money(amount_minor)} {CURRENCY_SIGNS.get(place.currency, place.currency)}"


def believable(wall_ms: int, place: Place) -> int:
    return wall_ms if 0 <= wall_ms < FACT_TIME_MS_MAX else place.now_ms


def line_at(fact: AnyFact, place: Place, *, cardholder: str, kind: str, text: str) -> FeedLine:
    """A line for the family at the fact's own time."""
    at, _ = when(fact, place)
    at_ms = believable(fact.wall_ms, place)
    return FeedLine(at_ms=at_ms, at=at, cardholder=cardholder, kind=kind, text=text)


def line_now(place: Place, *, cardholder: str, kind: str, text: str) -> FeedLine:
    """A line at the city's own time: what the city does, no till."""
    local = datetime.fromtimestamp(place.now_ms / 1000, place.time_zone)
    at = local.isoformat(timespec="seconds")
    return FeedLine(at_ms=place.now_ms, at=at, cardholder=cardholder, kind=kind, text=text)


def when(fact: AnyFact, place: Place) -> tuple[str, str]:
    """The fact's time for a machine and for a person, who also gets the day if it is not today."""
    local = datetime.fromtimestamp(believable(fact.wall_ms, place) / 1000, UTC).astimezone(
        place.time_zone
    )
    at = local.isoformat(timespec="seconds")
    if fact.clock not in TRUSTED_CLOCKS:
        return at, "at an unknown time"
    if local.date() == place.today:
        return at, f"{local:%H:%M}"
    return at, f"{local:%d.%m} {local:%H:%M}"
