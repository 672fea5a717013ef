"""Goal: ringing never blocks and never fails; a request is answered by one line; no client, however
slow, silent, loud or mad, holds up the doorbell or leaves anything behind.

Method: real sockets in a temporary folder. A listener that never accepts shows what a ringer may
meet; waits are for events with a limit, never for a time. Threads and descriptors are counted
before and after.
"""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge import control
from edge.control import (
    REQUEST_BYTES_MAX,
    WAITING_MAX,
    ControlSocket,
    Request,
    ask,
    ring,
)
from edge.model import CorruptData, DeviceFault, SetupProblem

PATIENCE_S = 5.0


class Loop:
    """A process's own loop: wakes, polls, answers."""

    def __init__(self, path: Path) -> None:
        self.woken = threading.Event()
        self.control = ControlSocket(path, self.woken.set)
        self.seen: list[str] = []

    def requests(self, count: int = 1) -> list[Request]:
        """So many, in the order they came."""
        waiting: list[Request] = []
        until_s = time.monotonic() + PATIENCE_S
        while len(waiting) < count:
            assert time.monotonic() < until_s, f"{len(waiting)} requests"
            self.woken.wait(0.01)
            self.woken.clear()
            waiting += self.control.poll()
        assert len(waiting) == count
        return waiting

    def rings(self, at_least: int) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while self.control.rings < at_least:
            assert time.monotonic() < until_s, f"{self.control.rings} rings"
            self.woken.wait(0.01)
            self.woken.clear()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    threads, files = threading.active_count(), descriptors()
    yield
    assert threading.active_count() == threads
    assert descriptors() == files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edge.sock"


@pytest.fixture
def loop(path: Path) -> Iterator[Loop]:
    made = Loop(path)
    yield made
    made.control.close()


