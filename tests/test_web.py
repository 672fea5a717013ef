"""Goal: a station's page can be asked by its own screen and by nobody else, and whatever arrives
there, the agent is asked little and waits for nothing.

Method: the real server on a free port with a stand-in for the agent's loop that answers what it
is asked; the application itself, fed with requests that no browser makes; and for the flood a real
edge process, its taps on the control socket, and fifty connections at the page.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from edge import web
from edge.control import ask
from edge.model import DeviceFault, Station
from edge.requests import HANDLERS, SCREEN_REQUESTS
from edge.settings import DeviceSettings
from edge.trust import read_key
from edge.web import (
    CONNECTIONS_MAX,
    Gateway,
    PacedSelector,
    load_token,
    token_path,
)
from edge.web_app import BURST, PAGES, RATE_A_S, STREAMS_MAX, App, Bucket
from hil.bench.station import build, uid_of
from tests.support.screen_loop import (
    JSON,
    WAIT_S_MAX,
    Loop,
    accepts,
    do,
    free_port,
    request,
    serving,
    until,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DeviceSettings:
    return build(tmp_path_factory.mktemp("web"), 20)


# --------------------------------------------------------------------------- ways in


def test_a_press_reaches_the_agent_and_its_answer_the_page(made: DeviceSettings) -> None:
    with serving(made) as (loop, port):
        status, answer = do(port, "sign_in_pin", {"pin": "1234", "request": "tap"})
        assert (status, answer) == (200, {"ok": True, "done": "sign_in_pin"})
        assert loop.asked == [{"pin": "1234", "request": "sign_in_pin"}]
        status, headers, data = request(port, "GET", "/photo/" + "A" * 43)
        assert (status, headers["content-type"], data) == (200, "image/png", b"pixels")


@pytest.mark.parametrize("name", [*sorted(set(HANDLERS) - SCREEN_REQUESTS), "", "nothing", "photo"])
def test_what_no_page_may_ask_is_not_passed_on(made: DeviceSettings, name: str) -> None:
    with serving(made) as (loop, port):
        assert do(port, name, {})[0] == 404
        assert loop.asked == []


def test_the_table_of_the_screens_has_no_technicians_request() -> None:
    for name in ("tap", "move", "logs", "status", "identify"):
        assert name in HANDLERS and name not in SCREEN_REQUESTS
    assert set(HANDLERS) >= SCREEN_REQUESTS


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": "127.0.0.1.evil.example:{port}"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_another_site_in_the_same_browser_can_press_nothing(
    made: DeviceSettings, headers: dict[str, str], status: int
) -> None:
    with serving(made) as (loop, port):
        sent = {name: value.format(port=port) for name, value in headers.items()}
        assert do(port, "sign_out", {}, **sent)[0] == status
        assert loop.asked == []


def test_another_site_can_link_to_a_page_and_read_nothing_else(made: DeviceSettings) -> None:
    with serving(made) as (_, port):
        for path, status in (("/", 200), ("/events", 403), ("/photo/" + "A" * 43, 403)):
            assert request(port, "GET", path, Sec_Fetch_Site="cross-site")[0] == status


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b"\xff", 400), (b"[" * 4000, 400), (b" " * 4097, 413)],
)
def test_a_body_that_is_no_request_is_refused(
    made: DeviceSettings, body: bytes, status: int
) -> None:
    with serving(made) as (loop, port):
        sent = {"Content_Type": "application/json"}
        assert request(port, "POST", "/do/sign_out", body, **sent)[0] == status
        assert loop.asked == []


def test_who_presses_too_fast_is_slowed_down(made: DeviceSettings) -> None:
    with serving(made) as (loop, port):
        answers = [do(port, "sign_out", {})[0] for _ in range(int(BURST) + 40)]
        assert set(answers) == {200, 429}
        assert len(loop.asked) == answers.count(200)


def test_a_bucket_gives_what_its_rate_says() -> None:
    bucket = Bucket()
    assert sum(bucket.take(100.0) for _ in range(1_000)) == int(BURST)
    assert sum(bucket.take(101.0) for _ in range(1_000)) == int(RATE_A_S)
    assert sum(bucket.take(9_999.0) for _ in range(1_000)) == int(BURST)
    assert not bucket.take(0.0), "a clock that steps back gives nothing"


# ----------------------------------------------------------------------------- pages


@pytest.mark.parametrize("path", ["/", *(f"/{name}" for name in PAGES), "/style.css", "/common.js"])
def test_pages_come_with_a_policy_that_lets_nothing_in(made: DeviceSettings, path: str) -> None:
    with serving(made) as (_, port):
        status, headers, data = request(port, "GET", path)
        assert status == 200 and data
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/../agent.py", "/__init__.py", "/%2e%2e/agent.py", "//etc/passwd"]
)
def test_nothing_but_pages_is_served(made: DeviceSettings, path: str) -> None:
    with serving(made) as (_, port):
        assert request(port, "GET", path)[0] == 404


def test_no_page_has_a_script_in_it_or_looks_elsewhere() -> None:
    """What the policy would stop at run time, told here where it stands."""
    for page in resources.files("edge.screens").iterdir():
        text = page.read_text() if page.name.endswith((".html", ".css", ".js")) else ""
        assert not re.search(r"""https?://(?!www\.w3\.org/2000/svg)|(src|href)=["']//""", text), (
            page
        )
        assert not re.search(r"\b(localStorage|sessionStorage|indexedDB|document\.cookie)\b", text)
        if page.name.endswith(".html"):
            assert not re.search(r"\son[a-z]+=|\sstyle=|<style|javascript:", text), page.name
            assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text)), page.name
        if page.name.endswith(".js"):
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text), (
                page.name
            )


