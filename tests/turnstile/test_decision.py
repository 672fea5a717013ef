"""Goal: the first reason that applies is the one given, whatever else applies with it, and the
outcome is the one the table gives that reason, direction and policy.

Method: one case that is authorized, one way to spoil it per reason, then every combination of
spoilers, under a trusted and an untrusted clock, in both directions, under every policy that
changes an answer: 2**15 combinations 32 times over. Spoilers are bits of a number, so the first
that applies is its lowest bit. The table is checked against a second one, written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest

from edge.model import (
    MINUTES_PER_WEEK,
    AccessPoint,
    AccessPolicy,
    CacheView,
    Cardholder,
    Category,
    Credential,
    Direction,
    ListState,
    Now,
    PassbackMode,
    Presentation,
    Version,
)
from edge.turnstile.decision import (
    OUTCOMES,
    AccessDecision,
    Caveat,
    Outcome,
    Reason,
    decide_access,
)

IN, OUT = Direction.IN, Direction.OUT
MONDAY_0815 = 8 * 60 + 15
SCHOOL_HOURS = range(7 * 60, 18 * 60)
DAY_S = 24 * 60 * 60
OTHER = {IN: OUT, OUT: IN}
SOFT = AccessPolicy()
HARD = AccessPolicy(passback_mode=PassbackMode.HARD)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Someone who is let through, in terms a test can spoil one at a time."""

    direction: Direction = IN
    age_ms: int = 120
    has_list: bool = True
    lockdown: bool = False
    hot_listed: bool = False
    tier: int = 3
    tier_enrolled: int = 3
    replayed: bool = False
    known: bool = True
    here: bool = True
    suspended: bool = False
    valid_from_utc_s: int = 1_000
    valid_until_utc_s: int = 9_000
    utc_s: int = 5_000
    has_right: bool = True
    minute_of_week: int = MONDAY_0815
    passed_back: bool = False
    last_direction: Direction | None = None
    last_passage_age_s: int | None = 10
    choice_pending: bool = False
    category: Category = Category.PUPIL
    clock_trusted: bool = True
    list_age_s: int | None = 60
    policy: AccessPolicy = SOFT

    def presentation(self) -> Presentation:
        return Presentation(
            credential_id="c1", age_ms=self.age_ms, tier=self.tier, replayed=self.replayed
        )

    def view(self) -> CacheView:
        credential = Credential(
            credential_id="c1",
            cardholder_id="p1",
            tier=self.tier_enrolled,
            valid_from_utc_s=self.valid_from_utc_s,
            valid_until_utc_s=self.valid_until_utc_s,
        )
        cardholder = Cardholder(
            cardholder_id="p1",
            category=self.category,
            account_id=None,
            suspended=self.suspended,
            here=self.here,
            windows_by_zone={"school": (SCHOOL_HOURS,)} if self.has_right else {},
        )
        people = ListState(version=Version(list_epoch=1, number=7), age_s=self.list_age_s)
        last = self.direction if self.passed_back else OTHER[self.direction]
        return CacheView(
            people=people if self.has_list else None,
            hot_listed=self.hot_listed,
            credential=credential if self.known else None,
            cardholder=cardholder if self.known else None,
            last_direction=self.last_direction or last,
            last_passage_age_s=self.last_passage_age_s,
            choice_pending=self.choice_pending,
        )

    def point(self) -> AccessPoint:
        return AccessPoint(
            access_point_id="north-in",
            zone_id="school",
            direction=self.direction,
            lockdown=self.lockdown,
        )

    def now(self) -> Now:
        return Now(
            utc_s=self.utc_s,
            minute_of_week=self.minute_of_week,
            clock_trusted=self.clock_trusted,
        )

    def decide(self) -> AccessDecision:
        return decide_access(
            self.presentation(), self.view(), self.point(), self.now(), self.policy
        )


