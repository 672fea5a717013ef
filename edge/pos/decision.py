"""Purchase decision: may this basket be sold to this credential here now, and how is it posted?

Pure: no clock, no database, no log. The caller gathers base and tail, calls `decide_purchase`,
records the answer and only then shows it. Equal arguments give an equal decision at a till, in a
test and in the city, so a recorded decision can be replayed; `tests/vectors/purchase` holds some.

The reasons stand in `PurchaseReason` in the order they are checked here. How a basket is paid is
`tender.py`'s plan; here is judged whether the account may bear its part. A basket that is refused
for the cap alone and `needs_hold` can be held, and asked about again with that hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from edge.model import (
    MINUTES_PER_WEEK,
    Account,
    Caveat,
    LineItem,
    Now,
    Preorder,
    Presentation,
    PurchaseReason,
    PurchaseView,
    Spend,
    Tender,
    preorder_claim,
)
from edge.pos.basket import Basket
from edge.pos.card_reasons import has_allergen, is_banned, is_old, reason_of_card
from edge.pos.cover import covered_up_to, has_hole, room_minor
from edge.pos.entitlement import Occasion, servings, used
from edge.pos.ledger import (
    Posting,
    available_minor,
    base_age_days,
    bought_pieces,
    spent_day_minor,
    spent_week_minor,
)
from edge.pos.tender import Ask, Collected, Paid, Plan, SoldLine, plan_tenders

LIST_AGE_AMBER_S = 24 * 60 * 60  # Our choice: one day; past it the decision says so.
BASE_AGE_DAYS_MAX = 3  # Our choice: half a school week; past it nobody knows who can pay.
FLOOR_LIMIT_MINOR = 30_000  # ledger.md: 300 roubles, about one full meal.
EMERGENCY_MINOR_MAX = 30_000  # Our choice: as much.
# credentials.md: a tier 4 message can be read off the card by any phone, so alone it buys little.
# Our choice of "little": 100 roubles, about one breakfast.
TIER_LIMIT_MINOR: Mapping[int, int] = MappingProxyType({4: 10_000})
AFTER_ALL = 2**53  # A number that no vector reaches: what is asked about as if it were done.


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchasePolicy:
    """What the site settings choose about purchases. Defaults are the design's."""

    list_age_amber_s: int = LIST_AGE_AMBER_S
    base_age_days_max: int = BASE_AGE_DAYS_MAX  # School days; the last one still sells.
    tier_limit_minor: Mapping[int, int] = field(default_factory=lambda: TIER_LIMIT_MINOR)
    floor_limit_minor: int = FLOOR_LIMIT_MINOR  # The cap, where the roster has other tills.
    emergency_minor_max: int = EMERGENCY_MINOR_MAX
    device: str = ""  # This till.


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAmount:
    """An open hold of this till, made for the basket that is asked about."""

    epoch: str
    sequence: int
    amount_minor_by_purse: Mapping[str, int]
    business_date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseDecision:
    """Sold or refused, with the one reason, and what follows from it."""

    sold: bool
    reason: PurchaseReason
    caveats: tuple[Caveat, ...]  # In the order of the enum.
    tender: Tender  # How it is paid, or how it was tried: the first of several.
    total_minor: int
    postings: tuple[Posting, ...] = ()  # Of a sale; they sum to zero.
    # Left after a sale in the purses that the account paid from, together. Never on a screen that
    # the queue can see: it would tell who paid and who eats free.
    available_after_minor: int | None = None
    # The smallest change that would be sold now: without these lines, for this total.
    without: tuple[LineItem, ...] = ()
    total_without_minor: int | None = None
    short_minor: int = 0  # By how much the basket is too dear; 0 where that is not the reason.
    lines: tuple[SoldLine, ...] = ()
    paid: tuple[Paid, ...] = ()  # They sum to the total of a sale.
    meals: tuple[str, ...] = ()  # Entitlements used.
    preorders: tuple[Collected, ...] = ()
    account_minor_by_purse: Mapping[str, int] = field(default_factory=dict)
    on_account: tuple[SoldLine, ...] = ()  # What of the lines the account pays for.
    by_right: tuple[SoldLine, ...] = ()  # What of them entitlements pay for.
    overridden: PurchaseReason | None = None  # What a supervisor answers for.
    needs_hold: bool = False  # Refused for the cap alone; a hold that gets covered would sell it.
    # Refused because another till did something that is missing here: to be asked again when it has
    # come, which is in a moment if that till is heard.
    needs_facts: bool = False


