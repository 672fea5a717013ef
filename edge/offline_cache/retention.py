"""What is deleted when, as a table; and room made when the disk gets short.

`KEPT_UNTIL` says of each thing what all must hold before it goes. Deleting is done in small
batches by whoever writes the file, outside a tap. A life's chain goes on from a stored digest.
Acknowledged alone is not enough at a till: a fact pruned before the money picture includes it
would give its account the money back.

Age is counted by *milestones* and not by the clock in a fact: once a day, by time the city
signed, it is written down how far a stream had come. A clock that was wrong once ages nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from edge.messages import Folded, Stream, digest_of
from edge.model import ClockQuality, Moment, Station
from edge.offline_cache import till_books
from edge.offline_cache.outbox import Life, counts_of, lives
from edge.offline_cache.record import Journal, StreamWriter, decode_known
from edge.offline_cache.store import Writer

DAY_S: Final = 24 * 60 * 60
KEPT_DAYS: Final = 35  # house.md: a city restored from a backup can ask again.
BATCH_ROWS: Final = 200  # Our choice: a few ms on a Pi, once a second: 17 million a day.
ORDERS_KEPT: Final = 1_000  # As sync's inbox: whatever is there again is known to be answered.
DIAG_FACTS_MAX: Final = 2_000  # Our choice: a week of a reader that goes every five minutes.
FOLD_ROWS_MIN: Final = 16  # Our choice: a summary in place of fewer facts makes little room.
# What may go to make room. A refused sale moved no money; everything else has someone's money, an
# order's answer or an end of a chain in it and stays.
FOLDABLE: Final = ("access", "passage", "sale_refused")


@unique
class Until(StrEnum):
    """One thing that must be so before something is deleted."""

    ACKNOWLEDGED = "acknowledged"  # By the city, or restated where its life was closed.
    INCLUDED = "included"  # In the money picture in force.
    SHIFT_CLOSED = "shift_closed"  # Its day was counted and closed at the till.
    AGED = "aged"  # Older than `KEPT_DAYS`.
    OTHER_DAY = "other_day"  # Not of today's local date, by a trusted clock.
    NEWER_KEPT = "newer_kept"  # So many newer ones are held that this one tells nothing.
    OUT_OF_FORCE = "out_of_force"  # Left force 10 minutes ago.


@unique
class Kept(StrEnum):
    """What is kept, and for how long."""

    TILL_FACTS = "till_facts"  # A till's `main`, and with it the tail.
    FACTS = "facts"  # `main` of other stations, and sync's `agent`.
    DIAG = "diag"
    SIDES = "sides"
    ORDERS = "orders"
    GENERATIONS = "generations"  # Of pictures; `Pictures.sweep` deletes them.


KEPT_UNTIL: Final[Mapping[Kept, tuple[Until, ...]]] = MappingProxyType(
    {
        Kept.TILL_FACTS: (Until.ACKNOWLEDGED, Until.INCLUDED, Until.SHIFT_CLOSED, Until.AGED),
        Kept.FACTS: (Until.ACKNOWLEDGED, Until.AGED),
        Kept.DIAG: (Until.NEWER_KEPT,),
        Kept.SIDES: (Until.OTHER_DAY,),
        Kept.ORDERS: (Until.NEWER_KEPT,),
        Kept.GENERATIONS: (Until.OUT_OF_FORCE,),
    }
)


def kept_as(station: Station, stream: Stream) -> Kept:
    """By which line of the table a stream's facts are kept."""
    if stream is Stream.DIAG:
        return Kept.DIAG
    is_till = station is Station.TILL and stream is Stream.MAIN
    return Kept.TILL_FACTS if is_till else Kept.FACTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far each condition holds in one life: up to which sequence."""

    acknowledged: int
    included: int
    aged: int
    shift_closed: int | None = None  # None: this till counts no shifts, so no fact waits for one.


def droppable_up_to(life: Life, until: tuple[Until, ...], reach: Reach, *, current: bool) -> int:
    """Up to which sequence the facts of a life may go. The last one of the current life stays:
    by it a start tells whether the file is whole.

    Of a closed life everything above `closed_at` lives on as restated facts: once that is done it
    counts as acknowledged and included here, for the restated ones have to be so themselves.
    """
    up_to = life.head - current
    closed_at = life.closed_at
    for condition in until:
        match condition:
            case Until.ACKNOWLEDGED:
                bound = reach.acknowledged
            case Until.INCLUDED:
                bound = reach.included
            case Until.SHIFT_CLOSED:
                bound = life.head if reach.shift_closed is None else reach.shift_closed
            case Until.AGED:
                up_to = min(up_to, reach.aged)
                continue
            case Until.NEWER_KEPT:
                bound = life.head - DIAG_FACTS_MAX
            case _:
                raise AssertionError(f"{condition} is no condition for facts")
        if closed_at is not None and condition is not Until.NEWER_KEPT and bound >= closed_at:
            bound = closed_at if life.restating else life.head
        up_to = min(up_to, bound)
    return up_to


# ------------------------------------------------------------------------- milestones


def set_milestone(stream: StreamWriter, moment: Moment) -> None:
    """Once a day: so far this stream had come by now. By the city's time alone."""
    if moment.quality is not ClockQuality.CITY or not stream.head:
        return
    now_s = moment.wall_ms // 1000
    db = stream.writer.db
    row = db.execute(
        "SELECT max(utc_s), max(sequence) FROM milestones WHERE life = ?", (stream.life,)
    ).fetchone()
    if row[0] is not None and (now_s < row[0] + DAY_S or stream.head == row[1]):
        return  # It was so long ago; the same number again is no younger for it.
    with stream.writer.transaction() as db:
        db.execute("INSERT INTO milestones VALUES (?, ?, ?)", (stream.life, stream.head, now_s))


