"""The till as the shell drives it: menu and basket in, one card, decide, record, and show.

Every rule is `pos.till`'s and `pos.decision`'s; the green light comes after the commit, and an
unlit sale is not charged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from edge import logs
from edge.messages import Posting, SaleFact, SaleLine, SaleRefused, VersionMark
from edge.model import (
    CorruptData,
    DeviceFault,
    ListState,
    Moment,
    Presentation,
    Product,
    PurchaseView,
)
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.pos.basket import Basket, BasketProblem
from edge.pos.cashier import CashierView, cashier_view
from edge.pos.decision import PurchaseDecision, PurchasePolicy, decide_purchase
from edge.pos.ledger import TAKINGS_ACCOUNT
from edge.pos.till import Notice, TapAnswer, TillState
from edge.readers.proving import DISPROVED
from edge.readers.reader import CardRead, ReadFailure
from edge.trust import ScopeKeys

NOTHING_HELD = PurchaseView(
    people=None,
    money=None,
    hot_listed=False,
    credential=None,
    cardholder=None,
    account=None,
    tail=(),
)


class Counter:
    """One till."""

    def __init__(
        self,
        cache: Cache,
        journal: Journal,
        counters: CardCounters,
        count: Callable[[str], None],
        zone: ZoneInfo,
    ) -> None:
        self._zone = zone
        self.state = TillState()
        self._cache = cache
        self._journal = journal
        self._counters = counters
        self._count = count
        self._menu: VersionMark | None = None
        self._log = logs.get("till")

    # ------------------------------------------------------------------ the cashier's hand

    def set_basket(self, lines: Sequence[tuple[str, int]], moment: Moment) -> str:
        """Replace the basket and charge it; "" or what is wrong. Empty lines clear it."""
        now_ms = moment.mono_ms
        state = self.state.cancel(now_ms=now_ms)
        products = self._cache.small.products
        for product_id, quantity in lines:
            product = products.get(product_id)
            if product is None:
                return f"{product_id!r:.40}: not in the menu; ask the till for its menu again"
            more = state.add(product, quantity, now_ms=now_ms)
            if isinstance(more, BasketProblem):
                return f"{product_id}: the basket cannot take {quantity} more ({more})"
            state = more
        date = self._business_date(state, moment)
        self.state = state.charge(date_known=date is not None, now_ms=now_ms)
        return ""

    def products(self) -> Sequence[Product]:
        return tuple(self._cache.small.products.values())

    def view(self) -> CashierView:
        return cashier_view(self.state)

    def step(self, moment: Moment) -> None:
        if self._cache.small.menu != self._menu:
            self._menu = self._cache.small.menu
            self.state = self.state.repriced(self._cache.small.products)
        self.state = self.state.step(now_ms=moment.mono_ms)

    # ------------------------------------------------------------------------- a tap

    def tap(
        self, credential_id: str, read: CardRead, moment: Moment, _keys: ScopeKeys | None
    ) -> None:
        """Look up, decide, record, show: in this order."""
        now_ms = moment.mono_ms
        counter = None if read.evidence is None else read.evidence.counter
        replayed = (
            bool(credential_id)
            and counter is not None
            and self._counters.is_replayed(credential_id, counter)
        )
        self.state, answer = self.state.tap(
            credential_id, read_at_ms=min(read.at_ms, now_ms), now_ms=now_ms
        )
        if answer is not TapAnswer.DECIDE:
            self._count(f"till_{answer}")
            return
        deciding = self.state.deciding
        date = self._business_date(self.state, moment)
        assert deciding is not None
        if date is None:
            self.state = self.state.fail(Notice.DATE_NEEDED, now_ms=now_ms)
            return
        presentation = Presentation(
            credential_id=credential_id,
            age_ms=max(0, now_ms - read.at_ms),
            tier=read.tier,
            replayed=replayed,
            ambiguous=read.is_ambiguous,
        )
        view = self._view(credential_id, moment)
        decision = decide_purchase(
            presentation,
            deciding.basket,
            view,
            moment.now(),
            date,
            self._policy(),
            base_date=self._base_date(view),
        )
        try:
            self._record(presentation, read, deciding.basket, view, decision, date, moment)
        except (DeviceFault, CorruptData) as fault:
            self._count("unrecorded_sale_refused")
            self._log.error("cannot record, so nothing is sold", reason=str(fault))
            self.state = self.state.fail(Notice.NOT_RECORDED, now_ms=now_ms)
            return
        self._counters.written()
        self._count("sold" if decision.sold else f"refused_{decision.reason}")
        self.state = self.state.answer(decision, now_ms=now_ms)

    def show_failed_read(self, failure: ReadFailure, moment: Moment) -> None:
        """A card was shown that names nobody: the cashier is told what to do."""
        notice = Notice.CARD_NOT_PROVEN if failure in DISPROVED else Notice.CARD_NOT_READ
        self.state = self.state.unread(notice, now_ms=moment.mono_ms)

    # ------------------------------------------------------------------------- helpers

    def _business_date(self, state: TillState, moment: Moment) -> str | None:
        return state.business_date(
            clock_trusted=moment.clock_trusted,
            local_date=moment.local_date,
            now_ms=moment.mono_ms,
        )

    def _base_date(self, view: PurchaseView) -> str | None:
        """The local date on which the city issued the base; it needs no clock of ours."""
        if view.money is None or not view.money.issued_utc_ms:
            return None
        try:
            issued = datetime.fromtimestamp(view.money.issued_utc_ms / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return None  # No date that a calendar knows; the list's age decides.
        return issued.astimezone(self._zone).date().isoformat()

    def _view(self, credential_id: str, moment: Moment) -> PurchaseView:
        if not credential_id:
            return NOTHING_HELD
        try:
            return self._cache.purchase_view(credential_id, moment)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot read the lists", reason=str(problem))
            return NOTHING_HELD

    def _policy(self) -> PurchasePolicy:
        site = self._cache.small.site
        if site is None:
            return PurchasePolicy()
        return PurchasePolicy(
            list_age_amber_s=site.list_age_amber_s, base_age_days_max=site.base_age_days_max
        )

    def _record(
        self,
        presentation: Presentation,
        read: CardRead,
        basket: Basket,
        view: PurchaseView,
        decision: PurchaseDecision,
        date: str,
        moment: Moment,
    ) -> None:
        about: dict[str, Any] = {
            "credential": presentation.credential_id,
            "tier": read.tier,
            "reader": read.reader_id,
            "lines": tuple(
                SaleLine(
                    product=line.product.product_id,
                    category=line.product.category,
                    quantity=line.quantity,
                    price_minor=line.product.price_minor,
                )
                for line in basket.lines
            ),
            "total_minor": decision.total_minor,
            "business_date": date,
            "people": _mark(view.people),
            "money": _mark(view.money),
            "menu": self._cache.small.menu,
            "caveats": decision.caveats,
        }
        cardholder = view.cardholder
        with self._journal.record(moment) as tap:
            self._counters.write(tap.db)
            if not decision.sold:
                tap.add(
                    SaleRefused(
                        **tap.stamp(moment),
                        **about,
                        cardholder=None if cardholder is None else cardholder.cardholder_id,
                        reason=decision.reason,
                    )
                )
                return
            assert cardholder is not None and view.account is not None
            tap.add(
                SaleFact(
                    **tap.stamp(moment),
                    **about,
                    account=view.account.account_id,
                    cardholder=cardholder.cardholder_id,
                    tender=decision.tender,
                    postings=tuple(
                        Posting(
                            account=self._on_the_wire(p.account_id),
                            purse=p.purse,
                            amount_minor=p.amount_minor,
                        )
                        for p in decision.postings
                    ),
                )
            )

    def _on_the_wire(self, account_id: str) -> str:
        """The kernel says `takings`; the city, which has many sites, is told whose."""
        return f"sales:{self._journal.site}" if account_id == TAKINGS_ACCOUNT else account_id


def _mark(state: ListState | None) -> VersionMark | None:
    return None if state is None else VersionMark(state.version.list_epoch, state.version.number)
