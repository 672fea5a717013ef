"""Goal: the chip's frames come out whole however they were cut, and damage is never a frame.

Method: frames of the bench's own making (`hil/devices/reader_pn532.py`) and of the manual, whole,
byte by byte, cut at every place and among noise; every single-bit error of a frame.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.readers.pn532_frame import ACK, BODY_SIZE_MAX, NACK, Pn532Deframer
from hil.devices.reader_pn532 import SYNTAX_ERROR, frame

VERSION = bytes.fromhex("0000FF06FAD50332010607E800")  # UM0701-02, 7.2.2, with its checks.
LONG = frame(b"\xd5\x43" + bytes(range(250)) + bytes(11))
FRAMES = [ACK, NACK, VERSION, SYNTAX_ERROR, frame(b"\xd5\x4b\x00"), LONG]


def deframed(*pieces: bytes) -> list[bytes]:
    deframer = Pn532Deframer()
    return [found for piece in pieces for found in deframer.receive(piece)]


def test_the_bench_makes_the_manuals_frame() -> None:
    assert frame(bytes.fromhex("D50332010607")) == VERSION
    assert len(LONG) == 3 + 5 + 263 + 2


@pytest.mark.parametrize("good", FRAMES, ids=range(len(FRAMES)))
def test_a_frame_comes_out_however_it_is_cut(good: bytes) -> None:
    stream = b"\x00\x00" + good + good
    assert deframed(stream) == [good, good]
    assert deframed(*(bytes([byte]) for byte in stream)) == [good, good]
    for cut in range(len(stream)):
        assert deframed(stream[:cut], stream[cut:]) == [good, good]


@pytest.mark.parametrize("good", FRAMES, ids=range(len(FRAMES)))
def test_no_single_bit_error_comes_out(good: bytes) -> None:
    for bit in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        assert deframed(bytes(damaged)) == []


@given(st.lists(st.sampled_from(FRAMES), max_size=6))
def test_frames_follow_each_other_and_none_is_noise(frames: list[bytes]) -> None:
    deframer = Pn532Deframer()
    assert deframer.receive(b"".join(frames)) == frames
    assert deframer.noise_bytes == 0


@given(st.binary(max_size=600))
def test_any_noise_is_survived_and_bounded(noise: bytes) -> None:
    deframer = Pn532Deframer()
    deframer.receive(noise)
    deframer.drop()
    assert deframer.noise_bytes <= len(noise)
    assert deframer.receive(VERSION) == [VERSION]


def test_a_length_longer_than_any_frame_is_noise_at_once() -> None:
    size = (BODY_SIZE_MAX + 1).to_bytes(2, "big")
    head = b"\x00\x00\xff\xff\xff" + size + bytes([-sum(size) % 256])
    assert deframed(head + VERSION) == [VERSION]
