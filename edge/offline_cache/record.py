"""Facts onto the disk: numbered, chained, committed, with what each changes here.

`Journal` is edge's one writing connection; `StreamWriter` below it serves sync's own streams
too. What a fact changes beside itself (a side, the tail, an answered order) follows from the
fact alone, in the same transaction, so nothing can be recorded half.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypedDict

from edge.messages import (
    NO_DIGEST,
    Fact,
    OrderAnswer,
    OrderOutcome,
    PassageFact,
    SaleFact,
    Stream,
    StreamOpened,
    digest_of,
    encode_fact,
)
from edge.model import ClockQuality, CorruptData, Moment, PassageResult, Station
from edge.offline_cache.outbox import digest_at, lives
from edge.offline_cache.store import (
    FileKind,
    Writer,
    lock_file,
    open_reader,
    reading,
    telling,
)

SOFTWARE: Final = "0.1.0"
EPOCH_BYTES: Final = 8  # protocol.md: random; 64 bits never meet.


class Stamp(TypedDict):
    """The header of the next fact; spread into its constructor."""

    device: str
    site: str
    stream: Stream
    epoch: str
    sequence: int
    previous: str
    boot: str
    mono_ms: int
    wall_ms: int
    clock: ClockQuality


class Recording:
    """One open transaction on one stream. `stamp`, then `add`, as often as needed."""

    def __init__(self, db: sqlite3.Connection, writer: StreamWriter) -> None:
        self.db = db
        self.head = writer.head
        self.digest = writer.digest
        self._writer = writer

    def stamp(self, moment: Moment) -> Stamp:
        writer = self._writer
        return Stamp(
            device=writer.device,
            site=writer.site,
            stream=writer.stream,
            epoch=writer.epoch,
            sequence=self.head + 1,
            previous=self.digest,
            boot=moment.boot,
            mono_ms=moment.mono_ms,
            wall_ms=moment.wall_ms,
            clock=moment.quality,
        )

    def add(self, fact: Fact) -> str:
        """Store the fact and return its key as `<epoch>.<sequence>`."""
        assert fact.sequence == self.head + 1, "one stamp per fact"
        assert fact.previous == self.digest
        body = encode_fact(fact)
        kind = str(fact.__struct_config__.tag)
        self.db.execute(
            "INSERT INTO facts (life, sequence, kind, body) VALUES (?, ?, ?, ?)",
            (self._writer.life, fact.sequence, kind, body),
        )
        self.head, self.digest = fact.sequence, digest_of(body)
        return f"{fact.epoch}.{fact.sequence}"


class StreamWriter:
    """One stream in one file: knows its epoch, head and chain."""

    def __init__(self, writer: Writer, *, device: str, site: str, stream: Stream) -> None:
        self.writer = writer
        self.device, self.site, self.stream = device, site, stream
        self.life, self.epoch, self.head, self.digest = 0, "", 0, NO_DIGEST
        with telling(writer.path):
            row = writer.db.execute(
                "SELECT life, epoch, head, digest FROM lives WHERE stream = ? ORDER BY life DESC",
                (stream.value,),
            ).fetchone()
        if row is not None:
            self.life, self.epoch, self.head, self.digest = row

    def open_epoch(
        self,
        moment: Moment,
        *,
        why: str,
        station: Station,
        meta: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Begin a new life of the stream; its first fact says why. `meta` is stored with it."""
        before = self.life, self.epoch, self.head, self.digest
        after_epoch = self.epoch or None
        self.epoch, self.head, self.digest = secrets.token_hex(EPOCH_BYTES), 0, NO_DIGEST
        try:
            with self.writer.transaction() as db:
                cursor = db.execute(
                    "INSERT INTO lives (stream, epoch, head, digest, held_from)"
                    " VALUES (?, ?, 0, '', 1)",
                    (self.stream.value, self.epoch),
                )
                assert cursor.lastrowid is not None
                self.life = cursor.lastrowid
                recording = Recording(db, self)
                recording.add(
                    StreamOpened(
                        **recording.stamp(moment),
                        why=why,
                        software=SOFTWARE,
                        station=station,
                        after_epoch=after_epoch,
                    )
                )
                self._store_head(recording)
                db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
        except BaseException:
            self.life, self.epoch, self.head, self.digest = before
            raise
        self.head, self.digest = recording.head, recording.digest

    @contextmanager
    def recording(self) -> Iterator[Recording]:
        """A transaction for facts of this stream; on disk when it ends without an error."""
        assert self.epoch, "open_epoch comes first"
        with self.writer.transaction() as db:
            recording = Recording(db, self)
            yield recording
            self._store_head(recording)
        self.head, self.digest = recording.head, recording.digest

    def _store_head(self, recording: Recording) -> None:
        recording.db.execute(
            "UPDATE lives SET head = ?, digest = ? WHERE life = ?",
            (recording.head, recording.digest, self.life),
        )


