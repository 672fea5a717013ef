"""One lane as the shell drives it, beside its directions (`gate.py`): fire, the holding line, the
officer's wired buttons, the housing's contact, lamps.

The one rule that goes before "record, then act" is fire: the lane is let go first and recorded
after, for a disk may not keep people in. The release stands until the alarm's wire is clear *and*
an officer has reset it, across restarts. What the disk refuses is told as soon as it takes it.

A holding line holds a fail-safe turnstile shut. It is the one line active without bound, and falls
with the process; how long the lane then stood free is told at the next start. Until when it was
held is known from a heartbeat, once a minute, and from the newest fact of that agent; an agent that
ends in order notes the very moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from edge import logs
from edge.gate import Gate
from edge.lamps import Lamps
from edge.messages import Fact, FireFact, FireWhat, Override, Tamper, UnattendedRelease
from edge.model import CorruptData, DeviceFault, Moment, OverrideReason
from edge.offline_cache import lane_standing
from edge.offline_cache.record import Journal, Stamp
from edge.settings import AccessPointSettings, LaneSettings
from edge.turnstile import officer
from edge.turnstile.lines import LineEvent, Lines
from edge.turnstile.passage_table import State
from edge.turnstile.signals import shown_by

HELD_NOTE_MS = 60_000  # Our choice: a commit a minute; a release is told that exactly at worst.
BUTTON_STUCK_MS = 10_000  # PERCo's figure for an arm that is held, and nobody presses longer.
UNTOLD_MAX = 64  # Our choice: a flapping alarm while the disk refuses; the oldest go first.


class NewGate(Protocol):
    """Makes one direction of the lane, which begins free where there is a fire."""

    def __call__(
        self, point: AccessPointSettings, *, fire_active: bool, fire_unreset: bool
    ) -> Gate: ...


class Lane:
    """All of one lane. `alive_ms`: wall time when the agent before this one was alive last.
    `button_resets`: nobody can sign in here, so the wired button also ends a fire release."""

    def __init__(
        self,
        settings: LaneSettings,
        *,
        new_gate: NewGate,
        lines: Lines,
        journal: Journal,
        count: Callable[[str], None],
        moment: Moment,
        alive_ms: int | None,
        button_resets: bool,
    ) -> None:
        self.settings = settings
        self._button_resets = button_resets
        self._lines = lines
        self._journal = journal
        self._count = count
        self._log = logs.get(f"lane {settings.lane_id}")
        self._untold: list[tuple[Callable[[Stamp], Fact], Moment]] = []
        self._untold_said = False
        db = journal.writer.db
        self.fire: FireWhat | None = lane_standing.fire(db, settings.lane_id)
        alarm = settings.fire is not None and lines.is_active(settings.fire.line_id)
        self.gates: Mapping[str, Gate] = {
            point.access_point_id: new_gate(
                point, fire_active=alarm, fire_unreset=self.fire is not None
            )
            for point in settings.access_points
        }
        self._lamps = {
            name: Lamps(gate.point, lines=lines, count=count) for name, gate in self.gates.items()
        }
        self.tampered = settings.tamper is not None and lane_standing.tampered(
            db, settings.tamper.line_id
        )
        # The first level seen at start is a level: nobody pressed, though it may be stuck.
        self._buttons = {
            gate.point.button.line_id: gate
            for gate in self.gates.values()
            if gate.point.button is not None
        }
        self._pressed_ms = {line: moment.mono_ms for line in self._buttons if lines.is_active(line)}
        self.stuck: set[str] = set()
        self._rotations = {
            gate.point.rotation.line_id: gate
            for gate in self.gates.values()
            if gate.point.rotation is not None
        }
        self.holding = False
        self.hold_problem = ""
        self._held_wall_ms = moment.wall_ms  # While `holding`: at the last look.
        self._noted_ms: int | None = None  # Of the heartbeat.
        self._free_since_ms = self._let_go_before(alive_ms)
        self._start(moment)

    @property
    def lines(self) -> frozenset[str]:
        """The inputs whose events are for this lane."""
        return frozenset(line.line_id for line in self.settings.inputs)

    @property
    def alarms(self) -> tuple[str, ...]:
        """What somebody should look at now, by name; for screens, the technician and the city."""
        found = [] if self.fire is None else [f"fire_{self.fire}"]
        found += ["tamper"] if self.tampered else []
        found += [f"stuck {line}" for line in sorted(self.stuck)]
        return (*found, *(["hold"] if self.hold_problem else []))

    # --------------------------------------------------------------------- what happens

    def take_line(self, event: LineEvent, moment: Moment) -> None:
        """What one of this lane's inputs did."""
        own = self.settings
        if own.fire is not None and event.line_id == own.fire.line_id:
            self._set_alarm(event.active, moment)
        elif own.tamper is not None and event.line_id == own.tamper.line_id:
            self._set_tamper(event.active, moment)
        elif event.line_id in self._buttons:
            self._set_button(event, moment)
        else:
            self._rotations[event.line_id].take_line(event, moment)

    def step(self, moment: Moment) -> None:
        """Levels again, for an event may have been lost; then time, the holding line, lamps."""
        self._look(moment)
        for gate in self.gates.values():
            gate.step(moment)
        self._look_at_buttons(moment)
        self._keep_hold(moment)
        if self._untold:
            self._tell_rest(moment)
        for name, gate in self.gates.items():
            view = gate.screen(moment)
            shown = shown_by(
                view,
                gate.point.direction,
                fire=self.fire is not None,
                held=gate.passage.state is State.HELD,
            )
            self._lamps[name].step(shown, view, moment.mono_ms)

    def due_ms(self) -> int | None:
        moments = [gate.due_ms() for gate in self.gates.values()]
        moments += [lamps.due_ms for lamps in self._lamps.values()]
        return min((at_ms for at_ms in moments if at_ms is not None), default=None)

    def fire_reset(self, officer_id: str | None, moment: Moment) -> str:
        """An officer says that it is over; None: by the wired button. Why it is not, or "" when
        the lane is held again."""
        self._look(moment)
        if self.fire is None:
            return "no_fire"
        if self.fire is FireWhat.ALARM:
            return "alarm_active"
        lane = self.settings.lane_id
        self._untold.append(
            (
                lambda stamp: FireFact(**stamp, lane=lane, what=FireWhat.RESET, officer=officer_id),
                moment,
            )
        )
        if not self._tell_rest(moment):
            self._untold.pop()  # Nobody is shut in on a word that is on no record.
            return "not_recorded"
        self.fire = None
        self._log.warning("fire reset")
        for gate in self.gates.values():
            gate.end_fire(moment)
        self._free_since_ms = None
        self._keep_hold(moment)
        return ""

    def close(self, moment: Moment) -> None:
        """After the lines were let go: when that was."""
        if self.holding:
            self.holding = False
            self._note_held(moment.wall_ms, exact=True)

    # ----------------------------------------------------------------------------- fire

    def _start(self, moment: Moment) -> None:
        """What the lines say that the record does not know yet."""
        if self._free_since_ms is not None and self.fire is None:
            self._tell_release(moment)
        self._look(moment)
        self._keep_hold(moment)

    def _look(self, moment: Moment) -> None:
        fire, tamper = self.settings.fire, self.settings.tamper
        if fire is not None:
            self._set_alarm(self._lines.is_active(fire.line_id), moment)
        elif self.fire is FireWhat.ALARM:
            self._set_alarm(False, moment)  # The wire is no longer in device.toml.
        if tamper is not None:
            self._set_tamper(self._lines.is_active(tamper.line_id), moment)

    def _set_alarm(self, active: bool, moment: Moment) -> None:
        if active is (self.fire is FireWhat.ALARM) or (not active and self.fire is None):
            return
        self.fire = FireWhat.ALARM if active else FireWhat.CLEAR
        if active:
            self._let_hold_go()
            self._count("fire_alarm")
        self._log.warning("fire alarm: the lane is free" if active else "fire alarm is clear")
        for gate in self.gates.values():
            gate.take_fire(active, moment)
        lane, what = self.settings.lane_id, self.fire
        self._tell(lambda stamp: FireFact(**stamp, lane=lane, what=what), moment)

    # ------------------------------------------------------------------------ holding line

    def _let_go_before(self, alive_ms: int | None) -> int | None:
        """Since when the lane has stood free, by what the agent before this one left behind."""
        if self.settings.hold is None:
            return None
        held = lane_standing.held(self._journal.writer.db, self.settings.lane_id)
        if held is None:
            return None
        return held.wall_ms if held.exact else max(held.wall_ms, alive_ms or held.wall_ms)

    def _keep_hold(self, moment: Moment) -> None:
        """Held, unless there is a fire; and noted until when."""
        hold = self.settings.hold
        if hold is None:
            return
        if self.fire is not None:
            self._let_hold_go()
            return
        if self.holding and not self._lines.is_active(hold.line_id):
            # A fault, or the watchdog: it has stood free since we last saw it.
            self.holding, self._free_since_ms = False, self._held_wall_ms
            self._note_held(self._held_wall_ms, exact=True)
        if not self.holding:
            try:
                self._lines.activate(hold.line_id, ms=None)
            except DeviceFault as fault:
                self._note_hold_problem(str(fault))
                return
            self.holding, self.hold_problem, self._noted_ms = True, "", None
            if self._free_since_ms is not None:
                self._tell_release(moment)
        self._held_wall_ms = moment.wall_ms
        if self._noted_ms is None or moment.mono_ms - self._noted_ms >= HELD_NOTE_MS:
            self._noted_ms = moment.mono_ms
            self._note_held(moment.wall_ms, exact=False)

    def _let_hold_go(self) -> None:
        hold = self.settings.hold
        if hold is None:
            return
        self.holding = False
        try:
            self._lines.let_go(hold.line_id)
        except DeviceFault as fault:
            self._note_hold_problem(str(fault))
            return
        self.hold_problem = ""

    def _note_hold_problem(self, why: str) -> None:
        if not self.hold_problem:
            self._count("line_failed")
            self._log.error("the holding line does not move", reason=why)
        self.hold_problem = why

    def _tell_release(self, moment: Moment) -> None:
        since_ms, self._free_since_ms = self._free_since_ms, None
        assert since_ms is not None
        lane = self.settings.lane_id
        self._log.warning("the lane stood free, and no agent held it")
        self._tell(
            lambda stamp: UnattendedRelease(
                **stamp, lane=lane, from_wall_ms=since_ms, to_wall_ms=moment.wall_ms
            ),
            moment,
        )

    def _note_held(self, wall_ms: int, *, exact: bool) -> None:
        try:
            with self._journal.writer.transaction() as db:
                lane_standing.set_held(db, self.settings.lane_id, wall_ms, exact=exact)
        except (DeviceFault, CorruptData):
            self._count("held_not_noted")  # The next release is told to have begun earlier.

    # -------------------------------------------------------------------- buttons, housing

    def _set_tamper(self, active: bool, moment: Moment) -> None:
        assert self.settings.tamper is not None
        if active is self.tampered:
            return
        self.tampered = active
        line = self.settings.tamper.line_id
        self._count("tamper" if active else "tamper_over")
        self._log.warning("the housing is open" if active else "the housing is shut", line=line)
        self._tell(lambda stamp: Tamper(**stamp, line=line, active=active), moment)

    def _set_button(self, event: LineEvent, moment: Moment) -> None:
        if not event.active:
            self._pressed_ms.pop(event.line_id, None)
        else:
            self._pressed_ms[event.line_id] = event.at_ms
            self._press(self._buttons[event.line_id], moment)

    def _look_at_buttons(self, moment: Moment) -> None:
        for line in list(self._pressed_ms):
            if not self._lines.is_active(line):
                del self._pressed_ms[line]
            elif moment.mono_ms - self._pressed_ms[line] >= BUTTON_STUCK_MS:
                if line not in self.stuck:
                    self._count("button_stuck")
                    self._log.warning("the officer's button is held down", line=line)
                self.stuck.add(line)
        self.stuck &= self._pressed_ms.keys()

    def _press(self, gate: Gate, moment: Moment) -> None:
        """The officer opens by hand, once: a fact first, then the lane."""
        if self.fire is not None:  # It is free.
            if self._button_resets:
                self.fire_reset(None, moment)
            return
        if gate.shut_why:
            self._count("button_refused")
            gate.shown = officer.please_wait(now_ms=moment.mono_ms)
            return
        self._count("button")
        try:
            with self._journal.record(moment) as pressing:
                key = pressing.add(
                    Override(
                        **pressing.stamp(moment),
                        access_point=gate.point.access_point_id,
                        zone=gate.point.zone_id,
                        direction=gate.point.direction,
                        officer=None,
                        why=OverrideReason.OTHER,
                    )
                )
        except (DeviceFault, CorruptData) as fault:
            key = gate.unwritten.note_grant("override", fault)
        gate.admit(key, moment)

    # --------------------------------------------------------------------------- telling

    def _tell(self, make: Callable[[Stamp], Fact], moment: Moment) -> None:
        """A fact of something that has happened already: on disk now, or as soon as it can be."""
        self._untold.append((make, moment))
        del self._untold[:-UNTOLD_MAX]
        self._tell_rest(moment)

    def _tell_rest(self, moment: Moment) -> bool:
        try:
            with self._journal.record(moment) as telling:
                for make, at in self._untold:
                    telling.add(make(telling.stamp(at)))
        except (DeviceFault, CorruptData) as fault:
            if not self._untold_said:
                self._log.error("cannot record; it is told later", reason=str(fault))
            self._untold_said = True
            return False
        self._untold.clear()
        self._untold_said = False
        return True
