"""Goal: an order is handed over whole or not at all, and the cashier is told by name what it lacks.

Method: examples of menus that lack dishes or weigh them; every answer is compared whole.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

from edge.model import Preorder
from edge.pos.basket import LINES_MAX
from edge.pos.ordered import Need, Prepared, compose
from edge.till_conditions import Conditions
from tests.pos.test_tender import product

SOUP, JUICE, SALAD = product(0), product(1), product(7, weighed=True)
MENU = {one.product_id: one for one in (SOUP, JUICE, SALAD)}


def order(name: str, *products: str) -> Preorder:
    return Preorder(
        preorder_id=name,
        business_date="2026-03-06",
        slot="lunch",
        lines=tuple((one, 1, 500) for one in products),
        charged=True,
    )


def test_a_dish_of_no_menu_is_named_as_it_was_last() -> None:
    found = compose([order("o1", "p0", "p9")], MENU, {"p9": "Щи"}, Prepared())
    assert [(x.name, x.need) for x in found.lines] == [("p0", None), ("Щи", Need.OFF_MENU)]
    assert found.lacks and not found.basket.lines, "no part of an order"
    unknown = compose([order("o1", "p9")], MENU, {}, Prepared())
    assert unknown.lines[0].name == "p9"


def test_one_order_does_not_hold_up_another() -> None:
    found = compose([order("o1", "p9"), order("o2", "p1")], MENU, {}, Prepared())
    assert found.lacks and [line.product.product_id for line in found.basket.lines] == ["p1"]


def test_weights_are_of_what_is_given() -> None:
    prepared = Prepared(given={"p0": "p7"}, grams={"p7": 250})
    found = compose([order("o1", "p0"), order("o2", "p7")], MENU, {}, prepared)
    assert not found.lacks
    assert [(x.product.product_id, x.grams) for x in found.basket.lines] == [("p7", 250)]
    assert compose([order("o1", "p7")], MENU, {}, Prepared()).lines[0].need is Need.WEIGHT


def test_what_one_basket_does_not_hold_is_said() -> None:
    menu = {f"x{n}": replace(SOUP, product_id=f"x{n}") for n in range(LINES_MAX + 1)}
    all_but_one = [f"x{n}" for n in range(LINES_MAX)]
    found = compose([order("o1", *all_but_one), order("o2", f"x{LINES_MAX}")], menu, {}, Prepared())
    assert len(found.basket.lines) == LINES_MAX and found.lacks
    assert found.lines[-1].need is Need.TOO_MUCH


def test_dishes_are_known_by_name_when_the_menu_has_gone() -> None:
    small = SimpleNamespace(products={"p0": SOUP}, site=None)
    cache = cast(Any, SimpleNamespace(small=small, device="till-a"))
    conditions = Conditions(cache, ZoneInfo("UTC"), lambda _word: None)
    conditions.note_names()
    small.products = {}
    assert conditions._names == {"p0": SOUP.name}
