"""Goal: an order is carried out once, in its window, and never before it is on disk that it will
be; whatever cannot be recorded is not done.

Method: every case of `judge` for an order to open; then the real journal and a lane that looks, at
the moment it is told to open, what the disk already holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import cast

import msgspec
import pytest

from edge.gate import Gate
from edge.messages import (
    Order,
    OrderAnswer,
    OrderOutcome,
    Stream,
    decode_fact,
    digest_of,
    encode_json,
)
from edge.model import ClockQuality, Direction, Moment, Station
from edge.offline_cache import marks, outbox
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.offline_cache.store import FileKind, Writer, open_reader
from edge.order_rules import OPEN_WINDOW_MS_MAX, Here, judge
from edge.orders import Orders
from tests.support.small_city import DEVICE, SITE, order
from tests.support.times import NOON_MS, at

HERE = Here(access_points={"north-in": Direction.IN}, readers=1, scopes=frozenset())
TRUSTED = {ClockQuality.NTP, ClockQuality.CITY, ClockQuality.RTC}
WINDOW_MS = 10_000


def test_every_case_of_an_order_to_open() -> None:
    """The first reason that applies: what it is, where, how long, the clock, then the window."""
    for what, point, length_ms, quality, after_ms in product(
        ("open_once", "opens_once", ""),
        ("north-in", "south-in", None),
        (WINDOW_MS, OPEN_WINDOW_MS_MAX, OPEN_WINDOW_MS_MAX + 1),
        ClockQuality,
        (-1, 0, WINDOW_MS - 1, WINDOW_MS, OPEN_WINDOW_MS_MAX + 1),
    ):
        asked = msgspec.structs.replace(
            order(what=what, access_point=point), not_after_utc_ms=NOON_MS + length_ms
        )
        if what != "open_once":
            expected = "unknown_order"
        elif point != "north-in":
            expected = "not_here"
        elif length_ms > OPEN_WINDOW_MS_MAX:
            expected = "arguments"
        elif quality not in TRUSTED:
            expected = "clock"
        elif after_ms < 0:
            expected = "early"
        elif after_ms >= length_ms:
            expected = "late"
        else:
            expected = ""
        assert judge(asked, moment=at(after_ms, quality=quality), here=HERE) == expected


# --------------------------------------------------------------------------- the shell


@dataclass(slots=True)
class Lane:
    """A gate as orders see one."""

    path: Path
    shut_why: str = ""
    free: bool = True
    opened: list[str] = field(default_factory=list)
    on_disk: list[OrderAnswer] = field(default_factory=list)

    def open_once(self, passage_id: str, _moment: Moment) -> bool:
        last = stored(self.path)[-1]
        assert isinstance(last, OrderAnswer)
        self.on_disk.append(last)
        self.opened.append(passage_id)
        return self.free


class NoActions:
    """Of these tests' orders none asks for anything but a lane."""

    def lock_down(self, on: bool, moment: Moment) -> None:
        raise AssertionError

    def identify(self) -> None:
        raise AssertionError

    def restart(self) -> None:
        raise AssertionError

    def set_log_level(self, level: str, minutes: int, moment: Moment) -> None:
        raise AssertionError


def stored(path: Path) -> list[object]:
    """What another process finds committed."""
    db = open_reader(path, FileKind.JOURNAL)
    assert db is not None
    [life] = outbox.lives(db, Stream.MAIN)
    bodies = outbox.next_facts(db, life.life, 1, rows_max=1_000, bytes_max=10**6)
    assert outbox.chain_problem(db, life) == ""
    db.close()
    return [decode_fact(body) for body in bodies]


@dataclass(slots=True)
class Bench:
    folder: Path
    sync: Writer
    journal: Journal
    cache: Cache
    lane: Lane
    counters: dict[str, int]
    orders: Orders

    def send(self, asked: Order) -> bytes:
        payload = encode_json(asked)
        assert marks.take_order(self.sync, asked.counter, payload, at()) == ""
        return payload

    def facts(self) -> list[object]:
        return stored(self.journal.writer.path)[1:]


def orders_of(journal: Journal, cache: Cache, lane: Lane, counters: dict[str, int]) -> Orders:
    def count(name: str) -> None:
        counters[name] = counters.get(name, 0) + 1

    gates = {"north-in": cast(Gate, lane)}
    return Orders(cache, journal, gates, here=HERE, actions=NoActions(), count=count)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    sync = Writer(tmp_path / "sync.db", FileKind.SYNC)
    journal = Journal(tmp_path / "journal.db", device=DEVICE, site=SITE)
    journal.open_epoch(at(), why="new_store", station=Station.ENTRANCE)
    cache = Cache(tmp_path, device=DEVICE, site=SITE, journal=journal.writer.db)
    lane = Lane(journal.writer.path)
    counters: dict[str, int] = {}
    orders = orders_of(journal, cache, lane, counters)
    yield Bench(tmp_path, sync, journal, cache, lane, counters, orders)
    cache.close()
    journal.close()
    sync.close()


