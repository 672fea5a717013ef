"""Frames of a PN532 on its high-speed UART, as they come to the host, sans-I/O.

    00 00 FF LEN LCS TFI data… DCS 00            LEN + LCS = 0, TFI + data + DCS = 0, mod 256
    00 00 FF FF FF LENhi LENlo LCS TFI … DCS 00  the same for 256 bytes and more
    00 00 FF 00 FF 00  acknowledged              00 00 FF FF 00 00  not acknowledged

NXP UM0701-02, 6.2.1. Noise between frames and inside them is passed over and counted; a frame
whose checks fail is noise. What a frame says is nfcpy's to read (`pn532.py`).
"""

from __future__ import annotations

START = b"\x00\x00\xff"
ACK = START + b"\x00\xff\x00"
NACK = START + b"\xff\x00\x00"
POSTAMBLE = 0x00
HEADER_SIZE = len(START) + 2
EXTENDED = b"\xff\xff"
EXTENDED_HEADER_SIZE = HEADER_SIZE + 3
TAIL_SIZE = 2  # DCS and postamble.
BODY_SIZE_MAX = 265  # UM0701-02, 6.2.1.2: TFI and up to 264 bytes.
FRAME_SIZE_MAX = EXTENDED_HEADER_SIZE + BODY_SIZE_MAX + TAIL_SIZE


class Pn532Deframer:
    """Bytes from one chip in, whole good frames out, each as it stood on the wire."""

    def __init__(self) -> None:
        self.noise_bytes = 0
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[bytes]:
        self._buffer += data
        frames = []
        while frame := self._take_frame():
            frames.append(frame)
        assert len(self._buffer) < FRAME_SIZE_MAX
        return frames

    def drop(self) -> None:
        """What has begun is not coming to its end: a new command goes out."""
        self._discard(len(self._buffer))

    def _take_frame(self) -> bytes:
        """The next good frame, or b"" if none is whole. A bad one costs one byte at a time."""
        while True:
            at = self._buffer.find(START)
            if at < 0:
                begun = next(n for n in (2, 1, 0) if self._buffer.endswith(START[:n]))
                self._discard(len(self._buffer) - begun)
                return b""
            self._discard(at)
            size = _frame_size(self._buffer)
            if size is None or len(self._buffer) < size:
                return b""
            frame = bytes(self._buffer[:size])
            if _is_good(frame):
                del self._buffer[:size]
                return frame
            self._discard(1)

    def _discard(self, size: int) -> None:
        self.noise_bytes += size
        del self._buffer[:size]


def _frame_size(buffer: bytearray) -> int | None:
    """Of the frame that begins here; None until enough has come. A bad header is a frame of its
    own size, which will not be good.
    """
    if len(buffer) < HEADER_SIZE:
        return None
    if buffer[: len(ACK) - 1] in (ACK[:-1], NACK[:-1]):
        return len(ACK)
    length, check = buffer[len(START)], buffer[len(START) + 1]
    if bytes([length, check]) == EXTENDED:
        if len(buffer) < EXTENDED_HEADER_SIZE:
            return None
        high, low, check = buffer[HEADER_SIZE:EXTENDED_HEADER_SIZE]
        length = high << 8 | low
        if (high + low + check) % 256 or not 0 < length <= BODY_SIZE_MAX:
            return EXTENDED_HEADER_SIZE
        return EXTENDED_HEADER_SIZE + length + TAIL_SIZE
    if (length + check) % 256 or length == 0:
        return HEADER_SIZE
    return HEADER_SIZE + length + TAIL_SIZE


def _is_good(frame: bytes) -> bool:
    if frame in (ACK, NACK):
        return True
    extended = frame[len(START) : HEADER_SIZE] == EXTENDED
    header_size = EXTENDED_HEADER_SIZE if extended else HEADER_SIZE
    body, postamble = frame[header_size:-1], frame[-1]
    return len(frame) > header_size and sum(body) % 256 == 0 and postamble == POSTAMBLE
