"""One access point as the shell drives it: decide, record, open, and record what came of it.

Holds the state of one direction (its `Passage`, its screen, the last card) and carries out what
the kernels answer. Every rule is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edge import logs
from edge.access_fact import access_fact, policy_of
from edge.messages import PassageFact
from edge.model import (
    AccessPoint,
    AccessReason,
    CacheView,
    CorruptData,
    DeviceFault,
    Direction,
    Moment,
    Outcome,
    Presentation,
)
from edge.names import Names
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.readers.reader import CardRead, ReadFailure
from edge.settings import AccessPointSettings
from edge.trust import ScopeKeys
from edge.turnstile import officer
from edge.turnstile.decision import AccessDecision, decide_access
from edge.turnstile.lines import LineEvent, Lines
from edge.turnstile.passage import (
    Alarm,
    Answer,
    Fault,
    Fire,
    FireReset,
    Free,
    Grant,
    LetGo,
    Lockdown,
    Passage,
    Pulse,
    Result,
    Rotated,
)
from edge.turnstile.passage_table import State
from edge.unwritten import Unwritten
from edge.wiring import direction_of

REPEAT_MS_MAX = 3_000  # lane.md: the same card again within 3 s is a duplicate.

NOTHING_HELD = CacheView(
    people=None, hot_listed=False, credential=None, cardholder=None, last_direction=None
)


class Followers(Protocol):
    """The officer's desk, as a gate tells it what happens."""

    def view(self, gate: Gate, view: CacheView, moment: Moment) -> CacheView: ...

    def decided(
        self, gate: Gate, access: str, view: CacheView, decision: AccessDecision, moment: Moment
    ) -> None: ...

    def ended(self, gate: Gate, result: Result, moment: Moment) -> None: ...


@dataclass(frozen=True, slots=True)
class _LastTap:
    credential_id: str
    tier: int
    at_ms: int
    view: officer.LaneView
    reason: AccessReason


