"""Goal: over PostgreSQL the city is the same city as over SQLite.

Method: one script of messages and desk work is given to a core over each, and the books are
compared table by table; then what only a server can do: a connection that is cut, a second city on
the same schema, a word that holds a NUL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edge.messages import (
    BaseSeen,
    Hold,
    HoldReleased,
    MealServed,
    MealUse,
    OrderAnswer,
    Posting,
    Restates,
    SaleFact,
    Stream,
    Void,
    decode_fact,
)
from edge.model import SetupProblem, Station
from hil.city.accounts import turned
from hil.city.desk import Desk
from hil.city.intake import CityCore
from hil.city.keydesk import KeyDesk
from hil.city.keys import CityKeys
from hil.city.parents import ParentDesk
from hil.city.seed import seed_school
from hil.city.store import Store
from tests.city.postgres import cluster
from tests.city.sham import (
    EPOCH,
    MARK,
    NOON_MS,
    SITE,
    TODAY,
    Picture,
    Sham,
    city_keys,
    small_school,
)

pytestmark = [pytest.mark.process, pytest.mark.slow]
# Tables whose rows have no random bytes in them, and the order to compare them in.
TABLES = {
    "fact": "device, stream, epoch, sequence",
    "cursor": "device, stream, epoch",
    "gap": "device, stream, epoch, source",
    "fork": "device, stream, epoch, sequence, digest",
    "suspense": "id",
    "restated": "device, stream, epoch, sequence",
    "alarm": "device, what",
    "posting": "entry, account, purse, amount_minor",
    "balance": "account, purse",
    "spend": "account, date",
    "feed": "id",
    "setting": "name",
    "ban": "account, what, value",
    "desired": "device",
    "item": "account, date, category",
    "sale": "device, epoch, sequence, digest",
    "hold": "device, epoch, sequence",
    "meal_use": "id",
    "close_out": "device, epoch, sequence",
    "debit": "id",
    "base_seen": "device",
    "low_tier": "credential",
    "token": "cardholder, category",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with cluster() as found:
        yield found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> CityKeys:
    return city_keys(tmp_path_factory.mktemp("keys"))


def open_core(place: str, keys: CityKeys, schema: str = "city") -> CityCore:
    core = CityCore(Store(place, schema=schema), keys, gather_ms=0)
    seed_school(core, small_school(), NOON_MS)
    core.start(NOON_MS)
    return core


def books(core: CityCore) -> dict[str, list[tuple[Any, ...]]]:
    found = {t: core.store.rows(f"SELECT * FROM {t} ORDER BY {by}") for t, by in TABLES.items()}
    found["entry"] = core.store.rows("SELECT id, kind, reference FROM entry ORDER BY id")
    return found


def spend(core: CityCore, desk: Desk) -> list[object]:
    """What a till does beside plain sales, and what the city spends meanwhile."""
    till, parents = Sham(core, "till-9"), ParentDesk(core, desk)
    till.opened()
    ann, account = f"{SITE}c0001", f"{SITE}a0001"
    held = (
        Posting(account=account, purse="main", amount_minor=-350_00),
        Posting(account=f"sales:{SITE}", purse="main", amount_minor=350_00),
    )
    for _ in range(2):
        till.add(Hold, account=account, cardholder=ann, postings=held, business_date=TODAY,
                 money=MARK)  # fmt: skip
    till.add(HoldReleased, hold_epoch=EPOCH, hold=2, account=account, why="cap")
    till.sale(1)
    sold = decode_fact(till.facts[-1])
    assert isinstance(sold, SaleFact)
    till.add(Void, sale_epoch=EPOCH, sale=5, account=account, postings=turned(sold.postings),
             business_date=TODAY, why="cashier")  # fmt: skip
    meal = MealUse(entitlement="e", slot="lunch")
    for wall_ms in (NOON_MS, NOON_MS - 1):
        till.add(MealServed, cardholder=ann, meal=meal, business_date=TODAY, group="g",
                 cashier="c", caveats=(), wall_ms=wall_ms)  # fmt: skip
    till.closed_out()
    with core.store.transaction():
        core.registry.set_ward(f"{SITE}c5001", f"{SITE}c0002", "", barred=False)
    request = {"from": ann, "to": f"{SITE}c0002", "amount_minor": 100, "reference": "t"}
    answers: list[object] = [parents.transfer(request, NOON_MS).answer]
    state = core.publisher.state(f"{SITE}/money")
    assert state is not None
    till.add(BaseSeen, money=state.version)
    answers += [till.send_all(), parents.debits({})]
    answers.append(parents.limit({"cardholder": ann, "item_limits": {"soup": 1}}, NOON_MS).answer)
    return answers


def play(core: CityCore) -> list[object]:
    """A day at a till and at a gate, with everything that goes wrong; the answers to it."""
    till, gate = Sham(core, "till-1"), Sham(core, "gate-1", Station.ENTRANCE)
    desk = Desk(core, ())
    key_desk = KeyDesk(core, desk, core.keys.folder)
    answers: list[object] = []
    till.opened()
    for number in range(1, 6):
        till.sale(number)
    answers += [till.send(1, 3), till.send(5, 6), till.send(2, 6), till.send(1, 6)]
    till.sale(1, account="nobody", cardholder="nobody", postings=_nobodys())
    till.record(_unknown_kind(till))
    answers.append(till.send_all())
    fork = Sham(core, "till-2")
    fork.opened()
    fork.sale(1)
    fork.send_all()
    fork.facts = fork.facts[:1]
    fork.sale(2)
    answers.append(fork.send_all())
    old = fork.facts[1]
    fork.epoch, fork.facts = "00000000000000e2", []
    fork.opened()
    for _ in range(2):
        restates = Restates(old_epoch=EPOCH, old_sequence=2, body=old, **fork.base())
        fork.record(restates)
    answers.append(fork.send_all())
    answers += spend(core, desk)
    gate.opened()
    gate.passage()
    gate.record(
        OrderAnswer(counter=1, order="x", accepted=False, why="nul \0 inside", **gate.base())
    )
    answers.append(gate.send_all())
    answers.append(
        gate.send_bytes(
            b'{"device":"gate-1","stream":"main","epoch":"'
            + EPOCH.encode()
            + b'","first":1,"count":1,"digest":""}\n{'
        )
    )
    answers += [
        desk.block({"card": "pupil"}, NOON_MS, on=True).answer,
        desk.top_up(
            {"cardholder": f"{SITE}c0001", "amount_minor": 500, "reference": "r"}, NOON_MS
        ).answer,
        desk.ban({"cardholder": f"{SITE}c0001", "category": "pastry"}, NOON_MS).answer,
        desk.order({"device": "gate-1", "order": "open_once"}, NOON_MS).answer,
        desk.configure({"device": "gate-1", "values": {"health_s": 30}}, NOON_MS).answer,
        desk.configure({"device": "gate-1", "values": {"health_s": 40}}, NOON_MS).answer,
        key_desk.revoke({"device": "till-2"}, NOON_MS).answer,
        desk.ledger(),
    ]
    return answers


def _nobodys() -> tuple[Posting, ...]:
    return (
        Posting(account="nobody", purse="main", amount_minor=-85_00),
        Posting(account=f"sales:{SITE}", purse="main", amount_minor=85_00),
    )


def _unknown_kind(till: Sham) -> bytes:
    base = till.base()
    return (
        f'{{"kind":"dreamt","device":"till-1","site":"{SITE}","stream":"main","epoch":"{EPOCH}",'
        f'"sequence":{base["sequence"]},"previous":"{base["previous"]}"}}'
    ).encode()


def test_both_keep_the_same_books(url: str, keys: CityKeys) -> None:
    here, there = open_core(":memory:", keys), open_core(url, keys, "same")
    try:
        assert play(here) == play(there)
        mine, its = books(here), books(there)
        for table, rows in mine.items():
            assert its[table] == rows or table == "alarm", table
        assert [row[:2] for row in mine["alarm"]] == [row[:2] for row in its["alarm"]]
        assert mine["suspense"] and mine["fork"] and mine["restated"] and mine["feed"]
        till = Sham(there, "till-3")
        for part in ("people", "money", "menu", "settings"):
            picture = Picture(till, f"{SITE}/{part}")
            picture.fetch()
            assert picture.rows
    finally:
        here.store.close()
        there.store.close()


def test_what_was_committed_is_there_after_a_restart(url: str, keys: CityKeys) -> None:
    core = open_core(url, keys, "again")
    till = Sham(core, "till-1")
    till.opened()
    till.sale(1)
    assert till.send_all().up_to == 2
    versions = Desk(core, ()).status()["versions"]
    with pytest.raises(SetupProblem, match="another city"):
        Store(url, schema="again")
    core.store.close()
    core = open_core(url, keys, "again")
    till.core = core
    assert till.send_all().up_to == 2
    assert Desk(core, ()).status()["versions"] == versions
    core.store.close()


def test_a_cut_connection_costs_what_was_not_committed_and_nothing_else(
    url: str, keys: CityKeys
) -> None:
    core, other = open_core(url, keys, "cut"), Store(url, schema="other")
    till = Sham(core, "till-1")
    till.opened()
    till.sale(1)
    assert till.send(1, 1).up_to == 1
    other.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with pytest.raises(core.store.trouble):
        till.send(2, 2)
    assert till.send(1, 2).up_to == 2
    assert core.ledger.balances(f"sales:{SITE}") == {"main": 85_00}
    core.store.close()
    other.close()


@pytest.mark.parametrize("place", ["postgresql:///x?host=/nowhere", "postgresql://127.0.0.1:1/x"])
def test_a_server_that_is_not_there_is_one_sentence(url: str, place: str) -> None:
    assert url
    with pytest.raises(SetupProblem, match=r"PostgreSQL: .*look at --database"):
        Store(place)


def test_streams_are_words_of_the_wire(url: str) -> None:
    """What a device sends as text arrives as text, NUL and all."""
    store = Store(url, schema="words")
    with store.transaction():
        store.alarm("d", "w", "a\0b % ? '", NOON_MS)
        store.set_meta("main", Stream.MAIN)
    assert store.rows("SELECT text FROM alarm") == [("a�b % ? '",)]
    assert store.meta("main") == "main"
    store.close()
