"""Goal: facts enter the city's books exactly once, in order, and nothing is lost unseen.

Method: the rule alone is exhausted over every small cursor, batch and gap; then a sham device sends
to the whole core: gaps, replays, overlaps, forks, poison, declared losses, new epochs; at last a
hostile network drops, repeats and reorders batches, drawn by hypothesis.
"""

from __future__ import annotations

import sqlite3
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import (
    Ack,
    BatchHeader,
    Gap,
    Stream,
    decode_json,
    digest_of,
    encode_batch,
    encode_json,
)
from edge.model import Station
from hil.city.batches import Arrived, Course, newest_acks, plan_batch
from hil.city.intake import CityCore
from hil.city.lists import Out
from hil.city.posting import SuspenseReason
from hil.city.store import Cursor
from tests.city.sham import EPOCH, NOON_MS, SITE, Sham, make_core


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def core(folder: Path) -> CityCore:
    return make_core(folder)


@pytest.fixture
def till(core: CityCore) -> Sham:
    sham = Sham(core, "till-1")
    sham.opened()
    for number in range(1, 6):
        sham.sale(number)
    return sham


def held(sham: Sham) -> list[bytes]:
    found = sham.core.store.rows(
        "SELECT bytes FROM fact WHERE device = ? AND epoch = ? ORDER BY sequence",
        (sham.device, sham.epoch),
    )
    return [row[0] for row in found]


def suspense_of(core: CityCore) -> list[tuple[int, str]]:
    found = core.store.rows("SELECT sequence, reason FROM suspense ORDER BY id")
    return [(sequence, reason) for sequence, reason in found]


def alarms(core: CityCore) -> set[str]:
    return {row[0] for row in core.store.rows("SELECT what FROM alarm")}


# ---------------------------------------------------------------------------- the rule alone


def chain(first: int, count: int) -> list[Arrived]:
    """Facts of the one true history."""
    return [
        Arrived(sequence=n, previous=f"d{n - 1}" if n > 1 else "", digest=f"d{n}")
        for n in range(first, first + count)
    ]


def header(first: int, count: int, gap: Gap | None = None) -> BatchHeader:
    return BatchHeader(
        device="till-1",
        stream=Stream.MAIN,
        epoch=EPOCH,
        first=first,
        count=count,
        digest="",
        gap=gap,
    )


def test_a_batch_is_taken_if_it_begins_at_most_one_above_the_high_water() -> None:
    for up_to, first, count in product(range(5), range(1, 7), range(5)):
        cursor = Cursor(up_to=up_to, digest=f"d{up_to}" if up_to else "")
        plan = plan_batch(header(first, count), chain(first, count), cursor, lambda n: f"d{n}")
        if first > up_to + 1:
            assert plan.course is Course.REWIND
        else:
            assert plan.course is Course.TAKE
            assert [first + place for place in plan.new] == [
                n for n in range(first, first + count) if n > up_to
            ]
            assert plan.late == () and plan.forked == () and plan.gap_source is None


def test_a_gap_moves_the_high_water_and_never_hides_one_before_it() -> None:
    for up_to, source, length, count in product(range(5), range(1, 7), range(1, 4), range(3)):
        target = source + length - 1
        gap = Gap(source=source, target=target, digest=f"d{target}", counts={})
        cursor = Cursor(up_to=up_to, digest=f"d{up_to}" if up_to else "")
        batch = header(target + 1, count, gap)
        plan = plan_batch(batch, chain(target + 1, count), cursor, lambda n: f"d{n}")
        if source > up_to + 1:
            assert plan.course is Course.REWIND
            continue
        assert plan.course is Course.TAKE
        assert plan.gap_source == (up_to + 1 if target > up_to else None)
        assert [target + 1 + place for place in plan.new] == [
            n for n in range(target + 1, target + 1 + count) if n > up_to
        ]


def test_another_history_is_a_fork_wherever_it_parts() -> None:
    """The device's facts differ from `parts` on; the city holds the first `up_to` of the other."""
    for up_to, parts, first, count in product(range(1, 5), range(1, 6), range(1, 6), range(1, 5)):
        if first > up_to + 1:
            continue
        mine = [
            Arrived(
                sequence=fact.sequence,
                previous=f"x{fact.sequence - 1}" if fact.sequence > parts else fact.previous,
                digest=f"x{fact.sequence}" if fact.sequence >= parts else fact.digest,
            )
            for fact in chain(first, count)
        ]
        cursor = Cursor(up_to=up_to, digest=f"d{up_to}")
        plan = plan_batch(header(first, count), mine, cursor, lambda n: f"d{n}")
        contradicts = parts <= up_to and first + count - 1 >= parts
        assert (plan.course is Course.FORK) is contradicts, (up_to, parts, first, count)
        assert (plan.new == ()) or not contradicts


