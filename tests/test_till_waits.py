"""Goal: facts of another till that are on their way refuse nobody: the card waits for them, a
moment and with a word on the screen, is judged by all of them, and sold once or refused once. Where
nobody would send them nobody waits, but in the first seconds after a start.

Method: the real agent of a till on real files with another till on the roster, whose reports and
facts are stored as sync stores them, and time that is passed in; facts are read from the journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.messages import Fact, HoldReleased, PreorderRow, PreorderUse, SaleFact, SaleRefused
from edge.messages import VersionMark as Mark
from edge.model import PurchaseReason
from edge.offline_cache import till_books
from edge.pos.cover import START_MS, WAIT_MS_MAX
from hil.bench.station import DEVICE
from tests.support import facts
from tests.support.tills import LUNCH, OTHER, PEER_EPOCH, THIRD, Lists, Till, open_till

SMALL, LARGE = ("compote", 1), ("soup", 4)  # Below the cap, and above it.


@pytest.fixture
def till(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Till]:
    with open_till(tmp_path, monkeypatch) as made:
        yield made


def kinds(till: Till) -> list[str]:
    return [str(fact.__struct_config__.tag) for fact in till.facts()]


def at_once(till: Till, number: int, *lines: tuple[str, int]) -> dict[str, Any]:
    """As `Till.sell`, a moment after whatever was before."""
    assert till.ask("basket", lines=[list(line) for line in lines])["ok"]
    till.bench.step(10)
    till.bench.tap(number)
    return till.bench.screen()


def theirs(amount_minor: int = 0) -> Fact:
    """The other till's first fact: a sale from this account, or a refusal."""
    header = facts.stamp(1, "", device=OTHER, epoch=PEER_EPOCH)
    if not amount_minor:
        return facts.refused_sale(header)
    return facts.sale(header, account="a00000003", amounts=(("hot", amount_minor),))


def test_it_is_sold_when_they_are_here(till: Till) -> None:
    till.hear(OTHER, head=1)
    screen = till.sell(3, SMALL)
    assert (screen["state"], screen["waiting"], screen["colour"]) == ("waiting", True, "blue")
    assert screen["text"] == "Ждём другие кассы"
    assert kinds(till) == [], "nothing is set aside, and nothing decided"
    till.bench.step(500)
    till.take(OTHER, theirs())
    assert till.bench.screen()["state"] == "sold"
    till.bench.step(5_000)
    assert kinds(till) == ["sale"]


def test_they_are_waited_for_two_seconds_and_no_more(till: Till) -> None:
    till.hear(OTHER, head=1)
    till.sell(3, SMALL)
    till.bench.step(WAIT_MS_MAX - 1)
    assert till.bench.screen()["state"] == "waiting" and kinds(till) == []
    till.bench.step(1)
    assert till.bench.screen()["reason"] == "purchase.cap"
    refused = till.last()
    assert isinstance(refused, SaleRefused) and refused.reason is PurchaseReason.CAP
    till.take(OTHER, theirs())
    till.bench.step(5_000)
    assert kinds(till) == ["sale_refused"], "what came too late sells nothing by itself"


def test_what_comes_counts(till: Till) -> None:
    """The other till has spent the money: that is what was missing."""
    till.hear(OTHER, head=1)
    assert till.sell(3, ("soup", 1))["state"] == "waiting"
    till.take(OTHER, theirs(95_000))
    assert till.bench.screen()["reason"] == "purchase.funds"
    assert kinds(till) == ["sale_refused"]


def test_nobody_waits_for_a_till_that_is_silent(till: Till) -> None:
    till.hear(OTHER, head=1, until_ms=0)
    assert till.sell(3, SMALL)["reason"] == "purchase.cap"
    assert kinds(till) == ["sale_refused"]


def test_every_till_that_lacks_facts_has_to_be_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(tills=(DEVICE, OTHER, THIRD))) as till:
        till.hear(OTHER, head=1)
        till.hear(THIRD, head=1, until_ms=0)
        assert till.sell(3, SMALL)["reason"] == "purchase.cap"
        till.hear(THIRD, head=0, until_ms=0)
        assert till.sell(3, SMALL)["state"] == "waiting", "the silent one lacks nothing"


def test_in_the_first_seconds_the_neighbour_may_still_be_heard(till: Till) -> None:
    """A start: what is known of the neighbour is from before, and sync is still connecting."""
    till.hear(OTHER, head=1, until_ms=0)
    assert at_once(till, 3, SMALL)["state"] == "waiting"
    till.bench.step(WAIT_MS_MAX)
    assert till.bench.screen()["state"] == "waiting"
    till.hear(OTHER, head=1)
    till.take(OTHER, theirs())
    assert till.bench.screen()["state"] == "sold"


def test_a_start_is_no_excuse_for_long(till: Till) -> None:
    till.hear(OTHER, head=1, until_ms=0)
    assert at_once(till, 3, SMALL)["state"] == "waiting"
    till.bench.step(START_MS - 100)
    assert till.bench.screen()["state"] == "waiting"
    till.bench.step(100)
    assert till.bench.screen()["reason"] == "purchase.cap"


