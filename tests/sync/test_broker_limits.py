"""Goal: a broker whose packets are too small for a fact costs neither the connection nor the other
streams, a person is told which limit to raise, and raising it lets everything through.

Method: the whole of sync in virtual time (`sync_world.py`) with a broker that says its limit and
ends the connection over a larger packet, as MQTT 5.0 has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import logs
from edge.messages import LogLines, Noted, Stream
from edge.offline_cache import marks
from sync.bridge_events import Loss
from sync.session import PACKET_BYTES_NEEDED
from tests.sync.sync_world import World

SMALL = 8 * 1024


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.stop()
        logs.set_level("info")


def note(world: World) -> None:
    with world.sync.agent.recording() as noting:
        noting.add(Noted(**noting.stamp(world.clock.moment()), what="test", number=1))


def tell_at_length(world: World, size: int) -> None:
    with world.sync.diag.recording() as telling:
        stamp = telling.stamp(world.clock.moment())
        telling.add(
            LogLines(**stamp, counter=1, process="sync", part=1, parts=1, lines=("x" * size,))
        )


def acknowledged(world: World, stream: Stream) -> bool:
    writer = world.sync.agent if stream is Stream.AGENT else world.sync.diag
    return marks.acknowledged(world.writer).get((stream, writer.epoch), 0) == writer.head


def alarms(world: World) -> list[str]:
    found = world.sync.reports.status(world.clock.moment())["alarms"]
    assert isinstance(found, list)
    return found


def test_a_fact_above_the_brokers_packets_waits_and_nothing_else_does(world: World) -> None:
    world.bridge.packet_bytes_max = SMALL
    world.run(5_000)
    assert [a for a in alarms(world) if str(SMALL) in a and str(PACKET_BYTES_NEEDED) in a]
    tell_at_length(world, SMALL)
    note(world)
    world.run(30 * 60_000)
    assert world.bridge.overfull == 0 and len(world.bridge.connects) == 1, "no connection lost"
    assert acknowledged(world, Stream.AGENT), "the other streams go on"
    assert not acknowledged(world, Stream.DIAG)
    (alarm,) = [a for a in alarms(world) if a.startswith("diag")]
    assert "maximum packet size" in alarm and str(PACKET_BYTES_NEEDED) in alarm
    assert world.sync.uplink.counters["too_large_for_broker"] == 1, "told once"


def test_a_raised_limit_lets_it_through_with_the_next_connection(world: World) -> None:
    world.bridge.packet_bytes_max = SMALL
    world.run(5_000)
    tell_at_length(world, SMALL)
    world.run(60_000)
    world.bridge.packet_bytes_max = PACKET_BYTES_NEEDED
    world.bridge.lose(Loss.LOST, "the broker starts again")
    world.run(60_000)
    assert acknowledged(world, Stream.DIAG) and not alarms(world)


@pytest.mark.parametrize("limit", [None, PACKET_BYTES_NEEDED, 1 << 20])
def test_a_broker_with_room_raises_no_alarm(world: World, limit: int | None) -> None:
    world.bridge.packet_bytes_max = limit
    world.run(5_000)
    tell_at_length(world, SMALL)
    world.run(5_000)
    assert acknowledged(world, Stream.DIAG) and not alarms(world)


def test_many_small_facts_leave_in_batches_that_fit(world: World) -> None:
    world.bridge.packet_bytes_max = SMALL
    world.run(5_000)
    for _ in range(200):
        note(world)
    world.run(30_000)
    assert acknowledged(world, Stream.AGENT) and world.bridge.overfull == 0
