"""Goal: a snapshot goes on disk whole and as it was signed, or not at all, whatever is in a chunk.

Method: chunks in any order, of other snapshots, with each bit turned; chunks that are signed and
yet no rows: bombs, cut frames, rows nobody can store.
"""

from __future__ import annotations

import hashlib
import random
import tracemalloc

import msgspec
import pytest
import zstandard

from edge.messages import (
    CHUNK_BYTES_MAX,
    CHUNK_ROWS_BYTES_MAX,
    Row,
)
from edge.model import CorruptData
from edge.offline_cache.apply import (
    unpack_chunk,
)
from tests.support.pictures import Station, seen
from tests.support.small_city import (
    CARDHOLDER,
    CREDENTIAL,
    PEOPLE,
    Scope,
    cardholder,
    pack_chunk,
)


def test_chunks_come_in_any_order_and_again(station: Station, people: Scope) -> None:
    builder, chunks = station.builder(people)
    assert list(builder.missing()) == [0, 1]
    builder.add_chunk(1, chunks[1])
    builder.add_chunk(1, chunks[1])
    assert list(builder.missing()) == [0]
    builder.add_chunk(0, chunks[0])
    assert builder.finish() == people.version
    builder.discard()


@pytest.mark.parametrize("index", [-1, 2, 2**31])
def test_a_chunk_of_another_snapshot_is_refused(
    station: Station, people: Scope, index: int
) -> None:
    builder, chunks = station.builder(people)
    with pytest.raises(CorruptData, match="smaller snapshot"):
        builder.add_chunk(index, chunks[0])
    with pytest.raises(CorruptData, match="not the one signed"):
        builder.add_chunk(1, chunks[0])
    for bit in range(0, 8 * len(chunks[0]), 13):
        spoilt = bytearray(chunks[0])
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptData, match="not the one signed"):
            builder.add_chunk(0, bytes(spoilt))
    with pytest.raises(CorruptData):
        builder.add_chunk(0, chunks[0][:-1])
    assert list(builder.missing()) == [0, 1]
    for number, chunk in enumerate(chunks):
        builder.add_chunk(number, chunk)
    assert builder.finish() == people.version
    builder.discard()


def packed(data: bytes, *, level: int = 3) -> bytes:
    return zstandard.ZstdCompressor(level=level).compress(data)


def wide_window(data: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    stream = compressor.compressobj()  # Without the size in its header, so that the window stays.
    return stream.compress(data) + stream.flush()


ROWS = msgspec.msgpack.encode([Row(CARDHOLDER, b"p1", b"body")])
BAD_CHUNKS = {
    "empty": b"",
    "no zstd": b"no zstd at all",
    "a frame cut short": packed(ROWS * 100)[:-4],
    "a bomb": packed(bytes(CHUNK_ROWS_BYTES_MAX + 1)),
    "a bomb of rows": packed(b"\xdd\x7f\xff\xff\xff" + bytes(CHUNK_ROWS_BYTES_MAX)),
    "a window too wide": wide_window(ROWS),
    "too large as packed": pack_chunk(
        [Row(CARDHOLDER, b"p1", random.Random(1).randbytes(CHUNK_BYTES_MAX + 1))]
    ),
    "no rows": packed(b"\xc1"),
    "not a list": packed(msgspec.msgpack.encode({"a": 1})),
    "more behind the rows": packed(ROWS + b"\x00"),
    "a row cut short": packed(ROWS[:-1]),
    "a row of two": packed(msgspec.msgpack.encode([[1, b"p1"]])),
    "text for bytes": packed(msgspec.msgpack.encode([[1, "p1", "body"]])),
    "a kind of two bytes": packed(msgspec.msgpack.encode([[256, b"p1", b""]])),
    "a kind below nought": packed(msgspec.msgpack.encode([[-1, b"p1", b""]])),
    "a key beyond its length": packed(msgspec.msgpack.encode([[1, bytes(65_536), b""]])),
    "lists in lists": packed(b"\x91" * 100_000),
    "the same row twice": packed(msgspec.msgpack.encode([[1, b"p1", b"a"], [1, b"p1", b"b"]])),
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_bad_chunk_is_refused_though_it_is_the_one_signed(
    station: Station, people: Scope, name: str
) -> None:
    data = BAD_CHUNKS[name]
    builder, _ = station.builder(people, chunk_hashes=(hashlib.sha256(data).digest(),))
    with pytest.raises(CorruptData):
        builder.add_chunk(0, data)
    assert list(builder.missing()) == [0]
    builder.discard()
    assert not list(station.folder.glob(builder.path.name + "*"))


def test_a_bomb_takes_no_more_memory_than_a_chunk() -> None:
    bomb = packed(bytes(256 * 1024 * 1024))
    assert len(bomb) < CHUNK_BYTES_MAX
    tracemalloc.start()
    with pytest.raises(CorruptData):
        unpack_chunk(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * CHUNK_ROWS_BYTES_MAX


def test_a_chunk_as_large_as_allowed_is_taken() -> None:
    row = Row(CARDHOLDER, b"p1", bytes(CHUNK_ROWS_BYTES_MAX - 12))
    data = msgspec.msgpack.encode([row])
    assert len(data) == CHUNK_ROWS_BYTES_MAX
    assert unpack_chunk(packed(data, level=19)) == [row]
    many = [Row(CREDENTIAL, bytes([number % 256]) * 16, b"") for number in range(150_000)]
    assert unpack_chunk(pack_chunk(many)) == many


@pytest.mark.parametrize("fields", [{"rows": 4}, {"rows": 2}, {"set_digest": bytes(32)}])
def test_a_snapshot_that_is_not_the_one_signed_leaves_nothing(
    station: Station, people: Scope, fields: dict[str, object]
) -> None:
    builder, chunks = station.builder(people, **fields)
    for index, chunk in enumerate(chunks):
        builder.add_chunk(index, chunk)
    with pytest.raises(CorruptData, match="not those signed"):
        builder.finish()
    builder.discard()  # As the caller does with whatever failed.
    assert not list(station.folder.glob(builder.path.name + "*"))
    assert seen(station.folder, PEOPLE) == (people.version, people.rows)


def test_a_later_delta_that_does_not_fit_refuses_the_whole(station: Station, people: Scope) -> None:
    builder, chunks = station.builder(people)
    for index, chunk in enumerate(chunks):
        builder.add_chunk(index, chunk)
    wrong = msgspec.structs.replace(people.put(cardholder("p9")), set_digest=bytes(32))
    with pytest.raises(CorruptData):
        builder.finish((wrong,))
    builder.discard()
    assert not list(station.folder.glob(builder.path.name + "*"))


def test_a_finished_generation_is_one_closed_file(station: Station, people: Scope) -> None:
    builder, chunks = station.builder(people)
    for index, chunk in enumerate(chunks):
        builder.add_chunk(index, chunk)
    builder.finish()
    names = {path.name for path in station.folder.glob(builder.path.name + "*")}
    assert names <= {builder.path.name, builder.path.name + ".lock"}
    builder.discard()
