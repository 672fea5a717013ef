"""A virtual relay board of the LCUS family: a pty that switches what it is told to.

It stands outside the agent: the agent is given a path and opens it like any port. What arrives is
understood whenever somebody looks, so a test needs no thread for it. `A0 channel state sum`
switches; `FF` is answered with every relay's state, as the boards with feedback do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from hil.devices.reader_serial import VirtualPort

CHANNELS: Final = 4
COMMAND_BYTES: Final = 4
READ_BYTES: Final = 4_096


class VirtualRelayBoard(VirtualPort):
    """`path` is what the lane's `port` setting names."""

    def __init__(self, path: Path, *, channels: int = CHANNELS) -> None:
        self.channels = channels
        self._commands: list[tuple[int, bool]] = []
        self.noise_bytes = 0  # What was no command.
        self._relays = [False] * channels
        self._waiting = b""
        super().__init__(path)

    def replug(self) -> None:
        """Power comes back: every relay has dropped."""
        super().replug()
        self._relays = [False] * self.channels
        self._waiting = b""

    @property
    def commands(self) -> list[tuple[int, bool]]:
        """All that were understood, oldest first."""
        self._look()
        return self._commands

    def is_on(self, channel: int) -> bool:
        """What the relay does now."""
        self._look()
        return self._relays[channel - 1]

    def switch(self, channel: int, *, on: bool) -> None:
        """Somebody's finger, or a lost byte: the relay is not as it was told."""
        self._look()
        self._relays[channel - 1] = on

    def _look(self) -> None:
        if self._ends is None:
            return
        while True:
            try:
                data = os.read(self._ends[0], READ_BYTES)
            except (BlockingIOError, OSError):  # Nothing more, or nobody at the other end.
                break
            self._waiting += data
        while self._waiting:
            if self._waiting[0] == 0xFF:
                self._waiting = self._waiting[1:]
                self.babble(self._states())
            elif self._waiting[0] != 0xA0:
                self._waiting, self.noise_bytes = self._waiting[1:], self.noise_bytes + 1
            elif len(self._waiting) < COMMAND_BYTES:
                return
            else:
                self._obey(self._waiting[:COMMAND_BYTES])
                self._waiting = self._waiting[COMMAND_BYTES:]

    def _obey(self, command: bytes) -> None:
        channel, state = command[1], command[2]
        if sum(command[:3]) & 0xFF != command[3] or state > 1:
            self.noise_bytes += COMMAND_BYTES
            return
        self._commands.append((channel, bool(state)))
        if 1 <= channel <= self.channels:  # A smaller board lets the others pass.
            self._relays[channel - 1] = bool(state)

    def _states(self) -> bytes:
        states = (f"CH{n}: {'ON' if on else 'OFF'}\r\n" for n, on in enumerate(self._relays, 1))
        return "".join(states).encode()
