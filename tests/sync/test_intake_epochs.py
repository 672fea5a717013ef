"""Goal: only the root key begins a list epoch, and a time that cannot be is believed of nobody.

Method: each message that names an epoch or a time, one after another, in virtual time; then the
root document, and the same again.
"""

from __future__ import annotations

import pytest
from msgspec import structs

from edge.messages import Pull, VersionMark
from sync.answers import Current, DropSnapshot
from sync.intake import Intake
from sync.scope_intake import ISSUED_MS_END, ISSUED_MS_MIN
from tests.sync.intake_help import PEOPLE, chunk, city_with, pulls, refusals, told
from tests.sync.list_world import DEVICE


def test_no_list_has_a_higher_epoch_than_the_root_document_says() -> None:
    city = city_with(1)
    intake = told(city)
    intake.connected({}, now_ms=0)
    city.restore()
    city.restore()
    assert city.manifest is not None and city.version.list_epoch == 3
    assert refusals(intake.head(city.head(), now_ms=0, utc_ms=0)) == [("head", "list_epoch")]
    assert refusals(intake.manifest(city.manifest, now_ms=0)) == [("manifest", "list_epoch")]
    delta = city.change({b"z": b"1"})
    assert refusals(intake.delta(delta, now_ms=0)) == [("delta", "list_epoch")]
    assert pulls(intake.connected({PEOPLE: city.version}, now_ms=0)) == [], "nor a welcome"
    assert intake.trust_epoch(2, now_ms=0, utc_ms=0) == ()
    answers = intake.trust_epoch(3, now_ms=0, utc_ms=0)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE)], "the head was kept for this"


def test_nor_has_the_first_list_of_a_new_device() -> None:
    city = city_with(0)
    city.restore()
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    intake.connected({}, now_ms=0)
    assert refusals(intake.manifest(city.manifest, now_ms=0)) == [("manifest", "list_epoch")]
    intake.trust_epoch(2, now_ms=0, utc_ms=0)
    assert not refusals(intake.manifest(city.manifest, now_ms=0))


def test_the_newest_head_that_came_too_early_counts_and_ages_all_the_same() -> None:
    city = city_with(0)
    intake = told(city)
    intake.connected({}, now_ms=0)
    city.restore()
    older = city.head()
    city.change({b"z": b"1"})
    newest = city.head()
    for head in (newest, older):
        intake.head(head, now_ms=0, utc_ms=0)
    late_ms = newest.valid_until_utc_ms
    assert refusals(intake.trust_epoch(2, now_ms=0, utc_ms=late_ms)) == [("head", "frozen")]
    intake.head(newest, now_ms=0, utc_ms=0)
    intake.held(scope=PEOPLE, version=newest.version, now_ms=0)
    answers = intake.head(newest, now_ms=0, utc_ms=0)
    assert answers == (Current(scope=PEOPLE, head=newest),)


@pytest.mark.parametrize("issued_utc_ms", [0, ISSUED_MS_MIN - 1, ISSUED_MS_END, 2**62])
def test_what_was_signed_at_a_time_that_cannot_be_is_refused(issued_utc_ms: int) -> None:
    city = city_with(1)
    (delta,) = city.deltas.values()
    assert city.manifest is not None
    intake = told(city)
    intake.connected({}, now_ms=0)
    wrong = {"issued_utc_ms": issued_utc_ms}
    head = structs.replace(city.head(), **wrong)
    assert refusals(intake.head(head, now_ms=0, utc_ms=0)) == [("head", "issued")]
    spoilt = structs.replace(delta, **wrong)
    assert refusals(intake.delta(spoilt, now_ms=0)) == [("delta", "issued")]
    manifest = structs.replace(city.manifest, **wrong)
    assert refusals(intake.manifest(manifest, now_ms=0)) == [("manifest", "issued")]
    assert intake.refused == {"head:issued": 1, "delta:issued": 1, "manifest:issued": 1}


def test_the_first_and_the_last_second_that_can_be_are_taken() -> None:
    city = city_with(0)
    for issued_utc_ms in (ISSUED_MS_MIN, ISSUED_MS_END - 1):
        head = structs.replace(city.head(), issued_utc_ms=issued_utc_ms)
        assert not refusals(told(city).head(head, now_ms=0, utc_ms=0))


# ------------------------------------------------------------------- half a snapshot, resumed


def test_a_snapshot_goes_on_with_what_is_missing() -> None:
    city = city_with(0, rows=20)
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(PEOPLE,), spread=1.0)
    intake.held(scope=PEOPLE, version=None, now_ms=0)
    manifest = structs.replace(city.manifest, identifier_key_version=7)
    stored = frozenset({0, 1, 2, 5, 9})
    assert intake.resume(scope=PEOPLE, manifest=manifest, stored=stored, now_ms=0) == ()
    asked = pulls(intake.connected({}, now_ms=0))
    assert asked[0].keys == (PEOPLE,), "its keys are named, and lacking"
    assert [pull.chunks for pull in asked[1:]] == [(3, 4, 6, 7)]
    assert not refusals(chunk(intake, city, 3, now_ms=1))


@pytest.mark.parametrize(
    ("held", "floor", "version", "stored"),
    [
        (VersionMark(1, 9), None, VersionMark(1, 9), {0}),  # Nothing to gain.
        (None, VersionMark(2, 1), VersionMark(1, 9), {0}),  # Of an epoch that is over.
        (None, None, VersionMark(2, 9), {0}),  # Of one that the root document does not know.
        (None, None, VersionMark(1, 9), {0, 77}),  # Chunks it has not.
    ],
)
def test_half_a_snapshot_of_no_more_use_is_dropped(
    held: VersionMark | None, floor: VersionMark | None, version: VersionMark, stored: set[int]
) -> None:
    city = city_with(0, rows=20)
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    intake.held(scope=PEOPLE, version=held, floor=floor, now_ms=0)
    manifest = structs.replace(city.manifest, version=version)
    answers = intake.resume(scope=PEOPLE, manifest=manifest, stored=frozenset(stored), now_ms=0)
    assert answers == (DropSnapshot(scope=PEOPLE, snapshot_id=manifest.snapshot_id),)


def test_a_city_without_the_deltas_up_to_the_floor_is_asked_less_and_less() -> None:
    """The file is gone, the snapshot is below the floor: an answer that helps nothing is no reason
    to ask at once again."""
    city = city_with(2)
    city.deltas.clear()
    assert city.manifest is not None
    intake = Intake(device=DEVICE, scopes=(PEOPLE,), key_scopes=(), spread=1.0)
    intake.held(scope=PEOPLE, version=None, floor=city.version, now_ms=0)
    intake.connected({}, now_ms=0)
    intake.head(city.head(), now_ms=0, utc_ms=0)
    intake.manifest(city.manifest, now_ms=0)
    asked = 0
    for index in range(len(city.chunks)):
        asked = len(pulls(chunk(intake, city, index, now_ms=0)))
    for now_ms in range(0, 3_600_000, 1_000):
        for _ in pulls(intake.step(now_ms=now_ms)):
            asked += 1
            assert pulls(intake.manifest(city.manifest, now_ms=now_ms)) == []
    assert 5 < asked < 30
