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
from edge.screen_lane import desk_screen, lane_screens
from edge.screen_till import till_screen
from edge.settings import LaneSettings
from edge.turnstile.lines import Lines


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
                **_lane(agent, lane),
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
            "unrecorded": sum(gate.unwritten.total for gate in agent.gates.values())
            + (0 if agent.admissions is None else agent.admissions.unwritten.total),
        },
        "counters": agent.counters
        | ({} if agent.parts.keyring is None else agent.parts.keyring.counts())
        | line_counts(agent.parts.lines),
        "disk": agent.keeper.status(moment),
        "lockdown": agent.lockdown,
        "alone": any(gate.alone for gate in agent.gates.values()),
        "tap_ms": spread_of(agent.taps_ms),
        "simulated_taps": settings.simulated_taps,
    }


def line_counts(lines: Lines | None) -> dict[str, int]:
    """What a driver of lines counts of its own troubles."""
    return {} if lines is None else {f"lines_{name}": n for name, n in lines.counts().items()}


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
    shown = lane_screens(agent, moment)
    if agent.till is not None:
        page = till_screen(agent.till, moment)
        if agent.till_devices is not None:
            page |= agent.till_devices.screen()
            page["notes"] += agent.till_devices.notes()
        shown.append(page)
    for screen in shown:
        screen["disk"] = agent.keeper.trouble
    return {
        "ok": True,
        "station": agent.parts.settings.station,
        "clock_trusted": moment.clock_trusted,
        "screens": shown,
        "staff": agent.staff.screen(moment),
        **desk_screen(agent, moment),
    }


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
                "weighed": product.weighed,
                "barcode": product.barcode,
            }
            for product in agent.till.products()
        ],
    }


def _lane(agent: Agent, settings: LaneSettings) -> dict[str, Any]:
    """Fire, alarms, and every wire as it is now, by its id."""
    lane, lines = agent.lanes.by_id[settings.lane_id], agent.parts.lines
    assert lines is not None
    return {
        "fire": lane.fire,
        "alarms": list(lane.alarms),
        "lines": {
            line.line_id: lines.is_active(line.line_id)
            for line in (*settings.inputs, *settings.outputs)
        },
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
