"""What of a sale is given back: which lines, how much, and by which tenders. Pure.

Lines and pieces of an earlier sale are chosen; never more of a line than was sold less what was
given back of it before, as far as this till knows (the city judges again). Only what money paid for
is money again: a meal by right is not. Purse by purse it goes back by the tenders that paid, in the
order of `BACK_BY`: the account first, then an emergency meal's debt, then the drawer, then what was
charged for a pre-order, which is the account's again. Coins come out of the drawer they went into:
a sale for cash is given back at the till that sold it, whose journal knows all that ever left it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from edge.messages import Fact, Posting, Refund, SaleFact, SaleLine, TenderPart, Void
from edge.model import Tender
from edge.pos.ledger import CASH_ACCOUNT, EMERGENCY_ACCOUNT, TAKINGS_ACCOUNT, at_site

BACK_BY: Final = (Tender.ACCOUNT, Tender.EMERGENCY, Tender.CASH, Tender.PREORDER)
LineKey = tuple[str, int]  # Product and price: a sale has one line of each.


@unique
class RefundProblem(StrEnum):
    """Why nothing is given back here."""

    VOIDED = "voided"
    NOT_SOLD = "not_sold"  # No such line, or more of it than is left.
    NO_MONEY = "no_money"  # What money paid for is given back already, or it cost nothing.
    OTHER_DRAWER = "other_drawer"
    NO_ACCOUNT = "no_account"  # A pre-order was charged, and the sale names no account.
    PURSE = "purse"  # Which purse paid for the line cannot be told any more.


@dataclass(frozen=True, slots=True, kw_only=True)
class LineLeft:
    """A line of a sale, and how many of its pieces can be given back. A weighed lot is one."""

    line: SaleLine
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBack:
    """What a `Refund` says of it."""

    lines: tuple[SaleLine, ...]
    tenders: tuple[TenderPart, ...]
    postings: tuple[Posting, ...]


def lines_left(sale: SaleFact, undone: Iterable[Fact]) -> tuple[LineLeft, ...]:
    """All lines of the sale in their order. `undone` are the voids and refunds known of it."""
    gone: Counter[LineKey] = Counter()
    whole = False
    for fact in undone:
        if isinstance(fact, Refund):
            gone.update({_key(line): line.quantity for line in fact.lines})
        whole = whole or isinstance(fact, Void) or (isinstance(fact, Refund) and not fact.lines)
    money = Counter({_key(line): line.quantity for line in sale.money_lines()})
    return tuple(
        LineLeft(line=line, left=0 if whole else max(0, money[_key(line)] - gone[_key(line)]))
        for line in sale.lines
    )


def give_back(
    sale: SaleFact,
    undone: Sequence[Fact],
    chosen: Mapping[LineKey, int] | None,
    purses: Mapping[str, str],
    *,
    own: bool,
) -> GivenBack | RefundProblem:
    """These pieces of these lines, or all that is left with `chosen` None. `purses`: by product, as
    the menu has them, for a sale that several purses paid for. `own`: sold at this till."""
    if any(isinstance(fact, Void) for fact in undone):
        return RefundProblem.VOIDED
    left = {_key(one.line): one for one in lines_left(sale, undone)}
    if chosen is None:
        chosen = {key: one.left for key, one in left.items() if one.left}
    if any(not 0 < n <= (left[key].left if key in left else 0) for key, n in chosen.items()):
        return RefundProblem.NOT_SOLD
    lines = tuple(left[key].line.of(quantity) for key, quantity in chosen.items())
    of_purses = {p.purse for p in sale.postings}
    if len(of_purses) == 1:
        purses = {line.product: next(iter(of_purses)) for line in sale.lines}
    elif not _tells_purses(sale, purses):
        return RefundProblem.PURSE
    amounts: Counter[str] = Counter()
    for line in lines:
        purse = purses.get(line.product)
        if purse is None:
            return RefundProblem.PURSE
        amounts[purse] += line.amount_minor
    parts = _parts(sale, undone, amounts)
    if not parts or sum(p.amount_minor for p in parts) != sum(x.amount_minor for x in lines):
        return RefundProblem.NO_MONEY if len(of_purses) <= 1 or not parts else RefundProblem.PURSE
    tenders = {part.tender for part in parts}
    if Tender.CASH in tenders and not own:
        return RefundProblem.OTHER_DRAWER
    if not sale.account and tenders & {Tender.ACCOUNT, Tender.PREORDER}:
        return RefundProblem.NO_ACCOUNT
    return GivenBack(lines=lines, tenders=parts, postings=_postings(sale, parts))


def _tells_purses(sale: SaleFact, purses: Mapping[str, str]) -> bool:
    """Whether the sale can have been paid from these: a menu may have moved a dish since."""
    due: Counter[str] = Counter()
    for posting in sale.postings:
        due[posting.purse] += max(0, posting.amount_minor)
    for line in sale.lines:
        if line.product in purses:
            due[purses[line.product]] -= line.amount_minor
    if any(line.product not in purses for line in sale.lines):
        return min(due.values(), default=0) >= 0  # The rest was for what the menu has no more.
    return not any(due.values())


def _parts(
    sale: SaleFact, undone: Iterable[Fact], amounts: Mapping[str, int]
) -> tuple[TenderPart, ...]:
    """So much of each purse by the tenders that paid from it, as far as they have paid."""
    paid = _paid(sale)
    for fact in undone:
        if isinstance(fact, Refund):
            paid.subtract({(part.purse, part.tender): part.amount_minor for part in fact.tenders})
    parts = []
    for purse, wanted in sorted(amounts.items()):
        for tender in BACK_BY:
            amount_minor = min(wanted, max(0, paid[purse, tender]))
            if amount_minor:
                parts.append(TenderPart(tender=tender, amount_minor=amount_minor, purse=purse))
                wanted -= amount_minor
    return tuple(sorted(parts, key=lambda part: BACK_BY.index(part.tender)))


def _paid(sale: SaleFact) -> Counter[tuple[str, Tender]]:
    """By purse and tender. A sale of one tender says so in its postings alone."""
    if sale.tenders:
        paid: Counter[tuple[str, Tender]] = Counter()
        for part in sale.tenders:
            paid[part.purse, part.tender] += part.amount_minor
        return paid
    takings: Counter[tuple[str, Tender]] = Counter()
    for posting in sale.postings:
        if posting.amount_minor < 0:
            takings[posting.purse, sale.tender] -= posting.amount_minor
    return takings


def _postings(sale: SaleFact, parts: Iterable[TenderPart]) -> tuple[Posting, ...]:
    """They sum to zero, purse by purse."""
    given: Counter[tuple[str, str]] = Counter()
    for part in parts:
        if part.tender is Tender.CASH:
            payee = at_site(CASH_ACCOUNT, sale.site)
        elif part.tender is Tender.EMERGENCY and not sale.account:
            payee = at_site(EMERGENCY_ACCOUNT, sale.site)
        else:
            payee = sale.account
        given[payee, part.purse] += part.amount_minor
    postings: list[Posting] = []
    for (payee, purse), amount_minor in sorted(given.items()):
        takings = at_site(TAKINGS_ACCOUNT, sale.site)
        postings += (
            Posting(account=payee, purse=purse, amount_minor=amount_minor),
            Posting(account=takings, purse=purse, amount_minor=-amount_minor),
        )
    return tuple(postings)


def _key(line: SaleLine) -> LineKey:
    return line.product, line.price_minor
