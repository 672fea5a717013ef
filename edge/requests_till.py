"""Requests of the cashier's page: `{"ok": true, ...}`, or `ok` false and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from edge.agent import Agent
from edge.counter import BUSY, Counter, Line
from edge.model import CorruptData, DeviceFault, Moment, SupervisedAct, Tender
from edge.pos.basket import GRAMS_MAX
from edge.pos.cashier import format_minor
from edge.pos.refund import lines_left
from edge.pos.tender import Ask
from edge.pos.till import TillState, Wish
from edge.till_desk import NO_SUPERVISOR, NOBODY_SIGNED_IN, SaleKey, TillDesk

LINES_MAX: Final = 40  # As a basket's.
NAMES_MAX: Final = 200  # Our choice: five times the children of a class.
TEXT_CHARS_MAX: Final = 100  # Our choice: an id, or a reason in a few words.
Answer = dict[str, Any]
Handler = Callable[[Agent, dict[str, Any], Moment], Answer]
_AtTill = Callable[[Counter, TillDesk, dict[str, Any], Moment], Answer]


def _refuse(why: str) -> Answer:
    return {"ok": False, "error": why}


def _done(problem: str = "", **more: Any) -> Answer:
    return _refuse(problem) if problem else {"ok": True, **more}


def _at_till(handler: _AtTill) -> Handler:
    """At a till alone; a disk that refuses is told and stops nothing."""

    def asked(agent: Agent, body: dict[str, Any], moment: Moment) -> Answer:
        if agent.till is None or agent.till_desk is None:
            return _refuse("this station is no till")
        try:
            return handler(agent.till, agent.till_desk, body, moment)
        except (DeviceFault, CorruptData) as fault:
            return _refuse(f"it could not be recorded: {fault}")

    return asked


def _by_cashier(handler: _AtTill) -> Handler:
    """As `_at_till`, for a cashier who is signed in; nobody else sells, or reads names."""

    def asked(till: Counter, desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
        if not till.staff.cashier(moment):
            return _refuse(NOBODY_SIGNED_IN)
        return handler(till, desk, body, moment)

    return _at_till(asked)


# ------------------------------------------------------------------------------- selling


@_at_till
def _basket(till: Counter, _desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    """A basket, charged at once: of a bench, that has no cashier. No page may ask it."""
    lines = _lines(body)
    if isinstance(lines, str):
        return _refuse(lines)
    problem = till.set_basket(lines, moment)
    return _done(problem, total_minor=till.state.basket.total_minor)


@_by_cashier
def _ring(till: Counter, _desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    lines = _lines(body)
    if isinstance(lines, str):
        return _refuse(lines)
    problem = till.ring_up(lines, moment)
    return _done(problem, total_minor=till.state.basket.total_minor)


@_by_cashier
def _charge(till: Counter, _desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    return _done(till.charge(moment, collect=body.get("collect") is True))


@_at_till
def _cancel(till: Counter, _desk: TillDesk, _body: dict[str, Any], moment: Moment) -> Answer:
    till.cancel(moment)
    return _done()


@_by_cashier
def _tender(till: Counter, _desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    """Of what this till takes, what may pay for this basket; empty: all of it."""
    chosen = []
    for name in _texts(body, "tenders"):
        if name not in till.tenders:
            return _refuse(f"{name!r:.20}: this till takes {', '.join(till.tenders)}")
        chosen.append(Tender(name))
    wish = till.state.wish
    tenders = tuple(chosen) or Ask().tenders
    return _done(till.wish(replace(wish, ask=replace(wish.ask, tenders=tenders)), moment))


@_by_cashier
def _cash(till: Counter, _desk: TillDesk, _body: dict[str, Any], moment: Moment) -> Answer:
    return _done(till.sell_without_card(moment))


@_by_cashier
def _substitute(till: Counter, _desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    return _substitute_at(till, body, moment)


def _substitute_at(till: Counter, body: dict[str, Any], moment: Moment) -> Answer:
    """What is given in place of what was ordered, and the site's word for why."""
    given, why = body.get("given"), _text(body, "why")
    site = till.cache.small.site
    words = () if site is None else site.substitutions
    if why not in words:
        return _refuse(f'"why" must be one of: {", ".join(words) or "none is set for this site"}')
    if not isinstance(given, dict) or not 0 < len(given) <= LINES_MAX:
        return _refuse('"given" must name what is given for each ordered product')
    products = till.cache.small.products
    for ordered, instead in given.items():
        if instead not in products:
            return _refuse(f"{instead!r:.40}: not in the menu (in place of {ordered!r:.40})")
    wish = till.state.wish
    changed = replace(wish, ask=replace(wish.ask, given=dict(given)), why=why)
    return _done(till.wish(changed, moment))


