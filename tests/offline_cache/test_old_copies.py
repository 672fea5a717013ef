"""Goal: whatever became of a till's files (an image restored, a card cloned, a tail lost, a journal
damaged, sync's file gone), every sale reaches the city's books once, and somebody is told.

Method: real files, both processes' housekeeping and the reference city in one process, time in
hand. Every sale has a price of its own, a power of two, so that the takings say which of them the
city has posted and that none was posted twice.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import (
    Ack,
    EpochClosed,
    Restates,
    Stream,
    decode_fact,
)
from hil.city.intake import CityCore
from tests.city.sham import make_core
from tests.support.sold_once import (
    Prices,
    assert_all_sold_once,
    assert_tail_is_what_the_city_includes,
    facts_of,
    sell,
    whys,
)
from tests.support.whole_device import Device, alarms

OTHER_MACHINE = "board-2/card-1"


@pytest.fixture
def core(tmp_path: Path) -> CityCore:
    return make_core(tmp_path)


@pytest.fixture
def prices() -> Prices:
    return Prices()


@pytest.fixture
def till(core: CityCore, tmp_path: Path) -> Iterator[Device]:
    device = Device(core, tmp_path / "till")
    yield device
    device.stop()


# ------------------------------------------------------------------ an image comes back


@pytest.mark.parametrize("machine", ["board-1/card-1", OTHER_MACHINE])
@pytest.mark.parametrize("offline", [0, 2, 9])
@pytest.mark.parametrize("original_sold", [0, 3, 7])
def test_an_image_restored_an_hour_later_and_both_go_on(
    core: CityCore,
    tmp_path: Path,
    till: Device,
    prices: Prices,
    machine: str,
    offline: int,
    original_sold: int,
) -> None:
    sell(till, prices, 3)
    till.run()
    sell(till, prices, 2)  # In the image, and not with the city when it was taken.
    image = till.copy_to(tmp_path / "image")
    till.now_ms += 3_600_000
    sell(till, prices, original_sold)
    till.run()

    copy = Device(core, image, sham=till.sham, machine=machine, now_ms=till.now_ms)
    sell(copy, prices, offline)  # Before anybody could tell it.
    copy.run()
    sell(copy, prices, 2)
    copy.run()
    copy.assert_whole()
    assert_all_sold_once(core, prices)
    assert_tail_is_what_the_city_includes(copy, prices)

    # The original is still there and goes on as well; the city has both histories.
    till.now_ms = copy.now_ms
    sell(till, prices, 2)
    till.run()
    sell(till, prices, 1)
    till.run()
    sell(copy, prices, 1)
    copy.now_ms = till.now_ms
    copy.run()
    assert_all_sold_once(core, prices)
    assert core.store.rows("SELECT * FROM fork") == []
    forked = machine == "board-1/card-1" and (original_sold or offline)
    if forked and original_sold:
        assert "city_ahead" in whys(copy) or "city_ahead" in whys(till)
        assert copy.keeper.alarms(copy.moment()) or till.keeper.alarms(till.moment())
    if machine == OTHER_MACHINE:
        assert "restored_image" in whys(copy)
        assert copy.keeper.alarms(copy.moment())
    copy.stop()


def test_two_of_one_identity_on_two_brokers_at_once(
    core: CityCore, tmp_path: Path, till: Device, prices: Prices
) -> None:
    """Nobody throws the other out; a batch contradicts before any welcome could say so."""
    sell(till, prices, 3)
    till.run()
    copy = Device(core, till.copy_to(tmp_path / "image"), sham=till.sham, now_ms=till.now_ms)
    copy.connect()
    sell(till, prices, 2)
    till.live(3)
    sell(copy, prices, 4)
    copy.live(60)
    sell(till, prices, 1)
    till.live(60)
    assert_all_sold_once(core, prices)
    assert copy.counters["reconnects"] == 1
    assert "fork" in alarms(core)  # The city kept what it was shown.
    assert "city_ahead" in whys(copy)
    copy.stop()


def test_a_liar_about_the_future_makes_us_ask_and_changes_nothing(
    till: Device, prices: Prices
) -> None:
    sell(till, prices, 3)
    till.run()
    lie = Ack(device="till-1", stream=Stream.MAIN, epoch=till.journal.epoch, up_to=900)
    answers = [till.uplink.acknowledged(lie, till.now_ms + n) for n in range(50)]
    assert [bool(answer) for answer in answers] == [True] + [False] * 49
    assert till.counters["refused_ack_future"] == 50
    till.run()
    assert whys(till) == ["new_store"]


def test_an_old_copy_of_an_old_copy_in_the_middle_of_restating(
    core: CityCore, tmp_path: Path, till: Device, prices: Prices
) -> None:
    """What is restated twice keeps the key it had first, and is posted once."""
    sell(till, prices, 2)
    till.run()
    first = till.copy_to(tmp_path / "first")
    sell(till, prices, 2)
    till.run()
    copy = Device(core, first, sham=till.sham, now_ms=till.now_ms)
    for _ in range(70):
        copy.pass_by()
    sell(copy, prices, 5)
    copy.live(1)
    copy.connect()  # Shown to be an old copy.
    copy.live(1)  # A part is restated, and acknowledged.
    assert [life.restating for life in copy.lives()] == [True, False]
    second = copy.copy_to(tmp_path / "second")
    sell(copy, prices, 1)
    copy.run()
    again = Device(core, second, sham=till.sham, now_ms=copy.now_ms)
    sell(again, prices, 3)
    again.run()
    again.assert_whole()
    assert_all_sold_once(core, prices)
    assert_tail_is_what_the_city_includes(again, prices)
    nested = [
        fact
        for fact in facts_of(again)
        if isinstance(fact, Restates) and isinstance(decode_fact(fact.body), Restates)
    ]
    assert nested == []
    copy.stop()
    again.stop()


def test_spend_of_a_closed_epoch_counts_at_every_moment(
    core: CityCore, tmp_path: Path, till: Device, prices: Prices
) -> None:
    """Between closing and the last restated fact no sale drops out of what this till has spent."""
    sell(till, prices, 2)
    till.run()
    copy = Device(core, till.copy_to(tmp_path / "image"), sham=till.sham, now_ms=till.now_ms)
    sell(till, prices, 9)  # The city's count of that epoch goes past sales of the copy.
    till.run()
    mine = prices.total
    for _ in range(2):
        sell(copy, prices, 2)
        for _ in range(60):
            copy.pass_by()
    mine = prices.total - mine
    old = copy.journal.epoch
    copy.live(1)
    copy.connect()
    vector = {old: 12}
    for _ in range(5):
        copy.keeper.look(copy.moment(), {})
        spent = sum(amount for epoch, n, amount in copy.tail() if n > vector.get(epoch, 0))
        assert spent == mine
        copy.live(1)
    assert not any(life.restating for life in copy.lives())
    assert {epoch for epoch, n, _ in copy.tail() if n > 4} == {copy.journal.epoch}
    copy.stop()


# --------------------------------------------------------------------- a file went back


def test_a_journal_that_lost_its_tail_is_closed_before_its_next_fact(
    core: CityCore, tmp_path: Path, till: Device, prices: Prices
) -> None:
    sell(till, prices, 3)
    till.journal.writer.checkpoint()
    old = tmp_path / "old.db"
    shutil.copy(till.folder / "journal.db", old)
    sell(till, prices, 4)
    till.run()
    lost = 2
    for _ in range(lost):
        till.pass_by()  # Seen by sync, and never acknowledged: these are lost.
    till.lose_acks = lambda _ack: True
    till.uplink.look(till.now_ms)
    head = till.journal.head
    till.stop()  # Power went.
    for name in ("journal.db-wal", "journal.db-shm"):
        (till.folder / name).unlink(missing_ok=True)
    shutil.copy(old, till.folder / "journal.db")
    till.lose_acks = lambda _ack: False
    till.start()
    assert [life.closed_at is None for life in till.lives()] == [False, True]
    sell(till, prices, 2)
    till.run()
    till.assert_whole()
    assert_all_sold_once(core, prices)
    assert whys(till) == ["new_store", "lost_tail"]
    (closed,) = [fact for fact in facts_of(till) if isinstance(fact, EpochClosed)]
    assert closed.restated == 0
    assert (closed.head, closed.missing) == (head - lost, {"unknown": head - lost - 4})
    assert any("lost_tail" in alarm for alarm in till.keeper.alarms(till.moment()))


def test_sync_db_lost_begins_a_new_epoch_and_sends_nothing_twice(
    core: CityCore, till: Device, prices: Prices
) -> None:
    sell(till, prices, 3)
    till.run()
    sell(till, prices, 2)
    store, epoch = till.upkeep.status()["store"], till.journal.epoch
    till.stop_sync()
    for file in till.folder.glob("sync.db*"):
        file.unlink()
    till.start_sync()
    till.run()
    sell(till, prices, 1)
    till.run()
    assert_all_sold_once(core, prices)
    assert till.upkeep.status()["store"] != store
    assert (till.journal.epoch != epoch, whys(till)) == (True, ["new_store", "lost_sync"])
    assert not any(isinstance(fact, Restates) for fact in facts_of(till))
    assert till.upkeep.status()["epoch"] == till.journal.epoch
    assert till.journal.meta("store") == till.upkeep.status()["store"]
    assert core.store.rows("SELECT * FROM fork") == []


def test_a_damaged_sync_db_is_set_aside_with_an_alarm(
    core: CityCore, till: Device, prices: Prices
) -> None:
    sell(till, prices, 3)
    till.run()
    till.stop_sync()
    path = till.folder / "sync.db"
    path.with_name("sync.db-wal").unlink(missing_ok=True)
    path.write_bytes(b"not a database at all" * 400)
    content = path.read_bytes()
    till.start_sync()
    sell(till, prices, 1)
    till.run()
    assert_all_sold_once(core, prices)
    (aside,) = [
        file for file in till.folder.glob("sync.db.damaged-*") if not file.name.endswith("-shm")
    ]
    assert aside.read_bytes() == content
    (alarm,) = till.upkeep.alarms()
    assert str(aside) in alarm
    aside.unlink()
    assert till.upkeep.alarms() == []


def test_a_city_restored_from_a_backup_gets_a_closed_epoch_again(
    tmp_path: Path, prices: Prices
) -> None:
    """Up to where it was one history; above it, what was restated comes by its new keys."""
    core = make_core(tmp_path, path=tmp_path / "city.db")
    till = Device(core, tmp_path / "till")
    sell(till, prices, 2)
    till.run()
    backup = tmp_path / "backup.db"
    source, target = sqlite3.connect(tmp_path / "city.db"), sqlite3.connect(backup)
    source.backup(target)
    source.close()
    target.close()
    sell(till, prices, 2)
    till.run()
    image = till.copy_to(tmp_path / "image")
    lost = prices.total
    till.sell(prices.next())
    till.run()
    lost = prices.total - lost
    copy = Device(core, image, sham=till.sham, now_ms=till.now_ms)
    sell(copy, prices, 3)
    copy.run()
    assert_all_sold_once(core, prices)
    till.stop()
    core.store.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"city.db{suffix}").unlink(missing_ok=True)
    shutil.copy(backup, tmp_path / "city.db")
    copy.core = make_core(tmp_path, path=tmp_path / "city.db")
    copy.run()
    prices.total -= lost  # Only the other machine had it, and the city's own backup did not.
    assert_all_sold_once(copy.core, prices)
    copy.stop()
    copy.core.store.close()


# ------------------------------------------------------------------------ any of it


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("NIGHTLY") or 0) * 400 or 15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_happened_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Machines of one identity sell, are copied, go on- and offline, lose answers, restart, move
    to another board and lose sync's file, until it stops; then each drains in its turn."""
    random = Random(seed)
    folder = tmp_path_factory.mktemp("world")
    core, prices = make_core(tmp_path_factory.getbasetemp()), Prices()
    devices = [Device(core, folder / "0")]
    for _ in range(random.randint(5, 25)):
        device = random.choice(devices)
        device.now_ms = max(each.now_ms for each in devices) + 1_000
        match random.choice(["sell", "sell", "run", "look", "copy", "restart", "lost", "deaf"]):
            case "sell":
                sell(device, prices, random.randint(1, 3))
            case "run":
                for other in devices:
                    other.disconnect()
                device.connect()
                device.live(random.randint(0, 3))
            case "look":
                device.live(random.randint(1, 12))
            case "copy" if len(devices) < 4:
                image = device.copy_to(folder / str(len(devices)))
                machine = random.choice([device.machine, OTHER_MACHINE])
                devices.append(Device(core, image, sham=device.sham, machine=machine))
            case "restart":
                device.stop()
                device.start()
            case "lost":
                device.stop_sync()
                for file in device.folder.glob("sync.db*"):
                    file.unlink()
                device.start_sync()
            case "deaf":
                loss = random.random()
                device.lose_acks = lambda _ack, loss=loss: random.random() < loss  # type: ignore[misc]
            case _:
                pass
    for _ in range(2):
        for device in devices:
            device.lose_acks = lambda _ack: False
            device.now_ms = max(each.now_ms for each in devices)
            for other in devices:
                other.disconnect()
            device.run(seconds=120)
            device.assert_whole()
    assert_all_sold_once(core, prices)
    for device in devices:
        device.stop()
