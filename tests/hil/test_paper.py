"""Goal: the miniature's till has a printer whose paper is on the page, at the same port after a new
start, and none where the library for it is not installed.

Method: the printer itself on loopback, spoken to in ESC/POS; `device.toml` read by the product.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import config
from edge.model import DeviceFault
from hil import paper as paper_module
from hil.board import Board
from hil.layout import ALL_STATIONS, Folder, device_toml
from hil.paper import SLIPS_SHOWN, Paper


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paper]:
    monkeypatch.setattr(paper_module, "find_spec", lambda _name: object())
    made = Paper(Folder(tmp_path), Board())
    made.start()
    yield made
    made.close()


def print_on(port: int, text: str) -> None:
    with socket.create_connection(("127.0.0.1", port)) as talk:
        talk.sendall(b"\x1bt\x11" + text.encode("cp866") + b"\n\x1dV\x00")
        talk.shutdown(socket.SHUT_WR)
        assert talk.recv(1) == b"", "it has taken all of it"


def test_what_came_out_is_on_the_board_the_newest_first(paper: Paper) -> None:
    board = paper._board
    assert board.part("paper") == {"state": "fine", "printed": 0, "slips": []}
    for number in range(SLIPS_SHOWN + 2):
        print_on(paper.port, f"ТАЛОН {number}")

    async def look() -> None:
        following = asyncio.create_task(paper.follow())
        await asyncio.sleep(0)
        following.cancel()

    asyncio.run(look())
    shown = board.part("paper")
    assert shown["printed"] == SLIPS_SHOWN + 2
    assert [slip[0] for slip in shown["slips"]] == [f"ТАЛОН {n}" for n in range(6, 1, -1)]


def test_a_hand_at_the_roll_and_at_the_plug(paper: Paper) -> None:
    for state in ("low", "out", "fine", "off", "fine"):
        paper.turn(state)
        assert paper._board.part("paper")["state"] == state
    paper.turn("off")
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", paper.port), 1)
    with pytest.raises(DeviceFault, match="fine, low, out or off"):
        paper.turn("on fire")


def test_the_port_is_the_same_after_a_new_start(paper: Paper, tmp_path: Path) -> None:
    port = paper.port
    paper.close()
    again = Paper(Folder(tmp_path), Board())
    again.start()
    assert again.port == port
    other = Paper(Folder(tmp_path), Board())
    other.start()  # The port is taken: another one, and that is remembered.
    assert other.port not in (0, port)
    for one in (again, other):
        one.close()


def test_without_the_library_there_is_no_printer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_module, "find_spec", lambda _name: None)
    board = Board()
    none = Paper(Folder(tmp_path), board)
    none.start()
    assert none.port == 0 and board.part("paper") is None
    with pytest.raises(DeviceFault, match="extra `printer`"):
        none.turn("out")
    none.close()


def test_the_till_is_told_where_it_stands_and_nobody_else() -> None:
    folder = Folder(Path("/srv/mk"))
    for place in ALL_STATIONS:
        text = device_toml(place, folder, endpoint="mqtt://127.0.0.1:1", printer_port=9100)
        settings = config.parse(text.encode(), folder.device_file(place.name))
        found = settings.printer
        assert (found is not None) is (place.name == "till")
        if found is not None:
            assert (found.host, found.tcp_port, found.asks_paper) == ("127.0.0.1", 9100, True)
