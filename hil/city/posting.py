"""What a fact means for the city: postings, a line in the family's feed, or suspense. Pure.

A fact is what happened and is never judged again: an offline sale is posted even below zero, and a
ban that came too late undoes nothing. Only what cannot be posted (an account or product nobody
knows, sums that do not add up) is put aside, with one reason from a closed list. Messages to
families come from passages *taken* alone, never from a grant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum, unique
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from edge.messages import AnyFact, PassageFact, Posting, SaleFact
from edge.model import ClockQuality, Direction, PassageResult, Tender
from hil.city.accounts import AMOUNT_MINOR_MAX, sales, sums_to_zero, suspense

TRUSTED_CLOCKS: Final = (ClockQuality.NTP, ClockQuality.CITY, ClockQuality.RTC)
FACT_TIME_MS_MAX: Final = 4_102_444_800_000  # 2100-01-01: what a date can be printed for.
QUANTITY_MAX: Final = 1_000  # Our choice: no basket of a school has more of one thing.
FEED_LINES_MAX: Final = 5  # Our choice: a message on a phone; the rest is counted.
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
    BAD_AMOUNTS = "bad_amounts"  # Lines, total and postings do not agree.
    UNKNOWN_CARDHOLDER = "unknown_cardholder"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_PURSE = "unknown_purse"
    UNKNOWN_PRODUCT = "unknown_product"
    CITY_FAULT = "city_fault"  # Our own mistake met this fact; it is kept for us to look at.


class Directory(Protocol):
    """What posting asks the city's records."""

    def account_of(self, cardholder: str) -> str | None: ...

    def purses_of(self, account: str) -> frozenset[str] | None: ...

    def product_name(self, product: str) -> str | None: ...

    def person_name(self, cardholder: str) -> str | None: ...


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
    kind: str  # came, left, bought
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one fact comes to."""

    postings: tuple[Posting, ...] = ()
    spends: tuple[tuple[str, str, int], ...] = ()  # (account, business date, amount)
    feed: FeedLine | None = None
    suspense: SuspenseReason | None = None


NOTHING: Final = Meaning()


def meaning_of(fact: AnyFact, directory: Directory, place: Place) -> Meaning:
    """Equal arguments give an equal answer, so a ledger can be made again from the facts."""
    if fact.site != place.site:
        return Meaning(suspense=SuspenseReason.WRONG_SITE)
    if isinstance(fact, SaleFact):
        return _sale(fact, directory, place)
    if isinstance(fact, PassageFact):
        return _passage(fact, directory, place)
    return NOTHING


def _passage(fact: PassageFact, directory: Directory, place: Place) -> Meaning:
    if fact.result is not PassageResult.TAKEN or fact.cardholder is None:
        return NOTHING
    name = directory.person_name(fact.cardholder)
    if name is None:
        return Meaning(suspense=SuspenseReason.UNKNOWN_CARDHOLDER)
    kind = "came" if fact.direction is Direction.IN else "left"
    at, words = _when(fact, place)
    line = FeedLine(
        at_ms=_believable(fact.wall_ms, place),
        at=at,
        cardholder=fact.cardholder,
        kind=kind,
        text=f"{name} {kind} {words}",
    )
    return Meaning(feed=line)


def _sale(fact: SaleFact, directory: Directory, place: Place) -> Meaning:
    counted = _counted_date(fact.business_date, place.today)
    if counted is None:
        return Meaning(suspense=SuspenseReason.BAD_DATE)
    if not _amounts_agree(fact, place.site):
        return Meaning(suspense=SuspenseReason.BAD_AMOUNTS)
    reason = _not_postable(fact, directory)
    if reason is not None:
        return Meaning(postings=_set_aside(fact, place.site), suspense=reason)
    spent = -sum(p.amount_minor for p in fact.postings if p.account == fact.account)
    at, _ = _when(fact, place)
    line = FeedLine(
        at_ms=_believable(fact.wall_ms, place),
        at=at,
        cardholder=fact.cardholder,
        kind="bought",
        text=f"{directory.person_name(fact.cardholder)} {_bought(fact, directory, place)}",
    )
    return Meaning(
        postings=fact.postings,
        spends=((fact.account, counted.isoformat(), spent),) if spent else (),
        feed=line,
    )


def _amounts_agree(fact: SaleFact, site: str) -> bool:
    """Lines make the total; on account the cardholder pays exactly it, to this site's sales."""
    lines = fact.lines
    if not lines or not 0 <= fact.total_minor <= AMOUNT_MINOR_MAX:
        return False
    if any(not 0 < line.quantity <= QUANTITY_MAX or line.price_minor < 0 for line in lines):
        return False
    if sum(line.quantity * line.price_minor for line in lines) != fact.total_minor:
        return False
    if any(posting.account not in (fact.account, sales(site)) for posting in fact.postings):
        return False
    if any(abs(posting.amount_minor) > AMOUNT_MINOR_MAX for posting in fact.postings):
        return False
    if any(p.amount_minor > 0 for p in fact.postings if p.account == fact.account):
        return False
    paid = -sum(p.amount_minor for p in fact.postings if p.account == fact.account)
    due = fact.total_minor if fact.tender is Tender.ACCOUNT else 0
    return paid == due and sums_to_zero(fact.postings)


