"""Goal: one tap sells one basket, the one that its card was shown for, and never twice.

Method: a cashier and some cards as small steps. Every sequence of such steps up to a length, with
a second between them, against a plain count of what was charged and tapped; then each rule by an
example with its first and last moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import pytest

from edge.model import Product, PurchaseReason, Tender
from edge.pos.basket import QUANTITY_MAX, Basket, BasketProblem
from edge.pos.decision import PurchaseDecision
from edge.pos.till import (
    BASKET_IDLE_MS_MAX,
    CARD_WAIT_MS_MAX,
    DATE_MS_MAX,
    REFUSED_SHOWN_MS,
    REPEAT_MS_MAX,
    SOLD_SHOWN_MS,
    DateProblem,
    Notice,
    Phase,
    TapAnswer,
    TillState,
)

START_MS = 1_000_000


def menu(product_id: str, price_minor: int) -> Product:
    return Product(
        product_id=product_id,
        name=product_id.title(),
        category="hot",
        price_minor=price_minor,
        allergens=frozenset(),
        allergens_checked=True,
        purse="meals",
    )


SOUP = menu("soup", 12_000)
BUN = menu("bun", 3_000)


def decision(
    basket: Basket, reason: PurchaseReason = PurchaseReason.AUTHORIZED
) -> PurchaseDecision:
    return PurchaseDecision(
        sold=reason is PurchaseReason.AUTHORIZED,
        reason=reason,
        caveats=(),
        tender=Tender.ACCOUNT,
        total_minor=basket.total_minor,
    )


@dataclass
class Counter:
    """A till with someone at it: time passes when told to, and the shell does its part."""

    state: TillState = field(default_factory=TillState)
    now_ms: int = START_MS
    reason: PurchaseReason = PurchaseReason.AUTHORIZED

    def __post_init__(self) -> None:
        self.sold: list[tuple[str, Basket]] = []

    def wait(self, ms: int) -> Counter:
        self.now_ms += ms
        self.state = self.state.step(now_ms=self.now_ms)
        return self

    def add(self, item: Product = SOUP) -> Counter:
        state = self.state.add(item, now_ms=self.now_ms)
        assert isinstance(state, TillState), state
        self.state = state
        return self

    def remove(self) -> Counter:
        self.state = self.state.remove("soup", 1, now_ms=self.now_ms)
        return self

    def cancel(self) -> Counter:
        self.state = self.state.cancel(now_ms=self.now_ms)
        return self

    def charge(self) -> Counter:
        self.state = self.state.charge(date_known=True, now_ms=self.now_ms)
        return self

    def tap(self, card: str = "ana", *, read_ago_ms: int = 0, tier: int = 0) -> TapAnswer:
        read_at_ms = self.now_ms - read_ago_ms
        self.state, answer = self.state.tap(
            card, read_at_ms=read_at_ms, now_ms=self.now_ms, tier=tier
        )
        deciding = self.state.deciding
        assert (answer is TapAnswer.DECIDE) is (deciding is not None)
        if deciding is not None:
            decided = decision(deciding.basket, self.reason)
            self.state = self.state.answer(decided, now_ms=self.now_ms)
            if decided.sold:
                self.sold.append((card, deciding.basket))
        return answer

    def phase(self) -> Phase:
        return self.state.phase

    @property
    def notice(self) -> Notice | None:
        return self.state.shown.notice if self.state.shown is not None else None


STEPS = ("add", "remove", "charge", "cancel", "tap ana", "tap ben", "tap late")
LENGTH = 5


@pytest.mark.slow
def test_every_short_sequence_sells_what_was_charged_once() -> None:
    for steps in product(STEPS, repeat=LENGTH):
        counter = Counter()
        waiting: Basket | None = None  # The plain rule: what stands charged, and since when.
        charged_at_ms = 0
        last: tuple[str, int] | None = None
        expected: list[tuple[str, Basket]] = []
        for step in steps:
            counter.wait(1_000)
            if not step.startswith("tap"):
                getattr(counter, step)()
                waiting = counter.state.basket if step == "charge" else None
                charged_at_ms = counter.now_ms
                continue
            card, ago_ms = ("ana", 1_500) if step == "tap late" else (step[4:], 0)
            read_at_ms = counter.now_ms - ago_ms
            counter.tap(card, read_ago_ms=ago_ms)
            if last is not None and last[0] == card and read_at_ms - last[1] <= REPEAT_MS_MAX:
                continue
            if waiting is not None and waiting.lines and read_at_ms >= charged_at_ms:
                expected.append((card, waiting))
                waiting, last = None, (card, counter.now_ms)
        assert counter.sold == expected, steps


def test_a_sale_empties_the_basket_and_shows_the_answer() -> None:
    counter = Counter().add().charge()
    assert counter.phase() is Phase.AWAITING
    assert counter.tap() is TapAnswer.DECIDE
    assert counter.phase() is Phase.OPEN
    assert counter.state.basket == Basket()
    counter.wait(SOLD_SHOWN_MS - 1)
    assert counter.state.shown is not None
    counter.wait(1)
    assert counter.state.shown is None


def test_while_it_is_decided_the_basket_is_held_beside() -> None:
    counter = Counter().add().charge()
    state, answer = counter.state.tap("ana", read_at_ms=START_MS, now_ms=START_MS)
    assert answer is TapAnswer.DECIDE
    assert state.phase is Phase.DECIDING
    repriced = state.repriced({"soup": menu("soup", 1)}).step(now_ms=START_MS + 10**9)
    assert repriced.deciding == state.deciding
    assert repriced.deciding is not None
    assert repriced.deciding.basket.total_minor == SOUP.price_minor
    refused = decision(repriced.deciding.basket, PurchaseReason.FUNDS)
    after = repriced.answer(refused, now_ms=START_MS)
    assert after.phase is Phase.OPEN
    assert after.basket.total_minor == 1


def test_the_same_card_within_three_seconds_sees_the_former_answer() -> None:
    counter = Counter().add().charge()
    counter.tap()
    counter.wait(REPEAT_MS_MAX)
    assert counter.tap() is TapAnswer.REPEATED
    assert counter.state.shown is not None
    assert counter.state.shown.repeated
    assert counter.state.shown.decision == decision(counter.sold[0][1])
    assert len(counter.sold) == 1


def test_a_clone_that_proves_less_sees_no_green_of_the_card_before_it() -> None:
    counter = Counter().add().charge()
    counter.tap(tier=2)
    counter.wait(1)
    assert counter.tap(tier=1) is TapAnswer.IGNORED
    assert counter.notice is Notice.NOT_CHARGED
    assert counter.tap(tier=2) is TapAnswer.REPEATED
    counter.add(BUN).charge().wait(1)
    counter.reason = PurchaseReason.TIER_BELOW_ENROLLED
    assert counter.tap(tier=1) is TapAnswer.DECIDE, "judged by what it is"
    assert len(counter.sold) == 1


def test_a_duplicate_does_not_make_the_next_basket_look_paid() -> None:
    counter = Counter().add().charge()
    counter.tap()
    counter.add(BUN).charge().wait(REPEAT_MS_MAX)
    assert counter.tap() is TapAnswer.IGNORED
    assert counter.notice is Notice.SAME_CARD
    assert counter.phase() is Phase.AWAITING
    counter.wait(1)
    assert counter.tap() is TapAnswer.DECIDE
    assert [basket.total_minor for _, basket in counter.sold] == [12_000, 3_000]


def test_another_card_is_no_duplicate() -> None:
    counter = Counter().add().charge()
    counter.tap("ana")
    counter.add(BUN).charge()
    assert counter.tap("ben") is TapAnswer.DECIDE
    assert [card for card, _ in counter.sold] == ["ana", "ben"]


def test_one_charge_is_paid_by_one_card() -> None:
    counter = Counter().add().charge()
    counter.tap("ana")
    assert counter.tap("ben") is TapAnswer.IGNORED
    assert counter.notice is Notice.NOT_CHARGED
    assert len(counter.sold) == 1


@pytest.mark.parametrize("change", ["add", "remove"])
def test_a_basket_changed_after_the_card_was_read_is_not_sold(change: str) -> None:
    counter = Counter().add().add().charge().wait(100)
    getattr(counter.wait(100), change)()
    counter.charge()
    assert counter.tap(read_ago_ms=100) is TapAnswer.IGNORED
    assert counter.sold == []
    assert counter.tap() is TapAnswer.DECIDE


def test_a_changed_basket_has_to_be_charged_again() -> None:
    counter = Counter().add().charge().add(BUN)
    assert counter.phase() is Phase.OPEN
    assert counter.tap() is TapAnswer.IGNORED
    assert counter.state.basket.total_minor == 15_000


def test_a_new_price_has_to_be_charged_again() -> None:
    counter = Counter().add().charge()
    assert counter.state.repriced({"soup": SOUP}) == counter.state
    counter.state = counter.state.repriced({"soup": menu("soup", 12_100)})
    assert counter.phase() is Phase.OPEN
    assert counter.tap() is TapAnswer.IGNORED
    counter.state = counter.state.repriced({})
    assert counter.state.basket == Basket()


def test_an_empty_basket_is_not_charged() -> None:
    assert Counter().charge().phase() is Phase.OPEN


def test_a_refused_basket_waits_for_another_card() -> None:
    counter = Counter(reason=PurchaseReason.FUNDS).add().charge()
    assert counter.tap("ana") is TapAnswer.DECIDE
    assert counter.phase() is Phase.AWAITING
    assert counter.tap("ana") is TapAnswer.REPEATED
    counter.reason = PurchaseReason.AUTHORIZED
    assert counter.tap("ben") is TapAnswer.DECIDE
    assert [card for card, _ in counter.sold] == ["ben"]


def test_a_refusal_begins_the_wait_for_a_card_anew() -> None:
    counter = Counter(reason=PurchaseReason.FUNDS).add().charge().wait(CARD_WAIT_MS_MAX)
    counter.tap()
    assert counter.wait(CARD_WAIT_MS_MAX).phase() is Phase.AWAITING
    assert counter.wait(1).phase() is Phase.OPEN


@pytest.mark.parametrize("reason", [PurchaseReason.STALE_READ, PurchaseReason.REPLAYED])
def test_where_the_remedy_is_another_tap_it_is_a_new_question(reason: PurchaseReason) -> None:
    counter = Counter(reason=reason).add().charge()
    counter.tap()
    counter.reason = PurchaseReason.AUTHORIZED
    assert counter.tap() is TapAnswer.DECIDE
    assert len(counter.sold) == 1


def test_what_is_taken_out_after_a_refusal_is_a_new_question() -> None:
    counter = Counter(reason=PurchaseReason.BANNED).add().add(BUN).charge()
    counter.tap()
    counter.reason = PurchaseReason.AUTHORIZED
    counter.remove().charge()
    assert counter.tap() is TapAnswer.DECIDE
    assert counter.sold[0][1].total_minor == 3_000


def test_the_wait_for_a_card_ends_and_the_basket_stays() -> None:
    counter = Counter().add().charge().wait(CARD_WAIT_MS_MAX)
    assert counter.phase() is Phase.AWAITING
    counter.wait(1)
    assert counter.phase() is Phase.OPEN
    assert counter.state.basket.lines


def test_a_tap_first_lets_run_out_what_has_run_out() -> None:
    counter = Counter().add().charge()
    counter.now_ms += CARD_WAIT_MS_MAX + 1
    assert counter.tap() is TapAnswer.IGNORED


def test_a_basket_left_alone_is_abandoned() -> None:
    counter = Counter().add().wait(BASKET_IDLE_MS_MAX)
    assert counter.state.basket.lines
    counter.wait(1)
    assert counter.state.basket == Basket()
    charged = Counter().add().wait(BASKET_IDLE_MS_MAX).charge().wait(BASKET_IDLE_MS_MAX)
    assert charged.state.basket.lines
    assert Counter().add().charge().cancel().state.basket == Basket()


def test_a_decision_that_was_not_recorded_sells_nothing() -> None:
    counter = Counter().add().charge()
    state, _ = counter.state.tap("ana", read_at_ms=START_MS, now_ms=START_MS)
    counter.state = state.fail(Notice.NOT_RECORDED, now_ms=START_MS)
    assert counter.notice is Notice.NOT_RECORDED
    assert counter.phase() is Phase.OPEN
    assert counter.state.basket.lines
    assert counter.charge().tap() is TapAnswer.DECIDE


def test_a_refusal_is_shown_until_the_cashier_acts_or_it_has_been_read() -> None:
    refused = Counter(reason=PurchaseReason.FUNDS).add().charge()
    refused.tap()
    acted = Counter(refused.state, refused.now_ms).add()
    assert acted.state.shown is None
    assert refused.wait(REFUSED_SHOWN_MS - 1).state.shown is not None
    assert refused.wait(1).state.shown is None


def test_a_full_basket_says_so_and_stays() -> None:
    state = TillState().add(BUN, QUANTITY_MAX, now_ms=START_MS)
    assert isinstance(state, TillState)
    assert state.add(BUN, now_ms=START_MS) is BasketProblem.QUANTITY


def test_without_a_trusted_clock_the_cashier_says_which_day_it_is() -> None:
    state = TillState()
    assert (
        state.business_date(clock_trusted=True, local_date="2026-03-06", now_ms=0) == "2026-03-06"
    )
    assert state.business_date(clock_trusted=False, local_date="1970-01-01", now_ms=0) is None
    charged = Counter().add().state.charge(date_known=False, now_ms=START_MS)
    assert charged.phase is Phase.OPEN
    assert charged.shown is not None
    assert charged.shown.notice is Notice.DATE_NEEDED
    given = state.give_date("2026-03-06", not_before="2026-03-06", now_ms=START_MS)
    assert isinstance(given, TillState)
    for age_ms, expected in ((DATE_MS_MAX, "2026-03-06"), (DATE_MS_MAX + 1, None)):
        now_ms = START_MS + age_ms
        answer = given.business_date(clock_trusted=False, local_date="1970-01-01", now_ms=now_ms)
        assert answer == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2026-03-05", DateProblem.TOO_EARLY),
        ("6 March", DateProblem.MALFORMED),
        ("2026-02-30", DateProblem.MALFORMED),
        ("", DateProblem.MALFORMED),
    ],
)
def test_a_date_that_cannot_be_is_not_taken(text: str, problem: DateProblem) -> None:
    assert TillState().give_date(text, not_before="2026-03-06", now_ms=0) is problem


def test_no_state_shows_a_credential() -> None:
    counter = Counter(reason=PurchaseReason.FUNDS).add().charge()
    deciding, _ = counter.state.tap("secret-card", read_at_ms=START_MS, now_ms=START_MS)
    counter.tap("secret-card")
    assert "secret-card" not in repr(deciding)
    assert "secret-card" not in repr(counter.state)