SPOILERS: dict[Reason, dict[str, Any]] = {
    Reason.STALE_READ: {"age_ms": 2_001},
    Reason.NO_LIST: {"has_list": False},
    Reason.LOCKDOWN: {"lockdown": True},
    Reason.HOT_LISTED: {"hot_listed": True},
    Reason.TIER_BELOW_ENROLLED: {"tier": 2},
    Reason.REPLAYED: {"replayed": True},
    Reason.UNKNOWN_CREDENTIAL: {"known": False},
    Reason.WRONG_SITE: {"here": False},
    Reason.SUSPENDED: {"suspended": True},
    Reason.NOT_YET_VALID: {"valid_from_utc_s": 5_001},
    Reason.EXPIRED: {"valid_until_utc_s": 5_000},
    Reason.NO_ACCESS_RIGHT: {"has_right": False},
    Reason.OUTSIDE_SCHEDULE: {"minute_of_week": SCHOOL_HOURS.stop},
    Reason.PASSBACK: {"passed_back": True},
    Reason.GUARDIAN_CHOICE: {"choice_pending": True},
}
ORDER = [*SPOILERS, Reason.AUTHORIZED]
BIT = {reason: 1 << place for place, reason in enumerate(SPOILERS)}
NEEDS_THE_CLOCK = (Reason.NOT_YET_VALID, Reason.EXPIRED, Reason.OUTSIDE_SCHEDULE)
POLICIES = (
    SOFT,  # And out is free.
    AccessPolicy(passback_mode=PassbackMode.OFF, alone=True, out_is_free=False),
    AccessPolicy(passback_mode=PassbackMode.SOFT, alone=True, out_is_free=False),
    AccessPolicy(passback_mode=PassbackMode.TIMED),
    AccessPolicy(passback_mode=PassbackMode.TIMED, alone=True, out_is_free=False),
    HARD,
    AccessPolicy(passback_mode=PassbackMode.HARD, out_is_free=False),
    AccessPolicy(passback_mode=PassbackMode.HARD, alone=True),
)

D, R, G = Outcome.DENY, Outcome.REFER, Outcome.GRANT
WRITTEN: dict[Reason, tuple[Outcome, Outcome, Outcome]] = {  # In; out; out where it is checked.
    Reason.STALE_READ: (D, D, D),
    Reason.NO_LIST: (R, G, R),
    Reason.LOCKDOWN: (D, G, G),
    Reason.HOT_LISTED: (D, G, D),
    Reason.TIER_BELOW_ENROLLED: (D, G, D),
    Reason.REPLAYED: (D, G, D),
    Reason.UNKNOWN_CREDENTIAL: (D, G, D),
    Reason.WRONG_SITE: (D, G, D),
    Reason.SUSPENDED: (D, G, D),
    Reason.NOT_YET_VALID: (D, G, D),
    Reason.EXPIRED: (D, G, D),
    Reason.NO_ACCESS_RIGHT: (D, G, D),
    Reason.OUTSIDE_SCHEDULE: (R, G, R),
    Reason.PASSBACK: (R, G, R),
    Reason.GUARDIAN_CHOICE: (R, R, R),
    Reason.AUTHORIZED: (G, G, G),
}


def test_every_reason_but_the_last_has_a_spoiler_in_checking_order() -> None:
    assert list(Reason) == ORDER


def test_the_table_is_the_written_one() -> None:
    for reason, (entering, leaving, leaving_checked) in WRITTEN.items():
        assert OUTCOMES[reason, IN, True] is OUTCOMES[reason, IN, False] is entering, reason
        assert OUTCOMES[reason, OUT, True] is leaving, reason
        assert OUTCOMES[reason, OUT, False] is leaving_checked, reason
    assert len(OUTCOMES) == 4 * len(WRITTEN)


def test_who_is_referred_and_who_is_refused() -> None:
    def entering(outcome: Outcome) -> set[Reason]:
        return {reason for reason in Reason if OUTCOMES[reason, IN, True] is outcome}

    assert entering(Outcome.GRANT) == {Reason.AUTHORIZED}
    assert entering(Outcome.REFER) == {
        Reason.NO_LIST,
        Reason.OUTSIDE_SCHEDULE,
        Reason.PASSBACK,
        Reason.GUARDIAN_CHOICE,
    }
    leaving = {reason: OUTCOMES[reason, OUT, True] for reason in Reason}
    assert {reason for reason in Reason if leaving[reason] is not Outcome.GRANT} == {
        Reason.STALE_READ,
        Reason.GUARDIAN_CHOICE,
    }


def _spoiled(case: Case, mask: int, reasons: range) -> Case:
    for place in reasons:
        if mask >> place & 1:
            case = replace(case, **SPOILERS[ORDER[place]])
    return case


def _passback_stops(policy: AccessPolicy) -> bool:
    return not policy.alone and policy.passback_mode in (PassbackMode.TIMED, PassbackMode.HARD)


def _skipped(direction: Direction, policy: AccessPolicy, clock_trusted: bool) -> int:
    """The bits of the spoilers that spoil nothing here."""
    skipped = 0 if clock_trusted else sum(BIT[reason] for reason in NEEDS_THE_CLOCK)
    if not _passback_stops(policy):
        skipped |= BIT[Reason.PASSBACK]
    if direction is IN:
        skipped |= BIT[Reason.GUARDIAN_CHOICE]
    return skipped


