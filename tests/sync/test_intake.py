"""Goal: deltas in order, heads that only go forward, pulls when something is missing and people
first; each thing that is not taken has its reason.

Method: one example per rule and per reason to refuse, in virtual time. Whole worlds are in
`test_intake_worlds.py`.
"""

from __future__ import annotations

import msgspec
import pytest

from edge.messages import Delta, Pull, VersionMark
from sync.answers import (
    ApplyDelta,
    Current,
)
from sync.intake import PULLS_MAX, Intake
from sync.later import LATER_MAX
from sync.scope_intake import (
    PULL_PATIENCE_MS,
    RETRY_MS_MIN,
)
from tests.sync.intake_help import (
    MENU,
    MONEY,
    PEOPLE,
    city_with,
    pulls,
    refusals,
    told,
)
from tests.sync.list_world import DEVICE


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


def test_a_pull_that_brings_something_is_given_its_time() -> None:
    city = city_with(3)
    _, second, third = city.deltas.values()
    intake = told(city)
    assert len(pulls(intake.connected({PEOPLE: city.version}, now_ms=0))) == 1
    intake.delta(third, now_ms=PULL_PATIENCE_MS - 1)
    assert pulls(intake.step(now_ms=PULL_PATIENCE_MS)) == []
    assert pulls(intake.step(now_ms=PULL_PATIENCE_MS + RETRY_MS_MIN)) == []
    intake.step(now_ms=2 * PULL_PATIENCE_MS)  # Now it is given up,
    assert pulls(intake.step(now_ms=2 * PULL_PATIENCE_MS + RETRY_MS_MIN))  # and said again.
    assert intake.delta(second, now_ms=0) == ()


def test_a_pull_that_brought_all_makes_room_for_the_next() -> None:
    city = city_with(3)
    first, second, third = city.deltas.values()
    intake = told(city)
    intake.connected({PEOPLE: first.target}, now_ms=0)
    intake.delta(first, now_ms=1)
    intake.held(scope=PEOPLE, version=first.target, now_ms=1)
    answers = intake.delta(third, now_ms=2)
    assert pulls(answers) == [Pull(device=DEVICE, scope=PEOPLE, have=second.base)]


@pytest.mark.parametrize("how", ["by deltas", "from a stick"])
def test_what_was_used_or_passed_is_forgotten_and_leaves_room(how: str) -> None:
    city = city_with(1)
    (delta,) = city.deltas.values()
    start = delta.base.number

    def at(base: int) -> Delta:
        return msgspec.structs.replace(
            delta, base=VersionMark(1, base), target=VersionMark(1, base + 1)
        )

    intake = told(city)
    end = start + LATER_MAX + 1
    for base in range(start, end):
        if how == "by deltas":
            assert intake.delta(at(base), now_ms=0) == (ApplyDelta(delta=at(base)),)
            intake.held(scope=PEOPLE, version=VersionMark(1, base + 1), now_ms=0)
        elif base > start:
            intake.delta(at(base), now_ms=0)
    if how == "from a stick":
        intake.held(scope=PEOPLE, version=VersionMark(1, end), now_ms=0)
    assert intake.delta(at(end + 1), now_ms=0) == ()
    assert intake.delta(at(end), now_ms=0) == (ApplyDelta(delta=at(end)),)
    answers = intake.held(scope=PEOPLE, version=VersionMark(1, end + 1), now_ms=0)
    assert answers == (ApplyDelta(delta=at(end + 1)),)


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
    out = pulls(intake.held(scope=scopes[0], version=VersionMark(1, 1), now_ms=0))
    assert len(out) == PULLS_MAX - 1  # The keys are still out.
    assert pulls(intake.step(now_ms=1)) == []


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
