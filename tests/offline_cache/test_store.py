"""Goal: one writer per file, whatever happens to it; all or nothing on the disk; an error that
says who can mend it.

Method: a second writer in this process and in another one; pragmas and modes as SQLite and the
kernel report them; a disk that is really full and really read-only (a small tmpfs, where root may
mount one), and one that SQLite is told is full; a process killed at every step of making a file.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.offline_cache import store
from edge.offline_cache.store import (
    SCHEMA_VERSIONS,
    FileKind,
    Writer,
    open_reader,
    reading,
)
from tests.support.killing import child_doing, killed_at, steps_until_done

KINDS = tuple(FileKind)
NEWER = SCHEMA_VERSIONS[FileKind.JOURNAL] + 1
NOBODY = 65_534


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def put(writer: Writer, key: str, value: str = "x") -> None:
    with writer.transaction() as db:
        db.execute("INSERT INTO meta VALUES (?, ?)", (key, value))


def keys(path: Path) -> list[str]:
    db = open_reader(path, FileKind.JOURNAL)
    assert db is not None
    try:
        return [row[0] for row in db.execute("SELECT key FROM meta ORDER BY key")]
    finally:
        db.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    made = Writer(path, FileKind.JOURNAL)
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 384 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=384k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


# ------------------------------------------------------------------------- one writer


def test_a_second_writer_in_this_process_is_a_setup_problem(writer: Writer, path: Path) -> None:
    for _ in range(2):
        with pytest.raises(SetupProblem, match="another process is writing it"):
            Writer(path, FileKind.JOURNAL)
    put(writer, "still")
    assert keys(path) == ["still"]


def test_a_second_writer_in_another_process_is_a_setup_problem(path: Path) -> None:
    def hold(pipe: int) -> None:
        held = Writer(path, FileKind.JOURNAL)
        put(held, "theirs")
        os.write(pipe, b"!")
        signal.pause()

    with child_doing(hold) as (_, pipe):
        assert os.read(pipe, 1) == b"!"
        with pytest.raises(SetupProblem):
            Writer(path, FileKind.JOURNAL)
        assert keys(path) == ["theirs"]
    # Killed without a word: its lock fell with it, what it committed stands.
    after = Writer(path, FileKind.JOURNAL)
    put(after, "ours")
    after.close()
    assert keys(path) == ["ours", "theirs"]


def test_a_closed_writer_lets_the_next_one_in(path: Path) -> None:
    for turn in range(3):
        writer = Writer(path, FileKind.JOURNAL)
        put(writer, f"turn {turn}")
        writer.close()
    assert len(keys(path)) == 3


def test_closing_twice_closes_nobody_elses_file(path: Path) -> None:
    writer = Writer(path, FileKind.JOURNAL)
    writer.close()
    others = [os.open(path, os.O_RDONLY) for _ in range(8)]  # Take the numbers that came free.
    writer.close()
    for descriptor in others:
        os.fstat(descriptor)
        os.close(descriptor)


@pytest.mark.parametrize("damage", ["no database", "newer"])
def test_a_writer_that_cannot_open_lets_go_of_all_it_took(path: Path, damage: str) -> None:
    if damage == "newer":
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA user_version = {NEWER}")
        db.close()
    else:
        path.write_bytes(b"no database at all, but long enough to have a header" * 100)
    before = open_descriptors()
    for _ in range(3):
        with pytest.raises((CorruptData, SetupProblem)):
            Writer(path, FileKind.JOURNAL)
    assert open_descriptors() == before
    path.unlink()
    Writer(path, FileKind.JOURNAL).close()


# ------------------------------------------------------------------ how it is opened


@pytest.mark.parametrize("kind", KINDS)
def test_a_writer_is_durable_and_maps_nothing(tmp_path: Path, kind: FileKind) -> None:
    writer = Writer(tmp_path / "a.db", kind)
    assert writer.db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert writer.db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    assert writer.db.execute("PRAGMA mmap_size").fetchone()[0] == 0
    tables = writer.db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
    ours = [(n, s) for n, s in tables.fetchall() if not n.startswith("_")]
    assert ours
    assert all("STRICT" in sql for _, sql in ours)
    writer.close()


def test_a_reader_reads_and_nothing_else(writer: Writer, path: Path) -> None:
    put(writer, "a")
    db = open_reader(path, FileKind.JOURNAL)
    assert db is not None
    assert db.execute("PRAGMA mmap_size").fetchone()[0] == 0
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM meta")
    with reading(db):
        assert db.execute("SELECT count(*) FROM meta").fetchone()[0] == 1
        put(writer, "b")  # A reader never stops the writer, and sees one unchanging view.
        assert db.execute("SELECT count(*) FROM meta").fetchone()[0] == 1
    assert db.execute("SELECT count(*) FROM meta").fetchone()[0] == 2
    db.close()


@pytest.mark.parametrize("umask", [0o000, 0o007, 0o022, 0o077])
def test_files_are_for_the_group_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        writer = Writer(tmp_path / "journal.db", FileKind.JOURNAL)
        put(writer, "a")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        writer.close()
    finally:
        os.umask(before)
    names = ("journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock")
    assert modes == dict.fromkeys(names, 0o660)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_of_the_group_reads_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    tmp_path.chmod(0o2770)
    os.chown(tmp_path, 0, NOBODY)
    for parent in tmp_path.parents[:3]:
        if parent.owner() == "root" and parent.is_relative_to("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    before = os.umask(0o022)
    writer = Writer(path, FileKind.JOURNAL)
    os.umask(before)
    put(writer, "a")

    def look() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        assert keys(path) == ["a"]

    child = os.fork()
    if child == 0:
        try:
            look()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    writer.close()


# ---------------------------------------------------------------------------- schemas


@pytest.mark.parametrize("found", range(1, 10))
def test_readers_accept_one_version_older_and_newer(
    path: Path, monkeypatch: pytest.MonkeyPatch, found: int
) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {found}")
    db.close()
    monkeypatch.setattr(store, "SCHEMA_VERSIONS", dict.fromkeys(FileKind, 5))
    if 4 <= found <= 6:
        opened = open_reader(path, FileKind.JOURNAL)
        assert opened is not None
        opened.close()
    else:
        with pytest.raises(SetupProblem, match=f"schema version {found}"):
            open_reader(path, FileKind.JOURNAL)


def test_a_writer_refuses_a_newer_schema_and_leaves_it_alone(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {NEWER}")
    db.close()
    with pytest.raises(SetupProblem, match="newer than this software"):
        Writer(path, FileKind.JOURNAL)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone()[0] == NEWER
    db.close()


def test_a_file_in_the_making_is_not_there_yet(path: Path) -> None:
    assert open_reader(path, FileKind.JOURNAL) is None
    path.touch()
    assert open_reader(path, FileKind.JOURNAL) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_killed_while_making_a_file_stops_nobody(tmp_path: Path, kind: FileKind) -> None:
    folders = iter(tmp_path / str(number) for number in range(1_000))
    folder = tmp_path

    def make() -> None:
        Writer(folder / "a.db", kind).close()

    whole = Writer(tmp_path / "whole.db", kind)
    schema = set(whole.db.execute("SELECT sql FROM sqlite_schema").fetchall())
    whole.close()
    step = 1
    while True:
        folder = next(folders)
        folder.mkdir()
        if not killed_at(step, make):
            break
        reader = open_reader(folder / "a.db", kind)  # Whole, or not there yet.
        if reader is not None:
            assert set(reader.execute("SELECT sql FROM sqlite_schema")) == schema
            reader.close()
        writer = Writer(folder / "a.db", kind)
        assert set(writer.db.execute("SELECT sql FROM sqlite_schema")) == schema
        writer.close()
        step += 1
    assert step > 10


# ----------------------------------------------------------------------- transactions


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, CorruptData, DeviceFault])
def test_a_transaction_is_all_or_nothing(
    writer: Writer, path: Path, error: type[BaseException]
) -> None:
    put(writer, "before")
    with pytest.raises(error), writer.transaction() as db:
        db.execute("INSERT INTO meta VALUES ('half', 'x')")
        raise error
    assert keys(path) == ["before"]
    put(writer, "after")
    assert keys(path) == ["after", "before"]


def test_killed_anywhere_in_a_transaction_leaves_all_or_nothing(path: Path) -> None:
    Writer(path, FileKind.JOURNAL).close()

    def two() -> None:
        writer = Writer(path, FileKind.JOURNAL)
        for _ in range(3):
            with writer.transaction() as db:
                number = db.execute("SELECT count(*) FROM meta").fetchone()[0]
                db.execute("INSERT INTO meta VALUES (?, '')", (f"{number:03d} left",))
                db.execute("INSERT INTO meta VALUES (?, '')", (f"{number:03d} right",))
        writer.close()

    counts = {0}
    for _ in steps_until_done(two):
        counts.add(len(keys(path)))
        assert len(keys(path)) % 2 == 0
    assert len(counts) > 3  # Some kills came after a commit.


def test_what_contradicts_the_schema_is_corrupt_data(writer: Writer, path: Path) -> None:
    put(writer, "a")
    for key, value in (("a", "again"), ("b", None), ("c", 2**63)):
        with pytest.raises(CorruptData), writer.transaction() as db:
            db.execute("INSERT INTO meta VALUES ('half', '')")
            db.execute("INSERT INTO meta VALUES (?, ?)", (key, value))
    assert keys(path) == ["a"]


def test_a_transaction_inside_another_is_a_mistake_of_ours(writer: Writer, path: Path) -> None:
    with writer.transaction() as db:
        db.execute("INSERT INTO meta VALUES ('outer', '')")
        with pytest.raises(AssertionError), writer.transaction():
            pass
    assert keys(path) == ["outer"]


def test_a_reading_ends_on_every_way_out(writer: Writer) -> None:
    with pytest.raises(ValueError), reading(writer.db):
        raise ValueError
    with pytest.raises(CorruptData, match="no such table"), reading(writer.db) as db:
        db.execute("SELECT * FROM missing")
    assert not writer.db.in_transaction
    put(writer, "goes on")


# ------------------------------------------------------------------------- the disk


def test_a_database_that_may_not_grow_is_a_device_fault(writer: Writer, path: Path) -> None:
    put(writer, "before")
    pages = writer.db.execute("PRAGMA page_count").fetchone()[0]
    writer.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DeviceFault, match="full"), writer.transaction() as db:
        db.execute("INSERT INTO meta VALUES ('half', '')")
        for number in range(100):
            db.execute("INSERT INTO meta VALUES (?, ?)", (f"big {number}", "x" * 4_000))
    assert keys(path) == ["before"]
    writer.db.execute("PRAGMA max_page_count = 1000000")
    put(writer, "after")
    assert keys(path) == ["after", "before"]


def test_a_full_disk_is_a_device_fault_and_nothing_is_half(small_disk: Path) -> None:
    path = small_disk / "journal.db"
    writer = Writer(path, FileKind.JOURNAL)
    put(writer, "before")
    ballast = small_disk / "ballast"
    stored = []
    with pytest.raises(DeviceFault, match="check the disk"):
        for number in range(1_000):
            with writer.transaction() as db:
                for half in ("left", "right"):
                    name = f"{number:04d} {half}"
                    db.execute("INSERT INTO meta VALUES (?, ?)", (name, "x" * 3_000))
            stored += [f"{number:04d} left", f"{number:04d} right"]
            with suppress(OSError):  # It may be the one that finds no room: the next will not.
                ballast.write_bytes(b"x" * 4_096 * min(number, 10))
    assert stored
    assert keys(path) == [*stored, "before"]
    with pytest.raises(DeviceFault):
        Writer(small_disk / "second.db", FileKind.JOURNAL)
    ballast.unlink()
    put(writer, "after")
    assert keys(path) == [*stored, "after", "before"]
    assert writer.db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    writer.close()


def test_a_read_only_disk_is_a_device_fault(small_disk: Path) -> None:
    path = small_disk / "journal.db"
    Writer(path, FileKind.JOURNAL).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("journal.db", "new.db"):
        with pytest.raises(DeviceFault, match="check folder and disk"):
            Writer(small_disk / name, FileKind.JOURNAL)


def test_a_folder_that_is_not_there_is_a_device_fault(tmp_path: Path) -> None:
    with pytest.raises(DeviceFault, match="check folder and disk"):
        Writer(tmp_path / "nowhere" / "journal.db", FileKind.JOURNAL)


def test_what_cannot_be_read_is_told_and_not_taken_for_missing(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(DeviceFault, match="cannot be read"):
        open_reader(tmp_path / "journal.db", FileKind.JOURNAL)


@pytest.mark.parametrize("content", [b"x" * 100, b"SQLite format 3\0" + b"\xff" * 4_080])
def test_what_is_no_database_is_corrupt_data(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CorruptData):
        Writer(path, FileKind.JOURNAL)
    with pytest.raises(CorruptData):
        open_reader(path, FileKind.JOURNAL)
    assert path.read_bytes() == content


def test_a_checkpoint_on_a_full_disk_is_a_device_fault(small_disk: Path) -> None:
    writer = Writer(small_disk / "journal.db", FileKind.JOURNAL)
    for number in range(4):
        put(writer, str(number), "x" * 12_000)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1_024)
    with pytest.raises(DeviceFault):
        writer.checkpoint()
    ballast.unlink()
    writer.checkpoint()
    assert (small_disk / "journal.db-wal").stat().st_size == 0
    writer.close()
