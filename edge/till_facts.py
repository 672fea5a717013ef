"""Facts of a till out of what its kernels decided: words of the wire for words of the house. Pure.

The kernels say `takings`, `meals`, `preorders` and `cash`; the city, which has many sites, is told
whose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge.messages import (
    Hold,
    MealUse,
    Posting,
    PreorderUse,
    SaleFact,
    SaleLine,
    SaleRefused,
    TenderPart,
    VersionMark,
)
from edge.model import ListState, Presentation, PurchaseView
from edge.pos.basket import Basket
from edge.pos.decision import HeldAmount, PurchaseDecision
from edge.pos.ledger import Posting as Side
from edge.pos.ledger import at_site, postings_for
from edge.pos.tender import SoldLine
from edge.pos.till import Wish

NO_VERSION: Final = VersionMark(0, 0)  # Of a list that was never received.


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """One card and all that was decided it by, so that it can be decided again."""

    presentation: Presentation
    reader: str
    basket: Basket
    date: str
    slot: str
    wish: Wish
    menu: VersionMark | None  # In force as the card was shown, and in the basket's prices.
    cardholder_id: str = ""  # Pointed at by name: there was no card.

    def about(
        self,
        view: PurchaseView,
        decision: PurchaseDecision,
        cashier: str,
    ) -> dict[str, Any]:
        """What a fact says of it, sold or refused."""
        return {
            "credential": self.presentation.credential_id,
            "tier": self.presentation.tier,
            "reader": self.reader,
            "lines": wire_lines(decision.lines),
            "total_minor": decision.total_minor,
            "business_date": self.date,
            "people": mark(view.people),
            "money": mark(view.money),
            "menu": self.menu,
            "caveats": decision.caveats,
            "cashier": cashier,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A card whose answer waits for the other tills: for facts of theirs that are missing here, or,
    with a hold, until they have heard of it."""

    tap: Tap
    until_ms: int
    hold: HeldAmount | None = None
    account_id: str = ""

    @classmethod
    def with_hold(
        cls, fact: Hold, tap: Tap, amount_minor_by_purse: Mapping[str, int], *, until_ms: int
    ) -> Waiting:
        """A hold that is on record."""
        held = HeldAmount(
            epoch=fact.epoch,
            sequence=fact.sequence,
            amount_minor_by_purse=amount_minor_by_purse,
            business_date=tap.date,
        )
        return cls(tap=tap, until_ms=until_ms, hold=held, account_id=fact.account)


def mark(state: ListState | None) -> VersionMark | None:
    return None if state is None else VersionMark(state.version.list_epoch, state.version.number)


def wire_lines(lines: Iterable[SoldLine]) -> tuple[SaleLine, ...]:
    return tuple(
        SaleLine(
            product=line.line.product.product_id,
            category=line.line.product.category,
            quantity=line.quantity,
            price_minor=line.price_minor,
            grams=line.line.grams,
        )
        for line in lines
    )


def wire_postings(postings: Iterable[Side], site: str) -> tuple[Posting, ...]:
    return tuple(
        Posting(
            account=at_site(p.account_id, site),
            purse=p.purse,
            amount_minor=p.amount_minor,
        )
        for p in postings
    )


def turned(postings: Iterable[Posting]) -> tuple[Posting, ...]:
    """What undoes them."""
    return tuple(
        Posting(account=p.account, purse=p.purse, amount_minor=-p.amount_minor) for p in postings
    )


def hold_fields(
    tap: Tap, view: PurchaseView, amount_minor_by_purse: Mapping[str, int], site: str
) -> dict[str, Any]:
    """An amount set aside for a basket, posted as its sale would be."""
    assert view.account is not None and view.cardholder is not None
    account_id = view.account.account_id
    return {
        "account": account_id,
        "cardholder": view.cardholder.cardholder_id,
        "postings": wire_postings(postings_for(account_id, amount_minor_by_purse), site),
        "business_date": tap.date,
        "money": mark(view.money) or NO_VERSION,
    }


def sale_fields(decision: PurchaseDecision, site: str, *, slot: str, why: str) -> dict[str, Any]:
    """How a basket was paid and what was claimed with it. `why` is said of what was substituted."""
    assert decision.sold
    kinds = {part.tender for part in decision.paid}
    parts = tuple(
        TenderPart(tender=part.tender, amount_minor=part.amount_minor, purse=part.purse)
        for part in decision.paid
    )
    return {
        "tender": decision.tender,
        "postings": wire_postings(decision.postings, site),
        "tenders": parts if len(kinds) > 1 else (),
        "account_pieces": _pieces(decision.on_account) if len(kinds) > 1 else None,
        "by_right": wire_lines(decision.by_right) if len(kinds) > 1 else (),
        "meals": tuple(MealUse(entitlement=name, slot=slot) for name in decision.meals),
        "preorders": tuple(
            PreorderUse(
                preorder=one.preorder_id,
                substituted=one.substituted,
                why=why if one.substituted else "",
            )
            for one in decision.preorders
        ),
        "slot": slot,
        "overridden": decision.overridden,
    }


def _pieces(lines: Iterable[SoldLine]) -> dict[str, int]:
    pieces: dict[str, int] = {}
    for line in lines:
        category = line.line.product.category
        pieces[category] = pieces.get(category, 0) + line.quantity
    return pieces


def decided(
    fields: dict[str, Any],
    tap: Tap,
    view: PurchaseView,
    decision: PurchaseDecision,
    *,
    site: str,
    hold: int | None,
) -> SaleFact | SaleRefused:
    """The one fact of a decision. `fields`: its stamp, and what `Tap.about` says."""
    cardholder = view.cardholder
    if not decision.sold:
        return SaleRefused(
            **fields,
            cardholder=None if cardholder is None else cardholder.cardholder_id,
            reason=decision.reason,
        )
    fields |= {name: fields[name] or NO_VERSION for name in ("people", "money", "menu")}
    answers = tap.wish.ask.emergency or decision.overridden is not None
    return SaleFact(
        **fields,
        **sale_fields(decision, site, slot=tap.slot, why=tap.wish.why),
        account="" if view.account is None else view.account.account_id,
        cardholder="" if cardholder is None else cardholder.cardholder_id,
        hold=hold,
        supervisor=tap.wish.supervisor if answers else "",
    )
