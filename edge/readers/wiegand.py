"""Wiegand: the bits of a reader's two wires, and the number between their parity bits.

    first bit: even parity over the front | data | last bit: odd parity over the back

| bits | data | even over | odd over | as in |
|---|---|---|---|---|
| 26 | 24: facility 8, card 16 | 1-13 | 14-26 | CIVINTEC CN56 manual 6.4.2, H10301 |
| 34 | 32 | 1-17 | 18-34 | CIVINTEC CN56 manual 6.4.5, Biomax X990 manual p. 55 |
| 37 | 35 | 1-19 | 19-37, one bit in both | Roger H85 manual 12.2.4, H10302 and H10304 |
| 58 | 56: a 7-byte UID | 1-29 | 30-58 | no public source; our choice, as 34 and 50 are made |

Makers' texts contradict each other, some state the parity inverted: a reader that is set up so is
refused here, loudly, as noise, and is set right at the reader. Each bit is under a parity, so one
flipped bit is always seen. The wire proves nothing (tier 0), and anyone can tap it.

26 bits keep 24 of the chip's: of 5,000 pupils two share a number with odds of 53 %. Such a number
is for a lane at most; `CardRead.is_ambiguous` says so to whoever sells.

Pure. Bits are text, "0" and "1", first bit first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge.model import UidKind
from edge.readers.dialogue import Tier
from edge.readers.number import Number, ReaderProfile

BITS = frozenset("01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Where the parities of one length reach; the parity bits themselves are included."""

    even: slice
    odd: slice


FORMATS: Mapping[int, Format] = MappingProxyType(
    {
        26: Format(even=slice(0, 13), odd=slice(13, 26)),
        34: Format(even=slice(0, 17), odd=slice(17, 34)),
        37: Format(even=slice(0, 19), odd=slice(18, 37)),
        58: Format(even=slice(0, 29), odd=slice(29, 58)),
    }
)
WHOLE_UID_SIZES = (4, 7)  # Of 34 and 58 bits. 24 and 35 bits are no ISO/IEC 14443-3 UID.


def data_size(bits: int) -> int:
    """Bytes of data in a format of so many bits, rounded up."""
    return (bits - 2 + 7) // 8


def encode(data: bytes, bits: int) -> str:
    """The bits a reader sends for these bytes; of a longer number the front is lost.

    >>> encode(bytes.fromhex("D41B81"), 26)
    '11101010000011011100000010'
    """
    kept = int.from_bytes(data, "big") % (1 << (bits - 2))
    body = f"0{kept:0{bits - 2}b}0"
    front = str(body[FORMATS[bits].even].count("1") % 2)
    back = str((body[FORMATS[bits].odd].count("1") + 1) % 2)
    return front + body[1:-1] + back


def decode(text: str) -> bytes | None:
    """The data between the parities, big-endian; None for another length or a wrong parity.

    >>> decode("11101010000011011100000010").hex()
    'd41b81'
    """
    form = FORMATS.get(len(text))
    if form is None or not set(text) <= BITS:
        return None
    if text[form.even].count("1") % 2 != 0 or text[form.odd].count("1") % 2 != 1:
        return None
    return int(text[1:-1], 2).to_bytes(data_size(len(text)), "big")


def number_of(data: bytes, profile: ReaderProfile) -> Number | None:
    """The number that these data bytes are, by the reader's profile. Always tier 0."""
    if len(data) not in WHOLE_UID_SIZES:
        profile = ReaderProfile(kind=UidKind.PROX125, reversed=profile.reversed)
    return profile.number(data, tier=Tier.NUMBER)


def bits_of(data: bytes, size: int) -> str:
    """The first `size` bits of these bytes, as OSDP carries them.

    >>> bits_of(bytes.fromhex("EA0DC080"), 26)
    '11101010000011011100000010'
    """
    return "".join(f"{byte:08b}" for byte in data)[:size]
