"""The officer's desk as the shell drives it: who waits, what the officer decided, who is inside.

Holds the queue of referrals and the alerts, and carries out what the signed-in officer asks for:
open by hand, answer a referral, forgive, lock down. Each is a fact with the officer's id before
anything moves. Who is signed in is asked by `edge/requests_lane.py`; rules are
`edge/turnstile/referral.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from edge import logs
from edge.gate import Gate
from edge.handover import Handovers
from edge.messages import (
    Forgiven,
    LockdownFact,
    Override,
    ReferralEnd,
    ReferralEnded,
    Stream,
)
from edge.model import (
    CacheView,
    Cardholder,
    CorruptData,
    DeviceFault,
    Moment,
    Outcome,
    OverrideReason,
)
from edge.names import Names
from edge.offline_cache import outbox
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.turnstile.decision import AccessDecision
from edge.turnstile.officer import REASON_TEXTS
from edge.turnstile.passage import Result
from edge.turnstile.referral import Referral, Referrals

REFERRAL_MS_MAX: Final = 60_000  # While no settings say otherwise; SiteRow's default.
COUNT_MS: Final = 1_000  # Our choice: the screen's number of people is a second old at most.
MUSTER_PAGE: Final = 250  # Our choice: names of so many fit one answer, and open in some 10 ms.


class Locks(Protocol):
    """What the agent does when the officer locks the site down."""

    def lock_down(self, on: bool, moment: Moment) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One line of the muster list, for the officer's screen alone."""

    cardholder_id: str
    zone_id: str
    name: str = field(repr=False)
    group: str = field(repr=False)


