"""Goal: a bad neighbour, or a bad broker, can make no device believe what its owner did not say:
not be heard, not spend, not move a person, not fill the disk, not keep it busy.

Method: two honest kernels in virtual time and one who writes what it likes; each wrong thing by
itself, random bytes by hypothesis, and the real signature where that is the question.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import (
    MESSAGE_BYTES_MAX,
    BatchHeader,
    PeerAsk,
    PeerBeat,
    PeerKind,
    PeerLife,
    PeerSeen,
    PeerWant,
    SideRange,
    Stream,
    VersionMark,
    digest_of,
    encode_batch,
    encode_fact,
    encode_json,
    encode_peer,
    encode_sides,
    peer_signing_input,
)
from edge.model import Station
from edge.trust import public_point, signed_by_device
from sync import peers as peers_module
from sync.peer_answers import PeerDevice, Publish, SendRange, TakeFacts, TakeSides
from sync.peer_state import LIVES_MAX, MESSAGES_BURST, MESSAGES_PER_S, NUMBER_MAX
from sync.peer_topics import parse_topic, subscriptions, topic_of
from sync.peer_voice import HEARD_MS
from sync.peers import WANTS_MAX, Peers
from tests.support import facts
from tests.sync.peer_world import SITE, Device, Net, World, message, point_of, verify

QUIET = Net()

TILL, LANE = Station.TILL, Station.ENTRANCE
ME, OTHER, GATE = "till-1", "till-2", "lane-1"


def school() -> World:
    """Three that have heard each other."""
    world = World(Random(1), {ME: TILL, OTHER: TILL, GATE: LANE}, QUIET)
    world.run(3_000)
    return world


def refusals(device: Device) -> set[str]:
    return {f"{one.kind} {one.device} {one.reason}" for one in device.refused}


def batch(rows: list[bytes], *, first: int, device: str = OTHER, epoch: str = "") -> bytes:
    header = BatchHeader(
        device=device,
        stream=Stream.MAIN,
        epoch=epoch or f"{OTHER}-e1",
        first=first,
        count=len(rows),
        digest=digest_of(rows[-1]),
    )
    return encode_batch(header, rows)


def forged_sale(previous: bytes, sequence: int, *, device: str = OTHER, epoch: str = "") -> bytes:
    header = facts.stamp(sequence, digest_of(previous), device=device, epoch=epoch or f"{OTHER}-e1")
    return encode_fact(facts.sale(header, account="victim"))


def give(me: Device, kind: PeerKind, payload: bytes, *, by: str, topic: str = "") -> None:
    """What `by` signs, on the topic of `topic`."""
    me.receive(topic or by, kind, message(by, kind, payload))


# ------------------------------------------------------------------------------ who speaks


def test_a_forged_signature_moves_nothing() -> None:
    world = school()
    me, other = world.devices[ME], world.devices[OTHER]
    rows = [forged_sale(other.epochs[0].rows[-1], 2)]
    payload = batch(rows, first=2)
    good = message(OTHER, PeerKind.SPEND, payload)
    changed = good.replace(b'"total_minor":12000', b'"total_minor":99999')
    assert changed != good
    for data in (
        changed,
        encode_peer(payload, OTHER, b"\0" * 32),
        message(OTHER, PeerKind.BEAT, payload),  # Signed for another use.
        message(GATE, PeerKind.SPEND, payload),  # By another device's key.
    ):
        before = len(me.refused)
        me.receive(OTHER, PeerKind.SPEND, data)
        assert len(me.refused) == before + 1
    assert refusals(me) == {f"spend {OTHER} signature"}
    assert me.kernel.known(OTHER, f"{OTHER}-e1") == 1


def test_the_real_signature_is_checked_the_same() -> None:
    """ECDSA as `KeyStore.sign` makes it and `signed_by_device` checks it."""
    mine, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    kernel = Peers(
        device=ME, site=SITE, station=TILL, session="s", verify=signed_by_device, nonce=lambda: "n"
    )
    kernel.roster({OTHER: PeerDevice(station=TILL, public=public_point(theirs))})
    beat = PeerBeat(device=OTHER, site=SITE, session="x", counter=1, nonce="m", echo={}, lives=())
    payload = encode_json(beat)
    for key, refused in ((mine, True), (theirs, False)):
        data = peer_signing_input(PeerKind.BEAT, payload)
        signature = key.sign(data, ec.ECDSA(hashes.SHA256()))
        kernel.receive(PeerKind.BEAT, OTHER, encode_peer(payload, OTHER, signature), now_ms=1_000)
        assert ("refused_beat_signature" in kernel.counters) is True
        assert (kernel.counters.get("unproven", 0) == 0) is refused
    assert not signed_by_device(b"\x04" + bytes(64), b"data", b"signature")
    assert not signed_by_device(b"", b"data", b"signature")


def test_who_is_not_on_the_roster_is_nobody() -> None:
    world = school()
    me = world.devices[ME]
    for name in ("till-9", "", "city"):
        give(me, PeerKind.BEAT, b"{}", by=name)
    assert me.kernel.counters["stranger"] == 3 and not me.refused
    # One that has left is nobody from then on; what it had sold stays.
    other = world.devices[OTHER]
    other.record("p1")
    world.at(0, lambda: None)
    world.run(50)
    assert me.kernel.known(OTHER, f"{OTHER}-e1") == 2
    del world.stations[OTHER]
    me.take(me.kernel.roster(world.roster()))
    assert OTHER not in me.kernel.devices() and OTHER not in me.store.reports
    assert not me.kernel.heard(OTHER, now_ms=world.now_ms)
    assert me.kernel.known(OTHER, f"{OTHER}-e1") == 2
    other.record("p1")
    other.kernel.mine(lives=(), store="", seen=())
    give(me, PeerKind.SPEND, batch(other.epochs[0].rows[2:], first=3), by=OTHER)
    assert me.kernel.known(OTHER, f"{OTHER}-e1") == 2


def test_a_row_without_a_key_or_with_another_is_not_believed() -> None:
    world = school()
    me = world.devices[ME]
    roster = world.roster()
    me.take(me.kernel.roster(roster | {OTHER: PeerDevice(station=TILL, public=b"")}))
    assert set(me.kernel.devices()) == {GATE}
    me.take(me.kernel.roster(roster | {OTHER: PeerDevice(station=TILL, public=b"new")}))
    assert not me.kernel.heard(OTHER, now_ms=world.now_ms)
    world.run(6_000)
    assert f"beat {OTHER} signature" in refusals(me)


def test_each_speaks_of_its_own_alone() -> None:
    """A lane sells nothing, a till lets nobody pass, nobody speaks in another's name."""
    world = school()
    me, rows = world.devices[ME], world.devices[OTHER].epochs[0].rows
    sale = forged_sale(rows[-1], 2)
    header = facts.stamp(2, "", device=OTHER, epoch=f"{OTHER}-e1")
    passage = encode_fact(facts.passage(header))
    side = SideRange(device=OTHER, site=SITE, epoch=f"{OTHER}-e1", after=0, up_to=2, count=1)
    give(me, PeerKind.SPEND, batch([sale], first=2), by=GATE)
    give(me, PeerKind.SPEND, batch([sale], first=2, device=GATE), by=GATE)
    give(me, PeerKind.SIDE, encode_sides(side, [passage]), by=OTHER)
    give(me, PeerKind.SIDE, encode_sides(side, [passage]), by=GATE)
    give(me, PeerKind.SPEND, batch([forged_sale(rows[-1], 2, device=ME)], first=2), by=OTHER)
    beat = PeerBeat(device=GATE, site=SITE, session="x", counter=1, nonce="m", echo={}, lives=())
    give(me, PeerKind.BEAT, encode_json(beat), by=OTHER)
    assert refusals(me) == {
        f"spend {GATE} not_a_till",
        f"side {OTHER} not_a_lane",
        f"side {GATE} invalid",
        f"spend {OTHER} invalid",
        f"beat {OTHER} invalid",
    }
    assert me.kernel.known(OTHER, f"{OTHER}-e1") == 1 and not me.store.people


