"""Goal: a picture only ever goes forward, by exactly fitting deltas or by a whole snapshot, and in
the end it is the city's, whatever arrives in whatever order.

Method: every sequence of five arrivals in a small world, held against a store that refuses what
the real one refuses; big worlds sampled by seed; the checker itself is seen to catch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import Delta, Head, Manifest, Row
from sync.answers import (
    ApplyDelta,
    FinishSnapshot,
)
from sync.scope_intake import (
    PULL_PATIENCE_MS,
    RETRY_MS_MAX,
    RETRY_MS_MIN,
)
from tests.sync.intake_help import (
    MENU,
    MONEY,
    PEOPLE,
    city_with,
)
from tests.sync.list_world import CALM, Chunk, Device, Faults, Picture, World

ROUGH = Faults(
    lost=0.2,
    doubled=0.15,
    late_ms_max=3_000,
    link_lost=0.05,
    spoilt=0.01,
    restored=0.01,
    replayed=0.2,
    forgotten=0.05,
)


@pytest.mark.slow
@pytest.mark.parametrize("holds", [False, True])
def test_every_sequence_of_arrivals_keeps_the_store_whole(holds: bool) -> None:
    """Nine things that can arrive or happen, any five of them in any order: 2 x 59,049 worlds."""
    old = city_with(0)
    assert old.manifest is not None
    start = (old.version, dict(old.rows))
    first = old.change({b"a": b"1"})
    old_head = old.head(issued_utc_ms=1)
    second = old.change({b"b": b"1"})
    old.make_snapshot()
    manifest, chunks = old.manifest, list(old.chunks)
    third = old.change({b"c": b"1"}, removes=[b"a"])
    newest = old.version
    assert manifest is not None and len(chunks) == 3
    pieces = [
        Chunk(scope=PEOPLE, snapshot_id=manifest.snapshot_id, index=i, data=data)
        for i, data in enumerate(chunks)
    ]
    new_head = old.head(issued_utc_ms=2)
    things: list[Sequence[Head | Delta | Manifest | Chunk] | int] = [
        *([first], [second], [third]),
        *([old_head], [new_head]),
        *([manifest], [pieces[0], pieces[2]], [pieces[1]]),
        PULL_PATIENCE_MS + RETRY_MS_MIN,
    ]
    for chosen in product(things, repeat=5):
        world = World(Random(0), (PEOPLE,))
        world.connected = True
        device = world.device
        if holds:
            device.pictures[PEOPLE] = Picture(start[0], dict(start[1]))
            device.carry_out(device.intake.held(scope=PEOPLE, version=start[0], now_ms=0))
        versions = []
        for thing in chosen:
            if isinstance(thing, int):
                device.now_ms += thing
                device.carry_out(device.intake.step(now_ms=device.now_ms))
            else:
                for one in thing:
                    world.take(one)
            device.sent.clear()
            if PEOPLE in device.pictures:
                picture = device.pictures[PEOPLE]
                versions.append(picture.version.number)
                assert picture.rows == old.history[picture.version]
        assert versions == sorted(versions)
        kinds = [thing if isinstance(thing, int) else thing[0] for thing in chosen]
        if holds and all(delta in kinds for delta in (first, second, third)):
            assert device.pictures[PEOPLE].version == newest


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_after_any_faults_every_list_is_the_citys(seed: int) -> None:
    world = World(Random(seed), (PEOPLE, MONEY, MENU))
    world.connect()
    world.faults = ROUGH
    for _ in range(150):
        world.run_second()
        world.go_wrong()
        if world.random.random() < 0.5:
            world.change(world.random.choice([PEOPLE, MONEY]), world.random.choice([1, 1, 12]))
    world.faults = CALM
    if world.connected:
        world.disconnect()
    world.connect()  # The retained heads come again, and with the welcome what is wanted.
    for _ in range(2 * RETRY_MS_MAX // 1_000):
        world.run_second()
    world.check_current()


def test_a_calm_morning_costs_one_snapshot_and_then_only_deltas() -> None:
    world = World(Random(5), (PEOPLE, MONEY))
    world.cities[PEOPLE].change({b"%d" % i: b"0" for i in range(30)})
    world.cities[PEOPLE].deltas.clear()
    world.cities[PEOPLE].make_snapshot()
    world.connect()
    for second in range(60):
        world.run_second()
        if second > 10:
            world.change(PEOPLE, 1)
    world.run_second()
    world.check_current()
    assert world.device.snapshots == 2 and not world.device.refused


def test_the_model_device_catches_a_wrong_intake() -> None:
    """The checker itself: a delta on another base, a hole, a step back are all seen."""
    city = city_with(2)
    first, second = city.deltas.values()
    assert city.manifest is not None
    device = Device((PEOPLE,))
    device.pictures[PEOPLE] = Picture(first.base, dict(city.history[first.base]))
    with pytest.raises(AssertionError, match="another base"):
        device.carry_out([ApplyDelta(delta=second)])
    rows = {i: {r.key: r.body for r in _rows(data)} for i, data in enumerate(city.chunks)}
    device.builds[PEOPLE] = (city.manifest, rows)
    with pytest.raises(AssertionError, match="hole"):
        device.carry_out([FinishSnapshot(manifest=city.manifest, later=(second,))])
    device.builds[PEOPLE] = (city.manifest, rows)
    device.pictures[PEOPLE] = Picture(second.target, {})
    with pytest.raises(AssertionError, match="step back"):
        device.carry_out([FinishSnapshot(manifest=city.manifest, later=())])


def _rows(data: bytes) -> list[Row]:
    return msgspec.msgpack.decode(data, type=list[Row])
