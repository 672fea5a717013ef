"""What the cashier sees: one big word, one colour, the reason, the total, and what would be sold.

Pure: a till state in, a `CashierView` out; the page only draws it. The picture is the same whoever
pays for the meal: nothing here looks at the tender, the postings or what is left on an account.
Texts are in Russian and English under keys that do not change, so a city may word them its own way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType

from edge.model import Caveat, LineItem, PurchaseReason
from edge.pos.basket import amount_minor
from edge.pos.decision import PurchaseDecision
from edge.pos.till import TAP_AGAIN_REASONS, Notice, Phase, Shown, TillState

ROUBLE_SIGN = "₽"
MINOR_PER_MAJOR = 100  # ISO 4217: the rouble has two decimal digits.


@unique
class Colour(StrEnum):
    """Each says the same as the word it stands with."""

    GREEN = "green"  # Hand it over.
    RED = "red"  # Do not.
    AMBER = "amber"  # Nothing is decided: do something first.
    BLUE = "blue"  # The till waits for a card.
    GREY = "grey"  # The till waits for the cashier.


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One thing said in both languages; `key` is its name for ever."""

    key: str
    ru: str
    en: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CashierLine:
    """A row of the basket as it is shown."""

    product_id: str
    name: str
    quantity: int
    amount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CashierView:
    """The till's page at one moment. Amounts are texts with their currency."""

    word: Text
    colour: Colour
    reason: Text | None  # Why, under the word.
    lines: tuple[CashierLine, ...]  # Of the basket that is open now.
    basket_total: str
    answer_total: str | None  # Of the basket that the answer is about.
    without: tuple[str, ...]  # Names of what would have to go for the rest to be sold,
    without_total: str | None  # and what the rest comes to.
    short: str | None  # By how much the basket is too dear.
    notes: tuple[Text, ...]  # What the decision had to do without.
    repeated: bool  # The same card again: nothing more was sold.


WORD_OPEN = Text(key="word.open", ru="КАССА", en="TILL")
WORD_CARD = Text(key="word.card", ru="КАРТУ", en="CARD")
WORD_WAIT = Text(key="word.wait", ru="ЖДИТЕ", en="WAIT")
WORD_SOLD = Text(key="word.sold", ru="ВЫДАТЬ", en="SERVE")
WORD_REFUSED = Text(key="word.refused", ru="НЕТ", en="NO")
WAITING = Text(key="waiting.tills", ru="Ждём другие кассы", en="Waiting for the other tills")
WORD_AGAIN = Text(key="word.again", ru="ЕЩЁ РАЗ", en="AGAIN")

PHASE_LOOKS: Mapping[Phase, tuple[Text, Colour]] = MappingProxyType(
    {
        Phase.OPEN: (WORD_OPEN, Colour.GREY),
        Phase.AWAITING: (WORD_CARD, Colour.BLUE),
        Phase.DECIDING: (WORD_WAIT, Colour.BLUE),
    }
)


def _reason(reason: PurchaseReason, ru: str, en: str) -> tuple[PurchaseReason, Text]:
    return reason, Text(key=f"purchase.{reason.value}", ru=ru, en=en)


REASON_TEXTS: Mapping[PurchaseReason, Text] = MappingProxyType(
    dict(
        (
            _reason(PurchaseReason.STALE_READ, "Приложите карту ещё раз", "Tap the card again"),
            _reason(
                PurchaseReason.NO_LIST,
                "Касса ещё не получила списки города",
                "The till has not received the city's lists yet",
            ),
            _reason(
                PurchaseReason.HOT_LISTED,
                "Карта утеряна: попросите новую",
                "Lost card: ask for your new one",
            ),
            _reason(
                PurchaseReason.TIER_BELOW_ENROLLED,
                "Карта не подтвердила, что она настоящая",
                "The card did not prove that it is genuine",
            ),
            _reason(
                PurchaseReason.REPLAYED,
                "Карта ответила старым кодом: приложите ещё раз",
                "The card gave an old code: tap again",
            ),
            _reason(PurchaseReason.UNKNOWN_CREDENTIAL, "Неизвестная карта", "Unknown card"),
            _reason(PurchaseReason.WRONG_SITE, "Карта другой школы", "A card of another school"),
            _reason(PurchaseReason.NOT_YET_VALID, "Карта ещё не действует", "Card not yet valid"),
            _reason(PurchaseReason.EXPIRED, "Срок действия карты истёк", "Card expired"),
            _reason(
                PurchaseReason.ACCOUNT_SUSPENDED, "Счёт не действует", "The account is not in force"
            ),
            _reason(
                PurchaseReason.ALLERGEN,
                "Аллергия, или состав не проверен",
                "Allergy, or a product not checked for allergens",
            ),
            _reason(PurchaseReason.BANNED, "Запрещено родителями", "Banned by the parents"),
            _reason(PurchaseReason.MEAL_USED, "Питание уже получено", "Meal already served"),
            _reason(PurchaseReason.ITEM_LIMIT, "Слишком много штук", "Too many pieces"),
            _reason(PurchaseReason.DAY_LIMIT, "Дневной лимит", "Day limit"),
            _reason(PurchaseReason.WEEK_LIMIT, "Недельный лимит", "Week limit"),
            _reason(
                PurchaseReason.TIER_LIMIT,
                "Слишком большая сумма для такой карты",
                "Too large an amount for this kind of card",
            ),
            _reason(PurchaseReason.FUNDS, "Не хватает денег", "Not enough money"),
            _reason(
                PurchaseReason.OLD_BASE,
                "Сведения о счетах устарели: нужна связь с городом",
                "The accounts held here are too old: the city must be reached",
            ),
            _reason(
                PurchaseReason.CAP,
                "Нет связи с другими кассами: столько со счёта сейчас не продать",
                "The other tills are not heard: so much cannot be sold on account now",
            ),
            _reason(PurchaseReason.AUTHORIZED, "Продано", "Sold"),
        )
    )
)

