"""Lines: wires with a meaning and a safe level, in settings and as a contract.

Every owner of lines (`relay.py` over GPIO, a serial relay board beside it) keeps this contract;
one suite, `tests/contract/test_lines.py`, holds them to it. An output's safe level is inactive.
Which passage a pulse belongs to is `passage.py`'s business; `edge/wiring.py` makes these settings
from `device.toml`.

Pure: values, a Protocol, and what can be wrong with settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol

from edge.model import Direction
from edge.settings import PULSE_MS_CEILING, PULSE_MS_DEFAULT, WAIT_MS_DEFAULT
from edge.turnstile.passage import Drive, PassageSettings, passage_problems

ACTIVE_MS_MAX = 60_000  # Our choice: nothing but a holding line needs a wire for a whole minute.
# Our choice: contacts of small relays bounce for a few milliseconds, an arm turns for hundreds.
DEBOUNCE_MS = 20
DEBOUNCE_MS_MAX = 250  # Our choice: longer would swallow people who walk close together.
PIN_MAX = 27  # The 40-pin header of a Raspberry Pi brings out GPIO 0 to 27.
EVENTS_QUEUED_MAX = 256  # Our choice: a minute of four arms turning, in and out.

assert PULSE_MS_CEILING <= ACTIVE_MS_MAX


@unique
class Driver(StrEnum):
    LGPIO = "lgpio"  # Pins of the machine, through the kernel's character device.
    MOCK = "mock"  # No wires: the bench, `make run`, tests.


@unique
class Pull(StrEnum):
    """The resistor inside the chip, for inputs."""

    NONE = "none"  # There is one outside.
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """One wire. Whether it is an output follows from what a lane uses it for."""

    line_id: str
    pin: int  # GPIO number, not the position on the header.
    active_high: bool = True
    pull: Pull = Pull.NONE  # Inputs.
    debounce_ms: int = DEBOUNCE_MS  # Inputs: a level counts once it stood for so long.
    # Outputs; a relay's bound is its direction's drive where that is shorter. None: a holding
    # line, and only that.
    active_ms_max: int | None = PULSE_MS_CEILING


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionSettings:
    """The wires of one direction of a lane, and how its turnstile is driven."""

    direction: Direction
    relay: LineSettings
    rotation: LineSettings | None = None  # None: no sensor, every passage is assumed.
    green: LineSettings | None = None
    red: LineSettings | None = None
    amber: LineSettings | None = None
    buzzer: LineSettings | None = None
    drive: Drive = Drive.PULSE
    pulse_ms: int = PULSE_MS_DEFAULT
    wait_ms: int = WAIT_MS_DEFAULT

    @property
    def passage(self) -> PassageSettings:
        return PassageSettings(
            direction=self.direction,
            sensor=self.rotation is not None,
            drive=self.drive,
            pulse_ms=self.pulse_ms,
            wait_ms=self.wait_ms,
        )

    @property
    def bounded_outputs(self) -> tuple[tuple[LineSettings, int], ...]:
        """Each output with the longest it may be active in one stretch, in ms."""
        lamps = (self.green, self.red, self.amber, self.buzzer)
        pairs = [(self.relay, self.passage.drive_ms)]
        pairs += [(lamp, ACTIVE_MS_MAX) for lamp in lamps if lamp is not None]
        return tuple((line, min(ms, line.active_ms_max or ms)) for line, ms in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """One passage through a gate: one direction or two, and what they share."""

    lane_id: str
    directions: tuple[DirectionSettings, ...]
    fire: LineSettings | None = None  # Input: a copy of the fire alarm's wire.
    hold: LineSettings | None = None  # Output that holds a fail-safe turnstile shut.

    @property
    def inputs(self) -> tuple[LineSettings, ...]:
        """The fire alarm's first: it is read before anything else."""
        rotations = tuple(side.rotation for side in self.directions)
        return tuple(line for line in (self.fire, *rotations) if line is not None)

    @property
    def outputs(self) -> tuple[tuple[LineSettings, int | None], ...]:
        """Each output with its bound in ms; None: active without bound."""
        sides: tuple[tuple[LineSettings, int | None], ...] = tuple(
            pair for side in self.directions for pair in side.bounded_outputs
        )
        return sides if self.hold is None else (*sides, (self.hold, None))


