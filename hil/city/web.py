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

from edge.model import SetupProblem
from hil.city.desk import Done, Refused
from hil.city.faults import Faults
from hil.city.release_desk import publish
from hil.city.service import Branch, Service
from hil.city.stick import make_stick

BODY_BYTES_MAX: Final = 64 * 1024  # Our choice: a certificate request is the longest thing sent.
WAIT_S_MAX: Final = 60.0  # Our choice: proxies end a silent answer about then.
NUMBER_MAX: Final = 2**53  # Our choice: what every JSON reader holds exactly.


Work = Callable[[Branch, dict[str, Any], int], Done]


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


def make_app(
    service: Service, faults: Faults, bell: FeedBell, describe: dict[str, Any]
) -> Starlette:
    """The whole HTTP face. `describe` is what `GET /` says beside the list of paths."""

    def posting(work: Work) -> Callable[..., Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            body = await _body(request)
            site = service.site_of(body)
            branch = service.branches[site]
            done = await asyncio.wrap_future(
                service.submit(site, lambda now_ms: work(branch, body, now_ms))
            )
            return JSONResponse(done.answer)

        return handle

    def asking(work: Callable[[Branch, Request], Any]) -> Callable[..., Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            site = service.site_of(request.query_params)
            branch = service.branches[site]
            found = await asyncio.wrap_future(
                service.submit(site, lambda _now_ms: work(branch, request))
            )
            return found if isinstance(found, Response) else JSONResponse(found)

        return handle

    async def feed(request: Request) -> Response:
        return await _feed(request, service, bell)

    async def all_faults(request: Request) -> Response:
        if request.method == "POST":
            _switch(faults, await _body(request))
        return JSONResponse(faults.listed())

    async def stick(request: Request) -> Response:
        """An index line, then the files: `hil/stick.py` takes it apart."""
        body = await _body(request)
        site = service.site_of(body)
        core = service.branches[site].core
        made = await asyncio.wrap_future(
            service.submit(site, lambda now_ms: make_stick(core, body, now_ms))
        )
        return Response(made.packed(), media_type="application/octet-stream")

    doings = _doings(service)
    routes = [Route(path, posting(work), methods=["POST"]) for path, work in doings.items()]
    routes += [Route(path, asking(work)) for path, work in _questions(service).items()]
    routes += [Route("/feed", feed), Route("/faults", all_faults, methods=["GET", "POST"])]
    routes.append(Route("/stick", stick, methods=["POST"]))
    paths = sorted(route.path for route in routes)
    routes.append(Route("/", asking(lambda _branch, _request: {**describe, "paths": paths})))
    return Starlette(
        routes=routes,
        exception_handlers={
            Refused: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
        },
    )


def _questions(service: Service) -> dict[str, Callable[[Branch, Request], Any]]:
    """What can be asked, by path."""

    def status(branch: Branch, _request: Request) -> dict[str, Any]:
        return {
            **branch.desk.status(),
            "sites": list(service.branches),
            "broker_connected": service.bridge.connected,
        }

    return {
        "/facts": _facts,
        "/cards": lambda branch, _request: branch.desk.cards(),
        "/account": lambda branch, request: branch.desk.account(dict(request.query_params)),
        "/status": status,
        "/ledger": lambda branch, _request: branch.desk.ledger(),
        "/preorders": lambda branch, request: branch.parents.meals(dict(request.query_params)),
        "/settings": lambda branch, _request: branch.desk.settings(),
        "/debits": lambda branch, request: branch.parents.debits(dict(request.query_params)),
    }


def _doings(service: Service) -> dict[str, Work]:
    """What can be done, by path."""
    return {
        "/enrol": lambda _branch, body, now_ms: service.enrol(body, now_ms),
        "/claims": _claim,
        "/orders": lambda branch, body, now_ms: branch.desk.order(body, now_ms),
        "/block": lambda branch, body, now_ms: branch.desk.block(body, now_ms, on=True),
        "/unblock": lambda branch, body, now_ms: branch.desk.block(body, now_ms, on=False),
        "/top-up": lambda branch, body, now_ms: branch.desk.top_up(body, now_ms),
        "/ban": lambda branch, body, now_ms: branch.desk.ban(body, now_ms),
        "/limit": lambda branch, body, now_ms: branch.parents.limit(body, now_ms),
        "/preorder": lambda branch, body, now_ms: branch.parents.order_meal(body, now_ms),
        "/cancel": lambda branch, body, now_ms: branch.parents.cancel_meal(body, now_ms),
        "/transfer": lambda branch, body, now_ms: branch.parents.transfer(body, now_ms),
        "/bar": lambda branch, body, now_ms: branch.parents.bar(body, now_ms),
        "/replace-card": lambda branch, body, now_ms: branch.parents.replace_card(body, now_ms),
        "/throttle": lambda branch, body, _now_ms: branch.desk.throttle(body),
        "/configure": lambda branch, body, now_ms: branch.desk.configure(body, now_ms),
        "/releases": lambda branch, body, now_ms: publish(branch.core, body, now_ms),
        "/keys": lambda branch, body, now_ms: branch.key_desk.rotate(body, now_ms),
        "/list-epoch": lambda branch, _body, now_ms: branch.key_desk.raise_list_epoch(now_ms),
        "/revoke": lambda branch, body, now_ms: branch.key_desk.revoke(body, now_ms),
        "/backup": lambda branch, body, now_ms: branch.key_desk.back_up(body, now_ms),
        "/restore": lambda branch, body, now_ms: branch.key_desk.restore(body, now_ms),
    }


def _claim(branch: Branch, body: dict[str, Any], now_ms: int) -> Done:
    code = body.get("claim")
    if code is not None and not isinstance(code, str):
        raise Refused(400, "claim is no text", "leave it out, and the city makes one")
    return branch.desk.make_claim(now_ms, code)


def _facts(branch: Branch, request: Request) -> Response:
    """The bytes as they came, one fact a line."""
    query = request.query_params
    names = (query.get("device", ""), query.get("stream", "main"), query.get("epoch", ""))
    found = branch.desk.facts(*names, _integer(request, "after"))
    return Response(b"\n".join(found), media_type="application/x-ndjson")


def _switch(faults: Faults, wanted: dict[str, Any]) -> None:
    """All of them or none: `{"ack-late": 500, "freeze": true}`, `{"all": false}`."""
    tried = Faults()
    try:
        for name, value in wanted.items():
            if name != "all":
                tried.switch(name, value)
    except SetupProblem as problem:
        raise Refused(400, str(problem), "GET /faults lists them") from None
    if wanted.get("all") is False:
        faults.clear()
    for name, value in wanted.items():
        if name != "all":
            faults.switch(name, value)


async def _feed(request: Request, service: Service, bell: FeedBell) -> Response:
    """Lines after a number: at once if there are any, else when one comes or the wait is over."""
    site = service.site_of(request.query_params)
    desk = service.branches[site].desk
    after, wait_s = _integer(request, "after"), float(_integer(request, "wait_s"))
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + min(wait_s, WAIT_S_MAX)
    while True:
        event = bell.next_ring()
        found = await asyncio.wrap_future(service.submit(site, lambda _now_ms: desk.feed(after)))
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
