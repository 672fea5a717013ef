"""Goal: a PN532 that answers nobody is reset through its wire, the wire lets it run at every other
time, and a wire that cannot be had costs nobody a gate.

Method: `device.toml` -> reset lines on virtual pins -> the real driver on a virtual chip whose
reset input hangs on such a pin.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from edge import __main__ as program
from edge.clock import Clock
from edge.config import ConfigProblem, parse
from edge.readers.open_reader import open_reader
from edge.readers.reader import CardRead, LinkDown, LinkUp
from edge.readers.worker import monotonic_ms
from edge.resets import open_resets, reset_of
from edge.settings import DeviceSettings
from edge.turnstile.lines import RESET_MS
from edge.turnstile.relay import GpioLines
from hil.bench.card_station import build_station, card_school
from hil.devices.reader_listener import Listener
from hil.devices.reader_pn532 import SPEEDS, VirtualPn532

UID = bytes.fromhex("04A1B2C3D4E580")
RESET = "r1.reset"
LANE = """
[[lanes]]
id = "north"
driver = "{driver}"
[[lanes.access_points]]
id = "north-in"
direction = "in"
zone = "school"
relay = {{ pin = 17 }}
"""


def settings_of(port: Path | str, *, reset: str = "reset_pin = 4", driver: str = "mock",
                reader: str = "pn532") -> DeviceSettings:  # fmt: skip
    lane = LANE.format(driver=driver)
    if driver == "relay_board":
        lane = lane.replace('"relay_board"', '"relay_board"\nport = "/dev/board"')
        lane = lane.replace("pin = 17", "pin = 1")
    text = f"""schema = 1
[device]
id = "lane-1"
site = "s1"
station = "entrance"
[city]
endpoints = ["mqtt://127.0.0.1:9"]
[[readers]]
id = "r1"
driver = "{reader}"
port = "{port}"
access_point = "north-in"
{reset}
"""
    return parse((text + lane).encode(), Path("/etc/moskvenok/device.toml"))


def pin_of(lines: GpioLines) -> Any:
    return lines._outputs[RESET].device.pin  # type: ignore[attr-defined]


def test_a_chip_that_answers_nobody_is_reset_through_its_pin(tmp_path: Path) -> None:
    with VirtualPn532(tmp_path / "reader", speed=SPEEDS[0]) as device:
        settings = settings_of(device.path)
        lines = open_resets(settings, now_ms=monotonic_ms)
        assert isinstance(lines, GpioLines)
        pin = pin_of(lines)
        with lines:
            assert pin.state == 1, "high lets it run, from the first"
            (reader,) = settings.readers
            let_run, low = threading.Event(), threading.Event()

            def reset() -> None:
                made = reset_of(reader, lines)
                assert made is not None
                made()
                if pin.state == 0:
                    low.set()
                    device.reset()  # As the chip does when its input is low.
                let_run.set()

            with Listener(lambda wake: open_reader(reader, wake=wake, reset=reset)) as listener:
                assert "no PN532 answers" in listener.expect(LinkDown).reason
                listener.expect(LinkUp)
                device.tap(UID)
                assert listener.expect(CardRead).uid == UID
            assert low.is_set() and let_run.is_set()
            listener.wait_until(lambda: not lines.is_active(RESET))
            assert pin.state == 1, "and it fell by itself"
            fell, rose = lines.history[1], lines.history[0]
            assert (rose.active, fell.active) == (True, False)
            assert fell.at_ms - rose.at_ms >= RESET_MS
        assert not lines.is_active(RESET)


def test_a_reader_without_such_a_wire_has_nothing_to_pulse() -> None:
    settings = settings_of("/dev/ttyUSB0", reset="")
    assert open_resets(settings, now_ms=monotonic_ms) is None
    assert reset_of(settings.readers[0], None) is None


def test_a_pin_that_cannot_be_had_costs_the_reader_its_reset_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lgpio", None)  # As on a machine without pins.
    settings = settings_of("/dev/ttyUSB0", driver="relay_board")
    assert open_resets(settings, now_ms=monotonic_ms) is None


@pytest.mark.parametrize(
    ("reset", "reader", "driver", "says"),
    [
        ("reset_pin = 4", 'serial"\nframe = "hex_line', "mock", "only a pn532 has a reset line"),
        ("reset_pin = 28", "pn532", "mock", "a number from 0 to 27"),
        ("reset_pin = -1", "pn532", "mock", "a number from 0 to 27"),
        ('reset_pin = "4"', "pn532", "mock", "must be a whole number"),
        ("reset_pin = 17", "pn532", "mock", "already wired to north-in.relay"),
    ],
)
def test_a_reset_pin_that_makes_no_sense_is_named(
    reset: str, reader: str, driver: str, says: str
) -> None:
    with pytest.raises(ConfigProblem, match=r"readers\[0\]\.reset_pin") as problem:
        settings_of("/dev/ttyUSB0", reset=reset, reader=reader, driver=driver)
    assert says in str(problem.value)


def test_channels_of_a_relay_board_are_no_pins() -> None:
    settings = settings_of("/dev/ttyUSB0", reset="reset_pin = 1", driver="relay_board")
    assert settings.readers[0].reset_pin == 1


def test_the_agent_opens_the_line_and_lets_go_of_it(tmp_path: Path) -> None:
    with (
        card_school(tmp_path) as city,
        VirtualPn532(tmp_path / "port", speed=SPEEDS[0]) as device,
    ):
        reader = f'driver = "pn532"\nport = "{device.path}"\nreset_pin = 4'
        settings = build_station(tmp_path / "gate", city, reader=reader)
        clock, wake = Clock(ZoneInfo(settings.time_zone)), threading.Event()
        agent = program.build(settings, clock, clock.moment(), wake)
        lines = agent.parts.resets
        assert isinstance(lines, GpioLines)
        pin = pin_of(lines)
        try:
            while not lines.history:  # The chip answers nobody, so its line is pulsed.
                assert wake.wait(10)
                wake.clear()
                agent.step(clock.moment())
        finally:
            agent.close()
        assert lines.history[0].line_id == RESET
        assert pin.function == "input", "the chip's own pull-up lets it run"
