"""sync's side of the lists: pictures as generations, deltas, and putting one in force.

A delta is one transaction in the current picture; the picture commits first, the version floor
in `sync.db` second. A snapshot is built in the next generation, verified, closed, fsynced with
its folder, and goes in force by one `sync.db` transaction. No database is renamed, no name is
used twice, and an older generation never comes back: edge always reads one whole version.

Whatever comes in here was verified by the caller (`trust.Verifier`).
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from edge.messages import (
    CHUNK_BYTES_MAX,
    CHUNK_ROWS_BYTES_MAX,
    SET_DIGEST_MODULUS,
    Delta,
    Head,
    Manifest,
    Row,
    ScopeKey,
    VectorEntry,
    VersionMark,
    decode_pack,
    encode_pack,
    row_hash,
    set_digest_bytes,
)
from edge.model import CorruptData, DeviceFault, Moment, SetupProblem
from edge.offline_cache.store import FileKind, Writer, lock_file, reading, telling

RETIRED_MS: Final = 10 * 60 * 1000  # house.md: a generation lives on so long after it left force.
ZSTD_WINDOW_MAX: Final = 8 * 1024 * 1024  # Our choice: what zstd level 19 asks for at most.


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The pointer to a scope's picture, and how fresh it is."""

    scope: str
    generation: int
    floor: VersionMark
    issued_utc_ms: int
    received_boot: str
    received_mono_ms: int


def picture_path(folder: Path, scope: str, generation: int) -> Path:
    """Where a generation lives. Scopes hold `/` once; file names hold none."""
    return folder / f"picture-{scope.replace('/', '-')}-{generation}.db"


def newer(left: VersionMark, right: VersionMark) -> bool:
    return (left.list_epoch, left.number) > (right.list_epoch, right.number)


def in_force(sync_db: sqlite3.Connection, scope: str) -> InForce | None:
    row = sync_db.execute(
        "SELECT generation, list_epoch, number, issued_utc_ms, received_boot, received_mono_ms"
        " FROM pictures WHERE scope = ?",
        (scope,),
    ).fetchone()
    if row is None:
        return None
    return InForce(
        scope=scope,
        generation=row[0],
        floor=VersionMark(row[1], row[2]),
        issued_utc_ms=row[3],
        received_boot=row[4],
        received_mono_ms=row[5],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureMeta:
    """What a picture says of itself, in one record, read with its rows."""

    version: VersionMark
    set_digest: bytes
    identifier_key_version: int
    seal_key_version: int
    vector: tuple[VectorEntry, ...]


class _MetaRecord(msgspec.Struct, frozen=True, array_like=True):
    version: VersionMark
    set_digest: bytes
    identifier_key_version: int
    seal_key_version: int
    vector: tuple[VectorEntry, ...]


_META_DECODER: Final[msgspec.msgpack.Decoder[_MetaRecord]] = msgspec.msgpack.Decoder(_MetaRecord)


def picture_meta(db: sqlite3.Connection) -> PictureMeta:
    """Raises `CorruptData` for a picture that was never finished, or is damaged."""
    with telling():
        row = db.execute("SELECT value FROM meta WHERE key = 'picture'").fetchone()
    if row is None:
        raise CorruptData("a picture without its record")
    try:
        record = _META_DECODER.decode(row[0])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"a picture's record: {error}") from error
    return PictureMeta(
        version=record.version,
        set_digest=record.set_digest,
        identifier_key_version=record.identifier_key_version,
        seal_key_version=record.seal_key_version,
        vector=record.vector,
    )


def _write_meta(db: sqlite3.Connection, meta: PictureMeta) -> None:
    record = _MetaRecord(
        meta.version,
        meta.set_digest,
        meta.identifier_key_version,
        meta.seal_key_version,
        meta.vector,
    )
    db.execute("INSERT OR REPLACE INTO meta VALUES ('picture', ?)", (encode_pack(record),))


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


