"""Goal: wrong settings name themselves and what is allowed; a driver nobody asked for is not
loaded.

Method: one example per setting; a fresh interpreter for what is loaded.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from edge.model import SetupProblem
from edge.readers.open_reader import open_reader
from edge.settings import ReaderSettings

SERIAL = ReaderSettings(reader_id="till-1", driver="serial", port="/dev/ttyUSB0", frame="id12")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (replace(SERIAL, driver="usb"), "driver is 'usb'; one of serial, wedge, osdp"),
        (replace(SERIAL, port=""), "port is ''; give the device's full path"),
        (replace(SERIAL, frame="rs232"), "frame is 'rs232'; one of id12, em_desktop"),
        (replace(SERIAL, baud=1_200), "baud is 1200; one of 9600, 19200"),
    ],
    ids=["driver", "port", "frame", "baud"],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(settings: ReaderSettings, says: str) -> None:
    with pytest.raises(SetupProblem, match="reader till-1: ") as problem:
        open_reader(settings, wake=lambda: None)
    assert says in str(problem.value)


def test_no_driver_is_loaded_before_a_setting_asks_for_it() -> None:
    program = (
        "import sys, edge.readers.open_reader;"
        "drivers = ('serial', 'smartcard', 'nfc', 'osdp_sys');"
        "print([name for name in drivers if name in sys.modules])"
    )
    argv = [sys.executable, "-c", program]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"
