"""Goal: a meal by right is served once for its key, whoever pays the rest; orders are collected,
substituted or told of; a list serves a group; a supervisor's word feeds a hungry child; the day's
end equals the journal.

Method: the real agent of a till on real files, through the requests of the cashier's page; facts
are read back from the journal, the other till is what sync would store of it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge.messages import (
    CloseOut,
    GroupServed,
    MealServed,
    MealUse,
    PreorderRow,
    PreorderUncollected,
    PreorderUse,
    ProductRow,
    SaleFact,
    SaleRefused,
    TenderPart,
    Void,
)
from edge.model import Caveat, PurchaseReason, Tender
from edge.offline_cache import till_books
from edge.pos.closeout import equals_journal
from hil.bench.station import DEVICE, SITE
from tests.support import facts
from tests.support.tills import (
    BREAKFAST,
    LUNCH,
    OTHER,
    PEER_EPOCH,
    Lists,
    entitlement,
    open_till,
    site,
)

RIGHT = {(3, "e1"): entitlement()}
DAY = "2026-03-08"  # The bench's date.


def order(*, charged: bool = True, slot: str = LUNCH) -> PreorderRow:
    return PreorderRow(
        business_date=DAY,
        slot=slot,
        lines=(("soup", 1, 8_000), ("compote", 1, 2_500)),
        charged=charged,
    )


def test_a_right_pays_for_a_piece_of_each_category_and_the_account_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(rights=RIGHT)) as till:
        till.hear(OTHER)
        assert till.date == DAY
        screen = till.sell(3, ("soup", 1), ("cutlet", 1), ("compote", 1), ("bar", 1))
        assert (screen["state"], screen["notes"]) == ("sold", [])
        sale = till.last()
        assert isinstance(sale, SaleFact)
        assert sale.meals == (MealUse(entitlement="e1", slot=LUNCH),)
        assert sale.tenders == (
            TenderPart(tender=Tender.ENTITLEMENT, amount_minor=14_500, purse="hot"),
            TenderPart(tender=Tender.ACCOUNT, amount_minor=7_000, purse="buffet"),
            TenderPart(tender=Tender.ACCOUNT, amount_minor=8_500, purse="hot"),
        )
        paid = {(p.account, p.purse): p.amount_minor for p in sale.postings if p.amount_minor < 0}
        assert paid == {
            ("a00000003", "buffet"): -7_000,
            ("a00000003", "hot"): -8_500,
            (f"meals:{SITE}", "hot"): -14_500,
        }
        assert sum(p.amount_minor for p in sale.postings) == 0
        # The second time the account pays for all of it; by right alone it is refused.
        till.sell(3, ("cutlet", 1))
        second = till.last()
        assert isinstance(second, SaleFact)
        assert (second.tender, second.meals) == (Tender.ACCOUNT, ())
        screen = till.sell(3, ("cutlet", 1), tender={"tenders": ["entitlement"]})
        assert screen["reason"] == "purchase.meal_used"


def test_more_than_a_right_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_till(tmp_path, monkeypatch, Lists(rights=RIGHT)) as till:
        till.hear(OTHER)
        screen = till.sell(3, ("soup", 2), tender={"tenders": ["entitlement"]})
        assert screen["reason"] == "purchase.item_limit"
        screen = till.sell(4, ("soup", 1), tender={"tenders": ["entitlement"]})
        assert screen["reason"] == "purchase.funds", "nothing is due to this one at all"


def test_a_meal_served_elsewhere_is_not_served_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(rights=RIGHT)) as till:
        till.hear(OTHER)
        header = facts.stamp(1, "", device=OTHER, epoch=PEER_EPOCH)
        served = MealServed(
            **header,
            cardholder="c00000003",
            meal=MealUse(entitlement="e1", slot=LUNCH),
            business_date=DAY,
            group="g1",
            cashier="",
            caveats=(),
        )
        till.take(OTHER, served)
        screen = till.sell(3, ("soup", 1), tender={"tenders": ["entitlement"]})
        assert screen["reason"] == "purchase.meal_used"


@pytest.mark.parametrize("owner", [DEVICE, OTHER])
def test_a_till_that_is_alone_serves_strangers_unconfirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    rights = {(3, name): entitlement(owner_till=owner) for name in ("e1", "e2")}
    with open_till(tmp_path, monkeypatch, Lists(rights=rights)) as till:
        screen = till.sell(3, ("soup", 1), tender={"tenders": ["entitlement"]})
        assert screen["state"] == "sold"
        marked = "caveat.unconfirmed" in {note["key"] for note in screen["notes"]}
        assert marked is (owner == OTHER)
        sale = till.last()
        assert isinstance(sale, SaleFact) and (Caveat.UNCONFIRMED in sale.caveats) is marked
        screen = till.sell(3, ("cutlet", 1), tender={"tenders": ["entitlement"]})
        expected = "sold" if owner == DEVICE else "refused"
        assert screen["state"] == expected, "a stranger gets one meal a slot"


def test_tills_that_the_city_names_live_count_as_heard_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The school's own network is gone, the city is there: nobody is a stranger."""
    rights = {(n, "e1"): entitlement(owner_till=OTHER) for n in (3, 4, 5)}
    with open_till(tmp_path, monkeypatch, Lists(rights=rights)) as till:
        tenders = {"tenders": ["entitlement"]}

        def caveats(number: int) -> set[Caveat]:
            assert till.sell(number, ("soup", 1), tender=tenders)["state"] == "sold"
            sale = till.last()
            assert isinstance(sale, SaleFact)
            return set(sale.caveats)

        assert caveats(3) == {Caveat.ALONE, Caveat.UNCONFIRMED}
        till.named_live(OTHER)
        assert caveats(4) == set()
        till.bench.step(60_000)
        assert caveats(5) == {Caveat.ALONE, Caveat.UNCONFIRMED}


