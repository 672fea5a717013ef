"""The till as the shell drives it: menu and basket in, one card, decide, record, and show.

Every rule is `pos`'s; the green light comes after the commit, and an unlit sale is not charged: a
start voids what was sold and never shown. Where facts of another till are on their way here, a
card waits for them; a basket above the cap is held first, and the hold waits for the other tills:
in `step`, for so long as `pos/cover.py` says, and there it is sold or refused. What is done without
a card (voids, groups, the day's end) is `till_desk.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from zoneinfo import ZoneInfo

from edge import logs
from edge.messages import Hold, VersionMark
from edge.model import (
    CorruptData,
    DeviceFault,
    Moment,
    Presentation,
    Product,
    PurchaseReason,
    PurchaseView,
    Tender,
)
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.pos.basket import BasketProblem
from edge.pos.cashier import CashierView, cashier_view
from edge.pos.cover import WAIT_MS_MAX, patience_ms
from edge.pos.decision import HeldAmount, PurchaseDecision, decide_purchase
from edge.pos.till import DateProblem, Notice, TapAnswer, TillState, Wish
from edge.pos.without_card import decide_without_card
from edge.readers.reader import CardRead, ReadFailure
from edge.till_conditions import NOTHING_HELD, Conditions, Nobody, Staff
from edge.till_facts import Tap, Waiting, decided, hold_fields
from edge.till_standing import TillStanding
from edge.trust import ScopeKeys

BUSY: Final = "the till waits for the other tills; a moment, or cancel"
Line = tuple[str, int] | tuple[str, int, int]


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
        self.state = TillState()
        self.staff: Staff = Nobody()
        self.cache = cache
        self.journal = journal
        self._counters = counters
        self._count = count
        self._menu: VersionMark | None = None
        self._waiting: Waiting | None = None
        self._started_ms: int | None = None
        self.last_sale: tuple[str, int] | None = None  # What can be voided first.
        self.standing = TillStanding(journal, cache, count)
        self._conditions = Conditions(cache, zone, count)
        self._log = logs.get("till")

    # ------------------------------------------------------------------ the cashier's hand

    def set_basket(self, lines: Sequence[Line], moment: Moment) -> str:
        """Replace the basket and charge it; "" or what is wrong. Empty lines clear it. A line is
        product, quantity and, of a weighed product, grams."""
        return self.ring_up(lines, moment) or self.charge(moment)

    def ring_up(self, lines: Sequence[Line], moment: Moment) -> str:
        """Replace the basket; "" or what is wrong with it."""
        if self.busy:
            return BUSY
        now_ms = moment.mono_ms
        state = self.state.cancel(now_ms=now_ms)
        products = self.cache.small.products
        for product_id, quantity, *weight in lines:
            product = products.get(product_id)
            if product is None:
                return f"{product_id!r:.40}: not in the menu; ask the till for its menu again"
            grams = weight[0] if weight else 0
            more = state.add(product, quantity, grams=grams, now_ms=now_ms)
            if isinstance(more, BasketProblem):
                return f"{product_id}: the basket cannot take {quantity} more ({more})"
            state = more
        self.state = state
        return ""

    def charge(self, moment: Moment, *, collect: bool = False) -> str:
        """Await a card for the basket, or for what was ordered before; "" or why not."""
        if self.busy:
            return BUSY
        known = self.business_date(moment) is not None
        if collect and Tender.PREORDER not in self.tenders:
            return "this till hands over no orders"  # On account, it would be paid for once more.
        if collect:
            self.state = self.state.collect(date_known=known, now_ms=moment.mono_ms)
        else:
            self.state = self.state.charge(date_known=known, now_ms=moment.mono_ms)
        return ""

    def cancel(self, moment: Moment) -> None:
        """The basket is abandoned, and what waits with it."""
        if self._waiting is not None:
            self._end_waiting(moment, "cancelled")
            self.state = self.state.fail(Notice.NOT_CHARGED, now_ms=moment.mono_ms)
        self.state = self.state.cancel(now_ms=moment.mono_ms)

    def wish(self, wish: Wish, moment: Moment) -> str:
        """How the basket is to be paid; "" or why not."""
        if self.busy:
            return BUSY
        self.state = self.state.wished(wish, now_ms=moment.mono_ms)
        return ""

    def products(self) -> Sequence[Product]:
        return tuple(self.cache.small.products.values())

    def view(self) -> CashierView:
        return cashier_view(self.state)

    @property
    def busy(self) -> bool:
        """A card waits for the other tills: nothing else begins."""
        return self._waiting is not None

    # -------------------------------------------------------------------------- time

    def step(self, moment: Moment) -> None:
        if self._started_ms is None:
            self._started_ms = moment.mono_ms
        self.standing.lit()
        self.standing.ready(moment)
        if self._waiting is not None:
            self._go_on(moment)
        if self.cache.small.menu != self._menu:
            self._menu = self.cache.small.menu
            self._conditions.note_names()
            self.state = self.state.repriced(self.cache.small.products)
        self.state = self.state.step(now_ms=moment.mono_ms)

    def look(self, moment: Moment) -> None:
        """A new base is told of on its own, if no sale tells of it."""
        if not self.busy:
            self.standing.look(moment)

    @property
    def tenders(self) -> tuple[Tender, ...]:
        return self._conditions.tenders

    def due_ms(self) -> int | None:
        """When a card has waited long enough, or a light is to be noted."""
        if self.standing.unlit:
            return 0  # At once, when what was sold is on every screen.
        return None if self._waiting is None else self._waiting.until_ms

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
            credential_id, read_at_ms=min(read.at_ms, now_ms), now_ms=now_ms, tier=read.tier
        )
        if answer is not TapAnswer.DECIDE:
            self._count(f"till_{answer}")
            return
        presentation = Presentation(
            credential_id=credential_id,
            age_ms=max(0, now_ms - read.at_ms),
            tier=read.tier,
            replayed=replayed,
            ambiguous=read.is_ambiguous,
        )
        self._decide_first(presentation, read.reader_id, moment)

    def serve_person(self, cardholder_id: str, moment: Moment) -> str:
        """An emergency meal for somebody without a card, by a supervisor's word; "" or why not."""
        if self.busy or not self.state.wish.ask.emergency:
            return "only an emergency meal is given without a card"
        self.state, answer = self.state.tap(
            cardholder_id, read_at_ms=moment.mono_ms, now_ms=moment.mono_ms
        )
        if answer is not TapAnswer.DECIDE:
            return "charge the basket first"
        presentation = Presentation(credential_id="", age_ms=0, tier=0)
        self._decide_first(presentation, "", moment, cardholder_id=cardholder_id)
        return ""

    def sell_without_card(self, moment: Moment, feed: Wish | None = None) -> str:
        """The basket is paid into the drawer; with `feed`, a supervisor's word for this once, it is
        an emergency meal for a child whom no list names. "" or why not."""
        assert feed is None or feed.ask.emergency, "a supervisor answers for it"
        if feed is None and Tender.CASH not in self.tenders:
            return "this till takes no cash"
        if self.busy:
            return BUSY
        date, now_ms = self.business_date(moment), moment.mono_ms
        if not self.state.basket.lines or date is None or not self.standing.ready(moment):
            return "there is nothing to pay for, or nothing can be recorded now"
        self.state = self.state.charge(date_known=True, now_ms=now_ms)
        # No card: whoever pays next is another, however soon.
        nobody = f"nobody {self.journal.head}"
        self.state, answer = self.state.tap(nobody, read_at_ms=now_ms, now_ms=now_ms)
        if answer is not TapAnswer.DECIDE:
            return "there is nothing to pay for, or nothing can be recorded now"
        deciding = self.state.deciding
        assert deciding is not None
        tap = Tap(
            presentation=Presentation(credential_id="", age_ms=0, tier=0),
            reader="",
            basket=deciding.basket,
            date=date,
            slot=self.slot(moment),
            wish=feed or Wish(),
            menu=self.cache.small.menu,
        )
        minor_max = self._conditions.policy().emergency_minor_max if feed else None
        decision = decide_without_card(deciding.basket, moment.now(), emergency_minor_max=minor_max)
        self._finish(tap, NOTHING_HELD, decision, moment, None)
        return ""

    def give_date(self, local_date: str, slot: str, moment: Moment) -> str:
        """The date, and the meal's slot, while the clock is not sure; "" or why not."""
        if moment.clock_trusted:
            return "the clock is sure; no date is needed"
        if slot and not self._conditions.is_slot(slot):
            return f"{slot!r:.40}: no slot of this site"
        signed = self._conditions.signed_date()
        given = self.state.give_date(
            local_date, not_before=signed, now_ms=moment.mono_ms, slot=slot
        )
        if isinstance(given, DateProblem):
            return f"{local_date!r:.20}: {given}; the city signed {signed} last"
        self.state = given
        return ""

    def show_failed_read(self, failure: ReadFailure, moment: Moment) -> None:
        """A card was shown that names nobody: the cashier is told what to do."""
        if self.busy:
            return
        notice = Notice(f"card_{failure.value}")
        self.state = self.state.unread(notice, now_ms=moment.mono_ms)

    def _decide_first(
        self,
        presentation: Presentation,
        reader: str,
        moment: Moment,
        *,
        cardholder_id: str = "",
    ) -> None:
        now_ms = moment.mono_ms
        date = self.business_date(moment)
        if date is None or not self.standing.ready(moment):
            notice = Notice.DATE_NEEDED if date is None else Notice.NOT_RECORDED
            self.state = self.state.fail(notice, now_ms=now_ms)
            return
        view = self._conditions.view(presentation.credential_id, moment, cardholder_id)
        slot = self.slot(moment)
        self.state = self.state.met(_who(view))
        if self.state.wish.collects:
            order = self._conditions.ordered(view, date, slot, self.state.wish)
            waits = order.lacks and not self.state.wish.prepared.rest
            if waits or not order.basket.lines:
                self.state = self.state.lacking(order, _who(view), now_ms=now_ms)
                return
            self.state = self.state.composed(order)
        deciding = self.state.deciding
        assert deciding is not None
        tap = Tap(
            presentation=presentation,
            reader=reader,
            basket=deciding.basket,
            date=date,
            slot=slot,
            wish=self._conditions.allowed(self.state.wish),
            menu=self.cache.small.menu,
            cardholder_id=cardholder_id,
        )
        decision = self._decide(tap, view, moment, None)
        if not self._waits(tap, view, decision, moment):
            self._finish(tap, view, decision, moment, None)

    def _decide(
        self, tap: Tap, view: PurchaseView, moment: Moment, hold: HeldAmount | None
    ) -> PurchaseDecision:
        return decide_purchase(
            tap.presentation,
            tap.basket,
            view,
            moment.now(),
            tap.date,
            self._conditions.policy(),
            base_date=self._conditions.base_date(view),
            slot=tap.slot,
            ask=tap.wish.ask,
            hold=hold,
        )

    def _finish(
        self,
        tap: Tap,
        view: PurchaseView,
        decision: PurchaseDecision,
        moment: Moment,
        hold: HeldAmount | None,
    ) -> None:
        """Record it, then show it. What cannot be recorded does not count."""
        now_ms = moment.mono_ms
        held = None if hold is None else hold.sequence
        cashier = self.staff.cashier(moment)
        try:
            base = self.standing.new_base() if decision.sold else None
            with self.journal.record(moment) as recording:
                self._counters.write(recording.db)
                about = tap.about(view, decision, cashier)
                fields, site = recording.stamp(moment) | about, self.journal.site
                recording.add(decided(fields, tap, view, decision, site=site, hold=held))
                recorded = recording.head
                if base is not None:
                    self.standing.tell(recording, moment, base)
        except (DeviceFault, CorruptData) as fault:
            self._count("unrecorded_sale_refused")
            self._log.error("cannot record, so nothing is sold", reason=str(fault))
            self.standing.leave_open()  # A hold is released before the next sale.
            self.state = self.state.fail(Notice.NOT_RECORDED, now_ms=now_ms)
            return
        self._counters.written()
        if base is not None:
            self.standing.told(base, moment)
        if decision.sold:
            self.standing.sold()
            self.last_sale = (self.journal.epoch, recorded)
        self._count("sold" if decision.sold else f"refused_{decision.reason}")
        self.state = self.state.answer(decision, now_ms=now_ms, cardholder_id=_who(view))

    # ------------------------------------------------------------- waiting for other tills

    def _waits(
        self, tap: Tap, view: PurchaseView, decision: PurchaseDecision, moment: Moment
    ) -> bool:
        """Whether the answer comes later: with what is missing here, or when a hold was heard."""
        if decision.needs_hold:
            return self._hold(tap, view, decision, moment)
        now_ms = moment.mono_ms
        since_ms = 0 if self._started_ms is None else now_ms - self._started_ms
        wait_ms = patience_ms(view.peers, since_start_ms=since_ms) if decision.needs_facts else 0
        if wait_ms:
            self._count("waits_for_facts")
            self._waiting = Waiting(tap=tap, until_ms=now_ms + wait_ms)
        return wait_ms > 0

    def _hold(
        self, tap: Tap, view: PurchaseView, decision: PurchaseDecision, moment: Moment
    ) -> bool:
        """Set the amount aside and wait; False when even that cannot be recorded."""
        assert view.account is not None
        amounts = {p: n for p, n in decision.account_minor_by_purse.items() if n}
        try:
            with self.journal.record(moment) as recording:
                self._counters.write(recording.db)
                fact = Hold(
                    **recording.stamp(moment), **hold_fields(tap, view, amounts, self.journal.site)
                )
                recording.add(fact)
        except (DeviceFault, CorruptData) as fault:
            self.standing.leave_open()  # Should it be on disk all the same.
            self._log.error("cannot record a hold", reason=str(fault))
            return False
        self._counters.written()
        self._count("holds")
        until_ms = moment.mono_ms + WAIT_MS_MAX
        self._waiting = Waiting.with_hold(fact, tap, amounts, until_ms=until_ms)
        return True

    def _go_on(self, moment: Moment) -> None:
        """Whether all is known, and the hold covered, by now; everything is judged anew."""
        waiting = self._waiting
        assert waiting is not None
        tap, hold = waiting.tap, waiting.hold
        view = self._conditions.view(tap.presentation.credential_id, moment, tap.cardholder_id)
        if tap.wish.collects and not self._conditions.are_due(tap, view, self.state.order):
            # Handed over elsewhere meanwhile: what nobody rang up is not sold instead.
            left = self._conditions.ordered(view, tap.date, tap.slot, tap.wish)
            self._end_waiting(moment, "cancelled")
            self.state = self.state.lacking(left, _who(view), now_ms=moment.mono_ms)
            return
        decision = self._decide(tap, view, moment, hold)
        same_life = hold is None or hold.epoch == self.journal.epoch
        if decision.sold and same_life:
            self._waiting = None
            self._finish(tap, view, decision, moment, hold)
            return
        late = moment.mono_ms >= waiting.until_ms
        if hold is None and decision.needs_hold and self._hold(tap, view, decision, moment):
            return
        unheard = decision.needs_facts or (hold is not None and decision.needs_hold)
        if unheard and same_life and not late:
            return
        if decision.sold:
            decision = replace(decision, sold=False, reason=PurchaseReason.CAP, postings=())
        self._end_waiting(moment, "funds" if decision.reason is PurchaseReason.FUNDS else "cap")
        self._finish(tap, view, replace(decision, needs_hold=False), moment, None)

    def _end_waiting(self, moment: Moment, why: str) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        if waiting.hold is not None:
            self.standing.release(waiting.hold, waiting.account_id, why, moment)

    # ------------------------------------------------------------------------- helpers

    def business_date(self, moment: Moment) -> str | None:
        return self.state.business_date(
            clock_trusted=moment.clock_trusted,
            local_date=moment.local_date,
            now_ms=moment.mono_ms,
        )

    def slot(self, moment: Moment) -> str:
        """The meal's slot now; "" between meals."""
        return self.state.slot(
            clock_trusted=moment.clock_trusted,
            clock_slot=self._conditions.slot(moment),
            now_ms=moment.mono_ms,
        )


def _who(view: PurchaseView) -> str:
    """Whose card it is; "" where nobody knows."""
    return "" if view.cardholder is None else view.cardholder.cardholder_id
