"""Goal: whatever is given back of a sale, and in however many goes, is money that was paid for it:
never more of a line than was sold, never more by a tender than it paid, never a meal by right; and
the city, which judges by itself, agrees with every kopeck.

Method: seeded samples of baskets, rights and orders, paid for by the till's own plan; then refunds
at random until nothing is left. Examples a person reads are in tests/test_till_refund.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edge.messages import Refund, SaleFact, TenderPart, Void
from edge.model import Preorder, Tender
from edge.pos.basket import Basket
from edge.pos.entitlement import Serving
from edge.pos.refund import GivenBack, RefundProblem, give_back, lines_left
from edge.pos.tender import Ask, Plan, plan_tenders
from edge.till_facts import wire_lines, wire_postings
from hil.city.returns import given_back, paid_in_money
from hil.city.sales import amounts_agree
from tests.pos.test_tender import baskets, orders, product, right
from tests.support import facts

SITE = facts.stamp()["site"]
ACCOUNT = "a1"


def sale_of(plan: Plan, *, account: str = ACCOUNT) -> SaleFact:
    kinds = {part.tender for part in plan.paid}
    parts = tuple(
        TenderPart(tender=p.tender, amount_minor=p.amount_minor, purse=p.purse) for p in plan.paid
    )
    header = facts.stamp(1, "")
    return structs.replace(
        facts.sale(header, account=account, business_date="2026-03-06"),
        lines=wire_lines(plan.lines),
        total_minor=plan.total_minor,
        tender=plan.paid[0].tender,
        postings=wire_postings(plan.postings(account), SITE),
        tenders=parts if len(kinds) > 1 else (),
        by_right=wire_lines(plan.by_right) if len(kinds) > 1 else (),
        preorders=(),
    )


def refund_of(sale: SaleFact, back: GivenBack, sequence: int) -> Refund:
    return Refund(
        **facts.stamp(sequence, ""),
        sale_device=sale.device,
        sale_epoch=sale.epoch,
        sale=sale.sequence,
        account=sale.account,
        postings=back.postings,
        business_date="2026-03-06",
        why="cold",
        cashier="cook",
        supervisor="boss",
        lines=back.lines,
        tenders=back.tenders,
    )


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    data=st.data(),
    basket=baskets(),
    ask=st.sampled_from(
        [Ask(), Ask(tenders=(Tender.CASH,)), Ask(emergency=True), Ask(tenders=(Tender.ACCOUNT,))]
    ),
    rights=st.lists(st.sampled_from(["hot", "drink", "salad"]), max_size=2, unique=True),
    ordered=st.lists(orders(), max_size=2, unique_by=lambda one: one.preorder_id),
    has_account=st.booleans(),
)
def test_what_comes_back_was_paid_in_money_and_the_city_agrees(
    data: st.DataObject,
    basket: Basket,
    ask: Ask,
    rights: list[str],
    ordered: list[Preorder],
    has_account: bool,
) -> None:
    meals = [Serving(entitlement=right(f"e {c}", categories=(c,))) for c in rights]
    account = ACCOUNT if has_account or not ask.emergency else ""
    plan = plan_tenders(basket, ask, meals, ordered, has_account=bool(account))
    if plan.total_minor == 0 or plan.unpaid_minor:
        return
    sale = sale_of(plan, account="" if ask.tenders == (Tender.CASH,) else account)
    assert amounts_agree(sale, SITE)
    purses = {line.product.product_id: line.product.purse for line in basket.lines}
    paid = Counter[Tender]()
    for one in plan.paid:
        paid[one.tender] += one.amount_minor
    undone: list[Refund] = []
    money = paid_in_money(sale, SITE)
    sold = Counter({(one.product, one.price_minor): one.quantity for one in sale.money_lines()})
    for sequence in range(2, 6):
        left = lines_left(sale, undone)
        assert all(one.left == sold[one.line.product, one.line.price_minor] for one in left), (
            "a line that is left can be given back, and no other"
        )
        last = sequence == 5
        chosen = (
            None
            if last
            else {
                (one.line.product, one.line.price_minor): pieces
                for one in left
                if (pieces := data.draw(st.integers(0, one.left)))
            }
        )
        back = give_back(sale, undone, chosen, purses, own=True)
        if isinstance(back, RefundProblem):
            assert back is RefundProblem.NO_MONEY
            continue
        refund = refund_of(sale, back, sequence)
        judged = given_back(refund, sale, SITE)
        assert judged is not None, "the city cannot follow"
        money.subtract(judged)
        assert min(money.values()) >= 0, "the city has given back more than was paid"
        for line in back.lines:
            sold[line.product, line.price_minor] -= line.quantity
        undone.append(refund)
    returned = Counter[Tender]()
    for told in undone:
        for part in told.tenders:
            returned[part.tender] += part.amount_minor
    paid.pop(Tender.ENTITLEMENT, None)
    assert returned == +paid, "all of the money, in the end, and nothing but it"


def test_a_void_ends_it_and_a_refund_without_lines_too() -> None:
    plan = plan_tenders(_soup(), Ask(), [], [])
    sale = sale_of(plan)
    back = give_back(sale, (), None, {}, own=True)
    assert isinstance(back, GivenBack)
    told = structs.replace(refund_of(sale, back, 2), lines=())
    assert [one.left for one in lines_left(sale, [told])] == [0], "how much of it, nobody knows"
    void = Void(
        **facts.stamp(2, ""),
        sale_epoch=sale.epoch,
        sale=sale.sequence,
        account=ACCOUNT,
        postings=(),
        business_date="2026-03-06",
        why="cashier",
    )
    assert give_back(sale, [void], None, {}, own=True) is RefundProblem.VOIDED
    assert [one.left for one in lines_left(sale, [void])] == [0]


def test_only_what_money_paid_for_is_a_line_to_give_back() -> None:
    meals = [Serving(entitlement=right("e1", categories=("hot",)))]
    two = _soup().add(product(2, price_minor=400))
    assert isinstance(two, Basket)
    mixed = sale_of(plan_tenders(two, Ask(), meals, []))
    assert [line.product for line in mixed.money_lines()] == ["p2"]
    assert structs.replace(mixed, by_right=()).money_lines() == (), "nobody says which"
    assert sale_of(plan_tenders(_soup(), Ask(), meals, [])).money_lines() == ()
    assert mixed.money_lines() != mixed.lines == sale_of(plan_tenders(two, Ask(), [], [])).lines


def test_a_tender_gives_back_no_more_than_it_paid() -> None:
    """The account first, and what it does not owe any more comes from the order."""
    ordered = Preorder(
        preorder_id="o1",
        business_date="2026-03-06",
        slot="lunch",
        lines=(("p0", 1, 900),),
        charged=True,
    )
    basket = _soup().add(product(2, price_minor=400))
    assert isinstance(basket, Basket)
    sale = sale_of(plan_tenders(basket, Ask(), [], [ordered]))
    for first, parts, rest in (
        (("p2", 400), {Tender.ACCOUNT: 400}, {Tender.PREORDER: 900}),
        (("p0", 900), {Tender.ACCOUNT: 400, Tender.PREORDER: 500}, {Tender.PREORDER: 400}),
    ):
        back = give_back(sale, (), {first: 1}, {}, own=True)
        assert isinstance(back, GivenBack)
        assert {part.tender: part.amount_minor for part in back.tenders} == parts
        more = give_back(sale, [refund_of(sale, back, 2)], None, {}, own=True)
        assert isinstance(more, GivenBack)
        assert {part.tender: part.amount_minor for part in more.tenders} == rest


def test_what_was_charged_needs_an_account_to_go_back_to() -> None:
    ordered = Preorder(
        preorder_id="o1",
        business_date="2026-03-06",
        slot="lunch",
        lines=(("p0", 1, 900),),
        charged=True,
    )
    sale = sale_of(plan_tenders(_soup(), Ask(), [], [ordered], has_account=False), account="")
    assert give_back(sale, (), None, {}, own=True) is RefundProblem.NO_ACCOUNT


def _soup() -> Basket:
    basket = Basket().add(product(0))
    assert isinstance(basket, Basket)
    return basket


def test_a_dish_that_the_menu_has_moved_to_another_purse_is_not_paid_back_from_there() -> None:
    dear, cheap = product(0, price_minor=900), product(2, price_minor=400)
    basket = Basket()
    for one, purse in ((dear, "hot"), (cheap, "buffet")):
        more = basket.add(replace(one, purse=purse))
        assert isinstance(more, Basket)
        basket = more
    sale = sale_of(plan_tenders(basket, Ask(), [], []))
    bun = {("p2", 400): 1}
    for purses in ({"p0": "hot", "p2": "buffet"}, {"p2": "buffet"}):  # The soup is gone since.
        back = give_back(sale, (), bun, purses, own=True)
        assert isinstance(back, GivenBack)
        assert [(part.purse, part.amount_minor) for part in back.tenders] == [("buffet", 400)]
    moved = {"p0": "hot", "p2": "hot"}
    assert give_back(sale, (), bun, moved, own=True) is RefundProblem.PURSE
