"""Passage: what becomes of a grant in one direction of a lane. A grant is not a passage.

Pure: runs the state table of `passage_table.py`, with time and events passed in.
`Passage.step(now_ms, event)` gives answers (open the lane, this is what became of that grant,
raise an alarm) and the shell carries them out in order. A gate used both ways has two machines,
so the other direction stays usable.

Promised to the record: every grant ends in exactly one result, and nothing else ends in one.

Decided here, because a lane has to decide it:

- A body that turns the arm within `late_ms` after the wait ended is *taken*: the mechanism let it
  through and it is the child we opened for. The record stays honest by its times: the passage's
  fact carries the moment of the turn.
- A lane without a sensor cannot know. A grant there is *taken, assumed* when the wait is over, or
  when the next person is granted, whichever is first: so 25 people a minute are not held up by
  5 seconds each. Only if the same person is granted again has it clearly not passed.
- One person holds one grant: a new one ends its older one as *not taken*, or a card tapped twice
  would open for two.
- Fire frees the lane. A card shown meanwhile, or granted and not yet seen through, ends as
  *fire_release, assumed*; every turn of the arm is a *fire_release* of nobody in particular.
- A lockdown leaves out the direction *out*. A grant already running when it comes gets `late_ms`
  for the body that is moving; then the lane is blocked.

Left to others: who is granted (`decision.py`), the wires (`relay.py`), facts and screens
(`agent.py`), which also polls lines before it steps, so that a turn comes before a timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge.model import Direction, PassageResult
from edge.settings import (
    PULSE_MS_CEILING,
    PULSE_MS_DEFAULT,
    PULSE_MS_MIN,
    WAIT_MS_CEILING,
    WAIT_MS_DEFAULT,
    Drive,
)
from edge.turnstile.passage_table import REST, ROWS, Action, Move, State, Trigger

# PERCo's manuals (T-5, TB-1, TTR-04CW, RTD-03S) say what edge/settings.py keeps: a command of at
# least 100 ms, and a passage waiting time of 5 s.
DRIVE_MS_MAX = max(PULSE_MS_CEILING, WAIT_MS_CEILING)  # No lane is driven longer for one grant.
LATE_MS = 1_000  # Our choice: an arm turns in well under a second once a body pushes it.
HELD_MS = 10_000  # PERCo TTR-10A manual: a passage longer than 10 s is an alarm.
QUEUED_MAX = 3  # Our choice: 4 people in QUEUED_MS are 24 a minute, a good gate's pace.
QUEUED_MS = 10_000  # Our choice: who waited longer has stepped aside; the lane opens for nobody.


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageSettings:
    """One direction of a lane. `passage_problems` says what is wrong with it."""

    direction: Direction
    sensor: bool = True  # Without one every passage is assumed.
    drive: Drive = Drive.PULSE
    pulse_ms: int = PULSE_MS_DEFAULT
    wait_ms: int = WAIT_MS_DEFAULT
    late_ms: int = LATE_MS
    held_ms_max: int = HELD_MS
    queued_max: int = QUEUED_MAX
    queued_ms_max: int = QUEUED_MS

    @property
    def drive_ms(self) -> int:
        """How long the relay is active for one grant."""
        return self.pulse_ms if self.drive is Drive.PULSE else self.wait_ms


def passage_problems(settings: PassageSettings) -> list[str]:
    """What a technician must mend, one sentence each; empty when all is well."""
    checks = (
        (
            PULSE_MS_MIN <= settings.pulse_ms <= PULSE_MS_CEILING,
            f"pulse_ms is {settings.pulse_ms}: not from {PULSE_MS_MIN} to {PULSE_MS_CEILING}",
        ),
        (
            0 < settings.wait_ms <= WAIT_MS_CEILING,
            f"wait_ms is {settings.wait_ms}: not from 1 to {WAIT_MS_CEILING}",
        ),
        (
            min(settings.late_ms, settings.held_ms_max, settings.queued_ms_max) > 0,
            "late_ms, held_ms_max and queued_ms_max must be above 0",
        ),
        (settings.queued_max >= 0, f"queued_max is {settings.queued_max}: below 0"),
    )
    return [problem for good, problem in checks if not good]


# ------------------------------------------------------------------------------ events, in


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Someone may pass. Its fact is on disk already; `passage_id` names that."""

    passage_id: str
    cardholder_id: str | None  # None: an override for someone without a card.


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The passage sensor went active (the arm turned) or inactive (the way is clear again)."""

    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockdown:
    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The lane cannot be driven (its relay's owner said so), or can again."""

    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """The copy of the fire alarm's wire."""

    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FireReset:
    """An officer says the fire is over. Counts only once the alarm's wire is clear."""


Event = Grant | Rotated | Lockdown | Fault | Fire | FireReset

# ------------------------------------------------------------------------------ answers, out


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """Drive the relay for so long, no longer."""

    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """Let the relay go now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """The lane is free (a holding line is let go), or is held again."""

    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Becomes a fact. `passage_id` is None for what no grant stands behind."""

    result: PassageResult
    passage_id: str | None = None
    cardholder_id: str | None = None
    assumed: bool = False  # No sensor saw it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Someone should look: `forced` or `held`."""

    what: PassageResult


