"""Goal: a clock that is wrong though the kernel calls it synchronised costs a device one short
contact; and a city whose own certificate has ended is left alone, told of, and not hammered.

Method: the whole of sync in virtual time (`sync_world.py`), started anew at 2099 and at 1970 with
NTP's word for it; the broker's certificate is good for three months around now, and checked by
the device's own clock wherever a contact checks dates.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge import logs
from edge.messages import Noted
from edge.model import ClockQuality
from provisioning.status import BAD_MARK, rows
from sync.backoff import BACKOFF_MS_MAX, BACKOFF_MS_MIN
from sync.bridge_events import Loss
from sync.contact import REFUSALS, Contact
from sync.session import Endpoint
from sync.topics import TopicKind
from tests.support.times import NOON_MS
from tests.sync.sync_world import DEVICE, World

DAY_MS = 24 * 60 * 60 * 1_000
YEAR_2099_MS = 4_070_908_800_000
TWO = ("mqtts://first.example:8883", "mqtts://second.example:8883")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, endpoints=TWO)
    made.city.refused = dated(made, NOON_MS - DAY_MS, NOON_MS + 90 * DAY_MS)
    try:
        yield made
    finally:
        made.stop()
        logs.set_level("info")


def dated(
    world: World, begins_ms: int, ends_ms: int, *hosts: str
) -> Callable[[Endpoint], tuple[Loss, str] | None]:
    """What TLS says of a certificate good between these, at these brokers (none: at all)."""

    def refuses(endpoint: Endpoint) -> tuple[Loss, str] | None:
        session = world.bridge.session
        assert session is not None and session.tls is not None
        assert session.tls.verify_mode is ssl.CERT_REQUIRED and session.tls.check_hostname
        if world.sync.link.contact is Contact.TIME or (hosts and endpoint.host not in hosts):
            return None
        good = begins_ms <= world.clock.moment().wall_ms < ends_ms
        return None if good else (Loss.DATES, "the broker's certificate: not good at this time")

    return refuses


def contacts(world: World) -> list[Contact]:
    """Fills itself: as what each later attempt is made."""
    made: list[Contact] = []
    connect = world.bridge.connect

    def watched(*arguments: object, **more: object) -> None:
        made.append(world.sync.link.contact)
        connect(*arguments, **more)  # type: ignore[arg-type]

    world.bridge.connect = watched  # type: ignore[method-assign]
    return made


def reached(world: World) -> bool:
    """Whether the city has welcomed the device on the present connection."""
    return world.sync.link.welcomed


def notes(world: World) -> list[tuple[str, str]]:
    return [(fact.what, fact.why) for fact in world.facts() if isinstance(fact, Noted)]


# ------------------------------------------------------------------------- the clock is wrong


@pytest.mark.parametrize("candidate", [False, True])
@pytest.mark.parametrize("machine_ms", [YEAR_2099_MS, 1_000])
def test_a_clock_at_2099_or_1970_that_ntp_calls_right_is_mended_by_one_contact_for_time(
    world: World, machine_ms: int, candidate: bool
) -> None:
    if candidate:  # A renewal that waits for its first connection changes nothing of it.
        world.city.refused = lambda endpoint: None
        world.run(1_000)
        world.sync.renewing.renewal.want()
        world.sync.step()
        for event in world.bridge.poll():
            world.sync._take(event)
        world.city.refused = dated(world, NOON_MS - DAY_MS, NOON_MS + 90 * DAY_MS)
    world.restart(reboot=True, wall_ms=machine_ms)
    if machine_ms == 1_000 and candidate:
        assert world.clock.moment().quality is ClockQuality.FLOOR
    else:
        assert world.clock.moment().quality is ClockQuality.NTP, "and so it is believed"
    made = contacts(world)
    world.run(BACKOFF_MS_MIN)
    tried = [one for one in made if one is not Contact.TIME]
    assert Contact.TIME in made and len(made) <= 3, made
    assert tried[-1] in (Contact.FULL, Contact.CANDIDATE)
    assert world.sync.link.welcomed and world.sync.link.refusal == ""
    moment = world.clock.moment()
    assert (moment.wall_ms, moment.quality) == (world.city.utc_ms(), ClockQuality.CITY)
    assert world.sync.counters["first_contacts"] == 1
    assert len([one for one in notes(world) if one[0] == "first_contact"]) == 1
    attempts = len(made)
    world.run(10 * 60_000)
    assert len(made) == attempts, "and then it stays"


def test_what_is_said_on_the_contact_in_between_is_the_name_alone(world: World) -> None:
    world.restart(reboot=True, wall_ms=YEAR_2099_MS)
    made = contacts(world)
    told = len(world.city.published)
    while Contact.TIME not in made:
        world.run(10)
    world.run(BACKOFF_MS_MIN)
    short = world.city.hellos[0]
    assert (short.streams, short.held, short.key, short.configuration) == ((), {}, "", None)
    topic, _ = world.city.published[told]
    assert topic == f"mk/v1/d/{DEVICE}/hello", "no presence and no fact before it"
    assert ("first_contact", "ntp") in notes(world)


def test_where_the_other_broker_is_away_the_time_is_fetched_from_the_one_that_is_there(
    world: World,
) -> None:
    """The first that says "dates" is not the next that is asked; the doubt outlives that one."""
    good = dated(world, NOON_MS - DAY_MS, NOON_MS + 90 * DAY_MS)
    world.city.refused = lambda endpoint: (
        (Loss.UNREACHABLE, "no route") if endpoint.host == "second.example" else good(endpoint)
    )
    world.restart(reboot=True, wall_ms=YEAR_2099_MS)
    made = contacts(world)
    world.run(60_000)
    assert world.sync.link.welcomed
    assert made == [Contact.FULL, Contact.TIME, Contact.TIME, Contact.FULL]


def test_while_nobody_answers_the_doubt_is_kept_and_so_is_the_line(world: World) -> None:
    world.city.up = False
    world.restart(reboot=True, wall_ms=YEAR_2099_MS)
    made = contacts(world)
    world.run(10 * 60_000)
    assert made == [Contact.FULL, Contact.TIME], "it holds the line and says hello again"
    assert not reached(world)
    world.city.up = True
    world.run(20_000)
    assert world.sync.link.welcomed


# --------------------------------------------------------------- the certificate really ended


def test_a_city_whose_certificate_has_ended_is_told_of_and_not_hammered(world: World) -> None:
    world.run(1_000)
    world.city.refused = dated(world, NOON_MS - 90 * DAY_MS, NOON_MS - DAY_MS)
    world.bridge.lose(Loss.LOST, "gone")
    world.random = lambda: 1.0
    made = contacts(world)
    waits = []
    for _ in range(40):  # Three hours.
        world.run()
        at_ms = world.sync.link.next_connect_ms
        assert at_ms is not None, "between attempts"
        waits.append(at_ms - world.mono_ms)
        world.mono_ms = at_ms
    assert waits == sorted(waits) and waits[20:] == [BACKOFF_MS_MAX] * 20
    assert made == [Contact.FULL, *[Contact.TIME, Contact.FULL] * 38], "two attempts a wait"
    assert not reached(world)
    assert [one for one in notes(world) if one[0] == "refused_by_broker"] == [
        ("refused_by_broker", "dates")
    ], "said once, whatever is fetched in between"
    assert [one for one in notes(world) if one[0] == "first_contact"] == []
    births = [data for data in world.city.of(TopicKind.STATUS) if b'"online":true' in data]
    assert len(births) == 1
    status = world.sync.reports.status(world.clock.moment())
    assert (status["refusal"], status["refusal_text"]) == ("dates", REFUSALS["dates"])
    shown = {name: (mark, text) for name, mark, text in rows({"edge": {}, "sync": status})}
    assert shown["broker"][0] == BAD_MARK
    assert "certificate is not good at this time" in shown["broker"][1]
    world.city.refused = lambda endpoint: None  # The city has mended it.
    world.run(BACKOFF_MS_MAX + 1_000)
    assert reached(world) and world.sync.link.refusal == ""


@pytest.mark.parametrize("at", ["TIME", "FULL"])
def test_the_refusal_stands_while_the_time_is_fetched(world: World, at: str) -> None:
    world.run(1_000)
    world.city.refused = dated(world, NOON_MS - 90 * DAY_MS, NOON_MS - DAY_MS)
    world.bridge.lose(Loss.LOST, "gone")
    world.run(10_000)
    for _ in range(10_000):
        world.sync.step(rung=True)
        assert world.sync.link.refusal == "dates"
        if world.sync.link.contact.name == at and world.bridge.connected is (at == "TIME"):
            break
        world.mono_ms += 100
    else:
        raise AssertionError(f"never {at}")


def test_one_broker_whose_certificate_has_ended_keeps_nobody_from_the_other(world: World) -> None:
    world.city.refused = dated(world, NOON_MS - 90 * DAY_MS, NOON_MS - DAY_MS, "first.example")
    world.run(3 * BACKOFF_MS_MIN)
    assert world.sync.link.welcomed and world.sync.link.refusal == ""
    assert world.bridge.connects[-1] == "second.example"
