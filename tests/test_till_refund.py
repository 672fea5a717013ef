"""Goal: pieces of an earlier sale are given back by a supervisor's word, never more of a line than
was sold less what was given back of it, by this till or another, before a restart or after it; a
meal by right is never turned into money; the day's end tells of all of it.

Method: the real agent of a till on real files, through the requests of the cashier's page; facts
are read back from the journal, the other till is what sync would store of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.messages import CloseOut, Refund, SaleFact, Stream, TenderPart, Void
from edge.model import Tender
from edge.offline_cache import outbox, retention, till_books
from edge.offline_cache.undone import told_here
from edge.pos.closeout import equals_journal
from hil.bench.station import DEVICE, SITE
from tests.support import facts
from tests.support.tills import OTHER, PEER_EPOCH, Lists, Till, entitlement, open_till, site
from tests.test_till_meals import DAY, order

ALL = Lists(site=site(tenders=tuple(Tender)))
SOUP, BAR, COMPOTE = ("soup", 8_500), ("bar", 7_000), ("compote", 2_500)


def back(till: Till, *lines: tuple[tuple[str, int], int], **more: Any) -> dict[str, Any]:
    """A supervisor gives these pieces back."""
    till.staff.super_ = "boss"
    wanted = [[*line, pieces] for line, pieces in lines]
    return till.ask("refund", why="cold", **({"lines": wanted} if lines else {}), **more)


def sold(till: Till, *lines: tuple[str, int], number: int = 3) -> SaleFact:
    till.sell(number, *lines)
    sale = till.last()
    assert isinstance(sale, SaleFact)
    return sale


def test_pieces_come_back_until_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, ALL) as till:
        till.hear(OTHER)
        sale = sold(till, ("soup", 2), ("bar", 1))
        assert [one["left"] for one in till.ask("sale", sale=sale.sequence)["lines"]] == [2, 1]
        answer = back(till, (SOUP, 1), sale=sale.sequence)
        assert answer == {"ok": True, "back_minor_by_tender": {"account": 8_500}} | {
            "total_minor": 8_500
        }
        told = till.last()
        assert isinstance(told, Refund) and told.supervisor == "boss" and told.cashier == "cook"
        assert [(x.product, x.quantity, x.price_minor) for x in told.lines] == [("soup", 1, 8_500)]
        assert told.tenders == (TenderPart(tender=Tender.ACCOUNT, amount_minor=8_500, purse="hot"),)
        assert {p.account: p.amount_minor for p in told.postings} == {
            "a00000003": 8_500,
            f"sales:{SITE}": -8_500,
        }
        assert not back(till, (SOUP, 2), sale=sale.sequence)["ok"], "one is left"
        assert not back(till, (("soup", 8_400), 1), sale=sale.sequence)["ok"], "no such price"
        assert not back(till, (("tea", 100), 1), sale=sale.sequence)["ok"], "no such line"
        for wrong in (-1, 0, True):  # What is no number could not be read back from the fact.
            assert not back(till, (SOUP, wrong), sale=sale.sequence)["ok"]
        till.staff.super_ = ""
        assert not till.ask("refund", why="cold", sale=sale.sequence)["ok"], "nobody answers for it"
        rest = back(till, sale=sale.sequence)
        assert rest["back_minor_by_tender"] == {"account": 15_500}, "all that is left"
        refused = back(till, sale=sale.sequence)
        assert not refused["ok"] and till.staff.super_ == "boss"
        assert sum(isinstance(fact, Refund) for fact in till.facts()) == 2


def test_what_was_given_back_is_remembered_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, ALL) as till:
        till.hear(OTHER)
        sale = sold(till, ("soup", 2))
        assert till.ask("close_out")["ok"]
        assert back(till, (SOUP, 1), sale=sale.sequence)["ok"]
    with open_till(tmp_path, monkeypatch, ALL, start_ms=2_000_000) as till:
        assert not back(till, (SOUP, 2), sale=sale.sequence)["ok"]
        assert back(till, (SOUP, 1), sale=sale.sequence)["ok"]
        assert not back(till, (SOUP, 1), sale=sale.sequence)["ok"]


def test_what_is_remembered_goes_with_the_fact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, ALL) as till:
        till.hear(OTHER)
        sale = sold(till, ("soup", 2))
        assert back(till, (SOUP, 1), sale=sale.sequence)["ok"]
        writer = till.bench.agent.parts.journal.writer
        (key,) = told_here(writer.db, DEVICE, sale.epoch, sale.sequence)
        (life,) = outbox.lives(writer.db, Stream.MAIN)
        assert retention.drop_facts(writer, life, key[1]) == key[1]
        assert told_here(writer.db, DEVICE, sale.epoch, sale.sequence) == []


def test_what_another_till_gave_back_is_not_given_back_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, ALL) as till:
        till.hear(OTHER)
        sale = sold(till, ("soup", 2))
        header = facts.stamp(1, "", device=OTHER, epoch=PEER_EPOCH)
        line = sale.lines[0].of(1)
        there = Refund(
            **header,
            sale_device=DEVICE,
            sale_epoch=sale.epoch,
            sale=sale.sequence,
            account=sale.account,
            postings=(),
            business_date=DAY,
            why="cold",
            cashier="",
            supervisor="boss",
            lines=(line,),
            tenders=(TenderPart(tender=Tender.ACCOUNT, amount_minor=8_500, purse="hot"),),
        )
        till.take(OTHER, there)
        assert till.ask("sale", sale=sale.sequence)["lines"][0]["left"] == 1
        assert not back(till, (SOUP, 2), sale=sale.sequence)["ok"]
        refused = till.ask("void", sale=sale.sequence)
        assert not refused["ok"] and "in part" in refused["error"]
        assert back(till, (SOUP, 1), sale=sale.sequence)["ok"]


def test_a_sale_of_another_till_is_given_back_but_not_its_coins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, ALL) as till:
        till.hear(OTHER)
        mine = sold(till, ("soup", 1))
        till.bench.step(5_000)
        till.ask("ring", lines=[["soup", 2]])
        assert till.ask("cash")["ok"]
        coins = till.last()
        assert isinstance(coins, SaleFact)
        keys = [facts.stamp(n, "", device=OTHER, epoch=PEER_EPOCH) for n in (1, 2)]
        theirs = [
            msgspec.structs.replace(one, **key)
            for one, key in zip((mine, coins), keys, strict=True)
        ]
        till.take(OTHER, *theirs)
        at = {"device": OTHER, "epoch": PEER_EPOCH}
        assert till.ask("sale", device=OTHER, sale=1)["epoch"] == PEER_EPOCH, "no slip tells it"
        assert back(till, (SOUP, 1), sale=1, **at)["ok"]
        refused = back(till, (SOUP, 1), sale=2, **at)
        assert not refused["ok"] and "drawer" in refused["error"]
        answer = back(till, (SOUP, 1), sale=coins.sequence)
        assert answer["back_minor_by_tender"] == {"cash": 8_500}
        told = till.last()
        assert isinstance(told, Refund) and told.account == ""
        assert {p.account for p in told.postings} == {f"cash:{SITE}", f"sales:{SITE}"}


def test_a_void_and_a_refund_shut_each_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, ALL) as till:
        till.hear(OTHER)
        first, second = sold(till, ("soup", 2)), sold(till, ("soup", 2), number=4)
        assert back(till, (SOUP, 1), sale=first.sequence)["ok"]
        assert not till.ask("void", sale=first.sequence)["ok"]
        assert till.ask("void", sale=second.sequence)["ok"]
        assert till.ask("close_out")["ok"]
        refused = back(till, (SOUP, 1), sale=second.sequence)
        assert not refused["ok"] and "void" in refused["error"]
        assert sum(isinstance(fact, Void) for fact in till.facts()) == 1


def test_what_a_right_paid_for_is_no_money(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = Lists(rights={(3, "e1"): entitlement()}, site=site(tenders=tuple(Tender)))
    with open_till(tmp_path, monkeypatch, lists) as till:
        till.hear(OTHER)
        sale = sold(till, ("soup", 2), ("compote", 1), ("bar", 1))
        assert [(x.product, x.quantity) for x in sale.by_right] == [("soup", 1), ("compote", 1)]
        lines = till.ask("sale", sale=sale.sequence)["lines"]
        assert {one["product"]: one["left"] for one in lines} == {"soup": 1, "compote": 0, "bar": 1}
        assert not back(till, (COMPOTE, 1), sale=sale.sequence)["ok"]
        assert not back(till, (SOUP, 2), sale=sale.sequence)["ok"]
        answer = back(till, sale=sale.sequence)
        assert answer["back_minor_by_tender"] == {"account": 15_500}
        told = till.last()
        assert isinstance(told, Refund)
        assert {p.account for p in told.postings} == {"a00000003", f"sales:{SITE}"}


def test_what_was_charged_for_an_order_is_the_accounts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = Lists(orders={(3, "o1"): order()}, site=site(tenders=tuple(Tender)))
    with open_till(tmp_path, monkeypatch, lists) as till:
        till.hear(OTHER)
        sale = sold(till, ("soup", 1), ("compote", 1), ("bar", 1))
        assert {part.tender for part in sale.tenders} == {Tender.PREORDER, Tender.ACCOUNT}
        answer = back(till, (("soup", 8_000), 1), (BAR, 1), sale=sale.sequence)
        assert answer["back_minor_by_tender"] == {"account": 7_000, "preorder": 8_000}
        told = till.last()
        assert isinstance(told, Refund)
        assert {p.account for p in told.postings} == {"a00000003", f"sales:{SITE}"}


def test_the_days_end_tells_what_was_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_till(tmp_path, monkeypatch, ALL) as till:
        till.hear(OTHER)
        first = sold(till, ("soup", 2))
        assert till.ask("close_out")["refunded_minor_by_tender"] == {}
        till.bench.step(5_000)
        till.ask("ring", lines=[["compote", 2]])
        assert till.ask("cash")["ok"]
        coins = till.last()
        assert back(till, (COMPOTE, 1), sale=coins.sequence)["ok"]
        assert back(till, (SOUP, 1), sale=first.sequence)["ok"], "of the shift before"
        answer = till.ask("close_out")
        assert answer["total_minor_by_tender"] == {"cash": 5_000}, "totals are of sales"
        assert answer["refunded_minor_by_tender"] == {"account": 8_500, "cash": 2_500}
        assert answer["refunded"] == {"account": "85.00 ₽", "cash": "25.00 ₽"}
        z = till.last()
        assert isinstance(z, CloseOut)
        db = till.bench.agent.parts.journal.writer.db
        ranges = [(one.epoch, one.first, one.last) for one in z.ranges]
        covered = list(till_books.facts_between(db, ranges))
        assert equals_journal(z, covered)
        spoilt = [
            msgspec.structs.replace(fact, tenders=()) if isinstance(fact, Refund) else fact
            for fact in covered
        ]
        assert not equals_journal(z, spoilt)
