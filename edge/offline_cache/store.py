"""Opens the files, sets their pragmas, and is the one place where a transaction begins and ends.

Every file has one writing connection, held under a lock file (two writers and SQLite's WAL-reset
corruption are then impossible, and a second `edge` on the same folder is told so). Readers are
read-only, without mmap; none of their transactions outlives one batch.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager, suppress
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

from edge.model import CorruptData, DeviceFault, SetupProblem

FILE_MODE: Final = 0o660  # house.md: a WAL reader of the group needs to write in the folder.
BUSY_MS: Final = 2_000  # Our choice: only a checkpoint can be in the way, and only for moments.
CACHE_KIB: Final = 2_048  # Our choice: 512 pages; lookups touch four.
JOURNAL_SIZE_MAX: Final = 4 * 1024 * 1024  # Our choice: a WAL shrinks back to this.
DAMAGED_CODES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

Connection = sqlite3.Connection  # For the types of those who may not know SQL.


@unique
class FileKind(StrEnum):
    JOURNAL = "journal"
    SYNC = "sync"
    PICTURE = "picture"


SCHEMA_VERSIONS: Final = {FileKind.JOURNAL: 3, FileKind.SYNC: 3, FileKind.PICTURE: 1}


class DamagedFile(CorruptData):
    """A database whose pages cannot be read any more: set aside at the next start."""


class Writer:
    """The one writing connection of a file. Close it to let the next one in."""

    def __init__(self, path: Path, kind: FileKind, *, synchronous: str = "FULL") -> None:
        """Open or create. `SetupProblem` when another process writes it, `CorruptData` when it is
        no database of ours, `DeviceFault` when the disk will not have it."""
        self.path = path
        lock = lock_file(path)
        try:
            self.db = _connect(path, kind, synchronous)
        except BaseException:
            os.close(lock)
            raise
        self._lock: int | None = lock

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on disk when it ends. A disk that refuses is a `DeviceFault`."""
        assert not self.db.in_transaction, "a transaction ends before the next begins"
        with telling(self.path):
            try:
                self.db.execute("BEGIN IMMEDIATE")
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                _roll_back(self.db)
                raise

    def checkpoint(self) -> None:
        """Everything into the main file; the WAL is empty afterwards unless a reader is in it."""
        with telling(self.path):
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Let go of file and lock; a second call does nothing."""
        self.db.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


class telling(ContextDecorator):
    """What SQLite says, as the caller can go on from it: `DeviceFault` when the disk refused,
    `CorruptData` when what the file holds, or was to hold, is not what it should be.

    A class, for a tap enters it several times, and a generator takes three times as long.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            _tell(error, self._path)


class reading:
    """One unchanging view of a file for a few reads. Errors as `telling` gives them."""

    __slots__ = ("_db",)

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        with telling():
            self._db.execute("BEGIN")
        return self._db

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        _roll_back(self._db)
        if error is not None:
            _tell(error, None)


def _tell(error: BaseException, path: Path | None) -> None:
    """Raise what an error of SQLite means; do nothing about any other."""
    place = "a database of this station" if path is None else str(path)
    if isinstance(error, sqlite3.OperationalError):
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # Such as a table that is not there.
            raise CorruptData(f"{place}: {error}") from error
        raise DeviceFault(f"{place}: cannot be used: {error}; check the disk") from error
    if isinstance(error, sqlite3.DatabaseError | OverflowError):
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED_CODES:
            raise DamagedFile(f"{place}: {error}") from error
        raise CorruptData(f"{place}: {error}") from error


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        with suppress(sqlite3.Error):  # The first error is the one to tell.
            db.execute("ROLLBACK")


def look_over(db: Connection) -> tuple[int, str]:
    """Schema version of an open file, and what SQLite finds wrong with it ("" when whole)."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    problems = [str(row[0]) for row in db.execute("PRAGMA quick_check(3)")]
    return version, "" if problems == ["ok"] else " ".join(problems[0].split())


def open_reader(path: Path, kind: FileKind) -> sqlite3.Connection | None:
    """A read-only connection, or None while its writer has not made the file yet.

    `DeviceFault` when it is there and cannot be read, `CorruptData` when it is no database,
    `SetupProblem` when its schema is more than one version away.
    """
    if not path.exists():
        return None
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if db is not None:
            db.close()
        if not isinstance(error, sqlite3.OperationalError):
            raise CorruptData(f"{path}: {error}") from error
        in_the_making = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
        if in_the_making or not path.exists():
            return None
        raise DeviceFault(f"{path}: cannot be read: {error}; check its folder's mode") from error
    if version == 0:
        db.close()
        return None
    if abs(version - SCHEMA_VERSIONS[kind]) > 1:
        db.close()
        raise SetupProblem(
            f"{path}: schema version {version}, this software reads {SCHEMA_VERSIONS[kind]} ± 1; "
            "install the release that fits"
        )
    return db


def file_id(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that took its name: a reader of one that was set aside would
    read it for ever."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def lock_file(path: Path) -> int:
    """A descriptor that holds the file's lock until it is closed. `SetupProblem` when another
    holds it, `DeviceFault` when the folder takes no lock."""
    beside = path.with_name(path.name + ".lock")
    try:
        _make(beside)
        descriptor = os.open(beside, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceFault(f"{beside}: {error.strerror}; check folder and disk") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SetupProblem(
            f"{path}: another process is writing it; is the agent running twice? See "
            '"moskvenok status"'
        ) from error
    return descriptor


def _make(path: Path) -> None:
    """Create a file of our mode, whatever the umask. SQLite gives `-wal` and `-shm` the mode of
    the file beside them, and a reader of the group has to write the latter. A file that is there
    is not opened: closing it again would drop the locks SQLite holds on it in this process."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
    if stat.S_IMODE(path.stat().st_mode) != FILE_MODE:
        with suppress(PermissionError):  # Another of the group made it; it lets us write.
            path.chmod(FILE_MODE)


def _connect(path: Path, kind: FileKind, synchronous: str) -> sqlite3.Connection:
    try:
        _make(path)
    except OSError as error:
        raise DeviceFault(f"{path}: {error.strerror}; check folder and disk") from error
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise SetupProblem(f"{path}: no WAL on this file system; move the state folder")
            db.execute(f"PRAGMA synchronous = {synchronous}")
            db.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_MAX}")
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            db.execute("PRAGMA mmap_size = 0")
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSIONS[kind]:
                raise SetupProblem(
                    f"{path}: schema version {version} is newer than this software "
                    f"({SCHEMA_VERSIONS[kind]}); install the newer release again"
                )
            if version < SCHEMA_VERSIONS[kind]:
                from edge.offline_cache.migrations import migrate  # Slow, and rarely needed.

                migrate(db, kind)
        except BaseException:
            db.close()
            raise
    except sqlite3.OperationalError as error:
        raise DeviceFault(f"{path}: cannot open: {error}; check folder and disk") from error
    except sqlite3.DatabaseError as error:
        raise CorruptData(f"{path}: not a database of ours: {error}") from error
    return db
