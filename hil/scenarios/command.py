"""`moskvenok scenarios [NAME]...`: hold the agent against what is written of an entrance."""

from __future__ import annotations

import click

from hil.scenarios.__main__ import main


@click.command()
@click.argument("name", nargs=-1)
@click.option("--show", is_flag=True, help="Print what happened, step by step.")
@click.pass_context
def scenarios(ctx: click.Context, name: tuple[str, ...], show: bool) -> None:
    """Play scenarios of the entrance in virtual time; without names all of them."""
    ctx.exit(main([*name, *(["--show"] if show else [])]))
