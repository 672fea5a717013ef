"""A generation in the making: the chunks of one snapshot, until all are there.

What was checked is kept: rows and the note of which chunks they were are one transaction in the
generation's own file, so after a restart of `sync` only what is missing is fetched. The signed
manifest stands beside them, for its signature is checked again before anything is added.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from edge.messages import (
    CHUNK_BYTES_MAX,
    CHUNK_ROWS_BYTES_MAX,
    SET_DIGEST_MODULUS,
    Delta,
    Manifest,
    Row,
    Signed,
    VersionMark,
    decode_pack,
    encode_pack,
    row_hash,
    set_digest_bytes,
)
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.offline_cache.picture import (
    PictureMeta,
    change_picture,
    count_rows,
    delete_file,
    picture_meta,
    picture_path,
    put_note,
    write_meta,
)
from edge.offline_cache.store import FileKind, Writer, open_reader, telling

ZSTD_WINDOW_MAX: Final = 8 * 1024 * 1024  # Our choice: what zstd level 19 asks for at most.


class _Progress(msgspec.Struct, frozen=True, array_like=True):
    """What of a snapshot is in the file."""

    taken: tuple[int, ...]
    total: bytes  # The set digest so far.
    rows: int


def unpack_chunk(data: bytes) -> list[Row]:
    """The rows of a chunk whose hash was checked; bounded whatever its header claims."""
    if len(data) > CHUNK_BYTES_MAX:
        raise CorruptData(f"chunk: {len(data)} bytes, more than {CHUNK_BYTES_MAX}")
    try:
        unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX)
        with unpacker.stream_reader(io.BytesIO(data)) as stream:
            rows = stream.read(CHUNK_ROWS_BYTES_MAX + 1)
    except zstandard.ZstdError as error:
        raise CorruptData(f"chunk: {error}") from error
    return decode_pack(list[Row], rows, size_max=CHUNK_ROWS_BYTES_MAX)


class SnapshotBuilder:
    """Chunks in any order, each checked as it comes. With `signed`, the manifest as it came, the
    generation can be gone on with in another process."""

    def __init__(
        self, folder: Path, manifest: Manifest, generation: int, *, signed: Signed | None = None
    ) -> None:
        """Begin, or go on with what `half_built` found. `CorruptData` when that is damaged."""
        self.manifest = manifest
        self.generation = generation
        self.path = picture_path(folder, manifest.scope, generation)
        self._writer = Writer(self.path, FileKind.PICTURE, synchronous="NORMAL")
        self._taken: set[int] = set()
        self._total = 0
        self._rows = 0
        self._resumable = signed is not None
        self._resumed = False
        try:
            self._go_on()
            if signed is not None and not self._resumed:
                with self._writer.transaction() as db:
                    put_note(db, "build", encode_pack(signed))
        except BaseException:
            self._writer.close()
            raise

    def _go_on(self) -> None:
        """From where the note in the file says."""
        with telling(self.path):
            row = self._writer.db.execute(
                "SELECT value FROM meta WHERE key = 'progress'"
            ).fetchone()
        if row is None:
            return
        progress = decode_pack(_Progress, row[0])
        chunks = len(self.manifest.chunk_hashes)
        if any(not 0 <= index < chunks for index in progress.taken):
            raise CorruptData(f"{self.path}: has taken chunks that are not this snapshot's")
        self._taken = set(progress.taken)
        self._total, self._rows = int.from_bytes(progress.total, "big"), progress.rows
        self._resumed = True

    @property
    def taken(self) -> frozenset[int]:
        """The chunks that are in."""
        return frozenset(self._taken)

    def add_chunk(self, index: int, data: bytes) -> None:
        """`CorruptData` when it is none of this snapshot's; a chunk already taken is ignored."""
        if index in self._taken:
            return
        if not 0 <= index < len(self.manifest.chunk_hashes):
            raise CorruptData(f"{self.manifest.scope}: chunk {index} of a smaller snapshot")
        if hashlib.sha256(data).digest() != self.manifest.chunk_hashes[index]:
            raise CorruptData(f"{self.manifest.scope}: chunk {index} is not the one signed")
        rows = unpack_chunk(data)
        total = (self._total + sum(map(row_hash, rows))) % SET_DIGEST_MODULUS
        with self._writer.transaction() as db:
            db.executemany(
                "INSERT INTO rows VALUES (?, ?, ?)", ((r.kind, r.key, r.body) for r in rows)
            )
            if self._resumable:
                progress = _Progress(
                    (*self._taken, index), set_digest_bytes(total), self._rows + len(rows)
                )
                put_note(db, "progress", encode_pack(progress))
        self._total = total
        self._rows += len(rows)
        self._taken.add(index)

    def missing(self) -> Sequence[int]:
        return [i for i in range(len(self.manifest.chunk_hashes)) if i not in self._taken]

    def finish(self, later: Iterable[Delta] = ()) -> VersionMark:
        """Verify the whole, take deltas that came meanwhile, and leave a closed file on disk."""
        manifest = self.manifest
        assert not self.missing()
        found = self._rows, set_digest_bytes(self._total)
        if self._resumed:  # Another process wrote some of it, and the power may have gone since.
            with telling(self.path):
                found = count_rows(self._writer.db)
        if found != (manifest.rows, manifest.set_digest):
            self.discard()
            raise CorruptData(f"{manifest.scope}: the snapshot's rows are not those signed")
        with self._writer.transaction() as db:
            db.execute("DELETE FROM meta WHERE key IN ('build', 'progress')")
            write_meta(
                db,
                PictureMeta(
                    version=manifest.version,
                    set_digest=manifest.set_digest,
                    identifier_key_version=manifest.identifier_key_version,
                    seal_key_version=manifest.seal_key_version,
                    vector=manifest.vector,
                ),
            )
        for delta in later:
            if picture_meta(self._writer.db).version == delta.base:
                with self._writer.transaction() as db:
                    change_picture(db, delta)
        version = picture_meta(self._writer.db).version
        self._writer.checkpoint()
        self._writer.close()
        _fsync(self.path)
        _fsync(self.path.parent)
        return version

    def discard(self) -> None:
        """Let go of it and delete it; a second call does nothing."""
        self._writer.close()
        delete_file(self.path)

    def close(self) -> None:
        """Let go of it and keep it: a next process goes on where this one stopped."""
        self._writer.close()


def half_built(folder: Path, scope: str) -> Iterator[tuple[int, Signed]]:
    """Generations of a scope that were being made when sync ended, the newest first: number and
    signed manifest.
    One that cannot be read is passed over; the sweep deletes it."""
    prefix = picture_path(folder, scope, 0).name.removesuffix("0.db")
    names = [path.name[len(prefix) : -len(".db")] for path in folder.glob(prefix + "*.db")]
    for number in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
        path = folder / f"{prefix}{number}.db"
        try:
            db = open_reader(path, FileKind.PICTURE)
            if db is None:
                continue
            try:
                with telling(path):
                    row = db.execute("SELECT value FROM meta WHERE key = 'build'").fetchone()
            finally:
                db.close()
            if row is not None:
                yield number, decode_pack(Signed, row[0])
        except (CorruptData, DeviceFault, SetupProblem):
            continue


def _fsync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DeviceFault(f"{path}: {error.strerror}; check the disk") from error
