"""Goal: whoever takes a device home, reads its logs or listens to its broker learns of no child.

Method: a small day of real processes (`school.py`) with a broker that hides nothing. Then every
file of both stations, their logs, all topics and all payloads are searched for every name and
every card number of the school, in every form one would write them, and for the city's and the
devices' keys (`leaks.py`). Each kind of place is then given one thing to hide, and the same search
must find it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.model import UidKind
from tests.process.leaks import Search, files_under, sealed_by_city, search_for, unpacked
from tests.process.oracle import is_drained
from tests.process.rogue import Listener
from tests.process.school import GATE, Station, World, run_checks_of, wait_until
from tests.process.visitors import (
    AtSerial,
    AtSlot,
    Door,
    Steps,
    Till,
    Visitor,
    affluent,
    one_each,
    play,
    visitors,
)

ENTERING, LEAVING, MEALS = 14, 4, 12


@pytest.mark.process
@pytest.mark.slow
def test_nobody_is_found_on_a_device() -> None:
    run_checks_of(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a thief and an eavesdropper have in hand."""

    world: World
    search: Search
    files: dict[str, bytes]  # While it ran, and after it was stopped.
    messages: dict[str, bytes]
    shown: tuple[Visitor, ...]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    folder = tmp_path_factory.mktemp("privacy")
    with World(folder, tls=False) as world, Listener() as listener:
        world.start_stations()
        shown = small_day(world)
        wait_until(lambda: is_drained(world), "drained")
        files = {f"running: {name}": data for name, data in _files(world).items()}
        for station in world.stations:
            assert (station.edge.stop(), station.sync.stop()) == (0, 0)
        files |= _files(world)
        search = search_for(world.school, secrets_of(world))
        search.sealed = sealed_by_city(world.city.folder / "city.db")
        messages = unpacked((heard.topic, heard.payload) for heard in list(listener.heard))
        yield Evidence(
            world=world, search=search, files=files, messages=messages, shown=tuple(shown)
        )


def check_no_file_and_no_log_names_anybody(evidence: Evidence) -> None:
    kinds = {"device.toml", "journal.db", "journal.db-wal", "journal.db-shm", "sync.db"}
    kinds |= {"sync.db-wal", "sync.db-shm", "edge.log", "sync.log", "device.key"}
    assert kinds <= {Path(name).name for name in evidence.files}
    assert any("picture" in name for name in evidence.files)
    assert all(evidence.files[str(s.edge.log)] for s in evidence.world.stations)
    assert evidence.search.findings(evidence.files) == []


def check_no_topic_and_no_message_names_anybody(evidence: Evidence) -> None:
    topics = {name.rpartition("/")[2] for name in evidence.messages}
    assert {"status", "hello", "main", "agent", "ack", "welcome", "pull", "push", "head"} <= topics
    assert any(name.startswith("rows of") for name in evidence.messages)
    assert evidence.search.findings(evidence.messages) == []


@pytest.mark.parametrize("what", ["name", "card", "fob", "key"])
def check_the_search_finds_what_is_planted_in_a_log(
    evidence: Evidence, tmp_path: Path, what: str
) -> None:
    log = tmp_path / "edge.log"
    shutil.copy(evidence.world.gate.edge.log, log)
    assert evidence.search.findings(files_under(tmp_path)) == []
    text = {
        "name": evidence.shown[0].name,
        "card": evidence.shown[0].uid.hex().upper(),
        "fob": str(int.from_bytes(_fob(evidence).uid, "big")),
        "key": secrets_of(evidence.world)["people identifier"].hex(),
    }[what]
    with log.open("a") as file:
        file.write(json.dumps({"event": "tap", "note": f"of {text}."}) + "\n")
    assert evidence.search.findings(files_under(tmp_path))


