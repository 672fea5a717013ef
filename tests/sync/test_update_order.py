"""Goal: an ordered release is answered once, outlives sync's restarts, and its end is told.

Method: the whole of sync on real files in virtual time (`sync_world.py`), with a city that has the
release, has none, or is silent; the updater's word is written as it would write it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.messages import (
    AnyReleasePush,
    OrderAnswer,
    OrderOutcome,
    Pull,
    PushRelease,
    PushReleaseChunk,
    Release,
    encode_pack,
)
from edge.model import Moment
from sync.release_files import ReleaseFiles, Told
from sync.releases import this_machine
from tests.support import releases, small_city
from tests.sync.sync_world import DEVICE, World

MINUTE_MS = 60_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def answers(world: World) -> list[tuple[int, str]]:
    return [(fact.counter, fact.why) for fact in world.facts() if isinstance(fact, OrderAnswer)]


def outcomes(world: World) -> list[tuple[int, str]]:
    return [(fact.counter, fact.why) for fact in world.facts() if isinstance(fact, OrderOutcome)]


def with_updater(world: World) -> None:
    """A device that takes releases, of a city that signs them."""
    world.settings.updates_path.mkdir()
    world.city.rotate(small_city.root_document(version=2, roles=releases.ROLES))
    world.restart()
    world.run(1_000)


def release_answers(world: World, release: Release, bundle: bytes) -> Callable[[Pull], None]:
    def answer(pull: Pull) -> None:
        if not pull.release:
            return
        pushes: list[AnyReleasePush] = [
            PushReleaseChunk(sha256=pull.release, index=n, data=releases.chunk(bundle, n))
            for n in pull.chunks
        ] or [PushRelease(sha256=pull.release, signed=releases.sign(release))]
        for push in pushes:
            world.bridge.deliver(f"mk/v1/d/{DEVICE}/push", encode_pack(push))

    return answer


def test_a_release_comes_by_order_and_its_end_is_told_by_the_updater(world: World) -> None:
    with_updater(world)
    machine = this_machine()
    bundle = bytes(range(256)) * 2_000
    release = releases.release_of(bundle, "9.0", platform=machine.platform, python=machine.python)
    world.city.order(1, "update", release="9.0", sha256=release.sha256)
    world.run(1_000)
    world.city.order(2, "update", release="9.1", sha256="ab" * 32)
    world.run(1_000)
    assert answers(world) == [(1, ""), (2, "busy")] and outcomes(world) == []
    world.city.answer_pull = release_answers(world, release, bundle)
    world.run(60_000)
    files = ReleaseFiles(world.settings.updates_path)
    assert files.bundle.read_bytes() == bundle and files.ready() is not None
    world.restart()  # The updater does that: the order outlives it.
    world.run(16 * MINUTE_MS)
    assert outcomes(world) == []
    files.tell(Told(running=False, release="9.0", counter=1, why="rolled_back"))
    files.forget_ready()
    world.run(2_000)
    assert outcomes(world) == [(1, "rolled_back")]


def test_a_release_that_is_in_use_is_done_at_once(world: World) -> None:
    with_updater(world)
    files = ReleaseFiles(world.settings.updates_path)
    told = Told(running=False, release="9.0", held="9.0", held_sha256="ab" * 32)
    files.tell(told)
    world.city.order(1, "update", release="9.0", sha256="ab" * 32)
    world.run(1_000)
    assert outcomes(world) == [(1, "")] and not any(pull.release for pull in world.city.pulls)
    world.city.order(2, "update", release="../x", sha256="ab" * 32)
    world.run(1_000)
    assert answers(world)[-1] == (2, "arguments")


def test_a_release_that_never_comes_ends_after_a_day(world: World) -> None:
    with_updater(world)
    world.city.order(1, "update", release="9.0", sha256="ab" * 32)
    world.run(2_000)
    assert any(pull.release for pull in world.city.pulls)
    world.sync.orders.step(moment_in(world, 23 * 60))
    assert outcomes(world) == []
    world.sync.orders.step(moment_in(world, 24 * 60 + 1))
    world.run(2_000)
    assert outcomes(world) == [(1, "timeout")]
    assert ReleaseFiles(world.settings.updates_path).wanted() is None


def moment_in(world: World, minutes: int) -> Moment:
    moment = world.clock.moment()
    return dataclasses.replace(moment, mono_ms=moment.mono_ms + minutes * MINUTE_MS)
