"""Goal: what is encoded comes back the same, the bytes of a fact never change, and no bytes from
outside do more than be refused.

Method: values of every kind made from its own type, to bytes and back; golden bytes; random bytes
into every decoder. Batches are `test_batches.py`.
"""

from __future__ import annotations

import enum
import hashlib
import json
import random
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import messages
from edge.messages import (
    CHUNK_BYTES_MAX,
    FACT_BYTES_MAX,
    FACT_KINDS,
    MESSAGE_BYTES_MAX,
    RESTATES_BYTES_MAX,
    ROW_BODIES,
    ROW_NUMBERS,
    SET_DIGEST_MODULUS,
    Fact,
    Row,
    RowKind,
    Signed,
    SignedWhat,
    b64u,
    decode_batch,
    decode_body,
    decode_fact,
    decode_fact_key,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    encode_fact,
    encode_json,
    encode_pack,
    encode_signed_lines,
    from_b64u,
    row_hash,
    set_digest,
    set_digest_bytes,
    signing_input,
)
from edge.model import CorruptData
from tests.support import facts, small_city
from tests.support.wire_vectors import VECTORS, chained, one_of_each, vectors

BASES = {messages.Wire, messages.Fact, messages.RowBody}
KINDS = [  # All there are: a new one is tried without being named here.
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in BASES
    if kind.__module__.startswith(messages.__name__)
]
PUSH_KINDS = (
    *(messages.PushManifest, messages.PushChunk, messages.PushDelta, messages.PushKeys),
    *(messages.PushPhoto, messages.PushRelease, messages.PushReleaseChunk),
)

INTEGERS = st.integers(-(2**63), 2**63 - 1)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type as the schema writes it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        [limits] = arguments[1:]
        if arguments[0] is int:
            return st.integers(limits.ge, limits.le)
        return st.binary(max_size=min(limits.max_length, 40))
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(values(each) for each in arguments))
    if origin is tuple:
        if arguments[1:] == (...,):
            return st.lists(values(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*(values(each) for each in arguments))
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if kind is type(None):
        return st.none()
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(list(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return structs(kind)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=20),
        int: INTEGERS,
        bool: st.booleans(),
        bytes: st.binary(max_size=40),
    }
    return simple[kind]


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.name: values(hints[field.name]) for field in msgspec.structs.fields(kind)}
    return st.fixed_dictionaries(fields).map(lambda found: kind(**found))


def name_of(kind: type) -> str:
    return kind.__name__


# ------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", FACT_KINDS, ids=name_of)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_fact_comes_back_as_it_was(kind: type[Fact], data: st.DataObject) -> None:
    fact = data.draw(structs(kind))
    body = encode_fact(fact)
    assert decode_fact(body) == fact
    assert encode_fact(decode_fact(body)) == body
    assert b"\n" not in body
    key = decode_fact_key(body)
    assert (key.kind, key.device) == (kind.__struct_config__.tag, fact.device)
    assert (key.stream, key.epoch) == (fact.stream, fact.epoch)
    assert (key.sequence, key.previous) == (fact.sequence, fact.previous)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_message_comes_back_as_it_was(kind: type[Any], data: st.DataObject) -> None:
    message = data.draw(structs(kind))
    assert decode_json(kind, encode_json(message)) == message
    assert b"\n" not in encode_json(message)
    assert decode_pack(kind, encode_pack(message)) == message


@pytest.mark.parametrize("kind", PUSH_KINDS, ids=name_of)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_push_comes_back_as_it_was(kind: type[Any], data: st.DataObject) -> None:
    push = data.draw(structs(kind))
    assert decode_push(encode_pack(push)) == push


def test_every_fact_and_push_is_of_a_kind_the_decoders_know() -> None:
    assert {kind for kind in KINDS if issubclass(kind, Fact)} == set(FACT_KINDS)
    assert typing.get_args(messages.AnyFact) == FACT_KINDS
    assert set(typing.get_args(messages.AnyPush)) == set(PUSH_KINDS)
    assert set(PUSH_KINDS) == {kind for kind in KINDS if kind.__name__.startswith("Push")}


