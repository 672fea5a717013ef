"""What the station's own socket may ask of edge, and its answers.

One table from request to function. Nobody from outside the device reaches this: the socket is a
file that only the group `moskvenok` may open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edge import health, logs
from edge.agent import IDENTIFY_MS, Agent
from edge.control import Request
from edge.model import Moment, SetupProblem, UidKind
from edge.readers.reader import CardRead
from edge.requests_devices import HANDLERS as OF_DEVICES
from edge.requests_lane import HANDLERS as OF_LANE
from edge.requests_photo import HANDLERS as OF_PHOTOS
from edge.requests_staff import HANDLERS as OF_STAFF
from edge.requests_till import HANDLERS as OF_TILL

UID_BYTES_MAX: Final = 10  # ISO/IEC 14443-3.
# What nobody's hand at a screen asks for; everything else says that somebody is there.
NO_HAND: Final = frozenset(
    {"status", "screen", "menu", "tap", "move", "identify", "logs", "occupancy", "photo"}
    | {"handover_screen", "handover_choose"}  # A guardian's hand, and not the officer's.
)
LOG_MINUTES_MAX: Final = 24 * 60  # As of an order; the ring seldom reaches further back.


def answer(agent: Agent, request: Request, moment: Moment) -> None:
    """Answer one request. A request that makes no sense is told why; none stops the agent."""
    handler = HANDLERS.get(request.name)
    if handler is None:
        known = ", ".join(sorted(HANDLERS))
        request.answer(_refuse(f"unknown request {request.name!r:.40}; known: {known}"))
        return
    if request.name not in NO_HAND:
        agent.staff.touch(moment)
    try:
        request.answer(handler(agent, request.body, moment))
    except (TypeError, ValueError, OverflowError) as error:
        request.answer(_refuse(f"{request.name}: a value that cannot be: {error}"))


def _refuse(why: str) -> dict[str, Any]:
    return {"ok": False, "error": why}


def _status(agent: Agent, _body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    return health.status(agent, moment)


def _screen(agent: Agent, _body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    return health.screens(agent, moment)


def _menu(agent: Agent, _body: dict[str, Any], _moment: Moment) -> dict[str, Any]:
    return _refuse("this station is no till") if agent.till is None else health.menu(agent)


def _tap(agent: Agent, body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    if not agent.parts.settings.simulated_taps:
        return _refuse("simulated taps are off; device.toml: control.simulated_taps")
    state = agent.readers.get(str(body.get("reader")))
    if state is None:
        return _refuse(f'"reader" must be one of {", ".join(agent.readers)}')
    try:
        uid = bytes.fromhex(str(body.get("uid")))
        kind = UidKind(int(body.get("kind", 1)))
    except ValueError:
        return _refuse('"uid" must be hex digits and "kind" 1 or 2')
    if not 1 <= len(uid) <= UID_BYTES_MAX:
        return _refuse(f'"uid" must be 1 to {UID_BYTES_MAX} bytes')
    read = CardRead(
        uid=uid,
        at_ms=moment.mono_ms,
        kind=kind,
        tier=0 if kind is UidKind.PROX125 else 1,
        reader_id=str(body["reader"]),
    )
    agent.take_read(read, state.access_point_id, moment)
    return {"ok": True}


def _move(agent: Agent, body: dict[str, Any], _moment: Moment) -> dict[str, Any]:
    line, active = str(body.get("line")), body.get("active")
    if not isinstance(active, bool):
        return _refuse('"active" must be true or false')
    for lane in agent.parts.settings.lanes:
        if line not in {known.line_id for known in lane.inputs}:
            continue
        try:
            agent.move(line, active)
        except SetupProblem as problem:
            return _refuse(str(problem))
        return {"ok": True}
    return _refuse(f"{line!r:.40}: no input line of this station")


def _identify(agent: Agent, _body: dict[str, Any], _moment: Moment) -> dict[str, Any]:
    agent.identify()
    return {"ok": True, "for_ms": IDENTIFY_MS}


def _logs(_agent: Agent, body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    minutes = body.get("minutes", LOG_MINUTES_MAX)
    if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 0:
        return _refuse('"minutes" must be a whole number')
    since_ms = moment.mono_ms - min(minutes, LOG_MINUTES_MAX) * 60_000
    return {"ok": True, "lines": logs.recent(since_ms)}


HANDLERS: Final[dict[str, Callable[[Agent, dict[str, Any], Moment], dict[str, Any]]]] = {
    "status": _status,
    "screen": _screen,
    "menu": _menu,
    "tap": _tap,
    "move": _move,
    "identify": _identify,
    "logs": _logs,
    **OF_LANE,
    **OF_PHOTOS,
    **OF_STAFF,
    **OF_TILL,
    **OF_DEVICES,
}
# What a page of the station may ask; the rest is the technician's and the bench's.
SCREEN_REQUESTS: Final = frozenset({"screen", "menu", *OF_LANE, *OF_STAFF, *OF_TILL, *OF_DEVICES})
