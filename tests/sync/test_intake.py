"""Goal: a picture only ever goes forward, by exactly fitting deltas or by a whole snapshot; in the
end it is the city's; and everything else is refused with a reason.

Method: every sequence of five arrivals in a small world, held against a store that refuses what
the real one refuses; big worlds sampled by seed; one example per rule and per reason to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import CHUNK_BYTES_MAX, Delta, Head, Manifest, Pull, Row, VersionMark
from sync.answers import (
    ApplyDelta,
    Current,
    DropSnapshot,
    FinishSnapshot,
    IntakeAnswer,
    Refuse,
    SendPull,
    StartSnapshot,
    StoreChunk,
)
from sync.intake import PULLS_MAX, Intake
from sync.scope_intake import (
    LATER_MAX,
    PULL_PATIENCE_MS,
    RETRY_MS_MAX,
    RETRY_MS_MIN,
    STALE_PULLS_MAX,
)
from tests.sync.list_world import (
    CALM,
    DEVICE,
    Chunk,
    Device,
    Faults,
    ListCity,
    Picture,
    World,
)

PEOPLE, MONEY, MENU = "s1/people", "s1/money", "s1/menu"

ROUGH = Faults(
    lost=0.2,
    doubled=0.15,
    late_ms_max=3_000,
    link_lost=0.05,
    spoilt=0.01,
    restored=0.01,
    replayed=0.2,
    forgotten=0.05,
)


def city_with(changes: int, *, rows: int = 3) -> ListCity:
    city = ListCity(PEOPLE)
    city.change({b"r%d" % i: b"0" for i in range(rows)})
    city.deltas.clear()
    city.make_snapshot()
    for change in range(changes):
        city.change({b"c%d" % change: b"1"})
    return city


def told(city: ListCity) -> Intake:
    """An intake that holds the city's snapshot and knows nothing newer."""
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    intake.held(scope=PEOPLE, version=city.manifest.version, now_ms=0)
    return intake


def pulls(answers: tuple[IntakeAnswer, ...]) -> list[Pull]:
    return [answer.pull for answer in answers if isinstance(answer, SendPull)]


def refusals(answers: tuple[IntakeAnswer, ...]) -> list[tuple[str, str]]:
    return [(a.what, a.reason) for a in answers if isinstance(a, Refuse)]


# ---------------------------------------------------------------------------- worlds


