"""Desktop readers that type the UID of an ISO 14443 card as one line of hex, sans-I/O.

    8, 14 or 20 hex digits (4, 7 or 10 bytes, ISO/IEC 14443-3 order) | CR, LF or CR LF

A line has no check sum. A flipped bit that turns one digit into another gives another number and
nobody can tell: this is tier 1, and where the wire is long a family with a check is the better
choice. What can be told is told: a line with anything else in it is refused whole, up to its end,
because the tail of a damaged long UID looks like a good short one. For the same reason a line
torn by a pause is refused with what follows it, until an end of line or a long silence.

`hil/devices/reader_serial.py` plays the other side with the same `encode`.
"""

from __future__ import annotations

from edge.model import UidKind
from edge.readers.dialogue import Tier
from edge.readers.frame import BYTE_GAP_MS_MAX, FrameRead, transfer_ms
from edge.readers.reader import UID_SIZES

LINE_ENDS = b"\r\n"
UPPER_DIGITS = frozenset(b"0123456789ABCDEF")
LOWER_DIGITS = frozenset(b"0123456789abcdef")
TEXT_SIZES = tuple(2 * size for size in UID_SIZES)
LINE_SIZE_MAX = max(TEXT_SIZES) + len(LINE_ENDS)
NEW_LINE_GAP_MS = 1_000  # Our choice: no reader pauses so long inside a line; a new one begins.

assert transfer_ms(2 * LINE_SIZE_MAX) <= BYTE_GAP_MS_MAX < NEW_LINE_GAP_MS


def encode(uid: bytes) -> bytes:
    """The line a reader types for this UID."""
    assert len(uid) in UID_SIZES
    return uid.hex().upper().encode("ascii") + LINE_ENDS


class HexLineFrame:
    """One link to one reader of this family. It begins at the beginning of a line."""

    def __init__(self) -> None:
        self.noise_bytes = 0
        self._line = bytearray()
        self._torn = False  # What comes up to the next end belongs to a line refused already.
        self._byte_at_ms = 0

    def receive(self, data: bytes, *, now_ms: int) -> list[FrameRead]:
        assert now_ms >= self._byte_at_ms
        gap_ms = now_ms - self._byte_at_ms
        if gap_ms > BYTE_GAP_MS_MAX and self._line:
            self._refuse(torn=True)
        if gap_ms >= NEW_LINE_GAP_MS:
            self._torn = False
        reads = []
        for byte in data:
            self._byte_at_ms = now_ms
            if byte in LINE_ENDS:
                if uid := self._end_line():
                    reads.append(
                        FrameRead(uid=uid, at_ms=now_ms, kind=UidKind.ISO14443, tier=Tier.UID)
                    )
            elif self._torn:
                self.noise_bytes += 1
            else:
                self._line.append(byte)
                if len(self._line) > max(TEXT_SIZES):
                    self._refuse(torn=True)
        assert len(self._line) <= max(TEXT_SIZES)
        return reads

    def _end_line(self) -> bytes:
        """The UID of a good line, or b"". The LF of a CR LF ends an empty line, which is none."""
        digits = set(self._line)
        one_case = digits <= UPPER_DIGITS or digits <= LOWER_DIGITS  # Mixed is a flipped bit.
        uid = b""
        if len(self._line) in TEXT_SIZES and one_case:
            uid = bytes.fromhex(self._line.decode("ascii"))
            self._line.clear()
        self._refuse(torn=False)
        return uid

    def _refuse(self, *, torn: bool) -> None:
        self.noise_bytes += len(self._line)
        self._line.clear()
        self._torn = torn