Answer = Pulse | LetGo | Free | Result | Alarm


class Passage:
    """One direction of one lane. `now_ms` is the monotonic clock, the same one every time.

    At start nothing is known of before: a sensor found active is a level and no passage, a fire
    found active or not yet reset means free.
    """

    def __init__(
        self,
        settings: PassageSettings,
        *,
        now_ms: int,
        sensor_active: bool = False,
        fire_active: bool = False,
        fire_unreset: bool = False,
        lockdown: bool = False,
    ) -> None:
        assert not passage_problems(settings)
        assert settings.sensor or not sensor_active
        self._settings = settings
        self._now_ms = now_ms
        self._sensor_active = sensor_active
        self._fire_active = fire_active
        self._lockdown = lockdown and settings.direction is Direction.IN
        self._fault = False
        self._granted: Grant | None = None
        self._queue: list[tuple[Grant, int]] = []  # With the moment it is given up.
        self._until_ms: int | None = None
        self._driven_until_ms = now_ms
        self._arriving: Grant | None = None  # What the actions of this row are about.
        self._answers: list[Answer] = []
        self._state = State.IDLE
        if fire_active or fire_unreset:
            self._enter(State.FIRE)
        else:
            self._rest()

    @property
    def state(self) -> State:
        return self._state

    @property
    def free(self) -> bool:
        """Released for fire: a holding line must not hold."""
        return self._state is State.FIRE

    @property
    def granted_id(self) -> str | None:
        """The passage the lane is open for now."""
        return None if self._granted is None else self._granted.passage_id

    def holds(self, passage_id: str) -> bool:
        """Whether this grant is open or waits its turn: it has not ended yet."""
        return passage_id == self.granted_id or any(
            grant.passage_id == passage_id for grant, _ in self._queue
        )

    @property
    def full(self) -> bool:
        """The next grant of someone new would end as not taken at once: ask them to wait."""
        return self._blocked or (
            self._settings.sensor
            and self._state not in (State.IDLE, State.FIRE)
            and len(self._queue) >= self._settings.queued_max
        )

    @property
    def due_ms(self) -> int | None:
        """The moment `step` must be called at, whatever happens until then; None: no need."""
        moments = [until_ms for _, until_ms in self._queue]
        if self._until_ms is not None:
            moments.append(self._until_ms)
        return min(moments, default=None)

    def step(self, now_ms: int, event: Event | None = None) -> tuple[Answer, ...]:
        """What is to be done, in order. `now_ms` is the event's own time.

        An event stamped before the last step counts as now: edges are stamped in another thread.
        A lane without a sensor must be given no `Rotated`.
        """
        self._now_ms = max(now_ms, self._now_ms)
        self._expire()
        if self._until_ms is not None and self._until_ms <= self._now_ms:
            self._fire(Trigger.TIMEOUT if self._settings.sensor else Trigger.ASSUMED)
            assert self._until_ms is None or self._until_ms > self._now_ms
        trigger = None if event is None else self._trigger(event)
        if trigger is not None:
            self._fire(trigger)
        answers, self._answers = tuple(self._answers), []
        return answers

    @property
    def _blocked(self) -> bool:
        return self._lockdown or self._fault

    def _trigger(self, event: Event) -> Trigger | None:
        """What the event amounts to; None when it changes nothing."""
        was_blocked = self._blocked
        match event:
            case Grant():
                self._arriving = event
                return self._grant_trigger(event)
            case Rotated(active=active):
                assert self._settings.sensor, "a lane without a sensor has no sensor line"
                self._sensor_active = active
                return Trigger.ROTATED if active else Trigger.CLEARED
            case Lockdown(on=on):
                self._lockdown = on and self._settings.direction is Direction.IN
            case Fault(on=on):
                self._fault = on
            case Fire(active=active):
                self._fire_active = active
                return Trigger.FIRE if active and not self.free else None
            case FireReset():
                return Trigger.FIRE_OVER if self.free and not self._fire_active else None
        if self._blocked is was_blocked:
            return None
        return Trigger.BLOCK if self._blocked else Trigger.UNBLOCK

    def _grant_trigger(self, grant: Grant) -> Trigger:
        if self._state in (State.FIRE, State.IDLE):
            return Trigger.GRANT
        if self._blocked:
            return Trigger.REFUSED
        if self._granted is not None and _same_person(self._granted, grant):
            return Trigger.AGAIN
        if not self._settings.sensor:
            return Trigger.NEXT
        replaces = any(_same_person(queued, grant) for queued, _ in self._queue)
        return Trigger.REFUSED if self.full and not replaces else Trigger.GRANT

    def _fire(self, trigger: Trigger) -> None:
        row = ROWS.get((self._state, trigger))
        assert row is not None, f"{trigger} cannot happen in {self._state}"
        for action in row.actions:
            self._act(action)
        if isinstance(row.move, State):
            self._enter(row.move)
        elif row.move is Move.REST:
            self._rest()
        self._arriving = None

    def _rest(self) -> None:
        holds = (self._sensor_active, self._blocked, bool(self._queue), True)
        _, state, actions = REST[holds.index(True)]
        if actions:
            self._arriving = self._queue.pop(0)[0]
        for action in actions:
            self._act(action)
        self._enter(state)

    def _enter(self, state: State) -> None:
        lasts_ms = {
            State.GRANTED: self._settings.wait_ms,
            State.LATE: self._settings.late_ms,
            State.PASSING: self._settings.held_ms_max,
        }.get(state)
        self._state = state
        self._until_ms = None if lasts_ms is None else self._now_ms + lasts_ms

    def _expire(self) -> None:
        """Queued grants that waited too long: whoever it was is no longer at the gate."""
        for queued in [queued for queued in self._queue if queued[1] <= self._now_ms]:
            self._queue.remove(queued)
            self._end(queued[0], PassageResult.NOT_TAKEN)

    # ---------------------------------------------------------------------------- actions

    def _act(self, action: Action) -> None:
        _ACTIONS[action](self)

    def _arm(self) -> None:
        """The arriving grant is the one the lane opens for."""
        if self._now_ms < self._driven_until_ms:  # Two drives at once would be one to the lane.
            self._let_go()
        self._granted = self._arriving
        self._driven_until_ms = self._now_ms + self._settings.drive_ms
        self._answers.append(Pulse(ms=self._settings.drive_ms))

    def _let_go(self) -> None:
        if self._now_ms < self._driven_until_ms:
            self._driven_until_ms = self._now_ms
            self._answers.append(LetGo())

    def _let_level_go(self) -> None:
        """A pulse ends by itself, and cut short the turnstile might not have seen it."""
        if self._settings.drive is Drive.LEVEL:
            self._let_go()

    def _enqueue(self) -> None:
        assert self._arriving is not None
        entry = (self._arriving, self._now_ms + self._settings.queued_ms_max)
        for place, (queued, _) in enumerate(self._queue):
            if _same_person(queued, self._arriving):
                self._queue[place] = entry
                self._end(queued, PassageResult.NOT_TAKEN)
                return
        assert len(self._queue) < self._settings.queued_max
        self._queue.append(entry)

    def _end(self, grant: Grant, result: PassageResult, *, assumed: bool = False) -> None:
        self._answers.append(
            Result(
                result=result,
                passage_id=grant.passage_id,
                cardholder_id=grant.cardholder_id,
                assumed=assumed,
            )
        )

    def _end_granted(self, result: PassageResult, *, assumed: bool = False) -> None:
        assert self._granted is not None
        granted, self._granted = self._granted, None
        self._end(granted, result, assumed=assumed)

    def _end_arriving(self, result: PassageResult, *, assumed: bool = False) -> None:
        assert self._arriving is not None
        self._end(self._arriving, result, assumed=assumed)

    def _end_queued(self, result: PassageResult, *, assumed: bool = False) -> None:
        queue, self._queue = self._queue, []
        for grant, _ in queue:
            self._end(grant, result, assumed=assumed)

    def _alarm(self, what: PassageResult) -> None:
        self._answers += (Result(result=what), Alarm(what=what))

    def _free(self) -> None:
        self._answers.append(Free(on=True))
        if self._granted is not None:
            self._end_granted(PassageResult.FIRE_RELEASE, assumed=True)
        self._end_queued(PassageResult.FIRE_RELEASE, assumed=True)


