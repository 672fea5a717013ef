"""Goal: whatever the school's network does, what a device claims to know of the others is true;
and when the network is whole again, everybody soon holds all that tills sold and lanes let pass.

Method: four devices in virtual time; loss, doubling, reordering, partitions, restarts, lost stores
and bases that include more, all from one seed; the oracle of `peer_world` checks each claim when it
is made, and the whole when the faults have stopped.
"""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import VersionMark
from edge.model import Station
from tests.sync.peer_world import Net, World

TILL, LANE = Station.TILL, Station.ENTRANCE
SCHOOLS = (
    {"till-1": TILL, "till-2": TILL, "till-3": TILL, "lane-1": LANE},
    {"till-1": TILL, "till-2": TILL, "lane-1": LANE, "lane-2": LANE},
)
WORLDS = 400 if os.environ.get("NIGHTLY") else 20
CALM = Net()
SETTLED_MS = 40_000  # The longest wait between two asks, three times, and a heartbeat.


def live(world: World, random: Random, steps: int) -> None:
    """So many things happen, of which some go wrong."""
    number = 0
    for _ in range(steps):
        device = random.choice(list(world.devices.values()))
        match random.randrange(16):
            case 0:
                device.connect(not device.online)
            case 1:
                names = random.sample(list(world.devices), 2)
                world.apart ^= {frozenset(names)}
            case 2:
                device.start()
            case 3 if len(device.epochs) < 3:
                device.lose_store()
            case 4:
                number += 1
                vector = {
                    (till.name, epoch.name): random.randint(
                        device.base[1].get((till.name, epoch.name), 0), len(epoch.rows)
                    )
                    for till in world.tills()
                    for epoch in till.epochs
                }
                device.put_base(VersionMark(1, number), vector)
            case 5 | 6:
                device.note_seen()
            case _:
                for _ in range(random.choice((1, 1, 1, 3, 60))):
                    holder = random.choice(("p1", "p2", "p3", None))
                    device.record(holder, taken=random.random() < 0.8)
        world.at(0, lambda: None)
        world.run(random.choice((0, 5, 50, 400, 3_000)))
        world.check_heard()


def settle(world: World) -> None:
    world.net = CALM
    world.apart.clear()
    for device in world.devices.values():
        device.connect(True)
    for _ in range(8):
        world.run(SETTLED_MS // 8)
        for device in world.devices.values():
            device.note_seen()
        world.at(0, lambda: None)
    world.run(2_000)


@pytest.mark.slow
@settings(max_examples=WORLDS, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_all_is_true_at_any_time_and_known_to_all_in_the_end(seed: int) -> None:
    random = Random(seed)
    net = Net(
        lost=random.choice((0.0, 0.1, 0.5)),
        doubled=random.choice((0.0, 0.2)),
        late_ms_max=random.choice((5, 300, 4_000)),
    )
    world = World(random, dict(random.choice(SCHOOLS)), net)
    live(world, random, 40)
    settle(world)
    world.check_heard()
    world.check_settled()


def test_a_quiet_school_hears_itself_and_says_little() -> None:
    world = World(Random(1), dict(SCHOOLS[0]), CALM)
    world.run(2_000)
    for device in world.devices.values():
        device.note_seen()
    world.at(0, lambda: None)
    world.run(1_000)
    world.check_settled()
    before = world.messages
    world.run(60_000)
    world.check_settled()
    # Each of four speaks every 5 s, to four: what it says itself comes back too.
    assert world.messages - before <= 13 * 4 * 4


def test_a_sale_is_known_and_covered_within_a_moment() -> None:
    world = World(Random(1), dict(SCHOOLS[0]), CALM)
    world.run(3_000)
    seller, *others = world.tills()
    seller.record("p1")
    world.at(0, lambda: None)
    world.run(20)
    for other in others:
        assert other.kernel.known(seller.name, seller.epochs[-1].name) == 2
        other.note_seen()
    world.at(0, lambda: None)
    world.run(80)
    epoch = seller.epochs[-1].name
    for other in others:
        assert seller.store.covers[other.name, other.store.store_id, epoch] == 2
