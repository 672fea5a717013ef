"""A virtual serial card reader: a pty that sends what a real reader would.

It stands outside the agent altogether: the agent is given a path and opens it like any port.
The path is a link that stays the same while the reader is unplugged and plugged in again, as
/dev/serial/by-path does.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

from edge.readers import (
    decimal_frame,
    em_desktop_frame,
    hex_line_frame,
    id12_frame,
    wiegand_text_frame,
)

INT_SIZE = 4  # tty_ioctl(4): FIONREAD fills an int.
WRITE_WAIT_S_MAX = 2.0  # Our choice: a pty nobody reads fills up; the bench says so and goes on.

ENCODERS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {
        "id12": id12_frame.encode,
        "em_desktop": em_desktop_frame.encode,
        "hex_line": hex_line_frame.encode,
        "d10": decimal_frame.encode_d10,
        "d18": decimal_frame.encode_d18,
        "wiegand_bits": wiegand_text_frame.encode_bits,
        "wiegand_hex": wiegand_text_frame.encode_hex,
    }
)


class VirtualPort:
    """A pty under a path of its own. Plugged in when made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ends: tuple[int, int] | None = None  # Ours and the agent's end of the pty.
        self.replug()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def babble(self, data: bytes) -> None:
        """Send these bytes as they are. Raises TimeoutError when nobody takes them."""
        assert self._ends is not None, "the reader is unplugged"
        ours = self._ends[0]
        while data:
            if not select.select([], [ours], [], WRITE_WAIT_S_MAX)[1]:
                raise TimeoutError(f"{self.path}: nobody reads this port; is the agent running?")
            data = data[os.write(ours, data) :]

    @property
    def unread_bytes(self) -> int:
        """What lies in the port and the agent has not taken yet; the kernel moves it there late."""
        assert self._ends is not None, "the reader is unplugged"
        size = fcntl.ioctl(self._ends[1], termios.FIONREAD, bytes(INT_SIZE))
        return int.from_bytes(size, sys.byteorder)

    def unplug(self) -> None:
        """The port is gone: whoever has it open sees it hang up. Twice is fine."""
        self.path.unlink(missing_ok=True)
        if self._ends is not None:
            for end in self._ends:
                os.close(end)
            self._ends = None

    def replug(self) -> None:
        """The port is back under the same path, behind another pty."""
        self.unplug()
        ours, theirs = os.openpty()
        tty.setraw(theirs)  # Or the kernel would echo and translate CR.
        os.set_blocking(ours, False)
        # Their end stays open here too: the agent may close and open the port as it likes.
        self._ends = (ours, theirs)
        self.path.symlink_to(os.ttyname(theirs))

    def close(self) -> None:
        self.unplug()


class VirtualSerialReader(VirtualPort):
    """A reader that types. `path` is what the agent's `port` setting names."""

    def __init__(self, path: Path, *, frame: str) -> None:
        self.encode = ENCODERS[frame]
        super().__init__(path)

    def tap(self, uid: bytes) -> None:
        """Show a card once."""
        self.babble(self.encode(uid))
