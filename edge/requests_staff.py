"""Requests of the screens about who is signed in. The PIN goes to its worker and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edge.agent import Agent
from edge.model import Moment, StaffRole, SupervisedAct

SIGNED_IN: Final = (StaffRole.OFFICER, StaffRole.CASHIER)


def _refuse(why: str) -> dict[str, Any]:
    return {"ok": False, "error": why}


def _done(problem: str = "") -> dict[str, Any]:
    return _refuse(problem) if problem else {"ok": True}


def _start(agent: Agent, body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    role = body.get("role")
    if role not in SIGNED_IN:
        return _refuse('"role" must be officer or cashier')
    return _done(agent.staff.start(StaffRole(role), moment))


def _supervise(agent: Agent, body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    act = body.get("act")
    if not isinstance(act, str) or act not in set(SupervisedAct):
        return _refuse(f'"act" must be one of: {", ".join(SupervisedAct)}')
    return _done(agent.staff.start(StaffRole.SUPERVISOR, moment, SupervisedAct(act)))


def _pin(agent: Agent, body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    return _done(agent.staff.pin(body.get("pin"), moment))


def _cancel(agent: Agent, _body: dict[str, Any], _moment: Moment) -> dict[str, Any]:
    agent.staff.cancel()
    return {"ok": True}


def _sign_out(agent: Agent, _body: dict[str, Any], moment: Moment) -> dict[str, Any]:
    for role in SIGNED_IN:
        agent.staff.sign_out(role, moment)
    return {"ok": True}


HANDLERS: Final[dict[str, Callable[[Agent, dict[str, Any], Moment], dict[str, Any]]]] = {
    "sign_in_start": _start,
    "sign_in_pin": _pin,
    "sign_in_cancel": _cancel,
    "sign_out": _sign_out,
    "supervise_start": _supervise,
}
