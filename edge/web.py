"""The station's own pages: an HTTP server in a thread of edge, which decides nothing.

Whatever a page may do is a request, put in a bounded queue for the agent's loop like one from the
control socket; whatever it shows is the `screen` answer. What stands between them (who may ask
what, how often, how much) is `edge/web_app.py`; here are the socket, the thread and its share of
the processor.

A page never delays a tap: the thread takes at most `SHARE` of one processor, whatever arrives; it
hands over so many requests a second; and a station starts, and decides, without it. A port that is
taken is tried again, and said once. uvicorn is imported by the thread, after the station is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import secrets
import selectors
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge import logs
from edge.control import ANSWER_S, Request
from edge.model import SetupProblem
from edge.settings import DeviceSettings
from edge.trust import Lock, usable_key, write_secret

if TYPE_CHECKING:
    import uvicorn

SHARE: Final = 0.25  # Our choice: of one processor; a page with its events takes a twentieth.
BURST_S: Final = 0.05  # Our choice: a page with its files is served at once.
PAUSE_S_MAX: Final = 0.5  # Our choice: shorter than what a person takes for a stuck page.
WAITING_MAX: Final = 16  # As of the control socket.
TAKEN_MAX: Final = 4  # Our choice: so many between two looks at the readers; 2 ms each at most.
CONNECTIONS_MAX: Final = 64  # Our choice: eight screens, at a browser's six connections, and some.
HEAD_BYTES_MAX: Final = 16 * 1024  # Our choice: a browser's is 1 KiB.
IDLE_S: Final = 10.0  # Our choice: a connection that asks nothing for so long is closed.
REAP_S: Final = 2.0
RETRY_S: Final = 5.0
JOIN_S: Final = 5.0
BACKLOG: Final = 64
TOKEN_BYTES: Final = 24


class Gateway:
    """The one way from the server's thread to the agent's."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._requests: queue.Queue[Request] = queue.Queue(WAITING_MAX)

    def poll(self) -> list[Request]:
        """A few requests that wait, for the agent's loop."""
        requests = []
        for _ in range(TAKEN_MAX):
            try:
                requests.append(self._requests.get_nowait())
            except queue.Empty:
                break
        if not self._requests.empty():
            self._wake()  # The rest after the next look at the readers.
        return requests

    async def ask(self, body: dict[str, Any]) -> bytes | None:
        """The agent's answer as JSON; None when too many wait, or it does not answer."""
        request = _Asked(body, asyncio.get_running_loop())
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            return None
        self._wake()
        try:
            return await asyncio.wait_for(request.answered, ANSWER_S)
        except TimeoutError:
            return None


