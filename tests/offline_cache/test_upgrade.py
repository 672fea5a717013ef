"""Goal: a release with a newer schema finds the files of the one before with all that waits in
them, and the two processes can be upgraded in any order: each reads the other's file one version
older or newer.

Method: files made by the former version's migrations alone, filled by the writer of today as if it
were that one; then today's processes on them, one by one. What the former version asked of a file
is kept here word by word and asked of today's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlite_utils import Database

from edge.messages import Stream
from edge.model import SetupProblem, Station
from edge.offline_cache import epochs, marks, migrations, outbox, store
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal, open_journal
from edge.offline_cache.store import FileKind, Writer, open_reader
from tests.city.sham import SITE, Sham, make_core
from tests.support.killing import steps_until_done
from tests.support.times import at
from tests.support.whole_device import Device, sold_minor

BACKLOG = 120
FORMER_VERSION_ASKS = {
    FileKind.JOURNAL: (
        "SELECT life, epoch, head, digest, held_from FROM lives WHERE stream = ? ORDER BY life",
        "SELECT value FROM meta WHERE key = ?",
        "SELECT kind, count(*) FROM facts WHERE kind <> ? GROUP BY 1",
    ),
    FileKind.SYNC: (
        "SELECT up_to FROM acks WHERE stream = ?",
        "SELECT generation, list_epoch, number, issued_utc_ms FROM pictures WHERE scope = ?",
        "SELECT counter, payload FROM orders WHERE counter > ? ORDER BY counter",
        "SELECT boot, mono_ms, utc_ms, floor_utc_ms FROM anchor WHERE boot <> ?",
        "SELECT scope, purpose, version, sealed FROM scope_keys WHERE scope = ?",
    ),
}
FIRST = {FileKind.JOURNAL: "m003_stations", FileKind.SYNC: "m003_stations_at_sync"}


def former_version(path: Path, kind: FileKind) -> None:
    """A new file as the former release made it."""
    path.parent.mkdir(exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    migrations.MIGRATIONS[kind].apply(Database(db), stop_before=FIRST[kind])
    db.execute("PRAGMA user_version = 2")
    db.close()


@contextmanager
def former_release(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files are opened as that release did."""
    with monkeypatch.context() as patch:
        patch.setitem(store.SCHEMA_VERSIONS, FileKind.JOURNAL, 2)
        patch.setitem(store.SCHEMA_VERSIONS, FileKind.SYNC, 2)
        yield


def version(path: Path) -> int:
    db = sqlite3.connect(path)
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    db.close()
    return found


@pytest.fixture
def backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Sham]:
    """A till's folder with facts that wait, and an enrolled device."""
    folder = tmp_path / "till"
    former_version(folder / "journal.db", FileKind.JOURNAL)
    former_version(folder / "sync.db", FileKind.SYNC)
    sham = Sham(make_core(tmp_path), "till-1")
    with former_release(monkeypatch):
        journal = Journal(folder / "journal.db", device="till-1", site=SITE)
        journal.open_epoch(
            at(), why="new_store", station=Station.TILL, meta={"machine": "board-1/card-1"}
        )
        for _ in range(BACKLOG):
            with journal.recording() as tap:  # Its tables have no place for what came later.
                tap.add(sham.make_sale(1, 3, **tap.stamp(at())))
        journal.close()
        writer = Writer(folder / "sync.db", FileKind.SYNC)
        writer.db.execute("INSERT INTO acks VALUES ('main', ?, 0, 0)", (journal.epoch,))
        writer.close()
    return folder, sham


def test_both_upgraded_at_once_with_a_backlog(backlog: tuple[Path, Sham]) -> None:
    folder, sham = backlog
    device = Device(sham.core, folder, sham=sham)
    device.sell(3)
    device.run()
    device.assert_whole()
    assert [life.head for life in device.lives()] == [BACKLOG + 2]
    assert sold_minor(sham.core) == 3 * (BACKLOG + 1)
    device.stop()
    assert (version(folder / "journal.db"), version(folder / "sync.db")) == (3, 3)


def test_sync_upgraded_first_drains_the_older_journal(
    backlog: tuple[Path, Sham], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sham = backlog
    old = Device.__new__(Device)
    old.core, old.folder, old.machine, old.sham = sham.core, folder, "board-1/card-1", sham
    old.now_ms, old.counters, old.lose_acks = 0, {}, lambda _ack: False
    old.start_sync()
    assert version(folder / "journal.db") == 2
    old.upkeep.tick(old.moment(), up=False, why="")
    old.connect()
    assert old.uplink.depth()["main"] == 0
    assert sold_minor(sham.core) == 3 * BACKLOG
    old.stop_sync()
    assert version(folder / "journal.db") == 2


def test_edge_upgraded_first_reads_the_older_sync_db(backlog: tuple[Path, Sham]) -> None:
    folder, _ = backlog
    journal = open_journal(
        folder / "journal.db",
        device="till-1",
        site=SITE,
        station=Station.TILL,
        machine="board-1/card-1",
        moment=at(),
    )
    cache = Cache(folder, device="till-1", site=SITE, journal=journal.writer.db)
    view = cache.store_view()
    assert view is not None and view.store_id == ""
    assert view.seen == {journal.epoch: marks.Seen()}
    assert cache.acknowledged("main", journal.epoch) == 0
    assert version(folder / "sync.db") == 2
    [life] = outbox.lives(journal.writer.db, Stream.MAIN)
    assert outbox.chain_problem(journal.writer.db, life) == ""
    cache.close()
    journal.close()


def test_the_older_release_reads_what_the_newer_one_wrote(
    backlog: tuple[Path, Sham], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sham = backlog
    device = Device(sham.core, folder, sham=sham)
    device.run()
    device.stop()
    with former_release(monkeypatch):
        for kind, asks in FORMER_VERSION_ASKS.items():
            db = open_reader(folder / f"{kind}.db", kind)
            assert db is not None
            for ask in asks:
                db.execute(ask, ("main",)).fetchall()
            db.close()
        with pytest.raises(SetupProblem, match="newer than this software"):
            Writer(folder / "journal.db", FileKind.JOURNAL)


def test_killed_anywhere_in_the_upgrade_the_file_is_of_one_version(
    backlog: tuple[Path, Sham],
) -> None:
    folder, _ = backlog
    path = folder / "journal.db"
    whole = path.read_bytes()
    deaths = 0
    for _ in steps_until_done(lambda: Writer(path, FileKind.JOURNAL).close()):
        deaths += 1
        db = open_reader(path, FileKind.JOURNAL)
        assert db is not None
        [life] = outbox.lives(db, Stream.MAIN)
        assert outbox.chain_problem(db, life) == "" and life.head == BACKLOG + 1
        assert outbox.schema_version(db) in (2, 3)
        db.close()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(whole)
    assert deaths > 10


def test_a_second_writer_is_refused_whatever_file_it_is(tmp_path: Path) -> None:
    for kind in (FileKind.JOURNAL, FileKind.SYNC):
        path = tmp_path / f"{kind}.db"
        first = Writer(path, kind)
        with pytest.raises(SetupProblem, match="another process is writing"):
            Writer(path, kind)
        first.close()
        Writer(path, kind).close()
    first = epochs.open_store(tmp_path / "store.db", machine="m", moment=at())
    with pytest.raises(SetupProblem, match="another process is writing"):
        epochs.open_store(tmp_path / "store.db", machine="m", moment=at())
    first.close()