@pytest.mark.parametrize("holds", [False, True])
def test_every_sequence_of_arrivals_keeps_the_store_whole(holds: bool) -> None:
    """Nine things that can arrive or happen, any five of them in any order: 2 x 59,049 worlds."""
    old = city_with(0)
    assert old.manifest is not None
    start = (old.version, dict(old.rows))
    first = old.change({b"a": b"1"})
    old_head = old.head(issued_utc_ms=1)
    second = old.change({b"b": b"1"})
    old.make_snapshot()
    manifest, chunks = old.manifest, list(old.chunks)
    third = old.change({b"c": b"1"}, removes=[b"a"])
    newest = old.version
    assert manifest is not None and len(chunks) == 3
    pieces = [
        Chunk(scope=PEOPLE, snapshot_id=manifest.snapshot_id, index=i, data=data)
        for i, data in enumerate(chunks)
    ]
    new_head = old.head(issued_utc_ms=2)
    things: list[Sequence[Head | Delta | Manifest | Chunk] | int] = [
        *([first], [second], [third]),
        *([old_head], [new_head]),
        *([manifest], [pieces[0], pieces[2]], [pieces[1]]),
        PULL_PATIENCE_MS + RETRY_MS_MIN,
    ]
    for chosen in product(things, repeat=5):
        world = World(Random(0), (PEOPLE,))
        world.connected = True
        device = world.device
        if holds:
            device.pictures[PEOPLE] = Picture(start[0], dict(start[1]))
            device.carry_out(device.intake.held(scope=PEOPLE, version=start[0], now_ms=0))
        versions = []
        for thing in chosen:
            if isinstance(thing, int):
                device.now_ms += thing
                device.carry_out(device.intake.step(now_ms=device.now_ms))
            else:
                for one in thing:
                    world.take(one)
            device.sent.clear()
            if PEOPLE in device.pictures:
                picture = device.pictures[PEOPLE]
                versions.append(picture.version.number)
                assert picture.rows == old.history[picture.version]
        assert versions == sorted(versions)
        kinds = [thing if isinstance(thing, int) else thing[0] for thing in chosen]
        if holds and all(delta in kinds for delta in (first, second, third)):
            assert device.pictures[PEOPLE].version == newest


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_after_any_faults_every_list_is_the_citys(seed: int) -> None:
    world = World(Random(seed), (PEOPLE, MONEY, MENU))
    world.connect()
    world.faults = ROUGH
    for _ in range(150):
        world.run_second()
        world.go_wrong()
        if world.random.random() < 0.5:
            world.change(world.random.choice([PEOPLE, MONEY]), world.random.choice([1, 1, 12]))
    world.faults = CALM
    if world.connected:
        world.disconnect()
    world.connect()  # The retained heads come again, and with the welcome what is wanted.
    for _ in range(2 * RETRY_MS_MAX // 1_000):
        world.run_second()
    world.check_current()


def test_a_calm_morning_costs_one_snapshot_and_then_only_deltas() -> None:
    world = World(Random(5), (PEOPLE, MONEY))
    world.cities[PEOPLE].change({b"%d" % i: b"0" for i in range(30)})
    world.cities[PEOPLE].deltas.clear()
    world.cities[PEOPLE].make_snapshot()
    world.connect()
    for second in range(60):
        world.run_second()
        if second > 10:
            world.change(PEOPLE, 1)
    world.run_second()
    world.check_current()
    assert world.device.snapshots == 2 and not world.device.refused


# ---------------------------------------------------------------------------- deltas


def test_a_delta_is_applied_on_exactly_its_base_and_the_next_waits_for_the_commit() -> None:
    city = city_with(2)
    intake = told(city)
    first, second = city.deltas.values()
    assert intake.delta(first, now_ms=0) == (ApplyDelta(delta=first),)
    assert intake.delta(second, now_ms=0) == ()  # The first is not yet on disk.
    answers = intake.held(scope=PEOPLE, version=first.target, now_ms=0)
    assert answers == (ApplyDelta(delta=second),)


def test_a_gap_is_pulled_and_what_came_early_is_used() -> None:
    city = city_with(3)
    intake = told(city)
    first, second, third = city.deltas.values()
    intake.connected({}, now_ms=0)
    answers = intake.delta(third, now_ms=0)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE, have=first.base)]
    assert intake.delta(second, now_ms=1) == ()  # One pull is out already.
    assert intake.delta(first, now_ms=2) == (ApplyDelta(delta=first),)
    assert intake.held(scope=PEOPLE, version=first.target, now_ms=3) == (ApplyDelta(delta=second),)
    assert intake.held(scope=PEOPLE, version=second.target, now_ms=3) == (ApplyDelta(delta=third),)
    assert intake.held(scope=PEOPLE, version=third.target, now_ms=3) == ()


def test_a_delta_again_is_ignored_in_silence() -> None:
    city = city_with(1)
    intake = told(city)
    (delta,) = city.deltas.values()
    intake.delta(delta, now_ms=0)
    intake.held(scope=PEOPLE, version=delta.target, now_ms=0)
    assert intake.delta(delta, now_ms=0) == ()
    assert intake.duplicates == 1 and not intake.refused


