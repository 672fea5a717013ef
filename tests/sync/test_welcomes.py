"""Goal: the one answer that a device believes the time of is the city's own to its last hello, for
this device; and everything that a welcome says is done, once a connection.

Method: the whole of sync in virtual time (`sync_world.py`). A right signature stands under each of
them, so what refuses is the rule and not the seal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge import logs
from edge.messages import Hello, OrderAnswer, Pull, Stream, UpdateRefused, VersionMark, decode_batch
from edge.offline_cache import marks
from edge.offline_cache.record import Journal
from sync.bridge_events import Loss
from sync.contact import Contact
from sync.topics import up
from tests.support import small_city
from tests.sync.sync_world import DEVICE, World
from tests.sync.world_journal import journal_of, record

DAY_MS = 24 * 60 * 60 * 1_000
PEOPLE = small_city.PEOPLE
SCOPES = (PEOPLE, small_city.MONEY, small_city.MENU, small_city.SETTINGS)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.stop()
        logs.set_level("info")


@pytest.fixture
def journal(world: World) -> Iterator[Journal]:
    with journal_of(world) as journal:
        yield journal


def refused(world: World) -> list[tuple[str, str]]:
    return [(fact.what, fact.reason) for fact in world.facts() if isinstance(fact, UpdateRefused)]


def reached(world: World) -> bool:
    """Whether the city has welcomed the device on the present connection."""
    return world.sync.link.welcomed


def taken(world: World) -> tuple[object, ...]:
    """All that a welcome may move: the time, the marks, whether we are served."""
    anchor = marks.time_anchor(world.writer.db)
    acknowledged = {name: one["acknowledged"] for name, one in world.sync.uplink.status().items()}
    return anchor, acknowledged, world.sync.link.welcomed, world.clock.moment()


def sent(world: World, stream: Stream = Stream.MAIN) -> list[tuple[int, int]]:
    """First number and count of every batch that left, oldest first."""
    headers = [
        decode_batch(payload)[0]
        for topic, payload in world.city.published
        if topic == up(DEVICE, stream)
    ]
    return [(one.first, one.count) for one in headers]


# ------------------------------------------------------------------------ whose answer it is


def _other_nonce(world: World, hello: Hello, _before: Hello) -> None:
    world.city.welcome(hello, nonce="0" * 32, utc_ms=world.city.utc_ms() + DAY_MS)


def _no_nonce(world: World, hello: Hello, _before: Hello) -> None:
    world.city.welcome(hello, nonce="", utc_ms=world.city.utc_ms() + DAY_MS)


def _late(world: World, _hello: Hello, before: Hello) -> None:
    """To the hello before this one: the city was slow, or somebody held it back."""
    world.city.welcome(before, utc_ms=world.city.utc_ms() + DAY_MS)


def _other_device(world: World, hello: Hello, _before: Hello) -> None:
    world.city.welcome(hello, device="till-2", utc_ms=world.city.utc_ms() + DAY_MS)


@pytest.mark.parametrize("wrong", [_other_nonce, _no_nonce, _late, _other_device])
@pytest.mark.parametrize("first_contact", [False, True])
def test_a_welcome_that_is_no_answer_to_our_last_hello_moves_nothing(
    world: World, wrong: Callable[[World, Hello, Hello], None], first_contact: bool
) -> None:
    world.run(1_000)
    world.city.up = False
    world.restart(reboot=True, clock_trusted=not first_contact)
    world.run(20_000)  # The first hello goes unanswered, and one more was said.
    before, hello = world.city.hellos[-2:]
    assert before.nonce != hello.nonce and not world.sync.link.welcomed
    held = taken(world)
    wrong(world, hello, before)
    world.run()
    assert taken(world) == held
    assert ("welcome", "invalid") in refused(world)
    assert world.bridge.connected and world.sync.link.greeting, "it goes on waiting"
    world.city.welcome(hello)  # The right one is an answer still.
    world.city.up = True
    world.run()
    assert reached(world) and world.sync.link.contact is Contact.FULL


def test_a_welcome_is_taken_once(world: World) -> None:
    """Held by somebody and said again later: the time would fall back by so much."""
    world.run(1_000)
    hello = world.city.hellos[-1]
    topic, kept = f"mk/v1/d/{DEVICE}/welcome", world.city.welcome(hello)
    world.run()
    assert ("welcome", "invalid") in refused(world), "this hello has its answer"
    world.run(60_000)
    held = taken(world)
    world.bridge.deliver(topic, kept)
    world.run()
    assert taken(world) == held
    assert world.sync.counters["refused_welcome_invalid"] == 2
    world.restart()
    world.city.up = False
    world.run(1_000)
    held = taken(world)
    world.bridge.deliver(topic, kept)  # Nor is it one on another connection.
    world.run()
    assert taken(world) == held and not world.sync.link.welcomed


def test_an_order_for_another_device_is_refused_and_uses_no_counter(world: World) -> None:
    world.run(1_000)
    world.city.order(1, "identify", device="till-2")
    world.run(1_000)
    assert refused(world) == [("order", "invalid")]
    assert world.sync.counters.get("orders_taken", 0) == 0
    assert not [fact for fact in world.facts() if isinstance(fact, OrderAnswer)]
    world.city.order(1, "rotate_key")
    world.run(1_000)
    answers = [fact for fact in world.facts() if isinstance(fact, OrderAnswer)]
    assert [(fact.counter, fact.accepted) for fact in answers] == [(1, True)]


# ------------------------------------------------------------------------ what it says is done


def test_the_throttle_of_a_welcome_holds_from_the_first_batch_on(
    world: World, journal: Journal
) -> None:
    world.city.throttle_per_s = 10
    record(journal, world, 199)  # With the one that opens the stream: 200.
    world.run()
    assert sent(world) == [(1, 10)], "before any acknowledgement could say so"
    world.run(5_000)
    arrived = sum(count for _, count in sent(world))
    assert 50 <= arrived <= 60
    world.city.throttle_per_s = None  # The crowd is gone, and the next acknowledgement says so.
    world.run(2_000)
    assert sum(count for _, count in sent(world)) == 200


def test_newer_versions_that_a_welcome_names_are_pulled_and_nothing_else(world: World) -> None:
    """No head was heard: the welcome alone says what there is."""
    rows = (small_city.cardholder("p1"), small_city.account(), small_city.product())
    held = VersionMark(1, 3)
    for scope, row in zip(SCOPES, (*rows, small_city.site()), strict=True):
        world.install(small_city.Scope(scope, number=held.number - 1), row)
    world.restart()
    world.city.wanted = dict.fromkeys((*SCOPES, "school-8/people"), held)
    world.run(1_000)
    assert world.sync.downlink.held() == dict.fromkeys(SCOPES, held)
    assert [pull for pull in world.city.pulls if not pull.keys] == []
    for scope in SCOPES:
        world.city.wanted[scope] = VersionMark(1, 4)
        world.bridge.lose(Loss.LOST, "gone")
        world.run(2_000)
        assert [pull for pull in world.city.pulls if not pull.keys][-1] == Pull(
            device=DEVICE, scope=scope, have=held
        )
        world.city.wanted[scope] = held
        world.restart()  # Forgets what was wanted, and not what is held.


def test_a_second_welcome_on_a_connection_asks_for_nothing_again(
    world: World, journal: Journal
) -> None:
    """A till asks every 20 s which others are heard: what is on its way is not sent twice."""
    world.city.wanted = {PEOPLE: VersionMark(1, 5)}
    world.city.acknowledging = False
    record(journal, world, 3)
    world.run()
    batches, pulls = sent(world), len(world.city.pulls)
    assert batches and pulls
    hellos = len(world.city.hellos)
    world.sync.link.say_hello()
    world.run()
    assert len(world.city.hellos) == hellos + 1 and not world.sync.link.greeting
    assert sent(world) == batches and len(world.city.pulls) == pulls
    world.city.acknowledging = True
    world.bridge.lose(Loss.LOST, "gone")
    world.run(2_000)
    assert len(sent(world)) > len(batches) and len(world.city.pulls) > pulls, "on a new one it is"
