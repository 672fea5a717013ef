"""Goal: at a till the green light comes after the commit, one tap sells one basket, and what
cannot be recorded is not sold.

Method: the real agent of a till on real files, three products and ten people with 1,000 roubles
each; its reader is in our hand. Facts are read back from the journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import AnyFact, BaseSeen, SaleFact, SaleRefused
from edge.model import DeviceFault, PurchaseReason, Tender
from edge.offline_cache.store import FileKind, Writer
from hil.bench.station import BALANCE_MINOR, SITE
from tests.support.agent_bench import Bench, station


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with station(tmp_path, people=10, till=True) as made:
        made.step(10)
        yield made


def sales(bench: Bench) -> list[AnyFact]:
    """What was recorded after the epoch was opened, but for what base it was judged by."""
    return [fact for fact in bench.facts()[1:] if not isinstance(fact, BaseSeen)]


def tap(bench: Bench, number: int, *, uid: bytes | None = None) -> None:
    bench.step(10)  # A card comes after its basket was charged.
    bench.tap(number, uid=uid)


def test_a_basket_is_sold_once_and_its_fact_says_all(bench: Bench) -> None:
    assert bench.basket(("soup", 1), ("compote", 2)) == ""
    tap(bench, 3)
    assert (bench.screen()["state"], bench.screen()["colour"]) == ("sold", "green")
    (sale,) = sales(bench)
    assert isinstance(sale, SaleFact)
    assert (sale.total_minor, sale.tender, sale.account) == (13_500, Tender.ACCOUNT, "a00000003")
    assert [(x.product, x.quantity, x.price_minor) for x in sale.lines] == [
        ("soup", 1, 8_500),
        ("compote", 2, 2_500),
    ]
    assert [(p.account, p.purse, p.amount_minor) for p in sale.postings] == [
        ("a00000003", "main", -13_500),
        (f"sales:{SITE}", "main", 13_500),
    ]
    assert sale.business_date == bench.clock.moment().local_date
    tap(bench, 3)  # A nervous second tap.
    tap(bench, 4)  # The next child, before anything was rung up.
    assert len(sales(bench)) == 1


def test_the_tail_counts_at_once(bench: Bench) -> None:
    """Nothing came back from the city, and the money is spent all the same."""
    assert bench.basket(("soup", 11)) == ""
    tap(bench, 3)
    bench.step(5_000)
    assert bench.basket(("soup", 1)) == ""
    tap(bench, 3)
    sale, refused = sales(bench)
    assert isinstance(sale, SaleFact) and sale.total_minor == 93_500 <= BALANCE_MINOR
    assert isinstance(refused, SaleRefused) and refused.reason is PurchaseReason.FUNDS


def test_what_cannot_be_recorded_is_not_sold(bench: Bench) -> None:
    record = bench.agent.parts.journal.record

    def refuse(*_: object, **__: object) -> None:
        raise DeviceFault("journal.db: disk full")

    bench.agent.parts.journal.record = refuse  # type: ignore[assignment,method-assign]
    assert bench.basket(("soup", 1)) == ""
    tap(bench, 3)
    assert bench.screen()["colour"] != "green" and sales(bench) == []
    bench.agent.parts.journal.record = record  # type: ignore[method-assign]
    bench.step(5_000)
    assert bench.basket(("soup", 1)) == ""
    tap(bench, 3)
    assert bench.screen()["state"] == "sold" and len(sales(bench)) == 1


def test_a_stranger_is_named_as_one(bench: Bench) -> None:
    assert bench.basket(("soup", 1)) == ""
    tap(bench, 0, uid=bytes.fromhex("04ffffffffffff"))
    (refused,) = sales(bench)
    assert isinstance(refused, SaleRefused)
    assert refused.reason is PurchaseReason.UNKNOWN_CREDENTIAL
    assert refused.cardholder is None and refused.money is not None


def test_a_product_that_is_not_in_the_menu_is_not_rung_up(bench: Bench) -> None:
    assert "not in the menu" in bench.basket(("caviar", 1))
    assert bench.basket(("soup", 100)) != ""
    tap(bench, 3)
    assert sales(bench) == []


def test_without_a_date_nothing_is_sold(bench: Bench) -> None:
    bench.clock.anchor = None
    bench.clock.floor_ms = 0
    writer = Writer(bench.agent.parts.settings.sync_path, FileKind.SYNC)
    with writer.transaction() as db:
        db.execute("DELETE FROM anchor")
    writer.close()
    bench.step(2_000)
    assert not bench.clock.moment().clock_trusted
    bench.basket(("soup", 1))
    tap(bench, 3)
    assert sales(bench) == [] and bench.screen()["state"] == "notice"
