"""The city's database: opens it, begins and ends transactions, keeps facts and their cursors.

One process writes, on one thread: the service's worker. Everything one message changes (fact,
cursor, ledger, feed) is one transaction. Other modules of the city run their own statements
through `execute` and `rows` inside a transaction that was begun here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.messages import Gap, Stream
from edge.model import SetupProblem
from hil.city.schema import SCHEMA_VERSION, TABLES

BUSY_MS: Final = 5_000  # Our choice: a person with a shell on the file ends sooner than this.
FACTS_PAGE: Final = 500  # Our choice: at most 8 MiB of facts in one answer.
ALARM_TEXT_MAX: Final = 400  # Our choice: a line for a person; device input is in it.


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamKey:
    """One numbered chain: what a cursor belongs to."""

    device: str
    stream: Stream
    epoch: str

    @property
    def parts(self) -> tuple[str, str, str]:
        return self.device, self.stream.value, self.epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Up to where the city has a stream, and the digest of the fact (or gap) there."""

    up_to: int
    digest: str


class Store:
    """The open file. Use it from one thread only."""

    def __init__(self, path: Path | str) -> None:
        """Opens or makes the file; `SetupProblem` when it is of another version or no database."""
        self.connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        self._depth = 0
        try:
            self._prepare(path)
        except (sqlite3.DatabaseError, SetupProblem) as error:
            self.connection.close()
            raise SetupProblem(f"{path}: {error}; move the file away to begin anew") from error

    def _prepare(self, path: Path | str) -> None:
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with self.transaction():
                for statement in TABLES.split(";"):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise SetupProblem(f"schema version {version}, this city reads {SCHEMA_VERSION}")

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing. Inside another one it is a savepoint."""
        depth = self._depth
        name = f"s{depth}"
        self.connection.execute("BEGIN IMMEDIATE" if depth == 0 else f"SAVEPOINT {name}")
        self._depth = depth + 1
        try:
            yield
            self._depth = depth
            self.connection.execute("COMMIT" if depth == 0 else f"RELEASE {name}")
        except BaseException:
            self._depth = depth
            # A full disk may have rolled everything back already.
            if self.connection.in_transaction:
                if depth == 0:
                    self.connection.execute("ROLLBACK")
                else:
                    self.connection.execute(f"ROLLBACK TO {name}")
                    self.connection.execute(f"RELEASE {name}")
            raise

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """One writing statement, inside a transaction."""
        assert self._depth > 0, "writes belong to a transaction"
        return self.connection.execute(statement, values)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement, values).fetchall()

    def one(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self.connection.execute(statement, values).fetchone()
        return row

    # ------------------------------------------------------------------ facts and cursors

    def cursor(self, key: StreamKey) -> Cursor:
        row = self.one(
            "SELECT up_to, digest FROM cursor WHERE device = ? AND stream = ? AND epoch = ?",
            key.parts,
        )
        return Cursor(up_to=0, digest="") if row is None else Cursor(up_to=row[0], digest=row[1])

    def move_cursor(self, key: StreamKey, cursor: Cursor, now_ms: int) -> None:
        self.execute(
            "INSERT INTO cursor VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " up_to = excluded.up_to, digest = excluded.digest, moved_ms = excluded.moved_ms"
            " WHERE excluded.up_to > cursor.up_to",
            (*key.parts, cursor.up_to, cursor.digest, now_ms),
        )

    def digest_at(self, key: StreamKey, sequence: int) -> str | None:
        """Of the fact held under this number; None for one that was declared lost."""
        row = self.one(
            "SELECT digest FROM fact"
            " WHERE device = ? AND stream = ? AND epoch = ? AND sequence = ?",
            (*key.parts, sequence),
        )
        return None if row is None else str(row[0])

    def add_fact(
        self, key: StreamKey, sequence: int, *, kind: str, digest: str, data: bytes, now_ms: int
    ) -> None:
        self.execute(
            "INSERT INTO fact VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*key.parts, sequence, kind, digest, data, now_ms),
        )

    def facts(self, key: StreamKey, after: int) -> list[bytes]:
        """The bytes as they came, in order; at most a page."""
        found = self.rows(
            "SELECT bytes FROM fact WHERE device = ? AND stream = ? AND epoch = ?"
            " AND sequence > ? ORDER BY sequence LIMIT ?",
            (*key.parts, after, FACTS_PAGE),
        )
        return [row[0] for row in found]

    def add_gap(self, key: StreamKey, gap: Gap, *, source: int, counts: str, now_ms: int) -> None:
        self.execute(
            "INSERT OR IGNORE INTO gap VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*key.parts, source, gap.target, gap.digest, counts, now_ms),
        )

    def add_fork(
        self, key: StreamKey, sequence: int, *, digest: str, data: bytes, now_ms: int
    ) -> None:
        """The same again is one row: a device may send it at every connection."""
        self.execute(
            "INSERT OR IGNORE INTO fork VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*key.parts, sequence, digest, data, now_ms),
        )

    def add_suspense(self, key: StreamKey, sequence: int, *, reason: str, now_ms: int) -> None:
        self.execute(
            "INSERT OR IGNORE INTO suspense (device, stream, epoch, sequence, reason, received_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (*key.parts, sequence, reason, now_ms),
        )

    def alarm(self, device: str, what: str, text: str, now_ms: int) -> None:
        """Something a person should look at; the same again only counts."""
        self.execute(
            "INSERT INTO alarm VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET"
            " times = times + 1, last_ms = excluded.last_ms, text = excluded.text",
            (device, what, text[:ALARM_TEXT_MAX], now_ms, now_ms),
        )

    # ------------------------------------------------------------------------------- meta

    def meta(self, name: str) -> str | None:
        row = self.one("SELECT value FROM meta WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
