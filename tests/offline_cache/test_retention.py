"""Goal: nothing is deleted before all that its line of the table asks for holds; what is deleted
leaves a whole chain and a right balance; and a disk that gets short loses what the city has first,
then what can be summed up, and money never.

Method: the table is exhausted in a small world; deleting, folding and the uplink's declaration of
it run on real files against the reference city, with days that pass in a loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import FACT_KINDS, Folded, Stream, decode_fact
from edge.model import ClockQuality, Station
from edge.offline_cache import epochs, outbox, retention
from edge.offline_cache.outbox import Life
from edge.offline_cache.retention import DAY_S, KEPT_DAYS, KEPT_UNTIL, Kept, Reach, Until
from hil.city.intake import CityCore
from tests.city.sham import make_core
from tests.support.times import at
from tests.support.whole_device import Device, alarms, sold_minor

DAY_MS = DAY_S * 1_000


def life(head: int = 10, *, closed_at: int | None = None, restated_to: int = 0) -> Life:
    return Life(
        life=1,
        stream=Stream.MAIN,
        epoch="e1",
        head=head,
        digest="d",
        held_from=1,
        closed_at=closed_at,
        restated_to=restated_to,
    )


# ------------------------------------------------------------------------- the table


def test_a_till_keeps_its_facts_until_all_four_hold() -> None:
    """Every combination: a fact goes only when it is acknowledged, included, of a closed shift
    and old; each alone keeps it."""
    until = KEPT_UNTIL[Kept.TILL_FACTS]
    for acknowledged, included, shift, aged in product((0, 3, 7, 10), repeat=4):
        reach = Reach(acknowledged=acknowledged, included=included, shift_closed=shift, aged=aged)
        expected = min(acknowledged, included, shift, aged, 9)
        assert retention.droppable_up_to(life(), until, reach, current=True) == expected
        expected = min(acknowledged, included, shift, aged)
        assert retention.droppable_up_to(life(), until, reach, current=False) == expected


def test_a_till_that_counts_no_shifts_waits_for_none() -> None:
    reach = Reach(acknowledged=9, included=8, aged=7)
    until = KEPT_UNTIL[Kept.TILL_FACTS]
    assert retention.droppable_up_to(life(), until, reach, current=True) == 7


def test_other_stations_and_syncs_streams_wait_for_no_picture() -> None:
    reach = Reach(acknowledged=9, included=0, aged=8)
    for station, stream in (
        (Station.ENTRANCE, Stream.MAIN),
        (Station.TILL, Stream.AGENT),
        (Station.ADMISSION, Stream.MAIN),
    ):
        until = KEPT_UNTIL[retention.kept_as(station, stream)]
        assert retention.droppable_up_to(life(), until, reach, current=True) == 8
    assert retention.kept_as(Station.TILL, Stream.MAIN) is Kept.TILL_FACTS


def test_diag_is_a_ring_whoever_has_its_facts() -> None:
    until = KEPT_UNTIL[retention.kept_as(Station.TILL, Stream.DIAG)]
    reach = Reach(acknowledged=0, included=0, aged=0)
    many = retention.DIAG_FACTS_MAX
    assert retention.droppable_up_to(life(many), until, reach, current=True) == 0
    assert retention.droppable_up_to(life(many + 5), until, reach, current=True) == 5


@pytest.mark.parametrize("restated_to", [4, 10, 11])
def test_what_a_closed_epoch_alone_holds_stays_until_it_is_restated(restated_to: int) -> None:
    closed = life(closed_at=4, restated_to=restated_to)
    until = KEPT_UNTIL[Kept.TILL_FACTS]
    done = restated_to == 11
    for acknowledged, included in product((2, 4, 9), repeat=2):
        reach = Reach(acknowledged=acknowledged, included=included, aged=10)
        ours = min(acknowledged, included) >= 4
        expected = (10 if done else 4) if ours else min(acknowledged, included)
        assert retention.droppable_up_to(closed, until, reach, current=False) == expected
    young = Reach(acknowledged=9, included=9, aged=3)
    assert retention.droppable_up_to(closed, until, young, current=False) == 3


def test_every_kind_of_thing_has_a_line_and_every_condition_is_used() -> None:
    assert set(KEPT_UNTIL) == set(Kept)
    assert {condition for line in KEPT_UNTIL.values() for condition in line} == set(Until)


def test_what_may_be_summed_up_is_named_and_is_never_money() -> None:
    """A kind of a later version stays, for it is not named."""
    kinds = {str(kind.__struct_config__.tag) for kind in FACT_KINDS}
    assert set(retention.FOLDABLE) <= kinds
    assert not {"sale", "hold", "void", "restates", "order_answer"} & set(retention.FOLDABLE)


# ------------------------------------------------------------------------------- age


@pytest.fixture
def core(tmp_path: Path) -> CityCore:
    return make_core(tmp_path)


@pytest.fixture
def till(core: CityCore, tmp_path: Path) -> Iterator[Device]:
    device = Device(core, tmp_path / "till")
    yield device
    device.stop()


def include(device: Device, up_to: int | None = None) -> None:
    """The money picture in force includes everything the city has, or so much."""
    device.cache.included = lambda: {  # type: ignore[method-assign]
        epoch: sequence if up_to is None else up_to
        for stream, epoch, sequence in device.core.store.rows(
            "SELECT stream, epoch, up_to FROM cursor"
        )
        if stream == "main"
    }


def days_pass(device: Device, days: int) -> None:
    while days > 0:
        jump = min(days, 5)
        days -= jump
        device.now_ms += jump * DAY_MS
        device.live(3)


def held(device: Device) -> int:
    (number,) = device.journal.writer.db.execute("SELECT count(*) FROM facts").fetchone()
    return int(number)


def test_facts_go_after_35_days_and_the_tail_with_them(core: CityCore, till: Device) -> None:
    include(till)
    for price in range(1, 301):
        till.sell(price)
    till.run()
    days_pass(till, KEPT_DAYS - 1)
    assert held(till) == 301 and len(till.tail()) == 300
    till.sell(7)
    till.run()
    days_pass(till, 3)
    till.live(5)
    assert 1 <= held(till) <= 2 and [amount for _, _, amount in till.tail()] == [7]
    till.assert_whole()
    [life] = till.lives()
    assert life.held_from > 300 and life.held_after
    till.sell(1)
    till.run()
    till.assert_whole()
    assert sold_minor(core) == sum(range(1, 301)) + 8
    assert alarms(core) == set()


@pytest.mark.parametrize(
    ("acknowledged", "included"), [(False, False), (True, False), (True, True)]
)
def test_old_is_not_enough(
    core: CityCore, till: Device, acknowledged: bool, included: bool
) -> None:
    include(till, None if included else 1)
    till.sell(5)
    till.sell(5)
    till.live(2)
    if acknowledged:
        till.run()
    days_pass(till, KEPT_DAYS + 3)
    assert (len(till.tail()) < 2) == (acknowledged and included)


def test_a_clock_that_is_not_the_citys_ages_nothing(till: Device) -> None:
    journal = till.journal
    till.sell(5)
    for quality in ClockQuality:
        if quality is not ClockQuality.CITY:
            retention.set_milestone(journal, at(quality=quality))
            [life] = till.lives()
            later = at(100 * DAY_MS, quality=quality)
            assert retention.aged_up_to(journal.writer.db, life, later) == 0
    assert journal.writer.db.execute("SELECT * FROM milestones").fetchall() == []
    retention.set_milestone(journal, at())
    retention.set_milestone(journal, at(1_000))
    assert len(journal.writer.db.execute("SELECT * FROM milestones").fetchall()) == 1
    [life] = till.lives()
    assert retention.aged_up_to(journal.writer.db, life, at(KEPT_DAYS * DAY_MS - 1_000)) == 0
    assert retention.aged_up_to(journal.writer.db, life, at(KEPT_DAYS * DAY_MS)) == journal.head
    for quality in ClockQuality:
        later = at(KEPT_DAYS * DAY_MS, quality=quality)
        expected = journal.head if quality is ClockQuality.CITY else 0
        assert retention.aged_up_to(journal.writer.db, life, later) == expected


def test_a_city_restored_from_before_what_was_deleted_is_told_of_the_gap(
    core: CityCore, till: Device, tmp_path: Path
) -> None:
    include(till)
    for _ in range(20):
        till.sell(3)
    till.run()
    days_pass(till, KEPT_DAYS + 2)
    till.sell(3)
    till.core = other = make_core(tmp_path, path=tmp_path / "other.db")
    till.sham = type(till.sham)(other, "till-1")
    till.run()
    (gap,) = other.store.rows("SELECT source, target FROM gap")
    assert gap[0] == 1 and gap[1] >= 20
    till.assert_whole()
    other.store.close()


def test_an_ended_epoch_is_forgotten_whole(core: CityCore, till: Device) -> None:
    include(till)
    till.sell(3)
    till.run()
    till.journal.open_epoch(till.moment(), why="restored_image", station=Station.TILL)
    till.run()
    days_pass(till, KEPT_DAYS + 5)
    assert [life.epoch for life in till.lives()] == [till.journal.epoch]
    till.assert_whole()


def test_sides_of_other_days_and_orders_answered_long_ago_go(till: Device) -> None:
    db = till.journal.writer.db
    today = at().local_date
    for date in ("2026-02-27", today):
        db.execute("INSERT INTO sides VALUES (?, 'z', 'in', 1, ?, 1, '')", (date, date))
    rows = [(n, "d", 1, int(n != 3)) for n in range(1, retention.ORDERS_KEPT + 11)]
    db.executemany("INSERT INTO answered_orders VALUES (?, ?, ?, ?)", rows)
    retention.drop_beside(till.journal, at(quality=ClockQuality.UNKNOWN))
    assert len(db.execute("SELECT * FROM sides").fetchall()) == 2
    retention.drop_beside(till.journal, at())
    assert [date for (date,) in db.execute("SELECT local_date FROM sides")] == [today]
    counters = [n for (n,) in db.execute("SELECT counter FROM answered_orders ORDER BY 1")]
    assert counters[:2] == [3, 11]  # One was never acted on; a start tells of it.
    assert till.journal.last_counter() == retention.ORDERS_KEPT + 10


# ------------------------------------------------------------------------- making room


def lane_day(device: Device, plan: str) -> None:
    """p: a passage, s: a sale."""
    for letter in plan:
        if letter == "p":
            device.pass_by()
        else:
            device.sell(1)


def test_what_the_city_has_goes_first_and_needs_no_word(core: CityCore, till: Device) -> None:
    lane_day(till, "pppsppps")
    till.run()
    lane_day(till, "pp")
    acknowledged = {till.journal.epoch: 9}
    assert retention.evict(till.journal, acknowledged) == 3
    assert retention.evict(till.journal, acknowledged) == 3
    assert retention.evict(till.journal, acknowledged) == 0
    till.assert_whole()
    holes = outbox.holes(till.journal.writer.db, till.journal.life)
    assert [(hole.source, hole.target, hole.counts) for hole in holes] == [
        (2, 4, {"passage": 3}),
        (6, 8, {"passage": 3}),
    ]
    till.run()
    assert (alarms(core), sold_minor(core)) == (set(), 2)


def test_what_nobody_else_has_is_summed_up_and_declared(core: CityCore, till: Device) -> None:
    till.run()
    lane_day(till, "p" * 40 + "s" + "p" * 40 + "s" + "p" * 3)
    folded = [retention.fold(till.journal, {}, till.moment()) for _ in range(3)]
    assert folded == [40, 40, 0]
    till.assert_whole()
    till.sell(1)
    till.run()
    till.assert_whole()
    assert sold_minor(core) == 3
    gaps = core.store.rows("SELECT source, target, counts FROM gap ORDER BY source")
    assert gaps == [(2, 41, '{"passage": 40}'), (43, 82, '{"passage": 40}')]
    summaries = [
        decode_fact(body)
        for (body,) in core.store.rows("SELECT bytes FROM fact WHERE kind = 'folded'")
    ]
    told = [(x.of_epoch, x.source, x.target, x.counts) for x in summaries if isinstance(x, Folded)]
    epoch = till.journal.epoch
    assert told == [(epoch, 2, 41, {"passage": 40}), (epoch, 43, 82, {"passage": 40})]
    assert core.store.rows("SELECT * FROM fork") == []


@settings(max_examples=25, deadline=None)
@given(plan=st.text("ppppppps", min_size=30, max_size=150), at_once=st.integers(1, 60))
def test_folded_anywhere_the_city_can_follow_and_every_sale_arrives(
    tmp_path_factory: pytest.TempPathFactory, plan: str, at_once: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("fold")
    core = make_core(tmp_path_factory.getbasetemp())
    till = Device(core, tmp_path / "till")
    half = len(plan) // 2
    lane_day(till, plan[:half])
    till.run()
    lane_day(till, plan[half:])
    acknowledged = {till.journal.epoch: 1 + half}
    while retention.evict(till.journal, acknowledged, rows_max=at_once):
        till.assert_whole()
    while retention.fold(till.journal, acknowledged, till.moment(), rows_max=16 + at_once):
        till.assert_whole()
    sales = till.journal.writer.db.execute("SELECT count(*) FROM facts WHERE kind = 'sale'")
    assert sales.fetchone()[0] == plan.count("s") == len(till.tail())
    till.run()
    assert sold_minor(core) == plan.count("s")
    assert core.store.rows("SELECT * FROM fork") == []
    till.stop()
    core.store.close()


def test_a_city_that_asks_in_the_middle_of_a_hole_is_told_all_of_it(
    core: CityCore, till: Device
) -> None:
    """It had part of what went: the hole was made while the batches were on their way."""
    lane_day(till, "p" * 30)
    till.run()
    lane_day(till, "p" * 30 + "s")
    retention.fold(till.journal, {till.journal.epoch: 20}, till.moment())
    till.run()
    assert sold_minor(core) == 1
    assert core.store.rows("SELECT source, target FROM gap") == [(32, 61)]


def test_a_fact_at_the_head_and_a_closed_epoch_are_not_summed_up(till: Device) -> None:
    lane_day(till, "p" * 20)
    head = till.journal.head
    retention.fold(till.journal, {}, till.moment())
    [life] = till.lives()
    assert outbox.hole_at(till.journal.writer.db, life.life, head) is None
    lane_day(till, "p" * 20)
    [life] = till.lives()
    epochs.close_life(
        till.journal, life, kept=0, moment=till.moment(), why="city_ahead", station=Station.TILL
    )
    assert retention.fold(till.journal, {}, till.moment()) == 0


def test_what_was_restated_goes_before_anything_else(core: CityCore, till: Device) -> None:
    lane_day(till, "psps")
    [life] = till.lives()
    epochs.close_life(
        till.journal, life, kept=1, moment=till.moment(), why="city_ahead", station=Station.TILL
    )
    assert retention.evict(till.journal, {}) == 0
    while epochs.restate_some(till.journal, till.moment()):
        pass
    assert retention.evict(till.journal, {}) == 4
    till.assert_whole()
    till.run()
    assert sold_minor(core) == 2


def test_a_hole_in_the_common_history_and_one_in_what_was_restated_are_two(till: Device) -> None:
    """A restored city that asks for the first must not be told that the second is lost."""
    lane_day(till, "ppsp")
    retention.evict(till.journal, {till.journal.epoch: 3})
    [life] = till.lives()
    epochs.close_life(
        till.journal, life, kept=3, moment=till.moment(), why="city_ahead", station=Station.TILL
    )
    while epochs.restate_some(till.journal, till.moment()):
        pass
    retention.evict(till.journal, {})
    holes = outbox.holes(till.journal.writer.db, life.life)
    assert [(hole.source, hole.target) for hole in holes] == [(2, 3), (4, 5)]
    till.assert_whole()
