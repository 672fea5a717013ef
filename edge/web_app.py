"""What a page of the station may ask, and how: an ASGI application over the gateway.

    GET  /                  the page of this station; /officer, /guardian, /cashier by name
    GET  /events            the `screen` answer whenever it has changed (server-sent events)
    POST /do/<request>      a request of the screens' table, JSON in and out
    GET  /photo/<hash>      the photo of somebody who is on the screen now
    POST /session           a screen on the network shows its token, and gets a cookie for it
    /guardian/events …      the same three ways for the guardian's page: one dialogue, and no more

The guardian's page stands where visitors do: what it is told and may ask is what its own dialogue
needs, whoever is signed in beside it. A screen let in by the guardians' token has no other page.

Another site open in the same browser can neither read nor press anything: only our own names are
answered to (a name that was pointed here is not ours), only our own pages may ask, and requests are
JSON. Pages run no script but their own file and load nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Protocol

import msgspec

from edge.control import REQUEST_BYTES_MAX
from edge.model import Station
from edge.settings import DeviceSettings

STREAMS_MAX: Final = 8  # Our choice: an officer's, a guardian's, and those somebody forgot open.
POLL_S: Final = 0.15  # Our choice: a face appears before the card is lowered.
BEAT_S: Final = 5.0  # A page that hears nothing for two of these says so.
SLOW_S: Final = 10.0  # Our choice: who takes no byte, or sends none, for so long is gone.
RATE_A_S: Final = 20.0  # Our choice: two people press five times a second each, twice over.
BURST: Final = 40.0
OF_THE_BENCH: Final = frozenset({"basket"})  # Sells without a cashier: from no page.
OF_GUARDIANS: Final = frozenset({"handover_choose", "handover_screen"})  # All that one may ask.
TOLD_TO_GUARDIANS: Final = ("ok", "error", "clock_trusted", "handover")  # Of a `screen` answer.
GUARDIAN: Final = "/guardian"
COOKIE: Final = "mk-screen"
COOKIE_S: Final = 365 * 24 * 60 * 60
HASH_CHARS: Final = 43  # base64url of SHA-256.
PAGES: Final = {"officer": "officer.html", "guardian": "guardian.html", "cashier": "cashier.html"}
TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Agent(Protocol):
    """Who answers: `edge.web.Gateway`."""

    async def ask(self, body: dict[str, Any]) -> bytes | None: ...


class Refused(Exception):
    """Told to the asker with this status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(slots=True)