@pytest.mark.slow
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("policy", POLICIES, ids=range(len(POLICIES)))
def test_the_first_reason_that_applies_is_given(direction: Direction, policy: AccessPolicy) -> None:
    # Each argument of the decision is built once per combination of the spoilers it holds.
    every = range(len(SPOILERS))
    base = Case(direction=direction, policy=policy)
    shown = (BIT[Reason.STALE_READ], BIT[Reason.TIER_BELOW_ENROLLED], BIT[Reason.REPLAYED])
    in_view = sum(BIT.values()) - sum(shown) - BIT[Reason.LOCKDOWN] - BIT[Reason.OUTSIDE_SCHEDULE]
    presentations: dict[int, Presentation] = {}
    views: dict[int, CacheView] = {}
    for mask in range(1 << len(SPOILERS)):
        if mask & ~sum(shown) == 0:
            presentations[mask] = _spoiled(base, mask, every).presentation()
        if mask & ~in_view == 0:
            views[mask] = _spoiled(base, mask, every).view()
    points = {bit: replace(base, lockdown=bool(bit)).point() for bit in (0, BIT[Reason.LOCKDOWN])}
    late, unknown = BIT[Reason.OUTSIDE_SCHEDULE], BIT[Reason.UNKNOWN_CREDENTIAL]
    soft = policy.passback_mode is not PassbackMode.OFF and not _passback_stops(policy)
    alone = policy.alone and policy.passback_mode is not PassbackMode.OFF
    for clock_trusted in (True, False):
        timed = replace(base, clock_trusted=clock_trusted)
        nows = {0: timed.now(), late: replace(timed, minute_of_week=SCHOOL_HOURS.stop).now()}
        counts = ~_skipped(direction, policy, clock_trusted)
        for mask in range(1 << len(SPOILERS)):
            decision = decide_access(
                presentations[mask & sum(shown)],
                views[mask & in_view],
                points[mask & BIT[Reason.LOCKDOWN]],
                nows[mask & late],
                policy,
            )
            applies = mask & counts
            if mask & unknown:  # Nobody knows which tier the card was enrolled with.
                applies &= ~BIT[Reason.TIER_BELOW_ENROLLED]
            first = ORDER[(applies & -applies).bit_length() - 1] if applies else ORDER[-1]
            assert decision.reason is first, f"{mask:015b}"
            assert decision.outcome is OUTCOMES[first, direction, policy.out_is_free]
            passback = soft and bool(mask & BIT[Reason.PASSBACK]) and not mask & unknown
            assert (Caveat.CLOCK_UNTRUSTED in decision.caveats) is not clock_trusted
            assert (Caveat.PASSBACK in decision.caveats) is passback, f"{mask:015b}"
            assert (Caveat.ALONE in decision.caveats) is alone
            assert Caveat.OLD_LIST not in decision.caveats


def test_no_combination_of_rules_without_the_clock_refuses_by_time() -> None:
    for spoiled in product((False, True), repeat=len(NEEDS_THE_CLOCK)):
        case = Case(clock_trusted=False)
        for reason, on in zip(NEEDS_THE_CLOCK, spoiled, strict=True):
            case = replace(case, **SPOILERS[reason]) if on else case
        decision = case.decide()
        assert decision.reason is Reason.AUTHORIZED
        assert decision.outcome is Outcome.GRANT
        assert decision.caveats == {Caveat.CLOCK_UNTRUSTED}


@pytest.mark.parametrize(
    "last_moment",
    [
        {"age_ms": 2_000},
        {"tier": 3},
        {"tier": 6},
        {"valid_from_utc_s": 5_000},
        {"valid_until_utc_s": 5_001},
        {"minute_of_week": SCHOOL_HOURS.start},
        {"minute_of_week": SCHOOL_HOURS.stop - 1},
        {"list_age_s": DAY_S},
        {"policy": HARD},
        {"policy": HARD, "passed_back": True, "category": Category.STAFF},
        {"choice_pending": True},
    ],
    ids=str,
)
def test_the_last_moment_that_still_passes_without_a_word(last_moment: dict[str, Any]) -> None:
    decision = replace(Case(), **last_moment).decide()
    assert decision.outcome is Outcome.GRANT
    assert decision.reason is Reason.AUTHORIZED
    assert decision.caveats == frozenset()