@dataclass(frozen=True, slots=True, kw_only=True)
class WiringSettings:
    """All lines of a device."""

    driver: Driver
    lanes: tuple[LaneSettings, ...]
    chip: int | None = None  # Number of the /dev/gpiochip; None: the one of the header.


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEvent:
    """An input changed. The level found at start is no event."""

    line_id: str
    active: bool
    at_ms: int  # Monotonic clock; after debouncing.


class Lines(Protocol):
    """What the agent may do with wires. Line ids are those of the settings.

    `DeviceFault` is raised where a line cannot be driven; its lane is then out of order until
    `problems` no longer says so.
    """

    def activate(self, line_id: str, *, ms: int | None) -> None:
        """Drive an output for `ms` and return at once; it falls by itself.

        `ms` is at most the line's bound. Once more while it is active moves the end, but never
        past the bound from when it became active. None is for holding lines.
        """

    def let_go(self, line_id: str) -> None:
        """An output at its safe level, now."""

    def is_active(self, line_id: str) -> bool:
        """The level of an input as last seen, of an output as driven."""

    def poll(self) -> list[LineEvent]:
        """What inputs did since the last call, oldest first, at most `EVENTS_QUEUED_MAX`."""

    def problems(self) -> tuple[str, ...]:
        """Why these lines cannot be relied on now, in sentences; empty when all is well."""

    def close(self) -> None:
        """Everything at its safe level and let go of, as far as it goes; then `DeviceFault` if
        some line would not. Calling it again is harmless."""


def wiring_problems(settings: WiringSettings) -> list[str]:
    """All that a technician must mend before these lines are opened; empty when all is well."""
    return list(_problems(settings))


def _problems(settings: WiringSettings) -> Iterator[str]:
    inputs = [line for lane in settings.lanes for line in lane.inputs]
    outputs = [line for lane in settings.lanes for line, _ in lane.outputs]
    holds = {lane.hold.line_id for lane in settings.lanes if lane.hold is not None}
    for line_id, count in Counter(line.line_id for line in inputs + outputs).items():
        if count > 1:
            yield f"line {line_id}: named {count} times; give each line its own id"
    for pin, count in Counter(line.pin for line in inputs + outputs).items():
        if count > 1:
            yield f"pin {pin}: used by {count} lines; one wire, one line"
    for line in inputs + outputs:
        if not 0 <= line.pin <= PIN_MAX:
            yield f"line {line.line_id}: pin {line.pin} is not on the header, GPIO 0 to {PIN_MAX}"
    for line in inputs:
        if not 0 <= line.debounce_ms <= DEBOUNCE_MS_MAX:
            yield (
                f"line {line.line_id}: debounce_ms is {line.debounce_ms}, "
                f"not from 0 to {DEBOUNCE_MS_MAX}"
            )
    for line in outputs:
        if (line.active_ms_max is None) is not (line.line_id in holds):
            yield f"line {line.line_id}: a holding line, and no other, is active without bound"
        elif line.active_ms_max is not None and not 0 < line.active_ms_max <= ACTIVE_MS_MAX:
            yield (
                f"line {line.line_id}: active_ms_max is {line.active_ms_max}, "
                f"not from 1 to {ACTIVE_MS_MAX}"
            )
    for lane in settings.lanes:
        yield from _lane_problems(lane)


def _lane_problems(lane: LaneSettings) -> Iterator[str]:
    directions = [side.direction for side in lane.directions]
    if not directions or len(set(directions)) != len(directions):
        yield f"lane {lane.lane_id}: needs one or two directions, each once"
    for side in lane.directions:
        name = f"lane {lane.lane_id}, {side.direction}"
        yield from (f"{name}: {problem}" for problem in passage_problems(side.passage))
        bound_ms = side.relay.active_ms_max
        if bound_ms is not None and side.passage.drive_ms > bound_ms:
            yield (
                f"{name}: a grant drives {side.relay.line_id} for {side.passage.drive_ms} ms, "
                f"its active_ms_max is {bound_ms}"
            )
