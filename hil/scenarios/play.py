"""Plays a script and holds what was seen against what it says; knows what a set of them reached.

Every step names all facts that it leads to, in order: a fact nobody expected is found too. What
else a step names (screens, lines, answers) must be so; what it does not name is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from edge.messages import AccessFact, AnyFact
from edge.model import AccessReason
from edge.turnstile import passage
from edge.turnstile.passage_table import ROWS, TABLE, Row, State, Trigger
from hil.scenarios.saying import books_problem, kind_of, said
from hil.scenarios.script import Script, Step
from hil.scenarios.stage import VirtualStage, look, virtual_stage

TABLE_NAME: Final = "ROWS"  # Under which `passage.py` looks up what to do.


class Place(Protocol):
    """One station as a step is looked at."""

    shown: int

    def facts(self) -> list[AnyFact]: ...

    def screen(self) -> dict[str, Any]: ...

    def lit(self, line_id: str) -> bool: ...

    def opened(self) -> list[str] | None:
        """None where it cannot be told."""


@dataclass(slots=True)
class Reached:
    """What scenarios have led to."""

    reasons: set[AccessReason] = field(default_factory=set)
    rows: set[tuple[State, Trigger]] = field(default_factory=set)

    def add(self, other: Reached) -> None:
        self.reasons |= other.reasons
        self.rows |= other.rows

    @property
    def missing(self) -> list[str]:
        """Reasons of a decision and rows of the passage table that nothing has led to."""
        words = [f"reason {one}" for one in AccessReason if one not in self.reasons]
        rows = [row for row in TABLE if (row.state, row.trigger) not in self.rows]
        return words + [f"row {row.state} / {row.trigger}" for row in rows]

    def table(self) -> str:
        reasons, rows = len(self.reasons), len(self.rows)
        lines = [
            f"access reasons reached  {reasons} of {len(AccessReason)}",
            f"passage table rows      {rows} of {len(TABLE)}",
        ]
        return "\n".join([*lines, *(f"not reached: {one}" for one in self.missing)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How one script went; no problems: as it says."""

    script: Script
    problems: tuple[str, ...]
    reached: Reached
    seen: tuple[str, ...] = ()  # Each step as it was, for whoever writes one.


def play(script: Script) -> Played:
    """In virtual time."""
    reached, problems, seen = Reached(), [], []
    with watched(reached.rows), virtual_stage(script) as stage:
        doors = stage.doors
        problems += began(script, doors["one"])
        for door in doors.values():
            door.shown = len(door.facts())
            door.opened()
        for step in script.steps:
            found, words = taken(script, step, stage)
            problems += found
            seen.append(words)
        for name, door in doors.items():
            facts = door.facts()
            wrong = books_problem(facts)
            problems += [f"{script.path.name}: station {name}: {wrong}"] if wrong else []
            reached.reasons |= {fact.reason for fact in facts if isinstance(fact, AccessFact)}
    return Played(script=script, problems=tuple(problems), reached=reached, seen=tuple(seen))


def began(script: Script, place: Place) -> list[str]:
    """What is wrong with the facts of the first start."""
    if script.start is None:
        return []
    found = [said(fact) for fact in place.facts() if kind_of(fact) != "stream_opened"]
    wanted = list(script.start)
    return [] if found == wanted else [f"{script.path.name}: start: {found}; not {wanted}"]


def taken(script: Script, step: Step, stage: VirtualStage) -> tuple[list[str], str]:
    answer = stage.act(step)
    problems = []
    seen = ""
    for name, door in stage.doors.items():
        mine = name == step.lane
        expected = step.expected if mine else {}
        told, words = problems_of(script, step, expected, door, answer if mine else None)
        problems += told if mine else [f"{one} (at the other lane)" for one in told]
        seen = words if mine else seen
        door.shown = len(door.facts())
    return problems, seen


def problems_of(
    script: Script,
    step: Step,
    expected: Mapping[str, Any],
    place: Place,
    answer: dict[str, Any] | None,
) -> tuple[list[str], str]:
    """What is not as this step says, a sentence each; and what there was."""
    new = [said(fact) for fact in place.facts()[place.shown :]]
    screen, opened = place.screen(), place.opened()
    shown = {
        one["access_point"]: f"{one['state']} {one['word']} {one['colour']}"
        for one in screen["screens"]
    }
    texts = {one["access_point"]: one["text"] for one in screen["screens"]}
    differing: list[tuple[str, Any, Any]] = []

    def compare(what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            differing.append((what, found, wanted))

    compare("facts", new, expected.get("facts", []))
    for point, words in expected.get("screen", {}).items():
        compare(f"screen {point}", shown.get(point), words)
    for point, text in expected.get("text", {}).items():
        compare(f"text {point}", texts.get(point), text)
    for line, lit in expected.get("lines", {}).items():
        compare(f"line {line}", place.lit(line), lit)
    for path, value in expected.get("see", {}).items():
        compare(f"see {path}", look(screen, path), value)
    if "opens" in expected and opened is not None:
        compare("opens", opened, expected["opens"])
    if answer is not None:
        word = "ok" if answer["ok"] else answer.get("why") or answer["error"]
        compare("answer", word, expected.get("answer", "ok"))
    place_of = f"{script.path.name}: step {step.number} ({step.verb} {step.what!r:.40})"
    told = [
        f"{place_of}: {what}: found {found!r}, not {wanted!r}" for what, found, wanted in differing
    ]
    words = f"{step.number} {step.verb} {step.what}: {new} {shown} opens={opened} answer={answer}"
    return told, words


@contextmanager
def watched(rows: set[tuple[State, Trigger]]) -> Iterator[None]:
    """While it lasts, every row of the passage table that is used is noted."""

    assert getattr(passage, TABLE_NAME) is ROWS

    class Watched(dict[tuple[State, Trigger], Row]):
        def get(self, key: Any, default: Any = None) -> Any:
            if key in self:
                rows.add(key)
            return super().get(key, default)

    setattr(passage, TABLE_NAME, Watched(ROWS))
    try:
        yield
    finally:
        setattr(passage, TABLE_NAME, ROWS)
