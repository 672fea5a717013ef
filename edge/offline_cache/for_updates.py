"""What the updater asks of the station's databases, read-only and of any release's schema: their
versions, and the newest root document.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edge.model import DeviceFault
from edge.offline_cache.store import BUSY_MS, FileKind


def schema_versions(files: dict[FileKind, Path]) -> dict[str, int]:
    """Kind -> version of what is there. A file that no process has made yet is left out."""
    found = {}
    for kind, path in files.items():
        with _reading(path) as db:
            version = 0 if db is None else int(db.execute("PRAGMA user_version").fetchone()[0])
        if version:
            found[kind.value] = version
    return found


def newest_root(path: Path) -> bytes | None:
    """The newest root document that sync has taken since the enrolment."""
    with _reading(path) as db:
        if db is None:
            return None
        row = db.execute("SELECT document FROM roots ORDER BY version DESC LIMIT 1").fetchone()
    return None if row is None else bytes(row[0])


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    if not path.exists():
        yield None
        return
    try:
        place = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(place, uri=True, isolation_level=None)) as db:
            db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            yield db
    except sqlite3.Error as error:
        raise DeviceFault(
            f'{path}: cannot be read: {error}; run "moskvenok doctor databases"'
        ) from error
