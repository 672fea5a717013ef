"""Pictures put in force, and seen from outside, for tests of what sync writes and edge reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.messages import Delta, Manifest, VersionMark
from edge.model import Moment
from edge.offline_cache.apply import (
    Pictures,
    SnapshotBuilder,
    in_force,
    picture_meta,
    picture_path,
)
from edge.offline_cache.store import FileKind, Writer, open_reader
from tests.support.small_city import Key, Scope, set_digest_of
from tests.support.times import at


@dataclass(slots=True)
class Station:
    """The files of one station, with sync's hands on them."""

    folder: Path
    writer: Writer
    pictures: Pictures

    def install(
        self, scope: Scope, *, moment: Moment | None = None, rows_per_chunk: int = 100
    ) -> int:
        """A snapshot as the city makes it now, in force. Returns its generation."""
        manifest, chunks = scope.snapshot(rows_per_chunk=rows_per_chunk)
        return self.install_packed(manifest, chunks, moment=moment)

    def install_packed(
        self,
        manifest: Manifest,
        chunks: list[bytes],
        *,
        later: tuple[Delta, ...] = (),
        moment: Moment | None = None,
    ) -> int:
        generation = self.pictures.next_generation(manifest.scope)
        builder = SnapshotBuilder(self.folder, manifest, generation)
        for index, chunk in enumerate(chunks):
            builder.add_chunk(index, chunk)
        builder.finish(later)
        self.pictures.put_in_force(
            builder.path,
            manifest.scope,
            generation,
            manifest.issued_utc_ms,
            at() if moment is None else moment,
        )
        return generation

    def builder(self, scope: Scope, **fields: object) -> tuple[SnapshotBuilder, list[bytes]]:
        """The next generation of a list begun, with these fields of its manifest changed, and
        the chunks it waits for."""
        manifest, chunks = scope.snapshot(rows_per_chunk=2)
        manifest = msgspec.structs.replace(manifest, **fields)
        generation = self.pictures.next_generation(scope.name)
        return SnapshotBuilder(self.folder, manifest, generation), chunks

    def close(self) -> None:
        self.pictures.close()
        self.writer.close()


def open_station(folder: Path) -> Station:
    folder.mkdir(exist_ok=True)
    writer = Writer(folder / "sync.db", FileKind.SYNC)
    return Station(folder, writer, Pictures(folder, writer))


def seen(folder: Path, scope: str) -> tuple[VersionMark, dict[Key, bytes]] | None:
    """What a reader finds in force: version and rows, once their digest is the picture's own."""
    sync = open_reader(folder / "sync.db", FileKind.SYNC)
    if sync is None:
        return None
    pointer = in_force(sync, scope)
    sync.close()
    if pointer is None:
        return None
    db = open_reader(picture_path(folder, scope, pointer.generation), FileKind.PICTURE)
    assert db is not None, "in force, and not there"
    rows = {(kind, key): body for kind, key, body in db.execute("SELECT * FROM rows")}
    meta = picture_meta(db)
    db.close()
    assert meta.set_digest == set_digest_of(rows)
    return meta.version, rows
