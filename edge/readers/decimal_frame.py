"""Desktop readers that type a number in decimal, D-10 and D-18, as one line, sans-I/O.

    D-10: 10 digits, the last 4 bytes as one number
    D-18: 3 + 5 + 10 digits, the last 7 bytes as 1, 2 and 4 bytes
    each: [STX] digits | CR, LF or CR LF

As iDTRONIC's BLUEBOX Panel Reader (user manual, page 16: content data encoding 03 and 04, packet
formats 02, 03, 08, 09) and many keyboards-by-USB readers print it. The zeros in front are typed,
so a line has always as many digits. There is no check sum: see `line_frame.py` for what damage
can be seen, and range checks see a little more. D-10 of a longer number has lost its front.

Sans-I/O and pure. `hil/devices/reader_serial.py` plays the other side with the same encoders.
"""

from __future__ import annotations

from edge.readers.line_frame import LINE_ENDS, LineFrame
from edge.readers.number import Number, ReaderProfile

STX = b"\x02"
DIGITS = frozenset(b"0123456789")

# Parts of the text: digits and the bytes they stand for.
D10 = ((10, 4),)
D18 = ((3, 1), (5, 2), (10, 4))
Layout = tuple[tuple[int, int], ...]

assert all(10**digits > 256**size for digits, size in (*D10, *D18)), "the digits hold the bytes"


def encode(number: bytes, layout: Layout) -> bytes:
    """The line a reader types for this number; of a longer one the front is lost."""
    size = sum(part_size for _, part_size in layout)
    assert len(number) >= size
    text, rest = "", number[-size:]
    for digits, part_size in layout:
        text += f"{int.from_bytes(rest[:part_size], 'big'):0{digits}d}"
        rest = rest[part_size:]
    return text.encode("ascii") + LINE_ENDS


def encode_d10(number: bytes) -> bytes:
    """As `encode`.

    >>> encode_d10(bytes.fromhex("DEADBEEF"))
    b'3735928559\\r\\n'
    """
    return encode(number, D10)


def encode_d18(number: bytes) -> bytes:
    return encode(number, D18)


def decode(text: bytes, layout: Layout) -> bytes | None:
    """The bytes behind these digits; None when they are not this layout's."""
    if len(text) != sum(digits for digits, _ in layout) or not set(text) <= DIGITS:
        return None
    number = b""
    for digits, size in layout:
        value = int(text[:digits])
        if value >= 256**size:
            return None
        number += value.to_bytes(size, "big")
        text = text[digits:]
    return number


class DecimalFrame(LineFrame):
    """One link to one reader of this family."""

    def __init__(self, layout: Layout, profile: ReaderProfile) -> None:
        self._layout = layout
        self._profile = profile
        digits = sum(digits for digits, _ in layout)
        super().__init__(self._number, text_size_max=len(STX) + digits)

    def _number(self, text: bytes) -> Number | None:
        printed = decode(text.removeprefix(STX), self._layout)
        return None if printed is None else self._profile.number(printed)
