"""Goal: what is particular to GPIO: no blip when a pin becomes an output, a line that will not fall
is told again, a lane's lines stand apart from another's, and whoever ends the process lets go.

Method: gpiozero's own lgpio driver over a kernel made of a dictionary (`fake_lgpio`), which keeps
every level a pin was ever driven to; the stock driver is seen to fail there. Exits are tried on a
real process, ended by its id.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import ModuleType

import pytest

from edge.model import DeviceFault, Direction, SetupProblem
from edge.settings import DEBOUNCE_MS, Driver, LineSettings, Pull
from edge.turnstile.bounded import BoundedLines
from edge.turnstile.lines import (
    EVENTS_QUEUED_MAX,
    DirectionSettings,
    LaneSettings,
    WiringSettings,
)
from edge.turnstile.relay import GpioLines, open_lines, persistent_outputs

ROOT = Path(__file__).parent.parent.parent
PI_3B = 0xA02082


def wiring(
    *,
    driver: Driver = Driver.LGPIO,
    active_high: bool = True,
    relay: int = 17,
    rotation: int = 27,
    hold: int | None = None,
    name: str = "north",
) -> WiringSettings:
    side = DirectionSettings(
        direction=Direction.IN,
        relay=LineSettings(line_id=f"{name}.relay", pin=relay, active_high=active_high),
        rotation=LineSettings(
            line_id=f"{name}.rotation", pin=rotation, active_high=False, pull=Pull.UP
        ),
    )
    holding = None if hold is None else LineSettings(line_id=f"{name}.hold", pin=hold)
    lane = LaneSettings(lane_id=name, directions=(side,), hold=holding)
    return WiringSettings(driver=driver, lanes=(lane,))


MOCK = wiring(driver=Driver.MOCK)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """gpiozero's lgpio driver over a kernel of our own, on a machine that says it is a Pi."""
    import gpiozero.pins.local

    from tests.turnstile import fake_lgpio

    fake_lgpio.reset()
    monkeypatch.setitem(sys.modules, "lgpio", fake_lgpio)
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    monkeypatch.setattr(gpiozero.pins.local, "get_pi_revision", lambda: PI_3B)
    yield fake_lgpio
    sys.modules.pop("gpiozero.pins.lgpio", None)


def until_fallen(lines: BoundedLines, line_id: str) -> None:
    for _ in range(2_000):
        if not lines.is_active(line_id):
            return
        Event().wait(0.001)
    raise AssertionError(f"{line_id} did not fall")


# --------------------------------------------------------------------------- the lgpio driver


@pytest.mark.parametrize("active_high", [True, False])
def test_an_output_is_never_at_another_level_than_the_safe_one(
    kernel: ModuleType, active_high: bool
) -> None:
    with open_lines(wiring(active_high=active_high)) as lines:
        safe = int(not active_high)
        assert kernel.pins[17].driven == [safe]
        lines.activate("north.relay", ms=200)
        lines.let_go("north.relay")
        assert kernel.pins[17].driven == [safe, 1 - safe, safe]


