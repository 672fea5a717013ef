"""Goal: every word of the order table does what it says, from the city's desk and back to it.

Method: Mosquitto with TLS, the reference city, `edge` and `sync` of an entrance as processes; the
table of words is walked whole, each ordered over the city's HTTP, its answer and outcome read
there, and its effect where it shows: at the lane, in the lists, in the certificate, in the logs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from edge.offline_cache.store import FileKind, open_reader, reading
from edge.order_rules import Word
from hil.bench.town import DEVICE, SITE, Process, Town, until

PEOPLE = f"{SITE}/people"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    if which("mosquitto") is None:
        missing = "mosquitto is not installed; run: apt-get install mosquitto"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with Town(tmp_path / "t") as made:
        made.settings.updates_path.mkdir(parents=True)
        made.start(made.edge)
        made.start(made.sync)
        made.wait_connected()
        until(lambda: status(made, "edge").get("lists", {}).get(PEOPLE), "the list of people")
        yield made


def status(town: Town, process: str) -> dict[str, Any]:
    return town.ask_station(process, {"request": "status"})


def order(town: Town, word: Word, **arguments: Any) -> int:
    body = {"device": DEVICE, "order": word.value, "valid_s": 120, **arguments}
    return int(town.ask_city("POST", "/orders", body)["counter"])


def outcome(town: Town, counter: int) -> str:
    """As the city has it in the end; "" is done."""
    found: list[dict[str, Any]] = []

    def is_told() -> bool:
        rows = town.ask_city("GET", "/status")["orders"]
        found[:] = [row for row in rows if row["counter"] == counter]
        (row,) = found
        refused = row["answer"] not in (None, "", "accepted")
        return refused or row["outcome"] not in (None, "")

    until(is_told, f"the end of order {counter}", look_s=0.1)
    return f"{found[0]['answer']}, {found[0]['outcome']}"


def done(town: Town, word: Word, **arguments: Any) -> None:
    said = outcome(town, order(town, word, **arguments))
    assert said == "accepted, done", f"{word}: {said}"


def restarted(town: Town, process: Process, name: str) -> None:
    """It ends in order; a supervisor starts it again."""
    counter = order(town, Word.RESTART, process=name)
    until(lambda: not process.runs(), f"the end of {name}")
    process.stop()
    process.start()
    town.wait_connected()
    assert outcome(town, counter) == "accepted, done"


def kinds(town: Town) -> list[str]:
    """Of all facts of the journal."""
    db = open_reader(town.settings.journal_path, FileKind.JOURNAL)
    assert db is not None
    try:
        with reading(db):
            return [kind for (kind,) in db.execute("SELECT kind FROM facts ORDER BY sequence")]
    finally:
        db.close()


@pytest.mark.process
def test_every_word_of_the_table_is_carried_out(town: Town) -> None:
    walked = {
        Word.OPEN_ONCE: open_once,
        Word.LOCKDOWN_ON: lockdown_on,
        Word.LOCKDOWN_OFF: lockdown_off,
        Word.IDENTIFY: lambda town: done(town, Word.IDENTIFY),
        Word.SET_LOG_LEVEL: set_log_level,
        Word.RELOAD_LIST: reload_list,
        Word.FETCH_LOGS: fetch_logs,
        Word.UPDATE: update,
        Word.ROTATE_KEY: rotate_key,
        Word.RESTART: restart,
    }
    assert set(walked) == set(Word)
    for walk in walked.values():
        walk(town)


def open_once(town: Town) -> None:
    before = kinds(town).count("passage")
    done(town, Word.OPEN_ONCE, access_point="north-in")
    # Nobody comes, and that is a fact too.
    until(lambda: kinds(town).count("passage") > before, "the end of the passage", look_s=0.1)
    nowhere = outcome(town, order(town, Word.OPEN_ONCE, access_point="nowhere"))
    assert "not_here" in nowhere


def lockdown_on(town: Town) -> None:
    done(town, Word.LOCKDOWN_ON)
    assert status(town, "edge")["lockdown"]
    locked = outcome(town, order(town, Word.OPEN_ONCE, access_point="north-in"))
    assert "lockdown" in locked


def lockdown_off(town: Town) -> None:
    done(town, Word.LOCKDOWN_OFF)
    assert not status(town, "edge")["lockdown"]


def set_log_level(town: Town) -> None:
    for process in ("edge", "sync"):
        done(town, Word.SET_LOG_LEVEL, process=process, level="debug", minutes=5)


def reload_list(town: Town) -> None:
    counters = status(town, "sync")["counters"]
    done(town, Word.RELOAD_LIST, scope=PEOPLE)
    now = status(town, "sync")["counters"]
    assert now["snapshots_in_force"] > counters["snapshots_in_force"]


def fetch_logs(town: Town) -> None:
    done(town, Word.FETCH_LOGS, process="edge", minutes=60)
    again = outcome(town, order(town, Word.FETCH_LOGS, process="sync", minutes=60))
    assert "too_often" in again
    db = open_reader(town.settings.sync_path, FileKind.SYNC)
    assert db is not None
    try:
        with reading(db):
            told = db.execute("SELECT body FROM facts WHERE kind = 'log_lines'").fetchall()
    finally:
        db.close()
    assert told and all(SITE.encode() + b"c" not in body for (body,) in told), "nobody is named"


def update(town: Town) -> None:
    """The city has none of that digest; `test_update_mosquitto.py` installs one it has."""
    said = outcome(town, order(town, Word.UPDATE, release="1.2.3", sha256="ab" * 32))
    assert said == "accepted, not done: no_release"


def rotate_key(town: Town) -> None:
    before = town.settings.certificate_path.read_bytes()
    done(town, Word.ROTATE_KEY)
    assert town.settings.certificate_path.read_bytes() != before


def restart(town: Town) -> None:
    restarted(town, town.edge, "edge")
    restarted(town, town.sync, "sync")
