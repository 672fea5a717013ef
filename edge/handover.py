"""Handovers at a pre-school as the shell drives them: guardians, dialogues, alerts for the officer.

A guardian who is let in opens a dialogue (`edge/turnstile/guardian.py`); what is chosen becomes the
fact `handover`, from which presence follows (`edge/offline_cache/moves.py`). Who has still to say
something is on disk as an entry without a handover, so a restart forgets nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from edge import logs
from edge.messages import Handover, HandoverOpen
from edge.model import (
    CacheView,
    Cardholder,
    Category,
    CorruptData,
    DeviceFault,
    Direction,
    Moment,
    Outcome,
    PassageResult,
)
from edge.names import Names
from edge.offline_cache import entries
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.settings import AccessPointSettings
from edge.turnstile.decision import AccessDecision
from edge.turnstile.guardian import (
    CHOICE_MS_MAX,
    Choice,
    Dialogue,
    Dialogues,
    Problem,
    as_allowed,
    wards_of,
)
from edge.turnstile.passage import Result

ALERTS_MAX: Final = 16  # Our choice: as many as an officer looks through; the oldest gives way.


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something for the officer's screen alone, until the officer has seen it."""

    number: int
    what: str  # handover_open, barred
    wall_ms: int
    guardian: str = field(repr=False)  # Opened names.
    children: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One ward as the screens show it."""

    cardholder_id: str
    photo: str
    barred: bool
    name: str = field(repr=False)
    group: str = field(repr=False)
    relation: str = field(repr=False)


class Handovers:
    """Of one pre-school entrance. Choices answer None when taken, else why not."""

    def __init__(
        self,
        cache: Cache,
        journal: Journal,
        *,
        names: Names,
        count: Callable[[str], None],
    ) -> None:
        self.dialogues = Dialogues()
        self.alerts: deque[Alert] = deque(maxlen=ALERTS_MAX)
        self._cache = cache
        self._journal = journal
        self._names = names
        self._count = count
        self._children: dict[str, tuple[Child, ...]] = {}  # By dialogue.
        self._untold: list[Dialogue] = []  # Overdue, while the disk refuses to hear of it.
        self._alerts_made = 0
        self._day = ("", False)  # Local date, and whether the clock that said so was trusted.
        self._looked_back = False
        self._alone = True  # Until the other lanes are heard.
        self._present: tuple[tuple[int, int], frozenset[str]] = ((-1, -1), frozenset())
        self._log = logs.get("handover")

    # ------------------------------------------------------------- what the gate tells

    def view(self, view: CacheView, zone_id: str, moment: Moment) -> CacheView:
        """A guardian's view, with what is still to be said, and without who was barred."""
        person = view.cardholder
        if person is None or person.category is not Category.GUARDIAN:
            return view
        pending = self.dialogues.of(person.cardholder_id) is not None
        if not pending:
            pending = self._open_entry(person.cardholder_id, zone_id, moment) is not None
        return replace(view, cardholder=as_allowed(person), choice_pending=pending)

    def decided(
        self,
        point: AccessPointSettings,
        access: str,
        view: CacheView,
        decision: AccessDecision,
        moment: Moment,
    ) -> None:
        """A guardian tapped, and the decision is on disk."""
        person = view.cardholder
        if person is None or person.category is not Category.GUARDIAN:
            return
        if person.barred_ward_ids:
            self._alert("barred", person, person.barred_ward_ids, moment)
        if decision.outcome is Outcome.GRANT:
            if point.direction is Direction.IN:
                self._begin(access, person, point.zone_id, moment, moment.wall_ms)
        elif not self.dialogues.resume(
            person.cardholder_id, until_ms=moment.mono_ms + CHOICE_MS_MAX
        ):
            entry = self._open_entry(person.cardholder_id, point.zone_id, moment)
            if entry is not None:  # By another lane, or before a restart.
                self._begin(entry.access, person, point.zone_id, moment, entry.wall_ms)

    def let_in(
        self, point: AccessPointSettings, access: str, person: Cardholder, moment: Moment
    ) -> None:
        """The officer opens by hand for somebody."""
        if person.category is Category.GUARDIAN and point.direction is Direction.IN:
            self._begin(access, person, point.zone_id, moment, moment.wall_ms)

    def ended(self, point: AccessPointSettings, result: Result, moment: Moment) -> None:
        """A passage ended: who did not come in, or is out, has nothing to say."""
        guardian = result.cardholder_id
        dialogue = None if guardian is None else self.dialogues.of(guardian)
        if guardian is None or dialogue is None:
            return
        out = point.direction is Direction.OUT and result.result in (
            PassageResult.TAKEN,
            PassageResult.FIRE_RELEASE,
        )
        if out:
            self._forget(dialogue)
        elif result.result is PassageResult.NOT_TAKEN and result.passage_id == dialogue.access:
            self._forget(dialogue)
            entry = self._open_entry(guardian, point.zone_id, moment)
            person = self._person(guardian, moment)
            if entry is not None and person is not None:  # Inside since an earlier tap.
                self._begin(entry.access, person, point.zone_id, moment, entry.wall_ms, show=False)

    def hear(self, alone: bool, moment: Moment) -> None:
        """A look at what the other lanes say: dialogues that ended there end here. While they
        cannot be heard (`alone`) what this device knows counts alone."""
        self._alone = alone
        if alone:
            return
        try:
            store = self._cache.store()
            if store is None:
                return
            for one in self.dialogues.open:
                if entries.is_over(
                    *(store, one.guardian_id, one.zone_id, one.access, one.since_wall_ms), moment
                ):
                    self._forget(one)
                    self._count("handover_ended_elsewhere")
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot see what other lanes say", reason=str(problem))

    def step(self, moment: Moment) -> None:
        if self._day != (moment.local_date, moment.clock_trusted):
            if self._day[1] and self._day[0] != moment.local_date:  # Midnight, and no clock set.
                self.dialogues.new_day()
                self._children.clear()
            self._day, self._looked_back = (moment.local_date, moment.clock_trusted), False
        if not self._looked_back:
            self._look_back(moment)
        over = self.dialogues.overdue(moment.mono_ms)
        for dialogue in over:
            person = self._person(dialogue.guardian_id, moment)
            if person is not None:
                self._alert("handover_open", person, dialogue.ward_ids, moment)
        self._untold += over
        if self._untold:
            self._tell_open(moment)

    @property
    def due_ms(self) -> int | None:
        return self.dialogues.due_ms

    # ------------------------------------------------------------------- what is said

    def choose(self, access: str, choice: Choice, moment: Moment) -> Problem | None:
        """Made on the information screen for the dialogue of this name."""
        before = self.dialogues.shown
        dialogue, problem = self.dialogues.choose(access, choice, present=self.present(moment))
        if problem is Problem.BARRED and dialogue is not None:
            person = self._person(dialogue.guardian_id, moment)
            if person is not None:
                self._alert("barred", person, dialogue.barred_ids, moment)
        if problem is not None or dialogue is None:
            self._count(f"handover_{problem}")
            return problem
        try:
            self._record(dialogue, choice, None, moment)
        except (DeviceFault, CorruptData):
            assert before is not None
            self.dialogues.begin(before)  # Not written, not said.
            raise
        return None

    def answer_claim(
        self, officer: str, access: str, confirm: bool, moment: Moment
    ) -> Problem | None:
        """The officer's word on a choice that the rules would not take."""
        dialogue = self.dialogues.named(access)
        if dialogue is None or dialogue.claim is None:
            return Problem.MOVED_ON
        if not confirm:
            self.dialogues.refuse_claim(access)
            return None
        claim = dialogue.claim
        _, problem = self.dialogues.confirm(access, claim, present=self.present(moment))
        if problem is not None:
            return problem
        try:
            self._record(dialogue, claim, officer, moment)
        except (DeviceFault, CorruptData):
            self.dialogues.begin(dialogue)
            raise
        return None

    def see_alert(self, number: int) -> bool:
        """The officer has seen it."""
        found = next((one for one in self.alerts if one.number == number), None)
        if found is None:
            return False
        self.alerts.remove(found)
        return True

    def present(self, moment: Moment) -> frozenset[str]:
        """Who is in now; asked of the disk once a second, and after each fact of our own."""
        now = (moment.mono_ms // 1_000, self._journal.head)
        if self._present[0] != now:
            self._present = (now, self._cache.present(moment))
        return self._present[1]

    # --------------------------------------------------------------------- the screens

    def screen(self, moment: Moment) -> dict[str, Any]:
        """The information screen: the newest guardian's dialogue. Barred children are not on it,
        nor a word of them."""
        dialogue = self.dialogues.shown
        if dialogue is None:
            return {"dialogue": ""}
        shown = self._shown(dialogue, moment)
        shown["children"] = [child for child in shown["children"] if not child.pop("barred")]
        return shown

    def officer_screen(self, moment: Moment) -> list[dict[str, Any]]:
        """All that are open, for the officer: photo, name and relation for each ward."""
        return [self._shown(dialogue, moment) for dialogue in self.dialogues.open]

    def _shown(self, dialogue: Dialogue, moment: Moment) -> dict[str, Any]:
        left_ms = None if dialogue.until_ms is None else max(0, dialogue.until_ms - moment.mono_ms)
        try:
            present = self.present(moment)
        except (CorruptData, DeviceFault):
            present = frozenset()
        claim = dialogue.claim
        return {
            "dialogue": dialogue.access,
            "guardian": dialogue.name,
            "seconds_left": None if left_ms is None else -(-left_ms // 1_000),
            "claim": None
            if claim is None
            else {"what": claim.what.value, "children": list(claim.children)},
            "children": [
                {
                    "child": child.cardholder_id,
                    "name": child.name,
                    "group": child.group,
                    "relation": child.relation,
                    "photo": child.photo,
                    "present": child.cardholder_id in present,
                    "barred": child.barred,
                }
                for child in self._children.get(dialogue.access, ())
            ],
        }

    # ------------------------------------------------------------------------ helpers

    def _begin(
        self,
        access: str,
        person: Cardholder,
        zone_id: str,
        moment: Moment,
        since_wall_ms: int,
        *,
        show: bool = True,
    ) -> None:
        before = self.dialogues.of(person.cardholder_id)
        if before is not None:
            self._children.pop(before.access, None)
        self._children[access] = self._wards(person, moment)
        name, _ = self._names.of(person)
        self.dialogues.begin(
            Dialogue(
                access=access,
                guardian_id=person.cardholder_id,
                zone_id=zone_id,
                ward_ids=wards_of(person),
                barred_ids=person.barred_ward_ids,
                until_ms=moment.mono_ms + CHOICE_MS_MAX,
                since_wall_ms=since_wall_ms,
                name=name,
            ),
            show=show,
        )

    def _wards(self, guardian: Cardholder, moment: Moment) -> tuple[Child, ...]:
        """By name, as a person looks for them."""
        ids = guardian.ward_ids | guardian.barred_ward_ids
        people = self._cache_persons(ids, moment)
        children = []
        for one in ids:
            name, group = self._names.of(people.get(one))
            children.append(
                Child(
                    cardholder_id=one,
                    photo="" if one not in people else people[one].photo_hash,
                    barred=one in guardian.barred_ward_ids,
                    name=name,
                    group=group,
                    relation=self._names.relation(guardian, one),
                )
            )
        return tuple(sorted(children, key=lambda child: (child.name, child.cardholder_id)))

    def _forget(self, dialogue: Dialogue) -> None:
        self.dialogues.end(dialogue.guardian_id)
        self._children.pop(dialogue.access, None)

    def _record(
        self, dialogue: Dialogue, choice: Choice, officer: str | None, moment: Moment
    ) -> None:
        with self._journal.record(moment) as saying:
            saying.add(
                Handover(
                    **saying.stamp(moment),
                    guardian=dialogue.guardian_id,
                    children=choice.children,
                    what=choice.what,
                    access=dialogue.access,
                    zone=dialogue.zone_id,
                    officer=officer,
                )
            )
        self._children.pop(dialogue.access, None)
        self._count(f"handover_{choice.what}")

    def _tell_open(self, moment: Moment) -> None:
        """Those without a choice in time are a fact; tried again while the disk refuses."""
        try:
            with self._journal.record(moment) as telling:
                for dialogue in self._untold:
                    telling.add(
                        HandoverOpen(
                            **telling.stamp(moment),
                            guardian=dialogue.guardian_id,
                            access=dialogue.access,
                            zone=dialogue.zone_id,
                        )
                    )
        except (DeviceFault, CorruptData) as fault:
            self._count("unrecorded")
            self._log.error("cannot record an open handover", reason=str(fault))
            del self._untold[:-ALERTS_MAX]
            return
        self._untold.clear()

    def _look_back(self, moment: Moment) -> None:
        """After a start: guardians who are inside and have said nothing yet."""
        try:
            found = entries.entered(self._journal.writer.db, moment)
            people = self._cache.persons({one for one, _ in found}, moment)
        except (CorruptData, DeviceFault) as problem:
            self._log.error("cannot see who is inside", reason=str(problem))
            return
        if found and not people:
            return  # No list yet: at the next step.
        self._looked_back = True
        for one, zone_id in found:
            person = people.get(one)
            if person is None or person.category is not Category.GUARDIAN:
                continue
            entry = self._open_entry(one, zone_id, moment)
            if entry is not None and not entry.told and self.dialogues.of(one) is None:
                self._begin(entry.access, person, zone_id, moment, entry.wall_ms, show=False)

    def _open_entry(
        self, guardian_id: str, zone_id: str, moment: Moment
    ) -> entries.OpenEntry | None:
        try:
            heard = None if self._alone else self._cache.store()
            return entries.open_entry(self._journal.writer.db, heard, guardian_id, zone_id, moment)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot see who has said what", reason=str(problem))
            return None

    def _alert(self, what: str, guardian: Cardholder, ids: Iterable[str], moment: Moment) -> None:
        people = self._cache_persons(ids, moment)
        children = sorted(self._names.of(person)[0] for person in people.values())
        self._alerts_made += 1
        self.alerts.append(
            Alert(
                number=self._alerts_made,
                what=what,
                wall_ms=moment.wall_ms,
                guardian=self._names.of(guardian)[0],
                children=tuple(children),
            )
        )
        self._count(f"alert_{what}")

    def _person(self, cardholder_id: str, moment: Moment) -> Cardholder | None:
        return self._cache_persons((cardholder_id,), moment).get(cardholder_id)

    def _cache_persons(self, ids: Iterable[str], moment: Moment) -> dict[str, Cardholder]:
        try:
            return self._cache.persons(ids, moment)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot read the list of people", reason=str(problem))
            return {}
