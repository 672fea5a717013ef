"""Goal: lists, keys and the root document from a stick come in force without any network; a process
that ends, or a disk that refuses, anywhere in between leaves nothing half done.

Method: the whole of sync on real files in virtual time (`sync_world.py`), the broker away for ever;
sticks written by the wire's page (`sticks.py`). The process is killed at every step it takes.
"""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge.messages import VersionMark, decode_json
from edge.model import DeviceFault
from edge.offline_cache import building
from edge.offline_cache.apply import Pictures, held_scope_keys
from sync import inbox as inbox_module
from sync.inbox import LOOK_MS, MESSAGES_PER_STEP, RUNG_MS
from sync.inbox_form import (
    ANSWERS_KEPT,
    Answer,
    ListAnswer,
    locked,
    read_answer,
)
from tests.support import small_city
from tests.support.killing import arm, killed_at
from tests.support.small_city import MONEY, PEOPLE, SETTINGS, Scope, cardholder
from tests.support.times import NOON_MS
from tests.sync.sticks import (
    NAME,
    Again,
    ListOfStick,
    Offline,
    StickMaker,
    inbox,
    offline,
    people,
    refusals,
    settings,
    taken,
    version,
)
from tests.sync.sync_world import World, signed_lines

DAY_MS = 86_400_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with offline(tmp_path) as made:
        yield made


# ---------------------------------------------------------------------------- what is good


def test_a_device_that_never_was_online_gets_all_it_needs(world: World) -> None:
    stick = StickMaker().root(signed_lines(small_city.signed_root()))
    stick.keys(world, PEOPLE).list(ListOfStick.of(people("p1", "p2")))
    stick.list(ListOfStick.of(settings())).put_in(world)
    world.rings = 0
    answer = taken(world)
    assert answer == Answer(
        root="taken",
        keys="taken",
        lists=(
            ListAnswer(scope=PEOPLE, in_force=True, version=VersionMark(1, 1)),
            ListAnswer(scope=SETTINGS, in_force=True, version=VersionMark(1, 1)),
        ),
    )
    assert version(world) == version(world, SETTINGS) == VersionMark(1, 1)
    assert {(key.scope, key.purpose) for key in held_scope_keys(world.writer.db)} == {
        (PEOPLE, "identifier"),
        (PEOPLE, "seal"),
    }
    assert world.rings, "edge is told"
    assert not refusals(world) and not world.bridge.connected
    world.restart()
    world.run(2_000)
    assert version(world) == VersionMark(1, 1)


def test_deltas_behind_the_snapshot_are_taken_too(world: World) -> None:
    """By a device that has nothing, and by one that is past the snapshot and lacks the last."""
    scope = people("p1")
    one, deltas = ListOfStick.of(scope), []
    for name, lacking, reason in (
        ("p2", 0, ""),
        ("p3", 0, ""),
        ("p4", 1, "incomplete"),
        ("p5", 0, ""),
    ):
        held = version(world)
        deltas.append(scope.put(cardholder(name)))
        one.head = replace(
            one.head, version=scope.version, set_digest=ListOfStick.of(scope).head.set_digest
        )
        one.deltas = deltas[: len(deltas) - lacking]
        StickMaker().list(one).put_in(world)
        answer = taken(world).lists[0]
        assert (answer.in_force, answer.reason) == (not reason, reason)
        assert version(world) == answer.version == (held if reason else scope.version)
    assert not refusals(world)


def test_the_same_stick_again_and_a_newer_one(world: World) -> None:
    for number, names in ((1, ("p1",)), (1, ("p1",)), (4, ("p1", "p2"))):
        StickMaker().list(ListOfStick.of(people(*names, number=number))).put_in(world)
        assert taken(world).lists == (
            ListAnswer(scope=PEOPLE, in_force=True, version=VersionMark(1, number)),
        )
    assert not refusals(world)


def test_lists_of_several_scopes_come_in_the_stations_own_order(world: World) -> None:
    money = Scope(MONEY)
    money.put(small_city.account())
    stick = StickMaker()
    for scope in (settings(), money, people("p1")):
        stick.list(ListOfStick.of(scope))
    stick.put_in(world)
    assert [one.scope for one in taken(world).lists] == [PEOPLE, MONEY, SETTINGS]


# --------------------------------------------------------------------------------- root


def test_a_newer_root_comes_first_and_its_keys_count_for_the_lists(world: World) -> None:
    names = {"list-2": "list", "freshness-2": "freshness", "order-2": "order"}
    root = small_city.root_document(version=2, roles=names)
    one = ListOfStick.of(people("p1"))
    one.head_key, one.list_key = "freshness-2", "list-2"
    stick = StickMaker().list(one)
    stick.root(signed_lines(small_city.signed_root(root))).put_in(world)
    answer = taken(world)
    assert answer.root == "taken" and answer.lists[0].in_force
    StickMaker().root(signed_lines(small_city.signed_root())).put_in(world)
    assert taken(world).root == "rollback", "the older one never comes back"
    assert ("root", "", "rollback") in refusals(world)


