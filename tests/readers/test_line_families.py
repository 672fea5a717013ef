"""Goal: every family that types lines gives the same numbers however the bytes were cut, and of
damage all that its line can show is refused.

Method: one table of families; each family's line whole, byte by byte and cut at every place, alone
and among noise; every single-bit error of a line; arbitrary noise before a good line. Time is an
argument, so no test waits. What all lines share is tried in depth in `test_hex_line_frame.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import UidKind
from edge.readers.decimal_frame import D10, D18, DecimalFrame, decode, encode_d10, encode_d18
from edge.readers.frame import BYTE_GAP_MS_MAX, Frame, FrameRead
from edge.readers.hex_line_frame import HexLineFrame
from edge.readers.line_frame import NEW_LINE_GAP_MS
from edge.readers.number import ReaderProfile
from edge.readers.wiegand_text_frame import (
    WiegandBitsFrame,
    WiegandHexFrame,
    encode_bits,
    encode_hex,
)

ISO = ReaderProfile(kind=UidKind.ISO14443)
ISO_REVERSED = ReaderProfile(kind=UidKind.ISO14443, reversed=True)
PROX = ReaderProfile(kind=UidKind.PROX125)


@dataclass(frozen=True)
class Family:
    new: Callable[[], Frame]
    line: bytes
    uid: bytes
    kind: UidKind
    tier: int
    sees_every_flip: bool = False

    def read(self, *, at_ms: int = 0) -> FrameRead:
        return FrameRead(uid=self.uid, at_ms=at_ms, kind=self.kind, tier=self.tier)

    def feed(self, *pieces: bytes) -> list[FrameRead]:
        frame = self.new()
        return [found for piece in pieces for found in frame.receive(piece, now_ms=0)]


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


FAMILIES = {
    "D-10": Family(
        new=lambda: DecimalFrame(D10, ISO),
        line=b"3735928559\r\n",
        uid=hexed("DEADBEEF"),
        kind=UidKind.ISO14443,
        tier=1,
    ),
    "D-10 of 125 kHz": Family(
        new=lambda: DecimalFrame(D10, PROX),
        line=b"\x020003812345\r\n",
        uid=(3_812_345).to_bytes(4, "big"),
        kind=UidKind.PROX125,
        tier=0,
    ),
    "D-18": Family(  # 04, A1F2 and C3D4E580, each in decimal.
        new=lambda: DecimalFrame(D18, ISO),
        line=b"004414583285509504\r\n",
        uid=hexed("04A1F2C3D4E580"),
        kind=UidKind.ISO14443,
        tier=1,
    ),
    "D-10, last byte first": Family(
        new=lambda: DecimalFrame(D10, ISO_REVERSED),
        line=b"3735928559\r",
        uid=hexed("EFBEADDE"),
        kind=UidKind.ISO14443,
        tier=1,
    ),
    "hex line, last byte first": Family(
        new=lambda: HexLineFrame(ISO_REVERSED),
        line=b"80E5D4C3B2A104\r\n",
        uid=hexed("04A1B2C3D4E580"),
        kind=UidKind.ISO14443,
        tier=1,
    ),
    "Wiegand 26 bits": Family(  # CIVINTEC CN56 manual, 6.4.2.
        new=lambda: WiegandBitsFrame(PROX),
        line=b"11101010000011011100000010\r\n",
        uid=hexed("D41B81"),
        kind=UidKind.PROX125,
        tier=0,
        sees_every_flip=True,
    ),
    "Wiegand 34 bits": Family(  # CIVINTEC CN56 manual, 6.4.5.
        new=lambda: WiegandBitsFrame(ISO),
        line=b"1100010011101010000011011100000011\r\n",
        uid=hexed("89D41B81"),
        kind=UidKind.ISO14443,
        tier=0,
        sees_every_flip=True,
    ),
    "Wiegand 37 bits": Family(
        new=lambda: WiegandBitsFrame(ISO),
        line=encode_bits(hexed("0312345678"), 37),
        uid=hexed("0312345678"),
        kind=UidKind.PROX125,
        tier=0,
        sees_every_flip=True,
    ),
    "Wiegand 58 bits": Family(
        new=lambda: WiegandBitsFrame(ISO),
        line=encode_bits(hexed("04A1B2C3D4E580")),
        uid=hexed("04A1B2C3D4E580"),
        kind=UidKind.ISO14443,
        tier=0,
        sees_every_flip=True,
    ),
    "Wiegand 26 hex": Family(  # Priority 1 Design WIE232-A: XXYYZZ and CR.
        new=lambda: WiegandHexFrame(PROX),
        line=b"D41B81\r",
        uid=hexed("D41B81"),
        kind=UidKind.PROX125,
        tier=0,
    ),
    "Wiegand 58 hex": Family(
        new=lambda: WiegandHexFrame(ISO),
        line=b"04A1B2C3D4E580\r\n",
        uid=hexed("04A1B2C3D4E580"),
        kind=UidKind.ISO14443,
        tier=0,
    ),
}
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@every_family
def test_a_line_gives_its_number_however_it_is_cut(family: Family) -> None:
    line = family.line
    assert family.feed(line) == [family.read()]
    assert family.feed(*(bytes([byte]) for byte in line)) == [family.read()]
    for cut in range(len(line)):
        assert family.feed(line[:cut], line[cut:]) == [family.read()]


@every_family
def test_lines_follow_each_other_with_any_line_end(family: Family) -> None:
    text = family.line.rstrip()
    stream = b"\r\n" + text + b"\r\n" + text + b"\n" + text + b"\r" + b"\n" + text
    for cut in range(len(stream)):
        assert family.feed(stream[:cut], stream[cut:]) == 3 * [family.read()]
    frame = family.new()
    frame.receive(stream + b"\n", now_ms=0)
    assert frame.noise_bytes == 0


@every_family
def test_a_line_of_another_length_is_none(family: Family) -> None:
    text = family.line.rstrip().removeprefix(b"\x02")
    for wrong in (text[:-1], text[1:], text + b"0", b"0" + text, text[:-1] + b" ", text + text):
        frame = family.new()
        assert frame.receive(wrong + b"\r\n", now_ms=0) == []
        assert frame.noise_bytes == len(wrong)
        assert frame.receive(family.line, now_ms=0) == [family.read()]


@every_family
def test_a_single_bit_error_is_refused_or_is_a_number_of_the_same_size(family: Family) -> None:
    line = family.line.rstrip() + b"\r"  # The hardest case: one flip makes the line endless.
    passed = 0
    for bit in range(8 * len(line)):
        damaged = bytearray(line)
        damaged[bit // 8] ^= 1 << bit % 8
        for found in family.feed(bytes(damaged)):
            passed += 1
            assert len(found.uid) == len(family.uid)
            assert (found.uid != family.uid) is chr(line[bit // 8]).isalnum()
    assert (passed == 0) is family.sees_every_flip


@every_family
def test_halves_with_a_gap_between_them_are_no_number_and_the_next_line_is(family: Family) -> None:
    text = family.line.rstrip()
    for cut in range(1, len(text)):
        frame = family.new()
        assert frame.receive(text[:cut], now_ms=0) == []
        later_ms = BYTE_GAP_MS_MAX + 1
        assert frame.receive(text[cut:] + b"\r\n", now_ms=later_ms) == []
        assert frame.receive(family.line, now_ms=later_ms) == [family.read(at_ms=later_ms)]


@every_family
@given(noise=st.binary(max_size=200))
def test_any_noise_is_survived_and_the_card_after_a_silence_is_read(
    family: Family, noise: bytes
) -> None:
    frame = family.new()
    frame.receive(noise, now_ms=0)
    later_ms = NEW_LINE_GAP_MS
    assert frame.receive(family.line, now_ms=later_ms)[-1:] == [family.read(at_ms=later_ms)]


@given(st.binary(min_size=4, max_size=10))
def test_d10_is_the_last_four_bytes_in_ten_digits(number: bytes) -> None:
    line = encode_d10(number)
    assert line == b"%010d\r\n" % int.from_bytes(number[-4:], "big")
    assert decode(line.rstrip(), D10) == number[-4:]


@given(st.binary(min_size=7, max_size=7))
def test_d18_is_read_as_it_is_typed(number: bytes) -> None:
    line = encode_d18(number)
    assert len(line.rstrip()) == 18
    assert decode(line.rstrip(), D18) == number


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        (b"4294967296", D10),
        (b"9999999999", D10),
        (b"256000000000000000", D18),
        (b"000655360000000000", D18),
        (b"000000004294967296", D18),
        (b"-000000001", D10),
        (b" 000000001", D10),
        (b"0_00000001", D10),
        ("１２３４５６７８９０".encode()[:10], D10),
    ],
)
def test_digits_that_no_bytes_make_are_no_number(
    text: bytes, layout: tuple[tuple[int, int], ...]
) -> None:
    assert decode(text, layout) is None


@pytest.mark.parametrize(
    ("text", "reads"),
    [(b"07FFFFFFFF", 1), (b"0800000000", 0), (b"FFFFFFFFFF", 0)],
)
def test_37_bits_carry_35_of_data(text: bytes, reads: int) -> None:
    assert len(WiegandHexFrame(ISO).receive(text + b"\r", now_ms=0)) == reads


@pytest.mark.parametrize(
    ("number", "bits", "digits"),
    [("D41B81", 26, 6), ("89D41B81", 34, 8), ("0312345678", 37, 10), ("F312345678", 58, 14)],
)
def test_the_bench_picks_the_shortest_format(number: str, bits: int, digits: int) -> None:
    assert len(encode_bits(hexed(number)).rstrip()) == bits
    assert len(encode_hex(hexed(number)).rstrip()) == digits


@given(st.binary(min_size=3, max_size=7))
def test_what_the_bench_types_in_hex_is_read(number: bytes) -> None:
    (read,) = WiegandHexFrame(PROX).receive(encode_hex(number), now_ms=0)
    assert int.from_bytes(read.uid, "big") == int.from_bytes(number, "big")
