"""Goal: what a till tells of itself makes no hole where it is heard: facts come before the
heartbeat that names them, what happened while no broker was there is said by itself, and what was
before a start is asked for at once. Who lacks something knows at the same moment if it may come.

Method: two tills of `peer_world` on a network that keeps the order; every message is listened to,
and holes are timed in its virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

from edge.messages import PeerBeat, PeerKind, decode_batch, decode_json, decode_peer
from edge.model import Station
from sync.peer_answers import Heard, TakeReport
from sync.peer_voice import ANSWER_MS, UNSAID_MAX
from sync.peers import ASK_MS
from tests.sync.peer_world import BATCH_ROWS, Device, Net, World

ONE, TWO = "till-1", "till-2"
HOLE_MS_MAX = 20  # A question and its answer at 1 ms each, and steps between.

assert HOLE_MS_MAX < ASK_MS


def school() -> tuple[World, Device, Device]:
    world = World(Random(1), dict.fromkeys((ONE, TWO), Station.TILL), Net(late_ms_max=1))
    world.run(2_000)
    return world, world.devices[ONE], world.devices[TWO]


def listen(world: World, heard: Callable[[str, PeerKind, bytes], None]) -> None:
    publish = world.publish

    def both(sender: str, kind: PeerKind, data: bytes) -> None:
        heard(sender, kind, decode_peer(data).payload)
        publish(sender, kind, data)

    world.publish = both  # type: ignore[method-assign]


def sell(till: Device, count: int) -> None:
    for _ in range(count):
        till.record("p1")


def go(world: World, for_ms: int) -> None:
    """Something happened at everybody."""
    world.at(0, lambda: None)
    world.run(for_ms)


def longest_hole_ms(world: World, me: Device, other: Device, for_ms: int) -> int:
    """Of `me`, for what `other` told, by what the store of `me` says each millisecond."""
    longest = now = 0
    for _ in range(for_ms):
        world.run(1)
        beat = me.store.reports.get(other.name)
        lives = () if beat is None else beat.lives
        known = all(
            me.store.lives.get((other.name, one.epoch), (0, 0, ""))[1] >= one.head for one in lives
        )
        now = 0 if known else now + 1
        longest = max(longest, now)
    assert now == 0, "it stays"
    return longest


def test_a_heartbeat_comes_behind_the_facts_that_it_names() -> None:
    world, one, two = school()
    said = {ONE: 0, TWO: 0}
    beats = 0

    def heard(sender: str, kind: PeerKind, payload: bytes) -> None:
        nonlocal beats
        if kind is PeerKind.SPEND:
            header, _ = decode_batch(payload)
            said[sender] = max(said[sender], header.first + header.count - 1)
        if kind is PeerKind.BEAT and said[sender]:
            beats += 1
            assert decode_json(PeerBeat, payload).lives[-1].head <= said[sender]

    listen(world, heard)
    for count in (1, 1, BATCH_ROWS + 1, 5 * BATCH_ROWS):  # More than one message takes.
        for till in (one, two):
            sell(till, count)
        world.at(0, lambda: None)
        assert longest_hole_ms(world, two, one, 100) == 0
        assert longest_hole_ms(world, one, two, 100) == 0
    assert beats >= 8


def test_what_was_before_a_start_is_asked_for_at_once() -> None:
    world, one, two = school()
    two.connect(False)
    sell(one, 3)
    go(world, 1_000)
    two.online = True
    two.start()
    world.at(0, lambda: None)
    assert longest_hole_ms(world, two, one, 2_000) <= HOLE_MS_MAX
    assert two.kernel.known(ONE, one.epochs[-1].name) == 4


def test_facts_of_an_epoch_that_nobody_named_yet_are_asked_for_at_once() -> None:
    world, one, two = school()
    one.open_epoch()
    sell(one, 2)
    world.at(0, lambda: None)
    assert longest_hole_ms(world, two, one, 2_000) <= HOLE_MS_MAX
    assert two.kernel.known(ONE, one.epochs[-1].name) == 3


def test_what_was_sold_while_no_broker_was_there_is_said_by_itself() -> None:
    world, one, two = school()
    for till in (one, two):
        till.connect(False)
        sell(till, 2 * BATCH_ROWS)
    go(world, 5_000)
    asked: list[str] = []

    def heard(sender: str, kind: PeerKind, _payload: bytes) -> None:
        if kind is PeerKind.ASK:
            asked.append(sender)

    listen(world, heard)
    for till in (one, two):
        till.connect(True)
    world.at(0, lambda: None)
    assert longest_hole_ms(world, two, one, 500) == longest_hole_ms(world, one, two, 500) == 0
    assert asked == []
    assert two.kernel.known(ONE, one.epochs[-1].name) == 2 * BATCH_ROWS + 1


def test_what_a_long_outage_left_is_asked_for_at_its_pace() -> None:
    world, one, two = school()
    one.connect(False)
    sell(one, UNSAID_MAX + 1)
    go(world, 1_000)
    spoken: list[int] = []

    def heard(_sender: str, kind: PeerKind, _payload: bytes) -> None:
        if kind is PeerKind.SPEND:
            spoken.append(world.now_ms)

    listen(world, heard)
    one.connect(True)
    go(world, 10_000)
    assert two.kernel.known(ONE, one.epochs[-1].name) == UNSAID_MAX + 2
    gaps = [later - sooner for sooner, later in pairwise(spoken)]
    assert len(spoken) >= UNSAID_MAX // BATCH_ROWS and min(gaps) >= ANSWER_MS


def test_a_start_says_nothing_of_before_by_itself() -> None:
    """A day's facts are not said to all because one process was started again."""
    world, one, two = school()
    sell(one, 3 * BATCH_ROWS)
    go(world, 1_000)
    spoken: list[str] = []

    def heard(sender: str, kind: PeerKind, _payload: bytes) -> None:
        if kind is PeerKind.SPEND:
            spoken.append(sender)

    listen(world, heard)
    one.start()
    go(world, 2_000)
    assert spoken == []
    assert two.kernel.complete(ONE)


def test_whose_facts_are_missing_is_told_with_whether_they_may_come() -> None:
    """Both are kept in one transaction: edge waits for a till that is heard, and for no other."""
    world, one, two = school()
    holes = 0

    def at(sender: str, kind: PeerKind, data: bytes) -> None:
        nonlocal holes
        answers = two.kernel.receive(kind, sender, data, now_ms=world.now_ms)
        two.take(answers)
        if any(isinstance(answer, TakeReport) for answer in answers):
            holes += not two.kernel.complete(ONE)
            heard = [answer for answer in answers if isinstance(answer, Heard)]
            assert holes > 1 or [set(answer.until_ms) for answer in heard] == [{ONE}]

    two.receive = at  # type: ignore[method-assign]
    two.start()
    sell(one, 2)
    go(world, 2_000)
    assert holes == 1
