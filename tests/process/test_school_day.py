"""Goal: a school day through everything that can break loses nothing, doubles nothing, and lights
no lamp without a record; what comes from somebody else than the city changes nothing.

Method: real processes (`school.py`): Mosquitto with TLS and client certificates, pcscd, the
reference city, an entrance and a till made by `moskvenok provision`. 200 cards at the gate and 50
sales over three kinds of readers; the broker is killed and comes back empty, `edge` and `sync` of
both stations are killed, each while cards are shown. Then the city is held against the journals
byte for byte (`oracle.py`), and the technician's own commands must find nothing wrong. Last, a
client with the city's rights on the broker sends forgeries, and the same must still hold.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from edge.messages import SaleFact, UpdateRefused
from edge.model import UidKind
from tests.process.oracle import (
    assert_city_has_the_journals,
    assert_every_light_is_a_fact,
    assert_money_adds_up,
    assert_passages_add_up,
    is_drained,
    journal,
    of_kind,
)
from tests.process.rogue import forgeries, rogue
from tests.process.school import GATE, SCOPES, SITE, Station, World, run_checks_of, wait_until
from tests.process.visitors import (
    AtSerial,
    AtSlot,
    Door,
    Fault,
    Steps,
    Till,
    Visitor,
    affluent,
    one_each,
    play,
    visitors,
)

ENTERING, LEAVING = 160, 40  # 200 taps at the gate,
SALES = 50  # and as many sales; a tenth of both over PC/SC, which needs half a second a card.
CARD_SALE_EVERY = 5
STANDS_STILL_EVERY = 40  # So often somebody taps and does not walk.


@pytest.mark.process
@pytest.mark.slow
def test_a_school_day() -> None:
    run_checks_of(__file__)


class Day:
    """Who comes, who leaves, who buys what; and what was seen of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.north_in = Door(world.gate, "north-in", AtSerial(world.serial_in))
        self.north_out = Door(world.gate, "north-out", AtSlot(world.slot_out))
        self.till = Till(world.till)
        self.at_fob, self.at_card = AtSerial(world.serial_till), AtSlot(world.slot_till)
        cards = one_each(visitors(world.school, UidKind.ISO14443))
        lost = visitors(world.school, UidKind.ISO14443, hot=True)[:4]
        stranger = Visitor(
            cardholder=None,
            name="",
            uid=world.school.characters["stranger"].uid,
            expected="unknown_credential",
        )
        self.entering = cards[: ENTERING - len(lost) - 1] + lost + [stranger]
        self.late = cards[ENTERING:]  # For what comes after the day.
        rich = affluent(world.school)
        self.fobs = [v for v in visitors(world.school, UidKind.PROX125) if v.cardholder in rich]
        self.cards = [v for v in cards if v.cardholder in rich]
        self.random = random.Random("school day")

    @property
    def doors(self) -> tuple[Door, Door]:
        return self.north_in, self.north_out

    def morning(self) -> Steps:
        for number, visitor in enumerate(self.entering, start=1):
            yield from self.north_in.visit(visitor, walks=number % STANDS_STILL_EVERY != 0)

    def afternoon(self) -> Steps:
        """Whoever came can leave; the first ones do."""
        for number, visitor in enumerate(self.entering[:LEAVING]):
            while self.north_in.done <= number:
                yield
            yield from self.north_out.visit(visitor, leaving=True)

    def meals(self) -> Steps:
        products = self.world.school.products
        buyers = _in_turn(self.fobs), _in_turn(self.cards)
        number = 0
        while self.till.sales < SALES:
            number += 1
            while self.north_in.shown < 3 * number and self.north_in.done < ENTERING:
                yield  # Meals go on all day.
            by_card = number % CARD_SALE_EVERY == 0
            chosen = self.random.sample(products, self.random.randint(1, 3))
            lines: list[list[object]] = [
                [product.product_id, self.random.randint(1, 2)] for product in chosen
            ]
            hand = self.at_card if by_card else self.at_fob
            yield from self.till.buy(next(buyers[by_card]), hand, lines)
            assert number < 2 * SALES, f"only {self.till.sales} sales of {number} baskets"

    def faults(self) -> list[Fault]:
        """In this order, each just after a card was shown. The broker keeps nothing."""
        gate, till, broker = self.world.gate, self.world.till, self.world.broker
        return [
            Fault(what="broker killed", when=self._taps(30), do=broker.kill),
            Fault(what="sync of the gate killed", when=self._taps(45), do=gate.sync.restart),
            Fault(what="sync of the till killed", when=self._sales(15), do=till.sync.restart),
            Fault(what="broker back, empty", when=self._taps(60), do=broker.start),
            Fault(what="edge of the gate killed", when=self._taps(80), do=gate.edge.restart),
            Fault(what="edge of the till killed", when=self._sales(30), do=till.edge.restart),
            Fault(what="sync of the gate killed again", when=self._taps(110), do=gate.sync.restart),
            Fault(what="edge of the gate killed again", when=self._taps(130), do=gate.edge.restart),
            Fault(what="sync of the till killed again", when=self._sales(44), do=till.sync.restart),
        ]

    def _taps(self, number: int) -> Callable[[], bool]:
        return lambda: self.north_in.shown >= number

    def _sales(self, number: int) -> Callable[[], bool]:
        return lambda: self.till.shown >= number


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """One school for all checks: each leaves it whole, as it found it."""
    with World(tmp_path_factory.mktemp("school")) as world:
        world.start_stations()
        yield Day(world)


