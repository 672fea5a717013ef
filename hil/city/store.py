"""The city's books: begins and ends transactions, keeps facts and their cursors.

One process writes a site's books, on one thread: the worker that has the site. Everything one
message changes (fact, cursor, ledger, feed) is one transaction. Other modules of the city run
their own statements through `execute` and `rows`; what kind of database it is, `database.py` knows
alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.messages import Gap, Stream
from hil.city.database import Database, PostgresDatabase, Result, SqliteDatabase, is_url
from hil.city.schema import SCHEMA_VERSION, TABLES

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
    """One site's books. Use them from one thread only."""

    def __init__(self, place: Path | str, *, schema: str = "city") -> None:
        """`place` is a file, `:memory:`, or a URL of PostgreSQL, where `schema` names the part.

        `SetupProblem` when it cannot be opened or is of another version.
        """
        self.database: Database
        if is_url(place):
            self.database = PostgresDatabase(str(place), schema)
        else:
            self.database = SqliteDatabase(place)
        self.trouble = self.database.trouble  # The disk or the server, not the statement.
        self._depth = 0
        self.database.prepare(TABLES, SCHEMA_VERSION)

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing. Inside another one it is a savepoint."""
        depth, database = self._depth, self.database
        name = f"s{depth}"
        if depth == 0:
            database.begin()
        else:
            database.run(f"SAVEPOINT {name}")
        self._depth = depth + 1
        try:
            yield
            self._depth = depth
            database.run("COMMIT" if depth == 0 else f"RELEASE SAVEPOINT {name}")
        except BaseException:
            self._depth = depth
            # A full disk may have rolled everything back already.
            if database.in_transaction:
                if depth == 0:
                    database.run("ROLLBACK")
                else:
                    database.run(f"ROLLBACK TO SAVEPOINT {name}")
                    database.run(f"RELEASE SAVEPOINT {name}")
            raise

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Result:
        """One writing statement, inside a transaction."""
        assert self._depth > 0, "writes belong to a transaction"
        return self.database.run(statement, values)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.database.run(statement, values).rows

    def one(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        found = self.database.run(statement, values).rows
        return found[0] if found else None

    # ------------------------------------------------------------------ facts and cursors

    def cursor(self, key: StreamKey) -> Cursor:
        row = self.one(
            "SELECT up_to, digest FROM cursor WHERE device = ? AND stream = ? AND epoch = ?",
            key.parts,
        )
        return Cursor(up_to=0, digest="") if row is None else Cursor(up_to=row[0], digest=row[1])

    def move_cursor(self, key: StreamKey, cursor: Cursor, now_ms: int) -> None:
        self.execute(
            "INSERT INTO cursor VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device, stream, epoch)"
            " DO UPDATE SET"
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
            "INSERT INTO gap VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*key.parts, source, gap.target, gap.digest, counts, now_ms),
        )

    def add_fork(
        self, key: StreamKey, sequence: int, *, digest: str, data: bytes, now_ms: int
    ) -> None:
        """The same again is one row: a device may send it at every connection."""
        self.execute(
            "INSERT INTO fork VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*key.parts, sequence, digest, data, now_ms),
        )

    def add_suspense(self, key: StreamKey, sequence: int, *, reason: str, now_ms: int) -> None:
        self.execute(
            "INSERT INTO suspense (device, stream, epoch, sequence, reason, received_ms)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*key.parts, sequence, reason, now_ms),
        )

    def alarm(self, device: str, what: str, text: str, now_ms: int) -> None:
        """Something a person should look at; the same again only counts."""
        self.execute(
            "INSERT INTO alarm VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT (device, what) DO UPDATE SET"
            " times = alarm.times + 1, last_ms = excluded.last_ms, text = excluded.text",
            (device, what, text[:ALARM_TEXT_MAX], now_ms, now_ms),
        )

    # ------------------------------------------------------------------------------- meta

    def meta(self, name: str) -> str | None:
        row = self.one("SELECT value FROM meta WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        self.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET"
            " value = excluded.value",
            (name, value),
        )
