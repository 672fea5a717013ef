"""How much the journal may still grow, and a reserve for the worst moment.

The quota is our own bound or what the disk still has, whichever is less. At 90 % room is made
(`retention.py`), at 95 % a till stops selling. A file put by beforehand is let go when the disk
is full, so that there is room for the last facts and for making room: deleting needs some too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

from edge.model import DeviceFault
from edge.offline_cache.store import FILE_MODE, JOURNAL_SIZE_MAX, Writer, telling

MIB: Final = 1024 * 1024
# Our choice: 35 days of a busy lane (10,000 facts of 700 bytes a day) are 250 MB; twice that.
QUOTA_BYTES: Final = 512 * MIB
RESERVE_BYTES: Final = 8 * MIB  # Our choice: two full WALs (`JOURNAL_SIZE_MAX`).
START_RESERVE_BYTES: Final = 1 * MIB  # Our choice: the -shm and -wal of a dozen databases.
TIGHT_PERCENT: Final = 90  # Room is made from here on,
FULL_PERCENT: Final = 95  # and from here on nothing is sold (ledger.md).

assert TIGHT_PERCENT < FULL_PERCENT < 100


@unique
class Level(StrEnum):
    ROOMY = "roomy"
    TIGHT = "tight"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Where the journal stands against its quota."""

    used_bytes: int
    quota_bytes: int

    @property
    def percent(self) -> int:
        return 100 * self.used_bytes // max(1, self.quota_bytes)

    @property
    def level(self) -> Level:
        if self.percent >= FULL_PERCENT:
            return Level.FULL
        return Level.TIGHT if self.percent >= TIGHT_PERCENT else Level.ROOMY


def use_of(
    *, used_bytes: int, spare_bytes: int, wal_bytes: int, disk_free_bytes: int, quota_bytes: int
) -> Use:
    """`spare_bytes` are inside the file, free to be written again. What the disk still has bounds
    the quota, once the WAL has had what it may grow to: a disk that others have filled is as full
    as one that we have."""
    free_bytes = max(0, disk_free_bytes - max(0, JOURNAL_SIZE_MAX - wal_bytes))
    reachable = used_bytes + spare_bytes + free_bytes
    return Use(used_bytes=used_bytes, quota_bytes=min(quota_bytes, reachable))


class Room:
    """The folder's disk and the journal in it."""

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int = QUOTA_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._reserves = {
            folder / "reserve": reserve_bytes,
            folder / "reserve-start": min(START_RESERVE_BYTES, reserve_bytes),
        }

    def look(self, writer: Writer) -> Use:
        """How full it is now. `DeviceFault` when not even that can be told."""
        with telling(writer.path):
            page_bytes, pages, spare = (
                int(writer.db.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_size", "page_count", "freelist_count")
            )
        return use_of(
            used_bytes=(pages - spare) * page_bytes,
            spare_bytes=spare * page_bytes,
            wal_bytes=self._wal_bytes(writer.path),
            disk_free_bytes=self._disk_free_bytes(),
            quota_bytes=self._quota_bytes,
        )

    @property
    def reserve_held(self) -> bool:
        return all(_is_held(path, size) for path, size in self._reserves.items())

    def keep_reserve(self) -> bool:
        """Put by again what was given up, when the disk has room for it twice. False while it has
        not."""
        for path, size in self._reserves.items():
            try:
                if _is_held(path, size):
                    continue
                if self._disk_free_bytes() < 2 * size:
                    return False
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(path, flags, FILE_MODE)
                try:
                    os.posix_fallocate(descriptor, 0, size)
                finally:
                    os.close(descriptor)
            except (OSError, DeviceFault):
                with suppress(OSError):
                    path.unlink()
                return False
        return True

    def let_reserve_go(self, *, at_start: bool = False) -> bool:
        """Give the reserve to whoever writes next. False when there was none. A small part of it
        is for a start on a full disk alone: to open a database takes some room, too."""
        path = self._folder / ("reserve-start" if at_start else "reserve")
        try:
            path.unlink()
        except OSError:
            return False
        return True

    def _wal_bytes(self, path: Path) -> int:
        with suppress(OSError):
            return path.with_name(path.name + "-wal").stat().st_size
        return 0

    def _disk_free_bytes(self) -> int:
        try:
            disk = os.statvfs(self._folder)
        except OSError as error:
            raise DeviceFault(f"{self._folder}: {error.strerror}; check the disk") from error
        return disk.f_bavail * disk.f_frsize


def _is_held(path: Path, size: int) -> bool:
    with suppress(OSError):
        return path.stat().st_size >= size
    return False