class _Asked(Request):
    """A request whose asker waits in an event loop."""

    def __init__(self, body: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(body)
        self.answered: asyncio.Future[bytes] = loop.create_future()
        self._loop = loop

    def answer(self, body: dict[str, Any]) -> None:
        super().answer(body)
        data = self.wait()  # It is there already.
        _in_loop(self._loop, partial(self._give, data))

    def _give(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(data)


class PacedSelector(selectors.DefaultSelector):
    """Of an event loop that may take only `SHARE` of a processor: after each round it rests."""

    def __init__(self) -> None:
        super().__init__()
        self._owed_s = 0.0
        self._used_s = time.thread_time()
        self._at_s = time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        used_s, at_s = time.thread_time(), time.monotonic()
        self._owed_s += (used_s - self._used_s) / SHARE - (at_s - self._at_s)
        self._used_s, self._at_s = used_s, at_s
        self._owed_s = max(-BURST_S / SHARE, self._owed_s)
        if self._owed_s > 0:
            time.sleep(min(PAUSE_S_MAX, self._owed_s))
        return super().select(timeout)


class ScreensServer:
    """Serves until `close`. Nothing that goes wrong here reaches the agent."""

    def __init__(self, settings: DeviceSettings, wake: Callable[[], None]) -> None:
        self.gateway = Gateway(wake)
        local = is_loopback(settings.screens_host)
        self.token = "" if local else load_token(token_path(settings))
        self.guardian_token = "" if local else load_token(guardian_token_path(settings))
        self._settings = settings
        self._stop = threading.Event()
        self._end: Callable[[], None] = lambda: None
        self._log = logs.get("screens")
        self._thread = threading.Thread(target=self._work, name="screens", daemon=True)
        self._thread.start()

    def poll(self) -> list[Request]:
        return self.gateway.poll()

    def close(self) -> None:
        self._stop.set()
        self._end()
        until_s = time.monotonic() + JOIN_S
        while self._thread.is_alive() and time.monotonic() < until_s:
            for request in self.poll():
                request.answer({"ok": False, "error": "the process is stopping"})
            self._thread.join(0.02)

    # --------------------------------------------------------------- the server's thread

    def _work(self) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                self._serve()
                return
            except ImportError as error:
                self._log.error("no screens", reason=f"{error}; install moskvenok-edge[screens]")
                return
            except (OSError, SystemExit, SetupProblem) as error:
                if str(error) != told:
                    told = str(error)
                    self._log.error("no screens; tried again by itself", reason=told)
            except Exception as error:  # Screens may end, the agent goes on.
                self._log.exception("the screens broke", reason=str(error))
            self._stop.wait(RETRY_S)

    def _serve(self) -> None:
        from edge.web_app import App

        settings = self._settings
        listening = _listen(settings.screens_host, settings.screens_port)
        with contextlib.closing(listening):
            app = App(settings, self.gateway, token=self.token, guardian_token=self.guardian_token)
            server = _make_server(settings, app)
            self._log.info("screens", host=settings.screens_host, port=settings.screens_port)

            async def main() -> None:
                loop = asyncio.get_running_loop()

                def end() -> None:
                    app.feed.close()  # First: pages that wait for news are answered.
                    server.should_exit = True

                self._end = partial(_in_loop, loop, end)
                if self._stop.is_set():
                    return
                feeding = asyncio.create_task(app.feed.run())
                reaping = asyncio.create_task(_reap(server))
                try:
                    await server.serve(sockets=[listening])
                finally:
                    feeding.cancel()
                    reaping.cancel()
                    await asyncio.gather(feeding, reaping, return_exceptions=True)

            with asyncio.Runner(loop_factory=_paced_loop) as runner:
                runner.run(main())


def open_screens(settings: DeviceSettings, wake: Callable[[], None]) -> ScreensServer | None:
    """The pages of this station; None where device.toml gives them no port."""
    return ScreensServer(settings, wake) if settings.screens_port else None


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_token(path: Path) -> str:
    """What a screen on the network must know; made once, readable by this station alone."""
    with contextlib.suppress(OSError):
        if stat.S_IMODE(path.stat().st_mode) == 0o600:
            token = path.read_text().strip()
            if token:
                return token
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_secret(path, token.encode())
    return token


def token_path(settings: DeviceSettings) -> Path:
    """The officer's and the cashier's."""
    return settings.folders.state / "screens.token"


def guardian_token_path(settings: DeviceSettings) -> Path:
    """Of the page where visitors stand."""
    return settings.folders.state / "screens-guardian.token"


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # It has ended.
        loop.call_soon_threadsafe(call)


def _paced_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(PacedSelector())


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise OSError(f"{host}:{port}: {os.strerror(error.errno or 0)}") from error
    return listening


def _make_server(settings: DeviceSettings, app: Any) -> uvicorn.Server:
    """A server of ours: no log of its own, no proxy's word, TLS wherever others can listen."""
    import logging

    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Bounded(H11Protocol):
        """So many connections, and no more."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS_MAX:
                transport.abort()

    logging.getLogger("uvicorn.error").disabled = True  # What matters is in our own log.
    local = is_loopback(settings.screens_host)
    config = uvicorn.Config(
        app,
        http=Bounded,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(IDLE_S),
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        ssl_certfile=None if local else str(settings.certificate_path),
        ssl_keyfile=None if local else str(settings.key_path),
    )
    if not local:
        with usable_key(settings.key_path) as lock:
            config.load()
        if lock is not None and config.ssl is not None:
            config.ssl.sslobject_class = _in_turn(lock)
    return uvicorn.Server(config)


def _in_turn(turn: Lock) -> type[ssl.SSLObject]:
    """A connection whose handshake has the TPM to itself."""

    class InTurn(ssl.SSLObject):
        def do_handshake(self) -> None:
            with turn:
                super().do_handshake()

    return InTurn


async def _reap(server: uvicorn.Server) -> None:
    """Close what is connected and asks nothing, however slowly it does so."""
    since: dict[Any, float] = {}
    while True:
        await asyncio.sleep(REAP_S)
        now_s = time.monotonic()
        idle = {
            one
            for one in server.server_state.connections
            if one.transport is not None and (one.cycle is None or one.cycle.response_complete)  # type: ignore[union-attr]
        }
        since = {one: since.get(one, now_s) for one in idle}
        for one, at_s in since.items():
            if now_s - at_s >= IDLE_S:
                one.transport.abort()
