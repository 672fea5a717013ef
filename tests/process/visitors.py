"""The people of a school day: they show cards at readers, look at the screen, walk, and buy.

Each person is a generator that yields whenever it would wait, so one thread plays them all, and
what is to go wrong can go wrong at any of those moments: `play` asks for it between two steps. A
person does as people do: whoever sees no answer shows the card again. All lights are written down
as they were seen on the control socket, for the oracle.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pytest

from edge.model import Category, UidKind
from hil.devices.reader_serial import VirtualSerialReader
from hil.devices.vpcd_card import EMPTY_S_MIN, VirtualCard, VpcdSlot
from hil.world.school import School, SchoolAccount
from tests.process.school import Station

Steps = Generator[None, None, None]
STEP_S: Final = 0.004
AGAIN_S: Final = 4.0  # Past every rule about repeats (3 s): the second tap is a new one.
DAY_S_MAX: Final = 200.0  # Our choice: an idle machine takes a fifth of it.
WALK_S_MAX: Final = 20.0
DECIDED: Final = ("granted", "refused", "ask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """One person with one card, and what the gate must say on the way in."""

    cardholder: str | None
    name: str = field(repr=False)
    uid: bytes = field(repr=False)
    expected: str = "authorized"


def visitors(school: School, kind: UidKind, *, hot: bool = False) -> list[Visitor]:
    """Everybody who holds such a card: pupils and staff, whom a gate lets in by their card."""
    people = {p.cardholder_id: p for p in school.people if p.category is not Category.GUARDIAN}
    return [
        Visitor(
            cardholder=card.cardholder_id,
            name=people[card.cardholder_id].name,
            uid=card.uid,
            expected="hot_listed" if hot else "authorized",
        )
        for card in school.cards
        if card.uid_kind is kind and bool(card.hot) is hot and card.cardholder_id in people
    ]


def one_each(found: Sequence[Visitor]) -> list[Visitor]:
    """One card a person: nobody comes in twice."""
    return list({visitor.cardholder: visitor for visitor in reversed(found)}.values())


class Hand(Protocol):
    """How a card is shown at one kind of reader."""

    def show(self, uid: bytes) -> Steps: ...

    def take_away(self) -> None: ...


class AtSerial:
    def __init__(self, reader: VirtualSerialReader) -> None:
        self._reader = reader

    def show(self, uid: bytes) -> Steps:
        self._reader.tap(uid)
        yield

    def take_away(self) -> None:
        pass


class AtSlot:
    """A card laid on a PC/SC reader; pcscd needs a pause between two cards."""

    def __init__(self, slot: VpcdSlot) -> None:
        self._slot = slot
        self._free_s = 0.0

    def show(self, uid: bytes) -> Steps:
        while time.monotonic() < self._free_s:
            yield
        self._slot.insert(VirtualCard(uid))
        yield

    def take_away(self) -> None:
        self._slot.remove()
        self._free_s = time.monotonic() + EMPTY_S_MIN + 0.01


class Door:
    """One direction of the entrance, and the line of people before it."""

    def __init__(self, station: Station, access_point: str, hand: Hand) -> None:
        self.shown = 0  # Cards shown, again included.
        self.done = 0
        self.torn = 0  # Walks during which the agent went away.
        self.lights: dict[str, str] = {}  # Passage -> the state its first screen showed.
        self._station, self._access_point, self._hand = station, access_point, hand
        self._answered: set[str] = set()

    def look(self) -> dict[str, Any]:
        """This direction's screen; empty while nobody answers."""
        answer = self._station.ask("screen")
        screens = [] if answer is None else answer["screens"]
        for screen in screens:
            if screen["access_point"] == self._access_point:
                if screen["passage"]:
                    self.lights.setdefault(screen["passage"], screen["state"])
                return dict(screen)
        return {}

    def visit(self, visitor: Visitor, *, walks: bool = True, leaving: bool = False) -> Steps:
        view: dict[str, Any] = {}
        while not view:
            self.shown += 1
            yield from self._hand.show(visitor.uid)
            again_s = time.monotonic() + AGAIN_S
            while not view and time.monotonic() < again_s:
                view = self._new_answer()
                yield
            self._hand.take_away()
        assert view["name"] == visitor.name
        if not leaving:
            assert view["reason"] == visitor.expected, view
        if view["state"] == "granted":
            yield from self._walk(view["passage"], walks=walks)
        self.done += 1

    def _new_answer(self) -> dict[str, Any]:
        view = self.look()
        passage = view.get("passage")
        if not passage or view["state"] not in DECIDED or passage in self._answered:
            return {}
        self._answered.add(passage)
        return {} if view["reason"] == "stale_read" else view  # It says: once more.

    def _walk(self, passage: str, *, walks: bool) -> Steps:
        """Through the arm, or away; until the screen says so."""
        line = f"{self._access_point}.rotation"
        if walks:
            self._station.ask("move", line=line, active=True)
        until_s = time.monotonic() + WALK_S_MAX
        while True:
            view = self.look()
            state = view.get("state")
            if state == ("taken" if walks else "not_taken"):
                break
            if state != "granted":
                self.torn += 1
                break
            assert time.monotonic() < until_s, view
            yield
        assert state != "taken" or view["passage"] == passage
        if walks:
            self._station.ask("move", line=line, active=False)


