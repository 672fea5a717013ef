"""Desktop readers that type the UID of an ISO 14443 card as one line of hex, sans-I/O.

    8, 14 or 20 hex digits (4, 7 or 10 bytes, ISO/IEC 14443-3 order) | CR, LF or CR LF

A line has no check sum. A flipped bit that turns one digit into another gives another number and
nobody can tell: this is tier 1, and where the wire is long a family with a check is the better
choice. What a line can show of damage is seen by `line_frame.py`.

`hil/devices/reader_serial.py` plays the other side with the same `encode`.
"""

from __future__ import annotations

from edge.readers.line_frame import LINE_ENDS, LineFrame
from edge.readers.number import UID_AS_PRINTED, Number, ReaderProfile
from edge.readers.reader import UID_SIZES

UPPER_DIGITS = frozenset(b"0123456789ABCDEF")
LOWER_DIGITS = frozenset(b"0123456789abcdef")
TEXT_SIZES = tuple(2 * size for size in UID_SIZES)


def encode(uid: bytes) -> bytes:
    """The line a reader types for this UID."""
    assert len(uid) in UID_SIZES
    return uid.hex().upper().encode("ascii") + LINE_ENDS


def hex_bytes(text: bytes) -> bytes | None:
    """The bytes that hex digits of one case stand for; mixed case is a flipped bit."""
    digits = set(text)
    if len(text) % 2 or not (digits <= UPPER_DIGITS or digits <= LOWER_DIGITS):
        return None
    return bytes.fromhex(text.decode("ascii"))


class HexLineFrame(LineFrame):
    """One link to one reader of this family."""

    def __init__(self, profile: ReaderProfile = UID_AS_PRINTED) -> None:
        self._profile = profile
        super().__init__(self._number, text_size_max=max(TEXT_SIZES))

    def _number(self, text: bytes) -> Number | None:
        printed = hex_bytes(text) if len(text) in TEXT_SIZES else None
        return None if printed is None else self._profile.number(printed)
