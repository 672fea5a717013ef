"""Goal: a database or list that cannot be relied on is found, and looking changes none of them.

Method: as in `test_doctor.py`: real files, damaged in one place at a time.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge import config
from edge.messages import VersionMark
from edge.model import Station
from edge.offline_cache.apply import Pictures, picture_path
from edge.offline_cache.picture import PictureMeta, write_meta
from edge.offline_cache.record import open_journal
from edge.offline_cache.store import SCHEMA_VERSIONS, FileKind, Writer
from provisioning.checks.finding import State
from provisioning.cli import GOOD
from provisioning.doctor import exit_code
from tests.provisioning.doctor.looking import CLOCK, look, worst
from tests.provisioning.enrolment_city import EnrolmentCity


@pytest.fixture(scope="session")
def databases(
    template: tuple[EnrolmentCity, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Databases with a first fact, and lists in force that were confirmed just now."""
    folder = tmp_path_factory.mktemp("databases")
    journal = open_journal(
        folder / "journal.db",
        device="gate-1",
        site="school-7",
        station=Station.ENTRANCE,
        machine="m",
        moment=CLOCK.moment(),
    )
    journal.close()
    writer = Writer(folder / "sync.db", FileKind.SYNC)
    with pictures_in(folder, writer) as put:
        for scope in ("school-7/people", "school-7/settings"):
            put(scope)
    writer.close()
    return folder


@pytest.fixture
def stored(installed: Path, databases: Path) -> Path:
    shutil.copytree(databases, installed.parent / "state", dirs_exist_ok=True)
    return installed


@contextmanager
def pictures_in(folder: Path, writer: Writer) -> Iterator[Callable[[str], None]]:
    pictures = Pictures(folder, writer)

    def put(scope: str) -> None:
        path = picture_path(folder, scope, 1)
        file = Writer(path, FileKind.PICTURE)
        with file.transaction() as db:
            write_meta(
                db,
                PictureMeta(
                    version=VersionMark(1, 7),
                    set_digest=bytes(32),
                    identifier_key_version=1,
                    seal_key_version=1,
                    vector=(),
                ),
            )
        file.close()
        pictures.put_in_force(path, scope, 1, int(time.time() * 1000), CLOCK.moment())

    yield put
    pictures.close()


def test_sound_databases_are_read_and_not_written(stored: Path) -> None:
    state = stored.parent / "state"
    before = {path.name: path.read_bytes() for path in state.glob("*.db")}
    findings = look(stored, "databases")
    assert {finding.state for finding in findings} == {State.OK}, findings
    text = " ".join(finding.found for finding in findings)
    version = SCHEMA_VERSIONS[FileKind.JOURNAL]
    assert "1 facts wait" in text and "version 1.7" in text and f"sound, schema {version}" in text
    assert {path.name: path.read_bytes() for path in state.glob("*.db")} == before


def test_databases_can_be_examined_while_their_writer_writes(stored: Path) -> None:
    settings = config.load(stored)
    writer = Writer(settings.sync_path, FileKind.SYNC)
    with writer.transaction() as db:
        db.execute("INSERT OR REPLACE INTO counters VALUES ('x', 1)")
        findings = look(stored, "databases")
    writer.close()
    assert {finding.state for finding in findings} == {State.OK}, findings


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[2048 : len(data)] = b"\xa5" * (len(data) - 2048)
    path.write_bytes(data)


def _damage_inside(path: Path) -> None:
    """One table's page alone: the file opens, and most of it can be read."""
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xa5" * 4096 + data[12288:])


def _no_database(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("name", "hurt", "found", "do"),
    [
        ("journal.db", _damage, "damaged", "keep a copy"),
        ("journal.db", _damage_inside, "damaged", "keep a copy"),
        ("picture-school-7-people-1.db", _damage_inside, "damaged", "fetches the list again"),
        ("journal.db", _no_database, "damaged", "keep a copy"),
        ("journal.db", _newer, "schema version 9", "install the release"),
        ("sync.db", _damage, "damaged", "move the file away"),
        ("sync.db", _no_database, "damaged", "move the file away"),
        ("picture-school-7-people-1.db", _damage, "damaged", "fetches the list again"),
        ("picture-school-7-people-1.db", _remove, "though it is in force", "fetches the list"),
    ],
)
def test_a_broken_database_is_found(
    stored: Path, name: str, hurt: Callable[[Path], None], found: str, do: str
) -> None:
    path = stored.parent / "state" / name
    for beside in path.parent.glob(f"{name}-*"):
        beside.unlink()
    hurt(path)
    finding = worst(look(stored, "databases"), name, found)
    assert finding.state is State.WRONG and do in finding.do


def test_a_device_that_never_ran_wants_a_start(installed: Path) -> None:
    findings = look(installed, "databases")
    assert "start edge" in worst(findings, "journal.db", "not there yet").do
    assert "start sync" in worst(findings, "sync.db", "not there yet").do
    assert exit_code(findings) == GOOD


def test_a_scope_without_a_list_is_wrong(stored: Path) -> None:
    settings = config.load(stored)
    writer = Writer(settings.sync_path, FileKind.SYNC)
    with writer.transaction() as db:
        db.execute("DELETE FROM pictures WHERE scope = 'school-7/people'")
    writer.close()
    finding = worst(look(stored, "databases"), "school-7/people", "no list yet")
    assert finding.state is State.WRONG and "doctor broker" in finding.do


def test_an_old_list_wants_attention(stored: Path) -> None:
    findings = look(stored, "databases", now=datetime.now(UTC) + timedelta(hours=30))
    finding = worst(findings, "school-7/people", "30 h ago")
    assert finding.state is State.ATTENTION and "blocked since" in finding.do


def test_a_broken_chain_is_found(stored: Path) -> None:
    settings = config.load(stored)
    writer = Writer(settings.journal_path, FileKind.JOURNAL)
    with writer.transaction() as db:
        db.execute("UPDATE lives SET head = head + 5")
    writer.close()
    assert worst(look(stored, "databases"), "its head says 6").state is State.WRONG


def test_a_long_outbox_and_a_full_disk_are_told(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioning.checks.databases.WAITING_MAX", 0)
    monkeypatch.setattr(
        "provisioning.checks.databases.shutil.disk_usage", lambda _: SimpleNamespace(free=5 << 20)
    )
    findings = look(stored, "databases")
    assert worst(findings, "1 facts wait").state is State.ATTENTION
    assert worst(findings, "5 MiB free").state is State.WRONG