# ---------------------------------------------------------------------------- the whole core


def acknowledgement(device: str, stream: Stream, up_to: int, way: str) -> tuple[Ack, Out]:
    ack = Ack(
        device=device,
        stream=stream,
        epoch=EPOCH,
        up_to=up_to,
        rewind=way == "rewind",
        problem="fork" if way == "fork" else "",
    )
    return ack, Out(f"mk/v1/d/{device}/ack", encode_json(ack))


def test_batches_of_one_commit_share_an_acknowledgement_and_no_problem_is_hidden() -> None:
    spaces = (("till-1", "till-2"), (Stream.MAIN, Stream.AGENT), range(2), ("", "rewind", "fork"))
    answers = [acknowledgement(*each) for each in product(*spaces)]
    welcome = Out("mk/v1/d/till-1/welcome", b"not an acknowledgement")
    for three in product(answers, repeat=3):
        wanted = [
            out
            for at, (ack, out) in enumerate(three)
            if ack.rewind
            or ack.problem
            or all((ack.device, ack.stream) != (x.device, x.stream) for x, _ in three[at + 1 :])
        ]
        assert newest_acks([*(out for _, out in three), welcome]) == [*wanted, welcome]
    _, own = acknowledgement("till-1", Stream.MAIN, 1, "")
    by_a_neighbour = own._replace(topic="mk/v1/d/till-2/ack")
    assert newest_acks([own, by_a_neighbour]) == [own, by_a_neighbour], "two hear it"


def test_a_gap_is_answered_with_the_high_water(till: Sham) -> None:
    assert till.send(1, 2) == Ack(device="till-1", stream=Stream.MAIN, epoch=EPOCH, up_to=2)
    ack = till.send(4, 6)
    assert ack.rewind and ack.up_to == 2
    assert held(till) == till.facts[:2]
    assert till.send(3, 6).up_to == 6
    assert held(till) == till.facts


def test_every_acknowledgement_leaves_with_qos_0(till: Sham) -> None:
    """Whatever it says: the next makes good a lost one, and a PUBACK for each is work for all."""
    topic = f"mk/v1/d/till-1/up/{till.stream}"
    payloads = {
        "": till.batch(1, 2),
        "rewind": till.batch(5, 6),
        "corrupt": till.batch(3, 3)[:-1],
    }
    del till.facts[1:]
    till.sale(9)
    payloads["fork"] = till.batch(1, 2)
    said = []
    for payload in payloads.values():
        outs = till.core.receive(topic, payload, NOON_MS)
        (out,) = [one for one in outs if one.topic.endswith("/ack")]
        assert (out.qos, out.retain) == (0, False)
        ack = decode_json(Ack, out.payload)
        said.append("rewind" if ack.rewind else ack.problem)
    assert said == list(payloads)


def test_a_city_that_is_crowded_says_so_in_every_acknowledgement(
    till: Sham, core: CityCore
) -> None:
    assert till.send(1, 1).throttle_per_s is None
    core.throttle(20)
    said = [till.send(2, 2), till.send(4, 4), till.send_bytes(till.batch(3, 3)[:-1])]
    assert [(ack.rewind, ack.problem) for ack in said] == [
        (False, ""),
        (True, ""),
        (False, "corrupt"),
    ]
    assert {ack.throttle_per_s for ack in said} == {20}
    core.throttle(None)
    assert till.send(3, 3).throttle_per_s is None


def test_replays_and_overlaps_are_one_entry(till: Sham, core: CityCore) -> None:
    till.send_all()
    before = core.ledger.balances(f"sales:{SITE}")
    for first, last in ((1, 6), (2, 4), (6, 6), (1, 1)):
        ack = till.send(first, last)
        assert (ack.up_to, ack.rewind, ack.problem) == (6, False, "")
    assert held(till) == till.facts
    assert core.ledger.balances(f"sales:{SITE}") == before == {"main": 5 * 85_00}


