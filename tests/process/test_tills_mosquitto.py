"""Goal: two real tills sell through a day in which everything dies once, and every kopeck is found
again: the cap binds when they are cut off, a family's change holds from the next tap, the city
spends only when both know, and a dead till's sales are handed in by its neighbour.

Method: `two_tills.py`: `edge` and `sync` twice, the reference city, two Mosquittos with mutual TLS.
One long day, told in parts; at the end the city's books are held against the journals, the
close-outs against both, and all files of both tills searched for names and card numbers.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import pytest

from edge.messages import (
    AnyFact,
    BaseSeen,
    CloseOut,
    Fact,
    GroupServed,
    Hold,
    HoldReleased,
    MealServed,
    Refund,
    SaleFact,
    SaleRefused,
    Void,
)
from edge.model import Caveat, PurchaseReason, Tender
from edge.pos.closeout import equals_journal
from tests.process.leaks import files_under, sealed_by_city, search_for
from tests.process.oracle import assert_city_has_the_journals, is_drained, of_kind
from tests.process.school import SITE, World
from tests.process.two_tills import (
    FREE,
    LUNCH,
    PURSE_MINOR,
    READER,
    TILLS,
    Till,
    TwoTills,
    until,
)

pytestmark = [pytest.mark.process, pytest.mark.slow]

MEAL = "hot-1"
CAP_MINOR = 300_00
# A till tells of a new base on its own within 5 s (edge/till_standing.py): what it had begun to say
# when the line was cut would be a hole, and nothing would be sold at all.
QUIET_S = 5.5


@pytest.fixture
def school(tmp_path: Path) -> Iterator[TwoTills]:
    with ExitStack() as stack:
        yield TwoTills(tmp_path, stack)


class Day:
    """What was done and seen."""

    def __init__(self, school: TwoTills) -> None:
        self.school = school
        self.lit: Counter[str] = Counter()  # Green lights, by account;
        self.tries: Counter[str] = Counter()  # cards shown while they might be decided on.
        self.put: Counter[str] = Counter()  # Moved by families: what came less what went.

    def sell(self, till: Till, cardholder: str, *lines: tuple[str, int]) -> SaleFact | SaleRefused:
        """Ring up, charge, show the card; the decision as it stands in the journal."""
        answer = till.tell("basket", lines=[list(line) for line in lines])
        assert answer["ok"], answer
        return self.show(till, cardholder)

    def show(self, till: Till, cardholder: str) -> SaleFact | SaleRefused:
        before = len(decisions(till))
        assert till.tell("tap", reader=READER, uid=self.school.card(cardholder))["ok"]
        until(lambda: len(decisions(till)) > before, lambda: f"{till.screen()}{till.last_words()}")
        found = decisions(till)[-1]
        if isinstance(found, SaleFact):
            self.lit[found.account] += 1
        self.tries[self.school.account(cardholder)] += 1
        return found

    def sold(self, till: Till, cardholder: str, *lines: tuple[str, int]) -> SaleFact:
        found = self.sell(till, cardholder, *lines)
        assert isinstance(found, SaleFact), (found.reason, till.facts()[-6:], till.last_words())
        return found

    def refused(self, till: Till, cardholder: str, *lines: tuple[str, int]) -> PurchaseReason:
        found = self.sell(till, cardholder, *lines)
        assert isinstance(found, SaleRefused), found
        return found.reason

    def settled(self) -> None:
        """All the city has published by now is in force at both tills."""
        numbers = {
            scope: self.school.city.get("/status")["versions"][f"{SITE}/{scope}"][1]
            for scope in ("people", "money")
        }
        until(
            lambda: all(
                till.number(scope) >= number
                for till in self.school.tills
                for scope, number in numbers.items()
            ),
            self.school.words,
        )

    def balance(self, cardholder: str) -> int:
        account = self.school.account(cardholder)
        found = self.school.city.get(f"/account?account={account}")
        return sum(found["balance_minor_by_purse"].values())


def decisions(till: Till) -> list[SaleFact | SaleRefused]:
    return [fact for fact in till.facts() if isinstance(fact, SaleFact | SaleRefused)]


def sign_in(school: TwoTills, till: Till) -> None:
    """The cashier, by own card and PIN."""
    prove(school, till, "cashier", till.tell("sign_in_start", role="cashier"), "cashier")


def supervise(school: TwoTills, till: Till, act: str) -> None:
    """A supervisor proves card and PIN for one action."""
    prove(school, till, "supervisor", till.tell("supervise_start", act=act), "proved")


def prove(school: TwoTills, till: Till, label: str, started: dict[str, Any], becomes: str) -> None:
    assert started["ok"], started
    uid, pin = school.staff(label)
    assert till.tell("tap", reader=READER, uid=uid)["ok"]
    answer = till.tell("sign_in_pin", pin=pin)
    assert answer["ok"], answer

    def known() -> bool:
        screen = till.try_to("screen")
        return screen is not None and bool(screen["staff"][becomes])

    until(known, lambda: f"{till.try_to('screen')}")


def test_a_day_of_two_tills(school: TwoTills) -> None:
    day = Day(school)
    until(school.together, school.words)
    for till in school.tills:
        sign_in(school, till)
    for part in (
        above_the_cap,
        a_break,
        what_families_change,
        without_a_purse,
        undone_and_given_back,
        cut_off,
        a_dead_till,
        killed_at_any_moment,
        the_end,
    ):
        began_s = time.monotonic()
        part(day)
        print(f"{part.__name__}: {time.monotonic() - began_s:.1f} s")


def above_the_cap(day: Day) -> None:
    """One till hears of the other's hold at once, and says so."""
    till, child = day.school.one, day.school.next_payer()
    sale = day.sold(till, child, (MEAL, 4))
    assert sale.total_minor > CAP_MINOR and sale.hold is not None
    hold = of_kind(till.facts(), Hold)[-1]
    assert (hold.sequence, hold.account) == (sale.hold, sale.account)
    assert not of_kind(till.facts(), HoldReleased)
    assert Caveat.ALONE not in sale.caveats


