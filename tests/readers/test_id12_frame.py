"""Goal: the same numbers however the bytes were cut, and no number out of damaged bytes.

Method: each stream whole, byte by byte and cut at every place; every single-bit error of a frame;
arbitrary noise before a good frame. Time is an argument, so no test waits.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import UidKind
from edge.readers.frame import BYTE_GAP_MS_MAX, FrameRead
from edge.readers.id12_frame import FRAME_SIZE_MAX, UID_SIZE, Id12Frame, encode

UID = bytes.fromhex("62E3086CED")
ID12 = encode(UID)
RDM6300 = encode(UID, line_end=False)


def read(uid: bytes = UID, *, at_ms: int = 0) -> FrameRead:
    return FrameRead(uid=uid, at_ms=at_ms, kind=UidKind.PROX125, tier=0)


STREAMS: dict[str, tuple[bytes, list[FrameRead]]] = {
    "an ID-12 frame": (ID12, [read()]),
    "an RDM6300 frame": (RDM6300, [read()]),
    "two cards at once": (ID12 + RDM6300, [read(), read()]),
    "noise before": (b"\x00\xff" + ID12, [read()]),
    "a false start": (b"\x02" + ID12, [read()]),
    "a false start with digits": (b"\x0262E308" + ID12, [read()]),
    "a false start with an end": (b"\x0262E3\x03" + ID12, [read()]),
    "a damaged frame, then a good one": (ID12[:-1] + b"\x00" + ID12, [read()]),
    "a wrong check sum, then a good frame": (b"\x0262E3086CED09\x03" + ID12, [read()]),
    "a frame without a check sum": (b"\x0262E3086CED\r\n\x03", []),
    "CR without LF": (RDM6300[:-1] + b"\r\x03", []),
    "LF without CR": (RDM6300[:-1] + b"\n\x03", []),
    "lower-case digits": (ID12.lower(), []),
    "digits of another alphabet": (b"\x02" + "６２".encode() * 6 + b"\x03", []),
    "an unfinished frame": (ID12[:-1], []),
}


def feed(*pieces: bytes) -> list[FrameRead]:
    frame = Id12Frame()
    return [found for piece in pieces for found in frame.receive(piece, now_ms=0)]


def test_the_frame_is_the_data_sheets() -> None:
    assert ID12 == b"\x0262E3086CED08\r\n\x03"
    assert RDM6300 == b"\x0262E3086CED08\x03"
    assert len(ID12) == FRAME_SIZE_MAX


@pytest.mark.parametrize("name", STREAMS)
def test_stream_gives_the_same_numbers_however_it_is_cut(name: str) -> None:
    stream, expected = STREAMS[name]
    assert feed(stream) == expected
    assert feed(*(bytes([byte]) for byte in stream)) == expected
    for cut in range(len(stream)):
        assert feed(stream[:cut], stream[cut:]) == expected


@pytest.mark.parametrize("good", [ID12, RDM6300], ids=["ID-12", "RDM6300"])
def test_no_single_bit_error_yields_a_number(good: bytes) -> None:
    for bit in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        assert feed(bytes(damaged)) == []


@given(st.binary(min_size=UID_SIZE, max_size=UID_SIZE), st.data())
def test_no_single_bit_error_of_any_number_yields_a_number(uid: bytes, data: st.DataObject) -> None:
    damaged = bytearray(encode(uid))
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    assert feed(bytes(damaged)) == []


@given(st.binary(max_size=200))
def test_any_noise_is_survived_and_the_next_card_is_read_at_once(noise: bytes) -> None:
    frame = Id12Frame()
    frame.receive(noise, now_ms=0)
    assert frame.receive(ID12, now_ms=0)[-1:] == [read()]


@given(st.lists(st.sampled_from([*b"\x02\x03\r\n", *ID12]), max_size=80).map(bytes))
def test_every_byte_is_part_of_a_frame_or_noise(stream: bytes) -> None:
    frame = Id12Frame()
    good = sum(len(encode(found.uid)) for found in frame.receive(stream + ID12, now_ms=0))
    crlf_less = (stream + ID12).count(RDM6300)  # Those are two bytes shorter.
    assert frame.noise_bytes == len(stream) + len(ID12) - good + 2 * crlf_less


def test_halves_with_a_gap_between_them_are_no_number() -> None:
    for cut in range(1, len(ID12)):
        frame = Id12Frame()
        assert frame.receive(ID12[:cut], now_ms=0) == []
        assert frame.receive(ID12[cut:], now_ms=BYTE_GAP_MS_MAX + 1) == []
        assert frame.noise_bytes == len(ID12)


def test_halves_without_a_gap_are_a_number_with_the_time_of_its_last_byte() -> None:
    frame = Id12Frame()
    assert frame.receive(ID12[:5], now_ms=0) == []
    assert frame.receive(ID12[5:], now_ms=BYTE_GAP_MS_MAX) == [read(at_ms=BYTE_GAP_MS_MAX)]


def test_empty_reads_are_not_activity() -> None:
    frame = Id12Frame()
    frame.receive(ID12[:5], now_ms=0)
    frame.receive(b"", now_ms=BYTE_GAP_MS_MAX)
    assert frame.receive(ID12[5:], now_ms=BYTE_GAP_MS_MAX + 1) == []


def test_a_number_is_not_in_the_repr() -> None:
    assert UID.hex() not in repr(read()).lower()
    assert repr(UID)[2:-1] not in repr(read())
