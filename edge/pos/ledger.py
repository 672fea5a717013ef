"""The ledger at a till: what is available and what was spent, from base plus tail.

The base is what the city's money picture says of an account, up to its *applied vector*; the tail
is what this till and its peers did above it. There is no local balance to overwrite, so a picture
that crosses a sale in flight neither counts it twice nor forgets it, whatever order they come in.

    available = base balance - facts of this purse above the vector

Pure. Which facts the tail must hold is `edge/offline_cache`'s business, what is done with the
figures `decision.py`'s. Dates are ISO text (`2026-03-02`): as text they compare as dates do, so a
spoilt one from outside is some other day and never an exception in the middle of a tap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType

from edge.model import MINUTES_PER_WEEK, Account, ListState, Now, Pieces, Spend

MAIN_STREAM = "main"  # The stream of a station's own facts: the only one that spends.
TAKINGS_ACCOUNT = "takings"  # The other side of a sale; whose takings, the fact's header says.
# Payers that are nobody's account: what entitlements pay, what the city charged before, the drawer.
MEALS_ACCOUNT = "meals"
PREORDERS_ACCOUNT = "preorders"
CASH_ACCOUNT = "cash"
EMERGENCY_ACCOUNT = "emergency"  # The city's own: who feeds a child of whom no account is known.
# What the city, which has many sites, is told of them.
OF_THE_SITE = MappingProxyType(
    {
        TAKINGS_ACCOUNT: "sales",
        MEALS_ACCOUNT: "meals",
        PREORDERS_ACCOUNT: "preorders",
        CASH_ACCOUNT: "cash",
        EMERGENCY_ACCOUNT: "emergency",
    }
)
SECONDS_PER_DAY = 24 * 60 * 60
MINUTES_PER_DAY = 24 * 60
DAYS_PER_WEEK = 7
# Monday to Friday. Our choice: a holiday counts, which errs to too old; a school of six days
# sells by a base one day older for each Saturday in between.
SCHOOL_DAYS_PER_WEEK = 5

assert MINUTES_PER_DAY * DAYS_PER_WEEK == MINUTES_PER_WEEK

Vector = Mapping[tuple[str, str, str], int]  # (device, stream, epoch) -> included up to.


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One side of a ledger entry in minor units; the postings of one sale sum to zero."""

    account_id: str
    purse: str
    amount_minor: int


def at_site(account_id: str, site: str) -> str:
    """An account as the wire names it: one that is nobody's says whose site's it is."""
    word = OF_THE_SITE.get(account_id)
    return account_id if word is None else f"{word}:{site}"


def available_minor(account: Account, purse: str, tail: Iterable[Spend], vector: Vector) -> int:
    """What this purse has to spend, as far as this till knows; below zero when overdrawn."""
    base = account.balance_minor_by_purse.get(purse, 0)
    return base - sum(s.amount_minor for s in _above(tail, vector) if s.purse == purse)


def bought_pieces(
    account: Account,
    pieces: Iterable[Pieces],
    vector: Vector,
    category: str,
    business_date: str,
) -> int:
    """Pieces of a category bought on this business date, as far as this till knows."""
    base = account.items_day.get(category, 0) if account.spent_date == business_date else 0
    return base + sum(
        one.pieces
        for one in dict.fromkeys(pieces)
        if (one.category, one.business_date) == (category, business_date)
        and one.sequence > vector.get((one.device, MAIN_STREAM, one.epoch), 0)
    )


def spent_day_minor(
    account: Account, tail: Iterable[Spend], vector: Vector, business_date: str
) -> int:
    """Spent from all purses on this business date; what the base knows of another date is 0."""
    base = account.spent_day_minor if account.spent_date == business_date else 0
    above = _above(tail, vector)
    return base + sum(s.amount_minor for s in above if s.business_date == business_date)


def spent_week_minor(
    account: Account, tail: Iterable[Spend], vector: Vector, business_date: str
) -> int:
    """Spent from all purses in the week, Monday to Sunday, that this business date is in."""
    day = date.fromisoformat(business_date)
    monday = day - timedelta(days=day.weekday())
    first, last = monday.isoformat(), (monday + timedelta(days=DAYS_PER_WEEK - 1)).isoformat()
    base = account.spent_week_minor if first <= account.spent_date <= last else 0
    above = _above(tail, vector)
    return base + sum(s.amount_minor for s in above if first <= s.business_date <= last)


def postings_for(account_id: str, amount_minor_by_purse: Mapping[str, int]) -> tuple[Posting, ...]:
    """Both sides of what one payer pays, purse by purse in order of name; a purse that pays nothing
    has none."""
    postings: list[Posting] = []
    for purse, amount_minor in sorted(amount_minor_by_purse.items()):
        assert amount_minor >= 0
        if amount_minor:
            postings += (
                Posting(account_id=account_id, purse=purse, amount_minor=-amount_minor),
                Posting(account_id=TAKINGS_ACCOUNT, purse=purse, amount_minor=amount_minor),
            )
    assert sum(posting.amount_minor for posting in postings) == 0
    return tuple(postings)


def base_age_days(
    money: ListState, now: Now, business_date: str, base_date: str | None = None
) -> int | None:
    """How many school days lie behind the base's own day, up to and with the business date.

    `base_date` is the local date on which the city issued the base. Where it is not known it is
    counted back from the list's age; with a clock nobody trusts, as if it were just past midnight
    now. None: cannot be told, which is never young enough.
    """
    day = date.fromisoformat(business_date)
    if base_date is not None:
        return _school_days(date.fromisoformat(base_date), day)
    if money.age_s is None:
        return None
    since_midnight_s = 0
    if now.clock_trusted:
        since_midnight_s = now.minute_of_week % MINUTES_PER_DAY * 60
    midnights = max(0, -((since_midnight_s - money.age_s) // SECONDS_PER_DAY))
    if midnights >= day.toordinal():
        return None  # Older than the calendar: the age is not to be believed.
    return _school_days(day - timedelta(days=midnights), day)


def _above(tail: Iterable[Spend], vector: Vector) -> Iterator[Spend]:
    """The part of the tail that the base does not include, each fact once.

    An epoch the vector never saw counts as 0. A peer's facts only lower what is available, but for
    a hold of its own that ended: what a void gave back counts at the till that sold, the city
    tells the others.
    """
    for spend in dict.fromkeys(tail):
        if spend.sequence <= vector.get((spend.device, MAIN_STREAM, spend.epoch), 0):
            continue
        if spend.own or spend.amount_minor > 0 or spend.hold_ended:
            yield spend


def _school_days(base: date, business: date) -> int:
    """School days after `base`, up to and with `business`; none when that is not later."""
    days = max(0, (business - base).days)
    weeks, rest = divmod(days, DAYS_PER_WEEK)
    extra = sum(
        (base + timedelta(days=step)).weekday() < SCHOOL_DAYS_PER_WEEK
        for step in range(1, rest + 1)
    )
    return weeks * SCHOOL_DAYS_PER_WEEK + extra
