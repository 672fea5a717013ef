"""The miniature's receipt printer: a virtual one beside the till, and its roll on the page.

The till is told of it as of any network printer (`[printer]` in its `device.toml`), and only where
python-escpos is installed: without it a till prints nothing anyway. A hand at the page takes the
roll out, lets it run low, or pulls the plug.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any, Final

import msgspec

from edge.model import DeviceFault
from hil.board import Board
from hil.devices.printer import FINE, LOW, OUT, VirtualPrinter
from hil.layout import Folder
from hil.ports import remembered_ports

LOOK_S: Final = 0.2  # Our choice: a slip is on the page when a person looks there.
SLIPS_SHOWN: Final = 5  # Our choice: the newest, the first of them on top.
PORT: Final = "printer_port"  # In the miniature's memory.
PAPERS: Final = {"fine": FINE, "low": LOW, "out": OUT}
OFF: Final = "off"


class Paper:
    """Of one miniature."""

    def __init__(self, folder: Folder, board: Board) -> None:
        self._folder = folder
        self._board = board
        self._printer: VirtualPrinter | None = None
        self._now = "fine"

    def start(self) -> None:
        """On the port of the last run, if that is free."""
        if find_spec("escpos") is None:
            return
        memory = remembered_ports(self._folder.memory)
        try:
            self._printer = VirtualPrinter(port=memory.get(PORT, 0))
        except OSError:
            self._printer = VirtualPrinter()
        memory[PORT] = self._printer.port
        self._folder.memory.write_bytes(msgspec.json.encode(memory))
        self._show()

    @property
    def port(self) -> int:
        """For the till's `device.toml`; 0: there is no printer."""
        return 0 if self._printer is None else self._printer.port

    def turn(self, what: str) -> None:
        """`fine`, `low` or `out` of paper, or `off`."""
        if self._printer is None:
            raise DeviceFault("no printer here; install python-escpos (extra `printer`)")
        if what not in (*PAPERS, OFF):
            raise DeviceFault(f'the printer cannot be "{what}"; {", ".join(PAPERS)} or {OFF}')
        self._now = what
        self._printer.power(on=what != OFF)
        self._printer.paper = PAPERS.get(what, FINE)
        self._show()

    async def follow(self) -> None:
        """What came out goes on the page."""
        while True:
            self._show()
            await asyncio.sleep(LOOK_S)

    def close(self) -> None:
        if self._printer is not None:
            self._printer.close()

    def _show(self) -> None:
        if self._printer is None:
            return
        shown: dict[str, Any] = {
            "state": self._now,
            "printed": self._printer.printed,
            "slips": self._printer.slips[: -SLIPS_SHOWN - 1 : -1],
        }
        self._board.put("paper", shown)
