"""Serial frames of EM desktop readers (125 kHz, EM4100 numbers) without a check, sans-I/O.

    STX 0x02 | 10 hex digits: 5 bytes, big-endian | CR LF | ETX 0x03

As an ID-12 (`id12_frame.py`) sends it, less the check sum, and named apart for that: of damage
only what is no frame is seen, one digit turned into another is not, and such a number is looked up
and found unknown or, once in a great while, another pupil's. Where a reader can be set to send the
check sum, set it. What is printed on the card is the low 4 bytes in decimal. Tier 0.

`hil/devices/reader_serial.py` plays the other side with the same `encode`.
"""

from __future__ import annotations

from edge.readers.id12_frame import UID_SIZE
from edge.readers.number import EM4100_AS_PRINTED, Number
from edge.readers.stx_frame import LINE_TAIL, STX, StxFrame

TEXT_SIZE = 2 * UID_SIZE


def encode(uid: bytes) -> bytes:
    """The frame a reader sends for this number."""
    assert len(uid) == UID_SIZE
    return bytes([STX]) + uid.hex().upper().encode("ascii") + LINE_TAIL


class EmDesktopFrame(StxFrame):
    """One link to one reader of this family."""

    def __init__(self) -> None:
        super().__init__(_number, text_size=TEXT_SIZE, tails=(LINE_TAIL,))


def _number(text: bytes) -> Number | None:
    return EM4100_AS_PRINTED.number(bytes.fromhex(text.decode("ascii")))