def test_deltas_that_wait_are_bounded_and_the_nearest_are_kept() -> None:
    city = city_with(1)
    intake = told(city)
    (delta,) = city.deltas.values()
    number = delta.base.number

    def at(base: int) -> Delta:
        return msgspec.structs.replace(
            delta, base=VersionMark(1, base), target=VersionMark(1, base + 1)
        )

    for base in range(number + LATER_MAX + 50, number, -1):
        intake.delta(at(base), now_ms=0)
    assert intake.delta(at(number), now_ms=0) == (ApplyDelta(delta=at(number)),)
    for base in range(number, number + LATER_MAX - 1):
        held = intake.held(scope=PEOPLE, version=VersionMark(1, base + 1), now_ms=0)
        assert held == (ApplyDelta(delta=at(base + 1)),)
    end = VersionMark(1, number + LATER_MAX)
    assert intake.held(scope=PEOPLE, version=end, now_ms=0) == ()


# ---------------------------------------------------------------------------- snapshots


def test_chunks_are_pulled_in_groups_of_four_and_only_what_is_missing() -> None:
    city = city_with(0, rows=20)
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    assert pulls(intake.connected({}, now_ms=0)) == [Pull(device=DEVICE, scope=PEOPLE)]
    answers = intake.manifest(city.manifest, now_ms=1)
    assert answers[0] == StartSnapshot(manifest=city.manifest)
    asked = [pulls(answers)[0].chunks]
    for index in range(9):
        answers = chunk(intake, city, index, now_ms=2)
        assert isinstance(answers[0], StoreChunk)
        asked += [pull.chunks for pull in pulls(answers)]
    assert asked == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    intake.disconnected()
    assert pulls(intake.connected({}, now_ms=3))[0].chunks == (9,)
    answers = chunk(intake, city, 9, now_ms=4)
    assert answers[1] == FinishSnapshot(manifest=city.manifest, later=())
    assert intake.step(now_ms=10**6) == ()  # Until the shell says what became of it.
    assert pulls(intake.held(scope=PEOPLE, version=city.version, now_ms=5)) == []


def chunk(
    intake: Intake, city: ListCity, index: int, *, now_ms: int, data: bytes | None = None
) -> tuple[IntakeAnswer, ...]:
    assert city.manifest is not None
    return intake.chunk(
        scope=PEOPLE,
        snapshot_id=city.manifest.snapshot_id,
        index=index,
        data=city.chunks[index] if data is None else data,
        now_ms=now_ms,
    )


def test_a_snapshot_below_what_is_held_waits_for_the_deltas_that_bring_it_up() -> None:
    city = city_with(2)
    first, second = city.deltas.values()
    intake = told(city)
    intake.held(scope=PEOPLE, version=second.target, now_ms=0)
    intake.connected({}, now_ms=0)
    intake.head(city.head(), now_ms=0, utc_ms=0)
    assert pulls(intake.mismatch(scope=PEOPLE, now_ms=0)) == [Pull(device=DEVICE, scope=PEOPLE)]
    assert city.manifest is not None
    intake.manifest(city.manifest, now_ms=1)
    answers = [chunk(intake, city, index, now_ms=2) for index in range(len(city.chunks))][-1]
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE, have=first.base)]
    assert intake.delta(second, now_ms=3) == ()
    assert intake.delta(first, now_ms=3) == (
        FinishSnapshot(manifest=city.manifest, later=(first, second)),
    )


def test_deltas_go_on_into_the_old_picture_while_a_snapshot_is_fetched() -> None:
    city = city_with(1)
    (delta,) = city.deltas.values()
    intake = told(city)
    city.make_snapshot()
    assert city.manifest is not None
    intake.connected({}, now_ms=0)
    assert isinstance(intake.manifest(city.manifest, now_ms=0)[0], StartSnapshot)
    assert intake.delta(delta, now_ms=1) == (ApplyDelta(delta=delta),)


