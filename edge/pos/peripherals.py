"""What stands beside a till: a receipt printer (ESC/POS) and a barcode scanner on a serial port.

Each has a thread of its own and a bounded queue, so that neither delays a sale nor undoes one. A
slip that could not be printed is not kept: the printer's state says why, and the cashier prints it
again once there is paper. What is printed is `slip.py`'s, what a code means `barcode.py`'s.

The one module that knows python-escpos, which is loaded in the printer's thread and only where
`device.toml` names a printer; and one of those that know pyserial.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from os import environ
from queue import Empty, Full, Queue
from typing import Final, Protocol

import serial

from edge.model import DeviceFault
from edge.pos.barcode import ScanFrame
from edge.pos.printing import PrinterState, PrinterStatus
from edge.pos.slip import Slip
from edge.settings import PrinterDriver, PrinterSettings, ScannerSettings

SLIPS_WAITING_MAX: Final = 8  # Our choice: a queue's worth; more means nobody looks at the printer.
CODES_WAITING_MAX: Final = 32  # Our choice: a hand scans two a second; the agent looks at once.
PROBE_S: Final = 5.0  # Our choice: after new paper or the plug, the page is right by then.
ANSWER_S_MAX: Final = 3.0  # Our choice: a printer tells its state in milliseconds.
STUCK_S: Final = 15.0  # Our choice: the longest slip is printed in five.
CLOSE_S_MAX: Final = 2.0  # Our choice, as for a reader: a thread that hangs is left behind.
READ_WAIT_S: Final = 0.2
READ_BYTES_MAX: Final = 4_096  # Linux's tty buffer.
REOPEN_S: Final = (0.5, 1.0, 2.0, 5.0)  # Our choice: a plug is put back by hand.
NO_PAPER, LOW_PAPER = 0, 1  # Of python-escpos' `paper_status`.

assert STUCK_S > ANSWER_S_MAX


class EscposDevice(Protocol):
    """What is used of python-escpos' printers."""

    def open(self) -> None: ...
    def hw(self, hw: str) -> None: ...
    def charcode(self, code: str) -> None: ...
    def set(self, *, align: str, bold: bool) -> None: ...
    def textln(self, txt: str) -> None: ...
    def cut(self) -> None: ...
    def paper_status(self) -> int: ...
    def close(self) -> None: ...


class _NoPaper(DeviceFault):
    pass


class Printer:
    """One printer. All calls return at once, from whatever thread."""

    def __init__(
        self,
        settings: PrinterSettings,
        *,
        wake: Callable[[], None],
        open_device: Callable[[PrinterSettings], EscposDevice] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._wake = wake
        self._open_device = escpos_device if open_device is None else open_device
        self._now_s = now_s
        self._queue: Queue[Slip | None] = Queue(SLIPS_WAITING_MAX)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._state, self._reason, self._failed = PrinterState.STARTING, "", ""
        self._printed = 0
        self._waiting = 0  # Taken on, and not ended.
        self._began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="printer", daemon=True)
        self._thread.start()

    def submit(self, slip: Slip) -> bool:
        """Take it on; False when too many wait already."""
        with self._lock:
            try:
                self._queue.put_nowait(slip)
            except Full:
                self._failed = slip.name
                return False
            self._waiting += 1
        return True

    def status(self) -> PrinterStatus:
        with self._lock:
            state, reason = self._state, self._reason
            if self._began_s is not None and self._now_s() - self._began_s > STUCK_S:
                state, reason = PrinterState.STUCK, "does not end a slip; look at paper and cover"
            return PrinterStatus(
                state=state,
                reason=reason,
                failed=self._failed,
                waiting=self._waiting,
                printed=self._printed,
            )

    def close(self) -> None:
        self._stop.set()
        try:
            self._queue.put_nowait(None)
        except Full:
            pass  # It looks at `_stop` before the next slip.
        self._thread.join(CLOSE_S_MAX)

    # ------------------------------------------------------------------- in its own thread

    def _run(self) -> None:
        self._attempt(None)
        while not self._stop.is_set():
            try:
                slip = self._queue.get(timeout=PROBE_S)
            except Empty:
                if self._state is not PrinterState.READY:
                    self._attempt(None)
                continue
            if slip is not None and not self._stop.is_set():
                self._attempt(slip)

    def _attempt(self, slip: Slip | None) -> None:
        """Print this, or look only; whatever goes wrong is told and ends nothing."""
        with self._lock:
            self._began_s = self._now_s()
        try:
            state, reason = self._talk(slip), ""
        except _NoPaper as fault:
            state, reason = PrinterState.NO_PAPER, str(fault)
        except Exception as fault:  # Whatever a driver raises: a printer stops no till.
            state, reason = PrinterState.GONE, f"{type(fault).__name__}: {fault}"[:200]
        trouble = state in (PrinterState.NO_PAPER, PrinterState.GONE)
        with self._lock:
            self._state, self._reason, self._began_s = state, reason, None
            if slip is not None:
                self._waiting -= 1
                self._failed = slip.name if trouble else ""
                self._printed += not trouble
        self._wake()

    def _talk(self, slip: Slip | None) -> PrinterState:
        device = self._open_device(self._settings)
        try:
            device.open()
            self._check_paper(device)
            if slip is not None:
                self._write(device, slip)
                # It answers behind what it was sent: paper that ran out on the way shows now.
            return self._check_paper(device)
        finally:
            device.close()

    def _check_paper(self, device: EscposDevice) -> PrinterState:
        if not self._settings.asks_paper:
            return PrinterState.READY
        paper = device.paper_status()
        if paper == NO_PAPER:
            raise _NoPaper("out of paper; put in a new roll")
        return PrinterState.LOW_PAPER if paper == LOW_PAPER else PrinterState.READY

    def _write(self, device: EscposDevice, slip: Slip) -> None:
        device.hw("INIT")
        device.charcode(self._settings.code_page)
        for line in slip.lines:
            device.set(align="center" if line.centred else "left", bold=line.bold)
            device.textln(line.text)
        device.cut()