def decide_purchase(
    presentation: Presentation,
    basket: Basket,
    view: PurchaseView,
    now: Now,
    business_date: str,
    policy: PurchasePolicy,
    *,
    base_date: str | None = None,
    slot: str = "",
    ask: Ask | None = None,
    hold: HeldAmount | None = None,
) -> PurchaseDecision:
    """Sell this basket, or refuse it for the first reason that applies.

    `business_date` is the local date of the sale: the clock's where that is trusted, else the one
    that the cashier gave, and so is `slot` ("" between meals). `base_date` is the local date on
    which the city issued the base, where the caller knows it; without it the date is counted back
    from the age of the money list. With `hold` the basket is judged as if that hold ended now.
    """
    assert basket.lines, "a till asks about something"
    assert presentation.age_ms >= 0
    assert 0 <= now.minute_of_week < MINUTES_PER_WEEK
    asked = Ask() if ask is None else ask
    if hold is not None:
        view = _as_if_ended(view, policy.device, hold)
    case = _Case(presentation, view, now, business_date, policy, base_date, slot, asked, hold)
    plan = case.plan(basket)
    found = _first_reason(case, basket, plan)
    if found.reason is PurchaseReason.AUTHORIZED:
        return _sale(case, basket, plan)
    without: tuple[LineItem, ...] = ()
    total_without_minor: int | None = None
    if found.reason in _OF_LINES:
        without, total_without_minor = _allowed_without(case, basket)
    return PurchaseDecision(
        sold=False,
        reason=found.reason,
        caveats=_caveats(case, plan),
        tender=plan.paid[0].tender if plan.paid else asked.tenders[0],
        total_minor=plan.total_minor,
        without=without,
        total_without_minor=total_without_minor,
        short_minor=found.short_minor,
        lines=plan.lines,
        account_minor_by_purse=plan.account_minor_by_purse,
        needs_hold=found.needs_hold,
        needs_facts=found.needs_facts,
    )


# Refusals that name something in the basket: without it the rest may be sold.
_OF_LINES = (PurchaseReason.ALLERGEN, PurchaseReason.BANNED, PurchaseReason.ITEM_LIMIT)


@dataclass(frozen=True, slots=True)
class _Case:
    """All that a decision is made from, but for the basket, which may be asked about twice."""

    presentation: Presentation
    view: PurchaseView
    now: Now
    business_date: str
    policy: PurchasePolicy
    base_date: str | None
    slot: str
    ask: Ask
    hold: HeldAmount | None

    @property
    def occasion(self) -> Occasion:
        cardholder = self.view.cardholder
        return Occasion(
            cardholder_id="" if cardholder is None else cardholder.cardholder_id,
            business_date=self.business_date,
            slot=self.slot,
            device=self.policy.device,
            peers=self.view.peers,
        )

    def plan(self, basket: Basket) -> Plan:
        view = self.view
        meals = servings(view.entitlements, view.claims, self.occasion)
        due = due_preorders(view, self.business_date, self.slot)
        return plan_tenders(basket, self.ask, meals, due, has_account=view.account is not None)


@dataclass(frozen=True, slots=True)
class _Found:
    reason: PurchaseReason
    short_minor: int = 0
    needs_hold: bool = False
    needs_facts: bool = False


def due_preorders(view: PurchaseView, business_date: str, slot: str) -> list[Preorder]:
    """Chosen for this date and slot, and not known to be collected."""
    return [
        one
        for one in view.preorders
        if (one.business_date, one.slot) == (business_date, slot)
        and preorder_claim(one.preorder_id) not in view.claims
    ]


def _sale(case: _Case, basket: Basket, plan: Plan) -> PurchaseDecision:
    view = case.view
    account_id = "" if view.account is None else view.account.account_id
    left: int | None = None
    if plan.account_minor_by_purse:
        assert view.account is not None
        left = sum(
            available_minor(view.account, purse, view.tail, view.vector) - amount_minor
            for purse, amount_minor in plan.account_minor_by_purse.items()
        )
    overridden = None
    person = view.cardholder if case.ask.override_allergens else None
    if person is not None and any(has_allergen(line, person) for line in basket.lines):
        overridden = PurchaseReason.ALLERGEN
    return PurchaseDecision(
        sold=True,
        reason=PurchaseReason.AUTHORIZED,
        caveats=_caveats(case, plan),
        tender=plan.paid[0].tender,
        total_minor=plan.total_minor,
        postings=plan.postings(account_id),
        available_after_minor=left,
        lines=plan.lines,
        paid=plan.paid,
        meals=tuple(one.entitlement.entitlement_id for one in plan.meals),
        preorders=plan.preorders,
        account_minor_by_purse=plan.account_minor_by_purse,
        on_account=plan.on_account,
        by_right=plan.by_right,
        overridden=overridden,
    )


