"""Goal: journal and store always come to name each other, and a new one of either makes a new one
of the other, whichever process looks when, and whatever happened to either file; sync's own
streams begin anew in a store that came from elsewhere.

Method: the two rules alone, exhausted: every sequence of looks and accidents up to a length, then
both look until nothing changes. And real files for what writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path

import pytest

from edge.messages import Stream
from edge.model import SetupProblem, Station
from edge.offline_cache import epochs, marks, outbox
from edge.offline_cache.epochs import EdgeStep, StoreStep, edge_step, store_step
from edge.offline_cache.record import StreamWriter
from edge.offline_cache.soundness import is_marked_unsound, mark_unsound
from edge.offline_cache.store import Writer
from tests.support.times import at

OPENED = ("edge", "sync", "new_journal", "new_store", "restored", "city_ahead")


@dataclass
class Pair:
    """Both files' notes."""

    epoch: str = ""
    knows: str = ""
    store: str = ""
    store_epoch: str = ""
    names: count[int] = field(default_factory=count)

    def edge(self) -> bool:
        step = edge_step(
            epoch=self.epoch, knows=self.knows, store=self.store, store_epoch=self.store_epoch
        )
        if step is EdgeStep.ADOPT:
            self.knows = self.store
        elif step is EdgeStep.NEW_EPOCH:
            self.epoch, self.knows = self.new("e"), self.store
        return step is not EdgeStep.NOTHING

    def sync(self) -> bool:
        if not self.store:
            self.store = self.new("s")
        step = store_step(
            epoch=self.epoch, knows=self.knows, store=self.store, store_epoch=self.store_epoch
        )
        if step is StoreStep.NEW_STORE:
            self.store = self.new("s")
        if step is not StoreStep.NOTHING:
            self.store_epoch = self.epoch
        return step is not StoreStep.NOTHING

    def new_journal(self) -> None:
        self.epoch, self.knows = self.new("e"), ""

    city_ahead = new_journal

    def new_store(self) -> None:
        self.store, self.store_epoch = self.new("s"), ""

    def restored(self) -> None:
        self.new_journal()
        self.new_store()

    def new(self, kind: str) -> str:
        return f"{kind}{next(self.names)}"

    def settle(self) -> None:
        for _ in range(6):
            if not any([self.edge(), self.sync()]):
                return
        raise AssertionError(f"never at rest: {self}")


def test_whatever_happens_both_come_to_rest_and_name_each_other() -> None:
    for steps in product(OPENED, repeat=5):
        pair = Pair(epoch="e")
        for step in steps:
            getattr(pair, step)()
        pair.settle()
        assert (pair.knows, pair.store_epoch) == (pair.store, pair.epoch), steps


@pytest.mark.parametrize("change", ["new_journal", "new_store", "restored"])
def test_a_new_one_of_either_makes_a_new_one_of_the_other(change: str) -> None:
    for looks in product(("edge", "sync"), repeat=6):
        pair = Pair(epoch="e")
        pair.settle()
        before = pair.epoch, pair.store
        getattr(pair, change)()
        for look in looks:
            getattr(pair, look)()
        pair.settle()
        assert pair.epoch != before[0] and pair.store != before[1]


def test_in_peace_nothing_changes() -> None:
    pair = Pair(epoch="e")
    pair.settle()
    before = pair.epoch, pair.store
    pair.settle()
    assert (pair.epoch, pair.store) == before


def open_store(folder: Path, machine: str = "m1") -> Writer:
    return epochs.open_store(folder / "sync.db", machine=machine, moment=at())


def test_a_store_from_another_machine_is_a_new_one(tmp_path: Path) -> None:
    writer = open_store(tmp_path)
    store = epochs.meta(writer.db, "store_id")
    epochs.pair(writer, epoch="e1", new=False)
    writer.close()
    again = open_store(tmp_path)
    assert epochs.meta(again.db, "store_id") == store
    assert (epochs.meta(again.db, "epoch"), epochs.meta(again.db, "reopen")) == ("e1", "")
    again.close()
    moved = open_store(tmp_path, "m2")
    assert epochs.meta(moved.db, "store_id") not in ("", store)
    assert (epochs.meta(moved.db, "epoch"), epochs.meta(moved.db, "reopen")) == (
        "",
        "restored_image",
    )
    moved.close()


def test_a_file_marked_unsound_is_set_aside_once(tmp_path: Path) -> None:
    writer = open_store(tmp_path)
    store = epochs.meta(writer.db, "store_id")
    writer.close()
    mark_unsound(tmp_path / "sync.db")
    writer = open_store(tmp_path)
    assert epochs.meta(writer.db, "store_id") != store
    aside = epochs.meta(writer.db, "damaged")
    assert (tmp_path / aside).exists() and not is_marked_unsound(tmp_path / "sync.db")
    writer.close()
    again = open_store(tmp_path)
    assert epochs.meta(again.db, "damaged") == aside
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1
    again.close()


def test_a_store_whose_stream_lost_its_last_fact_is_set_aside(tmp_path: Path) -> None:
    writer = open_store(tmp_path)
    stream = StreamWriter(writer, device="till-1", site="school-7", stream=Stream.AGENT)
    stream.open_epoch(at(), why="new_store", station=Station.TILL)
    writer.db.execute("DELETE FROM facts")
    writer.close()
    again = open_store(tmp_path)
    assert outbox.lives(again.db, Stream.AGENT) == []
    assert epochs.meta(again.db, "reopen") == "damaged"
    again.close()


def test_what_sync_knows_of_an_epoch_is_one_view(tmp_path: Path) -> None:
    writer = open_store(tmp_path)
    marks.acknowledge(writer, Stream.MAIN, "e1", 5, head=9)
    marks.acknowledge(writer, Stream.MAIN, "e1", 7, head=8)  # A head never shrinks.
    marks.acknowledge(writer, Stream.AGENT, "a1", 3, head=3)
    marks.show_ahead(writer, Stream.MAIN, "e2", high_water=40, digest="d")
    view = marks.store_view(writer.db, Stream.MAIN)
    assert view.seen == {
        "e1": marks.Seen(acknowledged=7, head=9),
        "e2": marks.Seen(city_ahead=True),
    }
    assert view.store_id == epochs.meta(writer.db, "store_id")
    writer.close()


def test_opened_at_once_by_two_the_second_is_refused(tmp_path: Path) -> None:
    writer = open_store(tmp_path)
    with pytest.raises(SetupProblem, match="another process is writing"):
        open_store(tmp_path)
    writer.close()
