"""Goal: the updater reads what it needs of databases of any schema, and never writes them.

Method: files as sync makes them, while their writer has them open; one of a later schema; one that
is no database; none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.model import DeviceFault
from edge.offline_cache import marks
from edge.offline_cache.for_updates import newest_root, schema_versions
from edge.offline_cache.store import SCHEMA_VERSIONS, FileKind, Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sync.db"


def test_the_newest_root_is_read_beside_its_writer(path: Path) -> None:
    writer = Writer(path, FileKind.SYNC)
    try:
        assert newest_root(path) is None
        for version in (2, 10, 9):
            marks.store_root(writer, version, b"document %d" % version)
        assert newest_root(path) == b"document 10"
        assert schema_versions({FileKind.SYNC: path}) == {"sync": SCHEMA_VERSIONS[FileKind.SYNC]}
    finally:
        writer.close()
    assert newest_root(path) == b"document 10"


def test_a_later_schema_is_told_and_not_refused(path: Path, tmp_path: Path) -> None:
    writer = Writer(path, FileKind.SYNC)
    with writer.transaction() as db:
        db.execute("PRAGMA user_version = 99")
    missing = tmp_path / "journal.db"
    try:
        assert schema_versions({FileKind.SYNC: path, FileKind.JOURNAL: missing}) == {"sync": 99}
    finally:
        writer.close()
    assert not missing.exists()


def test_what_is_no_database_is_said(path: Path) -> None:
    path.write_bytes(b"no database at all, and long enough to be looked at" * 100)
    with pytest.raises(DeviceFault, match="doctor"):
        schema_versions({FileKind.SYNC: path})
    with pytest.raises(DeviceFault):
        newest_root(path)
    assert newest_root(path.with_name("none.db")) is None
