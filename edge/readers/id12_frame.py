"""Serial frames of the ID-12 and RDM6300 family (125 kHz, EM4100 numbers), sans-I/O.

    STX 0x02 | 10 hex digits: 5 bytes, big-endian | 2 hex digits: XOR of the 5 bytes
             | CR LF (ID-12 only) | ETX 0x03

Hex digits are upper-case. That is part of the check: with lower-case allowed, a flipped bit could
turn A into a and still pass. So every single-bit error is refused; two errors in the same bit of
two digits are not seen by an XOR, and such a number is looked up and found unknown. The number
proves nothing (tier 0): anyone can copy it.

`hil/devices/reader_serial.py` plays the other side with the same `encode`.
"""

from __future__ import annotations

from functools import reduce
from operator import xor

from edge.readers.frame import BYTE_GAP_MS_MAX, transfer_ms
from edge.readers.number import EM4100_AS_PRINTED, Number
from edge.readers.stx_frame import BARE_TAIL, LINE_TAIL, STX, StxFrame

UID_SIZE = 5  # EM4100: 8 bits version, 32 bits number.
TEXT_SIZE = 2 * (UID_SIZE + 1)  # With the check byte.
TAILS = (BARE_TAIL, LINE_TAIL)  # RDM6300, ID-12.
FRAME_SIZE_MAX = 1 + TEXT_SIZE + max(len(tail) for tail in TAILS)

assert transfer_ms(3 * FRAME_SIZE_MAX) <= BYTE_GAP_MS_MAX


def encode(uid: bytes, *, line_end: bool = True) -> bytes:
    """The frame a reader sends for this number; `line_end` is True for ID-12, False for RDM6300."""
    assert len(uid) == UID_SIZE
    text = (uid + bytes([reduce(xor, uid)])).hex().upper().encode("ascii")
    return bytes([STX]) + text + TAILS[line_end]


class Id12Frame(StxFrame):
    """One link to one reader of this family."""

    def __init__(self) -> None:
        super().__init__(_number, text_size=TEXT_SIZE, tails=TAILS)


def _number(text: bytes) -> Number | None:
    body = bytes.fromhex(text.decode("ascii"))
    if reduce(xor, body) != 0:  # Over the number and its own check byte it is zero.
        return None
    return EM4100_AS_PRINTED.number(body[:UID_SIZE])
