"""Goal: a link is turned by one at a time: by its borrower while that serves it, by its thread
while the borrower is away or has given it back; what goes wrong in a turn ends the loan and never
the borrower.

Method: a link of a counter that notices a second one inside it, a borrower that serves, works and
leaves, and real threads; what must happen is waited for, what must not is looked for after many
chances.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from sync import turns
from sync.turns import Turns

PATIENCE_S = 10.0
SOON_MS = 20


@dataclass
class Link:
    """Counts who turned it, and whether two ever did at once."""

    by: dict[str, int] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    crossed: bool = False
    broken: Exception | None = None
    told: int = 0
    inside: int = 0
    ended: bool = False
    rest_s: float = 0.001
    now_ms: int = 0  # A clock that turns alone move.
    takes_ms: int = 1

    def turn(self, timeout_ms: int) -> bool:
        self.inside += 1
        self.crossed |= self.inside != 1
        time.sleep(self.rest_s)
        name = threading.current_thread().name
        self.by[name] = self.by.get(name, 0) + 1
        self.now_ms += self.takes_ms
        self.inside -= 1
        if self.broken is not None:
            raise self.broken
        return timeout_ms == 0

    def fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.ended = True

    def tell(self) -> None:
        self.told += 1


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "STAND_IN_MS", SOON_MS)


@contextmanager
def lending(link: Link) -> Iterator[tuple[Turns, threading.Thread]]:
    lent = Turns(link.turn, failed=link.fail, over=lambda: link.ended)
    thread = threading.Thread(target=lambda: lent.lend(call=link.tell), name="link")
    thread.start()
    until(lambda: lent.lent, "it is lent")
    try:
        yield lent, thread
    finally:
        lent.give_back()
        thread.join(PATIENCE_S)
        assert not thread.is_alive() and not lent.lent


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


def own() -> str:
    return threading.current_thread().name


def test_who_serves_turns_it_and_the_thread_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link()
    monkeypatch.setattr(turns, "monotonic_ms", lambda: link.now_ms)
    with lending(link) as (lent, _):
        until_s = time.monotonic() + 10 * SOON_MS / 1000
        while time.monotonic() < until_s:
            assert not lent.serve(1)
        assert lent.serve(0), "what a turn says is handed on"
    assert link.by[own()] > 10 and link.by.get("link", 0) == 0
    assert link.told == 1, "called once: the link is its to turn"


def test_a_long_turn_is_no_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A borrower that waits for minutes for something to happen serves all the while."""
    link = Link(rest_s=5 * SOON_MS / 1000, takes_ms=5 * SOON_MS)
    monkeypatch.setattr(turns, "monotonic_ms", lambda: link.now_ms)
    with lending(link) as (lent, _):
        for _ in range(3):
            lent.serve(1)
    assert link.by == {own(): 3}


def test_while_the_borrower_is_away_the_thread_stands_in_and_tells() -> None:
    link = Link()
    with lending(link) as (lent, _):
        lent.serve(1)
        until(lambda: link.by.get("link", 0) >= 3, "it stands in, more than once")
        until(lambda: link.told >= 4, "and calls each time")
        lent.serve(1)
    assert link.by[own()] == 2


def test_two_are_never_at_it_at_once() -> None:
    link = Link(rest_s=0.0)
    with lending(link) as (lent, _):
        until_s = time.monotonic() + PATIENCE_S
        for again in range(400):
            lent.serve(1)
            lent.do(lambda: link.turn(1))
            if again % 20 == 0:
                stood_in = link.by.get("link", 0)
                while link.by.get("link", 0) == stood_in and time.monotonic() < until_s:
                    time.sleep(0)  # The borrower is away, and comes back in the midst of a turn.
    assert link.by["link"] >= 20 and not link.crossed


@pytest.mark.parametrize("how", ["serve", "do", "stand in"])
def test_what_goes_wrong_ends_the_loan_and_spares_the_borrower(how: str) -> None:
    link = Link(broken=RuntimeError("broken"))
    with lending(link) as (lent, thread):
        if how == "serve":
            assert not lent.serve(0)
        elif how == "do":
            lent.do(lambda: link.turn(0))
        until(lambda: not thread.is_alive(), "the thread goes on to the end")
        assert not lent.lent and list(map(str, link.errors)) == ["broken"]
        before = dict(link.by)
        assert not lent.serve(0) and link.by == before, "nothing is turned after the end"


def test_an_end_in_a_turn_is_the_threads_to_tell() -> None:
    link = Link()

    def last(_timeout_ms: int) -> bool:
        link.ended = True
        return True

    with lending(link) as (lent, thread):
        lent._turn = last
        assert lent.serve(0)
        assert not lent.lent
        until(lambda: not thread.is_alive(), "the thread goes on to the end")


def test_given_back_before_it_was_lent_it_is_not_lent() -> None:
    link = Link()
    lent = Turns(link.turn, failed=link.fail, over=lambda: False)
    lent.give_back()
    lent.lend(call=link.tell)
    assert not lent.lent and link.by == {}


def test_given_back_in_the_very_moment_it_is_lent_it_stays_given_back() -> None:
    link = Link()
    lent = Turns(link.turn, failed=link.fail, over=lambda: False)

    def call() -> None:
        assert lent.lent
        lent.give_back()
        assert not lent.lent

    lent.lend(call=call)
    assert not lent.lent and link.by == {}


def test_what_is_over_is_not_lent() -> None:
    link = Link(ended=True)
    lent = Turns(link.turn, failed=link.fail, over=lambda: link.ended)
    lent.lend(call=link.tell)
    assert not lent.lent and link.by == {}
