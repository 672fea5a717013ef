"""What sync does at a till while the till sells: `python -m hil.bench.sales_beside DEVICE_TOML`.

Three other tills sell once a second each and tell of it; with `--list` the people of a whole city
are built beside the list in force, again and again. Until it is killed.
"""

from __future__ import annotations

import argparse
import itertools
import random
import threading
import time
from pathlib import Path
from typing import Final

from edge.config import load
from edge.messages import (
    ROW_NUMBERS,
    CredentialRow,
    Row,
    RowKind,
    encode_pack,
)
from edge.offline_cache.apply import SnapshotBuilder
from edge.offline_cache.store import FileKind, Writer
from hil.bench import sales
from hil.bench.snapshot import CREDENTIALS
from hil.bench.station import SITE, pack

SALE_S: Final = 1.0  # Our choice: the busiest break of a large school, at each till.


def gossip(path: Path) -> None:
    writer = Writer(path, FileKind.SYNC)
    for sequence in itertools.count(sales.HELD + 1):
        for till in sales.OTHERS:
            sales.take(writer, till, first=sequence, count=1)
            time.sleep(SALE_S / len(sales.OTHERS))


def build_lists(folder: Path) -> None:
    """Packed once, and then built as sync builds it, a chunk a transaction."""
    draw = random.Random(1)
    keys = sorted(draw.randbytes(16) for _ in range(CREDENTIALS))
    kind = ROW_NUMBERS[RowKind.CREDENTIAL]
    body = encode_pack(CredentialRow("c00000000", 1, 1_700_000_000, 2_000_000_000))
    manifest, chunks = pack(f"{SITE}/people", (Row(kind, key, body) for key in keys), 0)
    print("at work", flush=True)
    for generation in itertools.count(100):
        builder = SnapshotBuilder(folder, manifest, generation)
        for index, chunk in enumerate(chunks):
            builder.add_chunk(index, chunk)
        builder.finish()
        builder.path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    settings = load(asked.config)
    if asked.list:
        threading.Thread(target=gossip, args=(settings.sync_path,), daemon=True).start()
        build_lists(settings.folders.state)
    print("at work", flush=True)
    gossip(settings.sync_path)


if __name__ == "__main__":
    main()
