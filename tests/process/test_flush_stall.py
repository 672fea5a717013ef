"""Goal: a disk that takes two seconds over one flush, in the rush, loses nothing, answers
everybody, and lets nobody in on a read that has grown old meanwhile.

Method: the real agent on real files; its commit stalls by two seconds of the time that the test
moves, while cards go on being shown. Then a process of its own whose real flushes strace holds up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import AccessFact
from edge.model import AccessReason, Outcome, UidKind
from edge.readers.reader import CardRead
from edge.turnstile.decision import PRESENTATION_AGE_MS_MAX
from hil.bench.station import uid_of
from tests.process.test_disk_faults import assert_nothing_lost, missing, need, run_child
from tests.support.agent_bench import Bench, station

STALL_MS = 2_000
EVERY_MS = 700  # Our choice: a rush, 85 cards a minute at one reader.
CARDS = 40
STALLED = (5, 17, 18, 30)  # Which commits; two in a row too.


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with station(tmp_path, people=200) as made:
        yield made


def show(bench: Bench, number: int) -> None:
    """A card at the reader now; edge looks when it comes to it."""
    bench.reader.waiting.append(
        CardRead(
            uid=uid_of(number),
            at_ms=bench.time[0],
            kind=UidKind.ISO14443,
            tier=1,
            reader_id="r1",
        )
    )


def test_a_flush_that_stalls_two_seconds_in_the_rush(bench: Bench) -> None:
    """Whoever is shown while it stalls is decided by how long ago that was, each by their own."""
    shown_ms: dict[str, int] = {}
    number = commits = 0

    def on_commit(statement: str) -> None:
        """Time passes in the flush, and the queue at the reader does not stand still."""
        nonlocal commits
        if statement != "COMMIT":
            return
        commits += 1
        if commits not in STALLED:
            return
        until_ms = bench.time[0] + STALL_MS + 500
        while bench.time[0] < until_ms:
            bench.time[0] += EVERY_MS
            next_card()

    def next_card() -> None:
        nonlocal number
        number += 1
        shown_ms[f"c{number:08d}"] = bench.time[0]
        show(bench, number)

    bench.agent.parts.journal.writer.db.set_trace_callback(on_commit)
    while number < CARDS:
        next_card()
        bench.step()
        bench.walk()
        bench.step(EVERY_MS)
    for _ in range(10):
        bench.step(EVERY_MS)
    bench.agent.parts.journal.writer.db.set_trace_callback(None)

    assert commits > max(STALLED)
    decided = [fact for fact in bench.facts() if isinstance(fact, AccessFact)]
    assert [fact.cardholder for fact in decided if fact.cardholder] == [
        name for name in shown_ms if name in {fact.cardholder for fact in decided}
    ], "in the order they came"
    assert len(decided) == number, "everybody is on record, chain and all"
    stale = [fact for fact in decided if fact.reason is AccessReason.STALE_READ]
    assert stale, "somebody waited too long"
    for fact in decided:
        waited_ms = fact.mono_ms - _shown(fact, decided, list(shown_ms.values()))
        assert fact.read_age_ms == waited_ms, "by the clock at its own decision"
        if waited_ms > PRESENTATION_AGE_MS_MAX:
            assert (fact.outcome, fact.reason) == (Outcome.DENY, AccessReason.STALE_READ)
        else:
            assert fact.outcome is Outcome.GRANT
    assert decided[-1].outcome is Outcome.GRANT, "and it goes on"


def _shown(fact: AccessFact, decided: list[AccessFact], times: list[int]) -> int:
    return times[decided.index(fact)]


def test_who_waited_too_long_is_asked_kindly_to_tap_again(bench: Bench) -> None:
    bench.tap(3, age_ms=STALL_MS + 1)
    screen = bench.screen()
    assert screen["colour"] != "green" and screen["reason"] == "stale_read"
    assert screen["text"], "why, and what to do"
    bench.tap(3)
    assert bench.screen()["colour"] == "green"


@pytest.mark.process
@pytest.mark.slow
def test_real_flushes_that_stall_lose_nothing(tmp_path: Path) -> None:
    """strace holds every seventh flush of a recording process for two seconds."""
    need(missing("strace"))
    inject = ("-e", f"inject=fdatasync:delay_exit={STALL_MS * 1_000}:when=6+7")
    began_s = time.monotonic()
    lines = run_child(tmp_path / "run", "-e", "trace=fdatasync", *inject)
    assert time.monotonic() - began_s > STALL_MS / 1_000, "none was held up"
    assert "no_money 0" in lines and not any(line.startswith("refused") for line in lines)
    assert_nothing_lost(tmp_path / "run", lines)
