"""Goal: lanes of one school know where a person is by what was taken at either, forgive together,
and say `alone` and stop nobody while they cannot hear each other.

Method: two real agents in virtual time; what one recorded is given to the other's `sync.db` as its
sync keeps it. Real brokers are `tests/process/test_lanes_mosquitto.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge.messages import AccessFact, Handover, HandoverOpen, RowBody
from edge.model import AccessReason, Caveat, Outcome, PassbackMode, Station
from tests.support.lane_school import HEARD_MS, ZONE, Door, door, group, guardian, person, site
from tests.support.small_city import Key

PEOPLE = (
    *person("p1"),
    *person("anya"),
    *guardian("mama", "anya"),
    group("bees", "anya"),
)
ROSTER = {"lane-1": Station.ENTRANCE, "lane-2": Station.PRESCHOOL, "till-1": Station.TILL}


Doors = tuple[Door, Door]


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[Doors]:
    with two_of(tmp_path, ROSTER, site(passback_mode=PassbackMode.HARD)) as made:
        yield made


@pytest.fixture
def school(tmp_path: Path) -> Iterator[Doors]:
    """Two entrances of a pre-school, which stop nobody for a second passage."""
    roster = dict.fromkeys(("lane-1", "lane-2"), Station.PRESCHOOL)
    with two_of(tmp_path, roster, site(passback_mode=PassbackMode.OFF)) as made:
        yield made


@contextmanager
def two_of(
    tmp_path: Path, roster: dict[str, Station], *settings: tuple[Key, RowBody]
) -> Iterator[Doors]:
    with ExitStack() as stack:
        made = [
            stack.enter_context(
                door(
                    tmp_path / name,
                    *PEOPLE,
                    settings=settings,
                    device=name,
                    station=roster[name],
                    roster=roster,
                )
            )
            for name in ("lane-1", "lane-2")
        ]
        one, two = made
        one.hear(two)
        two.hear(one)
        yield one, two


def test_who_went_in_at_one_lane_is_in_for_the_other(lanes: tuple[Door, Door]) -> None:
    one, two = lanes
    one.go("p1")
    two.hear(one)
    two.tap("p1")
    access = two.last(AccessFact)
    assert (access.outcome, access.reason) == (Outcome.REFER, AccessReason.PASSBACK)
    assert access.caveats == ()
    assert [one["cardholder"] for one in two.ask("muster")["people"]] == ["p1"]


def test_the_newer_of_own_and_the_others_word_counts(lanes: tuple[Door, Door]) -> None:
    one, two = lanes
    one.go("p1")
    two.step(60_000)
    two.hear(one)
    two.go("p1", at="out")
    two.step(1_000)
    two.tap("p1")
    assert two.last(AccessFact).reason is AccessReason.AUTHORIZED
    one.step(70_000)
    one.hear(two)
    one.tap("p1")
    assert one.last(AccessFact).reason is AccessReason.AUTHORIZED, "out at the other since"


def test_a_lane_that_hears_no_other_stops_nobody_and_says_so(lanes: tuple[Door, Door]) -> None:
    one, two = lanes
    two.go("p1")
    two.step(HEARD_MS)
    two.tap("p1")
    access = two.last(AccessFact)
    assert (access.outcome, access.reason) == (Outcome.GRANT, AccessReason.AUTHORIZED)
    assert set(access.caveats) == {Caveat.ALONE, Caveat.PASSBACK}
    two.hear(one)
    two.step(4_000)
    two.tap("p1")
    assert two.last(AccessFact).reason is AccessReason.PASSBACK


def test_what_a_lane_says_it_did_and_nobody_knows_yet_is_as_if_it_was_not_heard(
    lanes: tuple[Door, Door],
) -> None:
    one, two = lanes
    one.go("p1")
    with two.files.writer.transaction() as db:
        db.execute("UPDATE peer_reports SET lives = lives")
    two.hear(one)
    with two.files.writer.transaction() as db:
        db.execute("UPDATE peer_lives SET side = side - 1")
    two.step(1_000)
    two.tap("p1")
    assert Caveat.ALONE in two.last(AccessFact).caveats


def test_to_forgive_reaches_the_other_lanes(lanes: tuple[Door, Door]) -> None:
    one, two = lanes
    one.go("p1")
    two.hear(one)
    one.step(10_000)
    assert one.ask("forgive", cardholder="p1")["ok"]
    two.hear(one)
    two.step(10_000)
    two.tap("p1")
    access = two.last(AccessFact)
    assert (access.outcome, access.caveats) == (Outcome.GRANT, ())
    assert two.ask("muster")["people"] == []


def test_a_passage_newer_than_the_forgiveness_counts(lanes: tuple[Door, Door]) -> None:
    one, two = lanes
    one.go("p1")
    one.ask("forgive", cardholder="p1")
    two.step(30_000)
    two.hear(one)
    two.go("p1")
    two.tap("p1")
    assert two.last(AccessFact).reason is AccessReason.PASSBACK


def test_all_is_forgotten_at_midnight(lanes: tuple[Door, Door]) -> None:
    one, two = lanes
    one.go("p1")
    for lane in (one, two):
        lane.step(12 * 3_600_000)
    two.hear(one)
    two.tap("p1")
    assert two.last(AccessFact).reason is AccessReason.AUTHORIZED
    assert two.screen()["occupancy"] == {ZONE: 0}


def test_children_handed_over_are_present_for_every_device(lanes: tuple[Door, Door]) -> None:
    one, two = lanes
    two.go("mama")
    name = two.ask("handover_screen")["dialogue"]
    assert two.ask("handover_choose", dialogue=name, what="brought", children=["anya"])["ok"]
    one.hear(two)
    cache = one.agent.parts.cache
    assert cache.present(one.moment(), "bees") == {"anya"}
    assert cache.present(one.moment()) == {"anya", "mama"}


def choice_of(lane: Door, what: str, *children: str) -> dict[str, object]:
    """The guardian at this lane's screen chooses."""
    name = lane.ask("handover_screen")["dialogue"]
    return lane.ask("handover_choose", dialogue=name, what=what, children=list(children))


