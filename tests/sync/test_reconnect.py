"""Goal: a device whose connection ended comes back as its page says: out of step with the others,
soon after a good link and where that was, late where nobody wants it; and whoever has lost it is
told by its will.

Method: the whole of sync in virtual time (`sync_world.py`), a fleet of it with a seed each; the
ceiling of a wait is read with the fraction 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge import logs
from sync.backoff import BACKOFF_MS_MAX, BACKOFF_MS_MIN, USEFUL_MS
from sync.bridge_events import Loss
from sync.contact import Contact
from sync.session import Endpoint
from sync.status import is_newer, read_status
from sync.topics import TopicKind, own
from tests.sync.sync_world import DEVICE, World

FLEET = 32  # Our choice: enough to tell a spread from a step; a device is 50 ms to make.
OUTAGE_MS = 100_000  # Waits are a minute and more by then.
WINDOW_MS = 4_000
TWO = ("mqtts://first.example:8883", "mqtts://second.example:8883")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, endpoints=TWO)
    made.random = lambda: 1.0
    try:
        yield made
    finally:
        made.stop()
        logs.set_level("info")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[list[World]]:
    """All connected and served, at the same time."""
    with ExitStack() as stack:
        made = []
        for seed in range(FLEET):
            folder = tmp_path / str(seed)
            folder.mkdir()
            world = World(folder, seed=seed)
            stack.callback(world.stop)
            world.run(USEFUL_MS)
            made.append(world)
        yield made


def nobody(_endpoint: Endpoint) -> tuple[Loss, str]:
    return Loss.UNREACHABLE, "no route"


def next_ms(world: World) -> int:
    """From now to the next attempt."""
    at_ms = world.sync.link.next_connect_ms
    assert at_ms is not None
    return at_ms - world.mono_ms


def attempts_until_back(world: World) -> list[int]:
    """The broker goes now and is back after the outage: when this device tried, in ms from its
    end on. The last attempt is the one that led back."""
    began_ms, tried = world.mono_ms, []
    world.city.refused = nobody
    world.bridge.lose(Loss.LOST, "gone")
    world.run()
    while not world.bridge.connected:
        world.mono_ms += max(0, next_ms(world))
        since_ms = world.mono_ms - began_ms
        if since_ms >= OUTAGE_MS:
            world.city.refused = lambda endpoint: None
        tried.append(since_ms)
        world.run()
    assert world.sync.link.welcomed
    return tried


# --------------------------------------------------------------------------- out of step


def test_devices_that_lost_one_broker_together_try_and_return_apart(fleet: list[World]) -> None:
    """What `Backoff` promises of ten thousand, each device of a fleet does."""
    tried = [attempts_until_back(world) for world in fleet]
    first = sorted(attempts[0] for attempts in tried)
    assert first[0] < BACKOFF_MS_MIN // 8 and first[-1] > BACKOFF_MS_MIN * 7 // 8
    back = [attempts[-1] for attempts in tried]
    windows = Counter((ms - OUTAGE_MS) // WINDOW_MS for ms in back)
    assert max(windows.values()) <= FLEET // 4, windows
    assert len(windows) >= FLEET // 3, windows
    assert max(back) <= OUTAGE_MS + BACKOFF_MS_MAX


def test_the_same_measure_sees_a_fleet_in_step(fleet: list[World]) -> None:
    for world in fleet[:4]:
        world.random = lambda: 1.0
    tried = [attempts_until_back(world) for world in fleet[:4]]
    assert tried.count(tried[0]) == 4


# ------------------------------------------------------------------------ after a good link


def on_the_second(world: World, served_ms: int) -> None:
    """After a long outage the second broker alone is there, serves so long, and is lost."""
    world.run(1_000)
    world.city.refused = nobody
    world.bridge.lose(Loss.LOST, "gone")
    world.run(20 * 60_000)
    assert next_ms(world) > 60_000
    world.city.refused = lambda endpoint: (
        None if endpoint.host == "second.example" else nobody(endpoint)
    )
    while not world.sync.link.welcomed:
        world.run(1_000)
    world.run(served_ms - (world.mono_ms - world.sync.link.since_ms))
    world.bridge.lose(Loss.LOST, "gone")
    world.run()


def test_after_a_link_that_served_it_is_back_soon_and_where_it_was(world: World) -> None:
    on_the_second(world, USEFUL_MS + 1_000)
    assert next_ms(world) == BACKOFF_MS_MIN, "the longest of the shortest wait"
    world.run(BACKOFF_MS_MIN)
    assert world.bridge.connects[-1] == "second.example" and world.sync.link.welcomed


def test_after_a_link_that_served_too_short_it_waits_on_and_tries_the_next(world: World) -> None:
    on_the_second(world, USEFUL_MS - 2_000)
    wait_ms = next_ms(world)
    assert wait_ms > 60_000
    world.run(wait_ms)
    assert world.bridge.connects[-1] == "first.example"


# -------------------------------------------------------------------------- not wanted


@pytest.mark.parametrize("loss", [Loss.DENIED, Loss.UNTRUSTED, Loss.TAKEN_OVER])
def test_where_no_broker_wants_it_the_device_does_not_knock_harder(
    world: World, loss: Loss
) -> None:
    world.run(1_000)
    world.city.refused = lambda endpoint: (loss, "not authorised")
    world.bridge.lose(Loss.LOST, "gone")
    world.run()
    assert next_ms(world) == BACKOFF_MS_MIN
    world.run(BACKOFF_MS_MIN)
    assert next_ms(world) == BACKOFF_MS_MIN, "the other broker may know it"
    world.run(BACKOFF_MS_MIN)
    assert next_ms(world) == BACKOFF_MS_MAX, "both have said so"
    tried = len(world.bridge.connects)
    world.run(2 * BACKOFF_MS_MAX + 1_000)
    assert len(world.bridge.connects) == tried + 2


# ------------------------------------------------------------------------------ the will


def test_every_connection_leaves_a_will_that_ends_its_own_presence(world: World) -> None:
    """Of the same connection as the birth, so a late one hides no newer birth."""
    world.run(1_000)
    world.bridge.lose(Loss.LOST, "gone")
    world.run(5_000)
    world.sync.link.end("as a test wants it", at_once=True)
    world.run(1_000)
    births = [read_status(data) for data in world.city.of(TopicKind.STATUS)]
    assert [birth.online for birth in births] == [True] * 3
    topics, payloads = zip(*world.bridge.wills, strict=True)
    assert set(topics) == {own(DEVICE, TopicKind.STATUS)}
    wills = [read_status(data) for data in payloads]
    assert len(wills) == 3
    for birth, will in zip(births, wills, strict=True):
        assert (will.device, will.online, will.boot) == (DEVICE, False, birth.boot)
        assert will.connection == birth.connection and is_newer(will, birth)
    assert not is_newer(wills[0], births[1]), "late, and of a connection before"


def test_a_contact_for_time_alone_leaves_the_same_will(world: World) -> None:
    world.run(1_000)
    born = read_status(world.city.of(TopicKind.STATUS)[-1])
    world.restart(reboot=True, clock_trusted=False)
    world.sync.step()
    assert world.sync.link.contact is Contact.TIME
    topic, payload = world.bridge.wills[-1]
    will = read_status(payload)
    assert topic == own(DEVICE, TopicKind.STATUS) and not will.online
    assert will.connection > born.connection
