"""Photos of this device: fetched ahead of need where they may be held at all, and deleted when
they may not, or when their person is gone. Shell around `sync/photo_fetch.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from edge import logs
from edge.messages import ROW_NUMBERS, Pull, PushPhoto, RowKind, SiteRow, VersionMark
from edge.model import CorruptData, DeviceFault, Moment, Station
from edge.offline_cache.apply import Pictures
from edge.offline_cache.photos import PhotoFiles, may_hold, named_photos
from edge.offline_cache.store import Writer
from sync.photo_fetch import PhotoFetch

LOOK_MS: Final = 5_000  # Our choice: a new child's face is there before the first morning.
SITE: Final = (ROW_NUMBERS[RowKind.SITE], b"site")


class Photos:
    """Used in sync's thread alone."""

    def __init__(
        self,
        *,
        device: str,
        site: str,
        station: Station,
        pictures: Pictures,
        writer: Writer,
        folder: Path,
    ) -> None:
        self.counters: dict[str, int] = {}
        self.files = PhotoFiles(folder)
        self._people, self._settings = f"{site}/people", f"{site}/settings"
        self._station = station
        self._pictures = pictures
        self._writer = writer
        self._fetch = PhotoFetch(device=device, scope=self._people)
        self._looked_ms: int | None = None
        self._seen: tuple[VersionMark | None, VersionMark | None] | None = None
        self._full = False
        self._log = logs.get("photos")

    @property
    def lacking(self) -> int:
        """How many the list names and are not here yet."""
        return self._fetch.lacking

    def step(self, moment: Moment, *, connected: bool) -> Pull | None:
        """Look at the lists now and then; and what to ask for next."""
        if self._looked_ms is None or moment.mono_ms - self._looked_ms >= LOOK_MS:
            self._looked_ms = moment.mono_ms
            self._look()
        if not connected or self._full:
            return None
        return self._fetch.pull(now_ms=moment.mono_ms)

    def take(self, push: PushPhoto, moment: Moment) -> None:
        """A piece came. `CorruptData` when the whole is not what its row names."""
        data = self._fetch.take(push, now_ms=moment.mono_ms)
        if data is None:
            return
        try:
            kept = self.files.put(push.hash, data)
        except (CorruptData, DeviceFault):
            self._fetch.failed(push.hash, now_ms=moment.mono_ms)
            raise
        self._fetch.done(push.hash)
        if not kept:
            self._full = True  # Until somebody goes: the list is looked at again then.
            self._log.warning("no room for more photos", held=len(self.files.held()))
        self._count("photos_taken" if kept else "photos_without_room")

    def disconnected(self) -> None:
        self._fetch.disconnected()

    def _look(self) -> None:
        """Only when a list has changed since the last look."""
        try:
            people = self._pictures.held(self._people)
            seen = people, self._pictures.held(self._settings)
            if seen == self._seen:
                return
            wanted: frozenset[str] = frozenset()
            if may_hold(self._station, self._site()):
                wanted = named_photos(self._pictures.folder, self._writer.db, self._people)
        except (CorruptData, DeviceFault):
            return  # Of a list that is being fetched again; what is held stays.
        self._seen = seen
        if people is not None:
            swept = self.files.sweep(wanted)
            if swept:
                self._log.info("photos deleted", count=swept)
        self._fetch.want(wanted, self.files.held())
        self._full = False

    def _site(self) -> SiteRow | None:
        body = self._pictures.row(self._settings, *SITE)
        try:
            return None if body is None else msgspec.msgpack.decode(body, type=SiteRow)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptData("site settings that do not decode") from error

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
