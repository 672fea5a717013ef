"""Goal: the city spends in two steps only, so it never spends what a till has not heard of; meals
chosen beforehand and transfers end as they must whatever tills did meanwhile.

Method: examples over the core with sham tills that confirm by `base_seen` or keep silent; then a
small world, exhausted: two tills that each may sell before or after they see the earmark, and the
bound of the ledger's page is checked in every order.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from edge.messages import (
    BaseSeen,
    Posting,
    PreorderRow,
    PreorderUncollected,
    PreorderUse,
    SaleLine,
    StreamOpened,
    TenderPart,
    VersionMark,
    Void,
)
from edge.model import Station, Tender
from hil.city.desk import Desk, Refused
from hil.city.keydesk import KeyDesk
from hil.city.parents import ParentDesk
from tests.city.sham import EPOCH, NOON_MS, SITE, TODAY, Picture, Sham, make_core

ANN, ANNS, BOB, BOBS = f"{SITE}c0001", f"{SITE}a0001", f"{SITE}c0002", f"{SITE}a0002"
OPENING = 1_500_00
SOUP_MINOR = 85_00
DAY_MS = 24 * 60 * 60 * 1000


class Town:
    """A city with tills, its desks, and what it told the families."""

    def __init__(self, folder: Path, tills: int = 2) -> None:
        self.core = make_core(folder)
        self.desk = Desk(self.core, ())
        self.parents = ParentDesk(self.core, self.desk)
        self.tills = [Sham(self.core, f"till-{n}") for n in range(1, tills + 1)]
        for till in self.tills:
            till.opened()
            till.send_all()

    def order(self, **changes: Any) -> dict[str, Any]:
        request = {"cardholder": ANN, "date": TODAY, "slot": "lunch", "lines": [["soup-1", 1]]}
        return self.parents.order_meal({**request, **changes}, NOON_MS).answer

    def state(self, preorder: str) -> tuple[str, bool]:
        found = self.parents.meals({"cardholder": ANN})
        return next((one["state"], one["charged"]) for one in found if one["preorder"] == preorder)

    @property
    def version(self) -> VersionMark:
        state = self.core.publisher.state(f"{SITE}/money")
        assert state is not None
        return state.version

    def confirm(self, till: Sham, version: VersionMark | None = None) -> None:
        till.add(BaseSeen, money=version or self.version)
        till.send_all()

    def balance(self, account: str = ANNS) -> int:
        assert set(self.core.ledger.sums().values()) <= {0}
        return sum(self.core.ledger.balances(account).values())

    def place(self, word: str) -> int:
        return self.balance(f"{word}:{SITE}")

    def row(self, preorder: str) -> PreorderRow | None:
        picture = Picture(self.tills[0], f"{SITE}/money")
        picture.fetch()
        key = f"{ANN}\0{preorder}"
        return picture.body(19, key, PreorderRow) if (19, key.encode()) in picture.rows else None

    def feed(self) -> list[str]:
        return [kind for (kind,) in self.core.store.rows("SELECT kind FROM feed ORDER BY id")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def town(folder: Path) -> Town:
    return Town(folder)


# ---------------------------------------------------------------------------------- two steps


def test_an_earmark_shows_at_once_and_is_posted_when_every_till_has_seen_it(town: Town) -> None:
    preorder = town.order()["preorder"]
    assert town.state(preorder) == ("pending", False)
    assert town.balance() == OPENING - SOUP_MINOR and town.place("earmarks") == SOUP_MINOR
    row = town.row(preorder)
    assert row is not None and not row.charged
    town.confirm(town.tills[0])
    assert town.state(preorder) == ("pending", False), "one till is dark"
    town.confirm(town.tills[1])
    assert town.state(preorder) == ("charged", True)
    assert town.place("earmarks") == 0 and town.place("preorders") == SOUP_MINOR
    assert town.balance() == OPENING - SOUP_MINOR
    row = town.row(preorder)
    assert row is not None and row.charged and row.lines == (("soup-1", 1, SOUP_MINOR),)
    assert town.feed() == ["pending", "debited"]


def test_a_base_of_before_confirms_nothing(town: Town) -> None:
    before = town.version
    preorder = town.order()["preorder"]
    for till in town.tills:
        town.confirm(till, before)
    assert town.state(preorder) == ("pending", False)
    for till in town.tills:
        town.confirm(till)
    assert town.state(preorder) == ("charged", True)


def test_what_a_till_confirmed_in_a_life_that_is_over_does_not_count(town: Town) -> None:
    one, other = town.tills
    preorder = town.order()["preorder"]
    town.confirm(one)
    one.epoch, one.facts = "00000000000000e2", []
    one.opened()
    one.send_all()
    town.confirm(other)
    assert town.state(preorder) == ("pending", False), "it may decide by an older base again"
    town.confirm(one)
    assert town.state(preorder) == ("charged", True)


def test_the_tail_of_a_till_that_leaves_an_epoch_confirms_nothing(town: Town) -> None:
    one, other = town.tills
    preorder = town.order()["preorder"]
    town.confirm(other)
    late = Sham.__new__(Sham)
    late.__dict__.update(one.__dict__)
    late.facts = list(one.facts)
    one.epoch, one.facts = "00000000000000e2", []
    one.opened()
    one.send_all()
    late.epoch = EPOCH
    town.confirm(late)
    assert town.state(preorder) == ("pending", False)


def test_the_beginning_of_an_older_life_that_comes_late_undoes_no_confirmation(
    town: Town,
) -> None:
    one, other = town.tills
    one.epoch, one.facts = "00000000000000e3", []
    fact = {"why": "lost_sync", "software": "sham", "station": Station.TILL}
    one.add(StreamOpened, after_epoch="00000000000000e2", **fact)
    one.send_all()
    preorder = town.order()["preorder"]
    town.confirm(one)
    one.epoch, one.facts = "00000000000000e2", []
    one.add(StreamOpened, after_epoch=EPOCH, **fact)
    one.send_all()
    town.confirm(other)
    assert town.state(preorder) == ("charged", True)


def test_a_till_that_left_the_roster_is_not_waited_for(town: Town) -> None:
    preorder = town.order()["preorder"]
    town.confirm(town.tills[0])
    KeyDesk(town.core, town.desk, town.core.keys.folder).revoke({"device": "till-2"}, NOON_MS)
    town.core.tick(NOON_MS + 1)
    assert town.state(preorder) == ("charged", True)


def test_an_entrance_has_nothing_to_confirm(folder: Path) -> None:
    town = Town(folder, tills=1)
    Sham(town.core, "gate-1", Station.ENTRANCE)
    preorder = town.order()["preorder"]
    town.confirm(town.tills[0])
    assert town.state(preorder) == ("charged", True)


def test_money_that_was_spent_meanwhile_releases_the_earmark(town: Town) -> None:
    one, other = town.tills
    preorder = town.order()["preorder"]
    one.record(one.make_sale(1, OPENING - 10_00))  # By a base that did not show it.
    town.confirm(one)
    town.confirm(other)
    assert town.state(preorder) == ("ordered", False)
    assert town.balance() == 10_00 and town.place("earmarks") == town.place("preorders") == 0
    assert town.feed()[-1] == "released"


def test_of_two_earmarks_the_older_is_served_first(town: Town) -> None:
    first = town.order()["preorder"]
    second = town.order(date="2025-09-10")["preorder"]
    town.tills[0].record(town.tills[0].make_sale(1, OPENING - SOUP_MINOR))
    for till in town.tills:
        town.confirm(till)
    assert (town.state(first), town.state(second)) == (("charged", True), ("ordered", False))
    assert town.balance() == 0


def test_a_transfer_moves_between_children_of_one_guardian(town: Town) -> None:
    with town.core.store.transaction():
        town.core.registry.set_ward(f"{SITE}c5001", BOB, "мама", barred=False)
    before = town.balance(BOBS)
    request = {"from": ANN, "to": BOB, "amount_minor": 100_00, "reference": "t1"}
    assert town.parents.transfer(request, NOON_MS).answer["earmarked"]
    assert not town.parents.transfer(request, NOON_MS).answer["earmarked"], "it happens once"
    assert (town.balance(), town.balance(BOBS)) == (OPENING - 100_00, before)
    for till in town.tills:
        town.confirm(till)
    assert (town.balance(), town.balance(BOBS)) == (OPENING - 100_00, before + 100_00)
    states = [(one["kind"], one["state"]) for one in town.parents.debits({})]
    assert states == [("transfer", "posted")]


def test_no_transfer_out_of_the_family_and_none_of_what_is_not_there(town: Town) -> None:
    request = {"from": ANN, "to": f"{SITE}c0009", "amount_minor": 1}
    with pytest.raises(Refused, match="one guardian"):
        town.parents.transfer(request, NOON_MS)
    with town.core.store.transaction():
        town.core.registry.set_ward(f"{SITE}c5001", BOB, "", barred=True)
    with pytest.raises(Refused, match="one guardian"):
        town.parents.transfer({**request, "to": BOB}, NOON_MS)
    with town.core.store.transaction():
        town.core.registry.set_ward(f"{SITE}c5001", BOB, "", barred=False)
    with pytest.raises(Refused, match="left"):
        town.parents.transfer({**request, "to": BOB, "amount_minor": OPENING + 1}, NOON_MS)


def test_a_new_list_epoch_forgets_no_earmark(town: Town) -> None:
    preorder = town.order()["preorder"]
    KeyDesk(town.core, town.desk, town.core.keys.folder).raise_list_epoch(NOON_MS)
    for till in town.tills:
        town.confirm(till)
    assert town.version.list_epoch > 1 and town.state(preorder) == ("charged", True)


# ----------------------------------------------------------------------- meals chosen beforehand


def collect(
    till: Sham, preorder: str, payer: str = f"preorders:{SITE}", minor: int = SOUP_MINOR,
    **changes: Any,
) -> int:  # fmt: skip
    """The till hands it out, paid as its own base says."""
    line = SaleLine(product="soup-1", category="soup", quantity=1, price_minor=minor)
    fields = {
        "tender": Tender.PREORDER,
        "tenders": (TenderPart(tender=Tender.PREORDER, amount_minor=minor),),
        "lines": (line,),
        "postings": (
            Posting(account=payer, purse="main", amount_minor=-minor),
            Posting(account=f"sales:{SITE}", purse="main", amount_minor=minor),
        ),
        "preorders": (PreorderUse(preorder=preorder),),
    }
    till.sale(1, minor, **{**fields, **changes})
    till.send_all()
    return len(till.facts)


def charged(town: Town) -> str:
    preorder = str(town.order()["preorder"])
    for till in town.tills:
        town.confirm(till)
    assert town.state(preorder) == ("charged", True)
    return preorder


def test_a_charged_meal_is_collected_without_touching_the_account(town: Town) -> None:
    preorder = charged(town)
    collect(town.tills[0], preorder)
    assert town.balance() == OPENING - SOUP_MINOR
    assert town.place("preorders") == 0 and town.place("sales") == SOUP_MINOR
    row = town.row(preorder)
    assert row is not None and row.collected


def test_one_that_nobody_charged_is_paid_when_it_is_collected(town: Town) -> None:
    preorder = town.order(charge=False)["preorder"]
    assert town.state(preorder) == ("ordered", False) and town.balance() == OPENING
    collect(town.tills[0], preorder, payer=ANNS)
    assert town.balance() == OPENING - SOUP_MINOR and town.place("sales") == SOUP_MINOR
    assert town.state(preorder) == ("collected", False)


def test_a_till_of_an_old_base_charged_it_again_and_that_is_given_back(town: Town) -> None:
    preorder = charged(town)
    collect(town.tills[0], preorder, payer=ANNS)
    assert town.balance() == OPENING - SOUP_MINOR and town.place("preorders") == 0


def test_one_collected_while_it_is_pending_releases_the_earmark(town: Town) -> None:
    preorder = town.order()["preorder"]
    collect(town.tills[0], preorder, payer=ANNS)
    assert town.balance() == OPENING - SOUP_MINOR and town.place("earmarks") == 0
    for till in town.tills:
        town.confirm(till)
    assert town.balance() == OPENING - SOUP_MINOR and town.place("preorders") == 0


def test_something_cheaper_in_its_place_gives_the_rest_back(town: Town) -> None:
    preorder = charged(town)
    use = PreorderUse(preorder=preorder, substituted=True, why="нет в наличии")
    collect(town.tills[0], preorder, minor=60_00, preorders=(use,))
    assert town.balance() == OPENING - 60_00 and town.place("preorders") == 0


def test_one_that_two_tills_handed_out_is_no_familys_loss(town: Town) -> None:
    preorder = charged(town)
    collect(town.tills[0], preorder)
    collect(town.tills[1], preorder)
    assert town.balance() == OPENING - SOUP_MINOR
    assert town.place("preorders") == 0 and town.place("losses") == -SOUP_MINOR
    alarms = [what for (what,) in town.core.store.rows("SELECT what FROM alarm")]
    assert "duplicate_preorder" in alarms


def test_what_nobody_collected_stays_with_the_kitchen_until_it_was_collected_after_all(
    town: Town,
) -> None:
    preorder = charged(town)
    late = {"preorder": preorder, "cardholder": ANN, "slot": "lunch", "business_date": TODAY}
    for _ in range(2):
        town.tills[0].add(PreorderUncollected, **late)
    town.tills[0].send_all()
    assert town.place("preorders") == 0 and town.place("sales") == SOUP_MINOR
    assert town.state(preorder) == ("uncollected", True) and town.row(preorder) is None
    assert town.feed()[-1] == "uncollected"
    collect(town.tills[1], preorder)
    assert town.place("preorders") == 0 and town.place("sales") == SOUP_MINOR
    assert town.balance() == OPENING - SOUP_MINOR


def test_one_that_was_cancelled_meanwhile_was_eaten_all_the_same(town: Town) -> None:
    preorder = charged(town)
    town.parents.cancel_meal({"preorder": preorder}, NOON_MS)
    assert town.balance() == OPENING and town.place("preorders") == 0
    assert town.row(preorder) is None
    collect(town.tills[0], preorder)
    assert town.balance() == OPENING - SOUP_MINOR and town.place("preorders") == 0
    with pytest.raises(Refused, match="collected"):
        town.parents.cancel_meal({"preorder": preorder}, NOON_MS)


def test_a_pending_one_is_cancelled_without_a_trace(town: Town) -> None:
    preorder = town.order()["preorder"]
    town.parents.cancel_meal({"preorder": preorder}, NOON_MS)
    assert town.balance() == OPENING and town.place("earmarks") == 0


@pytest.mark.parametrize("payer", [f"preorders:{SITE}", ANNS])
def test_a_voided_collection_is_to_be_collected_again(town: Town, payer: str) -> None:
    preorder = charged(town)
    till = town.tills[0]
    number = collect(till, preorder, payer=payer)
    back = (
        Posting(account=payer, purse="main", amount_minor=SOUP_MINOR),
        Posting(account=f"sales:{SITE}", purse="main", amount_minor=-SOUP_MINOR),
    )
    till.add(
        Void,
        sale_epoch=EPOCH,
        sale=number,
        account=ANNS,
        postings=back,
        business_date=TODAY,
        why="unlit",
    )
    till.send_all()
    assert town.state(preorder) == ("charged", True)
    assert town.balance() == OPENING - SOUP_MINOR and town.place("preorders") == SOUP_MINOR


def test_a_pre_order_nobody_knows_is_told_of_and_costs_no_family(town: Town) -> None:
    collect(town.tills[0], "unheard-of")
    assert town.core.store.rows("SELECT reason FROM suspense") == [("unknown_preorder",)]
    assert town.balance() == OPENING and town.place("losses") == -SOUP_MINOR


@pytest.mark.parametrize(
    "changes",
    [
        {"date": "2025-09-08"},
        {"date": "yesterday"},
        {"date": "2026-09-09"},
        {"slot": "midnight"},
        {"lines": []},
        {"lines": [["caviar", 1]]},
        {"lines": [["soup-1", 0]]},
        {"lines": [["soup-1", 1000]]},
        {"charge": "yes"},
        {"cardholder": f"{SITE}c5001"},
    ],
)
def test_an_order_that_cannot_be_is_refused_in_words(town: Town, changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        town.order(**changes)
    assert caught.value.remedy and town.balance() == OPENING


def test_meals_and_orders_of_yesterday_leave_the_list(town: Town) -> None:
    preorder = town.order(charge=False)["preorder"]
    assert town.row(preorder) is not None
    town.core.tick(NOON_MS + DAY_MS)
    assert town.row(preorder) is None


# ------------------------------------------------------------------------- a small world, whole


def test_in_every_order_the_account_is_never_further_below_zero_than_the_cap(
    folder: Path,
) -> None:
    """Credit for one soup, a soup ordered, two tills that may each sell one cap without being
    heard. Each till sells, sees the base and tells, in every order of the six steps that keeps to
    each till's own; whoever has seen the earmark sells nothing more."""
    cap, credit = 30_00, SOUP_MINOR
    deepest = 0
    for steps in sorted(set(permutations("aaabbb"))):
        town = Town(folder)
        town.tills[0].record(town.tills[0].make_sale(1, OPENING - credit))
        town.tills[0].send_all()
        preorder = town.order()["preorder"]
        shown, done = town.version, {"a": 0, "b": 0}
        for step in steps:
            till = town.tills["ab".index(step)]
            done[step] += 1
            if done[step] == 1:
                till.record(till.make_sale(1, cap))
            elif done[step] == 2:
                till.add(BaseSeen, money=shown)
            else:
                till.send_all()
                deepest = min(deepest, town.balance())
        posted = town.state(preorder) == ("charged", True)
        assert not posted, "both tills spent of it, so the order is not covered"
        assert town.balance() == credit - 2 * cap
        town.core.store.close()
    assert deepest == -cap, "(N - 1) x CAP, as without the city's own spending"
