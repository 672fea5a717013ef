"""Goal: no press and no card of a till ends its process, bills an order twice, or stretches a
supervisor's word.

Method: the real agent of a till on real files, through the requests of the cashier's page; each
case was once a fault.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge.messages import PreorderRow, SaleFact, SaleRefused
from edge.model import PurchaseReason, Tender
from edge.pos.closeout import totals_of
from tests.support.tills import BREAKFAST, LUNCH, Lists, entitlement, open_till, site

DAY = "2026-03-08"  # The bench's date.


def order(*lines: tuple[str, int, int], charged: bool) -> PreorderRow:
    return PreorderRow(business_date=DAY, slot=LUNCH, lines=lines, charged=charged)


def test_an_order_at_another_price_is_refused_like_any_basket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = order(("soup", 1, 8_000), ("compote", 1, 2_500), charged=False)
    lists = Lists(orders={(3, "o1"): ordered}, balance_minor={"hot": 100})
    with open_till(tmp_path, monkeypatch, lists) as till:
        assert till.sell(3, ("soup", 1), ("compote", 1))["reason"] == "purchase.funds"
        refused = till.last()
        assert isinstance(refused, SaleRefused) and refused.reason is PurchaseReason.FUNDS


@pytest.mark.parametrize("gone", ["gone", "salad"])
def test_a_charged_order_that_is_not_all_there_goes_on_no_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    ordered = order(("soup", 1, 8_000), (gone, 1, 2_500), charged=True)
    with open_till(tmp_path, monkeypatch, Lists(orders={(3, "o1"): ordered})) as till:
        till.bench.step(5_000)
        assert till.ask("charge", collect=True)["ok"]
        till.bench.step(10)
        till.bench.tap(3)
        assert till.bench.screen()["reason"] == "notice.order_off_menu"
        assert not any(isinstance(fact, SaleFact) for fact in till.facts())


def test_cash_that_cannot_be_taken_leaves_the_till_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(site=site(tenders=tuple(Tender)))) as till:
        counter = till.bench.agent.till
        assert counter is not None
        till.ask("charge", collect=True)
        assert not till.ask("cash")["ok"], "nothing is rung up"
        till.ask("ring", lines=[["soup", 1]])
        with monkeypatch.context() as broken:
            broken.setattr(counter.standing, "ready", lambda _moment: False)
            assert not till.ask("cash")["ok"]
        assert till.ask("cash")["ok"]
        assert sum(isinstance(fact, SaleFact) for fact in till.facts()) == 1


def test_a_word_holds_for_the_basket_that_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(balance_minor={"hot": 0})) as till:
        counter = till.bench.agent.till
        assert counter is not None
        till.staff.super_ = "boss"
        till.ask("basket", lines=[["compote", 1]])
        assert till.ask("emergency")["ok"]
        cutlet = counter.cache.small.products["cutlet"]
        more = counter.state.add(cutlet, now_ms=till.bench.clock.moment().mono_ms)  # A scanner.
        counter.state = more  # type: ignore[assignment]
        till.ask("charge")
        till.bench.step(10)
        till.bench.tap(3)
        assert till.bench.screen()["reason"] == "purchase.funds"


@pytest.mark.parametrize("word", ["emergency", "override_allergens"])
def test_a_word_holds_for_the_child_that_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    lists = Lists(balance_minor={"hot": 0, "buffet": 0})
    if word == "override_allergens":
        lists = Lists(allergens=("nuts",))
    with open_till(tmp_path, monkeypatch, lists) as till:
        for first, then in ((3, 4), (3, 3)):
            refused = till.sell(first, ("soup", 1), ("bar", 1))["reason"]
            assert refused in ("purchase.allergen", "purchase.funds")
            till.bench.step(5_000)
            till.staff.super_ = "boss"
            assert till.ask(word)["ok"]
            till.bench.step(10)
            till.bench.tap(then)
            sold = till.last()
            assert isinstance(sold, SaleFact) is (first == then)
            assert not isinstance(sold, SaleFact) or sold.supervisor == "boss"
            till.ask("cancel")


def test_a_word_is_for_the_first_child_that_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dear = site(emergency_minor_max=8_000)
    with open_till(tmp_path, monkeypatch, Lists(site=dear)) as till:
        till.bench.step(5_000)
        till.staff.super_ = "boss"
        till.ask("ring", lines=[["soup", 1]])
        assert till.ask("emergency")["ok"]
        for number in (3, 4):
            till.bench.step(10)
            till.bench.tap(number)
        sold = till.last()
        assert isinstance(sold, SaleFact) and sold.cardholder == "c00000004"
        assert (sold.tender, sold.supervisor) == (Tender.ACCOUNT, "")


def test_a_group_is_served_in_the_slot_that_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = {(n, f"e{n}"): entitlement(slots=(BREAKFAST, LUNCH)) for n in range(1, 4)}
    with open_till(tmp_path, monkeypatch, Lists(rights=rights, group=(1, 2, 3))) as till:
        assert not till.ask("serve_group", group="g1", slot=BREAKFAST)["ok"]
        assert till.ask("serve_group", group="g1", slot=LUNCH)["served"] == 3


def test_a_meal_asked_for_twice_is_counted_at_the_days_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = Lists(rights={(3, "e1"): entitlement()}, balance_minor={"hot": 0})
    with open_till(tmp_path, monkeypatch, lists) as till:
        till.sell(3, ("soup", 1))
        assert till.sell(3, ("soup", 1), tender={"tenders": ["entitlement"]})["reason"] == (
            "purchase.meal_used"
        )
        assert totals_of(till.facts()).duplicates == 1
        assert till.ask("close_out")["duplicates"] == 1


def test_a_meal_by_right_is_no_piece_of_the_familys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"item_limits": {"hot": 1}}
    lists = Lists(rights={(3, "e1"): entitlement()}, account=limits)
    with open_till(tmp_path, monkeypatch, lists) as till:
        till.sell(3, ("soup", 1), ("bar", 1))
        free = till.last()
        assert isinstance(free, SaleFact) and len(free.tenders) == 2
        assert free.pieces() == {"chocolate": 1}, "the soup is by right"
        assert till.sell(3, ("soup", 1))["state"] == "sold", "the one that the family allows"
        assert till.sell(3, ("cutlet", 1))["reason"] == "purchase.item_limit"


def test_no_sale_claims_more_pieces_than_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists()) as till:
        till.sell(3, ("soup", 2), ("bar", 1))
        sale = till.last()
        assert isinstance(sale, SaleFact) and sale.account_pieces is None
        assert sale.pieces() == {"hot": 2, "chocolate": 1}
        claims = {"hot": 7, "chocolate": -1, "drink": 1}
        assert msgspec.structs.replace(sale, account_pieces=claims).pieces() == {"hot": 2}
