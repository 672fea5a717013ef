"""Goal: a basket never breaks one of its bounds, and says which one it would have broken.

Method: the last value that fits and the first that does not, bound by bound; then any sequence of
additions and removals against a plain dictionary.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model import LineItem, Product
from edge.pos.basket import (
    LINES_MAX,
    QUANTITY_MAX,
    TOTAL_MINOR_MAX,
    Basket,
    BasketProblem,
    amount_minor,
)


def product(product_id: str = "soup", price_minor: int = 12_000, purse: str = "meals") -> Product:
    return Product(
        product_id=product_id,
        name=product_id.title(),
        category="hot",
        price_minor=price_minor,
        allergens=frozenset({"celery"}),
        allergens_checked=True,
        purse=purse,
    )


def filled(basket: Basket, *products: Product) -> Basket:
    for each in products:
        more = basket.add(each)
        assert isinstance(more, Basket), more
        basket = more
    return basket


def test_the_same_product_is_one_line_at_its_newest_price() -> None:
    basket = filled(Basket(), product(price_minor=12_000), product(price_minor=11_000))
    assert basket.lines == (LineItem(product=product(price_minor=11_000), quantity=2),)
    assert basket.total_minor == 22_000


def test_lines_are_bounded() -> None:
    basket = filled(Basket(), *(product(f"p{n}", 1) for n in range(LINES_MAX)))
    assert basket.add(product("one more", 1)) is BasketProblem.LINES
    assert isinstance(basket.add(product("p0", 1)), Basket)


@pytest.mark.parametrize(("first", "more", "fits"), [(98, 1, True), (98, 2, False), (1, 99, False)])
def test_quantity_is_bounded(first: int, more: int, fits: bool) -> None:
    assert QUANTITY_MAX == 99
    basket = Basket().add(product(price_minor=1), first)
    assert isinstance(basket, Basket)
    answer = basket.add(product(price_minor=1), more)
    assert isinstance(answer, Basket) is fits
    assert fits or answer is BasketProblem.QUANTITY


@pytest.mark.parametrize("quantity", [0, -1])
def test_nothing_is_not_added(quantity: int) -> None:
    assert Basket().add(product(), quantity) is BasketProblem.QUANTITY


def test_the_total_is_bounded() -> None:
    full = filled(Basket(), product("all", TOTAL_MINOR_MAX))
    assert full.add(product("more", 1)) is BasketProblem.TOTAL
    assert isinstance(full.add(product("free", 0)), Basket)


@pytest.mark.parametrize("price_minor", [-1, TOTAL_MINOR_MAX + 1])
def test_an_impossible_price_is_not_rung_up(price_minor: int) -> None:
    assert Basket().add(product(price_minor=price_minor)) is BasketProblem.PRICE


def test_removing_some_all_and_what_is_not_there() -> None:
    basket = filled(Basket(), product("soup"), product("soup"), product("bun"))
    assert [line.quantity for line in basket.remove("soup", 1).lines] == [1, 1]
    assert [line.product.product_id for line in basket.remove("soup").lines] == ["bun"]
    assert basket.remove("tea") == basket


def test_each_purse_has_its_own_amount() -> None:
    basket = filled(
        Basket(), product("soup", 12_000), product("bar", 3_500, "buffet"), product("tea", 500)
    )
    assert basket.amount_minor_by_purse == {"buffet": 3_500, "meals": 12_500}
    assert sum(basket.amount_minor_by_purse.values()) == basket.total_minor


def test_allergens_are_those_of_all_lines() -> None:
    nuts = replace(product("bar"), allergens=frozenset({"nuts"}), allergens_checked=False)
    assert filled(Basket(), product()).allergens_checked
    basket = filled(Basket(), product(), nuts)
    assert basket.allergens == {"celery", "nuts"}
    assert not basket.allergens_checked


def test_a_new_catalogue_changes_prices_and_drops_what_is_not_sold_any_more() -> None:
    basket = filled(Basket(), product("soup"), product("bun"), product("tea"))
    cheaper = product("soup", 11_000)
    repriced = basket.repriced({"soup": cheaper, "tea": product("tea", -1)})
    assert repriced.lines == (LineItem(product=cheaper, quantity=1),)
    assert basket.repriced({name: product(name) for name in ("soup", "bun", "tea")}) == basket


CHANGES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 45), st.integers(1, 120), st.integers(-1, 300_000)),
    max_size=80,
)


@settings(derandomize=True, deadline=None)
@given(changes=CHANGES)
def test_any_sequence_of_changes_keeps_every_bound(
    changes: list[tuple[bool, int, int, int]],
) -> None:
    basket = Basket()
    expected: dict[str, tuple[int, int]] = {}
    for adds, number, quantity, price_minor in changes:
        name = f"p{number}"
        if not adds:
            basket = basket.remove(name, quantity)
            had, price = expected.pop(name, (0, 0))
            if had > quantity:
                expected[name] = (had - quantity, price)
            continue
        answer = basket.add(product(name, price_minor), quantity)
        if isinstance(answer, Basket):
            basket = answer
            expected[name] = (expected.get(name, (0, 0))[0] + quantity, price_minor)
    assert {
        line.product.product_id: (line.quantity, line.product.price_minor) for line in basket.lines
    } == expected
    assert len(basket.lines) <= LINES_MAX
    assert all(1 <= line.quantity <= QUANTITY_MAX for line in basket.lines)
    assert basket.total_minor == sum(map(amount_minor, basket.lines)) <= TOTAL_MINOR_MAX
