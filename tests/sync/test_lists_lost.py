"""Goal: a list whose file is gone, damaged or not what was signed comes back by itself, at no lower
version than was held, and is shown until then; a half-fetched list costs only what is missing.

Method: the whole of sync on real files in virtual time (`sync_world.py`), lists served by the
wire's page (`lists_city.py`); files are spoilt by hand, with the process running or stopped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge import logs
from edge.messages import (
    PartState,
    PushKeys,
    SealedKeys,
    SignedWhat,
    UpdateRefused,
    VersionMark,
    encode_pack,
)
from edge.offline_cache import marks, picture
from edge.offline_cache.apply import held_scope_keys, in_force, picture_path
from edge.offline_cache.store import FileKind, Writer
from sync import picture_watch
from sync.picture_watch import DAILY_MS
from sync.reports import Reports
from tests.support import small_city
from tests.support.pictures import seen
from tests.support.small_city import PEOPLE, SETTINGS, cardholder, credential, site
from tests.support.times import NOON_MS
from tests.sync.lists_city import ListsCity
from tests.sync.sync_world import DEVICE, World

CARDS = tuple(credential(bytes([4, n, 1, 1]), f"p{n}") for n in range(40))
MINUTE_MS = 60_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.stop()
        logs.set_level("info")


@pytest.fixture
def city(world: World) -> ListsCity:
    """Holding `people` at version 3 of which the snapshot is version 1: two deltas followed."""
    made = ListsCity(world)
    made.begin(PEOPLE, *(cardholder(f"p{n}") for n in range(40)), *CARDS)
    made.begin(SETTINGS, site())
    world.run(2_000)
    made.tell_heads()
    world.run(2_000)
    for name in ("new-1", "new-2"):
        made.change(PEOPLE, cardholder(name))
        world.run(2_000)
    assert version(world) == VersionMark(1, 3)
    return made


def state(world: World) -> Path:
    return world.settings.folders.state


def version(world: World) -> VersionMark | None:
    found = seen(state(world), PEOPLE)
    return None if found is None else found[0]


def people_file(world: World) -> Path:
    pointer = in_force(world.writer.db, PEOPLE)
    assert pointer is not None
    return picture_path(state(world), PEOPLE, pointer.generation)


def generation(world: World) -> int:
    pointer = in_force(world.writer.db, PEOPLE)
    assert pointer is not None
    return pointer.generation


def gone(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def no_database(path: Path) -> None:
    size = path.stat().st_size
    gone(path)
    path.write_bytes(b"x" * size)


def one_row(path: Path) -> None:
    """A bit of one row: SQLite finds nothing wrong with it."""
    db = sqlite3.connect(path)
    body = db.execute("SELECT body FROM rows WHERE kind = 2 LIMIT 1").fetchone()[0]
    db.execute("UPDATE rows SET body = ? WHERE body = ?", (body[:-1] + bytes([body[-1] ^ 1]), body))
    db.commit()
    db.close()


def a_row_less(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("DELETE FROM rows WHERE kind = 2 AND key = (SELECT max(key) FROM rows WHERE kind=2)")
    db.commit()
    db.close()


def pages(path: Path) -> None:
    gone(path.with_name(path.name + "-wal"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def other_schema(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()


DAMAGES: tuple[Callable[[Path], None], ...] = (
    gone,
    no_database,
    one_row,
    a_row_less,
    pages,
    other_schema,
)


@pytest.mark.parametrize("large", [False, True], ids=["counted at once", "counted in slices"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_spoilt_list_is_fetched_again_at_the_version_it_had(
    world: World,
    city: ListsCity,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    large: bool,
) -> None:
    if large:
        monkeypatch.setattr(picture_watch, "AT_ONCE_BYTES", 0)
        monkeypatch.setattr(picture_watch, "SLICE_ROWS", 7)
        monkeypatch.setattr(picture, "LOOK_OVER_BYTES", 0)
    before, path = generation(world), people_file(world)
    world.kill()
    damage(path)
    city.world.city.up = False
    world.start()
    world.run(10_000)
    assert list(world.sync.downlink.lost()) == [PEOPLE]
    said = world.sync.reports.status(world.clock.moment())
    assert PEOPLE not in said["held"] and any(PEOPLE in alarm for alarm in said["alarms"])
    health = Reports(world.sync).health(world.clock.moment())
    assert health.parts[f"list {PEOPLE}"].startswith("lost")
    world.restart()  # It is remembered.
    assert list(world.sync.downlink.lost()) == [PEOPLE]
    city.world.city.up = True
    world.run(20_000)
    city.tell_heads()
    world.run(20_000)
    assert version(world) == VersionMark(1, 3) and generation(world) > before
    assert world.sync.downlink.lost() == {}
    assert world.sync.reports.status(world.clock.moment())["alarms"] == []
    told = [f.state for f in world.facts("diag") if isinstance(f, PartState) and "list" in f.part]
    assert told == ["lost", "up"]
    refused = [f for f in world.facts() if isinstance(f, UpdateRefused)]
    assert [(f.what, f.scope, f.reason) for f in refused] == [("picture", PEOPLE, "lost")]


def test_no_older_snapshot_takes_the_place_of_a_lost_one(world: World, city: ListsCity) -> None:
    """The snapshot alone is two versions older; the city has forgotten what followed."""
    before, path = generation(world), people_file(world)
    deltas = dict(city.deltas)
    city.deltas.clear()
    world.kill()
    gone(path)
    world.start()
    world.run(2_000)
    city.tell_heads()
    world.run(5 * MINUTE_MS)
    assert generation(world) == before and PEOPLE in world.sync.downlink.lost()
    city.deltas.update(deltas)
    world.run(10 * MINUTE_MS)
    assert version(world) == VersionMark(1, 3)


def test_what_edge_cannot_read_is_looked_at_when_it_rings(world: World, city: ListsCity) -> None:
    before = generation(world)
    journal = Writer(world.settings.journal_path, FileKind.JOURNAL)
    world.run(2_000)
    one_row(people_file(world))
    marks.tell_suspects(journal, {PEOPLE: before + 1})  # Of another generation: old news.
    world.run(2_000)
    assert world.sync.downlink.lost() == {}
    marks.tell_suspects(journal, {PEOPLE: before})
    world.run(10_000)
    assert version(world) == VersionMark(1, 3) and generation(world) > before
    journal.close()


def test_a_picture_that_is_right_is_not_counted_for_every_complaint(
    world: World, city: ListsCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    check = world.sync.pictures.check_some

    def noted(scope: str, rows_max: int) -> bool:
        counted.append(scope)
        return check(scope, rows_max)

    monkeypatch.setattr(world.sync.pictures, "check_some", noted)
    journal = Writer(world.settings.journal_path, FileKind.JOURNAL)
    marks.tell_suspects(journal, {PEOPLE: generation(world)})
    world.run(MINUTE_MS)
    assert counted == [PEOPLE] and world.sync.downlink.lost() == {}
    journal.close()


def test_every_list_is_counted_once_a_day(world: World, city: ListsCity) -> None:
    before = generation(world)
    world.run(2_000)
    one_row(people_file(world))
    world.run(MINUTE_MS)
    assert world.sync.downlink.lost() == {} and generation(world) == before
    world.mono_ms += DAILY_MS
    world.run(2_000)
    city.tell_heads()
    world.run(10_000)
    assert generation(world) > before and version(world) == VersionMark(1, 3)


def test_deltas_that_come_while_it_is_counted_are_no_damage(
    world: World, city: ListsCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_watch, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(picture_watch, "SLICE_ROWS", 1)
    monkeypatch.setattr(picture_watch, "DAILY_MS", MINUTE_MS)
    world.run(MINUTE_MS)
    monkeypatch.setattr(picture_watch, "DAILY_MS", DAILY_MS)
    for number in range(30):
        city.change(PEOPLE, cardholder(f"p{number}", suspended=True), cardholder(f"z{number}"))
        world.run(50)
    assert world.sync.downlink.watch.due_ms() is not None, "it was still counting"
    world.run(30_000)
    assert world.sync.downlink.watch.due_ms() is None
    assert world.sync.downlink.lost() == {} and version(world) == city.scopes[PEOPLE].version
    assert "picture" not in {f.what for f in world.facts() if isinstance(f, UpdateRefused)}


# ------------------------------------------------------------------------- half a snapshot


@pytest.mark.parametrize("had", [1, 7, 79, 80])
def test_after_a_restart_only_the_missing_chunks_are_fetched(tmp_path: Path, had: int) -> None:
    world = World(tmp_path)
    city = ListsCity(world, chunks_max=had)
    city.begin(PEOPLE, *(cardholder(f"p{n}") for n in range(40)), *CARDS)
    world.run(1_000)
    city.tell_heads()
    world.run(5_000)
    total = len(city.manifests[PEOPLE][1])
    assert (total, city.chunks_sent) == (80, had)
    city.chunks_max = 10**9
    world.restart(reboot=True)
    world.run(30_000)
    city.tell_heads()
    world.run(30_000)
    found = seen(state(world), PEOPLE)
    assert found is not None and found[1] == city.scopes[PEOPLE].rows
    assert city.chunks_sent == total, "none was fetched twice"
    left = sorted(path.name for path in state(world).glob("picture-*people*.db"))
    assert len(left) == 1
    world.stop()


@pytest.mark.parametrize("spoil", [one_row, a_row_less, no_database])
def test_a_half_list_that_was_spoilt_meanwhile_never_goes_in_force(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    world = World(tmp_path)
    city = ListsCity(world, chunks_max=75)
    city.begin(PEOPLE, *(cardholder(f"p{n}") for n in range(40)), *CARDS)
    world.run(1_000)
    city.tell_heads()
    world.run(5_000)
    world.kill()
    (half,) = state(world).glob("picture-*people*.db")
    spoil(half)
    city.chunks_max = 10**9
    world.start()
    world.run(MINUTE_MS)
    city.tell_heads()
    world.run(MINUTE_MS)
    found = seen(state(world), PEOPLE)  # Counts the rows anew.
    assert found is not None and found[1] == city.scopes[PEOPLE].rows
    world.stop()


def test_a_half_list_whose_signature_counts_no_more_is_given_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    city = ListsCity(world, chunks_max=75)
    city.begin(PEOPLE, *(cardholder(f"p{n}") for n in range(40)), *CARDS)
    world.run(1_000)
    city.tell_heads()
    world.run(5_000)
    (half,) = state(world).glob("picture-*people*.db")
    roles = {"list-2": "list", "freshness": "freshness", "order": "order"}
    world.city.rotate(small_city.root_document(version=2, roles=roles))
    world.run(1_000)
    world.restart()
    world.run(2 * MINUTE_MS)
    assert not half.exists(), "swept"
    assert seen(state(world), PEOPLE) is None
    world.stop()


# ------------------------------------------------------------------------- keys of a list


@pytest.mark.parametrize("signer", ["freshness", "order", "stranger"])
def test_keys_that_no_list_key_signed_are_refused(world: World, signer: str) -> None:
    world.city.list_key = signer
    world.run(30_000)
    assert held_scope_keys(world.writer.db) == []
    refused = {(f.what, f.reason) for f in world.facts() if isinstance(f, UpdateRefused)}
    assert refused == {("push", "invalid")}
    world.city.list_key = "list"
    world.run(10 * MINUTE_MS)
    assert [key.scope for key in held_scope_keys(world.writer.db)] == [PEOPLE]


def test_keys_for_another_device_are_refused(world: World) -> None:
    world.run(5_000)
    [before] = held_scope_keys(world.writer.db)
    sealed = small_city.sealed_to(  # We could open it.
        world.city.sealed_to, bytes(32), scope=PEOPLE, purpose="identifier", version=2
    )
    another = replace(before, version=2, sealed=sealed)
    told = SealedKeys(device="till-2", keys=(another,), issued_utc_ms=NOON_MS)
    signed = small_city.sign(SignedWhat.KEYS, encode_pack(told), key="list")
    push = encode_pack(PushKeys(signed=signed))
    world.bridge.deliver(f"mk/v1/d/{DEVICE}/push", push)
    world.run(1_000)
    assert held_scope_keys(world.writer.db) == [before]
