"""`moskvenok status`: both running processes in a few lines that can be read aloud."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from edge.config import load
from provisioning.checks.finding import PROCESSES, Device
from provisioning.cli import GOOD, YOURS
from provisioning.output import (
    JSON_SCHEMA,
    age_text,
    config_option,
    escape,
    json_option,
    print_json,
    print_table,
)

CERTIFICATE_LEFT_S_MIN: Final = 21 * 24 * 3600  # As the doctor's: a holiday, and a week to come by.
WATCH_S: Final = 2.0  # Our choice: slow enough to read, fast enough to see a plug pulled.
GOOD_MARK, BAD_MARK = "[green]good[/]", "[bold red]look[/]"

Row = tuple[str, str, str]


def gather(config: Path) -> dict[str, Any]:
    """What both processes say; `ok` only when both run and sync is connected."""
    device = Device(settings=load(config), now=datetime.now(UTC))
    facts: dict[str, Any] = {"device": device.settings.device_id}
    for process in PROCESSES:
        said = device.answer(process)
        facts[process] = {"ok": False, "error": str(said)} if isinstance(said, Exception) else said
    up = all(facts[process].get("ok") is True for process in PROCESSES)
    return {"ok": up and not any(bad for _, bad, _ in _judged(facts)), **facts}


def rows(facts: dict[str, Any]) -> list[Row]:
    """The table: what, good or look, and a few words."""
    return [
        (name, BAD_MARK if bad else GOOD_MARK, escape(text)) for name, bad, text in _judged(facts)
    ]


def _judged(facts: dict[str, Any]) -> list[tuple[str, bool, str]]:
    lines: list[tuple[str, bool, str]] = []
    edge, sync = facts["edge"], facts["sync"]
    if edge.get("ok") is True:
        lines += _of_edge(edge)
    else:
        lines.append(("edge", True, str(edge.get("error"))))
    if sync.get("ok") is True:
        lines += _of_sync(sync, edge)
    else:
        lines.append(("sync", True, str(sync.get("error"))))
    return lines


def _of_edge(edge: dict[str, Any]) -> list[tuple[str, bool, str]]:
    what = f"{edge.get('station')} {edge.get('device')} of {edge.get('site')}"
    up = age_text(_number(edge.get("uptime_s")))
    lines = [("edge", False, f"{what}, release {edge.get('software')}, up {up}")]
    trusted = edge.get("clock_trusted") is True
    clock = f"by {edge.get('clock')}" + ("" if trusted else ", not to be trusted")
    lines.append(("clock", not trusted, clock))
    for reader in _items(edge.get("readers")):
        up_now = reader.get("up") is True
        text = "up" if up_now else str(reader.get("reason") or "down")
        lines.append((f"reader {reader.get('reader')}", not up_now, text))
    for lane in _items(edge.get("lanes")):
        points = [
            f"{point.get('access_point')} {point.get('state')}"
            + (", open now" if point.get("relay_active") else "")
            for point in _items(lane.get("access_points"))
        ]
        lines.append((f"lane {lane.get('lane')}", lane.get("up") is False, "; ".join(points)))
        alarms = ", ".join(str(alarm) for alarm in lane.get("alarms") or ())
        if alarms:
            lines.append((f"lane {lane.get('lane')}", True, f"alarm: {alarms}"))
    lines += _of_lists(edge.get("lists"))
    lines += _of_alarms("edge", _part(edge, "disk").get("alarms"))
    if edge.get("lockdown") is True:
        lines.append(("lockdown", True, "by order of the city nobody is let in; way out is free"))
    if edge.get("simulated_taps") is True:
        lines.append(("taps", True, "simulated taps are on: for benches only"))
    return lines


def _of_lists(lists: Any) -> list[tuple[str, bool, str]]:
    if not isinstance(lists, dict) or not lists:
        return [("lists", True, "none yet; the device knows nobody")]
    if "problem" in lists:
        return [("lists", True, str(lists["problem"]))]
    lines = []
    for scope, found in sorted(lists.items()):
        version = f"version {found.get('list_epoch')}.{found.get('number')}"
        age_s = found.get("age_s")
        age = "of unknown age" if age_s is None else f"{age_text(_number(age_s))} old"
        lines.append((f"list {scope}", age_s is None, f"{version}, {age}"))
    return lines


def _of_sync(sync: dict[str, Any], edge: dict[str, Any]) -> list[tuple[str, bool, str]]:
    connected = sync.get("connected") is True
    if connected:
        text = f"connected to {sync.get('endpoint')}, MQTT {sync.get('protocol')}"
    else:
        text = f"not connected: {sync.get('reason') or 'no reason yet'}"
        if isinstance(sync.get("next_try_s"), int):
            text += f"; next try in {sync['next_try_s']} s"
    lines = [("city", not connected, text)]
    if sync.get("refusal"):
        told = sync.get("refusal_text") or "ask the city's operator"
        lines.append(("broker", True, f"refused by the broker: {sync['refusal']}: {told}"))
    lines += _of_identity(sync)
    streams = sync.get("streams")
    for name, stream in sorted(streams.items()) if isinstance(streams, dict) else []:
        if not isinstance(stream, dict):
            continue
        waiting = int(_number(stream.get("head")) - _number(stream.get("acknowledged")))
        text = "the city has everything" if waiting <= 0 else f"{waiting} facts wait for the city"
        lines.append((f"stream {name}", False, text))
    lines += _of_alarms("sync", sync.get("alarms"))
    refused = sync.get("refused")
    counted = {k: n for k, n in refused.items() if n} if isinstance(refused, dict) else {}
    if counted:
        text = ", ".join(f"{count} of {kind}" for kind, count in sorted(counted.items()))
        lines.append(("refused", True, f"not from the city, or too old: {text}"))
    other = edge.get("ok") is True and edge.get("device") != sync.get("device")
    if other:
        lines.append(("sync", True, f"runs as another device: {sync.get('device')}"))
    return lines


def _of_identity(sync: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """Certificate and configuration, as far as sync tells of them."""
    lines = []
    left_s = sync.get("certificate_left_s")
    if isinstance(left_s, int):
        ends = f"ends in {age_text(left_s)}" if left_s > 0 else "has ended: provision with a claim"
        lines.append(("certificate", left_s < CERTIFICATE_LEFT_S_MIN, ends))
    configuration = sync.get("configuration")
    if isinstance(configuration, dict) and configuration.get("wanted"):
        state, why = str(configuration.get("state")), str(configuration.get("why") or "")
        text = f"version {configuration.get('wanted')} {state}" + (f": {why}" if why else "")
        lines.append(("configuration", state in ("rolled_back", "refused"), text))
    return lines


def _of_alarms(process: str, alarms: Any) -> list[tuple[str, bool, str]]:
    """What a process wants somebody to know, one line each."""
    found = alarms if isinstance(alarms, list) else []
    return [(f"alarm {process}", True, str(alarm)) for alarm in found]


def _part(found: dict[str, Any], name: str) -> dict[str, Any]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}


def _items(found: Any) -> list[dict[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _number(found: Any) -> float:
    return float(found) if isinstance(found, int | float) else 0.0


def watch(show: Callable[[], int], wait: Callable[[float], None] = time.sleep) -> int:
    """Show again and again until the technician has seen enough (Ctrl-C)."""
    code = GOOD
    try:
        while True:
            code = show()
            wait(WATCH_S)
    except KeyboardInterrupt:
        return code


@click.command("status")
@config_option
@json_option
@click.option("--watch", "again", is_flag=True, help="Go on until Ctrl-C; JSON: one line a look.")
def status(config: Path, as_json: bool, again: bool) -> int:
    """How the device is: a short table that can be read aloud on the telephone."""

    def show() -> int:
        facts = gather(config)
        if as_json and again:
            click.echo(json.dumps({"schema": JSON_SCHEMA, **facts}, ensure_ascii=False))
        elif as_json:
            print_json(facts)
        else:
            if again:
                click.clear()
            print_table(("", "", ""), rows(facts), title=facts["device"])
        return GOOD if facts["ok"] else YOURS

    return watch(show) if again else show()