def test_a_lane_holds_nobodys_sales() -> None:
    world = school()
    gate, rows = world.devices[GATE], world.devices[OTHER].epochs[0].rows
    give(gate, PeerKind.SPEND, batch([forged_sale(rows[-1], 2)], first=2), by=OTHER)
    assert refusals(gate) == {f"spend {OTHER} not_a_till"} and not gate.store.facts
    assert not any("spend" in topic for topic in subscriptions(SITE, LANE))


# ------------------------------------------------------------------------------ played back


def test_words_of_yesterday_make_nobody_heard() -> None:
    """A broker that kept every message plays them back to devices that were started anew."""
    world = World(Random(1), {ME: TILL, OTHER: TILL, GATE: LANE}, QUIET)
    kept: list[tuple[str, PeerKind, bytes]] = []
    publish = world.publish

    def keep(sender: str, kind: PeerKind, data: bytes) -> None:
        kept.append((sender, kind, data))
        publish(sender, kind, data)

    world.publish = keep  # type: ignore[method-assign]
    world.run(30_000)
    me = world.devices[ME]
    assert me.kernel.heard(OTHER, now_ms=world.now_ms)
    assert len(kept) > 15
    world.devices[OTHER].connect(False)
    world.now_ms += 24 * 3_600_000
    for restart in (False, True):
        if restart:
            me.start()
            me.step()
        for sender, kind, data in kept:
            if sender == OTHER:
                me.receive(sender, kind, data)
                world.now_ms += 100
        assert not me.kernel.heard(OTHER, now_ms=world.now_ms)
        me.step()
        assert me.store.heard_until_ms.get(OTHER, 0) <= world.now_ms
    assert me.kernel.counters["unproven"] > 0


