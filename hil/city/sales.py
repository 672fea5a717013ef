"""A sale judged: do lines, tenders and postings agree, whose is it, what reads the family. Pure.

Who pays is negative, `sales:<site>` positive, and each purse sums to zero. Of the total pay the
cardholder's account (`account`, `emergency`, and a pre-order nobody has charged yet),
`cash:<site>`, `meals:<site>` and `preorders:<site>`, each what its tender says. Cash and free meals
may go unposted, as tills of before did; an account's money may not. An emergency meal of a child
whose account no till knows is paid by `emergency:<site>`, never beside an account of the child's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge.messages import Posting, SaleFact, SaleLine, TenderPart
from edge.model import Tender
from hil.city.accounts import (
    AMOUNT_MINOR_MAX,
    cash,
    emergency,
    meals,
    preorders,
    sales,
    sums_to_zero,
    suspense,
)
from hil.city.meaning import (
    Directory,
    FeedLine,
    Meaning,
    Place,
    SuspenseReason,
    counted_date,
    line_at,
    money_of,
)

QUANTITY_MAX: Final = 1_000  # Our choice: no basket of a school has more of one thing.
GRAMS_MAX: Final = 100_000  # Our choice: nobody eats a hundred kilograms.
PARTS_MAX: Final = 16  # Our choice: a tender may come once for each purse, and purses are few.
FEED_LINES_MAX: Final = 5  # Our choice: a message on a phone; the rest is counted.
ON_ACCOUNT: Final = (Tender.ACCOUNT, Tender.EMERGENCY, Tender.PREORDER)


def parts_of(fact: SaleFact) -> tuple[TenderPart, ...]:
    """What each tender pays."""
    return fact.tenders or (TenderPart(tender=fact.tender, amount_minor=fact.total_minor),)


def line_minor(line: SaleLine) -> int:
    """What a line costs. A weighed one is priced by the kilogram, half a unit rounded up."""
    if line.grams:
        return (line.price_minor * line.grams + 500) // 1000
    return line.quantity * line.price_minor


def judge_sale(fact: SaleFact, directory: Directory, place: Place) -> Meaning:
    """Equal arguments give an equal answer."""
    counted = counted_date(fact.business_date, place.today)
    if counted is None:
        return Meaning(suspense=SuspenseReason.BAD_DATE)
    if not amounts_agree(fact, place.site):
        return Meaning(suspense=SuspenseReason.BAD_AMOUNTS)
    reason = _not_postable(fact, directory)
    if reason is not None:
        return Meaning(postings=set_aside(fact.postings, fact.account, place.site), suspense=reason)
    spent, date = spent_minor(fact.postings, fact.account), counted.isoformat()
    feeds: tuple[FeedLine, ...] = ()
    if fact.cardholder:
        text = f"{directory.person_name(fact.cardholder)} {_bought(fact, directory, place)}"
        feeds = (line_at(fact, place, cardholder=fact.cardholder, kind="bought", text=text),)
    return Meaning(
        postings=fact.postings,
        spends=((fact.account, date, spent),) if spent else (),
        items=items_of(fact, date) if spent else (),
        feeds=feeds,
    )


def spent_minor(postings: Sequence[Posting], account: str) -> int:
    """What these take from the account."""
    return -sum(p.amount_minor for p in postings if account and p.account == account)


def items_of(fact: SaleFact, date: str) -> tuple[tuple[str, str, str, int], ...]:
    """Pieces by category, for limits by the piece: of every sale that the account pays for."""
    return tuple((fact.account, date, category, n) for category, n in sorted(fact.pieces().items()))


def amounts_agree(fact: SaleFact, site: str) -> bool:
    """Lines make the total, tenders pay it, and postings say who has paid."""
    lines, parts, postings = fact.lines, parts_of(fact), fact.postings
    if not lines or not 0 <= fact.total_minor <= AMOUNT_MINOR_MAX or len(parts) > PARTS_MAX:
        return False
    if any(not 0 < line.quantity <= QUANTITY_MAX or line.price_minor < 0 for line in lines):
        return False
    if any(
        not 0 <= line.grams <= GRAMS_MAX or (line.grams and line.quantity > 1) for line in lines
    ):
        return False
    if sum(map(line_minor, lines)) != fact.total_minor:
        return False
    if any(part.amount_minor < 0 for part in parts):
        return False
    if sum(part.amount_minor for part in parts) != fact.total_minor:
        return False
    ours = set() if fact.account else {emergency(site)}
    payers = {fact.account, cash(site), meals(site), preorders(site)} - {""} | ours
    if any(p.account not in payers | {sales(site)} for p in postings):
        return False
    if any(abs(p.amount_minor) > AMOUNT_MINOR_MAX for p in postings):
        return False
    if any(p.amount_minor > 0 for p in postings if p.account in payers):
        return False
    return sums_to_zero(postings) and _payers_agree(fact, site, parts) and _rights_agree(fact)


def _payers_agree(fact: SaleFact, site: str, parts: Sequence[TenderPart]) -> bool:
    def due(*tenders: Tender) -> int:
        return sum(part.amount_minor for part in parts if part.tender in tenders)

    def paid(account: str) -> int:
        return spent_minor(fact.postings, account)

    charged, owed = paid(preorders(site)), paid(emergency(site))
    return (
        paid(fact.account) + charged + owed == due(*ON_ACCOUNT)
        and owed <= due(Tender.EMERGENCY)
        and charged <= due(Tender.PREORDER)
        and paid(cash(site)) in (due(Tender.CASH), 0)
        and paid(meals(site)) in (due(Tender.ENTITLEMENT), 0)
    )


def _rights_agree(fact: SaleFact) -> bool:
    """The pieces that are said to be by right are among those sold, and come to what rights pay."""
    if not fact.by_right:
        return True
    sold = {(line.product, line.price_minor): line for line in fact.lines}
    for line in fact.by_right:
        of = sold.get((line.product, line.price_minor))
        if of is None or line.grams != of.grams or not 0 < line.quantity <= of.quantity:
            return False
    due = sum(p.amount_minor for p in parts_of(fact) if p.tender is Tender.ENTITLEMENT)
    return sum(map(line_minor, fact.by_right)) == due


def _not_postable(fact: SaleFact, directory: Directory) -> SuspenseReason | None:
    if fact.cardholder and directory.person_name(fact.cardholder) is None:
        return SuspenseReason.UNKNOWN_CARDHOLDER
    if fact.account:
        purses = directory.purses_of(fact.account)
        if purses is None or directory.account_of(fact.cardholder) != fact.account:
            return SuspenseReason.UNKNOWN_ACCOUNT
        if any(p.purse not in purses for p in fact.postings if p.account == fact.account):
            return SuspenseReason.UNKNOWN_PURSE
    if any(directory.product_name(line.product) is None for line in fact.lines):
        return SuspenseReason.UNKNOWN_PRODUCT
    return None


def set_aside(postings: Sequence[Posting], account: str, site: str) -> tuple[Posting, ...]:
    """The same with the suspense account in the cardholder's place: sales stay whole, and what
    other tenders have paid stays theirs."""
    return tuple(
        Posting(
            account=suspense(site) if posting.account == account else posting.account,
            purse=posting.purse,
            amount_minor=posting.amount_minor,
        )
        for posting in postings
    )


def _bought(fact: SaleFact, directory: Directory, place: Place) -> str:
    """`bought`, with prices, is what the account alone has paid. All else is `ate`, in the same
    words for a free meal, one chosen beforehand and one paid in cash; then what was debited."""
    alone = {part.tender for part in parts_of(fact)} == {Tender.ACCOUNT}
    parts = []
    for line in fact.lines[:FEED_LINES_MAX]:
        name = directory.product_name(line.product) or line.product
        count = f"{line.quantity} × " if line.quantity > 1 else ""
        weight = f" {line.grams} g" if line.grams else ""
        price = f" {money_of(line_minor(line), place)}" if alone else ""
        parts.append(count + name + weight + price)
    more = len(fact.lines) - FEED_LINES_MAX
    rest = f" and {more} more" if more > 0 else ""
    fed = sum(p.amount_minor for p in parts_of(fact) if p.tender is Tender.EMERGENCY)
    owed = fed if fact.account else 0
    paid = spent_minor(fact.postings, fact.account) - owed
    if not alone and paid > 0:
        rest += f"; {money_of(paid, place)} from the account"
    if fed and not fact.account:
        rest += "; the school pays"
    if owed:
        rest += f"; {money_of(owed, place)} is owed"
    return f"{'bought' if alone else 'ate'} {', '.join(parts)}{rest}"
