"""Goal: a batch holds what the file holds from where it begins, whole lines within its bounds and
up to a hole, whatever was read ahead; and a backlog is read in few steps.

Method: a stream of facts small and large, asked for in an order and with bounds drawn from a seed,
while it grows, loses facts and ends; against a plain read of the same. Statements are counted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.messages import BATCH_BYTES_MAX, BATCH_ROWS_MAX, Stream, digest_of
from edge.model import Station
from edge.offline_cache import outbox
from edge.offline_cache.record import Journal
from sync.answers import Send
from sync.pieces import AHEAD_BYTES, AHEAD_LOW, Piece, Pieces
from tests.support import facts
from tests.support.times import at


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.db", device="till-1", site="school-7")
    made.open_epoch(at(), why="new_store", station=Station.TILL)
    yield made
    made.close()


def fill(journal: Journal, sizes: list[int]) -> None:
    with journal.record(at()) as tap:
        for size in sizes:
            tap.add(facts.access(tap.stamp(at()), reader="r" * size))


def life_of(journal: Journal) -> outbox.Life:
    return outbox.lives(journal.writer.db, Stream.MAIN)[-1]


def asked(
    life: outbox.Life,
    first: int,
    rows_max: int = BATCH_ROWS_MAX,
    bytes_max: int = BATCH_BYTES_MAX,
) -> Send:
    return Send(epoch=life.epoch, first=first, rows_max=rows_max, bytes_max=bytes_max, gap=None)


def plainly(journal: Journal, life: outbox.Life, send: Send) -> list[bytes]:
    found = outbox.next_facts(
        journal.writer.db,
        life.life,
        send.first,
        rows_max=send.rows_max,
        bytes_max=send.bytes_max,
    )
    closed_at = life.closed_at
    return found if closed_at is None else found[: max(0, closed_at + 1 - send.first)]


def check(piece: Piece, send: Send, expected: list[bytes]) -> None:
    assert (piece.first, piece.gap) == (send.first, None)
    assert piece.count == len(expected)
    assert piece.lines == b"\n".join(expected)
    assert piece.digest == (digest_of(expected[-1]) if expected else "")


@pytest.mark.parametrize("seed", range(40))
def test_a_batch_is_what_a_plain_read_gives(journal: Journal, seed: int) -> None:
    chance, pieces = random.Random(seed), Pieces()
    sizes = (1, 1, 40, 400, 3_000) if seed % 2 else (1, 5)
    fill(journal, chance.choices(sizes, k=chance.randint(50, 900)))
    first = 1
    for _ in range(80):
        life = life_of(journal)
        if chance.random() < 0.1:
            life = replace(life, closed_at=chance.randint(1, life.head))
        send = asked(
            life,
            first,
            rows_max=chance.choice((1, 7, BATCH_ROWS_MAX, BATCH_ROWS_MAX)),
            bytes_max=chance.choice((100, 1_000, BATCH_BYTES_MAX, BATCH_BYTES_MAX)),
        )
        if pieces.runs_low and chance.random() < 0.7:
            pieces.read_on(journal.writer.db, life)
        expected = plainly(journal, life, send)
        piece = pieces.read(journal.writer.db, life, send)
        check(piece, send, expected)
        first += piece.count
        if not piece.count or chance.random() < 0.1:
            first = chance.randint(1, life.head)  # The city lost something, or has more.
        if chance.random() < 0.1:
            fill(journal, chance.choices(sizes, k=chance.randint(1, 200)))


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("hole", [1, 2, 99, 100, 101, 250])
def test_a_hole_is_never_read_over(journal: Journal, hole: int, on: bool) -> None:
    fill(journal, [1] * 400)
    journal.writer.db.execute("DELETE FROM facts WHERE sequence = ?", (hole,))
    life, pieces = life_of(journal), Pieces()
    first = 1
    while first < hole:
        send = asked(life, first)
        piece = pieces.read(journal.writer.db, life, send)
        check(piece, send, plainly(journal, life, send))
        first += piece.count
        if on:
            pieces.read_on(journal.writer.db, life)
    assert first == hole
    assert pieces.read(journal.writer.db, life, asked(life, hole)).count == 0
    behind = pieces.read(journal.writer.db, life, asked(life, hole + 1))
    check(behind, asked(life, hole + 1), plainly(journal, life, asked(life, hole + 1)))


def test_a_fact_that_says_another_number_goes_as_it_stands(journal: Journal) -> None:
    """The city is to see it, and to say so: not this side's to hide, nor to stumble over."""
    fill(journal, [1] * 30)
    db = journal.writer.db
    (body,) = db.execute("SELECT body FROM facts WHERE sequence = 31").fetchone()
    for wrong in (b"{}", b"nothing", body.replace(b'"sequence":31', b'"sequence":99')):
        assert wrong != body
        db.execute("UPDATE facts SET body = ? WHERE sequence = 31", (wrong,))
        life = life_of(journal)
        check(
            Pieces().read(db, life, asked(life, 1)),
            asked(life, 1),
            plainly(journal, life, asked(life, 1)),
        )


