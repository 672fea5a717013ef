"""Lines: can this machine drive them, and what must a person look at with a screwdriver?

Nothing is moved and no pin is opened here: taking a pin is already a touch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from edge.settings import DeviceSettings, LaneSettings, LineSettings, Pull
from provisioning.checks.finding import Device, Finding, attention, ok, wrong

PART: Final = "lines"
CHIPS: Final = "gpiochip*"


def examine(device: Device) -> Iterator[Finding]:
    for lane in device.settings.lanes:
        if lane.driver == "mock":
            yield attention(
                PART,
                lane.lane_id,
                "the driver is mock: no wire moves",
                'write driver = "lgpio" unless this is a bench',
            )
        else:
            yield from _real(lane)
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
    lines = [line for p in points for line in (p.relay, p.rotation) if line is not None]
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
        elif point.rotation.pull is Pull.NONE:
            yield _no_pull(point.rotation)
    if len(taken) == len(lines):
        pins = ", ".join(f"{line.line_id} {line.pin}" for line in lines)
        yield ok(PART, settings.source, f"{len(lines)} lines, each with its pin: {pins}")


def _no_pull(line: LineSettings) -> Finding:
    way = "up" if not line.active_high else "down"
    return attention(
        PART,
        f"{line.line_id}, pin {line.pin}",
        "no pull: a loose wire reads as turning",
        f'check for a resistor outside, or write pull = "{way}"',
    )


def _by_edge(device: Device) -> Iterator[Finding]:
    """edge knows whether it has the lines, and whether one is active now."""
    for lane in _lanes(device.status("edge")):
        name = str(lane.get("lane", "?"))
        if lane.get("up") is False:
            yield wrong(PART, name, "edge says it is down", "read what edge logs about this lane")


def _lanes(edge: dict[str, Any] | None) -> list[dict[str, Any]]:
    items = (edge or {}).get("lanes", [])
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
