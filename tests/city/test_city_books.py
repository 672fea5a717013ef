"""Goal: the books sum to zero whatever kinds of facts tills tell, in whatever order and however
spoiled, and a till's own day ends with nothing held, earmarked or lost that should not be.

Method: hypothesis draws facts of every kind of a till, from small sets so that they meet: sales of
all tenders, holds, voids, refunds, meals, pre-orders, counts, base_seen; two tills, one of
them sometimes dark; orders and cancellations of a family between. After each step the sums are made
again from the postings.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import (
    BaseSeen,
    Hold,
    HoldReleased,
    MealServed,
    MealUse,
    Posting,
    PreorderUncollected,
    PreorderUse,
    Refund,
    SaleFact,
    SaleLine,
    TenderPart,
    Void,
    decode_fact,
)
from edge.model import Tender
from hil.city.desk import Desk, Refused
from hil.city.intake import CityCore
from hil.city.parents import ParentDesk
from tests.city.sham import EPOCH, MARK, NOON_MS, SITE, TODAY, Sham, make_core
from tests.city.till_books import part

STEPS_MAX = 12
MEALS = (MealUse(entitlement="primary-breakfast", slot="breakfast"),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


class Draw:
    """Facts of one till, drawn so that they may fit together and mostly do not."""

    def __init__(self, till: Sham, data: st.DataObject, preorders: list[str]) -> None:
        self.till = till
        self.data = data
        self.preorders = preorders

    def pick(self, *values: object) -> object:
        return self.data.draw(st.sampled_from(values))

    def sequence(self) -> int:
        return self.data.draw(st.integers(1, 6))

    def fact(self) -> None:
        getattr(self, str(self.pick("sale", "sale", "hold", "release", "void", "refund", "meal",
                                    "uncollected", "seen", "close")))()  # fmt: skip

    def sale(self) -> None:
        number = int(str(self.pick(1, 1, 4, 99)))
        account = f"{SITE}a{number:04d}"
        payers = {
            Tender.ACCOUNT: account,
            Tender.EMERGENCY: str(self.pick(account, f"emergency:{SITE}")),
            Tender.CASH: f"cash:{SITE}",
            Tender.ENTITLEMENT: f"meals:{SITE}",
            Tender.PREORDER: str(self.pick(f"preorders:{SITE}", account)),
        }
        tenders = self.data.draw(st.lists(st.sampled_from(Tender), min_size=1, max_size=3))
        amounts = [int(str(self.pick(0, 10_00, 85_00))) for _ in tenders]
        total = sum(amounts) - int(str(self.pick(0, 0, 0, 1)))
        postings = [
            Posting(account=payers[tender], purse="main", amount_minor=-amount)
            for tender, amount in zip(tenders, amounts, strict=True)
        ]
        postings.append(Posting(account=f"sales:{SITE}", purse="main", amount_minor=sum(amounts)))
        self.till.sale(
            number,
            total,
            account=str(self.pick(account, account, "")),
            tender=tenders[0],
            tenders=tuple(
                TenderPart(tender=t, amount_minor=n) for t, n in zip(tenders, amounts, strict=True)
            ),
            postings=tuple(postings),
            meals=MEALS if self.pick(True, False) else (),
            preorders=self.uses(),
            hold=self.pick(None, self.sequence()),
        )

    def uses(self) -> tuple[PreorderUse, ...]:
        found = self.data.draw(
            st.lists(st.sampled_from([*self.preorders, "unheard-of"]), max_size=2)
        )
        return tuple(PreorderUse(preorder=preorder) for preorder in found)

    def hold(self) -> None:
        amount = int(str(self.pick(0, 350_00, -1)))
        self.till.add(
            Hold,
            account=f"{SITE}a0001",
            cardholder=f"{SITE}c0001",
            postings=self.pair(-amount),
            business_date=str(self.pick(TODAY, "x")),
            money=MARK,
        )

    def release(self) -> None:
        self.till.add(
            HoldReleased,
            hold_epoch=EPOCH,
            hold=self.sequence(),
            account=f"{SITE}a0001",
            why="cap",
        )

    def pair(self, amount_minor: int) -> tuple[Posting, Posting]:
        return (
            Posting(account=f"{SITE}a0001", purse="main", amount_minor=amount_minor),
            Posting(account=f"sales:{SITE}", purse="main", amount_minor=-amount_minor),
        )

    def void(self) -> None:
        sequence = self.sequence()
        sold = [data for data in self.till.facts if b'"kind":"sale"' in data]
        postings = self.pair(85_00)
        if sold and self.pick(True, False):
            fact = decode_fact(sold[-1])
            assert isinstance(fact, SaleFact)
            sequence = fact.sequence
            postings = tuple(  # type: ignore[assignment]
                Posting(account=p.account, purse=p.purse, amount_minor=-p.amount_minor)
                for p in fact.postings
            )
        self.till.add(
            Void,
            sale_epoch=EPOCH,
            sale=sequence,
            account=f"{SITE}a0001",
            postings=postings,
            business_date=TODAY,
            why="cashier",
        )

    def refund(self) -> None:
        """By amount, or by line: of one of this till's own sales, all that it says it sold."""
        amount, sale = int(str(self.pick(5_00, 85_00, -5))), self.sequence()
        account = f"{SITE}a0001"
        lines: tuple[SaleLine, ...] = ()
        tenders: tuple[TenderPart, ...] = ()
        sold = [data for data in self.till.facts if b'"kind":"sale"' in data]
        if sold and self.pick(True, False):
            fact = decode_fact(sold[-1])
            assert isinstance(fact, SaleFact)
            account, lines, amount = fact.account, fact.lines, fact.total_minor
            sale, tenders = fact.sequence, (part(fact.tender, amount),)
        payee = account or str(self.pick(f"emergency:{SITE}", f"cash:{SITE}"))
        self.till.add(
            Refund,
            sale_device=str(self.pick(self.till.device, "till-1", "till-2")),
            sale_epoch=EPOCH,
            sale=sale,
            account=account,
            postings=(
                Posting(account=payee, purse="main", amount_minor=amount),
                Posting(account=f"sales:{SITE}", purse="main", amount_minor=-amount),
            ),
            business_date=TODAY,
            why="spoilt",
            cashier="c",
            supervisor="s",
            lines=lines,
            tenders=tenders,
        )

    def meal(self) -> None:
        self.till.add(
            MealServed,
            cardholder=str(self.pick(f"{SITE}c0001", "nobody")),
            meal=MEALS[0],
            business_date=TODAY,
            group="g",
            cashier="c",
            caveats=(),
        )

    def uncollected(self) -> None:
        self.till.add(
            PreorderUncollected,
            preorder=str(self.pick(*self.preorders, "unheard-of")),
            cardholder=f"{SITE}c0001",
            slot="lunch",
            business_date=TODAY,
        )

    def seen(self) -> None:
        state = self.till.core.publisher.state(f"{SITE}/money")
        assert state is not None
        self.till.add(BaseSeen, money=state.version)

    def close(self) -> None:
        self.till.closed_out()


