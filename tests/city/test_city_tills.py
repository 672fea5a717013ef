"""Goal: every fact of a till is posted as it must be: split tenders, holds, voids, refunds, free
meals, emergency meals and close-outs, and what cannot be posted lies aside with one reason.

Method: a sham till tells its facts to the city in memory; balances of everybody and of the site's
own accounts are read after each. For each kind there is a way to spoil it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.messages import (
    AccountRow,
    Hold,
    HoldReleased,
    Refund,
    SaleLine,
    Void,
)
from edge.model import Station, Tender
from hil.city.desk import Desk
from hil.city.intake import CityCore
from hil.city.keydesk import KeyDesk
from tests.city.sham import EPOCH, MARK, NOON_MS, SITE, TODAY, Picture, Sham, make_core
from tests.city.till_books import (
    ANN,
    ANNS,
    BREAKFAST,
    CASHIER,
    OPENING,
    SUPERVISOR,
    balance,
    feed,
    name,
    part,
    pays,
    place,
    reasons,
    sold,
    void_of,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def core(folder: Path) -> CityCore:
    return make_core(folder)


@pytest.fixture
def till(core: CityCore) -> Sham:
    till = Sham(core, "till-1")
    till.opened()
    return till


def account_row(core: CityCore, till: Sham) -> AccountRow:
    picture = Picture(till, f"{SITE}/money")
    picture.fetch()
    return picture.body(16, ANNS, AccountRow)


# ------------------------------------------------------------------------------ split tenders

SPLIT: dict[str, Any] = {
    "total_minor": 85_00,
    "tenders": (
        part(Tender.ENTITLEMENT, 40_00),
        part(Tender.ACCOUNT, 30_00),
        part(Tender.CASH, 15_00),
    ),
    "tender": Tender.ENTITLEMENT,
    "postings": (
        pays(f"meals:{SITE}", 40_00),
        pays(ANNS, 30_00),
        pays(f"cash:{SITE}", 15_00),
        sold(85_00),
    ),
    "meals": (BREAKFAST,),
}


def test_each_tender_of_a_split_basket_is_posted_where_it_belongs(
    core: CityCore, till: Sham
) -> None:
    till.sale(1, **SPLIT)
    till.send_all()
    assert reasons(core) == []
    assert balance(core) == OPENING - 30_00
    assert [place(core, word) for word in ("sales", "cash", "meals")] == [85_00, -15_00, -40_00]
    assert feed(core) == [f"{name(core)} ate Борщ; 30.00 ₽ from the account"]
    assert core.ledger.spent(ANNS) == (TODAY, 30_00, 30_00)


def test_the_feed_has_the_same_words_for_free_chosen_and_cash(core: CityCore, till: Sham) -> None:
    for payer in ("meals", "cash", "preorders"):
        tender = {"meals": Tender.ENTITLEMENT, "cash": Tender.CASH}.get(payer, Tender.PREORDER)
        till.sale(1, tender=tender, postings=(pays(f"{payer}:{SITE}", 85_00), sold(85_00)))
    till.send_all()
    assert feed(core) == [f"{name(core)} ate Борщ"] * 3


def test_the_unknown_account_of_a_split_basket_is_set_aside_and_the_rest_stays(
    core: CityCore, till: Sham
) -> None:
    postings = (pays("a9", 30_00), *(p for p in SPLIT["postings"] if p.account != ANNS))
    till.sale(1, **{**SPLIT, "account": "a9", "postings": postings})
    till.send_all()
    assert reasons(core) == ["unknown_account"]
    words = ("sales", "cash", "meals", "suspense")
    assert [place(core, word) for word in words] == [85_00, -15_00, -40_00, -30_00]


@pytest.mark.parametrize(
    "spoiled",
    [
        {"tenders": (part(Tender.ACCOUNT, 84_99),)},
        {"tenders": (part(Tender.ACCOUNT, 86_00), part(Tender.CASH, -1_00))},
        {"tenders": (part(Tender.ENTITLEMENT, 85_00),)},
        {"postings": (pays(ANNS, 45_00), pays(f"meals:{SITE}", 40_00), sold(85_00))},
        {"postings": (pays(f"funding:{SITE}", 85_00), sold(85_00))},
        {"postings": (pays(f"sales:{SITE}x", 85_00), sold(85_00))},
        {
            "tenders": (part(Tender.ACCOUNT, 85_00),),
            "postings": (pays(f"preorders:{SITE}", 85_00), sold(85_00)),
        },
    ],
)
def test_a_split_that_does_not_add_up_is_put_aside(
    core: CityCore, till: Sham, spoiled: dict[str, Any]
) -> None:
    till.sale(1, **{**SPLIT, **spoiled})
    till.send_all()
    assert reasons(core) == ["bad_amounts"] and balance(core) == OPENING


def test_cash_without_a_card_needs_nobody(core: CityCore, till: Sham) -> None:
    cash = (pays(f"cash:{SITE}", 85_00), sold(85_00))
    till.sale(1, account="", cardholder="", credential="", tender=Tender.CASH, postings=cash)
    till.send_all()
    assert reasons(core) == [] and feed(core) == []
    assert place(core, "cash") == -85_00


def test_an_emergency_meal_is_a_debt_below_zero(core: CityCore, till: Sham) -> None:
    poor = f"{SITE}a0004"
    till.sale(4, tender=Tender.EMERGENCY, supervisor=SUPERVISOR)
    till.send_all()
    assert balance(core, poor) == 3_00 - 85_00 and reasons(core) == []
    assert feed(core)[0].endswith("ate Борщ; 85.00 ₽ is owed")


def test_a_weighed_line_costs_its_weight(core: CityCore, till: Sham) -> None:
    line = SaleLine(product="soup-1", category="soup", quantity=1, price_minor=450_50, grams=110)
    till.sale(1, total_minor=49_56, lines=(line,), postings=(pays(ANNS, 49_56), sold(49_56)))
    till.send_all()
    assert reasons(core) == [] and balance(core) == OPENING - 49_56
    assert feed(core)[0].endswith("bought Борщ 110 g 49.56 ₽")


def test_pieces_are_counted_by_category_for_the_day(core: CityCore, till: Sham) -> None:
    till.sale(1)
    till.sale(1)
    till.sale(1, tender=Tender.CASH, postings=(pays(f"cash:{SITE}", 85_00), sold(85_00)))
    till.send_all()
    row = account_row(core, till)
    assert (row.spent_date, row.items_day) == (TODAY, {"soup": 2})
    till.add(Void, **void_of(till, 2))
    till.send_all()
    assert account_row(core, till).items_day == {"soup": 1}


# ------------------------------------------------------------------------------------- holds


def hold(till: Sham, amount_minor: int = 350_00, **changes: Any) -> int:
    fields = {
        "account": ANNS,
        "cardholder": ANN,
        "postings": (pays(ANNS, amount_minor), sold(amount_minor)),
        "business_date": TODAY,
        "money": MARK,
    }
    till.add(Hold, **{**fields, **changes})
    return len(till.facts)


def test_a_hold_counts_as_spent_until_it_is_sold(core: CityCore, till: Sham) -> None:
    number = hold(till)
    till.send_all()
    assert balance(core) == OPENING - 350_00 and place(core, "holds") == 350_00
    assert place(core, "sales") == 0
    row = account_row(core, till)
    assert row.balance_minor_by_purse == {"main": OPENING - 350_00}
    assert row.spent_day_minor == 350_00
    till.sale(1, 350_00, hold=number)
    till.send_all()
    assert balance(core) == OPENING - 350_00 and place(core, "holds") == 0
    assert place(core, "sales") == 350_00 and core.ledger.spent(ANNS) == (TODAY, 350_00, 350_00)


def test_a_released_hold_is_the_accounts_again_and_only_once(core: CityCore, till: Sham) -> None:
    number = hold(till)
    for _ in range(2):
        till.add(HoldReleased, hold_epoch=EPOCH, hold=number, account=ANNS, why="cap")
    till.send_all()
    assert balance(core) == OPENING and place(core, "holds") == 0
    assert core.ledger.spent(ANNS)[1] == 0


def test_the_city_releases_the_holds_of_a_till_off_the_roster(core: CityCore, till: Sham) -> None:
    number = hold(till)
    till.send_all()
    KeyDesk(core, Desk(core, ()), core.keys.folder).revoke({"device": "till-1"}, NOON_MS)
    assert balance(core) == OPENING
    states = core.store.rows("SELECT sequence, state FROM hold")
    assert states == [(number, "released")]


def test_a_sale_after_its_hold_was_released_is_still_a_sale(core: CityCore, till: Sham) -> None:
    number = hold(till)
    till.add(HoldReleased, hold_epoch=EPOCH, hold=number, account=ANNS, why="restart")
    till.sale(1, 350_00, hold=number)
    till.send_all()
    assert balance(core) == OPENING - 350_00 and place(core, "holds") == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"business_date": "x"}, "bad_date"),
        ({"postings": (pays(ANNS, 1),)}, "bad_amounts"),
        ({"postings": (pays(ANNS, -5), sold(-5))}, "bad_amounts"),
        ({"account": "a9", "postings": (pays("a9", 5), sold(5))}, "unknown_account"),
        ({"cardholder": f"{SITE}c0002"}, "unknown_account"),
    ],
)
def test_a_spoiled_hold_holds_nothing(
    core: CityCore, till: Sham, changes: dict[str, Any], reason: str
) -> None:
    hold(till, **changes)
    till.send_all()
    assert reasons(core) == [reason] and place(core, "holds") == 0


# -------------------------------------------------------------------------- voids and refunds


def test_a_void_gives_everything_back_once(core: CityCore, till: Sham) -> None:
    till.sale(1)
    till.add(Void, **void_of(till, 2))
    till.send_all()
    assert balance(core) == OPENING and place(core, "sales") == 0 and reasons(core) == []
    assert core.ledger.spent(ANNS) == (TODAY, 0, 0)
    assert feed(core)[-1] == f"{name(core)}: voided, 85.00 ₽ returned"
    till.add(Void, **void_of(till, 2))
    till.send_all()
    assert balance(core) == OPENING and reasons(core) == ["voided_already"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sale": 7}, "unknown_sale"),
        ({"sale_epoch": "0" * 16}, "unknown_sale"),
        ({"postings": (pays(ANNS, -90_00), sold(-90_00))}, "bad_amounts"),
        ({"postings": ()}, "bad_amounts"),
    ],
)
def test_a_void_of_something_else_voids_nothing(
    core: CityCore, till: Sham, changes: dict[str, Any], reason: str
) -> None:
    till.sale(1)
    till.add(Void, **{**void_of(till, 2), **changes})
    till.send_all()
    assert balance(core) == OPENING - 85_00 and reasons(core) == [reason]


def test_a_void_of_a_sale_in_suspense_empties_the_suspense(core: CityCore, till: Sham) -> None:
    postings = (pays("a9", 85_00), sold(85_00))
    till.sale(1, account="a9", postings=postings)
    back = (pays("a9", -85_00), sold(-85_00))
    till.add(Void, **void_of(till, 2, account="a9", postings=back))
    till.send_all()
    assert place(core, "suspense") == 0 and place(core, "sales") == 0


def refund_of(sale: int, amount_minor: int, **changes: Any) -> dict[str, Any]:
    return {
        "sale_device": "till-1",
        "sale_epoch": EPOCH,
        "sale": sale,
        "account": ANNS,
        "postings": (pays(ANNS, -amount_minor), sold(-amount_minor)),
        "business_date": TODAY,
        "why": "spoilt",
        "cashier": CASHIER,
        "supervisor": SUPERVISOR,
        **changes,
    }


def test_a_refund_credits_at_most_what_was_paid(core: CityCore, till: Sham) -> None:
    till.sale(1)
    till.add(Refund, **refund_of(2, 30_00))
    till.add(Refund, **refund_of(2, 55_00))
    till.add(Refund, **refund_of(2, 1))
    till.send_all()
    assert balance(core) == OPENING and reasons(core) == ["refunded_already"]
    assert feed(core)[1:] == [
        f"{name(core)}: refunded, 30.00 ₽ returned",
        f"{name(core)}: refunded, 55.00 ₽ returned",
    ]
    till.add(Void, **void_of(till, 2))
    till.send_all()
    assert balance(core) == OPENING and reasons(core)[-1] == "refunded_already"


def test_a_refund_at_another_till_waits_for_its_sale(core: CityCore, till: Sham) -> None:
    other = Sham(core, "till-2")
    other.opened()
    other.add(Refund, **refund_of(2, 85_00))
    assert other.send_all().up_to == 2
    assert reasons(core) == ["unknown_sale"] and balance(core) == OPENING
    till.sale(1)
    till.send_all()
    assert reasons(core) == [] and balance(core) == OPENING and place(core, "sales") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"account": f"{SITE}a0002"},
        {"postings": (pays(ANNS, 10), sold(10))},
        {"postings": (pays(ANNS, -10),)},
        {"postings": (pays(ANNS, -10), pays(f"funding:{SITE}", 10))},
    ],
)
def test_a_spoiled_refund_gives_nothing(
    core: CityCore, till: Sham, changes: dict[str, Any]
) -> None:
    till.sale(1)
    till.add(Refund, **refund_of(2, 10_00, **changes))
    till.send_all()
    assert reasons(core) == ["bad_amounts"] and balance(core) == OPENING - 85_00


# ------------------------------------------------------------------------------- who may say it


def test_these_facts_count_from_a_till_alone(core: CityCore) -> None:
    gate = Sham(core, "gate-1", Station.ENTRANCE)
    gate.opened()
    hold(gate)
    gate.closed_out()
    gate.send_all()
    assert reasons(core) == ["not_a_till"] * 2 and balance(core) == OPENING
