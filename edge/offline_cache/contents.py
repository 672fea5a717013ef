"""A damaged journal whose own table of contents cannot be read, read under a new file's.

SQLite keeps the text of all tables in the first page and a few more. Where one of those is gone,
every table is out of reach though its pages are sound. Which page a table begins at follows from
the order in which the migrations made them, so a new file's contents fit an old file's pages. The
damaged file is copied, never written.

Format: sqlite.org/fileformat2.html, sections 1.3 (header), 1.6 (b-tree pages), 2.6 (schema table).
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from edge.model import CorruptData
from edge.offline_cache.store import SCHEMA_VERSIONS, FileKind, Writer

HEADER_BYTES: Final = 100
INTERIOR: Final = 0x05  # Kinds of b-tree pages of a table.
LEAF: Final = 0x0D
MAGIC: Final = b"SQLite format 3\0"
# Our choice: migrations of a new file are one transaction; a file that was upgraded later has its
# newer tables at pages of its own.
AT_ONCE: Final = timedelta(minutes=1)


def is_readable(db: sqlite3.Connection) -> bool:
    """Whether the file's own contents can be read."""
    try:
        db.execute("SELECT count(*), sum(length(sql)) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError:
        return False
    return True


def copy_under_new_contents(path: Path, copy: Path, kind: FileKind) -> bool:
    """Write `copy`: the pages of `path` with what a new file of this version has for contents.
    False when that cannot be: another page size or schema version, no room."""
    try:
        shutil.copyfile(path, copy)
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            shutil.copyfile(wal, copy.with_name(copy.name + "-wal"))
            _take_in_wal(copy)
        return _put_contents(copy, _new_file(copy.parent, kind), kind)
    except (OSError, sqlite3.Error, CorruptData):
        return False


def was_made_at_once(db: sqlite3.Connection) -> bool:
    """Whether every table stands where a new file has it, not only the oldest ones."""
    with suppress(sqlite3.Error, ValueError, TypeError):
        rows = db.execute("SELECT applied_at FROM _sqlite_migrations").fetchall()
        times = [datetime.fromisoformat(at) for (at,) in rows]
        return bool(times) and max(times) - min(times) <= AT_ONCE
    return False


def _take_in_wal(copy: Path) -> None:
    """The last connection that closes moves the WAL into the file; it needs no contents for it."""
    db = sqlite3.connect(copy)
    try:
        db.execute("PRAGMA user_version").fetchone()
    finally:
        db.close()


def _new_file(folder: Path, kind: FileKind) -> bytes:
    with tempfile.TemporaryDirectory(dir=folder) as made:
        writer = Writer(Path(made) / "new.db", kind)
        try:
            writer.checkpoint()
        finally:
            writer.close()
        return (Path(made) / "new.db").read_bytes()


def _put_contents(copy: Path, new: bytes, kind: FileKind) -> bool:
    size = _number(new, 16, 2)
    with copy.open("r+b") as file:
        header = file.read(HEADER_BYTES)
        sound = header.startswith(MAGIC) and _number(header, 16, 2) == size
        if sound and _number(header, 60, 4) != SCHEMA_VERSIONS[kind]:
            return False
        pages = -(-copy.stat().st_size // size)
        page = bytearray(new[:size])
        if sound:
            page[:HEADER_BYTES] = header
        leaves = []
        if page[HEADER_BYTES] == INTERIOR:
            cells = _number(page, HEADER_BYTES + 3, 2)
            pointers = [_number(page, HEADER_BYTES + 12 + 2 * cell, 2) for cell in range(cells)]
            for place in (*pointers, HEADER_BYTES + 8):
                child = _number(page, place, 4)
                leaf = new[(child - 1) * size : child * size]
                if leaf[0] != LEAF:
                    return False
                leaves.append(leaf)
                page[place : place + 4] = (pages + len(leaves)).to_bytes(4, "big")
        elif page[HEADER_BYTES] != LEAF:
            return False
        page[18:20] = b"\x01\x01"  # No WAL: this copy is only read.
        page[28:32] = (pages + len(leaves)).to_bytes(4, "big")
        page[92:96] = page[24:28]  # The size is of this very change.
        file.seek(0)
        file.write(page)
        file.seek(pages * size)
        file.write(b"".join(leaves))
    return True


def _number(data: bytes | bytearray, place: int, length: int) -> int:
    return int.from_bytes(data[place : place + length], "big")
