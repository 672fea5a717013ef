"""Files that edge's lookups read: `sync.db` and the pictures in force, opened when first asked for.

Pointers are read anew at every lookup; a picture is opened again when its pointer has moved. What
could not be read is a suspect: sync looks at it and fetches it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from edge.model import CorruptData, DeviceFault, ListState, Moment, Version
from edge.offline_cache.apply import InForce, PictureMeta, in_force, newer, picture_path
from edge.offline_cache.store import FileKind, file_id, open_reader, telling

MUSEUM: Final = "museum"  # The scope of all sites, known to admission stations alone.

_P = ParamSpec("_P")
_R = TypeVar("_R")
_O = TypeVar("_O", bound="Opened")


@dataclass(slots=True)
class Open:
    pointer: InForce
    db: sqlite3.Connection


def noting(
    method: Callable[Concatenate[_O, _P], _R],
) -> Callable[Concatenate[_O, _P], _R]:
    """Errors as `telling` gives them; and the picture read last is a suspect of it. sync looks at
    all of that one, so an innocent one costs nothing."""

    @wraps(method)
    def told(self: _O, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        self._reading = None
        try:
            with telling():
                return method(self, *args, **kwargs)
        except (CorruptData, DeviceFault):
            self._suspect()
            raise

    return told


class Opened:
    """Read-only connections, one to a file."""

    def __init__(self, folder: Path, *, site: str) -> None:
        self.folder = folder
        self.scopes = {name: f"{site}/{name}" for name in ("people", "money", "menu", "settings")}
        self.scopes[MUSEUM] = f"city/{MUSEUM}"
        self.suspects: dict[str, int] = {}  # Scope -> generation that could not be read.
        self._sync: sqlite3.Connection | None = None
        self._sync_id: tuple[int, int] | None = None
        self._reading: InForce | None = None  # The picture that was asked for last.
        self._open: dict[str, Open] = {}

    def close(self) -> None:
        for opened in self._open.values():
            opened.db.close()
        self._open.clear()
        if self._sync is not None:
            self._sync.close()
            self._sync = None

    def _sync_db(self) -> sqlite3.Connection | None:
        if self._sync is None:
            self._sync_id = file_id(self.folder / "sync.db")
            self._sync = open_reader(self.folder / "sync.db", FileKind.SYNC)
        return self._sync

    def _picture(self, scope: str) -> Open | None:
        """The picture in force now; reopened when its pointer has moved."""
        sync = self._sync_db()
        pointer = None if sync is None else in_force(sync, scope)
        opened = self._open.get(scope)
        self._reading = pointer
        if pointer is None:
            return None
        if self.suspects.get(scope, pointer.generation) != pointer.generation:
            del self.suspects[scope]  # Another has taken its place.
        if opened is not None and opened.pointer.generation == pointer.generation:
            opened.pointer = pointer
            return opened
        path = picture_path(self.folder, scope, pointer.generation)
        db = open_reader(path, FileKind.PICTURE)
        if db is None:
            raise CorruptData(f"{path}: in force, but not there; sync will fetch it again")
        if opened is not None:
            opened.db.close()
        self._open[scope] = Open(pointer, db)
        return self._open[scope]

    def _suspect(self) -> None:
        """Of the picture asked for last; of none when the trouble lay elsewhere."""
        if self._reading is not None:
            self.suspects[self._reading.scope] = self._reading.generation


def list_state(pointer: InForce, meta: PictureMeta, moment: Moment) -> ListState:
    """Version and age. With a trusted clock the age counts from the head's `issued`, else from
    reception on the monotonic clock; across a reboot without trusted time it cannot be told."""
    age_s: int | None = None
    if newer(pointer.floor, meta.version):
        pass  # Below what was in force before: an old list until it has caught up.
    elif moment.clock_trusted:
        age_s = max(0, (moment.wall_ms - pointer.issued_utc_ms) // 1000)
    elif pointer.received_boot == moment.boot:
        age_s = max(0, (moment.mono_ms - pointer.received_mono_ms) // 1000)
    version = Version(list_epoch=meta.version.list_epoch, number=meta.version.number)
    return ListState(version=version, age_s=age_s, issued_utc_ms=pointer.issued_utc_ms)
