"""What sync keeps of the city's word in `sync.db`: acknowledgements, time, orders, counters; and
the notes that the two processes leave for each other.

Each function is one transaction on sync's one writing connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge.messages import Stream, digest_of
from edge.model import Moment
from edge.offline_cache.outbox import schema_version
from edge.offline_cache.store import Writer, file_id, telling

ORDERS_KEPT_MAX = 1_000  # Our choice: a year of orders at a lively school.
CONNECTION = "connection"  # Its row among the counters.
SUSPECT = "suspect "  # In front of a scope: a note of the journal.
UTC_MS_END = 7_258_118_400_000  # Our choice: the year 2200; microseconds taken for ms lie beyond.


def acknowledged(writer: Writer) -> dict[tuple[Stream, str], int]:
    """(stream, epoch) -> up to which sequence the city has committed."""
    rows = writer.db.execute("SELECT stream, epoch, up_to FROM acks")
    return {(Stream(stream), epoch): up_to for stream, epoch, up_to in rows}


def acknowledge(writer: Writer, stream: Stream, epoch: str, up_to: int, *, head: int = 0) -> None:
    """Move a mark; back too, for a city that was restored from a backup asks again. `head` is how
    far the stream had come by now, and only grows: a file that shows less has lost its tail."""
    acknowledge_all(writer, [(stream, epoch, up_to, head)])


def acknowledge_all(writer: Writer, seen: Iterable[tuple[Stream, str, int, int]]) -> None:
    """As `acknowledge`, for several (stream, epoch, up_to, head) in one transaction."""
    with writer.transaction() as db:
        db.executemany(
            "INSERT INTO acks (stream, epoch, up_to, head) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET up_to = excluded.up_to, head = max(head, excluded.head)",
            [(stream.value, epoch, up_to, head) for stream, epoch, up_to, head in seen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What sync knows of one epoch of a stream."""

    acknowledged: int = 0
    head: int = 0  # How far it is known to have come.
    city_ahead: bool = False  # The city has other facts under its numbers, or more.


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreView:
    """What edge has to know of sync's file as a whole. "" while it says nothing of the kind."""

    store_id: str
    epoch: str  # The journal's epoch that this store belongs with.
    damaged_journal: str  # `file_id` of a journal that sync could not read; "" for none.
    seen: Mapping[str, Seen]  # By epoch of the stream asked for.


def store_view(db: sqlite3.Connection, stream: Stream) -> StoreView:
    """Takes a file of one schema version before, too."""
    notes = dict(
        db.execute(
            "SELECT key, value FROM meta WHERE key IN ('store_id', 'epoch', 'damaged_journal')"
        )
    )
    newer = schema_version(db) >= 2
    rows = db.execute(
        f"SELECT epoch, up_to, {'head' if newer else 0} FROM acks WHERE stream = ?",
        (stream.value,),
    )
    seen = {epoch: Seen(acknowledged=up_to, head=head) for epoch, up_to, head in rows}
    if newer:
        for (epoch,) in db.execute("SELECT epoch FROM ahead WHERE stream = ?", (stream.value,)):
            seen[epoch] = replace(seen.get(epoch, Seen()), city_ahead=True)
    return StoreView(
        store_id=notes.get("store_id", ""),
        epoch=notes.get("epoch", ""),
        damaged_journal=notes.get("damaged_journal", ""),
        seen=seen,
    )


def tell_damaged_journal(writer: Writer, journal: Path) -> None:
    """sync could not read a page of edge's journal: edge sets it aside at its next start."""
    with writer.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO meta VALUES ('damaged_journal', ?)", (str(file_id(journal)),)
        )


def show_ahead(writer: Writer, stream: Stream, epoch: str, *, high_water: int, digest: str) -> None:
    """The city has other facts of this epoch than we, or more: the journal is an old copy. Left
    for edge, which opens a new epoch before the next fact."""
    with writer.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO ahead VALUES (?, ?, ?, ?)",
            (stream.value, epoch, high_water, digest),
        )


def set_anchor(writer: Writer, moment: Moment, utc_ms: int) -> bool:
    """A time the city signed over our nonce. False, and nothing changes, below the floor, or
    for a time so late that it must be a mistake: it would raise the floor for ever."""
    if not floor_utc_ms(writer) <= utc_ms < UTC_MS_END:
        return False
    with writer.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO anchor VALUES (1, ?, ?, ?, ?)",
            (moment.boot, moment.mono_ms, utc_ms, utc_ms),
        )
    return True


def raise_floor(writer: Writer, utc_ms: int) -> None:
    """A head's `issued`: it is that late at least. It sets no clock; `UTC_MS_END` and later is a
    mistake and changes nothing."""
    if not floor_utc_ms(writer) < utc_ms < UTC_MS_END:
        return
    with writer.transaction() as db:
        db.execute("INSERT OR IGNORE INTO anchor VALUES (1, '', 0, 0, 0)")
        db.execute("UPDATE anchor SET floor_utc_ms = ?", (utc_ms,))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAnchor:
    """Signed time: (boot, monotonic, UTC) of the last welcome, and the floor of all time."""

    boot: str
    mono_ms: int
    utc_ms: int
    floor_utc_ms: int