# ------------------------------------------------------------------------- golden bytes


def test_facts_are_encoded_as_ever() -> None:
    """Differs when the wire does: read `tests/support/wire_vectors.py` before you change the file.
    With kinds or fields added it is written anew, with any changed it must not be."""
    golden = json.loads(VECTORS.read_text())
    assert vectors() == golden


def test_golden_facts_are_read_and_their_digests_are_sha256() -> None:
    golden = json.loads(VECTORS.read_text())
    assert {fact["kind"] for fact in golden["facts"]} == {
        str(kind.__struct_config__.tag) for kind in FACT_KINDS
    }
    for known, fact in zip(golden["facts"], one_of_each(), strict=True):
        body = known["bytes"].encode()
        assert decode_fact(body) == fact
        assert from_b64u(known["digest"]) == hashlib.sha256(body).digest()
    for name, first in (("batch", 1), ("batch_behind_a_gap", 3)):
        lines = [line.encode() for line in golden[name]]
        header, bodies = decode_batch(b"\n".join(lines))
        assert (bodies, header.first) == (lines[1:], first)
        assert from_b64u(header.digest) == hashlib.sha256(bodies[-1]).digest()


# ------------------------------------------------------------------- versions to come


@pytest.mark.parametrize("fact", chained(), ids=lambda fact: name_of(type(fact)))
def test_fields_of_a_later_version_are_ignored(fact: Fact) -> None:
    later = json.loads(encode_fact(fact)) | {"new": {"deep": [1, None]}, "newer": "x"}
    assert decode_fact(json.dumps(later).encode()) == fact


def test_fields_of_a_later_city_are_ignored() -> None:
    order = small_city.order()
    later = json.loads(encode_json(order)) | {"v": 2, "why": "fire drill"}
    decoded = decode_json(messages.Order, json.dumps(later).encode())
    assert decoded == msgspec.structs.replace(order, v=2)
    for (kind, key), body in (
        *(small_city.cardholder(), small_city.credential(b"1234"), small_city.hot(b"1234")),
        *(small_city.account(), small_city.product(), small_city.site()),
        small_city.schedule("s", (1, 2)),
    ):
        appended = [*msgspec.msgpack.decode(encode_pack(body)), "new", 7]
        assert decode_body(Row(kind, key, encode_pack(appended))) == body
        needed = sum(field.required for field in msgspec.structs.fields(body))
        shortened = msgspec.msgpack.decode(encode_pack(body))[:needed]
        if len(shortened) == 1:
            continue
        with pytest.raises(CorruptData):
            decode_body(Row(kind, key, encode_pack(shortened[:1])))


def test_a_fact_of_a_later_kind_is_known_by_its_key_alone() -> None:
    body = encode_fact(facts.access(facts.stamp())).replace(b'"access"', b'"tomorrow"', 1)
    assert decode_fact_key(body).kind == "tomorrow"
    with pytest.raises(CorruptData):
        decode_fact(body)


def test_a_row_of_a_later_kind_is_corrupt_data() -> None:
    assert {ROW_NUMBERS[kind] for kind in RowKind} == set(ROW_BODIES)
    with pytest.raises(CorruptData, match="unknown kind 99"):
        decode_body(Row(99, b"", b""))


# ------------------------------------------------------------------------- size limits


