"""Lines: can this machine drive them, and what must a person look at with a screwdriver?

Nothing is moved and no pin is opened here: taking a pin is already a touch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from edge.settings import DeviceSettings, Driver, LaneSettings, LineSettings, Pull
from provisioning.checks.finding import Device, Finding, attention, ok, wrong

PART: Final = "lines"
CHIPS: Final = "gpiochip*"
PULLED_UP_MAX: Final = 8  # BCM2835 ARM Peripherals, 6.2: GPIO 0 to 8 are pulled up at reset.
ALARMS: Final = {
    "fire_alarm": "the fire alarm's wire is active: if there is no fire, check its polarity",
    "fire_clear": "the alarm is over: an officer ends the release at the station's screen",
    "tamper": "shut the turnstile's housing",
    "stuck": "the officer's button is held down, or its polarity is wrong",
    "hold": "the holding line does not move, and the lane is free: read what edge logs",
}


def examine(device: Device) -> Iterator[Finding]:
    for lane in device.settings.lanes:
        if lane.driver == "mock":
            yield attention(
                PART,
                lane.lane_id,
                "the driver is mock: no wire moves",
                'write driver = "lgpio" unless this is a bench',
            )
        elif lane.driver == Driver.RELAY_BOARD:
            yield _board(lane)
        else:
            yield from _real(lane)
            yield from _at_reset(lane)
    if device.settings.lanes:
        yield from _pins(device.settings)
        yield from _by_edge(device)


def _real(lane: LaneSettings) -> Iterator[Finding]:
    missing = [name for name in ("gpiozero", "lgpio") if find_spec(name) is None]
    if missing:
        do = 'install "moskvenok-edge[pi]"'
        yield wrong(PART, lane.lane_id, f"{' and '.join(missing)} not installed", do)
        return
    chips = sorted(Path("/dev").glob(CHIPS))
    usable = [chip for chip in chips if os.access(chip, os.R_OK | os.W_OK)]
    if not chips:
        do = "this is no Raspberry Pi, or its kernel hides the pins: check the board"
        yield wrong(PART, lane.lane_id, "this machine has no pins (/dev/gpiochip*)", do)
    elif not usable:
        do = "run this as root; for the agent: usermod -aG gpio moskvenok"
        yield wrong(PART, lane.lane_id, f"{chips[0]} may not be opened by this user", do)
    else:
        yield ok(PART, lane.lane_id, f"pins of {usable[0]} can be driven")


def _pins(settings: DeviceSettings) -> Iterator[Finding]:
    taken: dict[int, str] = {}
    points = [point for lane in settings.lanes for point in lane.access_points]
    lines = [line for lane in settings.lanes for line in (*lane.outputs, *lane.inputs)]
    for line in lines:
        if line.pin in taken:
            found = f"pin {line.pin} is also {taken[line.pin]}"
            yield wrong(PART, line.line_id, found, "give each line a pin of its own")
        taken.setdefault(line.pin, line.line_id)
    for point in points:
        if point.rotation is None:
            yield attention(
                PART,
                point.access_point_id,
                "no rotation sensor: a passage is assumed, not seen",
                "wire one if the turnstile has it, and describe it in device.toml",
            )
    for lane in settings.lanes:
        yield from (_no_pull(line) for line in lane.inputs if line.pull is Pull.NONE)
        if lane.fire is None:
            yield attention(
                PART,
                lane.lane_id,
                "no copy of the fire alarm: no fire is on record, and screens do not tell of it",
                "wire one beside the alarm's own wire to the turnstile, and describe it as fire",
            )
    if len(taken) == len(lines):
        pins = ", ".join(f"{line.line_id} {line.pin}" for line in lines)
        yield ok(PART, settings.source, f"{len(lines)} lines, each with its pin: {pins}")


def _at_reset(lane: LaneSettings) -> Iterator[Finding]:
    """From power-on until the agent starts, the chip's own pull is what moves an output whose
    resistor outside is missing."""
    for line in lane.outputs:
        pulled_up = line.pin <= PULLED_UP_MAX
        if pulled_up is line.active_high:
            way, other = ("up", "9 to 27") if pulled_up else ("down", "0 to 8")
            yield wrong(
                PART,
                f"{line.line_id}, pin {line.pin}",
                f"is pulled {way} when power comes, and that is its active level",
                f"wire it to one of GPIO {other}, or turn its polarity round",
            )


def _board(lane: LaneSettings) -> Finding:
    """The board's port, not opened: that would be a touch."""
    where = f"{lane.lane_id}, {lane.port}"
    if not Path(lane.port).exists():
        do = "check the board's plug, and the lane's port in device.toml"
        return wrong(PART, where, "the relay board's port is not there", do)
    if not os.access(lane.port, os.R_OK | os.W_OK):
        do = "run this as root; for the agent: usermod -aG dialout moskvenok"
        return wrong(PART, where, "the relay board's port may not be opened by this user", do)
    return ok(PART, where, "the relay board's port is there")


def _no_pull(line: LineSettings) -> Finding:
    way = "up" if not line.active_high else "down"
    return attention(
        PART,
        f"{line.line_id}, pin {line.pin}",
        "no pull: a loose wire reads as anything",
        f'check for a resistor outside, or write pull = "{way}"',
    )


def _by_edge(device: Device) -> Iterator[Finding]:
    """edge knows whether it has the lines, and whether one is active now."""
    for lane in _lanes(device.status("edge")):
        name = str(lane.get("lane", "?"))
        if lane.get("up") is False:
            yield wrong(PART, name, "edge says it is down", "read what edge logs about this lane")
        for alarm in lane.get("alarms") or ():
            do = ALARMS.get(str(alarm).split(" ")[0], "look at the lane")
            yield attention(PART, name, f"edge reports an alarm: {alarm}", do)


def _lanes(edge: dict[str, Any] | None) -> list[dict[str, Any]]:
    items = (edge or {}).get("lanes", [])
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
