"""Goal: a printer delays no sale and undoes none: whatever it does, the caller goes on at once, its
trouble is told, and the next slip prints when it is mended. A serial scanner's codes arrive, also
after its plug was pulled.

Method: a device of our own that fails as told; python-escpos itself against a virtual printer on
loopback whose paper and plug are in the test's hand; a pty.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.pos import peripherals
from edge.pos.peripherals import SLIPS_WAITING_MAX, Printer, Scanner
from edge.pos.printing import PrinterState
from edge.pos.slip import Line, Slip
from edge.settings import PrinterDriver, PrinterSettings, ScannerSettings
from hil.devices.printer import FINE, LOW, OUT, VirtualPrinter
from hil.devices.reader_serial import VirtualPort

DEADLINE_S = 30.0


def slip(name: str = "sale 1") -> Slip:
    lines = (Line(text="ТАЛОН 1", bold=True, centred=True), Line(text="Суп Ёж 85.00"))
    return Slip(name=name, lines=lines)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        threading.Event().wait(0.01)


class Device:
    """What the library would give, in the test's hand."""

    def __init__(self) -> None:
        self.paper = 2
        self.fault: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.lines: list[str] = []
        self.opened = self.closed = 0

    def open(self) -> None:
        self.opened += 1
        if self.fault is not None:
            raise self.fault

    def hw(self, hw: str) -> None:
        assert hw == "INIT"

    def charcode(self, code: str) -> None:
        assert code == "CP866"

    def set(self, *, align: str, bold: bool) -> None:
        assert align in ("left", "center") and isinstance(bold, bool)

    def textln(self, txt: str) -> None:
        self.go_on.wait(DEADLINE_S)
        self.lines.append(txt)

    def cut(self) -> None:
        self.lines.append("--")

    def paper_status(self) -> int:
        return self.paper

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(peripherals, "PROBE_S", 0.05)
    return Device()


@pytest.fixture
def printer(device: Device) -> Iterator[Printer]:
    made = Printer(
        PrinterSettings(driver=PrinterDriver.NETWORK, host="h", tcp_port=1),
        wake=lambda: None,
        open_device=lambda _settings: device,
    )
    yield made
    device.go_on.set()
    made.close()
    assert device.closed == device.opened


def state_is(printer: Printer, state: PrinterState) -> Callable[[], bool]:
    return lambda: printer.status().state is state


def test_a_slip_is_printed_and_cut(printer: Printer, device: Device) -> None:
    assert printer.submit(slip())
    until(lambda: printer.status().printed == 1)
    assert device.lines == ["ТАЛОН 1", "Суп Ёж 85.00", "--"]
    assert printer.status().failed == "" and printer.status().state is PrinterState.READY


@pytest.mark.parametrize("fault", [OSError(5, "gone"), AssertionError(), ValueError("odd")])
def test_a_printer_that_is_gone_is_told_and_comes_back(
    printer: Printer, device: Device, fault: Exception
) -> None:
    device.fault = fault
    assert printer.submit(slip("sale 7"))
    until(lambda: printer.status().failed == "sale 7")
    status = printer.status()
    assert status.state is PrinterState.GONE and type(fault).__name__ in status.reason
    device.fault = None
    until(state_is(printer, PrinterState.READY))
    assert printer.status().failed == "sale 7", "nobody printed it meanwhile"
    assert printer.submit(slip("sale 7"))
    until(lambda: printer.status().printed == 1)
    assert printer.status().failed == ""


def test_no_paper_is_told_before_and_behind_a_slip(printer: Printer, device: Device) -> None:
    until(state_is(printer, PrinterState.READY))
    device.paper = 0
    assert printer.submit(slip("sale 2"))
    until(state_is(printer, PrinterState.NO_PAPER))
    assert device.lines == [] and printer.status().failed == "sale 2"
    device.paper = 1
    until(state_is(printer, PrinterState.LOW_PAPER))


