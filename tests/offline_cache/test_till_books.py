"""Goal: what a till's facts change here follows from the fact alone: a hold counts until
its sale or release, a void gives back here and nowhere else, a claim is claimed, and all of it
moves with a fact that is restated and goes with one that is dropped.

Method: real files; each kind of fact recorded by one journal, its tail, holds and claims read back;
the same facts taken as a peer's. Restated over two epochs, in every state of a hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import (
    CloseOut,
    CloseRange,
    Fact,
    Hold,
    HoldReleased,
    MealServed,
    MealUse,
    Posting,
    Restates,
    SaleFact,
    Stream,
    Void,
    encode_fact,
)
from edge.model import Station, meal_claim
from edge.offline_cache import epochs, outbox, peer_books, peers, retention, till_books
from edge.offline_cache.record import Journal
from edge.offline_cache.store import FileKind, Writer
from tests.support import facts
from tests.support.times import at

ME, OTHER, SITE, ACCOUNT = "till-1", "till-2", "school-7", "a1"
DAY = "2026-03-02"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.db", device=ME, site=SITE)
    made.open_epoch(at(), why="new_store", station=Station.TILL)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path / "sync.db", FileKind.SYNC)
    yield made
    made.close()


def postings(amount_minor: int) -> tuple[Posting, ...]:
    return (
        Posting(account=ACCOUNT, purse="meals", amount_minor=-amount_minor),
        Posting(account=f"sales:{SITE}", purse="meals", amount_minor=amount_minor),
    )


def add(journal: Journal, kind: str, amount_minor: int = 0, *, of: int = 0, epoch: str = "") -> int:
    """Record one fact; its number."""
    with journal.record(at()) as tap:
        stamp = tap.stamp(at())
        fact: Fact
        match kind:
            case "hold":
                fact = Hold(
                    **stamp,
                    account=ACCOUNT,
                    cardholder="p1",
                    postings=postings(amount_minor),
                    business_date=DAY,
                    money=facts.VERSION,
                )
            case "sold" | "sale":
                plain = facts.sale(stamp, account=ACCOUNT, amounts=(("meals", amount_minor),))
                fact = _with_hold(plain, of) if kind == "sold" else plain
            case "released":
                fact = HoldReleased(
                    **stamp, hold_epoch=epoch or journal.epoch, hold=of, account=ACCOUNT, why="cap"
                )
            case "void":
                fact = Void(
                    **stamp,
                    sale_epoch=epoch or journal.epoch,
                    sale=of,
                    account=ACCOUNT,
                    postings=postings(-amount_minor),
                    business_date=DAY,
                    why="cashier",
                )
            case _:
                raise AssertionError(kind)
        tap.add(fact)
    return journal.head


def _with_hold(sale: SaleFact, hold: int) -> SaleFact:
    from msgspec import structs

    return structs.replace(sale, hold=hold)


def spent(journal: Journal) -> int:
    return sum(s.amount_minor for s in till_books.own_tail(journal.writer.db, ME, ACCOUNT))


def spent_by_peer(store: Writer) -> int:
    return sum(s.amount_minor for s in peers.peers_tail(store.db, ACCOUNT))


def give(journal: Journal, store: Writer) -> None:
    """All facts of the current life, as sync takes another till's."""
    life = outbox.lives(journal.writer.db, Stream.MAIN)[-1]
    bodies = outbox.next_facts(journal.writer.db, life.life, 1, rows_max=1_000, bytes_max=1 << 20)
    with store.transaction() as db:
        peers.move_life(db, OTHER, life.epoch, after=0, up_to=len(bodies), digest="")
        peers.take_facts(
            db,
            OTHER,
            life.epoch,
            first=1,
            facts=bodies,
            batch=(1, len(bodies)),
            header=b"{}",
            signature=b"s",
        )


def test_a_hold_counts_until_its_sale_and_then_the_sale_does(
    journal: Journal, store: Writer
) -> None:
    hold = add(journal, "hold", 500)
    assert spent(journal) == 500
    (open_hold,) = till_books.open_holds(journal.writer.db)
    assert (open_hold.sequence, open_hold.account_id) == (hold, ACCOUNT)
    add(journal, "sold", 500, of=hold)
    assert spent(journal) == 500 and till_books.open_holds(journal.writer.db) == []
    ended = [s for s in till_books.own_tail(journal.writer.db, ME, ACCOUNT) if s.hold_ended]
    assert [(one.sequence, one.amount_minor) for one in ended] == [(hold + 1, 0)]
    give(journal, store)
    assert spent_by_peer(store) == 500


def test_a_release_gives_back_everywhere_and_once(journal: Journal, store: Writer) -> None:
    hold = add(journal, "hold", 500)
    add(journal, "released", of=hold)
    assert spent(journal) == 0
    add(journal, "released", of=hold + 7)  # Of a hold that never was.
    assert spent(journal) == 0
    with journal.recording() as tap:  # A broken peer says it twice.
        tap.add(
            HoldReleased(
                **tap.stamp(at()), hold_epoch=journal.epoch, hold=hold, account=ACCOUNT, why="cap"
            )
        )
    give(journal, store)
    assert spent_by_peer(store) == 0
    assert all(one.hold_ended == (one.amount_minor < 0) for one in peers.peers_tail(store.db, "a1"))


