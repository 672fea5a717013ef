"""Lives of streams: when one has to end, and how what it alone holds lives on.

A journal can be an old copy: a restored image, a cloned card, a file that lost its tail. Then the
city has other facts under its numbers, or more of them. Such a life is *closed* where its history
stops being the city's; what stands above is *restated* in the stream's current life with its
original bytes, a few facts at a time, and the city counts what it does not hold. Nothing is lost,
nothing counts twice.

Journal and store (`sync.db`) know each other: the journal names the store, the store the epoch.
A new one of either makes a new one of the other, for peers have reported what these two held.
"""

from __future__ import annotations

import secrets
import sqlite3
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

from edge.messages import EpochClosed, Restates, Stream
from edge.model import CorruptData, Moment, Station
from edge.offline_cache import outbox, till_books
from edge.offline_cache.outbox import Life
from edge.offline_cache.record import (
    EPOCH_BYTES,
    Journal,
    Recording,
    StreamWriter,
    decode_known,
)
from edge.offline_cache.soundness import finish_set_aside, set_aside, sound
from edge.offline_cache.store import FileKind, Writer, telling

RESTATE_ROWS: Final = 50  # Our choice: 40 KB and a few ms on a Pi; then taps have their turn.


# ---------------------------------------------------------------- closing and restating


def close_life(
    stream: StreamWriter, life: Life, *, kept: int, moment: Moment, why: str, station: Station
) -> None:
    """End a life whose history is the city's up to `kept` only; the current one is followed by a
    new epoch in the same transaction. A life that is closed already stays as it is."""
    assert life.closed_at is None and 0 <= kept <= life.head

    def closing(db: sqlite3.Connection) -> None:
        db.execute(
            "UPDATE lives SET closed_at = ?1, restated_to = ?1 WHERE life = ?2", (kept, life.life)
        )
        if isinstance(stream, Journal):
            # Still spent, though the city's count of that epoch may go past these numbers.
            till_books.leave_open(db, life.epoch, kept)

    if life.life == stream.life:
        meta = {"store": "", "why": why} if isinstance(stream, Journal) else {}
        stream.open_epoch(moment, why=why, station=station, meta=meta, within=closing)
    else:
        with stream.writer.transaction() as db:
            closing(db)


def restate_some(
    stream: StreamWriter, moment: Moment, *, head_seen: int = 0, rows_max: int = RESTATE_ROWS
) -> bool:
    """One bounded transaction of restating; False when nothing is left to restate.

    `head_seen` is how far the oldest closed life is known to have come, by whoever saw it; what
    is missing up to there is told.
    """
    with telling(stream.writer.path):
        waiting = [life for life in outbox.lives(stream.writer.db, stream.stream) if life.restating]
    if not waiting:
        return False
    life = waiting[0]
    with stream.recording_at(moment) as recording:
        rows = recording.db.execute(
            "SELECT sequence, body FROM facts WHERE life = ? AND sequence > ?"
            " ORDER BY sequence LIMIT ?",
            (life.life, life.restated_to, rows_max),
        ).fetchall()
        for sequence, body in rows:
            _restate(recording, moment, life.epoch, sequence, body)
        if len(rows) == rows_max:
            restated_to = rows[-1][0]
        else:
            _tell_end(recording, moment, life, head_seen)
            restated_to = life.head + 1
        recording.db.execute(
            "UPDATE lives SET restated_to = ? WHERE life = ?", (restated_to, life.life)
        )
    return True


def _restate(recording: Recording, moment: Moment, epoch: str, sequence: int, body: bytes) -> None:
    """One fact once more. What was restated before keeps the key it had first."""
    inner = decode_known(body)
    if isinstance(inner, Restates):
        # Its tail goes back to where `add` looks for it.
        till_books.move(
            recording.db,
            decode_known(inner.body),
            source=(epoch, sequence),
            target=(inner.old_epoch, inner.old_sequence),
        )
        epoch, sequence, body = inner.old_epoch, inner.old_sequence, inner.body
    recording.add(
        Restates(**recording.stamp(moment), old_epoch=epoch, old_sequence=sequence, body=body)
    )


