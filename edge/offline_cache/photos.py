"""Photos on the disk: sealed as they came, one file to a hash, bounded, gone when their person is.

`sync` writes and deletes, `edge` reads; nobody else. A file's name is the base64url SHA-256 of its
bytes, and a signed row of the list of people named it, so what is read back can be checked again.
Which photos are wanted is said by the rows alone; whether a station may hold any is asked of
`may_hold`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

from edge.messages import PHOTO_BYTES_MAX, ROW_NUMBERS, CardholderRow, RowKind, SiteRow, b64u
from edge.model import CorruptData, DeviceFault, Station
from edge.offline_cache.apply import in_force, picture_path
from edge.offline_cache.store import Connection, FileKind, open_reader, reading, telling

FOLDER: Final = "photos"
NAME: Final = re.compile(r"[A-Za-z0-9_-]{43}")
ALL_BYTES_MAX: Final = 64 * 1024 * 1024  # Our choice: 2,000 faces of 32 KiB; an SD card has 8 GB.
FILE_MODE: Final = 0o640  # house.md: sync's own, and for edge to read.
_CARDHOLDER: Final = ROW_NUMBERS[RowKind.CARDHOLDER]
_ROW: Final = msgspec.msgpack.Decoder(CardholderRow)


def may_hold(station: Station, site: SiteRow | None) -> bool:
    """Pre-schools, whose officer compares faces; other entrances where the city has said so."""
    if station is Station.PRESCHOOL:
        return True
    return station is Station.ENTRANCE and site is not None and site.photos


class PhotoFiles:
    """The folder of one device."""

    def __init__(self, state: Path, *, bytes_max: int = ALL_BYTES_MAX) -> None:
        self.folder = state / FOLDER
        self._bytes_max = bytes_max

    def held(self) -> frozenset[str]:
        return frozenset(self._sizes())

    def put(self, photo_hash: str, data: bytes) -> bool:
        """Keep a photo; False when there is no room for it. `CorruptData` for another's bytes,
        `DeviceFault` when the disk will not have it."""
        if b64u(hashlib.sha256(data).digest()) != photo_hash or len(data) > PHOTO_BYTES_MAX:
            raise CorruptData(f"a photo of {len(data)} bytes that is not the one its row names")
        if sum(self._sizes().values()) + len(data) > self._bytes_max:
            return False
        beside = self.folder / f"{photo_hash}.new"
        try:
            self.folder.mkdir(mode=0o750, exist_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            beside.replace(self.folder / photo_hash)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise DeviceFault(f"{self.folder}: {error.strerror}; is the disk full?") from error
        return True

    def get(self, photo_hash: str) -> bytes | None:
        """The sealed bytes; None when they are not here, or are not what they were."""
        if not NAME.fullmatch(photo_hash):
            return None
        try:
            with (self.folder / photo_hash).open("rb") as file:
                data = file.read(PHOTO_BYTES_MAX + 1)
        except OSError:
            return None
        return data if b64u(hashlib.sha256(data).digest()) == photo_hash else None

    def sweep(self, wanted: Collection[str]) -> int:
        """Delete what is not wanted (any more), and what a killed process left. How many."""
        swept = 0
        for path in self._paths():
            if path.name not in wanted:
                with contextlib.suppress(OSError):
                    path.unlink()
                    swept += 1
        return swept

    def _paths(self) -> list[Path]:
        try:
            return list(self.folder.iterdir())
        except OSError:
            return []

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        for path in self._paths():
            if NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    sizes[path.name] = path.stat().st_size
        return sizes


@telling()
def named_photos(folder: Path, sync: Connection, scope: str) -> frozenset[str]:
    """What the list of people in force names. Reads every person's row: not in a tap's thread."""
    pointer = in_force(sync, scope)
    if pointer is None:
        return frozenset()
    path = picture_path(folder, scope, pointer.generation)
    db = open_reader(path, FileKind.PICTURE)
    if db is None:
        return frozenset()
    try:
        with reading(db):
            rows = db.execute("SELECT body FROM rows WHERE kind = ?", (_CARDHOLDER,))
            named = {_ROW.decode(body).photo_hash for (body,) in rows}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"{scope}: a person that does not decode") from error
    finally:
        db.close()
    return frozenset(name for name in named if NAME.fullmatch(name))
