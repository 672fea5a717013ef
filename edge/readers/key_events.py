"""What a keyboard's events spell: Linux input events in, the typed characters out, sans-I/O.

A wedge is a reader that plays a keyboard. It types digits and hex letters and ends with Enter; its
frame (`hex_line_frame.py`, `decimal_frame.py`) reads the text that comes out here. Only positions
of keys are known, not a layout: the same keys spell the same text whatever language is set.

A case carries no news (a wedge holds no damaged wire), so letters come out upper-case. Any other
key, and a gap the kernel reports, comes out as `UNKNOWN`, which no frame takes for part of a line.

Numbers are of linux/input-event-codes.h and linux/input.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType

# struct input_event: two longs of time, type, code, value; 24 bytes where a long has 8.
EVENT = struct.Struct("@llHHi")
EV_SYN, EV_KEY, EV_MAX = 0x00, 0x01, 0x1F
SYN_DROPPED = 3  # The kernel's buffer was full: keys are missing from here on.
PRESSED = 1  # 0 is released, 2 is held down.

UNKNOWN = 0xFF
ENTER = ord("\r")
KEY_ENTER, KEY_KPENTER = 28, 96
TOP_ROW = "1234567890"  # KEY_1 is 2.
KEYPAD = {71: "7", 72: "8", 73: "9", 75: "4", 76: "5", 77: "6", 79: "1", 80: "2", 81: "3", 82: "0"}
LETTERS = {30: "A", 48: "B", 46: "C", 32: "D", 18: "E", 33: "F"}
SILENT = frozenset({42, 54, 58, 69})  # Both shifts, Caps Lock, Num Lock: they spell nothing.

CHARACTERS: Mapping[int, int] = MappingProxyType(
    {
        **{code: ord(digit) for code, digit in enumerate(TOP_ROW, start=2)},
        **{code: ord(character) for code, character in (KEYPAD | LETTERS).items()},
        KEY_ENTER: ENTER,
        KEY_KPENTER: ENTER,
    }
)


class KeyDecoder:
    """One keyboard. `noise_bytes` counts bytes that were part of no event."""

    def __init__(self) -> None:
        self.noise_bytes = 0
        self._buffer = bytearray()

    def receive(self, data: bytes) -> bytes:
        """What was typed. The kernel gives whole events; a virtual keyboard may cut anywhere.

        Hand over an empty read too: it tells that time has passed, and what was cut is not coming.
        """
        if not data:
            self._discard()
        self._buffer += data
        typed = bytearray()
        while len(self._buffer) >= EVENT.size:
            _, _, kind, code, value = EVENT.unpack_from(self._buffer)
            if kind > EV_MAX:
                self._discard()
                break
            del self._buffer[: EVENT.size]
            if kind == EV_KEY and value == PRESSED and code not in SILENT:
                typed.append(CHARACTERS.get(code, UNKNOWN))
            elif kind == EV_SYN and code == SYN_DROPPED:
                typed.append(UNKNOWN)
        return bytes(typed)

    def _discard(self) -> None:
        self.noise_bytes += len(self._buffer)
        self._buffer.clear()
