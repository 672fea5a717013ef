"""edge's journal as sync sees it: read-only, followed when edge begins another, told of when a page
cannot be read. Whose facts these are, and when they leave, is the uplink's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge import logs
from edge.messages import Stream
from edge.offline_cache import epochs, marks, outbox
from edge.offline_cache.store import (
    Connection,
    DamagedFile,
    FileKind,
    Writer,
    file_id,
    open_reader,
    reading,
)


class Journal:
    """The file at `path`, which may not be there yet. `writer`: of our own file, for notes to
    edge."""

    def __init__(
        self,
        path: Path,
        writer: Writer,
        *,
        count: Callable[[str], None],
        ring_edge: Callable[[], None],
    ) -> None:
        self._path = path
        self._writer = writer
        self._count = count
        self._ring_edge = ring_edge
        self._db: Connection | None = None
        self._id: tuple[int, int] | None = None
        self._damaged_id: tuple[int, int] | None = None  # Of a journal that was told of.
        self._log = logs.get("uplink")

    def open(self) -> Connection | None:
        """To read from; None while there is no journal."""
        if self._db is None:
            self._id = file_id(self._path)
            self._db = open_reader(self._path, FileKind.JOURNAL)
        return self._db

    def replaced(self) -> bool:
        """edge set a damaged journal aside and began another: this is a stream of new lives."""
        now = file_id(self._path)
        if self._db is None or now is None or now == self._id:
            return False
        self.close()
        self._count("journal_replaced")
        return True

    def tell_damage(self, damage: DamagedFile) -> None:
        """A page cannot be read any more: the file is edge's to set aside, and so edge is told."""
        self._count("damaged_file")
        identity = file_id(self._path)
        if identity != self._damaged_id:
            self._damaged_id = identity
            self._log.error("the journal is damaged", reason=str(damage))
            marks.tell_damaged_journal(self._writer, self._path)
            self._ring_edge()

    def notes(self) -> tuple[str, str] | None:
        """Its epoch and the store it names; None while there is no journal."""
        db = self.open()
        if db is None:
            return None
        with reading(db):
            lives = outbox.lives(db, Stream.MAIN)
            return (lives[-1].epoch if lives else ""), epochs.meta(db, "store")

    def parts(self) -> dict[str, tuple[str, str]]:
        """Readers, lanes and disk as edge last left them: part -> state, why."""
        db = self.open()
        if db is None:
            return {}
        with reading(db):
            return marks.parts(db)

    def suspects(self) -> dict[str, int]:
        """Pictures that edge could not read: scope -> generation."""
        try:
            db = self.open()
            if db is None:
                return {}
            with reading(db):
                return marks.suspects(db)
        except DamagedFile as damage:
            self.tell_damage(damage)
            return {}

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