class JournalRecording(Recording):
    """A recording that also carries out what edge's facts change here."""

    def add(self, fact: Fact) -> str:
        key = super().add(fact)
        match fact:
            case PassageFact(cardholder=str(cardholder)) if fact.result in (
                PassageResult.TAKEN,
                PassageResult.FIRE_RELEASE,
            ):
                self.db.execute(
                    "INSERT OR REPLACE INTO sides VALUES (?, ?, ?, ?, ?)",
                    (cardholder, fact.zone, fact.direction.value, fact.wall_ms, self.local_date),
                )
            case SaleFact():
                for posting in fact.postings:
                    if posting.account == fact.account:
                        self.db.execute(
                            "INSERT INTO tail VALUES (?, ?, ?, ?, ?, ?)",
                            (
                                *(fact.account, fact.epoch, fact.sequence, posting.purse),
                                *(-posting.amount_minor, fact.business_date),
                            ),
                        )
            case OrderAnswer():
                self.db.execute(
                    "INSERT OR IGNORE INTO answered_orders VALUES (?, ?, ?, 0)",
                    (fact.counter, self.order_digest, int(fact.accepted)),
                )
            case OrderOutcome():
                self.db.execute(
                    "UPDATE answered_orders SET acted = 1 WHERE counter = ?", (fact.counter,)
                )
            case _:
                pass
        return key

    local_date = ""
    order_digest = ""


class Journal(StreamWriter):
    """`journal.db`: the one place edge writes."""

    def __init__(self, path: Path, *, device: str, site: str) -> None:
        writer = Writer(path, FileKind.JOURNAL)
        try:
            super().__init__(writer, device=device, site=site, stream=Stream.MAIN)
        except BaseException:
            writer.close()
            raise

    @contextmanager
    def record(self, moment: Moment, *, order_digest: str = "") -> Iterator[JournalRecording]:
        """A transaction for a tap's facts and all that they change here."""
        assert self.epoch, "open_epoch comes first"
        with self.writer.transaction() as db:
            recording = JournalRecording(db, self)
            recording.local_date = moment.local_date
            recording.order_digest = order_digest
            yield recording
            self._store_head(recording)
        self.head, self.digest = recording.head, recording.digest

    def answered(self, counter: int) -> tuple[str, bool, bool] | None:
        """(digest, accepted, acted) of an order that was answered."""
        with telling(self.writer.path):
            row = self.writer.db.execute(
                "SELECT digest, accepted, acted FROM answered_orders WHERE counter = ?", (counter,)
            ).fetchone()
        return None if row is None else (row[0], bool(row[1]), bool(row[2]))

    def unacted_orders(self) -> list[int]:
        """Accepted, and the process ended before anything came of it: not to be acted on now."""
        with telling(self.writer.path):
            rows = self.writer.db.execute(
                "SELECT counter FROM answered_orders WHERE accepted = 1 AND acted = 0"
            )
            return [row[0] for row in rows]

    def last_counter(self) -> int:
        with telling(self.writer.path):
            row = self.writer.db.execute("SELECT max(counter) FROM answered_orders").fetchone()
        return row[0] or 0

    def close(self) -> None:
        self.writer.close()


def open_journal(
    path: Path, *, device: str, site: str, station: Station, machine: str, moment: Moment
) -> Journal:
    """The journal, ready to record: damaged files set aside, a new epoch where one is due.

    `machine` names this board and card: a journal that remembers another one is a restored image.
    """
    why = "new_store"
    try:
        if not _sound(path):
            raise CorruptData(f"{path}: its last fact is not the one its head names")
        journal = Journal(path, device=device, site=site)
    except CorruptData:
        set_aside(path, moment)
        why = "damaged"
        journal = Journal(path, device=device, site=site)
    try:
        with telling(path):
            row = journal.writer.db.execute(
                "SELECT value FROM meta WHERE key = 'machine'"
            ).fetchone()
        if row is not None and row[0] != machine:
            why = "restored_image"
        if not journal.epoch or why == "restored_image":
            meta = {"machine": machine, "store_id": secrets.token_hex(EPOCH_BYTES)}
            journal.open_epoch(moment, why=why, station=station, meta=meta)
    except BaseException:
        journal.close()
        raise
    return journal


def _sound(path: Path) -> bool:
    """Whether a journal can be gone on with, as far as a look at its ends tells: reading it all
    would cost seconds. Read-only, so that what is damaged stays as it was found. `CorruptData`
    when it cannot even be read."""
    lock = lock_file(path)
    try:
        db = open_reader(path, FileKind.JOURNAL)
        if db is None:
            return True  # New, or made by a process that was killed while making it.
        try:
            with reading(db):
                db.execute("SELECT value FROM meta WHERE key = 'machine'").fetchone()
                newest = lives(db, Stream.MAIN)[-1:]
                return all(
                    life.held_from > life.head or digest_at(db, life.life, life.head) == life.digest
                    for life in newest
                )
        finally:
            db.close()
    finally:
        os.close(lock)


def set_aside(path: Path, moment: Moment) -> Path:
    """Move a damaged database and its WAL out of the way, untouched, for a technician. The file
    itself goes first: without its WAL it could pass for an older, sound copy."""
    target = path.with_name(f"{path.name}.damaged-{moment.boot}-{moment.mono_ms}")
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(target.with_name(target.name + suffix))
    return target
