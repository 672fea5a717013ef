"""Goal: the city's own account pays for a hungry child of whom no account is known, once; of a sale
no more pieces and no more money is given back than was paid, whoever asks, and no meal by right;
day's ends tell of it and agree.

Method: a city in memory that hears tills of our own making; every answer is read from its ledger,
which must sum to zero each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.messages import Refund, SaleFact, SaleLine, Void, decode_fact
from edge.model import Tender
from hil.city.intake import CityCore
from tests.city.sham import EPOCH, SITE, TODAY, Sham, make_core
from tests.city.test_city_debits import Town, charged, collect
from tests.city.till_books import (
    ANNS,
    BREAKFAST,
    CASHIER,
    OPENING,
    SUPERVISOR,
    alarms,
    balance,
    feed,
    name,
    part,
    pays,
    place,
    reasons,
    sold,
)

SOUP = SaleLine(product="soup-1", category="soup", quantity=2, price_minor=85_00)
CITY_PAYS: dict[str, Any] = {
    "account": "",
    "tender": Tender.EMERGENCY,
    "supervisor": SUPERVISOR,
    "cashier": CASHIER,
    "postings": (pays(f"emergency:{SITE}", 85_00), sold(85_00)),
}
TWO: dict[str, Any] = {
    "lines": (SOUP,),
    "total_minor": 170_00,
    "postings": (pays(ANNS, 170_00), sold(170_00)),
}


@pytest.fixture
def core(tmp_path: Path) -> Iterator[CityCore]:
    core = make_core(tmp_path)
    yield core
    core.store.close()


@pytest.fixture
def till(core: CityCore) -> Sham:
    till = Sham(core, "till-1")
    till.opened()
    return till


def back(
    till: Sham,
    sale: int,
    pieces: int,
    *,
    payee: str = ANNS,
    tender: Tender = Tender.ACCOUNT,
    **changes: Any,
) -> None:
    """So many soups of that sale."""
    amount = pieces * 85_00
    fields: dict[str, Any] = {
        "sale_device": "till-1",
        "sale_epoch": EPOCH,
        "sale": sale,
        "account": ANNS,
        "postings": (pays(payee, -amount), sold(-amount)),
        "business_date": TODAY,
        "why": "spoilt",
        "cashier": CASHIER,
        "supervisor": SUPERVISOR,
        "lines": (SOUP.of(pieces),),
        "tenders": (part(tender, amount),),
    }
    till.add(Refund, **fields | changes)
    till.send_all()


# ------------------------------------------------------------------------- a hungry child


def test_the_city_pays_for_a_child_without_an_account_once(core: CityCore, till: Sham) -> None:
    till.sale(1, **CITY_PAYS)
    nobody = till.sale(1, **CITY_PAYS, cardholder="", credential="")
    till.send_all()
    till.send_all()
    assert reasons(core) == [] and balance(core) == OPENING
    assert (place(core, "emergency"), place(core, "sales")) == (-170_00, 170_00)
    assert core.ledger.spent(ANNS) == ("", 0, 0), "no limit of the family's"
    assert feed(core) == [f"{name(core)} ate Борщ; the school pays"]
    assert isinstance(decode_fact(nobody), SaleFact)
    till.closed_out()
    till.send_all()
    assert alarms(core) == {}, "the count agrees"


@pytest.mark.parametrize(
    "spoiled",
    [
        {"account": ANNS},  # Whose account is known pays itself.
        {"tender": Tender.CASH},
        {"tender": Tender.ACCOUNT},
        {"postings": (pays(f"emergency:{SITE}", 84_00), sold(84_00))},
        {"postings": (pays(f"emergency:{SITE}x", 85_00), sold(85_00))},
        {"postings": (pays(f"emergency:{SITE}", -85_00), sold(-85_00))},
    ],
)
def test_nothing_else_is_paid_by_it(core: CityCore, till: Sham, spoiled: dict[str, Any]) -> None:
    till.sale(1, **{**CITY_PAYS, **spoiled})
    till.send_all()
    assert reasons(core) == ["bad_amounts"] and place(core, "emergency") == 0


def test_such_a_meal_is_undone_like_any_other(core: CityCore, till: Sham) -> None:
    till.sale(1, **CITY_PAYS)
    turned = (pays(f"emergency:{SITE}", -85_00), sold(-85_00))
    void = {"sale_epoch": EPOCH, "sale": 2, "account": "", "postings": turned}
    till.add(Void, **void, business_date=TODAY, why="cashier", cashier=CASHIER)
    till.sale(1, **CITY_PAYS)
    till.send_all()
    assert place(core, "emergency") == -85_00
    own: dict[str, Any] = {"payee": f"emergency:{SITE}", "tender": Tender.EMERGENCY, "account": ""}
    back(till, 4, 1, **own)
    back(till, 4, 1, **own)
    assert reasons(core) == ["refunded_already"] and place(core, "emergency") == 0


# ----------------------------------------------------------------------------- by line


def test_no_more_pieces_than_were_sold(core: CityCore, till: Sham) -> None:
    till.sale(1, **TWO)
    back(till, 2, 1)
    assert balance(core) == OPENING - 85_00
    back(till, 2, 2)
    assert reasons(core) == ["refunded_already"], "one is left"
    back(till, 2, 1)
    back(till, 2, 1)
    assert reasons(core) == ["refunded_already"] * 2 and balance(core) == OPENING
    assert feed(core)[1:] == [f"{name(core)}: refunded, 85.00 ₽ returned"] * 2
    till.closed_out()
    till.send_all()
    assert alarms(core) == {}
    wrong = {"refunded_minor_by_tender": {"account": 85_00}}
    till.closed_out(2, **wrong)
    till.send_all()
    assert "refunded by account: says 8500, held 42500" in alarms(core)["close_out"]


def test_two_tills_give_back_one_piece_once(core: CityCore, till: Sham) -> None:
    other = Sham(core, "till-2")
    other.opened()
    till.sale(1)
    till.send_all()
    back(other, 2, 1)
    back(till, 2, 1)
    assert reasons(core) == ["refunded_already"] and balance(core) == OPENING


def test_pieces_by_right_are_not_money(core: CityCore, till: Sham) -> None:
    mixed: dict[str, Any] = {
        "lines": (SOUP,),
        "total_minor": 170_00,
        "tender": Tender.ENTITLEMENT,
        "tenders": (part(Tender.ENTITLEMENT, 85_00), part(Tender.ACCOUNT, 85_00)),
        "postings": (pays(f"meals:{SITE}", 85_00), pays(ANNS, 85_00), sold(170_00)),
        "meals": (BREAKFAST,),
        "by_right": (SOUP.of(1),),
    }
    till.sale(1, **mixed)
    back(till, 2, 2)
    assert reasons(core) == ["refunded_already"]
    back(till, 2, 1)
    assert balance(core) == OPENING and place(core, "meals") == -85_00
    back(till, 2, 1)
    assert reasons(core) == ["refunded_already"] * 2
    free = {**mixed, "tenders": (), "postings": (pays(f"meals:{SITE}", 170_00), sold(170_00))}
    till.sale(1, **{**free, "by_right": (), "meals": ()})
    back(till, 6, 1)
    back(till, 6, 1, payee=f"meals:{SITE}")
    assert reasons(core)[2:] == ["refunded_already", "bad_amounts"]
    assert place(core, "meals") == -255_00


@pytest.mark.parametrize(
    "by_right",
    [
        (SOUP.of(2),),
        (SOUP.of(3),),
        (SaleLine(product="soup-2", category="soup", quantity=1, price_minor=85_00),),
        (SOUP.of(1), SOUP.of(1)),
    ],
)
def test_what_is_said_to_be_by_right_must_be_so(
    core: CityCore, till: Sham, by_right: tuple[SaleLine, ...]
) -> None:
    till.sale(
        1,
        lines=(SOUP,),
        total_minor=170_00,
        tender=Tender.ENTITLEMENT,
        tenders=(part(Tender.ENTITLEMENT, 85_00), part(Tender.ACCOUNT, 85_00)),
        postings=(pays(f"meals:{SITE}", 85_00), pays(ANNS, 85_00), sold(170_00)),
        by_right=by_right,
    )
    till.send_all()
    assert reasons(core) == ["bad_amounts"]


def test_coins_go_back_as_coins_and_what_was_ordered_to_the_account(
    core: CityCore, till: Sham
) -> None:
    coins: dict[str, Any] = {"tender": Tender.CASH, "account": "", "cardholder": ""}
    till.sale(1, **coins, postings=(pays(f"cash:{SITE}", 85_00), sold(85_00)))
    ordered = (pays(f"preorders:{SITE}", 85_00), sold(85_00))
    till.sale(1, tender=Tender.PREORDER, postings=ordered)
    till.send_all()
    cash: dict[str, Any] = {"payee": f"cash:{SITE}", "tender": Tender.CASH}
    back(till, 2, 1, **cash, account="")
    assert place(core, "cash") == 0 and reasons(core) == []
    back(till, 3, 1, **cash)
    assert reasons(core) == ["refunded_already"], "it was not paid in coins"
    back(till, 3, 1, tender=Tender.PREORDER)
    assert reasons(core) == ["refunded_already"] * 2, "no order was charged for it"
    assert balance(core) == OPENING and place(core, "losses") == -85_00
    assert place(core, "suspense") == 0


def test_an_order_handed_out_twice_is_given_back_once(tmp_path: Path) -> None:
    """It was charged once. What the other till handed out is our loss, and nobody's to have."""
    town = Town(tmp_path)
    preorder = charged(town)
    for till in town.tills:
        collect(till, preorder)
    assert (town.balance(), town.place("losses")) == (OPENING - 85_00, -85_00)
    for till in reversed(town.tills):
        sale = len(till.facts)
        back(till, sale, 1, sale_device=till.device, tender=Tender.PREORDER)
    assert reasons(town.core) == ["refunded_already"]
    assert (town.balance(), town.place("losses")) == (OPENING, -85_00)
    town.core.store.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"lines": (SOUP,)},  # Two soups, the price of one.
        {"tenders": ()},
        {"tenders": (part(Tender.CASH, 85_00),)},  # Coins that no posting knows.
        {"tenders": (part(Tender.ACCOUNT, 86_00), part(Tender.ACCOUNT, -1_00))},
        {"lines": (SOUP.of(-1), SOUP)},
        {"postings": (pays(f"funding:{SITE}", -85_00), sold(-85_00))},
    ],
)
def test_lines_tenders_and_postings_say_the_same(
    core: CityCore, till: Sham, changes: dict[str, Any]
) -> None:
    till.sale(1, **TWO)
    back(till, 2, 1, **changes)
    assert reasons(core) == ["bad_amounts"] and balance(core) == OPENING - 170_00


def test_a_line_that_was_not_sold_gives_nothing(core: CityCore, till: Sham) -> None:
    till.sale(1, **TWO)
    for line in (
        SaleLine(product="soup-2", category="soup", quantity=1, price_minor=85_00),
        SaleLine(product="soup-1", category="soup", quantity=85, price_minor=1_00),
        SaleLine(product="soup-1", category="soup", quantity=1, price_minor=85_000, grams=100),
    ):
        back(till, 2, 1, lines=(line,))
    assert reasons(core) == ["refunded_already"] * 3 and balance(core) == OPENING - 170_00
