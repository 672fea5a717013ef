"""Goal: only a newer release for this machine is taken, and it is asked for piece by piece.

Method: versions in the order of PEP 440 compared pair by pair; each field of a manifest made wrong;
the fetch driven with time as a number: silence, wrong bytes, twice, too late, cut off anywhere.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edge.messages import (
    CHUNK_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    RELEASE_CHUNKS_MAX,
    PushRelease,
    Release,
    decode_pack,
    encode_pack,
)
from edge.model import CorruptData
from sync.release_fetch import AGAIN_MS_MAX, ANSWER_MS_MAX, Chunk, ReleaseFetch
from sync.release_rules import Machine, Why, is_newer, judge, problem_of, version_key
from tests.support import releases

IN_ORDER = (
    *("0", "0.0.1", "0.9.dev2", "0.9a1", "0.9a2", "0.9b1", "0.9rc1", "0.9rc2", "0.9", "0.9.post1"),
    *("0.9.1.dev1", "0.9.1", "0.10", "1.0a1.dev1", "1.0a1", "1.0a1.post1", "1.0", "1.0.0.0.1"),
    *("1.2", "1.10", "2", "10.0"),
)
MACHINE = Machine(platform=releases.PLATFORM, python=releases.PYTHON)
SCHEMAS = {"journal": 3, "sync": 3}
BUNDLE = bytes(range(256)) * 1_000  # Five chunks, the last one short.
RELEASE = releases.release_of(BUNDLE, "0.2.0")


def test_versions_stand_in_the_order_of_pep_440() -> None:
    for (one, a), (other, b) in itertools.product(enumerate(IN_ORDER), repeat=2):
        assert is_newer(a, b) is (one > other), (a, b)


@pytest.mark.parametrize(
    "text", ["", "1.0+local", "1!2", "v1", "../1", "1..2", "1.0 ", "٣", "1" * 99]
)
def test_what_is_no_version_of_ours_is_never_newer(text: str) -> None:
    assert version_key(text) is None
    assert not is_newer(text, "0") and not is_newer("99", text)


def judged(**fields: Any) -> Why | None:
    release = structs.replace(RELEASE, **fields)
    return judge(release, machine=MACHINE, held="0.1.0", schemas=SCHEMAS)


def test_the_good_one_is_taken() -> None:
    assert judged() is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"release": "0.1.0"}, Why.TOO_OLD),
        ({"release": "0.1"}, Why.TOO_OLD),
        ({"release": "0.2.0.dev1"}, None),
        ({"release": "0.1.0rc9"}, Why.TOO_OLD),
        ({"platform": "linux-other"}, Why.WRONG_PLATFORM),
        ({"python": "3.12"}, Why.WRONG_PLATFORM),
        ({"schema_from": {"journal": 4}}, Why.SCHEMA),
        ({"schema_from": {"journal": 3, "picture": 9}}, None),
        ({"release": "../../etc"}, Why.MALFORMED),
        ({"release": "latest"}, Why.MALFORMED),
        ({"sha256": "AB" * 32}, Why.MALFORMED),
        ({"sha256": "ab"}, Why.MALFORMED),
        ({"size_bytes": len(BUNDLE) + CHUNK_BYTES_MAX}, Why.MALFORMED),
        ({"size_bytes": 4 * CHUNK_BYTES_MAX}, Why.MALFORMED),
        ({"size_bytes": 0}, Why.MALFORMED),
        ({"size_bytes": -1}, Why.MALFORMED),
        ({"chunk_hashes": ()}, Why.MALFORMED),
        ({"chunk_hashes": RELEASE.chunk_hashes[:-1]}, Why.MALFORMED),
        ({"chunk_hashes": (*RELEASE.chunk_hashes[:-1], b"short")}, Why.MALFORMED),
    ],
)
def test_each_thing_wrong_with_it_has_its_word(fields: dict[str, Any], why: Why | None) -> None:
    assert judged(**fields) is why


def test_the_largest_release_fits_one_message_and_a_larger_one_is_refused() -> None:
    size = RELEASE_CHUNKS_MAX * CHUNK_BYTES_MAX
    most = structs.replace(RELEASE, size_bytes=size, chunk_hashes=(bytes(32),) * RELEASE_CHUNKS_MAX)
    assert problem_of(most) is None
    push = PushRelease(sha256=most.sha256, signed=releases.sign(most))
    assert len(encode_pack(push)) < MESSAGE_BYTES_MAX
    more = structs.replace(
        most, size_bytes=size + 1, chunk_hashes=(bytes(32),) * (RELEASE_CHUNKS_MAX + 1)
    )
    assert problem_of(more) is Why.MALFORMED


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_a_manifest_of_any_bytes_is_refused_in_words(data: bytes) -> None:
    try:
        release = decode_pack(Release, data)
    except CorruptData:
        return
    assert problem_of(release) is None or problem_of(release) is Why.MALFORMED


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_manifest_with_any_values_is_judged_in_a_word(data: st.DataObject) -> None:
    release = Release(
        release=data.draw(st.text(max_size=20)),
        sha256=data.draw(st.text(max_size=70)),
        size_bytes=data.draw(st.integers(-(2**63), 2**63)),
        chunk_hashes=tuple(data.draw(st.lists(st.binary(max_size=33), max_size=4))),
        platform=data.draw(st.text(max_size=9)),
        python=data.draw(st.text(max_size=9)),
        schema_from=data.draw(st.dictionaries(st.text(max_size=8), st.integers(), max_size=3)),
        issued_utc_ms=0,
    )
    assert judge(release, machine=MACHINE, held="0.1.0", schemas=SCHEMAS) in {*Why, None}


# --------------------------------------------------------------------------------- the fetch


def begun(have: tuple[int, ...] = ()) -> ReleaseFetch:
    fetch = ReleaseFetch(device="d", sha256=RELEASE.sha256)
    pull = fetch.pull(now_ms=0)
    assert pull is not None and (pull.release, pull.chunks) == (RELEASE.sha256, ())
    fetch.begin(RELEASE, have)
    return fetch


def test_four_chunks_a_pull_until_all_are_here() -> None:
    fetch, now_ms = begun(), 0
    asked: list[int] = []
    while not fetch.done:
        now_ms += 1_000
        pull = fetch.pull(now_ms=now_ms)
        assert pull is not None and len(pull.chunks) <= 4
        assert fetch.pull(now_ms=now_ms) is None, "one pull at a time"
        asked += pull.chunks
        for index in pull.chunks:
            data = releases.chunk(BUNDLE, index)
            assert fetch.check(index, data, now_ms=now_ms) is Chunk.GOOD
            fetch.kept(index, now_ms=now_ms)
    assert asked == list(range(len(RELEASE.chunk_hashes)))
    assert fetch.pull(now_ms=now_ms) is None


@pytest.mark.parametrize("have", [(0, 1), (4,), (0, 1, 2, 3), (0, 1, 2, 3, 4)])
def test_only_what_is_missing_is_asked_for(have: tuple[int, ...]) -> None:
    fetch = begun(have)
    pull = fetch.pull(now_ms=1)
    missing = [n for n in range(5) if n not in have]
    assert (pull.chunks if pull else ()) == tuple(missing[:4])
    assert fetch.done is (not missing)


def test_a_silent_city_is_asked_again_after_a_growing_wait() -> None:
    fetch, asked_ms = begun(), []
    for now_ms in range(0, 3_000_000, 1_000):
        if fetch.pull(now_ms=now_ms) is not None:
            asked_ms.append(now_ms)
    waits = [b - a for a, b in itertools.pairwise(asked_ms)]
    assert waits[0] >= ANSWER_MS_MAX and waits == sorted(waits)
    assert AGAIN_MS_MAX < waits[-1] <= AGAIN_MS_MAX + ANSWER_MS_MAX + 1_000


@pytest.mark.parametrize("spoil", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"x" + d[1:]])
def test_a_wrong_chunk_is_dropped_and_waited_for(spoil: Any) -> None:
    fetch = begun()
    assert fetch.pull(now_ms=0) is not None
    assert fetch.check(0, spoil(releases.chunk(BUNDLE, 0)), now_ms=1) is Chunk.BAD
    assert fetch.pull(now_ms=2) is None and fetch.missing == 5
    assert fetch.pull(now_ms=60_000) is not None


def test_what_was_not_asked_for_is_none_of_ours() -> None:
    fetch = ReleaseFetch(device="d", sha256=RELEASE.sha256)
    assert fetch.check(0, releases.chunk(BUNDLE, 0), now_ms=0) is Chunk.NOT_ASKED
    fetch = begun()
    assert fetch.pull(now_ms=0) is not None
    for index in (4, 5, -1, 10**9):
        assert fetch.check(index, b"", now_ms=0) is Chunk.NOT_ASKED
    fetch.disconnected()
    assert fetch.check(0, releases.chunk(BUNDLE, 0), now_ms=0) is Chunk.NOT_ASKED
    assert fetch.pull(now_ms=0) is not None, "a new connection need not wait"
