"""A virtual keyboard-wedge reader: a pty that carries Linux input events as a keyboard makes them.

There is no /dev/uinput on most benches, so the events come over a pty under a link that stays the
same, as /dev/input/by-path does. What a pty cannot play is the grab: the bench hands the session
one of its own (`grab_virtual`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from pathlib import Path

from hil.devices.reader_serial import ENCODERS, VirtualPort

EVENT = struct.Struct("@llHHi")
EV_SYN, EV_KEY, EV_MSC = 0, 1, 4
MSC_SCAN = 4
KEY_LEFT_SHIFT, KEY_ENTER = 42, 28
# A US keyboard as linux/input-event-codes.h numbers it: written down here anew, by hand.
ROWS = ((2, "1234567890"), (16, "qwertyuiop"), (30, "asdfghjkl"), (44, "zxcvbnm"))
KEY_OF = {letter: first + at for first, row in ROWS for at, letter in enumerate(row)}


def event(kind: int, code: int, value: int, *, at_s: float | None = None) -> bytes:
    """One struct input_event."""
    at_s = time.time() if at_s is None else at_s
    return EVENT.pack(int(at_s), int(at_s % 1 * 1_000_000), kind, code, value)


def stroke(code: int) -> bytes:
    """One key pressed and let go, with the scan code and the reports a kernel puts around it."""
    return b"".join(
        event(EV_MSC, MSC_SCAN, 0x70000 + code) + event(EV_KEY, code, value) + event(EV_SYN, 0, 0)
        for value in (1, 0)
    )


def typed(text: str) -> bytes:
    """The events of this text: shift is held for upper-case letters; LF is not typed."""
    events = b""
    for character in text.replace("\n", ""):
        if character == "\r":
            events += stroke(KEY_ENTER)
        elif character.isupper():
            events += event(EV_KEY, KEY_LEFT_SHIFT, 1) + event(EV_SYN, 0, 0)
            events += stroke(KEY_OF[character.lower()])
            events += event(EV_KEY, KEY_LEFT_SHIFT, 0) + event(EV_SYN, 0, 0)
        else:
            events += stroke(KEY_OF[character])
    return events


class VirtualWedge(VirtualPort):
    """Plugged in when made. `path` is what the agent's `port` setting names."""

    def __init__(self, path: Path, *, frame: str) -> None:
        self._encode = ENCODERS[frame]
        super().__init__(path)

    def tap(self, uid: bytes) -> None:
        """Show a card once."""
        self.babble(typed(self._encode(uid).decode("ascii")))

    def type(self, text: str) -> None:
        """Somebody types on it."""
        self.babble(typed(text))


def grab_virtual(descriptor: int) -> None:
    """What EVIOCGRAB does to a keyboard, done to a pty: one holder, until it closes."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY)) from held