def test_a_till_begins_with_its_cashier(made: DeviceSettings) -> None:
    with serving(made, station=Station.TILL) as (_, port):
        assert b"cashier.js" in request(port, "GET", "/")[2]
    with serving(made) as (_, port):
        assert b"officer.js" in request(port, "GET", "/")[2]


# ---------------------------------------------------------------------------- events


@contextmanager
def stream(port: int) -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S_MAX)) as client:
        client.request("GET", "/events")
        yield client.getresponse()


def next_picture(answer: http.client.HTTPResponse) -> Any:
    while True:
        line = answer.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: ") and line != b"data: {}\n":
            return json.loads(line[6:])


def test_every_page_is_told_and_who_does_not_listen_holds_up_nobody(made: DeviceSettings) -> None:
    with serving(made) as (loop, port), ExitStack() as streams:
        one, other = (streams.enter_context(stream(port)) for _ in range(2))
        assert next_picture(one) == next_picture(other) == {"ok": True, "number": 0}
        deaf = streams.enter_context(stream(port))
        assert deaf.status == 200
        for number in range(1, 6):
            loop.screen = {"ok": True, "number": number, "ballast": "x" * 60_000}
            while next_picture(one)["number"] != number:
                pass
        assert next_picture(other)["number"] >= 1


def test_so_many_pages_and_no_more(made: DeviceSettings) -> None:
    with serving(made) as (_, port), ExitStack() as streams:
        for _ in range(STREAMS_MAX):
            assert streams.enter_context(stream(port)).status == 200
        with stream(port) as one_more:
            assert one_more.status == 503
        streams.close()
        until(lambda: request_events(port) == 200)


def request_events(port: int) -> int:
    with stream(port) as answer:
        return answer.status


def test_nobody_asks_the_agent_while_no_page_is_open(made: DeviceSettings) -> None:
    seen: list[str] = []

    class Counting(Gateway):
        async def ask(self, body: dict[str, Any]) -> bytes | None:
            seen.append(body["request"])
            return b"{}"

    async def scenario() -> None:
        app = App(made, Counting(lambda: None))
        feeding = asyncio.create_task(app.feed.run())
        for _ in range(10):
            await asyncio.sleep(0)
        assert seen == []
        app.feed.open = 1
        app.feed.want()
        assert await app.feed.newer_than(0)
        assert seen[0] == "screen"
        feeding.cancel()

    asyncio.run(scenario())


def test_an_agent_that_does_not_answer_is_said_to_be_silent(
    made: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "ANSWER_S", 0.2)
    with serving(made) as (loop, port):
        loop.answering = False
        assert do(port, "sign_out", {})[0] == 503
        with stream(port) as answer:
            assert next_picture(answer) == {"ok": False, "error": "no answer"}


# --------------------------------------------------------------------- bounds of the server


def test_connections_are_bounded(made: DeviceSettings) -> None:
    with serving(made) as (_, port), ExitStack() as opened:
        for _ in range(CONNECTIONS_MAX + 20):
            opened.enter_context(closing(socket.create_connection(("127.0.0.1", port), 5)))
        with pytest.raises(OSError):
            request(port, "GET", "/")
        opened.close()
        until(lambda: reachable(port))


def reachable(port: int) -> bool:
    try:
        return request(port, "GET", "/")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_who_connects_and_says_nothing_is_sent_away(
    made: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "IDLE_S", 0.1)
    monkeypatch.setattr(web, "REAP_S", 0.1)
    with serving(made) as (_, port):
        for begin in (b"", b"GET / HTTP/1.1\r\nX-Slow: "):
            with closing(socket.create_connection(("127.0.0.1", port), WAIT_S_MAX)) as slow:
                slow.sendall(begin)
                slow.settimeout(WAIT_S_MAX)
                try:
                    assert slow.recv(1) == b""
                except ConnectionResetError:
                    pass  # As good.