def test_the_customers_side_does_not_tell_who_eats_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(rights=RIGHT)) as till:
        till.hear(OTHER)
        free, paid = till.sell(3, ("soup", 1)), till.sell(4, ("soup", 1))
        first, second = till.facts()
        assert isinstance(first, SaleFact) and isinstance(second, SaleFact)
        assert (first.tender, second.tender) == (Tender.ENTITLEMENT, Tender.ACCOUNT)
        own = {"last_sale"}
        assert {k: v for k, v in free.items() if k not in own} == {
            k: v for k, v in paid.items() if k not in own
        }


def test_issue_only_takes_no_money(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = Lists(rights=RIGHT, site=site(issue_only_tills=(DEVICE,)))
    with open_till(tmp_path, monkeypatch, lists) as till:
        till.hear(OTHER)
        assert till.sell(3, ("soup", 1))["state"] == "sold"
        assert till.sell(4, ("soup", 1))["state"] == "refused"
        assert not till.ask("cash")["ok"]
        assert till.bench.screen()["tenders"] == ["preorder", "entitlement"]


# ------------------------------------------------------------------------------ pre-orders


def test_what_was_ordered_is_collected_by_the_card_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(orders={(3, "o1"): order()})) as till:
        till.bench.step(5_000)
        assert till.ask("charge", collect=True)["ok"]
        till.bench.step(10)
        till.bench.tap(3)
        assert till.bench.screen()["state"] == "sold"
        sale = till.last()
        assert isinstance(sale, SaleFact) and sale.tender is Tender.PREORDER
        assert sale.preorders == (PreorderUse(preorder="o1"),)
        assert sale.total_minor == 10_500 == sum(line.amount_minor for line in sale.lines)
        assert {p.account for p in sale.postings} == {f"preorders:{SITE}", f"sales:{SITE}"}
        till.bench.step(5_000)
        till.ask("charge", collect=True)
        till.bench.step(10)
        till.bench.tap(3)
        assert till.bench.screen()["reason"] == "notice.nothing_due"


def test_what_ran_out_is_substituted_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(orders={(3, "o1"): order()})) as till:
        assert not till.ask("substitute", given={"soup": "cutlet"}, why="a whim")["ok"]
        assert not till.ask("substitute", given={"soup": "caviar"}, why="ran out")["ok"]
        wish = {"given": {"soup": "cutlet"}, "why": "ran out"}
        screen = till.sell(3, ("cutlet", 1), ("compote", 1), substitute=wish)
        assert screen["state"] == "sold"
        sale = till.last()
        assert isinstance(sale, SaleFact)
        assert sale.preorders == (PreorderUse(preorder="o1", substituted=True, why="ran out"),)
        assert sale.total_minor == 10_500, "at the price that was ordered"


