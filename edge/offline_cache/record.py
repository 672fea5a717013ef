"""Facts onto the disk: numbered, chained, committed, with what each changes here.

`Journal` is edge's one writing connection; `StreamWriter` below it serves sync's own streams
too. What a fact changes beside itself (a side, the tail, an answered order) follows from the
fact alone, in the same transaction, so nothing can be recorded half.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypedDict

from edge.messages import (
    NO_DIGEST,
    AccessFact,
    Fact,
    FireFact,
    Forgiven,
    Handover,
    HandoverOpen,
    LockdownFact,
    OrderAnswer,
    OrderOutcome,
    PassageFact,
    SignInFact,
    Stream,
    StreamOpened,
    Tamper,
    UnattendedRelease,
    digest_of,
    encode_fact,
)
from edge.model import ClockQuality, CorruptData, DeviceFault, Moment, Station
from edge.offline_cache import lane_standing, moves, till_books, wrong_pins
from edge.offline_cache.room import Room
from edge.offline_cache.soundness import finish_set_aside, set_aside, sound
from edge.offline_cache.store import (
    DamagedFile,
    FileKind,
    Writer,
    telling,
)
from edge.offline_cache.till_books import TAIL_OPEN as TAIL_OPEN
from edge.offline_cache.till_books import decode_known as decode_known

SOFTWARE: Final = "0.1.0"
EPOCH_BYTES: Final = 8  # protocol.md: random; 64 bits never meet.
TAKES_MONEY: Final = ("sale", "hold")  # Facts that a disk in trouble may not begin.


class NoRoom(DeviceFault):
    """The disk is in trouble, so nothing that takes money is recorded. Nothing was tried."""


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
        self._in_doubt = False  # A commit failed: the file is asked before the next fact.
        with telling(writer.path):
            self._read_head(writer.db)

    def _read_head(self, db: sqlite3.Connection) -> None:
        row = db.execute(
            "SELECT life, epoch, head, digest FROM lives WHERE stream = ? ORDER BY life DESC",
            (self.stream.value,),
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
        within: Callable[[sqlite3.Connection], None] = lambda _db: None,
    ) -> None:
        """Begin a new life of the stream; its first fact says why. `meta` is stored with it, and
        what `within` does is done in the same transaction."""
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
                within(db)
        except BaseException:
            self.life, self.epoch, self.head, self.digest = before
            raise
        self.head, self.digest = recording.head, recording.digest

    @contextmanager
    def recording(self) -> Iterator[Recording]:
        """A transaction for facts of this stream; on disk when it ends without an error."""
        with self._transaction() as db:
            recording = Recording(db, self)
            yield recording
            self._store_head(recording)
        self.head, self.digest = recording.head, recording.digest

    def recording_at(self, _moment: Moment) -> AbstractContextManager[Recording]:
        """As `recording`, whatever kind of writer this is."""
        return self.recording()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One on the stream's file. After a disk that refused, the head is the file's own: what
        a failed commit left there is known to nobody else."""
        assert self.epoch, "open_epoch comes first"
        try:
            with self.writer.transaction() as db:
                if self._in_doubt:
                    self._read_head(db)
                yield db
        except NoRoom:
            raise  # Nothing was tried.
        except DeviceFault:
            self._in_doubt = True
            raise
        self._in_doubt = False

    def _store_head(self, recording: Recording) -> None:
        recording.db.execute(
            "UPDATE lives SET head = ?, digest = ? WHERE life = ?",
            (recording.head, recording.digest, self.life),
        )


class JournalRecording(Recording):
    """A recording that also carries out what edge's facts change here."""

    def add(self, fact: Fact) -> str:
        if self.no_money and fact.__struct_config__.tag in TAKES_MONEY:
            raise NoRoom(self.no_money)
        key = super().add(fact)
        match fact:
            case AccessFact() | PassageFact() | Forgiven() | LockdownFact():
                moves.change(self.db, fact, local_date=self.local_date)
            case Handover() | HandoverOpen():
                moves.change(self.db, fact, local_date=self.local_date)
            case FireFact() | UnattendedRelease() | Tamper():
                lane_standing.note(self.db, fact)
            case SignInFact():
                wrong_pins.note_sign_in(self.db, fact)
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
                till_books.note(self.db, fact)
        return key

    local_date = ""
    order_digest = ""
    no_money = ""