def test_an_unanswered_snapshot_is_asked_for_anew_and_goes_on_where_it_stopped() -> None:
    city = city_with(0, rows=20)
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    intake.connected({}, now_ms=0)
    intake.manifest(city.manifest, now_ms=0)
    for index in range(4):
        chunk(intake, city, index, now_ms=0)
    asked: list[Pull] = []
    now_ms = 0
    while not asked or asked[-1].chunks:
        now_ms += 1_000
        asked += pulls(intake.step(now_ms=now_ms))
    assert len(asked) == STALE_PULLS_MAX
    assert asked[-1] == Pull(device=DEVICE, scope=PEOPLE)
    answers = intake.manifest(city.manifest, now_ms=now_ms)
    assert pulls(answers)[0].chunks == (4, 5, 6, 7)


def test_a_failed_snapshot_is_fetched_again_after_a_while() -> None:
    city = city_with(0)
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    intake.connected({}, now_ms=0)
    starts: list[int] = []
    answers: tuple[IntakeAnswer, ...] = ()
    for now_ms in range(0, 100_000, 100):
        answers = intake.manifest(city.manifest, now_ms=now_ms)
        if not any(isinstance(answer, StartSnapshot) for answer in answers):
            continue
        for index in range(len(city.chunks)):
            answers = chunk(intake, city, index, now_ms=now_ms)
        assert isinstance(answers[-1], FinishSnapshot)
        starts.append(now_ms)
        snapshot_id = city.manifest.snapshot_id
        intake.snapshot_failed(scope=PEOPLE, snapshot_id=snapshot_id, now_ms=now_ms)
    # The first failure is met at once, the others after 5, 10, 20, 40 s.
    waits = [b - a for a, b in pairwise(starts)]
    assert waits[:5] == [100, 5_000, 10_000, 20_000, 40_000]


def test_a_mismatch_asks_for_a_snapshot_once_per_back_off() -> None:
    city = city_with(0)
    intake = told(city)
    intake.connected({}, now_ms=0)
    answers = intake.mismatch(scope=PEOPLE, now_ms=0)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE)]
    assert pulls(intake.mismatch(scope=PEOPLE, now_ms=1)) == []
    assert city.manifest is not None
    intake.manifest(city.manifest, now_ms=2)
    for index in range(len(city.chunks)):
        answers = chunk(intake, city, index, now_ms=3)
    assert isinstance(answers[-1], FinishSnapshot)
    intake.held(scope=PEOPLE, version=city.version, now_ms=4)
    assert pulls(intake.mismatch(scope=PEOPLE, now_ms=5)) == []  # Again, and too soon.
    assert pulls(intake.step(now_ms=RETRY_MS_MIN - 1)) == []
    assert pulls(intake.step(now_ms=RETRY_MS_MIN + 10)) == [Pull(device=DEVICE, scope=PEOPLE)]


# ---------------------------------------------------------------------------- heads


def test_the_newest_version_is_current_and_stays_fresh_with_each_head() -> None:
    city = city_with(0)
    intake = told(city)
    head = city.head(issued_utc_ms=10)
    assert intake.head(head, now_ms=0, utc_ms=0) == (Current(scope=PEOPLE, head=head),)
    fresher = city.head(issued_utc_ms=20)
    assert intake.head(fresher, now_ms=1, utc_ms=0) == (Current(scope=PEOPLE, head=fresher),)
    assert intake.head(head, now_ms=2, utc_ms=0) == ()  # An old one does not make it older.


def test_a_newer_head_is_pulled_from_what_is_held() -> None:
    city = city_with(2)
    intake = told(city)
    assert city.manifest is not None
    assert intake.head(city.head(), now_ms=0, utc_ms=0) == ()
    have = city.manifest.version
    answers = intake.connected({}, now_ms=1)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE, have=have)]
    assert pulls(intake.step(now_ms=PULL_PATIENCE_MS)) == []
    assert pulls(intake.step(now_ms=1 + PULL_PATIENCE_MS)) == []  # It did not answer: later.
    answers = intake.step(now_ms=1 + PULL_PATIENCE_MS + RETRY_MS_MIN)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE, have=have)]