def check_a_day_is_the_citys_byte_for_byte(day: Day) -> None:
    world, kills_of_edge = day.world, 3
    play([day.morning(), day.afternoon(), day.meals()], day.faults())
    assert day.north_in.done == ENTERING and day.north_out.done == LEAVING
    wait_until(lambda: is_drained(world), lambda: _state(world))
    assert world.city.get("/status")["alarms"] == []
    facts = assert_city_has_the_journals(world)
    assert_every_light_is_a_fact(facts, day.doors, day.till)
    torn = day.north_in.torn + day.north_out.torn
    assert torn <= 2 * kills_of_edge
    assert_passages_add_up(world, facts, torn=torn)
    assert_money_adds_up(world, facts)
    assert day.till.sales == SALES
    unlit = len(of_kind(facts, SaleFact)) - SALES
    assert 0 <= unlit <= 1, (
        "sold and not shown, beyond the one sale a killed till may lose sight of"
    )


def check_the_technician_finds_nothing_wrong(day: Day) -> None:
    wait_until(lambda: is_drained(day.world), lambda: _state(day.world))
    for station in day.world.stations:
        code, doctor = station.command_json("doctor")
        wrong = [found for found in doctor["findings"] if found["state"] == "wrong"]
        assert (code, doctor["ok"], wrong) == (0, True, [])
        code, status = station.command_json("status")
        assert (code, status["ok"]) == (0, True), status
        assert status["sync"]["connected"] and status["sync"]["protocol"] == "5"
        for (stream, epoch), facts in journal(station).items():
            said = status["sync"]["streams"][stream]
            assert (said["epoch"], said["head"]) == (epoch, len(facts))
            assert said["acknowledged"] == said["head"]
        assert status["edge"]["stream"]["unrecorded"] == 0


def check_an_order_opens_once_and_a_late_one_never(day: Day) -> None:
    world, gate, door = day.world, day.world.gate, day.north_in
    order = {"device": GATE, "order": "open_once", "access_point": "north-in"}
    with rogue(world) as listener:
        counter = world.city.post("/orders", order | {"valid_s": 60})["counter"]
        wait_until(lambda: _answer(world, counter) == ("accepted", "done"), lambda: _state(world))
        assert door.look()["state"] == "granted"  # The guest is let in, with a light on record.
        gate.ask("move", line="north-in.rotation", active=True)
        wait_until(lambda: door.look()["state"] == "taken", lambda: str(door.look()))
        gate.ask("move", line="north-in.rotation", active=False)
        main = len(_main(gate))

        # The very bytes once more; a fence behind them tells when they have been looked at.
        message = listener.newest(f"mk/v1/d/{GATE}/order")
        taken, refused = _counters(gate)["orders_taken"], _refused(gate)
        listener.publish(f"mk/v1/d/{GATE}/order", message)
        listener.publish(f"mk/v1/d/{GATE}/order", b"fence")
        fenced = refused | {"order_invalid": refused.get("order_invalid", 0) + 1}
        wait_until(lambda: _refused(gate) == fenced, lambda: f"{_refused(gate)} {_state(world)}")
        assert _counters(gate)["orders_taken"] == taken and len(_main(gate)) == main
        assert door.look()["state"] != "granted"

        # The next one is held up on its way.
        gate.sync.send(signal.SIGSTOP)
        counter = world.city.post("/orders", order | {"valid_s": 1})["counter"]
        over_s = time.time() + 1.1
        wait_until(lambda: time.time() > over_s, "a second goes by")
        gate.sync.send(signal.SIGCONT)
        wait_until(lambda: _answer(world, counter) == ("refused: late", ""), lambda: _state(world))
        assert door.look()["state"] != "granted"


