"""`moskvenok network on|off|silent`: give the miniature's stations the network, or take it away."""

from __future__ import annotations

from pathlib import Path

import click

from hil import remote
from hil.proxy import Wire

WORDS = {"on": Wire.ON, "off": Wire.CUT, "silent": Wire.SILENT}


@click.command()
@click.argument("state", type=click.Choice(tuple(WORDS)))
@click.option(
    "--of",
    type=click.Choice(("city", "school")),
    default="city",
    show_default=True,
    help="The one to the city, or the school's own (with STATIONS=all).",
)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=remote.FOLDER,
              show_default=True, help="The folder of the running miniature.")  # fmt: skip
def network(state: str, of: str, folder: Path) -> None:
    """Switch the network between the stations and the city, or within the school.

    off: the plug is pulled, connections break. silent: they stay, and nothing arrives.
    """
    remote.ask(folder, "/network", {"wire": WORDS[state].value, "of": of})
    click.echo(f"network {state}")
