"""The day's end (Z): totals out of facts, and whether a close-out equals the journal.

Sales count by what each tender paid, less what was voided. What was given back is told beside them,
by tender, of whatever shift and till the sale was: the drawer has the difference. Pure: which facts
a close-out covers, and how many the city has not got yet, the caller says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge.messages import CloseOut, Fact, Refund, SaleFact, SaleRefused, Void
from edge.model import PurchaseReason, Tender


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the facts of a shift come to."""

    total_minor_by_tender: Mapping[str, int]  # Tenders that nothing was paid by are left out.
    count_by_kind: Mapping[str, int]
    voids_by_cashier: Mapping[str, int]
    overrides_by_cashier: Mapping[str, int]  # Emergency meals, and allergens answered for.
    duplicates: int  # Baskets refused because their meal had been served already.
    refunded_minor_by_tender: Mapping[str, int]  # Given back in the shift, of whatever sale.


def totals_of(facts: Iterable[Fact]) -> Totals:
    """A void counts against the sale it names, which comes before it."""
    tenders: dict[str, int] = {}
    kinds: dict[str, int] = {}
    voids: dict[str, int] = {}
    overrides: dict[str, int] = {}
    sales: dict[tuple[str, int], SaleFact] = {}
    refunded: dict[str, int] = {}
    duplicates = 0
    for fact in facts:
        _count(kinds, str(fact.__struct_config__.tag))
        match fact:
            case SaleFact():
                sales[fact.epoch, fact.sequence] = fact
                _pay(tenders, fact, 1)
                if fact.supervisor:
                    _count(overrides, fact.cashier)
            case Void():
                sale = sales.pop((fact.sale_epoch, fact.sale), None)
                if sale is not None:
                    _pay(tenders, sale, -1)
                _count(voids, fact.cashier)
            case Refund():
                for part in fact.tenders:
                    name = part.tender.value
                    refunded[name] = refunded.get(name, 0) + part.amount_minor
            case SaleRefused():
                duplicates += fact.reason is PurchaseReason.MEAL_USED
            case _:
                pass
    return Totals(
        total_minor_by_tender=dict(sorted(tenders.items())),
        count_by_kind=dict(sorted(kinds.items())),
        voids_by_cashier=dict(sorted(voids.items())),
        overrides_by_cashier=dict(sorted(overrides.items())),
        duplicates=duplicates,
        refunded_minor_by_tender=dict(sorted(refunded.items())),
    )


def equals_journal(close_out: CloseOut, facts: Iterable[Fact]) -> bool:
    """Whether it says of the facts of its ranges what they say themselves."""
    totals = totals_of(facts)
    return (
        close_out.total_minor_by_tender == totals.total_minor_by_tender
        and close_out.count_by_kind == totals.count_by_kind
        and close_out.voids_by_cashier == totals.voids_by_cashier
        and close_out.overrides_by_cashier == totals.overrides_by_cashier
        and close_out.duplicates == totals.duplicates
        and close_out.refunded_minor_by_tender == totals.refunded_minor_by_tender
    )


def paid_by_tender(sale: SaleFact) -> dict[Tender, int]:
    """What each tender paid of a sale; together its total."""
    paid: dict[Tender, int] = {}
    for part in sale.tenders:
        paid[part.tender] = paid.get(part.tender, 0) + part.amount_minor
    return paid or {sale.tender: sale.total_minor}


def _pay(tenders: dict[str, int], sale: SaleFact, sign: int) -> None:
    for tender, amount_minor in paid_by_tender(sale).items():
        name = tender.value
        tenders[name] = tenders.get(name, 0) + sign * amount_minor


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
