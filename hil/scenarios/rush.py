"""A school's morning at one lane: everybody has a card, taps in turn and walks at human pace.

In virtual time on the real agent, or in real time on the real process. Afterwards every card that
was shown must stand in the journal as one grant and one passage taken, in the order of the taps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.messages import AccessFact, AnyFact, PassageFact
from edge.model import AccessReason, Outcome, PassageResult
from hil.devices.lane import People
from hil.scenarios.live import live_place
from hil.scenarios.script import Person, Script, Step
from hil.scenarios.stage import virtual_stage

LOOK_S: Final = 0.1  # Our choice: a person sees a lamp that soon.
LAST_S: Final = 15.0  # Our choice: who tapped last is through, or the lane has given up.
ROTATION: Final = "in.rotation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rush:
    """What became of a morning."""

    shown: tuple[str, ...]  # Cards, in the order of their taps.
    lasted_s: float  # From the first tap to the last person through.
    facts: tuple[AnyFact, ...]

    @property
    def problem(self) -> str:
        """What was lost, doubled or strange; "" when all is there."""
        granted = {
            f"{fact.epoch}.{fact.sequence}": fact.cardholder
            for fact in self.facts
            if isinstance(fact, AccessFact) and fact.outcome is Outcome.GRANT
        }
        decided = [
            fact.cardholder
            for fact in self.facts
            if isinstance(fact, AccessFact) and fact.reason is not AccessReason.STALE_READ
        ]
        passed = [fact for fact in self.facts if isinstance(fact, PassageFact)]
        if list(granted.values()) != list(self.shown) or decided != list(self.shown):
            return f"{len(self.shown)} cards shown, {len(decided)} decided, {len(granted)} granted"
        if any(fact.result is not PassageResult.TAKEN for fact in passed):
            return f"not all walked through: {sorted({fact.result for fact in passed})}"
        if [(one.passage, one.cardholder) for one in passed] != list(granted.items()):
            return f"{len(granted)} granted, {len(passed)} passed, or in another order"
        other = [f for f in self.facts if not isinstance(f, AccessFact | PassageFact)]
        return f"other facts: {len(other)}" if len(other) > 1 else ""  # The stream's own first.

    @property
    def per_minute(self) -> float:
        return 60 * len(self.shown) / self.lasted_s


def rush_script(people: int) -> Script:
    names = [f"p{number:04}" for number in range(people)]
    return Script(
        path=Path("rush"),
        title="a morning",
        steps=(),
        people=tuple(Person(name=name, cards=(name,)) for name in names),
    )


def virtual_rush(*, people: int, every_s: float | None) -> Rush:
    """In virtual time. A card every so often; None: as soon as the one before is through."""
    script = rush_script(people)
    with virtual_stage(script) as stage:
        door, crowd = stage.doors["one"], People()
        begun_s = now_s = door.time[0] / 1000
        shown: list[str] = []
        last_s = begun_s
        while now_s < last_s + LAST_S:
            screens = door.screen()["screens"]
            if len(shown) < people and _may_tap(shown, screens, now_s - begun_s, every_s):
                name = script.people[len(shown)].name
                door.tap(Step(number=1, verb="tap", given={"tap": name}, expected={}))
                shown.append(name)
                screens = door.screen()["screens"]
            for move in crowd.step(screens, now_s=now_s):
                door.move(ROTATION, move.active)
                last_s = now_s
            if len(shown) < people:
                last_s = now_s
            door.step(round(LOOK_S * 1000))
            now_s = door.time[0] / 1000
        facts = tuple(door.facts())
    return Rush(shown=tuple(shown), lasted_s=last_s - begun_s, facts=facts)


def live_rush(*, people: int, every_s: float) -> Rush:
    """In real time: edge as a process, a virtual serial reader, virtual pins."""
    script = rush_script(people)
    with live_place(script) as place:
        crowd, shown = People(), list[str]()
        begun_s = last_s = time.monotonic()
        while (now_s := time.monotonic()) < last_s + LAST_S:
            if len(shown) < people and now_s - begun_s >= every_s * len(shown):
                name = script.people[len(shown)].name
                place.act(Step(number=1, verb="tap", given={"tap": name}, expected={}))
                shown.append(name)
            for move in crowd.step(place.screen()["screens"], now_s=now_s):
                place.ask("move", line=ROTATION, active=move.active)
                last_s = now_s
            if len(shown) < people:
                last_s = now_s
            time.sleep(LOOK_S / 2)
        facts = tuple(place.facts())
    return Rush(shown=tuple(shown), lasted_s=last_s - begun_s, facts=facts)


def _may_tap(
    shown: list[str], screens: list[dict[str, Any]], since_s: float, every_s: float | None
) -> bool:
    if every_s is not None:
        return since_s >= every_s * len(shown)
    (state,) = [one["lane_state"] for one in screens if one["access_point"] == "in"]
    return bool(state == "idle")
