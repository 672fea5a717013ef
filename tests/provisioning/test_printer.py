"""Goal: `moskvenok printer check` puts a slip on the paper, with a running edge or without one, or
says what is wrong with the printer and what to do.

Method: the real command, python-escpos and a virtual printer on loopback; edge is a control socket
that owns a real `Printer`, or the answers a test gives it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from edge.config import load
from edge.control import ControlSocket
from edge.model import DeviceFault
from edge.pos.peripherals import Printer
from edge.pos.slip import check_slip
from hil.devices.printer import LOW, OUT, VirtualPrinter
from provisioning import cli
from provisioning.printer import print_check

pytest.importorskip("escpos", reason="extra `printer` is not installed")
# The library lets go of a socket that could not connect without closing it.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
Run = Callable[..., Result]
TOML = """schema = 1
[device]
id = "till-1"
site = "school-7"
station = "{station}"
[city]
endpoints = ["mqtt://127.0.0.1:9"]
[[readers]]
id = "r1"
driver = "serial"
port = "/nonexistent/reader"
frame = "hex_line"
{access}
"""
PRINTER = """[printer]
driver = "network"
host = "127.0.0.1"
tcp_port = {port}
"""
LANE = """[[lanes]]
id = "north"
driver = "mock"
[[lanes.access_points]]
id = "north-in"
direction = "in"
zone = "school"
relay = {pin = 17}
"""


@pytest.fixture
def paper() -> Iterator[VirtualPrinter]:
    with VirtualPrinter() as printer:
        yield printer


def device_file(folder: Path, port: int | None, *, station: str = "till") -> Path:
    (folder / "run").mkdir(exist_ok=True)
    lane = station != "till"
    text = TOML.format(station=station, access='access_point = "north-in"' if lane else "")
    text += (LANE if lane else "") + (PRINTER.format(port=port) if port is not None else "")
    path = folder / "device.toml"
    path.write_text(text)
    return path


@contextmanager
def edge(config: Path, *, stuck: bool = False, printer: bool = True) -> Iterator[None]:
    """A control socket that prints as edge does."""
    settings = load(config)
    assert settings.printer is not None
    owned = Printer(settings.printer, wake=lambda: None)
    socket = ControlSocket(settings.socket_path("edge"), wake=lambda: None)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for request in socket.poll():
                request.answer(answer(str(request.name)))
            stop.wait(0.01)

    def answer(name: str) -> dict[str, Any]:
        if name == "print":
            return {"ok": owned.submit(check_slip(site="s", device="d", when="w"))}
        status = owned.status()
        shown = {
            "state": "stuck" if stuck else status.state.value,
            "reason": status.reason,
            "failed": status.failed,
            "waiting": status.waiting,
            "printed": 0 if stuck else status.printed,
        }
        return {"ok": True, "screens": [{"till": True, "printer": shown if printer else None}]}

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
        socket.close()
        owned.close()


def test_without_edge_the_command_prints_itself(
    run: Run, tmp_path: Path, paper: VirtualPrinter
) -> None:
    config = device_file(tmp_path, paper.port)
    result = run("printer", "check", "--config", str(config))
    assert result.exit_code == cli.GOOD, result.output
    assert f"127.0.0.1:{paper.port}, printed by this command" in result.output
    (slip,) = paper.slips
    assert slip[0].strip() == "ПРОВЕРКА ПЕЧАТИ" and "абвгдежз" in "".join(slip)
    assert "school-7  till-1" in slip[1]


def test_a_running_edge_prints_it(run: Run, tmp_path: Path, paper: VirtualPrinter) -> None:
    config = device_file(tmp_path, paper.port)
    with edge(config):
        result = run("printer", "check", "--config", str(config), "--json")
    assert result.exit_code == cli.GOOD, result.output
    assert json.loads(result.stdout)["by"] == "edge" and len(paper.slips) == 1


@pytest.mark.parametrize("by_edge", [False, True])
def test_what_is_wrong_is_said_with_its_remedy(
    run: Run, tmp_path: Path, paper: VirtualPrinter, by_edge: bool
) -> None:
    config = device_file(tmp_path, paper.port)

    def said() -> str:
        result = run("printer", "check", "--config", str(config))
        assert result.exit_code == cli.YOURS, result.output
        return result.output

    def all_of_it() -> None:
        paper.paper = OUT
        assert "out of paper; put in a new roll" in said()
        paper.power(on=False)
        assert "check its plug" in said()

    if not by_edge:
        all_of_it()
    else:
        with edge(config):
            all_of_it()
    assert paper.slips == []


def test_low_paper_prints_and_is_said(run: Run, tmp_path: Path, paper: VirtualPrinter) -> None:
    paper.paper = LOW
    result = run("printer", "check", "--config", str(device_file(tmp_path, paper.port)))
    assert result.exit_code == cli.GOOD and "running low" in result.output


def test_a_printer_that_took_it_and_hangs_is_not_called_good(
    run: Run, tmp_path: Path, paper: VirtualPrinter
) -> None:
    config = device_file(tmp_path, paper.port)
    with edge(config, stuck=True):
        result = run("printer", "check", "--config", str(config))
    assert result.exit_code == cli.YOURS and "never ended it" in result.output


def test_a_printer_that_says_nothing_in_time(tmp_path: Path, paper: VirtualPrinter) -> None:
    paper.answers = False
    settings = load(device_file(tmp_path, paper.port))
    with pytest.raises(DeviceFault, match=str(paper.port)):
        print_check(settings, wait_s=0.3)


def test_where_there_is_no_printer_it_says_how_to_name_one(run: Run, tmp_path: Path) -> None:
    for config in (device_file(tmp_path, None), device_file(tmp_path, None, station="entrance")):
        result = run("printer", "check", "--config", str(config))
        assert result.exit_code == cli.YOURS and "no [printer]" in result.output


def test_an_edge_of_before_the_change_is_started_again(
    run: Run, tmp_path: Path, paper: VirtualPrinter
) -> None:
    config = device_file(tmp_path, paper.port)
    with edge(config, printer=False):
        result = run("printer", "check", "--config", str(config))
    assert result.exit_code == cli.YOURS and "start edge again" in result.output
