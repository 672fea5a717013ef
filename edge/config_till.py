"""What stands beside a till in `device.toml`: `[printer]` and `[scanner]`.

Every mistake is told at its key, and reading goes on.
"""

from __future__ import annotations

from edge.settings import (
    BAUDS,
    COLUMNS_MAX,
    COLUMNS_MIN,
    WEIGHED_PREFIXES,
    PrinterDriver,
    PrinterSettings,
    ScannerSettings,
)
from edge.toml_table import Table, Wrong, shown

PORT_MAX = 65_535  # TCP.
USB_ID_MAX = 0xFFFF  # USB 2.0, 9.6.1: sixteen bits.
COLUMNS_DEFAULT = 32  # A 58 mm roll in font A.
TCP_PORT_DEFAULT = 9_100  # What network printers listen on ("raw" printing).
FULL_PATH = "give the device's full path; /dev/serial/by-path stays the same"


def read_printer(table: Table, wrong: Wrong) -> PrinterSettings | None:
    """None: there is none."""
    driver = table.choice("driver", PrinterDriver)
    settings = PrinterSettings(
        driver=driver or PrinterDriver.FILE,
        port=table.get("port", str, ""),
        baud=table.get("baud", int, BAUDS[0]),
        host=table.get("host", str, ""),
        tcp_port=table.number("tcp_port", TCP_PORT_DEFAULT, 1, PORT_MAX),
        vendor=table.number("vendor", 0, 0, USB_ID_MAX),
        product=table.number("product", 0, 0, USB_ID_MAX),
        columns=table.number("columns", COLUMNS_DEFAULT, COLUMNS_MIN, COLUMNS_MAX),
        code_page=table.get("code_page", str, "CP866"),
        profile=table.get("profile", str, ""),
        asks_paper=table.get("asks_paper", bool, driver is not PrinterDriver.FILE),
        every_sale=table.get("every_sale", bool, True),
    )
    table.no_more()
    by_path = driver in (PrinterDriver.SERIAL, PrinterDriver.FILE)
    if by_path and not settings.port.startswith("/"):
        wrong(table.path("port"), shown(settings.port), FULL_PATH)
    if settings.baud not in BAUDS:
        do = f"one of {', '.join(str(b) for b in BAUDS)}; see the printer's self-test"
        wrong(table.path("baud"), shown(settings.baud), do)
    if driver is PrinterDriver.NETWORK and not settings.host:
        wrong(table.path("host"), "nothing", "the printer's address; its self-test prints it")
    if driver is PrinterDriver.USB and not (settings.vendor and settings.product):
        wrong(table.path("vendor"), "nothing", 'vendor and product as "lsusb" shows them, 0x04b8')
    if settings.asks_paper and driver is PrinterDriver.FILE:
        do = "leave it out: a file has no way back; use usb, serial or network"
        wrong(table.path("asks_paper"), "true", do)
    return None if driver is None else settings


def read_scanner(table: Table, wrong: Wrong) -> ScannerSettings:
    """Without a port the scanner types like a keyboard."""
    prefixes = table.get("weighed_prefixes", list, [])
    for found in prefixes:
        if not isinstance(found, int) or found not in WEIGHED_PREFIXES:
            do = "numbers from 20 to 29, as the scale prints them"
            wrong(table.path("weighed_prefixes"), shown(found), do)
    settings = ScannerSettings(
        port=table.get("port", str, ""),
        baud=table.get("baud", int, BAUDS[0]),
        weighed_prefixes=tuple(p for p in prefixes if isinstance(p, int)),
    )
    table.no_more()
    if settings.port and not settings.port.startswith("/"):
        wrong(table.path("port"), shown(settings.port), FULL_PATH)
    if settings.baud not in BAUDS:
        do = f"one of {', '.join(str(b) for b in BAUDS)}; see the scanner's manual"
        wrong(table.path("baud"), shown(settings.baud), do)
    return settings
