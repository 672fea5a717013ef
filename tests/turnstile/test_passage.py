"""Goal: every grant ends in exactly one result, every turn of the arm is in the record once, and a
lane is driven for a bounded time by one grant at a time, whatever happens in whatever order.

Method: the common ways through by example; then a small world exhausted (every sequence of three
events out of thirteen, from seven beginnings, on each kind of lane), which must reach every row of
the table; then long random sequences with a seed. All of them run under one `Witness` that knows
the promises and not the table. Time is an argument, so nothing waits.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model import Direction, PassageResult
from edge.settings import (
    PULSE_MS_CEILING,
    PULSE_MS_MIN,
    WAIT_MS_CEILING,
    Drive,
)
from edge.settings import PULSE_MS_DEFAULT as PULSE_MS
from edge.settings import WAIT_MS_DEFAULT as WAIT_MS
from edge.turnstile import passage
from edge.turnstile.passage import (
    DRIVE_MS_MAX,
    HELD_MS,
    LATE_MS,
    QUEUED_MAX,
    QUEUED_MS,
    Alarm,
    Answer,
    Event,
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
    Rotated,
    passage_problems,
)
from edge.turnstile.passage_table import REST, TABLE, Move, State, Trigger, table_markdown

README = Path(passage.__file__).with_name("README.md")
TURN, CLEAR = Rotated(active=True), Rotated(active=False)
LANES = {
    "tripod": PassageSettings(direction=Direction.IN),
    "tripod out": PassageSettings(direction=Direction.OUT),
    "level": PassageSettings(direction=Direction.IN, drive=Drive.LEVEL),
    "no sensor": PassageSettings(direction=Direction.IN, sensor=False),
    "no sensor, level": PassageSettings(direction=Direction.IN, sensor=False, drive=Drive.LEVEL),
    "no queue": PassageSettings(direction=Direction.IN, queued_max=0),
}


def granted(who: str, *, number: int = 1) -> Grant:
    return Grant(passage_id=f"e1.{number}", cardholder_id=who)


def ended(who: str, result: PassageResult, *, number: int = 1, assumed: bool = False) -> Result:
    return Result(result=result, passage_id=f"e1.{number}", cardholder_id=who, assumed=assumed)


class Witness(Passage):
    """A lane under watch: every step is checked against what was promised."""

    def __init__(
        self, lane: PassageSettings, *, fire_unreset: bool = False, sensor_active: bool = False
    ) -> None:
        self.rows: set[tuple[State, Trigger]] = set()
        self.rests: set[State] = set()
        super().__init__(lane, now_ms=0, fire_unreset=fire_unreset, sensor_active=sensor_active)
        self.lane = lane
        self.at_ms = 0
        self.open: dict[str, tuple[Grant, int]] = {}  # Grants without a result, and since when.
        self.turns = 0
        self.seen_turns = 0
        self.driven_until_ms = 0
        self.number = 0

    def _fire(self, trigger: Trigger) -> None:
        self.rows.add((self.state, trigger))
        super()._fire(trigger)

    def _rest(self) -> None:
        super()._rest()
        self.rests.add(self.state)

    def give(self, event: Event) -> tuple[Answer, ...]:
        if isinstance(event, Grant):
            self.number += 1
            event = replace(event, passage_id=f"e1.{self.number}")
            self.open[event.passage_id] = (event, self.at_ms)
        if event == TURN:
            self.turns += 1
        answers = self.step(self.at_ms, event)
        self.check(answers, event)
        return answers

    def wait(self, ms: int) -> tuple[Answer, ...]:
        """Let time pass, stepping whenever the machine asks for it and no oftener."""
        end_ms = self.at_ms + ms
        answers: list[Answer] = []
        while self.due_ms is not None and self.due_ms <= end_ms:
            assert self.due_ms > self.at_ms, "it asked for a moment that is over"
            self.at_ms = self.due_ms
            step = self.step(self.at_ms)
            self.check(step, None)
            answers += step
        self.at_ms = end_ms
        assert self.step(self.at_ms) == (), "nothing was due"
        return tuple(answers)

    def wait_until_due(self) -> tuple[Answer, ...]:
        return self.wait(1_000 if self.due_ms is None else self.due_ms - self.at_ms)

    def check(self, answers: tuple[Answer, ...], event: Event | None) -> None:
        for place, answer in enumerate(answers):
            before = answers[place - 1] if place else None
            match answer:
                case Pulse(ms=ms):
                    assert self.at_ms >= self.driven_until_ms, "two drives at once"
                    assert 0 < ms == self.lane.drive_ms <= DRIVE_MS_MAX
                    self.driven_until_ms = self.at_ms + ms
                case LetGo():
                    assert self.at_ms < self.driven_until_ms, "nothing to let go"
                    self.driven_until_ms = self.at_ms
                case Result():
                    self.check_result(answer, event)
                case Alarm(what=what):
                    assert before == Result(result=what)
                case Free(on=on):
                    assert on is self.free
        assert self.turns == self.seen_turns, "a turn of the arm is in the record once"
        if self.state in (State.BLOCKED, State.FIRE, State.IDLE):
            assert self.open == {}, "nobody is left waiting for a lane at rest"
        waited_max_ms = QUEUED_MS + WAIT_MS + LATE_MS
        for _, since_ms in self.open.values():
            assert self.at_ms - since_ms < waited_max_ms
        assert len(self.open) <= 1 + self.lane.queued_max

    def check_result(self, result: Result, event: Event | None) -> None:
        kind = result.result
        if result.passage_id is None:
            assert kind not in (PassageResult.TAKEN, PassageResult.NOT_TAKEN)
            assert result.cardholder_id is None
            assert not result.assumed
        else:
            assert kind not in (PassageResult.FORCED, PassageResult.HELD)
            grant, _ = self.open.pop(result.passage_id)  # Fails when it has ended before.
            assert result.cardholder_id == grant.cardholder_id
        if event == TURN:
            self.seen_turns += kind is not PassageResult.HELD
        elif kind is PassageResult.TAKEN:
            assert result.assumed is not self.lane.sensor
            assert not self.lane.sensor, "taken is what the sensor saw"


# --------------------------------------------------------------------------------- examples


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


# -------------------------------------------------------------------------- all, then many

WAIT = None  # Until the machine asks to be stepped.
EVENTS: tuple[Event | None, ...] = (
    WAIT,
    granted("ana"),
    granted("ben"),
    granted("cem"),
    TURN,
    CLEAR,
    Lockdown(on=True),
    Lockdown(on=False),
    Fault(on=True),
    Fault(on=False),
    Fire(active=True),
    Fire(active=False),
    FireReset(),
)
SMALL = {name: replace(lane, queued_max=min(1, lane.queued_max)) for name, lane in LANES.items()}
ENDINGS = tuple(product(EVENTS, repeat=3))
BEGINNINGS: tuple[tuple[Event | None, ...], ...] = (
    (),
    (granted("ana"),),
    (granted("ana"), WAIT),
    (TURN,),
    (TURN, WAIT),
    (Lockdown(on=True),),
    (Fire(active=True),),
)


def run(lane: Witness, events: tuple[Event | None, ...]) -> None:
    for event in events:
        if event is WAIT:
            lane.wait_until_due()
        elif lane.lane.sensor or not isinstance(event, Rotated):
            lane.give(event)


@pytest.mark.slow
def test_every_short_sequence_keeps_the_promises_and_reaches_every_row() -> None:
    rows: set[tuple[State, Trigger]] = set()
    rests: set[State] = set()
    for settings_of_lane in SMALL.values():
        for beginning, events in product(BEGINNINGS, ENDINGS):
            lane = Witness(settings_of_lane)
            run(lane, beginning + events)
            rows |= lane.rows
            rests |= lane.rests
    assert rows == {(row.state, row.trigger) for row in TABLE}
    assert rests == {state for _, state, _ in REST}


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.sampled_from(sorted(LANES)),
    st.lists(
        st.one_of(
            st.sampled_from(EVENTS[1:]),
            st.sampled_from(EVENTS[1:6]),
            st.integers(0, 12_000),
        ),
        max_size=60,
    ),
)
def test_long_sequences_keep_the_promises_and_end_at_rest(
    name: str, events: list[Event | int]
) -> None:
    lane = Witness(LANES[name])
    for event in events:
        if isinstance(event, int):
            lane.wait(event)
        else:
            run(lane, (event,))
    run(lane, (CLEAR,))
    lane.wait(10 * (WAIT_MS + LATE_MS + QUEUED_MS))
    assert lane.open == {}
    assert lane.due_ms is None
    assert lane.state in (State.IDLE, State.BLOCKED, State.FIRE)


# ---------------------------------------------------------------------------------- the table


def test_the_table_says_what_happens_to_every_state_when_fire_breaks_out() -> None:
    for state in set(State) - {State.FIRE}:
        (row,) = [row for row in TABLE if (row.state, row.trigger) == (state, Trigger.FIRE)]
        assert row.move is State.FIRE
    leaving = [row for row in TABLE if row.state is State.FIRE and row.move is not Move.STAY]
    assert [row.trigger for row in leaving] == [Trigger.FIRE_OVER]


def test_the_readme_shows_the_table_that_runs() -> None:
    assert table_markdown() in README.read_text()