@contextmanager
def client(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        opened.connect(str(path))  # Waits where a queue is full; with a timeout it would not.
        opened.settimeout(PATIENCE_S)
        yield opened


def said(opened: socket.socket) -> bytes:
    """All it says until it closes."""
    heard = b""
    try:
        while piece := opened.recv(65_536):
            heard += piece
    except ConnectionResetError:
        pass  # It closed with words of ours unread.
    return heard


class Asking(threading.Thread):
    """`ask` in a thread of its own, as another process would."""

    def __init__(self, path: Path, body: dict[str, Any]) -> None:
        super().__init__()
        self.path, self.body = path, body
        self.answer: dict[str, Any] | Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = ask(self.path, self.body)
        except (DeviceFault, CorruptData) as problem:
            self.answer = problem

    def result(self) -> dict[str, Any] | Exception | None:
        self.join(PATIENCE_S)
        assert not self.is_alive()
        return self.answer


# --------------------------------------------------------------------------- doorbell


def test_a_ring_is_counted_and_wakes(loop: Loop, path: Path) -> None:
    for count in range(1, 4):
        ring(path)
        loop.rings(count)
    assert loop.control.poll() == []


def test_ringing_where_nobody_listens_is_nothing(tmp_path: Path) -> None:
    for path in (tmp_path / "none.sock", tmp_path / "no" / "folder", tmp_path / ("x" * 200)):
        ring(path)
    (tmp_path / "file").write_text("no socket")
    ring(tmp_path / "file")


def test_ringing_a_full_queue_never_blocks(path: Path) -> None:
    """A listener that accepts nobody: sooner or later connecting would wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(path))
        deaf.listen(1)
        began_s = time.monotonic()
        for _ in range(200):
            ring(path)
        assert time.monotonic() - began_s < 1.0


def test_silent_clients_hold_up_no_bell(loop: Loop, path: Path) -> None:
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2 * WAITING_MAX)]
    began_s = time.monotonic()
    for number, opened in enumerate(silent, start=1):
        opened.connect(str(path))
        opened.settimeout(PATIENCE_S)
        ring(path)
        loop.rings(number)
    assert time.monotonic() - began_s < control.CLIENT_MS / 1000  # Nobody was waited for.
    for opened in silent[:WAITING_MAX]:
        assert said(opened) == b""  # The oldest were shown out.
    for opened in silent:
        opened.close()


def test_a_silent_client_is_shown_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CLIENT_MS", 30)
    loop = Loop(path)
    with client(path) as opened:
        assert said(opened) == b""
    ring(path)
    loop.rings(1)
    loop.control.close()


@pytest.mark.parametrize("first", [b"\x01", b"GET / HTTP/1.1\r\n\r\n", b"[1]", b"\xff" * 9_000])
def test_what_is_neither_bell_nor_request_is_shown_out(
    loop: Loop, path: Path, first: bytes
) -> None:
    with client(path) as opened:
        opened.sendall(first)
        assert said(opened) == b""
    ring(path)
    loop.rings(1)
    assert (loop.control.rings, loop.control.poll()) == (1, [])


# --------------------------------------------------------------------------- requests


def test_a_request_is_answered_by_the_loop(loop: Loop, path: Path) -> None:
    for number in range(3):
        asking = Asking(path, {"request": "status", "number": number, "text": "ё\n"})
        [request] = loop.requests()
        assert request.name == "status"
        assert request.body == {"request": "status", "number": number, "text": "ё\n"}
        assert "ё" not in repr(request)
        request.answer({"ok": True, "number": number})
        assert asking.result() == {"ok": True, "number": number}


def test_requests_wait_side_by_side_and_a_bell_goes_between(loop: Loop, path: Path) -> None:
    askings = [Asking(path, {"request": str(number)}) for number in range(5)]
    waiting = loop.requests(5)
    ring(path)
    loop.rings(1)
    for request in reversed(waiting):
        request.answer({"to": request.name})
    assert [asking.result() for asking in askings] == [{"to": str(n)} for n in range(5)]


def test_too_many_requests_are_told_so_and_the_rest_are_answered(loop: Loop, path: Path) -> None:
    askings = [Asking(path, {"request": "status"}) for _ in range(WAITING_MAX)]
    waiting = loop.requests(WAITING_MAX)
    for _ in range(3):
        answer = Asking(path, {"request": "one more"}).result()
        assert answer == {"ok": False, "error": "too many requests wait; try again"}
    ring(path)
    loop.rings(1)
    for request in waiting:
        request.answer({"ok": True})
    assert all(asking.result() == {"ok": True} for asking in askings)
    last = Asking(path, {"request": "again"})
    [request] = loop.requests()
    request.answer({"ok": True})
    assert last.result() == {"ok": True}


def test_an_unanswered_request_is_told_that_the_process_is_stuck(
    loop: Loop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ANSWER_S", 0.05)
    answer = Asking(path, {"request": "status"}).result()
    assert isinstance(answer, dict)
    assert "stuck" in answer["error"]
    [request] = loop.requests()
    request.answer({"ok": True})  # Too late, and harmless.


@pytest.mark.parametrize(
    "line",
    [
        b"{\n",
        b"{]\n",
        b'{"a":\xff}\n',
        b'{"a":"\\ud800"}\n',
        b'{"a":' + b"[" * 3_000 + b"\n",
        b'{"a":1}{"b":2}\n',
        b"{" * 4_000 + b"\n",
    ],
)
def test_a_line_that_is_no_json_is_told_so(loop: Loop, path: Path, line: bytes) -> None:
    with client(path) as opened:
        opened.sendall(line)
        answer = json.loads(said(opened))
    assert answer["ok"] is False
    assert "not one line of JSON" in answer["error"]
    assert loop.control.poll() == []


def padded(size: int) -> bytes:
    """A request of exactly so many bytes, its newline included."""
    head = b'{"request":"status","pad":"'
    return head + b"x" * (size - len(head) - 3) + b'"}\n'


def test_a_line_may_be_4096_bytes_and_no_more(loop: Loop, path: Path) -> None:
    with client(path) as opened:
        opened.sendall(padded(REQUEST_BYTES_MAX))
        [request] = loop.requests()
        request.answer({"ok": True})
        assert json.loads(said(opened)) == {"ok": True}
    for size in (REQUEST_BYTES_MAX + 1, 50_000):
        with client(path) as opened:
            opened.sendall(padded(size))
            heard = said(opened)
        assert "4096" in json.loads(heard)["error"]
    with client(path) as opened:
        try:
            while True:
                opened.sendall(b"{" * 4_096)  # A line that never ends.
        except OSError:
            pass
    assert loop.control.poll() == []
    ring(path)
    loop.rings(1)


def test_a_request_may_come_in_pieces(loop: Loop, path: Path) -> None:
    line = b'{"request":"status"}\n'
    with client(path) as opened:
        for byte in line:
            opened.sendall(bytes([byte]))
        [request] = loop.requests()
        request.answer({"ok": True})
        assert json.loads(said(opened)) == {"ok": True}
    with client(path) as opened:
        opened.sendall(line[:-1])  # Its end instead of a newline.
        opened.shutdown(socket.SHUT_WR)
        [request] = loop.requests()
        request.answer({"ok": True})
        assert json.loads(said(opened)) == {"ok": True}


def test_a_client_that_dribbles_has_one_time_for_all_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CLIENT_MS", 150)
    loop = Loop(path)
    began_s = time.monotonic()
    with client(path) as opened:
        try:
            opened.sendall(b"{")
            while time.monotonic() - began_s < PATIENCE_S:
                opened.sendall(b" ")  # Each byte well within the time, all of them never.
                opened.settimeout(0.02)
                try:
                    assert opened.recv(1) == b""
                    break
                except TimeoutError:
                    continue
        except OSError:
            pass
    assert time.monotonic() - began_s < PATIENCE_S / 2
    loop.control.close()


def test_a_client_that_goes_away_early_is_no_trouble(loop: Loop, path: Path) -> None:
    for line in (b"", b"{", b'{"request":"status"}\n'):
        with client(path) as opened:
            opened.sendall(line)
    [request] = loop.requests()
    request.answer({"big": "x" * 300_000})  # To nobody.
    ring(path)
    loop.rings(1)


def test_a_client_that_never_reads_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CLIENT_MS", 50)
    loop = Loop(path)
    with client(path) as opened:
        opened.sendall(b'{"request":"status"}\n')
        [request] = loop.requests()
        request.answer({"big": "x" * 5_000_000})
        loop.control.close()  # Ends though the client still sits there.


def test_random_bytes_leave_it_as_it_was(loop: Loop, path: Path) -> None:
    chance = random.Random(1)
    for _ in range(100):
        with client(path) as opened:
            try:
                opened.sendall(b"{" * chance.randrange(2) + chance.randbytes(chance.randrange(99)))
            except OSError:
                pass
    while not loop.control.rings:  # One may be lost where the queue is full.
        ring(path)
        loop.woken.wait(0.01)
    for request in loop.control.poll():
        request.answer({"ok": False})


# ------------------------------------------------------------------------- the asking side


def test_nobody_there_is_a_device_fault(path: Path) -> None:
    with pytest.raises(DeviceFault, match="is the agent running"):
        ask(path, {"request": "status"})
    with pytest.raises(CorruptData, match="4096"):
        ask(path, {"request": "x" * 5_000})


@pytest.mark.parametrize(
    "reply", [b"", b"no json\n", b"[1]\n", b'{"a":"\xff"}\n', b"[" * 9_000 + b"\n", b"x" * 300_000]
)
def test_an_answer_that_is_none_is_a_device_fault(path: Path, reply: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen(1)
        asking = Asking(path, {"request": "status"})
        answerer, _ = other.accept()
        with answerer:
            answerer.recv(4_096)
            try:
                answerer.sendall(reply)
            except OSError:
                pass
        assert isinstance(asking.result(), DeviceFault)


def test_a_process_that_says_nothing_is_a_device_fault(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(path))
        deaf.listen(1)
        with pytest.raises(DeviceFault, match="nobody answers"):
            ask(path, {"request": "status"}, timeout_s=0.05)


# ---------------------------------------------------------------------- whose socket it is


def test_the_socket_is_for_the_group(loop: Loop, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_two_processes_on_one_path_are_told(loop: Loop, path: Path) -> None:
    for _ in range(3):
        with pytest.raises(SetupProblem, match="running twice"):
            ControlSocket(path, lambda: None)
    ring(path)
    loop.rings(1)  # The first one still listens.


def test_a_process_too_busy_to_answer_is_still_there(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(path))
        deaf.listen(0)
        for _ in range(5):
            ring(path)
        with pytest.raises(SetupProblem, match="running twice"):
            ControlSocket(path, lambda: None)
        assert path.is_socket()


def test_a_socket_left_by_a_killed_process_is_taken_over(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
        dead.listen(1)
    assert path.exists()
    loop = Loop(path)
    ring(path)
    loop.rings(1)
    loop.control.close()
    assert not path.exists()


def test_what_is_no_socket_is_not_deleted(path: Path) -> None:
    path.write_text("somebody's file")
    with pytest.raises(SetupProblem, match="in use"):
        ControlSocket(path, lambda: None)
    assert path.read_text() == "somebody's file"


def test_a_path_that_cannot_be_is_a_setup_problem(tmp_path: Path) -> None:
    with pytest.raises(SetupProblem, match="does its folder exist"):
        ControlSocket(tmp_path / "none" / "edge.sock", lambda: None)
    with pytest.raises(SetupProblem, match="too long"):
        ControlSocket(tmp_path / ("x" * 120), lambda: None)


def test_a_stop_tells_who_still_waits(path: Path) -> None:
    loop = Loop(path)
    asking = Asking(path, {"request": "status"})
    assert loop.woken.wait(PATIENCE_S)
    loop.control.close()
    assert asking.result() == {"ok": False, "error": "the process is stopping"}


def test_many_turns_leave_nothing_behind(loop: Loop, path: Path) -> None:
    before = descriptors()
    for number in range(1, 40):
        ring(path)
        with client(path) as opened:
            opened.sendall(b"{\n")
            said(opened)
        loop.rings(number)
    until_s = time.monotonic() + PATIENCE_S
    while descriptors() > before:
        assert time.monotonic() < until_s
        os.sched_yield()
