"""A till among others on real files: rows of our choice, peers by what sync would store of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge import requests
from edge.control import Request
from edge.messages import (
    ROW_NUMBERS,
    AccountRow,
    AnyFact,
    BaseSeen,
    CardholderRow,
    EntitlementRow,
    Fact,
    GroupRow,
    PeerBeat,
    PeerLife,
    PreorderRow,
    ProductRow,
    RosterRow,
    Row,
    RowKind,
    SiteRow,
    VersionMark,
    encode_fact,
    encode_pack,
)
from edge.model import Category, Moment, PassbackMode, Station, SupervisedAct
from edge.offline_cache import peers
from edge.offline_cache.live_tills import store_live
from edge.offline_cache.store import FileKind, Writer
from hil.bench import station
from hil.bench.station import DEVICE
from tests.support import agent_bench
from tests.support.agent_bench import Bench

OTHER, THIRD = "till-b", "till-c"
BREAKFAST, LUNCH = "breakfast", "lunch"
PEER_EPOCH = "beef000000000001"
PRODUCTS = {
    "soup": ("hot", 8_500, "hot"),
    "cutlet": ("hot", 12_000, "hot"),
    "compote": ("drink", 2_500, "hot"),
    "bar": ("chocolate", 7_000, "buffet"),
}


def row(kind: RowKind, key: str, body: Any) -> Row:
    return Row(ROW_NUMBERS[kind], key.encode(), encode_pack(body))


def site(**more: Any) -> SiteRow:
    usual: dict[str, Any] = {
        "time_zone": "Europe/Moscow",
        "currency": "RUB",
        "floor_limit_minor": 30_000,
        "list_age_amber_s": 86_400,
        "list_age_refer_s": 604_800,
        "passback_mode": PassbackMode.SOFT,
        "passback_window_s": 300,
        "base_age_days_max": 3,
        "meal_slots": {BREAKFAST: (0, 60), LUNCH: (60, 24 * 60)},
        "substitutions": ("ran out",),
    }
    return SiteRow(**usual | more)


def entitlement(
    slots: tuple[str, ...] = (LUNCH,), categories: tuple[str, ...] = ("hot", "drink"), **more: Any
) -> EntitlementRow:
    usual: dict[str, Any] = {
        "slots": slots,
        "categories": categories,
        "first_date": "2026-01-01",
        "last_date": "2026-12-31",
        "weekdays": (1, 2, 3, 4, 5, 6, 7),
    }
    return EntitlementRow(**usual | more)


@dataclass
class Staffed:
    """Who acts: set by the test."""

    who: str = "cook"
    super_: str = ""

    def cashier(self, _moment: Moment) -> str:
        return self.who

    def supervise(self, _moment: Moment, _act: SupervisedAct) -> str:
        used, self.super_ = self.super_, ""
        return used


@dataclass
class Lists:
    """Rows of the bench's school; a test changes them before it opens the till."""

    people: int = 10
    balance_minor: dict[str, int] = field(
        default_factory=lambda: {"hot": 100_000, "buffet": 50_000}
    )
    site: SiteRow = field(default_factory=site)
    tills: tuple[str, ...] = (DEVICE, OTHER)
    account: dict[str, Any] = field(default_factory=dict)
    allergens: tuple[str, ...] = ()
    rights: Mapping[tuple[int, str], EntitlementRow] = field(default_factory=dict)
    orders: Mapping[tuple[int, str], PreorderRow] = field(default_factory=dict)
    group: tuple[int, ...] = ()
    group_till: str = ""
    products: Mapping[str, ProductRow] = field(default_factory=dict)
    off_menu: tuple[str, ...] = ()
    without_account: tuple[int, ...] = ()  # People who have none at all,
    unknown_account: tuple[int, ...] = ()  # and those whose account no money list names.

    def settings_rows(self) -> list[Row]:
        rows = [row(RowKind.SITE, "site", self.site)]
        return rows + [row(RowKind.ROSTER, t, RosterRow(station=Station.TILL)) for t in self.tills]

    def menu_rows(self) -> Iterator[Row]:
        known = {
            name: ProductRow(
                name=name,
                category=category,
                price_minor=price,
                allergens=("nuts",) if name == "bar" else (),
                allergens_checked=True,
                purse=purse,
            )
            for name, (category, price, purse) in PRODUCTS.items()
        }
        for name, body in sorted((known | dict(self.products)).items()):
            if name not in self.off_menu:
                yield row(RowKind.PRODUCT, name, body)

    def people_rows(self, people: int) -> Iterator[Row]:
        if self.group:
            ids = tuple(f"c{n:08}" for n in self.group)
            yield row(RowKind.GROUP, "g1", GroupRow(member_ids=ids, owner_till=self.group_till))
        plain = _PEOPLE_ROWS(people)
        for number, one in enumerate(plain):
            if number >= people:
                yield one
                continue
            body = CardholderRow(
                category=Category.PUPIL,
                account_id=None if number in self.without_account else f"a{number:08}",
                suspended=False,
                here=True,
                rights={"school": "always"},
                allergens=self.allergens,
                ward_ids=(),
                group="g1" if number in self.group else "",
            )
            yield row(RowKind.CARDHOLDER, f"c{number:08}", body)

    def money_rows(self, people: int) -> Iterator[Row]:
        usual: dict[str, Any] = {
            "suspended": False,
            "balance_minor_by_purse": self.balance_minor,
            "day_limit_minor": None,
            "week_limit_minor": None,
            "spent_date": "",
            "spent_day_minor": 0,
            "spent_week_minor": 0,
            "banned_products": (),
            "banned_categories": (),
        }
        body = AccountRow(**usual | self.account)
        for number in range(people):
            if number not in {*self.without_account, *self.unknown_account}:
                yield row(RowKind.ACCOUNT, f"a{number:08}", body)
        for (number, name), right in sorted(self.rights.items()):
            yield row(RowKind.ENTITLEMENT, f"c{number:08}\0{name}", right)
        for (number, name), order in sorted(self.orders.items()):
            yield row(RowKind.PREORDER, f"c{number:08}\0{name}", order)


