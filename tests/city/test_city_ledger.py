"""Goal: the city's books sum to zero, whatever arrives, and their kept sums are the postings' sums.

Method: hypothesis draws sales of every kind, sound and spoiled, top-ups and replays; after each
step the sums are recomputed from the postings. The week's spend is checked by example around
Monday, late facts included.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import Posting, SaleLine
from edge.model import Tender
from hil.city.accounts import sums_to_zero
from hil.city.desk import Desk, Refused
from hil.city.intake import CityCore
from hil.city.ledger import Ledger
from hil.city.store import Store
from tests.city.sham import NOON_MS, SITE, Sham, make_core

AMOUNTS = st.integers(-3, 3) | st.integers(-(10**12), 10**12)
ACCOUNTS = st.sampled_from((f"{SITE}a0001", f"{SITE}a0002", f"sales:{SITE}", "nobody"))
POSTINGS = st.lists(
    st.builds(
        Posting, account=ACCOUNTS, purse=st.sampled_from(("main", "gold")), amount_minor=AMOUNTS
    ),
    max_size=4,
).map(tuple)
LINES = st.lists(
    st.builds(
        SaleLine,
        product=st.sampled_from(("soup-1", "caviar")),
        category=st.just("soup"),
        quantity=st.integers(-1, 3),
        price_minor=AMOUNTS,
    ),
    max_size=3,
).map(tuple)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


def check_books(core: CityCore) -> None:
    assert set(core.ledger.sums().values()) <= {0}  # Also compares balances with postings.
    for entry, purse, total in core.store.rows(
        "SELECT entry, purse, SUM(amount_minor) FROM posting GROUP BY entry, purse"
    ):
        assert total == 0, (entry, purse)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_books_sum_to_zero_whatever_tills_send(folder: Path, data: st.DataObject) -> None:
    core = make_core(folder)
    till, desk = Sham(core, "till-1"), Desk(core, ())
    till.opened()
    for _ in range(data.draw(st.integers(1, 8))):
        number = data.draw(st.integers(1, 30))
        what = data.draw(st.sampled_from(("sale", "odd", "tender", "top_up")))
        if what == "sale":
            till.sale(number, data.draw(st.integers(0, 10**9)))
        elif what == "tender":
            tender = data.draw(st.sampled_from(Tender))
            till.record(till.make_sale(number, tender=tender, postings=data.draw(POSTINGS)))
        elif what == "odd":
            odd = till.make_sale(
                number,
                lines=data.draw(LINES),
                total_minor=data.draw(AMOUNTS),
                postings=data.draw(POSTINGS),
                business_date=data.draw(st.sampled_from(("2025-09-09", "0001-01-01", "x"))),
            )
            till.record(odd)
        else:
            amount = data.draw(AMOUNTS)
            try:
                desk.top_up({"cardholder": f"{SITE}c0001", "amount_minor": amount}, NOON_MS)
            except Refused:
                assert not 0 < amount <= 10**9
        assert till.send_all().up_to == len(till.facts)
        check_books(core)
    posted = core.store.rows("SELECT COUNT(*) FROM entry WHERE kind IN ('sale', 'suspense')")
    till.send_all()
    check_books(core)
    assert posted == core.store.rows(
        "SELECT COUNT(*) FROM entry WHERE kind IN ('sale', 'suspense')"
    )
    core.store.close()


def test_an_entry_that_does_not_sum_to_zero_is_never_made() -> None:
    store = Store(":memory:")
    ledger = Ledger(store)
    crossed = (
        Posting(account="a", purse="meals", amount_minor=-5),
        Posting(account="b", purse="buffet", amount_minor=5),
    )
    assert not sums_to_zero(crossed)
    for postings in ((), crossed, crossed[:1]):
        with pytest.raises(AssertionError), store.transaction():
            ledger.post("sale", "r", postings, now_ms=0)
    assert store.rows("SELECT * FROM entry") == [] and ledger.sums() == {}
    store.close()


def test_a_balance_that_left_its_postings_is_noticed() -> None:
    store = Store(":memory:")
    ledger = Ledger(store)
    pair = (
        Posting(account="a", purse="meals", amount_minor=-5),
        Posting(account="b", purse="meals", amount_minor=5),
    )
    with store.transaction():
        assert ledger.post("sale", "r", pair, now_ms=0)
        assert not ledger.post("sale", "r", pair, now_ms=0)  # An entry happens once.
        store.execute("UPDATE balance SET amount_minor = 0 WHERE account = 'a'")
    with pytest.raises(AssertionError, match="not their postings' sum"):
        ledger.sums()
    store.close()


def test_a_top_up_with_a_reference_happens_once(folder: Path) -> None:
    core = make_core(folder)
    desk = Desk(core, ())
    request = {"cardholder": f"{SITE}c0004", "amount_minor": 100_00, "reference": "bank-77"}
    first, second = desk.top_up(request, NOON_MS), desk.top_up(request, NOON_MS)
    assert (first.answer["posted"], second.answer["posted"]) == (True, False)
    assert second.answer["balance_minor_by_purse"] == {"main": 103_00}
    core.store.close()


def test_spend_is_counted_by_business_date_and_by_the_week_from_monday(folder: Path) -> None:
    core = make_core(folder)
    till = Sham(core, "till-1")
    till.opened()
    account = f"{SITE}a0001"
    assert core.ledger.spent(account) == ("", 0, 0)

    def buy(day: str, amount_minor: int) -> tuple[str, int, int]:
        till.record(till.make_sale(1, amount_minor, business_date=day))
        till.send(len(till.facts), len(till.facts))
        return core.ledger.spent(account)

    till.send_all()
    assert buy("2025-09-07", 7_00) == ("2025-09-07", 7_00, 7_00)  # Sunday of the week before.
    assert buy("2025-09-08", 1_00) == ("2025-09-08", 1_00, 1_00)
    assert buy("2025-09-09", 2_00) == ("2025-09-09", 2_00, 3_00)
    assert buy("2025-09-08", 4_00) == ("2025-09-09", 2_00, 7_00)  # Late, of this week.
    assert buy("2025-09-06", 9_00) == ("2025-09-09", 2_00, 7_00)  # Late, of the last one.
    core.store.close()
