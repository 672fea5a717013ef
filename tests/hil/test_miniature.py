"""Goal: the miniature starts, goes on where it ended, obeys its commands, and leaves no process.

Method: the real thing, every process of it, on free ports in a folder of the test. What runs is
found in /proc by its parent, and ended by pid.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge import control
from edge.model import SetupProblem
from hil import remote
from hil.layout import Folder
from hil.network import network
from hil.run import run
from hil.tap import tap

pytestmark = [pytest.mark.process, pytest.mark.slow]
START_S_MAX = 90.0
WAIT_S_MAX = 30.0
PROCESSES = 6  # Broker, city, and edge and sync of two stations.
ALL_PROCESSES = 13  # Of three stations more, and the school's own broker.


def wait_for(what: Callable[[], bool], wait_s: float = WAIT_S_MAX) -> None:
    until = time.monotonic() + wait_s
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """Of this process, zombies left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # It ended while we looked.
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Run:
    """One start of the miniature."""

    def __init__(self, folder: Path, *more: str, port: int = 0) -> None:
        self.folder = folder
        command = (sys.executable, "-m", "hil.run", "--folder", str(folder), "--port", str(port))
        self._process = subprocess.Popen(
            (*command, *more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.pid = self._process.pid

    def ready(self) -> None:
        def there() -> bool:
            assert self._process.poll() is None, self.words()
            return (self.folder / remote.ADDRESS_FILE).exists()

        wait_for(there, START_S_MAX)

    def end(self, number: int = signal.SIGTERM) -> int:
        if self._process.poll() is None:
            os.kill(self.pid, number)
        return self._process.wait(timeout=WAIT_S_MAX)

    def wait(self) -> int:
        return self._process.wait(timeout=START_S_MAX)

    def words(self) -> str:
        """All it printed, once it has ended."""
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            return stdout.read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mk")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Run]:
    miniature = Run(folder)
    try:
        miniature.ready()
        yield miniature
    finally:
        miniature.end(signal.SIGKILL)
        miniature.words()


WORDS_OF_SALES = ("sold", "refused")  # How a till counts what it decided.
TAP_AGAIN = ("deadline", "stale_read")  # Answers that ask for another tap.


def invoke(command: object, *arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.output


def test_a_card_is_tapped_from_the_command_line(running: Run) -> None:
    words = invoke(tap, "pupil", "--at", "in", "--run", str(running.folder))
    assert words.startswith("ПРОХОДИТЕ\n")
    words = invoke(tap, "blocked", "--at", "in", "--run", str(running.folder))
    assert words.startswith("СТОП\n")


def test_a_card_with_a_key_is_let_in_and_its_copies_are_not(running: Run) -> None:
    def shown(card: str, at: str = "in", left: int = 4) -> tuple[str, str]:
        time.sleep(3.2)  # The same card again within 3 s is no new presentation.
        body = {"card": card, "at": at, "wait": True}
        screen = remote.ask(running.folder, "/tap", body)["screen"]
        if left and screen.get("reason", "") in TAP_AGAIN:
            return shown(card, at, left - 1)  # A busy machine: its answers came too late.
        return screen["state"], screen.get("reason", "")

    for card in ("pupil-ev2", "guest-sun", "band-aes", "guest-sun"):
        assert shown(card)[0] in ("granted", "taken"), card
    for card in ("pupil-clone", "pupil-factory", "copy"):
        assert shown(card) == ("refused", "tier_below_enrolled"), card
    for card, reason in (("phone", "random_uid"), ("two-cards", "two_cards")):
        assert shown(card) == ("ask", reason)
    words = invoke(tap, "pupil-clone", "--at", "in", "--run", str(running.folder))
    if any(f"({reason})" in words for reason in TAP_AGAIN):
        time.sleep(3.2)
        words = invoke(tap, "pupil-clone", "--at", "in", "--run", str(running.folder))
    assert words.startswith("СТОП\n") and "(tier_below_enrolled)" in words
    with pytest.raises(SetupProblem, match="try in or till"):
        invoke(tap, "pupil-ev2", "--at", "out", "--run", str(running.folder))


def test_wires_of_the_lane_are_at_the_page(running: Run) -> None:
    def of_entrance() -> dict[str, Any]:
        station = remote.ask(running.folder, "/state")["station_entrance"]
        assert isinstance(station, dict)
        return station

    head = of_entrance()["head"]
    for on in (True, False):
        remote.ask(running.folder, "/wire", {"line": "north-in.button", "on": on})
    wait_for(lambda: of_entrance()["head"] >= head + 1)  # The override, and soon the passage.
    remote.ask(running.folder, "/wire", {"line": "north.tamper", "on": True})
    wait_for(lambda: of_entrance()["wires"]["north.tamper"] is True)
    remote.ask(running.folder, "/wire", {"line": "north.tamper", "on": False})
    wait_for(lambda: of_entrance()["wires"]["north.tamper"] is False)
    assert of_entrance()["wires"]["north.hold"] is True
    with pytest.raises(SetupProblem, match="there is no wire"):
        remote.ask(running.folder, "/wire", {"line": "north-in.relay", "on": True})


def test_an_unknown_card_names_the_known_ones(running: Run) -> None:
    with pytest.raises(SetupProblem, match="there are pupil, wristband, blocked"):
        invoke(tap, "nobody", "--at", "in", "--run", str(running.folder))


def test_the_network_is_taken_from_both_stations_and_given_back(running: Run) -> None:
    def connected() -> list[bool]:
        sockets = [running.folder / name / "run" / "sync.sock" for name in ("entrance", "till")]
        return [control.ask(path, {"request": "status"})["connected"] for path in sockets]

    for state, expected in (("off", [False, False]), ("on", [True, True])):
        assert invoke(network, state, "--run", str(running.folder)) == f"network {state}\n"
        wait_for(lambda expected=expected: connected() == expected, 60)  # type: ignore[misc]


def test_what_only_all_stations_have_says_how_to_get_it(running: Run) -> None:
    for path, body in (
        ("/tap", {"card": "pupil", "at": "till-2"}),
        ("/network", {"on": False, "of": "school"}),
        ("/plug", {"at": "museum", "on": False}),
    ):
        with pytest.raises(SetupProblem, match="STATIONS=all"):
            remote.ask(running.folder, path, body)
    with pytest.raises(SetupProblem, match="there is no wire"):
        remote.ask(running.folder, "/wire", {"line": "garden.fire", "on": True})
    with pytest.raises(SetupProblem, match='there is no reader "roof"'):
        remote.ask(running.folder, "/tap", {"card": "pupil", "at": "roof"})


def test_two_in_one_folder_are_refused(running: Run) -> None:
    second = Run(running.folder)
    assert second.wait() == 1
    assert "another miniature runs there" in second.words()
    assert len(children(running.pid)) == PROCESSES


def test_a_child_that_is_killed_comes_back(running: Run) -> None:
    before = set(children(running.pid))
    assert len(before) == PROCESSES
    state = remote.ask(running.folder, "/state")
    victim = next(p["pid"] for p in state["processes"] if p["name"] == "till-sync")
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(set(children(running.pid)) - before) == 1)
    assert len(children(running.pid)) == PROCESSES


def test_after_kill_9_nothing_stays_and_the_next_start_goes_on(running: Run) -> None:
    left = children(running.pid)
    assert len(left) == PROCESSES
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    wait_for(lambda: not any(alive(pid) for pid in left))

    heads = Run(running.folder, "--for", "0.5")
    assert heads.wait() == 0
    words = heads.words()
    assert "setting up" not in words, "the stations were set up already"
    assert words.count("http://") == 1
    assert not (running.folder / remote.ADDRESS_FILE).exists()


def test_sigterm_ends_everything_in_order(tmp_path: Path) -> None:
    home = Folder(tmp_path / "mk")
    before = home.station("entrance") / "state" / "of a run before"
    before.mkdir(parents=True)
    home.memory.write_text("{}")
    miniature = Run(home.root, "--fresh")
    try:
        miniature.ready()
        left = children(miniature.pid)
        assert len(left) == PROCESSES
        assert not before.exists()
        assert miniature.end(signal.SIGTERM) == 0
    finally:
        miniature.end(signal.SIGKILL)
        words = miniature.words()
    assert "setting up s0001-north" in words, "a fresh start sets everything up anew"
    assert "had to be killed" not in words
    assert not any(alive(pid) for pid in left)


def test_all_stations_play_side_by_side(tmp_path: Path) -> None:
    miniature = Run(tmp_path / "mk", "--stations", "all")
    try:
        miniature.ready()
        assert len(children(miniature.pid)) == ALL_PROCESSES
        _play_on_all_stations(miniature.folder)
    finally:
        miniature.end()
        words = miniature.words()
    assert "had to be killed" not in words
    assert not [line for line in words.splitlines() if "killed by" in line]


def _play_on_all_stations(folder: Path) -> None:
    def shown(card: str, at: str) -> dict[str, Any]:
        screen = remote.ask(folder, "/tap", {"card": card, "at": at, "wait": True})["screen"]
        assert isinstance(screen, dict)
        return screen

    def at(station: str, request: str, process: str = "edge", **body: Any) -> dict[str, Any]:
        path = folder / station / "run" / f"{process}.sock"
        return control.ask(path, {"request": request, **body})

    pages = remote.ask(folder, "/state")["pages"]
    assert set(pages) == {"entrance", "till", "till-2", "preschool", "museum"}

    assert shown("guardian", "garden-in")["state"] in ("granted", "taken")
    wait_for(lambda: at("preschool", "screen")["handover"]["dialogue"] != "")
    dialogue = at("preschool", "screen")["handover"]
    children_shown = [child["child"] for child in dialogue["children"]]
    assert children_shown
    answer = at(
        "preschool",
        "handover_choose",
        dialogue=dialogue["dialogue"],
        what="brought",
        children=children_shown,
    )
    assert answer["ok"] is True, answer
    wait_for(lambda: at("preschool", "screen")["handover"]["dialogue"] == "")

    def decisions() -> list[str]:
        counted = at("till-2", "status")["counters"].items()
        names = ((name, times) for name, times in counted if name.split("_")[0] in WORDS_OF_SALES)
        return [name for name, times in sorted(names) for _ in range(times)]

    # One tap at a till that has just started: it may wait for what its neighbour did, but sells.
    assert at("till-2", "basket", lines=[["soup-1", 1]])["ok"] is True
    shown("pupil", "till-2")
    wait_for(lambda: decisions() != [])
    if decisions() == ["refused_stale_read"]:  # A busy machine: it was read, and not looked at.
        time.sleep(3.2)
        shown("pupil", "till-2")
        wait_for(lambda: "sold" in decisions())
    assert [name for name in decisions() if name != "refused_stale_read"] == ["sold"]
    assert shown("stranger", "museum")["state"] not in ("idle", "none")  # Answered there at all.

    def alone() -> bool:
        return bool(at("entrance", "status")["alone"])  # Of what it would hear of the other lane.

    wait_for(lambda: not alone(), 60)
    assert invoke(network, "off", "--of", "school", "--run", str(folder)) == "network off\n"
    wait_for(alone, 60)
    assert at("entrance", "status", "sync")["connected"] is True, "the city is on another wire"
    assert invoke(network, "on", "--of", "school", "--run", str(folder)) == "network on\n"
    wait_for(lambda: not alone(), 60)


def test_a_taken_port_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(SetupProblem, match=f"port {number} cannot be used"):
            run.main(
                ["--port", str(number), "--folder", str(tmp_path / "mk")], standalone_mode=False
            )
        second = Run(tmp_path / "mk", port=number)
        assert second.wait() == 1
        assert "make run PORT=9000" in second.words()
    assert not (tmp_path / "mk").exists()


def test_commands_without_a_miniature_say_so(tmp_path: Path) -> None:
    with pytest.raises(SetupProblem, match="no miniature runs in"):
        invoke(tap, "pupil", "--at", "in", "--run", str(tmp_path))
    (tmp_path / remote.ADDRESS_FILE).write_text("http://127.0.0.1:1\n")
    with pytest.raises(SetupProblem, match="does not answer"):
        invoke(network, "off", "--run", str(tmp_path))
