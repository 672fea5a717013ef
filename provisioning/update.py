"""`moskvenok update`: releases taken, installed on trial, gone back from, and how that stands."""

from __future__ import annotations

import secrets
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from edge.clock import boot_id
from edge.config import load
from edge.messages import Release, SignedWhat, decode_pack
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.settings import DeviceSettings
from provisioning.cli import GOOD, YOURS
from provisioning.files import make_folder
from provisioning.output import config_option, json_option, print_json, print_table
from provisioning.update_make import Maker
from provisioning.update_place import PREFIX_DEFAULT, Place
from provisioning.update_run import (
    SYSTEMCTL,
    RunningStation,
    Tools,
    Updater,
    believed,
    describe,
    schemas_here,
)
from provisioning.update_steps import State, Step, go_back
from sync.release_files import Ready, ReleaseFiles, read_stick
from sync.release_rules import judge
from sync.releases import this_machine

TOKEN_BYTES: Final = 8

prefix_option = click.option(
    "--prefix",
    type=click.Path(file_okay=False, path_type=Path),
    default=PREFIX_DEFAULT,
    envvar="MOSKVENOK_PREFIX",
    show_default=True,
    show_envvar=True,
    help="Where the releases stand.",
)
restart_option = click.option(
    "--restart",
    default=SYSTEMCTL,
    envvar="MOSKVENOK_RESTART",
    help="The command that starts edge and sync anew; default: by systemd.",
)


@click.group()
def update() -> None:
    """Install releases that the city has signed, on trial; go back to the one before."""


@update.command("status")
@config_option
@prefix_option
@json_option
def status(config: Path, prefix: Path, as_json: bool) -> int:
    """Which release runs, which can be gone back to, and what became of the last update."""
    settings, place = load(config), Place(prefix)
    files = ReleaseFiles(settings.updates_path)
    state, ready, wanted = place.state(), files.ready(), files.wanted()
    said: dict[str, Any] = {
        "ok": state.step is not Step.BACK and (state.done or not state.why),
        "current": place.current(),
        "former": state.former,
        "step": state.step.value,
        "release": state.release,
        "done": state.done,
        "why": state.why,
        "detail": state.detail,
        "ready": "" if ready is None else ready.release,
        "coming": "" if wanted is None else wanted.release,
        "taken_by_order": files.folder.is_dir(),
    }
    if as_json:
        print_json(said)
    else:
        rows = [
            ("runs", said["current"] or f"none under {prefix}"),
            ("to go back to", said["former"] or "none"),
            ("last update", describe(state)),
            ("ready to install", said["ready"] or "none"),
            ("coming from the city", said["coming"] or "none"),
        ]
        print_table(("", ""), rows, title=settings.device_id)
    return GOOD if said["ok"] else YOURS