class Pictures:
    """All pictures of this device. Uses `sync.db`'s writer for pointers and floors."""

    def __init__(self, folder: Path, sync_writer: Writer) -> None:
        self.folder = folder
        self._sync = sync_writer
        self._current: dict[str, tuple[int, Writer]] = {}

    def held(self, scope: str) -> VersionMark | None:
        """The version in force: the higher of the picture's own and its floor."""
        pointer = in_force(self._sync.db, scope)
        if pointer is None:
            return None
        version = picture_meta(self._writer(pointer).db).version
        return version if newer(version, pointer.floor) else pointer.floor

    def set_digest(self, scope: str) -> bytes | None:
        """The set digest of the picture in force."""
        pointer = in_force(self._sync.db, scope)
        return None if pointer is None else picture_meta(self._writer(pointer).db).set_digest

    def row(self, scope: str, kind: int, key: bytes) -> bytes | None:
        """The body of one row of the picture in force; None when there is none."""
        pointer = in_force(self._sync.db, scope)
        if pointer is None:
            return None
        with reading(self._writer(pointer).db) as db:
            found = db.execute(
                "SELECT body FROM rows WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return None if found is None else found[0]

    def apply_delta(self, delta: Delta, moment: Moment) -> None:
        """The change, in one transaction. `CorruptData` when it does not fit, is not for exactly
        the version held, or the set digest after it is not the one that was signed."""
        pointer = in_force(self._sync.db, delta.scope)
        if pointer is None:
            raise CorruptData(f"{delta.scope}: a delta, but no picture to change")
        writer = self._writer(pointer)
        with writer.transaction() as db:
            change_picture(db, delta)
        self._touch(delta.scope, delta.target, delta.issued_utc_ms, moment)

    def freshen(self, head: Head, moment: Moment) -> None:
        """A signed head names the version in force as the newest: the list is as fresh as it."""
        self._touch(head.scope, head.version, head.issued_utc_ms, moment)

    def put_in_force(
        self, path: Path, scope: str, generation: int, issued_utc_ms: int, moment: Moment
    ) -> None:
        """A built and verified generation takes over, if it is no step back."""
        pointer = in_force(self._sync.db, scope)
        assert pointer is None or generation > pointer.generation, "an older one never comes back"
        writer = Writer(path, FileKind.PICTURE)
        try:
            meta = picture_meta(writer.db)
            if pointer is not None:
                self._check_no_step_back(pointer, meta)
            target = InForce(
                scope=scope,
                generation=generation,
                floor=meta.version,
                issued_utc_ms=issued_utc_ms,
                received_boot=moment.boot,
                received_mono_ms=moment.mono_ms,
            )
            self._point_to(target, pointer)
        except BaseException:
            writer.close()
            raise
        old = self._current.pop(scope, None)
        if old is not None:
            old[1].close()
        self._current[scope] = (generation, writer)

    def _point_to(self, target: InForce, before: InForce | None) -> None:
        """The one transaction that puts a generation in force and retires the one before."""
        with self._sync.transaction() as db:
            if before is not None:
                name = picture_path(self.folder, before.scope, before.generation).name
                db.execute(
                    "INSERT OR REPLACE INTO retired VALUES (?, ?, ?)",
                    (name, target.received_boot, target.received_mono_ms),
                )
            db.execute(
                "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *(target.scope, target.generation),
                    *(target.floor.list_epoch, target.floor.number, target.issued_utc_ms),
                    *(target.received_boot, target.received_mono_ms),
                ),
            )

    def next_generation(self, scope: str) -> int:
        """A number never used before for this scope, whatever files lie about."""
        key = f"generation {scope}"
        row = self._sync.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        pointer = in_force(self._sync.db, scope)
        used = [int(row[0]) if row is not None else 0]
        used.append(pointer.generation if pointer is not None else 0)
        prefix = f"picture-{scope.replace('/', '-')}-"
        for path in self.folder.glob(prefix + "*.db*"):
            number = path.name[len(prefix) :].split(".")[0]
            used.append(int(number) if number.isdecimal() else 0)
        with self._sync.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, str(max(used) + 1)))
        return max(used) + 1

    def sweep(self, moment: Moment) -> list[str]:
        """Delete generations that left force long enough ago, and half-built ones of before."""
        gone = []
        retired = self._sync.db.execute("SELECT path, boot, mono_ms FROM retired").fetchall()
        for name, boot, mono_ms in retired:
            if boot == moment.boot and moment.mono_ms - mono_ms < RETIRED_MS:
                continue
            _delete(self.folder / name)
            with self._sync.transaction() as db:
                db.execute("DELETE FROM retired WHERE path = ?", (name,))
            gone.append(name)
        kept = {name for name, _, _ in retired}
        for scope, generation in self._sync.db.execute("SELECT scope, generation FROM pictures"):
            kept.add(picture_path(self.folder, scope, generation).name)
        for path in self.folder.glob("picture-*.db"):
            if path.name in kept:
                continue
            try:
                os.close(lock_file(path))
            except SetupProblem:
                continue  # In the making.
            _delete(path)
            gone.append(path.name)
        return gone

    def close(self) -> None:
        for _, writer in self._current.values():
            writer.close()
        self._current.clear()

    def _check_no_step_back(self, pointer: InForce, meta: PictureMeta) -> None:
        try:
            held = self.held(pointer.scope) or pointer.floor
        except (CorruptData, DeviceFault):
            held, readable = pointer.floor, False  # Damaged: its floor still counts.
        else:
            readable = True
        if meta.version.list_epoch > held.list_epoch:
            return  # Only the root key raises it: the city itself was restored.
        if newer(held, meta.version):
            raise CorruptData(f"{pointer.scope}: {meta.version} after {held} was in force")
        if not readable:
            return
        vector = {(e.device, e.stream, e.epoch): e.sequence for e in meta.vector}
        with reading(self._writer(pointer).db) as db:
            before = picture_meta(db).vector
        for entry in before:
            if vector.get((entry.device, entry.stream, entry.epoch), 0) < entry.sequence:
                raise CorruptData(f"{pointer.scope}: includes less of {entry.device} than before")

    def _writer(self, pointer: InForce) -> Writer:
        current = self._current.get(pointer.scope)
        if current is not None and current[0] == pointer.generation:
            return current[1]
        path = picture_path(self.folder, pointer.scope, pointer.generation)
        if not path.exists():
            raise CorruptData(f"{path}: the picture in force is gone")
        writer = Writer(path, FileKind.PICTURE)
        self._current[pointer.scope] = (pointer.generation, writer)
        return writer

    def _touch(self, scope: str, version: VersionMark, issued_utc_ms: int, moment: Moment) -> None:
        """Move floor and freshness on. A floor never sinks: below it a picture only catches up,
        and is no fresher for it."""
        with self._sync.transaction() as db:
            db.execute(
                "UPDATE pictures SET list_epoch = ?1, number = ?2, issued_utc_ms = ?3,"
                " received_boot = ?4, received_mono_ms = ?5"
                " WHERE scope = ?6 AND (list_epoch, number) <= (?1, ?2)",
                (
                    *(version.list_epoch, version.number, issued_utc_ms),
                    *(moment.boot, moment.mono_ms, scope),
                ),
            )


