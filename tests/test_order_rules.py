"""Goal: an order is refused for the first reason that applies, by the one process that carries it
out, and an unknown word by exactly one.

Method: every word with every argument right and wrong, every clock, every place in the window,
against a table written anew.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from edge.messages import Order
from edge.model import ClockQuality, Direction
from edge.order_rules import (
    LEVEL_MINUTES_MAX,
    LOCKDOWN_WINDOW_MS_MAX,
    LOG_MINUTES_MAX,
    OPEN_WINDOW_MS_MAX,
    Here,
    Process,
    Word,
    carried_by,
    judge,
)
from tests.support.times import NOON_MS, at

GATE = Here(
    access_points={"in": Direction.IN, "out": Direction.OUT},
    readers=2,
    scopes=frozenset({"s/people"}),
    updater=True,
)
TILL = Here(access_points={}, readers=0, scopes=frozenset({"s/money"}))
EXIT = Here(access_points={"out": Direction.OUT}, readers=1, scopes=frozenset())


def order(word: str, **more: Any) -> Order:
    fields: dict[str, Any] = {
        "device": "d",
        "counter": 1,
        "order": word,
        "not_before_utc_ms": NOON_MS,
        "not_after_utc_ms": NOON_MS + 10_000,
    }
    return Order(**(fields | more))


# word -> arguments that are right at GATE; then wrong ones, each with the reason.
CASES: dict[Word, tuple[dict[str, Any], list[tuple[dict[str, Any], str]]]] = {
    Word.OPEN_ONCE: (
        {"access_point": "in"},
        [
            ({"access_point": "south"}, "not_here"),
            ({"access_point": None}, "not_here"),
            (
                {"access_point": "in", "not_after_utc_ms": NOON_MS + OPEN_WINDOW_MS_MAX + 1},
                "arguments",
            ),
        ],
    ),
    Word.LOCKDOWN_ON: (
        {},
        [({"not_after_utc_ms": NOON_MS + LOCKDOWN_WINDOW_MS_MAX + 1}, "arguments")],
    ),
    Word.LOCKDOWN_OFF: (
        {},
        [({"not_after_utc_ms": NOON_MS + LOCKDOWN_WINDOW_MS_MAX + 1}, "arguments")],
    ),
    Word.IDENTIFY: ({}, []),
    Word.RESTART: ({"process": "edge"}, [({}, "arguments"), ({"process": "init"}, "arguments")]),
    Word.SET_LOG_LEVEL: (
        {"process": "sync", "level": "debug", "minutes": LEVEL_MINUTES_MAX},
        [
            ({"process": "sync", "level": "debug", "minutes": LEVEL_MINUTES_MAX + 1}, "arguments"),
            ({"process": "sync", "level": "debug", "minutes": -1}, "arguments"),
            ({"process": "sync", "level": "trace"}, "arguments"),
            ({"level": "debug"}, "arguments"),
        ],
    ),
    Word.RELOAD_LIST: ({"scope": "s/people"}, [({"scope": "t/people"}, "not_here")]),
    Word.ROTATE_KEY: ({}, []),
    Word.FETCH_LOGS: (
        {"process": "edge", "minutes": LOG_MINUTES_MAX},
        [
            ({"process": "edge"}, "arguments"),
            ({"minutes": 5}, "arguments"),
            ({"process": "edge", "minutes": LOG_MINUTES_MAX + 1}, "arguments"),
        ],
    ),
    Word.UPDATE: (
        {"release": "1.2.0rc1", "sha256": "0f" * 32},
        [
            ({"release": "", "sha256": "0f" * 32}, "arguments"),
            ({"release": "../../x", "sha256": "0f" * 32}, "arguments"),
            ({"release": "1" * 65, "sha256": "0f" * 32}, "arguments"),
            ({"release": "1.2.0", "sha256": "0F" * 32}, "arguments"),
            ({"release": "1.2.0", "sha256": "0f" * 31}, "arguments"),
        ],
    ),
}


@pytest.mark.parametrize(
    ("word", "longest_ms"),
    [
        (Word.OPEN_ONCE, OPEN_WINDOW_MS_MAX),
        (Word.LOCKDOWN_ON, LOCKDOWN_WINDOW_MS_MAX),
        (Word.LOCKDOWN_OFF, LOCKDOWN_WINDOW_MS_MAX),
    ],
)
def test_the_longest_window_is_still_good(word: Word, longest_ms: int) -> None:
    asked = order(word, access_point="in", not_after_utc_ms=NOON_MS + longest_ms)
    assert judge(asked, moment=at(longest_ms - 1), here=GATE) == ""
    assert judge(asked, moment=at(longest_ms), here=GATE) == "late"


def test_every_word_is_in_the_table() -> None:
    assert set(CASES) == set(Word)


@pytest.mark.parametrize("word", Word)
def test_right_arguments_are_accepted_and_wrong_ones_refused(word: Word) -> None:
    right, wrong = CASES[word]
    assert judge(order(word, **right), moment=at(), here=GATE) == ""
    for arguments, why in wrong:
        assert judge(order(word, **arguments), moment=at(), here=GATE) == why, arguments


@pytest.mark.parametrize("word", Word)
def test_the_window_is_looked_at_last_and_by_a_trusted_clock_alone(word: Word) -> None:
    right, wrong = CASES[word]
    for quality, after_ms in product(ClockQuality, (-1, 0, 9_999, 10_000)):
        moment = at(after_ms, quality=quality)
        if quality in (ClockQuality.FLOOR, ClockQuality.UNKNOWN):
            expected = "clock"
        elif after_ms < 0:
            expected = "early"
        else:
            expected = "late" if after_ms >= 10_000 else ""
        assert judge(order(word, **right), moment=moment, here=GATE) == expected
        for arguments, why in wrong:
            assert judge(order(word, **arguments), moment=moment, here=GATE) == why
        assert judge(order(f"{word}_", **right), moment=moment, here=GATE) == "unknown_order"


@pytest.mark.parametrize(
    ("word", "here", "why"),
    [
        (Word.LOCKDOWN_ON, TILL, "not_here"),
        (Word.LOCKDOWN_OFF, TILL, "not_here"),
        (Word.LOCKDOWN_ON, EXIT, "not_here"),
        (Word.IDENTIFY, TILL, "not_here"),
        (Word.UPDATE, TILL, "not_here"),
        (Word.RELOAD_LIST, TILL, "not_here"),
        (Word.ROTATE_KEY, TILL, ""),
    ],
)
def test_what_there_is_not_here_is_said(word: Word, here: Here, why: str) -> None:
    assert judge(order(word, **CASES[word][0]), moment=at(), here=here) == why


def test_each_order_has_one_carrier() -> None:
    sync = {Word.RELOAD_LIST, Word.ROTATE_KEY, Word.FETCH_LOGS, Word.UPDATE}
    either = {Word.RESTART, Word.SET_LOG_LEVEL}
    for word, process in product((*Word, "explode", ""), ("", "edge", "sync", "init")):
        expected = word in sync or (word in either and process == "sync")
        found = carried_by(order(str(word), process=process))
        assert found is (Process.SYNC if expected else Process.EDGE), (word, process)