def _same_person(one: Grant, other: Grant) -> bool:
    return one.cardholder_id is not None and one.cardholder_id == other.cardholder_id


_ACTIONS: Mapping[Action, Callable[[Passage], None]] = MappingProxyType(
    {
        Action.ARM: Passage._arm,
        Action.QUEUE: Passage._enqueue,
        Action.REFUSE: lambda p: p._end_arriving(PassageResult.NOT_TAKEN),
        Action.LET_GO: Passage._let_level_go,
        Action.CUT: Passage._let_go,
        Action.TAKEN: lambda p: p._end_granted(PassageResult.TAKEN),
        Action.ASSUME: lambda p: p._end_granted(PassageResult.TAKEN, assumed=True),
        Action.NOT_TAKEN: lambda p: p._end_granted(PassageResult.NOT_TAKEN),
        Action.FLUSH: lambda p: p._end_queued(PassageResult.NOT_TAKEN),
        Action.FORCED: lambda p: p._alarm(PassageResult.FORCED),
        Action.HELD: lambda p: p._alarm(PassageResult.HELD),
        Action.FREE: Passage._free,
        Action.FIRE_TAP: lambda p: p._end_arriving(PassageResult.FIRE_RELEASE, assumed=True),
        Action.FIRE_TURN: lambda p: p._answers.append(Result(result=PassageResult.FIRE_RELEASE)),
        Action.HOLD: lambda p: p._answers.append(Free(on=False)),
    }
)
assert set(_ACTIONS) == set(Action)
