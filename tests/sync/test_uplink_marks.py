"""Goal: acknowledgements cost few flushes while much is on its way, are on disk as soon as nothing
is, and lowering a mark never waits behind raising it.

Method: the whole of sync in virtual time (`sync_world.py`); a counted trigger tells how often the
marks were written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import logs
from edge.messages import Ack, Noted, Stream, decode_batch, encode_json
from edge.offline_cache import marks
from sync.uplink import SETTLE_MS
from tests.sync.sync_world import DEVICE, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.run(5_000)
    made.writer.db.execute("CREATE TEMP TABLE written (n INTEGER)")
    made.writer.db.execute(
        "CREATE TEMP TRIGGER count_marks AFTER UPDATE ON main.acks"
        " BEGIN INSERT INTO written VALUES (1); END"
    )
    try:
        yield made
    finally:
        made.stop()
        logs.set_level("info")


def written(world: World) -> int:
    return int(world.writer.db.execute("SELECT count(*) FROM written").fetchone()[0])


def on_disk(world: World) -> int:
    return marks.acknowledged(world.writer)[Stream.AGENT, world.sync.agent.epoch]


def record(world: World, facts: int) -> None:
    for number in range(facts):
        with world.sync.agent.recording() as noting:
            noting.add(Noted(**noting.stamp(world.clock.moment()), what="test", number=number))


def acknowledge(world: World, up_to: int, *, rewind: bool = False) -> None:
    """Later than the city at hand did, and by itself."""
    ack = Ack(
        device=DEVICE,
        stream=Stream.AGENT,
        epoch=world.sync.agent.epoch,
        up_to=up_to,
        rewind=rewind,
    )
    world.bridge.deliver(f"mk/v1/d/{DEVICE}/ack", encode_json(ack))
    world.sync.step()


def test_many_acknowledgements_are_few_flushes(world: World) -> None:
    world.bridge.city.take = lambda topic, payload: None  # type: ignore[method-assign]
    head = world.sync.agent.head
    record(world, 600)
    world.mono_ms += 1_000
    world.sync.step(rung=True)
    assert world.sync.uplink._pumps[Stream.AGENT].in_flight > 1
    before = written(world)
    for number in range(1, 51):  # Well within the first batches: more is on its way all the time.
        world.mono_ms += 1
        acknowledge(world, head + number)
    assert written(world) - before <= 1 + 50 // SETTLE_MS
    world.mono_ms += SETTLE_MS
    world.sync.step()
    assert on_disk(world) == head + 50


def test_with_nothing_on_its_way_a_mark_is_on_disk_at_once(world: World) -> None:
    for _ in range(3):
        head = world.sync.agent.head
        record(world, 1)
        world.run(300)
        assert on_disk(world) == head + 1


def test_a_city_that_lost_facts_lowers_the_mark_at_once(world: World) -> None:
    record(world, 30)
    world.run(1_000)
    head = on_disk(world)
    batches: list[int] = []
    world.bridge.city.take = lambda topic, payload: (  # type: ignore[method-assign]
        batches.append(decode_batch(payload)[0].first) if "/up/agent" in topic else None
    )
    record(world, 300)
    world.mono_ms += 1_000
    world.sync.step(rung=True)
    acknowledge(world, head + 1)
    acknowledge(world, head - 20, rewind=True)
    assert on_disk(world) == head - 20
    world.mono_ms += SETTLE_MS
    world.sync.step(rung=True)
    assert on_disk(world) == head - 20, "what was acknowledged before counts no more"
    assert min(batches) <= head - 19
