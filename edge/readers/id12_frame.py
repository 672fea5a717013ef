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

from edge.model import UidKind
from edge.readers.dialogue import Tier
from edge.readers.frame import BYTE_GAP_MS_MAX, FrameRead, transfer_ms

STX = 0x02
ETX = 0x03
UID_SIZE = 5  # EM4100: 8 bits version, 32 bits number.
HEX_DIGITS = b"0123456789ABCDEF"
TEXT_SIZE = 2 * (UID_SIZE + 1)  # With the check byte.
LINE_END = b"\r\n"
TAILS = (bytes([ETX]), LINE_END + bytes([ETX]))  # RDM6300, ID-12.
FRAME_SIZE_MAX = 1 + TEXT_SIZE + max(len(tail) for tail in TAILS)

assert transfer_ms(3 * FRAME_SIZE_MAX) <= BYTE_GAP_MS_MAX


def encode(uid: bytes, *, line_end: bool = True) -> bytes:
    """The frame a reader sends for this number; `line_end` is True for ID-12, False for RDM6300."""
    assert len(uid) == UID_SIZE
    text = (uid + bytes([reduce(xor, uid)])).hex().upper().encode("ascii")
    return bytes([STX]) + text + TAILS[line_end]


class Id12Frame:
    """One link to one reader of this family."""

    def __init__(self) -> None:
        self.noise_bytes = 0
        self._buffer = bytearray()
        self._byte_at_ms = 0

    def receive(self, data: bytes, *, now_ms: int) -> list[FrameRead]:
        assert now_ms >= self._byte_at_ms
        if now_ms - self._byte_at_ms > BYTE_GAP_MS_MAX:
            self._discard(len(self._buffer))  # The rest of what started here is not coming.
        reads = []
        for byte in data:
            self._byte_at_ms = now_ms
            self._buffer.append(byte)
            if uid := self._take_uid():
                reads.append(
                    FrameRead(uid=uid, at_ms=now_ms, kind=UidKind.PROX125, tier=Tier.NUMBER)
                )
        assert len(self._buffer) < FRAME_SIZE_MAX
        return reads

    def _take_uid(self) -> bytes:
        """The number of a whole good frame, or b"" if none is whole.

        A bad frame costs one byte at a time, so that noise never swallows the good frame behind
        it. No byte inside a good frame is an STX, so a search never finds half a frame's tail.
        """
        while self._buffer and not _could_begin_a_frame(self._buffer):
            self._discard(1)
        text, tail = self._buffer[1 : 1 + TEXT_SIZE], bytes(self._buffer[1 + TEXT_SIZE :])
        if tail not in TAILS:
            return b""
        body = bytes.fromhex(text.decode("ascii"))
        if reduce(xor, body) != 0:  # Over the number and its own check byte it is zero.
            self._discard(len(self._buffer))  # Hex digits and an end: no STX left to look for.
            return b""
        self._buffer.clear()
        return body[:UID_SIZE]

    def _discard(self, size: int) -> None:
        self.noise_bytes += size
        del self._buffer[:size]


def _could_begin_a_frame(buffer: bytearray) -> bool:
    text, tail = buffer[1 : 1 + TEXT_SIZE], bytes(buffer[1 + TEXT_SIZE :])
    return (
        buffer[0] == STX
        and all(digit in HEX_DIGITS for digit in text)
        and any(known.startswith(tail) for known in TAILS)
    )
