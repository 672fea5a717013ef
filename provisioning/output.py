"""What a command prints: a table for people, one JSON object for programs.

rich costs a tenth of a second on a small device, so it is imported where a table is drawn.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from edge.model import SetupProblem

JSON_SCHEMA: Final = 1  # Grows when a field changes its meaning; new fields do not count.
CONFIG_DEFAULT: Final = "/var/lib/moskvenok/device.toml"  # Our choice: beside state and identity.
CONFIG_VARIABLE: Final = "MOSKVENOK_CONFIG"

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        default=CONFIG_DEFAULT,
        envvar=CONFIG_VARIABLE,
        show_default=True,
        show_envvar=True,
        help="The device's file.",
    )(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object, no words.")(
        function
    )


def print_json(facts: Mapping[str, Any]) -> None:
    click.echo(json.dumps({"schema": JSON_SCHEMA, **facts}, ensure_ascii=False, indent=2))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]], title: str = "") -> None:
    """A table that fits the terminal; cells may carry rich's marks, so texts come `escape`d."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


def escape(text: object) -> str:
    """Text as it is, whatever brackets it has."""
    from rich.markup import escape as rich_escape

    return rich_escape(str(text))


def age_text(seconds: float) -> str:
    """A length of time as it is said aloud.

    >>> age_text(59), age_text(5400), age_text(200000)
    ('59 s', '90 min', '2.3 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.1f} days"


def no_permission(path: Path, verb: str) -> SetupProblem:
    """For a file that the person at the keyboard may not touch."""
    who = "root" if os.geteuid() else "the owner of the disk"
    return SetupProblem(f"{path}: may not be {verb}; run this as {who} or as user moskvenok")
