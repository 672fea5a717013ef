"""What stands on a lane's, an admission's, the officer's and the guardian's screens now.

Names are opened here and leave through the station's own socket and page alone. What is the
officer's to see (names of who waits, alerts, children and who was barred from them) is given only
while an officer is signed in.
"""

from __future__ import annotations

from typing import Any

from edge.agent import Agent
from edge.desk import Desk
from edge.model import Direction, Moment, Station
from edge.turnstile.english import english
from edge.turnstile.officer import LaneView
from edge.turnstile.referral import Referral


def lane_screens(agent: Agent, moment: Moment) -> list[dict[str, Any]]:
    """One for each direction of each lane, or for each point of an admission."""
    if agent.admissions is not None:
        return _admission_screens(agent, moment)
    photos = _photos(agent)
    return [
        {
            "access_point": name,
            "direction": gate.point.direction,
            **_shown(gate.screen(moment), photos=photos),
            "lane_state": gate.passage.state,
        }
        for name, gate in agent.gates.items()
    ]


def desk_screen(agent: Agent, moment: Moment) -> dict[str, Any]:
    """What goes beside them: the officer's desk and the information screen. {} without lanes."""
    desk = agent.desk
    if desk is None:
        return {}
    shown: dict[str, Any] = {
        "lockdown": agent.lockdown,
        "occupancy": desk.occupancy(moment),
        "officer": _officer(
            desk,
            moment,
            signed_in=bool(agent.staff.officer(moment)),
            photos=_photos(agent),
        ),
        "lanes": [
            {"lane": name, "alarms": list(lane.alarms)} for name, lane in agent.lanes.by_id.items()
        ],
    }
    if desk.handovers is not None:
        shown["handover"] = desk.handovers.screen(moment)
    return shown


def _photos(agent: Agent) -> bool:
    """Whether faces are shown at the door: at a pre-school, and where the site chose so."""
    site = agent.parts.cache.small.site
    return agent.parts.settings.station is Station.PRESCHOOL or (site is not None and site.photos)


def _officer(desk: Desk, moment: Moment, *, signed_in: bool, photos: bool) -> dict[str, Any]:
    handovers = desk.handovers
    alerts = () if handovers is None else tuple(handovers.alerts)
    return {
        "signed_in": signed_in,
        "referrals": [_referral(one, moment, signed_in, photos) for one in desk.referrals.waiting],
        "alerts_waiting": len(alerts),
        "alerts": [
            {
                "alert": alert.number,
                "what": alert.what,
                "wall_ms": alert.wall_ms,
                "guardian": alert.guardian,
                "children": list(alert.children),
            }
            for alert in alerts
            if signed_in
        ],
        "handovers": handovers.officer_screen(moment)
        if handovers is not None and signed_in
        else [],
    }


def _referral(one: Referral, moment: Moment, signed_in: bool, photos: bool) -> dict[str, Any]:
    return {
        "referral": one.access,
        "access_point": one.access_point_id,
        "direction": one.direction,
        "reason": one.reason,
        "text": one.text,
        "text_en": english(one.text),
        "seconds_left": max(0, -(-(one.until_ms - moment.mono_ms) // 1_000)),
        "cardholder": one.cardholder_id or "",
        "name": one.name if signed_in else "",
        "group": one.group if signed_in else "",
        "photo": one.photo if signed_in and photos else "",
    }


def _admission_screens(agent: Agent, moment: Moment) -> list[dict[str, Any]]:
    admissions = agent.admissions
    assert admissions is not None
    shown = []
    for point in admissions.points:
        up = any(agent.readers[reader].up for reader in admissions.readers_of(point))
        gate = agent.gates.get(point)
        shown.append(
            {
                "access_point": point,
                "direction": Direction.IN if gate is None else gate.point.direction,
                **_shown(admissions.screen(point, moment, up=up), photos=False),
                "lane_state": "none" if gate is None else gate.passage.state,
            }
        )
    return shown


def _shown(view: LaneView, *, photos: bool) -> dict[str, Any]:
    return {
        "state": view.state,
        "word": view.word,
        "word_en": english(view.word),
        "colour": view.light,
        "reason": view.reason,
        "text": view.text,
        "text_en": english(view.text),
        "name": view.name,
        "group": view.group,
        "photo": view.photo if photos else "",
        "cardholder": view.cardholder,
        "passage": view.passage,
    }