def _tell_end(recording: Recording, moment: Moment, life: Life, head_seen: int) -> None:
    kept = life.closed_at
    assert kept is not None
    restated = recording.db.execute(
        "SELECT count(*) FROM facts WHERE life = ? AND sequence > ?", (life.life, kept)
    ).fetchone()[0]
    missing: dict[str, int] = {}
    for hole in outbox.holes(recording.db, life.life):
        if hole.target > kept:
            for kind, count in hole.counts.items():
                missing[kind] = missing.get(kind, 0) + count
    head = max(life.head, head_seen)
    unknown = head - max(kept, life.held_from - 1) - restated - sum(missing.values())
    if unknown > 0:
        missing["unknown"] = unknown
    recording.add(
        EpochClosed(
            **recording.stamp(moment),
            old_epoch=life.epoch,
            kept_up_to=kept,
            head=head,
            restated=restated,
            missing=missing,
        )
    )


# ------------------------------------------------------------------------ sync's own file


def open_store(path: Path, *, machine: str, moment: Moment) -> Writer:
    """`sync.db`, ready to write: a damaged one is set aside, and one that came from another
    machine, or is new, has a new id and knows no epoch."""
    aside = finish_set_aside(path)
    try:
        if not sound(path, FileKind.SYNC, (Stream.AGENT, Stream.DIAG)):
            raise CorruptData(f"{path}: a stream's last fact is not the one its head names")
        writer = Writer(path, FileKind.SYNC)
    except CorruptData:
        aside = set_aside(path, moment)
        writer = Writer(path, FileKind.SYNC)
    try:
        remembered = meta(writer.db, "machine")
        if remembered == machine and meta(writer.db, "store_id"):
            return writer
        notes = {"machine": machine}
        if remembered:
            notes["reopen"] = "restored_image"
        elif aside is not None:
            notes |= {"reopen": "damaged", "damaged": aside.name}
        with writer.transaction() as db:
            new_store(db)
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", notes.items())
    except BaseException:
        writer.close()
        raise
    return writer


def meta(db: sqlite3.Connection, key: str) -> str:
    """A note kept with a file; "" where there is none."""
    with telling():
        row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return "" if row is None else str(row[0])


def forget_note(writer: Writer, key: str) -> None:
    with writer.transaction() as db:
        db.execute("DELETE FROM meta WHERE key = ?", (key,))


def new_store(db: sqlite3.Connection, *, epoch: str = "") -> None:
    """Another store from now on: reports on what the one before held count for nothing. Nor do
    those that were heard in it: peers may have gone on since."""
    if outbox.schema_version(db) >= 2:
        for table in ("peer_reports", "peer_cover"):
            db.execute(f"DELETE FROM {table}")
    notes = {"store_id": secrets.token_hex(EPOCH_BYTES), "epoch": epoch}
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", notes.items())


# ------------------------------------------------------------------- journal and store


@unique
class EdgeStep(StrEnum):
    """What edge does when it looks at the store."""

    NOTHING = "nothing"
    ADOPT = "adopt"  # The store was made for this epoch: remember its id.
    NEW_EPOCH = "new_epoch"  # Another store: what peers reported of the old one is void.


@unique
class StoreStep(StrEnum):
    """What sync does when it looks at the journal."""

    NOTHING = "nothing"
    PAIR = "pair"  # The epoch was opened for this store, or both are new.
    NEW_STORE = "new_store"  # Another epoch: a new store for it.


def edge_step(*, epoch: str, knows: str, store: str, store_epoch: str) -> EdgeStep:
    """`knows` is the store the journal names; the store itself names `store_epoch`. "" is none."""
    if not store or knows == store:
        return EdgeStep.NOTHING
    if store_epoch == epoch:
        return EdgeStep.ADOPT
    return EdgeStep.NEW_EPOCH if knows and not store_epoch else EdgeStep.NOTHING


def store_step(*, epoch: str, knows: str, store: str, store_epoch: str) -> StoreStep:
    if not epoch or store_epoch == epoch:
        return StoreStep.NOTHING
    if knows == store or not (knows or store_epoch):
        return StoreStep.PAIR
    return StoreStep.NEW_STORE if store_epoch else StoreStep.NOTHING


def adopt(journal: Journal, store: str) -> None:
    with journal.writer.transaction() as db:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('store', ?)", (store,))


def pair(store: Writer, *, epoch: str, new: bool) -> None:
    """sync names the journal's epoch in its store, in a new store where one is due."""
    with store.transaction() as db:
        if new:
            new_store(db, epoch=epoch)
        else:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (epoch,))
