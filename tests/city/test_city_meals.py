"""Goal: a free meal is used once whatever tills served, at no family's cost; a till's close-out is
compared with its facts.

Method: two sham tills tell the city in memory, in both orders; an honest close-out is spoiled in
each of its parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.messages import (
    MealServed,
    MealUsedRow,
    SaleRefused,
    Void,
)
from edge.model import ClockQuality, PurchaseReason, Tender
from hil.city.intake import CityCore
from tests.city.sham import EPOCH, NOON_MS, SITE, TODAY, Picture, Sham, make_core
from tests.city.till_books import (
    ANN,
    BREAKFAST,
    CASHIER,
    OPENING,
    alarms,
    balance,
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


# -------------------------------------------------------------------------------- free meals


def free_meal(till: Sham, wall_ms: int = NOON_MS, **changes: Any) -> None:
    free = {
        "tender": Tender.ENTITLEMENT,
        "postings": (pays(f"meals:{SITE}", 85_00), sold(85_00)),
        "meals": (BREAKFAST,),
        "wall_ms": wall_ms,
    }
    till.sale(1, **{**free, **changes})


def kept(core: CityCore) -> list[tuple[str, int]]:
    return core.store.rows("SELECT device, sequence FROM meal_use WHERE duplicate = 0")


def test_two_tills_served_and_the_earliest_is_kept_whichever_comes_first(
    core: CityCore, till: Sham
) -> None:
    other = Sham(core, "till-2")
    other.opened()
    free_meal(other, NOON_MS)
    free_meal(till, NOON_MS - 60_000)
    other.send_all()
    assert kept(core) == [("till-2", 2)] and alarms(core) == {}
    till.send_all()
    assert kept(core) == [("till-1", 2)]
    assert place(core, "meals") == -85_00 and place(core, "losses") == -85_00
    assert balance(core) == OPENING, "a family is never billed for it"
    assert "duplicate_entitlement" in alarms(core)
    picture = Picture(till, f"{SITE}/money")
    picture.fetch()
    key = "\0".join((ANN, TODAY, "breakfast", "primary-breakfast"))
    assert picture.body(18, key, MealUsedRow) == MealUsedRow("till-1", EPOCH, 2)


def test_a_clock_nobody_trusts_is_never_the_earlier(core: CityCore, till: Sham) -> None:
    other = Sham(core, "till-2")
    other.opened()
    free_meal(other, 0, clock=ClockQuality.UNKNOWN)
    other.send_all()
    free_meal(till)
    till.send_all()
    assert kept(core) == [("till-1", 2)]


def test_a_voided_meal_is_to_be_had_again_and_the_duplicate_becomes_the_meal(
    core: CityCore, till: Sham
) -> None:
    other = Sham(core, "till-2")
    other.opened()
    free_meal(till, NOON_MS - 1)
    free_meal(other, NOON_MS)
    till.send_all()
    other.send_all()
    assert place(core, "losses") == -85_00
    back = (pays(f"meals:{SITE}", -85_00), sold(-85_00))
    till.add(Void, **void_of(till, 2, postings=back))
    till.send_all()
    assert kept(core) == [("till-2", 2)]
    assert place(core, "losses") == 0 and place(core, "meals") == -85_00


def test_meals_served_from_a_list_are_keyed_alike(core: CityCore, till: Sham) -> None:
    served = {
        "cardholder": ANN,
        "meal": BREAKFAST,
        "business_date": TODAY,
        "group": f"{SITE}g01",
        "cashier": CASHIER,
        "caveats": (),
    }
    till.add(MealServed, **served)
    till.add(MealServed, **served)
    till.add(MealServed, **{**served, "cardholder": "nobody"})
    till.add(MealServed, **{**served, "business_date": "x"})
    till.send_all()
    assert kept(core) == [("till-1", 2)]
    assert "duplicate_entitlement" in alarms(core)
    assert reasons(core) == ["unknown_cardholder", "bad_date"]


# --------------------------------------------------------------------------------- day's end


def test_an_honest_close_out_raises_no_alarm(core: CityCore, till: Sham) -> None:
    till.sale(1)
    till.sale(2, tender=Tender.CASH, postings=(pays(f"cash:{SITE}", 85_00), sold(85_00)))
    till.sale(1)
    till.add(Void, **void_of(till, 4))
    refused: dict[str, Any] = {
        "credential": "k",
        "cardholder": ANN,
        "lines": (),
        "total_minor": 0,
        "caveats": (),
        "business_date": TODAY,
        "people": None,
        "money": None,
        "menu": None,
    }
    till.add(SaleRefused, **refused, reason=PurchaseReason.MEAL_USED)
    till.add(SaleRefused, **refused, reason=PurchaseReason.FUNDS)
    till.closed_out(duplicates=1)
    till.send_all()
    assert alarms(core) == {}
    assert core.store.rows("SELECT number, difference FROM close_out") == [(1, "")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total_minor_by_tender": {"account": 84_00}}, "tender account: says 8400, held 8500"),
        ({"total_minor_by_tender": {"account": 85_00, "cash": 1}}, "tender cash: says 1, held 0"),
        ({"count_by_kind": {"stream_opened": 1, "sale": 2}}, "kind sale: says 2, held 1"),
        ({"count_by_kind": {"stream_opened": 1}}, "kind sale: says 0, held 1"),
        ({"voids_by_cashier": {CASHIER: 1}}, f"voids of {CASHIER}: says 1, held 0"),
        ({"overrides_by_cashier": {CASHIER: 1}}, f"overrides of {CASHIER}: says 1, held 0"),
        ({"duplicates": 1}, "count of duplicates: says 1, held 0"),
    ],
)
def test_a_close_out_that_differs_is_an_alarm(
    core: CityCore, till: Sham, changes: dict[str, Any], words: str
) -> None:
    till.sale(1)
    till.closed_out(**changes)
    till.send_all()
    assert words in alarms(core)["close_out"]
