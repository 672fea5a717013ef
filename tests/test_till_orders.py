"""Goal: what was ordered is handed over though it is weighed first, or though the menu has it no
more: the cashier is told which dish, weighs it or gives something else with a reason, or hands over
the rest; a heavier dish costs the account the difference, a lighter one leaves it with the city.

Method: the real agent of a till on real files, through the requests of the cashier's page; facts
are read back from the journal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.messages import PreorderRow, PreorderUse, ProductRow, SaleFact, TenderPart
from edge.model import Tender
from hil.bench.station import DEVICE, SITE
from tests.support.tills import LUNCH, OTHER, Lists, Till, open_till, site

DAY = "2026-03-08"
SALAD = ProductRow(
    name="Салат",
    category="salad",
    price_minor=40_000,  # A kilogram.
    allergens=(),
    allergens_checked=True,
    purse="hot",
    unit="kg",
)


def order(*lines: tuple[str, int, int], charged: bool = True) -> PreorderRow:
    return PreorderRow(business_date=DAY, slot=LUNCH, lines=lines, charged=charged)


def lists(*lines: tuple[str, int, int], charged: bool = True, **more: Any) -> Lists:
    orders = {(3, "o1"): order(*lines, charged=charged)}
    return Lists(products={"salad": SALAD}, **{"orders": orders} | more)


def collect(till: Till, number: int = 3) -> dict[str, Any]:
    till.bench.step(5_000)
    assert till.ask("charge", collect=True)["ok"]
    return shown(till, number)


def shown(till: Till, number: int = 3) -> dict[str, Any]:
    till.bench.step(10)
    till.bench.tap(number)
    return till.bench.screen()


def sale(till: Till) -> SaleFact:
    made = till.last()
    assert isinstance(made, SaleFact)
    return made


def needs(screen: dict[str, Any]) -> list[tuple[str, str]]:
    return [(line["product"], line["need"]) for line in screen["order"]]


@pytest.mark.parametrize(
    ("grams", "parts"),
    [
        (200, [(Tender.PREORDER, 14_000)]),  # As ordered.
        (150, [(Tender.PREORDER, 12_000)]),  # Lighter: the city gives the difference back.
        (250, [(Tender.PREORDER, 14_000), (Tender.ACCOUNT, 2_000)]),  # Heavier.
    ],
)
def test_a_weighed_dish_costs_what_it_weighs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grams: int, parts: list[tuple[Tender, int]]
) -> None:
    ordered = lists(("soup", 1, 6_000), ("salad", 1, 8_000))
    with open_till(tmp_path, monkeypatch, ordered) as till:
        till.hear(OTHER)
        screen = collect(till)
        assert screen["reason"] == "notice.order_weigh"
        assert needs(screen) == [("soup", ""), ("salad", "weight")]
        assert not till.ask("prepare", grams={"soup": 100})["ok"], "nothing to weigh"
        for wrong in (0, -1, 20_001, "200", True, None):
            assert not till.ask("prepare", grams={"salad": wrong})["ok"]
        assert till.ask("prepare", grams={"salad": grams})["ok"]
        assert shown(till)["state"] == "sold"
        made = sale(till)
        assert made.preorders == (PreorderUse(preorder="o1"),)
        assert made.total_minor == 6_000 + 40 * grams == sum(x.amount_minor for x in made.lines)
        told = made.tenders or (TenderPart(tender=made.tender, amount_minor=made.total_minor),)
        assert [(part.tender, part.amount_minor) for part in told] == parts
        assert sum(p.amount_minor for p in made.postings) == 0
        taken = -sum(p.amount_minor for p in made.postings if p.account == f"preorders:{SITE}")
        assert taken == parts[0][1]
        assert made.pieces() == ({} if made.tenders else {"hot": 1, "salad": 1})
        assert till.bench.screen()["order"] == []


def test_a_dish_too_heavy_for_the_account_is_weighed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = lists(("salad", 1, 8_000), balance_minor={"hot": 1_000})
    with open_till(tmp_path, monkeypatch, ordered) as till:
        till.hear(OTHER)
        collect(till)
        till.ask("prepare", grams={"salad": 300})
        screen = shown(till)
        assert (screen["reason"], screen["short"]) == ("purchase.funds", "30.00 ₽")
        assert [line["grams"] for line in screen["order"]] == [300], "still on the page"
        till.bench.step(5_000)
        assert till.ask("prepare", grams={"salad": 225})["ok"]
        assert shown(till)["state"] == "sold"
        assert sale(till).total_minor == 9_000


def test_a_till_that_takes_no_money_hands_over_no_more_than_was_ordered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = lists(("salad", 1, 8_000), site=site(issue_only_tills=(DEVICE,)))
    with open_till(tmp_path, monkeypatch, ordered) as till:
        till.hear(OTHER)
        collect(till)
        till.ask("prepare", grams={"salad": 201})
        screen = shown(till)
        assert (screen["reason"], screen["short"]) == ("purchase.funds", "0.40 ₽")
        till.bench.step(5_000)
        till.ask("prepare", grams={"salad": 200})
        assert shown(till)["state"] == "sold"


def test_two_orders_of_one_dish_are_one_lot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = {(3, "o1"): order(("salad", 1, 8_000)), (3, "o2"): order(("salad", 2, 6_000))}
    with open_till(tmp_path, monkeypatch, lists(orders=orders)) as till:
        till.hear(OTHER)
        collect(till)
        till.ask("prepare", grams={"salad": 510})
        assert shown(till)["state"] == "sold"
        made = sale(till)
        assert [use.preorder for use in made.preorders] == ["o1", "o2"]
        assert made.total_minor == 20_400
        assert [(p.tender, p.amount_minor) for p in made.tenders] == [
            (Tender.PREORDER, 20_000),
            (Tender.ACCOUNT, 400),
        ]


def test_what_is_not_charged_yet_goes_on_account_by_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, lists(("salad", 1, 8_000), charged=False)) as till:
        till.hear(OTHER)
        till.ask("basket", lines=[["salad", 1, 100]])
        assert shown(till)["state"] == "sold", "rung up by hand it is the same"
        made = sale(till)
        assert (made.tender, made.total_minor) == (Tender.ACCOUNT, 4_000)
        assert made.preorders == (PreorderUse(preorder="o1"),) and made.pieces() == {"salad": 1}


def test_what_the_menu_lacks_is_named_and_replaced_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = lists(("soup", 1, 8_000), ("compote", 1, 2_500), off_menu=("soup",))
    with open_till(tmp_path, monkeypatch, ordered) as till:
        till.hear(OTHER)
        screen = collect(till)
        assert screen["reason"] == "notice.order_off_menu"
        assert needs(screen) == [("soup", "off_menu"), ("compote", "")]
        assert not till.ask("prepare", given={"soup": "cutlet"})["ok"], "why?"
        assert not till.ask("prepare", given={"soup": "caviar"}, why="ran out")["ok"]
        assert till.ask("prepare", given={"soup": "cutlet"}, why="ran out")["ok"]
        assert shown(till)["state"] == "sold"
        made = sale(till)
        assert made.preorders == (PreorderUse(preorder="o1", substituted=True, why="ran out"),)
        assert {line.product for line in made.lines} == {"cutlet", "compote"}
        assert made.total_minor == 10_500, "at the price that was ordered"


def test_a_weighed_dish_may_stand_in_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, lists(("gone", 1, 8_000))) as till:
        till.hear(OTHER)
        collect(till)
        till.ask("prepare", given={"gone": "salad"}, why="ran out")
        screen = shown(till)
        assert screen["reason"] == "notice.order_weigh"
        wish = {"given": {"gone": "salad"}, "why": "ran out"}
        assert till.ask("prepare", grams={"salad": 190}, **wish)["ok"]
        assert shown(till)["state"] == "sold"
        assert sale(till).total_minor == 7_600


def test_the_rest_is_handed_over_and_what_lacks_something_stays_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = {(3, "o1"): order(("gone", 1, 8_000)), (3, "o2"): order(("compote", 1, 2_500))}
    with open_till(tmp_path, monkeypatch, lists(orders=orders)) as till:
        till.hear(OTHER)
        assert needs(collect(till)) == [("gone", "off_menu"), ("compote", "")]
        assert not any(isinstance(fact, SaleFact) for fact in till.facts()), "nothing in silence"
        assert till.ask("prepare", rest=True)["ok"]
        assert shown(till)["state"] == "sold"
        assert sale(till).preorders == (PreorderUse(preorder="o2"),)
        screen = collect(till)
        assert needs(screen) == [("gone", "off_menu")]


def test_what_was_made_ready_for_one_child_is_not_handed_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = {(n, f"o{n}"): order(("salad", 1, 8_000)) for n in (3, 4)}
    with open_till(tmp_path, monkeypatch, lists(orders=orders)) as till:
        till.hear(OTHER)
        collect(till, 3)
        till.ask("prepare", grams={"salad": 200})
        assert shown(till, 4)["reason"] == "notice.order_weigh"
        till.ask("prepare", grams={"salad": 190})
        assert shown(till, 4)["state"] == "sold"
        assert sale(till).total_minor == 7_600
        assert needs(collect(till, 3)) == [("salad", "weight")], "nor is the former weight kept"
        till.bench.step(301_000)
        assert till.bench.screen()["order"] == [], "left alone"


def test_an_order_is_handed_over_as_one_whatever_else_was_to_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on account, at the menu's price, and still due."""
    with open_till(tmp_path, monkeypatch, lists(("compote", 1, 2_000))) as till:
        till.hear(OTHER)
        assert till.ask("tender", tenders=["account"])["ok"]
        till.bench.step(5_000)
        assert till.ask("charge", collect=True)["ok"]
        assert till.ask("tender", tenders=["account"])["ok"], "and once more"
        assert shown(till)["state"] == "sold"
        assert (sale(till).tender, sale(till).total_minor) == (Tender.PREORDER, 2_000)
        assert sale(till).preorders == (PreorderUse(preorder="o1"),)


def test_a_till_that_hands_over_no_orders_sells_none_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = lists(("compote", 1, 2_000), site=site(tenders=(Tender.ACCOUNT,)))
    with open_till(tmp_path, monkeypatch, ordered) as till:
        till.hear(OTHER)
        refused = till.ask("charge", collect=True)
        assert not refused["ok"] and "no orders" in refused["error"]
        assert shown(till)["state"] == "notice" and till.facts() == []


def test_a_supervisors_word_for_a_basket_is_not_for_an_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = lists(("bar", 1, 7_000), allergens=("nuts",))
    with open_till(tmp_path, monkeypatch, ordered) as till:
        till.hear(OTHER)
        for word in ("emergency", "override_allergens"):
            till.bench.step(5_000)
            assert till.ask("ring", lines=[["soup", 1]])["ok"]
            till.staff.super_ = "boss"
            assert till.ask(word)["ok"]
            assert collect(till)["reason"] == "purchase.allergen"
            assert not any(isinstance(fact, SaleFact) for fact in till.facts())
            till.ask("cancel")
