"""A till session: one basket at a time, one tap for one basket, and what is shown until when.

    open --charge--> awaiting a card --tap--> deciding --answer, sold--> open, with no basket
      ^                |    ^                    |
      +----edit--------+    +--answer, refused---+   (or `fail`: nothing was sold, nothing lost)

Pure, a frozen value: every step gives the next state. `now_ms` is one monotonic clock. The shell
turns a `Decide` into a recorded decision and hands that back by `answer`, before it looks at
anything else. What may be sold is `decision.py`'s business, how it looks `cashier.py`'s.

Four rules are kept here. One tap sells one basket. The same card again soon after a sale is a
duplicate: the former answer is shown again. What is sold is the basket as the cashier charged it
*before* the card was read; a later change sends the card round again. A basket left alone is
nobody's: it goes before another child pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum, unique

from edge.model import Product, PurchaseReason
from edge.pos.basket import QUANTITY_MAX, Basket, BasketProblem
from edge.pos.decision import PurchaseDecision
from edge.pos.ordered import Need, Order, OrderedLine, Prepared
from edge.pos.tender import Ask

REPEAT_MS_MAX = 3_000  # lane.md has the same at the gate: a nervous second tap comes sooner.
SOLD_SHOWN_MS = 4_000  # Our choice: long enough to look up from the tray.
REFUSED_SHOWN_MS = 15_000  # Our choice: long enough to read, and to talk about a chocolate bar.
NOTICE_SHOWN_MS = 3_000  # Our choice: one short line.
CARD_WAIT_MS_MAX = 60_000  # Our choice: a child looks for its card; then charge again.
BASKET_IDLE_MS_MAX = 300_000  # Our choice: a quarter of a break; whoever stood there has left.
DATE_MS_MAX = 12 * 60 * 60 * 1_000  # Our choice: a cashier's date is good for one working day.

assert REPEAT_MS_MAX <= SOLD_SHOWN_MS, "a duplicate meets an answer that is still on the screen"
assert REFUSED_SHOWN_MS < CARD_WAIT_MS_MAX < BASKET_IDLE_MS_MAX

# Refusals whose remedy is the same card again: a second tap on one of these is a new question.
TAP_AGAIN_REASONS = (PurchaseReason.STALE_READ, PurchaseReason.REPLAYED)


@unique
class Phase(StrEnum):
    OPEN = "open"
    AWAITING = "awaiting"
    DECIDING = "deciding"


@unique
class Notice(StrEnum):
    """What the till says where there is no decision to show. Nothing was sold."""

    NOT_CHARGED = "not_charged"  # A card, but the basket was empty or not charged when it was read.
    SAME_CARD = "same_card"  # A duplicate, while the next basket waits for a card.
    DATE_NEEDED = "date_needed"
    # A card named nobody: one for each failure of `edge/readers/dialogue.py`, named after it.
    CARD_LEFT_FIELD = "card_left_field"
    CARD_TWO_CARDS = "card_two_cards"
    CARD_READER_ERROR = "card_reader_error"
    CARD_DEADLINE = "card_deadline"
    CARD_UNKNOWN_FAMILY = "card_unknown_family"
    CARD_RANDOM_UID = "card_random_uid"
    CARD_NO_KEY = "card_no_key"
    CARD_FACTORY_KEY = "card_factory_key"
    CARD_HELD_BACK = "card_held_back"
    CARD_KEY_VERSION = "card_key_version"
    CARD_WRONG_KEY = "card_wrong_key"
    CARD_LOCKED = "card_card_locked"
    CARD_BAD_ANSWER = "card_bad_answer"
    CARD_BAD_MAC = "card_bad_mac"
    CARD_REPLAYED = "card_replayed"
    CARD_UNSAFE_CONFIGURATION = "card_unsafe_configuration"
    NOTHING_DUE = "nothing_due"  # No order is due to this person in this slot.
    ORDER_WEIGH = "order_weigh"  # Something ordered is weighed first.
    ORDER_OFF_MENU = "order_off_menu"  # Something ordered is not on the menu in force.
    NOT_RECORDED = "not_recorded"  # The decision could not be committed, so it does not count.


@unique
class DateProblem(StrEnum):
    """Why a date that the cashier gave is not taken."""

    MALFORMED = "malformed"
    TOO_EARLY = "too_early"


@unique
class TapAnswer(StrEnum):
    DECIDE = "decide"  # The shell decides on `state.deciding.basket` now.
    REPEATED = "repeated"  # The former answer is shown again; no fact.
    IGNORED = "ignored"  # Nothing waited for a card; a notice says so; no fact.


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """A card and the basket it was shown for."""

    credential_id: str = field(repr=False)
    basket: Basket
    tier: int = 0  # What the read proved.


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The last decision, and what it was about."""

    credential_id: str = field(repr=False)
    basket: Basket
    decision: PurchaseDecision
    at_ms: int
    tier: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What covers the till's page for a moment: an answer or a notice, exactly one of them."""

    decision: PurchaseDecision | None = None
    notice: Notice | None = None
    repeated: bool = False
    until_ms: int

    def __post_init__(self) -> None:
        assert (self.decision is None) is not (self.notice is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenDate:
    """The business date, and the meal's slot, by the cashier's word, for a clock that cannot be
    trusted."""

    local_date: str
    at_ms: int
    slot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What goes with a basket, and goes when it does."""

    ask: Ask = field(default_factory=Ask)
    supervisor: str = ""  # Who answers for an emergency meal or an allergen.
    cardholder_id: str = ""  # Who was refused this basket: a supervisor's word is for nobody else.
    why: str = ""  # The cashier's word for what is given in place of what was ordered.
    collects: bool = False  # Nothing is rung up: the card's pre-orders are the basket.
    prepared: Prepared = field(default_factory=Prepared)  # Weights, and what is left for later.
    order_of: str = ""  # Whose orders that was made ready for.


@dataclass(frozen=True, slots=True, kw_only=True)
class TillState:
    basket: Basket = field(default_factory=Basket)
    touched_at_ms: int = 0  # The cashier's or a card's last touch.
    charged_at_ms: int | None = None  # Since when a card is awaited for exactly this basket.
    deciding: Deciding | None = None
    answered: Answered | None = None
    shown: Shown | None = None
    given_date: GivenDate | None = None
    wish: Wish = field(default_factory=Wish)
    order: tuple[OrderedLine, ...] = ()  # Of the card shown last, until it is handed over.

    def __post_init__(self) -> None:
        charged = self.charged_at_ms is not None
        assert not charged or self.basket.lines or self.wish.collects, "nothing for nothing"

    @property
    def phase(self) -> Phase:
        if self.deciding is not None:
            return Phase.DECIDING
        return Phase.OPEN if self.charged_at_ms is None else Phase.AWAITING

    # ------------------------------------------------------------------- the cashier's hand

    def add(
        self, product: Product, quantity: int = 1, *, grams: int = 0, now_ms: int
    ) -> TillState | BasketProblem:
        """Ring up so many more. A basket that was charged has to be charged again."""
        basket = self.basket.add(product, quantity, grams=grams)
        return basket if isinstance(basket, BasketProblem) else self._edited(basket, now_ms)

    def remove(self, product_id: str, quantity: int = QUANTITY_MAX, *, now_ms: int) -> TillState:
        return self._edited(self.basket.remove(product_id, quantity), now_ms)

    def cancel(self, *, now_ms: int) -> TillState:
        """The basket is abandoned by the cashier."""
        return self._edited(Basket(), now_ms)

    def wished(self, wish: Wish, *, now_ms: int) -> TillState:
        """How it is to be paid, and who answers for it. What was charged goes on waiting, and a
        card that was refused is a new question."""
        assert self.deciding is None
        answered = self.answered if self._last_was_sold() else None
        charged = self.charged_at_ms is not None and (self.basket.lines or wish.collects)
        at_ms = now_ms if charged else None
        state = replace(self, wish=wish, charged_at_ms=at_ms, answered=answered)
        return replace(state, touched_at_ms=now_ms, shown=None)

    def collect(self, *, date_known: bool, now_ms: int) -> TillState:
        """Await a card whose pre-orders are to be handed over; what was rung up is put away."""
        wish = replace(_without_word(self.wish), collects=True)
        state = replace(self._edited(Basket(), now_ms), wish=wish)
        if not date_known:
            return state._noticed(Notice.DATE_NEEDED, now_ms)
        return replace(state, charged_at_ms=now_ms)

    def charge(self, *, date_known: bool, now_ms: int) -> TillState:
        """Await a card for this basket; an empty one stays open.

        `date_known` is whether `business_date` has an answer: without one nothing is charged, and
        the cashier is asked.
        """
        assert self.deciding is None
        if not self.basket.lines:
            return self
        if not date_known:
            return self._noticed(Notice.DATE_NEEDED, now_ms)
        return replace(self, charged_at_ms=now_ms, touched_at_ms=now_ms, shown=None)

    def give_date(
        self, local_date: str, *, not_before: str, now_ms: int, slot: str = ""
    ) -> TillState | DateProblem:
        """Take the cashier's word for today; `not_before` is a date that the city has signed.

        A date too late does no harm that lasts: by it the base soon counts as old.
        """
        try:
            given = date.fromisoformat(local_date).isoformat()
        except ValueError:
            return DateProblem.MALFORMED
        if given < not_before:
            return DateProblem.TOO_EARLY
        return replace(
            self, given_date=GivenDate(local_date=given, at_ms=now_ms, slot=slot), shown=None
        )

    def business_date(self, *, clock_trusted: bool, local_date: str, now_ms: int) -> str | None:
        """The date of a sale made now: the clock's if it is trusted, else the cashier's, if any."""
        if clock_trusted:
            return local_date
        given = self.given_date
        if given is None or now_ms - given.at_ms > DATE_MS_MAX:
            return None
        return given.local_date

    def slot(self, *, clock_trusted: bool, clock_slot: str, now_ms: int) -> str:
        """The meal's slot of a sale made now, as `business_date`; "" between meals."""
        if clock_trusted:
            return clock_slot
        given = self.given_date
        return "" if given is None or now_ms - given.at_ms > DATE_MS_MAX else given.slot

    # ------------------------------------------------------------------------------ the card

    def tap(
        self, credential_id: str, *, read_at_ms: int, now_ms: int, tier: int = 0
    ) -> tuple[TillState, TapAnswer]:
        """A card was read at `read_at_ms`; `DECIDE` hands it to the shell with its basket. `tier`
        is what the read proved: who proves less is another card with the same number."""
        assert read_at_ms <= now_ms
        if self.deciding is not None:
            return self, TapAnswer.IGNORED  # Another child's card, while the other tills are asked.
        state = self.step(now_ms=now_ms)
        if state._is_repeat(credential_id, tier, read_at_ms):
            if state.phase is Phase.AWAITING and state._last_was_sold():
                # A green light for the former basket would be taken for this one.
                return state._noticed(Notice.SAME_CARD, now_ms), TapAnswer.IGNORED
            return state._shown_again(now_ms), TapAnswer.REPEATED
        if state.charged_at_ms is None or read_at_ms < state.charged_at_ms:
            return state._noticed(Notice.NOT_CHARGED, now_ms), TapAnswer.IGNORED
        deciding = Deciding(credential_id=credential_id, basket=state.basket, tier=tier)
        return replace(state, deciding=deciding), TapAnswer.DECIDE

    def composed(self, order: Order) -> TillState:
        """What the card is to be handed, found out by the card."""
        assert self.deciding is not None and order.basket.lines
        deciding = replace(self.deciding, basket=order.basket)
        return replace(self, deciding=deciding, order=order.lines)

    def lacking(self, order: Order, cardholder_id: str, *, now_ms: int) -> TillState:
        """What the card was to be handed is not ready, or nothing is due to it. The cashier weighs
        or substitutes, and the card is shown again."""
        needs = {line.need for line in order.lines} - {None}
        notice = Notice.NOTHING_DUE
        if needs:
            notice = Notice.ORDER_WEIGH if needs == {Need.WEIGHT} else Notice.ORDER_OFF_MENU
        wish = replace(self.wish, order_of=cardholder_id)
        return replace(self.fail(notice, now_ms=now_ms), order=order.lines, wish=wish)

    def met(self, cardholder_id: str) -> TillState:
        """Whose card is being decided on: a supervisor's word for another is dropped, and what was
        made ready for another's order."""
        state = self
        if cardholder_id and self.wish.cardholder_id not in ("", cardholder_id):
            state = replace(state, wish=_without_word(state.wish))
        if cardholder_id and self.wish.order_of not in ("", cardholder_id):
            ask = replace(state.wish.ask, given={})
            wish = replace(state.wish, ask=ask, why="", prepared=Prepared(), order_of="")
            state = replace(state, wish=wish, order=())
        return state

    def answer(
        self, decision: PurchaseDecision, *, now_ms: int, cardholder_id: str = ""
    ) -> TillState:
        """The decision on `deciding`, committed. Sold: the basket is gone. Else it still waits, and
        a supervisor's word for it is for this cardholder."""
        deciding = self.deciding
        assert deciding is not None
        same = decision.total_minor == deciding.basket.total_minor
        ordered = bool(decision.preorders) or not decision.sold  # At the price it was ordered at.
        assert same or ordered, "a sale has the price of its basket"
        answered = Answered(
            credential_id=deciding.credential_id,
            basket=deciding.basket,
            decision=decision,
            at_ms=now_ms,
            tier=deciding.tier,
        )
        shown = Shown(decision=decision, until_ms=now_ms + _shown_ms(decision))
        state = replace(self, deciding=None, answered=answered, shown=shown, touched_at_ms=now_ms)
        if decision.sold:
            return replace(state, basket=Basket(), charged_at_ms=None, wish=Wish(), order=())
        refused = cardholder_id or self.wish.cardholder_id
        state = replace(state, wish=replace(self.wish, cardholder_id=refused))
        if state.charged_at_ms is not None:
            return replace(state, charged_at_ms=now_ms)
        return state

    def unread(self, notice: Notice, *, now_ms: int) -> TillState:
        """A card was shown that named nobody. What was charged still waits for one."""
        assert self.deciding is None
        return self.step(now_ms=now_ms)._noticed(notice, now_ms)

    def fail(self, notice: Notice, *, now_ms: int) -> TillState:
        """No decision came of `deciding`: nothing was sold; the basket is to be charged again."""
        assert self.deciding is not None
        return replace(self, deciding=None, charged_at_ms=None)._noticed(notice, now_ms)

    # ---------------------------------------------------------------------- time, and the menu

    def step(self, *, now_ms: int) -> TillState:
        """What has run out by now: the page shown, the wait for a card, the basket itself."""
        state = self
        if state.deciding is not None:
            return state
        if state.shown is not None and now_ms >= state.shown.until_ms:
            state = replace(state, shown=None)
        if state.charged_at_ms is not None and now_ms - state.charged_at_ms > CARD_WAIT_MS_MAX:
            state = replace(state, charged_at_ms=None)
        left_alone = state.basket.lines or state.order or state.wish.order_of
        if left_alone and now_ms - state.touched_at_ms > BASKET_IDLE_MS_MAX:
            state = replace(state, basket=Basket(), charged_at_ms=None, wish=Wish(), order=())
        return state

    def repriced(self, catalogue: Mapping[str, Product]) -> TillState:
        """A new catalogue is in force. What it changes has to be charged again.

        A basket being decided stays as it was shown to its card.
        """
        basket = self.basket.repriced(catalogue)
        if basket == self.basket:
            return self
        return replace(self, basket=basket, charged_at_ms=None)

    # -------------------------------------------------------------------------------- helpers

    def _edited(self, basket: Basket, now_ms: int) -> TillState:
        assert self.deciding is None
        wish = _without_word(self.wish) if basket.lines else Wish()
        return replace(
            self,
            basket=basket,
            charged_at_ms=None,
            touched_at_ms=now_ms,
            shown=None,
            wish=replace(wish, collects=False),
            order=(),
        )

    def _noticed(self, notice: Notice, now_ms: int) -> TillState:
        return replace(self, shown=Shown(notice=notice, until_ms=now_ms + NOTICE_SHOWN_MS))

    def _last_was_sold(self) -> bool:
        return self.answered is not None and self.answered.decision.sold

    def _is_repeat(self, credential_id: str, tier: int, read_at_ms: int) -> bool:
        """The same card again soon after an answer that another tap cannot change."""
        last = self.answered
        if last is None or (last.credential_id, last.tier) != (credential_id, tier):
            return False
        if read_at_ms - last.at_ms > REPEAT_MS_MAX:
            return False
        if last.decision.sold:
            return True
        return last.basket == self.basket and last.decision.reason not in TAP_AGAIN_REASONS

    def _shown_again(self, now_ms: int) -> TillState:
        assert self.answered is not None
        decision = self.answered.decision
        until_ms = now_ms + _shown_ms(decision)
        return replace(self, shown=Shown(decision=decision, repeated=True, until_ms=until_ms))


def _without_word(wish: Wish) -> Wish:
    """A supervisor answers for the basket and the child that were seen, and for no other."""
    ask = replace(wish.ask, emergency=False, override_allergens=False)
    return replace(wish, ask=ask, supervisor="", cardholder_id="")


def _shown_ms(decision: PurchaseDecision) -> int:
    return SOLD_SHOWN_MS if decision.sold else REFUSED_SHOWN_MS