def change_picture(db: sqlite3.Connection, delta: Delta) -> None:
    """Rows and record of one delta, inside the caller's transaction."""
    meta = picture_meta(db)
    if meta.version != delta.base:
        raise CorruptData(f"{delta.scope}: a delta on {delta.base}, held is {meta.version}")
    if delta.target.list_epoch != delta.base.list_epoch or not newer(delta.target, delta.base):
        raise CorruptData(f"{delta.scope}: a delta from {delta.base} to {delta.target}")
    total = int.from_bytes(meta.set_digest, "big")
    for row in delta.upserts:
        total += row_hash(row) - _old_hash(db, row.kind, row.key)
        db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (row.kind, row.key, row.body))
    for gone in delta.removes:
        total -= _old_hash(db, gone.kind, gone.key)
        db.execute("DELETE FROM rows WHERE kind = ? AND key = ?", (gone.kind, gone.key))
    digest = set_digest_bytes(total % SET_DIGEST_MODULUS)
    if digest != delta.set_digest:
        raise CorruptData(f"{delta.scope}: set digest differs after {delta.target}")
    _write_meta(
        db,
        PictureMeta(
            version=delta.target,
            set_digest=digest,
            identifier_key_version=meta.identifier_key_version,
            seal_key_version=meta.seal_key_version,
            vector=delta.vector or meta.vector,
        ),
    )


