"""Goal: what `device.toml` says of a reader is taken as it stands, or every mistake in it is named
with its key and what is allowed, by the file's check and by `open_reader` alike.

Method: one good section per driver and frame; one mistake each, against both checks; two readers on
one port.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge.config import ConfigProblem, parse
from edge.model import SetupProblem
from edge.readers.open_reader import FRAMES, new_frame, open_reader, profile_of
from edge.settings import (
    BAUD_DEFAULT,
    FRAMES_OF_EITHER_KIND,
    OSDP_ADDRESS_MAX,
    READER_FRAMES,
    DeviceSettings,
    ReaderSettings,
    reader_problems,
)

SOURCE = Path("/etc/moskvenok/device.toml")
HEAD = """\
schema = 1
device = { id = "till-1", site = "school-1", station = "till" }
city = { endpoints = ["mqtts://broker:8883"] }
"""
KEY_FILE = "identity/reader.key"


def file_with(*sections: str) -> DeviceSettings:
    readers = "".join(f'[[readers]]\nid = "r{n}"\n{s}\n' for n, s in enumerate(sections))
    return parse((HEAD + readers).encode(), SOURCE)


def good(driver: str, frame: str = "") -> ReaderSettings:
    return ReaderSettings(
        reader_id="r0",
        driver=driver,
        port="" if driver == "pcsc" else "/dev/r",
        frame=frame,
        numbering="prox125" if frame in FRAMES_OF_EITHER_KIND else "",
        key_file=str(SOURCE.parent / KEY_FILE) if driver == "osdp" else "",
    )


CASES = [(driver, frame) for driver, frames in READER_FRAMES.items() for frame in frames or ("",)]


@pytest.mark.parametrize(("driver", "frame"), CASES)
def test_each_driver_and_frame_can_be_written_in_the_file(driver: str, frame: str) -> None:
    settings = good(driver, frame)
    assert list(reader_problems(settings)) == []
    lines = [f'driver = "{driver}"']
    lines += [f'port = "{settings.port}"'] if settings.port else []
    lines += [f'frame = "{frame}"'] if frame else []
    lines += [f'numbering = "{settings.numbering}"'] if settings.numbering else []
    lines += [f'key_file = "{KEY_FILE}"'] if settings.key_file else []
    assert file_with("\n".join(lines)).readers == (settings,)


def test_everything_a_reader_can_say_arrives() -> None:
    (reader,) = file_with(
        'driver = "osdp"\nport = "/dev/r"\nframe = "wiegand"\nnumbering = "iso14443"\n'
        'reversed = true\naddress = 3\nbaud = 115200\nkey_file = "/k"'
    ).readers
    assert reader == ReaderSettings(
        reader_id="r0",
        driver="osdp",
        port="/dev/r",
        frame="wiegand",
        numbering="iso14443",
        reversed=True,
        address=3,
        baud=115_200,
        key_file="/k",
    )
    assert (good("osdp", "uid").address, good("osdp", "uid").baud) == (0, BAUD_DEFAULT)


SERIAL, WEDGE, OSDP = good("serial", "d10"), good("wedge", "hex_line"), good("osdp", "uid")
MISTAKES = {
    "driver": (replace(SERIAL, driver="usb"), "driver", "one of serial, wedge, osdp, pn532, pcsc"),
    "no port": (replace(SERIAL, port=""), "port", "full path"),
    "a port's name alone": (replace(WEDGE, port="event3"), "port", "full path"),
    "no port for a chip": (replace(good("pn532"), port=""), "port", "full path"),
    "frame": (replace(SERIAL, frame="rs232"), "frame", "one of id12, em_desktop"),
    "a frame no keyboard types": (replace(WEDGE, frame="id12"), "frame", "one of hex_line, d10"),
    "a line's frame on OSDP": (replace(OSDP, frame="d10"), "frame", "one of uid, wiegand"),
    "baud": (replace(SERIAL, baud=1_200), "baud", "one of 9600, 19200"),
    "baud on OSDP": (replace(OSDP, baud=9_601), "baud", "see the reader's data sheet"),
    "no numbering": (replace(SERIAL, numbering=""), "numbering", "one of iso14443, prox125"),
    "numbering": (replace(SERIAL, numbering="em4100"), "numbering", "one of iso14443, prox125"),
    "numbering of a UID": (replace(WEDGE, numbering="iso14443"), "numbering", "leave it out"),
    "numbering of a chip": (replace(good("pn532"), numbering="prox125"), "numbering", "leave it"),
    "an order that is fixed": (
        replace(good("serial", "id12"), reversed=True),
        "reversed",
        "one order",
    ),
    "address": (replace(OSDP, address=OSDP_ADDRESS_MAX + 1), "address", "from 0 to 126"),
    "address below": (replace(OSDP, address=-1), "address", "from 0 to 126"),
    "no key": (replace(OSDP, key_file=""), "key_file", "32 hex digits"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_key_and_what_is_allowed(name: str) -> None:
    settings, key, says = MISTAKES[name]
    problems = list(reader_problems(settings))
    assert key in [problem.key for problem in problems]
    assert any(says in problem.do for problem in problems if problem.key == key)
    with pytest.raises(SetupProblem, match="reader r0: "):
        open_reader(settings, wake=lambda: None)


def test_all_mistakes_of_a_file_are_told_together() -> None:
    with pytest.raises(ConfigProblem) as problem:
        file_with(
            'driver = "osdp"\nport = "tty"\nframe = "id12"\naddress = 127\nbaud = 1',
            'driver = "nfc"',
            'driver = "wedge"\nport = "/dev/k"\nframe = "d10"',
        )
    keys = [one.key for one in problem.value.problems]
    assert keys == [
        *("readers[0].port", "readers[0].frame", "readers[0].baud", "readers[0].address"),
        *("readers[0].key_file", "readers[1].driver", "readers[2].numbering"),
    ]


def test_two_readers_on_one_port_are_refused() -> None:
    serial = 'driver = "serial"\nport = "/dev/one"\nframe = "id12"'
    with pytest.raises(ConfigProblem) as problem:
        file_with(serial, 'driver = "pn532"\nport = "/dev/one"', 'driver = "pcsc"')
    (found,) = problem.value.problems
    assert found.key == "readers[1].port"
    assert "already used at readers[0].port" in found.do
    file_with('driver = "pcsc"\nname = "A"', 'driver = "pcsc"\nname = "B"')


@pytest.mark.parametrize("frame", FRAMES)
def test_every_frame_can_be_made(frame: str) -> None:
    settings = good("serial", frame)
    assert new_frame(settings).receive(b"", now_ms=0) == []
    assert profile_of(replace(settings, reversed=True)).reversed is True