def test_the_welcome_wants_what_no_head_has_said_yet() -> None:
    city = city_with(1)
    answers = told(city).connected({PEOPLE: city.version}, now_ms=0)
    assert [pull.have for pull in pulls(answers)] == [VersionMark(1, 2)]


def test_a_higher_list_epoch_comes_by_snapshot_only() -> None:
    city = city_with(3)
    intake = told(city)
    intake.held(scope=PEOPLE, version=city.version, now_ms=0)
    intake.connected({}, now_ms=0)
    city.restore()
    after = city.change({b"z": b"1"})
    assert refusals(intake.delta(after, now_ms=0)) == [("delta", "list_epoch")]
    assert city.manifest is not None
    assert refusals(intake.manifest(city.manifest, now_ms=0)) == [("manifest", "list_epoch")]
    answers = intake.head(city.head(), now_ms=0, utc_ms=0)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE)]
    assert isinstance(intake.manifest(city.manifest, now_ms=1)[0], StartSnapshot)
    intake.delta(after, now_ms=1)
    for index in range(len(city.chunks)):
        answers = chunk(intake, city, index, now_ms=2)
    assert answers[-1] == FinishSnapshot(manifest=city.manifest, later=(after,))


# ---------------------------------------------------------------------------- refusals


def test_each_reason_to_refuse_a_head() -> None:
    city = city_with(2)
    intake = told(city)
    old = city.head()
    new_version = VersionMark(1, city.number + 5)
    intake.held(scope=PEOPLE, version=new_version, now_ms=0)
    assert refusals(intake.head(old, now_ms=0, utc_ms=0)) == [("head", "rollback")]
    head = msgspec.structs.replace(old, version=new_version, valid_until_utc_ms=1_000)
    assert refusals(intake.head(head, now_ms=0, utc_ms=1_000)) == [("head", "frozen")]
    mixed = msgspec.structs.replace(head, snapshot_version=VersionMark(1, city.number + 6))
    assert refusals(intake.head(mixed, now_ms=0, utc_ms=0)) == [("head", "mixed")]
    foreign = msgspec.structs.replace(head, scope="s2/people")
    assert refusals(intake.head(foreign, now_ms=0, utc_ms=0)) == [("head", "wrong_scope")]
    assert intake.head(head, now_ms=0, utc_ms=None) == (Current(scope=PEOPLE, head=head),)
    assert intake.refused == {
        "head:rollback": 1,
        "head:frozen": 1,
        "head:mixed": 1,
        "head:wrong_scope": 1,
    }


def test_a_head_below_one_seen_before_or_below_the_floor_is_a_rollback() -> None:
    city = city_with(1)
    intake = told(city)
    earlier = city.head()
    city.change({b"x": b"1"})
    intake.head(city.head(), now_ms=0, utc_ms=0)
    assert refusals(intake.head(earlier, now_ms=1, utc_ms=0)) == [("head", "rollback")]
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    intake.held(scope=PEOPLE, version=None, floor=VersionMark(1, 99), now_ms=0)
    assert refusals(intake.head(city.head(), now_ms=0, utc_ms=0)) == [("head", "rollback")]


def test_each_reason_to_refuse_a_delta() -> None:
    city = city_with(3)
    first, second, third = city.deltas.values()
    intake = told(city)
    intake.held(scope=PEOPLE, version=second.target, now_ms=0)
    replace = msgspec.structs.replace
    cases = {
        "base": replace(third, base=first.base),
        "numbers": replace(third, target=third.base),
        "wrong_scope": replace(third, scope="s2/people"),
        "list_epoch": replace(third, base=VersionMark(2, 1), target=VersionMark(2, 2)),
        "rollback": replace(third, base=VersionMark(0, 9), target=VersionMark(0, 99)),
    }
    for reason, delta in cases.items():
        assert refusals(intake.delta(delta, now_ms=0)) == [("delta", reason)], reason
    across = replace(third, target=VersionMark(2, 9))
    assert refusals(intake.delta(across, now_ms=0)) == [("delta", "numbers")]


