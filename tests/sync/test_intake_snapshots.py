"""Goal: snapshots are fetched by what is missing, go in force only when no step back, and are
refused with a reason when they are not what was signed; so is each of their pieces.

Method: one example per rule and per reason to refuse, in virtual time.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from edge.messages import CHUNK_BYTES_MAX, Pull, VersionMark
from sync.answers import (
    ApplyDelta,
    DropSnapshot,
    FinishSnapshot,
    IntakeAnswer,
    StartSnapshot,
    StoreChunk,
)
from sync.intake import Intake
from sync.later import LATER_MAX
from sync.scope_intake import (
    RETRY_MS_MIN,
    STALE_PULLS_MAX,
)
from tests.sync.intake_help import (
    PEOPLE,
    chunk,
    city_with,
    pulls,
    refusals,
    told,
)
from tests.sync.list_world import DEVICE, ListCity


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


def test_a_good_delta_ends_the_back_off_of_mismatches() -> None:
    city = city_with(1)
    (delta,) = city.deltas.values()
    assert city.manifest is not None
    intake = told(city)
    intake.connected({}, now_ms=0)
    intake.mismatch(scope=PEOPLE, now_ms=0)
    intake.manifest(city.manifest, now_ms=0)
    for index in range(len(city.chunks)):
        chunk(intake, city, index, now_ms=0)
    intake.held(scope=PEOPLE, version=city.manifest.version, now_ms=0)
    assert intake.delta(delta, now_ms=0) == (ApplyDelta(delta=delta),)
    intake.held(scope=PEOPLE, version=delta.target, now_ms=0)
    answers = intake.mismatch(scope=PEOPLE, now_ms=1)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE)]


def test_being_told_again_what_is_held_does_not_stop_its_repair() -> None:
    city = city_with(0)
    assert city.manifest is not None
    intake = told(city)
    intake.connected({}, now_ms=0)
    intake.mismatch(scope=PEOPLE, now_ms=0)
    intake.manifest(city.manifest, now_ms=0)
    answers = intake.held(scope=PEOPLE, version=city.version, now_ms=0)
    assert not any(isinstance(answer, DropSnapshot) for answer in answers)
    for index in range(len(city.chunks)):
        answers = chunk(intake, city, index, now_ms=0)
    assert isinstance(answers[-1], FinishSnapshot)


def test_a_snapshot_that_replaces_another_keeps_the_deltas_behind_it() -> None:
    city = city_with(2)
    assert city.manifest is not None
    first, second = city.deltas.values()
    intake = told(city)
    intake.held(scope=PEOPLE, version=second.target, now_ms=0)
    intake.connected({}, now_ms=0)
    intake.head(city.head(), now_ms=0, utc_ms=0)
    intake.mismatch(scope=PEOPLE, now_ms=0)
    intake.manifest(city.manifest, now_ms=0)
    intake.delta(first, now_ms=0)
    intake.delta(second, now_ms=0)
    between = ListCity(PEOPLE)
    between.rows, between.number = dict(city.history[first.target]), first.target.number
    between.make_snapshot()
    assert between.manifest is not None
    named_otherwise = msgspec.structs.replace(between.manifest, snapshot_id="between")
    assert isinstance(intake.manifest(named_otherwise, now_ms=0)[0], StartSnapshot)
    older = intake.manifest(city.manifest, now_ms=0)
    assert refusals(older) == [("manifest", "rollback")]  # Below what is being built.
    answers: tuple[IntakeAnswer, ...] = ()
    for index, data in enumerate(between.chunks):
        answers = intake.chunk(
            scope=PEOPLE, snapshot_id="between", index=index, data=data, now_ms=0
        )
    assert answers[-1] == FinishSnapshot(manifest=named_otherwise, later=(second,))


def test_a_new_list_epoch_drops_what_is_built_for_the_old() -> None:
    city = city_with(0)
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    intake.connected({}, now_ms=0)
    intake.manifest(city.manifest, now_ms=0)
    before = city.manifest.snapshot_id
    city.restore()
    intake.trust_epoch(2, now_ms=1, utc_ms=0)
    answers = intake.head(city.head(), now_ms=1, utc_ms=0)
    assert answers[0] == DropSnapshot(scope=PEOPLE, snapshot_id=before)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE)]


def test_a_lost_picture_comes_back_no_older_than_it_ever_was() -> None:
    city = city_with(2)
    first, second = city.deltas.values()
    assert city.manifest is not None
    intake = told(city)
    intake.held(scope=PEOPLE, version=first.target, now_ms=0)
    intake.held(scope=PEOPLE, version=None, now_ms=0)
    intake.connected({}, now_ms=0)
    intake.head(city.head(), now_ms=0, utc_ms=0)
    intake.manifest(city.manifest, now_ms=0)
    answers: tuple[IntakeAnswer, ...] = ()
    for index in range(len(city.chunks)):
        answers = chunk(intake, city, index, now_ms=0)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE, have=first.base)]
    answers = intake.delta(first, now_ms=0)
    assert answers == (FinishSnapshot(manifest=city.manifest, later=(first,)),)
    assert second.base == first.target


def test_a_snapshot_of_what_is_held_already_is_not_begun() -> None:
    city = city_with(0)
    assert city.manifest is not None
    intake = told(city)
    assert intake.manifest(city.manifest, now_ms=0) == () and intake.duplicates == 1


def test_a_higher_list_epoch_comes_by_snapshot_only() -> None:
    city = city_with(3)
    intake = told(city)
    intake.held(scope=PEOPLE, version=city.version, now_ms=0)
    intake.connected({}, now_ms=0)
    city.restore()
    intake.trust_epoch(2, now_ms=0, utc_ms=0)
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
