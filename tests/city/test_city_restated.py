"""Goal: what a device restates of a closed epoch enters the books exactly once, whether the city
had it, had something else under its number, or gets it later after all.

Method: a till's two histories of one epoch (an old copy was put back), restated in a new epoch in
every combination; balances and feed are counted.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from edge.messages import EpochClosed, Folded, Gap, Restates, Stream, digest_of
from hil.city.intake import CityCore
from hil.city.posting import SuspenseReason
from hil.city.store import StreamKey
from tests.city.sham import EPOCH, SITE, Sham, make_core

NEW = "00000000000000e2"
PRICE = 85_00


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def core(folder: Path) -> CityCore:
    return make_core(folder)


def sold(core: CityCore) -> int:
    """How many sales stand in the books."""
    assert not any(core.ledger.sums().values())
    total = core.ledger.balances(f"sales:{SITE}").get("main", 0)
    bought = core.store.rows("SELECT COUNT(*) FROM feed WHERE kind = 'bought'")[0][0]
    assert total == bought * PRICE
    return total // PRICE


def reasons(core: CityCore) -> list[str]:
    return [row[0] for row in core.store.rows("SELECT reason FROM suspense ORDER BY id")]


def restate(till: Sham, *bodies: tuple[int, bytes], epoch: str = EPOCH) -> None:
    """In a new epoch of the same stream."""
    till.epoch, till.facts = NEW, []
    till.opened()
    for sequence, body in bodies:
        till.record(Restates(old_epoch=epoch, old_sequence=sequence, body=body, **till.base()))


@pytest.mark.parametrize(("held", "late"), list(product((False, True), repeat=2)))
def test_a_sale_counts_once_however_it_comes(core: CityCore, held: bool, late: bool) -> None:
    till = Sham(core, "till-1")
    till.opened()
    till.sale(1)
    old = list(till.facts)
    till.send(1, 2 if held else 1)
    restate(till, (2, old[1]), (2, old[1]))
    assert till.send_all().up_to == 3
    assert sold(core) == 1
    if late:
        till.epoch, till.facts = EPOCH, old
        assert till.send_all().up_to == 2
    assert sold(core) == 1 and reasons(core) == []


def test_both_histories_of_one_number_count(core: CityCore) -> None:
    """The city holds one sale under the number; the device restates the other one."""
    till = Sham(core, "till-1")
    till.opened()
    till.sale(1)
    till.send_all()
    copy = Sham.__new__(Sham)
    copy.__dict__.update(till.__dict__)
    copy.facts = till.facts[:1]
    other = copy.sale(2)
    restate(till, (2, other))
    assert till.send_all().up_to == 2
    assert sold(core) == 2
    money = core.ledger.balances(f"{SITE}a0002")["main"]
    opening = core.store.rows(
        "SELECT amount_minor FROM posting WHERE account = ? AND amount_minor > 0", (f"{SITE}a0002",)
    )[0][0]
    assert opening - money == PRICE


def test_what_does_not_fit_goes_aside_and_moves_nothing(core: CityCore) -> None:
    till = Sham(core, "till-1")
    till.opened()
    sale = till.sale(1)
    other = Sham(core, "till-2")
    other.opened()
    strange = other.sale(1)
    inside = list(till.facts)
    restate(till, (3, sale), (2, strange), (2, b"{"), (2, sale[:-1]), (1, inside[0]))
    own = till.facts[1]
    till.record(Restates(old_epoch=NEW, old_sequence=2, body=own, **till.base()))
    assert till.send_all().up_to == 7
    assert sold(core) == 0
    assert reasons(core) == [SuspenseReason.UNDECODABLE] * 5


def test_a_restated_sale_of_no_till_is_not_posted(core: CityCore) -> None:
    till = Sham(core, "till-1")
    till.stream = Stream.AGENT
    till.opened()
    sale = till.sale(1)
    restate(till, (2, sale))
    assert till.send_all().up_to == 2
    assert sold(core) == 0 and reasons(core) == [SuspenseReason.NOT_A_TILL]


def test_a_restated_fact_that_cannot_be_posted_is_a_suspense_of_its_own(core: CityCore) -> None:
    till = Sham(core, "till-1")
    till.opened()
    sale = till.sale(1, account="nobody")
    restate(till, (2, sale))
    assert till.send_all().up_to == 2
    assert reasons(core) == [SuspenseReason.BAD_AMOUNTS]


def test_summaries_of_what_is_gone_are_facts_like_others(core: CityCore) -> None:
    till = Sham(core, "till-1")
    till.opened()
    till.record(
        Folded(of_epoch=EPOCH, source=2, target=9, counts={"access": 8}, digest="", **till.base())
    )
    till.record(
        EpochClosed(
            old_epoch="00000000000000e0",
            kept_up_to=3,
            head=9,
            restated=4,
            missing={"unknown": 2},
            **till.base(),
        )
    )
    assert till.send_all().up_to == 3
    key = StreamKey(device="till-1", stream=Stream.MAIN, epoch=EPOCH)
    assert core.store.facts(key, 0) == till.facts and reasons(core) == []


@pytest.mark.parametrize(("stream", "alarms"), [(Stream.MAIN, 1), (Stream.DIAG, 0)])
def test_a_declared_gap_is_kept_with_its_counts_and_alarms_where_it_matters(
    core: CityCore, stream: Stream, alarms: int
) -> None:
    till = Sham(core, "till-1")
    till.stream = stream
    till.opened()
    for _ in range(3):
        till.passage()
    gap = Gap(source=2, target=3, digest=digest_of(till.facts[2]), counts={"passage": 2})
    till.send(1, 1)
    assert till.send(4, 4, gap).up_to == 4
    assert core.store.rows("SELECT source, target, counts FROM gap") == [(2, 3, '{"passage": 2}')]
    found = core.store.rows("SELECT COUNT(*) FROM alarm WHERE what = 'gap'")
    assert found == [(alarms,)]
