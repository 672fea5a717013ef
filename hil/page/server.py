"""The page's server: a few files, one stream of the whole state, and a few requests.

It listens on loopback and answers only to names of this machine, and it takes a request only as
JSON from its own page: another site open in the same browser can neither read nor press anything.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edge.model import CorruptData, DeviceFault
from hil.miniature import CITY_WIRE, Miniature
from hil.proxy import Wire

BODY_BYTES_MAX: Final = 8 * 1024  # Our choice: a basket of forty lines is 2 KiB.
STREAMS_MAX: Final = 16  # Our choice: open pages; a browser opens six to one host.
HEARTBEAT_S: Final = 10.0  # Our choice: how soon the server notices that a page has gone.
GATHER_S: Final = 0.05  # Our choice: changes that come together are one picture.
FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/paper.js": ("paper.js", "text/javascript; charset=utf-8"),
    "/paper.css": ("paper.css", "text/css; charset=utf-8"),
}
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; img-src 'self' data:",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

Handle = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]


def make_app(miniature: Miniature) -> Starlette:
    """The whole page of this miniature."""
    requests = _Requests(miniature)
    routes = [
        *(Route(path, _file(*what)) for path, what in FILES.items()),
        Route("/events", _Streams(miniature).open),
        Route("/state", requests.state),
        *(
            Route(f"/{name}", _posting(handle), methods=["POST"])
            for name, handle in requests.table().items()
        ),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        exception_handlers={HTTPException: _refused},
    )


class _Requests:
    """What may be asked, by name. A missing or odd value is the asker's mistake: 400."""

    def __init__(self, miniature: Miniature) -> None:
        self._miniature = miniature

    def table(self) -> dict[str, Handle]:
        return {
            "tap": self.tap,
            "network": self.network,
            "basket": self.basket,
            "walk": self.walk,
            "plug": self.plug,
            "wire": self.wire,
            "order": self.order,
            "block": self.block,
            "unblock": self.unblock,
            "kill": self.kill,
            "paper": self.paper,
        }

    async def state(self, _: Request) -> Response:
        return Response(
            self._miniature.board.whole(), media_type="application/json", headers=HEADERS
        )

    async def tap(self, body: dict[str, Any]) -> dict[str, Any] | None:
        card, at = _text(body, "card"), _text(body, "at")
        return await self._miniature.tap(card, at, wait=body.get("wait") is True)

    async def network(self, body: dict[str, Any]) -> None:
        """`{"on": bool}` from a switch, or `{"wire": "on" | "cut" | "silent"}`; with
        `"of": "school"` the school's own network instead of the one to the city."""
        if "wire" in body:
            try:
                wire = Wire(_text(body, "wire"))
            except ValueError as error:
                raise HTTPException(400, "wire is on, cut or silent") from error
        else:
            wire = Wire.ON if _flag(body, "on") else Wire.CUT
        of = _text(body, "of") if "of" in body else CITY_WIRE
        self._miniature.switch(wire, of)

    async def basket(self, body: dict[str, Any]) -> dict[str, Any] | None:
        lines = body.get("lines")
        if not isinstance(lines, list):
            raise HTTPException(400, "lines must be a list of [product, quantity]")
        return await self._miniature.basket(lines)

    async def walk(self, body: dict[str, Any]) -> None:
        self._miniature.walk(_flag(body, "on"))

    async def plug(self, body: dict[str, Any]) -> None:
        self._miniature.plug(_text(body, "at"), _flag(body, "on"))

    async def wire(self, body: dict[str, Any]) -> None:
        await self._miniature.wire(_text(body, "line"), _flag(body, "on"))

    async def order(self, body: dict[str, Any]) -> None:
        await self._miniature.order(_text(body, "at"), str(body.get("order", "open_once")))

    async def block(self, body: dict[str, Any]) -> None:
        await self._miniature.block(_text(body, "card"), on=True)

    async def unblock(self, body: dict[str, Any]) -> None:
        await self._miniature.block(_text(body, "card"), on=False)

    async def paper(self, body: dict[str, Any]) -> None:
        """A hand at the till's printer: `state` is fine, low, out or off."""
        self._miniature.paper.turn(_text(body, "state"))

    async def kill(self, body: dict[str, Any]) -> None:
        self._miniature.kill(_text(body, "process"))


class _Streams:
    """Server-sent events: the whole state at once, and again whenever it has changed."""

    def __init__(self, miniature: Miniature) -> None:
        self._board = miniature.board
        self._open = 0

    async def open(self, _: Request) -> Response:
        if self._open >= STREAMS_MAX:
            raise HTTPException(503, f"{STREAMS_MAX} pages are open already; close one")
        self._open += 1
        return StreamingResponse(self._pictures(), media_type="text/event-stream", headers=HEADERS)

    async def _pictures(self) -> AsyncIterator[bytes]:
        seen = -1
        try:
            while not self._board.closed:
                if await self._board.newer_than(seen, wait_s=HEARTBEAT_S):
                    seen = self._board.number
                    yield b"data: " + self._board.whole() + b"\n\n"
                    await asyncio.sleep(GATHER_S)
                else:
                    yield b"event: here\ndata: {}\n\n"
        finally:
            self._open -= 1


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def handle(_: Request) -> Response:
        data = resources.files("hil.page").joinpath(name).read_bytes()
        return Response(data, media_type=media_type, headers=HEADERS)

    return handle


def _posting(handle: Handle) -> Callable[[Request], Awaitable[Response]]:
    async def whole(request: Request) -> Response:
        try:
            answer = await handle(await _body(request))
        except (DeviceFault, CorruptData) as error:
            raise HTTPException(409, str(error)) from error
        return JSONResponse({"ok": True, **(answer or {})}, headers=HEADERS)

    return whole


async def _body(request: Request) -> dict[str, Any]:
    # A form of another site cannot send this type without asking first, and is not let.
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "send JSON")
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > BODY_BYTES_MAX:
            raise HTTPException(413, f"more than {BODY_BYTES_MAX} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "not JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "send a JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 100:
        raise HTTPException(400, f"{name} must be a short text")
    return value


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise HTTPException(400, f"{name} must be true or false")
    return value


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = {"ok": False, "error": error.detail}
    return JSONResponse(answer, status_code=error.status_code, headers=HEADERS)