class Journal(StreamWriter):
    """`journal.db`: the one place edge writes.

    `no_money` is why nothing is sold now, or "". Whoever looks at the disk sets `full`; a write
    that failed sets `refused`, until `probe` has written.
    """

    def __init__(self, path: Path, *, device: str, site: str) -> None:
        self.full = ""
        self.refused = ""
        self.damaged = ""  # A page cannot be read: only a new start helps.
        writer = Writer(path, FileKind.JOURNAL)
        try:
            super().__init__(writer, device=device, site=site, stream=Stream.MAIN)
        except BaseException:
            writer.close()
            raise

    @contextmanager
    def record(self, moment: Moment, *, order_digest: str = "") -> Iterator[JournalRecording]:
        """A transaction for a tap's facts and all that they change here."""
        with self._transaction() as db:
            recording = JournalRecording(db, self)
            recording.local_date = moment.local_date
            recording.order_digest = order_digest
            recording.no_money = self.no_money
            yield recording
            self._store_head(recording)
        self.head, self.digest = recording.head, recording.digest

    def recording_at(self, moment: Moment) -> AbstractContextManager[Recording]:
        return self.record(moment)

    @property
    def no_money(self) -> str:
        return self.damaged or self.refused or self.full

    def probe(self, moment: Moment) -> bool:
        """Whether the disk takes a write again; if so, `refused` is over."""
        try:
            with self._transaction() as db:
                self._read_head(db)
                db.execute(
                    "INSERT OR REPLACE INTO meta VALUES ('probe', ?)",
                    (f"{moment.boot} {moment.mono_ms}",),
                )
        except DeviceFault:
            return False
        self.refused = ""
        return True

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with super()._transaction() as db:
                yield db
        except NoRoom:
            raise
        except DeviceFault as fault:
            self.refused = str(fault)
            raise
        except DamagedFile as damage:
            self.damaged = str(damage)
            raise
        self.refused = ""

    def meta(self, key: str) -> str:
        """A note kept with the journal; "" where there is none."""
        with telling(self.writer.path):
            row = self.writer.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return "" if row is None else str(row[0])

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
    On a full disk the reserve for a start is given up for it.
    """
    attempt = partial(
        _open_journal,
        path,
        device=device,
        site=site,
        station=station,
        machine=machine,
        moment=moment,
    )
    try:
        return attempt()
    except DeviceFault:
        if not Room(path.parent).let_reserve_go(at_start=True):
            raise
        return attempt()


def _open_journal(
    path: Path, *, device: str, site: str, station: Station, machine: str, moment: Moment
) -> Journal:
    why, aside = "new_store", ""
    before = finish_set_aside(path)
    try:
        if not sound(path, FileKind.JOURNAL, (Stream.MAIN,)):
            raise CorruptData(f"{path}: its last fact is not the one its head names")
        journal = Journal(path, device=device, site=site)
    except CorruptData:
        aside = set_aside(path, moment).name
        why = "damaged"
        journal = Journal(path, device=device, site=site)
    if not journal.epoch and not aside and before is not None:
        aside, why = before.name, "damaged"  # The start that found it came no further.
    try:
        if journal.meta("machine") not in ("", machine):
            why = "restored_image"
        if not journal.epoch or why == "restored_image":
            meta = {"machine": machine, "store": "", "why": why}
            if aside:
                meta |= {"damaged": aside, "salvage": aside}
            journal.open_epoch(
                moment,
                why=why,
                station=station,
                meta=meta,
                within=lambda db: _keep_standing(path.with_name(aside), db) if aside else None,
            )
    except BaseException:
        journal.close()
        raise
    return journal


def _keep_standing(damaged: Path, db: sqlite3.Connection) -> None:
    from edge.offline_cache.salvage import keep_standing  # Rarely needed, and it needs us.

    keep_standing(damaged, db)
