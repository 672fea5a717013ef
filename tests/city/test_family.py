"""Goal: `moskvenok family` sends what the city's paths take, and says a refusal in its words.

Method: the command over a real HTTP server on loopback in the city's place: path and body of each
request are compared; then a refusal, a silence and a wrong address.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from edge.model import SetupProblem
from hil.city.web import _doings
from hil.family import family

REFUSED = {"error": "no such account", "do": "give a cardholder who has one"}


class Desk:
    """Hears requests; answers what it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.status, self.answer = 200, json.dumps({"ok": True})
        desk = self

        class Handler(BaseHTTPRequestHandler):
            def _reply(self) -> None:
                size = int(self.headers.get("Content-Length", "0"))
                body = json.loads(self.rfile.read(size)) if size else None
                desk.heard.append((self.path, body))
                self.send_response(desk.status)
                self.end_headers()
                self.wfile.write(desk.answer.encode())

            do_GET = do_POST = _reply

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


CALLS: list[tuple[list[str], str, dict[str, Any]]] = [
    (
        ["ban", "c1", "--category", "pastry"],
        "/ban",
        {"cardholder": "c1", "category": "pastry", "on": True},
    ),
    (
        ["ban", "c1", "--product", "soup-1", "--off"],
        "/ban",
        {"cardholder": "c1", "product": "soup-1", "on": False},
    ),
    (
        ["limit", "c1", "--day", "30000", "--week", "-1", "--pieces", "pastry", "1"],
        "/limit",
        {
            "cardholder": "c1",
            "day_limit_minor": 30000,
            "week_limit_minor": None,
            "item_limits": {"pastry": 1},
        },
    ),
    (
        ["top-up", "c1", "500", "--reference", "r"],
        "/top-up",
        {"cardholder": "c1", "amount_minor": 500, "reference": "r"},
    ),
    (
        ["order", "c1", "2025-09-09", "lunch", "tea", "soup", "tea"],
        "/preorder",
        {
            "cardholder": "c1",
            "date": "2025-09-09",
            "slot": "lunch",
            "lines": [["tea", 2], ["soup", 1]],
            "charge": True,
        },
    ),
    (["cancel", "p1"], "/cancel", {"preorder": "p1"}),
    (["transfer", "c1", "c2", "5"], "/transfer", {"from": "c1", "to": "c2", "amount_minor": 5}),
    (["lost", "pupil", "04aa"], "/replace-card", {"card": "pupil", "uid": "04aa"}),
]


@pytest.mark.parametrize(("words", "path", "body"), CALLS, ids=lambda value: str(value)[:24])
def test_a_command_is_one_request(
    desk: Desk, words: list[str], path: str, body: dict[str, Any]
) -> None:
    done = CliRunner().invoke(family, ["--city", desk.url, *words], catch_exceptions=False)
    assert done.exit_code == 0 and json.loads(done.output) == {"ok": True}
    assert desk.heard == [(path, body)]
    assert path in _doings(None)  # type: ignore[arg-type]


def test_meals_are_told_one_a_line(desk: Desk) -> None:
    desk.answer = json.dumps([{"preorder": "a"}, {"preorder": "b"}])
    done = CliRunner().invoke(family, ["--city", desk.url, "meals", "c 1"])
    assert done.output.splitlines() == ['{"preorder": "a"}', '{"preorder": "b"}']
    assert desk.heard == [("/preorders?cardholder=c+1", None)]


def test_a_refusal_comes_in_the_citys_words(desk: Desk) -> None:
    desk.status, desk.answer = 404, json.dumps(REFUSED)
    with pytest.raises(SetupProblem, match="no such account; give a cardholder"):
        CliRunner().invoke(family, ["--city", desk.url, "cancel", "p"], catch_exceptions=False)
    desk.answer = "no JSON"
    with pytest.raises(SetupProblem, match="404"):
        CliRunner().invoke(family, ["--city", desk.url, "cancel", "p"], catch_exceptions=False)


@pytest.mark.parametrize("url", ["ftp://x", "http://127.0.0.1:1"])
def test_a_wrong_address_is_one_sentence(url: str) -> None:
    with pytest.raises(SetupProblem):
        CliRunner().invoke(family, ["--city", url, "cancel", "p"], catch_exceptions=False)