class Gate:
    """One direction of one lane."""

    def __init__(
        self,
        point: AccessPointSettings,
        *,
        lines: Lines,
        cache: Cache,
        journal: Journal,
        counters: CardCounters,
        count: Callable[[str], None],
        moment: Moment,
        lockdown: bool = False,
        fire_active: bool = False,
        fire_unreset: bool = False,
    ) -> None:
        self.point = point
        self.lockdown = lockdown and point.direction is Direction.IN
        self.reader_up = False
        self.alone = False  # A lane of the school is not heard.
        self.desk: Followers | None = None
        self.out_of_order = False  # Its line does not move: nobody is told to pass.
        self.shown = officer.WAITING
        self.unwritten = Unwritten(journal, count, where=f"gate {point.access_point_id}")
        self._lines = lines
        self._cache = cache
        self._journal = journal
        self._counters = counters
        self._count = count
        self._last: _LastTap | None = None
        self._views: dict[str, officer.LaneView] = {}  # Of grants that have not ended yet.
        self._log = logs.get(f"gate {point.access_point_id}")
        rotation = point.rotation
        self.passage = Passage(
            direction_of(point).passage,
            now_ms=moment.mono_ms,
            sensor_active=rotation is not None and lines.is_active(rotation.line_id),
            fire_active=fire_active,
            fire_unreset=fire_unreset,
            lockdown=lockdown,
        )

    # ------------------------------------------------------------------------- a tap

    def tap(
        self, credential_id: str, read: CardRead, moment: Moment, keys: ScopeKeys | None
    ) -> None:
        """Look up, decide, record, act: in this order, whatever the outcome."""
        counter = None if read.evidence is None else read.evidence.counter
        replayed = (
            bool(credential_id)
            and counter is not None
            and self._counters.is_replayed(credential_id, counter)
        )
        if self._is_repeat(credential_id, read):
            assert self._last is not None
            self._count("repeats")
            former = self._last.view
            # A grant that was used up is not shown again: the lane is shut behind its person.
            if former.state != "granted" or former.passage == self.passage.granted_id:
                self.shown = former
            return
        view = self._view(credential_id, moment)
        presentation = Presentation(
            credential_id=credential_id,
            age_ms=max(0, moment.mono_ms - read.at_ms),
            tier=read.tier,
            replayed=replayed,
        )
        point = AccessPoint(
            access_point_id=self.point.access_point_id,
            zone_id=self.point.zone_id,
            direction=self.point.direction,
            lockdown=self.lockdown,
        )
        policy = policy_of(self._cache.small.site, zone=self.point.zone_id, alone=self.alone)
        decision = decide_access(presentation, view, point, moment.now(), policy)
        cardholder = view.cardholder
        cardholder_id = None if cardholder is None else cardholder.cardholder_id
        passage_id = self._record_decision(presentation, read, view, decision, moment)
        if decision.outcome is Outcome.GRANT:
            # The relay moves now, before anything is drawn or told.
            granted = Grant(passage_id=passage_id, cardholder_id=cardholder_id)
            self._carry_out(self.passage.step(moment.mono_ms, granted), moment)
        name, group = Names(lambda: keys, self._count).of(cardholder)
        self._count(f"access_{decision.outcome}")
        answer = officer.decided(
            decision.outcome,
            decision.reason,
            name=name,
            group=group,
            passage=passage_id,
            now_ms=moment.mono_ms,
            hot_why=view.hot_why,
            cardholder=cardholder_id or "",
            photo="" if cardholder is None else cardholder.photo_hash,
        )
        if self.desk is not None:
            self.desk.decided(self, passage_id, view, decision, moment)
        self._last = _LastTap(credential_id, read.tier, read.at_ms, answer, decision.reason)
        if decision.outcome is not Outcome.GRANT:
            self.shown = answer
            return
        if self.passage.holds(passage_id):
            # While someone is still passing this person waits; the screen turns when the lane does.
            self._views[passage_id] = answer
            self._show_granted()
        elif self.passage.free:
            self.shown = officer.freed(answer, now_ms=moment.mono_ms)
        else:
            # The queue is full or the lane shut: that grant has ended, the next tap is a new one.
            self.shown = officer.please_wait(now_ms=moment.mono_ms)
            self._last = None

    @property
    def shut_why(self) -> str:
        """Why nobody can be let through by hand or order now; "" when somebody can."""
        if self.lockdown:
            return "lockdown"
        if not self.ready:
            return "lane_down"
        return "lane_busy" if self.passage.full else ""

    def open_once(self, passage_id: str, moment: Moment) -> bool:
        """By order: one person passes without a card. False when the lane cannot take it."""
        if self.shut_why:
            return False
        self.admit(passage_id, moment)
        return True

    def admit(
        self,
        passage_id: str,
        moment: Moment,
        *,
        cardholder_id: str | None = None,
        name: str = "",
        group: str = "",
    ) -> None:
        """One person passes by a grant that is on disk already, whoever gave it."""
        granted = Grant(passage_id=passage_id, cardholder_id=cardholder_id)
        answer = officer.decided(
            Outcome.GRANT,
            AccessReason.AUTHORIZED,
            name=name,
            group=group,
            passage=passage_id,
            now_ms=moment.mono_ms,
            cardholder=cardholder_id or "",
        )
        last = self._last
        if last is not None and cardholder_id and last.view.cardholder == cardholder_id:
            # The same card again is answered as the lane is now, and no new question to anybody.
            reason = AccessReason.AUTHORIZED
            self._last = replace(last, at_ms=moment.mono_ms, view=answer, reason=reason)
        self._carry_out(self.passage.step(moment.mono_ms, granted), moment)
        if self.passage.holds(passage_id):
            self._views[passage_id] = answer
            self._show_granted()
        elif self.passage.free:
            self.shown = officer.freed(answer, now_ms=moment.mono_ms)

    def show_refused(self, moment: Moment) -> None:
        """The officer said no to who waits here."""
        self._last = None
        self.shown = officer.refused_by_officer(now_ms=moment.mono_ms)

    def lock_down(self, on: bool, moment: Moment) -> None:
        """By order: nobody comes in until it is lifted. Way out stays as it is."""
        self.lockdown = on and self.point.direction is Direction.IN
        self._carry_out(self.passage.step(moment.mono_ms, Lockdown(on=on)), moment)

    def show_failed_read(self, failure: ReadFailure, moment: Moment) -> None:
        """A card was shown that names nobody: say so, nobody is refused in silence."""
        self.shown = officer.failed_read(failure.value, now_ms=moment.mono_ms)

    # ------------------------------------------------------------------- bodies and time

    def take_line(self, event: LineEvent, moment: Moment) -> None:
        """What the sensor saw, at its own time."""
        self._carry_out(self.passage.step(event.at_ms, Rotated(active=event.active)), moment)

    def take_fire(self, active: bool, moment: Moment) -> None:
        """The fire alarm's wire: free until it is clear and `end_fire` is called."""
        self._carry_out(self.passage.step(moment.mono_ms, Fire(active=active)), moment)

    def end_fire(self, moment: Moment) -> None:
        """By an officer, and on disk already."""
        self._carry_out(self.passage.step(moment.mono_ms, FireReset()), moment)
        self.shown = officer.WAITING  # Nothing that was said of the free lane is true any more.

    def step(self, moment: Moment) -> None:
        self._carry_out(self.passage.step(moment.mono_ms), moment)
        problem = self._line_problem()
        if problem and not self.out_of_order:  # Gone while nobody passed: do not ask anybody to.
            self.out_of_order = True
            self._log.error("the line does not move", reason=problem)
            self._carry_out(self.passage.step(moment.mono_ms, Fault(on=True)), moment)
        if self.out_of_order and not problem:
            self.out_of_order = False
            self._log.info("the line moves again")
            self._carry_out(self.passage.step(moment.mono_ms, Fault(on=False)), moment)
        self.unwritten.step(moment)

    def due_ms(self) -> int | None:
        return self.passage.due_ms

    @property
    def ready(self) -> bool:
        """Whether who taps here can pass: the line moves and the arm is at rest."""
        return not self.out_of_order and self.passage.state is not State.HELD

    @property
    def relay_active(self) -> bool:
        return self._lines.is_active(self.point.relay.line_id)

    def screen(self, moment: Moment) -> officer.LaneView:
        if self.passage.free:
            return officer.FIRE if self.point.direction is Direction.OUT else officer.FIRE_OUTSIDE
        if self.out_of_order:
            return officer.LANE_DOWN
        if self.passage.state is State.HELD:
            return officer.LANE_HELD
        shown = officer.now_shown(self.shown, now_ms=moment.mono_ms, up=self.reader_up)
        return officer.LOCKED_DOWN if self.lockdown and shown == officer.WAITING else shown

    # ------------------------------------------------------------------------- helpers

    def _line_problem(self) -> str:
        """What is wrong with this direction's own line; others of the lane do not count."""
        relay = self.point.relay.line_id
        return next((text for text in self._lines.problems() if relay in text), "")

    def _is_repeat(self, credential_id: str, read: CardRead) -> bool:
        """The same card again so soon that the answer cannot be another, unless it was told to
        tap again. One that proves more or less than before is not the same card."""
        last = self._last
        return (
            last is not None
            and bool(credential_id)
            and (last.credential_id, last.tier) == (credential_id, read.tier)
            and 0 <= read.at_ms - last.at_ms <= REPEAT_MS_MAX
            and last.reason not in (AccessReason.STALE_READ, AccessReason.REPLAYED)
        )

    def _view(self, credential_id: str, moment: Moment) -> CacheView:
        if not credential_id:
            return NOTHING_HELD  # No key of the list yet: nobody can be looked up.
        try:
            view = self._cache.access_view(credential_id, self.point.zone_id, moment)
            return view if self.desk is None else self.desk.view(self, view, moment)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot read the list of people", reason=str(problem))
            return NOTHING_HELD

    def _record_decision(
        self,
        presentation: Presentation,
        read: CardRead,
        view: CacheView,
        decision: AccessDecision,
        moment: Moment,
    ) -> str:
        """The decision's fact, committed. A disk that refuses stops no tap: it is counted."""
        try:
            with self._journal.record(moment) as tap:
                self._counters.write(tap.db)
                passage_id = tap.add(
                    access_fact(tap.stamp(moment), self.point, read, presentation, view, decision)
                )
            self._counters.written()
            return passage_id
        except (DeviceFault, CorruptData) as fault:
            return self.unwritten.note_grant("access", fault)

    def _carry_out(self, answers: Sequence[Answer], moment: Moment) -> None:
        """In order: what the lane is to do, and what became of a grant."""
        results = []
        moved = True
        for answer in answers:
            match answer:
                case Pulse(ms=ms):
                    moved = self._drive(ms)
                case LetGo():
                    moved = self._drive(None)
                case Free(on=on):
                    self._log.warning("lane free" if on else "lane held again")
                case Result():
                    results.append(answer)
                case Alarm(what=what):
                    self._count(f"alarm_{what}")
                    self._log.warning("look at the lane", what=what.value)
        if results:
            self._record_results(results, moment)
        if any(isinstance(answer, Pulse) for answer in answers):
            self._show_granted()
        if not moved and not self.out_of_order:
            self.out_of_order = True
            self._carry_out(self.passage.step(moment.mono_ms, Fault(on=True)), moment)

    def _show_granted(self) -> None:
        """The screen belongs to the person the lane is open for."""
        granted = self._views.get(self.passage.granted_id or "")
        if granted is not None and self.shown.passage != granted.passage:
            self.shown = granted

    def _drive(self, pulse_ms: int | None) -> bool:
        """One bounded pulse of the relay, or let go of it. False when the line does not move."""
        relay = self.point.relay.line_id
        try:
            if pulse_ms is None:
                self._lines.let_go(relay)
            else:
                self._lines.activate(relay, ms=pulse_ms)
        except DeviceFault as fault:
            self._count("line_failed")
            self._log.error("the line does not move", reason=str(fault))
            return False
        return True

    def _record_results(self, results: Sequence[Result], moment: Moment) -> None:
        for result in results:
            self._count(f"passage_{result.result}")
            view = self._views.pop(result.passage_id or "", officer.WAITING)
            self.shown = officer.passed(result.result, view, now_ms=moment.mono_ms)
        try:
            with self._journal.record(moment) as passing:
                for result in results:
                    passing.add(
                        PassageFact(
                            **passing.stamp(moment),
                            access_point=self.point.access_point_id,
                            zone=self.point.zone_id,
                            direction=self.point.direction,
                            result=result.result,
                            passage=result.passage_id,
                            cardholder=result.cardholder_id,
                            assumed=result.assumed,
                        )
                    )
        except (DeviceFault, CorruptData) as fault:
            for _ in results:
                self.unwritten.note("passage", fault)
        for result in results:
            if self.desk is not None:
                self.desk.ended(self, result, moment)
