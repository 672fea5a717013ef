"""The state of each part, put together for the technician, the screens and the city.

Gathers, decides nothing, and holds no personal data but in `screens`, which never leaves the
station's own socket.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from edge.agent import Agent
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache.record import SOFTWARE


def status(agent: Agent, moment: Moment) -> dict[str, Any]:
    """Answer to `{"request": "status"}`."""
    settings, journal = agent.parts.settings, agent.parts.journal
    return {
        "ok": True,
        "process": "edge",
        "device": settings.device_id,
        "site": settings.site_id,
        "station": settings.station,
        "software": SOFTWARE,
        "boot": moment.boot,
        "uptime_s": (moment.mono_ms - agent.started_ms) // 1000,
        "clock": moment.quality,
        "clock_trusted": moment.clock_trusted,
        "readers": [
            {
                "reader": name,
                "access_point": state.access_point_id,
                "up": state.up,
                "reason": state.reason,
                "counters": dataclasses.asdict(state.reader.counters()),
            }
            for name, state in agent.readers.items()
        ],
        "lanes": [
            {
                "lane": lane.lane_id,
                "up": not any(
                    agent.gates[point.access_point_id].out_of_order for point in lane.access_points
                ),
                "problems": [] if agent.parts.lines is None else list(agent.parts.lines.problems()),
                "access_points": [
                    _access_point(agent, point.access_point_id) for point in lane.access_points
                ],
            }
            for lane in settings.lanes
        ],
        "lists": _lists(agent, moment),
        "stream": {
            "epoch": journal.epoch,
            "head": journal.head,
            "acknowledged": agent.parts.cache.acknowledged("main", journal.epoch),
            "unrecorded": sum(sum(g.unrecorded.values()) for g in agent.gates.values()),
        },
        "counters": agent.counters
        | ({} if agent.parts.keyring is None else agent.parts.keyring.counts()),
        "disk": agent.keeper.status(moment),
        "lockdown": agent.lockdown,
        "tap_ms": spread_of(agent.taps_ms),
        "simulated_taps": settings.simulated_taps,
    }


def spread_of(times_ms: Sequence[int]) -> dict[str, int]:
    """How long the newest took: the middle one, and what a hundredth part exceeds.

    >>> spread_of([3, 1, 2])
    {'count': 3, 'p50': 2, 'p99': 3}
    """
    if not times_ms:
        return {"count": 0, "p50": 0, "p99": 0}
    in_order = sorted(times_ms)
    last = len(in_order) - 1
    return {
        "count": len(in_order),
        "p50": in_order[last // 2],
        "p99": in_order[min(last, -(-99 * len(in_order) // 100) - 1)],
    }


def screens(agent: Agent, moment: Moment) -> dict[str, Any]:
    """Answer to `{"request": "screen"}`: what stands in front of people now, names included."""
    shown: list[dict[str, Any]] = []
    for name, gate in agent.gates.items():
        view = gate.screen(moment)
        shown.append(
            {
                "access_point": name,
                "direction": gate.point.direction,
                "state": view.state,
                "word": view.word,
                "colour": view.light,
                "reason": view.reason,
                "text": view.text,
                "name": view.name,
                "group": view.group,
                "passage": view.passage,
                "lane_state": gate.passage.state,
            }
        )
    if agent.till is not None:
        shown.append(_till_screen(agent))
    for screen in shown:
        screen["disk"] = agent.keeper.trouble
    return {"ok": True, "screens": shown}


def menu(agent: Agent) -> dict[str, Any]:
    """Answer to `{"request": "menu"}`."""
    assert agent.till is not None
    return {
        "ok": True,
        "products": [
            {
                "product": product.product_id,
                "name": product.name,
                "category": product.category,
                "price_minor": product.price_minor,
            }
            for product in agent.till.products()
        ],
    }


def _access_point(agent: Agent, name: str) -> dict[str, Any]:
    gate = agent.gates[name]
    return {
        "access_point": name,
        "direction": gate.point.direction,
        "state": gate.passage.state,
        "relay_active": gate.relay_active,
    }


def _lists(agent: Agent, moment: Moment) -> dict[str, Any]:
    try:
        states = agent.parts.cache.list_states(moment)
    except (CorruptData, DeviceFault) as problem:
        return {"problem": str(problem)}
    return {
        scope: {
            "list_epoch": state.version.list_epoch,
            "number": state.version.number,
            "age_s": state.age_s,
        }
        for scope, state in states.items()
    }


def _till_screen(agent: Agent) -> dict[str, Any]:
    assert agent.till is not None
    view, state = agent.till.view(), agent.till.state
    return {
        "till": True,
        "phase": state.phase,
        "state": _till_state(agent),
        "word": view.word.ru,
        "word_en": view.word.en,
        "colour": view.colour,
        "reason": "" if view.reason is None else view.reason.key,
        "text": "" if view.reason is None else view.reason.ru,
        "text_en": "" if view.reason is None else view.reason.en,
        "basket": [
            {
                "product": line.product.product_id,
                "name": line.product.name,
                "quantity": line.quantity,
                "price_minor": line.product.price_minor,
            }
            for line in state.basket.lines
        ],
        "total_minor": state.basket.total_minor,
        "answer_total": view.answer_total,
        "without": list(view.without),
        "without_total": view.without_total,
        "short": view.short,
        "repeated": view.repeated,
    }


def _till_state(agent: Agent) -> str:
    assert agent.till is not None
    shown = agent.till.state.shown
    if shown is None or shown.decision is None:
        return "open" if shown is None else "notice"
    return "sold" if shown.decision.sold else "refused"
