"""Goal: lines keep their contract on virtual pins, on a relay board and on real ones: safe level
first, never active past the bound though nobody calls anything, let go on every way out, a level
at start is no event.

Method: one suite on all. The board is one on a pty, and what it does is read there. The rig is a
`device.toml` named by RIG: with pins, its first lane has a wire from its relay pin to its rotation
pin, so that what is driven is also seen; with a relay board a person hears it click. Without RIG
those cases say why they are skipped. Levels are read back from the pins. Bounds are real time
here, on purpose: a thread that depends on nobody is what is tested; every wait ends as soon as what
it waits for is so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from edge.config import load
from edge.model import DeviceFault, Direction
from edge.settings import Driver, LineSettings, Pull
from edge.turnstile.bounded import BoundedLines
from edge.turnstile.lines import DirectionSettings, LaneSettings, Lines, WiringSettings
from edge.turnstile.relay import GpioLines, open_lines
from edge.wiring import wiring_of
from hil.devices.relay_board import VirtualRelayBoard

SHORT_MS = 30
PULSE_MS = 100
BOARD_PULSE_MS = 1_000  # It is read through a pty, which takes its time on a busy machine.
LATE_MS = 250  # How late a thread of a busy two-core machine may be; a hang would be for ever.


def virtual(*, active_high: bool, pull: Pull = Pull.NONE) -> WiringSettings:
    def line(line_id: str, pin: int) -> LineSettings:
        return LineSettings(line_id=line_id, pin=pin, active_high=active_high, pull=pull)

    entering = DirectionSettings(
        direction=Direction.IN,
        relay=line("north-in.relay", 17),
        rotation=line("north-in.rotation", 27),
        pulse_ms=PULSE_MS,
    )
    leaving = DirectionSettings(
        direction=Direction.OUT, relay=line("north-out.relay", 22), pulse_ms=PULSE_MS
    )
    lane = LaneSettings(lane_id="north", directions=(entering, leaving))
    return WiringSettings(driver=Driver.MOCK, lanes=(lane,))


def board(path: Path) -> WiringSettings:
    def side(direction: Direction, channel: int) -> DirectionSettings:
        relay = LineSettings(line_id=f"north-{direction}.relay", pin=channel)
        return DirectionSettings(direction=direction, relay=relay, pulse_ms=BOARD_PULSE_MS)

    lane = LaneSettings(lane_id="north", directions=(side(Direction.IN, 1), side(Direction.OUT, 2)))
    return WiringSettings(driver=Driver.RELAY_BOARD, port=str(path), lanes=(lane,))


def rig() -> WiringSettings:
    wiring = wiring_of(load(Path(os.environ["RIG"])))
    assert wiring is not None, "the rig drives no lane"
    return wiring


class Bench:
    """Wires, and hands to touch them with."""

    def __init__(self, wiring: WiringSettings, device: VirtualRelayBoard | None = None) -> None:
        self.wiring = wiring
        self.device = device
        side = wiring.lanes[0].directions[0]
        self.relay = side.relay.line_id
        self._rotation = side.rotation
        self.ms_max = side.passage.drive_ms
        self.relays = [side.relay.line_id for lane in wiring.lanes for side in lane.directions]
        self.woken = Event()

    @property
    def rotation(self) -> str:
        assert self._rotation is not None, "the bench needs a relay wired to a rotation input"
        return self._rotation.line_id

    def open(self, *, active_at_start: frozenset[str] = frozenset()) -> BoundedLines:
        return open_lines(self.wiring, wake=self.woken.set, active_at_start=active_at_start)

    def sees(self, lines: BoundedLines, line_id: str, active: bool) -> bool:
        """Whether the wire itself is so; a board needs a moment to hear of it."""
        output = lines._outputs[line_id]
        if self.device is not None:
            device, channel = self.device, output.settings.pin
            until(lambda: device.is_on(channel) is active)
            return True
        if self.wiring.driver is Driver.RELAY_BOARD:
            return output.active is active  # A real one does not say.
        return bool(output.device.value) is active  # type: ignore[attr-defined]

    def feel(self, lines: BoundedLines, active: bool) -> None:
        """Change the rotation input, by hand or through the wire from the relay."""
        if self.wiring.driver is Driver.MOCK:
            lines.move(self.rotation, active)
        elif active:
            lines.activate(self.relay, ms=self.ms_max)
        else:
            lines.let_go(self.relay)
        until(lambda: lines.is_active(self.rotation) is active)


def until(holds: Callable[[], bool], ms_max: int = 2_000) -> float:
    """Wait for it, no longer than needed; how long it took, in ms."""
    began_s = time.monotonic()
    while not holds():
        assert (time.monotonic() - began_s) * 1_000 < ms_max, "waited in vain"
        Event().wait(0.001)
    return (time.monotonic() - began_s) * 1_000


BENCHES = [
    pytest.param(virtual(active_high=True), id="mock"),
    pytest.param(virtual(active_high=False), id="mock, active low"),
    pytest.param(virtual(active_high=True, pull=Pull.DOWN), id="mock, pulled down"),
    pytest.param(virtual(active_high=False, pull=Pull.UP), id="mock, pulled up"),
    pytest.param(virtual(active_high=True, pull=Pull.UP), id="mock, active when open"),
    pytest.param("board", id="relay board"),
    pytest.param(
        None,
        id="rig",
        marks=[
            pytest.mark.rig,
            pytest.mark.skipif(
                "RIG" not in os.environ, reason="no rig here: set RIG=<its device.toml>"
            ),
        ],
    ),
]
# A relay board has no inputs.
BENCHES_WITH_INPUTS = [bench for bench in BENCHES if bench.id != "relay board"]


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param != "board":
        yield Bench(request.param or rig())
        return
    with VirtualRelayBoard(tmp_path / "board") as device:
        yield Bench(board(device.path), device)


@pytest.fixture
def lines(bench: Bench) -> Iterator[BoundedLines]:
    with bench.open() as opened:
        kept: Lines = opened  # The contract, as the type checker sees it.
        assert kept is opened
        yield opened


def test_every_output_is_at_its_safe_level_and_was_never_elsewhere(
    bench: Bench, lines: BoundedLines
) -> None:
    for relay in bench.relays:
        assert bench.sees(lines, relay, False)
        assert not lines.is_active(relay)
    assert lines.history == ()
    assert lines.problems() == ()


def test_a_line_falls_by_itself_when_nobody_calls_anything(
    bench: Bench, lines: BoundedLines
) -> None:
    lines.activate(bench.relay, ms=SHORT_MS)
    assert bench.device is not None or bench.sees(lines, bench.relay, True)
    took_ms = until(lambda: not lines.is_active(bench.relay))
    assert took_ms < SHORT_MS + LATE_MS
    assert bench.sees(lines, bench.relay, False)
    rise, fall = [change for change in lines.history if change.line_id == bench.relay]
    assert (rise.active, fall.active) == (True, False)
    assert SHORT_MS <= fall.at_ms - rise.at_ms + 1 < SHORT_MS + LATE_MS


def test_a_line_falls_while_the_agent_hangs(bench: Bench, lines: BoundedLines) -> None:
    lines.activate(bench.relay, ms=SHORT_MS)
    end_s = time.monotonic() + (SHORT_MS + LATE_MS) / 1_000
    while time.monotonic() < end_s and lines._outputs[bench.relay].active:
        pass  # Busy: it gives up the processor only when it is made to.
    assert bench.sees(lines, bench.relay, False)


def test_pulse_upon_pulse_ends_at_the_bound(bench: Bench, lines: BoundedLines) -> None:
    def has_fallen() -> bool:
        lines.activate(bench.relay, ms=bench.ms_max)  # Again and again, and it falls all the same.
        return any(not change.active for change in lines.history if change.line_id == bench.relay)

    until(has_fallen)
    rise, fall, *_ = [change for change in lines.history if change.line_id == bench.relay]
    assert rise.active
    assert fall.at_ms - rise.at_ms < bench.ms_max + LATE_MS


def test_a_pulse_longer_than_the_bound_is_a_mistake_of_the_caller(
    bench: Bench, lines: BoundedLines
) -> None:
    for ms in (0, bench.ms_max + 1, None):
        with pytest.raises(AssertionError):
            lines.activate(bench.relay, ms=ms)
    assert bench.sees(lines, bench.relay, False)


def test_a_line_is_let_go_early_and_can_rise_again(bench: Bench, lines: BoundedLines) -> None:
    for _ in range(3):
        lines.activate(bench.relay, ms=bench.ms_max)
        assert bench.sees(lines, bench.relay, True)
        lines.let_go(bench.relay)
        assert bench.sees(lines, bench.relay, False)
    lines.let_go(bench.relay)  # Nothing to let go is no fault.


def test_lines_move_one_by_one(bench: Bench, lines: BoundedLines) -> None:
    for driven in bench.relays:
        lines.activate(driven, ms=bench.ms_max)
        assert all(bench.sees(lines, relay, relay == driven) for relay in bench.relays)
        lines.let_go(driven)


def test_close_lets_go_and_is_harmless_again(bench: Bench) -> None:
    lines = bench.open()
    lines.activate(bench.relay, ms=bench.ms_max)
    lines.close()
    assert not lines.is_active(bench.relay)
    assert [change.active for change in lines.history if change.line_id == bench.relay] == [
        True,
        False,
    ]
    lines.close()
    with pytest.raises(DeviceFault, match="closed"):
        lines.activate(bench.relay, ms=SHORT_MS)
    with bench.open() as again:  # The pins are free for the next one.
        assert bench.sees(again, bench.relay, False)


def test_an_exception_lets_go(bench: Bench) -> None:
    lines = bench.open()
    with pytest.raises(ZeroDivisionError), lines:
        lines.activate(bench.relay, ms=bench.ms_max)
        raise ZeroDivisionError
    assert not lines.is_active(bench.relay)


@pytest.mark.parametrize("bench", BENCHES_WITH_INPUTS, indirect=True)
def test_the_level_found_at_start_is_no_event(bench: Bench) -> None:
    assert bench.rotation
    if bench.wiring.driver is not Driver.MOCK:
        pytest.skip("the rig's wire is at rest until a relay is driven")
    with bench.open(active_at_start=frozenset({bench.rotation})) as lines:
        assert lines.is_active(bench.rotation)
        assert lines.poll() == []
        lines.move(bench.rotation, True)
        assert lines.poll() == []
        lines.move(bench.rotation, False)
        assert [event.active for event in lines.poll()] == [False]


@pytest.mark.parametrize("bench", BENCHES_WITH_INPUTS, indirect=True)
def test_a_change_of_an_input_is_one_event_and_wakes(bench: Bench, lines: BoundedLines) -> None:
    assert not lines.is_active(bench.rotation)
    assert lines.poll() == []
    assert not bench.woken.is_set()
    before_ms = time.monotonic_ns() // 1_000_000
    bench.feel(lines, True)
    bench.feel(lines, False)
    assert bench.woken.wait(1)
    assert isinstance(lines, GpioLines)
    until(lambda: len(lines._events) == 2)
    rise, fall = lines.poll()
    assert (rise.line_id, rise.active, fall.active) == (bench.rotation, True, False)
    assert before_ms <= rise.at_ms <= fall.at_ms <= time.monotonic_ns() // 1_000_000
    assert lines.poll() == []
