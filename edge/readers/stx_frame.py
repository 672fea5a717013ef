"""Serial frames between STX and ETX, sans-I/O: the rules every such family shares.

    STX 0x02 | text of a fixed size | CR LF (some) | ETX 0x03

A bad frame costs one byte at a time, so that noise never swallows the good frame behind it.
What the text means is said by its family (`id12_frame.py`, `em_desktop_frame.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from edge.readers.frame import BYTE_GAP_MS_MAX, FrameRead, transfer_ms
from edge.readers.number import Number

STX = 0x02
ETX = 0x03
HEX_DIGITS = b"0123456789ABCDEF"
LINE_END = b"\r\n"
BARE_TAIL = bytes([ETX])
LINE_TAIL = LINE_END + BARE_TAIL


class StxFrame:
    """One link to one reader of such a family; the text is upper-case hex digits.

    `parse` gives the number of a text of the right size, or None where its check fails.
    """

    def __init__(
        self,
        parse: Callable[[bytes], Number | None],
        *,
        text_size: int,
        tails: tuple[bytes, ...],
    ) -> None:
        self._frame_size_max = 1 + text_size + max(len(tail) for tail in tails)
        assert transfer_ms(self._frame_size_max) <= BYTE_GAP_MS_MAX
        self.noise_bytes = 0
        self._parse = parse
        self._text_size = text_size
        self._tails = tails
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
            if number := self._take_number():
                reads.append(
                    FrameRead(uid=number.uid, at_ms=now_ms, kind=number.kind, tier=number.tier)
                )
        assert len(self._buffer) < self._frame_size_max
        return reads

    def _take_number(self) -> Number | None:
        """The number of a whole good frame, or None if none is whole.

        No byte inside a good frame is an STX, so a search never finds half a frame's tail.
        """
        while self._buffer and not self._could_begin_a_frame():
            self._discard(1)
        text, tail = self._text_and_tail()
        if tail not in self._tails:
            return None
        number = self._parse(text)
        if number is None:
            self._discard(len(self._buffer))  # Hex digits and an end: no STX left to look for.
        self._buffer.clear()
        return number

    def _could_begin_a_frame(self) -> bool:
        text, tail = self._text_and_tail()
        return (
            self._buffer[0] == STX
            and all(digit in HEX_DIGITS for digit in text)
            and any(known.startswith(tail) for known in self._tails)
        )

    def _text_and_tail(self) -> tuple[bytes, bytes]:
        end = 1 + self._text_size
        return bytes(self._buffer[1:end]), bytes(self._buffer[end:])

    def _discard(self, size: int) -> None:
        self.noise_bytes += size
        del self._buffer[:size]