def first_milestone_utc_s(stream: StreamWriter) -> int | None:
    """When the current life was young; None while no time of the city's has been written down."""
    row = stream.writer.db.execute(
        "SELECT min(utc_s) FROM milestones WHERE life = ?", (stream.life,)
    ).fetchone()
    return None if row[0] is None else int(row[0])


def aged_up_to(db: sqlite3.Connection, life: Life, moment: Moment) -> int:
    """The facts up to here are older than `KEPT_DAYS`; 0 while the time is not the city's."""
    if moment.quality is not ClockQuality.CITY:
        return 0
    row = db.execute(
        "SELECT max(sequence) FROM milestones WHERE life = ? AND utc_s <= ?",
        (life.life, moment.wall_ms // 1000 - KEPT_DAYS * DAY_S),
    ).fetchone()
    return int(row[0] or 0)


# --------------------------------------------------------------------------- deleting


def drop_facts(writer: Writer, life: Life, up_to: int, *, rows_max: int = BATCH_ROWS) -> int:
    """Delete the oldest facts of a life up to there, at most so many, with what of the tail is
    theirs. How many went."""
    if up_to < life.held_from:
        return 0
    with writer.transaction() as db:
        rows = db.execute(
            "SELECT sequence, kind, body FROM facts WHERE life = ? AND sequence <= ?"
            " ORDER BY sequence LIMIT ?",
            (life.life, up_to, rows_max),
        ).fetchall()
        last = rows[-1][0] if len(rows) == rows_max else up_to
        hole = db.execute(
            "SELECT target, digest FROM gaps WHERE life = ? AND source <= ? AND target >= ?",
            (life.life, last, last),
        ).fetchone()
        if hole is not None:  # The chain is known at the end of a hole, not within it.
            last, after = hole
        elif rows and rows[-1][0] == last:
            after = digest_of(rows[-1][2])
        else:
            return 0
        for sequence, kind, body in rows:
            if kind in till_books.KINDS:
                till_books.drop(db, decode_known(body), life.epoch, sequence)
        db.execute("DELETE FROM facts WHERE life = ? AND sequence <= ?", (life.life, last))
        db.execute("DELETE FROM gaps WHERE life = ? AND target <= ?", (life.life, last))
        db.execute("DELETE FROM milestones WHERE life = ? AND sequence < ?", (life.life, last))
        db.execute(
            "UPDATE lives SET held_from = ?, held_after = ? WHERE life = ?",
            (last + 1, after, life.life),
        )
    return len(rows)


def drop_life(writer: Writer, life: Life) -> None:
    """Forget a life of which nothing is held any more."""
    assert life.held_from > life.head
    with writer.transaction() as db:
        for table in ("gaps", "milestones", "lives"):
            db.execute(f"DELETE FROM {table} WHERE life = ?", (life.life,))


def drop_beside(journal: Journal, moment: Moment) -> None:
    """Sides of other days, and orders answered long ago."""
    with journal.writer.transaction() as db:
        if moment.clock_trusted:
            for table in ("sides", "handovers", "visits"):
                db.execute(f"DELETE FROM {table} WHERE local_date < ?", (moment.local_date,))
        db.execute(
            "DELETE FROM answered_orders WHERE (acted = 1 OR accepted = 0) AND counter <="
            " (SELECT counter FROM answered_orders ORDER BY counter DESC LIMIT 1 OFFSET ?)",
            (ORDERS_KEPT,),
        )


# ------------------------------------------------------------------------ making room

_Run = list[tuple[int, str, bytes]]  # Sequence, kind, body.


def evict(journal: Journal, acknowledged: Mapping[str, int], *, rows_max: int = BATCH_ROWS) -> int:
    """Facts that were restated, then, of what the city has, the oldest run that may go. How many
    went."""
    db = journal.writer.db
    for life in lives(db, Stream.MAIN):
        run: _Run = []
        if life.closed_at is not None and not life.restating:
            first = max(life.held_from, life.closed_at + 1)
            run = _oldest_run(db, life, first, life.head, rows_max=rows_max, kinds=None)
        if not run:
            up_to = min(acknowledged.get(life.epoch, 0), life.sent_head, life.head - 1)
            run = _oldest_run(db, life, life.held_from, up_to, rows_max=rows_max)
        if run:
            with journal.writer.transaction() as db:
                _punch(db, life, run)
            return len(run)
    return 0


def fold(
    journal: Journal,
    acknowledged: Mapping[str, int],
    moment: Moment,
    *,
    rows_max: int = BATCH_ROWS,
) -> int:
    """The oldest run of facts that nobody has but this device, into one summary. How many."""
    db = journal.writer.db
    for life in lives(db, Stream.MAIN):
        if life.closed_at is not None:
            continue  # Restated first.
        first = max(life.held_from, acknowledged.get(life.epoch, 0) + 1)
        run = _oldest_run(db, life, first, life.head - 1, rows_max=rows_max, rows_min=FOLD_ROWS_MIN)
        if not run:
            continue
        with journal.record(moment) as recording:
            counts, digest = _punch(recording.db, life, run)
            recording.add(
                Folded(
                    **recording.stamp(moment),
                    of_epoch=life.epoch,
                    source=run[0][0],
                    target=run[-1][0],
                    counts=counts,
                    digest=digest,
                )
            )
        return len(run)
    return 0


def _oldest_run(
    db: sqlite3.Connection,
    life: Life,
    first: int,
    up_to: int,
    *,
    rows_max: int,
    rows_min: int = 1,
    kinds: tuple[str, ...] | None = FOLDABLE,
) -> _Run:
    """Facts of these kinds (None: any) with nothing between them, the first run long enough."""
    rows = db.execute(
        "SELECT sequence, kind FROM facts WHERE life = ? AND sequence BETWEEN ? AND ?"
        " ORDER BY sequence",
        (life.life, first, up_to),
    )
    found: list[int] = []
    for sequence, kind in rows:
        fits = kinds is None or kind in kinds
        if found and (not fits or sequence != found[-1] + 1):
            if len(found) >= rows_min:
                break
            found = []
        if fits:
            found.append(sequence)
        if len(found) >= rows_max:
            break
    if len(found) < rows_min:
        return []
    return db.execute(
        "SELECT sequence, kind, body FROM facts WHERE life = ? AND sequence BETWEEN ? AND ?"
        " ORDER BY sequence",
        (life.life, found[0], found[-1]),
    ).fetchall()


def _punch(db: sqlite3.Connection, life: Life, run: _Run) -> tuple[dict[str, int], str]:
    """Take a run out and leave a hole on record, one with the hole just before it. The run's own
    counts, and the digest of its last fact."""
    source, target = run[0][0], run[-1][0]
    digest = digest_of(run[-1][2])
    counts: dict[str, int] = {}
    for _, kind, _ in run:
        counts[kind] = counts.get(kind, 0) + 1
    whole = dict(counts)
    before = db.execute(
        "SELECT source, counts FROM gaps WHERE life = ? AND target = ?", (life.life, source - 1)
    ).fetchone()
    # What is the city's history and what was restated are never one hole.
    if before is not None and life.closed_at != source - 1:
        source = before[0]
        for kind, count in counts_of(before[1]).items():
            whole[kind] = whole.get(kind, 0) + count
    db.execute(
        "DELETE FROM facts WHERE life = ? AND sequence BETWEEN ? AND ?",
        (life.life, run[0][0], target),
    )
    db.execute(
        "INSERT OR REPLACE INTO gaps VALUES (?, ?, ?, ?, ?)",
        (life.life, source, target, digest, json.dumps(whole)),
    )
    return counts, digest
