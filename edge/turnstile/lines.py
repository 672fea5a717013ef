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
from typing import Protocol

from edge.model import Direction
from edge.settings import (
    BOARD_HAS_NO_INPUTS,
    BOARD_IS_ACTIVE_HIGH,
    BOARD_MAY_NOT_HOLD,
    CHANNEL_MAX,
    DEBOUNCE_MS_MAX,
    PIN_MAX,
    PULSE_MS_DEFAULT,
    WAIT_MS_CEILING,
    WAIT_MS_DEFAULT,
    Drive,
    Driver,
    LineSettings,
)
from edge.turnstile.passage import PassageSettings, passage_problems

ACTIVE_MS_MAX = 60_000  # Our choice: nothing but a holding line needs a wire for a whole minute.
RESET_MS = (
    20  # Our choice: a chip needs microseconds; a long wire with a capacitor at it takes more.
)
EVENTS_QUEUED_MAX = 256  # Our choice: a minute of four arms turning, in and out.

assert WAIT_MS_CEILING <= ACTIVE_MS_MAX


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
    button: LineSettings | None = None  # Input: the officer's.
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
        lit = tuple((lamp, ACTIVE_MS_MAX) for lamp in lamps if lamp is not None)
        return ((self.relay, self.passage.drive_ms), *lit)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """One passage through a gate: one direction or two, and what they share."""

    lane_id: str
    directions: tuple[DirectionSettings, ...]
    fire: LineSettings | None = None  # Input: a copy of the fire alarm's wire.
    hold: LineSettings | None = None  # Output that holds a fail-safe turnstile shut.
    tamper: LineSettings | None = None  # Input: the housing's contact.

    @property
    def inputs(self) -> tuple[LineSettings, ...]:
        """The fire alarm's first: it is read before anything else."""
        sides = tuple(line for side in self.directions for line in (side.rotation, side.button))
        return tuple(line for line in (self.fire, self.tamper, *sides) if line is not None)

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
    port: str = ""  # Of a relay board.
    resets: tuple[LineSettings, ...] = ()  # Outputs of no lane: active for `RESET_MS` at most.
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

    def let_go_all(self) -> None:
        """Every output at its safe level, now, holding lines too; then `DeviceFault` if some line
        would not. The lines stay open. May be called from any thread."""

    def is_active(self, line_id: str) -> bool:
        """The level of an input as last seen, of an output as driven."""

    def poll(self) -> list[LineEvent]:
        """What inputs did since the last call, oldest first, at most `EVENTS_QUEUED_MAX`."""

    def problems(self) -> tuple[str, ...]:
        """Why these lines cannot be relied on now, in sentences; empty when all is well."""

    def counts(self) -> dict[str, int]:
        """What these lines count of their own troubles, for health; what never happened is not
        named."""

    def close(self) -> None:
        """Everything at its safe level and let go of, as far as it goes; then `DeviceFault` if
        some line would not. Calling it again is harmless."""


def wiring_problems(settings: WiringSettings) -> list[str]:
    """All that a technician must mend before these lines are opened; empty when all is well."""
    return list(_problems(settings))


def _problems(settings: WiringSettings) -> Iterator[str]:
    inputs = [line for lane in settings.lanes for line in lane.inputs]
    outputs = [line for lane in settings.lanes for line, _ in lane.outputs] + [*settings.resets]
    for line_id, count in Counter(line.line_id for line in inputs + outputs).items():
        if count > 1:
            yield f"line {line_id}: named {count} times; give each line its own id"
    for pin, count in Counter(line.pin for line in inputs + outputs).items():
        if count > 1:
            yield f"pin {pin}: used by {count} lines; one wire, one line"
    board = settings.driver is Driver.RELAY_BOARD
    least, most = (1, CHANNEL_MAX) if board else (0, PIN_MAX)
    where = f"on a board, channels 1 to {most}" if board else f"on the header, GPIO 0 to {most}"
    for line in inputs + outputs:
        if not least <= line.pin <= most:
            yield f"line {line.line_id}: pin {line.pin} is not {where}"
    for line in inputs:
        if not 0 <= line.debounce_ms <= DEBOUNCE_MS_MAX:
            yield (
                f"line {line.line_id}: debounce_ms is {line.debounce_ms}, "
                f"not from 0 to {DEBOUNCE_MS_MAX}"
            )
    if board:
        yield from _board_problems(settings, inputs, outputs)
    for lane in settings.lanes:
        yield from _lane_problems(lane)


def _lane_problems(lane: LaneSettings) -> Iterator[str]:
    directions = [side.direction for side in lane.directions]
    if not directions or len(set(directions)) != len(directions):
        yield f"lane {lane.lane_id}: needs one or two directions, each once"
    for side in lane.directions:
        name = f"lane {lane.lane_id}, {side.direction}"
        yield from (f"{name}: {problem}" for problem in passage_problems(side.passage))


def _board_problems(
    settings: WiringSettings, inputs: list[LineSettings], outputs: list[LineSettings]
) -> Iterator[str]:
    """What a board of relays cannot do; `edge/config.py` says the same at its key."""
    if not settings.port.startswith("/"):
        yield f"port {settings.port!r}: give the full path of the relay board's port"
    for line in inputs:
        yield f"line {line.line_id}: {BOARD_HAS_NO_INPUTS}"
    for line in outputs:
        if not line.active_high:
            yield f"line {line.line_id}: {BOARD_IS_ACTIVE_HIGH}"
    for lane in settings.lanes:
        if lane.hold is not None:
            yield f"line {lane.hold.line_id}: {BOARD_MAY_NOT_HOLD}"
