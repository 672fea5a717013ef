"""`moskvenok doctor`: look at every part, say what was found and what to do. Changes nothing.

Each part is a module under `checks/` and is imported when it is examined, so that a part that is
not installed (a smart card library, say) is a finding and not the end of the examination.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final

import click

from edge import config
from provisioning.checks.finding import Device, Finding, State, ok, wrong
from provisioning.cli import GOOD, OURS, YOURS
from provisioning.output import config_option, escape, json_option, print_json, print_table

# In the order in which one hangs on another: read from the top, mend the first.
PARTS: Final = (
    "configuration",
    "identity",
    "clock",
    "databases",
    "readers",
    "lines",
    "processes",
    "broker",
)
COLOURS: Final = {State.OK: "green", State.ATTENTION: "yellow", State.WRONG: "bold red"}


def examine(path: Path, parts: Iterable[str], now: datetime) -> Iterator[Finding]:
    """The findings of the named parts, in their order; of all, when none is named."""
    wanted = [part for part in PARTS if part in parts] or list(PARTS)
    try:
        settings = config.load(path)
    except config.ConfigProblem as problem:
        for one in problem.problems:
            yield wrong("configuration", f"{path}, {one.key}", one.found, one.do)
        return
    if "configuration" in wanted:
        found = f"{settings.station} {settings.device_id} of {settings.site_id}"
        yield ok("configuration", path, found)
    device = Device(settings=settings, now=now)
    for part in wanted:
        if part != "configuration":
            yield from _examine_part(device, part)


def _examine_part(device: Device, part: str) -> Iterator[Finding]:
    """A check that fails itself is a finding too: the others still matter."""
    try:
        yield from import_module(f"provisioning.checks.{part}").examine(device)
    except Exception as error:
        yield Finding(
            part=part,
            state=State.WRONG,
            where=str(device.settings.source),
            found=f"could not be examined: {type(error).__name__}: {error}",
            do="report this line; it is a fault in this software",
            ours=True,
        )


def exit_code(findings: Iterable[Finding]) -> int:
    found = list(findings)
    if any(finding.ours for finding in found):
        return OURS
    return YOURS if any(finding.state is State.WRONG for finding in found) else GOOD


@click.command("doctor")
@config_option
@json_option
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[PART]...")
def doctor(config: Path, as_json: bool, parts: tuple[str, ...]) -> int:
    """Examine every part of the device, or only the PARTs named.

    \b
    PART is one of: configuration, identity, clock, databases,
    readers, lines, processes, broker.

    Nothing is changed and no line is moved. Exit code 1 means that something
    is wrong; read from the top and mend the first.
    """
    findings = list(examine(config, parts, datetime.now(UTC)))
    if as_json:
        print_json(
            {
                "ok": exit_code(findings) == GOOD,
                "findings": [
                    {
                        "part": finding.part,
                        "state": finding.state.value,
                        "where": finding.where,
                        "found": finding.found,
                        "do": finding.do,
                    }
                    for finding in findings
                ],
            }
        )
    else:
        print_table(("", "part", "found, and what to do"), (_row(one) for one in findings))
        click.echo(_summary(findings))
    return exit_code(findings)


def _row(finding: Finding) -> tuple[str, str, str]:
    colour = COLOURS[finding.state]
    text = f"{escape(finding.where)}: {escape(finding.found)}"
    if finding.do:
        text += f"\n[bold]-> {escape(finding.do)}[/]"
    return f"[{colour}]{finding.state}[/]", finding.part, text


def _summary(findings: list[Finding]) -> str:
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)