def test_a_large_basket_is_held_when_all_is_known(till: Till) -> None:
    till.hear(OTHER, head=1)
    assert till.sell(3, LARGE)["state"] == "waiting" and kinds(till) == []
    till.bench.step(1_500)
    till.take(OTHER, theirs())
    assert till.bench.screen()["state"] == "waiting" and kinds(till) == ["hold"]
    till.bench.step(WAIT_MS_MAX - 1)
    assert kinds(till) == ["hold"], "a hold has its own two seconds"
    till.cover(OTHER)
    assert till.bench.screen()["state"] == "sold"
    assert kinds(till) == ["hold", "sale"]


def test_a_hold_outlasts_facts_on_their_way(till: Till) -> None:
    """While it waits to be heard the other till sells, and says so a moment before that is here."""
    till.hear(OTHER)
    till.sell(3, LARGE)
    till.hear(OTHER, head=1)
    assert till.bench.screen()["state"] == "waiting" and kinds(till) == ["hold"]
    till.cover(OTHER)
    assert till.bench.screen()["state"] == "waiting", "heard, but not everything is known"
    till.take(OTHER, theirs())
    assert till.bench.screen()["state"] == "sold"
    sale = till.last()
    assert isinstance(sale, SaleFact) and sale.hold == till.facts()[0].sequence


def test_a_hold_does_not_wait_for_ever_for_facts(till: Till) -> None:
    till.hear(OTHER)
    till.sell(3, LARGE)
    till.hear(OTHER, head=1)
    till.cover(OTHER)
    till.bench.step(WAIT_MS_MAX)
    assert kinds(till) == ["hold", "hold_released", "sale_refused"]
    released = till.facts()[1]
    assert isinstance(released, HoldReleased) and released.why == "cap"
    assert till_books.open_holds(till.bench.agent.parts.journal.writer.db) == []


def test_the_cashier_can_give_up(till: Till) -> None:
    till.hear(OTHER, head=1)
    till.sell(3, SMALL)
    assert till.ask("cancel")["ok"]
    till.take(OTHER, theirs())
    till.bench.step(3_000)
    assert till.bench.screen()["state"] == "open" and kinds(till) == []


def test_nothing_else_begins_meanwhile(till: Till) -> None:
    till.hear(OTHER, head=1)
    till.sell(3, SMALL)
    till.bench.tap(4)  # Another child is too quick.
    assert not till.ask("basket", lines=[["bar", 1]])["ok"]
    till.take(OTHER, theirs())
    till.bench.step(100)
    (sale,) = till.facts()
    assert isinstance(sale, SaleFact) and sale.account == "a00000003"


@pytest.mark.parametrize("price_minor", [2_500, 40_000])  # Waits for facts alone, and with a hold.
def test_an_order_collected_elsewhere_meanwhile_is_not_sold_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, price_minor: int
) -> None:
    """What was missing is that the other till has handed it over: nobody rang anything up here."""
    order = PreorderRow(
        business_date="2026-03-08", slot=LUNCH, lines=(("compote", 1, price_minor),), charged=False
    )
    with open_till(tmp_path, monkeypatch, Lists(orders={(3, "o1"): order})) as till:
        till.hear(OTHER, head=0 if price_minor > 30_000 else 1)
        till.bench.step(5_000)
        assert till.ask("charge", collect=True)["ok"]
        till.bench.step(10)
        till.bench.tap(3)
        assert till.bench.screen()["state"] == "waiting"
        there = msgspec.structs.replace(
            facts.sale(
                facts.stamp(1, "", device=OTHER, epoch=PEER_EPOCH),
                account="a00000003",
                amounts=(("hot", price_minor),),
            ),
            cardholder="c00000003",
            preorders=(PreorderUse(preorder="o1"),),
        )
        till.hear(OTHER, head=1)
        till.take(OTHER, there)
        till.cover(OTHER)
        till.bench.step(100)
        assert till.bench.screen()["reason"] == "notice.nothing_due"
        assert kinds(till) == (["hold", "hold_released"] if price_minor > 30_000 else [])
        till.bench.step(WAIT_MS_MAX)
        assert not any(isinstance(fact, SaleFact) for fact in till.facts())


def test_a_menu_that_comes_meanwhile_is_not_the_sales(till: Till) -> None:
    """The price is of the menu in force as the card was shown, and so the fact says."""
    till.hear(OTHER, head=1)
    assert till.sell(3, SMALL)["state"] == "waiting"
    cache = till.bench.agent.parts.cache
    before = cache.small.menu
    assert before is not None
    dearer = {
        name: replace(one, price_minor=one.price_minor + 100)
        for name, one in cache.small.products.items()
    }
    later = Mark(before.list_epoch, before.number + 1)
    cache.small = replace(cache.small, products=dearer, menu=later)
    till.bench.step(10)
    till.take(OTHER, theirs())
    sale = till.last()
    assert isinstance(sale, SaleFact)
    assert (sale.total_minor, sale.menu) == (2_500, before)