def test_the_answer_is_on_disk_before_the_lane_opens(bench: Bench) -> None:
    payload = bench.send(order(7))
    bench.orders.take(at())
    [answer, outcome] = bench.facts()
    assert isinstance(answer, OrderAnswer)
    assert isinstance(outcome, OrderOutcome)
    assert bench.lane.on_disk == [answer]
    assert bench.lane.opened == [f"{bench.journal.epoch}.{answer.sequence}"]
    assert (answer.counter, answer.order, answer.accepted) == (7, "open_once", True)
    assert (answer.why, answer.access_point) == ("", "north-in")
    assert (outcome.counter, outcome.done, outcome.why) == (7, True, "")
    assert bench.journal.answered(7) == (digest_of(payload), True, True)
    for after_ms in (0, 1_000):
        bench.orders.take(at(after_ms))
    assert len(bench.facts()) == 2
    assert len(bench.lane.opened) == 1


@pytest.mark.parametrize(("after_ms", "why"), [(-1, "early"), (WINDOW_MS, "late")])
def test_a_refused_order_is_a_fact_and_nothing_else(bench: Bench, after_ms: int, why: str) -> None:
    bench.send(order(7))
    for _ in range(2):
        bench.orders.take(at(after_ms))
    [answer] = bench.facts()
    assert isinstance(answer, OrderAnswer)
    assert (answer.accepted, answer.why) == (False, why)
    bench.orders.take(at())  # Not even when its time comes.
    assert bench.lane.opened == []
    assert bench.journal.unacted_orders() == []


def test_a_lane_that_cannot_open_is_told(bench: Bench) -> None:
    bench.lane.free = False
    bench.send(order(7))
    bench.orders.take(at())
    outcome = bench.facts()[-1]
    assert isinstance(outcome, OrderOutcome)
    assert (outcome.done, outcome.why) == (False, "lane_busy")


@pytest.mark.parametrize("why", ["lockdown", "lane_down", "lane_busy"])
def test_a_lane_that_is_shut_says_why_and_is_not_tried(bench: Bench, why: str) -> None:
    bench.lane.shut_why = why
    bench.send(order(7))
    bench.orders.take(at())
    outcome = bench.facts()[-1]
    assert isinstance(outcome, OrderOutcome)
    assert (outcome.done, outcome.why) == (False, why)
    assert bench.lane.opened == []


def test_orders_are_taken_in_the_order_of_their_counters(bench: Bench) -> None:
    for counter in (3, 8, 20):
        bench.send(order(counter))
    bench.orders.take(at())
    answers = [fact for fact in bench.facts() if isinstance(fact, OrderAnswer)]
    assert [answer.counter for answer in answers] == [3, 8, 20]
    assert len(bench.lane.opened) == 3


def test_what_cannot_be_recorded_is_not_done_and_asked_again(bench: Bench) -> None:
    bench.send(order(7))
    db = bench.journal.writer.db
    db.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON facts BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    for _ in range(3):
        bench.orders.take(at())
    assert bench.lane.opened == []
    assert bench.journal.answered(7) is None
    assert bench.counters == {"orders_failed": 3}
    db.execute("DROP TRIGGER refuse")
    bench.orders.take(at())
    assert len(bench.lane.opened) == 1
    assert len(bench.facts()) == 2


def test_an_order_accepted_before_a_restart_is_not_acted_on_after_it(bench: Bench) -> None:
    payload = bench.send(order(7))
    with bench.journal.record(at(), order_digest=digest_of(payload)) as answering:
        answering.add(
            OrderAnswer(
                **answering.stamp(at()), counter=7, order="open_once", accepted=True, why=""
            )
        )
    again = orders_of(bench.journal, bench.cache, bench.lane, bench.counters)
    for _ in range(2):
        again.close_unacted(at(500))
        again.take(at(500))
    assert bench.lane.opened == []
    [_, outcome] = bench.facts()
    assert isinstance(outcome, OrderOutcome)
    assert (outcome.counter, outcome.done, outcome.why) == (7, False, "restarted")


@pytest.mark.parametrize("spoilt", [b"", b"\x00rubbish", b'{"counter": 7}'])
def test_an_order_that_cannot_be_read_holds_up_no_other(bench: Bench, spoilt: bytes) -> None:
    bench.send(order(7))
    with bench.sync.transaction() as db:
        db.execute("UPDATE orders SET payload = ?", (spoilt,))
    bench.send(order(8))
    for _ in range(3):
        bench.orders.take(at())
    [unread, answer, outcome] = bench.facts()
    assert isinstance(unread, OrderAnswer) and isinstance(answer, OrderAnswer)
    assert (unread.counter, unread.accepted, unread.why) == (7, False, "undecodable")
    assert (answer.counter, answer.accepted) == (8, True)
    assert isinstance(outcome, OrderOutcome) and outcome.done
    assert len(bench.lane.opened) == 1 and bench.counters["orders_undecodable"] == 1


def test_an_order_under_another_counter_than_it_was_taken_in_is_none(bench: Bench) -> None:
    payload = bench.send(order(7))
    with bench.sync.transaction() as db:
        db.execute("DELETE FROM orders")
        db.execute("INSERT INTO orders VALUES (9, ?, 0, '')", (payload,))
    bench.orders.take(at())
    [unread] = bench.facts()
    assert isinstance(unread, OrderAnswer) and unread.why == "undecodable"
    assert bench.lane.opened == []
