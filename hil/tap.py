"""`moskvenok tap CARD --at STATION`: show a virtual card to a virtual reader, print the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hil import remote
from hil.layout import PLACES
from hil.tray import WORDS

PLAIN = "pupil, wristband, blocked, stranger, banned-chocolate, guardian, staff, poor"
CARDS = "\n".join(f"{label:<14} {words}" for label, words in WORDS.items())
HELP = f"""Show CARD to a reader of the running miniature and print what its screen then says.

Plain numbers, at every reader: {PLAIN}.

Cards that talk, at in and till:

\b
{CARDS}
"""


@click.command(help=HELP)
@click.argument("card")
@click.option("--at", "station", type=click.Choice(PLACES), required=True, help="Which reader.")
@click.option("--run", "folder", type=click.Path(path_type=Path), default=remote.FOLDER,
              show_default=True, help="The folder of the running miniature.")  # fmt: skip
def tap(card: str, station: str, folder: Path) -> None:
    answer = remote.ask(folder, "/tap", {"card": card, "at": station, "wait": True})
    for line in screen_lines(answer.get("screen")):
        click.echo(line)


def screen_lines(screen: dict[str, Any] | None) -> list[str]:
    """What a person reads off the screen: the big word, why, who, and at the till how much."""
    if screen is None:
        return ["the screen did not change"]
    lines = [str(screen.get("word", ""))]
    if text := screen.get("text"):
        reason = screen.get("reason")
        lines.append(f"{text} ({reason})" if reason else str(text))
    if name := screen.get("name"):
        lines.append(" · ".join(str(part) for part in (name, screen.get("group")) if part))
    if total := screen.get("answer_total"):
        lines.append(str(total))
    return lines