def test_the_fire_alarm_is_read_before_any_line_becomes_an_output(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wiring(hold=5)
    fire = LineSettings(line_id="north.fire", pin=6)
    (lane,) = made.lanes
    other = replace(wiring(name="south", relay=22, rotation=23).lanes[0], lane_id="south")
    kernel.pin(6).level = 1
    claim, heard = kernel.gpio_claim_output, []

    def claim_output(handle: int, gpio: int, level: int = 0, flags: int = 0) -> int:
        heard.append(6 in kernel.callbacks)
        return int(claim(handle, gpio, level, flags))

    monkeypatch.setattr(kernel, "gpio_claim_output", claim_output)
    with open_lines(replace(made, lanes=(other, replace(lane, fire=fire)))) as lines:
        assert heard == [True, True, True], "another lane's outputs, too"
        assert lines.is_active("north.fire") and not lines.is_active("north.hold")


def test_the_stock_driver_blips_so_ours_is_needed(kernel: ModuleType) -> None:
    from gpiozero import OutputDevice
    from gpiozero.pins.lgpio import LGPIOFactory

    factory = LGPIOFactory()
    device = OutputDevice(17, active_high=False, initial_value=False, pin_factory=factory)
    assert kernel.pins[17].driven == [0, 1], "low is active here: the lane opened"
    device.close()
    factory.close()


def test_closed_pins_are_inputs_again_after_their_safe_level(kernel: ModuleType) -> None:
    lines = open_lines(wiring())
    lines.activate("north.relay", ms=200)
    lines.close()
    assert kernel.pins[17].driven[-1] == 0
    assert not kernel.pins[17].output
    assert kernel.callbacks == {}, "nobody listens any more"


def test_an_input_is_pulled_and_debounced_and_its_polarity_is_ours(kernel: ModuleType) -> None:
    kernel.pin(27).level = 1
    woken = Event()
    with open_lines(wiring(), wake=woken.set, now_ms=lambda: 7) as lines:
        assert kernel.pins[27].flags == kernel.SET_PULL_UP
        assert kernel.pins[27].debounce_micros == DEBOUNCE_MS * 1_000
        assert not lines.is_active("north.rotation")
        kernel.wire(27, 0)
        assert lines.is_active("north.rotation")
        kernel.wire(27, 1)
        assert [(e.active, e.at_ms) for e in lines.poll()] == [
            (True, 7),
            (False, 7),
        ]
        assert woken.is_set()


def test_one_lane_closes_without_touching_another(kernel: ModuleType) -> None:
    north = open_lines(wiring())
    south = open_lines(wiring(name="south", relay=22, rotation=23))
    try:
        south.activate("south.relay", ms=200)
        north.close()
        assert kernel.pins[22].output
        south.let_go("south.relay")
        assert kernel.pins[22].driven == [0, 1, 0]
    finally:
        north.close()
        south.close()


def test_a_line_that_will_not_fall_is_told_again_until_it_does(kernel: ModuleType) -> None:
    with open_lines(wiring()) as lines:
        lines.activate("north.relay", ms=200)
        kernel.pins[17].broken = True
        with pytest.raises(DeviceFault, match=r"north\.relay: pin 17 cannot be driven"):
            lines.let_go("north.relay")
        assert lines.is_active("north.relay")
        assert len(lines.problems()) == 1
        with pytest.raises(DeviceFault):
            lines.activate("north.relay", ms=200)
        kernel.pins[17].broken = False
        until_fallen(lines, "north.relay")
        assert kernel.pins[17].level == 0
        assert lines.problems() == ()
        lines.activate("north.relay", ms=200)


def test_a_line_that_will_not_rise_is_a_fault_and_closing_says_so(kernel: ModuleType) -> None:
    lines = open_lines(wiring())
    kernel.pins[17].broken = True
    with pytest.raises(DeviceFault, match="moskvenok doctor lines"):
        lines.activate("north.relay", ms=200)
    with pytest.raises(DeviceFault, match="cannot be driven"):
        lines.close()
    assert not kernel.pins[17].output, "what could be let go of was"


def test_a_pin_that_another_has_is_a_fault_and_leaves_nothing_open(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(handle: int, gpio: int, level: int = 0, flags: int = 0) -> int:
        raise kernel.error("GPIO busy")

    monkeypatch.setattr(kernel, "gpio_claim_output", busy)
    with pytest.raises(DeviceFault, match=r"line north\.relay: pin 17 cannot be taken"):
        open_lines(wiring())
    held = [thread for thread in threading.enumerate() if thread.name == "lines"]
    assert held == [], "what was opened before it was closed again"


def test_wiring_that_makes_no_sense_is_refused_before_any_pin_is_touched(
    kernel: ModuleType,
) -> None:
    with pytest.raises(SetupProblem, match="pin 17: used by 2 lines"):
        open_lines(wiring(rotation=17))
    assert kernel.pins == {}


# ------------------------------------------------------------------------ whatever the driver


def test_without_lgpio_the_technician_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lgpio", None)
    with pytest.raises(SetupProblem, match=r"moskvenok-edge\[pi\]"):
        open_lines(wiring())


def test_a_machine_without_pins_is_a_setup_problem(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_chip(chip: int) -> int:
        raise kernel.error("can not open gpiochip")

    monkeypatch.setattr(kernel, "gpiochip_open", no_chip)
    with pytest.raises(SetupProblem, match='group "gpio"'):
        open_lines(wiring())


def test_only_virtual_inputs_can_be_moved(kernel: ModuleType) -> None:
    with (
        open_lines(wiring()) as lines,
        pytest.raises(SetupProblem, match="on real wires move the wire"),
    ):
        lines.move("north.rotation", True)
    with (
        open_lines(MOCK) as lines,
        pytest.raises(SetupProblem, match=r"north\.relay"),
    ):
        lines.move("north.relay", True)


def test_what_waits_is_bounded_and_the_newest_is_kept() -> None:
    with open_lines(MOCK) as lines:
        for _ in range(EVENTS_QUEUED_MAX):  # Twice as many changes.
            lines.move("north.rotation", True)
            lines.move("north.rotation", False)
        assert isinstance(lines, GpioLines)
        events = lines.poll()
        assert len(events) == EVENTS_QUEUED_MAX == lines.events_dropped
        assert lines.counts() == {"events_dropped": EVENTS_QUEUED_MAX}
        assert [event.active for event in events[-2:]] == [True, False]


def test_an_edge_that_tells_what_is_known_is_no_event() -> None:
    with open_lines(MOCK) as lines:
        assert isinstance(lines, GpioLines)
        lines._edge("north.rotation", False)  # It came while the pin was being taken.
        assert lines.poll() == []


def test_a_wake_that_fails_does_not_deafen_the_lane() -> None:
    def fails() -> None:
        raise RuntimeError

    with open_lines(MOCK, wake=fails) as lines:
        assert isinstance(lines, GpioLines)
        lines.move("north.rotation", True)
        lines.move("north.rotation", False)
        assert len(lines.poll()) == 2
        assert lines.wake_failures == 2


def test_a_holding_line_is_active_without_bound_and_falls_with_its_owner(
    kernel: ModuleType,
) -> None:
    with open_lines(wiring(hold=5)) as lines:
        assert not lines.is_active("north.hold"), "de-energised is free"
        lines.activate("north.hold", ms=None)
        lines.activate("north.relay", ms=10)
        until_fallen(lines, "north.relay")
        assert lines.is_active("north.hold")
        with pytest.raises(AssertionError):
            lines.activate("north.hold", ms=10)
    assert kernel.pins[5].driven == [0, 1, 0]
    assert not kernel.pins[5].output


def test_a_holding_line_that_will_not_fall_is_told_again_too(kernel: ModuleType) -> None:
    with open_lines(wiring(hold=5)) as lines:
        lines.activate("north.hold", ms=None)
        Event().wait(0.05)  # Long enough for the watcher to see that nothing has an end.
        kernel.pins[5].broken = True
        with pytest.raises(DeviceFault):
            lines.let_go("north.hold")
        kernel.pins[5].broken = False
        until_fallen(lines, "north.hold")


@pytest.mark.parametrize(("content", "persists"), [("Y\n", True), ("N\n", False), (None, False)])
def test_a_kernel_that_keeps_outputs_driven_is_named(
    tmp_path: Path, content: str | None, persists: bool
) -> None:
    flag = tmp_path / "persist_gpio_outputs"
    if content is not None:
        flag.write_text(content)
    problem = persistent_outputs((flag,))
    assert ("dtparam=strict_gpiod" in problem) is persists


# ---------------------------------------------------------------------------- ways out

# Not signal.pause(): it would sleep for ever over a signal that came just before it.
WAIT_FOR_A_SIGNAL = "while True: time.sleep(0.05)"
PROGRAM = """
import atexit, signal, sys, time
from tests.turnstile.test_relay import MOCK, open_lines

atexit.register(lambda: print(lines.history[-1].active, flush=True))  # Last of all at exit.
lines = open_lines(MOCK)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored by what runs in background.
lines.activate("north.relay", ms=200)
print(lines.is_active("north.relay"), flush=True)
{then}
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("then", "send"),
    [
        (WAIT_FOR_A_SIGNAL, signal.SIGTERM),
        (WAIT_FOR_A_SIGNAL, signal.SIGINT),
        ("raise RuntimeError", None),
        ("pass", None),
    ],
    ids=["SIGTERM", "SIGINT", "an exception", "the end"],
)
def test_a_process_that_ends_lets_go(then: str, send: signal.Signals | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(then=then)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        if send is not None:
            process.send_signal(send)
        assert process.stdout.readline() == "False\n"
        process.wait(10)
