"""A till's files with one list of each scope in force, and edge's cache over them."""

from __future__ import annotations

from dataclasses import dataclass

from edge.messages import b64u
from edge.model import (
    MINUTES_PER_WEEK,
    Direction,
    Moment,
    PassageResult,
)
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from tests.support import facts
from tests.support.pictures import Station
from tests.support.small_city import (
    MENU,
    MONEY,
    PEOPLE,
    SETTINGS,
    Scope,
    account,
    cardholder,
    credential,
    hot,
    id_bytes,
    product,
    schedule,
    site,
)
from tests.support.times import at

CARD = bytes.fromhex("04a1b2c3d4e580")
BAND = bytes.fromhex("04ffffffffff80")
LOST = bytes.fromhex("0400000000aa80")
TO_MIDNIGHT_MS = 12 * 3_600_000


def cid(uid: bytes) -> str:
    return b64u(id_bytes(uid))


@dataclass(slots=True)
class Bench:
    """One till: sync's files, edge's journal, and the cache over both."""

    station: Station
    journal: Journal
    cache: Cache
    people: Scope
    money: Scope
    menu: Scope
    settings: Scope

    def passage(
        self,
        *,
        cardholder_id: str = "p1",
        direction: Direction = Direction.IN,
        zone: str = "school",
        moment: Moment | None = None,
    ) -> None:
        now = at() if moment is None else moment
        with self.journal.record(now) as tap:
            tap.add(
                facts.passage(
                    tap.stamp(now),
                    cardholder=cardholder_id,
                    direction=direction,
                    zone=zone,
                    result=PassageResult.TAKEN,
                )
            )

    def sale(self, *, amount_minor: int = 12_000, account_id: str = "a1") -> int:
        with self.journal.record(at()) as tap:
            tap.add(
                facts.sale(tap.stamp(at()), account=account_id, amounts=(("meals", amount_minor),))
            )
        return self.journal.head


def lists() -> dict[str, Scope]:
    """All at version (1, 1)."""
    made = {name: Scope(name) for name in (PEOPLE, MONEY, MENU, SETTINGS)}
    made[PEOPLE].put(cardholder(), credential(CARD), credential(BAND), hot(LOST))
    made[MONEY].put(account())
    made[MENU].put(product())
    made[SETTINGS].put(site(), schedule("always", (0, MINUTES_PER_WEEK)))
    return made