def test_the_same_key_with_other_bytes_is_a_fork_and_both_are_kept(
    till: Sham, core: CityCore
) -> None:
    till.send_all()
    twin = Sham.__new__(Sham)
    twin.__dict__ = {**till.__dict__, "facts": till.facts[:3]}
    twin.sale(7)
    twin.sale(8)
    twin.sale(9)
    twin.sale(10)
    for _ in range(2):
        ack = twin.send(1, 7)
        assert (ack.up_to, ack.problem) == (6, "fork")
    assert held(till) == till.facts
    forks = core.store.rows("SELECT sequence, bytes FROM fork ORDER BY sequence")
    assert forks == list(enumerate(twin.facts[3:], start=4))
    assert "fork" in alarms(core)
    assert core.ledger.balances(f"sales:{SITE}") == {"main": 5 * 85_00}


def test_a_chain_that_breaks_at_the_high_water_moves_nothing(till: Sham, core: CityCore) -> None:
    """An old image grew past the city's high water: its acknowledged-looking facts were never sent,
    so what follows them may not be taken for the continuation."""
    till.send(1, 4)
    twin = Sham.__new__(Sham)
    twin.__dict__ = {**till.__dict__, "facts": till.facts[:2]}
    for number in (7, 8, 9):
        twin.sale(number)
    ack = twin.send(5, 5)
    assert (ack.up_to, ack.problem) == (4, "fork")
    assert core.store.rows("SELECT sequence FROM fork") == [(5,)]
    assert till.send(5, 6).up_to == 6


def test_a_fact_that_cannot_be_posted_blocks_nothing(core: CityCore) -> None:
    till = Sham(core, "till-1")
    till.opened()
    till.sale(1)
    unknown = till.make_sale(1, account="nobody", cardholder=f"{SITE}c0001")
    posted = tuple(
        type(p)(
            account="nobody" if p.account == f"{SITE}a0001" else p.account,
            purse=p.purse,
            amount_minor=p.amount_minor,
        )
        for p in unknown.postings
    )
    till.record(till.make_sale(1, account="nobody", postings=posted))
    till.record(till.make_sale(2, total_minor=1))
    poison = encode_json(till.make_sale(3)).replace(b'"kind":"sale"', b'"kind":"sorcery"')
    till.record(poison)
    till.sale(4)
    assert till.send_all().up_to == 6
    assert suspense_of(core) == [
        (3, SuspenseReason.UNKNOWN_ACCOUNT),
        (4, SuspenseReason.BAD_AMOUNTS),
        (5, SuspenseReason.UNDECODABLE),
    ]
    assert held(till) == till.facts
    assert core.ledger.balances(f"suspense:{SITE}") == {"main": -85_00}
    assert core.ledger.balances(f"sales:{SITE}") == {"main": 3 * 85_00}
    assert core.ledger.sums() == {"main": 0}


def test_a_mistake_of_the_city_puts_one_fact_aside_and_goes_on(
    till: Sham, core: CityCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = core.registry.product_name
    calls = 0

    def broken(name: str) -> str | None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError(name)
        return real(name)

    monkeypatch.setattr(core.registry, "product_name", broken)
    assert till.send_all().up_to == 6
    assert suspense_of(core) == [(2, SuspenseReason.CITY_FAULT)]
    assert core.ledger.balances(f"sales:{SITE}") == {"main": 4 * 85_00}


def test_a_full_disk_takes_nothing_and_acknowledges_nothing(
    till: Sham, core: CityCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_more: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(core.ledger, "post", full)
        with pytest.raises(sqlite3.OperationalError):
            till.send_all()
    assert held(till) == [] and suspense_of(core) == []
    assert till.send_all().up_to == 6


def test_a_declared_gap_alone_moves_past_a_hole(till: Sham, core: CityCore) -> None:
    till.send(1, 2)
    lost = Gap(source=3, target=4, digest=digest_of(till.facts[3]), counts={"sale": 2})
    assert till.send(5, 6, lost).up_to == 6
    assert core.store.rows("SELECT source, target, counts FROM gap") == [(3, 4, '{"sale": 2}')]
    assert "gap" in alarms(core)
    assert core.ledger.balances(f"sales:{SITE}") == {"main": 3 * 85_00}
    # What was declared lost and comes after all is kept and shown to a person, not posted unseen.
    assert till.send(3, 4).up_to == 6
    assert suspense_of(core) == [(3, "declared_lost"), (4, "declared_lost")]
    assert held(till) == till.facts


def test_a_gap_without_rows_and_a_gap_from_the_start(till: Sham) -> None:
    lost = Gap(source=1, target=5, digest=digest_of(till.facts[4]), counts={})
    empty = BatchHeader(
        device="till-1",
        stream=Stream.MAIN,
        epoch=EPOCH,
        first=6,
        count=0,
        digest=lost.digest,
        gap=lost,
    )
    assert till.send_bytes(encode_batch(empty, [])).up_to == 5
    assert till.send(6, 6).up_to == 6
    other = Gap(source=9, target=9, digest="x", counts={})
    assert till.send_bytes(encode_batch(header(10, 0, other), [])).problem == "corrupt"


def test_a_new_epoch_begins_at_one_with_its_opening(till: Sham, core: CityCore) -> None:
    till.send_all()
    till.epoch, till.facts = "00000000000000e2", []
    till.sale(6)
    assert till.send(2, 2).problem == "corrupt"  # Nothing, said to be from 2.
    assert till.send_all().up_to == 1
    assert suspense_of(core) == [(1, "epoch_not_opened")]
    till.epoch, till.facts = "00000000000000e3", []
    till.opened()
    till.sale(6)
    assert till.send_all().up_to == 2
    assert core.ledger.balances(f"sales:{SITE}") == {"main": 6 * 85_00}


def test_only_a_tills_main_stream_sells(core: CityCore) -> None:
    gate = Sham(core, "gate-1", Station.ENTRANCE)
    gate.opened()
    gate.sale(1)
    assert gate.send_all().up_to == 2
    assert suspense_of(core) == [(2, "not_a_till")]
    assert core.ledger.balances(f"sales:{SITE}") == {}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"device":"till-1","stream":"main","epoch":"../..","first":1,"count":0,"digest":""}',
        b'{"device":"d2","stream":"main","epoch":"00000000000000e1","first":1,"count":0,"digest":""}',
    ],
)
def test_rubbish_is_an_alarm_and_no_answer(till: Sham, core: CityCore, payload: bytes) -> None:
    assert core.receive("mk/v1/d/till-1/up/main", payload, NOON_MS) == []
    assert alarms(core) == {"corrupt_up"}


