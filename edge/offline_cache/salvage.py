"""Facts out of a damaged journal that was set aside, into the one that follows it.

The damaged file is read and never written. What can still be read keeps its own epoch and numbers,
so it leaves as it would have left; what cannot is a hole on record, and the uplink declares it.
Some hundred facts a step: taps have their turn in between.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from edge.messages import (
    NO_DIGEST,
    FireFact,
    LockdownFact,
    OrderAnswer,
    OrderOutcome,
    Stream,
    Tamper,
    decode_fact_key,
    digest_of,
)
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.offline_cache import lane_standing, outbox, standing
from edge.offline_cache.contents import copy_under_new_contents, is_readable, was_made_at_once
from edge.offline_cache.outbox import Life
from edge.offline_cache.record import Journal, decode_known
from edge.offline_cache.store import FileKind, open_reader
from edge.offline_cache.till_books import add_to_tail

STEP_ROWS: Final = 200  # Our choice: some ms on a Pi.
OLDER: Final = 1 << 40  # So far below their own ids: every salvaged life is older than any later.
# What is made anew for the new file, or comes with the facts. Every other table, and every other
# note, is something that still stands: a lockdown, answered orders, sides, cards' counters.
OWN_TABLES: Final = (
    *("meta", "lives", "facts", "tail", "tail_items", "gaps", "milestones", "parts"),
)
OWN_NOTES: Final = ("machine", "store", "damaged", "salvage", "probe", "why")
STANDING_KINDS: Final = ("fire", "tamper", "lockdown", "order_answer", "order_outcome")


def keep_standing(damaged: Path, target: sqlite3.Connection) -> None:
    """At once, inside the caller's transaction: what still stands and can be read. What cannot is
    left out; nothing here fails."""
    with suppress(CorruptData, DeviceFault, SetupProblem, sqlite3.Error):
        opened = _open(damaged)
        if opened is None:
            return
        source, copied = opened
        try:
            if not copied or was_made_at_once(source):
                _keep_standing(source, target)
        finally:
            source.close()
            _copy_of(damaged).unlink(missing_ok=True)


def _copy_of(damaged: Path) -> Path:
    return damaged.with_name(damaged.name + ".contents")


def _open(damaged: Path) -> tuple[sqlite3.Connection, bool] | None:
    """The damaged file, or where its own contents are gone, a copy of it under a new file's."""
    db: sqlite3.Connection | None = None
    with suppress(CorruptData):
        db = open_reader(damaged, FileKind.JOURNAL)
        if db is None:
            return None
        if is_readable(db):
            return db, False
    if db is not None:
        db.close()
    copy, db = _copy_of(damaged), None
    try:
        if copy_under_new_contents(damaged, copy, FileKind.JOURNAL):
            db = open_reader(copy, FileKind.JOURNAL)
    finally:
        if db is None:
            copy.unlink(missing_ok=True)
    return None if db is None else (db, True)