def test_what_was_read_ahead_is_of_one_epoch(journal: Journal) -> None:
    fill(journal, [1] * 500)
    old, pieces = life_of(journal), Pieces()
    first = 1
    for _ in range(3):
        first += pieces.read(journal.writer.db, old, asked(old, first)).count
    journal.open_epoch(at(), why="restored", station=Station.TILL)
    fill(journal, [9] * 500)
    new = life_of(journal)
    assert new.epoch != old.epoch
    check(
        pieces.read(journal.writer.db, new, asked(new, first)),
        asked(new, first),
        plainly(journal, new, asked(new, first)),
    )


def test_what_is_forgotten_is_read_again(journal: Journal) -> None:
    fill(journal, [1] * 500)
    life, pieces = life_of(journal), Pieces()
    first = 1
    for _ in range(3):
        first += pieces.read(journal.writer.db, life, asked(life, first)).count
    journal.writer.db.execute("DELETE FROM facts")
    first += pieces.read(journal.writer.db, life, asked(life, first)).count
    assert first > 200, "it was held"
    pieces.forget()
    assert pieces.read(journal.writer.db, life, asked(life, first)).count == 0


def test_the_exact_bound_still_fits(journal: Journal) -> None:
    fill(journal, [100] * 99)
    life = life_of(journal)
    stored = plainly(journal, life, asked(life, 1, bytes_max=1 << 20))
    exactly = sum(len(body) + 1 for body in stored[:30])
    for bytes_max, count in ((exactly - 1, 29), (exactly, 30)):
        send = asked(life, 1, bytes_max=bytes_max)
        check(Pieces().read(journal.writer.db, life, send), send, stored[:count])


def test_a_backlog_is_read_in_few_steps(journal: Journal) -> None:
    fill(journal, [100] * 3_000)
    db, life, pieces = journal.writer.db, life_of(journal), Pieces()
    reads: list[str] = []
    db.set_trace_callback(lambda sql: reads.append(sql) if sql.startswith("SELECT") else None)
    first, batches, size = 1, 0, 0
    while first <= life.head:
        piece = pieces.read(db, life, asked(life, first))
        first, batches, size = first + piece.count, batches + 1, size + len(piece.lines)
    db.set_trace_callback(None)
    assert batches >= 30
    # Each but the first brings nearly all that may be held, less the end that is read again.
    assert len(reads) <= 2 + size // (AHEAD_BYTES - 2 * BATCH_BYTES_MAX)


def test_a_backlog_that_is_read_on_waits_for_no_read(journal: Journal) -> None:
    fill(journal, [100] * 3_000)
    db, life, pieces = journal.writer.db, life_of(journal), Pieces()
    reads: list[str] = []
    db.set_trace_callback(lambda sql: reads.append(sql) if sql.startswith("SELECT") else None)
    first, size, held_max, waited_for = 1, 0, 0, 0
    while first <= life.head:
        before = len(reads)
        piece = pieces.read(db, life, asked(life, first))
        waited_for += len(reads) - before
        first, size = first + piece.count, size + len(piece.lines)
        if pieces.runs_low:
            pieces.read_on(db, life)
        held_max = max(held_max, len(pieces._lines) - pieces._at)
        assert pieces._until <= life.head + 1
    db.set_trace_callback(None)
    # The first tells that there is a backlog; what is left at last is less than a batch may be.
    assert waited_for <= 2
    assert len(reads) <= 4 + size // (AHEAD_BYTES - BATCH_BYTES_MAX)
    assert held_max <= AHEAD_BYTES + AHEAD_LOW + BATCH_BYTES_MAX