def test_a_round_that_took_long_is_rested_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of the processor, with its clocks in the test's hand."""
    used, at, slept = [0.0], [0.0], []

    class Times:
        @staticmethod
        def thread_time() -> float:
            return used[0]

        @staticmethod
        def monotonic() -> float:
            return at[0]

        @staticmethod
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            at[0] += seconds

    monkeypatch.setattr(web, "time", Times)
    selector = PacedSelector()
    for _ in range(1_000):  # A flood: every round computes for as long as it lasts.
        used[0] += 0.01
        at[0] += 0.01
        selector.select(0)
    selector.close()
    assert sum(slept) > 0
    assert used[0] / at[0] <= web.SHARE * 1.05


def test_a_taken_port_stops_nothing_and_is_tried_again(
    made: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "RETRY_S", 0.05)
    port = free_port()
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", port))
        other.listen(1)
        loop = Loop(replace(made, screens_port=port))
    try:
        until(lambda: reachable(port))
    finally:
        loop.close()


# -------------------------------------------------------------- a screen on the network


def test_the_token_is_made_once_and_for_this_station_alone(made: DeviceSettings) -> None:
    path = token_path(made)
    token = load_token(path)
    assert len(token) >= 32 and load_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert load_token(path) != token, "others could have read it"


def test_a_screen_on_the_network_needs_the_token_and_tls(made: DeviceSettings) -> None:
    key = read_key(made.key_path)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s0001-bench")])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now, now + timedelta(days=1)
    ).sign(key, hashes.SHA256())
    made.certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    with serving(made, screens_host="0.0.0.0") as (loop, port):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        def https(method: str, path: str, body: Any = None, cookie: str = "") -> tuple[int, str]:
            client = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
            with closing(client):
                sent = None if body is None else json.dumps(body)
                client.request(method, path, sent, {**JSON, "Cookie": cookie})
                answer = client.getresponse()
                answer.read()
                return answer.status, answer.getheader("set-cookie") or ""

        assert https("GET", "/")[0] == 200, "the page itself is no secret"
        assert https("POST", "/do/sign_out", {})[0] == 401
        assert https("GET", "/events", cookie="mk-screen=wrong")[0] == 401
        assert https("POST", "/session", {"token": "wrong"})[0] == 401
        assert https("POST", "/session", {})[0] == 401
        status, cookie = https("POST", "/session", {"token": loop.server.token})
        assert status == 200
        for word in ("HttpOnly", "Secure", "SameSite=Strict"):
            assert word in cookie
        known = cookie.partition(";")[0]
        assert https("POST", "/do/sign_out", {}, known)[0] == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            request(port, "GET", "/")


# ------------------------------------------------------------------------------ a flood


@pytest.mark.process
@pytest.mark.slow
def test_a_flood_on_the_page_keeps_no_tap_from_being_decided(tmp_path: Path) -> None:
    settings = build(tmp_path, 20)
    port = free_port()
    with settings.source.open("a") as file:
        file.write(f"\n[screens]\nport = {port}\n")
    command = (sys.executable, "-m", "edge", "--config", str(settings.source))
    stop = threading.Event()
    requests = [0]

    def hammer() -> None:
        while not stop.is_set():
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
                    while not stop.is_set():
                        client.request("POST", "/do/sign_out", "{}", JSON)
                        client.getresponse().read()
                        requests[0] += 1
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)

    with subprocess.Popen(command) as process:
        hammers = [threading.Thread(target=hammer, daemon=True) for _ in range(50)]
        try:
            control = settings.socket_path("edge")
            until(lambda: answers(control) and accepts(port))
            for thread in hammers:
                thread.start()
            until(lambda: requests[0] > 200)
            took_ms = []
            for number in range(20):
                at_s = time.monotonic()
                tapped = {"request": "tap", "reader": "r1", "uid": uid_of(number).hex()}
                assert ask(control, tapped)["ok"]
                took_ms.append((time.monotonic() - at_s) * 1000)
            status = ask(control, {"request": "status"})
            decided = sum(n for name, n in status["counters"].items() if name.startswith("access_"))
            print(f"{requests[0]} requests; taps took at most {max(took_ms):.0f} ms")
            assert decided == 20
        finally:
            stop.set()
            for thread in hammers:
                thread.join()
            process.terminate()
            assert process.wait(WAIT_S_MAX) == 0


def answers(control: Path) -> bool:
    try:
        return bool(ask(control, {"request": "status"})["ok"])
    except DeviceFault:
        return False
