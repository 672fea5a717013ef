"""`moskvenok identify` and `moskvenok line`: small requests to the running edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge import control
from edge.config import load
from edge.model import SetupProblem
from provisioning.output import config_option, json_option, print_json


def ask_edge(config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request; `SetupProblem` with edge's own words when it refuses."""
    path = load(config).socket_path("edge")
    answer = control.ask(path, request)
    if answer.get("ok") is not True:
        raise SetupProblem(f"edge refuses: {answer.get('error', 'without a reason')}")
    return answer


@click.command("identify")
@config_option
@json_option
def identify(config: Path, as_json: bool) -> None:
    """Let the device blink and beep, to find it in a row of gates."""
    answer = ask_edge(config, {"request": "identify"})
    if as_json:
        print_json(answer)
    else:
        click.echo("It blinks and beeps now, if its readers have a lamp and a buzzer.")


@click.command("line")
@config_option
@json_option
@click.argument("line")
@click.argument("level", type=click.Choice(["on", "off"]))
def line(config: Path, as_json: bool, line: str, level: str) -> None:
    """Move one line, to see that it is wired. LINE is like north-in.rotation.

    Only lines whose lane has the driver mock can be moved by hand; a real one is moved by what
    is wired to it.
    """
    request = {"request": "move", "line": line, "active": level == "on"}
    answer = ask_edge(config, request)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{line} is {level}.")
