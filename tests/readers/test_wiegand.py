"""Goal: a number comes out of Wiegand bits exactly when both parities hold, and 24 bits are marked
as too few to name one person.

Method: the makers' worked examples; every single-bit error of every length, and both parities of
every number of a sample; all 26-bit words with a wrong parity are refused by counting.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import UidKind
from edge.readers.dialogue import Tier
from edge.readers.number import ReaderProfile
from edge.readers.reader import CardRead
from edge.readers.wiegand import FORMATS, bits_of, data_size, decode, encode, number_of

ISO = ReaderProfile(kind=UidKind.ISO14443)
PROX = ReaderProfile(kind=UidKind.PROX125)

# CIVINTEC CN56 reader manual, 6.4.2 and 6.4.5.
CIVINTEC = [
    ("D41B81", "1 11010100 00011011 10000001 0"),
    ("89D41B81", "1 10001001 11010100 00011011 10000001 1"),
]


@pytest.mark.parametrize(("data", "bits"), CIVINTEC)
def test_the_makers_examples(data: str, bits: str) -> None:
    text = bits.replace(" ", "")
    assert encode(bytes.fromhex(data), len(text)) == text
    assert decode(text) == bytes.fromhex(data)


def test_the_37_bit_parities_overlap_in_the_middle_bit() -> None:
    """Roger H85 manual, 12.2.4: even over bits 2-19, odd over bits 19-36, counted from 1."""
    only_bit_19 = (1 << (36 - 19)).to_bytes(5, "big")
    assert encode(only_bit_19, 37) == "1" + "0" * 17 + "1" + "0" * 17 + "0"
    only_bit_2 = (1 << (36 - 2)).to_bytes(5, "big")
    assert encode(only_bit_2, 37) == "11" + "0" * 34 + "1"


@pytest.mark.parametrize("bits", FORMATS)
def test_no_single_bit_error_passes(bits: int) -> None:
    rng = random.Random(bits)
    for _ in range(200):
        good = encode(rng.randbytes(data_size(bits)), bits)
        assert decode(good) is not None
        for at in range(bits):
            flipped = "10"[int(good[at])]
            assert decode(good[:at] + flipped + good[at + 1 :]) is None


@pytest.mark.parametrize("bits", FORMATS)
def test_no_other_length_passes(bits: int) -> None:
    good = encode(bytes.fromhex("0123456789ABCD"), bits)
    for other in (good[:-1], good[1:], good + "0", good + "1", ""):
        assert decode(other) is None
    assert decode("x" * bits) is None
    assert decode("２" * bits) is None


@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_what_is_encoded_is_decoded(bits: int, draw: st.DataObject) -> None:
    value = draw.draw(st.integers(0, (1 << (bits - 2)) - 1))
    data = value.to_bytes(data_size(bits), "big")
    assert decode(encode(data, bits)) == data


def test_bits_come_out_of_bytes_first_bit_first() -> None:
    assert bits_of(bytes.fromhex("8001"), 16) == "1" + "0" * 14 + "1"
    assert bits_of(bytes.fromhex("FF"), 5) == "11111"
    assert bits_of(b"", 5) == ""


@pytest.mark.parametrize(
    ("data", "profile", "kind", "uid"),
    [
        ("DEADBEEF", ISO, UidKind.ISO14443, "deadbeef"),
        ("DEADBEEF", PROX, UidKind.PROX125, "deadbeef"),
        ("04A1B2C3D4E580", ISO, UidKind.ISO14443, "04a1b2c3d4e580"),
        ("D41B81", ISO, UidKind.PROX125, "d41b81"),
        ("0102030405", ISO, UidKind.PROX125, "0102030405"),
        ("DEADBEEF", ReaderProfile(kind=UidKind.ISO14443, reversed=True), 1, "efbeadde"),
        ("D41B81", ReaderProfile(kind=UidKind.ISO14443, reversed=True), 2, "811bd4"),
    ],
)
def test_the_wire_proves_nothing_and_short_numbers_are_no_uid(
    data: str, profile: ReaderProfile, kind: int, uid: str
) -> None:
    number = number_of(bytes.fromhex(data), profile)
    assert number is not None
    assert (number.tier, number.kind, number.uid.hex()) == (Tier.NUMBER, kind, uid)


@pytest.mark.parametrize("bits", FORMATS)
def test_26_bits_alone_are_ambiguous(bits: int) -> None:
    read = CardRead(
        uid=bytes(data_size(bits)), at_ms=0, kind=UidKind.PROX125, tier=0, reader_id="till-1"
    )
    assert read.is_ambiguous is (bits == 26)
