"""`moskvenok printer check`: a slip of letters on the till's printer, or what is wrong with it.

A running edge prints it, because a printer has one owner; without one this command does. Either
way it is known whether the slip came out, as far as the printer tells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import click

from edge import control
from edge.config import load
from edge.model import DeviceFault, SetupProblem, Station
from edge.pos.peripherals import EscposDevice, Printer
from edge.pos.printing import PrinterState, PrinterStatus
from edge.pos.slip import check_slip
from edge.settings import DeviceSettings, PrinterDriver, PrinterSettings
from provisioning.output import config_option, json_option, print_json

WAIT_S_MAX: Final = 20.0  # Our choice: longer than a printer may take before it counts as stuck.
LOOK_S: Final = 0.1
WORKS: Final = (PrinterState.READY, PrinterState.LOW_PAPER)
# What to do about each state; {reason} is the printer's own word.
REMEDIES: Final = {
    PrinterState.STARTING: "has said nothing yet; run this again in a minute",
    PrinterState.NO_PAPER: "is out of paper; put in a new roll and run this again",
    PrinterState.GONE: "does not answer ({reason}); check its plug, its cable and [printer]",
    PrinterState.STUCK: "took the slip and never ended it; look at paper, cover and cable",
}
NO_LIBRARY: Final = 'python-escpos is missing; pip install "moskvenok-edge[printer]"'


@click.group("printer", context_settings={"help_option_names": ["-h", "--help"]})
def printer() -> None:
    """Look after the receipt printer of this till."""


@printer.command("check")
@config_option
@json_option
def check(config: Path, as_json: bool) -> None:
    """Print letters of both alphabets and cut, to see that the printer is set up.

    A running edge prints it; without one this command talks to the printer itself.
    """
    settings = load(config)
    status, by = print_check(settings)
    assert settings.printer is not None
    if as_json:
        print_json({"ok": True, "state": status.state.value, "by": by})
        return
    click.echo(f"The check slip is out on {place_of(settings.printer)}, printed by {by}.")
    if not settings.printer.asks_paper:
        click.echo("This printer does not tell about its paper: look whether it is there.")
    elif status.state is PrinterState.LOW_PAPER:
        click.echo("Its paper is running low: have a new roll ready.")


def print_check(
    settings: DeviceSettings,
    *,
    wait_s: float = WAIT_S_MAX,
    open_device: Callable[[PrinterSettings], EscposDevice] | None = None,
) -> tuple[PrinterStatus, str]:
    """What the printer said of it, and who printed: edge, or this command. SetupProblem or
    DeviceFault says why nothing did."""
    if settings.station is not Station.TILL or settings.printer is None:
        raise SetupProblem(
            f"{settings.source}: no [printer]; only a till has one. See the manual,"
            ' "A receipt printer and a scanner at a till"'
        )
    path = settings.socket_path("edge")
    if path.exists():
        try:
            before = _seen(path)
        except DeviceFault:
            pass  # It is not running, or it hangs: the printer itself says.
        else:
            return _by_edge(path, before, settings.printer, wait_s), "edge"
    return _by_us(settings, settings.printer, wait_s, open_device), "this command"


def place_of(printer: PrinterSettings) -> str:
    """Where it is, in a person's words."""
    match printer.driver:
        case PrinterDriver.USB:
            return f"USB {printer.vendor:04x}:{printer.product:04x}"
        case PrinterDriver.NETWORK:
            return f"{printer.host}:{printer.tcp_port}"
        case PrinterDriver.SERIAL | PrinterDriver.FILE:
            return printer.port


def _by_edge(
    path: Path, before: PrinterStatus, printer: PrinterSettings, wait_s: float
) -> PrinterStatus:
    asked = control.ask(path, {"request": "print", "what": "check"})
    if asked.get("ok") is not True:
        raise DeviceFault(f"edge does not print: {asked.get('error', 'without a reason')}")
    until_s = time.monotonic() + wait_s
    while True:
        now = _seen(path)
        if now.printed > before.printed and not now.waiting:
            return now
        if _is_over(now, time.monotonic() > until_s):
            raise _fault(now, printer)
        time.sleep(LOOK_S)


def _by_us(
    settings: DeviceSettings,
    printer: PrinterSettings,
    wait_s: float,
    open_device: Callable[[PrinterSettings], EscposDevice] | None,
) -> PrinterStatus:
    woken = threading.Event()
    made = Printer(printer, wake=woken.set, open_device=open_device)
    try:
        when = datetime.now(ZoneInfo(settings.time_zone)).strftime("%d.%m.%Y %H:%M")
        made.submit(check_slip(site=settings.site_id, device=settings.device_id, when=when))
        until_s = time.monotonic() + wait_s
        while True:
            woken.wait(LOOK_S)
            woken.clear()
            now = made.status()
            if now.printed:
                return now
            if _is_over(now, time.monotonic() > until_s):
                raise _fault(now, printer)
    finally:
        made.close()


def _is_over(now: PrinterStatus, late: bool) -> bool:
    """Whether the slip will not come out any more."""
    return late or now.state is PrinterState.STUCK or bool(now.failed and not now.waiting)


def _fault(now: PrinterStatus, printer: PrinterSettings) -> DeviceFault:
    if "escpos" in now.reason and "No module" in now.reason:
        return DeviceFault(NO_LIBRARY)
    state = PrinterState.STUCK if now.state in WORKS else now.state
    return DeviceFault(
        f"the printer at {place_of(printer)} {REMEDIES[state].format(reason=now.reason)}"
    )


def _seen(path: Path) -> PrinterStatus:
    """What a running edge says of its printer."""
    answer = control.ask(path, {"request": "screen"})
    found: dict[str, Any] = next(
        (one["printer"] for one in answer.get("screens", []) if one.get("printer")), {}
    )
    if not found:
        raise SetupProblem("edge knows no printer; start edge again after a change of device.toml")
    return PrinterStatus(
        state=PrinterState(found["state"]),
        reason=str(found["reason"]),
        failed=str(found["failed"]),
        waiting=int(found["waiting"]),
        printed=int(found.get("printed", 0)),
    )