def _first_reason(case: _Case, basket: Basket, plan: Plan) -> _Found:
    """The first reason that applies, and by how much too dear the basket is for it."""
    reason = reason_of_card(case.presentation, case.view, case.now)
    if reason is not None:
        return _Found(reason)
    view, account = case.view, case.view.account
    cardholder = view.cardholder
    assert cardholder is not None
    assert account is None or account.account_id == cardholder.account_id, "of one person"
    # An account that the money list does not name is in force no more than a suspended one: its
    # balance and its bans are both unknown. Whoever has none at all may eat by right.
    unknown = account is None and cardholder.account_id is not None
    if cardholder.suspended or (unknown and not case.ask.emergency):
        return _Found(PurchaseReason.ACCOUNT_SUSPENDED)
    needs_account = bool(plan.account_minor_by_purse)
    if needs_account and (account is None or (account.suspended and not case.ask.emergency)):
        of_right = account is None and case.view.entitlements and not case.ask.emergency
        found = _reason_of_meals(case, plan, plan.on_account) if of_right else None
        return found or _Found(PurchaseReason.ACCOUNT_SUSPENDED)
    allergen_stops = not case.ask.override_allergens
    if allergen_stops and any(has_allergen(line, cardholder) for line in basket.lines):
        return _Found(PurchaseReason.ALLERGEN)
    if account is not None and any(is_banned(line, account) for line in basket.lines):
        return _Found(PurchaseReason.BANNED)
    if plan.unpaid:
        found = _reason_of_meals(case, plan, plan.unpaid)
        if found is not None:
            return found
    return _money_reason(case, plan, account)


def _reason_of_meals(case: _Case, plan: Plan, unpaid: tuple[SoldLine, ...]) -> _Found | None:
    """Why entitlements do not pay for this: served before, or more than they give."""
    view = case.view
    categories = {line.line.product.category for line in unpaid}
    gone = used(view.entitlements, view.claims, case.occasion)
    if any(categories & set(one.categories) for one in gone):
        return _Found(PurchaseReason.MEAL_USED)
    if plan.meals or plan.preorders:
        return _Found(PurchaseReason.ITEM_LIMIT)
    return None


def _money_reason(case: _Case, plan: Plan, account: Account | None) -> _Found:
    """The rest of the list: limits, funds, and whether the base can be believed at all."""
    view, day = case.view, case.business_date
    amounts = plan.account_minor_by_purse
    total_minor = sum(amounts.values())
    if case.ask.emergency:
        if case.presentation.ambiguous:
            return _Found(PurchaseReason.TIER_LIMIT, plan.total_minor)  # Whose debt would it be?
        short_minor = _short_minor(plan.total_minor, case.policy.emergency_minor_max)
        reason = PurchaseReason.FUNDS if short_minor else PurchaseReason.AUTHORIZED
        return _Found(reason, short_minor)
    if account is not None and _categories_over(case, plan, account):
        return _Found(PurchaseReason.ITEM_LIMIT)
    if account is not None:
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
        )
        for reason, limit_minor, spent_minor in limits:
            if limit_minor is not None:
                short_minor = _short_minor(total_minor, limit_minor - spent_minor)
                if short_minor > 0:
                    return _Found(reason, short_minor)
    if case.presentation.ambiguous:
        # Not even what costs nothing: whose would it be?
        return _Found(PurchaseReason.TIER_LIMIT, plan.total_minor)
    tier_limit_minor = case.policy.tier_limit_minor.get(case.presentation.tier)
    if tier_limit_minor is not None:
        short_minor = _short_minor(total_minor, tier_limit_minor)
        if short_minor > 0:
            return _Found(PurchaseReason.TIER_LIMIT, short_minor)
    if plan.unpaid or plan.unpaid_minor:
        return _Found(PurchaseReason.FUNDS, plan.unpaid_minor)
    if not amounts:
        return _Found(PurchaseReason.AUTHORIZED)
    assert account is not None
    short_minor = sum(
        _short_minor(amount, available_minor(account, purse, view.tail, view.vector))
        for purse, amount in amounts.items()
    )
    if short_minor > 0:
        return _Found(PurchaseReason.FUNDS, short_minor)
    assert view.money is not None
    age_days = base_age_days(view.money, case.now, day, case.base_date)
    if age_days is None or age_days > case.policy.base_age_days_max:
        return _Found(PurchaseReason.OLD_BASE)
    return _cap_reason(case, amounts)


