"""Do the two processes run, and are they this device's?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from provisioning.checks.finding import PROCESSES, Device, Finding, attention, ok, wrong
from provisioning.output import age_text

PART: Final = "processes"
WORK: Final = {"edge": "decides at the gate or till", "sync": "speaks with the city"}


def examine(device: Device) -> Iterator[Finding]:
    for process in PROCESSES:
        path = device.settings.socket_path(process)
        said = device.answer(process)
        if isinstance(said, Exception):
            yield _silent(device, process, said)
        elif said.get("ok") is not True or said.get("process") != process:
            found = f"answers, but not as {process}: {str(said.get('error', said))[:80]}"
            yield wrong(PART, path, found, "restart it; if it stays so, install the release again")
        elif said.get("device") != device.settings.device_id:
            found = f'runs as "{said.get("device")}", the file says "{device.settings.device_id}"'
            yield wrong(PART, path, found, f"restart {process}; it still has an older file")
        else:
            since = said.get("uptime_s")
            up = f", for {age_text(since)}" if isinstance(since, int) else ""
            yield ok(PART, path, f"{process} runs{up}")
    yield from _alarms(device)
    edge = device.status("edge")
    if edge is not None and edge.get("simulated_taps"):
        yield attention(
            PART,
            device.settings.source,
            "simulated taps are on: whoever is at this machine can play any card",
            "take control.simulated_taps out of the file unless this is a bench; restart edge",
        )


def _alarms(device: Device) -> Iterator[Finding]:
    """What the processes themselves want somebody to know. Each says what to do after its `;`."""
    for process in PROCESSES:
        said = device.status(process) or {}
        found = said.get("disk") if process == "edge" else said
        alarms = found.get("alarms") if isinstance(found, dict) else None
        for alarm in alarms if isinstance(alarms, list) else []:
            text, mark, do = str(alarm).rpartition("; ")
            if not mark:
                text, do = str(alarm), "tell the city's operator"
            yield attention(PART, process, text, do)


def _silent(device: Device, process: str, problem: Exception) -> Finding:
    path, source = device.settings.socket_path(process), device.settings.source
    cause = problem.__cause__
    if isinstance(cause, PermissionError):
        do = "run this as root or as a member of the group moskvenok"
        return wrong(PART, path, f"{process} may not be asked by this user", do)
    if isinstance(cause, TimeoutError):
        return wrong(PART, path, f"{process} does not answer", f"restart {process}")
    left = isinstance(cause, ConnectionRefusedError)
    found = f"{process} does not run" + (", but has left its socket behind" if left else "")
    do = f'start it ("python -m {process} --config {source}") and read what it logs'
    return wrong(PART, path, f"{found}; it {WORK[process]}", do)