@_by_cashier
def _prepare(till: Counter, _desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    """What the orders of the card shown last still need: `grams` of each weighed dish, `given` and
    `why` as of `substitute`; `rest` leaves for later what lacks something. Then the card again."""
    grams, given = body.get("grams", {}), body.get("given", {})
    products = till.cache.small.products
    if not isinstance(grams, dict) or len(grams) > LINES_MAX or not isinstance(given, dict):
        return _refuse('"grams" and "given" must name products')
    for product_id, weight in grams.items():
        if product_id not in products or not products[product_id].weighed:
            return _refuse(f"{product_id!r:.40}: nothing that is weighed here")
        if not isinstance(weight, int) or isinstance(weight, bool) or not 0 < weight <= GRAMS_MAX:
            return _refuse(f"{product_id!r:.40}: 1 to {GRAMS_MAX} grams")
    if given:
        answer = _substitute_at(till, body, moment)
        if not answer["ok"]:
            return answer
    wish = till.state.wish
    prepared = replace(wish.prepared, grams=dict(grams), rest=body.get("rest") is True)
    problem = till.wish(replace(wish, prepared=prepared), moment)
    return _done(problem or till.charge(moment, collect=True))


@_by_cashier
def _emergency(till: Counter, _desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    """A supervisor feeds a hungry child: whoever was refused this basket, else the next card, pays
    nothing now and owes it. With `cardholder` nobody's card is needed, and with `nobody` it is a
    child whom no list names: then, as for one without an account, the city pays."""
    if not till.state.basket.lines:
        return _refuse("ring the meal up first")
    cardholder_id, nobody = _text(body, "cardholder"), body.get("nobody") is True
    if nobody and cardholder_id:
        return _refuse('"cardholder" and "nobody" cannot both be')
    if till.busy:
        return _refuse(BUSY)  # Before the word is used up.
    supervisor = till.staff.supervise(moment, SupervisedAct.EMERGENCY)
    if not supervisor:
        return _refuse(NO_SUPERVISOR)
    wish = Wish(
        ask=Ask(emergency=True),
        supervisor=supervisor,
        cardholder_id=cardholder_id or till.state.wish.cardholder_id,
    )
    if nobody:  # Now or not at all: the next card is somebody else's.
        return _done(till.sell_without_card(moment, wish))
    problem = till.wish(wish, moment) or till.charge(moment)
    if not problem and cardholder_id:
        problem = till.serve_person(cardholder_id, moment)
    return _done(problem)


@_by_cashier
def _override(till: Counter, _desk: TillDesk, _body: dict[str, Any], moment: Moment) -> Answer:
    """A supervisor answers for this basket though it may hold an allergen, for one child."""
    if not till.state.basket.lines:
        return _refuse("ring the basket up first")
    if till.busy:
        return _refuse(BUSY)
    supervisor = till.staff.supervise(moment, SupervisedAct.OVERRIDE_ALLERGENS)
    if not supervisor:
        return _refuse(NO_SUPERVISOR)
    wish = till.state.wish
    changed = replace(wish, ask=replace(wish.ask, override_allergens=True), supervisor=supervisor)
    return _done(till.wish(changed, moment) or till.charge(moment))


@_at_till
def _give_date(till: Counter, _desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    return _done(till.give_date(_text(body, "date"), _text(body, "slot"), moment))


# ------------------------------------------------------------------------ without a card


@_at_till
def _void(till: Counter, desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    key = (_text(body, "epoch") or till.journal.epoch, _number(body, "sale"))
    problem = desk.void(key[1], moment, epoch=key[0])
    if not problem and till.last_sale == key:
        till.last_sale = None
        till.state = _unshown(till.state)
    return _done(problem)


def _unshown(state: TillState) -> TillState:
    """Without the light of a sale that is undone, on the screen or at a second tap."""
    shown, answered = state.shown, state.answered
    if shown is not None and shown.decision is not None and shown.decision.sold:
        state = replace(state, shown=None)
    if answered is not None and answered.decision.sold:
        state = replace(state, answered=None)
    return state


def _sale_key(till: Counter, desk: TillDesk, body: dict[str, Any], moment: Moment) -> SaleKey:
    """Without `device` this till, without `epoch` the one in which that till sells now."""
    device = _text(body, "device") or till.cache.device
    return device, _text(body, "epoch") or desk.epoch_of(device, moment), _number(body, "sale")


@_by_cashier
def _refund(till: Counter, desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    """`lines`, `[product, price, pieces]` each, or all that is left; what goes back by which
    tender."""
    why = _text(body, "why")
    if not why:
        return _refuse('"why" must say why it is given back')
    chosen = _chosen(body)
    if isinstance(chosen, str):
        return _refuse(chosen)
    fact = desk.refund(_sale_key(till, desk, body, moment), why, moment, chosen=chosen)
    if isinstance(fact, str):
        return _refuse(fact)
    back: dict[str, int] = {}
    for part in fact.tenders:
        back[part.tender] = back.get(part.tender, 0) + part.amount_minor
    return _done(back_minor_by_tender=back, total_minor=sum(back.values()))


@_by_cashier
def _sale(till: Counter, desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    """One sale of this till or another: its lines, and how many of each can be given back."""
    key = _sale_key(till, desk, body, moment)
    found = desk.sale_left(key)
    if isinstance(found, str):
        return _refuse(found)
    names = {one.product_id: one.name for one in till.products()}
    lines = [
        {
            "product": one.line.product,
            "name": names.get(one.line.product, one.line.product),
            "quantity": one.line.quantity,
            "grams": one.line.grams,
            "price_minor": one.line.price_minor,
            "amount_minor": one.line.amount_minor,
            "left": one.left,
        }
        for one in lines_left(*found)
    ]
    sale = found[0]
    return _done(
        device=key[0],
        epoch=key[1],
        sale=key[2],
        lines=lines,
        total_minor=sale.total_minor,
        business_date=sale.business_date,
    )


@_by_cashier
def _sales(_till: Counter, desk: TillDesk, _body: dict[str, Any], _moment: Moment) -> Answer:
    """Sales of this shift that stand, newest first."""
    sales = [
        {
            "epoch": sale.epoch,
            "sale": sale.sequence,
            "total_minor": sale.total_minor,
            "lines": [[line.product, line.quantity, line.grams] for line in sale.lines],
        }
        for sale in desk.sales()
    ]
    return _done(sales=sales[::-1][:NAMES_MAX])


@_by_cashier
def _group_list(till: Counter, desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    """All groups; or, of one, its members and to whom a meal is due in the slot."""
    group, slot = _text(body, "group"), _text(body, "slot") or till.slot(moment)
    if not group:
        groups = [
            {"group": name, "size": len(row.member_ids)} for name, row in desk.groups().items()
        ]
        return _done(slot=slot, groups=groups)
    present = till.cache.present(moment, group) if body.get("from_presence") is True else None
    members = [
        {
            "cardholder": one.cardholder_id,
            "name": desk.names_of(one.person)[0],
            "present": one.present,
            "served": one.served,
            "due": bool(one.meals),
            "unconfirmed": any(meal.unconfirmed for meal in one.meals),
        }
        for one in desk.members(group, slot, moment, present=present)
    ]
    return _done(group=group, slot=slot, members=members)


@_by_cashier
def _serve_group(till: Counter, desk: TillDesk, body: dict[str, Any], moment: Moment) -> Answer:
    group, slot = _text(body, "group"), _text(body, "slot") or till.slot(moment)
    present = till.cache.present(moment, group) if body.get("from_presence") is True else None
    absent = frozenset(_texts(body, "absent"))
    served = desk.serve_group(group, slot, absent, moment, present=present)
    return _refuse(served) if isinstance(served, str) else _done(served=served, slot=slot)


@_at_till
def _close_out(_till: Counter, desk: TillDesk, _body: dict[str, Any], moment: Moment) -> Answer:
    """The Z report. It is recorded: a second one begins where this one ends."""
    fact = desk.close_out(moment)
    if isinstance(fact, str):
        return _refuse(fact)
    return _done(
        number=fact.number,
        ranges=[[one.epoch, one.first, one.last] for one in fact.ranges],
        total_minor_by_tender=fact.total_minor_by_tender,
        totals={name: format_minor(n) for name, n in fact.total_minor_by_tender.items()},
        count_by_kind=fact.count_by_kind,
        voids_by_cashier=fact.voids_by_cashier,
        overrides_by_cashier=fact.overrides_by_cashier,
        duplicates=fact.duplicates,
        refunded_minor_by_tender=fact.refunded_minor_by_tender,
        refunded={name: format_minor(n) for name, n in fact.refunded_minor_by_tender.items()},
        unsent=fact.unsent,
        business_date=fact.business_date,
    )


# ------------------------------------------------------------------------------- helpers


def _lines(body: dict[str, Any]) -> list[Line] | str:
    found = body.get("lines")
    if not isinstance(found, list) or len(found) > LINES_MAX:
        return f'"lines" must be a list of at most {LINES_MAX} [product, quantity]'
    lines: list[Line] = []
    for item in found:
        match item:
            case [str(product), int(quantity)] if not isinstance(quantity, bool):
                lines.append((product, quantity))
            case [str(product), int(quantity), int(grams)] if not (
                isinstance(quantity, bool) or isinstance(grams, bool)
            ):
                lines.append((product, quantity, grams))
            case _:
                return f'"lines": {item!r:.60} is not [product, quantity] or with grams behind'
    return lines


def _chosen(body: dict[str, Any]) -> dict[tuple[str, int], int] | str | None:
    """None: all that is left."""
    found = body.get("lines")
    if found is None:
        return None
    wrong = f'"lines" must be 1 to {LINES_MAX} [product, price, pieces]'
    if not isinstance(found, list) or not 0 < len(found) <= LINES_MAX:
        return wrong
    chosen: dict[tuple[str, int], int] = {}
    for item in found:
        match item:
            case [str(product), int(price), int(pieces)] if not (
                isinstance(price, bool) or isinstance(pieces, bool) or (product, price) in chosen
            ):
                chosen[product, price] = pieces
            case _:
                return wrong
    return chosen


def _text(body: dict[str, Any], name: str) -> str:
    """A short text, "" where there is none."""
    found = body.get(name, "")
    if not isinstance(found, str) or len(found) > TEXT_CHARS_MAX:
        raise ValueError(f'"{name}" must be a text of at most {TEXT_CHARS_MAX} characters')
    return found


def _texts(body: dict[str, Any], name: str) -> list[str]:
    found = body.get(name, [])
    if not isinstance(found, list) or len(found) > NAMES_MAX:
        raise ValueError(f'"{name}" must be a list of at most {NAMES_MAX}')
    return [_text({name: one}, name) for one in found]


def _number(body: dict[str, Any], name: str) -> int:
    found = body.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ValueError(f'"{name}" must be a number above 0')
    return found


HANDLERS: Final[dict[str, Handler]] = {
    "basket": _basket,
    "ring": _ring,
    "charge": _charge,
    "cancel": _cancel,
    "tender": _tender,
    "cash": _cash,
    "substitute": _substitute,
    "prepare": _prepare,
    "emergency": _emergency,
    "override_allergens": _override,
    "give_date": _give_date,
    "void": _void,
    "refund": _refund,
    "sale": _sale,
    "sales": _sales,
    "group_list": _group_list,
    "serve_group": _serve_group,
    "close_out": _close_out,
}
