"""`moskvenok connect`, `renew` and `logs`: what a running device is asked for in its daily life."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from edge import control
from edge.config import load
from edge.model import SetupProblem
from provisioning.output import config_option, json_option, print_json

CONNECT_S: Final = 45.0  # Our choice: look-up, TCP, TLS and a welcome, each at its slowest.
CONNECT_LOOK_S: Final = 0.25
WAIT_S: Final = 150.0  # Our choice: an answer and a welcome, a minute each, and a little.
LOOK_S: Final = 1.0
MINUTES_MAX: Final = 24 * 60  # As of the order `fetch_logs`.


def ask(config: Path, process: str, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of a running process; `SetupProblem` with its own words when it refuses."""
    answer = control.ask(load(config).socket_path(process), request)
    if answer.get("ok") is not True:
        raise SetupProblem(f"{process} refuses: {answer.get('error', 'without a reason')}")
    return answer


def renewed(
    config: Path,
    *,
    wait: Callable[[float], None] = time.sleep,
    now_s: Callable[[], float] = time.monotonic,
) -> int:
    """Have sync renew the certificate; the second at which the new one ends. `SetupProblem` says
    why it could not."""
    before = _certificate(config)
    answer = ask(config, "sync", {"request": "renew"})
    if answer.get("connected") is not True:
        raise SetupProblem(
            "sync has no connection to the city now, and asks as soon as it has; look at "
            '"moskvenok status"'
        )
    until_s = now_s() + WAIT_S
    begun = False
    while now_s() < until_s:
        found = _certificate(config)
        if found.get("until_utc_s") != before.get("until_utc_s"):
            return int(found["until_utc_s"])
        resting = found.get("renewal") == "rest"
        begun = begun or not resting
        if (begun and resting) or found.get("why", "") != before.get("why", ""):
            raise SetupProblem(
                f"not renewed ({found.get('why') or 'no reason given'}); the one in use stays; "
                "ask the city's operator"
            )
        wait(LOOK_S)
    raise SetupProblem('not renewed yet; look at "moskvenok status" in some minutes')


def _certificate(config: Path) -> dict[str, Any]:
    found = ask(config, "sync", {"request": "status"}).get("certificate")
    if not isinstance(found, dict):
        raise SetupProblem("sync is of another release than this command; restart it")
    return found


def connected(
    config: Path,
    *,
    wait: Callable[[float], None] = time.sleep,
    now_s: Callable[[], float] = time.monotonic,
) -> str:
    """Have sync try now; the endpoint it reached. `SetupProblem` says why it could not."""
    ask(config, "sync", {"request": "connect"})
    until_s = now_s() + CONNECT_S
    while True:
        found = ask(config, "sync", {"request": "status"})
        if found.get("connected") is True:
            return str(found.get("endpoint"))
        if found.get("next_try_s"):  # The attempt is over, and another is planned.
            raise SetupProblem(
                f"not reached: {found.get('reason') or 'no reason given'}; the device tries again "
                f'in {found["next_try_s"]} s; run "moskvenok doctor broker"'
            )
        if now_s() >= until_s:
            raise SetupProblem('no answer yet; run "moskvenok doctor broker"')
        wait(CONNECT_LOOK_S)


@click.command("connect")
@config_option
@json_option
def connect(config: Path, as_json: bool) -> None:
    """Have the device try to reach the city now, instead of waiting for its next attempt.

    It notices by itself when its own cable or address comes back; this is for what was mended
    further away. Where it is connected already, nothing happens.
    """
    endpoint = connected(config)
    if as_json:
        print_json({"ok": True, "endpoint": endpoint})
    else:
        click.echo(f"Connected to {endpoint}.")


@click.command("renew")
@config_option
@json_option
def renew(config: Path, as_json: bool) -> None:
    """Have the device fetch its next certificate now, for a new key.

    It does so by itself from half of the certificate's time on. What it has stays until the city
    has welcomed it with the new one; no claim is needed.
    """
    until_utc_s = renewed(config)
    until = datetime.fromtimestamp(until_utc_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if as_json:
        print_json({"ok": True, "until_utc_s": until_utc_s})
    else:
        click.echo(f"Renewed; good until {until}.")


@click.command("logs")
@config_option
@json_option
@click.option("--process", type=click.Choice(["edge", "sync"]), default="edge", show_default=True)
@click.option("--minutes", type=click.IntRange(1, MINUTES_MAX), default=60, show_default=True)
def logs(config: Path, as_json: bool, process: str, minutes: int) -> None:
    """The newest lines a running process has logged, as far as it keeps them in memory."""
    answer = ask(config, process, {"request": "logs", "minutes": minutes})
    found = answer.get("lines")
    lines = [str(line) for line in found] if isinstance(found, list) else []
    if as_json:
        print_json({"ok": True, "process": process, "lines": lines})
    else:
        for line in lines:
            click.echo(line)