@pytest.mark.parametrize(
    ("first_moment", "reason"),
    [
        ({"age_ms": 2_001}, Reason.STALE_READ),
        ({"tier": 2}, Reason.TIER_BELOW_ENROLLED),
        ({"valid_from_utc_s": 5_001}, Reason.NOT_YET_VALID),
        ({"valid_until_utc_s": 5_000}, Reason.EXPIRED),
        ({"minute_of_week": SCHOOL_HOURS.start - 1}, Reason.OUTSIDE_SCHEDULE),
        ({"minute_of_week": SCHOOL_HOURS.stop}, Reason.OUTSIDE_SCHEDULE),
        ({"minute_of_week": MINUTES_PER_WEEK - 1}, Reason.OUTSIDE_SCHEDULE),
    ],
    ids=str,
)
def test_the_first_moment_that_no_longer_passes(
    first_moment: dict[str, Any], reason: Reason
) -> None:
    assert replace(Case(), **first_moment).decide().reason is reason


@pytest.mark.parametrize(
    ("list_age_s", "unknown", "caveats"),
    [
        (0, Outcome.DENY, set()),
        (DAY_S, Outcome.DENY, set()),
        (DAY_S + 1, Outcome.DENY, {Caveat.OLD_LIST}),
        (7 * DAY_S, Outcome.DENY, {Caveat.OLD_LIST}),
        (7 * DAY_S + 1, Outcome.REFER, {Caveat.OLD_LIST}),
        (None, Outcome.DENY, {Caveat.OLD_LIST}),  # Cannot be told: older than A, no more.
    ],
)
def test_the_older_the_list_the_more_a_person_decides(
    list_age_s: int | None, unknown: Outcome, caveats: set[Caveat]
) -> None:
    pupil = Case(list_age_s=list_age_s)
    assert pupil.decide().outcome is Outcome.GRANT
    assert pupil.decide().caveats == caveats
    stranger = replace(pupil, known=False)
    assert stranger.decide().reason is Reason.UNKNOWN_CREDENTIAL
    assert stranger.decide().outcome is unknown
    assert replace(stranger, direction=OUT).decide().outcome is Outcome.GRANT
    lost_card = replace(pupil, hot_listed=True)
    assert lost_card.decide().outcome is Outcome.DENY


def test_a_credential_without_its_cardholder_is_unknown() -> None:
    case = Case()
    view = replace(case.view(), cardholder=None)
    decision = decide_access(case.presentation(), view, case.point(), case.now())
    assert decision.reason is Reason.UNKNOWN_CREDENTIAL


def test_a_lockdown_keeps_nobody_inside_under_any_policy() -> None:
    for policy in POLICIES:
        case = Case(direction=OUT, lockdown=True, policy=policy)
        assert case.decide().reason is Reason.LOCKDOWN
        assert case.decide().outcome is Outcome.GRANT


@pytest.mark.parametrize(
    ("age_s", "outcome", "caveats"),
    [
        (0, Outcome.REFER, set()),
        (299, Outcome.REFER, set()),
        (300, Outcome.GRANT, {Caveat.PASSBACK}),
        (None, Outcome.GRANT, {Caveat.PASSBACK}),  # Cannot be told: reported, nobody stopped.
    ],
)
def test_timed_passback_stops_inside_its_window_and_reports_after_it(
    age_s: int | None, outcome: Outcome, caveats: set[Caveat]
) -> None:
    timed = AccessPolicy(passback_mode=PassbackMode.TIMED)
    case = Case(passed_back=True, last_passage_age_s=age_s, policy=timed)
    assert case.decide().outcome is outcome
    assert case.decide().caveats == caveats


def test_a_lane_that_hears_no_other_only_reports() -> None:
    for mode in (PassbackMode.TIMED, PassbackMode.HARD):
        policy = AccessPolicy(passback_mode=mode, alone=True)
        decision = Case(passed_back=True, policy=policy).decide()
        assert decision.outcome is Outcome.GRANT
        assert decision.reason is Reason.AUTHORIZED
        assert decision.caveats == {Caveat.PASSBACK, Caveat.ALONE}


def test_soft_passback_lets_checking_go_on_to_the_guardians_choice() -> None:
    case = Case(direction=OUT, passed_back=True, choice_pending=True, category=Category.GUARDIAN)
    assert case.decide().reason is Reason.GUARDIAN_CHOICE
    assert case.decide().outcome is Outcome.REFER
    assert case.decide().caveats == {Caveat.PASSBACK}


def test_nobody_passed_today_is_no_passback() -> None:
    case = Case(policy=HARD)
    view = replace(case.view(), last_direction=None, last_passage_age_s=None)
    decision = decide_access(case.presentation(), view, case.point(), case.now(), HARD)
    assert decision.reason is Reason.AUTHORIZED


def test_what_cannot_be_is_asserted() -> None:
    with pytest.raises(AssertionError):
        Case(age_ms=-1).decide()
    with pytest.raises(AssertionError):
        Case(minute_of_week=MINUTES_PER_WEEK).decide()
