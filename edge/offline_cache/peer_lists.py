"""What the lists in force say to sync itself: the school's roster, its brokers, and the base.

Pictures are opened read-only and read again only when their version changed, so that asking each
second costs two small reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from edge.messages import (
    ROW_NUMBERS,
    PeerBroker,
    RosterRow,
    RowKind,
    SiteRow,
    Stream,
    VersionMark,
)
from edge.model import CorruptData
from edge.offline_cache.apply import PictureMeta, in_force, picture_meta, picture_path
from edge.offline_cache.store import FileKind, open_reader, reading, telling

_SITE: Final = msgspec.msgpack.Decoder(SiteRow)
_ROSTER: Final = msgspec.msgpack.Decoder(RosterRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class School:
    """Who belongs to it, and over which brokers they hear each other."""

    roster: Mapping[str, RosterRow] = field(default_factory=lambda: MappingProxyType({}))
    brokers: tuple[PeerBroker, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The money picture in force: (device, epoch) -> how much of its `main` it includes."""

    version: VersionMark | None = None
    vector: Mapping[tuple[str, str], int] = field(default_factory=lambda: MappingProxyType({}))


class PeerLists:
    """Reads beside sync's writers. `close` lets go of the files."""

    def __init__(self, folder: Path, sync_db: sqlite3.Connection, *, site: str) -> None:
        self._folder = folder
        self._sync = sync_db
        self._scopes = {name: f"{site}/{name}" for name in ("settings", "money")}
        self._open: dict[str, tuple[int, sqlite3.Connection]] = {}
        self._school: tuple[VersionMark | None, School] = (None, School())
        self._base: tuple[VersionMark | None, Base] = (None, Base())

    def school(self) -> School:
        """As the signed settings in force say; nobody while there are none."""
        with telling():
            db = self._picture("settings")
            if db is None:
                return self._school[1]
            with reading(db):
                version = picture_meta(db).version
                if version != self._school[0]:
                    self._school = (version, _read_school(db))
        return self._school[1]

    def base(self) -> Base:
        with telling():
            db = self._picture("money")
            if db is None:
                return self._base[1]
            meta = picture_meta(db)
            if meta.version != self._base[0]:
                self._base = (meta.version, _read_base(meta))
        return self._base[1]

    def close(self) -> None:
        for _, db in self._open.values():
            db.close()
        self._open.clear()

    def _picture(self, name: str) -> sqlite3.Connection | None:
        scope = self._scopes[name]
        pointer = in_force(self._sync, scope)
        if pointer is None:
            return None
        opened = self._open.get(name)
        if opened is not None and opened[0] == pointer.generation:
            return opened[1]
        path = picture_path(self._folder, scope, pointer.generation)
        db = open_reader(path, FileKind.PICTURE)
        if db is None:
            raise CorruptData(f"{path}: in force, but not there; it will be fetched again")
        if opened is not None:
            opened[1].close()
        self._open[name] = (pointer.generation, db)
        return db


def _read_school(db: sqlite3.Connection) -> School:
    kinds = ROW_NUMBERS[RowKind.SITE], ROW_NUMBERS[RowKind.ROSTER]
    rows = db.execute("SELECT kind, key, body FROM rows WHERE kind IN (?, ?)", kinds).fetchall()
    brokers: tuple[PeerBroker, ...] = ()
    roster: dict[str, RosterRow] = {}
    try:
        for kind, key, body in rows:
            if kind == kinds[0]:
                brokers = _SITE.decode(body).peer_brokers
            else:
                roster[key.decode()] = _ROSTER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"settings: a row that does not decode: {error}") from error
    return School(roster=roster, brokers=brokers)


def _read_base(meta: PictureMeta) -> Base:
    vector = {(e.device, e.epoch): e.sequence for e in meta.vector if e.stream == Stream.MAIN}
    return Base(version=meta.version, vector=vector)
