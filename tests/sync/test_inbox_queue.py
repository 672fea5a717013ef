"""Goal: sticks that are brought while another waits or is under way are taken in the order in which
they came, each whole, each with its own answer; whatever ends in between.

Method: as `test_inbox.py`: the whole of sync on real files in virtual time, killed at every step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.messages import VersionMark
from sync.inbox import LOOK_MS
from sync.inbox_form import (
    ANSWERS_KEPT,
    Answer,
    answer_path,
    read_answer,
    remove,
    sweep,
    write_answer,
)
from tests.support.killing import arm, killed_at
from tests.sync.sticks import (
    Again,
    ListOfStick,
    Offline,
    StickMaker,
    inbox,
    offline,
    people,
    refusals,
    version,
)
from tests.sync.sync_world import World

FIRST, SECOND, THIRD = (f"stick-0000000{place}ffffffff" for place in (1, 2, 3))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with offline(tmp_path) as made:
        yield made


def version_of(answer: Answer | None) -> VersionMark | None:
    assert answer is not None, "no answer"
    (one,) = answer.lists
    assert one.in_force, one.reason
    return one.version


def test_a_second_stick_waits_for_the_first_and_each_has_its_own_answer(world: World) -> None:
    """Brought while the first is under way, with the same list, and both in a newer one's way."""
    long = people(*(f"p{number}" for number in range(30)))
    StickMaker().list(ListOfStick.of(long)).put_in(world, FIRST)
    world.mono_ms += LOOK_MS
    world.sync.inbox.step(world.clock.moment(), rung=True)
    assert world.sync.inbox.due_ms() == 0, "it is under way"
    StickMaker().list(ListOfStick.of(people("p1", number=3))).put_in(world, THIRD)
    StickMaker().list(ListOfStick.of(people("p1", number=2))).put_in(world, SECOND)
    world.run(20_000)
    answers = [read_answer(inbox(world), name) for name in (FIRST, SECOND, THIRD)]
    assert [version_of(one) for one in answers] == [VersionMark(1, n) for n in (1, 2, 3)]
    assert not refusals(world) and not [p for p in inbox(world).iterdir() if p.is_dir()]


def test_an_older_stick_behind_a_newer_one_is_refused_for_itself(world: World) -> None:
    for name, number in ((FIRST, 2), (SECOND, 1)):
        StickMaker().list(ListOfStick.of(people("p1", number=number))).put_in(world, name)
    world.run(5_000)
    assert version_of(read_answer(inbox(world), FIRST)) == VersionMark(1, 2)
    second = read_answer(inbox(world), SECOND)
    assert second is not None and [one.reason for one in second.lists] == ["rollback"]


def test_the_answers_kept_are_the_last_whatever_the_clock_says(world: World) -> None:
    """A clock without a battery may be set back between two sticks."""
    inbox(world).mkdir()
    names = [f"stick-{number:016x}" for number in range(ANSWERS_KEPT + 2)]
    for age, name in enumerate(names[:-1]):
        write_answer(inbox(world), name, Answer())
        os.utime(answer_path(inbox(world), name), (10**9 - age, 10**9 - age))
    StickMaker().list(ListOfStick.of(people("p1"))).put_in(world, names[-1])
    world.run(2_000)
    assert {path.name for path in inbox(world).iterdir()} == {
        f"{name}.answer" for name in names[-ANSWERS_KEPT:]
    }


def test_a_stick_that_a_command_sweeps_away_beside_is_gone_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = StickMaker().list(ListOfStick.of(people("p1"))).write(tmp_path / FIRST)
    real, swept = shutil.rmtree, [0]

    def rmtree(path: Path, *more: Any, **options: Any) -> None:
        if path.exists() and not swept[0]:
            swept[0] += 1
            sweep(tmp_path)
        real(path, *more, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove(stick)
    assert swept == [1] and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_killed_at_any_step_two_sticks_are_taken_in_their_order(tmp_path: Path) -> None:
    """What is in force is the first's list whole or the second's, and never less than before."""
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    world = Offline(pristine)
    world.run()
    for name, number in ((FIRST, 1), (SECOND, 2)):
        StickMaker().list(ListOfStick.of(people("p1", number=number))).put_in(world, name)
    world.stop()
    step, died_with = 0, set[tuple[int, ...]]()
    while True:
        step += 1
        folder = tmp_path / f"life-{step}"
        shutil.copytree(pristine, folder)

        def life(folder: Path = folder) -> None:
            one = Again(folder)
            arm()
            one.run(4_000)
            assert read_answer(inbox(one), SECOND) is not None

        killed = killed_at(step, life, within=folder)
        after = Again(folder)
        first, second = (read_answer(inbox(after), name) for name in (FIRST, SECOND))
        held = version(after)
        died_with.add((held.number if held else 0, first is not None, second is not None))
        assert second is None or first is not None, "in their order"
        assert (held.number if held else 0) >= (first is not None) + (second is not None)
        assert first is not None or held in (None, VersionMark(1, 1)), "one after the other"
        after.run(5_000)
        for number, name in enumerate((FIRST, SECOND), start=1):
            assert version_of(read_answer(inbox(after), name)) == VersionMark(1, number), step
        assert version(after) == VersionMark(1, 2) and not refusals(after)
        assert not [path for path in inbox(after).iterdir() if path.is_dir()]
        after.stop()
        shutil.rmtree(folder)
        if not killed:
            break
    assert step > 60, "few steps: it was not looked at closely"
    # Before anything, behind each list, behind each answer.
    assert {(0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0), (2, 1, 1)} == died_with