def test_a_void_gives_back_at_its_own_till_alone(journal: Journal, store: Writer) -> None:
    sale = add(journal, "sale", 300)
    db = journal.writer.db
    assert till_books.is_voidable(db, journal.epoch, sale)
    assert [p.pieces for p in till_books.own_pieces(db, ME, ACCOUNT)] == [1]
    add(journal, "void", 300, of=sale)
    assert spent(journal) == 0 and not till_books.is_voidable(db, journal.epoch, sale)
    assert till_books.own_pieces(db, ME, ACCOUNT) == ()
    give(journal, store)
    assert spent_by_peer(store) == 300
    assert [p.pieces for p in peer_books.peers_pieces(store.db, ACCOUNT)] == [1]


def test_a_meal_is_claimed_here_and_at_the_others(journal: Journal, store: Writer) -> None:
    with journal.record(at()) as tap:
        tap.add(
            MealServed(
                **tap.stamp(at()),
                cardholder="p1",
                meal=MealUse(entitlement="e1", slot="lunch"),
                business_date=DAY,
                group="g",
                cashier="",
                caveats=(),
            )
        )
    claim = {meal_claim(DAY, "lunch", "e1")}
    assert till_books.own_claims(journal.writer.db, "p1") == claim
    give(journal, store)
    assert peer_books.peers_claims(store.db, "p1") == claim
    assert peer_books.peers_claims(store.db, "p2") == frozenset()


@pytest.mark.parametrize("ending", ["", "sold", "released"])
@pytest.mark.parametrize("kept", ["nothing", "the hold"])
def test_restated_over_two_epochs_the_sum_stays(
    journal: Journal, store: Writer, ending: str, kept: str
) -> None:
    hold, first = add(journal, "hold", 500), journal.epoch
    if ending:
        add(journal, ending, 500, of=hold)
    due = 0 if ending == "released" else 500
    give(journal, store)
    for why in ("lost_tail", "lost_tail"):
        life = outbox.lives(journal.writer.db, Stream.MAIN)[-1]
        known = hold if kept == "the hold" and life.epoch == first else 1
        epochs.close_life(journal, life, kept=known, moment=at(), why=why, station=Station.TILL)
        assert spent(journal) == due
        while epochs.restate_some(journal, at()):
            assert spent(journal) == due
        give(journal, store)
        assert spent(journal) == due and spent_by_peer(store) == due
    if not ending:
        (still,) = till_books.open_holds(journal.writer.db)
        assert (still.epoch, still.sequence) == (first, hold), "by the key it was made under"
        add(journal, "released", of=hold, epoch=first)
        give(journal, store)
        assert spent(journal) == 0 and spent_by_peer(store) == 0


def test_what_is_dropped_takes_its_tail_along(journal: Journal) -> None:
    hold = add(journal, "hold", 500)
    add(journal, "sold", 500, of=hold)
    add(journal, "sale", 70)
    life = outbox.lives(journal.writer.db, Stream.MAIN)[-1]
    retention.drop_facts(journal.writer, life, hold + 1)
    assert spent(journal) == 70


def close_out(journal: Journal) -> None:
    shift = till_books.shift(journal.writer.db)
    with journal.record(at()) as tap:
        tap.add(
            CloseOut(
                **tap.stamp(at()),
                number=shift.number,
                ranges=tuple(CloseRange(epoch=e, first=f, last=n) for e, f, n in shift.ranges),
                total_minor_by_tender={},
                count_by_kind={},
                voids_by_cashier={},
                overrides_by_cashier={},
                unsent=0,
                business_date=DAY,
                cashier="cook",
            )
        )


def test_a_shift_ends_with_its_close_out(journal: Journal) -> None:
    sale = add(journal, "sale", 300)
    db, epoch = journal.writer.db, journal.epoch
    shift = till_books.shift(db)
    assert (shift.number, shift.ranges) == (1, ((epoch, 1, sale),))
    assert till_books.closed_up_to(db, epoch) is None
    close_out(journal)
    assert till_books.closed_up_to(db, epoch) == sale + 1
    assert till_books.shift_sales(db) == [] and not till_books.is_voidable(db, epoch, sale)
    assert till_books.shift(db) == till_books.Shift(number=2, ranges=())
    add(journal, "sale", 5)
    assert till_books.shift(db).ranges == ((epoch, sale + 2, sale + 2),)
    assert len(list(till_books.facts_between(db, till_books.shift(db).ranges))) == 1


def test_an_epoch_that_was_closed_out_is_never_counted_again(journal: Journal) -> None:
    add(journal, "sale", 300)
    first = journal.epoch
    journal.open_epoch(at(), why="lost_sync", station=Station.TILL)
    assert {one[0] for one in till_books.shift(journal.writer.db).ranges} == {first, journal.epoch}
    for number in (2, 3, 4):
        close_out(journal)
        add(journal, "sale", 5)
        shift = till_books.shift(journal.writer.db)
        assert shift.number == number
        assert [(one[0], one[2] - one[1]) for one in shift.ranges] == [(journal.epoch, 0)]


def test_another_store_forgets_what_was_reported(store: Writer) -> None:
    with store.transaction() as db:
        peers.store_cover(db, OTHER, "s", "e", 5)
        peers.store_cover(db, OTHER, "s", "e", 3)
        assert db.execute("SELECT up_to FROM peer_cover").fetchall() == [(5,)], "it stays"
        epochs.new_store(db)
        assert db.execute("SELECT count(*) FROM peer_cover").fetchone() == (0,)


def test_a_restated_fact_of_an_unknown_kind_harms_nothing(journal: Journal) -> None:
    with journal.record(at()) as tap:
        header = facts.stamp(7, "x", device=ME)
        body = encode_fact(facts.refused_sale(header))
        tap.add(Restates(**tap.stamp(at()), old_epoch=header["epoch"], old_sequence=7, body=body))
    assert spent(journal) == 0
