"""A till's close-out beside the facts the city holds: equal, or a line on what differs. Pure.

The ranges it names are facts of its own stream, before it, so the city has them all, or a gap was
declared and the difference says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from edge.messages import AnyFact, CloseOut, Refund, SaleFact, SaleRefused, Void
from edge.model import PurchaseReason
from hil.city.sales import parts_of

# What a count may not leave out: facts of money. Others count where the till names them.
MONEY_KINDS = ("sale", "void", "refund", "hold", "hold_released", "meal_served")
OWN_KIND = "close_out"  # Of it the till knows fewer than the city, who has this one too.


def difference(
    close_out: CloseOut,
    kinds: Mapping[str, int],
    facts: Iterable[AnyFact],
) -> str:
    """Empty when it agrees. `kinds` counts the facts held in its ranges, `facts` are those of them
    that are sales, refusals, voids and refunds, in their order. A void counts against its sale,
    once; a refund by the tenders it names, of whatever sale."""
    totals: Counter[str] = Counter()
    voids: Counter[str] = Counter()
    overrides: Counter[str] = Counter()
    back: Counter[str] = Counter()
    sales: dict[tuple[str, int], SaleFact] = {}
    duplicates = 0
    for fact in facts:
        if isinstance(fact, SaleFact):
            sales[fact.epoch, fact.sequence] = fact
            for part in parts_of(fact):
                totals[part.tender] += part.amount_minor
            overrides[fact.cashier] += bool(fact.supervisor)
        elif isinstance(fact, SaleRefused):
            duplicates += fact.reason is PurchaseReason.MEAL_USED
        elif isinstance(fact, Refund):
            for part in fact.tenders:
                back[part.tender] += part.amount_minor
        elif isinstance(fact, Void):
            voids[fact.cashier] += 1
            sale = sales.pop((fact.sale_epoch, fact.sale), None)
            for part in () if sale is None else parts_of(sale):
                totals[part.tender] -= part.amount_minor
    named = {kind for kind in close_out.count_by_kind if kind != OWN_KIND}
    differences = [
        *_unequal("tender", close_out.total_minor_by_tender, totals, set(totals)),
        *_unequal("kind", close_out.count_by_kind, kinds, named | (set(MONEY_KINDS) & set(kinds))),
        *_unequal("voids of", close_out.voids_by_cashier, voids, set(voids)),
        *_unequal(
            "count of", {"duplicates": close_out.duplicates}, {"duplicates": duplicates}, set()
        ),
        *_unequal("refunded by", close_out.refunded_minor_by_tender, back, set(back)),
        *_unequal("overrides of", close_out.overrides_by_cashier, overrides, set(overrides)),
    ]
    return "; ".join(differences)


def _unequal(
    what: str, said: Mapping[str, int], held: Mapping[str, int], names: set[str]
) -> list[str]:
    named = names if what == "kind" else names | set(said)
    return [
        f"{what} {name or '-'}: says {said.get(name, 0)}, held {held.get(name, 0)}"
        for name in sorted(named)
        if said.get(name, 0) != held.get(name, 0)
    ]
