"""Goal: the first reason that applies is the one given, whatever else applies with it; a sale's
postings are its total; and what would be allowed instead is really allowed.

Method: one case that is sold, one way to spoil it per reason. Every combination of the spoilers
about the card (with the money all right and all wrong) and of those about the money, each by a
trusted and an untrusted clock; then a seeded sample of all combinations; then the last value that
still passes each rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model import (
    Account,
    Cardholder,
    Category,
    Caveat,
    Credential,
    LineItem,
    ListState,
    Now,
    Presentation,
    Product,
    PurchaseReason,
    PurchaseView,
    Spend,
    Tender,
    Version,
)
from edge.pos.basket import Basket
from edge.pos.decision import PurchaseDecision, PurchasePolicy, decide_purchase
from edge.pos.ledger import TAKINGS_ACCOUNT, Posting
from edge.pos.tender import Ask

FRIDAY = "2026-03-06"
FRIDAY_1000 = 4 * 1_440 + 600
HOUR_S = 3_600

SOUP = Product(
    product_id="soup",
    name="Soup",
    category="hot",
    price_minor=12_000,
    allergens=frozenset({"celery"}),
    allergens_checked=True,
    purse="meals",
)
BAR = Product(
    product_id="bar",
    name="Chocolate bar",
    category="chocolate",
    price_minor=3_500,
    allergens=frozenset({"nuts"}),
    allergens_checked=True,
    purse="buffet",
)
TOTAL_MINOR = 15_500


def basket(*products: Product) -> Basket:
    return Basket(lines=tuple(LineItem(product=each, quantity=1) for each in products))


@dataclass(frozen=True, kw_only=True)
class Case:
    age_ms: int = 120
    tier: int = 4
    replayed: bool = False
    people_known: bool = True
    money_known: bool = True
    list_age_s: int | None = 60
    money_age_s: int | None = 60
    hot_listed: bool = False
    credential_known: bool = True
    enrolled_tier: int = 4
    valid_from_utc_s: int = 1_000
    valid_until_utc_s: int = 9_000
    utc_s: int = 5_000
    cardholder_known: bool = True
    here: bool = True
    cardholder_suspended: bool = False
    allergens: frozenset[str] = frozenset()
    account_known: bool = True
    account_suspended: bool = False
    balance_minor_by_purse: Mapping[str, int] = field(
        default_factory=lambda: {"meals": 20_000, "buffet": 5_000}
    )
    day_limit_minor: int | None = 30_000
    week_limit_minor: int | None = 60_000
    spent_day_minor: int = 0
    spent_week_minor: int = 0
    spent_date: str = FRIDAY
    banned_products: frozenset[str] = frozenset()
    banned_categories: frozenset[str] = frozenset()
    tail: tuple[Spend, ...] = ()
    vector: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    tier_limit_minor: int = 40_000
    clock_trusted: bool = True
    base_date: str | None = None
    ambiguous: bool = False
    ask: Ask | None = None
    basket: Basket = field(default_factory=lambda: basket(SOUP, BAR))

    def decide(self) -> PurchaseDecision:
        account_id = "a1" if self.account_known else None
        people = ListState(version=Version(list_epoch=1, number=7), age_s=self.list_age_s)
        money = ListState(version=Version(list_epoch=1, number=9), age_s=self.money_age_s)
        credential = Credential(
            credential_id="c1",
            cardholder_id="h1",
            tier=self.enrolled_tier,
            valid_from_utc_s=self.valid_from_utc_s,
            valid_until_utc_s=self.valid_until_utc_s,
        )
        cardholder = Cardholder(
            cardholder_id="h1",
            category=Category.PUPIL,
            account_id=account_id,
            suspended=self.cardholder_suspended,
            here=self.here,
            windows_by_zone={},
            allergens=self.allergens,
        )
        account = Account(
            account_id="a1",
            suspended=self.account_suspended,
            balance_minor_by_purse=self.balance_minor_by_purse,
            day_limit_minor=self.day_limit_minor,
            week_limit_minor=self.week_limit_minor,
            spent_day_minor=self.spent_day_minor,
            spent_week_minor=self.spent_week_minor,
            spent_date=self.spent_date,
            banned_products=self.banned_products,
            banned_categories=self.banned_categories,
        )
        view = PurchaseView(
            people=people if self.people_known else None,
            money=money if self.money_known else None,
            hot_listed=self.hot_listed,
            credential=credential if self.credential_known else None,
            cardholder=cardholder if self.cardholder_known else None,
            account=account if self.account_known else None,
            tail=self.tail,
            vector=self.vector,
        )
        return decide_purchase(
            Presentation(
                credential_id="c1",
                age_ms=self.age_ms,
                tier=self.tier,
                replayed=self.replayed,
                ambiguous=self.ambiguous,
            ),
            self.basket,
            view,
            Now(
                utc_s=self.utc_s,
                minute_of_week=FRIDAY_1000,
                clock_trusted=self.clock_trusted,
            ),
            FRIDAY,
            PurchasePolicy(tier_limit_minor={4: self.tier_limit_minor}),
            base_date=self.base_date,
            ask=self.ask,
        )


CARD_SPOILERS: dict[PurchaseReason, dict[str, Any]] = {
    PurchaseReason.STALE_READ: {"age_ms": 2_001},
    PurchaseReason.NO_LIST: {"people_known": False},
    PurchaseReason.HOT_LISTED: {"hot_listed": True},
    PurchaseReason.TIER_BELOW_ENROLLED: {"enrolled_tier": 5},
    PurchaseReason.REPLAYED: {"replayed": True},
    PurchaseReason.UNKNOWN_CREDENTIAL: {"cardholder_known": False},
    PurchaseReason.WRONG_SITE: {"here": False},
    PurchaseReason.NOT_YET_VALID: {"valid_from_utc_s": 5_001},
    PurchaseReason.EXPIRED: {"valid_until_utc_s": 5_000},
}
MONEY_SPOILERS: dict[PurchaseReason, dict[str, Any]] = {
    PurchaseReason.ACCOUNT_SUSPENDED: {"account_suspended": True},
    PurchaseReason.ALLERGEN: {"allergens": frozenset({"nuts"})},
    PurchaseReason.BANNED: {"banned_categories": frozenset({"chocolate"})},
    PurchaseReason.DAY_LIMIT: {"day_limit_minor": TOTAL_MINOR - 1},
    PurchaseReason.WEEK_LIMIT: {"week_limit_minor": TOTAL_MINOR - 1},
    PurchaseReason.TIER_LIMIT: {"tier_limit_minor": TOTAL_MINOR - 1},
    PurchaseReason.FUNDS: {"balance_minor_by_purse": {"meals": 20_000, "buffet": 3_499}},
    PurchaseReason.OLD_BASE: {"money_age_s": 6 * 24 * HOUR_S},
}
SPOILERS = CARD_SPOILERS | MONEY_SPOILERS
NEEDS_THE_CLOCK = {PurchaseReason.NOT_YET_VALID, PurchaseReason.EXPIRED}
# Said of entitlements, and where a till has peers: in `test_tender.py` and `test_cover.py`.
SAID_ELSEWHERE = {PurchaseReason.MEAL_USED, PurchaseReason.ITEM_LIMIT, PurchaseReason.CAP}


def check(chosen: list[PurchaseReason], clock_trusted: bool) -> None:
    """Spoil a good case in all these ways; the list must find the first that applies."""
    case = Case(clock_trusted=clock_trusted)
    for reason in chosen:
        case = replace(case, **SPOILERS[reason])
    applies = [r for r in chosen if clock_trusted or r not in NEEDS_THE_CLOCK]
    decision = case.decide()
    assert decision.reason is next(iter(applies), PurchaseReason.AUTHORIZED), chosen
    assert decision.sold is (decision.reason is PurchaseReason.AUTHORIZED)
    assert bool(decision.postings) is decision.sold
    assert (Caveat.CLOCK_UNTRUSTED in decision.caveats) is not clock_trusted
    assert (Caveat.OLD_LIST in decision.caveats) is (PurchaseReason.OLD_BASE in chosen)


def test_every_reason_to_refuse_has_a_spoiler_in_checking_order() -> None:
    given_here = [reason for reason in PurchaseReason if reason not in SAID_ELSEWHERE]
    assert [*SPOILERS, PurchaseReason.AUTHORIZED] == given_here


@pytest.mark.parametrize("money", [[], list(MONEY_SPOILERS)], ids=["money right", "money wrong"])
def test_the_first_reason_about_the_card_is_given(money: list[PurchaseReason]) -> None:
    for *spoiled, clock_trusted in product((False, True), repeat=len(CARD_SPOILERS) + 1):
        chosen = [reason for reason, on in zip(CARD_SPOILERS, spoiled, strict=True) if on]
        check(chosen + money, clock_trusted)


def test_the_first_reason_about_the_money_is_given() -> None:
    for *spoiled, clock_trusted in product((False, True), repeat=len(MONEY_SPOILERS) + 1):
        check([r for r, on in zip(MONEY_SPOILERS, spoiled, strict=True) if on], clock_trusted)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(chosen=st.sets(st.sampled_from(list(SPOILERS))), clock_trusted=st.booleans())
def test_the_first_of_any_reasons_is_given(
    chosen: set[PurchaseReason], clock_trusted: bool
) -> None:
    check([reason for reason in SPOILERS if reason in chosen], clock_trusted)


@pytest.mark.parametrize(
    "last_moment",
    [
        {"age_ms": 2_000},
        {"tier": 5, "enrolled_tier": 5, "tier_limit_minor": 1},
        {"valid_from_utc_s": 5_000},
        {"valid_until_utc_s": 5_001},
        {"allergens": frozenset({"fish"})},
        {"banned_products": frozenset({"tea"}), "banned_categories": frozenset({"bar"})},
        {"day_limit_minor": TOTAL_MINOR},
        {"day_limit_minor": TOTAL_MINOR + 100, "spent_day_minor": 100},
        {"day_limit_minor": TOTAL_MINOR, "spent_day_minor": 100, "spent_date": "2026-03-05"},
        {"day_limit_minor": None, "week_limit_minor": None, "spent_day_minor": 10**9},
        {"week_limit_minor": TOTAL_MINOR + 100, "spent_week_minor": 100},
        {"week_limit_minor": TOTAL_MINOR, "spent_week_minor": 1, "spent_date": "2026-03-01"},
        {"tier_limit_minor": TOTAL_MINOR},
        {"balance_minor_by_purse": {"meals": 12_000, "buffet": 3_500}},
        {"money_age_s": 3 * 24 * HOUR_S + 10 * HOUR_S},  # Issued on Tuesday at midnight.
        {"money_age_s": None, "base_date": "2026-03-03", "clock_trusted": False},
    ],
    ids=str,
)
def test_the_last_moment_that_still_sells(last_moment: dict[str, Any]) -> None:
    decision = replace(Case(), **last_moment).decide()
    assert decision.reason is PurchaseReason.AUTHORIZED


def spend(amount_minor: int, business_date: str = FRIDAY, purse: str = "meals") -> Spend:
    return Spend(
        device="till-1",
        epoch="e1",
        sequence=5,
        purse=purse,
        amount_minor=amount_minor,
        business_date=business_date,
    )


INCLUDED = {("till-1", "main", "e1"): 5}


@pytest.mark.parametrize(
    ("spoiler", "reason"),
    [
        ({"credential_known": False}, "unknown_credential"),
        ({"credential_known": False, "cardholder_known": False}, "unknown_credential"),
        ({"money_known": False}, "no_list"),
        ({"cardholder_suspended": True}, "account_suspended"),
        ({"account_known": False}, "account_suspended"),
        ({"banned_products": frozenset({"soup"})}, "banned"),
        ({"spent_day_minor": 14_501}, "day_limit"),
        ({"tail": (spend(14_501, purse="buffet"),)}, "day_limit"),
        ({"spent_week_minor": 44_501}, "week_limit"),
        ({"tail": (spend(44_501, "2026-03-02"),)}, "week_limit"),
        ({"tail": (spend(8_001, "2026-02-27"),)}, "funds"),
        ({"balance_minor_by_purse": {"meals": 20_000}}, "funds"),
        ({"money_age_s": 3 * 24 * HOUR_S + 10 * HOUR_S + 1}, "old_base"),
        ({"money_age_s": None}, "old_base"),
        ({"money_age_s": None, "base_date": "2026-03-02", "clock_trusted": False}, "old_base"),
    ],
    ids=str,
)
def test_the_first_moment_that_does_not(spoiler: dict[str, Any], reason: str) -> None:
    assert replace(Case(), **spoiler).decide().reason.value == reason


@pytest.mark.parametrize("ask", [Ask(), Ask(emergency=True)], ids=["paid", "emergency"])
def test_a_read_of_two_cards_is_nobodys_purchase(ask: Ask) -> None:
    assert Case(ask=ask).decide().sold
    assert Case(ask=ask, ambiguous=True).decide().reason is PurchaseReason.TIER_LIMIT


def test_what_a_base_includes_counts_once() -> None:
    assert replace(Case(), tail=(spend(20_000),), vector=INCLUDED).decide().sold
    assert not replace(Case(), tail=(spend(20_000),)).decide().sold


def test_a_sale_is_posted_purse_by_purse() -> None:
    decision = Case().decide()
    plain = replace(decision, lines=(), paid=(), on_account=(), account_minor_by_purse={})
    assert plain == PurchaseDecision(
        sold=True,
        reason=PurchaseReason.AUTHORIZED,
        caveats=(),
        tender=Tender.ACCOUNT,
        total_minor=TOTAL_MINOR,
        postings=(
            Posting(account_id="a1", purse="buffet", amount_minor=-3_500),
            Posting(account_id=TAKINGS_ACCOUNT, purse="buffet", amount_minor=3_500),
            Posting(account_id="a1", purse="meals", amount_minor=-12_000),
            Posting(account_id=TAKINGS_ACCOUNT, purse="meals", amount_minor=12_000),
        ),
        available_after_minor=9_500,
    )


def test_allergens_fail_closed() -> None:
    unchecked = replace(SOUP, allergens=frozenset(), allergens_checked=False)
    case = Case(basket=basket(unchecked), allergens=frozenset({"fish"}))
    assert case.decide().reason is PurchaseReason.ALLERGEN
    assert replace(case, allergens=frozenset()).decide().sold


@pytest.mark.parametrize(
    ("spoiler", "without", "total_without_minor"),
    [
        ({"allergens": frozenset({"nuts"})}, ["bar"], 12_000),
        ({"banned_products": frozenset({"bar"})}, ["bar"], 12_000),
        ({"banned_categories": frozenset({"hot"})}, ["soup"], 3_500),
        # Both are in the way, and the rest is dropped for either.
        (
            {
                "allergens": frozenset({"nuts"}),
                "banned_categories": frozenset({"hot"}),
                "basket": basket(SOUP, BAR, replace(SOUP, product_id="tea", category="drink")),
            },
            ["soup", "bar"],
            12_000,
        ),
        # Nothing would be left, or what is left would not be sold either.
        ({"banned_categories": frozenset({"hot", "chocolate"})}, [], None),
        ({"allergens": frozenset({"nuts"}), "day_limit_minor": 11_999}, [], None),
        # Where a product is not the reason, no product is named.
        ({"day_limit_minor": 12_000}, [], None),
    ],
    ids=str,
)
def test_what_would_be_allowed(
    spoiler: dict[str, Any], without: list[str], total_without_minor: int | None
) -> None:
    case = replace(Case(), **spoiler)
    decision = case.decide()
    assert not decision.sold
    assert [line.product.product_id for line in decision.without] == without
    assert decision.total_without_minor == total_without_minor
    if decision.without:
        rest = replace(case, basket=case.basket.without(decision.without)).decide()
        assert rest.sold
        assert rest.total_minor == total_without_minor


@pytest.mark.parametrize(
    ("spoiler", "short_minor"),
    [
        ({"day_limit_minor": TOTAL_MINOR - 700}, 700),
        ({"day_limit_minor": 0}, TOTAL_MINOR),
        ({"spent_day_minor": 99_000}, TOTAL_MINOR),
        ({"week_limit_minor": TOTAL_MINOR - 1}, 1),
        ({"tier_limit_minor": TOTAL_MINOR - 1}, 1),
        ({"balance_minor_by_purse": {"meals": 11_000, "buffet": 3_400}}, 1_100),
        ({"balance_minor_by_purse": {"meals": -500, "buffet": 3_500}}, 12_000),
        ({"hot_listed": True}, 0),
    ],
    ids=str,
)
def test_by_how_much_a_basket_is_too_dear(spoiler: dict[str, Any], short_minor: int) -> None:
    assert replace(Case(), **spoiler).decide().short_minor == short_minor


def test_what_costs_nothing_is_sold_from_an_overdrawn_account() -> None:
    water = replace(SOUP, price_minor=0)
    case = Case(
        basket=basket(water), balance_minor_by_purse={"meals": -500}, spent_day_minor=90_000
    )
    decision = case.decide()
    assert decision.sold
    assert decision.postings == ()
    assert decision.available_after_minor == -500


@pytest.mark.parametrize(
    ("ages", "old"),
    [((86_400, 86_400), False), ((86_401, 60), True), ((60, 86_401), True), ((None, 60), True)],
)
def test_an_old_list_still_decides_and_says_so(
    ages: tuple[int | None, int | None], old: bool
) -> None:
    decision = Case(list_age_s=ages[0], money_age_s=ages[1]).decide()
    assert decision.sold
    assert (decision.caveats == (Caveat.OLD_LIST,)) is old
