"""Goal: of a damaged journal everything that can be read reaches the city's books once, what still
stands outlives it, and the rest is declared; nothing is sold meanwhile.

Method: as in `test_old_copies.py`.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import (
    FireFact,
    FireWhat,
    LockdownFact,
    OrderAnswer,
    OrderOutcome,
)
from edge.offline_cache import lane_standing, outbox, standing
from edge.offline_cache.record import NoRoom
from hil.city.intake import CityCore
from tests.city.sham import Sham, make_core
from tests.support.sold_once import (
    Prices,
    assert_all_sold_once,
    bodies_of,
    sell,
    whys,
)
from tests.support.whole_device import Device, alarms, sold_minor


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


def test_a_damaged_journal_gives_what_can_be_read_and_declares_the_rest(
    core: CityCore, tmp_path: Path, till: Device, prices: Prices
) -> None:
    """Page by page: whatever is zeroed, each readable sale is posted once, under its own key,
    and the numbers of the others are declared lost."""
    sell(till, prices, 2)
    till.run()
    for _ in range(12):
        sell(till, prices, 1)
        till.pass_by()
    till.journal.writer.checkpoint()
    base = till.copy_to(tmp_path / "base")
    head, epoch, known = till.journal.head, till.journal.epoch, 3
    bodies = bodies_of(till)
    counted = {"whole": 0, "unread": 0, "salvaged": 0, "saved": 0, "lost": 0}
    for page in range((base / "journal.db").stat().st_size // 4_096):
        folder = shutil.copytree(base, tmp_path / f"page {page}")
        with (folder / "journal.db").open("r+b") as file:
            file.seek(page * 4_096)
            file.write(bytes(4_096))
        city = make_core(tmp_path)
        sham = Sham(city, "till-1")
        sham.facts, sham.epoch = bodies[:known], epoch
        assert sham.send_all().up_to == known
        sham.facts = []
        device = Device(city, folder, sham=sham, now_ms=till.now_ms)
        device.run()
        assert sold_minor(city) & ~prices.total == 0, "nothing is posted twice"
        db = device.journal.writer.db
        try:
            device.assert_whole()
        except sqlite3.DatabaseError:  # Only what the city has is on that page.
            assert sold_minor(city) == prices.total
            counted["unread"] += 1
            device.stop()
            continue
        old = next(life for life in device.lives() if life.epoch == epoch)
        holes = outbox.holes(db, old.life)
        lost = sum(hole.target - hole.source + 1 for hole in holes)
        held = db.execute("SELECT count(*) FROM facts WHERE life = ?", (old.life,)).fetchone()[0]
        assert held + lost == old.head + 1 - old.held_from and old.head == head
        opened = {"stream_opened"} if device.journal.epoch != epoch else set()
        assert alarms(city) == opened | ({"gap"} if lost else set())
        if not lost:
            assert sold_minor(city) == prices.total
        salvaged = old.life != device.journal.life
        assert salvaged or not device.keeper.alarms(device.moment())
        counted["salvaged" if salvaged else "whole"] += 1
        counted["saved"] += held
        counted["lost"] += lost
        device.stop()
    assert counted["salvaged"] > 3 and counted["whole"] > 3
    assert counted["saved"] > 5 * counted["lost"] > 0, counted


def test_what_still_stands_outlives_a_damaged_journal(till: Device, prices: Prices) -> None:
    sell(till, prices, 30)
    db = till.journal.writer.db
    db.execute("INSERT INTO meta VALUES ('lockdown', 'on')")
    db.execute("INSERT INTO card_counters VALUES ('c1', 77)")
    db.execute("INSERT INTO answered_orders VALUES (9, 'd', 1, 1)")
    db.execute("UPDATE lives SET digest = 'not the last fact''s'")
    till.stop_edge()
    till.start_edge()
    assert whys(till)[-1] == "damaged"
    assert till.journal.meta("lockdown") == "on"
    assert till.journal.last_counter() == 9
    assert till.journal.writer.db.execute("SELECT * FROM card_counters").fetchall() == [("c1", 77)]
    assert [line for line in till.keeper.alarms(till.moment()) if "set aside" in line]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("damage", ["a digest", "the first page", "the notes"])
def test_an_unreset_fire_and_a_lockdown_outlive_a_damaged_journal(
    till: Device, prices: Prices, damage: str, ordered: bool
) -> None:
    """Whatever else of the file can be read, and whether or not its own contents are gone."""
    now = till.moment()
    with till.journal.record(now) as tap:
        if ordered:  # By the city.
            word = "lockdown_on"
            tap.add(OrderAnswer(**tap.stamp(now), counter=1, order=word, accepted=True, why=""))
            tap.add(OrderOutcome(**tap.stamp(now), counter=1, done=True))
            standing.set_lockdown(tap.db, True)
        else:
            tap.add(LockdownFact(**tap.stamp(now), on=True, officer="guard"))
        tap.add(FireFact(**tap.stamp(now), lane="north", what=FireWhat.ALARM))
        tap.add(FireFact(**tap.stamp(now), lane="south", what=FireWhat.CLEAR))
    sell(till, prices, 5)
    if damage == "a digest":
        till.journal.writer.db.execute("UPDATE lives SET digest = 'not the last fact''s'")
    till.journal.writer.checkpoint()
    (notes,) = till.journal.writer.db.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'meta'"
    ).fetchone()
    till.stop()
    if damage != "a digest":
        with (till.folder / "journal.db").open("r+b") as file:
            file.seek(0 if damage == "the first page" else (notes - 1) * 4_096)
            file.write(bytes(4_096))
    till.start()
    assert whys(till)[-1] == "damaged"
    db = till.journal.writer.db
    assert standing.lockdown(db)
    assert lane_standing.fire(db, "north") is FireWhat.ALARM
    assert lane_standing.fire(db, "south") is FireWhat.CLEAR


def test_a_till_sells_nothing_until_it_knows_again_what_it_sold(
    core: CityCore, till: Device, prices: Prices
) -> None:
    """Acknowledged sales too, until the money picture includes them."""
    sell(till, prices, 3)
    till.run()
    sell(till, prices, 4)
    till.live(1)
    before = till.tail()
    till.journal.writer.db.execute("UPDATE lives SET digest = 'not the last fact''s'")
    view = till.cache.store_view
    till.stop_edge()
    till.start_edge()  # The keeper's first look salvages.
    assert till.tail() == before and not till.journal.no_money
    till.journal.writer.db.execute("INSERT INTO meta VALUES ('salvage', 'not there')")
    till.cache.store_view = lambda: None  # type: ignore[method-assign]
    till.keeper.look(till.moment(), {})
    with pytest.raises(NoRoom, match="not all read"):
        till.sell(1)
    till.cache.store_view = view  # type: ignore[method-assign]
    till.journal.writer.db.execute("DELETE FROM meta WHERE key = 'salvage'")


def test_sync_follows_the_journal_that_took_a_damaged_ones_place(
    core: CityCore, till: Device, prices: Prices
) -> None:
    sell(till, prices, 3)
    till.run()
    sell(till, prices, 1)
    till.live(1)
    till.journal.writer.db.execute("UPDATE lives SET digest = 'not the last fact''s'")
    till.stop_edge()
    till.start_edge()  # sync runs on, with the old file open.
    sell(till, prices, 2)
    till.run()
    sell(till, prices, 1)
    till.run()
    till.assert_whole()
    assert_all_sold_once(core, prices)
    assert till.uplink.counters["journal_replaced"] == 1
