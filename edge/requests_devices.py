"""Requests about what stands beside a till: a scanned code, and slips to print again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edge.agent import Agent
from edge.model import Moment
from edge.pos.barcode import CODE_CHARS_MAX

Answer = dict[str, Any]
EPOCH_CHARS_MAX: Final = 16  # Hex digits of an epoch.


def _refuse(why: str) -> Answer:
    return {"ok": False, "error": why}


def _scan(agent: Agent, body: dict[str, Any], moment: Moment) -> Answer:
    """A scanner that types: one code as it was typed."""
    if agent.till_devices is None or agent.till is None:
        return _refuse("this station is no till")
    code = body.get("code")
    if not isinstance(code, str) or not 0 < len(code) <= CODE_CHARS_MAX:
        return _refuse(f'"code" must be a text of at most {CODE_CHARS_MAX} characters')
    problem = agent.till_devices.scan(code, moment)
    if problem:
        return _refuse(problem)
    return {"ok": True, "total_minor": agent.till.state.basket.total_minor}


def _print(agent: Agent, body: dict[str, Any], moment: Moment) -> Answer:
    """`what`: `sale` (the last, or `epoch` and `sale`), `report`, or `check`."""
    devices = agent.till_devices
    if devices is None:
        return _refuse("this station is no till")
    what, sale, epoch = body.get("what", "sale"), body.get("sale", 0), body.get("epoch", "")
    if not isinstance(sale, int) or isinstance(sale, bool) or sale < 0:
        return _refuse('"sale" must be a number above 0')
    if not isinstance(epoch, str) or len(epoch) > EPOCH_CHARS_MAX:
        return _refuse('"epoch" must be a text of 16 characters')
    match what:
        case "sale":
            problem = devices.print_sale(moment, epoch=epoch, sequence=sale)
        case "report":
            problem = devices.print_report(moment)
        case "check":
            problem = devices.print_check(moment)
        case _:
            return _refuse('"what" must be one of sale, report, check')
    return _refuse(problem) if problem else {"ok": True}


HANDLERS: Final[dict[str, Callable[[Agent, dict[str, Any], Moment], Answer]]] = {
    "scan": _scan,
    "print": _print,
}
