"""Goal: what leaves is what was recorded, in sequence, in bounded pieces; a hole never travels.

Method: every `first`, row and byte bound over a small stream against the list it was made of; a
stream with each of its facts taken out, changed or put elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import Stream, digest_of
from edge.model import Station
from edge.offline_cache import outbox
from edge.offline_cache.outbox import Life
from edge.offline_cache.record import Journal
from tests.support import facts
from tests.support.times import at

LENGTH = 7


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.db", device="till-1", site="school-7")
    made.open_epoch(at(), why="new_store", station=Station.TILL)
    with made.record(at()) as tap:
        for number in range(LENGTH - 1):
            tap.add(facts.access(tap.stamp(at()), reader="r" * (1 + 40 * number)))
    yield made
    made.close()


def life_of(journal: Journal) -> Life:
    return outbox.lives(journal.writer.db, Stream.MAIN)[-1]


def bodies(journal: Journal) -> list[bytes]:
    rows = journal.writer.db.execute("SELECT body FROM facts ORDER BY life, sequence")
    return [row[0] for row in rows]


def test_a_piece_keeps_to_rows_and_bytes(journal: Journal) -> None:
    life, stored = life_of(journal), bodies(journal)
    total = sum(len(body) + 1 for body in stored)
    for first in range(1, LENGTH + 3):
        for rows_max in range(1, LENGTH + 2):
            for bytes_max in range(1, total + 50, 97):
                piece = outbox.next_facts(
                    journal.writer.db, life.life, first, rows_max=rows_max, bytes_max=bytes_max
                )
                assert piece == stored[first - 1 : first - 1 + len(piece)]
                assert len(piece) <= rows_max
                size = sum(len(body) + 1 for body in piece)
                assert size <= bytes_max or len(piece) == 1
                if first > LENGTH:
                    assert not piece
                    continue
                assert piece  # Progress, whatever the bounds.
                following = stored[first - 1 + len(piece) :]
                assert (
                    not following
                    or len(piece) == rows_max
                    or size + len(following[0]) + 1 > bytes_max
                )


def test_the_exact_bound_still_fits(journal: Journal) -> None:
    stored = bodies(journal)
    exactly = sum(len(body) + 1 for body in stored[:3])
    for bytes_max, count in ((exactly - 1, 2), (exactly, 3)):
        piece = outbox.next_facts(
            journal.writer.db, life_of(journal).life, 1, rows_max=100, bytes_max=bytes_max
        )
        assert len(piece) == count


@pytest.mark.parametrize("hole", range(1, LENGTH + 1))
def test_a_hole_stops_what_leaves(journal: Journal, hole: int) -> None:
    stored, life = bodies(journal), life_of(journal)
    journal.writer.db.execute("DELETE FROM facts WHERE sequence = ?", (hole,))
    for first in range(1, LENGTH + 1):
        piece = outbox.next_facts(
            journal.writer.db, life.life, first, rows_max=100, bytes_max=10**6
        )
        assert piece == stored[first - 1 : hole - 1 if first <= hole else LENGTH]
    problem = outbox.chain_problem(journal.writer.db, life)
    assert problem


@pytest.mark.parametrize("sequence", range(1, LENGTH + 1))
def test_a_changed_fact_breaks_the_chain(journal: Journal, sequence: int) -> None:
    db, life = journal.writer.db, life_of(journal)
    assert outbox.chain_problem(db, life) == ""
    db.execute(
        "UPDATE facts SET body = CAST(replace(CAST(body AS TEXT), 'school-7', 'school-8') AS BLOB)"
        " WHERE sequence = ?",
        (sequence,),
    )
    assert outbox.chain_problem(db, life)


def test_a_head_that_is_not_the_last_fact_is_a_problem(journal: Journal) -> None:
    db, life = journal.writer.db, life_of(journal)
    db.execute("UPDATE lives SET head = head + 1")
    assert "its head says" in outbox.chain_problem(db, life_of(journal))
    db.execute("UPDATE lives SET head = ?, digest = 'x'", (life.head,))
    assert outbox.chain_problem(db, life_of(journal))


def test_facts_dropped_at_the_beginning_are_no_problem(journal: Journal) -> None:
    db = journal.writer.db
    for dropped in range(1, LENGTH):
        db.execute("DELETE FROM facts WHERE sequence <= ?", (dropped,))
        assert outbox.chain_problem(db, life_of(journal))  # Not without saying so.
        db.execute("UPDATE lives SET held_from = ?", (dropped + 1,))
        assert outbox.chain_problem(db, life_of(journal)) == ""


def test_epochs_are_kept_apart(journal: Journal) -> None:
    before = life_of(journal)
    journal.open_epoch(at(), why="restored_image", station=Station.TILL)
    with journal.record(at()) as tap:
        tap.add(facts.access(tap.stamp(at())))
    db = journal.writer.db
    old, new = outbox.lives(db, Stream.MAIN)
    assert (old, new.head, new.epoch != old.epoch) == (before, 2, True)
    for life in (old, new):
        piece = outbox.next_facts(db, life.life, 1, rows_max=100, bytes_max=10**6)
        assert len(piece) == life.head
        assert digest_of(piece[-1]) == life.digest
        head = outbox.stream_head(life)
        assert (head.epoch, head.head, head.digest) == (life.epoch, life.head, life.digest)
        assert (head.stream, head.held_from) == (Stream.MAIN, 1)
    assert outbox.lives(db, Stream.AGENT) == []


def test_digests_and_kinds_of_what_is_held(journal: Journal) -> None:
    db, life, stored = journal.writer.db, life_of(journal), bodies(journal)
    assert outbox.digest_at(db, life.life, 0) == ""
    for sequence, body in enumerate(stored, start=1):
        assert outbox.digest_at(db, life.life, sequence) == digest_of(body)
    assert outbox.digest_at(db, life.life, LENGTH + 1) is None
    assert outbox.kinds_between(db, life.life, 1, 3) == {"stream_opened": 1, "access": 2}
    assert outbox.kinds_between(db, life.life, 3, 2) == {}
