"""Goal: what lasts (a week without a network, a city that is away or answers wrongly, a clock that
jumps, ten thousand devices at once) costs time and never a fact, and nobody returns in step.

Method: real files, real kernels and the reference city in one process (`whole_device.py`), or
sync's whole shell with a city in hand (`sync_world.py`); hours and days are numbers that the test
moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from msgspec import structs

from edge.clock import moment_at
from edge.messages import Ack, Stream, decode_fact
from edge.model import ClockQuality, Moment
from edge.offline_cache import outbox
from edge.offline_cache.record import Journal
from edge.offline_cache.retention import DAY_S, KEPT_DAYS
from hil.city.faults import Fault, Faults
from hil.city.intake import CityCore
from hil.city.lists import Out
from hil.city.mischief import Mischief
from sync.answers import Acknowledged, Send
from sync.backoff import Backoff
from sync.bridge_events import Loss
from sync.city_link import HELLO_MS
from sync.pump import Pump
from sync.topics import TopicKind
from tests.city.sham import NOON_MS, Sham, make_core
from tests.support.whole_device import ZONE, Device, sold_minor
from tests.sync.sync_world import DEVICE, World, device_row
from tests.sync.world_journal import journal_of, record

DAY_MS = DAY_S * 1_000


@pytest.fixture
def core(tmp_path: Path) -> CityCore:
    return make_core(tmp_path)


@pytest.fixture
def till(core: CityCore, tmp_path: Path) -> Iterator[Device]:
    device = Device(core, tmp_path / "till")
    yield device
    device.stop()


def bodies(device: Device) -> list[bytes]:
    db = device.journal.writer.db
    (life,) = outbox.lives(db, Stream.MAIN)
    return outbox.next_facts(db, life.life, life.held_from, rows_max=life.head, bytes_max=1 << 30)


def assert_city_has(core: CityCore, expected: list[bytes]) -> None:
    rows = core.store.rows("SELECT bytes FROM fact WHERE stream = 'main' ORDER BY sequence")
    assert [row[0] for row in rows] == expected
    for table in ("gap", "fork", "suspense"):
        assert core.store.rows(f"SELECT * FROM {table}") == [], table


# ------------------------------------------------------------------------- a week


@pytest.mark.slow
def test_a_weeks_outage_ends_with_every_fact_at_the_city(core: CityCore, till: Device) -> None:
    """4,200 facts over seven days without a network; both processes are started anew on the way."""
    days, per_day, price = 7, 300, 2
    till.run()
    till.disconnect()
    for day in range(days):
        for _ in range(per_day):
            till.sell(price)
            till.pass_by()
            till.now_ms += DAY_MS // per_day - 1_000
            till.live(1)
        if day in (2, 4):
            till.stop()
            till.start()
    assert till.now_ms >= days * DAY_MS
    assert till.uplink.depth()["main"] == 2 * days * per_day
    expected = bodies(till)
    assert len(expected) == 2 * days * per_day + 1, "nothing went that nobody has"
    assert sold_minor(core) == 0
    till.run()
    assert_city_has(core, expected)
    assert sold_minor(core) == days * per_day * price
    till.assert_whole()
    assert bodies(till) == expected, "a week old is not old"


@pytest.mark.slow
def test_after_an_outage_longer_than_retention_what_the_city_lacks_is_still_there(
    core: CityCore, till: Device
) -> None:
    """Old is not enough to go: the city must have it. Nothing is summed up or declared lost."""
    till.run()
    till.disconnect()
    for _ in range(KEPT_DAYS + 5):
        till.sell(1)
        till.pass_by()
        till.now_ms += DAY_MS
        till.live(5)
    expected = bodies(till)
    assert len(expected) == 2 * (KEPT_DAYS + 5) + 1
    till.run()
    assert_city_has(core, expected)
    assert sold_minor(core) == KEPT_DAYS + 5


# ------------------------------------------------------------------------- ten thousand at once

FLEET = 10_000


def returns(devices: int, outage_ms: int, fraction: Callable[[], float]) -> list[int]:
    """When each device of a fleet that lost its broker at 0 is connected again, in ms."""
    arrivals = []
    for _ in range(devices):
        backoff = Backoff(endpoints=1)
        backoff.useful(now_ms=-DAY_MS)
        now_ms = 0
        while True:
            now_ms += backoff.ended(now_ms=now_ms, fraction=fraction())
            if now_ms >= outage_ms:
                break
            now_ms += 20  # An attempt that is refused.
        arrivals.append(now_ms)
    return arrivals


def peak_per_s(times_ms: Sequence[int]) -> int:
    return max(Counter(ms // 1_000 for ms in times_ms).values())


@pytest.mark.parametrize(("outage_s", "share_max"), [(60, 0.06), (600, 0.015), (7_200, 0.012)])
def test_ten_thousand_that_lost_one_broker_do_not_return_at_once(
    outage_s: int, share_max: float
) -> None:
    """In no second more than a small share of them; and all within one longest wait."""
    draw = Random(outage_s)
    arrivals = returns(FLEET, outage_s * 1_000, draw.random)
    assert peak_per_s(arrivals) <= FLEET * share_max, peak_per_s(arrivals)
    assert max(arrivals) <= (outage_s + 300) * 1_000
    # The same count sees a fleet in step: without jitter all are there in one second.
    assert peak_per_s(returns(FLEET, outage_s * 1_000, lambda: 1.0)) == FLEET


def drained(arrivals_ms: Sequence[int], backlog: int, throttle_per_s: int | None) -> Counter[int]:
    """Facts that reach the city in each second, each device with its own real pump; the city
    answers after 50 ms."""
    per_s: Counter[int] = Counter()
    for start_ms in arrivals_ms:
        pump = Pump(device=DEVICE, stream=Stream.MAIN)
        pump.held(epoch="e", held_from=1, head=backlog, acknowledged=0)
        pump.connected({"e": 0}, now_ms=start_ms, throttle_per_s=throttle_per_s)
        now_ms = start_ms
        while pump.depth:
            events = pump.step(now_ms=now_ms)
            if events and isinstance(events[-1], Send):
                first = events[-1].first
                last = min(backlog, first + events[-1].rows_max - 1)
                pump.sent(epoch="e", first=first, last=last, now_ms=now_ms)
                per_s[now_ms // 1_000] += last - first + 1
                ack = Ack(device=DEVICE, stream=Stream.MAIN, epoch="e", up_to=last)
                (moved,) = pump.acknowledged(_throttled(ack, throttle_per_s), now_ms=now_ms + 50)
                assert isinstance(moved, Acknowledged)
            else:
                wake_ms = pump.wake_ms()
                assert wake_ms is not None
                now_ms = max(now_ms + 50, wake_ms)
    return per_s


def _throttled(ack: Ack, throttle_per_s: int | None) -> Ack:
    return Ack(
        device=ack.device,
        stream=ack.stream,
        epoch=ack.epoch,
        up_to=ack.up_to,
        throttle_per_s=throttle_per_s,
    )


def test_a_throttle_spreads_what_a_tenth_of_them_bring() -> None:
    """1,000 devices with 200 facts each behind a short outage: the city says 2 a second."""
    arrivals = returns(FLEET // 10, 20_000, Random(7).random)
    free, throttled = (drained(arrivals, 200, throttle) for throttle in (None, 2))
    assert free.total() == throttled.total() == FLEET // 10 * 200
    # Each brings two a second and one batch of two at once.
    assert max(throttled.values()) <= FLEET // 10 * 2 * 2 < max(free.values()) / 2
    assert max(throttled) - min(throttled) >= 90, "and so it takes its time"


# ------------------------------------------------------------------------- clocks


class _Jumpy(Device):
    """Its wall clock is whatever the test says; the monotonic one goes on."""

    wall_ms: int | None = None

    def moment(self) -> Moment:
        if self.wall_ms is None:
            return super().moment()
        return moment_at(
            boot="b00000000001",
            mono_ms=self.now_ms,
            wall_ms=self.wall_ms,
            quality=ClockQuality.UNKNOWN,
            zone=ZONE,
        )


def test_a_clock_that_jumps_within_a_batch_reorders_and_loses_nothing(
    core: CityCore, tmp_path: Path
) -> None:
    """1970, 2099, an hour back and forth, between two facts of one batch."""
    till = _Jumpy(core, tmp_path / "till")
    till.run()
    walls = (0, 4_070_908_800_000, NOON_MS - 3_600_000, NOON_MS + 3_600_000, 1, NOON_MS)
    for number, wall in enumerate(walls * 5):
        till.wall_ms = wall
        till.sell(1)
        till.pass_by()
        if number % 7 == 0:
            till.live(1)
    till.wall_ms = None
    expected = bodies(till)
    assert len(expected) == 1 + 2 * 5 * len(walls), "no year ages what the city lacks"
    till.run()
    assert_city_has(core, expected)
    assert sold_minor(core) == 5 * len(walls)
    monotonic = [decode_fact(body).mono_ms for body in expected]
    assert monotonic == sorted(monotonic)
    till.stop()


# ------------------------------------------------------------------------- a city that errs


class _Faulty:
    """The reference city with its faults, in the core's place."""

    def __init__(self, core: CityCore, faults: Faults) -> None:
        self._mischief = Mischief(core, faults, sleep=lambda _s: None)
        self._core = core

    def receive(self, topic: str, payload: bytes, now_ms: int) -> list[Out]:
        outs = self._mischief.receive_all([(topic, payload)], now_ms)
        return [*outs, *self._mischief.tick(now_ms)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


@pytest.mark.parametrize(
    "fault",
    [
        "ack-lost=60",
        "ack-never",
        "ack-late=2000",
        "ack-twice",
        "ack-reordered",
        "ack-epoch",
        "ack-future=50",
        "welcome-marks",
        "welcome-digests",
        "overlap-refused",
    ],
)
def test_whatever_the_city_says_of_what_it_has_it_ends_with_everything_once(
    core: CityCore, tmp_path: Path, fault: str
) -> None:
    """Two minutes of it in the middle of a day; then it is well again."""
    faults = Faults()
    till = Device(
        cast(CityCore, _Faulty(core, faults)), tmp_path / "till", sham=Sham(core, "till-1")
    )
    till.run()
    faults.switch_text(fault)
    for _ in range(24):
        till.sell(1)
        till.pass_by()
        till.live(5)
    assert faults[Fault(fault.partition("=")[0])]
    faults.clear()
    till.run(120)
    assert sold_minor(core) == 24
    if fault != "ack-future=50":  # That one makes it ask, and a liar's word is no proof.
        assert len(till.lives()) == 1
        assert_city_has(core, bodies(till))
    till.stop()


class _Hole:
    """Nobody: what is sent goes nowhere and is not answered."""

    @staticmethod
    def receive(_topic: str, _payload: bytes, _now_ms: int) -> list[Out]:
        return []


@pytest.mark.parametrize("lie", ["another epoch", "the future", "another device", "never sent"])
def test_a_word_that_cannot_be_true_moves_no_mark_while_batches_are_lost(
    core: CityCore, till: Device, lie: str
) -> None:
    """Nothing of what was sold is with the city, and somebody says that it is."""
    till.run()
    head = till.lives()[0].head
    ack = Ack(device="till-1", stream=Stream.MAIN, epoch=till.lives()[0].epoch, up_to=head + 5)
    lies = {
        "another epoch": structs.replace(ack, epoch="f" * 16),
        "the future": structs.replace(ack, up_to=head + 6),
        "another device": structs.replace(ack, device="till-2"),
        "never sent": ack,
    }
    till.core = cast(CityCore, _Hole())
    for _ in range(5):
        till.sell(1)
    till.uplink.look(till.now_ms)
    if lie != "never sent":
        till.pump()
    till.uplink.acknowledged(lies[lie], till.now_ms)
    assert till.uplink.depth()["main"] == 5
    assert till.uplink.status()["main"]["acknowledged"] == head
    till.core = core
    till.run()
    assert sold_minor(core) == 5
    assert_city_has(core, bodies(till))


def test_a_poison_fact_blocks_nobody_behind_it(core: CityCore, till: Device) -> None:
    """A sale of an account that nobody knows: put aside there, and everything else is posted."""
    till.run()
    till.sell(1)
    with till.journal.record(till.moment()) as tap:
        spoilt = till.sham.make_sale(999, 64, **tap.stamp(till.moment()))
        tap.add(spoilt)
    till.sell(2)
    till.run()
    assert till.uplink.depth()["main"] == 0
    (row,) = core.store.rows("SELECT sequence, reason FROM suspense")
    assert row == (3, "unknown_cardholder")
    rows = core.store.rows("SELECT bytes FROM fact WHERE stream = 'main' ORDER BY sequence")
    assert [row[0] for row in rows] == bodies(till)


# ------------------------------------------------------------------------- the whole of sync


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.stop()


@pytest.fixture
def journal(world: World) -> Iterator[Journal]:
    with journal_of(world) as journal:
        yield journal


def arrived(world: World) -> int:
    return max((up for (s, _), (up, _) in world.city.waters.items() if s is Stream.MAIN), default=0)


def test_a_city_that_is_down_behind_a_broker_that_is_up(world: World, journal: Journal) -> None:
    """Hours of hellos without an answer: nothing is sent to nobody; then all of it."""
    world.city.up = False
    record(journal, world, 700)
    world.run(4 * 60 * 60 * 1_000)
    hellos = len(world.city.hellos)
    assert 1 < hellos <= 4 * 60 * 60 * 1_000 // HELLO_MS + 1
    assert world.city.of(TopicKind.UP) == [] and arrived(world) == 0
    assert world.sync.uplink.depth()["main"] == 701
    world.city.up = True
    world.run(HELLO_MS + 5_000)
    assert arrived(world) == 701 and world.sync.uplink.depth()["main"] == 0


@pytest.mark.parametrize("good", [True, False])
def test_a_configuration_change_with_a_backlog_loses_nothing(
    world: World, journal: Journal, good: bool
) -> None:
    """Other brokers are set while 900 facts wait. Where nobody answers at the
    new ones, the device takes the old ones again by itself."""
    world.run(2_000)
    world.city.refused = lambda endpoint: (
        None if good or endpoint.host == "first.example" else (Loss.UNREACHABLE, "nobody")
    )
    record(journal, world, 900)
    values = {"endpoints": ["mqtts://second.example:8883"], "health_s": 30, "roll_back_min": 5}
    world.install_settings(device_row(1, **values), number=2)
    world.run(20_000)
    assert world.bridge.connects[-1] == "second.example"
    if not good:
        record(journal, world, 100)
        world.run(20 * 60_000)
        assert world.bridge.connects[-1] == "first.example"
    world.run(60_000)
    assert arrived(world) == journal.head and world.sync.uplink.depth()["main"] == 0
