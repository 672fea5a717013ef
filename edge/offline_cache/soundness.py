"""Whether a file of facts can be gone on with, and what is done with one that cannot.

A damaged file is set aside untouched, for a technician and for what can still be read of it; only
at a start, where nobody has it open. Whoever finds the damage later leaves a mark for that start.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge.messages import Stream
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache.outbox import digest_at, lives
from edge.offline_cache.store import (
    FileKind,
    file_id,
    lock_file,
    look_over,
    open_reader,
    reading,
    telling,
)


def sound(path: Path, kind: FileKind, streams: tuple[Stream, ...]) -> bool:
    """Whether a file can be gone on with, as far as a look at its streams' ends tells: reading it
    all would cost seconds. Read-only, so that what is damaged stays as it was found. `CorruptData`
    when it cannot even be read."""
    lock = lock_file(path)
    try:
        if is_marked_unsound(path):
            return False
        db = open_reader(path, kind)
        if db is None:
            return True  # New, or made by a process that was killed while making it.
        try:
            with reading(db):
                db.execute("SELECT value FROM meta WHERE key = 'machine'").fetchone()
                newest = [life for stream in streams for life in lives(db, stream)[-1:]]
                return all(
                    life.held_from > life.head or digest_at(db, life.life, life.head) == life.digest
                    for life in newest
                )
        finally:
            db.close()
    finally:
        os.close(lock)


def is_whole(path: Path, kind: FileKind) -> bool:
    """Whether SQLite finds nothing wrong with a file: all of it is read."""
    try:
        db = open_reader(path, kind)
        if db is None:
            return True
        try:
            with telling(path):
                return not look_over(db)[1]
        finally:
            db.close()
    except CorruptData:
        return False


def set_aside(path: Path, moment: Moment) -> Path:
    """Move a damaged database and its WAL out of the way, untouched, for a technician. The file
    itself goes first: without its WAL it could pass for an older, sound copy."""
    target = path.with_name(f"{path.name}.damaged-{moment.boot}-{moment.mono_ms}")
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(target.with_name(target.name + suffix))
    return target


def finish_set_aside(path: Path) -> Path | None:
    """The file that was set aside last, or None. Where a start was killed in the middle of that,
    the rest follows: a WAL left behind would be thrown away by the next file of that name."""
    found = [
        aside
        for aside in path.parent.glob(f"{path.name}.damaged-*")
        if not aside.name.endswith(("-wal", "-shm", ".lock"))
    ]
    if not found:
        return None
    newest = max(found, key=lambda aside: aside.stat().st_ctime_ns)
    if not path.exists():
        for suffix in ("-wal", "-shm"):
            rest = path.with_name(path.name + suffix)
            if rest.exists():
                rest.rename(newest.with_name(newest.name + suffix))
    return newest


def mark_unsound(path: Path) -> None:
    """Remember that this very file is damaged, for the next start, where nobody has it open."""
    try:
        path.with_name(path.name + ".unsound").write_text(str(file_id(path)))
    except OSError as error:
        raise DeviceFault(f"{path}: {error.strerror}; check folder and disk") from error


def is_marked_unsound(path: Path) -> bool:
    try:
        return path.with_name(path.name + ".unsound").read_text() == str(file_id(path))
    except OSError:
        return False
