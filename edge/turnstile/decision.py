"""Access decision: may this credential pass this access point now?

Pure: no clock, no database, no log. The caller gathers everything the answer depends on, calls
`decide_access`, and carries the answer out. Equal arguments give an equal decision on a gate, in
a test and in the city simulator, so a recorded decision can be replayed.

Left to others: what the view holds (`offline_cache/lookup.py`), what becomes of a grant
(`passage.py`), and the same card again within seconds, which is no new presentation at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge.model import (
    MINUTES_PER_WEEK,
    AccessPoint,
    AccessPolicy,
    AccessReason,
    CacheView,
    Category,
    Caveat,
    Direction,
    Now,
    Outcome,
    PassbackMode,
    Presentation,
)

__all__ = [
    "AccessDecision",
    "Caveat",
    "OUTCOMES",
    "Outcome",
    "Reason",
    "decide_access",
]

Reason = AccessReason

PRESENTATION_AGE_MS_MAX = 2_000  # Our choice: a read that waited in a queue opens no gate.

_DENY, _REFER, _GRANT = Outcome.DENY, Outcome.REFER, Outcome.GRANT

# A rule that is sure of itself refuses; a rule that can be wrong about a child sends it to a
# person. The third column holds where leaving is checked like entering (`out_is_free` is off):
# even there a lockdown keeps nobody inside.
_TABLE: tuple[tuple[Reason, Outcome, Outcome, Outcome], ...] = (
    # reason                     in       out      out, checked
    (Reason.STALE_READ,          _DENY,   _DENY,   _DENY),    # Tap again.
    (Reason.NO_LIST,             _REFER,  _GRANT,  _REFER),   # We know nobody: a person may.
    (Reason.LOCKDOWN,            _DENY,   _GRANT,  _GRANT),
    (Reason.HOT_LISTED,          _DENY,   _GRANT,  _DENY),    # Lost card: ask for your new one.
    (Reason.TIER_BELOW_ENROLLED, _DENY,   _GRANT,  _DENY),    # A copy, whatever its number.
    (Reason.REPLAYED,            _DENY,   _GRANT,  _DENY),
    (Reason.UNKNOWN_CREDENTIAL,  _DENY,   _GRANT,  _DENY),    # By an old list: see below.
    (Reason.WRONG_SITE,          _DENY,   _GRANT,  _DENY),
    (Reason.SUSPENDED,           _DENY,   _GRANT,  _DENY),
    (Reason.NOT_YET_VALID,       _DENY,   _GRANT,  _DENY),
    (Reason.EXPIRED,             _DENY,   _GRANT,  _DENY),
    (Reason.NO_ACCESS_RIGHT,     _DENY,   _GRANT,  _DENY),
    (Reason.OUTSIDE_SCHEDULE,    _REFER,  _GRANT,  _REFER),   # Timetables change by word of mouth.
    (Reason.PASSBACK,            _REFER,  _GRANT,  _REFER),   # A missed passage looks the same.
    (Reason.GUARDIAN_CHOICE,     _REFER,  _REFER,  _REFER),   # Nobody knows yet who has the child.
    (Reason.AUTHORIZED,          _GRANT,  _GRANT,  _GRANT),
)  # fmt: skip

OUTCOMES: Mapping[tuple[Reason, Direction, bool], Outcome] = MappingProxyType(
    {
        key: outcome
        for reason, entering, leaving, leaving_checked in _TABLE
        for key, outcome in (
            ((reason, Direction.IN, True), entering),
            ((reason, Direction.IN, False), entering),
            ((reason, Direction.OUT, True), leaving),
            ((reason, Direction.OUT, False), leaving_checked),
        )
    }
)
"""`(reason, direction, policy.out_is_free)` -> outcome, but for `_outcome`'s one exception."""

