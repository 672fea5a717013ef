"""Goal: every piece has one payer, the parts make the total to the kopeck, purse by purse; a right
pays a piece of each of its categories and no more; who may serve whom is one till's alone.

Method: seeded samples of baskets, rights and orders against sums made anew here; every weekday and
date around a right's edges; the owner of many people over changing rosters.
"""

from __future__ import annotations

from itertools import product as every

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model import Entitlement, LineItem, PeerTill, Preorder, Product, Tender, meal_claim
from edge.pos.basket import Basket, amount_minor
from edge.pos.entitlement import (
    Occasion,
    Serving,
    current_slot,
    is_due,
    owner_by_person,
    owner_of,
    servings,
    used,
)
from edge.pos.ledger import EMERGENCY_ACCOUNT
from edge.pos.tender import Ask, plan_tenders

CATEGORIES = ("hot", "drink", "salad")
DAY = "2026-03-06"  # A Friday.
TENDERS = (Tender.PREORDER, Tender.ENTITLEMENT, Tender.ACCOUNT, Tender.CASH)


def product(number: int, *, price_minor: int = 1_000, weighed: bool = False) -> Product:
    return Product(
        product_id=f"p{number}",
        name=f"p{number}",
        category=CATEGORIES[number % len(CATEGORIES)],
        price_minor=price_minor,
        allergens=frozenset(),
        allergens_checked=True,
        purse=("meals", "buffet")[number % 2],
        weighed=weighed,
    )


def right(name: str = "e1", *, owner: str = "", **more: object) -> Entitlement:
    fields: dict[str, object] = {
        "slots": ("lunch",),
        "categories": ("hot", "drink"),
        "first_date": "2026-03-02",
        "last_date": "2026-03-31",
        "weekdays": (1, 2, 3, 4, 5),
        "except_dates": ("2026-03-09",),
    }
    return Entitlement(entitlement_id=name, owner_till=owner, **fields | more)  # type: ignore[arg-type]


@st.composite
def baskets(draw: st.DrawFn) -> Basket:
    lines = []
    for number in draw(st.sets(st.integers(0, 7), min_size=1, max_size=5)):
        weighed = number == 7
        price_minor = draw(st.integers(0, 20_000))
        lines.append(
            LineItem(
                product=product(number, price_minor=price_minor, weighed=weighed),
                quantity=1 if weighed else draw(st.integers(1, 3)),
                grams=draw(st.integers(1, 2_000)) if weighed else 0,
            )
        )
    return Basket(lines=tuple(lines))


@st.composite
def orders(draw: st.DrawFn) -> Preorder:
    lines = draw(
        st.lists(
            st.tuples(
                st.sampled_from([f"p{n}" for n in (0, 1, 2, 3, 4, 5, 7)]),
                st.integers(1, 2),
                st.integers(0, 900),
            ),
            min_size=1,
            max_size=2,
        )
    )
    return Preorder(
        preorder_id=draw(st.sampled_from(["o1", "o2"])),
        business_date=DAY,
        slot="lunch",
        lines=tuple(lines),
        charged=draw(st.booleans()),
    )