def _not_postable(fact: SaleFact, directory: Directory) -> SuspenseReason | None:
    if directory.person_name(fact.cardholder) is None:
        return SuspenseReason.UNKNOWN_CARDHOLDER
    purses = directory.purses_of(fact.account)
    if purses is None or directory.account_of(fact.cardholder) != fact.account:
        return SuspenseReason.UNKNOWN_ACCOUNT
    if any(posting.purse not in purses for posting in fact.postings):
        return SuspenseReason.UNKNOWN_PURSE
    if any(directory.product_name(line.product) is None for line in fact.lines):
        return SuspenseReason.UNKNOWN_PRODUCT
    return None


def _set_aside(fact: SaleFact, site: str) -> tuple[Posting, ...]:
    """The same postings with the suspense account in the cardholder's place: sales stay whole."""
    return tuple(
        Posting(
            account=suspense(site) if posting.account == fact.account else posting.account,
            purse=posting.purse,
            amount_minor=posting.amount_minor,
        )
        for posting in fact.postings
    )


def _counted_date(text: str, today: date) -> date | None:
    """The business date spend counts on. A till that believes in 2099 counts as tomorrow at most,
    or its one sale would hide every later day from the limits."""
    try:
        named = date.fromisoformat(text)
    except ValueError:
        return None
    if named.isoformat() != text:
        return None
    return min(named, today + timedelta(days=1))


def _bought(fact: SaleFact, directory: Directory, place: Place) -> str:
    """Words alone where nothing was paid on account: a free meal shows no price."""
    sign = CURRENCY_SIGNS.get(place.currency, place.currency)
    parts = []
    for line in fact.lines[:FEED_LINES_MAX]:
        name = directory.product_name(line.product) or line.product
        count = f"{line.quantity} × " if line.quantity > 1 else ""
        price = f" {money(line.quantity * line.price_minor)} {sign}"
        parts.append(count + name + (price if fact.tender is Tender.ACCOUNT else ""))
    more = len(fact.lines) - FEED_LINES_MAX
    rest = f" and {more} more" if more > 0 else ""
    return f"{'bought' if fact.tender is Tender.ACCOUNT else 'ate'} {', '.join(parts)}{rest}"


def money(amount_minor: int) -> str:
    """Minor units as people write them: 8500 is 85.00."""
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{abs(amount_minor) // 100}.{abs(amount_minor) % 100:02d}"


def _believable(wall_ms: int, place: Place) -> int:
    return wall_ms if 0 <= wall_ms < FACT_TIME_MS_MAX else place.now_ms


def _when(fact: AnyFact, place: Place) -> tuple[str, str]:
    """The fact's time for a machine and for a person, who also gets the day if it is not today."""
    local = datetime.fromtimestamp(_believable(fact.wall_ms, place) / 1000, UTC).astimezone(
        place.time_zone
    )
    at = local.isoformat(timespec="seconds")
    if fact.clock not in TRUSTED_CLOCKS:
        return at, "at an unknown time"
    if local.date() == place.today:
        return at, f"{local:%H:%M}"
    return at, f"{local:%d.%m} {local:%H:%M}"