class Bucket:
    """So many requests a second on average, `BURST` at once."""

    left: float = BURST
    at_s: float = 0.0

    def take(self, now_s: float) -> bool:
        self.left = min(BURST, self.left + max(0.0, now_s - self.at_s) * RATE_A_S)
        self.at_s = now_s
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Feed:
    """The newest `screen` answer, for every page that is open. Asks only while one is."""

    def __init__(self, agent: Agent) -> None:
        self.open = 0
        self.closed = False
        self.number = 0
        self.picture = b"{}"
        self._agent = agent
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        while True:
            if not self.open:
                self._wanted.clear()
                await self._wanted.wait()
            picture = await self._agent.ask({"request": "screen"})
            self._show(b'{"ok":false,"error":"no answer"}' if picture is None else picture)
            await asyncio.sleep(POLL_S)

    def want(self) -> None:
        self._wanted.set()

    async def newer_than(self, seen: int) -> bool:
        """Whether there is a picture after that one, waiting up to `BEAT_S` for it."""
        if self.number == seen and not self.closed:
            try:
                await asyncio.wait_for(self._news.wait(), BEAT_S)
            except TimeoutError:
                return False
        return self.number != seen

    def close(self) -> None:
        self.closed = True
        self.tell()

    def _show(self, picture: bytes) -> None:
        if picture != self.picture or not self.number:
            self.picture, self.number = picture, self.number + 1
            self.tell()

    def tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class App:
    """One station's pages."""

    def __init__(
        self, settings: DeviceSettings, agent: Agent, *, token: str = "", guardian_token: str = ""
    ) -> None:
        from edge.requests import SCREEN_REQUESTS

        self.feed = Feed(agent)
        self._agent = agent
        self._token = token
        self._guardian_token = guardian_token
        self._requests = SCREEN_REQUESTS - OF_THE_BENCH
        self._bucket = Bucket()
        self._guardians = Bucket()  # A visitor's hand leaves the officer's theirs.
        self._strangers = Bucket()  # Who shows a token leaves those who are known theirs.
        self._home = "cashier" if settings.station is Station.TILL else "officer"
        port = settings.screens_port
        names = {"127.0.0.1", "localhost", "[::1]"}
        self._hosts = {f"{name}:{port}" for name in names}
        self._any_address = settings.screens_host in ("0.0.0.0", "::")
        shown = (
            f"[{settings.screens_host}]" if ":" in settings.screens_host else settings.screens_host
        )
        self._hosts.add(f"{shown}:{port}")
        self._files: dict[str, bytes] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Whoever is slow is left."""
        assert scope["type"] == "http"

        async def bounded(message: Message) -> None:
            await asyncio.wait_for(send(message), SLOW_S)

        try:
            try:
                await self._route(scope, receive, bounded)
            except Refused as refusal:
                body = msgspec.json.encode({"ok": False, "error": str(refusal)})
                await _respond(bounded, refusal.status, body, "application/json")
        except TimeoutError:
            return  # uvicorn closes what was left unfinished.

    async def _route(self, scope: Message, receive: Receive, send: Send) -> None:
        path, method = str(scope["path"]), str(scope["method"])
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        origin = f"{scope['scheme']}://{headers.get('host', '')}"
        self._check_origin(headers, origin, is_page=method == "GET" and not _is_data(path))
        if method == "POST" and path == "/session" and self._token:
            await self._session(await _body(headers, receive), send)
            return
        known = self._known(_cookie(headers))
        if method == "GET" and not _is_data(path):
            await self._file(path, send, guardian=known == "guardian")
            return
        if not known:
            raise Refused(401, "this screen is not known here; open it by its link")
        guardian = path.startswith(f"{GUARDIAN}/")
        if known == "guardian" and not guardian:
            raise Refused(403, "this screen is the guardians'")
        path = path.removeprefix(GUARDIAN)
        if method == "GET" and path == "/events":
            await self._events(receive, send, guardian=guardian)
        elif method == "GET":
            await self._photo(path.removeprefix("/photo/"), send, guardian=guardian)
        elif method == "POST" and path.startswith("/do/"):
            body = await _body(headers, receive)
            await self._do(path.removeprefix("/do/"), body, send, guardian=guardian)
        else:
            raise Refused(404, "nothing here")

    def _known(self, shown: str) -> str:
        """Whose screen this is by the token it shows: "staff", "guardian", or "" for nobody's."""
        if not self._token or hmac.compare_digest(shown.encode(), self._token.encode()):
            return "staff"
        guardian = self._guardian_token
        same = hmac.compare_digest(shown.encode(), guardian.encode())
        return "guardian" if guardian and same else ""

    def _check_origin(self, headers: dict[str, str], origin: str, *, is_page: bool) -> None:
        host = headers.get("host", "")
        if host not in self._hosts and not (self._any_address and _is_address(host)):
            raise Refused(421, "this name is not this station's")
        if headers.get("origin", origin) != origin:
            raise Refused(403, "another site asks")
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") and not is_page:
            raise Refused(403, "another site asks")

    # ------------------------------------------------------------------------- requests

    async def _do(self, name: str, body: dict[str, Any], send: Send, *, guardian: bool) -> None:
        if name not in (OF_GUARDIANS if guardian else self._requests):
            raise Refused(404, "no request of a screen")
        self._take(guardian)
        answer = await self._agent.ask({**body, "request": name})
        if answer is None:
            raise Refused(503, "the station does not answer")
        await _respond(send, 200, answer, "application/json")

    def _take(self, guardian: bool) -> None:
        bucket = self._guardians if guardian else self._bucket
        if not bucket.take(time.monotonic()):
            raise Refused(429, "too many requests; slower")

    async def _photo(self, photo_hash: str, send: Send, *, guardian: bool) -> None:
        if len(photo_hash) != HASH_CHARS:
            raise Refused(404, "no such photo")
        self._take(guardian)
        if guardian and not await self._is_on_dialogue(photo_hash):
            raise Refused(404, "no such photo")
        answer = await self._agent.ask({"request": "photo", "hash": photo_hash})
        found: dict[str, Any] = {} if answer is None else msgspec.json.decode(answer)
        if not found.get("ok"):
            raise Refused(404, "no such photo")
        data = base64.b64decode(found["data"])
        await _respond(send, 200, data, str(found["type"]))

    async def _is_on_dialogue(self, photo_hash: str) -> bool:
        """Whether one of the children whom the guardian is asked about now has this photo."""
        answer = await self._agent.ask({"request": "handover_screen"})
        shown: dict[str, Any] = {} if answer is None else msgspec.json.decode(answer)
        return any(child.get("photo") == photo_hash for child in shown.get("children", ()))

    async def _session(self, body: dict[str, Any], send: Send) -> None:
        if not self._strangers.take(time.monotonic()):
            raise Refused(429, "too many requests; slower")
        whose = self._known(str(body.get("token", "")))
        if not whose:
            raise Refused(401, "this link is not this station's")
        token = self._token if whose == "staff" else self._guardian_token
        cookie = f"{COOKIE}={token}; Path=/; Max-Age={COOKIE_S}; HttpOnly; Secure; SameSite=Strict"
        extra = ((b"set-cookie", cookie.encode()),)
        await _respond(send, 200, b'{"ok":true}', "application/json", extra)

    async def _events(self, receive: Receive, send: Send, *, guardian: bool) -> None:
        feed = self.feed
        if feed.open >= STREAMS_MAX:
            raise Refused(503, f"{STREAMS_MAX} pages are open already; close one")
        feed.open += 1
        feed.want()
        gone = asyncio.ensure_future(_until_gone(receive))
        gone.add_done_callback(lambda _: feed.tell())
        try:
            await send(_start(200, "text/event-stream"))
            seen = -1 if feed.number == 0 else feed.number - 1
            while not gone.done() and not feed.closed:
                if await feed.newer_than(seen):
                    seen = feed.number
                    picture = _of_guardians(feed.picture) if guardian else feed.picture
                    data = b"data: " + picture + b"\n\n"
                else:
                    data = b"event: here\ndata: {}\n\n"
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            feed.open -= 1

    async def _file(self, path: str, send: Send, *, guardian: bool) -> None:
        name = path.removeprefix("/") or self._home
        name = PAGES.get(name, name)
        if guardian and name in PAGES.values() and name != PAGES["guardian"]:
            raise Refused(403, "this screen is the guardians'")
        kind = TYPES.get(name.rpartition(".")[2])
        data = self._files.get(name)
        if data is None and kind is not None and "/" not in name:
            found = resources.files("edge.screens").joinpath(name)
            if found.is_file():
                data = self._files[name] = found.read_bytes()
        if data is None:
            raise Refused(404, "nothing here")
        await _respond(send, 200, data, f"{kind}; charset=utf-8")