def test_an_older_heartbeat_of_this_session_is_ignored() -> None:
    world = school()
    me = world.devices[ME]
    _, beat = world.devices[OTHER].said[-1]
    liar = msgspec.structs.replace(beat, lives=())
    give(me, PeerKind.BEAT, encode_json(liar), by=OTHER)
    assert me.store.reports[OTHER].lives == beat.lives
    assert me.kernel.counters["old_beats"] >= 1


def test_who_falls_silent_is_not_heard_for_long() -> None:
    world = school()
    me = world.devices[ME]
    world.devices[OTHER].connect(False)
    spoke_ms = world.devices[OTHER].said[-1][0]
    world.run(HEARD_MS - 1_000 - (world.now_ms - spoke_ms))
    assert me.store.heard_until_ms[OTHER] > world.now_ms
    world.run(2_000)
    assert me.store.heard_until_ms[OTHER] == 0 and me.store.heard_until_ms[GATE] > 0


# ------------------------------------------------------------------------------ too much


def test_more_than_its_share_is_not_looked_at() -> None:
    world = school()
    me = world.devices[ME]
    for _ in range(2 * MESSAGES_BURST):
        give(me, PeerKind.SPEND, b"{}", by=OTHER)
    assert me.kernel.counters["refused_spend_flood"] >= MESSAGES_BURST
    # The others are heard as before, and it is again when it behaves.
    rows = world.devices[GATE]
    rows.record("p1")
    world.at(0, lambda: None)
    world.run(1_000)
    assert me.store.people
    world.run(1_000 * MESSAGES_BURST // MESSAGES_PER_S)
    assert me.kernel.heard(OTHER, now_ms=world.now_ms)


def test_bytes_count_as_well() -> None:
    world = school()
    me = world.devices[ME]
    for _ in range(100):
        me.receive(OTHER, PeerKind.SPEND, bytes(MESSAGE_BYTES_MAX))
    assert me.kernel.counters["refused_spend_flood"] > 20


@pytest.mark.parametrize("kind", list(PeerKind))
def test_nothing_too_large_is_read(kind: PeerKind) -> None:
    world = school()
    me = world.devices[ME]
    give(me, kind, b"{" + b" " * MESSAGE_BYTES_MAX + b"}", by=OTHER)
    assert refusals(me) == {f"{kind} {OTHER} invalid"}


def test_a_till_that_makes_up_sales_without_end_fills_no_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers_module, "HELD_BYTES_MAX", 5_000)
    world = school()
    me, other = world.devices[ME], world.devices[OTHER]
    for _ in range(20):
        other.record("p1")
    world.at(0, lambda: None)
    world.run(30_000)
    held = sum(map(len, me.store.facts[OTHER, f"{OTHER}-e1"].values()))
    assert held <= 5_000 and f"spend {OTHER} full" in refusals(me)
    assert not me.kernel.complete(OTHER), "and it is not said that all is known"


