"""Goal: presence, time and orders between city and device: notes that may be late, never believed
beyond what they prove.

Method: a sham device over the core: hello and its signed welcome, statuses out of order, messages
that name somebody else, orders and the facts that answer them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.messages import (
    Hello,
    OrderAnswer,
    OrderOutcome,
    SignedWhat,
    Status,
    Stream,
    StreamHead,
    Welcome,
    decode_json,
    decode_signed_lines,
    digest_of,
    encode_json,
)
from edge.model import ClockQuality, PassageResult, Station
from hil.city.desk import Desk
from hil.city.intake import LIVE_MS_MAX, CityCore
from hil.city.store import Cursor, StreamKey
from tests.city.sham import EPOCH, NOON_MS, SITE, Sham, make_core


@pytest.fixture
def core(tmp_path: Path) -> CityCore:
    return make_core(tmp_path)


@pytest.fixture
def till(core: CityCore) -> Sham:
    sham = Sham(core, "till-1")
    sham.opened()
    for number in range(1, 6):
        sham.sale(number)
    return sham


def alarms(core: CityCore) -> set[str]:
    return {row[0] for row in core.store.rows("SELECT what FROM alarm")}


def say_hello(sham: Sham, nonce: str = "n1") -> Welcome:
    head = StreamHead(stream=Stream.MAIN, epoch="00000000000000e9", head=0, digest="", held_from=1)
    hello = Hello(
        device=sham.device,
        site=SITE,
        station=Station.TILL,
        boot="boot-1",
        connection=1,
        nonce=nonce,
        software="sham",
        clock=ClockQuality.NTP,
        streams=(head,),
        held={},
        keys={},
    )
    (out,) = sham.core.receive(f"mk/v1/d/{sham.device}/hello", encode_json(hello), NOON_MS + 5)
    assert out.topic == f"mk/v1/d/{sham.device}/welcome"
    signed = decode_signed_lines(out.payload)
    return decode_json(Welcome, sham.verify(SignedWhat.WELCOME, "freshness", signed))


def test_the_welcome_answers_the_nonce_with_time_high_waters_and_versions(till: Sham) -> None:
    till.send(1, 4)
    welcome = say_hello(till)
    assert (welcome.nonce, welcome.utc_ms) == ("n1", NOON_MS + 5)
    waters = {water.epoch: (water.up_to, water.digest) for water in welcome.high_water}
    assert waters == {
        "00000000000000e9": (0, ""),
        EPOCH: (4, digest_of(till.facts[3])),
    }
    assert set(welcome.wanted) == {f"{SITE}/{p}" for p in ("people", "money", "menu", "settings")}


def test_the_welcome_of_a_crowded_city_says_how_fast(till: Sham, core: CityCore) -> None:
    assert say_hello(till).throttle_per_s is None
    core.throttle(20)
    assert say_hello(till).throttle_per_s == 20
    core.throttle(None)
    assert say_hello(till).throttle_per_s is None


def test_a_till_is_told_which_other_tills_the_city_hears(till: Sham, core: CityCore) -> None:
    """Tills of the roster that are connected and spoke just now: no lane, no till that is silent,
    that said goodbye, or that was revoked; and never the one that asks."""
    others = {name: Sham(core, name) for name in ("till-2", "till-3", "till-4", "till-5")}
    others["gate-1"] = Sham(core, "gate-1", Station.ENTRANCE)
    assert say_hello(till, "n0").live == ()
    for name, online, ago_ms in (
        ("till-2", True, 0),
        ("till-3", True, LIVE_MS_MAX),
        ("till-4", False, 0),
        ("till-5", True, 0),
        ("gate-1", True, 0),
    ):
        status = Status(device=name, online=online, boot="b", connection=1)
        at_ms = NOON_MS + 5 - ago_ms
        core.receive(f"mk/v1/d/{name}/status", encode_json(status), at_ms)
    with core.store.transaction():
        core.store.execute("UPDATE device SET revoked_ms = 1 WHERE device = 'till-5'")
    assert say_hello(till, "n2").live == ("till-2",)


def test_a_message_that_names_another_device_is_not_believed(till: Sham, core: CityCore) -> None:
    Sham(core, "till-2")
    status = Status(device="till-2", online=True, boot="b", connection=9)
    for rest in ("status", "hello", "pull", "health"):
        assert core.receive(f"mk/v1/d/till-1/{rest}", encode_json(status), NOON_MS) == []
    assert "corrupt_status" in alarms(core)
    assert core.store.rows("SELECT SUM(online) FROM device") == [(0,)]


def test_a_cursor_never_moves_back(till: Sham, core: CityCore) -> None:
    till.send(1, 4)
    key = StreamKey(device="till-1", stream=Stream.MAIN, epoch=EPOCH)
    with core.store.transaction():
        core.store.move_cursor(key, Cursor(up_to=2, digest="x"), NOON_MS)
    assert core.store.cursor(key).up_to == 4


def test_a_late_will_hides_no_newer_birth(till: Sham, core: CityCore) -> None:
    def tell(connection: int, online: bool) -> None:
        status = Status(device="till-1", online=online, boot="b", connection=connection)
        core.receive("mk/v1/d/till-1/status", encode_json(status), NOON_MS)

    def online() -> object:
        return core.store.rows("SELECT online FROM device WHERE device = 'till-1'")[0][0]

    tell(1, True)
    tell(2, True)
    tell(1, False)
    assert online() == 1
    tell(2, False)
    assert online() == 0
    tell(2, True)  # What ended stays ended, however the broker repeats its beginning.
    assert online() == 0
    tell(3, True)
    assert online() == 1
    core.receive("mk/v1/d/till-1/status", b"", NOON_MS)
    assert "corrupt_status" not in alarms(core)


def test_an_order_counts_upwards_and_its_answer_comes_back_as_a_fact(core: CityCore) -> None:
    gate = Sham(core, "gate-1", Station.ENTRANCE)
    desk = Desk(core, ())
    counters = []
    for _ in range(2):
        done = desk.order({"device": "gate-1", "order": "open"}, NOON_MS)
        counters.append(done.answer["counter"])
        (out,) = done.outs
        assert out.topic == "mk/v1/d/gate-1/order" and not out.retain
        gate.verify(SignedWhat.ORDER, "order", decode_signed_lines(out.payload))
    assert counters == [1, 2]
    gate.opened()
    gate.record(OrderAnswer(counter=1, order="open", accepted=True, why="", **gate.base()))
    gate.record(OrderOutcome(counter=1, done=True, **gate.base()))
    gate.record(OrderAnswer(counter=2, order="open", accepted=False, why="late", **gate.base()))
    gate.passage(PassageResult.TAKEN)
    assert gate.send_all().up_to == 5
    orders = desk.status()["orders"]
    assert [(order["answer"], order["outcome"]) for order in orders] == [
        ("accepted", "done"),
        ("refused: late", ""),
    ]
