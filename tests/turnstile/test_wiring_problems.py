"""Goal: wiring that cannot work is named, all of it at once, before any pin is touched.

Method: one good wiring and one way to spoil it per sentence; a spoilt one gives that sentence and
no other.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.model import Direction
from edge.settings import (
    CHANNEL_MAX,
    DEBOUNCE_MS_MAX,
    PIN_MAX,
    Drive,
    Driver,
    LineSettings,
)
from edge.turnstile.lines import (
    ACTIVE_MS_MAX,
    DirectionSettings,
    LaneSettings,
    WiringSettings,
    wiring_problems,
)

RELAY = LineSettings(line_id="in.relay", pin=17)
ROTATION = LineSettings(line_id="in.rotation", pin=27)
HOLD = LineSettings(line_id="hold", pin=5)
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
    spoilt = with_relay(replace(RELAY, pin=27))
    assert len(problems(replace(spoilt, directions=(*spoilt.directions, IN)))) > 2


def test_a_relay_is_bounded_by_the_drive_of_its_direction() -> None:
    assert LANE.outputs == ((RELAY, 200), (OUT.relay, 200))
    level = replace(IN, drive=Drive.LEVEL, wait_ms=4_000)
    assert level.bounded_outputs == ((level.relay, 4_000),)
    lamp = LineSettings(line_id="in.green", pin=5)
    assert replace(IN, green=lamp).bounded_outputs == ((RELAY, 200), (lamp, ACTIVE_MS_MAX))


def test_a_holding_line_comes_last_and_has_no_bound_and_fire_is_read_first() -> None:
    fire = LineSettings(line_id="fire", pin=6)
    tamper = LineSettings(line_id="tamper", pin=7)
    button = LineSettings(line_id="in.button", pin=8)
    sides = (replace(IN, button=button), OUT)
    lane = replace(LANE, directions=sides, hold=HOLD, fire=fire, tamper=tamper)
    assert lane.outputs[-1] == (HOLD, None)
    assert lane.inputs == (fire, tamper, ROTATION, button)


BOARD = WiringSettings(
    driver=Driver.RELAY_BOARD,
    port="/dev/ttyUSB0",
    lanes=(
        LaneSettings(
            lane_id="north",
            directions=(
                DirectionSettings(
                    direction=Direction.IN, relay=LineSettings(line_id="in.relay", pin=1)
                ),
            ),
        ),
    ),
)


def on_board(**changes: object) -> list[str]:
    (lane,) = BOARD.lanes
    (side,) = lane.directions
    sides = {key: value for key, value in changes.items() if key in ("relay", "rotation")}
    lanes = {key: value for key, value in changes.items() if key in ("fire", "hold")}
    made = replace(lane, directions=(replace(side, **sides),), **lanes)  # type: ignore[arg-type]
    return wiring_problems(replace(BOARD, lanes=(made,), port=str(changes.get("port", BOARD.port))))


def test_a_relay_board_drives_relays_and_nothing_else() -> None:
    assert on_board() == []
    line = LineSettings(line_id="x", pin=2)
    for changes, sentence in (
        ({"rotation": line}, "has no inputs"),
        ({"fire": line}, "has no inputs"),
        ({"hold": line}, "may not hold"),
        ({"relay": replace(line, pin=0)}, "channels 1 to 8"),
        ({"relay": replace(line, pin=CHANNEL_MAX + 1)}, "channels 1 to 8"),
        ({"relay": replace(line, active_high=False)}, "other contact"),
        ({"port": "COM3"}, "full path"),
    ):
        (problem,) = on_board(**changes)
        assert sentence in problem
