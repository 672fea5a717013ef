"""The real server of a station's pages, with a stand-in for the agent's loop behind it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from edge.control import Request
from edge.settings import DeviceSettings
from edge.web import (
    ScreensServer,
)

WAIT_S_MAX = 60.0
JSON = {"Content-Type": "application/json"}
TYPED = {"Content_Type": "application/json"}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Loop:
    """Stands for the agent's loop: answers as it is told to, and remembers what it was asked."""

    def __init__(self, settings: DeviceSettings) -> None:
        self.asked: list[dict[str, Any]] = []
        self.screen: dict[str, Any] = {"ok": True, "number": 0}
        self.answering = True
        self._wake = threading.Event()
        self._stop = False
        self.server = ScreensServer(settings, self._wake.set)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(0.05)
            self._wake.clear()
            for request in self.server.poll() if self.answering else []:
                self._answer(request)

    def _answer(self, request: Request) -> None:
        if request.name == "screen":
            request.answer(self.screen)
        elif request.name == "photo":
            request.answer({"ok": True, "type": "image/png", "data": "cGl4ZWxz"})
        elif request.name == "handover_screen":
            request.answer({"ok": True, **self.screen.get("handover", {})})
        else:
            self.asked.append(request.body)
            request.answer({"ok": True, "done": request.name})

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        self.server.close()


@contextmanager
def serving(settings: DeviceSettings, **fields: Any) -> Iterator[tuple[Loop, int]]:
    port = free_port()
    loop = Loop(replace(settings, screens_port=port, **fields))
    try:
        until(lambda: accepts(port))
        yield loop, port
    finally:
        loop.close()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S_MAX
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def request(
    port: int, method: str, path: str, body: str | bytes = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S_MAX)) as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        client.request(method, path, body or None, named)
        answer = client.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def do(port: int, name: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
    sent = {"Content_Type": "application/json", **headers}
    status, _, data = request(port, "POST", f"/do/{name}", json.dumps(body), **sent)
    return status, json.loads(data)