class Till:
    """The cashier and whoever stands before the till."""

    def __init__(self, station: Station) -> None:
        self.shown = 0
        self.sold: Counter[tuple[str | None, int]] = Counter()  # (cardholder, total).
        self.refused = 0
        self._station = station

    def buy(self, visitor: Visitor, hand: Hand, lines: list[list[object]]) -> Steps:
        while True:
            asked = self._station.ask("basket", lines=lines)
            if asked is not None:
                self.shown += 1
                yield from hand.show(visitor.uid)
                state = yield from self._answer()
                hand.take_away()
                if state == "sold":
                    self.sold[visitor.cardholder, asked["total_minor"]] += 1
                    return
                if state == "refused":
                    self.refused += 1
                    return
            yield

    def _answer(self) -> Generator[None, None, str]:
        again_s = time.monotonic() + AGAIN_S
        while time.monotonic() < again_s:
            answer = self._station.ask("screen")
            if answer is not None:
                (screen,) = answer["screens"]
                if screen["state"] != "open" or not screen["basket"]:
                    return str(screen["state"])  # With no basket: the agent began anew.
            yield
        return ""

    @property
    def sales(self) -> int:
        return self.sold.total()


def affluent(school: School) -> set[str]:
    """Cardholders who can pay some meals and have no ban and no limit."""

    def is_free(account: SchoolAccount) -> bool:
        banned = account.banned_products or account.banned_categories
        return account.balance_minor > 1_000_00 and not banned and account.day_limit_minor is None

    free = {account.account_id for account in school.accounts if is_free(account)}
    return {person.cardholder_id for person in school.people if person.account_id in free}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, and when."""

    when: Callable[[], bool]
    do: Callable[[], None]
    what: str


def play(works: Sequence[Steps], faults: Sequence[Fault] = ()) -> None:
    """Everybody at once, step by step, and the faults in their order."""
    left, coming = list(works), list(faults)
    until_s = time.monotonic() + DAY_S_MAX
    while left:
        for work in list(left):
            try:
                next(work)
            except StopIteration:
                left.remove(work)
            if coming and coming[0].when():
                fault = coming.pop(0)
                print(f"now: {fault.what}")
                fault.do()
        if time.monotonic() > until_s:
            pytest.fail(f"the day took more than {DAY_S_MAX} s; {len(coming)} faults to come")
        time.sleep(STEP_S)
    assert not coming, [fault.what for fault in coming]
