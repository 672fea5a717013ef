"""Baskets that nobody's card is shown for: paid into the drawer, or given to a hungry child whom no
list names. Pure.

The second is an emergency meal by a supervisor's word, up to the same amount as one with a card.
Nobody's account stands for it: the city's own `emergency` account pays, and the fact names who
answered. Allergies of a child whom nobody knows are not known either; whoever answers asks.
"""

from __future__ import annotations

from edge.model import Caveat, Now, PurchaseReason, Tender
from edge.pos.basket import Basket
from edge.pos.decision import PurchaseDecision
from edge.pos.tender import Ask, plan_tenders


def decide_without_card(
    basket: Basket, now: Now, *, emergency_minor_max: int | None
) -> PurchaseDecision:
    """Into the drawer; or with a bound an emergency meal, refused for what it costs above it."""
    feeds = emergency_minor_max is not None
    ask = Ask(emergency=True) if feeds else Ask(tenders=(Tender.CASH,))
    plan = plan_tenders(basket, ask, (), (), has_account=False)
    assert plan.lines and not plan.account_minor_by_purse
    short_minor = (
        0 if emergency_minor_max is None else max(0, plan.total_minor - emergency_minor_max)
    )
    sold = short_minor == 0
    return PurchaseDecision(
        sold=sold,
        reason=PurchaseReason.AUTHORIZED if sold else PurchaseReason.FUNDS,
        caveats=() if now.clock_trusted else (Caveat.CLOCK_UNTRUSTED,),
        tender=Tender.EMERGENCY if feeds else Tender.CASH,
        total_minor=plan.total_minor,
        postings=plan.postings("") if sold else (),
        short_minor=short_minor,
        lines=plan.lines,
        paid=plan.paid if sold else (),
    )