def test_a_raised_list_epoch_needs_its_root(world: World) -> None:
    scope = people("p1")
    scope.list_epoch = 2
    StickMaker().list(ListOfStick.of(scope)).put_in(world)
    assert taken(world).lists[0].reason == "list_epoch"
    root = replace(small_city.root_document(version=2), list_epoch=2)
    stick = StickMaker().root(signed_lines(small_city.signed_root(root)))
    stick.list(ListOfStick.of(scope)).put_in(world)
    assert taken(world).lists[0].version == VersionMark(2, 1)


# --------------------------------------------------------------------------------- time


def test_who_never_knew_the_time_takes_what_has_ended_and_from_then_on_nothing_older(
    tmp_path: Path,
) -> None:
    """protocol.md: a signed head raises the floor of time, and a floor counts on arrival."""
    world = Offline(tmp_path)
    world.restart(clock_trusted=False)  # 1970, and nobody to ask.
    try:
        StickMaker().list(ListOfStick.of(people("p1"))).put_in(world)
        assert taken(world).lists[0].in_force, "no time is known: nothing can be said to have ended"
        late = ListOfStick.of(settings(), issued_utc_ms=NOON_MS + 9 * DAY_MS)
        StickMaker().list(late).put_in(world)
        assert taken(world).lists[0].in_force
        ended = ListOfStick.of(people("p1", number=2), issued_utc_ms=NOON_MS + DAY_MS)
        StickMaker().list(ended).put_in(world)
        assert taken(world).lists[0].reason == "frozen", "it is nine days later at least"
        world.restart(reboot=True, clock_trusted=False)
        StickMaker().list(ended).put_in(world)
        assert taken(world).lists[0].reason == "frozen", "after a restart too"
        fresh = ListOfStick.of(people("p1", number=2), issued_utc_ms=NOON_MS + 9 * DAY_MS)
        StickMaker().list(fresh).put_in(world)
        assert taken(world).lists[0].version == VersionMark(1, 2)
        assert not world.clock.moment().clock_trusted, "a floor is no clock"
    finally:
        world.stop()


def test_what_is_no_stick_is_left_alone_and_old_answers_go(world: World) -> None:
    inbox(world).mkdir()
    (inbox(world) / "notes").mkdir()
    (inbox(world) / "stick-of-mine").write_text("x")
    for number in range(ANSWERS_KEPT + 3):
        name = f"stick-{number:016x}"
        StickMaker().list(ListOfStick.of(people("p1"))).put_in(world, name)
        world.run(2_000)
        assert read_answer(inbox(world), name) is not None
    names = {path.name for path in inbox(world).iterdir()}
    assert {"notes", "stick-of-mine"} <= names and len(names) == 2 + ANSWERS_KEPT


# --------------------------------------------------------------------- bounds and faults


def test_facts_and_taps_wait_for_some_messages_at_most(world: World) -> None:
    chunks = 40
    scope = people(*(f"p{number}" for number in range(chunks - 1)))
    StickMaker().list(ListOfStick.of(scope)).put_in(world)
    steps = 0
    world.mono_ms += LOOK_MS
    while read_answer(inbox(world), NAME) is None:
        world.sync.step(rung=False)
        world.mono_ms += 1
        steps += steps > 0 or world.sync.due_ms() == 0
        assert steps < 200
    assert steps >= (chunks + 2) // MESSAGES_PER_STEP