def check_what_is_not_from_the_city_changes_nothing(day: Day) -> None:
    world, gate, till = day.world, day.world.gate, day.world.till
    with rogue(world) as listener:
        head = f"mk/v1/s/{SITE}/people/head"
        old = listener.newest(head)
        blocked, free = day.late[:2]
        world.city.post("/block", {"card": blocked.uid.hex()})
        listener.next_after(head, old)
        wait_until(lambda: _held(gate) == _wanted(world, gate), lambda: _state(world))
        before = {station.device: _held(station) for station in world.stations}

        sent = forgeries(world, listener, old_head=old)
        for station in world.stations:
            wait_until(
                lambda station=station: sent[station.device] <= set(_refused(station)),  # type: ignore[misc]
                lambda station=station: (  # type: ignore[misc]
                    f"{sent[station.device] - set(_refused(station))} of {station.last_words()}"
                ),
            )
            assert _held(station) == before[station.device]
    noise = random.Random("babble").randbytes(2_000)
    for reader in (world.serial_in, world.serial_till):
        reader.babble(noise)
    for station, reader_id in ((gate, "r-in"), (till, "r-fob")):
        wait_until(lambda s=station, r=reader_id: _noise(s, r), "noise counted")  # type: ignore[misc]

    # A person sees it, with its reason; nothing stopped and nothing is missing.
    for station in world.stations:
        code, status = station.command_json("status")
        assert code == 1 and sent[station.device] <= set(status["sync"]["refused"])
        assert "head_rollback" in station.command("status").stdout
    doors = [day.north_in.visit(replace(blocked, expected="hot_listed")), day.north_in.visit(free)]
    for visit in doors:
        play([visit])
    sales = day.till.sales
    play([day.till.buy(day.fobs[0], day.at_fob, [["soup-1", 1]])])
    assert day.till.sales + day.till.refused > sales
    wait_until(lambda: is_drained(world), lambda: _state(world))
    facts = assert_city_has_the_journals(world)
    assert_every_light_is_a_fact(facts, day.doors, day.till)
    for device, words in sent.items():
        told = {f"{f.what}_{f.reason}" for f in of_kind(facts, UpdateRefused) if f.device == device}
        assert words <= told


def _answer(world: World, counter: int) -> tuple[str, str]:
    (found,) = [o for o in world.city.get("/status")["orders"] if o["counter"] == counter]
    return found["answer"], found["outcome"]


def _main(station: Station) -> list[bytes]:
    return [
        fact
        for (stream, _), facts in journal(station).items()
        if stream == "main"
        for fact in facts
    ]


def _sync(station: Station) -> dict[str, Any]:
    return station.ask("status", process="sync") or {}


def _refused(station: Station) -> dict[str, int]:
    return dict(_sync(station).get("refused", {}))


def _counters(station: Station) -> dict[str, int]:
    return dict(_sync(station)["counters"])


def _held(station: Station) -> dict[str, list[int]]:
    return dict(_sync(station)["held"])


def _wanted(world: World, station: Station) -> dict[str, list[int]]:
    versions = world.city.get("/status")["versions"]
    return {scope: versions[scope] for scope in SCOPES[station.device]}


def _noise(station: Station, reader_id: str) -> int:
    readers = (station.ask("status") or {"readers": []})["readers"]
    return sum(r["counters"]["noise_bytes"] for r in readers if r["reader"] == reader_id)


def _state(world: World) -> str:
    """What a person would ask first."""
    words = [station.last_words() for station in world.stations]
    return "\n".join([*words, world.city.last_words(), str(world.city.get("/status")["cursors"])])


def _in_turn(found: list[Visitor]) -> Iterator[Visitor]:
    assert len(found) > 10, "the same card again so soon would be a duplicate"
    while True:
        yield from found
