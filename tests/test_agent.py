"""Goal: the shell keeps the order of a tap: look up, decide, record, and only then act.

Method: the real agent on real files with a handful of people; its reader is in our hand, its lines
are mock pins, and time is a number that the test moves. What was on disk is read back as facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.agent import Agent
from edge.messages import (
    AccessFact,
    Order,
    OrderAnswer,
    OrderOutcome,
    PassageFact,
    Stream,
    StreamOpened,
    Unrecorded,
    encode_json,
)
from edge.model import AccessReason, DeviceFault, Direction, Outcome, PassageResult
from edge.offline_cache import marks, outbox
from edge.offline_cache.store import FileKind, Writer
from edge.readers.reader import LinkDown
from hil.bench.station import DEVICE
from tests.support.agent_bench import UTC_MS, Bench, station


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with station(tmp_path, people=20) as made:
        yield made


def test_a_tap_is_on_disk_before_the_relay_moves(bench: Bench) -> None:
    heads: list[int] = []
    drive = bench.gate._lines.activate

    def activate(line_id: str, *, ms: int | None) -> None:
        db = bench.agent.parts.journal.writer.db
        assert not db.in_transaction, "the relay moves after the commit"
        heads.append(outbox.lives(db, Stream.MAIN)[-1].head)
        drive(line_id, ms=ms)

    bench.gate._lines.activate = activate
    bench.tap(3)
    opened, access = bench.facts()
    assert isinstance(opened, StreamOpened) and isinstance(access, AccessFact)
    assert heads == [access.sequence]
    assert (access.outcome, access.reason) == (Outcome.GRANT, AccessReason.AUTHORIZED)
    assert access.direction is Direction.IN and access.cardholder == "c00000003"
    assert bench.gate.relay_active and bench.gate.screen(bench.clock.moment()).state == "granted"


def test_granted_and_taken_are_two_facts_under_one_passage(bench: Bench) -> None:
    bench.tap(3)
    bench.walk()
    _, access, passage = bench.facts()
    assert isinstance(passage, PassageFact)
    assert passage.result is PassageResult.TAKEN and not passage.assumed
    assert passage.passage == f"{access.epoch}.{access.sequence}"
    assert passage.cardholder == "c00000003"


def test_who_does_not_walk_was_not_there(bench: Bench) -> None:
    bench.tap(3)
    for _ in range(8):
        bench.step(1_000)
    *_, passage = bench.facts()
    assert isinstance(passage, PassageFact) and passage.result is PassageResult.NOT_TAKEN


def test_a_stranger_is_told_why_and_a_body_without_a_grant_is_forced(bench: Bench) -> None:
    bench.tap(0, uid=bytes.fromhex("04ffffffffffff"))
    assert not bench.gate.relay_active
    screen = bench.gate.screen(bench.clock.moment())
    assert screen.state == "refused" and screen.text
    bench.walk()
    *_, denied, forced = bench.facts()
    assert isinstance(denied, AccessFact) and denied.reason is AccessReason.UNKNOWN_CREDENTIAL
    assert isinstance(forced, PassageFact) and forced.result is PassageResult.FORCED


def test_a_read_that_waited_opens_nothing(bench: Bench) -> None:
    bench.tap(3, age_ms=2_001)
    *_, stale = bench.facts()
    assert isinstance(stale, AccessFact) and stale.reason is AccessReason.STALE_READ
    assert not bench.gate.relay_active
    bench.tap(3)  # And a fresh tap right after it does.
    assert bench.gate.relay_active


def test_the_same_card_again_within_three_seconds_is_no_new_decision(bench: Bench) -> None:
    bench.tap(3)
    bench.step(2_900)
    bench.tap(3)
    assert len(bench.facts()) == 2
    assert bench.gate.screen(bench.clock.moment()).state == "granted"
    bench.walk()
    bench.tap(3)
    assert bench.gate.screen(bench.clock.moment()).state == "taken", "the lane is shut by now"
    bench.step(200)
    bench.tap(3)
    assert len([f for f in bench.facts() if isinstance(f, AccessFact)]) == 2


def test_a_disk_that_refuses_stops_no_tap_and_is_declared_when_it_is_back(bench: Bench) -> None:
    record = bench.agent.parts.journal.record

    def refuse(*_: object, **__: object) -> None:
        raise DeviceFault("journal.db: disk full")

    bench.agent.parts.journal.record = refuse  # type: ignore[assignment,method-assign]
    bench.tap(3)
    assert bench.gate.relay_active, "a child is not locked out by a disk"
    bench.walk()
    assert bench.gate.unwritten.counts == {"access": 1, "passage": 1}
    bench.agent.parts.journal.record = record  # type: ignore[method-assign]
    bench.step(1)
    *_, declared = bench.facts()
    assert isinstance(declared, Unrecorded) and declared.counts == {"access": 1, "passage": 1}
    assert bench.gate.unwritten.counts == {}


def test_a_line_that_does_not_move_says_so_and_lets_nobody_pass(bench: Bench) -> None:
    lines = bench.gate._lines
    activate = lines.activate

    def refuse(*_: object, **__: object) -> None:
        raise DeviceFault("line north-in.relay: no such pin")

    lines.activate = refuse
    lines.problems = lambda: ("line north-in.relay: no such pin",)
    bench.tap(3)
    assert bench.gate.screen(bench.clock.moment()).word == "НЕ РАБОТАЕТ"
    *_, last = bench.facts()
    assert isinstance(last, PassageFact) or bench.gate.passage.state == "late"
    lines.activate = activate
    del lines.problems
    bench.step(7_000)
    bench.tap(4)
    assert bench.gate.relay_active and not bench.gate.out_of_order


def test_the_screen_belongs_to_the_person_the_lane_is_open_for(bench: Bench) -> None:
    def shown() -> tuple[str, str]:
        screen = bench.gate.screen(bench.clock.moment())
        return screen.state, screen.passage

    bench.tap(3)
    first = shown()
    bench.step(500)
    bench.tap(4)  # The next in line, while the first still walks.
    assert shown() == first and first[0] == "granted"
    bench.agent.move("north-in.rotation", True)
    bench.step(300)
    assert shown() == ("taken", first[1])
    bench.agent.move("north-in.rotation", False)
    bench.step(300)
    second = shown()
    assert second[0] == "granted" and second[1] != first[1]
    bench.walk()
    assert shown() == ("taken", second[1])
    assert bench.gate._views == {}, "nothing is kept of passages that ended"


def test_who_comes_when_the_queue_is_full_is_asked_to_tap_again(bench: Bench) -> None:
    for number in range(5):  # One passes, three wait: the fifth is one too many.
        bench.tap(number)
        bench.step(100)
    screen = bench.gate.screen(bench.clock.moment())
    assert screen.word == "ПОДОЖДИТЕ" and screen.text
    for _ in range(4):
        bench.walk()
        bench.step(100)
    bench.tap(4)
    granted = [f for f in bench.facts() if isinstance(f, AccessFact)]
    assert len(granted) == 6, "the second tap is a new decision"
    assert bench.gate.relay_active and bench.gate.screen(bench.clock.moment()).state == "granted"
    bench.walk()
    assert bench.gate._views == {}


def test_an_arm_that_stays_turned_takes_the_lane_out_of_service(bench: Bench) -> None:
    bench.tap(3)
    bench.agent.move("north-in.rotation", True)
    bench.step(30_000)
    bench.step(30_000)
    screen = bench.gate.screen(bench.clock.moment())
    assert screen.state == "down" and "охраннику" in screen.text
    bench.agent.move("north-in.rotation", False)
    bench.step(1_000)
    assert bench.gate.ready


def test_a_grant_whose_agent_ended_gets_its_end(tmp_path: Path) -> None:
    with station(tmp_path, people=20) as bench:
        bench.tap(3)
        again = Agent(bench.agent.parts, bench.clock.moment())  # As after a kill.
        *_, access, passage = bench.facts()
        assert isinstance(access, AccessFact) and isinstance(passage, PassageFact)
        assert passage.result is PassageResult.UNKNOWN
        assert passage.passage == f"{access.epoch}.{access.sequence}"
        Agent(again.parts, bench.clock.moment())
        assert len(bench.facts()) == 3, "ended once"


def test_while_no_key_is_held_two_people_are_not_one(bench: Bench) -> None:
    bench.agent.looking.keys.clear()
    bench.tap(3)
    bench.step(100)
    bench.tap(4)
    assert len([f for f in bench.facts() if isinstance(f, AccessFact)]) == 2


def test_sync_is_rung_after_a_commit_and_not_for_nothing(bench: Bench) -> None:
    bench.rings.clear()
    bench.step(10)
    assert bench.rings == []
    bench.tap(3)
    assert bench.rings == [2]


def test_a_reader_that_goes_is_on_the_screen(bench: Bench) -> None:
    bench.reader.waiting.append(LinkDown(reader_id="r1", reason="unplugged"))
    bench.step(2_000)
    bench.step(2_000)
    assert bench.gate.screen(bench.clock.moment()).state == "down"


# ------------------------------------------------------------------------------ orders


def give(bench: Bench, counter: int, **changes: Any) -> None:
    now_ms = bench.clock.moment().wall_ms
    fields: dict[str, Any] = {
        "device": DEVICE,
        "counter": counter,
        "order": "open_once",
        "not_before_utc_ms": now_ms - 1_000,
        "not_after_utc_ms": now_ms + 5_000,
        "access_point": "north-in",
    }
    order = Order(**(fields | changes))
    writer = Writer(bench.agent.parts.settings.sync_path, FileKind.SYNC)
    assert marks.take_order(writer, counter, encode_json(order), bench.clock.moment()) == ""
    writer.close()
    bench.step(1)


def test_an_order_is_answered_then_done(bench: Bench) -> None:
    give(bench, 7)
    _, answer, outcome = bench.facts()
    assert isinstance(answer, OrderAnswer) and answer.accepted and answer.counter == 7
    assert isinstance(outcome, OrderOutcome) and outcome.done
    assert bench.gate.relay_active
    bench.walk()
    *_, passage = bench.facts()
    assert isinstance(passage, PassageFact)
    assert passage.passage == f"{answer.epoch}.{answer.sequence}"
    bench.step(1_000)
    assert len(bench.facts()) == 4, "answered once"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"not_after_utc_ms": UTC_MS}, "late"),
        ({"not_before_utc_ms": UTC_MS * 2, "not_after_utc_ms": UTC_MS * 2 + 1}, "early"),
        ({"access_point": "south-in"}, "not_here"),
        ({"order": "explode"}, "unknown_order"),
    ],
)
def test_an_order_that_cannot_be_followed_is_refused_with_the_reason(
    bench: Bench, changes: dict[str, Any], why: str
) -> None:
    give(bench, 7, **changes)
    *_, answer = bench.facts()
    assert isinstance(answer, OrderAnswer) and not answer.accepted and answer.why == why
    assert not bench.gate.relay_active


def test_an_order_accepted_before_the_process_ended_is_not_acted_on(tmp_path: Path) -> None:
    with station(tmp_path, people=20) as bench:

        def killed(*_: object) -> bool:
            raise KeyboardInterrupt

        bench.gate.open_once = killed
        with pytest.raises(KeyboardInterrupt):
            give(bench, 7)
        assert isinstance(bench.facts()[-1], OrderAnswer)
        parts = bench.agent.parts
        again = Agent(parts, bench.clock.moment())
        *_, answer, outcome, passage = bench.facts()
        assert isinstance(outcome, OrderOutcome)
        assert isinstance(passage, PassageFact)
        assert (passage.result, passage.passage) == ("unknown", f"{answer.epoch}.{answer.sequence}")
        assert (passage.zone, passage.direction, passage.cardholder) == ("school", "in", None)
        assert (outcome.done, outcome.why, outcome.counter) == (False, "restarted", 7)
        again.step(bench.clock.moment())
        assert not again.gates["north-in"].relay_active


def test_an_order_that_the_lane_would_not_take_is_no_grant_without_an_end(tmp_path: Path) -> None:
    with station(tmp_path, people=20) as bench:
        bench.agent.lock_down(True, bench.clock.moment())
        give(bench, 7)
        *_, outcome = bench.facts()
        assert isinstance(outcome, OrderOutcome) and (outcome.done, outcome.why) == (
            False,
            "lockdown",
        )
        Agent(bench.agent.parts, bench.clock.moment())
        assert bench.facts()[-1] == outcome


def test_a_lane_killed_after_an_order_opened_it_says_once_that_nobody_knows(
    tmp_path: Path,
) -> None:
    with station(tmp_path, people=20) as bench:
        give(bench, 7)
        assert bench.gate.relay_active
        for _ in range(2):  # Killed, and killed again.
            Agent(bench.agent.parts, bench.clock.moment())
        unknown = [fact for fact in bench.facts() if isinstance(fact, PassageFact)]
        assert [fact.result for fact in unknown] == ["unknown"]