def a_break(day: Day) -> None:
    """Both sell at once, as fast as children come: what one has just sold refuses nobody at the
    other, and a heartbeat never comes before the facts that it names."""
    one, two = day.school.tills
    for number in range(8):
        for till in (one, two):
            sale = day.sold(till, day.school.next_payer(), (MEAL, 1))
            assert sale.hold is None
        if number % 4 == 0:
            assert day.sold(two, day.school.next_payer(), (MEAL, 4)).hold is not None


def what_families_change(day: Day) -> None:
    """Once it is at the till, it holds from the next tap."""
    school, city = day.school, day.school.city
    till = school.two
    poor, banned, limited = (school.next_payer() for _ in range(3))
    for child in (poor, banned, limited):
        day.sold(till, child, (MEAL, 1))
    city.post("/ban", {"account": school.account(banned), "category": "hot"})
    city.post("/limit", {"account": school.account(limited), "day_limit_minor": 1})
    dear = school.price(MEAL)
    spare = PURSE_MINOR - dear
    lines = ((MEAL, spare // dear + 1),)
    assert day.refused(till, poor, *lines) is PurchaseReason.FUNDS
    city.post("/top-up", {"account": school.account(poor), "amount_minor": 500_00})
    day.put[school.account(poor)] += 500_00
    day.settled()
    assert day.refused(till, banned, (MEAL, 1)) is PurchaseReason.BANNED
    assert day.refused(till, limited, (MEAL, 1)) is PurchaseReason.DAY_LIMIT
    day.sold(till, poor, *lines)


def without_a_purse(day: Day) -> None:
    """A class at once, an emergency meal, a free meal by card, and coins."""
    school = day.school
    one, two = school.tills
    group = school.free_class
    first, absent, *rest = group.member_ids
    free = day.sold(one, first, (MEAL, 1))
    assert (free.tender, [meal.entitlement for meal in free.meals]) == (Tender.ENTITLEMENT, [FREE])
    until(lambda: served_at(two, group.group_id) == {first}, two.last_words)
    done = two.tell("serve_group", group=group.group_id, slot=LUNCH, absent=[absent])
    assert (done["ok"], done["served"]) == (True, len(rest)), done
    (served,) = of_kind(two.facts(), GroupServed)
    assert served.absent == (absent,)

    hungry = school.next_payer()
    assert two.tell("ring", lines=[[MEAL, 1]])["ok"]
    supervise(school, two, "emergency")
    assert two.tell("emergency")["ok"]
    fed = day.show(two, hungry)
    assert isinstance(fed, SaleFact) and fed.tender is Tender.EMERGENCY and fed.supervisor

    assert one.tell("basket", lines=[[MEAL, 2]])["ok"]
    assert one.tell("cash")["ok"]


def served_at(till: Till, group: str) -> set[str]:
    answer = till.tell("group_list", group=group, slot=LUNCH)
    assert answer["ok"], answer
    return {member["cardholder"] for member in answer["members"] if member["served"]}


def undone_and_given_back(day: Day) -> None:
    """A void at the till that sold; a refund at the other, by a supervisor."""
    school = day.school
    one, two = school.tills
    void, back = school.next_payer(), school.next_payer()
    sale = day.sold(one, void, (MEAL, 1))
    answer = one.tell("void", sale=sale.sequence, epoch=sale.epoch)
    assert answer["ok"], answer
    sale = day.sold(one, back, (MEAL, 2))
    supervise(school, two, "refund")

    def given_back() -> bool:
        """As soon as the sale is known there."""
        key = {"device": one.device, "epoch": sale.epoch, "sale": sale.sequence}
        return bool(two.tell("refund", why="cold", **key)["ok"])

    until(given_back, two.last_words)
    for child in (void, back):
        until(lambda child=child: day.balance(child) == PURSE_MINOR, school.words)  # type: ignore[misc]


def cut_off(day: Day) -> None:
    """Neither the city nor the school's broker: each sells up to the cap, and says why no more."""
    school = day.school
    one, two = school.tills
    child, other = school.next_payer(), school.next_payer()
    school.city_broker.kill()
    sale = day.sold(one, child, (MEAL, 2))
    assert sale.hold is None, "the neighbour hears it"
    # What both know is covered; from here on nobody hears anything.
    until(lambda: any_of(school.two, sale), school.words)
    time.sleep(QUIET_S)
    school.school_broker.kill()
    sold = 0
    while True:
        found = day.sell(one, other, (MEAL, 1))
        if isinstance(found, SaleRefused):
            break
        sold += found.total_minor
        day.sold(one, school.next_payer(), (MEAL, 1))  # So that the next is no repeated tap.
    assert found.reason is PurchaseReason.CAP
    assert CAP_MINOR - school.price(MEAL) < sold <= CAP_MINOR
    (*_, released) = of_kind(one.facts(), HoldReleased)
    assert released.why == "cap"
    day.sold(two, other, (MEAL, 1))  # It has a cap of its own.
    day.sold(two, school.next_payer(), (MEAL, 1))
    assert day.refused(two, other, (MEAL, 4)) is PurchaseReason.CAP
    school.school_broker.start()
    until(lambda: one.hears(two.device) and two.hears(one.device), school.words)


def any_of(till: Till, sale: SaleFact) -> bool:
    """Whether a till can look a neighbour's sale up: asked in its own file."""
    path = till.folder / "state" / "sync.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return bool(
            db.execute(
                "SELECT 1 FROM peer_facts WHERE device = ? AND epoch = ? AND sequence = ?",
                (sale.device, sale.epoch, sale.sequence),
            ).fetchone()
        )


def a_dead_till(day: Day) -> None:
    """It sold while the city was away, told its neighbour, and died: the neighbour hands it in.
    What the city wants to spend meanwhile waits for it."""
    school, city = day.school, day.school.city
    one, two = school.tills
    child = school.next_payer()
    sale = day.sold(two, child, (MEAL, 1))
    until(lambda: any_of(one, sale), school.words)
    two.kill()
    school.city_broker.start()
    school.hurry()
    until(lambda: day.balance(child) == PURSE_MINOR - sale.total_minor, school.words)
    assert one.counter("peer_handed_in") > 0

    giver, taker = school.siblings()
    amount = 100_00
    debit = city.post("/transfer", {"from": giver, "to": taker, "amount_minor": amount})["debit"]
    assert debit is not None
    number = city.get("/status")["versions"][f"{SITE}/money"][1]
    until(
        lambda: any(seen.money.number >= number for seen in of_kind(one.facts(), BaseSeen)),
        school.words,
    )
    assert state_of(city, debit) == "earmarked", "one till is dark"
    assert day.balance(taker) == PURSE_MINOR
    two.start()
    until(lambda: state_of(city, debit) == "posted", school.words)
    day.put[school.account(giver)] -= amount
    day.put[school.account(taker)] += amount
    assert day.balance(taker) == PURSE_MINOR + amount
    sign_in(school, two)


def state_of(city: Any, debit: int) -> str:
    return next(str(one["state"]) for one in city.get("/debits") if one["debit"] == debit)


def killed_at_any_moment(day: Day) -> None:
    """A queue at both tills, while one process after the other is killed without a word."""
    school, dice = day.school, random.Random(7)
    children = [process for till in school.tills for process in (till.edge, till.sync)]
    for victim in (*children, *dice.sample(children, 2)):
        till = next(t for t in school.tills if victim in (t.edge, t.sync))
        child = school.next_payer()
        till.tell("basket", lines=[[MEAL, 1]])
        till.try_to("tap", reader=READER, uid=school.card(child))
        day.tries[school.account(child)] += 1
        time.sleep(dice.random() * 0.02)
        victim.restart()
    school.hurry()
    until(school.together, school.words)
    for till in school.tills:
        day.sold(till, school.next_payer(), (MEAL, 1))


def the_end(day: Day) -> None:
    """The day is counted at both tills; then everything is compared with everything."""
    school = day.school
    world = cast(World, school)  # As far as the oracle asks.
    totals: Counter[str] = Counter()
    for till in school.tills:
        sign_in(school, till)
        answer = till.tell("close_out")
        assert answer["ok"], answer
        totals.update(answer["total_minor_by_tender"])
    for till in school.tills:
        assert till.edge.stop() == 0
    while True:
        school.hurry()
        until(lambda: is_drained(world), school.words)
        for till in school.tills:
            till.sync.kill()
        if is_drained(world):
            break
        for till in school.tills:
            till.sync.start()  # It had something to tell in the last moment.
    facts = assert_city_has_the_journals(world)
    assert_counted(day, facts, totals)
    assert_paid(day, facts, totals)
    search = search_for(school.school, {})
    search.sealed = sealed_by_city(school.city.folder / "city.db")
    folders = (path for till in school.tills for path in (till.folder, till.logs))
    # The pictures are `test_privacy.py`'s; here is what a till itself writes.
    files = {
        name: data
        for name, data in files_under(*folders).items()
        if not Path(name).name.startswith(("picture", "reserve"))
    }
    files |= {str(log): log.read_bytes() for log in (school.school_broker.log,)}
    assert {"journal.db", "sync.db", "edge.log", "sync.log"} <= {Path(one).name for one in files}
    assert search.findings(files) == []


def assert_counted(day: Day, facts: list[AnyFact], totals: Counter[str]) -> None:
    """Each Z says what its journal says, and the city found no other sums."""
    counts = of_kind(facts, CloseOut)
    assert len(counts) == len(TILLS)
    for count in counts:
        inside = {(one.epoch, n) for one in count.ranges for n in range(one.first, one.last + 1)}
        own = [f for f in facts if f.device == count.device and f.stream == "main"]
        counted = [f for f in own if (f.epoch, f.sequence) in inside]
        assert equals_journal(count, [f for f in counted if isinstance(f, Fact)])
        left = [f for f in own if (f.epoch, f.sequence) not in inside and f != count]
        assert all(isinstance(f, BaseSeen | HoldReleased) for f in left), left
    alarms = {alarm["what"] for alarm in day.school.city.get("/status")["alarms"]}
    assert alarms <= {"unlit"}, alarms


def assert_paid(day: Day, facts: list[AnyFact], totals: Counter[str]) -> None:
    """Every account is where the facts put it, nobody paid twice, and nothing came from nowhere."""
    school = day.school
    sales, voids = of_kind(facts, SaleFact), of_kind(facts, Void)
    standing = Counter(sale.account for sale in sales)
    standing.subtract(void.account for void in voids)
    assert all(count <= day.tries[account] for account, count in standing.items() if account)
    recorded = Counter(sale.account for sale in sales)
    assert not day.lit - recorded, "a light that was seen is on record"
    expected = Counter({one.account_id: PURSE_MINOR for one in school.school.accounts})
    expected.update(day.put)
    moving: list[SaleFact | Void | Refund] = [*sales, *voids, *of_kind(facts, Refund)]
    for fact in moving:
        assert sum(posting.amount_minor for posting in fact.postings) == 0
        for posting in fact.postings:
            if posting.account == fact.account:
                expected[posting.account] += posting.amount_minor
    path = school.city.folder / "city.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        held = Counter(
            dict(db.execute("SELECT account, sum(amount_minor) FROM balance GROUP BY 1"))
        )
    assert {account: held[account] for account in expected} == dict(expected)
    ledger = school.city.get("/ledger")
    assert ledger["zero"] is True
    places = {name: sum(amounts.values()) for name, amounts in ledger["places"].items()}
    assert places["holds"] == places["earmarks"] == places["suspense"] == places["losses"] == 0
    assert places["cash"] == -totals[Tender.CASH]
    refunded = -sum(refund.postings[0].amount_minor for refund in of_kind(facts, Refund))
    on_account = totals[Tender.ACCOUNT] + totals[Tender.EMERGENCY]
    paid = sum(PURSE_MINOR + day.put[one] - held[one] for one in expected)
    assert abs(refunded) and paid == on_account - abs(refunded)
    served = Counter((f.cardholder, f.business_date) for f in of_kind(facts, MealServed))
    served.update((f.cardholder, f.business_date) for f in sales for _ in f.meals)
    assert served and set(served.values()) == {1}, "a free meal is served once"
