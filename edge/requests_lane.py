"""Requests of the officer's and the guardian's screens, and of whoever asks who is inside.

Who acts is asked of the station (`agent.staff.officer`), never believed from a request. An answer
is `{"ok": true}` with what was asked for, or `{"ok": false, "why": a word, "error": a sentence}`
(`invalid`: the request itself is not as it should be);
the guardian's screen also gets `text` (and `text_en`), to be shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from edge.agent import Agent
from edge.desk import Desk
from edge.handover import Handovers
from edge.model import CorruptData, DeviceFault, HandoverKind, Moment, OverrideReason
from edge.turnstile.english import english
from edge.turnstile.guardian import CHILDREN_MAX, Choice, Problem, said_to_guardian

_Enum = TypeVar("_Enum", OverrideReason, HandoverKind)

# What an officer says who opens by hand; a referral is answered by its own request.
BY_HAND: Final = tuple(why for why in OverrideReason if why is not OverrideReason.REFERRED)
WORD_CHARS_MAX: Final = 80  # Our choice: an id, `<epoch>.<sequence>`, a reason: all are shorter.

# Why an act was not done, as a sentence for whoever writes screens.
ERRORS: Final[dict[str, str]] = {
    "no_officer": "no officer is signed in at this station; sign in with card and PIN",
    "no_desk": "this station has no officer's desk",
    "no_handovers": "this station hands over no children",
    "not_here": "there is no such access point, zone or lane at this station",
    "unknown_person": "nobody of this id is on the list of people",
    "over": "this referral is over: answered, expired, or replaced by a newer tap",
    "lockdown": "a lockdown is on; lift it first",
    "lane_down": "the lane does not move, or its arm stands open",
    "lane_busy": "too many wait in the lane; try again in a moment",
    "disk": "it cannot be written down now; nothing was done",
    "unreadable": "the lists cannot be read now; try again in a moment",
    "no_fire": "there is no fire release to end",
    "alarm_active": "the fire alarm's wire is still active",
    "not_recorded": "it cannot be written down now; the lane stays free",
    "moved_on": "the screen shows another dialogue by now",
    "no_children": "no child is marked",
    "children_with_no_child": "children are marked, and no child is said to come",
    "ask_officer": "the officer is needed",
    "barred": "this person may not have the child, whoever says so",
    "not_a_ward": "this is no child of theirs",
    "too_many": "too many children at once, or one of them twice",
    "already_in": "the child is in already; it waits for the officer",
    "not_in": "the child is not in today; it waits for the officer",
    "seen": "no such alert; it was seen already",
    "unknown_decision": "no such decision of this station; leave it out if there was none",
}


def _refuse(why: str) -> dict[str, Any]:
    return {"ok": False, "why": why, "error": ERRORS.get(why, why)}


def _done(why: str) -> dict[str, Any]:
    return _refuse(why) if why else {"ok": True}


def _word(body: dict[str, Any], name: str, default: str | None = None) -> str:
    found = body.get(name)
    found = default if found is None else found
    if not isinstance(found, str) or len(found) > WORD_CHARS_MAX:
        raise ValueError(f'"{name}" must be a word of at most {WORD_CHARS_MAX} characters')
    return found


def _one_of(body: dict[str, Any], name: str, choices: Collection[_Enum]) -> _Enum:
    found = body.get(name)
    for one in choices:
        if found == one.value:
            return one
    raise ValueError(f'"{name}" must be one of {", ".join(one.value for one in choices)}')


def _flag(body: dict[str, Any], name: str) -> bool:
    found = body.get(name)
    if not isinstance(found, bool):
        raise ValueError(f'"{name}" must be true or false')
    return found


# Handlers that need the signed-in officer and the desk get both.
_ByOfficer = Callable[[Agent, Desk, str, dict[str, Any], Moment], dict[str, Any]]
_Handler = Callable[[Agent, dict[str, Any], Moment], dict[str, Any]]


def _by_officer(act: _ByOfficer) -> _Handler:
    def handler(agent: Agent, body: dict[str, Any], moment: Moment) -> dict[str, Any]:
        if agent.desk is None:
            return _refuse("no_desk")
        officer = agent.staff.officer(moment)
        if not officer:
            return _refuse("no_officer")
        try:
            return act(agent, agent.desk, officer, body, moment)
        except (CorruptData, DeviceFault):
            agent.count("officer_request_failed")
            return _refuse("unreadable")

    return handler


def _override(
    _agent: Agent, desk: Desk, officer: str, body: dict[str, Any], moment: Moment
) -> dict[str, Any]:
    """`access_point`, `why`; optionally `cardholder` and `of`, the decision that it overrides (its
    id is the screen's `passage`)."""
    return _done(
        desk.override(
            officer,
            access_point=_word(body, "access_point"),
            why=_one_of(body, "why", BY_HAND),
            cardholder_id=_word(body, "cardholder", "") or None,
            of=_word(body, "of", "") or None,
            moment=moment,
        )
    )


def _referral(
    _agent: Agent, desk: Desk, officer: str, body: dict[str, Any], moment: Moment
) -> dict[str, Any]:
    """`referral` (its id in the screen's `referrals`) and `confirm`: true or false."""
    return _done(desk.answer(officer, _word(body, "referral"), _flag(body, "confirm"), moment))


def _forgive(
    _agent: Agent, desk: Desk, officer: str, body: dict[str, Any], moment: Moment
) -> dict[str, Any]:
    """`cardholder`, and `zone` where the station has several."""
    return _done(desk.forgive(officer, _word(body, "cardholder"), _word(body, "zone", ""), moment))


def _lockdown(
    _agent: Agent, desk: Desk, officer: str, body: dict[str, Any], moment: Moment
) -> dict[str, Any]:
    return _done(desk.lock_down(officer, _flag(body, "on"), moment))


def _fire_reset(
    agent: Agent, _desk: Desk, officer: str, body: dict[str, Any], moment: Moment
) -> dict[str, Any]:
    """`lane`; the only one where it is left out."""
    lanes = agent.lanes.by_id
    name = _word(body, "lane", next(iter(lanes)) if len(lanes) == 1 else "")
    lane = lanes.get(name)
    return _refuse("not_here") if lane is None else _done(lane.fire_reset(officer, moment))


def _muster(
    _agent: Agent, desk: Desk, _officer: str, body: dict[str, Any], moment: Moment
) -> dict[str, Any]:
    """Who is inside now. A long list comes in pages: ask again with `after`, the last id of the
    page before, while `more` is true."""
    zone = _word(body, "zone", "")
    if zone and zone not in desk.zones:
        return _refuse("not_here")
    people, more = desk.muster(zone, _word(body, "after", ""), moment)
    return {
        "ok": True,
        "people": [
            {
                "cardholder": one.cardholder_id,
                "zone": one.zone_id,
                "name": one.name,
                "group": one.group,
            }
            for one in people
        ],
        "more": more,
    }


def _alert_seen(
    _agent: Agent, desk: Desk, _officer: str, body: dict[str, Any], _moment: Moment
) -> dict[str, Any]:
    """`alert`: its number."""
    if desk.handovers is None:
        return _refuse("no_handovers")
    number = body.get("alert")
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError('"alert" must be the number of an alert on the screen')
    return _done("" if desk.handovers.see_alert(number) else "seen")


def _handover_confirm(
    _agent: Agent, desk: Desk, officer: str, body: dict[str, Any], moment: Moment
) -> dict[str, Any]:
    """`dialogue` and `confirm`: the officer's word on a choice that the rules would not take."""
    if desk.handovers is None:
        return _refuse("no_handovers")
    confirm = _flag(body, "confirm")
    problem = desk.handovers.answer_claim(officer, _word(body, "dialogue"), confirm, moment)
    return _done("" if problem is None else problem.value)


def _occupancy(agent: Agent, _body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    """How many are in each zone; no names, so nobody need be signed in."""
    if agent.desk is None:
        return _refuse("no_desk")
    return {"ok": True, "occupancy": agent.desk.occupancy(moment)}


def _handovers(agent: Agent) -> Handovers | None:
    return None if agent.desk is None else agent.desk.handovers


def _handover_screen(agent: Agent, _body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    """What the information screen shows; `dialogue` is "" while nobody is asked."""
    handovers = _handovers(agent)
    if handovers is None:
        return _refuse("no_handovers")
    return {"ok": True, **handovers.screen(moment)}


def _handover_choose(agent: Agent, body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    """`dialogue`, `what` (brought, collected, no_child) and `children`, a list of ids."""
    handovers = _handovers(agent)
    if handovers is None:
        return _refuse("no_handovers")
    children = body.get("children", [])
    if not isinstance(children, list) or len(children) > CHILDREN_MAX:
        raise ValueError(f'"children" must be a list of at most {CHILDREN_MAX} ids')
    if not all(isinstance(one, str) and len(one) <= WORD_CHARS_MAX for one in children):
        raise ValueError('"children" must be a list of ids')
    choice = Choice(what=_one_of(body, "what", tuple(HandoverKind)), children=tuple(children))
    try:
        problem = handovers.choose(_word(body, "dialogue"), choice, moment)
    except (CorruptData, DeviceFault):
        agent.count("handover_failed")
        return _refuse("disk") | _said(Problem.NOT_A_WARD)
    if problem is None:
        return {"ok": True}
    return _refuse(said_to_guardian(problem)[0]) | _said(problem)


def _said(problem: Problem) -> dict[str, str]:
    _, text = said_to_guardian(problem)
    return {"text": text, "text_en": english(text)}


def _told(handler: _Handler) -> _Handler:
    """What is wrong with a request is an answer like every other."""

    def told(agent: Agent, body: dict[str, Any], moment: Moment) -> dict[str, Any]:
        try:
            return handler(agent, body, moment)
        except ValueError as problem:
            return {"ok": False, "why": "invalid", "error": str(problem)}

    return told


_HANDLERS: Final[dict[str, _Handler]] = {
    "override": _by_officer(_override),
    "referral": _by_officer(_referral),
    "forgive": _by_officer(_forgive),
    "lockdown": _by_officer(_lockdown),
    "fire_reset": _by_officer(_fire_reset),
    "muster": _by_officer(_muster),
    "alert_seen": _by_officer(_alert_seen),
    "handover_confirm": _by_officer(_handover_confirm),
    "occupancy": _occupancy,
    "handover_screen": _handover_screen,
    "handover_choose": _handover_choose,
}

HANDLERS: Final = {name: _told(handler) for name, handler in _HANDLERS.items()}
