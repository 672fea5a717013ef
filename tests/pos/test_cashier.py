"""Goal: word, colour and reason say the same, in both languages, and nothing tells who pays.

Method: every reason and every notice is shown once; two decisions that differ in nothing but how
they are paid give one picture; amounts are compared with the division written out.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import Caveat, LineItem, Product, PurchaseReason, Tender
from edge.pos.basket import Basket
from edge.pos.cashier import (
    CAVEAT_TEXTS,
    NOTICE_TEXTS,
    REASON_TEXTS,
    WORD_AGAIN,
    WORD_CARD,
    WORD_OPEN,
    WORD_REFUSED,
    WORD_SOLD,
    WORD_WAIT,
    CashierLine,
    Colour,
    cashier_view,
    format_minor,
)
from edge.pos.decision import PurchaseDecision
from edge.pos.ledger import postings_for
from edge.pos.till import TAP_AGAIN_REASONS, Answered, Deciding, Notice, Shown, TillState

LUNCH = Product(
    product_id="lunch",
    name="Обед",
    category="hot",
    price_minor=12_000,
    allergens=frozenset(),
    allergens_checked=True,
    purse="meals",
)
BAR = replace(
    LUNCH, product_id="bar", name="Шоколадный батончик", category="sweet", price_minor=3_500
)
BASKET = Basket(lines=(LineItem(product=LUNCH, quantity=1), LineItem(product=BAR, quantity=2)))
SOLD = PurchaseDecision(
    sold=True,
    reason=PurchaseReason.AUTHORIZED,
    caveats=(),
    tender=Tender.ACCOUNT,
    total_minor=19_000,
    postings=postings_for("a1", {"meals": 19_000}),
    available_after_minor=8_500,
)


def showing(decision: PurchaseDecision, *, repeated: bool = False) -> TillState:
    answered = Answered(credential_id="c1", basket=BASKET, decision=decision, at_ms=0)
    shown = Shown(decision=decision, repeated=repeated, until_ms=1)
    return TillState(answered=answered, shown=shown)


def test_the_till_without_an_answer() -> None:
    deciding = Deciding(credential_id="c1", basket=BASKET)
    states = {
        WORD_OPEN: TillState(),
        WORD_CARD: TillState(basket=BASKET, charged_at_ms=0),
        WORD_WAIT: TillState(basket=BASKET, charged_at_ms=0, deciding=deciding),
    }
    for word, state in states.items():
        view = cashier_view(state)
        assert view.word == word
        assert view.colour in (Colour.GREY, Colour.BLUE)
        waits = state.deciding is not None
        assert (view.reason is None) is not waits, "a wait for other tills says so"
        assert view.answer_total is None
        assert view.without == ()
        assert view.without_total is None
        assert view.short is None


def test_the_basket_line_by_line() -> None:
    view = cashier_view(TillState(basket=BASKET))
    assert view.basket_total == "190.00 ₽"
    assert view.lines == (
        CashierLine(product_id="lunch", name="Обед", quantity=1, amount="120.00 ₽"),
        CashierLine(product_id="bar", name="Шоколадный батончик", quantity=2, amount="70.00 ₽"),
    )


@pytest.mark.parametrize("reason", list(PurchaseReason))
def test_word_and_colour_say_the_same(reason: PurchaseReason) -> None:
    sold = reason is PurchaseReason.AUTHORIZED
    view = cashier_view(showing(replace(SOLD, sold=sold, reason=reason)))
    assert (view.word, view.colour) in (
        (WORD_SOLD, Colour.GREEN),
        (WORD_REFUSED, Colour.RED),
        (WORD_AGAIN, Colour.AMBER),
    )
    assert (view.colour is Colour.GREEN) is sold
    assert (view.colour is Colour.AMBER) is (reason in TAP_AGAIN_REASONS)
    assert view.reason == REASON_TEXTS[reason]
    assert view.reason.key == f"purchase.{reason.value}"


@pytest.mark.parametrize("notice", list(Notice))
def test_no_notice_looks_like_a_sale(notice: Notice) -> None:
    view = cashier_view(TillState(shown=Shown(notice=notice, until_ms=1)))
    assert view.colour in (Colour.AMBER, Colour.RED)
    assert view.word in (WORD_AGAIN, WORD_REFUSED)
    assert view.reason == NOTICE_TEXTS[notice]
    assert view.answer_total is None


def test_every_text_has_its_own_key_and_both_languages() -> None:
    words = (WORD_OPEN, WORD_CARD, WORD_WAIT, WORD_SOLD, WORD_REFUSED, WORD_AGAIN)
    texts = [*words, *REASON_TEXTS.values(), *NOTICE_TEXTS.values(), *CAVEAT_TEXTS.values()]
    assert len({text.key for text in texts}) == len(texts)
    for text in texts:
        assert any("а" <= letter.lower() <= "я" for letter in text.ru), text
        assert text.en.isascii(), text
        assert text.en, text


@pytest.mark.parametrize("tender", list(Tender))
def test_the_picture_is_the_same_whoever_pays(tender: Tender) -> None:
    paid = replace(SOLD, tender=tender, postings=(), available_after_minor=None)
    assert cashier_view(showing(paid)) == cashier_view(showing(SOLD))


def test_a_lost_card_is_named() -> None:
    assert REASON_TEXTS[PurchaseReason.HOT_LISTED].en == "Lost card: ask for your new one"


def test_what_would_be_allowed_is_said_with_its_total() -> None:
    refused = replace(
        SOLD,
        sold=False,
        reason=PurchaseReason.BANNED,
        postings=(),
        without=(BASKET.lines[1],),
        total_without_minor=12_000,
    )
    view = cashier_view(showing(refused))
    assert view.answer_total == "190.00 ₽"
    assert view.without == ("Шоколадный батончик",)
    assert view.without_total == "120.00 ₽"
    assert view.short is None


def test_what_is_too_dear_says_by_how_much() -> None:
    refused = replace(SOLD, sold=False, reason=PurchaseReason.FUNDS, short_minor=8_500)
    assert cashier_view(showing(refused)).short == "85.00 ₽"


def test_a_repeat_shows_the_former_answer_and_says_so() -> None:
    once, again = cashier_view(showing(SOLD)), cashier_view(showing(SOLD, repeated=True))
    assert not once.repeated
    assert again == replace(once, repeated=True)


@pytest.mark.parametrize("caveat", list(Caveat))
def test_a_caveat_is_a_note_and_changes_nothing_else(caveat: Caveat) -> None:
    view = cashier_view(showing(replace(SOLD, caveats=(caveat,))))
    assert view == replace(cashier_view(showing(SOLD)), notes=(CAVEAT_TEXTS[caveat],))


@pytest.mark.parametrize(
    ("amount_minor", "text"),
    [(0, "0.00 ₽"), (5, "0.05 ₽"), (8_500, "85.00 ₽"), (-5, "-0.05 ₽"), (123_456, "1234.56 ₽")],
)
def test_amounts_as_people_write_them(amount_minor: int, text: str) -> None:
    assert format_minor(amount_minor) == text


@given(amount_minor=st.integers(-(10**12), 10**12))
def test_no_kopeck_is_lost_on_the_screen(amount_minor: int) -> None:
    number = format_minor(amount_minor).removesuffix(" ₽")
    assert int(number.replace(".", "")) == amount_minor
    assert number[-3] == "."
