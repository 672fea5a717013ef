"""Goal: the same numbers however the bytes were cut; a frame with a check sum is not taken for one
without, nor the other way round.

Method: whole, byte by byte and cut at every place; every single-bit error; an ID-12's frame.
What all such frames share is tried in depth in `test_id12_frame.py`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.model import UidKind
from edge.readers import id12_frame
from edge.readers.em_desktop_frame import EmDesktopFrame, encode
from edge.readers.frame import BYTE_GAP_MS_MAX, FrameRead
from edge.readers.id12_frame import UID_SIZE, Id12Frame

UID = bytes.fromhex("62E3086CED")
FRAME = b"\x0262E3086CED\r\n\x03"


def read(uid: bytes = UID, *, at_ms: int = 0) -> FrameRead:
    return FrameRead(uid=uid, at_ms=at_ms, kind=UidKind.PROX125, tier=0)


def feed(*pieces: bytes) -> list[FrameRead]:
    frame = EmDesktopFrame()
    return [found for piece in pieces for found in frame.receive(piece, now_ms=0)]


def test_a_frame_gives_its_number_however_it_is_cut() -> None:
    assert encode(UID) == FRAME
    stream = b"\xff\x02" + FRAME + FRAME
    for cut in range(len(stream)):
        assert feed(stream[:cut], stream[cut:]) == [read(), read()]
    assert feed(*(bytes([byte]) for byte in FRAME)) == [read()]


def test_the_check_sum_tells_the_families_apart() -> None:
    assert feed(id12_frame.encode(UID)) == []
    assert feed(id12_frame.encode(UID, line_end=False)) == []
    assert Id12Frame().receive(FRAME, now_ms=0) == []
    assert feed(FRAME.replace(b"\r\n", b"")) == []


def test_a_frame_with_a_wrong_check_is_noise_to_the_byte() -> None:
    frame = Id12Frame()
    wrong = id12_frame.encode(UID).replace(b"08\r", b"09\r")
    assert frame.receive(wrong, now_ms=0) == []
    assert frame.noise_bytes == len(wrong)


def test_a_single_bit_error_yields_at_most_a_number_one_digit_away() -> None:
    passed = 0
    for bit in range(8 * len(FRAME)):
        damaged = bytearray(FRAME)
        damaged[bit // 8] ^= 1 << bit % 8
        for found in feed(bytes(damaged)):
            passed += 1
            digits = zip(found.uid.hex(), UID.hex(), strict=True)
            assert sum(ours != theirs for ours, theirs in digits) == 1
    assert 0 < passed < 4 * 2 * UID_SIZE


def test_halves_with_a_gap_between_them_are_no_number() -> None:
    for cut in range(1, len(FRAME)):
        frame = EmDesktopFrame()
        assert frame.receive(FRAME[:cut], now_ms=0) == []
        assert frame.receive(FRAME[cut:], now_ms=BYTE_GAP_MS_MAX + 1) == []
        assert frame.noise_bytes == len(FRAME)


@given(st.binary(max_size=200))
def test_any_noise_is_survived_and_the_next_card_is_read_at_once(noise: bytes) -> None:
    frame = EmDesktopFrame()
    frame.receive(noise, now_ms=0)
    assert frame.receive(FRAME, now_ms=0)[-1:] == [read()]
