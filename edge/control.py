"""The process's own socket: the doorbell, and the technician's requests.

A Unix stream socket in the station's runtime folder, mode 0660. A connection whose first byte is
0x00 is a doorbell: "look at my file". It carries nothing, may be lost, and never blocks the
ringer; a look every second covers a lost one. A first byte `{` begins one line of JSON of at
most 4 KiB, answered by one line. The socket's thread never answers by itself: a request waits in
a bounded queue for the process's own loop, so there is still one place that acts.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.model import CorruptData, DeviceFault, SetupProblem

DOORBELL: Final = b"\0"
REQUEST_BYTES_MAX: Final = 4 * 1024  # house.md.
ANSWER_BYTES_MAX: Final = 256 * 1024  # Our choice: a status with a day of counters is 20 KiB.
WAITING_MAX: Final = 16  # Our choice: a technician and a screen; more is a flood.
CLIENT_MS: Final = 2_000  # Our choice: a client that is slower than this is gone.
ANSWER_S: Final = 5.0  # Our choice: the loop answers within a step; five seconds is a fault.
SOCKET_MODE: Final = 0o660


@dataclass(slots=True)
class Request:
    """One request that waits for its answer. `answer` may be called once, from the loop."""

    body: dict[str, Any] = field(repr=False)
    _done: queue.SimpleQueue[bytes] = field(default_factory=queue.SimpleQueue, repr=False)

    @property
    def name(self) -> str:
        return str(self.body.get("request", ""))

    def answer(self, body: dict[str, Any]) -> None:
        self._done.put(msgspec.json.encode(body))

    def wait(self) -> bytes:
        try:
            return self._done.get(timeout=ANSWER_S)
        except queue.Empty:
            return b'{"ok":false,"error":"no answer within 5 s; is the process stuck?"}'


class ControlSocket:
    """Listens in a thread of its own. `wake` is called after a ring or a new request."""

    def __init__(self, path: Path, wake: Callable[[], None]) -> None:
        """`SetupProblem` when another process listens there, or nobody can."""
        self.rings = 0
        self._path = path
        self._wake = wake
        self._requests: queue.Queue[Request] = queue.Queue(WAITING_MAX)
        self._talking: list[threading.Thread] = []
        self._silent: dict[socket.socket, float] = {}  # Connected, nothing said: until when.
        self._socket = _listen(path)
        self._stop_reader, self._stop_writer = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def poll(self) -> list[Request]:
        """Requests that wait, without blocking."""
        requests = []
        while True:
            try:
                requests.append(self._requests.get_nowait())
            except queue.Empty:
                return requests

    def close(self) -> None:
        """Stop listening; who still waits is told so."""
        os.write(self._stop_writer, b"x")
        self._thread.join()
        self._socket.close()
        self._path.unlink(missing_ok=True)
        until_s = time.monotonic() + 2 * CLIENT_MS / 1000  # To say it in, and to hear it.
        for thread in self._talking:
            while thread.is_alive() and time.monotonic() < until_s:
                for request in self.poll():
                    request.answer({"ok": False, "error": "the process is stopping"})
                thread.join(timeout=0.01)
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _serve(self) -> None:
        while True:
            wait_s: float | None = None
            if self._silent:
                wait_s = max(0.0, min(self._silent.values()) - time.monotonic())
            sources: list[socket.socket | int] = [self._stop_reader, self._socket, *self._silent]
            ready, _, _ = select.select(sources, [], [], wait_s)
            if self._stop_reader in ready:
                break
            for client in [client for client in self._silent if client in ready]:
                del self._silent[client]
                self._take(client)
            if self._socket in ready:
                self._accept()
            for client, until_s in list(self._silent.items()):
                if time.monotonic() >= until_s or len(self._silent) > WAITING_MAX:
                    del self._silent[client]  # Oldest first.
                    client.close()
        for client in self._silent:
            client.close()

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError:
            return  # The client went away between ringing and our look.
        client.setblocking(False)
        self._silent[client] = time.monotonic() + CLIENT_MS / 1000

    def _take(self, client: socket.socket) -> None:
        """What a client begins with; nothing here waits for it."""
        try:
            first = client.recv(1)
        except OSError:
            first = b""
        if first == b"{":
            self._talking = [thread for thread in self._talking if thread.is_alive()]
            if len(self._talking) < WAITING_MAX:
                # A request may wait for the loop; the doorbell behind it must not.
                thread = threading.Thread(target=self._talk, args=(client,), daemon=True)
                self._talking.append(thread)
                thread.start()
                return
            _send(client, _refusal("too many requests wait; try again"))
        client.close()
        if first == DOORBELL:
            self.rings += 1
            self._wake()

    def _talk(self, client: socket.socket) -> None:
        until_s = time.monotonic() + CLIENT_MS / 1000
        with client:
            try:
                line = _read_line(client, b"{", until_s=until_s)
            except CorruptData as problem:
                _send(client, _refusal(str(problem)))
                return
            except OSError:
                return  # The client is gone, or too slow: there is nobody to tell.
            answer = self._answer(line)
            client.settimeout(CLIENT_MS / 1000)
            _send(client, answer + b"\n")

    def _answer(self, line: bytes) -> bytes:
        try:
            body = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return _refusal(f"not one line of JSON: {error}")
        request = Request(body)
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            return _refusal("too many requests wait; try again")
        self._wake()
        return request.wait()


def _refusal(why: str) -> bytes:
    return msgspec.json.encode({"ok": False, "error": why})


def _send(client: socket.socket, data: bytes) -> None:
    """The last word to a client. What it said beyond its request is read and dropped: closed with
    that unread, it would see a broken connection and not the answer (unix(7))."""
    try:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        client.setblocking(False)
        for _ in range(WAITING_MAX):
            if not client.recv(REQUEST_BYTES_MAX):
                break
    except OSError:
        pass  # The client is gone: there is nobody to tell.


def ring(path: Path) -> None:
    """Tell the other process to look. Never blocks, never fails: a look each second follows."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bell.setblocking(False)
        bell.connect(str(path))
        bell.send(DOORBELL)
    except OSError:
        pass  # It is not running, or its queue is full: both will look by themselves.
    finally:
        bell.close()


