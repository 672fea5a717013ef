"""Goal: at a till among others nothing is sold that the cap or a hole forbids; a hold waits for the
others, is sold once or released, and is never left open; what was not shown lit is not charged.

Method: the real agent of a till on real files with another till on the roster, whose reports and
facts are stored as sync stores them; facts are read back from the journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.agent import Agent
from edge.messages import BaseSeen, Hold, HoldReleased, SaleFact, SaleRefused, Void
from edge.model import Caveat, PurchaseReason, Station
from edge.offline_cache import till_books
from edge.offline_cache.lookup import Cache
from hil.bench.station import DEVICE, SITE
from tests.support import facts
from tests.support.tills import OTHER, PEER_EPOCH, THIRD, Lists, Till, open_till


@pytest.fixture
def till(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Till]:
    with open_till(tmp_path, monkeypatch) as made:
        yield made


def kinds(till: Till) -> list[str]:
    return [str(fact.__struct_config__.tag) for fact in till.facts()]


def test_below_the_cap_a_till_that_is_alone_sells(till: Till) -> None:
    assert till.sell(3, ("soup", 2), ("cutlet", 1))["state"] == "sold"  # 290 of 300 roubles.
    sale = till.last()
    assert isinstance(sale, SaleFact) and sale.caveats == (Caveat.ALONE,) and sale.hold is None
    assert till.sell(3, ("compote", 1))["state"] == "waiting"  # 315.
    till.bench.step(2_000)
    assert till.bench.screen()["reason"] == "purchase.cap"
    assert till.sell(4, ("soup", 3))["state"] == "sold", "another account has a cap of its own"


def test_purses_have_a_cap_each(till: Till) -> None:
    assert till.sell(3, ("cutlet", 2))["state"] == "sold"
    assert till.sell(3, ("bar", 4))["state"] == "sold"
    assert till.sell(3, ("cutlet", 1))["state"] == "waiting"


def test_a_large_basket_waits_for_the_others_and_is_sold_once(till: Till) -> None:
    till.hear(OTHER)
    screen = till.sell(3, ("soup", 4))
    assert (screen["state"], screen["waiting"], screen["colour"]) == ("waiting", True, "blue")
    assert screen["text"] == "Ждём другие кассы"
    hold = till.last()
    assert isinstance(hold, Hold) and hold.account == "a00000003"
    assert [(p.account, p.amount_minor) for p in hold.postings] == [
        ("a00000003", -34_000),
        (f"sales:{SITE}", 34_000),
    ]
    till.bench.tap(4)  # Another child is too quick.
    assert not till.ask("basket", lines=[["bar", 1]])["ok"]
    till.bench.step(500)
    assert kinds(till) == ["hold"]
    till.cover(OTHER)
    assert till.bench.screen()["state"] == "sold"
    sale = till.last()
    assert isinstance(sale, SaleFact)
    assert (sale.hold, sale.total_minor, sale.credential) == (
        hold.sequence,
        34_000,
        sale.credential,
    )
    till.bench.step(5_000)
    assert kinds(till) == ["hold", "sale"]
    db = till.bench.agent.parts.journal.writer.db
    assert till_books.open_holds(db) == []
    tail = till_books.own_tail(db, DEVICE, "a00000003")
    assert sum(one.amount_minor for one in tail) == 34_000, "the sale replaces its hold"


def test_a_hold_that_nobody_covers_is_released_after_two_seconds(till: Till) -> None:
    till.sell(3, ("soup", 4))
    till.bench.step(1_999)
    assert kinds(till) == ["hold"]
    till.bench.step(1)
    assert kinds(till) == ["hold", "hold_released", "sale_refused"]
    refused = till.last()
    assert isinstance(refused, SaleRefused) and refused.reason is PurchaseReason.CAP
    released = till.facts()[1]
    assert isinstance(released, HoldReleased) and released.why == "cap"
    assert till.sell(3, ("soup", 3))["state"] == "sold", "what was held is there again"


def test_the_second_check_counts_what_came_while_it_waited(till: Till) -> None:
    """The hold is covered, but the other till has spent the money meanwhile."""
    till.hear(OTHER)
    till.sell(3, ("soup", 4))
    header = facts.stamp(1, "", device=OTHER, epoch=PEER_EPOCH)
    till.take(OTHER, facts.sale(header, account="a00000003", amounts=(("hot", 70_000),)))
    till.cover(OTHER)
    assert kinds(till) == ["hold", "hold_released", "sale_refused"]
    released, refused = till.facts()[1:]
    assert isinstance(released, HoldReleased) and released.why == "funds"
    assert isinstance(refused, SaleRefused) and refused.reason is PurchaseReason.FUNDS


def test_cover_needs_every_other_till(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = Lists(tills=(DEVICE, OTHER, THIRD))
    with open_till(tmp_path, monkeypatch, lists) as till:
        till.hear(OTHER, THIRD)
        till.sell(3, ("soup", 4))
        till.cover(OTHER)
        assert till.bench.screen()["state"] == "waiting"
        till.cover(THIRD)
        assert till.bench.screen()["state"] == "sold"


def test_with_one_till_there_is_no_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_till(tmp_path, monkeypatch, Lists(tills=(DEVICE,))) as till:
        screen = till.sell(3, ("soup", 10))
        assert (screen["state"], screen["notes"]) == ("sold", [])


def test_a_hole_stops_sales_on_account(till: Till) -> None:
    """The other till says that it did something, and it did not come."""
    till.hear(OTHER, head=1)
    assert till.sell(3, ("compote", 1))["state"] == "waiting"
    till.bench.step(2_000)
    assert till.bench.screen()["reason"] == "purchase.cap"
    assert kinds(till) == ["sale_refused"], "no hold would help"
    header = facts.stamp(1, "", device=OTHER, epoch=PEER_EPOCH)
    till.take(OTHER, facts.refused_sale(header))
    assert till.sell(3, ("compote", 1))["state"] == "sold"


def test_after_a_new_epoch_it_waits_for_a_report_of_each_till(till: Till) -> None:
    """It may have forgotten what it reported as held; in its first life it had reported nothing."""
    till.bench.agent.parts.journal.open_epoch(
        till.bench.clock.moment(), why="lost_sync", station=Station.TILL
    )
    assert till.sell(3, ("compote", 1))["reason"] == "purchase.cap"
    till.hear(OTHER)
    assert till.sell(3, ("compote", 1))["state"] == "sold"


def test_the_cashier_can_give_up_waiting(till: Till) -> None:
    till.sell(3, ("soup", 4))
    assert till.ask("cancel")["ok"]
    assert kinds(till) == ["hold", "hold_released"]
    till.bench.step(3_000)
    assert till.bench.screen()["state"] == "open" and len(till.facts()) == 2


def again(till: Till) -> None:
    """The process ended, and starts."""
    parts = till.bench.agent.parts
    parts.cache.close()
    parts.cache = Cache(
        parts.settings.folders.state, device=DEVICE, site=SITE, journal=parts.journal.writer.db
    )
    till.bench.agent.staff.close()
    till.bench.agent = Agent(parts, till.bench.clock.moment())
    assert till.bench.agent.till is not None
    till.bench.agent.till.staff = till.staff
    till.bench.step()


def test_an_open_hold_is_released_at_start(till: Till) -> None:
    till.sell(3, ("soup", 4))
    again(till)
    assert kinds(till) == ["hold", "hold_released"]
    released = till.last()
    assert isinstance(released, HoldReleased) and released.why == "restart"
    again(till)
    assert len(till.facts()) == 2
    assert till.sell(3, ("soup", 3))["state"] == "sold"


def test_what_was_not_shown_lit_is_not_charged(till: Till) -> None:
    """Killed between the commit and the light: the sale is undone before the next one."""
    counter = till.bench.agent.till
    assert counter is not None
    assert till.sell(3, ("soup", 1))["state"] == "sold"
    till.bench.step(5_000)
    till.ask("basket", lines=[["soup", 2]])
    till.bench.step(10)
    counter.standing.lit = lambda **_: None  # type: ignore[method-assign]  # Killed before.
    till.bench.tap(4)
    assert kinds(till) == ["sale", "sale"]
    again(till)
    void = till.last()
    assert isinstance(void, Void) and void.why == "unlit"
    assert (void.account, void.sale) == ("a00000004", till.facts()[1].sequence)
    again(till)
    assert kinds(till) == ["sale", "sale", "void"]
    db = till.bench.agent.parts.journal.writer.db
    assert sum(s.amount_minor for s in till_books.own_tail(db, DEVICE, "a00000004")) == 0


def test_a_new_base_is_told_of_once(till: Till) -> None:
    told = [fact for fact in till.bench.facts() if isinstance(fact, BaseSeen)]
    assert [(one.money.list_epoch, one.money.number) for one in told] == [(1, 1)]
    till.bench.step(60_000)
    again(till)
    till.sell(3, ("soup", 1))
    assert sum(isinstance(fact, BaseSeen) for fact in till.bench.facts()) == 1