@update.command("take")
@config_option
@prefix_option
@json_option
@click.option(
    "--without-city",
    is_flag=True,
    help="Keep it though the city is not reached; for a device that is not connected yet.",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def take(config: Path, prefix: Path, as_json: bool, without_city: bool, file: Path) -> None:
    """Take a release from a file, such as on a stick: checked and laid ready, not yet installed.

    Where the units are installed they install it at once.
    """
    settings, place = load(config), Place(prefix)
    files = ReleaseFiles(settings.updates_path)
    with place.locked():
        if place.state().step is not Step.REST:
            raise SetupProblem(
                'an update is under way; "moskvenok update install" goes on with it, then take this'
            )
        signed = read_stick(file)
        release = decode_pack(Release, believed(settings, place).open(SignedWhat.RELEASE, signed))
        why = judge(
            release,
            machine=this_machine(),
            held=place.current() or "0",
            schemas=schemas_here(settings),
        )
        if why is not None:
            raise SetupProblem(
                f"{file}: release {release.release:.64} for {release.platform:.40}, Python"
                f" {release.python:.10} is not taken here: {why.value}; ask the city for another"
            )
        make_folder(files.folder)
        ready = Ready(
            release=release.release,
            sha256=release.sha256,
            token=f"stick {secrets.token_hex(TOKEN_BYTES)}",
            without_city=without_city,
        )
        files.take(file, release, signed, ready)
    if as_json:
        print_json({"ok": True, "release": release.release, "sha256": release.sha256})
    else:
        click.echo(f'{release.release} is ready; "moskvenok update install" installs it.')


@update.command("install")
@config_option
@prefix_option
@restart_option
@json_option
def install(config: Path, prefix: Path, restart: str, as_json: bool) -> int:
    """Install what is ready, and stay with it until it is kept or taken back."""
    settings = load(config)
    files = ReleaseFiles(settings.updates_path)
    place = Place(prefix)
    if files.ready() is None and place.state().step is Step.REST:
        raise SetupProblem('nothing is ready; take a file: "moskvenok update take FILE"')
    state = _run(settings, place, restart, as_json=as_json)
    return _said(state, as_json=as_json)


@update.command("run")
@config_option
@prefix_option
@restart_option
@json_option
def run(config: Path, prefix: Path, restart: str, as_json: bool) -> None:
    """What the units call: install what is ready, go on with what was cut off, or do nothing.

    Makes the folder that lets the city's order `update` through.
    """
    settings, place = load(config), Place(prefix)
    make_folder(settings.updates_path)
    with place.locked(), suppress(SetupProblem, DeviceFault, CorruptData):
        believed(settings, place)  # Pins the city; what is wrong is said once a release is here.
    state = _run(settings, place, restart, as_json=as_json)
    if as_json:
        _said(state, as_json=True)


@update.command("back")
@config_option
@prefix_option
@restart_option
@json_option
def back(config: Path, prefix: Path, restart: str, as_json: bool) -> int:
    """Go back to the release before this one, by hand."""
    settings, place = load(config), Place(prefix)
    tools = _tools(settings, place, restart, as_json=as_json)
    updater = Updater(tools)
    with place.locked():
        state, current = place.state(), place.current()
        if state.step is not Step.REST:
            raise SetupProblem('an update is under way; see "moskvenok update status"')
        if not state.former or state.former == current:
            raise SetupProblem("there is no release to go back to")
        if not updater.can_go_back(state.former):
            raise SetupProblem(
                f"{state.former} cannot be gone back to: it is damaged, or the databases are of a"
                " newer release; take a newer release instead"
            )
        place.keep(go_back(state, current=current, token=f"hand {secrets.token_hex(TOKEN_BYTES)}"))
    updater.run()
    look = tools.station.look()
    for process, running in (("edge", look.edge), ("sync", look.sync)):
        if running not in ("", place.current()):
            raise DeviceFault(
                f"{process} still runs {running}: {restart} did not start it anew; do so by hand,"
                f" it then runs {place.current()}"
            )
    if as_json:
        print_json({"ok": True, "current": place.current()})
    else:
        click.echo(f"{place.current()} runs again.")
    return GOOD


def _run(settings: DeviceSettings, place: Place, restart: str, *, as_json: bool) -> State:
    return Updater(_tools(settings, place, restart, as_json=as_json)).run()


def _tools(settings: DeviceSettings, place: Place, restart: str, *, as_json: bool) -> Tools:
    return Tools(
        place=place,
        files=ReleaseFiles(settings.updates_path),
        maker=Maker(place=place, python=sys.executable),
        station=RunningStation(settings, restart),
        machine=this_machine(),
        verifier=lambda: believed(settings, place),
        schemas=lambda: schemas_here(settings),
        boot=boot_id(),
        mono_ms=lambda: time.monotonic_ns() // 1_000_000,
        wait=time.sleep,
        say=lambda text: click.echo(text, err=as_json),
    )


def _said(state: State, *, as_json: bool) -> int:
    if as_json:
        print_json(
            {
                "ok": state.done,
                "release": state.release,
                "done": state.done,
                "why": state.why,
                "detail": state.detail,
            }
        )
    return GOOD if state.done else YOURS
