"""Goal: no child goes hungry for want of an account: by a supervisor's word a meal is given to one
without an account, to one whose account no list names, and to one whom no list names at all; the
fact says who pays, and nobody is billed.

Method: the real agent of a till on real files, through the requests of the cashier's page; what the
city makes of such a fact is tests/city/test_city_refunds.py's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.messages import Posting, SaleFact, SaleRefused
from edge.model import PurchaseReason, Tender
from edge.offline_cache import till_books
from hil.bench.station import SITE
from tests.support.tills import OTHER, Lists, Till, open_till

NONE, LOST = 3, 4
LISTS = Lists(without_account=(NONE,), unknown_account=(LOST,))
PAYS = (
    Posting(account=f"emergency:{SITE}", purse="hot", amount_minor=-8_500),
    Posting(account=f"sales:{SITE}", purse="hot", amount_minor=8_500),
)


def fed(till: Till, number: int, *lines: tuple[str, int]) -> str:
    """Ring up, a supervisor's word, the child's card; what the screen says."""
    till.bench.step(5_000)
    till.ask("ring", lines=[list(line) for line in lines])
    till.staff.super_ = "boss"
    assert till.ask("emergency")["ok"]
    till.bench.step(10)
    till.bench.tap(number)
    return str(till.bench.screen()["reason"])


@pytest.mark.parametrize("child", [NONE, LOST])
def test_a_child_without_a_known_account_is_fed_and_the_city_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: int
) -> None:
    with open_till(tmp_path, monkeypatch, LISTS) as till:
        till.hear(OTHER)
        assert till.sell(child, ("soup", 1))["reason"] == "purchase.account_suspended"
        assert fed(till, child, ("soup", 1)) == "purchase.authorized"
        sale = till.last()
        assert isinstance(sale, SaleFact)
        assert (sale.tender, sale.account) == (Tender.EMERGENCY, "")
        assert (sale.cardholder, sale.supervisor) == (f"c0000000{child}", "boss")
        assert sale.postings == PAYS
        db = till.bench.agent.parts.journal.writer.db
        assert till_books.own_tail(db, "till-a", f"a0000000{child}") == (), "nobody's debt"
        assert till.sell(child, ("soup", 1))["reason"] == "purchase.account_suspended", "one meal"


def test_a_child_whom_no_list_names_is_fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_till(tmp_path, monkeypatch, LISTS) as till:
        till.hear(OTHER)
        till.ask("ring", lines=[["soup", 1]])
        refused = till.ask("emergency", nobody=True)
        assert not refused["ok"] and "supervisor" in refused["error"]
        till.staff.super_ = "boss"
        assert not till.ask("emergency", nobody=True, cardholder="c00000003")["ok"], "which?"
        assert till.ask("emergency", nobody=True)["ok"]
        assert till.bench.screen()["state"] == "sold"
        sale = till.last()
        assert isinstance(sale, SaleFact)
        assert (sale.cardholder, sale.credential, sale.supervisor) == ("", "", "boss")
        assert (sale.tender, sale.postings) == (Tender.EMERGENCY, PAYS)
        assert not till.ask("emergency", nobody=True)["ok"], "the basket is gone, and the word"
        till.ask("ring", lines=[["cutlet", 3]])
        till.staff.super_ = "boss"
        till.ask("emergency", nobody=True)
        screen = till.bench.screen()
        assert (screen["reason"], screen["short"]) == ("purchase.funds", "60.00 ₽"), "too dear"
        told = till.last()
        assert isinstance(told, SaleRefused) and told.reason is PurchaseReason.FUNDS
        assert not till.ask("cash")["ok"], "and a cashier alone gives nothing away"


def test_a_word_given_at_once_is_a_new_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, LISTS) as till:
        till.hear(OTHER)
        assert till.sell(NONE, ("soup", 1))["state"] == "refused"
        till.bench.step(10)
        till.bench.tap(NONE)
        assert till.bench.screen()["repeated"], "a nervous second tap is none"
        till.staff.super_ = "boss"
        assert till.ask("emergency")["ok"]
        till.bench.step(10)
        till.bench.tap(NONE)
        assert till.bench.screen()["state"] == "sold"


def test_the_bound_and_the_allergies_hold_as_with_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = Lists(without_account=(NONE,), allergens=("nuts",))
    with open_till(tmp_path, monkeypatch, lists) as till:
        till.hear(OTHER)
        assert fed(till, NONE, ("cutlet", 3)) == "purchase.funds"
        assert fed(till, NONE, ("bar", 1)) == "purchase.allergen"
        assert not any(isinstance(fact, SaleFact) for fact in till.facts())


def test_such_a_meal_is_voided_and_given_back_to_who_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, LISTS) as till:
        till.hear(OTHER)
        fed(till, NONE, ("soup", 1))
        till.staff.super_ = "boss"
        answer = till.ask("refund", sale=till.last().sequence, why="cold")
        assert answer["back_minor_by_tender"] == {"emergency": 8_500}
        back = till.last()
        assert {(p.account, p.amount_minor) for p in back.postings} == {  # type: ignore[union-attr]
            (p.account, -p.amount_minor) for p in PAYS
        }
        fed(till, LOST, ("soup", 1))
        assert till.ask("void", sale=till.last().sequence)["ok"]
        z = till.ask("close_out")
        assert z["total_minor_by_tender"] == {"emergency": 8_500}, "the first stands in the totals"
        assert z["refunded_minor_by_tender"] == {"emergency": 8_500}
        assert z["overrides_by_cashier"] == {"cook": 2}


def test_a_word_for_a_child_whom_no_list_names_is_for_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came to nothing; whoever's card is next pays for itself."""
    with open_till(tmp_path, monkeypatch, Lists()) as till:
        till.hear(OTHER)
        till.ask("ring", lines=[["soup", 1]])
        till.staff.super_ = "boss"
        counter = till.bench.agent.till
        assert counter is not None
        with monkeypatch.context() as patched:
            patched.setattr(counter.standing, "ready", lambda _moment: False)
            assert not till.ask("emergency", nobody=True)["ok"]
        assert till.ask("charge")["ok"]
        till.bench.step(10)
        till.bench.tap(5)
        sale = till.last()
        assert isinstance(sale, SaleFact)
        assert (sale.tender, sale.supervisor) == (Tender.ACCOUNT, "")


def test_a_word_is_not_used_up_while_a_card_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists()) as till:
        till.hear(OTHER, head=1)
        assert till.sell(3, ("soup", 1))["state"] == "waiting"
        till.staff.super_ = "boss"
        for request in ("emergency", "override_allergens"):
            refused = till.ask(request)
            assert not refused["ok"] and "other tills" in refused["error"]
        assert till.staff.super_ == "boss"