def test_a_guardian_without_a_choice_is_stopped_at_either_way_out(school: Doors) -> None:
    one, two = school
    one.go("mama")
    two.hear(one)
    two.tap("mama", at="out")
    access = two.last(AccessFact)
    assert (access.outcome, access.reason) == (Outcome.REFER, AccessReason.GUARDIAN_CHOICE)
    assert access.caveats == ()
    assert choice_of(two, "brought", "anya")["ok"], "it can be said where one stands"
    said = two.last(Handover)
    assert said.access == one.key(one.facts(AccessFact)[0]), "of the entry at the other lane"
    two.step(4_000)
    two.tap("mama", at="out")
    assert two.last(AccessFact).reason is AccessReason.AUTHORIZED


def test_a_choice_at_one_lane_ends_the_dialogue_of_the_other(school: Doors) -> None:
    one, two = school
    one.go("mama")
    two.hear(one)
    two.tap("mama", at="out")
    assert choice_of(two, "no_child")["ok"]
    one.hear(two)
    assert one.ask("handover_screen")["dialogue"] == ""
    one.tap("mama", at="out")
    assert one.last(AccessFact).reason is AccessReason.AUTHORIZED
    one.step(70_000)
    assert one.facts(HandoverOpen) == [], "nobody is alerted of what was said elsewhere"


def test_who_left_by_the_other_lane_has_nothing_to_say_here(school: Doors) -> None:
    one, two = school
    one.go("mama")
    two.step(20_000)
    two.hear(one)
    two.tap("mama", at="out")
    referral = two.screen()["officer"]["referrals"][0]["referral"]
    assert two.ask("referral", referral=referral, confirm=True)["ok"]
    two.walk("out")
    one.step(22_000)
    one.hear(two)
    assert one.ask("handover_screen")["dialogue"] == ""
    one.step(70_000)
    assert one.facts(HandoverOpen) == []


def test_a_new_grant_here_outlives_what_the_other_lane_says_of_before(school: Doors) -> None:
    one, two = school
    one.go("mama")
    choice_of(one, "no_child")
    one.go("mama", at="out")
    two.step(60_000)
    two.hear(one)
    two.tap("mama")
    two.step(1_000)
    two.hear(one)
    assert two.ask("handover_screen")["dialogue"] == two.key(two.last(AccessFact))


def test_a_lane_that_hears_no_other_knows_of_its_own_guardians_alone(school: Doors) -> None:
    one, two = school
    one.go("mama")
    two.hear(one)
    two.step(HEARD_MS)
    two.tap("mama", at="out")
    access = two.last(AccessFact)
    assert (access.reason, access.caveats) == (AccessReason.AUTHORIZED, (Caveat.ALONE,))
    one.step(HEARD_MS)
    one.tap("mama", at="out")
    assert one.last(AccessFact).reason is AccessReason.GUARDIAN_CHOICE


def test_without_other_lanes_nobody_is_alone(tmp_path: Path) -> None:
    roster = {"lane-1": Station.ENTRANCE, "till-1": Station.TILL}
    with door(tmp_path, *PEOPLE, roster=roster) as lane:
        lane.go("p1")
        lane.tap("p1")
        assert lane.last(AccessFact).caveats == (Caveat.PASSBACK,)
