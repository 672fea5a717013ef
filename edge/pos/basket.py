"""A basket: what the cashier has rung up, how many of each, and what it comes to.

Pure, a frozen value: every change gives a new basket, or says which bound it would break. Prices
stand in the lines as the catalogue had them. Who may buy it is `decision.py`'s business, when it
may change is `till.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, unique

from edge.model import LineItem, Product

LINES_MAX = 40  # Our choice: more kinds than any canteen tray; such a sale's fact is about 4 KiB.
QUANTITY_MAX = 99  # Our choice: two digits on the screen, and three classes' worth of buns.
GRAMS_MAX = 20_000  # Our choice: what a kitchen scale weighs; twenty kilograms of salad.
TOTAL_MINOR_MAX = 1_000_000  # Our choice: 10,000 roubles, a class of 30 at three full meals' price.


@unique
class BasketProblem(StrEnum):
    """Why a basket cannot take something. The basket stays as it was."""

    LINES = "lines"
    QUANTITY = "quantity"
    PRICE = "price"
    WEIGHT = "weight"  # None for what is sold by weight, one for what is not, or an impossible one.
    TOTAL = "total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """Line items in the order they were rung up, one for each product."""

    lines: tuple[LineItem, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.lines) <= LINES_MAX
        assert len({line.product.product_id for line in self.lines}) == len(self.lines)
        assert all(1 <= line.quantity <= QUANTITY_MAX for line in self.lines)
        assert all(line.quantity == 1 for line in self.lines if line.grams)
        assert all(0 <= line.grams <= GRAMS_MAX for line in self.lines)
        assert all(0 <= line.product.price_minor <= TOTAL_MINOR_MAX for line in self.lines)
        assert self.total_minor <= TOTAL_MINOR_MAX

    @property
    def total_minor(self) -> int:
        return sum(amount_minor(line) for line in self.lines)

    @property
    def amount_minor_by_purse(self) -> dict[str, int]:
        """What each purse has to pay; purses in order of name."""
        amounts: dict[str, int] = {}
        for line in sorted(self.lines, key=lambda line: line.product.purse):
            purse = line.product.purse
            amounts[purse] = amounts.get(purse, 0) + amount_minor(line)
        return amounts

    @property
    def allergens(self) -> frozenset[str]:
        """All that is named on the products; what is unchecked may hold more."""
        return frozenset().union(*(line.product.allergens for line in self.lines))

    @property
    def allergens_checked(self) -> bool:
        return all(line.product.allergens_checked for line in self.lines)

    def add(self, product: Product, quantity: int = 1, *, grams: int = 0) -> Basket | BasketProblem:
        """With so many more of a product, or so many grams of a weighed one, or why not.

        The line takes the product as given now: if its price changed since the first piece was
        rung up, the whole line has the new price.
        """
        if not 0 <= product.price_minor <= TOTAL_MINOR_MAX:
            return BasketProblem.PRICE
        lines = {line.product.product_id: line for line in self.lines}
        former = lines.get(product.product_id)
        if former is None and len(lines) == LINES_MAX:
            return BasketProblem.LINES
        weight = grams + (former.grams if former is not None else 0)
        if product.weighed is not (grams > 0) or not 0 <= grams <= weight <= GRAMS_MAX:
            return BasketProblem.WEIGHT
        more = 1 if grams else quantity + (former.quantity if former is not None else 0)
        if quantity < 1 or more > QUANTITY_MAX:
            return BasketProblem.QUANTITY
        lines[product.product_id] = LineItem(product=product, quantity=more, grams=weight)
        if sum(amount_minor(line) for line in lines.values()) > TOTAL_MINOR_MAX:
            return BasketProblem.TOTAL
        return Basket(lines=tuple(lines.values()))

    def remove(self, product_id: str, quantity: int = QUANTITY_MAX) -> Basket:
        """With so many fewer of a product, by default none left; without it nothing changes."""
        assert quantity >= 1
        kept = []
        for line in self.lines:
            left = line.quantity
            if line.product.product_id == product_id:
                left -= quantity
            if left >= 1:
                kept.append(replace(line, quantity=left))
        return Basket(lines=tuple(kept))

    def without(self, dropped: tuple[LineItem, ...]) -> Basket:
        return Basket(lines=tuple(line for line in self.lines if line not in dropped))

    def repriced(self, catalogue: Mapping[str, Product]) -> Basket:
        """As a new catalogue has it: what it does not sell, or at no possible price, falls out."""
        basket = Basket()
        for line in self.lines:
            product = catalogue.get(line.product.product_id)
            if product is None:
                continue
            more = basket.add(product, line.quantity, grams=line.grams)
            if isinstance(more, Basket):
                basket = more
        return basket


def amount_minor(line: LineItem) -> int:
    """Price times quantity; by weight price times kilograms, half a minor unit rounded up."""
    if line.grams:
        return (line.product.price_minor * line.grams + 500) // 1000
    return line.product.price_minor * line.quantity
