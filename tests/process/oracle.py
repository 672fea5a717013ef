"""What a city must hold at the end, held against the journals of its devices.

Reads the devices' files read-only through `edge.offline_cache.outbox`, and asks the city over its
HTTP: the exact bytes on both sides, every fact once, no hole, the chain whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar

from edge.messages import (
    AccessFact,
    AnyFact,
    OrderAnswer,
    PassageFact,
    SaleFact,
    Stream,
    decode_fact,
    digest_of,
)
from edge.model import Direction, Outcome, PassageResult
from edge.offline_cache import outbox
from edge.offline_cache.store import FileKind, open_reader, reading
from hil.world.school import PURSE
from tests.process.school import Station, World
from tests.process.visitors import Door, Till

T = TypeVar("T")
Place = tuple[str, str]  # (stream, epoch)
FILES = {
    Stream.MAIN: ("journal.db", FileKind.JOURNAL),
    Stream.AGENT: ("sync.db", FileKind.SYNC),
    Stream.DIAG: ("sync.db", FileKind.SYNC),
}


def journal(station: Station) -> dict[Place, list[bytes]]:
    """Every fact of every epoch the device holds, chain checked from the first to the head."""
    found: dict[Place, list[bytes]] = {}
    for stream, (name, kind) in FILES.items():
        db = open_reader(station.folder / "state" / name, kind)
        assert db is not None
        with reading(db):
            for life in outbox.lives(db, stream):
                assert outbox.chain_problem(db, life) == "" and life.held_from == 1
                facts = outbox.next_facts(
                    db, life.life, 1, rows_max=life.head + 1, bytes_max=1 << 40
                )
                assert len(facts) == life.head
                found[stream.value, life.epoch] = facts
        db.close()
    return found


def is_drained(world: World) -> bool:
    """The city has every stream of both devices up to its head."""
    cursors = {
        (c["device"], c["stream"], c["epoch"]): c["up_to"]
        for c in world.city.get("/status")["cursors"]
    }
    return all(
        cursors.get((station.device, *place)) == len(facts)
        for station in world.stations
        for place, facts in journal(station).items()
    )


def assert_city_has_the_journals(world: World) -> list[AnyFact]:
    """Fact for fact, byte for byte, and nothing beside them; all facts, decoded."""
    status = world.city.get("/status")
    for table in ("gaps", "forks", "suspense"):
        assert status[table] == [], (table, status[table])
    everything: list[AnyFact] = []
    for station in world.stations:
        journals = journal(station)
        cursors = {
            (c["stream"], c["epoch"]): c for c in status["cursors"] if c["device"] == station.device
        }
        assert set(cursors) == set(journals)
        for (stream, epoch), facts in journals.items():
            assert world.city.facts(station.device, stream, epoch) == facts
            assert cursors[stream, epoch]["digest"] == digest_of(facts[-1])
            decoded = [decode_fact(fact) for fact in facts]
            assert [fact.sequence for fact in decoded] == list(range(1, len(facts) + 1))
            everything += decoded
    return everything


def of_kind(facts: Iterable[AnyFact], kind: type[T]) -> list[T]:
    return [fact for fact in facts if isinstance(fact, kind)]


def assert_every_light_is_a_fact(facts: list[AnyFact], doors: Iterable[Door], till: Till) -> None:
    """What was green on a screen is on record, and what was red is too."""
    decisions = {f"{f.epoch}.{f.sequence}": f for f in of_kind(facts, AccessFact)}
    orders = {f"{f.epoch}.{f.sequence}" for f in of_kind(facts, OrderAnswer) if f.accepted}
    for door in doors:
        assert door.lights
        for passage, state in door.lights.items():
            if passage in orders:
                continue
            granted = decisions[passage].outcome is Outcome.GRANT
            assert granted is (state in ("granted", "taken")), (passage, state)
    sales = Counter[tuple[str | None, int]](
        (f.cardholder, f.total_minor) for f in of_kind(facts, SaleFact)
    )
    assert not till.sold - sales, "a sale that was shown is not on record"


def assert_passages_add_up(world: World, facts: list[AnyFact], *, torn: int) -> None:
    """Every grant ends in one result, but where the agent was killed before it; every passage
    taken is a message to the family, and nothing else is."""
    passages = of_kind(facts, PassageFact)
    ends = Counter(passage.passage for passage in passages if passage.passage is not None)
    grants = {
        f"{f.epoch}.{f.sequence}" for f in of_kind(facts, AccessFact) if f.outcome is Outcome.GRANT
    }
    grants |= {f"{f.epoch}.{f.sequence}" for f in of_kind(facts, OrderAnswer) if f.accepted}
    assert set(ends) <= grants and set(ends.values()) == {1}
    assert len(grants - set(ends)) <= torn
    assert all(passage.result is not PassageResult.FORCED for passage in passages)
    told = Counter(
        (p.cardholder, "came" if p.direction is Direction.IN else "left")
        for p in passages
        if p.result is PassageResult.TAKEN and p.cardholder is not None
    )
    told.update((f.cardholder, "bought") for f in of_kind(facts, SaleFact))
    assert Counter((line["cardholder"], line["kind"]) for line in feed(world)) == told


def assert_money_adds_up(world: World, facts: list[AnyFact]) -> None:
    """Nothing came from nowhere: the ledger sums to zero, and the sales are the facts' sales."""
    ledger = world.city.get("/ledger")
    total_minor = sum(fact.total_minor for fact in of_kind(facts, SaleFact))
    assert total_minor > 0
    assert ledger["zero"] is True
    assert ledger["places"]["sales"] == {PURSE: total_minor}
    assert ledger["places"]["suspense"] == {}
    assert ledger["entries"]["sale"] == len(of_kind(facts, SaleFact))
    spent: Counter[str] = Counter()
    for sale in of_kind(facts, SaleFact):
        assert sum(posting.amount_minor for posting in sale.postings) == 0
        spent[sale.account] += sale.total_minor
    opening = {account.account_id: account.balance_minor for account in world.school.accounts}
    for account, minor in spent.items():
        found = world.city.get(f"/account?account={account}")["balance_minor_by_purse"]
        assert found == {PURSE: opening[account] - minor}


def feed(world: World) -> list[dict[str, Any]]:
    """All messages to families."""
    found: list[dict[str, Any]] = []
    while page := world.city.get(f"/feed?after={found[-1]['id'] if found else 0}"):
        found += page
    return found
