"""Goal: a card's identity comes out of a well-formed answer and of nothing else.

Method: the closed list of failures, one example each; then any answer at all, sampled, against
what the standard calls well-formed.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.readers.apdu import GET_UID, get_uid
from edge.readers.dialogue import ANSWER_SIZE_MAX, Evidence, Failure, Tier, run
from edge.readers.reader import UID_SIZES

UID = bytes.fromhex("04A1B2C3D4E580")
SHORT = bytes.fromhex("04A1B2C3")
LONG = bytes.fromhex("04112233445566778899")
OK = b"\x90\x00"


def ask(*answers: bytes | Failure) -> tuple[Evidence | Failure, list[bytes]]:
    """What `get_uid` makes of these answers, and the commands it sent for them."""
    commands: list[bytes] = []
    left = iter(answers)

    def transmit(command: bytes) -> bytes | Failure:
        commands.append(command)
        return next(left)

    return run(get_uid(), transmit=transmit, now_ms=lambda: 0), commands


@pytest.mark.parametrize("uid", [SHORT, UID, LONG], ids=["4", "7", "10"])
def test_a_uid_of_each_size_is_an_identity_of_tier_1(uid: bytes) -> None:
    evidence = Evidence(uid=uid, tier=Tier.UID)
    assert ask(uid + OK) == (evidence, [GET_UID])


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (bytes.fromhex("08A1B2C3") + OK, Failure.RANDOM_UID),
        (b"\x6a\x81", Failure.UNKNOWN_FAMILY),
        (b"\x63\x00", Failure.UNKNOWN_FAMILY),
        (UID + b"\x90\x01", Failure.UNKNOWN_FAMILY),
        (UID + b"\x62\x82", Failure.UNKNOWN_FAMILY),
        (OK, Failure.BAD_ANSWER),
        (UID[:6] + OK, Failure.BAD_ANSWER),
        (b"\x90", Failure.BAD_ANSWER),
        (b"", Failure.BAD_ANSWER),
        (bytes(ANSWER_SIZE_MAX + 1), Failure.BAD_ANSWER),
        (Failure.LEFT_FIELD, Failure.LEFT_FIELD),
        (Failure.READER_ERROR, Failure.READER_ERROR),
    ],
)
def test_what_is_no_identity_says_why(answer: bytes | Failure, failure: Failure) -> None:
    assert ask(answer) == (failure, [GET_UID])


def test_a_reader_that_wants_the_right_length_is_asked_again_with_it() -> None:
    found, commands = ask(b"\x6c\x07", UID + OK)
    assert isinstance(found, Evidence)
    assert commands == [GET_UID, bytes.fromhex("FFCA000007")]


def test_it_is_asked_again_once_and_only_for_a_length_there_is() -> None:
    assert ask(b"\x6c\x07", b"\x6c\x04") == (
        Failure.UNKNOWN_FAMILY,
        [GET_UID, GET_UID[:-1] + b"\x07"],
    )
    assert ask(b"\x6c\x05") == (Failure.UNKNOWN_FAMILY, [GET_UID])


def test_seven_bytes_that_begin_like_a_random_id_are_none() -> None:
    found, _ = ask(bytes.fromhex("08A1B2C3D4E580") + OK)
    assert isinstance(found, Evidence)


@given(st.binary(max_size=ANSWER_SIZE_MAX + 2))
@example(UID + OK)
def test_any_answer_is_an_identity_exactly_when_it_is_well_formed(answer: bytes) -> None:
    found, _ = ask(answer, b"")
    uid, random_id = answer[:-2], len(answer) == 6 and answer[0] == 0x08
    good = answer[-2:] == OK and len(uid) in UID_SIZES and not random_id
    assert isinstance(found, Evidence) is good
    if isinstance(found, Evidence):
        assert found.uid == uid
