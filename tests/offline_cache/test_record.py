"""Goal: facts are numbered without a gap, chained, and on disk with all that they change, or not
at all; a journal that is another machine's, or damaged, begins a new epoch and loses nothing of
what a technician may want to see.

Method: recordings that end well, end in an error, and end in `kill -9` (a child that says after
each commit what it has, killed at a seeded moment, over and over on one journal); journals
damaged page by page.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import Fact, Stream, StreamOpened, decode_fact, digest_of
from edge.model import CorruptData, DeviceFault, Direction, PassageResult, SetupProblem, Station
from edge.offline_cache import outbox
from edge.offline_cache.record import Journal, Stamp, StreamWriter, open_journal
from edge.offline_cache.store import FileKind, Writer, open_reader
from tests.support import facts
from tests.support.killing import child_doing, steps_until_done
from tests.support.times import at

MACHINE = "board-1/card-1"
Make = Callable[[Stamp], Fact]


def opened(path: Path, *, machine: str = MACHINE, after_ms: int = 0) -> Journal:
    return open_journal(
        path,
        device="till-1",
        site="school-7",
        station=Station.TILL,
        machine=machine,
        moment=at(after_ms),
    )


def record(journal: Journal, *makers: Make, after_ms: int = 0, order_digest: str = "") -> list[str]:
    with journal.record(at(after_ms), order_digest=order_digest) as tap:
        return [tap.add(make(tap.stamp(at(after_ms)))) for make in makers]


def assert_whole(path: Path, *, epochs: int = 1) -> list[outbox.Life]:
    """Every epoch numbered from 1 and chained to its head; the newest last."""
    db = open_reader(path, FileKind.JOURNAL)
    assert db is not None
    try:
        lives = outbox.lives(db, Stream.MAIN)
        assert [outbox.chain_problem(db, life) for life in lives] == [""] * epochs
        for life in lives:
            assert outbox.kinds_between(db, life.life, 1, life.head)["stream_opened"] == 1
            assert life.held_from == 1
        return lives
    finally:
        db.close()


def held(path: Path, life: outbox.Life) -> list[bytes]:
    db = open_reader(path, FileKind.JOURNAL)
    assert db is not None
    try:
        return outbox.next_facts(db, life.life, 1, rows_max=10_000, bytes_max=10**9)
    finally:
        db.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    made = opened(path)
    yield made
    made.close()


# ---------------------------------------------------------------- numbers and chain


def test_a_new_journal_begins_with_why(journal: Journal, path: Path) -> None:
    [life] = assert_whole(path)
    first = decode_fact(held(path, life)[0])
    assert isinstance(first, StreamOpened)
    assert (first.why, first.station, first.after_epoch) == ("new_store", Station.TILL, None)
    assert (first.device, first.site, first.stream) == ("till-1", "school-7", Stream.MAIN)
    assert (first.sequence, first.previous, first.epoch) == (1, "", life.epoch)
    assert len(life.epoch) == 16
    assert int(life.epoch, 16) >= 0


def test_facts_are_numbered_chained_and_kept_as_encoded(journal: Journal, path: Path) -> None:
    keys = record(journal, facts.access) + record(journal, facts.passage, facts.sale)
    keys += record(journal)  # A transaction that turned out to hold nothing.
    keys += record(journal, *facts.MAKERS[4:])
    [life] = assert_whole(path)
    bodies = held(path, life)
    assert keys == [f"{life.epoch}.{number}" for number in range(2, len(bodies) + 1)]
    previous = ""
    for number, body in enumerate(bodies, start=1):
        fact = decode_fact(body)
        assert (fact.sequence, fact.previous) == (number, previous)
        assert (fact.boot, fact.wall_ms, fact.mono_ms) == (at().boot, at().wall_ms, at().mono_ms)
        previous = digest_of(body)
    assert (life.head, life.digest) == (len(bodies), previous)
    assert (journal.head, journal.digest) == (life.head, life.digest)


def test_reopened_it_goes_on_where_it_was(path: Path) -> None:
    for turn in range(3):
        journal = opened(path, after_ms=turn)
        assert journal.head == 1 + turn
        record(journal, facts.access)
        journal.close()
    [life] = assert_whole(path)
    assert life.head == 4


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12),
)
@settings(max_examples=15, deadline=None)
def test_no_gap_whatever_fails_in_between(
    tmp_path_factory: pytest.TempPathFactory, taps: list[tuple[int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    journal = opened(path)
    expected = 1
    for count, fails in taps:
        before = (journal.head, journal.digest)
        try:
            with journal.record(at()) as tap:
                for _ in range(count):
                    tap.add(facts.access(tap.stamp(at())))
                if fails:
                    raise LookupError
            expected += count
        except LookupError:
            assert (journal.head, journal.digest) == before
        assert journal.head == expected
    [life] = assert_whole(path)
    assert life.head == expected
    journal.close()


def test_a_stamp_serves_one_fact(journal: Journal, path: Path) -> None:
    with pytest.raises(AssertionError), journal.record(at()) as tap:
        stamp = tap.stamp(at())
        tap.add(facts.access(stamp))
        tap.add(facts.access(stamp))
    assert journal.head == 1
    with pytest.raises(AssertionError), journal.record(at()) as tap:
        tap.add(facts.access(facts.stamp(2, "another chain")))
    record(journal, facts.access)
    assert_whole(path)


def test_a_fact_that_fits_no_batch_is_never_recorded(journal: Journal, path: Path) -> None:
    with pytest.raises(AssertionError, match="bounded"):
        record(journal, lambda stamp: facts.access(stamp, reader="x" * 20_000))
    assert assert_whole(path)[0].head == 1


def test_a_full_disk_leaves_the_head_where_the_disk_is(journal: Journal, path: Path) -> None:
    record(journal, facts.access)
    db = journal.writer.db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DeviceFault):
        for _ in range(200):
            record(journal, facts.access, facts.sale)
    head = journal.head
    assert assert_whole(path)[0].head == head
    db.execute("PRAGMA max_page_count = 1000000")
    record(journal, facts.access)
    assert assert_whole(path)[0].head == head + 1


def test_after_a_commit_of_which_nobody_knows_the_file_is_asked(
    journal: Journal, path: Path
) -> None:
    """The disk took it and said that it had not: no number is given twice."""
    transaction = journal.writer.transaction

    @contextmanager
    def committed_and_yet_refused() -> Iterator[sqlite3.Connection]:
        with transaction() as db:
            yield db
        raise DeviceFault("journal.db: disk I/O error")

    journal.writer.transaction = committed_and_yet_refused  # type: ignore[method-assign]
    with pytest.raises(DeviceFault):
        record(journal, facts.access)
    assert journal.head == 1 and journal.no_money
    journal.writer.transaction = transaction  # type: ignore[method-assign]
    record(journal, facts.access)
    assert assert_whole(path)[0].head == journal.head == 3
    assert not journal.no_money


def test_two_streams_of_one_file_are_two_chains(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "sync.db", FileKind.SYNC)
    streams = [
        StreamWriter(writer, device="till-1", site="school-7", stream=stream)
        for stream in (Stream.AGENT, Stream.DIAG)
    ]
    for stream in streams:
        stream.open_epoch(at(), why="new_store", station=Station.TILL)
    for turn in range(4):
        stream = streams[turn % 2]
        with stream.recording() as recording:
            recording.add(facts.update_refused(recording.stamp(at())))
    for stream in streams:
        [life] = outbox.lives(writer.db, stream.stream)
        assert (life.head, outbox.chain_problem(writer.db, life)) == (3, "")
        again = StreamWriter(writer, device="till-1", site="school-7", stream=stream.stream)
        assert (again.epoch, again.head, again.digest) == (life.epoch, 3, life.digest)
    writer.close()


# ------------------------------------------------------------------- what facts change


def rows(path: Path, table: str) -> list[tuple[object, ...]]:
    db = open_reader(path, FileKind.JOURNAL)
    assert db is not None
    try:
        return db.execute(f"SELECT * FROM {table}").fetchall()
    finally:
        db.close()


@pytest.mark.parametrize("result", PassageResult)
@pytest.mark.parametrize("cardholder", ["p1", None])
def test_only_a_passage_taken_by_somebody_changes_a_side(
    journal: Journal, path: Path, result: PassageResult, cardholder: str | None
) -> None:
    record(journal, lambda s: facts.passage(s, result=result, cardholder=cardholder))
    moves = result in (PassageResult.TAKEN, PassageResult.FIRE_RELEASE) and cardholder is not None
    side = ("p1", "school", "in", at().wall_ms, "2026-03-02", 1, "00c0ffee00c0ffee.2")
    expected = [side] if moves else []
    assert rows(path, "sides") == expected


def test_the_last_passage_is_the_side_by_zone(journal: Journal, path: Path) -> None:
    record(journal, facts.passage)
    record(journal, lambda s: facts.passage(s, zone="pool"))
    record(journal, lambda s: facts.passage(s, direction=Direction.OUT), after_ms=60_000)
    assert {row[1:3] for row in rows(path, "sides")} == {("pool", "in"), ("school", "out")}


def test_a_sale_enters_the_tail_by_purse(journal: Journal, path: Path) -> None:
    record(journal, lambda s: facts.sale(s, amounts=(("meals", 12_000), ("buffet", 3_000))))
    record(journal, facts.sale)
    epoch = journal.epoch
    assert rows(path, "tail") == [
        ("a1", epoch, 2, "buffet", 3_000, "2026-03-02", 0),
        ("a1", epoch, 2, "meals", 12_000, "2026-03-02", 0),
        ("a1", epoch, 3, "meals", 12_000, "2026-03-02", 0),
    ]


def test_a_refused_sale_changes_nothing(journal: Journal, path: Path) -> None:
    record(journal, facts.refused_sale)
    assert rows(path, "tail") == rows(path, "sides") == []


def test_an_answered_order_is_remembered_until_it_is_acted_on(journal: Journal) -> None:
    assert (journal.last_counter(), journal.answered(5)) == (0, None)
    record(journal, facts.order_answer, order_digest="d5")
    record(journal, lambda s: facts.order_answer(s, counter=6, accepted=False), order_digest="d6")
    assert journal.answered(5) == ("d5", True, False)
    assert journal.answered(6) == ("d6", False, False)
    assert (journal.last_counter(), journal.unacted_orders()) == (6, [5])
    record(journal, facts.order_outcome)
    assert journal.answered(5) == ("d5", True, True)
    assert journal.unacted_orders() == []


def test_what_a_fact_changes_is_rolled_back_with_it(journal: Journal, path: Path) -> None:
    with pytest.raises(LookupError), journal.record(at(), order_digest="d5") as tap:
        for make in (facts.passage, facts.sale, facts.order_answer):
            tap.add(make(tap.stamp(at())))
        raise LookupError
    assert [rows(path, table) for table in ("sides", "tail", "answered_orders")] == [[], [], []]
    assert journal.answered(5) is None


# ----------------------------------------------------------- another life of the journal


def test_another_machine_opens_a_new_epoch_and_goes_on_in_it(path: Path) -> None:
    first = opened(path)
    record(first, facts.sale)
    before = first.epoch
    store_id = rows(path, "meta")
    first.close()
    second = opened(path, machine="board-2/card-1")
    assert (second.head, second.epoch == before) == (1, False)
    assert rows(path, "meta") != store_id
    record(second, facts.access)
    second.close()
    old, new = assert_whole(path, epochs=2)
    assert (old.epoch, old.head, new.head) == (before, 2, 2)
    first_fact = decode_fact(held(path, new)[0])
    assert isinstance(first_fact, StreamOpened)
    assert (first_fact.why, first_fact.after_epoch) == ("restored_image", before)
    again = opened(path, machine="board-2/card-1")
    assert again.epoch == new.epoch
    again.close()
    assert len(rows(path, "tail")) == 1  # What the old epoch sold still counts.


def test_a_failed_new_epoch_leaves_the_old_one_whole(path: Path) -> None:
    journal = opened(path)
    record(journal, facts.access)
    before = (journal.epoch, journal.head, journal.digest, journal.life)
    journal.writer.db.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON facts BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(CorruptData):
        journal.open_epoch(at(), why="restored_image", station=Station.TILL)
    assert (journal.epoch, journal.head, journal.digest, journal.life) == before
    journal.writer.db.execute("DROP TRIGGER refuse")
    record(journal, facts.access)
    journal.close()
    assert assert_whole(path)[0].head == 3


def test_killed_anywhere_while_opening_there_is_one_whole_epoch_at_the_end(path: Path) -> None:
    for _ in steps_until_done(lambda: opened(path).close()):
        if path.exists():
            db = open_reader(path, FileKind.JOURNAL)
            if db is not None:
                for life in outbox.lives(db, Stream.MAIN):
                    assert outbox.chain_problem(db, life) == ""
                db.close()
        for file in path.parent.iterdir():
            file.unlink()
    opened(path).close()
    assert_whole(path)


def files_set_aside(path: Path) -> dict[str, bytes]:
    found = path.parent.glob(f"{path.name}.damaged-*")
    return {file.name: file.read_bytes() for file in found if not file.name.endswith("-shm")}


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\0" * 9_000])
def test_what_is_no_journal_is_set_aside_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    journal = opened(path)
    record(journal, facts.access)
    why = decode_fact(held(path, assert_whole(path)[0])[0])
    journal.close()
    assert isinstance(why, StreamOpened)
    if content:
        assert why.why == "damaged"
        assert list(files_set_aside(path).values()) == [content]
    else:
        assert why.why == "new_store"  # A process was killed between making it and its schema.


def used_journal(folder: Path, *, wal: bool) -> Path:
    """A journal of some pages; with `wal`, half of it still in its WAL as after a kill."""
    path = folder / "journal.db"
    journal = opened(path)
    for _ in range(6):
        record(journal, *facts.MAKERS[1:], facts.sale)
        if not wal:
            journal.writer.checkpoint()
    if not wal:
        journal.close()
        return path
    journal.writer.checkpoint()
    record(journal, facts.access)
    copy = folder / "copy"
    copy.mkdir()
    for file in folder.glob("journal.db*"):
        shutil.copy(file, copy)
    journal.close()
    return copy / "journal.db"


@pytest.mark.parametrize("wal", [False, True])
def test_a_page_lost_anywhere_never_stops_the_agent(tmp_path: Path, wal: bool) -> None:
    good = used_journal(tmp_path, wal=wal)
    pages = good.stat().st_size // 4_096
    assert pages > 5
    outcomes = []
    for page in range(pages):
        folder = tmp_path / f"page {page}"
        folder.mkdir()
        path = folder / "journal.db"
        for file in good.parent.glob("journal.db*"):
            if file.suffix != ".lock" and not file.name.endswith("-shm"):
                shutil.copy(file, folder)
        with path.open("r+b") as damaged:
            damaged.seek(page * 4_096)
            damaged.write(random.Random(page).randbytes(4_096))
        before = {f.name: f.read_bytes() for f in folder.iterdir()}
        journal = opened(path)
        aside = {name: data for name, data in files_set_aside(path).items() if data}
        if aside:  # Untouched, its WAL with it.
            assert sorted(aside.values()) == sorted(before.values())
            assert journal.head == 1
        try:
            record(journal, facts.access)
        except CorruptData:
            outcomes.append("refuses")  # Damage that a look at the ends does not show.
        else:
            outcomes.append("aside" if aside else "goes on")
        journal.close()
    assert outcomes[0] == "aside"
    assert "aside" in outcomes[1:]


def test_a_journal_that_lost_its_last_fact_is_set_aside(path: Path) -> None:
    journal = opened(path)
    record(journal, facts.sale)
    journal.writer.db.execute("DELETE FROM facts WHERE sequence = 2")
    journal.close()
    again = opened(path)
    assert again.head == 1
    assert files_set_aside(path)
    again.close()


def test_a_journal_whose_facts_were_all_dropped_goes_on_from_its_head(path: Path) -> None:
    journal = opened(path)
    record(journal, facts.access)
    journal.writer.db.execute("DELETE FROM facts")
    journal.writer.db.execute("UPDATE lives SET held_from = head + 1")
    epoch, head = journal.epoch, journal.head
    journal.close()
    again = opened(path)
    assert (again.epoch, again.head) == (epoch, head)
    assert not files_set_aside(path)
    record(again, facts.access)
    assert (
        outbox.chain_problem(again.writer.db, outbox.lives(again.writer.db, Stream.MAIN)[0]) == ""
    )
    again.close()


def test_a_journal_in_use_is_not_touched_by_a_second_agent(journal: Journal, path: Path) -> None:
    journal.writer.db.execute("DELETE FROM facts")  # Even one that looks damaged.
    with pytest.raises(SetupProblem, match="running twice"):
        opened(path)
    assert files_set_aside(path) == {}
    assert path.exists()


# -------------------------------------------------------------------------- kill -9


@pytest.mark.parametrize("seed", range(2))
def test_what_was_reported_before_a_kill_is_there_after_it(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    reported: set[str] = set()
    opened(path).close()

    def taps(pipe: int) -> None:
        journal = opened(path)
        while True:
            keys = record(journal, facts.access, *[facts.sale] * chance.randrange(3))
            lines = "".join(f"{key}\n" for key in keys)
            os.write(pipe, lines.encode())

    for _ in range(20):
        with child_doing(taps) as (_, pipe):
            said = b""
            while len(said.splitlines()) < chance.randrange(1, 12):
                said += os.read(pipe, 65_536)
            for _ in range(chance.randrange(20_000)):
                pass  # A moment that depends on nothing.
        # The child is gone; what it wrote and nobody read yet is lost with the pipe.
        reported.update(line.decode() for line in said.split(b"\n")[:-1])
        [life] = assert_whole(path)
        stored = {f"{life.epoch}.{decode_fact(body).sequence}" for body in held(path, life)}
        assert reported <= stored
        assert len(rows(path, "tail")) == outbox_kinds(path, life).get("sale", 0)
    assert len(reported) > 40


def outbox_kinds(path: Path, life: outbox.Life) -> dict[str, int]:
    db = sqlite3.connect(path)
    try:
        return outbox.kinds_between(db, life.life, 1, life.head)
    finally:
        db.close()
