"""Kinds of lane, and one under watch: every step of it is checked against what was promised."""

from __future__ import annotations

from dataclasses import replace

from edge.model import Direction, PassageResult
from edge.settings import WAIT_MS_DEFAULT as WAIT_MS
from edge.settings import (
    Drive,
)
from edge.turnstile.passage import (
    DRIVE_MS_MAX,
    LATE_MS,
    QUEUED_MS,
    Alarm,
    Answer,
    Event,
    Free,
    Grant,
    LetGo,
    Passage,
    PassageSettings,
    Pulse,
    Result,
    Rotated,
)
from edge.turnstile.passage_table import State, Trigger

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