@pytest.mark.parametrize("what", ["name", "card", "fob", "short card", "key"])
def check_the_search_finds_what_is_planted_in_a_database(
    evidence: Evidence, tmp_path: Path, what: str
) -> None:
    """In the WAL alone: nothing is checkpointed while the connection is open."""
    path = tmp_path / "journal.db"
    shutil.copy(evidence.world.gate.folder / "state" / "journal.db", path)
    assert evidence.search.findings(files_under(tmp_path)) == []
    short = [card.uid for card in evidence.world.school.cards if len(card.uid) == 4]
    planted = {
        "name": [evidence.shown[0].name.encode()],
        "card": [evidence.shown[0].uid[::-1]],
        "fob": [_fob(evidence).uid, b"again" + _fob(evidence).uid],
        "short card": short[:20],
        "key": [secrets_of(evidence.world)["people seal"]],
    }[what]
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE planted (id INTEGER PRIMARY KEY, value BLOB)")
        db.executemany("INSERT INTO planted (value) VALUES (?)", [(value,) for value in planted])
        found = evidence.search.findings(files_under(tmp_path))
    finally:
        db.close()
    assert any(sight.where.endswith("-wal") for sight in found)


def check_the_search_finds_what_is_planted_on_the_wire(evidence: Evidence) -> None:
    uid = evidence.shown[0].uid
    topic = f"mk/v1/d/{GATE}/card/{uid.hex()}"
    assert evidence.search.findings(unpacked([(topic, b"")]))
    assert evidence.search.findings(unpacked([("mk/v1/x", b"\x93\x01" + uid)]))
    assert evidence.search.findings(unpacked([("x", json.dumps(evidence.shown[0].name).encode())]))


def small_day(world: World) -> list[Visitor]:
    """Everybody has a name, every kind of card is shown, each twice; some come in vain."""
    door_in = Door(world.gate, "north-in", AtSerial(world.serial_in))
    door_out = Door(world.gate, "north-out", AtSlot(world.slot_out))
    till, at_fob, at_card = Till(world.till), AtSerial(world.serial_till), AtSlot(world.slot_till)
    rich = affluent(world.school)
    entering = one_each(visitors(world.school, UidKind.ISO14443))
    entering = (
        sorted(entering, key=lambda v: len(v.uid))[: ENTERING // 2]
        + [v for v in entering if len(v.uid) == 7 and v.cardholder in rich][: ENTERING // 2]
    )  # Four-byte numbers first: what is kept of the last card is a long one.
    lost = visitors(world.school, UidKind.ISO14443, hot=True)[:2]
    fobs = [v for v in visitors(world.school, UidKind.PROX125) if v.cardholder in rich]
    eating = [v for v in fobs[: MEALS // 2] for _ in range(1)]

    def come() -> Steps:
        for visitor in lost + entering:
            yield from door_in.visit(visitor)

    def leave() -> Steps:
        for visitor in entering[-LEAVING:]:
            yield from door_out.visit(visitor, leaving=True)

    def eat() -> Steps:
        for visitor in eating + eating:
            yield from till.buy(visitor, at_fob, [["soup-1", 1], ["hot-1", 1]])
        for visitor in entering[-LEAVING:]:
            yield from till.buy(visitor, at_card, [["soup-1", 1]])

    play([come(), leave(), eat()])
    assert till.sales >= MEALS
    return [*entering[::-1], *fobs]


def _fob(evidence: Evidence) -> Visitor:
    return next(visitor for visitor in evidence.shown if len(visitor.uid) == 5)


def _files(world: World) -> dict[str, bytes]:
    """What lies on the devices. A device's own key may lie in its one place, and there as PEM."""
    return files_under(*(path for s in world.stations for path in (s.folder, s.logs)))


def secrets_of(world: World) -> dict[str, bytes]:
    """The keys that open something: the city's, and the scalar of each device's own."""
    secrets = {f"signing {role}": key.seed for role, key in world.keys.signing.items()}
    for scope, keys in world.keys.scopes.items():
        part = scope.partition("/")[2]
        secrets |= {f"{part} identifier": keys.identifier, f"{part} seal": keys.seal}
    return secrets | {f"key of {station.device}": _scalar(station) for station in world.stations}


def _scalar(station: Station) -> bytes:
    key = serialization.load_pem_private_key(
        (station.folder / "identity" / "device.key").read_bytes(), None
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")