def test_each_reason_to_refuse_a_manifest() -> None:
    city = city_with(2)
    assert city.manifest is not None
    older = city.manifest
    city.make_snapshot()
    named = city.manifest
    intake = told(city)
    replace = msgspec.structs.replace
    assert refusals(intake.manifest(older, now_ms=0)) == [("manifest", "rollback")]  # No head yet.
    intake.head(city.head(), now_ms=0, utc_ms=0)
    newer = VersionMark(1, city.number + 1)
    cases = {
        "wrong_snapshot": older,
        "mixed": replace(named, version=newer),
        "shape": replace(named, version=newer, snapshot_id="x", chunk_hashes=(b"short",)),
        "wrong_scope": replace(named, scope="s2/people"),
        "list_epoch": replace(named, snapshot_id="x", version=VersionMark(9, 1)),
        "rollback": replace(named, snapshot_id="x", version=VersionMark(0, 99)),
    }
    for reason, manifest in cases.items():
        assert refusals(intake.manifest(manifest, now_ms=0)) == [("manifest", reason)], reason
    other_chunks = replace(named, version=newer, chunk_hashes=named.chunk_hashes[:1])
    intake.connected({}, now_ms=0)
    intake.mismatch(scope=PEOPLE, now_ms=0)
    swapped = replace(other_chunks, version=named.version)
    assert refusals(intake.manifest(swapped, now_ms=0)) == [("manifest", "mixed")]
    assert isinstance(intake.manifest(named, now_ms=0)[0], StartSnapshot)
    later = replace(named, snapshot_id="y", version=newer)
    assert intake.manifest(later, now_ms=0)[0] == StartSnapshot(manifest=later)


def test_each_reason_to_refuse_a_chunk() -> None:
    city = city_with(0, rows=6)
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    snapshot_id = city.manifest.snapshot_id

    def take(data: bytes, *, index: int = 0, of: str = snapshot_id) -> list[tuple[str, str]]:
        return refusals(
            intake.chunk(scope=PEOPLE, snapshot_id=of, index=index, data=data, now_ms=0)
        )

    assert take(city.chunks[0]) == [("chunk", "wrong_snapshot")]
    intake.connected({}, now_ms=0)
    intake.manifest(city.manifest, now_ms=0)
    assert take(city.chunks[0], of="other") == [("chunk", "wrong_snapshot")]
    assert take(city.chunks[0], index=3) == [("chunk", "index")]
    assert take(city.chunks[0], index=-1) == [("chunk", "index")]
    assert take(bytes(CHUNK_BYTES_MAX + 1)) == [("chunk", "size")]
    assert take(city.chunks[1]) == [("chunk", "chunk_hash")]
    answers = intake.step(now_ms=RETRY_MS_MIN)
    assert pulls(answers)[0].chunks == (0, 1, 2)  # The damaged one is asked for again.
    foreign = intake.chunk(scope="s2/people", snapshot_id="x", index=0, data=b"", now_ms=0)
    assert refusals(foreign) == [("chunk", "wrong_scope")]


def test_a_chain_that_no_memory_holds_drops_the_snapshot() -> None:
    city = city_with(1)
    (delta,) = city.deltas.values()
    assert city.manifest is not None
    start = city.manifest.version.number
    far = VersionMark(1, start + LATER_MAX + 10)
    intake = told(city)
    intake.held(scope=PEOPLE, version=far, now_ms=0)
    intake.connected({}, now_ms=0)
    head = msgspec.structs.replace(city.head(), version=far)
    intake.head(head, now_ms=0, utc_ms=0)
    intake.mismatch(scope=PEOPLE, now_ms=0)
    assert isinstance(intake.manifest(city.manifest, now_ms=0)[0], StartSnapshot)
    for base in range(start, start + LATER_MAX):
        early = msgspec.structs.replace(
            delta, base=VersionMark(1, base), target=VersionMark(1, base + 1)
        )
        intake.delta(early, now_ms=0)
    answers: tuple[IntakeAnswer, ...] = ()
    for index in range(len(city.chunks)):
        answers = chunk(intake, city, index, now_ms=0)
    assert isinstance(answers[1], DropSnapshot)
    assert refusals(answers) == [("manifest", "chain_too_long")]


