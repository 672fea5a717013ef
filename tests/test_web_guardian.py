"""Goal: the guardians' screen is told of its dialogue and asks for nothing else, whoever holds its
token.

Method: as in `test_web.py`: the real server on a free port with a stand-in for the agent's loop.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import MutableMapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from edge.requests import HANDLERS, SCREEN_REQUESTS
from edge.settings import DeviceSettings
from edge.web import (
    Gateway,
    guardian_token_path,
    load_token,
    token_path,
)
from edge.web_app import BURST, App
from hil.bench.station import build
from tests.support.screen_loop import (
    TYPED,
    do,
    request,
    serving,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DeviceSettings:
    return build(tmp_path_factory.mktemp("web"), 20)


CHILD_PHOTO, BARRED_PHOTO = "c" * 43, "b" * 43
DIALOGUE = {"dialogue": "d1", "children": [{"child": "anya", "photo": CHILD_PHOTO}]}
SCREEN = {
    "ok": True,
    "station": "preschool",
    "clock_trusted": True,
    "screens": [{"name": "Staff Member", "photo": BARRED_PHOTO}],
    "staff": {"officer": {"name": "Officer"}},
    "occupancy": 7,
    "officer": {"referrals": [{"name": "Referred"}], "alerts": [{"children": ["Barred"]}]},
    "lanes": [],
    "handover": DIALOGUE,
}
TOLD = {"ok": True, "clock_trusted": True, "handover": DIALOGUE}


def first_event(stream: Any) -> Any:
    while not (line := stream.readline()).startswith(b'data: {"ok'):
        assert line
    return json.loads(line.removeprefix(b"data: "))


def test_the_guardians_page_is_told_of_its_dialogue_and_asks_no_more(made: DeviceSettings) -> None:
    """On the device itself too, whoever is signed in beside it."""
    with serving(made) as (loop, port):
        loop.screen = SCREEN
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
            client.request("GET", "/guardian/events")
            assert first_event(client.getresponse()) == TOLD
        for name in HANDLERS:
            status, _, _ = request(port, "POST", f"/guardian/do/{name}", "{}", **TYPED)
            allowed = name in ("handover_choose", "handover_screen")
            assert status == (200 if allowed else 404), name
        assert {one["request"] for one in loop.asked} == {"handover_choose"}
        assert request(port, "GET", f"/guardian/photo/{CHILD_PHOTO}")[0] == 200
        assert request(port, "GET", f"/guardian/photo/{BARRED_PHOTO}")[0] == 404
        assert request(port, "GET", f"/photo/{BARRED_PHOTO}")[0] == 200, "the officer sees it"


def test_no_press_on_the_guardians_page_uses_up_the_officers(made: DeviceSettings) -> None:
    with serving(made) as (_loop, port):
        statuses = {
            request(port, "POST", "/guardian/do/handover_screen", "{}", **TYPED)[0]
            for _ in range(int(3 * BURST))
        }
        assert do(port, "sign_out", {})[0] == 200
        assert statuses <= {200, 429}


def test_a_screen_with_the_guardians_token_is_the_guardians_alone(made: DeviceSettings) -> None:
    settings = replace(made, screens_port=8443, screens_host="0.0.0.0")
    staff, guardian = load_token(token_path(made)), load_token(guardian_token_path(made))
    assert staff != guardian and guardian_token_path(made).stat().st_mode & 0o777 == 0o600

    class Answering:
        async def ask(self, body: dict[str, Any]) -> bytes | None:
            return json.dumps({"ok": True, **DIALOGUE, "type": "image/png", "data": ""}).encode()

    app = App(settings, Answering(), token=staff, guardian_token=guardian)

    def asks(method: str, path: str, cookie: str, body: Any = None) -> tuple[int, bytes]:
        sent: list[MutableMapping[str, Any]] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": json.dumps(body or {}).encode()}

        headers = [
            (b"host", b"127.0.0.1:8443"),
            (b"content-type", b"application/json"),
            (b"cookie", cookie.encode()),
        ]
        scope = {"type": "http", "method": method, "path": path, "scheme": "https"}
        asyncio.run(app({**scope, "headers": headers}, receive, send))
        return sent[0]["status"], dict(sent[0]["headers"]).get(b"set-cookie", b"")

    known = asks("POST", "/session", "", {"token": guardian})[1].partition(b";")[0].decode()
    assert known == f"mk-screen={guardian}"
    for page in ("/guardian", "/guardian.js", "/style.css"):
        assert asks("GET", page, known)[0] == 200
    for page in ("/", "/officer", "/cashier", "/officer.html", "/cashier.html"):
        assert asks("GET", page, known)[0] == 403
        assert asks("GET", page, f"mk-screen={staff}")[0] == 200
    assert asks("GET", f"/photo/{CHILD_PHOTO}", known)[0] == 403
    assert asks("GET", f"/guardian/photo/{CHILD_PHOTO}", known)[0] == 200
    for name in SCREEN_REQUESTS:
        assert asks("POST", f"/do/{name}", known)[0] == 403, name
    assert asks("POST", "/guardian/do/override", known)[0] == 404
    assert asks("POST", "/guardian/do/handover_choose", known)[0] == 200
    assert asks("POST", "/guardian/do/override", f"mk-screen={staff}")[0] == 404
    assert asks("POST", "/do/sign_out", f"mk-screen={staff}")[0] == 200
    for way in ("", "/guardian"):
        assert asks("POST", f"{way}/do/handover_choose", "")[0] == 401
        assert asks("GET", f"{way}/events", "mk-screen=wrong")[0] == 401
    assert asks("GET", "/events", known)[0] == 403
    alone = App(settings, Answering(), token=staff)
    assert alone._known("") == ""


@pytest.mark.parametrize("host", ["evil.example:{port}", "1.2.3.4.evil.example:{port}", "{port}"])
def test_bound_everywhere_it_answers_to_addresses_and_no_names(
    made: DeviceSettings, host: str
) -> None:
    settings = replace(made, screens_port=8443, screens_host="0.0.0.0")

    async def scenario() -> list[MutableMapping[str, Any]]:
        app = App(settings, Gateway(lambda: None), token="t")
        sent: list[MutableMapping[str, Any]] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b"{}"}

        headers = [(b"host", host.format(port=8443).encode())]
        scope = {"type": "http", "method": "GET", "path": "/", "scheme": "https"}
        await app({**scope, "headers": headers}, receive, send)
        return sent

    assert asyncio.run(scenario())[0]["status"] == 421