# A card that named nobody, and what to do: for those here the same card can be tried again, ...
AGAIN_TEXTS: Mapping[Notice, tuple[str, str]] = MappingProxyType(
    {
        Notice.CARD_LEFT_FIELD: (
            "Карту убрали слишком рано: приложите ещё раз и подержите",
            "The card was taken away too soon: tap it again and hold it",
        ),
        Notice.CARD_TWO_CARDS: ("Две карты сразу: приложите одну", "Two cards at once: tap one"),
        Notice.CARD_READER_ERROR: (
            "Считыватель не понял карту: приложите её ещё раз",
            "The reader did not get the card: tap it again",
        ),
        Notice.CARD_DEADLINE: (
            "Карта отвечает слишком долго: приложите ближе и подержите",
            "The card answers too slowly: hold it closer and keep it there",
        ),
        Notice.CARD_UNKNOWN_FAMILY: (
            "Такая карта здесь не читается: приложите школьную карту",
            "Such a card is not read here: tap the school card",
        ),
        Notice.CARD_RANDOM_UID: (
            "Телефон или чужая карта: приложите школьную карту",
            "A phone or somebody else's card: tap the school card",
        ),
        Notice.CARD_HELD_BACK: (
            "Эту карту только что проверили: уберите её и приложите снова",
            "This card was asked a moment ago: take it away and tap again",
        ),
        Notice.CARD_BAD_ANSWER: (
            "Карта ответила неразборчиво: приложите её ещё раз",
            "The card's answer made no sense: tap it again",
        ),
        Notice.CARD_REPLAYED: (
            "Карта ответила старым кодом: приложите ещё раз",
            "The card gave an old code: tap again",
        ),
    }
)
# ... and for these it will not help.
OTHER_CARD_TEXTS: Mapping[Notice, tuple[str, str]] = MappingProxyType(
    {
        Notice.CARD_NO_KEY: (
            "Карта не этой школы: попросите другую",
            "Not a card of this school: ask for another one",
        ),
        Notice.CARD_FACTORY_KEY: (
            "Карту выдали с заводским ключом: её нужно заменить",
            "The card was given out with a factory key: it needs replacing",
        ),
        Notice.CARD_KEY_VERSION: (
            "Ключ карты устарел: её нужно обновить",
            "The card's key is out of date: it needs renewing",
        ),
        Notice.CARD_WRONG_KEY: (
            "Карта не подтвердила, что она настоящая: попросите другую",
            "The card did not prove that it is genuine: ask for another one",
        ),
        Notice.CARD_LOCKED: (
            "Карта закрылась после чужих попыток: её нужно заменить",
            "The card has locked itself after wrong keys: it needs replacing",
        ),
        Notice.CARD_BAD_MAC: (
            "Ответ карты изменён по пути: попросите другую",
            "The card's answer was changed on its way: ask for another one",
        ),
        Notice.CARD_UNSAFE_CONFIGURATION: (
            "Карту выдали незащищённой: её нужно заменить",
            "The card was given out unprotected: it needs replacing",
        ),
    }
)