def test_a_fact_has_a_largest_size() -> None:
    room = FACT_BYTES_MAX - len(encode_fact(facts.access(facts.stamp(), reader="")))
    largest = facts.access(facts.stamp(), reader="x" * room)
    assert decode_fact(encode_fact(largest)) == largest
    with pytest.raises(AssertionError):
        encode_fact(facts.access(facts.stamp(), reader="x" * (room + 1)))
    restated = facts.stamp()
    again = messages.Restates(
        **restated, old_epoch="e" * 16, old_sequence=2**53, body=encode_fact(largest)
    )
    assert decode_fact(encode_fact(again)) == again  # The largest fact can be said once more.
    body = encode_fact(again)
    too_large = body + b" " * (RESTATES_BYTES_MAX + 1 - len(body))
    assert decode_fact(too_large[:-1]) == again
    for decode in (decode_fact, decode_fact_key):
        with pytest.raises(CorruptData, match="more than"):
            decode(too_large)


def test_every_decoder_has_a_largest_size() -> None:
    order = encode_json(small_city.order())
    padded = order + b" " * (MESSAGE_BYTES_MAX - len(order))
    assert decode_json(messages.Order, padded) == small_city.order()
    line = encode_json(messages.SignatureLine(key_id="k", signature=""))
    signed = order + b" " * (MESSAGE_BYTES_MAX - len(order) - len(line) - 1) + b"\n" + line
    assert decode_signed_lines(signed).key_id == "k"
    chunk = messages.PushChunk(scope="", snapshot_id="", index=0, data=bytes(CHUNK_BYTES_MAX))
    assert decode_push(encode_pack(chunk)) == chunk  # A whole chunk fits its message.
    zeros = encode_pack(bytes(MESSAGE_BYTES_MAX))
    for decode, data in (
        (lambda d: decode_json(messages.Order, d), padded + b" "),
        (lambda d: decode_json(messages.Order, d, size_max=10), order),
        (lambda d: decode_pack(bytes, d), zeros),
        (decode_push, zeros),
        (decode_batch, zeros),
        (decode_signed_lines, signed + b" "),
    ):
        with pytest.raises(CorruptData, match="more than"):
            decode(data)


# ------------------------------------------------------------------ bytes from outside

DECODERS: list[Callable[[bytes], object]] = [
    *(decode_fact, decode_fact_key, decode_push, decode_batch, decode_signed_lines),
    *[lambda data, kind=kind: decode_json(kind, data) for kind in KINDS],
    *[lambda data, kind=kind: decode_pack(kind, data) for kind in KINDS],
    *[lambda data, kind=kind: decode_body(Row(kind, b"k", data)) for kind in ROW_BODIES],
]
BATCH = "\n".join(json.loads(VECTORS.read_text())["batch"]).encode()
GOOD = [
    *(encode_fact(chained()[3]), BATCH, encode_json(small_city.order())),
    *(encode_pack(small_city.account()[1]), encode_pack(small_city.cardholder()[1])),
    encode_pack(messages.PushKeys(signed=messages.Signed(b"p", "list", bytes(64)))),
    encode_signed_lines(b'{"a":1}', "list", bytes(64)),
]


