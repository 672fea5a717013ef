"""The city's two kinds of database behind one small face: SQLite by default, PostgreSQL by URL.

Statements are written once, in words both understand: `?` for a value, `ON CONFLICT (…)` with its
columns, whole numbers of 64 bits. What differs (types, begin, how a schema is looked for) is here
and nowhere else. One connection, used by one thread. psycopg is imported only when a URL asks for
it.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from edge.model import SetupProblem

BUSY_MS: Final = 5_000  # Our choice: a person with a shell on the file ends sooner than this.
CONNECT_S: Final = 5  # Our choice: a database beside the city answers sooner, or is not there.
POSTGRES: Final = ("postgres://", "postgresql://")
SCHEMA_NAME: Final = re.compile(r"[a-z0-9_-]{1,60}")


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement gave back: its rows, and how many it changed."""

    rows: list[tuple[Any, ...]]
    changed: int


class Database(Protocol):
    """An open connection. `trouble` is what it raises when the fault is not the statement's."""

    trouble: tuple[type[Exception], ...]

    def run(self, statement: str, values: Sequence[Any] = ()) -> Result: ...

    def begin(self) -> None:
        """A transaction that may write; opens the connection again if it was lost."""
        ...

    @property
    def in_transaction(self) -> bool: ...

    def prepare(self, tables: str, version: int) -> None:
        """Makes the tables, or sees that they are of this version."""
        ...

    def copy_to(self, path: Path) -> None:
        """A backup of everything, whole."""
        ...

    def copy_from(self, path: Path) -> None:
        """Puts a backup in the place of everything."""
        ...

    def close(self) -> None: ...


def is_url(place: Path | str) -> bool:
    return isinstance(place, str) and place.startswith(POSTGRES)


def schema_of(path: Path) -> int | None:
    """The version of the tables in this file; None where there is no such file to read."""
    if not path.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0]) or None
    except sqlite3.DatabaseError:
        return None


class SqliteDatabase:
    """One file, in WAL, flushed at every commit."""

    trouble: tuple[type[Exception], ...] = (sqlite3.OperationalError,)

    def __init__(self, path: Path | str) -> None:
        self._place = str(path)
        self._connection = sqlite3.connect(
            self._place, isolation_level=None, check_same_thread=False
        )

    def prepare(self, tables: str, version: int) -> None:
        try:
            self._prepare(tables, version)
        except (sqlite3.DatabaseError, SetupProblem) as error:
            self.close()
            raise SetupProblem(
                f"{self._place}: {error}; move the file away to begin anew"
            ) from error

    def _prepare(self, tables: str, version: int) -> None:
        self.run("PRAGMA journal_mode = WAL")
        self.run("PRAGMA synchronous = FULL")
        self.run("PRAGMA foreign_keys = ON")
        self.run(f"PRAGMA busy_timeout = {BUSY_MS}")
        found = self.run("PRAGMA user_version").rows[0][0]
        if found == 0:
            self.begin()
            for statement in tables.split(";"):
                self.run(statement)
            self.run(f"PRAGMA user_version = {version}")
            self.run("COMMIT")
        elif found != version:
            raise SetupProblem(f"schema version {found}, this city reads {version}")

    def run(self, statement: str, values: Sequence[Any] = ()) -> Result:
        cursor = self._connection.execute(statement, values)
        return Result(cursor.fetchall(), cursor.rowcount)

    def begin(self) -> None:
        self.run("BEGIN IMMEDIATE")

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def copy_to(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.run("VACUUM INTO ?", (str(path),))

    def copy_from(self, path: Path) -> None:
        backup = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            backup.backup(self._connection)
        finally:
            backup.close()

    def close(self) -> None:
        self._connection.close()


class PostgresDatabase:
    """One schema of a PostgreSQL database: a site's. One city at a time holds it."""

    def __init__(self, url: str, schema: str) -> None:
        """`SetupProblem` when psycopg is missing, the server is not there, or a city is."""
        assert SCHEMA_NAME.fullmatch(schema)
        self._url, self._schema = url, schema
        try:
            self._psycopg: Any = importlib.import_module("psycopg")
        except ImportError as error:
            raise SetupProblem(
                "PostgreSQL needs psycopg; run: pip install 'moskvenok-edge[postgres]'"
            ) from error
        self.trouble: tuple[type[Exception], ...] = (self._psycopg.OperationalError,)
        try:
            self._connection = self._connect()
        except self._psycopg.Error as error:
            raise SetupProblem(
                f"PostgreSQL: {error}; look at --database".replace("\n", " ")
            ) from None

    def _connect(self) -> Any:
        connection = self._psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_S)
        # Two cities on one schema would both be right and together wrong.
        (alone,) = connection.execute(
            "SELECT pg_try_advisory_lock(hashtext(%s))", (f"moskvenok {self._schema}",)
        ).fetchone()
        if not alone:
            connection.close()
            raise SetupProblem(f"schema {self._schema}: another city is using it; end that one")
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
        connection.execute(f'SET search_path TO "{self._schema}"')
        return connection

    def prepare(self, tables: str, version: int) -> None:
        place = f'"{self._schema}".meta'
        if self.run("SELECT to_regclass(?)", (place,)).rows[0][0] is None:
            self.begin()
            for statement in _for_postgres(tables).split(";"):
                if statement.strip():
                    self.run(statement)
            self.run("INSERT INTO meta VALUES ('schema_version', ?)", (str(version),))
            self.run("COMMIT")
        found = self.run("SELECT value FROM meta WHERE name = 'schema_version'").rows
        if found != [(str(version),)]:
            self.close()
            raise SetupProblem(
                f"schema {self._schema}: of version {found}, this city reads {version};"
                " name another database"
            )

    def run(self, statement: str, values: Sequence[Any] = ()) -> Result:
        # Without values psycopg leaves the statement alone, `%` and all.
        given = [_value_for_postgres(value) for value in values] or None
        words = statement.replace("?", "%s") if given else statement
        cursor = self._connection.execute(words, given)
        rows = cursor.fetchall() if cursor.description is not None else []
        return Result([tuple(row) for row in rows], cursor.rowcount)

    def begin(self) -> None:
        if self._connection.closed or self._connection.broken:
            self._connection = self._connect()
        self.run("BEGIN")

    @property
    def in_transaction(self) -> bool:
        if self._connection.closed:
            return False
        return bool(self._connection.info.transaction_status)

    def copy_to(self, path: Path) -> None:
        raise SetupProblem("a PostgreSQL database is backed up with pg_dump; use that")

    def copy_from(self, path: Path) -> None:
        raise SetupProblem("a PostgreSQL database is restored with pg_restore; use that")

    def close(self) -> None:
        self._connection.close()


def _for_postgres(tables: str) -> str:
    """The same tables in PostgreSQL's types; a comment may hold no semicolon and goes away."""
    text = re.sub(r"--[^\n]*", "", tables)
    text = text.replace(
        "INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
    )
    text = re.sub(r"\bINTEGER\b", "BIGINT", text)
    text = re.sub(r"\bBLOB\b", "BYTEA", text)
    return re.sub(r"\)\s*STRICT\b", ")", text)


def _value_for_postgres(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return value.replace("\0", "�")  # PostgreSQL's text holds no NUL; a device's word may.
    return value
