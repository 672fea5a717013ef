"""What stands on the lane's screen for the security officer and the child in front of it.

One big word, one colour, the reason under it in the reader's language. Pure: the shell brings the
opened name, and says when the screen goes back to waiting. The English is `english.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from types import MappingProxyType

from edge.model import AccessReason, Outcome, PassageResult

SHOWN_MS = 4_000  # Our choice: long enough to look up; the next tap replaces it at once.
REFERRED_SHOWN_MS = 20_000  # Our choice: an officer comes over and reads it.


@unique
class Light(StrEnum):
    """The screen's and the lamp's colour."""

    GREY = "grey"  # Waiting.
    GREEN = "green"  # Pass.
    AMBER = "amber"  # Please see the officer, or tap again.
    RED = "red"  # No.
    BLUE = "blue"  # Reader or lane is not ready.


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """The screen of one direction at one moment."""

    word: str
    light: Light
    state: str  # idle, granted, taken, not_taken, refused, ask, forced, held, unknown, fire,
    #           lockdown, down
    text: str = ""  # The reason, as a sentence.
    reason: str = ""  # Its name for ever.
    name: str = field(default="", repr=False)
    group: str = field(default="", repr=False)
    photo: str = field(default="", repr=False)  # Its hash.
    cardholder: str = ""
    passage: str = ""
    until_ms: int | None = None  # Then the screen waits again; None: until something happens.


WAITING = LaneView(word="ПРИЛОЖИТЕ КАРТУ", light=Light.GREY, state="idle")

REASON_TEXTS: Mapping[AccessReason, str] = MappingProxyType(
    {
        AccessReason.STALE_READ: "Приложите карту ещё раз",
        AccessReason.NO_LIST: "Списки города ещё не получены: подойдите к охраннику",
        AccessReason.LOCKDOWN: "Вход закрыт: подойдите к охраннику",
        AccessReason.HOT_LISTED: "Эта карта заблокирована как утерянная: подойдите к охраннику",
        AccessReason.TIER_BELOW_ENROLLED: "Карта не доказала, что она ваша: подойдите к охраннику",
        AccessReason.REPLAYED: "Карта ответила старым кодом: приложите ещё раз",
        AccessReason.UNKNOWN_CREDENTIAL: "Карта не найдена: подойдите к охраннику",
        AccessReason.WRONG_SITE: "Карта другой школы: подойдите к охраннику",
        AccessReason.SUSPENDED: "Доступ приостановлен: подойдите к охраннику",
        AccessReason.NOT_YET_VALID: "Карта ещё не действует: подойдите к охраннику",
        AccessReason.EXPIRED: "Срок действия карты истёк: подойдите к охраннику",
        AccessReason.NO_ACCESS_RIGHT: "Сюда с этой картой нельзя: подойдите к охраннику",
        AccessReason.OUTSIDE_SCHEDULE: "Сейчас по расписанию прохода нет: подойдите к охраннику",
        AccessReason.PASSBACK: "По этой карте уже прошли: подойдите к охраннику",
        AccessReason.GUARDIAN_CHOICE: "Отметьте на экране, кого вы привели или забираете",
        AccessReason.AUTHORIZED: "",
    }
)
assert set(REASON_TEXTS) == set(AccessReason)


HOT_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "lost": REASON_TEXTS[AccessReason.HOT_LISTED],
        "replaced": "Эту карту заменили на новую: приложите новую или подойдите к охраннику",
        "blocked": "Эта карта заблокирована: подойдите к охраннику",
    }
)


def decided(
    outcome: Outcome,
    reason: AccessReason,
    *,
    name: str,
    group: str,
    passage: str,
    now_ms: int,
    hot_why: str = "",
    cardholder: str = "",
    photo: str = "",
) -> LaneView:
    """The screen after a decision. A refusal always says why and where to go."""
    text = REASON_TEXTS[reason]
    if reason is AccessReason.HOT_LISTED:
        text = HOT_TEXTS.get(hot_why, text)
    if outcome is Outcome.GRANT:
        word, light, state, shown_ms = "ПРОХОДИТЕ", Light.GREEN, "granted", None
        if reason is not AccessReason.AUTHORIZED:
            text = ""  # Way out is free; the record keeps the reason, the child need not read it.
    elif outcome is Outcome.REFER:
        word, light, state, shown_ms = "К ОХРАННИКУ", Light.AMBER, "ask", REFERRED_SHOWN_MS
    elif reason in (AccessReason.STALE_READ, AccessReason.REPLAYED):
        word, light, state, shown_ms = "ЕЩЁ РАЗ", Light.AMBER, "ask", SHOWN_MS
    else:
        word, light, state, shown_ms = "СТОП", Light.RED, "refused", SHOWN_MS
    return LaneView(
        word=word,
        light=light,
        state=state,
        text=text,
        reason=reason.value,
        name=name,
        group=group,
        passage=passage,
        photo=photo,
        cardholder=cardholder,
        until_ms=None if shown_ms is None else now_ms + shown_ms,
    )


def refused_by_officer(*, now_ms: int) -> LaneView:
    """The officer said no. Why, the officer tells in words."""
    return LaneView(
        word="СТОП",
        light=Light.RED,
        state="refused",
        text="Охранник не пропускает: подойдите к охраннику",
        reason="refused_by_officer",
        until_ms=now_ms + SHOWN_MS,
    )


def passed(result: PassageResult, before: LaneView, *, now_ms: int) -> LaneView:
    """The screen after a passage ended."""
    until_ms = now_ms + SHOWN_MS
    if result is PassageResult.TAKEN:
        return LaneView(
            word="СПАСИБО",
            light=Light.GREEN,
            state="taken",
            name=before.name,
            group=before.group,
            passage=before.passage,
            until_ms=until_ms,
        )
    if result is PassageResult.NOT_TAKEN:
        return LaneView(
            word="НЕ ПРОШЛИ",
            light=Light.GREY,
            state="not_taken",
            text="Приложите карту ещё раз",
            passage=before.passage,
            until_ms=until_ms,
        )
    if result is PassageResult.FIRE_RELEASE:
        return LaneView(
            word="ПРОХОД СВОБОДЕН",
            light=Light.GREEN,
            state="fire",
            text="Пожарная тревога: проход свободен",
            passage=before.passage,
            until_ms=until_ms,
        )
    if result is PassageResult.UNKNOWN:
        return LaneView(
            word="ЕЩЁ РАЗ",
            light=Light.AMBER,
            state="unknown",
            text="Турникет не ответил: приложите карту ещё раз",
            passage=before.passage,
            until_ms=until_ms,
        )
    text = {
        PassageResult.FORCED: "Проход без разрешения: посмотрите на турникет",
        PassageResult.HELD: "Турникет не закрылся: посмотрите на него",
    }[result]
    return LaneView(
        word="ВНИМАНИЕ",
        light=Light.RED,
        state=result.value,
        text=text,
        until_ms=now_ms + REFERRED_SHOWN_MS,
    )


# What is said of a failed read, by its name: the big word, and what to do.
_TO_OFFICER = "К ОХРАННИКУ"
_AGAIN = "ЕЩЁ РАЗ"
FAILURE_TEXTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "left_field": (_AGAIN, "Карту убрали слишком рано: приложите ещё раз и подержите"),
        "two_cards": (_AGAIN, "Две карты сразу: приложите одну"),
        "reader_error": (_AGAIN, "Считыватель не понял карту: приложите её ещё раз"),
        "deadline": (_AGAIN, "Карта отвечает слишком долго: приложите ближе и подержите"),
        "unknown_family": (_AGAIN, "Такая карта здесь не читается: приложите школьную карту"),
        "random_uid": (_AGAIN, "Телефон или чужая карта: приложите школьную карту"),
        "no_key": (_TO_OFFICER, "Карта не этой школы: подойдите к охраннику"),
        "factory_key": (_TO_OFFICER, "Карту выдали с заводским ключом: подойдите к охраннику"),
        "held_back": (_AGAIN, "Эту карту только что проверили: уберите её и приложите снова"),
        "key_version": (_TO_OFFICER, "Карту пора обновить: подойдите к охраннику"),
        "wrong_key": (
            _TO_OFFICER,
            "Карта не подтвердила, что она настоящая: подойдите к охраннику",
        ),
        "card_locked": (_TO_OFFICER, "Карта закрылась после чужих попыток: подойдите к охраннику"),
        "bad_answer": (_AGAIN, "Карта ответила неразборчиво: приложите её ещё раз"),
        "bad_mac": (_TO_OFFICER, "Ответ карты изменён по пути: подойдите к охраннику"),
        "replayed": (_AGAIN, "Карта ответила старым кодом: приложите ещё раз"),
        "unsafe_configuration": (_TO_OFFICER, "Карту выдали незащищённой: подойдите к охраннику"),
    }
)
_NOT_READ = (_AGAIN, "Карта не прочиталась: приложите её ещё раз и подержите")


def failed_read(failure: str, *, now_ms: int) -> LaneView:
    """A card was shown that gave no identity: taken away too early, a phone, a bank card."""
    word, text = FAILURE_TEXTS.get(failure, _NOT_READ)
    return LaneView(
        word=word,
        light=Light.AMBER,
        state="ask",
        text=text,
        reason=failure,
        until_ms=now_ms + SHOWN_MS,
    )


def reader_down(text: str = "Считыватель не отвечает: подойдите к охраннику") -> LaneView:
    """The screen while no card can be read here."""
    return LaneView(word="НЕ РАБОТАЕТ", light=Light.BLUE, state="down", text=text)


def please_wait(*, now_ms: int) -> LaneView:
    """The lane cannot take this person now: too many wait already."""
    return LaneView(
        word="ПОДОЖДИТЕ",
        light=Light.AMBER,
        state="ask",
        text="Сейчас проходит другой: приложите карту ещё раз",
        reason="lane_busy",
        until_ms=now_ms + SHOWN_MS,
    )


def freed(view: LaneView, *, now_ms: int) -> LaneView:
    """The lane is released for fire: the answer stands for a moment, nobody is waited for."""
    return replace(view, until_ms=now_ms + SHOWN_MS)


LANE_HELD = LaneView(
    word="НЕ РАБОТАЕТ",
    light=Light.BLUE,
    state="down",
    text="Турникет не закрылся: подойдите к охраннику",
)
LANE_DOWN = LaneView(
    word="НЕ РАБОТАЕТ",
    light=Light.BLUE,
    state="down",
    text="Турникет не отвечает: подойдите к охраннику",
)

FIRE = LaneView(
    word="ВЫХОДИТЕ",
    light=Light.GREEN,
    state="fire",
    text="Пожарная тревога: проход свободен, выходите наружу",
    reason="fire",
)
FIRE_OUTSIDE = LaneView(
    word="НЕ ВХОДИТЕ",
    light=Light.RED,
    state="fire",
    text="Пожарная тревога: проход свободен для тех, кто выходит",
    reason="fire",
)
LOCKED_DOWN = LaneView(
    word="ВХОД ЗАКРЫТ",
    light=Light.RED,
    state="lockdown",
    text=REASON_TEXTS[AccessReason.LOCKDOWN],
    reason=AccessReason.LOCKDOWN.value,
)


def now_shown(view: LaneView, *, now_ms: int, up: bool) -> LaneView:
    """What is on the screen now: the view until its time is over, then waiting, or down."""
    current = view.until_ms is None or now_ms < view.until_ms
    if current and view.state not in ("idle", "down"):
        return view
    return WAITING if up else reader_down()