def test_a_stuck_printer_delays_nobody(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peripherals, "CLOSE_S_MAX", 0.01)
    now_s = [0.0]
    printer = Printer(
        PrinterSettings(driver=PrinterDriver.NETWORK, host="h", tcp_port=1),
        wake=lambda: None,
        open_device=lambda _settings: device,
        now_s=lambda: now_s[0],
    )
    until(state_is(printer, PrinterState.READY))
    device.go_on.clear()
    assert printer.submit(slip())
    until(lambda: printer.status().waiting == 1 and device.opened > device.closed)
    taken = [printer.submit(slip(f"sale {n}")) for n in range(2 * SLIPS_WAITING_MAX)]
    assert taken.count(True) == SLIPS_WAITING_MAX, "the rest is refused and not waited for"
    assert printer.status().failed == f"sale {2 * SLIPS_WAITING_MAX - 1}"
    now_s[0] = 100.0
    assert printer.status().state is PrinterState.STUCK
    printer.close()  # Left behind, as it hangs.
    device.go_on.set()
    printer._thread.join(DEADLINE_S)
    assert not printer._thread.is_alive()


# ------------------------------------------------------------------------- the library itself


# The library lets go of a socket that could not connect without closing it.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_python_escpos_prints_on_a_virtual_printer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("escpos", reason="extra `printer` is not installed")
    monkeypatch.setattr(peripherals, "PROBE_S", 0.05)
    with VirtualPrinter() as roll:
        settings = PrinterSettings(
            driver=PrinterDriver.NETWORK, host="127.0.0.1", tcp_port=roll.port
        )
        printer = Printer(settings, wake=lambda: None)
        try:
            until(state_is(printer, PrinterState.READY))
            assert printer.submit(slip())
            until(lambda: len(roll.slips) == 1)
            assert [line for line in roll.slips[0] if line] == ["ТАЛОН 1", "Суп Ёж 85.00"]
            assert roll.noise_bytes == 0
            until(lambda: printer.status().printed == 1)
            roll.paper = OUT
            assert printer.submit(slip("sale 2"))
            until(state_is(printer, PrinterState.NO_PAPER))
            assert printer.status().failed == "sale 2"
            roll.paper = LOW
            until(state_is(printer, PrinterState.LOW_PAPER))
            roll.power(on=False)
            assert printer.submit(slip("sale 3"))
            until(state_is(printer, PrinterState.GONE))
            roll.paper = FINE
            roll.power(on=True)
            until(state_is(printer, PrinterState.READY))
            assert printer.submit(slip("sale 3"))
            until(lambda: printer.status().failed == "" and printer.status().printed == 2)
        finally:
            printer.close()


def test_python_escpos_writes_to_a_device_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("escpos", reason="extra `printer` is not installed")
    paper = tmp_path / "lp0"
    paper.touch()
    settings = PrinterSettings(driver=PrinterDriver.FILE, port=str(paper), asks_paper=False)
    printer = Printer(settings, wake=lambda: None)
    try:
        until(state_is(printer, PrinterState.READY))
        assert printer.submit(slip())
        until(lambda: printer.status().printed == 1)
        assert "ТАЛОН 1".encode("cp866") in paper.read_bytes()
    finally:
        printer.close()


# ------------------------------------------------------------------------- the scanner


def test_a_scanner_on_a_port_also_after_its_plug_was_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peripherals, "REOPEN_S", (0.05,))
    woken = threading.Event()
    with VirtualPort(tmp_path / "scanner") as port:
        scanner = Scanner(ScannerSettings(port=str(port.path)), wake=woken.set)
        try:
            until(lambda: scanner.up)
            port.babble(b"4006381333931\r\n")
            got: list[str] = []

            def came(many: int) -> bool:
                got.extend(scanner.poll())
                return len(got) == many

            until(lambda: came(1))
            assert got == ["4006381333931"] and woken.is_set()
            port.unplug()
            until(lambda: not scanner.up)
            assert scanner.reason
            port.replug()
            until(lambda: scanner.up)
            port.babble(b"K-17\r")
            until(lambda: came(2))
            assert got[1:] == ["K-17"]
        finally:
            scanner.close()
