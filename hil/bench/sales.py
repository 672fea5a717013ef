"""A sale of five lines beside a bare durable commit of the same bytes: everybody has bans, limits
and a meal by right, and three other tills speak all the time; then the same while a whole city's
list is built beside it.

The agent, its journal and its lists are real. What sync does meanwhile it does in a process of its
own, as on a device: `python -m hil.bench.sales_beside`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.agent import Agent
from edge.clock import Clock
from edge.messages import (
    NO_DIGEST,
    ROW_NUMBERS,
    AccountRow,
    EntitlementRow,
    PeerBeat,
    PeerLife,
    Posting,
    ProductRow,
    RosterRow,
    Row,
    RowBody,
    RowKind,
    SaleFact,
    SaleLine,
    SiteRow,
    Stream,
    VersionMark,
    encode_fact,
    encode_pack,
)
from edge.model import ClockQuality, PassbackMode, Station, Tender, UidKind
from edge.offline_cache import peers, till_books
from edge.offline_cache.store import FileKind, Writer
from edge.readers.reader import CardRead
from edge.settings import DeviceSettings
from hil.bench.figures import Figure, figure, percentile
from hil.bench.station import DEVICE, SITE, build, uid_of
from hil.bench.taps import HandReader, agent_of, bare_commits

PEOPLE: Final = 10_000
SALES: Final = 1_500
HELD: Final = 500  # Sales of each other till that no base has yet.
OTHERS: Final = ("s0001-till-2", "s0001-till-3", "s0001-till-4")
PEER_EPOCH: Final = "00000000000000a1"
MARK: Final = VersionMark(1, 1)
COMMIT_MS_EXTRA: Final = 4.0  # promises.md: at most twice a durable commit and 4 ms.
READY_S_MAX: Final = 60.0
BASKET: Final = (("soup", 1), ("cutlet", 1), ("salad", 1), ("compote", 1), ("bun", 1))
PRICES: Final = {"soup": 3_000, "cutlet": 6_000, "salad": 2_500, "compote": 1_500, "bun": 2_000}


def measure(folder: Path) -> list[Figure]:
    quiet_ms, bare_ms = _round(folder / "quiet", [])
    busy_ms, _ = _round(folder / "busy", ["--list"])
    figures = []
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        value, limit = percentile(quiet_ms, share), percentile(bare_ms, share)
        figures.append(
            figure(
                f"sale of 5 lines, 4 tills of gossip ({name})",
                value,
                "ms",
                limit=limit,
                limit_name="bare durable commit",
                goal=f"<= 2 x commit + {COMMIT_MS_EXTRA:g} ms",
                ok=value <= 2 * limit + COMMIT_MS_EXTRA,
            )
        )
    value, limit = percentile(busy_ms, 0.99), percentile(quiet_ms, 0.99)
    figures.append(
        figure(
            "the same while a list of 1,400,000 is built (p99)",
            value,
            "ms",
            limit=limit,
            limit_name="without",
            goal="<= 2 x",
            ok=value <= 2 * limit,
        )
    )
    return figures


def _round(folder: Path, arguments: list[str]) -> tuple[list[float], list[float]]:
    folder.mkdir(parents=True)
    settings = make_till(folder / "till")
    command = [sys.executable, "-m", "hil.bench.sales_beside", str(settings.source), *arguments]
    beside = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert beside.stdout is not None
        assert beside.stdout.readline() == b"at work\n", "what should run beside did not start"
        return sell(settings, folder)
    finally:
        beside.kill()
        beside.communicate()


def sell(settings: DeviceSettings, folder: Path) -> tuple[list[float], list[float]]:
    """Milliseconds of each sale, card to green light on disk, and of a bare commit after it."""
    sales_ms: list[float] = []
    bare_ms: list[float] = []
    body = b""
    bare = bare_commits(folder / "bare.db")
    with agent_of(settings) as (agent, reader, clock):
        assert agent.till is not None
        agent.step(clock.moment())
        for number in range(SALES):
            ring_up(agent, clock)
            sales_ms.append(tap(agent, reader, clock, number))
            assert agent.till.view().colour == "green", agent.till.view().reason
            if not body:
                last = agent.till.last_sale
                assert last is not None
                sale = till_books.fact_at(agent.parts.journal.writer.db, *last)
                assert isinstance(sale, SaleFact) and sale.meals and len(sale.lines) == 5
                body = encode_fact(sale)
            started = time.perf_counter()
            bare.execute("BEGIN IMMEDIATE")
            bare.execute("INSERT INTO facts (body) VALUES (?)", (body,))
            bare.execute("COMMIT")
            bare_ms.append(1000 * (time.perf_counter() - started))
            agent.step(clock.moment(), rung=number % 5 == 0)
    bare.close()
    return sales_ms, bare_ms


def ring_up(agent: Agent, clock: Clock) -> None:
    assert agent.till is not None
    problem = agent.till.set_basket(BASKET, clock.moment())
    assert not problem, problem


def tap(agent: Agent, reader: HandReader, clock: Clock, number: int) -> float:
    started = time.perf_counter()
    reader.waiting.append(
        CardRead(
            uid=uid_of(number % PEOPLE),
            at_ms=clock.mono_ms(),
            kind=UidKind.ISO14443,
            tier=1,
            reader_id="r1",
        )
    )
    agent.step(clock.moment())
    return 1000 * (time.perf_counter() - started)


# --------------------------------------------------------------------------- the till's files


def make_till(folder: Path) -> DeviceSettings:
    """A till of four, with what the others have sold so far."""
    settings = build(
        folder,
        PEOPLE,
        till=True,
        instead={"settings": _settings(), "menu": _menu(), "money": _money()},
    )
    writer = Writer(settings.sync_path, FileKind.SYNC)
    for till in OTHERS:
        take(writer, till, first=1, count=HELD)
    writer.close()
    return settings


def take(writer: Writer, till: str, *, first: int, count: int) -> None:
    """sync has heard so many more sales of another till, and its heartbeat behind them."""
    last = first + count - 1
    bodies = [encode_fact(_sale_of(till, n)) for n in range(first, last + 1)]
    with writer.transaction() as db:
        peers.move_life(db, till, PEER_EPOCH, after=0, up_to=last, digest="")
        peers.take_facts(
            db,
            till,
            PEER_EPOCH,
            first=first,
            facts=bodies,
            batch=(first, last),
            header=b"{}",
            signature=b"s" * 64,
        )
        beat = PeerBeat(
            device=till,
            site=SITE,
            session="s",
            counter=last,
            nonce="n",
            echo={},
            lives=(PeerLife(epoch=PEER_EPOCH, held_from=1, head=last),),
            store=f"store-{till}",
            base=VersionMark(1, 1),
        )
        peers.store_report(db, till, beat)


def _sale_of(till: str, sequence: int) -> SaleFact:
    account = f"a{(sequence * 7) % PEOPLE:08}"
    total = sum(PRICES.values())
    return SaleFact(
        device=till,
        site=SITE,
        stream=Stream.MAIN,
        epoch=PEER_EPOCH,
        sequence=sequence,
        previous=NO_DIGEST,
        boot="b",
        mono_ms=sequence,
        wall_ms=1_700_000_000_000,
        clock=ClockQuality.CITY,
        account=account,
        cardholder=account.replace("a", "c"),
        credential="k" * 22,
        tier=1,
        reader="r1",
        lines=tuple(
            SaleLine(product=name, category=name, quantity=1, price_minor=price)
            for name, price in PRICES.items()
        ),
        total_minor=total,
        tender=Tender.ACCOUNT,
        postings=(
            Posting(account=account, purse="main", amount_minor=-total),
            Posting(account=f"sales:{SITE}", purse="main", amount_minor=total),
        ),
        business_date="2020-01-01",
        people=MARK,
        money=MARK,
        menu=MARK,
        caveats=(),
    )


def _row(kind: RowKind, key: str, body: RowBody) -> Row:
    return Row(ROW_NUMBERS[kind], key.encode(), encode_pack(body))


def _settings() -> Iterator[Row]:
    site = SiteRow(
        time_zone="Europe/Moscow",
        currency="RUB",
        floor_limit_minor=30_000,
        list_age_amber_s=86_400,
        list_age_refer_s=604_800,
        passback_mode=PassbackMode.SOFT,
        passback_window_s=300,
        base_age_days_max=3,
        meal_slots={"meal": (0, 24 * 60)},
    )
    rows = [_row(RowKind.SITE, "site", site)]
    rows += [
        _row(RowKind.ROSTER, till, RosterRow(station=Station.TILL)) for till in (DEVICE, *OTHERS)
    ]
    yield from sorted(rows, key=lambda row: (row.kind, row.key))


def _menu() -> Iterator[Row]:
    for name, price_minor in sorted(PRICES.items()):
        product = ProductRow(
            name=name,
            category=name,
            price_minor=price_minor,
            allergens=(),
            allergens_checked=True,
            purse="main",
        )
        yield _row(RowKind.PRODUCT, name, product)


def _money() -> Iterator[Row]:
    account = AccountRow(
        suspended=False,
        balance_minor_by_purse={"main": 100_000},
        day_limit_minor=60_000,
        week_limit_minor=200_000,
        spent_date="",
        spent_day_minor=0,
        spent_week_minor=0,
        banned_products=tuple(f"bar-{n}" for n in range(20)),
        banned_categories=("chocolate", "soda", "chips"),
        item_limits={"bun": 2, "compote": 3},
    )
    right = EntitlementRow(
        slots=("meal",),
        categories=("soup",),
        first_date="2020-01-01",
        last_date="2099-12-31",
        weekdays=(1, 2, 3, 4, 5, 6, 7),
    )
    for number in range(PEOPLE):
        yield _row(RowKind.ACCOUNT, f"a{number:08}", account)
    for number in range(PEOPLE):
        yield _row(RowKind.ENTITLEMENT, f"c{number:08}\0lunch", right)