def only_corrupt_data(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except CorruptData as problem:
            assert len(str(problem)) < 1_000


@given(st.binary(max_size=100))
@settings(max_examples=60, deadline=None)
def test_random_bytes_are_corrupt_data(data: bytes) -> None:
    only_corrupt_data(data)


@given(st.sampled_from(GOOD), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_spoilt_messages_are_corrupt_data(good: bytes, chance: random.Random) -> None:
    data = bytearray(good)
    for _ in range(chance.randrange(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    only_corrupt_data(bytes(data[: chance.randrange(1, len(data) + 1)]))


@pytest.mark.parametrize(
    "data",
    [
        *(b'"\xff"', b'{"kind":"\xff"}', b"\xa2\xff\xfe", b"\x92\xa2\xff\xfe\xc0"),
        *(b"[" * 9_000, b'{"a":' * 9_000, b"\x91" * 9_000, b"\x81\xa1a" * 3_000),
        *(
            b"1e999",
            b"-1e999",
            b"1" * 5_000,
            b'{"v":' + b"9" * 5_000 + b"}",
            b"\xdf\xff\xff\xff\xff",
        ),
    ],
    ids=lambda data: f"{data[:6]!r} {len(data)}",
)
def test_hostile_bytes_are_corrupt_data(data: bytes) -> None:
    only_corrupt_data(data)


# ------------------------------------------------------------------------- signed lines


def test_signed_lines_go_apart_as_they_were_put_together() -> None:
    for payload in (b"{}", b'{"a":"\\n"}', b""):
        lines = encode_signed_lines(payload, "list-1", bytes(range(64)))
        assert decode_signed_lines(lines) == Signed(payload, "list-1", bytes(range(64)))
    with pytest.raises(AssertionError):
        encode_signed_lines(b"{\n}", "k", b"")
    for data in (b"", b"{}", b"{}\n", b"{}\n{}", b'{}\n{"key_id":"k","signature":"="}'):
        with pytest.raises(CorruptData):
            decode_signed_lines(data)


def test_one_turned_bit_never_gives_the_same_signed_message() -> None:
    """So nothing can be changed on the way and still verify, not even the spelling."""
    signed = Signed(b'{"a":1}', "list-1", bytes(range(64)))
    good = encode_signed_lines(signed.payload, signed.key_id, signed.signature)
    for bit in range(8 * len(good)):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        try:
            found = decode_signed_lines(bytes(data))
        except CorruptData:
            continue
        assert found != signed


def test_what_is_signed_names_its_purpose() -> None:
    inputs = {signing_input(what, b"payload") for what in SignedWhat}
    assert inputs == {b"moskvenok/v1/" + what.encode() + b"\npayload" for what in SignedWhat}
    assert len(inputs) == len(SignedWhat)


@given(st.binary(max_size=70))
def test_base64url_has_one_spelling(data: bytes) -> None:
    text = b64u(data)
    assert from_b64u(text) == data
    assert not set(text) & set("+/= \n")
    others = {text + "=", text + "\n", " " + text, text + "A", text[:-1], "!" + text}
    for other in others - {text}:
        try:
            assert from_b64u(other) != data
        except CorruptData:
            continue


@pytest.mark.parametrize("text", ["A", "=", "AA==", "+/+/", "AB", "é", "A A", "AAAA\n"])
def test_what_is_no_base64url_is_corrupt_data(text: str) -> None:
    with pytest.raises(CorruptData):
        from_b64u(text)


# --------------------------------------------------------------------------- set digest

ROWS = st.lists(
    st.tuples(st.integers(0, 255), st.binary(max_size=4)), unique=True, max_size=6
).flatmap(
    lambda keys: st.tuples(*(st.binary(max_size=4) for _ in keys)).map(
        lambda bodies: dict(zip(keys, bodies, strict=True))
    )
)


@given(rows=ROWS, chance=st.randoms(use_true_random=False))
def test_a_set_digest_knows_no_order(
    rows: dict[small_city.Key, bytes], chance: random.Random
) -> None:
    listed = [Row(kind, key, body) for (kind, key), body in rows.items()]
    chance.shuffle(listed)
    assert set_digest_bytes(set_digest(listed)) == small_city.set_digest_of(rows)
    # What leaves is taken off again, in any order.
    total = set_digest(listed)
    for row in listed:
        total -= row_hash(row)
    assert total % SET_DIGEST_MODULUS == 0


def test_a_row_is_hashed_with_its_edges() -> None:
    cuts = [Row(1, b"ab"[:cut], b"ab"[cut:]) for cut in range(3)]
    assert len({row_hash(row) for row in (*cuts, Row(2, b"", b"ab"))}) == 4
    for kind, key in ((256, b""), (-1, b""), (0, bytes(65_536))):
        with pytest.raises(CorruptData):
            decode_pack(Row, msgspec.msgpack.encode([kind, key, b""]), size_max=10**6)
    row_hash(Row(255, bytes(65_535), b""))
