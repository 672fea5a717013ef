"""One access point as the shell drives it: decide, record, open, and record what came of it.

Holds the state of one direction (its `Passage`, its screen, the last card) and carries out what
the kernels answer. Every rule is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge import logs
from edge.messages import AccessFact, PassageFact, Unrecorded, VersionMark
from edge.model import (
    AccessPoint,
    AccessPolicy,
    AccessReason,
    CacheView,
    CorruptData,
    DeviceFault,
    Direction,
    Moment,
    Outcome,
    Presentation,
)
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.readers.reader import CardRead, ReadFailure
from edge.settings import AccessPointSettings
from edge.trust import ScopeKeys, unseal_column
from edge.turnstile import officer
from edge.turnstile.decision import AccessDecision, decide_access
from edge.turnstile.lines import LineEvent, Lines
from edge.turnstile.passage import (
    Alarm,
    Answer,
    Fault,
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
from edge.wiring import direction_of

REPEAT_MS_MAX = 3_000  # lane.md: the same card again within 3 s is a duplicate.

NOTHING_HELD = CacheView(
    people=None, hot_listed=False, credential=None, cardholder=None, last_direction=None
)


@dataclass(frozen=True, slots=True)
class _LastTap:
    credential_id: str
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
    ) -> None:
        self.point = point
        self.lockdown = lockdown and point.direction is Direction.IN
        self.reader_up = False
        self.out_of_order = False  # Its line does not move: nobody is told to pass.
        self.shown = officer.WAITING
        self.unrecorded: dict[str, int] = {}  # Happened while the disk refused.
        self._lines = lines
        self._cache = cache
        self._journal = journal
        self._counters = counters
        self._count = count
        self._unrecorded_grants = 0
        self._last: _LastTap | None = None
        self._views: dict[str, officer.LaneView] = {}  # Of grants that have not ended yet.
        self._log = logs.get(f"gate {point.access_point_id}")
        rotation = point.rotation
        self.passage = Passage(
            direction_of(point).passage,
            now_ms=moment.mono_ms,
            sensor_active=rotation is not None and lines.is_active(rotation.line_id),
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
        if self._is_repeat(credential_id, read.at_ms):
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
        decision = decide_access(presentation, view, point, moment.now(), self._policy())
        cardholder = view.cardholder
        cardholder_id = None if cardholder is None else cardholder.cardholder_id
        passage_id = self._record_decision(presentation, read, view, decision, moment)
        if decision.outcome is Outcome.GRANT:
            # The relay moves now, before anything is drawn or told.
            granted = Grant(passage_id=passage_id, cardholder_id=cardholder_id)
            self._carry_out(self.passage.step(moment.mono_ms, granted), moment)
        name, group = self._names(view, keys)
        self._count(f"access_{decision.outcome}")
        answer = officer.decided(
            decision.outcome,
            decision.reason,
            name=name,
            group=group,
            passage=passage_id,
            now_ms=moment.mono_ms,
        )
        self._last = _LastTap(credential_id, read.at_ms, answer, decision.reason)
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

    def open_once(self, passage_id: str, moment: Moment) -> bool:
        """By order: one person passes without a card. False when the lane cannot take it."""
        if self.out_of_order or self.passage.full:
            return False
        granted = Grant(passage_id=passage_id, cardholder_id=None)
        self._carry_out(self.passage.step(moment.mono_ms, granted), moment)
        self._views[passage_id] = officer.decided(
            Outcome.GRANT,
            AccessReason.AUTHORIZED,
            name="",
            group="",
            passage=passage_id,
            now_ms=moment.mono_ms,
        )
        self._show_granted()
        return True

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

    def step(self, moment: Moment) -> None:
        self._carry_out(self.passage.step(moment.mono_ms), moment)
        if self.out_of_order and not self._line_problem():
            self.out_of_order = False
            self._log.info("the line moves again")
            self._carry_out(self.passage.step(moment.mono_ms, Fault(on=False)), moment)
        if self.unrecorded:
            self._declare_unrecorded(moment)

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

    def _is_repeat(self, credential_id: str, read_at_ms: int) -> bool:
        """The same card again so soon that the answer cannot be another, unless it was told to
        tap again."""
        last = self._last
        return (
            last is not None
            and bool(credential_id)
            and last.credential_id == credential_id
            and 0 <= read_at_ms - last.at_ms <= REPEAT_MS_MAX
            and last.reason not in (AccessReason.STALE_READ, AccessReason.REPLAYED)
        )

    def _view(self, credential_id: str, moment: Moment) -> CacheView:
        if not credential_id:
            return NOTHING_HELD  # No key of the list yet: nobody can be looked up.
        try:
            return self._cache.access_view(credential_id, self.point.zone_id, moment)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot read the list of people", reason=str(problem))
            return NOTHING_HELD

    def _policy(self) -> AccessPolicy:
        site = self._cache.small.site
        if site is None:
            return AccessPolicy()
        return AccessPolicy(
            list_age_amber_s=site.list_age_amber_s,
            list_age_refer_s=site.list_age_refer_s,
            passback_mode=site.passback_mode,
            passback_window_s=site.passback_window_s,
        )

    def _names(self, view: CacheView, keys: ScopeKeys | None) -> tuple[str, str]:
        """The opened name and group, for this screen only."""
        person = view.cardholder
        if person is None or keys is None:
            return "", ""
        row_key = person.cardholder_id.encode()
        try:
            return (
                unseal_column(
                    keys.seal, person.sealed_name, scope=keys.scope, row_key=row_key, column="name"
                ),
                unseal_column(
                    keys.seal,
                    person.sealed_group,
                    scope=keys.scope,
                    row_key=row_key,
                    column="group",
                ),
            )
        except CorruptData:
            self._count("unseal_failed")
            return "", ""  # The decision stands; the officer sees no name.

    def _record_decision(
        self,
        presentation: Presentation,
        read: CardRead,
        view: CacheView,
        decision: AccessDecision,
        moment: Moment,
    ) -> str:
        """The decision's fact, committed. A disk that refuses stops no tap: it is counted."""
        people = view.people
        version = None if people is None else people.version
        try:
            with self._journal.record(moment) as tap:
                self._counters.write(tap.db)
                passage_id = tap.add(
                    AccessFact(
                        **tap.stamp(moment),
                        access_point=self.point.access_point_id,
                        zone=self.point.zone_id,
                        direction=self.point.direction,
                        reader=read.reader_id,
                        tier=read.tier,
                        credential=presentation.credential_id,
                        cardholder=None
                        if view.cardholder is None
                        else view.cardholder.cardholder_id,
                        outcome=decision.outcome,
                        reason=decision.reason,
                        caveats=tuple(sorted(decision.caveats)),
                        people=None
                        if version is None
                        else VersionMark(version.list_epoch, version.number),
                        list_age_s=None if people is None else people.age_s,
                        read_age_ms=presentation.age_ms,
                    )
                )
            self._counters.written()
            return passage_id
        except (DeviceFault, CorruptData) as fault:
            self._unrecordable("access", fault)
            self._unrecorded_grants += 1
            return f"{self._journal.epoch}.unrecorded-{self._unrecorded_grants}"

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
                self._unrecordable("passage", fault)

    def _unrecordable(self, kind: str, fault: Exception) -> None:
        if not self.unrecorded:
            self._log.error("cannot record; the lane goes on and counts", reason=str(fault))
        self.unrecorded[kind] = self.unrecorded.get(kind, 0) + 1
        self._count("unrecorded")

    def _declare_unrecorded(self, moment: Moment) -> None:
        """The first fact after a disk came back says how many are missing."""
        counts = dict(self.unrecorded)
        try:
            with self._journal.record(moment) as declaring:
                declaring.add(Unrecorded(**declaring.stamp(moment), counts=counts))
        except (DeviceFault, CorruptData):
            return  # Still refused; said once already.
        self.unrecorded.clear()
        self._log.info("recording again", missing=sum(counts.values()))
