"""What goes into a decision at a lane from the settings, and the fact that is recorded of it."""

from __future__ import annotations

from edge.messages import AccessFact, SiteRow, VersionMark
from edge.model import AccessPolicy, CacheView, ListState, Presentation
from edge.offline_cache.record import Stamp
from edge.readers.reader import CardRead
from edge.settings import AccessPointSettings
from edge.turnstile.decision import AccessDecision


def access_fact(
    stamp: Stamp,
    point: AccessPointSettings,
    read: CardRead,
    presentation: Presentation,
    view: CacheView,
    decision: AccessDecision,
) -> AccessFact:
    """Whom it was about, what it rested on, and what was decided."""
    people, person = view.people, view.cardholder
    return AccessFact(
        **stamp,
        access_point=point.access_point_id,
        zone=point.zone_id,
        direction=point.direction,
        reader=read.reader_id,
        tier=read.tier,
        credential=presentation.credential_id,
        cardholder=None if person is None else person.cardholder_id,
        outcome=decision.outcome,
        reason=decision.reason,
        caveats=tuple(sorted(decision.caveats)),
        people=mark_of(people),
        list_age_s=None if people is None else people.age_s,
        read_age_ms=presentation.age_ms,
    )


def policy_of(site: SiteRow | None, *, zone: str = "", alone: bool = False) -> AccessPolicy:
    """What the site's settings in force choose; the design's defaults while there are none."""
    if site is None:
        return AccessPolicy(alone=alone)
    return AccessPolicy(
        list_age_amber_s=site.list_age_amber_s,
        list_age_refer_s=site.list_age_refer_s,
        passback_mode=site.passback_by_zone.get(zone, site.passback_mode),
        passback_window_s=site.passback_window_s,
        alone=alone,
        out_is_free=site.out_is_free,
    )


def mark_of(state: ListState | None) -> VersionMark | None:
    """The version of a list, as facts name it."""
    return None if state is None else VersionMark(state.version.list_epoch, state.version.number)
