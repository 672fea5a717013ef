"""`moskvenok city check`: plays devices against any city and says which rules it keeps.

Exit code 0 when every rule that could be tried is kept, else 1. The facts that are played stay in
the city's books (refused cards, sales to a child and to nobody), so use it on a city for tests. The
devices of a run have names of their own, and leave the roster when it ends.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from edge.model import DeviceFault, SetupProblem, Station
from hil.conformance.http_city import HttpCity, read_identity
from hil.conformance.link import MqttLink
from hil.conformance.player import PATIENCE_S, SILENCE_S, Identity, Player
from hil.conformance.rules import WORDS, Finding, Report, Verdict
from hil.conformance.run import Cast, play
from hil.release_command import release
from hil.stick import stick
from sync.session import Endpoint, parse_endpoint, tls_context

COLOURS = {
    Verdict.KEPT: "green",
    Verdict.BROKEN: "red",
    Verdict.NOT_TRIED: "yellow",
    Verdict.LEFT_OUT: "bright_black",
}
RUN_BYTES = 3  # Our choice: two runs of one name would throw each other out of the broker.
RESTART_S_MAX = 120  # Our choice: a command that kills a city and starts it again.


@click.group()
def city() -> None:
    """The city's side of the wire: check one; sticks, releases, faults of the reference city."""


city.add_command(stick)
city.add_command(release)


@city.command()
def faults() -> None:
    """List the faults that the reference city can be told to have."""
    from hil.city.faults import listing

    click.echo(listing())


@city.command()
@click.option("--broker", required=True, help="mqtts://HOST[:PORT], or mqtt:// on this machine.")
@click.option("--http", "http_url", help="The city's HTTP: enrolment, and a closer look.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Who signed the certificate of an https --http, in PEM, if this machine does not know.",
)
@click.option(
    "--claim",
    "claims",
    multiple=True,
    help="A claim code for --http; repeat it, up to three. Else the city is asked for them.",
)
@click.option(
    "--identity",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An enrolled device's folder, in place of --http; a second one plays an entrance.",
)
@click.option("--site", default="s0001", show_default=True)
@click.option(
    "--station",
    type=click.Choice([station.value for station in Station]),
    default=Station.TILL.value,
    show_default=True,
    help="What the first --identity is.",
)
@click.option("--restart", help="A command that kills the city and starts it again.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0.5, max=600),
    default=PATIENCE_S,
    show_default=True,
    help="Seconds for an answer, or for a change to show in a list.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def check(
    broker: str,
    http_url: str | None,
    ca: Path | None,
    claims: tuple[str, ...],
    folders: tuple[Path, ...],
    site: str,
    station: str,
    restart: str | None,
    patience: float,
    as_json: bool,
) -> int:
    """Play devices against a city and report which rules of the wire it keeps.

    It needs a broker that lets the played devices in, and on the site's lists a child with money
    for two pieces of some product. The facts that are played stay in the books: use it on a city
    for tests. With --http it enrols devices of its own, looks closer, and takes them off the roster
    in the end; with --identity it plays one that is enrolled already, which gets a new certificate
    for its key. What a rule needs and was not given is left out and does not count. Exit code 0:
    every rule that could be tried is kept.

    A good city is done within a minute or two, sooner if its lists follow its facts sooner; each
    answer that does not come costs --patience.
    """
    endpoint, report = parse_endpoint(broker, "--broker"), Report()
    inspector = HttpCity(http_url, claims, authority=ca) if http_url else None
    with tempfile.TemporaryDirectory(prefix="mk-check-") as scratch:
        identities: list[Identity] = []
        players: list[Player] = []
        try:
            for identity in _identities(inspector, folders, site, Station(station), Path(scratch)):
                identities.append(identity)
            for identity in identities:
                players.append(_player(identity, endpoint, report, patience))
            main, entrance, revoked = (*players, None, None)[:3]
            assert main is not None
            cast = Cast(
                main=main,
                entrance=entrance,
                revoked=revoked,
                inspector=inspector,
                restart=(lambda: _restart(restart)) if restart else None,
            )
            play(cast, report, lambda step: click.echo(f"… {step}", err=True))
        finally:
            for player in players:
                player.link.close()
            if inspector is not None and not folders:
                _leave(inspector, identities)
    findings = report.findings()
    if as_json:
        click.echo(json.dumps(_as_json(broker, report.good(), findings), ensure_ascii=False))
    else:
        _show(findings)
    return 0 if report.good() else 1


def _identities(
    inspector: HttpCity | None,
    folders: tuple[Path, ...],
    site: str,
    station: Station,
    scratch: Path,
) -> Iterator[Identity]:
    """The first plays most; the second is an entrance, the third is going to be revoked."""
    if folders:
        stations = (station, Station.ENTRANCE)
        pairs = zip(folders[:2], stations, strict=False)
        yield from (read_identity(folder, site, each) for folder, each in pairs)
        return
    if inspector is None:
        raise SetupProblem("who is to be played? give --http with --claim, or --identity")
    run, found = secrets.token_hex(RUN_BYTES), 0
    for name, each in (
        (f"check-{run}-till", Station.TILL),
        (f"check-{run}-gate", Station.ENTRANCE),
        (f"check-{run}-stolen", Station.TILL),
    ):
        identity = inspector.enrol(name, site, each, scratch / name)
        if identity is not None:
            found += 1
            yield identity
    if not found:
        raise SetupProblem(
            f"--site {site}: no claim for a device: {inspector.refusal}; check --site, or give"
            " --claim, once or thrice"
        )


def _leave(inspector: HttpCity, identities: list[Identity]) -> None:
    """A till that is dark for ever would hold up whatever the city wants to spend."""
    for identity in identities:
        try:
            inspector.revoke(identity.device)
        except DeviceFault as fault:
            click.echo(f"… {identity.device} stays on the roster: {fault}", err=True)


def _player(identity: Identity, endpoint: Endpoint, report: Report, patience: float) -> Player:
    tls = None
    if endpoint.tls:
        tls = tls_context(
            ca_file=identity.authority_path,
            certificate_file=identity.certificate_path,
            key_file=identity.key_path,
        )
    link = MqttLink(
        endpoint.host,
        endpoint.port,
        client_id=identity.device,
        topics=identity.subscriptions,
        tls=tls,
        clock_ms=lambda: time.time_ns() // 1_000_000,
    )
    return Player(
        identity, link, report, patience_s=patience, silence_s=min(SILENCE_S, patience / 8)
    )


def _restart(command: str) -> None:
    try:
        done = subprocess.run(command, shell=True, timeout=RESTART_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise SetupProblem(f"--restart took more than {RESTART_S_MAX} s: {command}") from None
    if done.returncode != 0:
        raise SetupProblem(f"--restart ended with {done.returncode}: {command}")


def _show(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        verdict = click.style(f"{finding.verdict:10}", fg=COLOURS[finding.verdict])
        click.echo(f"{verdict} {finding.rule:24} {WORDS[finding.rule]}")
        if finding.detail and finding.verdict is not Verdict.NOT_TRIED:
            click.echo(f"{'':36}{finding.detail}")
    counts = {v: sum(f.verdict is v for f in findings) for v in Verdict}
    click.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))


def _as_json(broker: str, good: bool, findings: tuple[Finding, ...]) -> dict[str, Any]:
    return {
        "schema": 1,
        "ok": good,
        "broker": broker,
        "rules": [
            {
                "rule": finding.rule.value,
                "verdict": finding.verdict.value,
                "words": WORDS[finding.rule],
                "detail": finding.detail,
            }
            for finding in findings
        ],
    }