NOTICE_TEXTS: Mapping[Notice, Text] = MappingProxyType(
    {
        **{
            notice: Text(key=f"notice.{notice.value}", ru=ru, en=en)
            for notice, (ru, en) in {**AGAIN_TEXTS, **OTHER_CARD_TEXTS}.items()
        },
        Notice.NOT_CHARGED: Text(
            key="notice.not_charged",
            ru="Сначала завершите набор, потом карта",
            en="Charge the basket first, then the card",
        ),
        Notice.SAME_CARD: Text(
            key="notice.same_card",
            ru="Та же карта: за новую корзину не заплачено, приложите ещё раз",
            en="The same card: the new basket is not paid for, tap again",
        ),
        Notice.DATE_NEEDED: Text(
            key="notice.date_needed",
            ru="Часы не проверены: введите сегодняшнюю дату",
            en="The clock is not sure: enter today's date",
        ),
        Notice.NOTHING_DUE: Text(
            key="notice.nothing_due",
            ru="На этот приём пищи заказа нет, или он уже выдан",
            en="No order for this meal, or it was handed over already",
        ),
        Notice.ORDER_WEIGH: Text(
            key="notice.order_weigh",
            ru="Взвесьте заказанное и приложите карту ещё раз",
            en="Weigh what was ordered, then tap the card again",
        ),
        Notice.ORDER_OFF_MENU: Text(
            key="notice.order_off_menu",
            ru="В меню нет заказанного: замените и приложите карту ещё раз",
            en="The menu lacks something ordered: replace it, then tap the card again",
        ),
        Notice.NOT_RECORDED: Text(
            key="notice.not_recorded",
            ru="Запись не удалась: ничего не продано, вызовите техника",
            en="It could not be recorded: nothing was sold, call the technician",
        ),
    }
)

CAVEAT_TEXTS: Mapping[Caveat, Text] = MappingProxyType(
    {
        Caveat.CLOCK_UNTRUSTED: Text(
            key="caveat.clock_untrusted", ru="Часы не проверены", en="The clock is not sure"
        ),
        Caveat.OLD_LIST: Text(
            key="caveat.old_list", ru="Списки старше суток", en="The lists are over a day old"
        ),
        Caveat.PASSBACK: Text(key="caveat.passback", ru="Повторный проход", en="Second passage"),
        Caveat.ALONE: Text(
            key="caveat.alone", ru="Другие кассы не слышны", en="The other tills are not heard"
        ),
        Caveat.UNCONFIRMED: Text(
            key="caveat.unconfirmed",
            ru="Питание выдано без подтверждения других касс",
            en="A meal served though the other tills could not confirm it",
        ),
    }
)

assert set(REASON_TEXTS) == set(PurchaseReason)
assert set(NOTICE_TEXTS) == set(Notice)
assert set(CAVEAT_TEXTS) == set(Caveat)
assert set(PHASE_LOOKS) == set(Phase)


def format_minor(amount_minor: int, *, sign: str = ROUBLE_SIGN) -> str:
    """Minor units as people write them: `8500` is `85.00 ₽`.

    >>> format_minor(-5)
    '-0.05 ₽'
    """
    major, minor = divmod(abs(amount_minor), MINOR_PER_MAJOR)
    return f"{'-' if amount_minor < 0 else ''}{major}.{minor:02} {sign}"


def cashier_view(state: TillState) -> CashierView:
    """The page for this state: the answer or notice while it is shown, else the basket alone."""
    shown = state.shown
    decision = shown.decision if shown is not None else None
    word, colour, reason = _look(state.phase, shown)
    return CashierView(
        word=word,
        colour=colour,
        reason=reason,
        lines=tuple(_line(item) for item in state.basket.lines),
        basket_total=format_minor(state.basket.total_minor),
        answer_total=None if decision is None else format_minor(decision.total_minor),
        without=_without(decision),
        without_total=_optional(None if decision is None else decision.total_without_minor),
        short=_optional((decision.short_minor or None) if decision is not None else None),
        notes=_notes(decision),
        repeated=shown is not None and shown.repeated,
    )


def _look(phase: Phase, shown: Shown | None) -> tuple[Text, Colour, Text | None]:
    if shown is None or phase is Phase.DECIDING:
        word, colour = PHASE_LOOKS[phase]
        return word, colour, WAITING if phase is Phase.DECIDING else None
    if shown.notice is not None:
        final = shown.notice is Notice.NOT_RECORDED or shown.notice in OTHER_CARD_TEXTS
        word, colour = (WORD_REFUSED, Colour.RED) if final else (WORD_AGAIN, Colour.AMBER)
        return word, colour, NOTICE_TEXTS[shown.notice]
    assert shown.decision is not None
    reason = REASON_TEXTS[shown.decision.reason]
    if shown.decision.sold:
        return WORD_SOLD, Colour.GREEN, reason
    if shown.decision.reason in TAP_AGAIN_REASONS:
        return WORD_AGAIN, Colour.AMBER, reason
    return WORD_REFUSED, Colour.RED, reason


def _line(item: LineItem) -> CashierLine:
    return CashierLine(
        product_id=item.product.product_id,
        name=item.product.name,
        quantity=item.quantity,
        amount=format_minor(amount_minor(item)),
    )


def _without(decision: PurchaseDecision | None) -> tuple[str, ...]:
    if decision is None:
        return ()
    return tuple(item.product.name for item in decision.without)


def _notes(decision: PurchaseDecision | None) -> tuple[Text, ...]:
    if decision is None:
        return ()
    return tuple(CAVEAT_TEXTS[caveat] for caveat in decision.caveats)


def _optional(minor: int | None) -> str | None:
    return None if minor is None else format_minor(minor)