def check_books(core: CityCore) -> None:
    assert set(core.ledger.sums().values()) <= {0}  # Also compares balances with postings.
    for entry, purse, total in core.store.rows(
        "SELECT entry, purse, SUM(amount_minor) FROM posting GROUP BY entry, purse"
    ):
        assert total == 0, (entry, purse)
    places = core.ledger.place_totals(SITE)
    open_holds = core.store.rows("SELECT postings FROM hold WHERE state = 'open'")
    assert (places["holds"].get("main", 0) > 0) <= bool(open_holds)
    earmarked = core.store.one(
        "SELECT COALESCE(SUM(amount_minor), 0) FROM debit WHERE state = 'earmarked'"
    )
    assert earmarked is not None and places["earmarks"].get("main", 0) == earmarked[0]
    charged = core.store.one(
        "SELECT COALESCE(SUM(amount_minor), 0) FROM preorder WHERE state = 'charged'"
    )
    assert charged is not None and places["preorders"].get("main", 0) == charged[0]
    faults = core.store.rows("SELECT text FROM alarm WHERE what = 'city_fault'")
    assert faults == [], "our own mistake met a fact"


@pytest.mark.slow
@settings(max_examples=60, deadline=None, report_multiple_bugs=False)
@given(data=st.data())
def test_the_books_hold_whatever_tills_tell(folder: Path, data: st.DataObject) -> None:
    core = make_core(folder)
    tills = [Sham(core, "till-1"), Sham(core, "till-2")]
    parents = ParentDesk(core, Desk(core, ()))
    preorders: list[str] = []
    for till in tills:
        till.opened()
    for _ in range(data.draw(st.integers(1, STEPS_MAX))):
        what = data.draw(st.sampled_from(("fact", "fact", "fact", "order", "cancel", "settle")))
        if what == "order":
            request = {
                "cardholder": f"{SITE}c0001",
                "date": TODAY,
                "slot": "lunch",
                "lines": [["soup-1", 1]],
                "charge": data.draw(st.booleans()),
            }
            try:
                preorders.append(parents.order_meal(request, NOON_MS).answer["preorder"])
            except Refused as refused:
                assert refused.status == 409
        elif what == "cancel" and preorders:
            chosen = data.draw(st.sampled_from(preorders))
            try:
                parents.cancel_meal({"preorder": chosen}, NOON_MS)
            except Refused as refused:
                assert refused.status == 409
        elif what == "settle":
            core.tick(NOON_MS)
        else:
            till = data.draw(st.sampled_from(tills))
            Draw(till, data, preorders).fact()
            if data.draw(st.booleans()):  # Else it is dark for now.
                assert till.send_all().up_to == len(till.facts)
        check_books(core)
    for till in tills:
        assert till.send_all().up_to == len(till.facts)
    check_books(core)
    entries = core.store.rows("SELECT COUNT(*) FROM entry")
    for till in tills:
        till.send_all()
    assert core.store.rows("SELECT COUNT(*) FROM entry") == entries
    core.store.close()