@settings(derandomize=True, deadline=None, max_examples=400)
@given(
    basket=baskets(),
    tenders=st.sets(st.sampled_from(TENDERS)),
    rights=st.lists(st.sampled_from(["hot", "drink", "salad"]), max_size=3, unique=True),
    ordered=st.lists(orders(), max_size=2, unique_by=lambda one: one.preorder_id),
    emergency=st.booleans(),
    has_account=st.booleans(),
)
def test_every_piece_has_one_payer_and_the_parts_make_the_total(
    basket: Basket,
    tenders: set[Tender],
    rights: list[str],
    ordered: list[Preorder],
    emergency: bool,
    has_account: bool,
) -> None:
    ask = Ask(tenders=tuple(one for one in TENDERS if one in tenders), emergency=emergency)
    meals = [Serving(entitlement=right(f"e {c}", categories=(c,))) for c in rights]
    plan = plan_tenders(basket, ask, meals, ordered, has_account=has_account)
    sold = {line.product.product_id: line.quantity for line in basket.lines}
    for line in plan.lines:
        sold[line.line.product.product_id] -= line.quantity
    assert set(sold.values()) == {0}, "nothing is lost or sold twice"
    paid = sum(part.amount_minor for part in plan.paid)
    assert paid + plan.unpaid_minor == plan.total_minor == sum(x.amount_minor for x in plan.lines)
    if not plan.preorders:
        assert plan.total_minor == basket.total_minor
    allowed = {Tender.EMERGENCY} if emergency else tenders
    assert {part.tender for part in plan.paid} <= allowed
    postings = plan.postings("a1")
    for purse in {p.purse for p in postings}:
        assert sum(p.amount_minor for p in postings if p.purse == purse) == 0
    owed = -sum(p.amount_minor for p in postings if p.account_id == "a1")
    assert owed == sum(plan.account_minor_by_purse.values())
    if emergency:
        ours = -sum(p.amount_minor for p in postings if p.account_id == EMERGENCY_ACCOUNT)
        assert (owed, ours) == ((paid, 0) if has_account else (0, paid)), "one of them pays"
    free = sum(p.amount_minor for p in plan.paid if p.tender is Tender.ENTITLEMENT)
    assert free == sum(line.amount_minor for line in plan.by_right)
    assert len(plan.meals) <= len(meals)
    charged = {one.preorder_id for one in ordered if one.charged}
    if not {Tender.ACCOUNT, Tender.CASH} & tenders:
        collected = {one.preorder_id for one in plan.preorders}
        assert collected <= charged, "somebody pays for what is not charged yet"
    if plan.unpaid:
        assert not {Tender.ACCOUNT, Tender.CASH} & tenders and not emergency


def test_a_weighed_lot_is_paid_by_its_orders_and_then_by_the_rest() -> None:
    salad = product(7, price_minor=40_000, weighed=True)
    basket = Basket(lines=(LineItem(product=salad, quantity=1, grams=300),))
    ordered = [
        Preorder(
            preorder_id=name, business_date=DAY, slot="lunch", lines=(("p7", n, 2_000),), charged=c
        )
        for name, n, c in (("o1", 2, True), ("o2", 1, False))
    ]
    for tenders, paid, unpaid_minor in (
        (Ask().tenders, {Tender.PREORDER: 4_000, Tender.ACCOUNT: 8_000}, 0),
        ((Tender.PREORDER, Tender.CASH), {Tender.PREORDER: 4_000, Tender.CASH: 8_000}, 0),
        ((Tender.PREORDER,), {Tender.PREORDER: 4_000}, 8_000),
    ):
        plan = plan_tenders(basket, Ask(tenders=tenders), [], ordered)
        assert {part.tender: part.amount_minor for part in plan.paid} == paid
        assert (plan.total_minor, plan.unpaid_minor) == (12_000, unpaid_minor)
        assert [(line.quantity, line.line.grams) for line in plan.lines] == [(1, 300)]
    light = Basket(lines=(LineItem(product=salad, quantity=1, grams=50),))
    plan = plan_tenders(light, Ask(), [], ordered[:1])
    assert [(p.tender, p.amount_minor) for p in plan.paid] == [(Tender.PREORDER, 2_000)]


def test_a_right_pays_for_the_dearest_piece_of_each_category() -> None:
    cheap, dear, drink = (
        product(0, price_minor=500),
        product(3, price_minor=900),
        product(1, price_minor=100),
    )
    basket = Basket(lines=tuple(LineItem(product=one, quantity=2) for one in (cheap, dear, drink)))
    plan = plan_tenders(basket, Ask(), [Serving(entitlement=right())], [])
    by_right = sum(p.amount_minor for p in plan.paid if p.tender is Tender.ENTITLEMENT)
    assert by_right == 900 + 100
    assert sum(plan.account_minor_by_purse.values()) == 2 * 500 + 900 + 100


