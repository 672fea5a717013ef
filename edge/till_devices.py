"""What stands beside the till, as the shell drives it: codes into the basket, slips onto paper.

Nothing here is waited for. A sale is recorded and shown before its slip is begun, whatever becomes
of the paper; what is wrong is shown to the cashier, and everything can be printed again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from edge import logs
from edge.counter import BUSY, Counter
from edge.messages import CloseOut, SaleFact
from edge.model import ClockQuality, CorruptData, DeviceFault, Moment
from edge.offline_cache import till_books
from edge.pos.barcode import CODE_CHARS_MAX, ScanProblem, find_product
from edge.pos.basket import BasketProblem
from edge.pos.printing import PrinterState, PrinterStatus
from edge.pos.slip import Slip, check_slip, close_out_slip, sale_slip
from edge.settings import DeviceSettings
from edge.till_desk import TillDesk

SCAN_SHOWN_MS: Final = 5_000  # Our choice: long enough to look up and scan again.
TRUSTED: Final = (ClockQuality.NTP, ClockQuality.CITY, ClockQuality.RTC)
NO_PRINTER: Final = "no printer is set up; device.toml: [printer]"
SCAN_WORDS: Final = {
    ScanProblem.MISREAD: "misread; scan it again",
    ScanProblem.UNKNOWN: "not on the menu",
    ScanProblem.WEIGHT: "weigh it, or the label has no weight",
}


# Russian and English; a printer that works says nothing.
PRINTER_WORDS: Final = {
    PrinterState.LOW_PAPER: ("Бумага кончается", "Paper is running low"),
    PrinterState.NO_PAPER: ("Нет бумаги в принтере", "The printer is out of paper"),
    PrinterState.GONE: ("Принтер не отвечает", "The printer does not answer"),
    PrinterState.STUCK: ("Принтер застрял", "The printer is stuck"),
}
NOT_PRINTED: Final = ("Талон не напечатан", "The slip was not printed")


def _note(key: str, ru: str, en: str) -> dict[str, str]:
    return {"key": f"printer_{key}", "text": ru, "text_en": en}


class Codes(Protocol):
    """A scanner, as far as it is needed here."""

    up: bool
    reason: str

    def poll(self) -> list[str]: ...
    def close(self) -> None: ...


class Prints(Protocol):
    """A printer, as far as it is needed here."""

    def submit(self, slip: Slip) -> bool: ...
    def status(self) -> PrinterStatus: ...
    def close(self) -> None: ...


class TillDevices:
    """Of one till."""

    def __init__(
        self,
        counter: Counter,
        desk: TillDesk,
        settings: DeviceSettings,
        *,
        printer: Prints | None = None,
        scanner: Codes | None = None,
    ) -> None:
        self._counter, self._desk, self._settings = counter, desk, settings
        self._printer, self._scanner = printer, scanner
        self._zone = ZoneInfo(settings.time_zone)
        self._sale = counter.last_sale  # The last one that a slip was thought of for.
        self._report = desk.last_close_out
        self._told = PrinterState.STARTING
        self._scan: dict[str, str] = {}
        self._scan_until_ms = 0
        self._log = logs.get("till")

    def step(self, moment: Moment) -> None:
        """After the till's own step: what was scanned, then what was sold or counted since."""
        if self._scanner is not None:
            for code in self._scanner.poll():
                self.scan(code, moment)
        if moment.mono_ms >= self._scan_until_ms:
            self._scan = {}
        if self._printer is None:
            return
        sale, report = self._counter.last_sale, self._desk.last_close_out
        if sale != self._sale:
            self._sale = sale
            if self._settings.printer is not None and self._settings.printer.every_sale:
                self.print_sale(moment)
        if report is not self._report:
            self._report = report
            self.print_report(moment)
        self._tell(self._printer)

    # ------------------------------------------------------------------------- scanning

    def scan(self, code: str, moment: Moment) -> str:
        """One piece more, or what a label weighs; "" or why not."""
        shown = code[:CODE_CHARS_MAX]
        found = find_product(
            shown, self._counter.products(), self._settings.scanner.weighed_prefixes
        )
        if isinstance(found, ScanProblem):
            self._show(shown, found.value, moment)
            return f"{shown!r}: {SCAN_WORDS[found]}"
        if self._counter.busy:
            self._show(shown, "busy", moment)
            return BUSY
        more = self._counter.state.add(found.product, grams=found.grams, now_ms=moment.mono_ms)
        if isinstance(more, BasketProblem):
            self._show(shown, more.value, moment)
            return f"{shown!r}: the basket cannot take it ({more})"
        self._counter.state = more
        self._show(shown, "", moment)
        return ""

    def _show(self, code: str, problem: str, moment: Moment) -> None:
        self._scan = {"code": code, "problem": problem}
        self._scan_until_ms = moment.mono_ms + SCAN_SHOWN_MS

    # ------------------------------------------------------------------------- printing

    def print_sale(self, moment: Moment, *, epoch: str = "", sequence: int = 0) -> str:
        """The last sale, or that one; "" or why not."""
        last = self._counter.last_sale
        key = (epoch or self._counter.journal.epoch, sequence) if sequence else last
        if key is None:
            return "nothing was sold since the start; name the sale"
        try:
            sale = till_books.fact_at(self._counter.journal.writer.db, *key)
        except (DeviceFault, CorruptData) as fault:
            return f"that sale cannot be read: {fault}"
        if not isinstance(sale, SaleFact):
            return "no sale of this till, or not held any more"
        names = {one.product_id: one.name for one in self._counter.products()}
        return self._submit(
            sale_slip(
                sale,
                names,
                site=self._settings.site_id,
                device=self._settings.device_id,
                when=self._when(sale.wall_ms, sale.clock, sale.business_date),
                width=self._width,
            )
        )

    def print_report(self, moment: Moment) -> str:
        """The last close-out of this start; "" or why not."""
        report: CloseOut | None = self._desk.last_close_out
        if report is None:
            return "no close-out since the start; it is in the city's books"
        return self._submit(
            close_out_slip(
                report,
                site=self._settings.site_id,
                device=self._settings.device_id,
                when=self._when(report.wall_ms, report.clock, report.business_date),
                width=self._width,
            )
        )

    def print_check(self, moment: Moment) -> str:
        """Letters and cutter, for the technician."""
        when = self._when(moment.wall_ms, moment.quality, moment.local_date)
        settings = self._settings
        return self._submit(check_slip(site=settings.site_id, device=settings.device_id, when=when))

    def screen(self) -> dict[str, Any]:
        """For the cashier alone: the printer's trouble, and what the last code came to."""
        printer = None
        if self._printer is not None:
            status = self._printer.status()
            printer = {
                "state": status.state.value,
                "reason": status.reason,
                "failed": status.failed,
                "waiting": status.waiting,
                "printed": status.printed,
            }
        return {"printer": printer, "scanned": dict(self._scan)}

    def notes(self) -> list[dict[str, str]]:
        """Of the printer's trouble, in the words of the page."""
        if self._printer is None:
            return []
        status = self._printer.status()
        words = PRINTER_WORDS.get(status.state)
        if words is None and not status.failed:
            return []
        found = [] if words is None else [_note(status.state.value, *words)]
        if status.failed:
            found.append(_note("not_printed", *NOT_PRINTED))
        return found

    def states(self) -> dict[str, tuple[str, str]]:
        """What is up and what is not, as readers and lanes say it."""
        found: dict[str, tuple[str, str]] = {}
        if self._scanner is not None:
            found["scanner"] = ("up", "") if self._scanner.up else ("down", self._scanner.reason)
        if self._printer is not None:
            status = self._printer.status()
            works = status.state in (PrinterState.READY, PrinterState.LOW_PAPER)
            found["printer"] = ("up", "") if works else ("down", status.reason or status.state)
        return found

    def close(self) -> None:
        for one in (self._scanner, self._printer):
            if one is not None:
                one.close()

    def _submit(self, slip: Slip) -> str:
        if self._printer is None:
            return NO_PRINTER
        if not self._printer.submit(slip):
            return "too many slips wait; look at the printer, then print it again"
        return ""

    @property
    def _width(self) -> int:
        return 32 if self._settings.printer is None else self._settings.printer.columns

    def _when(self, wall_ms: int, quality: ClockQuality, date: str) -> str:
        if quality not in TRUSTED:
            return date
        at = datetime.fromtimestamp(wall_ms / 1000, UTC).astimezone(self._zone)
        return at.strftime("%d.%m.%Y %H:%M")

    def _tell(self, printer: Prints) -> None:
        status = printer.status()
        if status.state is self._told:
            return
        self._told = status.state
        if status.state in (PrinterState.READY, PrinterState.LOW_PAPER):
            self._log.info("printer", state=status.state.value)
        else:
            self._log.warning("printer", state=status.state.value, reason=status.reason)
