"""One picture as a file: its record, its rows, a change to them, and whether they still are what
was signed.

A picture is a database of rows and one record that says which version they are. The set digest in
the record was checked against the city's signature when it was written; `PictureCheck` counts it
anew from the rows, in slices, while deltas go on.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from edge.messages import (
    SET_DIGEST_MODULUS,
    Delta,
    Row,
    VectorEntry,
    VersionMark,
    encode_pack,
    row_hash,
    set_digest_bytes,
)
from edge.model import CorruptData
from edge.offline_cache.store import FileKind, look_over, open_reader, reading, telling

Place = tuple[int, bytes]  # Kind and key of a row: the order they lie in.
BEFORE_ALL: Final[Place] = (-1, b"")
AFTER_ALL: Final[Place] = (2**63 - 1, b"")
METAS_KEPT: Final = 8  # Our choice: a station holds five lists; each has one record in force.
LOOK_OVER_BYTES: Final = 4 * 1024 * 1024  # Our choice: SQLite looks over so much in 20 ms.


def picture_path(folder: Path, scope: str, generation: int) -> Path:
    """Where a generation lives. Scopes hold `/` once; file names hold none."""
    return folder / f"picture-{scope.replace('/', '-')}-{generation}.db"


def newer(left: VersionMark, right: VersionMark) -> bool:
    return (left.list_epoch, left.number) > (right.list_epoch, right.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureMeta:
    """What a picture says of itself, in one record, read with its rows."""

    version: VersionMark
    set_digest: bytes
    identifier_key_version: int
    seal_key_version: int
    vector: tuple[VectorEntry, ...]


class _MetaRecord(msgspec.Struct, frozen=True, array_like=True):
    version: VersionMark
    set_digest: bytes
    identifier_key_version: int
    seal_key_version: int
    vector: tuple[VectorEntry, ...]


_META_DECODER: Final[msgspec.msgpack.Decoder[_MetaRecord]] = msgspec.msgpack.Decoder(_MetaRecord)


def picture_meta(db: sqlite3.Connection) -> PictureMeta:
    """Raises `CorruptData` for a picture that was never finished, or is damaged."""
    with telling():
        row = db.execute("SELECT value FROM meta WHERE key = 'picture'").fetchone()
    if row is None:
        raise CorruptData("a picture without its record")
    return _meta_of(row[0])


@lru_cache(maxsize=METAS_KEPT)
def _meta_of(body: bytes) -> PictureMeta:
    """Every tap asks, and the record changes with the list's version alone."""
    try:
        record = _META_DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"a picture's record: {error}") from error
    return PictureMeta(
        version=record.version,
        set_digest=record.set_digest,
        identifier_key_version=record.identifier_key_version,
        seal_key_version=record.seal_key_version,
        vector=record.vector,
    )


def write_meta(db: sqlite3.Connection, meta: PictureMeta) -> None:
    record = _MetaRecord(
        meta.version,
        meta.set_digest,
        meta.identifier_key_version,
        meta.seal_key_version,
        meta.vector,
    )
    put_note(db, "picture", encode_pack(record))


def put_note(db: sqlite3.Connection, key: str, value: bytes) -> None:
    """Beside the rows, inside the caller's transaction."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def change_picture(db: sqlite3.Connection, delta: Delta) -> None:
    """Rows and record of one delta, inside the caller's transaction."""
    meta = picture_meta(db)
    if meta.version != delta.base:
        raise CorruptData(f"{delta.scope}: a delta on {delta.base}, held is {meta.version}")
    if delta.target.list_epoch != delta.base.list_epoch or not newer(delta.target, delta.base):
        raise CorruptData(f"{delta.scope}: a delta from {delta.base} to {delta.target}")
    total = int.from_bytes(meta.set_digest, "big")
    for row in delta.upserts:
        total += row_hash(row) - _old_hash(db, row.kind, row.key)
        db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (row.kind, row.key, row.body))
    for gone in delta.removes:
        total -= _old_hash(db, gone.kind, gone.key)
        db.execute("DELETE FROM rows WHERE kind = ? AND key = ?", (gone.kind, gone.key))
    digest = set_digest_bytes(total % SET_DIGEST_MODULUS)
    if digest != delta.set_digest:
        raise CorruptData(f"{delta.scope}: set digest differs after {delta.target}")
    write_meta(
        db,
        PictureMeta(
            version=delta.target,
            set_digest=digest,
            identifier_key_version=meta.identifier_key_version,
            seal_key_version=meta.seal_key_version,
            vector=delta.vector or meta.vector,
        ),
    )