assert len(OUTCOMES) == 4 * len(Reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDecision:
    """Outcome and its one reason; the caveats say what it had to do without."""

    outcome: Outcome
    reason: Reason
    caveats: frozenset[Caveat]


def decide_access(
    presentation: Presentation,
    view: CacheView,
    point: AccessPoint,
    now: Now,
    policy: AccessPolicy = AccessPolicy(),
) -> AccessDecision:
    """The first reason that applies, and what the site's policy makes of it."""
    assert presentation.age_ms >= 0
    assert 0 <= now.minute_of_week < MINUTES_PER_WEEK
    reason = _first_reason(presentation, view, point, now, policy)
    return AccessDecision(
        outcome=_outcome(reason, view, point, policy),
        reason=reason,
        caveats=_caveats(view, point, now, policy),
    )


def _first_reason(
    presentation: Presentation,
    view: CacheView,
    point: AccessPoint,
    now: Now,
    policy: AccessPolicy,
) -> Reason:
    if presentation.age_ms > PRESENTATION_AGE_MS_MAX:
        return Reason.STALE_READ
    if view.people is None:
        return Reason.NO_LIST
    if point.lockdown:
        return Reason.LOCKDOWN
    if view.hot_listed:
        return Reason.HOT_LISTED
    credential, cardholder = view.credential, view.cardholder
    # The enrolled tier is a floor: a card enrolled with a key that comes as a bare number is a
    # copy of the number.
    if credential is not None and presentation.tier < credential.tier:
        return Reason.TIER_BELOW_ENROLLED
    if presentation.replayed:
        return Reason.REPLAYED
    if credential is None or cardholder is None:
        return Reason.UNKNOWN_CREDENTIAL
    if not cardholder.here:
        return Reason.WRONG_SITE
    if cardholder.suspended:
        return Reason.SUSPENDED
    # A clock nobody trusts may not shut a child out: rules about time are skipped, and the
    # caveat says so. Rules about who and where still hold.
    if now.clock_trusted and now.utc_s < credential.valid_from_utc_s:
        return Reason.NOT_YET_VALID
    if now.clock_trusted and now.utc_s >= credential.valid_until_utc_s:
        return Reason.EXPIRED
    windows = cardholder.windows_by_zone.get(point.zone_id, ())
    if not windows:
        return Reason.NO_ACCESS_RIGHT
    if now.clock_trusted and not any(now.minute_of_week in window for window in windows):
        return Reason.OUTSIDE_SCHEDULE
    if _passed_back(view, point, policy) and _passback_refuses(view, policy):
        return Reason.PASSBACK
    if view.choice_pending and point.direction is Direction.OUT:
        return Reason.GUARDIAN_CHOICE
    return Reason.AUTHORIZED


def _passed_back(view: CacheView, point: AccessPoint, policy: AccessPolicy) -> bool:
    """A second passage in the same direction, of someone whom the rule is for."""
    if policy.passback_mode is PassbackMode.OFF:
        return False
    if view.cardholder is None or view.cardholder.category is Category.STAFF:
        return False
    return view.last_direction is point.direction


def _is_guardian(view: CacheView) -> bool:
    return view.cardholder is not None and view.cardholder.category is Category.GUARDIAN


def _passback_refuses(view: CacheView, policy: AccessPolicy) -> bool:
    """Whether a passback stops a person here or is reported alone.

    Lanes that cannot hear each other do not know who passed at the other one, so they only
    report. So does a timed rule whose window is over, or that cannot tell.
    """
    if policy.alone or policy.passback_mode is PassbackMode.SOFT:
        return False
    if policy.passback_mode is PassbackMode.TIMED:
        age_s = view.last_passage_age_s
        return age_s is not None and age_s < policy.passback_window_s
    return True


def _outcome(reason: Reason, view: CacheView, point: AccessPoint, policy: AccessPolicy) -> Outcome:
    outcome = OUTCOMES[reason, point.direction, policy.out_is_free]
    if reason is Reason.UNKNOWN_CREDENTIAL and outcome is Outcome.DENY:
        assert view.people is not None, "without a list the reason is no_list"
        age_s = view.people.age_s
        # The list is too old to say that somebody is not on it.
        if age_s is not None and age_s > policy.list_age_refer_s:
            return Outcome.REFER
    return outcome


def _caveats(
    view: CacheView, point: AccessPoint, now: Now, policy: AccessPolicy
) -> frozenset[Caveat]:
    caveats = set()
    if not now.clock_trusted:
        caveats.add(Caveat.CLOCK_UNTRUSTED)
    if view.people is not None:
        age_s = view.people.age_s
        if age_s is None or age_s > policy.list_age_amber_s:
            caveats.add(Caveat.OLD_LIST)
    if policy.alone and (policy.passback_mode is not PassbackMode.OFF or _is_guardian(view)):
        caveats.add(Caveat.ALONE)  # Who passed, or what was said, at the other lane is not known.
    if _passed_back(view, point, policy) and not _passback_refuses(view, policy):
        caveats.add(Caveat.PASSBACK)
    return frozenset(caveats)
