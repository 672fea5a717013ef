"""Goal: a relay board does what a pin would: safe before anything else, let go when its process is
killed, a lost byte mended, a board that went is a fault until it is back with everything off.

Method: a board on a pty, read as it would click. The kill is of a real process, by its id; and of
the process that outlives it, too. Waits end as soon as what they wait for is so.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from edge.model import DeviceFault, Direction, SetupProblem
from edge.settings import CHANNEL_MAX, Driver, LineSettings
from edge.turnstile.bounded import BoundedLines
from edge.turnstile.lines import DirectionSettings, LaneSettings, WiringSettings
from edge.turnstile.relay import open_lines
from edge.turnstile.relay_board import BoardLines, frame
from hil.devices.relay_board import VirtualRelayBoard

ROOT = Path(__file__).parent.parent.parent
RELAY = "north-in.relay"


def wiring(path: Path) -> WiringSettings:
    side = DirectionSettings(
        direction=Direction.IN, relay=LineSettings(line_id=RELAY, pin=1), pulse_ms=2_000
    )
    lane = LaneSettings(lane_id="north", directions=(side,))
    return WiringSettings(driver=Driver.RELAY_BOARD, port=str(path), lanes=(lane,))


@pytest.fixture
def board(tmp_path: Path) -> Iterator[VirtualRelayBoard]:
    with VirtualRelayBoard(tmp_path / "board") as made:
        yield made


@pytest.fixture
def lines(board: VirtualRelayBoard) -> Iterator[BoundedLines]:
    with open_lines(wiring(board.path)) as opened:
        yield opened


def until(holds: Callable[[], bool], s_max: float = 20.0) -> None:
    end_s = time.monotonic() + s_max
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        Event().wait(0.005)


def releaser_of(lines: BoundedLines) -> subprocess.Popen[bytes]:
    assert isinstance(lines, BoardLines)
    assert lines._board._releaser is not None
    return lines._board._releaser


def test_commands_are_those_of_the_family() -> None:
    assert frame(1, True) == bytes.fromhex("a00101a2")
    assert frame(1, False) == bytes.fromhex("a00100a1")
    assert frame(8, True) == bytes.fromhex("a00801a9")


def test_everything_is_off_before_anything_is_on(
    board: VirtualRelayBoard, lines: BoundedLines
) -> None:
    lines.activate(RELAY, ms=2_000)
    until(lambda: board.is_on(1))
    first = board.commands[:CHANNEL_MAX]
    assert first == [(channel, False) for channel in range(1, CHANNEL_MAX + 1)]
    assert board.noise_bytes == 0


def test_a_board_that_says_its_state_is_understood_by_who_asks(board: VirtualRelayBoard) -> None:
    with open_lines(wiring(board.path)) as lines:
        lines.activate(RELAY, ms=2_000)
        until(lambda: board.is_on(1))
        assert isinstance(lines, BoardLines)
        port = lines._board._port
        assert port is not None
        port.write(b"\xff")
        until(lambda: board.is_on(1) and port.in_waiting > 0)
        port.timeout = 1
        assert port.read(9) == b"CH1: ON\r\n"


def test_a_lost_byte_is_mended_within_a_second_or_so(
    board: VirtualRelayBoard, lines: BoundedLines
) -> None:
    until(lambda: not board.is_on(1))
    board.switch(1, on=True)  # As if the command that switched it off had not arrived.
    until(lambda: not board.is_on(1))
    assert lines.problems() == ()


def test_a_board_that_went_is_a_fault_and_comes_back_off(
    board: VirtualRelayBoard, lines: BoundedLines
) -> None:
    lines.activate(RELAY, ms=2_000)
    until(lambda: board.is_on(1))
    board.unplug()
    until(lambda: lines.problems() != ())
    assert RELAY in lines.problems()[0] and str(board.path) in lines.problems()[0]
    with pytest.raises(DeviceFault, match="moskvenok doctor lines"):
        lines.activate(RELAY, ms=100)
    board.replug()
    board.commands.clear()
    until(lambda: lines.problems() == ())
    until(lambda: len(board.commands) >= CHANNEL_MAX)
    assert not any(on for _, on in board.commands) and not board.is_on(1)
    lines.activate(RELAY, ms=2_000)
    until(lambda: board.is_on(1))


def test_a_board_that_is_not_there_at_start_is_looked_for(tmp_path: Path) -> None:
    with VirtualRelayBoard(tmp_path / "board") as board:
        board.unplug()
        with open_lines(wiring(board.path)) as lines:
            (problem,) = lines.problems()
            assert "is not there" in problem and "device.toml" in problem
            board.replug()
            until(lambda: lines.problems() == ())
            lines.activate(RELAY, ms=2_000)
            until(lambda: board.is_on(1))
            lines.let_go(RELAY)
            until(lambda: not board.is_on(1))


def test_a_port_of_another_program_is_a_fault_and_not_shared(board: VirtualRelayBoard) -> None:
    with open_lines(wiring(board.path)):
        second = open_lines(wiring(board.path))
        assert second.problems() != ()
        with pytest.raises(DeviceFault, match="is not there"):
            second.close()


def test_who_would_release_it_is_missed_and_replaced(
    board: VirtualRelayBoard, lines: BoundedLines
) -> None:
    first = releaser_of(lines)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    until(lambda: lines.problems() == () and releaser_is_another(lines, first))
    assert releaser_of(lines).poll() is None


def releaser_is_another(lines: BoundedLines, first: subprocess.Popen[bytes]) -> bool:
    assert isinstance(lines, BoardLines)
    return lines._board._releaser not in (None, first)


def test_close_lets_go_and_leaves_no_process_behind(board: VirtualRelayBoard) -> None:
    lines = open_lines(wiring(board.path))
    lines.activate(RELAY, ms=2_000)
    releaser = releaser_of(lines)
    lines.close()
    until(lambda: bool(board.commands) and not board.is_on(1))
    assert releaser.returncode == 0


def test_all_relays_can_be_let_go_at_once(board: VirtualRelayBoard, lines: BoundedLines) -> None:
    lines.activate(RELAY, ms=2_000)
    lines.let_go_all()
    until(lambda: (1, True) in board.commands and not board.is_on(1))


def test_inputs_cannot_be_moved_for_there_are_none(lines: BoundedLines) -> None:
    assert lines.poll() == []
    with pytest.raises(SetupProblem, match="cannot be moved"):
        lines.move(RELAY, True)


PROGRAM = """
import sys, time
from pathlib import Path
from tests.turnstile.test_relay_board import RELAY, open_lines, wiring

lines = open_lines(wiring(Path(sys.argv[1])))
lines._tend_ms = None  # Nobody says it again: what is off afterwards was switched off.
lines._outputs[RELAY].bound_ms = 60_000
lines.activate(RELAY, ms=60_000)
print("on", flush=True)
time.sleep(60)
"""


@pytest.mark.process
def test_a_killed_process_leaves_no_relay_drawn_in(board: VirtualRelayBoard) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(board.path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        until(lambda: board.is_on(1))
        process.kill()
        process.wait()
        until(lambda: not board.is_on(1))
    with open_lines(wiring(board.path)) as lines:  # And the port is free for the next one.
        until(lambda: lines.problems() == ())