def ask(path: Path, body: dict[str, Any], *, timeout_s: float = ANSWER_S + 1) -> dict[str, Any]:
    """One request to a running process. `DeviceFault` when nobody answers."""
    line = msgspec.json.encode(body) + b"\n"
    if len(line) > REQUEST_BYTES_MAX:
        raise CorruptData(f"a request of {len(line)} bytes, more than {REQUEST_BYTES_MAX}")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            client.connect(str(path))
            client.sendall(line)
            until_s = time.monotonic() + timeout_s
            answer = _read_line(client, b"", until_s=until_s, size_max=ANSWER_BYTES_MAX)
    except OSError as error:
        raise DeviceFault(f"{path}: nobody answers ({error}); is the agent running?") from error
    except CorruptData as error:
        raise DeviceFault(f"{path}: {error}; which program listens?") from error
    try:
        return msgspec.json.decode(answer, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DeviceFault(f"{path}: an answer that is not JSON; which program listens?") from error


def _listen(path: Path) -> socket.socket:
    """Bind, taking over from a process that is gone but not from one that answers."""
    if len(os.fsencode(path)) > 107:  # unix(7): sun_path holds 108 bytes with its end.
        raise SetupProblem(f"{path}: too long for a socket; choose a shorter runtime folder")
    if _is_listening(path):
        raise SetupProblem(f"{path}: another process listens here; is the agent running twice?")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()  # Of a process that was killed. What is no socket is not ours to delete.
        server.bind(str(path))
        path.chmod(SOCKET_MODE)
        server.listen(WAITING_MAX)
    except OSError as error:
        server.close()
        raise SetupProblem(f"{path}: {error.strerror}; does its folder exist?") from error
    server.setblocking(False)
    return server


def _is_listening(path: Path) -> bool:
    """Whether a process listens there, be it too busy or another user's."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        probe.connect(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return path.is_socket()
    finally:
        probe.close()
    return True


def _read_line(
    client: socket.socket, start: bytes, *, until_s: float, size_max: int = REQUEST_BYTES_MAX
) -> bytes:
    """One line, whole within its time and size; less when the client ends it so."""
    line = bytearray(start)
    while not line.endswith(b"\n"):
        client.settimeout(max(0.001, until_s - time.monotonic()))
        piece = client.recv(4096)
        if not piece:
            break
        line += piece
        if len(line) > size_max:
            raise CorruptData(f"a line of more than {size_max} bytes")
    return bytes(line)
