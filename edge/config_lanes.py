"""The lanes of `device.toml`: their wires, judged by what their driver can do.

Every mistake is told at its key, and reading goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.model import Direction
from edge.settings import (
    BOARD_HAS_NO_INPUTS,
    BOARD_IS_ACTIVE_HIGH,
    BOARD_MAY_NOT_HOLD,
    CHANNEL_MAX,
    DEBOUNCE_MS,
    DEBOUNCE_MS_MAX,
    PIN_MAX,
    PULSE_MS_CEILING,
    PULSE_MS_DEFAULT,
    PULSE_MS_MIN,
    WAIT_MS_CEILING,
    WAIT_MS_DEFAULT,
    AccessPointSettings,
    Drive,
    Driver,
    LaneSettings,
    LineSettings,
    Pull,
)
from edge.toml_table import Table, Wrong, shown

LANE_DRIVERS = tuple(driver.value for driver in Driver)


class LaneReader:
    """Reads every lane of one file. `unique` takes a key and a name, and tells of a name used
    twice."""

    def __init__(self, wrong: Wrong, unique: Callable[[str, str], str]) -> None:
        self.wrong = wrong
        self._unique = unique
        self._pins: dict[int, str] = {}

    def read(self, item: Table) -> LaneSettings:
        name = item.name("id")
        driver = item.one_of("driver", LANE_DRIVERS)
        wires = _Wires(self, driver, item.get("port", str, ""))
        if driver == Driver.RELAY_BOARD and not wires.port.startswith("/"):
            do = "give the full path of the board's port; /dev/serial/by-path stays the same"
            self.wrong(item.path("port"), shown(wires.port), do)
        elif driver != Driver.RELAY_BOARD and wires.port:
            do = "leave it out: only a relay_board has a port"
            self.wrong(item.path("port"), shown(wires.port), do)
        lane = LaneSettings(
            lane_id=self._unique(item.path("id"), name),
            driver=driver,
            port=wires.port,
            fire=wires.input(item, "fire", f"{name}.fire"),
            hold=wires.hold(item, f"{name}.hold"),
            tamper=wires.input(item, "tamper", f"{name}.tamper"),
            access_points=tuple(
                self._access_point(point, wires) for point in item.tables("access_points")
            ),
        )
        if not lane.access_points:
            self.wrong(item.path("access_points"), "none", "describe at least one direction")
        item.no_more()
        return lane

    def _access_point(self, item: Table, wires: _Wires) -> AccessPointSettings:
        name = item.name("id")
        relay = wires.output(item, "relay", f"{name}.relay", needed=True)
        assert relay is not None
        point = AccessPointSettings(
            access_point_id=self._unique(item.path("id"), name),
            zone_id=item.name("zone"),
            direction=item.choice("direction", Direction) or Direction.IN,
            relay=relay,
            rotation=wires.input(item, "rotation", f"{name}.rotation"),
            green=wires.output(item, "green", f"{name}.green"),
            red=wires.output(item, "red", f"{name}.red"),
            amber=wires.output(item, "amber", f"{name}.amber"),
            buzzer=wires.output(item, "buzzer", f"{name}.buzzer"),
            button=wires.input(item, "button", f"{name}.button"),
            drive=item.choice("drive", Drive, Drive.PULSE) or Drive.PULSE,
            pulse_ms_max=item.number(
                "pulse_ms_max", PULSE_MS_DEFAULT, PULSE_MS_MIN, PULSE_MS_CEILING
            ),
            wait_ms_max=item.number("wait_ms_max", WAIT_MS_DEFAULT, 500, WAIT_MS_CEILING),
        )
        item.no_more()
        return point

    def take_pin(self, key: str, line_id: str, pin: int) -> None:
        """One wire, one line, on the whole device."""
        if pin in self._pins:
            do = f"already wired to {self._pins[pin]}; choose another"
            self.wrong(key, shown(pin), do)
        self._pins.setdefault(pin, line_id)


class _Wires:
    """The lines of one lane, judged by what its driver can do."""

    def __init__(self, reader: LaneReader, driver: str, port: str) -> None:
        self.port = port
        self._reader = reader
        self._board = driver == Driver.RELAY_BOARD

    def input(self, item: Table, key: str, line_id: str) -> LineSettings | None:
        if item.get(key, dict, None) is None:
            return None
        if self._board:
            self._reader.wrong(item.path(key), "an input", BOARD_HAS_NO_INPUTS)
        return self._line(item.table(key), line_id, is_input=True)

    def output(
        self, item: Table, key: str, line_id: str, *, needed: bool = False
    ) -> LineSettings | None:
        if not needed and item.get(key, dict, None) is None:
            return None
        return self._line(item.table(key), line_id, is_input=False)

    def hold(self, item: Table, line_id: str) -> LineSettings | None:
        line = self.output(item, "hold", line_id)
        if line is not None and self._board:
            self._reader.wrong(item.path("hold"), "a holding line", BOARD_MAY_NOT_HOLD)
        return line

    def _line(self, item: Table, line_id: str, *, is_input: bool) -> LineSettings:
        least, most = (1, CHANNEL_MAX) if self._board else (0, PIN_MAX)
        pin = item.number("pin", None, least, most)
        if least <= pin <= most:
            self._reader.take_pin(item.path("pin"), line_id, pin)
        pull = item.choice("pull", Pull, Pull.NONE) or Pull.NONE
        debounce_ms = item.number("debounce_ms", DEBOUNCE_MS, 0, DEBOUNCE_MS_MAX)
        if not is_input and pull is not Pull.NONE:
            do = "leave it out: an output's safe level is held by a resistor outside"
            self._reader.wrong(item.path("pull"), shown(pull.value), do)
        if not is_input and debounce_ms != DEBOUNCE_MS:
            do = "leave it out: only inputs are debounced"
            self._reader.wrong(item.path("debounce_ms"), shown(debounce_ms), do)
        active_high = item.get("active_high", bool, True)
        if self._board and not active_high:
            self._reader.wrong(item.path("active_high"), "false", BOARD_IS_ACTIVE_HIGH)
        item.no_more()
        return LineSettings(
            line_id=line_id,
            pin=pin,
            active_high=active_high,
            pull=pull,
            debounce_ms=debounce_ms,
        )