def _cap_reason(case: _Case, amounts: Mapping[str, int]) -> _Found:
    """Whether so much may be sold though other tills have not heard of it yet."""
    view, hold = case.view, case.hold
    if has_hole(view.peers):
        return _Found(PurchaseReason.CAP, needs_facts=True)
    held: Mapping[str, int] = {}
    if hold is not None:
        covered = covered_up_to(case.policy.device, hold.epoch, view.vector, view.peers)
        if view.peers and hold.sequence > covered:
            return _Found(PurchaseReason.CAP, needs_hold=True)
        held = hold.amount_minor_by_purse
    # Of a hold that is covered too: a meal that was served elsewhere meanwhile leaves the account
    # more to pay than was set aside, and nobody heard of that.
    tail = tuple(spend for spend in view.tail if spend.sequence != AFTER_ALL)
    for purse, amount_minor in amounts.items():
        room = room_minor(
            purse, tail, view.vector, view.peers, cap_minor=case.policy.floor_limit_minor
        )
        if room is not None and amount_minor - held.get(purse, 0) > room:
            return _Found(PurchaseReason.CAP, needs_hold=hold is None)
    return _Found(PurchaseReason.AUTHORIZED)


def _as_if_ended(view: PurchaseView, device: str, hold: HeldAmount) -> PurchaseView:
    """What is available without this hold, whether the base includes it or the tail has it."""
    ended = tuple(
        Spend(
            device=device,
            epoch=hold.epoch,
            sequence=AFTER_ALL,
            purse=purse,
            amount_minor=-amount_minor,
            business_date=hold.business_date,
            hold_ended=True,
        )
        for purse, amount_minor in hold.amount_minor_by_purse.items()
    )
    return replace(view, tail=view.tail + ended)


def _categories_over(case: _Case, plan: Plan, account: Account) -> frozenset[str]:
    """Categories of which this would be more pieces a day than the family allows on account."""
    view, wanted = case.view, dict[str, int]()
    for line in plan.on_account:
        category = line.line.product.category
        wanted[category] = wanted.get(category, 0) + line.quantity
    return frozenset(
        category
        for category, pieces in wanted.items()
        if category in account.item_limits
        and pieces + bought_pieces(account, view.pieces, view.vector, category, case.business_date)
        > account.item_limits[category]
    )


def _short_minor(amount_minor: int, allowed_minor: int) -> int:
    """What would have to come off an amount for it to be allowed; what costs nothing always is."""
    return max(0, min(amount_minor, amount_minor - allowed_minor))


def _allowed_without(case: _Case, basket: Basket) -> tuple[tuple[LineItem, ...], int | None]:
    """The lines this cardholder may not have, and the total of the rest if that would be sold."""
    cardholder, account = case.view.cardholder, case.view.account
    assert cardholder is not None
    over = frozenset() if account is None else _categories_over(case, case.plan(basket), account)
    dropped = tuple(
        line
        for line in basket.lines
        if has_allergen(line, cardholder)
        or (account is not None and is_banned(line, account))
        or line.product.category in over
    )
    rest = basket.without(dropped)
    if not dropped or not rest.lines:
        return (), None
    plan = case.plan(rest)
    found = _first_reason(case, rest, plan)
    waits = found.needs_hold or found.needs_facts
    if found.reason is not PurchaseReason.AUTHORIZED and not waits:
        return (), None
    return dropped, plan.total_minor


def _caveats(case: _Case, plan: Plan) -> tuple[Caveat, ...]:
    """What the decision had to do without. A list whose age cannot be told counts as old."""
    view, caveats = case.view, []
    if not case.now.clock_trusted:
        caveats.append(Caveat.CLOCK_UNTRUSTED)
    lists = [state for state in (view.people, view.money) if state is not None]
    if any(is_old(state, case.policy.list_age_amber_s) for state in lists):
        caveats.append(Caveat.OLD_LIST)
    if case.occasion.alone:
        caveats.append(Caveat.ALONE)
    if any(meal.unconfirmed for meal in plan.meals):
        caveats.append(Caveat.UNCONFIRMED)
    return tuple(caveats)