def test_epochs_that_no_heartbeat_named_are_not_kept() -> None:
    world = school()
    me = world.devices[ME]
    for number in range(50):
        header = facts.stamp(1, device=OTHER, epoch=f"made-up-{number}")
        row = encode_fact(facts.opened(header))
        give(me, PeerKind.SPEND, batch([row], first=1, epoch=f"made-up-{number}"), by=OTHER)
    assert {epoch for device, epoch in me.store.facts if device == OTHER} == {f"{OTHER}-e1"}


Change = Callable[[PeerBeat], PeerBeat]
WRONG_BEATS: dict[str, Change] = {
    "another school": lambda b: msgspec.structs.replace(b, site="school-8"),
    "no session": lambda b: msgspec.structs.replace(b, session=""),
    "a long word": lambda b: msgspec.structs.replace(b, store="x" * 65),
    "too many epochs": lambda b: msgspec.structs.replace(b, lives=b.lives * (LIVES_MAX + 1)),
    "too much seen": lambda b: msgspec.structs.replace(
        b, seen=(PeerSeen(device="d", epoch="e", up_to=1),) * 257
    ),
    "too long an echo": lambda b: msgspec.structs.replace(b, echo={str(n): "" for n in range(65)}),
    "below zero": lambda b: msgspec.structs.replace(
        b, lives=(PeerLife(epoch="e", held_from=1, head=-1),)
    ),
    "past all numbers": lambda b: msgspec.structs.replace(
        b, lives=(PeerLife(epoch="e", held_from=1, head=NUMBER_MAX + 1),)
    ),
    "a version of nowhere": lambda b: msgspec.structs.replace(b, base=VersionMark(-1, 0)),
}


@pytest.mark.parametrize("wrong", WRONG_BEATS)
def test_a_heartbeat_that_says_too_much_is_none(wrong: str) -> None:
    world = school()
    me = world.devices[ME]
    _, beat = world.devices[OTHER].said[-1]
    changed = WRONG_BEATS[wrong](msgspec.structs.replace(beat, counter=beat.counter + 10))
    give(me, PeerKind.BEAT, encode_json(changed), by=OTHER)
    assert refusals(me) == {f"beat {OTHER} invalid"}


def test_a_head_nobody_can_reach_is_asked_for_ever_more_rarely() -> None:
    """A till that lies about its head makes itself incomplete, and costs little."""
    world = school()
    me, other = world.devices[ME], world.devices[OTHER]
    _, beat = other.said[-1]
    other.connect(False)
    life = msgspec.structs.replace(beat.lives[0], head=1_000_000)
    lie = msgspec.structs.replace(beat, counter=beat.counter + 1, lives=(life,))
    give(me, PeerKind.BEAT, encode_json(lie), by=OTHER)
    asks: list[object] = []
    publish = world.publish

    def listen(sender: str, kind: PeerKind, data: bytes) -> None:
        if kind is PeerKind.ASK:
            asks.append(data)
        publish(sender, kind, data)

    world.publish = listen  # type: ignore[method-assign]
    world.run(60_000)
    assert not me.kernel.complete(OTHER)
    assert 5 <= len(asks) <= 15


def test_asking_makes_nobody_speak_without_end() -> None:
    world = school()
    me = world.devices[ME]
    for _ in range(300):
        me.record("p1")
    me.tell_mine()
    me.step()
    for device, wants in (
        (GATE, [PeerWant(device=ME, kind=PeerKind.SPEND, epoch=f"{ME}-e1", after=0)]),
        (OTHER, [PeerWant(device=OTHER, kind=PeerKind.SPEND, epoch=f"{OTHER}-e1", after=0)]),
        (OTHER, [PeerWant(device=ME, kind=PeerKind.SIDE, epoch=f"{ME}-e1", after=0)]),
        (OTHER, [PeerWant(device=ME, kind=PeerKind.SPEND, epoch="e9", after=0)]),
        (OTHER, [PeerWant(device=ME, kind=PeerKind.SPEND, epoch=f"{ME}-e1", after=-5)]),
        (OTHER, [PeerWant(device=ME, kind=PeerKind.SPEND, epoch=f"{ME}-e1", after=10**9)]),
    ):
        ask = PeerAsk(device=device, site=SITE, wants=tuple(wants))
        give(me, PeerKind.ASK, encode_json(ask), by=device)
    world.now_ms += 1_000
    assert not [a for a in me.kernel.step(now_ms=world.now_ms) if isinstance(a, SendRange)]
    want = PeerWant(device=ME, kind=PeerKind.SPEND, epoch=f"{ME}-e1", after=0)
    sent = 0
    for _ in range(10):  # Asked ten times in a second, from the beginning each time.
        ask = PeerAsk(device=OTHER, site=SITE, wants=(want,) * WANTS_MAX)
        give(me, PeerKind.ASK, encode_json(ask), by=OTHER)
        for _ in range(5):
            for answer in me.kernel.step(now_ms=world.now_ms):
                if isinstance(answer, SendRange):
                    sent += 1
                    me.send(answer)
            world.now_ms += 20
    assert 5 <= sent <= 11
    too_many = PeerAsk(device=OTHER, site=SITE, wants=(want,) * (WANTS_MAX + 1))
    give(me, PeerKind.ASK, encode_json(too_many), by=OTHER)
    assert refusals(me) == {f"ask {OTHER} invalid"}