def test_a_long_list_is_never_whole_in_memory(world: World) -> None:
    """20 MB of chunks that nothing can compress; the peak is room for one, unpacked (4 MiB)."""
    scope = Scope(PEOPLE)
    scope.put_raw({(1, number.to_bytes(4, "big")): os.urandom(50_000) for number in range(400)})
    size = len(
        (
            StickMaker().list(ListOfStick.of(scope)).put_in(world) / "list-school-7-people"
        ).read_bytes()
    )
    scope.rows.clear()
    assert size > 19_000_000
    world.mono_ms += LOOK_MS
    tracemalloc.start()
    try:
        while world.sync.inbox.due_ms() == 0 or read_answer(inbox(world), NAME) is None:
            world.sync.inbox.step(world.clock.moment(), rung=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken(world).lists[0].in_force
    assert peak < 6_000_000, peak


def test_a_disk_that_refuses_is_tried_again_and_the_link_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    StickMaker().list(ListOfStick.of(people("p1", "p2"))).put_in(world)
    add, left = building.SnapshotBuilder.add_chunk, [2]

    def full(self: building.SnapshotBuilder, index: int, data: bytes) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise DeviceFault("no space left")
        add(self, index, data)

    monkeypatch.setattr(building.SnapshotBuilder, "add_chunk", full)
    world.run(5_000)
    assert read_answer(inbox(world), NAME) is None and version(world) is None
    world.run(inbox_module.AGAIN_MS)
    assert taken(world).lists[0].in_force and version(world) == VersionMark(1, 1)


@pytest.mark.parametrize("committed", [False, True])
def test_a_disk_that_refuses_at_the_very_end(
    world: World, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """An error says nothing of whether the pointer is on the disk: its picture must be."""
    StickMaker().list(ListOfStick.of(people("p1", "p2"))).put_in(world)
    put, times = Pictures.put_in_force, [0]

    def failing(self: Pictures, *args: Any) -> None:
        times[0] += 1
        if times[0] > 1 or committed:
            put(self, *args)
        if times[0] == 1:
            raise DeviceFault("input/output error")

    monkeypatch.setattr(Pictures, "put_in_force", failing)
    world.run(5_000)
    assert times == [1] and read_answer(inbox(world), NAME) is None
    assert version(world) == (VersionMark(1, 1) if committed else None)
    world.run(inbox_module.AGAIN_MS)
    assert taken(world).lists[0].in_force and version(world) == VersionMark(1, 1)
    assert not world.sync.downlink.lost() and not refusals(world)


def test_a_picture_that_went_bad_is_mended_by_a_stick_at_once(world: World) -> None:
    """Without a network no back-off may stand between a device and the list in a person's hand."""
    one = ListOfStick.of(people("p1", "p2"))
    StickMaker().list(one).put_in(world)
    assert taken(world).lists[0].in_force
    for _ in range(2):
        world.sync.downlink.reload(PEOPLE, world.clock.moment())  # It wants all of it anew.
        before = world.sync.downlink.snapshots[PEOPLE]
        StickMaker().list(one).put_in(world)
        assert taken(world).lists[0].in_force
        assert world.sync.downlink.snapshots[PEOPLE] == before + 1


def test_a_ring_is_heard_at_once_but_taps_cost_no_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def nothing(_folder: Path) -> list[Path]:
        looks.append(world.mono_ms)
        return []

    monkeypatch.setattr(inbox_module, "sticks", nothing)
    began_ms = world.mono_ms
    for _ in range(LOOK_MS):
        world.mono_ms += 1
        world.sync.inbox.step(world.clock.moment(), rung=True)
    assert looks == [*range(began_ms + RUNG_MS, began_ms + LOOK_MS + 1, RUNG_MS)]
    for _ in range(LOOK_MS):
        world.mono_ms += 1
        world.sync.inbox.step(world.clock.moment(), rung=False)
    assert looks[-1] == began_ms + 2 * LOOK_MS and len(looks) == LOOK_MS // RUNG_MS + 1


def test_another_stick_in_its_place_is_taken_instead(world: World) -> None:
    first = StickMaker().list(ListOfStick.of(people(*(f"p{n}" for n in range(30))))).put_in(world)
    world.mono_ms += LOOK_MS
    world.sync.inbox.step(world.clock.moment(), rung=True)
    assert world.sync.inbox.due_ms() == 0, "it is under way"
    shutil.rmtree(first)
    other = "stick-fedcba9876543210"
    StickMaker().list(ListOfStick.of(people("p1", number=2))).put_in(world, other)
    assert taken(world, other).lists[0].version == VersionMark(1, 2)


def test_leftovers_go_at_a_start_but_not_under_who_copies(world: World) -> None:
    for name in (".copying-stick-1", ".copying-stick-2", ".gone-stick-3"):
        (inbox(world) / name).mkdir(parents=True)
    with locked(inbox(world) / ".copying-stick-2"):
        world.restart()
        assert [path.name for path in inbox(world).iterdir()] == [".copying-stick-2"]


# --------------------------------------------------------------------------------- kill -9


@pytest.mark.slow
def test_killed_at_any_step_it_ends_well_in_the_next_life(tmp_path: Path) -> None:
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    world = Offline(pristine)
    world.run()
    StickMaker().keys(world, PEOPLE).list(ListOfStick.of(people("p1"))).put_in(world)
    world.stop()
    step, answered_before = 0, 0
    while True:
        step += 1
        folder = tmp_path / f"life-{step}"
        shutil.copytree(pristine, folder)

        def life(folder: Path = folder) -> None:
            one = Again(folder)
            arm()
            one.run(1_500)
            assert read_answer(inbox(one), NAME) is not None

        killed = killed_at(step, life, within=folder)
        after = Again(folder)
        answered_before += read_answer(inbox(after), NAME) is not None
        answer = taken(after)
        assert [one.in_force for one in answer.lists] == [True], (step, answer)
        assert answer.keys == "taken" and len(held_scope_keys(after.writer.db)) == 2
        assert version(after) == VersionMark(1, 1)
        after.stop()
        shutil.rmtree(folder)
        if not killed:
            break
    assert step > 60, "few steps: it was not looked at closely"
    assert answered_before > 1, "also between the answer and the removal"


def test_the_answer_is_small_and_of_its_own_form() -> None:
    whole = Answer(root="taken", lists=(ListAnswer(scope=PEOPLE, in_force=True, version=None),))
    text = b'{"root":"taken","lists":[{"scope":"school-7/people","in_force":true,"version":null}]}'
    assert decode_json(Answer, text) == whole
