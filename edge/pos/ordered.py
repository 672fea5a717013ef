"""What was ordered for a person and slot, as it can be handed over now. Pure.

An order is handed over whole or not at all, or a part of it would be paid for once more. What it
still needs is said line by line: a weight, where the dish is weighed when it is collected, or
something in its place, where the menu in force has it no more. Until then nothing is handed over,
unless the cashier asks for the rest: then an order that lacks something stays due, whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique

from edge.model import Preorder, Product
from edge.pos.basket import Basket


@unique
class Need(StrEnum):
    """What an ordered line lacks."""

    WEIGHT = "weight"  # It is weighed, and nobody said how much it is.
    OFF_MENU = "off_menu"  # The menu in force does not have it.
    TOO_MUCH = "too_much"  # One basket does not hold it beside the orders before it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the cashier has made ready for one person's orders."""

    given: Mapping[str, str] = field(default_factory=dict)  # Ordered product -> what is given.
    grams: Mapping[str, int] = field(default_factory=dict)  # Of each weighed product given.
    rest: bool = False  # Orders that lack something are left for later.


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedLine:
    """One line of an order, for the cashier."""

    preorder_id: str
    product_id: str  # As ordered.
    name: str
    quantity: int
    price_minor: int  # Of one piece, or one portion of what is weighed, as ordered.
    given: str = ""  # Product in its place.
    weighed: bool = False
    grams: int = 0
    need: Need | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that is due to one person in this slot."""

    lines: tuple[OrderedLine, ...]
    basket: Basket  # What can be handed over.

    @property
    def lacks(self) -> bool:
        return any(line.need is not None for line in self.lines)


def compose(
    orders: Iterable[Preorder],
    products: Mapping[str, Product],
    names: Mapping[str, str],
    prepared: Prepared,
) -> Order:
    """The basket of these orders, and what they lack. `products` are the menu in force; `names`
    may know dishes that it has no more."""
    basket = Basket()
    lines: list[OrderedLine] = []
    for order in orders:
        found = [_line(order.preorder_id, line, products, names, prepared) for line in order.lines]
        if any(line.need is not None for line in found):
            lines += found
            continue
        more = _with(basket, found, products)
        if more is None:
            found = [replace(line, need=Need.TOO_MUCH) for line in found]
        else:
            basket = more
        lines += found
    return Order(lines=tuple(lines), basket=basket)


def _line(
    preorder_id: str,
    ordered: tuple[str, int, int],
    products: Mapping[str, Product],
    names: Mapping[str, str],
    prepared: Prepared,
) -> OrderedLine:
    product_id, quantity, price_minor = ordered
    given = prepared.given.get(product_id, "")
    product = products.get(given or product_id)
    grams = prepared.grams.get(given or product_id, 0)
    weighed = product is not None and product.weighed
    need = Need.OFF_MENU if product is None else Need.WEIGHT if weighed and not grams else None
    own = products.get(product_id)
    return OrderedLine(
        preorder_id=preorder_id,
        product_id=product_id,
        name=names.get(product_id, product_id) if own is None else own.name,
        quantity=quantity,
        price_minor=price_minor,
        given=given,
        weighed=weighed,
        grams=grams if weighed else 0,
        need=need,
    )


def _with(
    basket: Basket, lines: Iterable[OrderedLine], products: Mapping[str, Product]
) -> Basket | None:
    """None: one basket does not hold it. What is weighed is one lot, for however many orders."""
    for line in lines:
        product = products[line.given or line.product_id]
        if line.weighed and any(one.product == product for one in basket.lines):
            continue
        quantity = 1 if line.weighed else line.quantity
        more = basket.add(product, quantity, grams=line.grams)
        if not isinstance(more, Basket):
            return None
        basket = more
    return basket
