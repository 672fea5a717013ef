"""Goal: a PIN is checked as argon2id says, never in the asker's thread, and no list can make a
device compute more than it may.

Method: hashes made here and by another implementation (argon2-cffi, which the broker of the bench
brings along) against the checker both ways; every kind of text that is none; a worker with a
question that is held back.
"""

from __future__ import annotations

import threading

import argon2
import pytest
from argon2.low_level import Type, hash_secret

from edge import pin as pins
from edge.model import CorruptData
from edge.pin import PinAnswer, PinChecker, check_pin, hash_pin, is_pin

ANSWER_S_MAX = 60.0


def cheap(pin: str, *, memory_kib: int = 64, passes: int = 1, lanes: int = 1) -> str:
    made = hash_secret(pin.encode(), b"salt of sixteen.", passes, memory_kib, lanes, 32, Type.ID)
    return made.decode()


@pytest.mark.parametrize("pin", ["1234", "00000000", "987654"])
def test_a_pin_is_a_pin(pin: str) -> None:
    assert is_pin(pin)


@pytest.mark.parametrize(
    "other", ["", "123", "123456789", "12a4", "12 4", "１２３４", "1234\n", "-123", 1234, None]
)
def test_what_is_no_pin(other: object) -> None:
    assert not is_pin(other)


def test_our_hash_is_what_others_call_argon2id() -> None:
    made = hash_pin("2580")
    assert made.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert argon2.PasswordHasher().verify(made, "2580")
    assert check_pin("2580", made) and not check_pin("2581", made)
    assert made != hash_pin("2580"), "a salt of its own"


@pytest.mark.parametrize("lanes", [1, 4])
def test_hashes_of_others_are_checked(lanes: int) -> None:
    made = cheap("1234", lanes=lanes)
    assert check_pin("1234", made)
    assert not check_pin("12345", made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1234",
        "$argon2i$v=19$m=64,t=1,p=1$c2FsdCBvZiBzaXh0ZWVuLg$AAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=16$m=64,t=1,p=1$c2FsdCBvZiBzaXh0ZWVuLg$AAAAAAAAAAAAAAAAAAAAAAAAAAA",
        cheap("1234") + "$",
        cheap("1234") + "A" * 200,
        cheap("1234").replace("m=64", "m=999999"),
        cheap("1234").replace("m=64", "m=65537"),
        cheap("1234").replace("t=1", "t=999").replace("m=64", "m=65536"),
        cheap("1234").replace("p=1", "p=9"),
        cheap("1234").replace("m=64", "m=1"),
        cheap("1234").replace("t=1", "t=0"),
    ],
)
def test_a_hash_that_is_none_or_asks_too_much_is_refused(text: str) -> None:
    with pytest.raises(CorruptData):
        check_pin("1234", text)


def test_the_worker_answers_in_its_own_thread_and_wakes() -> None:
    woken = threading.Event()
    checker = PinChecker(woken.set)
    try:
        assert checker.poll() == []
        assert checker.ask(7, "1234", cheap("1234"))
        assert woken.wait(ANSWER_S_MAX)
        assert checker.poll() == [PinAnswer(7, True)]
        woken.clear()
        assert checker.ask(8, "1234", "no hash")
        assert woken.wait(ANSWER_S_MAX)
        assert checker.poll() == [PinAnswer(8, None)]
    finally:
        checker.close()


def test_who_asks_never_waits_and_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_pin: str, _phc: str) -> bool:
        begun.set()
        assert go_on.wait(ANSWER_S_MAX)
        return True

    monkeypatch.setattr(pins, "check_pin", slow)
    woken = threading.Event()
    checker = PinChecker(woken.set)
    try:
        assert checker.ask(1, "1234", "")
        assert begun.wait(ANSWER_S_MAX)
        assert checker.ask(2, "1234", "")
        assert not checker.ask(3, "1234", "")
        assert checker.poll() == []
        go_on.set()
    finally:
        checker.close()
    assert [answer.number for answer in checker.poll()] == [1, 2]


def test_a_question_shows_no_pin() -> None:
    assert "1234" not in repr(pins._Question(1, "1234", "hash"))
