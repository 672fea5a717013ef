"""A whole city's list on its way into force: 1,400,000 credentials, fetched by a real sync over
Mosquitto with TLS, beside a bare insert of the same rows.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.messages import (
    ROW_NUMBERS,
    CredentialRow,
    Manifest,
    Row,
    RowKind,
    encode_pack,
    set_digest,
    set_digest_bytes,
)
from edge.offline_cache.apply import in_force
from edge.offline_cache.store import FileKind, open_reader
from hil.bench.bare_city import FAR, BareCity
from hil.bench.figures import Figure, figure
from hil.bench.processes import bare_memory_mb
from hil.bench.town import SITE, Town, until
from hil.city.chunks import pack_chunks, unpack_rows

CREDENTIALS: Final = 1_400_000
WIRE_MB_MAX, SECONDS_MAX, MEMORY_MB_MAX = 40.0, 60.0, 100.0  # promises.md; memory as the task of
# the process: beside it run edge, readers and the system in a Pi's 512 MB.
FETCH_S_MAX: Final = 600.0
MB: Final = 1_000_000


def measure(folder: Path) -> list[Figure]:
    manifest, chunks, raw_mb = make_list()
    with Town(folder / "snapshot") as town:
        town.city.stop()
        with BareCity(town) as city:
            town.start(town.sync)
            town.wait_connected()
            town.sync.forget_peak()
            city.serve(manifest, chunks)
            until(lambda: held(town) == FAR.number, "the list in force", FETCH_S_MAX)
            assert city.first_chunk_s is not None
            taken_s = time.perf_counter() - city.first_chunk_s
            peak_mb = town.sync.peak_mb()
            wire_mb = city.pushed_bytes / MB
    bare_s = bare_insert(folder / "bare.db", chunks)
    name = f"snapshot of {CREDENTIALS:,} credentials"
    return [
        figure(
            f"{name}: on the wire",
            wire_mb,
            "MB",
            limit=raw_mb,
            limit_name="the rows unpacked",
            goal=f"<= {WIRE_MB_MAX:g} MB",
            ok=wire_mb <= WIRE_MB_MAX,
        ),
        figure(
            f"{name}: first chunk -> in force",
            taken_s,
            "s",
            limit=bare_s,
            limit_name="bare unpack and insert",
            goal=f"<= {SECONDS_MAX:g} s",
            ok=taken_s <= SECONDS_MAX,
        ),
        figure(
            f"{name}: memory of sync at its peak",
            peak_mb,
            "MB",
            limit=bare_memory_mb(),
            limit_name="bare interpreter",
            goal=f"<= {MEMORY_MB_MAX:g} MB",
            ok=peak_mb <= MEMORY_MB_MAX,
        ),
    ]


def make_list() -> tuple[Manifest, list[bytes], float]:
    """As the city packs it: in the order of the keys, which are as good as random."""
    rows = list(_rows())
    chunks = list(pack_chunks(rows))
    manifest = Manifest(
        scope=f"{SITE}/people",
        version=FAR,
        snapshot_id=secrets.token_hex(16),
        chunk_hashes=tuple(hashlib.sha256(chunk).digest() for chunk in chunks),
        rows=len(rows),
        set_digest=set_digest_bytes(set_digest(rows)),
        issued_utc_ms=time.time_ns() // 1_000_000,
        identifier_key_version=1,
        seal_key_version=1,
    )
    return manifest, chunks, sum(len(row.key) + len(row.body) for row in rows) / MB


def _rows() -> Iterator[Row]:
    draw = random.Random(1)
    owners = list(range(CREDENTIALS))
    draw.shuffle(owners)
    keys = sorted(draw.randbytes(16) for _ in range(CREDENTIALS))
    for key, owner in zip(keys, owners, strict=True):
        body = CredentialRow(f"c{owner:07}", 1, 1_700_000_000, 2_000_000_000)
        yield Row(ROW_NUMBERS[RowKind.CREDENTIAL], key, encode_pack(body))


def held(town: Town) -> int:
    db = open_reader(town.settings.sync_path, FileKind.SYNC)
    if db is None:
        return 0
    try:
        pointer = in_force(db, f"{SITE}/people")
    finally:
        db.close()
    return 0 if pointer is None else pointer.floor.number


def bare_insert(path: Path, chunks: list[bytes]) -> float:
    """Seconds for the same rows in a table of their own, a chunk a commit."""
    began = time.perf_counter()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE rows (kind, key, body, PRIMARY KEY (kind, key)) WITHOUT ROWID")
    for chunk in chunks:
        db.execute("BEGIN IMMEDIATE")
        rows = unpack_rows(chunk)
        db.executemany("INSERT INTO rows VALUES (?, ?, ?)", ((r.kind, r.key, r.body) for r in rows))
        db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return time.perf_counter() - began
