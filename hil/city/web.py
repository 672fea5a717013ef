"""The city's HTTP: JSON on loopback for the bench, for enrolment and for the oracle of tests.

Every answer that is not a success is `{"error": what was found, "do": what to do}`. Nothing is
decided here: each request becomes one call on the worker's thread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hil.city.desk import Desk, Done, Refused
from hil.city.service import Service

BODY_BYTES_MAX: Final = 64 * 1024  # Our choice: a certificate request is the longest thing sent.
WAIT_S_MAX: Final = 60.0  # Our choice: proxies end a silent answer about then.
NUMBER_MAX: Final = 2**53  # Our choice: what every JSON reader holds exactly.


class FeedBell:
    """Wakes the long polls. `ring` from any thread, `wait` on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self.closing = False

    def ring(self) -> None:
        self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """On the loop: nobody waits any more."""
        self.closing = True
        self._wake()

    def _wake(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def next_ring(self) -> asyncio.Event:
        """Take it before looking, so that a ring between look and wait is not missed."""
        return self._event

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        if self.closing:
            return
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except TimeoutError:
            pass  # Nothing new is an answer too.


def make_app(service: Service, desk: Desk, bell: FeedBell, describe: dict[str, Any]) -> Starlette:
    """The whole HTTP face. `describe` is what `GET /` says beside the list of paths."""

    async def on_worker(work: Callable[[int], Any]) -> Any:
        return await asyncio.wrap_future(service.submit(work))

    def posting(work: Callable[[dict[str, Any], int], Done]) -> Callable[..., Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            body = await _body(request)
            done = await on_worker(lambda now_ms: work(body, now_ms))
            return JSONResponse(done.answer)

        return handle

    def asking(work: Callable[[Request], Any]) -> Callable[..., Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return JSONResponse(await on_worker(lambda _now_ms: work(request)))

        return handle

    async def feed(request: Request) -> Response:
        return await _feed(request, on_worker, desk, bell)

    async def facts(request: Request) -> Response:
        def look(_now_ms: int) -> list[bytes]:
            query = request.query_params
            names = (query.get("device", ""), query.get("stream", "main"), query.get("epoch", ""))
            return desk.facts(*names, _integer(request, "after"))

        return Response(b"\n".join(await on_worker(look)), media_type="application/x-ndjson")

    def account(request: Request) -> dict[str, Any]:
        return desk.account(dict(request.query_params))

    def status(_request: Request) -> dict[str, Any]:
        return {**desk.status(), "broker_connected": service.bridge.connected}

    def claim(body: dict[str, Any], now_ms: int) -> Done:
        code = body.get("claim")
        if code is not None and not isinstance(code, str):
            raise Refused(400, "claim is no text", "leave it out, and the city makes one")
        return desk.make_claim(now_ms, code)

    routes = [
        Route("/enrol", posting(desk.enrol), methods=["POST"]),
        Route("/claims", posting(claim), methods=["POST"]),
        Route("/orders", posting(desk.order), methods=["POST"]),
        Route("/block", posting(lambda b, now: desk.block(b, now, on=True)), methods=["POST"]),
        Route("/unblock", posting(lambda b, now: desk.block(b, now, on=False)), methods=["POST"]),
        Route("/top-up", posting(desk.top_up), methods=["POST"]),
        Route("/ban", posting(desk.ban), methods=["POST"]),
        Route("/limit", posting(desk.limit), methods=["POST"]),
        Route("/feed", feed),
        Route("/facts", facts),
        Route("/cards", asking(lambda _request: desk.cards())),
        Route("/account", asking(account)),
        Route("/status", asking(status)),
        Route("/ledger", asking(lambda _request: desk.ledger())),
    ]
    paths = sorted(route.path for route in routes)
    routes.append(Route("/", asking(lambda _request: {**describe, "paths": paths})))
    return Starlette(
        routes=routes,
        exception_handlers={
            Refused: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
        },
    )


async def _feed(
    request: Request,
    on_worker: Callable[[Callable[[int], Any]], Awaitable[Any]],
    desk: Desk,
    bell: FeedBell,
) -> Response:
    """Lines after a number: at once if there are any, else when one comes or the wait is over."""
    after, wait_s = _integer(request, "after"), float(_integer(request, "wait_s"))
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + min(wait_s, WAIT_S_MAX)
    while True:
        event = bell.next_ring()
        found = await on_worker(lambda _now_ms: desk.feed(after))
        left_s = deadline_s - loop.time()
        if found or left_s <= 0 or bell.closing:
            return JSONResponse(found)
        await bell.wait(event, left_s)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent, bounded while it is read."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > BODY_BYTES_MAX:
            raise Refused(413, "the request is too long", f"send at most {BODY_BYTES_MAX} bytes")
    try:
        value = json.loads(bytes(data) or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the request is no JSON", "send a JSON object") from error
    if not isinstance(value, dict):
        raise Refused(400, "the request is no JSON object", "send names and values in braces")
    return value


def _integer(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > NUMBER_MAX:
        raise Refused(400, f"{name} is no whole number", f"write {name}=0 or more")
    return int(text)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    answer = {"error": error.error, "do": error.remedy}
    return JSONResponse(answer, status_code=error.status)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = {"error": error.detail, "do": "see GET / for the paths and how to call them"}
    return JSONResponse(answer, status_code=error.status_code)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)