# ------------------------------------------------------------------------------ helpers


def _is_data(path: str) -> bool:
    asked = path.removeprefix(GUARDIAN)
    return asked == "/events" or asked.startswith(("/do/", "/photo/", "/session"))


def _of_guardians(picture: bytes) -> bytes:
    """What of a `screen` answer stands where visitors do."""
    shown: dict[str, Any] = msgspec.json.decode(picture)
    return msgspec.json.encode({name: shown[name] for name in TOLD_TO_GUARDIANS if name in shown})


def _is_address(host: str) -> bool:
    """Whether a Host header is a bare address: such a name cannot be pointed anywhere."""
    name = host.rpartition(":")[0] if not host.endswith("]") else host
    digits = name.replace(".", "")
    return (digits.isdigit() and name.count(".") == 3) or name.startswith("[")


def _cookie(headers: dict[str, str]) -> str:
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value if value.isascii() else ""
    return ""


async def _body(headers: dict[str, str], receive: Receive) -> dict[str, Any]:
    """A JSON object of at most 4 KiB, within its time."""
    # A form of another site cannot send this type without asking first, and is not let.
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "send JSON")
    data = bytearray()
    more = True
    while more:
        message = await asyncio.wait_for(receive(), SLOW_S)
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request broke off")
        data += message.get("body", b"")
        more = message.get("more_body", False)
        if len(data) > REQUEST_BYTES_MAX:
            raise Refused(413, f"more than {REQUEST_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(bytes(data), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, "not a JSON object") from error


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(status: int, kind: str, extra: tuple[tuple[bytes, bytes], ...] = ()) -> Message:
    headers = [(b"content-type", kind.encode()), *HEADERS, *extra]
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _respond(
    send: Send, status: int, body: bytes, kind: str, extra: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send(_start(status, kind, (*extra, length)))
    await send({"type": "http.response.body", "body": body})
