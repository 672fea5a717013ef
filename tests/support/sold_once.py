"""Sales that are told apart by their prices, and whether the city has posted each of them once."""

from __future__ import annotations

from itertools import count

from edge.messages import (
    StreamOpened,
    decode_fact,
)
from hil.city.intake import CityCore
from tests.support.whole_device import Device, sold_minor


class Prices:
    """1, 2, 4, 8 …: a sum of some of them says which."""

    def __init__(self) -> None:
        self._exponents = count()
        self.total = 0

    def next(self) -> int:
        price: int = 2 ** next(self._exponents)
        self.total += price
        return price


def sell(device: Device, prices: Prices, number: int = 1) -> None:
    for _ in range(number):
        device.sell(prices.next())


def facts_of(device: Device) -> list[object]:
    return [decode_fact(body) for body in bodies_of(device)]


def whys(device: Device) -> list[str]:
    return [fact.why for fact in facts_of(device) if isinstance(fact, StreamOpened)]


def assert_all_sold_once(core: CityCore, prices: Prices) -> None:
    assert f"{sold_minor(core):b}" == f"{prices.total:b}"
    assert core.store.rows("SELECT * FROM suspense") == []


def assert_tail_is_what_the_city_includes(device: Device, prices: Prices) -> None:
    """Every sale of mine counts once at this till, under a key that the city's vector reaches."""
    included = {
        epoch: up_to
        for stream, epoch, up_to in device.core.store.rows(
            "SELECT stream, epoch, up_to FROM cursor WHERE device = ?", (device.sham.device,)
        )
        if stream == "main"
    }
    above = [row for row in device.tail() if row[1] > included.get(row[0], 0)]
    assert above == []


def bodies_of(device: Device) -> list[bytes]:
    db = device.journal.writer.db
    return [body for (body,) in db.execute("SELECT body FROM facts ORDER BY life, sequence")]
