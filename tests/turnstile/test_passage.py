"""Goal: every grant ends in exactly one result, every turn of the arm is in the record once, and a
lane is driven for a bounded time by one grant at a time: the common ways through, by example.

Method: all run under a `Witness` that knows the promises and not the table. Every way through is in
`test_passage_all.py`. Time is an argument, so nothing waits.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.model import Direction, PassageResult
from edge.settings import (
    PULSE_MS_CEILING,
    PULSE_MS_MIN,
    WAIT_MS_CEILING,
)
from edge.settings import PULSE_MS_DEFAULT as PULSE_MS
from edge.settings import WAIT_MS_DEFAULT as WAIT_MS
from edge.turnstile import passage
from edge.turnstile.passage import (
    HELD_MS,
    LATE_MS,
    QUEUED_MAX,
    QUEUED_MS,
    Alarm,
    Fault,
    Fire,
    FireReset,
    Free,
    Grant,
    LetGo,
    Lockdown,
    Passage,
    PassageSettings,
    Pulse,
    Result,
    passage_problems,
)
from edge.turnstile.passage_table import TABLE, Move, State, Trigger, table_markdown
from tests.turnstile.witness import CLEAR, LANES, TURN, Witness, ended, granted

README = Path(passage.__file__).with_name("README.md")


def test_a_child_is_granted_and_passes() -> None:
    lane = Witness(LANES["tripod"])
    assert lane.give(granted("ana")) == (Pulse(ms=PULSE_MS),)
    lane.wait(1_500)
    assert lane.give(TURN) == (ended("ana", PassageResult.TAKEN),)
    lane.wait(300)
    assert lane.give(CLEAR) == ()
    assert lane.state is State.IDLE
    assert lane.due_ms is None


def test_a_child_that_does_not_go_is_not_taken_after_wait_and_grace() -> None:
    lane = Witness(LANES["tripod"])
    lane.give(granted("ana"))
    assert lane.wait(WAIT_MS + LATE_MS - 1) == ()
    assert lane.wait(1) == (ended("ana", PassageResult.NOT_TAKEN),)
    assert lane.state is State.IDLE


@pytest.mark.parametrize(
    ("after_ms", "result"),
    [
        (WAIT_MS - 1, ended("ana", PassageResult.TAKEN)),
        (WAIT_MS, ended("ana", PassageResult.TAKEN)),
        (WAIT_MS + LATE_MS - 1, ended("ana", PassageResult.TAKEN)),
        (WAIT_MS + LATE_MS, Result(result=PassageResult.FORCED)),
    ],
)
def test_a_turn_shortly_after_the_wait_is_the_childs_a_later_one_is_forced(
    after_ms: int, result: Result
) -> None:
    lane = Witness(LANES["tripod"])
    lane.give(granted("ana"))
    lane.wait(after_ms)
    assert result in lane.give(TURN)


def test_two_bodies_on_one_grant_and_the_second_is_forced() -> None:
    lane = Witness(LANES["tripod"])
    lane.give(granted("ana"))
    forced = (Result(result=PassageResult.FORCED), Alarm(what=PassageResult.FORCED))
    assert lane.give(TURN) == (ended("ana", PassageResult.TAKEN),)
    assert lane.give(TURN) == forced, "the way was never clear between them"
    lane.give(CLEAR)
    assert lane.give(TURN) == forced


def test_grants_queue_while_someone_passes_and_each_gets_a_drive_and_a_whole_wait() -> None:
    lane = Witness(LANES["tripod"])
    lane.give(granted("ana"))
    lane.wait(1_000)
    assert lane.give(granted("ben")) == ()
    lane.wait(500)
    assert lane.give(TURN) == (ended("ana", PassageResult.TAKEN),)
    assert lane.give(granted("cem")) == ()
    assert lane.give(CLEAR) == (Pulse(ms=PULSE_MS),)
    lane.wait(WAIT_MS - 1)
    assert lane.give(TURN) == (ended("ben", PassageResult.TAKEN, number=2),)
    assert lane.give(CLEAR) == (Pulse(ms=PULSE_MS),)
    assert lane.give(TURN) == (ended("cem", PassageResult.TAKEN, number=3),)


def test_a_full_queue_says_so_and_a_grant_it_cannot_take_ends_at_once() -> None:
    lane = Witness(LANES["tripod"])
    for number in range(1 + QUEUED_MAX):
        assert not lane.full
        lane.give(granted(f"child{number}"))
    assert lane.full
    last = 1 + QUEUED_MAX + 1
    assert lane.give(granted("late")) == (ended("late", PassageResult.NOT_TAKEN, number=last),)
    # One who is queued already takes the own place anew: no room is needed for that.
    assert lane.give(granted("child1")) == (ended("child1", PassageResult.NOT_TAKEN, number=2),)


def test_who_waited_too_long_in_the_queue_is_gone() -> None:
    lane = Witness(LANES["tripod"])
    lane.give(granted("ana"))
    lane.wait(4_000)
    lane.give(TURN)
    lane.give(granted("ben"))
    assert lane.wait(QUEUED_MS - 1) == ()
    assert lane.wait(1) == (
        ended("ben", PassageResult.NOT_TAKEN, number=2),
        Result(result=PassageResult.HELD),
        Alarm(what=PassageResult.HELD),
    )
    assert lane.give(CLEAR) == ()


def test_one_person_holds_one_grant() -> None:
    lane = Witness(LANES["tripod"])
    lane.give(granted("ana"))
    lane.wait(4_000)
    assert lane.give(granted("ana")) == (
        ended("ana", PassageResult.NOT_TAKEN),
        Pulse(ms=PULSE_MS),
    )
    lane.wait(WAIT_MS - 1)
    assert lane.give(TURN) == (ended("ana", PassageResult.TAKEN, number=2),)
    lane.give(CLEAR)
    assert Result(result=PassageResult.FORCED) in lane.give(TURN), "one card, one body"


def test_two_overrides_without_a_card_are_two_people() -> None:
    lane = Witness(LANES["tripod"])
    nobody = Grant(passage_id="", cardholder_id=None)
    lane.give(nobody)
    assert lane.give(nobody) == ()
    assert len(lane.open) == 2


def test_a_level_is_let_go_by_the_turn_or_ends_with_the_wait() -> None:
    lane = Witness(LANES["level"])
    assert lane.give(granted("ana")) == (Pulse(ms=WAIT_MS),)
    assert lane.give(TURN) == (LetGo(), ended("ana", PassageResult.TAKEN))
    lane.give(CLEAR)
    lane.give(granted("ben"))
    lane.wait(WAIT_MS)
    assert lane.driven_until_ms <= lane.at_ms


def test_a_lane_without_a_sensor_assumes_when_the_wait_is_over() -> None:
    lane = Witness(LANES["no sensor"])
    lane.give(granted("ana"))
    assert lane.wait(WAIT_MS) == (ended("ana", PassageResult.TAKEN, assumed=True),)


def test_a_lane_without_a_sensor_assumes_when_the_next_person_comes() -> None:
    lane = Witness(LANES["no sensor"])
    for number in range(1, 26):  # 25 people in a minute, one every 2.4 s, none waits.
        answers = lane.give(granted(f"child{number}"))
        assert answers[-1] == Pulse(ms=PULSE_MS)
        lane.wait(2_400)
    assert lane.at_ms == 60_000
    assert len(lane.open) == 1


def test_25_people_a_minute_pass_a_lane_with_a_sensor() -> None:
    lane = Witness(LANES["tripod"])
    for number in range(1, 26):
        assert lane.give(granted(f"child{number}")) == (Pulse(ms=PULSE_MS),)
        lane.wait(1_700)
        lane.give(TURN)
        lane.wait(500)
        lane.give(CLEAR)
        lane.wait(200)
    assert lane.at_ms == 60_000
    assert lane.open == {}


def test_an_arm_held_open_is_an_alarm_once_and_the_lane_goes_on() -> None:
    lane = Witness(LANES["tripod"])
    lane.give(granted("ana"))
    lane.give(TURN)
    assert lane.wait(HELD_MS - 1) == ()
    held = (Result(result=PassageResult.HELD), Alarm(what=PassageResult.HELD))
    assert lane.wait(1) == held
    assert lane.wait(10 * HELD_MS) == ()
    lane.give(CLEAR)
    assert lane.give(granted("ben")) == (Pulse(ms=PULSE_MS),)


def test_a_sensor_found_active_at_start_is_a_level_and_no_passage() -> None:
    lane = Witness(LANES["tripod"], sensor_active=True)
    assert lane.state is State.PASSING
    assert lane.give(granted("ana")) == ()
    assert lane.give(CLEAR) == (Pulse(ms=PULSE_MS),)


def test_a_lockdown_blocks_in_and_leaves_the_moving_body_its_grace() -> None:
    lane = Witness(LANES["level"])
    lane.give(granted("ana"))
    lane.give(granted("ben"))
    assert lane.give(Lockdown(on=True)) == (
        LetGo(),
        ended("ben", PassageResult.NOT_TAKEN, number=2),
    )
    lane.wait(LATE_MS - 1)
    assert lane.give(TURN) == (ended("ana", PassageResult.TAKEN),)
    lane.give(CLEAR)
    assert lane.state is State.BLOCKED
    assert lane.full
    assert lane.give(granted("cem")) == (ended("cem", PassageResult.NOT_TAKEN, number=3),)
    assert lane.give(Lockdown(on=False)) == ()
    assert lane.give(granted("cem")) == (Pulse(ms=WAIT_MS),)


def test_a_lockdown_never_blocks_out_but_a_fault_does() -> None:
    assert Passage(LANES["tripod out"], now_ms=0, lockdown=True).state is State.IDLE
    assert Passage(LANES["tripod"], now_ms=0, lockdown=True).state is State.BLOCKED
    lane = Witness(LANES["tripod out"])
    lane.give(Lockdown(on=True))
    assert lane.give(granted("ana")) == (Pulse(ms=PULSE_MS),)
    lane.give(Fault(on=True))
    lane.wait(LATE_MS)
    assert lane.state is State.BLOCKED


def test_a_block_has_two_causes_and_ends_when_both_are_gone() -> None:
    lane = Witness(LANES["tripod"])
    lane.give(Lockdown(on=True))
    lane.give(Fault(on=True))
    lane.give(Lockdown(on=False))
    assert lane.full, "still blocked"
    lane.give(Fault(on=False))
    assert lane.state is State.IDLE


def test_fire_frees_the_lane_until_the_alarm_is_clear_and_reset_in_this_order() -> None:
    lane = Witness(LANES["tripod"])
    lane.give(granted("ana"))
    lane.give(granted("ben"))
    assert lane.give(Fire(active=True)) == (
        Free(on=True),
        ended("ana", PassageResult.FIRE_RELEASE, assumed=True),
        ended("ben", PassageResult.FIRE_RELEASE, number=2, assumed=True),
    )
    assert lane.give(TURN) == (Result(result=PassageResult.FIRE_RELEASE),)
    assert lane.give(granted("cem")) == (
        ended("cem", PassageResult.FIRE_RELEASE, number=3, assumed=True),
    )
    assert lane.give(FireReset()) == (), "the alarm is still on"
    lane.wait(24 * 60 * 60 * 1_000)
    assert lane.give(Fire(active=False)) == ()
    lane.wait(24 * 60 * 60 * 1_000)
    assert lane.free, "nobody has reset it"
    assert lane.give(FireReset()) == (Free(on=False),)
    assert lane.state is State.PASSING, "the sensor is still active"


def test_a_fire_that_nobody_reset_outlives_a_restart() -> None:
    lane = Witness(LANES["tripod"], fire_unreset=True)
    assert lane.free
    assert lane.give(FireReset()) == (Free(on=False),)
    lane = Witness(LANES["tripod"])
    assert not lane.free


def test_a_lockdown_during_a_fire_waits_for_its_end() -> None:
    lane = Witness(LANES["tripod"])
    lane.give(Fire(active=True))
    lane.give(Lockdown(on=True))
    assert lane.free
    lane.give(Fire(active=False))
    lane.give(FireReset())
    assert lane.state is State.BLOCKED


def test_an_agent_that_was_away_opens_for_nobody_who_has_left() -> None:
    lane = Passage(LANES["tripod"], now_ms=0)
    lane.step(0, granted("ana"))
    lane.step(0, granted("ben", number=2))
    answers = lane.step(60_000)
    assert answers == (ended("ben", PassageResult.NOT_TAKEN, number=2),)
    assert lane.step(60_000 + LATE_MS) == (ended("ana", PassageResult.NOT_TAKEN),)


def test_an_edge_stamped_before_the_last_step_still_counts() -> None:
    lane = Passage(LANES["tripod"], now_ms=0)
    lane.step(1_000, granted("ana"))
    assert lane.step(999, TURN) == (ended("ana", PassageResult.TAKEN),)
    assert lane.due_ms == 1_000 + HELD_MS, "it counts as now"


@pytest.mark.parametrize(
    "wrong",
    [
        {"pulse_ms": PULSE_MS_MIN - 1},
        {"pulse_ms": PULSE_MS_CEILING + 1},
        {"wait_ms": 0},
        {"wait_ms": WAIT_MS_CEILING + 1},
        {"late_ms": 0},
        {"queued_max": -1},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_named(wrong: dict[str, int]) -> None:
    good = LANES["tripod"]
    assert passage_problems(good) == []
    bad = PassageSettings(**{"direction": Direction.IN, **wrong})  # type: ignore[arg-type]
    assert len(passage_problems(bad)) == 1


# ---------------------------------------------------------------------------------- the table


def test_the_table_says_what_happens_to_every_state_when_fire_breaks_out() -> None:
    for state in set(State) - {State.FIRE}:
        (row,) = [row for row in TABLE if (row.state, row.trigger) == (state, Trigger.FIRE)]
        assert row.move is State.FIRE
    leaving = [row for row in TABLE if row.state is State.FIRE and row.move is not Move.STAY]
    assert [row.trigger for row in leaving] == [Trigger.FIRE_OVER]


def test_the_readme_shows_the_table_that_runs() -> None:
    assert table_markdown() in README.read_text()
