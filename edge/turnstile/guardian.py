"""The guardian's dialogue at a pre-school: which children are brought or collected. Pure.

A guardian's entry opens a dialogue, and the information screen shows the newest. A choice names
the dialogue it was made for, so one made for a screen that has moved on is refused. Several
children at once, or none (*no child*). Without a choice in time the dialogue stays open: the
officer is told, and the guardian's next tap shows it again.

- A child who is in cannot be brought again, nor one who is absent be collected: such a choice
  waits as a *claim* for the officer, who may confirm it.
- A barred pair is refused whoever asks, and the officer is told in silence: the guardian's screen
  says no more than that the officer is needed.

Where the children are is read by the shell (`edge/handover.py`), which also records what was
chosen; presence follows from that fact alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from edge.model import Cardholder, Category, HandoverKind

CHOICE_MS_MAX: Final = 60_000  # lane.md: no choice within 60 s, and the officer is alerted.
DIALOGUES_MAX: Final = 200  # Our choice: as many guardians as a large pre-school sees in an hour.
CHILDREN_MAX: Final = 16  # Our choice: two large families of one guardian.


@unique
class Problem(StrEnum):
    """Why a choice is not taken, in checking order."""

    MOVED_ON = "moved_on"  # The screen shows another dialogue by now, or none.
    NO_CHILDREN = "no_children"  # Bringing or collecting whom?
    CHILDREN_WITH_NO_CHILD = "children_with_no_child"
    TOO_MANY = "too_many"
    BARRED = "barred"
    NOT_A_WARD = "not_a_ward"
    ALREADY_IN = "already_in"
    NOT_IN = "not_in"


# What the officer may say yes to. Whose child it is, and who may not have it, no officer changes.
CONFIRMABLE: Final = frozenset({Problem.ALREADY_IN, Problem.NOT_IN})


_ASK_OFFICER: Final = ("ask_officer", "Подойдите к охраннику: он поможет")
_SAID: Final[Mapping[Problem, tuple[str, str]]] = MappingProxyType(
    {
        Problem.MOVED_ON: ("moved_on", "Экран уже показывает другое: приложите карту ещё раз"),
        Problem.NO_CHILDREN: ("no_children", "Отметьте хотя бы одного ребёнка"),
        Problem.CHILDREN_WITH_NO_CHILD: ("children_with_no_child", "Снимите отметки с детей"),
        Problem.TOO_MANY: ("too_many", "Слишком много детей сразу: подойдите к охраннику"),
        Problem.BARRED: _ASK_OFFICER,
        Problem.NOT_A_WARD: _ASK_OFFICER,
        Problem.ALREADY_IN: ("already_in", "Ребёнок уже в группе: ждём охранника"),
        Problem.NOT_IN: ("not_in", "Ребёнка сегодня нет в группе: ждём охранника"),
    }
)
assert set(_SAID) == set(Problem)


def said_to_guardian(problem: Problem) -> tuple[str, str]:
    """A word and a sentence for the information screen. Who was barred cannot be told from them:
    a stranger's child is answered the same."""
    return _SAID[problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a guardian said."""

    what: HandoverKind
    children: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """One guardian, inside or about to be, who has not said for whom."""

    access: str  # The decision that let them in; also the dialogue's name on the screens.
    guardian_id: str
    zone_id: str
    ward_ids: frozenset[str]
    barred_ids: frozenset[str]
    until_ms: int | None  # Monotonic; None: the time is over and the officer was told.
    since_wall_ms: int = 0  # When they were let in.
    claim: Choice | None = None  # Made, and waits for the officer.
    name: str = field(default="", repr=False)


def as_allowed(cardholder: Cardholder) -> Cardholder:
    """A guardian whose every child was barred from them is not let in: as if suspended."""
    barred = cardholder.barred_ward_ids
    revoked = cardholder.category is Category.GUARDIAN and barred and not wards_of(cardholder)
    return replace(cardholder, suspended=True) if revoked else cardholder


def wards_of(cardholder: Cardholder) -> frozenset[str]:
    """The children this guardian may bring or collect."""
    return cardholder.ward_ids - cardholder.barred_ward_ids


def problem_of(dialogue: Dialogue, choice: Choice, *, present: Collection[str]) -> Problem | None:
    """Why this choice is not taken as it is; None when it is. `present`: who is in."""
    children = choice.children
    if choice.what is HandoverKind.NO_CHILD:
        return Problem.CHILDREN_WITH_NO_CHILD if children else None
    if not children:
        return Problem.NO_CHILDREN
    if len(children) > CHILDREN_MAX or len(set(children)) != len(children):
        return Problem.TOO_MANY
    if dialogue.barred_ids.intersection(children):
        return Problem.BARRED
    if not dialogue.ward_ids.issuperset(children):
        return Problem.NOT_A_WARD
    if choice.what is HandoverKind.BROUGHT:
        return Problem.ALREADY_IN if any(child in present for child in children) else None
    return None if all(child in present for child in children) else Problem.NOT_IN


class Dialogues:
    """All that are open at one station, and the one on the information screen."""

    def __init__(self) -> None:
        self._open: dict[str, Dialogue] = {}  # By guardian, oldest first.
        self._shown = ""  # The guardian whose dialogue the screen shows.

    @property
    def open(self) -> tuple[Dialogue, ...]:
        return tuple(self._open.values())

    @property
    def shown(self) -> Dialogue | None:
        return self._open.get(self._shown)

    @property
    def due_ms(self) -> int | None:
        """When `overdue` is needed at the latest."""
        waiting = [one.until_ms for one in self._open.values() if one.until_ms is not None]
        return min(waiting, default=None)

    def of(self, guardian_id: str) -> Dialogue | None:
        return self._open.get(guardian_id)

    def named(self, access: str) -> Dialogue | None:
        return next((one for one in self._open.values() if one.access == access), None)

    def begin(self, dialogue: Dialogue, *, show: bool = True) -> None:
        """A guardian was let in: theirs is the one on the screen. An entry before this one, of
        which nothing was said, goes on in it. `show` is off for what was found after a start."""
        self._open.pop(dialogue.guardian_id, None)
        if len(self._open) >= DIALOGUES_MAX:
            del self._open[next(iter(self._open))]
        self._open[dialogue.guardian_id] = dialogue
        if show:
            self._shown = dialogue.guardian_id

    def resume(self, guardian_id: str, *, until_ms: int) -> bool:
        """A second tap: show it again, and give it its time again. False: none is open."""
        dialogue = self._open.get(guardian_id)
        if dialogue is None:
            return False
        self._open[guardian_id] = replace(dialogue, until_ms=until_ms)
        self._shown = guardian_id
        return True

    def choose(
        self, access: str, choice: Choice, *, present: Collection[str]
    ) -> tuple[Dialogue | None, Problem | None]:
        """Take a choice made on the information screen: the dialogue that ends by it, or why it
        is not taken. What the officer may confirm waits in the dialogue."""
        dialogue = self.shown
        if dialogue is None or dialogue.access != access:
            return None, Problem.MOVED_ON
        problem = problem_of(dialogue, choice, present=present)
        if problem is None:
            self._open.pop(dialogue.guardian_id)
        elif problem in CONFIRMABLE:
            self._open[dialogue.guardian_id] = replace(dialogue, claim=choice)
        return dialogue, problem

    def confirm(
        self, access: str, choice: Choice, *, present: Collection[str]
    ) -> tuple[Dialogue | None, Problem | None]:
        """Take a choice on the officer's word, whichever dialogue is shown."""
        dialogue = self.named(access)
        if dialogue is None:
            return None, Problem.MOVED_ON
        problem = problem_of(dialogue, choice, present=present)
        if problem is None or problem in CONFIRMABLE:
            self._open.pop(dialogue.guardian_id)
            return dialogue, None
        return dialogue, problem

    def refuse_claim(self, access: str) -> bool:
        """The officer says no to a claim; the guardian may choose again."""
        dialogue = self.named(access)
        if dialogue is None or dialogue.claim is None:
            return False
        self._open[dialogue.guardian_id] = replace(dialogue, claim=None)
        return True

    def end(self, guardian_id: str) -> Dialogue | None:
        """The guardian did not come in after all, or is out again."""
        return self._open.pop(guardian_id, None)

    def overdue(self, now_ms: int) -> list[Dialogue]:
        """Those without a choice in time, told once. They stay open; the screen lets go of
        them."""
        over = [
            one
            for one in self._open.values()
            if one.until_ms is not None and one.until_ms <= now_ms
        ]
        for one in over:
            self._open[one.guardian_id] = replace(one, until_ms=None)
            if self._shown == one.guardian_id:
                self._shown = ""
        return over

    def new_day(self) -> None:
        """Sides are forgotten at local midnight, and so is who has still to say something."""
        self._open.clear()
        self._shown = ""