# ---------------------------------------------------------------------------- all of them


def test_people_come_first_and_the_others_do_not_wait_for_a_silent_city() -> None:
    scopes = (PEOPLE, MONEY, MENU)
    intake = Intake(device=DEVICE, scopes=scopes, key_scopes=(), spread=1.0)
    assert [pull.scope for pull in pulls(intake.connected({}, now_ms=0))] == [PEOPLE]
    assert [pull.scope for pull in pulls(intake.step(now_ms=PULL_PATIENCE_MS))] == [MONEY, MENU]
    later = pulls(intake.step(now_ms=PULL_PATIENCE_MS + RETRY_MS_MIN))
    assert [pull.scope for pull in later] == [PEOPLE]


def test_no_more_pulls_are_out_than_the_window() -> None:
    scopes = tuple(f"s{i}/people" for i in range(8))
    intake = Intake(device=DEVICE, scopes=scopes, key_scopes=(scopes[0],), spread=1.0)
    out = pulls(intake.connected({}, now_ms=0))
    assert [bool(pull.keys) for pull in out] == [True, False]
    intake.held(scope=scopes[0], version=VersionMark(1, 1), now_ms=0)
    out += pulls(intake.step(now_ms=1))
    assert len(out) <= PULLS_MAX + 1 and len(pulls(intake.step(now_ms=2))) == 0


def test_keys_are_pulled_until_held_and_again_when_a_manifest_names_others() -> None:
    city = city_with(0)
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(PEOPLE,), spread=1.0)
    keys = Pull(device=DEVICE, keys=(PEOPLE,))
    assert pulls(intake.connected({}, now_ms=0))[0] == keys
    assert keys not in pulls(intake.step(now_ms=PULL_PATIENCE_MS))
    assert keys in pulls(intake.step(now_ms=PULL_PATIENCE_MS + RETRY_MS_MIN))
    intake.keys_held(scope=PEOPLE, identifier={1}, seal={1}, now_ms=20_000)
    assert keys not in pulls(intake.step(now_ms=60_000))
    rotated = msgspec.structs.replace(city.manifest, identifier_key_version=1, seal_key_version=2)
    assert keys in pulls(intake.manifest(rotated, now_ms=60_001))
    intake.keys_held(scope=PEOPLE, identifier={1}, seal={1, 2}, now_ms=60_002)
    assert keys not in pulls(intake.step(now_ms=10**6))


def test_the_model_device_catches_a_wrong_intake() -> None:
    """The checker itself: a delta on another base, a hole, a step back are all seen."""
    city = city_with(2)
    first, second = city.deltas.values()
    assert city.manifest is not None
    device = Device((PEOPLE,))
    device.pictures[PEOPLE] = Picture(first.base, dict(city.history[first.base]))
    with pytest.raises(AssertionError, match="another base"):
        device.carry_out([ApplyDelta(delta=second)])
    rows = {i: {r.key: r.body for r in _rows(data)} for i, data in enumerate(city.chunks)}
    device.builds[PEOPLE] = (city.manifest, rows)
    with pytest.raises(AssertionError, match="hole"):
        device.carry_out([FinishSnapshot(manifest=city.manifest, later=(second,))])
    device.builds[PEOPLE] = (city.manifest, rows)
    device.pictures[PEOPLE] = Picture(second.target, {})
    with pytest.raises(AssertionError, match="step back"):
        device.carry_out([FinishSnapshot(manifest=city.manifest, later=())])


def _rows(data: bytes) -> list[Row]:
    return msgspec.msgpack.decode(data, type=list[Row])
