"""Readers that type a number as one line of text, sans-I/O: the rules every such line shares.

    text | CR, LF or CR LF

A line has no check of its own. So what can be told is told: a line with anything else in it is
refused whole, up to its end, because the tail of a damaged long number looks like a good short
one. For the same reason a line torn by a pause is refused with what follows it, until an end of
line or a long silence. What a line means is said by its family (`hex_line_frame.py`, …).
"""

from __future__ import annotations

from collections.abc import Callable

from edge.readers.frame import BYTE_GAP_MS_MAX, FrameRead, transfer_ms
from edge.readers.number import Number

LINE_ENDS = b"\r\n"
NEW_LINE_GAP_MS = 1_000  # Our choice: no reader pauses so long inside a line; a new one begins.
TEXT_SIZE_MAX = 58  # The longest lines are Wiegand bits (`wiegand.py`).

# At the slowest speed the longest line is over before the next one is given up for torn.
assert BYTE_GAP_MS_MAX < transfer_ms(TEXT_SIZE_MAX + len(LINE_ENDS)) < NEW_LINE_GAP_MS


class LineFrame:
    """One link to one reader of such a family. It begins at the beginning of a line.

    `parse` gives the number of a line without its end, or None for a line that is no number.
    """

    def __init__(self, parse: Callable[[bytes], Number | None], *, text_size_max: int) -> None:
        assert 0 < text_size_max <= TEXT_SIZE_MAX
        self.noise_bytes = 0
        self._parse = parse
        self._text_size_max = text_size_max
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
                if number := self._end_line():
                    reads.append(
                        FrameRead(uid=number.uid, at_ms=now_ms, kind=number.kind, tier=number.tier)
                    )
            elif self._torn:
                self.noise_bytes += 1
            else:
                self._line.append(byte)
                if len(self._line) > self._text_size_max:
                    self._refuse(torn=True)
        assert len(self._line) <= self._text_size_max
        return reads

    def _end_line(self) -> Number | None:
        """The number of a good line. The LF of a CR LF ends an empty line, which is none."""
        number = self._parse(bytes(self._line)) if self._line else None
        if number is not None:
            self._line.clear()
        self._refuse(torn=False)
        return number

    def _refuse(self, *, torn: bool) -> None:
        self.noise_bytes += len(self._line)
        self._line.clear()
        self._torn = torn