_PEOPLE_ROWS = station._people_rows


@dataclass
class Till:
    """The bench, with hands for everything around it."""

    bench: Bench
    staff: Staffed

    @property
    def date(self) -> str:
        return self.bench.clock.moment().local_date

    def ask(self, request: str, **body: Any) -> dict[str, Any]:
        asked = Request({"request": request, **body})
        requests.answer(self.bench.agent, asked, self.bench.clock.moment())
        answer = msgspec.json.decode(asked._done.get_nowait(), type=dict[str, Any])
        self.bench.step()
        return answer

    def sell(self, number: int, *lines: tuple[str, int], **wish: Any) -> dict[str, Any]:
        """Ring up, charge, tap; what the screen shows then."""
        self.bench.step(5_000)
        answer = self.ask("basket", lines=[list(line) for line in lines])
        assert answer["ok"], answer
        for request, body in wish.items():
            answer = self.ask(request, **body)
            assert answer["ok"], answer
        self.bench.step(10)
        self.bench.tap(number)
        return self.bench.screen()

    def facts(self) -> list[AnyFact]:
        return [f for f in self.bench.facts()[1:] if not isinstance(f, BaseSeen)]

    def last(self) -> AnyFact:
        return self.facts()[-1]

    @contextmanager
    def sync(self) -> Iterator[Writer]:
        """As sync writes; edge is rung."""
        writer = Writer(self.bench.agent.parts.settings.sync_path, FileKind.SYNC)
        try:
            yield writer
        finally:
            writer.close()
        self.bench.agent.step(self.bench.clock.moment(), rung=True)

    def hear(self, *others: str, head: int = 0, until_ms: int = 10**9) -> None:
        """A heartbeat of each came."""
        with self.sync() as writer, writer.transaction() as db:
            for other in others:
                beat = PeerBeat(
                    device=other,
                    site=station.SITE,
                    session="s",
                    counter=1,
                    nonce="n",
                    echo={},
                    lives=(PeerLife(epoch=PEER_EPOCH, held_from=1, head=head),),
                    store="store-b",
                    base=VersionMark(1, 1),
                )
                peers.store_report(db, other, beat)
                peers.store_heard(db, {other: until_ms}, agent_bench.BOOT)

    def named_live(self, *others: str) -> None:
        """The city has just said that it hears these."""
        now_ms = self.bench.clock.moment().mono_ms
        with self.sync() as writer, writer.transaction() as db:
            store_live(db, others, asked_ms=now_ms, boot=agent_bench.BOOT)

    def cover(self, *others: str, up_to: int | None = None) -> None:
        """Reports that count: they have seen this till's facts so far."""
        journal = self.bench.agent.parts.journal
        with self.sync() as writer, writer.transaction() as db:
            for other in others:
                seen = journal.head if up_to is None else up_to
                peers.store_cover(db, other, "store-b", journal.epoch, seen)

    def take(self, other: str, *facts: Fact) -> None:
        """Facts of another till came, the first numbered 1."""
        bodies = [encode_fact(fact) for fact in facts]
        with self.sync() as writer, writer.transaction() as db:
            peers.move_life(db, other, PEER_EPOCH, after=0, up_to=len(bodies), digest="")
            peers.take_facts(
                db,
                other,
                PEER_EPOCH,
                first=1,
                facts=bodies,
                batch=(1, len(bodies)),
                header=b"{}",
                signature=b"s",
            )


@contextmanager
def open_till(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    lists: Lists | None = None,
    *,
    start_ms: int | None = None,
) -> Iterator[Till]:
    """A till of the roster, its lists fresh, a cashier signed in. With `start_ms` the till of this
    folder is started again."""
    made = Lists() if lists is None else lists
    for name in ("settings", "menu", "people", "money"):
        monkeypatch.setattr(station, f"_{name}_rows", in_order(getattr(made, f"{name}_rows")))
    with agent_bench.station(folder, people=made.people, till=True, start_ms=start_ms) as bench:
        staff = Staffed()
        assert bench.agent.till is not None
        bench.agent.till.staff = staff
        bench.step(10)
        yield Till(bench, staff)


def in_order(rows: Callable[..., Iterable[Row]]) -> Callable[..., Iterator[Row]]:
    """As a city sends them."""
    return lambda *args: iter(sorted(rows(*args), key=lambda one: (one.kind, one.key)))
