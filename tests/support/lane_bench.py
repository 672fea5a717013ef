"""A lane with everything a lane can have, on the agent's bench; words for what happens to it."""

from __future__ import annotations

from typing import TypeVar

import pytest

from edge.lane import Lane
from edge.messages import Fact, FireFact, FireWhat
from edge.model import DeviceFault
from hil.bench.station import DEVICE_TOML
from tests.support.agent_bench import Bench

F = TypeVar("F", bound=Fact)

FIRE, HOLD, TAMPER = "north.fire", "north.hold", "north.tamper"
IN_BUTTON, OUT_BUTTON = "north-in.button", "north-out.button"
LANE_KEYS = """fire = {pin = 5, active_high = false, pull = "up"}
hold = {pin = 24}
tamper = {pin = 6, pull = "up"}
"""
POINT_KEYS = """green = {pin = 12}
red = {pin = 16}
amber = {pin = 20}
buzzer = {pin = 21}
button = {pin = 7, active_high = false, pull = "up"}
[[lanes.access_points]]
id = "north-out"
direction = "out"
zone = "school"
relay = {pin = 22}
rotation = {pin = 23}
green = {pin = 13}
red = {pin = 19}
button = {pin = 8, active_high = false, pull = "up"}
"""
FULL_TOML = DEVICE_TOML.replace('driver = "mock"\n', 'driver = "mock"\n' + LANE_KEYS) + POINT_KEYS
assert FULL_TOML.count("fire =") == 1


def lane_of(bench: Bench) -> Lane:
    return bench.agent.lanes.by_id["north"]


def of_kind(bench: Bench, kind: type[F]) -> list[F]:
    """All facts of this kind, in order."""
    return [fact for fact in bench.facts() if isinstance(fact, kind)]


def active(bench: Bench, line: str) -> bool:
    lines = bench.agent.parts.lines
    assert lines is not None
    return lines.is_active(line)


def set_line(bench: Bench, line: str, on: bool) -> None:
    """Move an input; the agent sees it at once."""
    bench.agent.move(line, on)
    bench.step()


def press(bench: Bench, line: str) -> None:
    set_line(bench, line, True)
    set_line(bench, line, False)


def turn(bench: Bench, point: str) -> None:
    """A body pushes the arm of this direction round."""
    set_line(bench, f"{point}.rotation", True)
    set_line(bench, f"{point}.rotation", False)


def fire_told(bench: Bench) -> list[FireWhat]:
    return [fact.what for fact in of_kind(bench, FireFact)]


def word_at(bench: Bench, point: str) -> str:
    return str(bench.agent.gates[point].screen(bench.clock.moment()).word)


def refuse_records(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DeviceFault("journal.db: disk full")

    monkeypatch.setattr(bench.agent.parts.journal, "record", refuse)
