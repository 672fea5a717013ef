"""Goal: a lane whose agent hangs does not stay shut, and systemd hears of it.

Method: the real agent's loop in a thread, hung in a step on purpose, with its lines on mock pins;
systemd is a datagram socket in the test's hand. Real time, with generous deadlines.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from edge.watchdog import LOOKS, Systemd, Watchdog
from tests.support.agent_bench import Bench, station
from tests.support.lane_bench import FULL_TOML, HOLD, active, lane_of

HUNG_S = 0.2


def until(holds: Callable[[], bool], s_max: float = 20.0) -> None:
    end_s = time.monotonic() + s_max
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        Event().wait(0.005)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with station(tmp_path, people=5, device_toml=FULL_TOML) as made:
        yield made


def test_a_hung_step_lets_every_line_go_and_a_step_after_it_holds_again(bench: Bench) -> None:
    hang, go_on = Event(), Event()
    step = lane_of(bench).step

    def hangs(moment: object) -> None:
        hang.set()
        assert go_on.wait(60)

    lines = bench.agent.parts.lines
    assert lines is not None and active(bench, HOLD)
    watchdog = Watchdog(lines, hung_s=HUNG_S)
    try:
        lane_of(bench).step = hangs  # type: ignore[method-assign]
        moment = bench.clock.moment()
        loop = Thread(target=lambda: lane_of(bench).step(moment))
        loop.start()
        assert hang.wait(20)
        until(lambda: not lines.is_active(HOLD))
        assert watchdog.hangs == 1
        Event().wait(HUNG_S * 2)
        assert watchdog.hangs == 1, "said once"
        go_on.set()
        loop.join()
        lane_of(bench).step = step  # type: ignore[method-assign]
        watchdog.beat()
        bench.step(1_000)
        assert lane_of(bench).holding
        until(lambda: watchdog.hangs == 2)  # And a second hang is another one.
        assert not lines.is_active(HOLD)
    finally:
        go_on.set()
        watchdog.close()


def test_a_loop_that_goes_round_is_left_alone(bench: Bench) -> None:
    lines = bench.agent.parts.lines
    assert lines is not None
    watchdog = Watchdog(lines, hung_s=60.0)
    try:
        for _ in range(20):
            watchdog.beat()
            Event().wait(0.01)
        assert watchdog.hangs == 0 and lines.is_active(HOLD)
    finally:
        watchdog.close()


def test_a_till_has_a_watchdog_too() -> None:
    beats: list[int] = []
    watchdog = Watchdog(None, hung_s=HUNG_S, notify=lambda: beats.append(1))
    watchdog.beat()
    until(lambda: watchdog.hangs == 1)
    watchdog.close()
    assert beats == [1]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(0)
        yield server, path


def heard(server: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(server.recv(100))
        except BlockingIOError:
            return found


def test_systemd_hears_that_we_are_ready_alive_and_stopping(
    systemd: tuple[socket.socket, str],
) -> None:
    server, path = systemd
    told = Systemd({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "60000000"})
    told.ready()
    for _ in range(1_000):
        told.alive()
    told.stopping()
    told.close()
    told.ready()  # After the end it is silent.
    assert heard(server) == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_it_is_told_as_often_as_systemd_asks(systemd: tuple[socket.socket, str]) -> None:
    server, path = systemd
    told = Systemd({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": str(LOOKS * 20_000)})  # Each 20 ms.
    began_s = time.monotonic()
    found: list[bytes] = []
    while len(found) < 5:
        told.alive()
        found += heard(server)
        assert time.monotonic() < began_s + 20
    assert time.monotonic() - began_s >= 4 * 0.02
    told.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "/nobody/listens", "WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "host:5", "WATCHDOG_USEC": "x"},
    ],
)
def test_nobody_who_asks_is_no_fault(environment: dict[str, str]) -> None:
    told = Systemd(environment)
    told.ready()
    told.alive()
    told.stopping()
    told.close()


def test_a_watchdog_of_another_process_is_not_ours(systemd: tuple[socket.socket, str]) -> None:
    server, path = systemd
    other = str(os.getpid() + 1)
    told = Systemd({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": other})
    told.alive()
    told.close()
    assert heard(server) == []


def test_an_abstract_socket_is_found() -> None:
    name = f"moskvenok-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name)
        server.settimeout(0)
        told = Systemd({"NOTIFY_SOCKET": "@" + name})
        told.ready()
        told.close()
        assert heard(server) == [b"READY=1"]
