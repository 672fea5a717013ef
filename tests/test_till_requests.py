"""Goal: what the cashier's page asks is done for a cashier who is signed in and for nobody else, a
voided sale leaves no light behind, and no page asks what only a bench may.

Method: the real agent of a till on real files, through its requests; the page's application with a
stand-in for the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.messages import SaleFact, Void
from edge.model import Tender
from edge.requests_till import HANDLERS
from edge.settings import DeviceSettings
from edge.till_desk import NOBODY_SIGNED_IN
from edge.web_app import BURST, App
from hil.bench.station import build
from tests.support.tills import Lists, open_till, site

FREE = {"basket", "cancel", "give_date"}  # They sell nothing, or are a bench's.


@pytest.mark.parametrize("name", sorted(set(HANDLERS) - FREE))
def test_nobody_signed_in_sells_nothing_and_reads_no_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(site=site(tenders=tuple(Tender)))) as till:
        till.ask("ring", lines=[["soup", 1]])
        till.staff.who, till.staff.super_ = "", "boss"
        before = len(till.facts())
        answer = till.ask(name, lines=[["soup", 1]], group="g1", sale=1, why="x")
        assert not answer["ok"] and answer["error"] == NOBODY_SIGNED_IN
        assert len(till.facts()) == before
        assert till.staff.super_ == "boss", "a supervisor's word is not used up"


def test_a_voided_sale_leaves_no_light_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists()) as till:
        assert till.sell(3, ("soup", 1))["state"] == "sold"
        sale = till.last()
        assert isinstance(sale, SaleFact) and till.bench.screen()["last_sale"] is not None
        assert till.ask("void", sale=sale.sequence)["ok"]
        assert isinstance(till.last(), Void)
        screen = till.bench.screen()
        assert (screen["state"], screen["last_sale"]) == ("open", None)
        till.bench.tap(3)
        assert till.bench.screen()["state"] != "sold", "nor for the same card again"


def test_a_void_of_an_older_sale_leaves_the_newest_its_light(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists()) as till:
        till.sell(3, ("soup", 1))
        older = till.last()
        till.sell(4, ("soup", 1))
        newest = till.last()
        assert till.ask("void", sale=older.sequence, epoch=older.epoch)["ok"]
        assert till.bench.screen()["state"] == "sold"
        assert till.bench.screen()["last_sale"]["sale"] == newest.sequence


class _Silent:
    async def ask(self, body: dict[str, Any]) -> bytes | None:
        return b'{"ok":true}'


def _post(app: App, port: int, path: str, body: bytes, cookie: str = "") -> int:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = {"host": f"127.0.0.1:{port}", "content-type": "application/json", "cookie": cookie}
    scope = {
        "type": "http",
        "path": path,
        "method": "POST",
        "scheme": "https",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DeviceSettings:
    folder = tmp_path_factory.mktemp("requests")
    return replace(build(folder, 20), screens_port=8443)


def test_a_basket_of_the_bench_comes_from_no_page(made: DeviceSettings) -> None:
    app = App(made, _Silent())
    assert _post(app, 8443, "/do/basket", b'{"lines":[]}') == 404
    assert _post(app, 8443, "/do/ring", b'{"lines":[]}') == 200


def test_who_guesses_at_tokens_leaves_those_who_are_known_theirs(made: DeviceSettings) -> None:
    app = App(made, _Silent(), token="right")
    found = {_post(app, 8443, "/session", b'{"token":"wrong"}') for _ in range(int(BURST) + 2)}
    assert found == {401, 429}
    assert _post(app, 8443, "/do/fire_reset", b"{}", "mk-screen=right") == 200
