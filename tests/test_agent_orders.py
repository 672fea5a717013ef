"""Goal: a lockdown outlives the process and keeps nobody inside; every order that edge carries out
is answered on disk before it is done.

Method: the real agent on real files, as in `test_agent.py`; the process is ended after each order
and put together anew from what the disk holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import logs
from edge.agent import ANSWER_STANDS_MS, IDENTIFY_EVERY_MS, IDENTIFY_MS, Agent
from edge.messages import AccessFact, OrderAnswer, OrderOutcome
from edge.model import AccessReason, DeviceFault, Outcome
from edge.offline_cache import standing
from edge.offline_cache.store import FileKind, Writer
from edge.readers.dialogue import Failure
from edge.readers.reader import ReadFailed, Signal
from edge.turnstile import officer
from tests.support.agent_bench import Bench, station
from tests.test_agent import give


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with station(tmp_path, people=20) as made:
        yield made
    logs.set_level("info")


def last_outcome(bench: Bench) -> OrderOutcome:
    answer, outcome = bench.facts()[-2:]
    assert isinstance(answer, OrderAnswer) and isinstance(outcome, OrderOutcome)
    assert answer.accepted and answer.counter == outcome.counter
    return outcome


def locked(bench: Bench) -> bool:
    return bench.agent.lockdown


def again(bench: Bench) -> Bench:
    """The process ended and was started again on the same files."""
    agent = Agent(bench.agent.parts, bench.clock.moment())
    made = Bench(agent, bench.reader, bench.clock, bench.time, bench.rings)
    made.step(1_000)
    return made


def test_a_lockdown_lets_nobody_in_until_it_is_lifted(bench: Bench) -> None:
    give(bench, 7, order="lockdown_on", access_point=None)
    assert last_outcome(bench).done
    assert locked(bench) and bench.gate.passage.state == "blocked"
    bench.tap(3)
    denied = bench.facts()[-1]
    assert isinstance(denied, AccessFact)
    assert (denied.outcome, denied.reason) == (Outcome.DENY, AccessReason.LOCKDOWN)
    assert not bench.gate.relay_active
    screen = bench.gate.screen(bench.clock.moment())
    assert screen.state == "refused" and screen.text
    bench.step(officer.SHOWN_MS + 3_000)
    assert bench.gate.screen(bench.clock.moment()) == officer.LOCKED_DOWN
    give(bench, 8, order="lockdown_off", access_point=None)
    assert last_outcome(bench).done and not locked(bench)
    bench.step(4_000)
    bench.tap(3)
    assert bench.gate.relay_active


def test_a_lockdown_outlives_the_process(bench: Bench) -> None:
    give(bench, 7, order="lockdown_on", access_point=None)
    after = again(bench)
    assert after.agent.lockdown and after.gate.lockdown
    assert after.gate.passage.state == "blocked"
    after.tap(3)
    denied = after.facts()[-1]
    assert isinstance(denied, AccessFact) and denied.reason is AccessReason.LOCKDOWN
    give(after, 8, order="lockdown_off", access_point=None)
    third = again(after)
    assert not third.agent.lockdown
    third.step(4_000)
    third.tap(4)
    assert third.gate.relay_active


def test_no_order_opens_a_lane_that_is_locked_down(bench: Bench) -> None:
    give(bench, 7, order="lockdown_on", access_point=None)
    give(bench, 8)
    outcome = last_outcome(bench)
    assert (outcome.done, outcome.why) == (False, "lockdown") and not bench.gate.relay_active


def test_a_lockdown_and_its_fact_are_on_disk_together_or_not_at_all(bench: Bench) -> None:
    record, calls = bench.agent.parts.journal.record, []

    def refuse_second(*args: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise DeviceFault("journal.db: disk full")
        return record(*args, **more)  # type: ignore[arg-type]

    bench.agent.parts.journal.record = refuse_second  # type: ignore[assignment,method-assign]
    give(bench, 7, order="lockdown_on", access_point=None)
    bench.agent.parts.journal.record = record  # type: ignore[method-assign]
    assert not bench.agent.lockdown
    assert not standing.lockdown(bench.agent.parts.journal.writer.db)
    after = again(bench)
    outcome = after.facts()[-1]
    assert isinstance(outcome, OrderOutcome) and (outcome.done, outcome.why) == (False, "restarted")
    assert not after.agent.lockdown, "not acted on later"


def test_the_readers_show_which_device_it_is(bench: Bench) -> None:
    shown: list[Signal] = []
    bench.reader.signal = shown.append  # type: ignore[method-assign,assignment]
    give(bench, 7, order="identify", access_point=None)
    assert last_outcome(bench).done and shown == [Signal.ASK]
    beats = IDENTIFY_MS // IDENTIFY_EVERY_MS
    for _ in range(2 * beats):
        due_ms = bench.agent.due_ms()
        if len(shown) < beats:
            assert due_ms is not None and due_ms <= bench.clock.mono_ms() + IDENTIFY_EVERY_MS
        bench.step(IDENTIFY_EVERY_MS)
    assert shown == [Signal.ASK] * beats, "for three seconds, and then no more"


def test_a_persons_answer_goes_before_the_search_for_a_device(bench: Bench) -> None:
    shown: list[Signal] = []
    bench.reader.signal = shown.append  # type: ignore[method-assign,assignment]
    give(bench, 7, order="identify", access_point=None)
    bench.tap(3)
    bench.step(IDENTIFY_EVERY_MS)
    assert shown == [Signal.ASK, Signal.GRANTED]
    bench.step(ANSWER_STANDS_MS)
    assert shown == [Signal.ASK, Signal.GRANTED, Signal.ASK]


def test_a_card_that_named_nobody_is_answered_at_its_reader_too(bench: Bench) -> None:
    shown: list[Signal] = []
    bench.reader.signal = shown.append  # type: ignore[method-assign,assignment]
    bench.reader.waiting.append(
        ReadFailed(at_ms=bench.clock.mono_ms(), failure=Failure.TWO_CARDS, reader_id="r1")
    )
    bench.step()
    assert shown == [Signal.ASK]


def test_a_restart_is_told_as_done_before_the_process_ends(bench: Bench) -> None:
    give(bench, 7, order="restart", access_point=None, process="edge")
    assert last_outcome(bench).done and bench.agent.stopping
    assert not again(bench).agent.stopping


def test_a_log_level_by_order_holds_for_its_minutes_or_until_the_start(bench: Bench) -> None:
    level = {"order": "set_log_level", "access_point": None, "process": "edge", "level": "debug"}
    for counter, minutes in ((7, 2), (8, 0)):
        give(bench, counter, **level, minutes=minutes)
        assert last_outcome(bench).done
        bench.step(119_000)
        assert logs._level == 10
        bench.step(2_000)
        assert logs._level == (40 if minutes else 10), "device.toml says error"
    again(bench)
    assert logs._level == 40


def test_a_log_level_the_city_has_set_goes_before_the_files(bench: Bench) -> None:
    writer = Writer(bench.agent.parts.settings.sync_path, FileKind.SYNC)
    for level, number in (("debug", 10), ("", 40)):
        with writer.transaction() as db:
            standing.set_configuration(db, b"{}", log_level=level)
        bench.step(1_000)
        assert logs._level == number
    writer.close()


def test_what_sync_carries_out_is_not_answered_here(bench: Bench) -> None:
    before = len(bench.facts())
    give(bench, 7, order="rotate_key", access_point=None)
    assert len(bench.facts()) == before
    give(bench, 8)
    answer, outcome = bench.facts()[-2:]
    assert isinstance(answer, OrderAnswer) and answer.counter == 8
    assert isinstance(outcome, OrderOutcome) and outcome.done