def test_an_order_that_is_not_charged_yet_goes_on_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(orders={(3, "o1"): order(charged=False)})) as till:
        till.sell(3, ("soup", 1), ("compote", 1))
        sale = till.last()
        assert isinstance(sale, SaleFact) and sale.tender is Tender.ACCOUNT
        assert sale.preorders == (PreorderUse(preorder="o1"),)
        assert -sum(p.amount_minor for p in sale.postings if p.account == "a00000003") == 10_500


def test_what_nobody_came_for_is_told_once_the_slot_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = {(n, f"o{n}"): order(slot=BREAKFAST) for n in range(8)}
    with open_till(tmp_path, monkeypatch, Lists(orders=orders, tills=(DEVICE,))) as till:
        till.bench.step(2_000)
        told = till.facts()
        assert all(isinstance(fact, PreorderUncollected) for fact in told) and len(told) == 8
        till.bench.step(60_000)
        assert len(till.facts()) == 8


# ------------------------------------------------------------------------------ by list


def test_a_group_is_served_at_once_but_for_who_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = {(n, "e1"): entitlement() for n in range(70)}
    lists = Lists(people=80, rights=rights, group=tuple(range(72)))
    with open_till(tmp_path, monkeypatch, lists) as till:
        till.hear(OTHER)
        assert till.ask("group_list")["groups"] == [{"group": "g1", "size": 72}]
        listed = till.ask("group_list", group="g1")
        assert sum(one["due"] for one in listed["members"]) == 70
        answer = till.ask("serve_group", group="g1", absent=["c00000001", "c00000002"])
        assert answer == {"ok": True, "served": 68, "slot": LUNCH}
        made = till.facts()
        assert sum(isinstance(fact, MealServed) for fact in made) == 68
        served = made[-1]
        assert isinstance(served, GroupServed) and served.served == 68
        assert served.absent == ("c00000001", "c00000002") and served.cashier == "cook"
        assert not till.ask("serve_group", group="g1", absent=["c00000001", "c00000002"])["ok"]
        assert till.ask("serve_group", group="g1")["served"] == 2, "they came after all"
        listed = till.ask("group_list", group="g1")
        assert not any(one["due"] for one in listed["members"])
        # A card shows it too.
        screen = till.sell(5, ("soup", 1), tender={"tenders": ["entitlement"]})
        assert screen["reason"] == "purchase.meal_used"


def test_a_group_is_served_from_who_is_present(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = {(n, "e1"): entitlement() for n in range(6)}
    lists = Lists(rights=rights, group=tuple(range(6)))
    with open_till(tmp_path, monkeypatch, lists) as till:
        desk = till.bench.agent.till_desk
        assert desk is not None
        till.hear(OTHER)
        moment = till.bench.clock.moment()
        here = frozenset({"c00000001", "c00000004"})
        assert desk.serve_group("g1", LUNCH, frozenset(), moment, present=here) == 2
        assert not till.ask("serve_group", group="g1", from_presence=True)["ok"], "nobody came in"


# --------------------------------------------------------------------- a supervisor's word


def test_an_emergency_meal_is_a_recorded_debt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = Lists(balance_minor={"hot": 100})
    with open_till(tmp_path, monkeypatch, lists) as till:
        assert till.sell(3, ("soup", 1))["reason"] == "purchase.funds"
        till.bench.step(5_000)
        till.ask("basket", lines=[["soup", 1]])
        assert not till.ask("emergency")["ok"], "without a supervisor"
        till.staff.super_ = "boss"
        assert till.ask("emergency")["ok"] and till.staff.super_ == ""
        till.bench.step(10)
        till.bench.tap(3)
        sale = till.last()
        assert isinstance(sale, SaleFact)
        assert (sale.tender, sale.supervisor, sale.cashier) == (Tender.EMERGENCY, "boss", "cook")
        assert sale.postings[0].account == "a00000003" and sale.postings[0].amount_minor == -8_500
        assert till.sell(3, ("soup", 1))["reason"] == "purchase.funds", "one meal, one word"
        till.staff.super_ = "boss"
        till.ask("basket", lines=[["cutlet", 3]])
        till.ask("emergency", cardholder="c00000005")
        assert till.bench.screen()["reason"] == "purchase.funds", "dearer than an emergency"
        till.staff.super_ = "boss"
        till.bench.step(5_000)
        till.ask("basket", lines=[["cutlet", 1]])
        assert till.ask("emergency", cardholder="c00000005")["ok"]
        debt = till.last()
        assert isinstance(debt, SaleFact) and debt.cardholder == "c00000005"
        assert debt.credential == "" and debt.tier == 0


def test_allergens_fail_closed_and_are_answered_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(allergens=("nuts",))) as till:
        screen = till.sell(3, ("soup", 1), ("bar", 1))
        assert screen["reason"] == "purchase.allergen"
        assert screen["offer"] == "Без «bar»: 85.00 ₽"
        till.bench.step(5_000)
        till.staff.super_ = "boss"
        assert till.ask("override_allergens")["ok"]
        till.bench.step(10)
        till.bench.tap(3)
        sale = till.last()
        assert isinstance(sale, SaleFact)
        assert (sale.overridden, sale.supervisor) == (PurchaseReason.ALLERGEN, "boss")


