"""Processes as the technician's commands see them: a control socket and what it answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.config import load
from edge.control import ControlSocket

Answers = dict[str, dict[str, Any]]


def edge_status(**changes: Any) -> dict[str, Any]:
    return {
        "ok": True,
        "process": "edge",
        "device": "gate-1",
        "site": "school-7",
        "station": "entrance",
        "software": "0.1.0",
        "boot": "b",
        "uptime_s": 4000,
        "clock": "city",
        "clock_trusted": True,
        "readers": [{"reader": "r1", "up": True, "reason": "", "counters": {"noise_bytes": 0}}],
        "lanes": [
            {
                "lane": "north",
                "access_points": [
                    {
                        "access_point": "north-in",
                        "direction": "in",
                        "state": "idle",
                        "relay_active": False,
                    }
                ],
            }
        ],
        "lists": {"school-7/people": {"list_epoch": 1, "number": 7, "age_s": 60}},
        "stream": {"epoch": "e", "head": 9, "unrecorded": 0},
        "counters": {},
        "simulated_taps": False,
    } | changes


def sync_status(**changes: Any) -> dict[str, Any]:
    return {
        "ok": True,
        "process": "sync",
        "device": "gate-1",
        "connected": True,
        "endpoint": "mqtts://broker.example:8883",
        "protocol": "5",
        "since_s": 10,
        "reason": "",
        "streams": {"main": {"epoch": "e", "head": 9, "acknowledged": 9}},
        "held": {},
        "refused": {"head": 0},
        "counters": {},
    } | changes


@contextmanager
def running(config: Path, process: str, answers: Answers) -> Iterator[list[dict[str, Any]]]:
    """A process that answers each request by its name; yields what it was asked."""
    asked: list[dict[str, Any]] = []
    wake, stop = threading.Event(), threading.Event()
    path = load(config).socket_path(process)
    control = ControlSocket(path, wake.set)

    def loop() -> None:
        while not stop.is_set():
            wake.wait(5)
            wake.clear()
            for request in control.poll():
                asked.append(request.body)
                unknown = {"ok": False, "error": f"unknown request {request.name}"}
                request.answer(answers.get(request.name, unknown))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        wake.set()
        thread.join()
        control.close()
