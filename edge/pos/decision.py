"""Purchase decision: may this basket be sold to this credential here now, and how is it posted?

Pure: no clock, no database, no log. The caller gathers base and tail, calls `decide_purchase`,
records the answer and only then shows it. Equal arguments give an equal decision at a till, in a
test and in the city, so a recorded decision can be replayed; `tests/vectors/purchase` holds some.

The reasons stand in `PurchaseReason` in the order they are checked here. Three of them this list
never gives: `meal_used` and `item_limit` are said of entitlements, `cap` where a till has peers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edge.model import (
    MINUTES_PER_WEEK,
    Account,
    Cardholder,
    Caveat,
    LineItem,
    ListState,
    Now,
    Presentation,
    PurchaseReason,
    PurchaseView,
    Tender,
)
from edge.pos.basket import Basket
from edge.pos.ledger import (
    Posting,
    available_minor,
    base_age_days,
    postings_for,
    spent_day_minor,
    spent_week_minor,
)

PRESENTATION_AGE_MS_MAX = 2_000  # Our choice, as at the gate: a read that waited sells nothing.
LIST_AGE_AMBER_S = 24 * 60 * 60  # Our choice: one day; past it the decision says so.
BASE_AGE_DAYS_MAX = 3  # Our choice: half a school week; past it nobody knows who can pay.
# credentials.md: a tier 4 message can be read off the card by any phone, so alone it buys little.
# Our choice of "little": 100 roubles, about one breakfast.
TIER_LIMIT_MINOR: Mapping[int, int] = MappingProxyType({4: 10_000})


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchasePolicy:
    """What the site settings choose about purchases. Defaults are the design's."""

    list_age_amber_s: int = LIST_AGE_AMBER_S
    base_age_days_max: int = BASE_AGE_DAYS_MAX  # School days; the last one still sells.
    tier_limit_minor: Mapping[int, int] = field(default_factory=lambda: TIER_LIMIT_MINOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseDecision:
    """Sold or refused, with the one reason, and what follows from it."""

    sold: bool
    reason: PurchaseReason
    caveats: tuple[Caveat, ...]  # In the order of the enum.
    tender: Tender  # How it is paid, or how it was tried.
    total_minor: int
    postings: tuple[Posting, ...] = ()  # Of a sale; they sum to zero.
    # Left after a sale in the purses that it was paid from, together. Never on a screen that
    # the queue can see: it would tell who paid and who eats free.
    available_after_minor: int | None = None
    # The smallest change that would be sold now: without these lines, for this total.
    without: tuple[LineItem, ...] = ()
    total_without_minor: int | None = None
    short_minor: int = 0  # By how much the basket is too dear; 0 where that is not the reason.


def decide_purchase(
    presentation: Presentation,
    basket: Basket,
    view: PurchaseView,
    now: Now,
    business_date: str,
    policy: PurchasePolicy,
    *,
    base_date: str | None = None,
) -> PurchaseDecision:
    """Sell this basket on account, or refuse it for the first reason that applies.

    `business_date` is the local date of the sale: the clock's where that is trusted, else the one
    that the cashier gave. `base_date` is the local date on which the city issued the base, where
    the caller knows it; without it the date is counted back from the age of the money list.
    """
    assert basket.lines, "a till asks about something"
    assert presentation.age_ms >= 0
    assert 0 <= now.minute_of_week < MINUTES_PER_WEEK
    case = _Case(presentation, view, now, business_date, policy, base_date)
    reason, short_minor = _first_reason(case, basket)
    caveats = _caveats(view, now, policy)
    total_minor = basket.total_minor
    if reason is PurchaseReason.AUTHORIZED:
        account = view.account
        assert account is not None
        amounts = basket.amount_minor_by_purse
        left = sum(available_minor(account, purse, view.tail, view.vector) for purse in amounts)
        return PurchaseDecision(
            sold=True,
            reason=reason,
            caveats=caveats,
            tender=Tender.ACCOUNT,
            total_minor=total_minor,
            postings=postings_for(account.account_id, amounts),
            available_after_minor=left - total_minor,
        )
    without: tuple[LineItem, ...] = ()
    total_without_minor: int | None = None
    if reason in (PurchaseReason.ALLERGEN, PurchaseReason.BANNED):
        without, total_without_minor = _allowed_without(case, basket)
    return PurchaseDecision(
        sold=False,
        reason=reason,
        caveats=caveats,
        tender=Tender.ACCOUNT,
        total_minor=total_minor,
        without=without,
        total_without_minor=total_without_minor,
        short_minor=short_minor,
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """All that a decision is made from, but for the basket, which may be asked about twice."""

    presentation: Presentation
    view: PurchaseView
    now: Now
    business_date: str
    policy: PurchasePolicy
    base_date: str | None


def _first_reason(case: _Case, basket: Basket) -> tuple[PurchaseReason, int]:
    """The first reason that applies, and by how much too dear the basket is for it."""
    view, now = case.view, case.now
    if case.presentation.age_ms > PRESENTATION_AGE_MS_MAX:
        return PurchaseReason.STALE_READ, 0
    if view.people is None or view.money is None:
        return PurchaseReason.NO_LIST, 0
    if view.hot_listed:
        return PurchaseReason.HOT_LISTED, 0
    credential, cardholder = view.credential, view.cardholder
    if credential is not None and case.presentation.tier < credential.tier:
        return PurchaseReason.TIER_BELOW_ENROLLED, 0
    if case.presentation.replayed:
        return PurchaseReason.REPLAYED, 0
    if credential is None or cardholder is None:
        return PurchaseReason.UNKNOWN_CREDENTIAL, 0
    if not cardholder.here:
        return PurchaseReason.WRONG_SITE, 0
    # By a clock nobody trusts a whole school might have expired: those rules are skipped, and the
    # caveat says so. A lost card is stopped by the hot list, which needs no clock.
    if now.clock_trusted and now.utc_s < credential.valid_from_utc_s:
        return PurchaseReason.NOT_YET_VALID, 0
    if now.clock_trusted and now.utc_s >= credential.valid_until_utc_s:
        return PurchaseReason.EXPIRED, 0
    # An account that the money list does not name is in force no more than a suspended one: its
    # balance and its bans are both unknown.
    account = view.account
    if account is None or account.suspended or cardholder.suspended:
        return PurchaseReason.ACCOUNT_SUSPENDED, 0
    assert account.account_id == cardholder.account_id, "the view is of one person"
    if any(_has_allergen(line, cardholder) for line in basket.lines):
        return PurchaseReason.ALLERGEN, 0
    if any(_is_banned(line, account) for line in basket.lines):
        return PurchaseReason.BANNED, 0
    return _money_reason(case, basket, account)


def _money_reason(case: _Case, basket: Basket, account: Account) -> tuple[PurchaseReason, int]:
    """The rest of the list: limits, funds, and whether the base can be believed at all."""
    view, day, total_minor = case.view, case.business_date, basket.total_minor
    limits = (
        (
            PurchaseReason.DAY_LIMIT,
            account.day_limit_minor,
            spent_day_minor(account, view.tail, view.vector, day),
        ),
        (
            PurchaseReason.WEEK_LIMIT,
            account.week_limit_minor,
            spent_week_minor(account, view.tail, view.vector, day),
        ),
        (
            PurchaseReason.TIER_LIMIT,
            case.policy.tier_limit_minor.get(case.presentation.tier),
            0,
        ),
    )
    for reason, limit_minor, spent_minor in limits:
        if reason is PurchaseReason.TIER_LIMIT and case.presentation.ambiguous:
            return reason, total_minor  # Not even what costs nothing: whose would it be?
        if limit_minor is not None:
            short_minor = _short_minor(total_minor, limit_minor - spent_minor)
            if short_minor > 0:
                return reason, short_minor
    short_minor = sum(
        _short_minor(amount, available_minor(account, purse, view.tail, view.vector))
        for purse, amount in basket.amount_minor_by_purse.items()
    )
    if short_minor > 0:
        return PurchaseReason.FUNDS, short_minor
    assert view.money is not None
    age_days = base_age_days(view.money, case.now, day, case.base_date)
    if age_days is None or age_days > case.policy.base_age_days_max:
        return PurchaseReason.OLD_BASE, 0
    return PurchaseReason.AUTHORIZED, 0


def _short_minor(amount_minor: int, allowed_minor: int) -> int:
    """What would have to come off an amount for it to be allowed; what costs nothing always is."""
    return max(0, min(amount_minor, amount_minor - allowed_minor))


def _has_allergen(line: LineItem, cardholder: Cardholder) -> bool:
    """Fails closed: to whom anything is dangerous, what nobody checked is dangerous."""
    if not cardholder.allergens:
        return False
    product = line.product
    return not product.allergens_checked or not cardholder.allergens.isdisjoint(product.allergens)


def _is_banned(line: LineItem, account: Account) -> bool:
    product = line.product
    return (
        product.product_id in account.banned_products
        or product.category in account.banned_categories
    )


def _allowed_without(case: _Case, basket: Basket) -> tuple[tuple[LineItem, ...], int | None]:
    """The lines this cardholder may not have, and the total of the rest if that would be sold."""
    cardholder, account = case.view.cardholder, case.view.account
    assert cardholder is not None
    assert account is not None
    dropped = tuple(
        line
        for line in basket.lines
        if _has_allergen(line, cardholder) or _is_banned(line, account)
    )
    rest = basket.without(dropped)
    if not rest.lines or _first_reason(case, rest)[0] is not PurchaseReason.AUTHORIZED:
        return (), None
    return dropped, rest.total_minor


def _caveats(view: PurchaseView, now: Now, policy: PurchasePolicy) -> tuple[Caveat, ...]:
    """What the decision had to do without. A list whose age cannot be told counts as old."""
    caveats = []
    if not now.clock_trusted:
        caveats.append(Caveat.CLOCK_UNTRUSTED)
    lists = [state for state in (view.people, view.money) if state is not None]
    if any(_is_old(state, policy) for state in lists):
        caveats.append(Caveat.OLD_LIST)
    return tuple(caveats)


def _is_old(state: ListState, policy: PurchasePolicy) -> bool:
    return state.age_s is None or state.age_s > policy.list_age_amber_s
