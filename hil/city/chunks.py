"""Rows as the chunks of a snapshot: MessagePack, zstd, each small enough for one message. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import zstandard

from edge.messages import CHUNK_BYTES_MAX, CHUNK_ROWS_BYTES_MAX, Row, decode_pack, encode_pack

CHUNK_RAW_BYTES: Final = 256 * 1024  # Our choice: rows in one chunk before compression, at first.
LEVEL: Final = 10  # Our choice: a school's list once, on the city's side; level 19 gains 2 %.

assert CHUNK_RAW_BYTES <= CHUNK_ROWS_BYTES_MAX


def pack_chunks(rows: Sequence[Row]) -> Iterator[bytes]:
    """Rows in order as zstd chunks, each small enough for a message; at least one, maybe empty."""
    group: list[Row] = []
    size = 0
    for row in rows:
        row_bytes = len(row.key) + len(row.body) + 16
        if group and size + row_bytes > CHUNK_RAW_BYTES:
            yield from _fitting(group)
            group, size = [], 0
        group.append(row)
        size += row_bytes
    yield from _fitting(group)


def _fitting(group: Sequence[Row]) -> Iterator[bytes]:
    packed: bytes = zstandard.ZstdCompressor(level=LEVEL).compress(encode_pack(group))
    if len(packed) <= CHUNK_BYTES_MAX:
        yield packed
        return
    assert len(group) > 1, "one row fits a chunk"
    middle = len(group) // 2
    yield from _fitting(group[:middle])
    yield from _fitting(group[middle:])


def unpack_rows(chunk: bytes) -> list[Row]:
    """The rows of a chunk again: for checks of the city by itself."""
    raw: Any = zstandard.ZstdDecompressor().decompress(chunk, max_output_size=CHUNK_ROWS_BYTES_MAX)
    return decode_pack(list[Row], raw, size_max=CHUNK_ROWS_BYTES_MAX)
