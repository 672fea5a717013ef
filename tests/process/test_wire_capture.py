"""Goal: whoever records the cable between a school and the city learns of no child, and whoever may
read everything on the broker learns of none from its topics.

Method: a small day of real processes over mutual TLS (`school.py`), with a recording proxy between
the stations and the broker, and a subscriber with the right to read all of it. Every byte that
crossed is searched for every name, card number and key of the school, in every form one would
write them (`leaks.py`). Then each kind of place is given one thing to hide, and the same search
must find it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.process.leaks import Search, WireTap, sealed_by_city, search_for, unpacked
from tests.process.oracle import is_drained
from tests.process.rogue import Listener, rogue
from tests.process.school import (
    BROKER_PORT,
    GATE,
    SITE,
    City,
    World,
    run_checks_of,
    wait_until,
)
from tests.process.test_privacy import secrets_of, small_day
from tests.process.visitors import Visitor

HANDSHAKE = b"\x16\x03"  # A TLS record: handshake.
IN_THE_CLEAR = (b"MQTT", b"mk/v1", b"cardholder", b"sequence", SITE.encode() + b"/people")


@pytest.mark.process
@pytest.mark.slow
def test_nobody_is_found_on_the_wire() -> None:
    run_checks_of(__file__)


class _Tapped(World):
    """Stations reach the broker through the tap; the city beside it."""

    def __init__(self, folder: Path, tap: WireTap) -> None:
        super().__init__(folder)
        self.city = City(
            folder,
            f"mqtts://127.0.0.1:{BROKER_PORT}",
            *("--mosquitto", str(folder / "broker")),
            *("--endpoint", f"mqtts://127.0.0.1:{tap.port}"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    world: World
    tap: WireTap
    listener: Listener
    search: Search
    shown: tuple[Visitor, ...]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    folder = tmp_path_factory.mktemp("wire")
    with (
        WireTap(target_port=BROKER_PORT) as tap,
        _Tapped(folder, tap) as world,
        rogue(world) as listener,
    ):
        world.start_stations()
        shown = small_day(world)
        for visitor in shown[:2]:  # A change of the lists, too.
            world.city.post("/block", {"card": visitor.uid.hex()})
        wait_until(lambda: is_drained(world), "drained")
        search = search_for(world.school, secrets_of(world))
        search.sealed = sealed_by_city(world.city.folder / "city.db")
        yield Capture(world=world, tap=tap, listener=listener, search=search, shown=tuple(shown))


def check_all_that_crossed_is_tls_and_names_nobody(capture: Capture) -> None:
    places = capture.tap.places()
    ups = [data for name, data in places.items() if name.endswith("up")]
    assert len(ups) >= len(capture.world.stations) and all(
        data.startswith(HANDSHAKE) for data in ups
    )
    assert sum(map(len, places.values())) > 50_000, "facts and lists crossed"
    for name, data in places.items():
        assert not [word for word in IN_THE_CLEAR if word in data], name
    assert capture.search.findings(places) == []


def check_whoever_may_read_everything_finds_nobody_in_topics(capture: Capture) -> None:
    heard = list(capture.listener.heard)
    topics = {f"topic {number}": one.topic.encode() for number, one in enumerate(heard)}
    leaves = {one.topic.rpartition("/")[2] for one in heard}
    assert {"status", "hello", "main", "ack", "welcome", "push", "head", "delta"} <= leaves
    assert capture.search.findings(topics) == []
    assert capture.search.findings(unpacked((one.topic, one.payload) for one in heard)) == []


@pytest.mark.parametrize("what", ["name", "card", "key"])
def check_the_search_finds_what_is_planted_in_the_cable(capture: Capture, what: str) -> None:
    """Somebody says it without TLS, through the same cable."""
    someone = capture.shown[0]
    planted = {
        "name": someone.name.encode(),
        "card": someone.uid,
        "key": secrets_of(capture.world)["people seal"],
    }[what]
    before = len(capture.tap.up)
    with socket.create_connection(("127.0.0.1", capture.tap.port)) as plain:
        plain.sendall(b"\x30\x20" + planted + b"!")
        wait_until(
            lambda: len(capture.tap.up) > before and planted in capture.tap.up[before], "it crossed"
        )
    found = capture.search.findings(capture.tap.places())
    assert [sight.where for sight in found] and all(
        sight.where == f"connection {before}, up" for sight in found
    )
    capture.tap.up[before].clear()


def check_the_search_finds_what_is_planted_in_a_topic(capture: Capture) -> None:
    uid = capture.shown[0].uid.hex()
    topic = f"mk/v1/d/{GATE}/card/{uid}"
    capture.listener.publish(topic, b"")
    until_s = time.monotonic() + 30.0
    while not any(one.topic == topic for one in capture.listener.heard):
        assert time.monotonic() < until_s
        time.sleep(0.02)
    heard = [(one.topic, one.payload) for one in list(capture.listener.heard)]
    assert capture.search.findings({"topic": "\n".join(t for t, _ in heard).encode()})
    assert capture.search.findings(unpacked(heard))
