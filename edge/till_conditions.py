"""Under what conditions a till decides: policy, tenders, slot, the base's date, and the view.

Gathers from lists in force; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from edge import logs
from edge.model import (
    CorruptData,
    Credential,
    DeviceFault,
    Moment,
    PurchaseView,
    SupervisedAct,
    Tender,
)
from edge.offline_cache.lookup import Cache
from edge.pos.decision import PurchasePolicy, due_preorders
from edge.pos.entitlement import current_slot
from edge.pos.ledger import MINUTES_PER_DAY
from edge.pos.ordered import Order, OrderedLine, compose
from edge.pos.tender import USUAL_TENDERS
from edge.pos.till import Wish
from edge.till_facts import Tap

NAMES_MAX: Final = 10_000  # Our choice: a kitchen's dishes of many years.
NOTHING_HELD: Final = PurchaseView(
    people=None,
    money=None,
    hot_listed=False,
    credential=None,
    cardholder=None,
    account=None,
    tail=(),
)


class Staff(Protocol):
    """Who acts at this station (`edge/staff.py`)."""

    def cashier(self, moment: Moment) -> str: ...

    def supervise(self, moment: Moment, act: SupervisedAct) -> str: ...


class Nobody:
    """A till at which nobody signs in."""

    def cashier(self, _moment: Moment) -> str:
        return ""

    def supervise(self, _moment: Moment, _act: SupervisedAct) -> str:
        return ""


class Conditions:
    """Of one till, from its lists."""

    def __init__(self, cache: Cache, zone: ZoneInfo, count: Callable[[str], None]) -> None:
        self._cache = cache
        self._zone = zone
        self._count = count
        self._names: dict[str, str] = {}  # Of every dish seen since the start.
        self._log = logs.get("till")

    def policy(self) -> PurchasePolicy:
        site, device = self._cache.small.site, self._cache.device
        if site is None:
            return PurchasePolicy(device=device)
        return PurchasePolicy(
            list_age_amber_s=site.list_age_amber_s,
            base_age_days_max=site.base_age_days_max,
            floor_limit_minor=site.floor_limit_minor,
            emergency_minor_max=site.emergency_minor_max,
            device=device,
        )

    @property
    def tenders(self) -> tuple[Tender, ...]:
        """What this till takes: as the site says; one that issues only takes no money."""
        site = self._cache.small.site
        if site is None:
            return USUAL_TENDERS
        if self._cache.device in site.issue_only_tills:
            return (Tender.PREORDER, Tender.ENTITLEMENT)
        return site.tenders

    def allowed(self, wish: Wish) -> Wish:
        """What was asked for, as far as this till may. Cash is no matter of cards, and an order is
        handed over as one."""
        asked = (Tender.PREORDER, *wish.ask.tenders) if wish.collects else wish.ask.tenders
        chosen = [one for one in asked if one in self.tenders]
        by_card = tuple(one for one in chosen if one is not Tender.CASH)
        return replace(wish, ask=replace(wish.ask, tenders=by_card or (Tender.ENTITLEMENT,)))

    def slot(self, moment: Moment) -> str:
        """The meal's slot by the clock; "" between meals."""
        site = self._cache.small.site
        slots = {} if site is None else site.meal_slots
        return current_slot(slots, moment.minute_of_week % MINUTES_PER_DAY)

    def is_slot(self, name: str) -> bool:
        site = self._cache.small.site
        return site is not None and name in site.meal_slots

    def base_date(self, view: PurchaseView) -> str | None:
        """The local date on which the city issued the base; it needs no clock of ours."""
        if view.money is None or not view.money.issued_utc_ms:
            return None
        return self.local_date(view.money.issued_utc_ms)

    def signed_date(self) -> str:
        """No day before it can be today: the city has signed a time of it."""
        anchor = self._cache.anchor()
        return self.local_date(0 if anchor is None else anchor.floor_utc_ms) or ""

    def local_date(self, utc_ms: int) -> str | None:
        try:
            at = datetime.fromtimestamp(utc_ms / 1000, UTC).astimezone(self._zone)
        except (ValueError, OverflowError, OSError):
            return None  # No date that a calendar knows.
        return at.date().isoformat()

    def ordered(self, view: PurchaseView, date: str, slot: str, wish: Wish) -> Order:
        """What was ordered for this person and slot, and what it lacks."""
        prepared = replace(wish.prepared, given=wish.ask.given)
        due = due_preorders(view, date, slot)
        return compose(due, self._cache.small.products, self._names, prepared)

    def are_due(self, tap: Tap, view: PurchaseView, lines: Iterable[OrderedLine]) -> bool:
        """Whether all of these that were ready to be handed over are still to be."""
        if view.cardholder is None:
            return True  # The card's own reason comes first.
        due = {one.preorder_id for one in due_preorders(view, tap.date, tap.slot)}
        return due >= {line.preorder_id for line in lines if line.need is None}

    def note_names(self) -> None:
        """A menu is in force: its dishes are known by name when it is not any more."""
        for product in self._cache.small.products.values():
            if len(self._names) < NAMES_MAX:
                self._names[product.product_id] = product.name

    def view(self, credential_id: str, moment: Moment, cardholder_id: str = "") -> PurchaseView:
        """Base plus tail of whoever showed this card, or was pointed at by name."""
        if self._cache.small.site is None:
            return NOTHING_HELD  # Nor is it known which other tills there are.
        if not credential_id and not cardholder_id:
            return NOTHING_HELD
        try:
            view = self._cache.purchase_view(credential_id, moment, cardholder_id=cardholder_id)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot read the lists", reason=str(problem))
            return NOTHING_HELD
        if cardholder_id and view.cardholder is not None:
            nobodys = Credential(
                credential_id="",
                cardholder_id=cardholder_id,
                tier=0,
                valid_from_utc_s=0,
                valid_until_utc_s=2**53,
            )
            return replace(view, credential=nobodys)
        return view