def test_a_right_that_pays_for_nothing_is_not_used() -> None:
    basket = Basket(lines=(LineItem(product=product(2), quantity=1),))
    assert plan_tenders(basket, Ask(), [Serving(entitlement=right())], []).meals == ()


def test_by_weight_half_a_unit_is_rounded_up() -> None:
    for price_minor, grams in every((1, 499, 500, 501, 45_050), (1, 2, 499, 500, 999, 1_000)):
        line = LineItem(
            product=product(7, price_minor=price_minor, weighed=True), quantity=1, grams=grams
        )
        thousandths = price_minor * grams
        assert abs(1_000 * amount_minor(line) - thousandths) <= 500
        assert amount_minor(line) == int(thousandths / 1_000 + 0.5)


# ------------------------------------------------------------------------------- rights


@pytest.mark.parametrize(
    ("date", "due"),
    [
        ("2026-03-01", False),
        ("2026-03-02", True),
        ("2026-03-07", False),
        ("2026-03-09", False),
        ("2026-03-31", True),
        ("2026-04-01", False),
        ("no date", False),
    ],
)
def test_the_dates_a_right_holds_on(date: str, due: bool) -> None:
    assert is_due(right(), date, "lunch") is due
    assert not is_due(right(), date, "supper")


def test_five_meals_a_day() -> None:
    slots = ("breakfast", "snack", "lunch", "tea", "supper")
    one = right(slots=slots)
    served: set[str] = set()
    for slot in slots:
        occasion = Occasion(cardholder_id="h", business_date=DAY, slot=slot, device="t", peers=())
        (meal,) = servings([one], served, occasion)
        assert not meal.unconfirmed
        served.add(meal_claim(DAY, slot, "e1"))
        assert servings([one], served, occasion) == ()
        assert used([one], served, occasion) == (one,)


def test_the_slot_of_a_minute() -> None:
    slots = {"breakfast": (480, 600), "late": (590, 700)}
    assert [current_slot(slots, m) for m in (479, 480, 589, 590, 699, 700)] == [
        *("", "breakfast", "breakfast", "late", "late", ""),
    ]


TILLS = ("till-1", "till-2", "till-3")


def test_every_person_has_one_owner_and_moves_only_when_it_goes() -> None:
    people = [f"h{n}" for n in range(300)]
    owners = {one: owner_by_person(one, TILLS) for one in people}
    assert {sum(o == till for o in owners.values()) > 60 for till in TILLS} == {True}
    for one, owner in owners.items():
        left = [till for till in TILLS if till != "till-3"]
        assert owner == "till-3" or owner_by_person(one, left) == owner
        assert owner_of(right(owner="till-2"), one, TILLS) == "till-2"
        assert owner_of(right(owner="gone"), one, TILLS) == owner


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    person=st.integers(0, 50),
    heard=st.tuples(st.booleans(), st.booleans()),
    device=st.sampled_from(TILLS),
    claimed=st.sets(st.sampled_from(["e1", "e2", "e3"])),
)
def test_silently_only_what_no_other_till_can_serve_silently(
    person: int, heard: tuple[bool, bool], device: str, claimed: set[str]
) -> None:
    others = [till for till in TILLS if till != device]
    occasion = Occasion(
        cardholder_id=f"h{person}",
        business_date=DAY,
        slot="lunch",
        device=device,
        peers=tuple(
            PeerTill(device=till, heard=on, complete=True, covers={})
            for till, on in zip(others, heard, strict=True)
        ),
    )
    rights = [right(name) for name in ("e1", "e2", "e3")]
    claims = {meal_claim(DAY, "lunch", name) for name in claimed}
    found = servings(rights, claims, occasion)
    left = [name for name in ("e1", "e2", "e3") if name not in claimed]
    assert [one.entitlement.entitlement_id for one in found] == left[: len(found)]
    mine = owner_by_person(f"h{person}", TILLS) == device
    if all(heard) or mine:
        assert len(found) == len(left) and not any(one.unconfirmed for one in found)
    else:
        assert len(found) == (1 if left and not claimed else 0), "a stranger eats once a slot"
        assert all(one.unconfirmed for one in found)
