"""The till's part of the `screen` answer: what stands before the cashier now.

The customer's side of a page shows word, colour, lines and total, and nothing else: `notes`,
`tenders` and names of people are for the cashier alone.
"""

from __future__ import annotations

from typing import Any

from edge.counter import Counter
from edge.model import Moment
from edge.pos.basket import amount_minor
from edge.pos.cashier import CashierView


def till_screen(till: Counter, moment: Moment) -> dict[str, Any]:
    view, state = till.view(), till.state
    site = till.cache.small.site
    date = till.business_date(moment)
    return {
        "till": True,
        "phase": state.phase,
        "state": till_state(till),
        "word": view.word.ru,
        "word_en": view.word.en,
        "colour": view.colour,
        "reason": "" if view.reason is None else view.reason.key,
        "text": "" if view.reason is None else view.reason.ru,
        "text_en": "" if view.reason is None else view.reason.en,
        "basket": [
            {
                "product": line.product.product_id,
                "name": line.product.name,
                "quantity": line.quantity,
                "grams": line.grams,
                "price_minor": line.product.price_minor,
                "amount_minor": amount_minor(line),
            }
            for line in state.basket.lines
        ],
        "total_minor": state.basket.total_minor,
        "answer_total": view.answer_total,
        "without": list(view.without),
        "without_total": view.without_total,
        "offer": _offer(view),
        "short": view.short,
        "notes": [{"key": n.key, "text": n.ru, "text_en": n.en} for n in view.notes],
        "repeated": view.repeated,
        "waiting": till.busy,
        "date": date or "",
        "date_needed": date is None,
        "slot": till.slot(moment),
        "slots": [] if site is None else sorted(site.meal_slots),
        "tenders": list(till.tenders),
        "chosen": [one for one in state.wish.ask.tenders if one in till.tenders],
        "collects": state.wish.collects,
        "order": [
            {
                "preorder": line.preorder_id,
                "product": line.product_id,
                "name": line.name,
                "quantity": line.quantity,
                "price_minor": line.price_minor,
                "given": line.given,
                "weighed": line.weighed,
                "grams": line.grams,
                "need": line.need or "",
            }
            for line in state.order
        ],
        "emergency": state.wish.ask.emergency,
        "allergens_overridden": state.wish.ask.override_allergens,
        "substituted": dict(state.wish.ask.given),
        "substituted_why": state.wish.why,
        "substitutions": [] if site is None else list(site.substitutions),
        "cashier": till.staff.cashier(moment),
        "last_sale": None
        if till.last_sale is None
        else {"epoch": till.last_sale[0], "sale": till.last_sale[1]},
    }


def till_state(till: Counter) -> str:
    """`waiting` for the other tills, `sold`, `refused`, `notice`, or `open`."""
    shown = till.state.shown
    if till.busy:
        return "waiting"
    if shown is None or shown.decision is None:
        return "open" if shown is None else "notice"
    return "sold" if shown.decision.sold else "refused"


def _offer(view: CashierView) -> str:
    """What would be sold: "без шоколадного батончика" in the words the menu has."""
    if not view.without or view.without_total is None:
        return ""
    return f"Без «{'», «'.join(view.without)}»: {view.without_total}"