def _old_hash(db: sqlite3.Connection, kind: int, key: bytes) -> int:
    row = db.execute("SELECT body FROM rows WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return 0 if row is None else row_hash(Row(kind, key, row[0]))


class SnapshotBuilder:
    """A generation in the making: chunks in any order, each checked as it comes."""

    def __init__(self, folder: Path, manifest: Manifest, generation: int) -> None:
        self.manifest = manifest
        self.generation = generation
        self.path = picture_path(folder, manifest.scope, generation)
        self._writer = Writer(self.path, FileKind.PICTURE, synchronous="NORMAL")
        self._taken: set[int] = set()
        self._total = 0
        self._rows = 0

    def add_chunk(self, index: int, data: bytes) -> None:
        """`CorruptData` when it is none of this snapshot's; a chunk already taken is ignored."""
        if index in self._taken:
            return
        if not 0 <= index < len(self.manifest.chunk_hashes):
            raise CorruptData(f"{self.manifest.scope}: chunk {index} of a smaller snapshot")
        if hashlib.sha256(data).digest() != self.manifest.chunk_hashes[index]:
            raise CorruptData(f"{self.manifest.scope}: chunk {index} is not the one signed")
        rows = unpack_chunk(data)
        with self._writer.transaction() as db:
            db.executemany(
                "INSERT INTO rows VALUES (?, ?, ?)", ((r.kind, r.key, r.body) for r in rows)
            )
        self._total = (self._total + sum(map(row_hash, rows))) % SET_DIGEST_MODULUS
        self._rows += len(rows)
        self._taken.add(index)

    def missing(self) -> Sequence[int]:
        return [i for i in range(len(self.manifest.chunk_hashes)) if i not in self._taken]

    def finish(self, later: Iterable[Delta] = ()) -> VersionMark:
        """Verify the whole, take deltas that came meanwhile, and leave a closed file on disk."""
        manifest = self.manifest
        assert not self.missing()
        digest = set_digest_bytes(self._total)
        if digest != manifest.set_digest or self._rows != manifest.rows:
            self.discard()
            raise CorruptData(f"{manifest.scope}: the snapshot's rows are not those signed")
        with self._writer.transaction() as db:
            _write_meta(
                db,
                PictureMeta(
                    version=manifest.version,
                    set_digest=digest,
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
        _delete(self.path)


def _delete(path: Path) -> None:
    """A database nobody writes, with what SQLite and we keep beside it."""
    for suffix in ("", "-wal", "-shm", ".lock"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


def _fsync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DeviceFault(f"{path}: {error.strerror}; check the disk") from error


def store_scope_keys(writer: Writer, keys: Iterable[ScopeKey]) -> None:
    """Keep keys as they came, sealed; edge opens them with the device key."""
    with writer.transaction() as db:
        db.executemany(
            "INSERT OR REPLACE INTO scope_keys VALUES (?, ?, ?, ?)",
            ((key.scope, key.purpose, key.version, key.sealed) for key in keys),
        )


def held_scope_keys(sync_db: sqlite3.Connection) -> list[ScopeKey]:
    rows = sync_db.execute("SELECT scope, purpose, version, sealed FROM scope_keys")
    return [ScopeKey(scope=s, purpose=p, version=v, sealed=b) for s, p, v, b in rows]
