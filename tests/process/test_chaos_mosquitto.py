"""Goal: nothing is lost, doubled or out of order, whatever is killed while facts are on their way.

Method: real Mosquitto with mutual TLS and the access list as the city writes them, the reference
city, `sync` of three or four devices, and children that record facts by the product's own journal
(`chaos.py`). Broker, city, `sync` and the recording processes are killed by SIGKILL at random
points of a drain, the broker coming back with its store or without. At the end the city's database
is held against the journals, fact for fact (`books.py`), and then spoiled in each way the check
must see.
20,000 facts in every run, 1,000,000 with NIGHTLY=1. CHAOS_SEED chooses another run.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.process import books
from tests.process.chaos import Chaos, Mosquitto, spread_kills

NIGHT = bool(os.environ.get("NIGHTLY"))
FACTS = int(os.environ.get("CHAOS_FACTS") or (1_000_000 if NIGHT else 20_000))
SEED = int(os.environ.get("CHAOS_SEED") or 7)
KILLS = 12 if NIGHT else 2  # Of each; a city that goes costs a device ten seconds' patience.
DEVICE_KILLS = 12 if NIGHT else 1  # Of each process of each device.
SHARES = ("entrance", "entrance", "till", "till") if NIGHT else ("entrance", "entrance", "till")

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_a_city_has_every_fact_once_whatever_is_killed(tmp_path: Path) -> None:
    print(f"seed {SEED}, {FACTS} facts")
    shares = [(kind, FACTS // len(SHARES)) for kind in SHARES]
    mosquitto = Mosquitto()
    with Chaos(tmp_path, SEED, mosquitto, shares) as chaos:
        started_s = time.monotonic()
        chaos.run(spread_kills(SEED, chaos.wanted, victims(chaos, mosquitto)))
        took_s = time.monotonic() - started_s
        problems, meant = chaos.settle()
        assert problems == [], problems
        heads = chaos.heads()
        assert sum(heads.values()) >= chaos.wanted, heads
        print(
            f"{sum(meant.facts.values())} facts of all streams in {took_s:.0f} s"
            f" ({chaos.wanted / took_s:.0f} a second), killed: {dict(chaos.kills)},"
            f" {dict(meant.facts)}; missing 0, doubled 0"
        )
        states = {device.name: device.state for device in chaos.devices}
        database = chaos.city.database
    if not NIGHT:
        the_check_sees_what_is_spoiled(database, states, tmp_path)


def victims(
    chaos: Chaos, mosquitto: Mosquitto
) -> list[tuple[str, int, Callable[[random.Random], None]]]:
    def broker(draw: random.Random, *, empty: bool) -> None:
        mosquitto.kill(empty=empty)
        chaos.down(draw)
        mosquitto.start()

    def both(draw: random.Random) -> None:
        """The whole server room."""
        mosquitto.kill(empty=draw.random() < 0.5)
        chaos.city.kill()
        chaos.down(draw)
        for start in draw.sample((mosquitto.start, chaos.city.start), 2):
            start()

    found: list[tuple[str, int, Callable[[random.Random], None]]] = [
        ("broker", KILLS, partial(broker, empty=False)),
        ("broker, back empty", KILLS, partial(broker, empty=True)),
        ("city", KILLS, chaos.restart(chaos.city)),
        ("city and broker", KILLS // 2, both),
    ]
    for device in chaos.devices:
        found.append(("sync", DEVICE_KILLS, chaos.restart(device.station.sync)))
        found.append(("writer", DEVICE_KILLS, chaos.restart_writer(device)))
    return found


SPOILED = {
    "a lost fact": "DELETE FROM fact WHERE rowid = (SELECT rowid FROM fact WHERE stream = 'main'"
    " AND sequence = 1000 LIMIT 1)",
    "a lost tail": "DELETE FROM fact WHERE rowid = (SELECT rowid FROM fact WHERE stream = 'main'"
    " ORDER BY sequence DESC LIMIT 1)",
    "a doubled fact": "INSERT INTO fact SELECT device, stream, epoch, sequence + 1, kind, digest,"
    " bytes, received_ms FROM fact WHERE stream = 'main' ORDER BY sequence DESC LIMIT 1",
    "a changed fact": "UPDATE fact SET bytes = CAST(bytes || ' ' AS BLOB) WHERE rowid ="
    " (SELECT rowid FROM fact WHERE stream = 'main' AND sequence = 1000 LIMIT 1)",
    "a passage told twice": "INSERT INTO feed (at_ms, at, cardholder, kind, text)"
    " SELECT at_ms, at, cardholder, kind, text FROM feed WHERE kind = 'came' LIMIT 1",
    "a sale posted twice": "INSERT INTO entry (kind, reference, at_ms)"
    " SELECT kind, reference || 'x', at_ms FROM entry WHERE kind = 'sale' LIMIT 1",
    "a sale not posted": "DELETE FROM entry WHERE id = (SELECT id FROM entry WHERE kind = 'sale'"
    " LIMIT 1)",
    "a cursor too far": "UPDATE cursor SET up_to = up_to + 1 WHERE stream = 'main'",
    "a declared loss": "INSERT INTO gap SELECT device, stream, epoch, 1, 1, '', '{}', 0 FROM cursor"
    " LIMIT 1",
}


def the_check_sees_what_is_spoiled(database: Path, states: dict[str, Path], folder: Path) -> None:
    """The same check over the same books, each time with one thing wrong."""
    for what, statement in SPOILED.items():
        copy = folder / "spoiled.db"
        shutil.copy(database, copy)
        with closing(sqlite3.connect(copy)) as db, db:
            assert db.execute(statement).rowcount >= 1, what
        problems, _ = books.problems(copy, states)
        assert problems, f"{what} went unseen"
        copy.unlink()
