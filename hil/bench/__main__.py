"""`make bench`: measure, print the table, write `bench.json`. Exit 1 when a goal was missed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from edge import logs
from hil.bench import cards, lane, line, lookups, processes, sales, snapshot, taps
from hil.bench.figures import Figure, table, write


def of_sync(folder: Path) -> list[Figure]:
    return line.measure(folder) + snapshot.measure(folder)


GROUPS = {
    "taps": taps.measure,
    "sales": sales.measure,
    "lane": lane.measure,
    "cards": cards.measure,
    "processes": processes.measure,
    "lookups": lookups.measure,
    "sync": of_sync,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("group", nargs="*", help=f"some of: {', '.join(GROUPS)}; default: all")
    parser.add_argument("--folder", type=Path, default=Path(), help="whose disk is measured")
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    asked = parser.parse_args()
    unknown = [name for name in asked.group if name not in GROUPS]
    if unknown:
        parser.error(f"unknown group {unknown[0]!r}; known: {', '.join(GROUPS)}")
    logs.set_up("bench", level="error")
    figures: list[Figure] = []
    for name in asked.group or GROUPS:
        started = time.monotonic()
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=asked.folder.resolve()) as folder:
            figures += GROUPS[name](Path(folder))
        print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(table(figures))
    write(figures, asked.json)
    return 0 if all(f.ok for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
