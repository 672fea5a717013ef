"""Goal: a reader or a lane that cannot work is found, and one in use is not disturbed.

Method: as in `test_doctor.py`: ptys, files in the place of ports, a machine with and without pins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from provisioning.checks.finding import State
from tests.provisioning.doctor.looking import look, worst
from tests.provisioning.running import edge_status, running


def with_port(installed: Path, port: str) -> None:
    text = installed.read_text().replace("/dev/serial/by-path/pci-0:1", port)
    installed.write_text(text)


def test_a_reader_that_is_not_there(installed: Path) -> None:
    finding = worst(look(installed, "readers"), "r1", "No such file")
    assert finding.state is State.WRONG and "check its plug" in finding.do


def test_a_reader_whose_port_is_a_file(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "port").touch()
    with_port(installed, str(tmp_path / "port"))
    assert "device path" in worst(look(installed, "readers"), "not a serial port").do


def test_a_port_that_may_not_be_opened(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_port(installed, "/dev/null")
    monkeypatch.setattr("provisioning.checks.readers.os.access", lambda *_: False)
    assert "dialout" in worst(look(installed, "readers"), "may not be opened").do


def test_a_character_device_that_is_no_port(installed: Path) -> None:
    with_port(installed, "/dev/null")
    assert worst(look(installed, "readers"), "cannot be opened").state is State.WRONG


def test_a_port_that_opens_and_one_that_is_taken(installed: Path) -> None:
    import fcntl

    ours, theirs = os.openpty()
    try:
        with_port(installed, os.ttyname(theirs))
        (finding,) = look(installed, "readers")
        assert finding.state is State.OK and finding.found == "can be opened"
        fcntl.flock(theirs, fcntl.LOCK_EX)
        assert "stop the program" in worst(look(installed, "readers"), "cannot be opened").do
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("said", "state", "found", "do"),
    [
        ({"up": True}, State.OK, "in use by edge", ""),
        (
            {"up": False, "reason": "reader r1: silent; check its plug"},
            State.WRONG,
            "silent",
            "check its plug",
        ),
        ({"up": False, "reason": ""}, State.WRONG, "edge says it is down", "plug"),
        ({"up": True, "counters": {"noise_bytes": 40}}, State.ATTENTION, "40 bytes", "baud"),
        ({"reader": "r9", "up": True}, State.WRONG, "does not know it", "restart edge"),
    ],
    ids=str,
)
def test_a_reader_in_use_is_not_touched(
    installed: Path, said: dict[str, Any], state: State, found: str, do: str
) -> None:
    status = edge_status(readers=[{"reader": "r1"} | said])
    with running(installed, "edge", {"status": status}):
        (finding,) = look(installed, "readers")
    assert finding.state is state and found in finding.found and do in finding.do


class FakeScard:
    SCARD_SCOPE_SYSTEM = 2

    def __init__(self, *names: str, service: bool = True) -> None:
        self.names, self.service, self.contexts = list(names), service, 0

    def SCardEstablishContext(self, scope: int) -> tuple[int, object]:
        self.contexts += self.service
        return (0, "context") if self.service else (0x8010001D, None)

    def SCardReleaseContext(self, context: object) -> None:
        self.contexts -= 1

    def SCardListReaders(self, context: object, groups: list[str]) -> tuple[int, list[str]]:
        return (0, self.names) if self.names else (0x8010002E, [])

    def SCardGetErrorMessage(self, code: int) -> str:
        return f"code {code:x}"


@pytest.mark.parametrize(
    ("scard", "state", "found", "do"),
    [
        (FakeScard("ACS ACR122U 00 00"), State.OK, "has it", ""),
        (FakeScard("Other"), State.WRONG, "there is Other", "check its plug"),
        (FakeScard(), State.WRONG, "there is none", "check its plug"),
        (FakeScard(service=False), State.WRONG, "no PC/SC service", "systemctl start pcscd"),
    ],
)
def test_a_pcsc_reader_is_asked_for_by_name(
    installed: Path,
    monkeypatch: pytest.MonkeyPatch,
    scard: FakeScard,
    state: State,
    found: str,
    do: str,
) -> None:
    monkeypatch.setattr("edge.readers.pcsc.load_scard", lambda: scard)
    _use_pcsc(installed)
    (finding,) = look(installed, "readers")
    assert finding.state is state and found in finding.found and do in finding.do
    assert scard.contexts == 0


def test_pcsc_without_its_library(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smartcard", None)
    _use_pcsc(installed)
    assert "apt-get install" in worst(look(installed, "readers"), "not installed").do


def _use_pcsc(installed: Path) -> None:
    text = installed.read_text()
    start = text.index("[[readers]]")
    end = text.index("[[lanes]]")
    reader = '[[readers]]\nid = "r1"\ndriver = "pcsc"\nname = "ACS"\naccess_point = "north-in"\n'
    installed.write_text(text[:start] + reader + text[end:])


# --------------------------------------------------------------------------------- lines


def test_a_mock_lane_is_for_benches(installed: Path) -> None:
    findings = look(installed, "lines")
    assert worst(findings, "no wire moves").state is State.ATTENTION
    assert any("2 lines, each with its pin" in finding.found for finding in findings)


@pytest.mark.parametrize(
    ("library", "chips", "may", "state", "text"),
    [
        (False, 1, True, State.WRONG, "moskvenok-edge[pi]"),
        (True, 0, True, State.WRONG, "no Raspberry Pi"),
        (True, 1, False, State.WRONG, "usermod -aG gpio"),
        (True, 1, True, State.OK, "can be driven"),
    ],
)
def test_real_pins_want_a_library_a_chip_and_permission(
    installed: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: bool,
    chips: int,
    may: bool,
    state: State,
    text: str,
) -> None:
    installed.write_text(installed.read_text().replace('"mock"', '"lgpio"'))
    checks = "provisioning.checks.lines"
    monkeypatch.setattr(f"{checks}.find_spec", lambda name: library or name != "lgpio" or None)
    if not library:
        monkeypatch.setattr(f"{checks}.find_spec", lambda name: None if name == "lgpio" else True)
    monkeypatch.setattr(f"{checks}.CHIPS", "null" if chips else "no-such-chip*")
    monkeypatch.setattr(f"{checks}.os.access", lambda *_: may)
    finding = look(installed, "lines")[0]
    assert finding.state is state and text in finding.found + finding.do


def test_a_sensor_without_pull_or_none_at_all_is_told(installed: Path) -> None:
    text = installed.read_text()
    installed.write_text(text.replace(', pull = "up"', ""))
    finding = worst(look(installed, "lines"), "north-in.rotation", "no pull")
    assert finding.state is State.ATTENTION and "resistor" in finding.do
    kept = [line for line in text.splitlines() if not line.startswith("rotation")]
    installed.write_text("\n".join(kept))
    assert worst(look(installed, "lines"), "assumed").state is State.ATTENTION


@pytest.mark.parametrize(
    ("pin", "active_high", "unsafe"),
    [(8, True, True), (9, True, False), (8, False, False), (9, False, True)],
)
def test_an_output_whose_pull_at_reset_is_its_active_level_is_refused(
    installed: Path, pin: int, active_high: bool, unsafe: bool
) -> None:
    """On all that are outputs: a relay opens, a holding line shuts people in, a buzzer cries."""
    text = installed.read_text().replace('"mock"', '"lgpio"')
    relay = f"relay = {{ pin = {pin}, active_high = {str(active_high).lower()} }}"
    kept = [relay if line.startswith("relay") else line for line in text.splitlines()]
    installed.write_text("\n".join(kept))
    found = [f for f in look(installed, "lines") if "when power comes" in f.found]
    assert [finding.state for finding in found] == ([State.WRONG] if unsafe else [])
    hold = f"hold = {{ pin = {pin}, active_high = {str(active_high).lower()} }}"
    held = [f"{line}\n{hold}" if line.startswith("driver") else line for line in text.splitlines()]
    installed.write_text("\n".join(held).replace(f'"pcsc"\n{hold}', '"pcsc"'))
    text = installed.read_text()
    at = text.index("[[lanes]]")
    installed.write_text(text[:at].replace(f"\n{hold}", "") + text[at:])
    found = [f for f in look(installed, "lines") if "north.hold" in f.where]
    assert any("when power comes" in finding.found for finding in found) is unsafe


def test_a_lane_without_a_copy_of_the_fire_alarm_is_told(installed: Path) -> None:
    finding = worst(look(installed, "lines"), "fire alarm")
    assert finding.state is State.ATTENTION and "turnstile" in finding.do


@pytest.mark.parametrize(("there", "may"), [(False, True), (True, False), (True, True)])
def test_a_relay_board_is_looked_for_and_not_touched(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, may: bool
) -> None:
    port = tmp_path / "board"
    text = installed.read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith("rotation"))
    text = text.replace('"mock"', f'"relay_board"\nport = "{port}"').replace("pin = 17", "pin = 1")
    installed.write_text(text)
    if there:
        port.write_text("")
    monkeypatch.setattr("provisioning.checks.lines.os.access", lambda *_: may)
    finding = look(installed, "lines")[0]
    assert finding.state is (State.OK if there and may else State.WRONG)
    assert "dialout" in finding.do or may


def test_an_alarm_of_the_lane_is_told_with_what_to_do(installed: Path) -> None:
    lane = {"lane": "north", "up": True, "alarms": ["fire_clear", "stuck north-in.button"]}
    with running(installed, "edge", {"status": edge_status(lanes=[lane])}):
        findings = look(installed, "lines")
        assert "officer ends the release" in worst(findings, "fire_clear").do
        assert "held down" in worst(findings, "stuck").do


def test_a_lane_that_edge_calls_down(installed: Path) -> None:
    status = edge_status(lanes=[{"lane": "north", "up": False}])
    with running(installed, "edge", {"status": status}):
        assert worst(look(installed, "lines"), "edge says").state is State.WRONG
