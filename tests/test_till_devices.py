"""Goal: a scanned code is a piece more in the basket or a reason on the page; every sale and the
day's end are printed once, and again when asked; a printer in trouble stops no sale and is shown.

Method: the real agent of a till on real files, through the requests of the cashier's page; printer
and scanner are in the test's hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edge.config import ConfigProblem, parse
from edge.messages import ProductRow, SaleFact
from edge.pos.barcode import check_digit
from edge.pos.printing import PrinterState, PrinterStatus
from edge.pos.slip import Slip
from edge.settings import PrinterDriver, PrinterSettings, ScannerSettings
from edge.till_devices import TillDevices
from hil.bench.station import TILL_TOML
from tests.support.tills import Lists, Till, open_till

JUICE, SALAD = "4006381333931", "2112345"


def goods(barcode: str, unit: str = "piece") -> ProductRow:
    return ProductRow(
        name="x",
        category="drink",
        price_minor=4_000,
        allergens=(),
        allergens_checked=True,
        purse="hot",
        barcode=barcode,
        unit=unit,
    )


@dataclass
class Roll:
    """A printer."""

    state: PrinterState = PrinterState.READY
    slips: list[Slip] = field(default_factory=list)
    full: bool = False
    closed: bool = False

    def submit(self, slip: Slip) -> bool:
        if not self.full:
            self.slips.append(slip)
        return not self.full

    def status(self) -> PrinterStatus:
        return PrinterStatus(state=self.state, reason="", failed="", waiting=0, printed=0)

    def close(self) -> None:
        self.closed = True


@dataclass
class Gun:
    """A scanner."""

    up: bool = True
    reason: str = ""
    codes: list[str] = field(default_factory=list)

    def poll(self) -> list[str]:
        codes, self.codes = self.codes, []
        return codes

    def close(self) -> None:
        return


@dataclass
class Counter:
    till: Till
    roll: Roll
    gun: Gun

    def ask(self, request: str, **body: object) -> dict[str, object]:
        return self.till.ask(request, **body)


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    lists = Lists(products={"juice": goods(JUICE), "salad": goods(SALAD, "kg")})
    with open_till(tmp_path, monkeypatch, lists) as till:
        made = Counter(till, Roll(), Gun())
        beside(made)
        yield made


def beside(made: Counter, *, every_sale: bool = True) -> None:
    agent = made.till.bench.agent
    assert agent.till is not None and agent.till_desk is not None
    printer = PrinterSettings(driver=PrinterDriver.NETWORK, host="h", every_sale=every_sale)
    settings = replace(
        agent.parts.settings, printer=printer, scanner=ScannerSettings(weighed_prefixes=(21,))
    )
    agent.till_devices = TillDevices(
        agent.till, agent.till_desk, settings, printer=made.roll, scanner=made.gun
    )


def test_each_scan_is_a_piece_more(counter: Counter) -> None:
    assert counter.ask("scan", code=JUICE)["total_minor"] == 4_000
    counter.gun.codes.append(JUICE)
    counter.till.bench.step(10)
    digits = f"{SALAD}00250"
    answer = counter.ask("scan", code=digits + check_digit(digits))
    assert answer == {"ok": True, "total_minor": 2 * 4_000 + 1_000}
    basket = counter.till.bench.screen()["basket"]
    assert [(b["product"], b["quantity"], b["grams"]) for b in basket] == [
        ("juice", 2, 0),
        ("salad", 1, 250),
    ]


def test_a_code_that_adds_nothing_is_shown_for_a_while(counter: Counter) -> None:
    counter.gun.codes.append("999")
    counter.till.bench.step(10)
    assert counter.till.bench.screen()["scanned"] == {"code": "999", "problem": "unknown"}
    misread = JUICE[:-1] + "0"
    refused = counter.ask("scan", code=misread)
    assert refused["ok"] is False and "again" in str(refused["error"])
    assert counter.till.bench.screen()["scanned"]["problem"] == "misread"
    counter.till.bench.step(6_000)
    assert counter.till.bench.screen()["scanned"] == {}
    for bad in ("", "9" * 49, 17, None):
        assert counter.ask("scan", code=bad)["ok"] is False


def test_a_charged_basket_is_charged_again_after_a_scan(counter: Counter) -> None:
    counter.ask("basket", lines=[["soup", 1]])
    assert counter.till.bench.screen()["phase"] == "awaiting"
    counter.ask("scan", code=JUICE)
    assert counter.till.bench.screen()["phase"] == "open"


def test_a_sale_is_printed_once_and_again_when_asked(counter: Counter) -> None:
    assert counter.ask("print", what="sale")["ok"] is False  # Nothing was sold yet.
    counter.till.sell(1, ("soup", 1))
    sale = counter.till.last()
    assert isinstance(sale, SaleFact)
    counter.till.bench.step(1_000)
    assert [slip.name for slip in counter.roll.slips] == [f"sale {sale.sequence}"]
    assert counter.ask("print", what="sale") == {"ok": True}
    assert counter.ask("print", what="sale", sale=sale.sequence, epoch=sale.epoch) == {"ok": True}
    assert counter.roll.slips[0] == counter.roll.slips[1] == counter.roll.slips[2]
    assert counter.ask("print", what="sale", sale=1)["ok"] is False  # No sale.
    assert counter.ask("print", what="nonsense")["ok"] is False
    text = " ".join(line.text for line in counter.roll.slips[0].lines)
    assert sale.account not in text and sale.cardholder not in text


def test_the_days_end_is_printed(counter: Counter) -> None:
    assert counter.ask("print", what="report")["ok"] is False
    counter.till.sell(1, ("soup", 1))
    answer = counter.ask("close_out")
    assert answer["ok"]
    assert [slip.name for slip in counter.roll.slips][1:] == ["Z 1"]
    assert counter.ask("print", what="report") == {"ok": True}
    assert counter.ask("print", what="check") == {"ok": True}


def test_slips_only_when_asked_where_the_settings_say_so(counter: Counter) -> None:
    beside(counter, every_sale=False)
    counter.till.sell(1, ("soup", 1))
    counter.till.bench.step(10)
    assert counter.roll.slips == []
    assert counter.ask("print", what="sale") == {"ok": True}


def test_a_printer_in_trouble_stops_no_sale_and_is_shown(counter: Counter) -> None:
    counter.roll.state, counter.roll.full = PrinterState.NO_PAPER, True
    assert counter.till.sell(1, ("soup", 1))["state"] == "sold"
    counter.till.bench.step(10)
    screen = counter.till.bench.screen()
    assert screen["printer"]["state"] == "no_paper"
    assert screen["notes"][-1]["text_en"] == "The printer is out of paper"
    states = counter.till.bench.agent._part_states()
    assert states["printer"][0] == "down" and states["scanner"] == ("up", "")
    answer = counter.ask("print", what="sale")
    assert answer["ok"] is False and "printer" in str(answer["error"])


def test_a_till_without_a_printer_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_till(tmp_path, monkeypatch) as till:
        assert till.bench.screen()["printer"] is None
        assert "device.toml" in till.ask("print", what="check")["error"]


# ------------------------------------------------------------------------------ device.toml


def config(text: str) -> Callable[[], object]:
    return lambda: parse((TILL_TOML + text).encode(), Path("/etc/device.toml"))


def test_printer_and_scanner_are_read() -> None:
    settings = parse(
        (
            TILL_TOML
            + '[printer]\ndriver = "usb"\nvendor = 0x04b8\nproduct = 0x0e15\ncolumns = 42\n'
            + '[scanner]\nport = "/dev/ttyACM0"\nbaud = 115200\nweighed_prefixes = [21, 22]\n'
        ).encode(),
        Path("/etc/device.toml"),
    )
    assert settings.printer == PrinterSettings(
        driver=PrinterDriver.USB, vendor=0x4B8, product=0xE15, columns=42, tcp_port=9_100
    )
    assert settings.scanner == ScannerSettings(
        port="/dev/ttyACM0", baud=115_200, weighed_prefixes=(21, 22)
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[printer]\n", "printer.driver"),
        ('[printer]\ndriver = "fax"\n', "printer.driver"),
        ('[printer]\ndriver = "usb"\n', "printer.vendor"),
        ('[printer]\ndriver = "network"\n', "printer.host"),
        ('[printer]\ndriver = "serial"\nport = "COM1"\n', "printer.port"),
        ('[printer]\ndriver = "file"\nport = "/dev/usb/lp0"\nasks_paper = true\n', "asks_paper"),
        ('[printer]\ndriver = "network"\nhost = "h"\ncolumns = 10\n', "printer.columns"),
        ('[printer]\ndriver = "network"\nhost = "h"\nbaud = 1\n', "printer.baud"),
        ('[printer]\ndriver = "network"\nhost = "h"\npaper = 1\n', "printer.paper"),
        ('[scanner]\nport = "gun"\n', "scanner.port"),
        ("[scanner]\nbaud = 300\n", "scanner.baud"),
        ("[scanner]\nweighed_prefixes = [19]\n", "scanner.weighed_prefixes"),
        ('[scanner]\nweighed_prefixes = ["a"]\n', "scanner.weighed_prefixes"),
    ],
)
def test_a_mistake_is_told_at_its_key(text: str, key: str) -> None:
    with pytest.raises(ConfigProblem, match=key):
        config(text)()


def test_only_a_till_has_them() -> None:
    text = TILL_TOML.replace('station = "till"', 'station = "entrance"') + "[scanner]\n"
    with pytest.raises(ConfigProblem, match="only a till has one"):
        parse(text.encode(), Path("/etc/device.toml"))
