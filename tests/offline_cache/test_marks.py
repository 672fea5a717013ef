"""Goal: what sync keeps of the city's word never goes back where going back would hurt: time, used
order counters, connection counters, root documents.

Method: each mark moved forward, back, to the same and beyond all sense; the file opened again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import Stream
from edge.model import CorruptData
from edge.offline_cache import marks
from edge.offline_cache.store import FileKind, Writer
from tests.support.times import BOOT, NOON_MS, at


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path / "sync.db", FileKind.SYNC)
    yield made
    made.close()


def orders(writer: Writer) -> dict[int, bytes]:
    return dict(writer.db.execute("SELECT counter, payload FROM orders").fetchall())


def test_an_acknowledgement_moves_both_ways(writer: Writer) -> None:
    assert marks.acknowledged(writer) == {}
    for up_to in (5, 9, 3):  # A city restored from a backup asks again.
        marks.acknowledge(writer, Stream.MAIN, "e1", up_to)
        assert marks.acknowledged(writer) == {(Stream.MAIN, "e1"): up_to}
    marks.acknowledge(writer, Stream.AGENT, "e1", 1)
    assert len(marks.acknowledged(writer)) == 2


def test_signed_time_only_goes_forward(writer: Writer) -> None:
    assert marks.time_anchor(writer.db) is None
    assert marks.set_anchor(writer, at(), NOON_MS)
    assert marks.set_anchor(writer, at(5), NOON_MS)  # The same time, looked at later.
    assert not marks.set_anchor(writer, at(9), NOON_MS - 1)
    anchor = marks.time_anchor(writer.db)
    assert anchor is not None
    assert (anchor.boot, anchor.mono_ms) == (BOOT, at(5).mono_ms)
    assert (anchor.utc_ms, anchor.floor_utc_ms) == (NOON_MS, NOON_MS)


def test_a_head_raises_the_floor_and_sets_no_clock(writer: Writer) -> None:
    marks.raise_floor(writer, 1_000)
    anchor = marks.time_anchor(writer.db)
    assert anchor is not None
    assert (anchor.boot, anchor.utc_ms, anchor.floor_utc_ms) == ("", 0, 1_000)
    assert marks.set_anchor(writer, at(), NOON_MS)
    marks.raise_floor(writer, NOON_MS - 1)
    assert marks.floor_utc_ms(writer) == NOON_MS
    marks.raise_floor(writer, NOON_MS + 60_000)
    assert not marks.set_anchor(writer, at(), NOON_MS + 59_999)
    anchor = marks.time_anchor(writer.db)
    assert anchor is not None
    assert (anchor.utc_ms, anchor.floor_utc_ms) == (NOON_MS, NOON_MS + 60_000)


@pytest.mark.parametrize("utc_ms", [marks.UTC_MS_END, NOON_MS * 1_000, 2**63, -1])
def test_a_time_beyond_sense_does_not_stay_for_ever(writer: Writer, utc_ms: int) -> None:
    """Such as microseconds taken for milliseconds: the floor would never come down again."""
    marks.raise_floor(writer, utc_ms)
    assert not marks.set_anchor(writer, at(), utc_ms)
    assert marks.floor_utc_ms(writer) == 0
    assert marks.set_anchor(writer, at(), NOON_MS)


def test_an_order_is_taken_once(writer: Writer) -> None:
    assert marks.take_order(writer, 4, b"four", at()) == ""
    assert marks.take_order(writer, 4, b"four", at()) == "same"
    assert marks.take_order(writer, 4, b"other", at()) == "used_counter"
    assert marks.take_order(writer, 3, b"three", at()) == "used_counter"
    assert marks.take_order(writer, 5, b"five", at()) == ""
    assert orders(writer) == {4: b"four", 5: b"five"}


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
def test_the_newest_orders_are_kept_whatever_their_counters(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(marks, "ORDERS_KEPT_MAX", 5)
    for number in range(1, 9):
        assert marks.take_order(writer, number * step, b"%d" % number, at()) == ""
        newest = range(max(1, number - 4), number + 1)
        assert orders(writer) == {n * step: b"%d" % n for n in newest}
    assert marks.take_order(writer, step, b"1", at()) == "used_counter"


@pytest.mark.parametrize("counter", [2**63, 2**200])
def test_a_counter_no_database_holds_is_corrupt_data(writer: Writer, counter: int) -> None:
    with pytest.raises(CorruptData):
        marks.take_order(writer, counter, b"x", at())
    assert marks.take_order(writer, 1, b"x", at()) == ""


def test_a_connection_counter_never_repeats(tmp_path: Path) -> None:
    numbers = []
    for at_least in (100, 50, 101, 10_000, 0):
        writer = Writer(tmp_path / "sync.db", FileKind.SYNC)
        numbers += [marks.next_connection(writer, at_least), marks.next_connection(writer, 0)]
        writer.close()
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 100
    assert 10_000 in numbers


def test_counters_outlive_a_restart_and_leave_the_connection_alone(writer: Writer) -> None:
    number = marks.next_connection(writer, 7)
    marks.save_counters(writer, {"refused": 3})
    marks.save_counters(writer, {"refused": 4})
    assert marks.counters(writer) == {"refused": 4}
    marks.next_connection(writer, 0)
    marks.save_counters(writer, {"connection": number})
    assert marks.next_connection(writer, 0) == number + 2


def test_the_newest_root_counts_and_none_is_replaced(writer: Writer) -> None:
    assert marks.newest_root(writer) is None
    for version, document in ((2, b"two"), (1, b"one"), (2, b"other")):
        marks.store_root(writer, version, document)
        assert marks.newest_root(writer) == b"two"
    marks.store_root(writer, 3, b"three")
    assert marks.newest_root(writer) == b"three"
