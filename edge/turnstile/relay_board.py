"""A serial board of relays, of the LCUS family and its many copies.

Keeps the contract of `lines.py` for outputs; what makes a line fall is `bounded.py`. A command is
four bytes, `A0 channel state sum`, at 9600 baud, and is not answered: so every level is said again
each second, which mends a lost byte, a board that was reset, and shows that the board is gone.

Unlike a pin, a relay of such a board stays as it is when nobody speaks to it any more. So a small
process of its own (`board_release.py`) holds the port beside us and switches everything off in the
moment our process is gone, killed included; a board that was pulled out drops its relays by
itself. Boards of this kind have no inputs, and may not hold a lane shut: were both processes
killed at once, it would stay shut (`edge/settings.py` tells the technician).

A board that is not there is a fault of its lines and is looked for every second; it begins with
everything off.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import serial

from edge.model import DeviceFault
from edge.settings import CHANNEL_MAX, LineSettings
from edge.turnstile import board_release
from edge.turnstile.bounded import RETRY_MS, BoundedLines, Output, mono_ms
from edge.turnstile.lines import WiringSettings

START = 0xA0
BAUD = 9_600  # LCUS manuals: fixed.
TEND_MS = 1_000  # Our choice: 8 channels said again are 33 ms of the line's time.
READ_S = 0.0  # Nothing is read.
WRITE_S = 0.5  # Our choice: 32 bytes take 33 ms; a port that takes longer is stuck.
RELEASER_S = 2.0  # Our choice: it only has to end.


def frame(channel: int, on: bool) -> bytes:
    """The command for one relay.

    >>> frame(1, True).hex(" ")
    'a0 01 01 a2'
    """
    body = bytes((START, channel, int(on)))
    return body + bytes((sum(body) & 0xFF,))


ALL_OFF = b"".join(frame(channel, False) for channel in range(1, CHANNEL_MAX + 1))


def open_board(
    wiring: WiringSettings, *, wake: Callable[[], None], now_ms: Callable[[], int]
) -> BoardLines:
    """The board's relays as lines, each at its safe level. One that is not there is looked for."""
    lines = BoardLines(wiring.port, wake=wake, now_ms=now_ms)
    try:
        lines.take(pair for lane in wiring.lanes for pair in lane.outputs)
    except BaseException:
        lines.close()
        raise
    return lines


class _Board:
    """The port while it is there, and the process that outlives us. Touched under one lock."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._port: serial.Serial | None = None
        self._releaser: subprocess.Popen[bytes] | None = None
        self._look_due_ms = 0

    def write(self, data: bytes) -> None:
        """Raises `DeviceFault` where the board is not there, or goes."""
        if self._port is None:
            if mono_ms() < self._look_due_ms:
                raise DeviceFault(f"relay board {self.path} is not there")
            self._look_due_ms = mono_ms() + TEND_MS
            self._open()
        assert self._port is not None and self._releaser is not None
        try:
            if self._releaser.poll() is not None:
                raise OSError("the process that would release it has ended")
            self._port.write(data)
        except (OSError, ValueError) as error:  # A SerialException is an OSError.
            self.close()
            raise DeviceFault(
                f"relay board {self.path} was lost ({error}); check its plug"
            ) from error

    def _open(self) -> None:
        try:
            port = serial.Serial(
                self.path, BAUD, timeout=READ_S, write_timeout=WRITE_S, exclusive=True
            )
        except (OSError, ValueError) as error:
            raise DeviceFault(
                f"relay board {self.path} is not there ({error}); check its plug, and the lane's "
                "port in device.toml"
            ) from error
        self._port = port
        try:
            self._releaser = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(Path(board_release.__file__))),
                    *(str(port.fileno()), ALL_OFF.hex()),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(port.fileno(),),
                start_new_session=True,  # A Ctrl-C is for us; it stays until we are done.
            )
            port.write(ALL_OFF)
        except (OSError, ValueError) as error:
            self.close()
            raise DeviceFault(f"relay board {self.path} cannot be used ({error})") from error

    def close(self) -> None:
        """Let go of the port; what is off stays off."""
        port, self._port = self._port, None
        releaser, self._releaser = self._releaser, None
        if port is not None:
            with suppress(OSError):
                port.close()
        if releaser is not None:
            assert releaser.stdin is not None
            with suppress(OSError):
                releaser.stdin.write(board_release.DONE)
            with suppress(OSError):
                releaser.stdin.close()
            try:
                releaser.wait(RELEASER_S)
            except subprocess.TimeoutExpired:
                releaser.kill()
                releaser.wait()


class _Relay:
    """One channel, as `bounded.py` moves it."""

    def __init__(self, board: _Board, channel: int) -> None:
        self._board = board
        self._channel = channel

    def on(self) -> None:
        self._board.write(frame(self._channel, True))

    def off(self) -> None:
        self._board.write(frame(self._channel, False))

    def close(self) -> None:
        """The port is everybody's."""


class BoardLines(BoundedLines):
    """The relays of one board. Safe to use from several threads."""

    def __init__(self, path: str, *, wake: Callable[[], None], now_ms: Callable[[], int]) -> None:
        self._board = _Board(path)
        super().__init__(wake=wake, now_ms=now_ms)

    def take(self, outputs: Iterable[tuple[LineSettings, int | None]]) -> None:
        """Each of them off; from now on the board is looked after."""
        with self._changed:
            for line, bound_ms in outputs:
                relay = _Relay(self._board, line.pin)
                self._outputs[line.line_id] = Output(line, relay, bound_ms)
            self._tend_ms, self._tend_due_ms = TEND_MS, mono_ms() + TEND_MS
            self._tend()
            self._changed.notify_all()

    def _tend(self) -> None:
        """Say every level again. A board that is gone is the fault of all its lines."""
        try:
            for output in self._outputs.values():
                (output.device.on if output.active else output.device.off)()
        except DeviceFault as fault:
            for output in self._outputs.values():
                # Told to fall until the board is back: nothing goes on where it was.
                output.fault = self._cannot_drive(output.settings, fault)
                output.until_ms = mono_ms() + RETRY_MS
            self._wake()

    def _owned(self) -> Iterable[Callable[[], object]]:
        yield partial(self._board.close)

    def _cannot_drive(self, line: LineSettings, error: Exception) -> str:
        return f'line {line.line_id}: {error}; then run "moskvenok doctor lines"'
