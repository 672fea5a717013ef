"""How a basket is paid: by pre-order, then entitlement, then account, as far as each is allowed.

A piece is paid by one tender. A pre-order is collected whole or not at all; an entitlement pays a
piece of each of its categories, the dearest there is, and is used by that; the rest goes on
account, purse by purse, or is paid in cash. What nothing pays is `unpaid`.

What was ordered and is weighed when it is collected costs what it weighs: the order pays that up to
the amount it was ordered at, and what is heavier goes where the rest goes. An emergency meal is a
debt of the account, or where no account is known the city's own `emergency` account pays it.

Pure. Whether the account can bear it is `decision.py`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edge.model import LineItem, Preorder, Tender
from edge.pos.basket import Basket, amount_minor
from edge.pos.entitlement import Serving
from edge.pos.ledger import (
    CASH_ACCOUNT,
    EMERGENCY_ACCOUNT,
    MEALS_ACCOUNT,
    PREORDERS_ACCOUNT,
    Posting,
    postings_for,
)

USUAL_TENDERS = (Tender.PREORDER, Tender.ENTITLEMENT, Tender.ACCOUNT)
NOBODYS_ACCOUNT: Mapping[Tender, str] = {
    Tender.PREORDER: PREORDERS_ACCOUNT,
    Tender.ENTITLEMENT: MEALS_ACCOUNT,
    Tender.CASH: CASH_ACCOUNT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the cashier asks for beside the basket."""

    tenders: tuple[Tender, ...] = USUAL_TENDERS  # Allowed for this basket; the order is fixed.
    override_allergens: bool = False  # A supervisor answers for it.
    emergency: bool = False  # A supervisor feeds this person: all of it a debt.
    given: Mapping[str, str] = field(default_factory=dict)  # Ordered product -> what is given.


@dataclass(frozen=True, slots=True, kw_only=True)
class SoldLine:
    """Pieces of one product at one price."""

    line: LineItem
    quantity: int
    price_minor: int

    @property
    def amount_minor(self) -> int:
        return amount_minor(self.line) if self.line.grams else self.price_minor * self.quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What one tender pays from one purse."""

    tender: Tender
    purse: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    preorder_id: str
    substituted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A basket with a payer for each piece."""

    lines: tuple[SoldLine, ...]
    paid: tuple[Paid, ...]  # In the order of the tenders, then of purses.
    account_minor_by_purse: Mapping[str, int]  # What the account bears, a debt included.
    on_account: tuple[SoldLine, ...]
    unpaid: tuple[SoldLine, ...]
    unpaid_minor: int  # With what a weighed line is heavier than it was ordered.
    by_right: tuple[SoldLine, ...]  # What entitlements pay for.
    meals: tuple[Serving, ...]
    preorders: tuple[Collected, ...]

    @property
    def total_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)

    def postings(self, account_id: str) -> tuple[Posting, ...]:
        """All payers' sides; they sum to zero, purse by purse."""
        postings: tuple[Posting, ...] = ()
        for tender, payer in NOBODYS_ACCOUNT.items():
            amounts = {p.purse: p.amount_minor for p in self.paid if p.tender is tender}
            postings += postings_for(payer, amounts)
        if not self.account_minor_by_purse:  # Else an emergency meal is the account's debt.
            owed = {p.purse: p.amount_minor for p in self.paid if p.tender is Tender.EMERGENCY}
            postings += postings_for(EMERGENCY_ACCOUNT, owed)
        return postings_for(account_id, self.account_minor_by_purse) + postings


class _Pieces:
    """What of a basket has no payer yet."""

    def __init__(self, basket: Basket) -> None:
        self.left = {line.product.product_id: line.quantity for line in basket.lines}
        self.items = {line.product.product_id: line for line in basket.lines}
        self.taken: list[tuple[Tender | None, SoldLine]] = []
        self.weighed: dict[str, _Weighed] = {}  # Lines that orders pay for.

    def take(
        self, payer: Tender | None, product_id: str, quantity: int, *, price_minor: int
    ) -> None:
        self.left[product_id] -= quantity
        assert self.left[product_id] >= 0
        line = SoldLine(line=self.items[product_id], quantity=quantity, price_minor=price_minor)
        self.taken.append((payer, line))

    def has(self, product_id: str, quantity: int) -> bool:
        """Whether so many are there to be collected; of what is weighed there is one lot."""
        if product_id in self.weighed:
            return True
        line = self.items.get(product_id)
        wanted = 1 if line is not None and line.grams else quantity
        return self.left.get(product_id, 0) >= wanted

    def collect(self, payer: Tender, product_id: str, quantity: int, *, price_minor: int) -> None:
        """Pieces of an order, at its price; of a weighed lot as much as was ordered."""
        line = self.items[product_id]
        if not line.grams:
            self.take(payer, product_id, quantity, price_minor=price_minor)
            return
        if product_id not in self.weighed:
            self.left[product_id] -= 1
            self.weighed[product_id] = _Weighed(payer, line)
        self.weighed[product_id].pay(payer, quantity * price_minor)

    def dearest(self, category: str) -> LineItem | None:
        """The dearest piece of a category that is left."""
        found = [
            line
            for product_id, line in self.items.items()
            if self.left[product_id] and line.product.category == category
        ]
        return max(found, key=_piece_minor, default=None)


class _Weighed:
    """One weighed lot, paid for by the orders it was collected for, and beyond them by the rest."""

    def __init__(self, payer: Tender, line: LineItem) -> None:
        self.payer = payer  # Of the first of them.
        self.sold = SoldLine(line=line, quantity=1, price_minor=line.product.price_minor)
        self.paid: list[tuple[Tender, int]] = []

    @property
    def rest_minor(self) -> int:
        return self.sold.amount_minor - sum(amount for _, amount in self.paid)

    def pay(self, payer: Tender, ordered_minor: int) -> None:
        self.paid.append((payer, min(ordered_minor, self.rest_minor)))


