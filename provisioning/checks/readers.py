"""Is every reader there, may it be opened, and does somebody listen to it?

A reader that the running edge holds is not touched: edge is asked. Nothing is sent to a reader.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge.model import DeviceFault, SetupProblem
from edge.settings import ReaderSettings
from provisioning.checks.finding import Device, Finding, attention, ok, told, wrong

PART: Final = "readers"


def examine(device: Device) -> Iterator[Finding]:
    edge = device.status("edge")
    said = {item.get("reader"): item for item in _readers(edge)}
    for reader in device.settings.readers:
        found = said.get(reader.reader_id)
        if found is not None:
            yield _by_edge(reader, found)
        elif edge is not None:
            yield wrong(PART, reader.reader_id, "the running edge does not know it", "restart edge")
        elif reader.driver == "pcsc":
            yield _pcsc(reader)
        else:
            yield _serial(reader)
        if reader.driver == "osdp" and found is None:
            yield from _key(reader)
        if reader.driver in ON_A_LINE and not reader.port.startswith("/dev/serial/by-"):
            yield from _moving_name(reader)


ON_A_LINE: Final = ("serial", "pn532", "osdp")  # Behind a serial port; a wedge is an input device.


def _readers(edge: dict[str, Any] | None) -> list[dict[str, Any]]:
    items = (edge or {}).get("readers", [])
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _by_edge(reader: ReaderSettings, found: dict[str, Any]) -> Finding:
    if found.get("up") is True:
        counters = found.get("counters")
        noise = counters.get("noise_bytes", 0) if isinstance(counters, dict) else 0
        if noise:
            text = f"in use by edge, but {noise} bytes were no card"
            do = "show a card; if it is not read, check frame, baud rate and cable"
            return attention(PART, reader.reader_id, text, do)
        return ok(PART, reader.reader_id, "up, in use by edge")
    reason = DeviceFault(str(found.get("reason") or "edge says it is down"))
    return told(PART, reader.reader_id, reason, "check its plug and cable")


def _serial(reader: ReaderSettings) -> Finding:
    port, where = Path(reader.port), f"{reader.reader_id} at {reader.port}"
    try:
        mode = port.stat().st_mode
    except OSError as error:
        near = _ports()
        there = f"the ports here are {', '.join(near)}" if near else "this machine has no such port"
        return wrong(PART, where, str(error.strerror), f"check its plug and the port; {there}")
    if not stat.S_ISCHR(mode):
        return wrong(PART, where, "not a serial port", "give the reader's device path")
    if not os.access(port, os.R_OK | os.W_OK):
        do = "run this as root; for the agent: usermod -aG dialout moskvenok"
        return wrong(PART, where, "may not be opened by this user", do)
    if reader.driver not in ON_A_LINE:
        return ok(PART, where, "there, and may be opened")
    return _try_to_open(reader, where)


def _try_to_open(reader: ReaderSettings, where: str) -> Finding:
    import serial

    try:
        serial.Serial(reader.port, reader.baud, timeout=0, exclusive=True).close()
    except ValueError as error:
        return wrong(PART, where, str(error), "mend baud; see the reader's data sheet")
    except OSError as error:  # A SerialException is an OSError.
        do = "stop the program that uses it, or check its plug"
        return wrong(PART, where, f"cannot be opened: {error}", do)
    return ok(PART, where, "can be opened")


def _key(reader: ReaderSettings) -> Iterator[Finding]:
    """Whether an OSDP reader was paired; edge does not start without its key."""
    from edge.readers.osdp import load_key

    try:
        load_key(reader)
    except SetupProblem as problem:
        yield told(
            PART, reader.reader_id, problem, f'run "moskvenok reader pair {reader.reader_id}"'
        )


def _pcsc(reader: ReaderSettings) -> Finding:
    from edge.readers.pcsc import load_scard

    where = f'{reader.reader_id} "{reader.name}…"'
    try:
        scard = load_scard()
    except SetupProblem as problem:
        return told(PART, where, problem, 'install "moskvenok-edge[pcsc]"')
    code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
    if code:
        found = f"no PC/SC service ({scard.SCardGetErrorMessage(code)})"
        return wrong(PART, where, found, 'start it: "systemctl start pcscd"')
    try:
        code, names = scard.SCardListReaders(context, [])
    finally:
        scard.SCardReleaseContext(context)
    names = [] if code else sorted(names)
    ours = [name for name in names if name.startswith(reader.name)]
    if not ours:
        found = f"no such reader; there is {', '.join(names) or 'none'}"
        return wrong(PART, where, found, "check its plug, and its name in device.toml")
    return ok(PART, where, f"the PC/SC service has it: {ours[0]}")


def _moving_name(reader: ReaderSettings) -> Iterator[Finding]:
    """A name like ttyUSB0 belongs to whichever adapter was found first at this start."""
    steady = [
        str(link)
        for link in sorted(Path("/dev/serial/by-path").glob("*"))
        if link.resolve() == Path(reader.port).resolve()
    ]
    if steady:
        yield attention(
            PART,
            f"{reader.reader_id} at {reader.port}",
            "this name can go to another reader at the next start",
            f'write port = "{steady[0]}"',
        )


def _ports() -> list[str]:
    folder = Path("/dev")
    names = [*folder.glob("serial/by-path/*"), *folder.glob("ttyUSB*"), *folder.glob("ttyACM*")]
    return sorted(str(name) for name in names)[:8]
