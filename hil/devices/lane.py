"""The virtual people at a lane: who is let in walks through, or turns back.

They see what a person sees: the lane's screen. A new passage that was granted makes the gate turn
after the time a person needs, by moving the rotation line of that direction; one person at a time
goes through a gate. Pure: screens and time in, moves out; the bench asks the agent for its screens
and sends it the moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

STEP_S: Final = 0.8  # Our choice: from the green lamp to the arm, for a pupil with a bag.
TURN_S: Final = 0.3  # Our choice: how long the arm's sensor is covered while one person passes.
PASSAGES_MAX: Final = 64  # Our choice: remembered per lane, to walk once on each grant.
GRANTED: Final = "granted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Drive one input line of a lane."""

    line: str
    active: bool


class People:
    """Everybody at one lane. `walking` may be changed at any time."""

    def __init__(self, *, step_s: float = STEP_S) -> None:
        self.walking = True
        self.step_s = step_s
        self._planned: list[tuple[float, Move]] = []
        self._free_s: dict[str, float] = {}  # Per access point: when the last one is through.
        self._seen: dict[str, None] = {}  # Passages already acted on, oldest first.

    def step(self, screens: Iterable[Mapping[str, Any]], *, now_s: float) -> tuple[Move, ...]:
        """What moves now. Call it several times a second with the lane's newest screens."""
        for screen in screens:
            self._look(screen, now_s)
        self._planned.sort(key=lambda planned: planned[0])
        due = [move for at_s, move in self._planned if at_s <= now_s]
        self._planned = [(at_s, move) for at_s, move in self._planned if at_s > now_s]
        return tuple(due)

    def _look(self, screen: Mapping[str, Any], now_s: float) -> None:
        passage = screen.get("passage")
        if screen.get("state") != GRANTED or not passage:
            return
        key = f"{screen['access_point']}/{passage}"
        if key in self._seen:
            return
        self._seen[key] = None
        while len(self._seen) > PASSAGES_MAX:
            del self._seen[next(iter(self._seen))]
        if self.walking:
            line = f"{screen['access_point']}.rotation"
            turns_s = max(now_s, self._free_s.get(line, now_s)) + self.step_s
            self._free_s[line] = turns_s + TURN_S
            self._planned += [
                (turns_s, Move(line=line, active=True)),
                (turns_s + TURN_S, Move(line=line, active=False)),
            ]
