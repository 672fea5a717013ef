"""Goal: edge keeps house beside the taps: what it finds it tells a person, it works only while
nobody is at a reader (but not never), and a disk that gets short is worked on in the right order.

Method: a till's keeper on real files with the reference city behind it; time, and how large the
disk is, in the test's hand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import keeper as keeping
from edge.messages import StreamOpened, decode_fact
from edge.model import DeviceFault
from edge.offline_cache import marks
from edge.offline_cache.record import NoRoom
from edge.offline_cache.room import MIB, Level, Room
from edge.offline_cache.store import DamagedFile
from hil.city.intake import CityCore
from tests.city.sham import make_core
from tests.support.whole_device import Device, sold_minor


@pytest.fixture
def core(tmp_path: Path) -> CityCore:
    return make_core(tmp_path)


@pytest.fixture
def till(core: CityCore, tmp_path: Path) -> Iterator[Device]:
    device = Device(core, tmp_path / "till")
    yield device
    device.stop()


def whys(device: Device) -> list[str]:
    rows = device.journal.writer.db.execute("SELECT body FROM facts ORDER BY life, sequence")
    return [x.why for (body,) in rows if isinstance(x := decode_fact(body), StreamOpened)]


def kinds(device: Device) -> dict[str, int]:
    rows = device.journal.writer.db.execute("SELECT kind, count(*) FROM facts GROUP BY 1")
    return dict(rows.fetchall())


def test_a_picture_that_includes_more_of_my_epoch_than_there_is(till: Device) -> None:
    """Offline, from a stick: the city has said so in the vector alone."""
    till.sell(4)
    head = till.journal.head
    for included in (head, head + 1):
        epoch = till.journal.epoch
        till.cache.included = lambda n=included, e=epoch: {e: n}  # type: ignore[method-assign,misc]
        till.keeper.look(till.moment(), {})
        assert whys(till) == ["new_store"] + ["city_ahead"] * (included > head)
    till.live(5)
    assert kinds(till)["restates"] == 2
    assert [amount for _, _, amount in till.tail()] == [4]


def test_an_alarm_says_why_and_what_to_do(till: Device) -> None:
    assert till.keeper.alarms(till.moment()) == []
    marks.show_ahead(
        till.store, till.lives()[0].stream, till.journal.epoch, high_water=9, digest="d"
    )
    till.live(1)
    (alarm,) = till.keeper.alarms(till.moment())
    assert "city_ahead" in alarm and ";" in alarm
    status = till.keeper.status(till.moment())
    assert status["alarms"] == [alarm] and status["sells"]
    for _ in range(9):
        till.now_ms += 86_400_000
        till.live(3)
    assert till.keeper.alarms(till.moment()) == [], "old news after a week"


def test_an_old_copy_is_closed_once(till: Device) -> None:
    marks.show_ahead(
        till.store, till.lives()[0].stream, till.journal.epoch, high_water=9, digest="d"
    )
    till.live(30)
    assert whys(till) == ["new_store", "city_ahead", "new_store"][:2]
    assert kinds(till)["epoch_closed"] == 1


def test_nothing_is_done_while_somebody_is_at_a_reader(till: Device) -> None:
    marks.show_ahead(
        till.store, till.lives()[0].stream, till.journal.epoch, high_water=9, digest="d"
    )
    till.sell(1)
    till.keeper.look(till.moment(), {})  # Closed at once: it must be before the next fact.
    assert whys(till)[-1] == "city_ahead"
    for _ in range(100):
        till.now_ms += 1_000
        till.keeper.step(till.moment(), busy=True)
    assert "restates" not in kinds(till)
    till.keeper.step(till.moment(), busy=False)
    assert kinds(till)["restates"] == 2, "what waited so long waits for no quiet moment"


def test_in_a_queue_there_is_a_piece_of_work_every_ten_seconds(till: Device) -> None:
    marks.show_ahead(
        till.store, till.lives()[0].stream, till.journal.epoch, high_water=9, digest="d"
    )
    for _ in range(250):
        till.pass_by()
    till.keeper.look(till.moment(), {})
    before = 0
    for second in range(60):
        till.now_ms += 1_000
        till.keeper.step(till.moment(), busy=second % 2 == 0)
        after = kinds(till).get("restates", 0)
        assert after - before <= 50
        before = after
    assert 250 <= before <= 300


def is_roomy(till: Device) -> bool:
    return till.keeper.level is Level.ROOMY


def small(folder: Path, quota_bytes: int) -> Room:
    return Room(folder, quota_bytes=quota_bytes, reserve_bytes=64 * 1024)


def test_room_is_made_of_what_the_city_has_then_of_what_can_be_summed_up(
    core: CityCore, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    till = Device(core, folder, room=small(folder, MIB // 2))
    till.live(3)
    assert is_roomy(till)
    price = 0
    while is_roomy(till):
        for _ in range(50):
            till.pass_by()
        till.sell(1)
        price += 1
        till.keeper.look(till.moment(), {})
    till.connect()
    till.live(5)
    before = kinds(till)
    assert is_roomy(till) and "folded" not in before
    assert till.counters["facts_evicted"] >= 50
    till.disconnect()
    while till.counters["facts_evicted"] < 2_000 and "folded" not in kinds(till):
        for _ in range(50):
            till.pass_by()
        till.sell(1)
        price += 1
        till.live(2)
        assert kinds(till)["sale"] == price
    assert till.counters["facts_folded"] > 0
    till.assert_whole()
    till.run()
    assert sold_minor(core) == price
    till.stop()


def test_when_nothing_may_go_nothing_is_sold_and_nothing_is_lost(
    core: CityCore, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    till = Device(core, folder, room=small(folder, MIB // 4))
    sold = 0
    with pytest.raises(NoRoom, match="connect to the city"):
        for _ in range(2_000):
            till.sell(1)
            sold += 1
            till.keeper.look(till.moment(), {})
    assert not till.journal.refused, "nothing was tried, so nothing failed"
    status = till.keeper.status(till.moment())
    assert (status["level"], status["sells"]) == ("full", False) and status["percent"] >= 95
    till.pass_by()  # What takes no money is recorded as ever.
    till.assert_whole()
    till.run()
    assert sold_minor(core) == sold == kinds(till)["sale"]
    till.stop()


def test_a_write_that_failed_stops_selling_until_one_has_worked(till: Device) -> None:
    db = till.journal.writer.db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DeviceFault):
        for _ in range(100):
            till.pass_by()
    with pytest.raises(NoRoom):
        till.sell(1)
    till.keeper.look(till.moment(), {})
    assert not till.keeper.status(till.moment())["sells"]
    assert any("nothing is sold" in alarm for alarm in till.keeper.alarms(till.moment()))
    db.execute("PRAGMA max_page_count = 1000000")
    till.live(3)
    till.sell(1)
    assert till.journal.refused == ""
    till.assert_whole()


def test_a_damaged_journal_asks_for_a_start(till: Device) -> None:
    till.sell(1)
    with pytest.raises(DamagedFile), till.journal.record(till.moment()):
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    assert till.journal.no_money
    till.keeper.look(till.moment(), {})
    assert till.keeper.wants_restart
    till.live(2)
    assert whys(till)[-1] == "damaged"
    till.live(20)
    assert kinds(till)["sale"] == 1


def test_numbers_fit_each_other() -> None:
    assert keeping.WORK_MS < keeping.IDLE_MS < keeping.PATIENCE_MS
    assert keeping.PROBE_MS < keeping.HOURLY_MS
