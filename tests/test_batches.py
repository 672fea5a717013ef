"""Goal: a batch that is taken is whole: numbered, chained, of one epoch, and within its limits.

Method: a good batch, and each rule of it broken once while all others hold.
"""

from __future__ import annotations

import msgspec
import pytest

from edge.messages import (
    BATCH_ROWS_MAX,
    MESSAGE_BYTES_MAX,
    BatchHeader,
    Gap,
    Stream,
    decode_batch,
    digest_of,
    encode_batch,
    encode_fact,
    encode_json,
)
from edge.messages.batches import batch_of_lines
from edge.model import CorruptData
from tests.support import facts
from tests.support.wire_vectors import chained, header_for


def batch(
    bodies: list[bytes] | None = None, header: BatchHeader | None = None, **changed: object
) -> bytes:
    made = [encode_fact(fact) for fact in chained()] if bodies is None else bodies
    head = header_for(made) if header is None else header
    head = msgspec.structs.replace(head, **changed)
    return b"\n".join((encode_json(head), *made))


BODIES = [encode_fact(fact) for fact in chained()]


NOUGHTH = encode_fact(facts.unrecorded(facts.stamp(0)))


def respelt(body: bytes, was: bytes, becomes: bytes) -> bytes:
    assert body.count(was) == 1
    return body.replace(was, becomes)


def rechained(count: int) -> list[bytes]:
    bodies: list[bytes] = []
    previous = ""
    for sequence in range(1, count + 1):
        bodies.append(encode_fact(facts.unrecorded(facts.stamp(sequence, previous))))
        previous = digest_of(bodies[-1])
    return bodies


def test_lines_make_the_same_batch_as_facts() -> None:
    for cut in range(len(BODIES) + 1):
        rows = BODIES[:cut]
        header = header_for(rows) if rows else msgspec.structs.replace(header_for(BODIES), count=0)
        assert batch_of_lines(header, b"\n".join(rows)) == encode_batch(header, rows)


def test_a_good_batch_is_taken_apart_untouched() -> None:
    assert decode_batch(batch()) == (header_for(BODIES), BODIES)
    for cut in range(1, len(BODIES)):
        header = header_for(BODIES[cut:], first=cut + 1)
        assert decode_batch(encode_batch(header, BODIES[cut:])) == (header, BODIES[cut:])
    odd_but_ours = [b" " + BODIES[0]]  # Another spelling is another digest, and its own bytes.
    header = header_for(odd_but_ours)
    assert decode_batch(encode_batch(header, odd_but_ours))[1] == odd_but_ours


def test_a_batch_behind_a_gap() -> None:
    gap = Gap(source=2, target=4, digest=digest_of(BODIES[3]), counts={})
    header = header_for(BODIES[4:], first=5, gap=gap)
    assert decode_batch(encode_batch(header, BODIES[4:])) == (header, BODIES[4:])
    alone = msgspec.structs.replace(header, count=0, digest=gap.digest)
    assert decode_batch(encode_batch(alone, [])) == (alone, [])
    wrong_gap = msgspec.structs.replace(gap, digest=digest_of(b"other"))
    early_gap = msgspec.structs.replace(gap, target=3)  # A hole between it and the rows.
    for spoilt in (
        msgspec.structs.replace(header, first=6),
        msgspec.structs.replace(header, first=4),
        msgspec.structs.replace(header, gap=wrong_gap),
        msgspec.structs.replace(header, gap=early_gap),
    ):
        with pytest.raises(CorruptData):
            decode_batch(encode_batch(spoilt, BODIES[4:]))
    with pytest.raises(CorruptData):
        decode_batch(encode_batch(msgspec.structs.replace(alone, digest="x"), []))


def swapped() -> list[bytes]:
    return [BODIES[0], BODIES[2], BODIES[1], *BODIES[3:]]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\n".join(BODIES), id="no header"),
        pytest.param(batch(count=len(BODIES) - 1), id="one more than said"),
        pytest.param(batch(count=len(BODIES) + 1), id="one fewer than said"),
        pytest.param(batch() + b"\n", id="a newline behind"),
        pytest.param(batch(first=0), id="from nought"),
        pytest.param(
            batch([NOUGHTH], header_for([NOUGHTH], first=0)), id="from nought, numbered so"
        ),
        pytest.param(batch(first=2), id="from another"),
        pytest.param(batch(device="till-2"), id="of another device"),
        pytest.param(batch(stream=Stream.AGENT), id="of another stream"),
        pytest.param(batch(epoch="f" * 16), id="of another epoch"),
        pytest.param(batch(digest=digest_of(BODIES[0])), id="another digest"),
        pytest.param(batch(digest=""), id="no digest"),
        pytest.param(batch([], header_for([])), id="no rows and no gap"),
        pytest.param(batch(swapped()), id="two swapped"),
        pytest.param(batch([*BODIES[:3], *BODIES[4:]]), id="one left out"),
        pytest.param(batch([BODIES[0], BODIES[0]]), id="one twice"),
        pytest.param(
            batch(
                [
                    BODIES[0],
                    respelt(BODIES[1], b"reader \xe2\x84\x961", b"reader \xe2\x84\x962"),
                    *BODIES[2:],
                ]
            ),
            id="one changed",
        ),
        pytest.param(batch([BODIES[0], b"{}"]), id="no fact"),
        pytest.param(batch([BODIES[0], b"\xff"]), id="no text"),
        pytest.param(batch([BODIES[0], BODIES[1][:-1]]), id="one cut short"),
        pytest.param(batch(rechained(BATCH_ROWS_MAX + 1)), id="101 rows"),
        pytest.param(batch(rechained(BATCH_ROWS_MAX)) + b" " * MESSAGE_BYTES_MAX, id="too large"),
    ],
)
def test_each_rule_of_a_batch(data: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_batch(data)


def test_a_full_batch_fits() -> None:
    bodies = rechained(BATCH_ROWS_MAX)
    assert decode_batch(batch(bodies)) == (header_for(bodies), bodies)


def test_a_batch_that_counts_wrong_is_our_mistake() -> None:
    with pytest.raises(AssertionError):
        encode_batch(header_for(BODIES), BODIES[1:])