def _keep_standing(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    names = target.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    tables = [name for (name,) in names if name not in OWN_TABLES and not name.startswith("_")]
    with suppress(sqlite3.Error):
        _retell(source, target)
    for table in ("meta", *tables):
        columns = target.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
        listed = ", ".join(f'"{name}"' for (name,) in columns)
        with suppress(sqlite3.Error):
            rows = source.execute(f'SELECT {listed} FROM "{table}"').fetchall()
            if table == "meta":
                rows = [row for row in rows if row[0] not in OWN_NOTES]
            marks = ", ".join("?" * len(columns))
            target.executemany(f'INSERT OR IGNORE INTO "{table}" VALUES ({marks})', rows)


def _retell(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Fires, housings and lockdowns where their notes cannot be read: as the facts leave them."""
    with suppress(sqlite3.Error):
        source.execute("SELECT key, value FROM meta").fetchall()
        return
    marks = ", ".join("?" * len(STANDING_KINDS))
    found = f"SELECT body FROM facts WHERE kind IN ({marks}) ORDER BY life, sequence"
    ordered: dict[int, bool] = {}
    for (body,) in source.execute(found, STANDING_KINDS):
        with suppress(CorruptData):
            match decode_known(body):
                case FireFact() | Tamper() as fact:
                    lane_standing.note(target, fact)
                case LockdownFact() as fact:
                    standing.set_lockdown(target, fact.on)
                case OrderAnswer(accepted=True, order="lockdown_on" | "lockdown_off") as fact:
                    ordered[fact.counter] = fact.order == "lockdown_on"
                case OrderOutcome(done=True) as fact if fact.counter in ordered:
                    standing.set_lockdown(target, ordered[fact.counter])
                case _:
                    pass


class Salvage:
    """One damaged file. `step` until it says False; begun anew, it goes on where it was."""

    def __init__(self, journal: Journal, path: Path, city_has: Callable[[str], int]) -> None:
        self._journal = journal
        self._path = path
        self._city_has = city_has
        self._db: sqlite3.Connection | None = None
        self._lives: list[Life] = []
        self._tried = 0  # Of the life at hand: up to here it was read, or could not be.
        with suppress(CorruptData, DeviceFault, SetupProblem, sqlite3.Error):
            opened = _open(path)
            if opened is not None:
                self._db, _ = opened
                self._lives = _lives(self._db)

    def step(self) -> bool:
        """One bounded transaction. False when there is nothing left that can be read."""
        if self._db is not None and self._lives:
            self._import_some(self._lives[0])
            return True
        with self._journal.writer.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = 'salvage'")
        self.close()
        return False

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        _copy_of(self._path).unlink(missing_ok=True)

    def _import_some(self, old: Life) -> None:
        with self._journal.writer.transaction() as db:
            target = old.life - OLDER
            row = db.execute(
                "SELECT head, digest FROM lives WHERE life = ?", (target,)
            ).fetchone() or self._begin(db, old, target)
            head, digest = row
            first = max(self._tried, head) + 1
            last = min(old.head, first + STEP_ROWS - 1)
            for sequence in range(first, last + 1):
                body = self._read(old, sequence)
                if body is None:
                    continue
                key = decode_fact_key(body)
                if sequence > head + 1:  # What lies between could not be read.
                    _add_hole(db, target, head + 1, sequence - 1, key.previous)
                db.execute(
                    "INSERT INTO facts VALUES (?, ?, ?, ?)", (target, sequence, key.kind, body)
                )
                fact = decode_known(body)
                if fact is not None:
                    add_to_tail(db, fact, epoch=old.epoch, sequence=sequence)
                head, digest = sequence, digest_of(body)
            if last == old.head > head:
                _add_hole(db, target, head + 1, old.head, old.digest)
                head, digest = old.head, old.digest
            db.execute(
                "UPDATE lives SET head = ?, digest = ? WHERE life = ?", (head, digest, target)
            )
        self._tried = last
        if last == old.head:
            self._lives.pop(0)
            self._tried = 0

    def _begin(self, db: sqlite3.Connection, old: Life, target: int) -> tuple[int, str]:
        """The life's row: it holds what somebody may still need of it, and no more."""
        assert self._db is not None
        known = self._city_has(old.epoch) if old.closed_at is None else old.restated_to
        before = min(old.head, max(known, old.held_from - 1))
        digest: str | None = None
        with suppress(sqlite3.DatabaseError, CorruptData):
            digest = outbox.known_digest(self._db, old, before)
        after = NO_DIGEST if digest is None else digest
        db.execute(
            "INSERT INTO lives (life, stream, epoch, head, digest, held_from, held_after,"
            " closed_at, restated_to) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(target, old.stream.value, old.epoch, before, after, before + 1, after),
                *(old.closed_at, old.restated_to),
            ),
        )
        return before, after

    def _read(self, old: Life, sequence: int) -> bytes | None:
        """One fact, if it can be read and is the one that its place says."""
        assert self._db is not None
        try:
            row = self._db.execute(
                "SELECT body FROM facts WHERE life = ? AND sequence = ?", (old.life, sequence)
            ).fetchone()
            if row is None or not isinstance(row[0], bytes):
                return None
            body: bytes = row[0]
            key = decode_fact_key(body)
        except (sqlite3.DatabaseError, CorruptData):
            return None
        mine = (self._journal.device, old.stream.value, old.epoch, sequence)
        return body if (key.device, key.stream, key.epoch, key.sequence) == mine else None


def _lives(db: sqlite3.Connection) -> list[Life]:
    """As the file says; where it cannot say any more, as its facts do."""
    with suppress(CorruptData, DeviceFault, sqlite3.Error):
        return outbox.lives(db, Stream.MAIN)
    found = []
    rows = db.execute("SELECT life, min(sequence), max(sequence) FROM facts GROUP BY life")
    for life, first, last in rows.fetchall():
        (body,) = db.execute(
            "SELECT body FROM facts WHERE life = ? AND sequence = ?", (life, last)
        ).fetchone()
        found.append(
            Life(
                life=life,
                stream=Stream.MAIN,
                epoch=decode_fact_key(body).epoch,
                head=last,
                digest=digest_of(body),
                held_from=first,
            )
        )
    return found


def _add_hole(db: sqlite3.Connection, life: int, source: int, target: int, digest: str) -> None:
    counts = json.dumps({"unknown": target - source + 1})
    db.execute("INSERT INTO gaps VALUES (?, ?, ?, ?, ?)", (life, source, target, digest, counts))