class Desk:
    """Of one station with lanes. Every act answers "" when it was done, else a word why not."""

    def __init__(
        self,
        cache: Cache,
        journal: Journal,
        gates: Mapping[str, Gate],
        *,
        names: Names,
        locks: Locks,
        handovers: Handovers | None,
        count: Callable[[str], None],
    ) -> None:
        self.referrals = Referrals()
        self.handovers = handovers
        self._cache = cache
        self._journal = journal
        self._gates = gates
        self._names = names
        self._locks = locks
        self._count = count
        db = journal.writer.db
        # Referrals over, and not yet on disk: those whose agent ended before their end, too.
        self._unended = outbox.unended_referrals(db, outbox.lives(db, Stream.MAIN)[-1])
        self._counted: tuple[int, dict[str, int]] | None = None
        self._log = logs.get("desk")

    # ------------------------------------------------------------- what the gates tell

    def view(self, gate: Gate, view: CacheView, moment: Moment) -> CacheView:
        """What a decision has to know beside the lists."""
        if self.handovers is None:
            return view
        return self.handovers.view(view, gate.point.zone_id, moment)

    def decided(
        self, gate: Gate, access: str, view: CacheView, decision: AccessDecision, moment: Moment
    ) -> None:
        """A decision is on disk; whoever was referred waits for the officer from here on."""
        person = view.cardholder
        if decision.outcome is Outcome.REFER:
            name, group = self._names.of(person)
            ended = self.referrals.add(
                Referral(
                    access=access,
                    access_point_id=gate.point.access_point_id,
                    zone_id=gate.point.zone_id,
                    direction=gate.point.direction,
                    reason=decision.reason,
                    cardholder_id=None if person is None else person.cardholder_id,
                    until_ms=moment.mono_ms + self._referral_ms_max(),
                    text=REASON_TEXTS[decision.reason],
                    name=name,
                    group=group,
                    photo="" if person is None else person.photo_hash,
                )
            )
            self._expired(ended, moment)
        elif decision.outcome is Outcome.GRANT and person is not None:
            self._expired(self.referrals.passed(person.cardholder_id), moment)
        if self.handovers is not None:
            self.handovers.decided(gate.point, access, view, decision, moment)

    def ended(self, gate: Gate, result: Result, moment: Moment) -> None:
        """What became of a grant."""
        if self.handovers is not None:
            self.handovers.ended(gate.point, result, moment)

    def hear(self, alone: bool, moment: Moment) -> None:
        """Whether the other lanes cannot be heard now."""
        if self.handovers is not None:
            self.handovers.hear(alone, moment)

    def step(self, moment: Moment) -> None:
        self._expired(self.referrals.expire(moment.mono_ms), moment)
        if self.handovers is not None:
            self.handovers.step(moment)

    def due_ms(self) -> int | None:
        due = [self.referrals.due_ms]
        if self.handovers is not None:
            due.append(self.handovers.due_ms)
        return min((ms for ms in due if ms is not None), default=None)

    # ------------------------------------------------------------- what the officer does

    def override(
        self,
        officer: str,
        *,
        access_point: str,
        why: OverrideReason,
        moment: Moment,
        cardholder_id: str | None = None,
        of: str | None = None,
    ) -> str:
        """Open by hand, for one person."""
        gate = self._gates.get(access_point)
        if gate is None:
            return "not_here"
        if gate.shut_why:
            return gate.shut_why
        person = None
        if cardholder_id is not None:
            person = self._person(cardholder_id, moment)
            if person is None:
                return "unknown_person"
        if of is not None and not self._is_decision(of):
            return "unknown_decision"
        waits = None if of is None else self.referrals.find(of, moment.mono_ms)
        self._open(gate, officer, why, person, cardholder_id, of, waits, moment)
        return ""

    def answer(self, officer: str, access: str, confirm: bool, moment: Moment) -> str:
        """The officer's yes or no to a decision that waits."""
        waits = self.referrals.find(access, moment.mono_ms)
        if waits is None:
            return "over"
        if not confirm:
            self.referrals.end(access)
            self._end(((access, ReferralEnd.REFUSED),), officer, moment)
            self._gates[waits.access_point_id].show_refused(moment)
            return ""
        gate = self._gates[waits.access_point_id]
        if gate.shut_why:
            return gate.shut_why
        person = None
        if waits.cardholder_id is not None:
            person = self._person(waits.cardholder_id, moment)
        why = OverrideReason.REFERRED
        self._open(gate, officer, why, person, waits.cardholder_id, access, waits, moment)
        return ""

    def forgive(self, officer: str, cardholder_id: str, zone_id: str, moment: Moment) -> str:
        """Where the system thinks a person is counts no more; the other lanes hear of it."""
        zones = self.zones
        zone_id = zone_id or (min(zones) if len(zones) == 1 else "")
        if zone_id not in zones:
            return "not_here"
        if self._person(cardholder_id, moment) is None:
            return "unknown_person"
        try:
            with self._journal.record(moment) as acting:
                acting.add(
                    Forgiven(
                        **acting.stamp(moment),
                        cardholder=cardholder_id,
                        zone=zone_id,
                        officer=officer,
                    )
                )
        except (DeviceFault, CorruptData) as fault:
            return self._not_written("forgiven", fault)
        self._count("forgiven")
        return ""

    def lock_down(self, officer: str, on: bool, moment: Moment) -> str:
        """Nobody comes in, or everybody may again. What cannot be written down is done all the
        same when it shuts: an officer has a reason."""
        try:
            with self._journal.record(moment) as acting:
                acting.add(LockdownFact(**acting.stamp(moment), on=on, officer=officer))
        except (DeviceFault, CorruptData) as fault:
            why = self._not_written("lockdown", fault)
            if not on:
                return why
            any_gate = next(iter(self._gates.values()))
            any_gate.unwritten.note("lockdown", fault)  # Declared later.
        self._locks.lock_down(on, moment)
        return ""

    # ------------------------------------------------------------------ who is inside

    @property
    def zones(self) -> frozenset[str]:
        """Where the lanes of this station lead to."""
        return frozenset(gate.point.zone_id for gate in self._gates.values())

    def occupancy(self, moment: Moment) -> dict[str, int]:
        """Zone -> how many are in it, a second old at most."""
        if self._counted is None or moment.mono_ms - self._counted[0] >= COUNT_MS:
            found = {gate.point.zone_id: 0 for gate in self._gates.values()}
            try:
                found |= {zone: len(ids) for zone, ids in self._cache.inside(moment).items()}
            except (CorruptData, DeviceFault) as problem:
                self._count("lookup_failed")
                self._log.error("cannot count who is inside", reason=str(problem))
            self._counted = (moment.mono_ms, found)
        return self._counted[1]

    def muster(self, zone_id: str, after: str, moment: Moment) -> tuple[list[Person], bool]:
        """Who is inside now, in order of id behind `after`, and whether there are more. Raises
        `CorruptData` or `DeviceFault` where the files cannot be read."""
        inside = self._cache.inside(moment)
        wanted = [zone_id] if zone_id else sorted(inside)
        lines = sorted((one, zone) for zone in wanted for one in inside.get(zone, ()))
        rest = [line for line in lines if line > (after, "\U0010ffff")]
        page = rest[:MUSTER_PAGE]
        # Somebody in two zones stands on one page.
        while len(page) < len(rest) and page and rest[len(page)][0] == page[-1][0]:
            page.append(rest[len(page)])
        people = self._cache.persons({one for one, _ in page}, moment)
        found = []
        for one, zone in page:
            name, group = self._names.of(people.get(one))
            found.append(Person(cardholder_id=one, zone_id=zone, name=name, group=group))
        return found, len(page) < len(rest)

    # ------------------------------------------------------------------------ helpers

    def _open(
        self,
        gate: Gate,
        officer: str,
        why: OverrideReason,
        person: Cardholder | None,
        cardholder_id: str | None,
        of: str | None,
        waits: Referral | None,
        moment: Moment,
    ) -> None:
        """Record, then open. A disk that refuses keeps nobody out."""
        try:
            with self._journal.record(moment) as acting:
                passage_id = acting.add(
                    Override(
                        **acting.stamp(moment),
                        access_point=gate.point.access_point_id,
                        zone=gate.point.zone_id,
                        direction=gate.point.direction,
                        officer=officer,
                        why=why,
                        cardholder=cardholder_id,
                        of=of,
                    )
                )
                if waits is not None:
                    acting.add(
                        ReferralEnded(
                            **acting.stamp(moment),
                            access=waits.access,
                            end=ReferralEnd.CONFIRMED,
                            officer=officer,
                        )
                    )
        except (DeviceFault, CorruptData) as fault:
            passage_id = gate.unwritten.note_grant("override", fault)
        if waits is not None:
            self.referrals.end(waits.access)
        self._count(f"override_{why}")
        name, group = self._names.of(person)
        if self.handovers is not None and person is not None:
            self.handovers.let_in(gate.point, passage_id, person, moment)
        gate.admit(passage_id, moment, cardholder_id=cardholder_id, name=name, group=group)

    def _expired(self, ended: list[Referral], moment: Moment) -> None:
        over = (*self._unended, *(one.access for one in ended))
        if over:
            self._end(tuple((access, ReferralEnd.EXPIRED) for access in over), None, moment)

    def _end(
        self, ends: tuple[tuple[str, ReferralEnd], ...], officer: str | None, moment: Moment
    ) -> None:
        try:
            with self._journal.record(moment) as ending:
                for access, end in ends:
                    ending.add(
                        ReferralEnded(
                            **ending.stamp(moment), access=access, end=end, officer=officer
                        )
                    )
        except (DeviceFault, CorruptData) as fault:
            # As expired, at the next step: that nobody waits any more is what counts then.
            fresh = [access for access, _ in ends if access not in self._unended]
            self._unended += fresh
            if fresh:
                self._not_written("referral_ended", fault)
            return
        written = {access for access, _ in ends}
        self._unended = [access for access in self._unended if access not in written]
        for _, end in ends:
            self._count(f"referral_{end}")

    def _person(self, cardholder_id: str, moment: Moment) -> Cardholder | None:
        try:
            return self._cache.person(cardholder_id, moment)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot read the list of people", reason=str(problem))
            return None

    def _not_written(self, what: str, fault: Exception) -> str:
        self._count("unrecorded")
        self._log.error("cannot record what the officer did", what=what, reason=str(fault))
        return "disk"

    def _is_decision(self, key: str) -> bool:
        """Whether this may name a fact of ours; those the disk refused have a name, too."""
        epoch, _, number = key.rpartition(".")
        if epoch != self._journal.epoch:
            return False
        known = number.isascii() and number.isdigit() and 0 < int(number) <= self._journal.head
        return known or number.startswith("unrecorded-")

    def _referral_ms_max(self) -> int:
        site = self._cache.small.site
        return REFERRAL_MS_MAX if site is None else site.referral_ms_max
