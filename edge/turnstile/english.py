"""The lane's words in English, for screens that are switched over. Pure.

A lane, an admission and the guardian's screen speak Russian, the language of who stands there;
each of their sentences has its English here, and `tests/turnstile/test_officer.py` misses none.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ENGLISH: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Big words.
        "ПРИЛОЖИТЕ КАРТУ": "TAP YOUR CARD",
        "ПРОХОДИТЕ": "GO AHEAD",
        "К ОХРАННИКУ": "SEE THE OFFICER",
        "ЕЩЁ РАЗ": "AGAIN",
        "СТОП": "STOP",
        "СПАСИБО": "THANK YOU",
        "НЕ ПРОШЛИ": "NOT PASSED",
        "ВНИМАНИЕ": "ATTENTION",
        "НЕ РАБОТАЕТ": "OUT OF ORDER",
        "ПОДОЖДИТЕ": "PLEASE WAIT",
        "ВЫХОДИТЕ": "LEAVE",
        "НЕ ВХОДИТЕ": "DO NOT ENTER",
        "ВХОД ЗАКРЫТ": "ENTRANCE CLOSED",
        "ПРОХОД СВОБОДЕН": "LANE IS FREE",
        "ЛЬГОТА ЕСТЬ": "CONCESSION",
        "СПРОСИТЕ": "PLEASE ASK",
        "ПОЛНЫЙ БИЛЕТ": "FULL TICKET",
        # Decisions.
        "Приложите карту ещё раз": "Tap the card again",
        "Списки города ещё не получены: подойдите к охраннику": (
            "The city’s lists have not come yet: see the officer"
        ),
        "Вход закрыт: подойдите к охраннику": "The way in is closed: see the officer",
        "Эта карта заблокирована как утерянная: подойдите к охраннику": (
            "Lost card: ask for your new one"
        ),
        "Эту карту заменили на новую: приложите новую или подойдите к охраннику": (
            "This card was replaced: tap the new one, or see the officer"
        ),
        "Эта карта заблокирована: подойдите к охраннику": "This card is blocked: see the officer",
        "Карта не доказала, что она ваша: подойдите к охраннику": (
            "The card did not prove that it is yours: see the officer"
        ),
        "Карта ответила старым кодом: приложите ещё раз": "The card gave an old code: tap again",
        "Карта не найдена: подойдите к охраннику": "Card not found: see the officer",
        "Карта другой школы: подойдите к охраннику": "A card of another school: see the officer",
        "Доступ приостановлен: подойдите к охраннику": "Access is suspended: see the officer",
        "Карта ещё не действует: подойдите к охраннику": (
            "The card is not valid yet: see the officer"
        ),
        "Срок действия карты истёк: подойдите к охраннику": "The card has expired: see the officer",
        "Сюда с этой картой нельзя: подойдите к охраннику": (
            "Not here with this card: see the officer"
        ),
        "Сейчас по расписанию прохода нет: подойдите к охраннику": (
            "Not at this hour: see the officer"
        ),
        "По этой карте уже прошли: подойдите к охраннику": (
            "This card has passed already: see the officer"
        ),
        "Отметьте на экране, кого вы привели или забираете": (
            "Mark on the screen whom you bring or collect"
        ),
        "Охранник не пропускает: подойдите к охраннику": (
            "The officer does not let you pass: see the officer"
        ),
        # Passages and the lane itself.
        "Проход без разрешения: посмотрите на турникет": (
            "Somebody passed without a grant: look at the turnstile"
        ),
        "Турникет не закрылся: посмотрите на него": "The turnstile did not close: look at it",
        "Турникет не ответил: приложите карту ещё раз": (
            "The turnstile did not answer: tap the card again"
        ),
        "Турникет не закрылся: подойдите к охраннику": (
            "The turnstile did not close: see the officer"
        ),
        "Турникет не отвечает: подойдите к охраннику": (
            "The turnstile does not answer: see the officer"
        ),
        "Считыватель не отвечает: подойдите к охраннику": (
            "The reader does not answer: see the officer"
        ),
        "Сейчас проходит другой: приложите карту ещё раз": (
            "Somebody else is passing: tap the card again"
        ),
        "Пожарная тревога: проход свободен": "Fire alarm: the lane is free",
        "Пожарная тревога: проход свободен, выходите наружу": (
            "Fire alarm: the lane is free, go outside"
        ),
        "Пожарная тревога: проход свободен для тех, кто выходит": (
            "Fire alarm: the lane is free for those who leave"
        ),
        # A card that gave no identity.
        "Карту убрали слишком рано: приложите ещё раз и подержите": (
            "The card was taken away too soon: tap it again and hold it"
        ),
        "Две карты сразу: приложите одну": "Two cards at once: tap one",
        "Считыватель не понял карту: приложите её ещё раз": (
            "The reader did not get the card: tap it again"
        ),
        "Карта отвечает слишком долго: приложите ближе и подержите": (
            "The card answers too slowly: hold it closer and keep it there"
        ),
        "Такая карта здесь не читается: приложите школьную карту": (
            "Such a card is not read here: tap the school card"
        ),
        "Телефон или чужая карта: приложите школьную карту": (
            "A phone or somebody else’s card: tap the school card"
        ),
        "Карта не этой школы: подойдите к охраннику": "Not a card of this school: see the officer",
        "Карту выдали с заводским ключом: подойдите к охраннику": (
            "The card was given out with a factory key: see the officer"
        ),
        "Эту карту только что проверили: уберите её и приложите снова": (
            "This card was asked a moment ago: take it away and tap again"
        ),
        "Карту пора обновить: подойдите к охраннику": "The card needs renewing: see the officer",
        "Карта не подтвердила, что она настоящая: подойдите к охраннику": (
            "The card did not prove that it is genuine: see the officer"
        ),
        "Карта закрылась после чужих попыток: подойдите к охраннику": (
            "The card has locked itself after wrong keys: see the officer"
        ),
        "Карта ответила неразборчиво: приложите её ещё раз": (
            "The card’s answer made no sense: tap it again"
        ),
        "Ответ карты изменён по пути: подойдите к охраннику": (
            "The card’s answer was changed on its way: see the officer"
        ),
        "Карту выдали незащищённой: подойдите к охраннику": (
            "The card was given out unprotected: see the officer"
        ),
        "Карта не прочиталась: приложите её ещё раз и подержите": (
            "The card was not read: tap it again and hold it"
        ),
        # An admission.
        "Школьник: бесплатно": "Pupil: free",
        "Бесплатный билет": "Free ticket",
        "Льготный билет: назовите его на кассе": "Reduced ticket: ask for it at the desk",
        "Списки города ещё не получены": "The city’s lists have not come yet",
        "Льготы не нашлось": "No concession was found",
        "Здесь льготы нет": "No concession here",
        "Спросите на кассе: мы поможем": "Ask at the desk: we help",
        "Эта карта сегодня уже показана": "This card was shown today already",
        # The guardian's screen.
        "Подойдите к охраннику: он поможет": "See the officer, who will help",
        "Экран уже показывает другое: приложите карту ещё раз": (
            "The screen shows another by now: tap your card again"
        ),
        "Отметьте хотя бы одного ребёнка": "Mark one child at least",
        "Снимите отметки с детей": "Take the marks off the children",
        "Слишком много детей сразу: подойдите к охраннику": (
            "Too many children at once: see the officer"
        ),
        "Ребёнок уже в группе: ждём охранника": "The child is in already: wait for the officer",
        "Ребёнка сегодня нет в группе: ждём охранника": (
            "The child is not in today: wait for the officer"
        ),
    }
)


def english(text: str) -> str:
    """A word, or a text of one or more sentences; "" for "".

    >>> english("Бесплатный билет. Эта карта сегодня уже показана")
    'Free ticket. This card was shown today already'
    """
    if not text or text in ENGLISH:
        return ENGLISH.get(text, "")
    return ". ".join(ENGLISH.get(sentence, sentence) for sentence in text.split(". "))
