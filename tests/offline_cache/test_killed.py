"""Goal: killed at any statement of a tap, of draining, of closing an old copy, of making room, of
deleting what is old or of a salvage, everything that was recorded is there, every chain is whole,
and the city's books come out right once things go on.

Method: a child ends itself by SIGKILL at its first, second, third … step in its own files until it
comes to its end alive, each time on a fresh copy of the same device and the same city. After each
death both processes start again and drain.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.messages import SaleFact, decode_fact
from edge.model import Station
from edge.offline_cache import epochs, retention
from edge.offline_cache.soundness import mark_unsound
from hil.city.intake import CityCore
from hil.city.store import Store
from tests.city.sham import Sham, city_keys, make_core
from tests.support.killing import arm, killed_at
from tests.support.whole_device import Device, sold_minor

Scenario = Callable[[Device], None]


class Bench:
    """A device and a city as files, to be copied for each death."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = folder / "base"
        self.base.mkdir()
        core = make_core(folder, path=self.base / "city.db")
        self.sham = Sham(core, "till-1")
        self.device = Device(core, self.base / "till", sham=self.sham)

    def close_base(self) -> None:
        self.device.stop()
        self.device.core.store.close()

    def deaths(self, scenario: Scenario) -> int:
        """Kill at every step; after each, go on and check. How many steps there were."""
        self.close_base()
        step = 0
        while True:
            step += 1
            folder = self.folder / f"dead at {step}"
            shutil.copytree(self.base, folder)
            killed = killed_at(step, lambda: self._run(folder, scenario), within=folder / "till")  # noqa: B023
            self._check(folder)
            shutil.rmtree(folder)
            if not killed:
                return step - 1

    def _run(self, folder: Path, scenario: Scenario) -> None:
        device = self._open(folder)
        arm()
        scenario(device)

    def _open(self, folder: Path) -> Device:
        core = CityCore(Store(folder / "city.db"), city_keys(self.folder), gather_ms=0)
        self.sham.core = core
        return Device(core, folder / "till", sham=self.sham)

    def _check(self, folder: Path) -> None:
        device = self._open(folder)
        device.assert_whole()
        device.run()
        device.assert_whole()
        device.keeper.look(device.moment(), {})
        recorded = sales_of(device)
        report = folder / "till" / "sold"
        said = {int(line) for line in report.read_text().split()} if report.exists() else set()
        assert said <= recorded, "what was lit is recorded"
        assert sold_minor(device.core) == sum(recorded), "and with the city, once"
        assert device.core.store.rows("SELECT * FROM suspense") == []
        device.stop()
        device.core.store.close()


def sales_of(device: Device) -> set[int]:
    """What every sale in the journal took, restated ones among them."""
    prices = set()
    for (body,) in device.journal.writer.db.execute("SELECT body FROM facts"):
        fact = decode_fact(body)
        inner = decode_fact(fact.body) if hasattr(fact, "body") else fact
        if isinstance(inner, SaleFact):
            prices.add(inner.total_minor)
    return prices


def sell(device: Device, price: int) -> None:
    """And light it."""
    device.sell(price)
    descriptor = os.open(device.folder / "sold", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{price}\n".encode())
    os.close(descriptor)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.slow
def test_killed_anywhere_in_a_tap(bench: Bench) -> None:
    def taps(device: Device) -> None:
        for price in (1, 2, 4):
            sell(device, price)
            device.pass_by()

    bench.device.run()
    assert bench.deaths(taps) > 20


@pytest.mark.slow
def test_killed_anywhere_while_draining(bench: Bench) -> None:
    def drain(device: Device) -> None:
        device.run(seconds=4)

    for price in (1, 2, 4):
        sell(bench.device, price)
    assert bench.deaths(drain) > 20


@pytest.mark.slow
def test_killed_anywhere_while_an_old_copy_is_closed_and_restated(bench: Bench) -> None:
    """The image is the base; the city was shown more of its epoch by the original."""
    original = bench.device
    sell(original, 1)
    original.run()
    image = original.copy_to(bench.folder / "image")
    original.sell(1024)
    original.run()
    original.stop()
    bench.device = Device(original.core, image, sham=bench.sham, now_ms=original.now_ms)
    for price in (2, 4, 8):
        sell(bench.device, price)
    bench.device.stop()
    shutil.rmtree(bench.base / "till")
    shutil.copytree(image, bench.base / "till")
    bench.device = Device(original.core, bench.base / "till", sham=bench.sham)

    def close(device: Device) -> None:
        device.connect()
        device.live(3)
        sell(device, 16)

    check = bench._check

    def check_with_the_original(folder: Path) -> None:
        """What the original sold is in no journal here."""
        core = CityCore(Store(folder / "city.db"), city_keys(bench.folder), gather_ms=0)
        with core.store.transaction():
            core.store.execute("UPDATE posting SET amount_minor = 0 WHERE abs(amount_minor) = 1024")
        core.store.close()
        check(folder)

    bench._check = check_with_the_original  # type: ignore[method-assign]
    assert bench.deaths(close) > 30


@pytest.mark.slow
def test_killed_anywhere_while_room_is_made_and_old_facts_go(bench: Bench) -> None:
    device = bench.device
    for price in (1, 2):
        sell(device, price)
        for _ in range(20):
            device.pass_by()
    device.run()
    for price in (4, 8):
        sell(device, price)
        for _ in range(20):
            device.pass_by()

    def make_room(device: Device) -> None:
        acknowledged = {device.journal.epoch: 43}
        while retention.evict(device.journal, acknowledged, rows_max=15):
            pass
        while retention.fold(device.journal, acknowledged, device.moment(), rows_max=17):
            pass
        [life] = device.lives()
        retention.drop_facts(device.journal.writer, life, 1)
        sell(device, 16)

    assert bench.deaths(make_room) > 30


@pytest.mark.slow
def test_killed_anywhere_in_a_salvage(bench: Bench) -> None:
    device = bench.device
    for price in (1, 2, 4, 8):
        sell(device, price)

    def salvage(device: Device) -> None:
        """Found damaged, set aside at the next start, and read before the first sale."""
        mark_unsound(device.folder / "journal.db")
        device.stop_edge()
        device.start_edge()
        assert not device.journal.meta("salvage")
        sell(device, 16)

    assert bench.deaths(salvage) > 25


@pytest.mark.slow
def test_killed_anywhere_between_a_journal_and_its_store(bench: Bench) -> None:
    """Both new: whichever of them was written, they come to name each other."""

    def pair(device: Device) -> None:
        device.journal.open_epoch(
            device.moment(), why="restored_image", station=Station.TILL, meta={"store": ""}
        )
        device.live(3)
        sell(device, 1)

    bench.device.run()
    check = bench._check

    def check_the_pair(folder: Path) -> None:
        check(folder)
        device = bench._open(folder)
        device.live(4)
        assert device.journal.meta("store") == epochs.meta(device.store.db, "store_id")
        assert epochs.meta(device.store.db, "epoch") == device.journal.epoch
        device.stop()
        device.core.store.close()

    bench._check = check_the_pair  # type: ignore[method-assign]
    assert bench.deaths(pair) > 10