# ------------------------------------------------------------------ weights, limits, dates


def test_what_is_sold_by_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    salad = ProductRow(
        name="salad",
        category="salad",
        price_minor=45_050,
        allergens=(),
        allergens_checked=True,
        purse="hot",
        unit="kg",
    )
    with open_till(tmp_path, monkeypatch, Lists(products={"salad": salad})) as till:
        assert not till.ask("basket", lines=[["salad", 1]])["ok"]
        assert not till.ask("basket", lines=[["soup", 1, 200]])["ok"]
        assert till.ask("basket", lines=[["salad", 1, 110], ["soup", 1]])["total_minor"] == 13_456
        till.bench.step(10)
        till.bench.tap(3)
        sale = till.last()
        assert isinstance(sale, SaleFact) and sale.total_minor == 13_456
        line = sale.lines[0]
        assert (line.quantity, line.grams, line.price_minor, line.amount_minor) == (
            1,
            110,
            45_050,
            4_956,
        )


def test_pieces_a_day_are_limited_here_and_at_other_tills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = {"item_limits": {"chocolate": 2}, "items_day": {"chocolate": 1}, "spent_date": DAY}
    with open_till(tmp_path, monkeypatch, Lists(account=account)) as till:
        till.hear(OTHER)
        assert till.sell(3, ("bar", 2))["reason"] == "purchase.item_limit"
        assert till.sell(3, ("bar", 1))["state"] == "sold"
        screen = till.sell(3, ("bar", 1), ("soup", 1))
        assert (screen["reason"], screen["without"]) == ("purchase.item_limit", ["bar"])
        header = facts.stamp(1, "", device=OTHER, epoch=PEER_EPOCH)
        sold = facts.sale(header, account="a00000004", business_date=DAY)
        bar = replace_line(sold, "bar", "chocolate")
        till.take(OTHER, bar)
        assert till.sell(4, ("bar", 1))["reason"] == "purchase.item_limit"


def replace_line(sale: SaleFact, product: str, category: str) -> SaleFact:
    line = msgspec.structs.replace(sale.lines[0], product=product, category=category)
    return msgspec.structs.replace(sale, lines=(line,))


def test_date_and_slot_by_the_cashiers_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge.offline_cache.store import FileKind, Writer

    with open_till(tmp_path, monkeypatch, Lists(rights=RIGHT)) as till:
        assert not till.ask("give_date", date=DAY)["ok"], "the clock is sure"
        till.bench.clock.anchor = None
        till.bench.clock.floor_ms = 0
        writer = Writer(till.bench.agent.parts.settings.sync_path, FileKind.SYNC)
        with writer.transaction() as db:
            db.execute("DELETE FROM anchor")
        writer.close()
        till.bench.step(2_000)
        till.ask("basket", lines=[["soup", 1]])
        assert till.bench.screen()["date_needed"]
        assert not till.ask("give_date", date="yesterday")["ok"]
        assert not till.ask("give_date", date=DAY, slot="tea")["ok"]
        assert till.ask("give_date", date=DAY, slot=LUNCH)["ok"]
        assert till.sell(3, ("soup", 1))["state"] == "sold"
        sale = till.last()
        assert isinstance(sale, SaleFact)
        assert (sale.business_date, sale.slot) == (DAY, LUNCH)
        assert Caveat.CLOCK_UNTRUSTED in sale.caveats


# ------------------------------------------------------------------ undone, and the day's end