# ------------------------------------------------------------------------------ facts


def test_facts_are_taken_in_sequence_and_only_in_one_chain() -> None:
    world = school()
    me, other = world.devices[ME], world.devices[OTHER]
    epoch = f"{OTHER}-e1"
    rows = list(other.epochs[0].rows)
    second, third = forged_sale(rows[0], 2), b""
    third = forged_sale(second, 3)
    fork = forged_sale(third, 3)  # Its `previous` is not the second.
    give(me, PeerKind.SPEND, batch([third], first=3), by=OTHER)
    assert me.kernel.known(OTHER, epoch) == 1, "a hole before it"
    answers = me.kernel.receive(
        PeerKind.SPEND,
        OTHER,
        message(OTHER, PeerKind.SPEND, batch([rows[0], second], first=1)),
        now_ms=world.now_ms,
    )
    taken = next(a for a in answers if isinstance(a, TakeFacts))
    assert (taken.first, taken.facts, taken.batch_first) == (2, (second,), 1)
    give(me, PeerKind.SPEND, batch([second], first=2), by=OTHER)
    assert me.kernel.known(OTHER, epoch) == 2, "the same again changes nothing"
    give(me, PeerKind.SPEND, batch([fork], first=3), by=OTHER)
    assert me.kernel.known(OTHER, epoch) == 2 and f"spend {OTHER} fork" in refusals(me)


def test_what_lies_between_base_and_held_facts_is_missing() -> None:
    """The city was restored: its base includes less than before, and what was dropped is asked
    for again."""
    world = school()
    me, other = world.devices[ME], world.devices[OTHER]
    for _ in range(9):
        other.record("p1")
    world.at(0, lambda: None)
    world.run(500)
    key = (OTHER, f"{OTHER}-e1")
    me.put_base(VersionMark(1, 1), {key: 6})
    me.kernel.held(device=OTHER, epoch=key[1], after=6, up_to=10, digest="", side=0)
    assert me.kernel.known(*key) == 10
    me.store.lives[key] = (6, 10, "")
    me.put_base(VersionMark(2, 1), {key: 3})
    assert me.kernel.known(*key) == 3 and not me.kernel.complete(OTHER)
    me.store.facts[key] = {}
    world.run(2_000)
    assert me.kernel.known(*key) == 10 and set(me.store.facts[key]) == set(range(4, 11))


def test_a_hole_right_behind_the_base_is_one_though_no_digest_tells() -> None:
    world = school()
    me, other = world.devices[ME], world.devices[OTHER]
    for _ in range(9):
        other.record("p1")
    key = (OTHER, f"{OTHER}-e1")
    me.put_base(VersionMark(1, 1), {key: 5})
    give(me, PeerKind.SPEND, batch(other.epochs[0].rows[7:9], first=8), by=OTHER)
    assert me.kernel.known(*key) == 5 and not me.store.facts.get(key, {}).keys() & {8, 9}
    give(me, PeerKind.SPEND, batch(other.epochs[0].rows[4:9], first=5), by=OTHER)
    assert me.kernel.known(*key) == 9, "what the base has already is no harm"


