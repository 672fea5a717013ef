"""Goal: the same UIDs however the bytes were cut; of damage, all that a line without a check sum
can show is refused, above all the tail of a long UID that looks like a short one.

Method: each stream whole, byte by byte and cut at every place; every single-bit error of a line;
arbitrary noise before a good line. Time is an argument, so no test waits.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import UidKind
from edge.readers.frame import BYTE_GAP_MS_MAX, FrameRead
from edge.readers.hex_line_frame import HexLineFrame, encode
from edge.readers.line_frame import NEW_LINE_GAP_MS
from edge.readers.reader import UID_SIZES

UID = bytes.fromhex("04A1B2C3D4E580")
SHORT = bytes.fromhex("DEADBEEF")
LONG = bytes.fromhex("04112233445566778899")
LINE = encode(UID)


def read(uid: bytes = UID, *, at_ms: int = 0) -> FrameRead:
    return FrameRead(uid=uid, at_ms=at_ms, kind=UidKind.ISO14443, tier=1)


STREAMS: dict[str, tuple[bytes, list[FrameRead]]] = {
    "seven bytes": (LINE, [read()]),
    "four bytes": (encode(SHORT), [read(SHORT)]),
    "ten bytes": (encode(LONG), [read(LONG)]),
    "CR alone": (LINE[:-1], [read()]),
    "LF alone": (LINE[:-2] + b"\n", [read()]),
    "lower case": (LINE.lower(), [read()]),
    "two lines at once": (LINE + encode(SHORT), [read(), read(SHORT)]),
    "empty lines around": (b"\r\n\r\n" + LINE + b"\n", [read()]),
    "a line of another length, then a good one": (b"04A1B2\r\n" + LINE, [read()]),
    "an overlong line with a good tail": (b"0" * 21 + LINE, []),
    "an overlong line, then a good one": (b"0" * 21 + LINE + LINE, [read()]),
    "noise at the front of a line": (b"\x00" + LINE + LINE, [read()]),
    "noise inside a line, before a good tail": (b"04A1B\xff" + encode(SHORT), []),
    "mixed case": (LINE.replace(b"A", b"a"), []),
    "spaces": (b"04 A1 B2 C3\r\n", []),
    "digits of another alphabet": ("０４Ａ１".encode() + b"\r\n", []),
    "an unfinished line": (LINE[:-2], []),
}


def feed(*pieces: bytes) -> list[FrameRead]:
    frame = HexLineFrame()
    return [found for piece in pieces for found in frame.receive(piece, now_ms=0)]


@pytest.mark.parametrize("name", STREAMS)
def test_stream_gives_the_same_uids_however_it_is_cut(name: str) -> None:
    stream, expected = STREAMS[name]
    assert feed(stream) == expected
    assert feed(*(bytes([byte]) for byte in stream)) == expected
    for cut in range(len(stream)):
        assert feed(stream[:cut], stream[cut:]) == expected


@pytest.mark.parametrize("uid", [SHORT, UID, LONG], ids=["4", "7", "10"])
def test_a_single_bit_error_yields_at_most_a_uid_of_the_same_size_one_digit_away(
    uid: bytes,
) -> None:
    """What a family without a check sum cannot see, measured: one digit turned into another."""
    line = encode(uid)[:-1]  # Ended by CR alone: the hardest case, one flip makes it endless.
    passed = 0
    for bit in range(8 * len(line)):
        damaged = bytearray(line)
        damaged[bit // 8] ^= 1 << bit % 8
        for found in feed(bytes(damaged)):
            passed += 1
            assert len(found.uid) == len(uid)
            digits = zip(found.uid.hex(), uid.hex(), strict=True)
            assert sum(ours != theirs for ours, theirs in digits) == 1
    assert 0 < passed < 4 * 2 * len(uid)


@given(st.binary(max_size=200))
def test_any_noise_is_survived_and_the_card_after_a_silence_is_read(noise: bytes) -> None:
    frame = HexLineFrame()
    frame.receive(noise, now_ms=0)
    later_ms = NEW_LINE_GAP_MS
    assert frame.receive(LINE, now_ms=later_ms)[-1:] == [read(at_ms=later_ms)]


@given(st.lists(st.sampled_from([*b"\r\n \xff", *LINE]), max_size=80).map(bytes))
def test_every_byte_is_part_of_a_line_or_noise(stream: bytes) -> None:
    frame = HexLineFrame()
    stream += b"\n"  # So that nothing waits for its end.
    digits = sum(2 * len(found.uid) for found in frame.receive(stream, now_ms=0))
    ends = stream.count(b"\r") + stream.count(b"\n")
    assert frame.noise_bytes == len(stream) - digits - ends


def test_halves_with_a_gap_between_them_are_no_uid_and_the_next_line_is() -> None:
    for cut in range(1, len(LINE) - 2):
        frame = HexLineFrame()
        assert frame.receive(LINE[:cut], now_ms=0) == []
        assert frame.receive(LINE[cut:], now_ms=BYTE_GAP_MS_MAX + 1) == []
        assert frame.receive(LINE, now_ms=BYTE_GAP_MS_MAX + 2) == [read(at_ms=BYTE_GAP_MS_MAX + 2)]


def test_a_torn_line_is_forgotten_after_a_long_silence() -> None:
    frame = HexLineFrame()
    frame.receive(b"04", now_ms=0)
    frame.receive(b"", now_ms=BYTE_GAP_MS_MAX + 1)
    assert frame.receive(LINE, now_ms=NEW_LINE_GAP_MS) == [read(at_ms=NEW_LINE_GAP_MS)]


def test_halves_without_a_gap_are_a_uid_with_the_time_of_its_last_byte() -> None:
    frame = HexLineFrame()
    assert frame.receive(LINE[:5], now_ms=0) == []
    assert frame.receive(LINE[5:], now_ms=BYTE_GAP_MS_MAX) == [read(at_ms=BYTE_GAP_MS_MAX)]


def test_empty_reads_are_not_activity() -> None:
    frame = HexLineFrame()
    frame.receive(LINE[:5], now_ms=0)
    frame.receive(b"", now_ms=BYTE_GAP_MS_MAX)
    assert frame.receive(LINE[5:], now_ms=BYTE_GAP_MS_MAX + 1) == []


@given(st.sampled_from(UID_SIZES).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_what_is_encoded_is_read(uid: bytes) -> None:
    assert feed(encode(uid)) == [read(uid)]
