"""Faces of people who do not exist: a small PNG drawn from a number. Pure."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import Final

WIDTH: Final = 120
HEIGHT: Final = 150
SKIN: Final = ((241, 205, 178), (224, 176, 142), (198, 145, 108), (250, 221, 199))
HAIR: Final = ((58, 40, 30), (112, 74, 40), (200, 160, 90), (30, 30, 36), (150, 60, 40))
SHIRT: Final = ((36, 71, 181), (8, 120, 63), (150, 40, 80), (90, 98, 122), (200, 130, 20))
PAPER: Final = ((222, 230, 243), (232, 236, 226), (240, 230, 222))


def face_png(number: int) -> bytes:
    """The same number, the same face.

    >>> face_png(7)[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    colours = (PAPER, SKIN, HAIR, SHIRT)
    palette = [one[(number * 7 + at * 3) % len(one)] for at, one in enumerate(colours)]
    palette.append((40, 34, 34))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)  # 8 bits, palette.
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", bytes(value for colour in palette for value in colour)),
            _chunk(b"IDAT", _drawn(number % 2)),
            _chunk(b"IEND", b""),
        )
    )


@cache
def _drawn(long_hair: int) -> bytes:
    """The one or the other head, packed. Colours are not in it, so two serve everybody."""
    rows = bytearray()
    for y in range(HEIGHT):
        rows.append(0)  # PNG: this line is not filtered.
        rows += bytes(_part(x - WIDTH // 2, y, long_hair) for x in range(WIDTH))
    return zlib.compress(bytes(rows), 9)


def _part(x: int, y: int, long_hair: int) -> int:
    """What is at a place: 0 paper, 1 skin, 2 hair, 3 shirt, 4 eyes and mouth."""
    face = (x * x) / 900 + ((y - 66) * (y - 66)) / 1400
    if abs(abs(x) - 11) < 3 and abs(y - 62) < 3:
        return 4
    if abs(x) < 10 and y == 84 + (2 if abs(x) < 6 else 0):
        return 4
    if face < 1:
        return 2 if y < 44 + abs(x) // 4 else 1
    if (x * x) / 1250 + ((y - 58) * (y - 58)) / 1700 < 1 and (y < 60 or (long_hair and y < 104)):
        return 2
    if abs(x) < 11 and 90 < y < 112:
        return 1
    return 3 if y > 106 + (x * x) / 190 else 0


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
