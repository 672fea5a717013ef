"""Goal: what a keyboard types comes out, whatever the layout set on the machine, and a line in
which keys are missing or strange can never be a number.

Method: all keys of the bench's keyboard; events whole, byte by byte and cut anywhere; every key
code there is; noise. The bench's key numbers are its own (`hil/devices/reader_wedge.py`).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import UidKind
from edge.readers.decimal_frame import D10, DecimalFrame, encode_d10
from edge.readers.hex_line_frame import HexLineFrame
from edge.readers.key_events import UNKNOWN, KeyDecoder
from edge.readers.number import ReaderProfile
from hil.devices.reader_wedge import EV_KEY, EV_SYN, KEY_ENTER, KEY_OF, event, stroke, typed

UID = bytes.fromhex("04A1B2C3D4E580")
LINE = "04A1B2C3D4E580\r"
KEY_MAX = 0x2FF  # linux/input-event-codes.h.
SYN_DROPPED = 3
HELD = 2


def decoded(*pieces: bytes) -> bytes:
    keys = KeyDecoder()
    typed_text = b"".join(keys.receive(piece) for piece in pieces)
    assert keys.noise_bytes == 0
    return typed_text


@pytest.mark.parametrize("text", [LINE, LINE.lower(), "1234567890\r", "abcdefABCDEF\r"])
def test_what_is_typed_comes_out_in_upper_case_however_it_is_cut(text: str) -> None:
    events = typed(text)
    expected = text.upper().encode()
    assert decoded(events) == expected
    assert decoded(*(events[at : at + 1] for at in range(len(events)))) == expected
    for cut in range(0, len(events), 7):
        assert decoded(events[:cut], events[cut:]) == expected


def test_the_keypad_spells_digits_too() -> None:
    keypad = (82, 79, 80, 81, 75, 76, 77, 71, 72, 73)  # linux/input-event-codes.h: KP0 to KP9.
    assert decoded(b"".join(stroke(code) for code in keypad), stroke(96)) == b"0123456789\r"


def test_every_other_key_spoils_the_line() -> None:
    known = {KEY_OF[letter] for letter in "1234567890abcdef"} | {KEY_ENTER, 96}
    known |= {71, 72, 73, 75, 76, 77, 79, 80, 81, 82}
    silent = {42, 54, 58, 69}
    for code in range(KEY_MAX + 1):
        text = decoded(event(EV_KEY, code, 1))
        if code in silent:
            assert text == b""
        else:
            assert (text == bytes([UNKNOWN])) is (code not in known), code


def test_a_key_held_down_is_typed_once() -> None:
    held = event(EV_KEY, KEY_OF["5"], HELD) * 20
    assert decoded(event(EV_KEY, KEY_OF["5"], 1), held, event(EV_KEY, KEY_OF["5"], 0)) == b"5"


def test_a_line_the_kernel_lost_keys_of_is_no_number() -> None:
    """Without the report the rest would be a good line, and another card's."""
    frame, keys = HexLineFrame(), KeyDecoder()
    lossy = typed(LINE[:6]) + event(EV_SYN, SYN_DROPPED, 0) + typed("DEADBEEF\r")
    assert frame.receive(keys.receive(lossy), now_ms=0) == []
    (read,) = frame.receive(keys.receive(typed(LINE)), now_ms=0)
    assert read.uid == UID


@given(st.binary(min_size=4, max_size=4))
def test_what_the_bench_types_is_the_card(number: bytes) -> None:
    frame = DecimalFrame(D10, ReaderProfile(kind=UidKind.PROX125))
    (read,) = frame.receive(decoded(typed(encode_d10(number).decode())), now_ms=0)
    assert read.uid == number


@given(st.binary(max_size=300))
def test_any_noise_is_survived(noise: bytes) -> None:
    keys = KeyDecoder()
    keys.receive(noise)
    keys.receive(b"")  # A pause: the next event begins anew.
    assert keys.noise_bytes <= len(noise)
    assert keys.receive(typed("5\r")) == b"5\r"
