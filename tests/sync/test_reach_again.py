"""Goal: after an outage nobody waits five minutes for nothing: the next attempt is shown, made at
once when the machine's own network is back or somebody asks, and not made in step by a school.

Method: the whole of sync in virtual time (`sync_world.py`); the network and the technician are in
our hands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import logs
from sync.backoff import BACKOFF_MS_MAX
from sync.bridge_events import Loss
from sync.city_link import HURRY_MS, HURRY_SPREAD_MS
from tests.sync.sync_world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Cut off for half an hour, and waiting at least a minute for the next attempt."""
    made = World(tmp_path)
    made.run(40_000)
    made.city.refused = lambda endpoint: (Loss.UNREACHABLE, "no route")
    made.bridge.lose(Loss.LOST, "gone")
    made.run(30 * 60_000)
    while (next_try_s(made) or 0) < 60:
        made.run(1_000)
    try:
        yield made
    finally:
        made.stop()
        logs.set_level("info")


def next_try_s(world: World) -> int | None:
    found = world.sync.reports.status(world.clock.moment())["next_try_s"]
    assert found is None or isinstance(found, int)
    return found


def asked(world: World) -> dict[str, object]:
    return world.sync.answer({"request": "connect"}, world.clock.moment())


def test_the_next_attempt_is_shown_and_comes_then(world: World) -> None:
    left_s, attempts = next_try_s(world), len(world.bridge.connects)
    assert left_s is not None and 60 <= left_s <= BACKOFF_MS_MAX // 1000
    world.run((left_s - 2) * 1000)
    assert len(world.bridge.connects) == attempts
    world.run(2_000)
    assert len(world.bridge.connects) == attempts + 1


def test_when_the_network_is_back_it_tries_within_two_seconds(world: World) -> None:
    world.city.refused = lambda endpoint: None
    world.network.back = True
    world.run(1_000 + HURRY_SPREAD_MS)
    assert world.sync.link.welcomed and next_try_s(world) is None
    assert world.sync.counters["connects_hurried"] == 1


def test_an_address_before_the_way_costs_seconds_and_not_minutes(world: World) -> None:
    world.network.back = True
    world.run(4_000)
    world.city.refused = lambda endpoint: None
    world.run(10_000)
    assert world.sync.link.welcomed


def test_a_plug_that_shakes_makes_no_storm(world: World) -> None:
    attempts = len(world.bridge.connects)
    for _ in range(100):
        world.network.back = True
        world.run(100)
    assert world.sync.counters["connects_hurried"] <= 1 + 10_000 // HURRY_MS
    assert len(world.bridge.connects) - attempts <= 10


def test_a_technician_who_asks_is_answered_by_an_attempt(world: World) -> None:
    attempts = len(world.bridge.connects)
    assert asked(world) == {"ok": True, "connected": False, "trying": True}
    world.run()
    assert len(world.bridge.connects) == attempts + 1
    world.city.refused = lambda endpoint: None
    asked(world)
    world.run()
    assert asked(world) == {"ok": True, "connected": True, "trying": False}


def test_while_connected_the_network_may_come_and_go(world: World) -> None:
    world.city.refused = lambda endpoint: None
    asked(world)
    world.run(5_000)
    attempts = len(world.bridge.connects)
    for _ in range(5):
        world.network.back = True
        world.run(5_000)
    assert len(world.bridge.connects) == attempts and world.sync.link.welcomed