@pytest.mark.parametrize(
    ("first", "gap"),
    [
        (2**70, None),
        (0, None),
        (-5, None),
        (2**70 + 1, Gap(source=1, target=2**70, digest="x", counts={})),
        (1, Gap(source=0, target=0, digest="x", counts={})),
        (3, Gap(source=4, target=2, digest="x", counts={})),
    ],
)
def test_impossible_numbers_are_refused(till: Sham, first: int, gap: Gap | None) -> None:
    batch = BatchHeader(
        device="till-1",
        stream=Stream.MAIN,
        epoch=EPOCH,
        first=first,
        count=0,
        digest="x",
        gap=gap,
    )
    ack = till.send_bytes(encode_json(batch))
    assert (ack.problem, ack.up_to) == ("corrupt", 0)


def test_facts_that_are_not_text_are_refused(till: Sham) -> None:
    batch = till.batch(1, 1).replace(b"new_store", b"new\xff\xfe\xfdore")
    assert till.send_bytes(batch).problem == "corrupt"


def test_an_unknown_device_is_not_answered(core: CityCore) -> None:
    assert core.receive("mk/v1/d/ghost/up/main", b"{}", NOON_MS) == []
    assert core.receive("mk/v1/d/GHOST/../x/hello", b"{}", NOON_MS) == []
    assert core.receive("other/topic", b"{}", NOON_MS) == []
    assert alarms(core) == {"unknown_device"}


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_delivery_ends_with_every_fact_once(folder: Path, data: st.DataObject) -> None:
    """Batches are lost, repeated and reordered; the device sends from its last acknowledgement."""
    core = make_core(folder)
    till = Sham(core, "till-1")
    till.opened()
    total = data.draw(st.integers(1, 25))
    for number in range(total):
        till.sale(number % 20 + 1)
    acknowledged, old = 0, [(1, 1)]
    for _ in range(data.draw(st.integers(0, 30))):
        first = acknowledged + 1 + data.draw(st.sampled_from((0, 0, 0, 3, -2)))
        first = min(max(first, 1), len(till.facts))
        last = min(len(till.facts), first + data.draw(st.integers(0, 9)))
        batch = data.draw(st.sampled_from(((first, last), old[0], old[-1])))
        old.append(batch)
        if data.draw(st.booleans()):
            ack = till.send(*batch)
            assert ack.problem == "" and ack.up_to >= acknowledged
            if data.draw(st.booleans()):
                acknowledged = ack.up_to
    while acknowledged < len(till.facts):
        acknowledged = till.send(acknowledged + 1, min(acknowledged + 7, len(till.facts))).up_to
    assert held(till) == till.facts
    assert core.ledger.balances(f"sales:{SITE}") == {"main": total * 85_00}
    assert core.ledger.sums() == {"main": 0}
    core.store.close()