def test_a_sale_is_voided_once_and_within_its_shift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, Lists(rights=RIGHT)) as till:
        till.hear(OTHER)
        till.sell(3, ("soup", 1), ("bar", 1))
        sale = till.last().sequence
        till.staff.who = ""
        assert not till.ask("void", sale=sale)["ok"], "nobody is signed in"
        till.staff.who = "cook"
        assert not till.ask("void", sale=sale + 1)["ok"]
        assert till.ask("void", sale=sale)["ok"]
        assert not till.ask("void", sale=sale)["ok"]
        void = till.last()
        assert isinstance(void, Void) and void.cashier == "cook"
        assert sum(p.amount_minor for p in void.postings) == 0
        till.sell(3, ("soup", 1))
        meal = till.last()
        assert isinstance(meal, SaleFact) and meal.meals, "the meal is due again"
        assert till.ask("close_out")["ok"]
        assert not till.ask("void", sale=meal.sequence)["ok"]
        till.staff.super_ = "boss"
        refused = till.ask("refund", sale=meal.sequence, why="cold")
        assert not refused["ok"] and "no money" in refused["error"], "a meal by right is no money"
        assert till.staff.super_ == "boss", "nobody's word was used for nothing"


def test_a_close_out_equals_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = Lists(rights=RIGHT, site=site(tenders=tuple(Tender)))
    with open_till(tmp_path, monkeypatch, lists) as till:
        till.hear(OTHER)
        till.sell(3, ("soup", 1), ("bar", 1))
        till.sell(4, ("cutlet", 1))
        till.sell(5, ("bar", 1))
        till.ask("void", sale=till.last().sequence)
        till.bench.step(5_000)
        till.ask("ring", lines=[["compote", 2]])
        assert till.ask("cash")["ok"]
        answer = till.ask("close_out")
        assert answer["total_minor_by_tender"] == {
            "account": 19_000,
            "cash": 5_000,
            "entitlement": 8_500,
        }
        assert answer["voids_by_cashier"] == {"cook": 1} and answer["number"] == 1
        z = till.last()
        assert isinstance(z, CloseOut)
        db = till.bench.agent.parts.journal.writer.db
        ranges = [(one.epoch, one.first, one.last) for one in z.ranges]
        covered = list(till_books.facts_between(db, ranges))
        assert len(covered) == sum(last - first + 1 for _, first, last in ranges)
        assert equals_journal(z, covered)
        for at, fact in enumerate(covered):
            if isinstance(fact, SaleFact):
                spoilt = msgspec.structs.replace(fact, total_minor=fact.total_minor + 1, tenders=())
                planted = [*covered[:at], spoilt, *covered[at + 1 :]]
                gone = any(isinstance(v, Void) and v.sale == fact.sequence for v in covered)
                assert equals_journal(z, planted) is gone, "a kopeck too many"
        assert not equals_journal(z, covered[:-1])
        second = till.ask("close_out")
        assert second["number"] == 2 and second["total_minor_by_tender"] == {}
        assert second["ranges"] == [], "the one before ends where it stands"


def test_cash_needs_no_card_and_names_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = Lists(site=site(tenders=tuple(Tender)))
    with open_till(tmp_path, monkeypatch, lists) as till:
        for _ in range(2):  # Two in a row, of the same.
            till.ask("ring", lines=[["soup", 1]])
            assert till.ask("cash")["ok"]
        first, second = till.facts()
        assert isinstance(first, SaleFact) and isinstance(second, SaleFact)
        assert (first.account, first.cardholder, first.tender) == ("", "", Tender.CASH)
        assert {p.account for p in first.postings} == {f"cash:{SITE}", f"sales:{SITE}"}
        assert not till.ask("cash")["ok"], "nothing is rung up"


def test_two_cards_in_a_row_sell_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_till(tmp_path, monkeypatch, Lists()) as till:
        till.ask("basket", lines=[["soup", 1]])
        till.bench.step(10)
        till.bench.tap(3)
        till.bench.tap(4)
        till.bench.tap(3)
        assert sum(isinstance(fact, SaleFact) for fact in till.facts()) == 1
        till.ask("basket", lines=[["soup", 1]])
        till.bench.step(301_000)  # Left alone: it is nobody's any more.
        till.bench.tap(5)
        assert sum(isinstance(fact, SaleFact) for fact in till.facts()) == 1
        assert not any(isinstance(fact, SaleRefused) for fact in till.facts())
