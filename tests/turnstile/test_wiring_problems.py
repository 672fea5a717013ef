"""Goal: wiring that cannot work is named, all of it at once, before any pin is touched.

Method: one good wiring and one way to spoil it per sentence; a spoilt one gives that sentence and
no other.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.model import Direction
from edge.settings import PULSE_MS_CEILING
from edge.turnstile.lines import (
    ACTIVE_MS_MAX,
    DEBOUNCE_MS_MAX,
    PIN_MAX,
    DirectionSettings,
    Driver,
    LaneSettings,
    LineSettings,
    WiringSettings,
    wiring_problems,
)
from edge.turnstile.passage import Drive

RELAY = LineSettings(line_id="in.relay", pin=17)
ROTATION = LineSettings(line_id="in.rotation", pin=27)
HOLD = LineSettings(line_id="hold", pin=5, active_ms_max=None)
IN = DirectionSettings(direction=Direction.IN, relay=RELAY, rotation=ROTATION)
OUT = DirectionSettings(direction=Direction.OUT, relay=LineSettings(line_id="out.relay", pin=22))
LANE = LaneSettings(lane_id="north", directions=(IN, OUT))


def problems(lane: LaneSettings) -> list[str]:
    return wiring_problems(WiringSettings(driver=Driver.MOCK, lanes=(lane,)))


def with_relay(relay: LineSettings) -> LaneSettings:
    return replace(LANE, directions=(replace(IN, relay=relay), OUT))


def with_rotation(rotation: LineSettings) -> LaneSettings:
    return replace(LANE, directions=(replace(IN, rotation=rotation), OUT))


def test_good_wiring_has_no_problem() -> None:
    assert problems(LANE) == []
    assert problems(replace(LANE, hold=HOLD, fire=LineSettings(line_id="fire", pin=6))) == []


@pytest.mark.parametrize(
    ("lane", "sentence"),
    [
        (with_rotation(replace(ROTATION, line_id="in.relay")), "in.relay: named 2 times"),
        (with_rotation(replace(ROTATION, pin=17)), "pin 17: used by 2 lines"),
        (with_relay(replace(RELAY, pin=PIN_MAX + 1)), "pin 28 is not on the header"),
        (with_rotation(replace(ROTATION, debounce_ms=DEBOUNCE_MS_MAX + 1)), "debounce_ms is 251"),
        (with_relay(replace(RELAY, active_ms_max=None)), "in.relay: a holding line, and no other"),
        (replace(LANE, hold=replace(HOLD, active_ms_max=200)), "hold: a holding line, and no"),
        (with_relay(replace(RELAY, active_ms_max=ACTIVE_MS_MAX + 1)), "active_ms_max is 60001"),
        (with_relay(replace(RELAY, active_ms_max=199)), "drives in.relay for 200 ms"),
        (replace(LANE, directions=()), "lane north: needs one or two directions"),
        (replace(LANE, directions=(IN, replace(OUT, direction=Direction.IN))), "each once"),
        (replace(LANE, directions=(replace(IN, pulse_ms=99), OUT)), "north, in: pulse_ms is 99"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_named(lane: LaneSettings, sentence: str) -> None:
    (problem,) = problems(lane)
    assert sentence in problem


def test_everything_wrong_is_named_at_once() -> None:
    spoilt = with_relay(replace(RELAY, pin=27, active_ms_max=None))
    assert len(problems(spoilt)) == 2


def test_a_relay_is_bounded_by_the_drive_of_its_direction() -> None:
    assert LANE.outputs == ((RELAY, 200), (OUT.relay, 200))
    level = replace(
        IN, drive=Drive.LEVEL, relay=replace(RELAY, active_ms_max=ACTIVE_MS_MAX), wait_ms=4_000
    )
    assert level.bounded_outputs == ((level.relay, 4_000),)
    assert RELAY.active_ms_max == PULSE_MS_CEILING


def test_a_holding_line_comes_last_and_has_no_bound_and_fire_is_read_first() -> None:
    fire = LineSettings(line_id="fire", pin=6)
    lane = replace(LANE, hold=HOLD, fire=fire)
    assert lane.outputs[-1] == (HOLD, None)
    assert lane.inputs == (fire, ROTATION)
