"""sync's side of the lists: pictures as generations, deltas, and putting one in force.

A delta is one transaction in the current picture; the picture commits first, the version floor
in `sync.db` second. A snapshot is built in the next generation (`building`), verified, closed,
fsynced with its folder, and goes in force by one `sync.db` transaction. No database is renamed, no
name is used twice, and an older generation never comes back: edge always reads one whole version.

A picture that is gone or damaged is declared lost: its floor goes on counting, and a snapshot of
that very version may take its place. Whatever comes in here was verified by the caller
(`trust.Verifier`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from edge.messages import Delta, Head, ScopeKey, VersionMark
from edge.model import CorruptData, DeviceFault, Moment, SetupProblem
from edge.offline_cache.building import SnapshotBuilder, half_built, unpack_chunk
from edge.offline_cache.picture import (
    PictureCheck,
    PictureMeta,
    change_picture,
    delete_file,
    newer,
    picture_meta,
    picture_path,
)
from edge.offline_cache.store import FileKind, Writer, lock_file, reading, telling

__all__ = [
    "RETIRED_MS",
    "InForce",
    "PictureMeta",
    "Pictures",
    "SnapshotBuilder",
    "change_picture",
    "half_built",
    "held_scope_keys",
    "in_force",
    "newer",
    "picture_meta",
    "picture_path",
    "store_scope_keys",
    "unpack_chunk",
]

RETIRED_MS: Final = 10 * 60 * 1000  # house.md: a generation lives on so long after it left force.
POINTERS_KEPT: Final = 8  # Our choice: a station holds five lists; each has one in force.
LOST: Final = "lost "  # In front of a scope: a note of `sync.db`.


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The pointer to a scope's picture, and how fresh it is."""

    scope: str
    generation: int
    floor: VersionMark
    issued_utc_ms: int
    received_boot: str
    received_mono_ms: int


def in_force(sync_db: sqlite3.Connection, scope: str) -> InForce | None:
    row = sync_db.execute(
        "SELECT generation, list_epoch, number, issued_utc_ms, received_boot, received_mono_ms"
        " FROM pictures WHERE scope = ?",
        (scope,),
    ).fetchone()
    return None if row is None else _pointer(scope, *row)


@lru_cache(maxsize=POINTERS_KEPT)
def _pointer(  # Every tap asks.
    scope: str,
    generation: int,
    epoch: int,
    number: int,
    issued_utc_ms: int,
    boot: str,
    mono_ms: int,
) -> InForce:
    return InForce(
        scope=scope,
        generation=generation,
        floor=VersionMark(epoch, number),
        issued_utc_ms=issued_utc_ms,
        received_boot=boot,
        received_mono_ms=mono_ms,
    )


class Pictures:
    """All pictures of this device. Uses `sync.db`'s writer for pointers and floors."""

    def __init__(self, folder: Path, sync_writer: Writer) -> None:
        self.folder = folder
        self._sync = sync_writer
        self._current: dict[str, tuple[int, Writer]] = {}
        self._checks: dict[str, PictureCheck] = {}

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
        check = self._checks.get(delta.scope)
        if check is not None:
            check.touch((row.kind, row.key) for row in delta.upserts)
            check.touch((gone.kind, gone.key) for gone in delta.removes)
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
        self._let_go(scope)
        self._current[scope] = (generation, writer)

    def _point_to(self, target: InForce, before: InForce | None) -> None:
        """The one transaction that puts a generation in force and retires the one before."""
        with self._sync.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = ?", (LOST + target.scope,))
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

    # ------------------------------------------------------------------ lost and checked

    def floor(self, scope: str) -> VersionMark | None:
        """The highest version that ever was in force: nothing below it comes back."""
        pointer = in_force(self._sync.db, scope)
        return None if pointer is None else pointer.floor

    def settle(self, scope: str) -> None:
        """A picture commits before its floor: where the process ended between the two, the floor
        follows now. What cannot be read moves nothing."""
        try:
            version, floor = self.held(scope), self.floor(scope)
        except (CorruptData, DeviceFault):
            return
        if version is None or floor is None or not newer(version, floor):
            return
        with self._sync.transaction() as db:
            db.execute(
                "UPDATE pictures SET list_epoch = ?, number = ? WHERE scope = ?",
                (version.list_epoch, version.number, scope),
            )

    def lost(self, scope: str) -> str:
        """Why the picture in force cannot be relied on; "" while nothing is wrong with it."""
        with telling(self._sync.path):
            row = self._sync.db.execute(
                "SELECT value FROM meta WHERE key = ?", (LOST + scope,)
            ).fetchone()
        return "" if row is None else str(row[0])

    def declare_lost(self, scope: str, why: str) -> None:
        """Until another generation is in force, also after a restart."""
        self._let_go(scope)
        with self._sync.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (LOST + scope, why))

    def generation(self, scope: str) -> int | None:
        pointer = in_force(self._sync.db, scope)
        return None if pointer is None else pointer.generation

    def file_bytes(self, scope: str) -> int:
        """How large the picture in force is; 0 when there is none."""
        pointer = in_force(self._sync.db, scope)
        if pointer is None:
            return 0
        try:
            return picture_path(self.folder, scope, pointer.generation).stat().st_size
        except OSError:
            return 0

    def check_some(self, scope: str, rows_max: int) -> bool:
        """Count a slice of the picture in force, from the beginning when none was under way. True
        when all of it was counted and is right; `CorruptData` or `DeviceFault` when it is not."""
        pointer = in_force(self._sync.db, scope)
        if pointer is None:
            return True
        try:
            if scope not in self._checks:
                path = picture_path(self.folder, scope, pointer.generation)
                self._checks[scope] = PictureCheck(path)
            done = self._checks[scope].step(rows_max)
        except BaseException:
            self._end_check(scope)
            raise
        if done:
            self._end_check(scope)
        return done

    def _end_check(self, scope: str) -> None:
        check = self._checks.pop(scope, None)
        if check is not None:
            check.close()

    def _let_go(self, scope: str) -> None:
        """Of a generation that is not the one in force any more, or is lost."""
        self._end_check(scope)
        old = self._current.pop(scope, None)
        if old is not None:
            old[1].close()

    # ---------------------------------------------------------------------- generations

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
            delete_file(self.folder / name)
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
            delete_file(path)
            gone.append(path.name)
        return gone

    def close(self) -> None:
        for scope in {*self._current, *self._checks}:
            self._let_go(scope)

    def _check_no_step_back(self, pointer: InForce, meta: PictureMeta) -> None:
        held, readable = pointer.floor, False
        if not self.lost(pointer.scope):  # Else nothing it says counts, but its floor does.
            try:
                held, readable = self.held(pointer.scope) or pointer.floor, True
            except (CorruptData, DeviceFault):
                pass  # Damaged, and nobody has noticed yet.
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
        try:
            writer = Writer(path, FileKind.PICTURE)
        except SetupProblem as problem:
            if self.lost(pointer.scope):  # Nobody mends by hand what is fetched again.
                raise CorruptData(str(problem)) from problem
            raise
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