def plan_tenders(
    basket: Basket,
    ask: Ask,
    servings: Sequence[Serving],
    preorders: Iterable[Preorder],
    *,
    has_account: bool = True,
) -> Plan:
    """A payer for every piece that has one. `servings` and `preorders` are those due now."""
    pieces = _Pieces(basket)
    collected: list[Collected] = []
    meals: list[Serving] = []
    rest = Tender.EMERGENCY if ask.emergency else _for_the_rest(ask.tenders)
    if not ask.emergency:
        if Tender.PREORDER in ask.tenders:
            collected = _collect(pieces, preorders, ask.given, rest)
        if Tender.ENTITLEMENT in ask.tenders:
            meals = [one for one in servings if _serve(pieces, one)]
    for product_id, quantity in pieces.left.items():
        if quantity:
            price_minor = pieces.items[product_id].product.price_minor
            pieces.take(rest, product_id, quantity, price_minor=price_minor)
    bears = (Tender.ACCOUNT, Tender.EMERGENCY) if has_account else (Tender.ACCOUNT,)
    return _summed(pieces, rest, bears, meals, collected)


def _for_the_rest(tenders: Sequence[Tender]) -> Tender | None:
    return next((one for one in (Tender.ACCOUNT, Tender.CASH) if one in tenders), None)


def _collect(
    pieces: _Pieces,
    preorders: Iterable[Preorder],
    given: Mapping[str, str],
    rest: Tender | None,
) -> list[Collected]:
    """Every order of which all is in the basket, at the prices it was ordered at."""
    collected = []
    for order in sorted(preorders, key=lambda one: one.preorder_id):
        payer = Tender.PREORDER if order.charged else rest
        wanted = [(given.get(product, product), n, price) for product, n, price in order.lines]
        needed: dict[str, int] = {}
        for product_id, quantity, _ in wanted:
            needed[product_id] = needed.get(product_id, 0) + quantity
        if payer is None or not all(pieces.has(p, n) for p, n in needed.items()):
            continue
        for product_id, quantity, price_minor in wanted:
            pieces.collect(payer, product_id, quantity, price_minor=price_minor)
        substituted = any(product in given for product, _, _ in order.lines)
        collected.append(Collected(preorder_id=order.preorder_id, substituted=substituted))
    return collected


def _serve(pieces: _Pieces, serving: Serving) -> bool:
    """Whether it paid for anything."""
    paid = False
    for category in serving.entitlement.categories:
        line = pieces.dearest(category)
        if line is not None:
            product = line.product
            pieces.take(Tender.ENTITLEMENT, product.product_id, 1, price_minor=product.price_minor)
            paid = True
    return paid


def _shares(pieces: _Pieces, rest: Tender | None) -> Iterator[tuple[Tender | None, str, int]]:
    """Who pays how much from which purse."""
    for payer, line in pieces.taken:
        yield payer, line.line.product.purse, line.amount_minor
    for lot in pieces.weighed.values():
        purse = lot.sold.line.product.purse
        yield from ((payer, purse, paid_minor) for payer, paid_minor in lot.paid)
        if lot.rest_minor:
            yield rest, purse, lot.rest_minor


def _summed(
    pieces: _Pieces,
    rest: Tender | None,
    bears: tuple[Tender, ...],
    meals: list[Serving],
    collected: list[Collected],
) -> Plan:
    """`bears`: the tenders that the account stands for."""
    amounts: dict[tuple[Tender, str], int] = {}
    on_account: dict[str, int] = {}
    unpaid_minor = 0
    for payer, purse, share_minor in _shares(pieces, rest):
        if payer is None:
            unpaid_minor += share_minor
            continue
        amounts[payer, purse] = amounts.get((payer, purse), 0) + share_minor
        if payer in bears:
            on_account[purse] = on_account.get(purse, 0) + share_minor
    lots = ((lot.payer, lot.sold) for lot in pieces.weighed.values())
    taken: list[tuple[Tender | None, SoldLine]] = [*pieces.taken, *lots]
    order = list(Tender)
    tenders = (Tender.PREORDER, Tender.ENTITLEMENT, Tender.ACCOUNT)
    ranked = sorted(
        amounts.items(),
        key=lambda item: (
            tenders.index(item[0][0]) if item[0][0] in tenders else 3 + order.index(item[0][0]),
            item[0][1],
        ),
    )
    return Plan(
        lines=_merged(line for _, line in taken),
        paid=tuple(
            Paid(tender=tender, purse=purse, amount_minor=amount)
            for (tender, purse), amount in ranked
        ),
        account_minor_by_purse=dict(sorted(on_account.items())),
        on_account=_merged(line for payer, line in taken if payer is Tender.ACCOUNT),
        unpaid=_merged(line for payer, line in taken if payer is None),
        unpaid_minor=unpaid_minor,
        by_right=_merged(line for payer, line in taken if payer is Tender.ENTITLEMENT),
        meals=tuple(meals),
        preorders=tuple(collected),
    )


def _merged(lines: Iterable[SoldLine]) -> tuple[SoldLine, ...]:
    """A line for each product and price, whoever pays: nobody reads from it who eats free."""
    merged: dict[tuple[str, int], SoldLine] = {}
    for line in lines:
        key = (line.line.product.product_id, line.price_minor)
        before = merged.get(key)
        quantity = line.quantity + (0 if before is None else before.quantity)
        merged[key] = SoldLine(line=line.line, quantity=quantity, price_minor=line.price_minor)
    return tuple(merged.values())


def _piece_minor(line: LineItem) -> int:
    return amount_minor(line) if line.grams else line.product.price_minor
