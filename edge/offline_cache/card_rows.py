"""The row of one card, for a reader's thread: read-only, on connections of its own, bounded.

A reader asks while a card lies in its field, in a thread of its own. So nothing here is shared with
the agent's connections, the journal is never touched, and a file that is busy is waited for only
`BUSY_MS_MAX`. One lock stands before it all: two readers take turns for microseconds.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from edge.messages import ROW_NUMBERS, CredentialRow, RowKind
from edge.model import CorruptData
from edge.offline_cache.apply import in_force, picture_meta, picture_path
from edge.offline_cache.store import FileKind, open_reader, reading, telling

BUSY_MS_MAX: Final = 50  # Our choice: a sixth of a tap's radio budget; readers of a WAL never wait.
_CREDENTIAL: Final = ROW_NUMBERS[RowKind.CREDENTIAL]
_ROW: Final = msgspec.msgpack.Decoder(CredentialRow)


@dataclass(slots=True)
class _Picture:
    generation: int
    db: sqlite3.Connection
    identifier_version: int


class CardRows:
    """The credentials of one scope, as the list in force has them."""

    def __init__(self, folder: Path, scope: str) -> None:
        self._folder = folder
        self._scope = scope
        self._lock = threading.Lock()
        self._sync: sqlite3.Connection | None = None
        self._picture: _Picture | None = None
        self._closed = False

    def row_of(self, identify: Callable[[int], bytes | None]) -> tuple[bytes, CredentialRow] | None:
        """Key and row of a card; None while there is no list, or for a card that is not on it.

        `identify` gives the row's key under that version of the identifier key, None if it is not
        held. Raises `CorruptData` and `DeviceFault` as `store.telling` does.
        """
        with self._lock, telling():
            picture = self._opened()
            key = None if picture is None else identify(picture.identifier_version)
            if picture is None or key is None:
                return None
            with reading(picture.db) as db:
                found = db.execute(
                    "SELECT body FROM rows WHERE kind = ? AND key = ?", (_CREDENTIAL, key)
                ).fetchone()
        if found is None:
            return None
        try:
            return key, _ROW.decode(found[0])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptData(f"{self._scope}: a credential that does not decode") from error

    def close(self) -> None:
        """Twice is fine; afterwards no card is known."""
        with self._lock:
            self._closed = True
            if self._picture is not None:
                self._picture.db.close()
            if self._sync is not None:
                self._sync.close()
            self._picture = self._sync = None

    def _opened(self) -> _Picture | None:
        """The picture in force now."""
        if self._closed:
            return None
        if self._sync is None:
            self._sync = _open(self._folder / "sync.db", FileKind.SYNC)
        pointer = None if self._sync is None else in_force(self._sync, self._scope)
        if pointer is None:
            return None
        held = self._picture
        if held is None or held.generation != pointer.generation:
            path = picture_path(self._folder, self._scope, pointer.generation)
            db = _open(path, FileKind.PICTURE)
            if db is None:
                raise CorruptData(f"{path}: in force, but not there; sync will fetch it again")
            if held is not None:
                held.db.close()
            version = picture_meta(db).identifier_key_version
            held = self._picture = _Picture(pointer.generation, db, version)
        return held


def _open(path: Path, kind: FileKind) -> sqlite3.Connection | None:
    db = open_reader(path, kind)
    if db is not None:
        db.execute(f"PRAGMA busy_timeout = {BUSY_MS_MAX}")
    return db