def time_anchor(db: sqlite3.Connection) -> TimeAnchor | None:
    row = db.execute("SELECT boot, mono_ms, utc_ms, floor_utc_ms FROM anchor").fetchone()
    if row is None:
        return None
    return TimeAnchor(boot=row[0], mono_ms=row[1], utc_ms=row[2], floor_utc_ms=row[3])


def floor_utc_ms(writer: Writer) -> int:
    row = writer.db.execute("SELECT floor_utc_ms FROM anchor").fetchone()
    return 0 if row is None else int(row[0])


def take_order(writer: Writer, counter: int, payload: bytes, moment: Moment) -> str:
    """Put a verified order into edge's inbox: "" when it is new, `same` for the same bytes again,
    `used_counter` for other bytes under a counter that is not above all before."""
    with telling(writer.path):
        row = writer.db.execute(
            "SELECT payload FROM orders WHERE counter = ?", (counter,)
        ).fetchone()
    if row is not None:
        return "same" if digest_of(row[0]) == digest_of(payload) else "used_counter"
    highest = writer.db.execute("SELECT max(counter) FROM orders").fetchone()[0]
    if highest is not None and counter < highest:
        return "used_counter"
    with writer.transaction() as db:
        db.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?)",
            (counter, payload, moment.mono_ms, moment.boot),
        )
        db.execute(
            "DELETE FROM orders WHERE counter <="
            " (SELECT counter FROM orders ORDER BY counter DESC LIMIT 1 OFFSET ?)",
            (ORDERS_KEPT_MAX,),
        )
    return ""


def next_connection(writer: Writer, at_least: int) -> int:
    """The counter of the next connection: above every one before, in this store or a lost one
    (`at_least`: the UTC second will do), so that a late will hides no newer birth."""
    row = writer.db.execute("SELECT value FROM counters WHERE name = ?", (CONNECTION,)).fetchone()
    number = max(at_least, (row[0] if row is not None else 0) + 1)
    with writer.transaction() as db:
        db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (CONNECTION, number))
    return int(number)


def save_counters(writer: Writer, counters: Mapping[str, int]) -> None:
    """Counters that outlive a restart. That of connections is none of them: an older value
    written back would give a number twice."""
    kept = [(name, value) for name, value in counters.items() if name != CONNECTION]
    with writer.transaction() as db:
        db.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?)", kept)


def counters(writer: Writer) -> dict[str, int]:
    rows = writer.db.execute("SELECT name, value FROM counters WHERE name <> ?", (CONNECTION,))
    return dict(rows.fetchall())


def store_root(writer: Writer, version: int, document: bytes) -> None:
    """Keep a root document that was opened with the enrolled key; an older one changes nothing."""
    with writer.transaction() as db:
        db.execute("INSERT OR IGNORE INTO roots VALUES (?, ?)", (version, document))


def newest_root(writer: Writer) -> bytes | None:
    row = writer.db.execute("SELECT document FROM roots ORDER BY version DESC LIMIT 1").fetchone()
    return None if row is None else row[0]


# ------------------------------------------------------------------ parts of the station


def tell_parts(writer: Writer, parts: Mapping[str, tuple[str, str]]) -> None:
    """Part -> state and why, as they are now, and no others."""
    with writer.transaction() as db:
        tell_parts_in(db, parts)


def tell_parts_in(db: sqlite3.Connection, parts: Mapping[str, tuple[str, str]]) -> None:
    """As `tell_parts`, inside the caller's transaction."""
    db.execute("DELETE FROM parts")
    rows = [(part, state, why) for part, (state, why) in parts.items()]
    db.executemany("INSERT INTO parts VALUES (?, ?, ?)", rows)


def tell_suspects(writer: Writer, suspects: Mapping[str, int]) -> None:
    """Pictures that edge cannot read now, scope -> generation, and no others: sync looks."""
    with writer.transaction() as db:
        db.execute("DELETE FROM meta WHERE key LIKE ?", (SUSPECT + "%",))
        rows = [(SUSPECT + scope, str(generation)) for scope, generation in suspects.items()]
        db.executemany("INSERT INTO meta VALUES (?, ?)", rows)


def suspects(db: sqlite3.Connection) -> dict[str, int]:
    """As `tell_suspects` left them."""
    rows = db.execute("SELECT key, value FROM meta WHERE key LIKE ?", (SUSPECT + "%",))
    return {key.removeprefix(SUSPECT): int(value) for key, value in rows}


def parts(db: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """As `tell_parts` left them; none in a file of one schema version before."""
    if schema_version(db) < 2:
        return {}
    rows = db.execute("SELECT part, state, why FROM parts")
    return {part: (state, why) for part, state, why in rows}