def test_a_report_of_a_store_that_is_gone_covers_nothing() -> None:
    """It had seen my facts, but its own were not known here yet; then it lost all it had seen."""
    world = school()
    me, other = world.devices[ME], world.devices[OTHER]
    other.note_seen()
    other.tell_mine()
    _, beat = other.said[-1]
    other.connect(False)
    seen = (PeerSeen(device=ME, epoch=f"{ME}-e1", up_to=1),)
    life = msgspec.structs.replace(beat.lives[0], head=2)
    old = msgspec.structs.replace(
        beat, counter=beat.counter + 1, lives=(life,), store="old", seen=seen
    )
    new = msgspec.structs.replace(old, counter=beat.counter + 2, store="new", seen=())
    for one in (old, new):
        give(me, PeerKind.BEAT, encode_json(one), by=OTHER)
    other.said.append((0, old))
    row = forged_sale(other.epochs[0].rows[0], 2)
    other.epochs[0].rows.append(row)
    give(me, PeerKind.SPEND, batch([row], first=2), by=OTHER)
    assert me.kernel.complete(OTHER)
    assert not any(store in ("old", "new") for _, store, _ in me.store.covers)


def test_passages_of_a_lanes_new_epoch_wait_for_those_of_the_old() -> None:
    """Else a person who left this morning would come in again when the old ones arrive."""
    world = school()
    me, gate = world.devices[ME], world.devices[GATE]
    me.connect(False)
    gate.record("p1")
    gate.open_epoch()
    gate.record("p2")
    gate.tell_mine()
    _, beat = gate.said[-1]
    lives = tuple(
        PeerLife(epoch=epoch.name, held_from=1, head=epoch.side, side=epoch.side)
        for epoch in gate.epochs
    )
    told = msgspec.structs.replace(beat, counter=beat.counter + 50, lives=lives)
    give(me, PeerKind.BEAT, encode_json(told), by=GATE)
    for number, known in ((1, set()), (0, {"p1"}), (1, {"p1", "p2"})):
        epoch = gate.epochs[number]
        side = SideRange(
            device=GATE, site=SITE, epoch=epoch.name, after=0, up_to=epoch.side, count=1
        )
        give(me, PeerKind.SIDE, encode_sides(side, [epoch.rows[-1]]), by=GATE)
        assert {who for who, _ in me.store.people} == known


def test_a_passage_behind_one_that_is_missing_waits_for_it() -> None:
    world = school()
    me, gate = world.devices[ME], world.devices[GATE]
    header = facts.stamp(9, device=GATE, epoch=f"{GATE}-e1")
    row = encode_fact(facts.passage(header))
    side = SideRange(device=GATE, site=SITE, epoch=f"{GATE}-e1", after=7, up_to=9, count=1)
    answers = me.kernel.receive(
        PeerKind.SIDE,
        GATE,
        message(GATE, PeerKind.SIDE, encode_sides(side, [row])),
        now_ms=world.now_ms,
    )
    assert not [a for a in answers if isinstance(a, TakeSides)]
    assert gate.epochs[0].side == 0


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(list(PeerKind)),
    payload=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(
                        ["device", "site", "lives", "wants", "first", "count", "epoch"]
                    ),
                    inner,
                    max_size=6,
                )
            ),
            max_leaves=12,
        ).map(lambda value: msgspec.json.encode(str(value) if isinstance(value, int) else value)),
    ),
    signed=st.booleans(),
)
def test_any_bytes_are_refused_or_taken_and_never_raise(
    kind: PeerKind, payload: bytes, signed: bool
) -> None:
    kernel = Peers(
        device=ME, site=SITE, station=TILL, session="s", verify=verify, nonce=lambda: "n"
    )
    kernel.roster({OTHER: PeerDevice(station=TILL, public=point_of(OTHER))})
    kernel.connected()
    data = message(OTHER, kind, payload) if signed else payload
    kernel.receive(kind, OTHER, data, now_ms=1_000)
    assert all(isinstance(a, Publish) for a in kernel.step(now_ms=1_000))
    assert kernel.known(OTHER, "") == 0


def test_topics_are_built_and_parsed_and_nothing_else_is_one() -> None:
    for kind in PeerKind:
        assert parse_topic(SITE, topic_of(SITE, ME, kind)) == (ME, kind)
        assert parse_topic("school-8", topic_of(SITE, ME, kind)) is None
    for wrong in (
        "",
        "peer/school-7/till-1",
        "peer/school-7/till-1/other",
        "mk/v1/d/a/ack",
        "a" * 999,
    ):
        assert parse_topic(SITE, wrong) is None
    assert subscriptions(SITE, TILL) == tuple(f"peer/{SITE}/+/{kind}" for kind in PeerKind)
