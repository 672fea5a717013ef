"""`moskvenok family …`: what a family asks of the reference city, over its HTTP, from a terminal.

A city of one's own may offer the same paths (`hil/city/README.md`). Nothing is decided here.
"""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import click

from edge.model import SetupProblem

ANSWER_BYTES_MAX: Final = 1024 * 1024  # Our choice: two hundred pre-orders are 40 KiB.
WAIT_S_MAX: Final = 15.0  # Our choice: a city answers within a second, a loaded one within ten.
# The reference city is on loopback: no proxy of the environment stands between.
_OPENER: Final = build_opener(ProxyHandler({}))


@click.group(help="What a family asks of the city: bans, limits, meals, transfers, a lost card.")
@click.option(
    "--city", required=True, envvar="MOSKVENOK_CITY", help="Its HTTP: http://127.0.0.1:PORT."
)
@click.pass_context
def family(context: click.Context, city: str) -> None:
    if urlsplit(city).scheme not in ("http", "https"):
        raise SetupProblem(f"--city {city!r}: write http://127.0.0.1:PORT")
    context.obj = city.rstrip("/")


@family.command(help="Ban a category or a product for CARDHOLDER; --off allows it again.")
@click.argument("cardholder")
@click.option("--category")
@click.option("--product")
@click.option("--off", is_flag=True)
@click.pass_obj
def ban(city: str, cardholder: str, category: str | None, product: str | None, off: bool) -> None:
    named = {"category": category, "product": product}
    body = {name: value for name, value in named.items() if value is not None}
    _show(_post(city, "/ban", {"cardholder": cardholder, **body, "on": not off}))


@family.command(help="Limits of CARDHOLDER: kopecks a day and a week, or pieces of a category.")
@click.argument("cardholder")
@click.option("--day", type=int, help="Kopecks a day; -1 takes the limit away.")
@click.option("--week", type=int, help="Kopecks a week; -1 takes the limit away.")
@click.option("--low", type=int, help="Warn below so many kopecks; -1: never.")
@click.option("--pieces", multiple=True, type=(str, int), help="CATEGORY PIECES; may come again.")
@click.pass_obj
def limit(
    city: str,
    cardholder: str,
    day: int | None,
    week: int | None,
    low: int | None,
    pieces: tuple[tuple[str, int], ...],
) -> None:
    given = {"day_limit_minor": day, "week_limit_minor": week, "low_balance_minor": low}
    body: dict[str, Any] = {
        name: None if value < 0 else value for name, value in given.items() if value is not None
    }
    if pieces:
        body["item_limits"] = dict(pieces)
    _show(_post(city, "/limit", {"cardholder": cardholder, **body}))


@family.command("top-up", help="KOPECKS onto the account of CARDHOLDER.")
@click.argument("cardholder")
@click.argument("kopecks", type=int)
@click.option("--reference", help="With one it happens once, however often it is sent.")
@click.pass_obj
def top_up(city: str, cardholder: str, kopecks: int, reference: str | None) -> None:
    body: dict[str, Any] = {"cardholder": cardholder, "amount_minor": kopecks}
    if reference is not None:
        body["reference"] = reference
    _show(_post(city, "/top-up", body))


@family.command(help="Choose a meal for CARDHOLDER: DATE SLOT PRODUCT…")
@click.argument("cardholder")
@click.argument("date")
@click.argument("slot")
@click.argument("products", nargs=-1, required=True)
@click.option("--pay-later", is_flag=True, help="Pay when it is collected.")
@click.pass_obj
def order(
    city: str, cardholder: str, date: str, slot: str, products: tuple[str, ...], pay_later: bool
) -> None:
    lines = [[product, products.count(product)] for product in dict.fromkeys(products)]
    body = {"cardholder": cardholder, "date": date, "slot": slot, "lines": lines}
    _show(_post(city, "/preorder", {**body, "charge": not pay_later}))


@family.command(help="Cancel PREORDER, before it is collected.")
@click.argument("preorder")
@click.pass_obj
def cancel(city: str, preorder: str) -> None:
    _show(_post(city, "/cancel", {"preorder": preorder}))


@family.command(help="What is chosen for CARDHOLDER, and how far it is.")
@click.argument("cardholder")
@click.pass_obj
def meals(city: str, cardholder: str) -> None:
    for one in _ask(Request(f"{city}/preorders?{urlencode({'cardholder': cardholder})}")):
        _show(one)


@family.command(help="KOPECKS from one child of a guardian to another.")
@click.argument("source")
@click.argument("target")
@click.argument("kopecks", type=int)
@click.pass_obj
def transfer(city: str, source: str, target: str, kopecks: int) -> None:
    body = {"from": source, "to": target, "amount_minor": kopecks}
    _show(_post(city, "/transfer", body))


@family.command(help="CARD is lost; the chip of UID (hex) takes its place. The money stays.")
@click.argument("card")
@click.argument("uid")
@click.pass_obj
def lost(city: str, card: str, uid: str) -> None:
    _show(_post(city, "/replace-card", {"card": card, "uid": uid}))


def _show(answer: Any) -> None:
    click.echo(json.dumps(answer, ensure_ascii=False))


def _post(city: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    return _ask(Request(city + path, data=json.dumps(body).encode(), headers=headers))


def _ask(request: Request) -> Any:
    """The answer's JSON. `SetupProblem` in the city's words when it refuses."""
    try:
        with _OPENER.open(request, timeout=WAIT_S_MAX) as response:
            return json.loads(response.read(ANSWER_BYTES_MAX))
    except HTTPError as error:
        with error:
            raise SetupProblem(_words(error.read(ANSWER_BYTES_MAX)) or str(error)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise SetupProblem(
            f"{request.full_url}: {error}; give the address that the city has printed"
        ) from error


def _words(answer: bytes) -> str:
    try:
        found = json.loads(answer)
        return f"{found['error']}; {found['do']}"
    except (ValueError, KeyError, TypeError):
        return ""
