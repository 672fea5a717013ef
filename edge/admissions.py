"""An admission as the shell drives it: a museum's or a concession's reader, with a lane or without.

One visit is one fact: the card's token under the city-wide key, the category's tariff, no person.
The same card again within the time that the settings give is the same visit and is shown again,
after a restart too; the list is asked anew each time, so a card that was blocked meanwhile is not.
Rules are `edge/turnstile/admission.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from edge import logs
from edge.access_fact import mark_of, policy_of
from edge.gate import Gate
from edge.messages import AccessFact
from edge.model import (
    AdmissionView,
    CorruptData,
    DeviceFault,
    Direction,
    Moment,
    Presentation,
)
from edge.offline_cache import entries
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.readers.reader import CardRead, ReadFailure
from edge.turnstile import admission, officer
from edge.turnstile.admission import AdmissionDecision, decide_admission
from edge.unwritten import Unwritten

AGAIN_S: Final = 1_800  # While no settings say otherwise; SiteRow's default.
NO_ZONE: Final = "admission"  # Of a reader without a lane: there is no space to be in.
REPEAT_MS_MAX: Final = 3_000  # lane.md: the same card again within 3 s is a duplicate.

NOTHING_HELD: Final = AdmissionView(visitors=None, category=None)


class Admissions:
    """Of one station; a point is a lane's access point, or a reader that stands alone."""

    def __init__(
        self,
        cache: Cache,
        journal: Journal,
        counters: CardCounters,
        gates: Mapping[str, Gate],
        *,
        readers: Mapping[str, str],
        count: Callable[[str], None],
    ) -> None:
        """`readers`: reader id -> its access point, "" where it stands alone."""
        self.unwritten = Unwritten(journal, count, where="admissions")  # Of readers alone.
        self._cache = cache
        self._journal = journal
        self._counters = counters
        self._gates = gates
        self._count = count
        self._points = {name: point or name for name, point in readers.items()}
        self._shown = dict.fromkeys(self._points.values(), officer.WAITING)
        self._last: dict[str, tuple[str, int]] = {}  # Point -> card and when.
        self._log = logs.get("admissions")

    @property
    def points(self) -> tuple[str, ...]:
        return tuple(self._shown)

    def light(self, reader_id: str) -> officer.Light:
        """What the reader's own lamp shows."""
        return self._shown[self._points[reader_id]].light

    def readers_of(self, point: str) -> list[str]:
        return [reader for reader, where in self._points.items() if where == point]

    def tap(self, credential_id: str, key_version: int, read: CardRead, moment: Moment) -> None:
        """Look up, decide, record, show, and open a lane for whom it costs nothing."""
        point = self._points[read.reader_id]
        last = self._last.get(point)
        self._last[point] = (credential_id, read.at_ms)
        if (
            credential_id
            and last is not None
            and last[0] == credential_id
            and 0 <= read.at_ms - last[1] <= REPEAT_MS_MAX
            and self._shown[point].state != "ask"
        ):
            self._count("repeats")
            return
        counter = None if read.evidence is None else read.evidence.counter
        presentation = Presentation(
            credential_id=credential_id,
            age_ms=max(0, moment.mono_ms - read.at_ms),
            tier=read.tier,
            replayed=bool(credential_id)
            and counter is not None
            and self._counters.is_replayed(credential_id, counter),
        )
        view = self._view(credential_id, moment)
        site = self._cache.small.site
        decision = decide_admission(
            presentation,
            view,
            moment.now(),
            {} if site is None else site.tariffs,
            policy_of(site),
        )
        if self._is_again(credential_id, decision, moment):
            self._count("admission_again")
            self._shown[point] = admission.shown(decision, again=True, now_ms=moment.mono_ms)
            return
        passage_id = self._record(point, presentation, read, view, decision, key_version, moment)
        self._count(f"admission_{decision.tariff or decision.reason}")
        gate = self._gates.get(point)
        if gate is not None and decision.opens:
            gate.admit(passage_id, moment)
        self._shown[point] = admission.shown(decision, again=False, now_ms=moment.mono_ms)

    def step(self, moment: Moment) -> None:
        self.unwritten.step(moment)

    def show_failed_read(self, reader_id: str, failure: ReadFailure, moment: Moment) -> None:
        """A card was shown that names nobody."""
        shown = officer.failed_read(failure.value, now_ms=moment.mono_ms)
        self._shown[self._points[reader_id]] = shown

    def screen(self, point: str, moment: Moment, *, up: bool) -> officer.LaneView:
        """What stands beside one reader now."""
        gate = self._gates.get(point)
        if gate is not None and not gate.ready:
            return gate.screen(moment)
        return officer.now_shown(self._shown[point], now_ms=moment.mono_ms, up=up)

    # ------------------------------------------------------------------------ helpers

    def _view(self, credential_id: str, moment: Moment) -> AdmissionView:
        if not credential_id:
            return NOTHING_HELD
        try:
            return self._cache.admission_view(credential_id, moment)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot read the list of visitors", reason=str(problem))
            return NOTHING_HELD

    def _is_again(self, credential_id: str, decision: AdmissionDecision, moment: Moment) -> bool:
        """The same visit: this was answered here a while ago, and the answer is still the same."""
        if not credential_id or decision.tariff is None:
            return False
        try:
            before = entries.visit(self._journal.writer.db, credential_id, moment)
        except (CorruptData, DeviceFault):
            return False
        if before is None or before[0] != decision.tariff:
            return False
        site = self._cache.small.site
        again_s = AGAIN_S if site is None else site.admission_again_s
        return abs(moment.wall_ms - before[1]) < again_s * 1000

    def _record(
        self,
        point: str,
        presentation: Presentation,
        read: CardRead,
        view: AdmissionView,
        decision: AdmissionDecision,
        key_version: int,
        moment: Moment,
    ) -> str:
        """The visit's fact. A disk that refuses turns nobody away: it is counted."""
        gate, list_state = self._gates.get(point), view.visitors
        try:
            with self._journal.record(moment) as tap:
                self._counters.write(tap.db)
                passage_id = tap.add(
                    AccessFact(
                        **tap.stamp(moment),
                        access_point=point,
                        zone=NO_ZONE if gate is None else gate.point.zone_id,
                        direction=Direction.IN if gate is None else gate.point.direction,
                        reader=read.reader_id,
                        tier=read.tier,
                        credential=presentation.credential_id,
                        cardholder=None,
                        outcome=decision.outcome,
                        reason=decision.reason,
                        caveats=tuple(sorted(decision.caveats)),
                        people=mark_of(list_state),
                        list_age_s=None if list_state is None else list_state.age_s,
                        read_age_ms=presentation.age_ms,
                        tariff=decision.tariff,
                        key_version=key_version,
                    )
                )
            self._counters.written()
            return passage_id
        except (DeviceFault, CorruptData) as fault:
            if gate is not None:
                return gate.unwritten.note_grant("access", fault)
            return self.unwritten.note_grant("access", fault)