def escpos_device(settings: PrinterSettings) -> EscposDevice:
    """The library's printer for these settings, not opened yet. Its import takes a quarter of a
    second of a fast processor: it reads a table of all printers."""
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())  # Or it sets up logging its own way.
    from escpos import capabilities, printer  # type: ignore[import-not-found,unused-ignore]

    if "ESCPOS_CAPABILITIES_PICKLE_DIR" not in environ:
        shutil.rmtree(capabilities.pickle_dir, ignore_errors=True)  # A copy for nobody.
    more = {"profile": settings.profile} if settings.profile else {}
    device: EscposDevice
    match settings.driver:
        case PrinterDriver.USB:
            vendor, product = settings.vendor, settings.product
            timeout_ms = int(ANSWER_S_MAX * 1_000)
            device = printer.Usb(vendor, product, timeout=timeout_ms, **more)
        case PrinterDriver.SERIAL:
            device = printer.Serial(
                settings.port, baudrate=settings.baud, timeout=ANSWER_S_MAX, **more
            )
        case PrinterDriver.NETWORK:
            device = printer.Network(
                settings.host, port=settings.tcp_port, timeout=ANSWER_S_MAX, **more
            )
        case PrinterDriver.FILE:
            device = printer.File(settings.port, **more)
    return device


class Scanner:
    """A serial barcode scanner; `poll` gives what was scanned since the last call."""

    def __init__(self, settings: ScannerSettings, *, wake: Callable[[], None]) -> None:
        assert settings.port
        self._settings = settings
        self._wake = wake
        self._codes: Queue[str] = Queue(CODES_WAITING_MAX)
        self._stop = threading.Event()
        self.up = False
        self.reason = "not yet opened"
        self.dropped = 0
        self.noise_bytes = 0
        self._thread = threading.Thread(target=self._run, name="scanner", daemon=True)
        self._thread.start()

    def poll(self) -> list[str]:
        codes = []
        while True:
            try:
                codes.append(self._codes.get_nowait())
            except Empty:
                return codes

    def close(self) -> None:
        self._stop.set()
        self._thread.join(CLOSE_S_MAX)

    # ------------------------------------------------------------------- in its own thread

    def _run(self) -> None:
        tries = 0
        while not self._stop.is_set():
            try:
                with serial.Serial(
                    self._settings.port, self._settings.baud, timeout=READ_WAIT_S, exclusive=True
                ) as port:
                    self.up, self.reason, tries = True, "", 0
                    self._read(port)
            except Exception as fault:  # A pulled adapter raises several kinds, by where it hits.
                self.up, self.reason = False, f"{type(fault).__name__}: {fault}"[:200]
                self._wake()
                self._stop.wait(REOPEN_S[min(tries, len(REOPEN_S) - 1)])
                tries += 1
        self.up = False

    def _read(self, port: serial.Serial) -> None:
        frame = ScanFrame()
        while not self._stop.is_set():
            data = port.read(1)
            data += port.read(min(port.in_waiting, READ_BYTES_MAX)) if data else b""
            codes = frame.receive(data, now_ms=time.monotonic_ns() // 1_000_000)
            self.noise_bytes = frame.noise_bytes
            for code in codes:
                try:
                    self._codes.put_nowait(code)
                except Full:
                    self.dropped += 1
            if codes:
                self._wake()