def _old_hash(db: sqlite3.Connection, kind: int, key: bytes) -> int:
    row = db.execute("SELECT body FROM rows WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return 0 if row is None else row_hash(Row(kind, key, row[0]))


class PictureCheck:
    """Counts a picture's rows anew, a slice a step, on a connection of its own; no transaction
    outlives a slice. Deltas may come in between: `touch` says where, and those slices are counted
    once more."""

    def __init__(self, path: Path) -> None:
        """`CorruptData` when it is gone, no picture, or damaged as far as SQLite's own look tells;
        that look is taken at small files alone, for a slice can be waited for, it cannot."""
        db = open_reader(path, FileKind.PICTURE)
        if db is None:
            raise CorruptData(f"{path}: the picture in force is gone")
        self._path = path
        self._db = db
        self._ends: list[Place] = []  # Of the slices counted, each up to and with it.
        self._totals: list[int] = []
        self._dirty: set[int] = set()
        try:
            with telling(path):
                damage = look_over(db)[1] if path.stat().st_size <= LOOK_OVER_BYTES else ""
            if damage:
                raise CorruptData(f"{path}: {damage}")
        except OSError as error:
            self.close()
            raise CorruptData(f"{path}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def touch(self, places: Iterable[Place]) -> None:
        """A delta has changed these rows."""
        for place in places:
            index = bisect_left(self._ends, place)
            if index < len(self._ends):  # Behind the last: not counted yet.
                self._dirty.add(index)

    def step(self, rows_max: int) -> bool:
        """Count one more slice. True when all is counted and right; `CorruptData` when it is not
        what the record says."""
        with telling(self._path), reading(self._db) as db:
            if not self._ends or self._ends[-1] != AFTER_ALL:
                self._count_next(db, rows_max)
            elif self._dirty:
                index = self._dirty.pop()
                after = self._ends[index - 1] if index else BEFORE_ALL
                rows = _rows_between(db, after, self._ends[index], -1)
                self._totals[index] = sum(map(row_hash, rows))
            if self._dirty or self._ends[-1] != AFTER_ALL:
                return False
            if set_digest_bytes(sum(self._totals) % SET_DIGEST_MODULUS) != (
                picture_meta(db).set_digest
            ):
                raise CorruptData(f"{self._path}: its rows are not those that were signed")
        return True

    def close(self) -> None:
        self._db.close()

    def _count_next(self, db: sqlite3.Connection, rows_max: int) -> None:
        after = self._ends[-1] if self._ends else BEFORE_ALL
        rows = _rows_between(db, after, AFTER_ALL, rows_max)
        self._totals.append(sum(map(row_hash, rows)))
        self._ends.append((rows[-1].kind, rows[-1].key) if len(rows) == rows_max else AFTER_ALL)


def _rows_between(db: sqlite3.Connection, after: Place, until: Place, rows_max: int) -> list[Row]:
    """Rows behind one place, up to and with another; at most so many (-1: all)."""
    found = db.execute(
        "SELECT kind, key, body FROM rows WHERE (kind, key) > (?, ?) AND (kind, key) <= (?, ?)"
        " ORDER BY kind, key LIMIT ?",
        (*after, *until, rows_max),
    )
    return [Row(kind, key, body) for kind, key, body in found]


def count_rows(db: sqlite3.Connection) -> tuple[int, bytes]:
    """How many rows there are, and their set digest: all of it read."""
    total = rows = 0
    for kind, key, body in db.execute("SELECT kind, key, body FROM rows"):
        total += row_hash(Row(kind, key, body))
        rows += 1
    return rows, set_digest_bytes(total % SET_DIGEST_MODULUS)


def delete_file(path: Path) -> None:
    """A database nobody writes, with what SQLite and we keep beside it."""
    for suffix in ("", "-wal", "-shm", ".lock"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
