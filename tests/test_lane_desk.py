"""Goal: the officer decides on who was referred, opens by hand, forgives and locks down, each with
a fact before anything moves; nobody waits for ever; nothing is done without an officer.

Method: the real agent at a school's door in virtual time; its journal read back as facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.messages import (
    AccessFact,
    Forgiven,
    LockdownFact,
    Override,
    PassageFact,
    ReferralEnd,
    ReferralEnded,
    Unrecorded,
)
from edge.model import (
    AccessReason,
    Category,
    Caveat,
    DeviceFault,
    Direction,
    Outcome,
    OverrideReason,
    PassageResult,
    PassbackMode,
)
from tests.support import small_city
from tests.support.lane_school import ZONE, Door, card_of, door, person, site, uid_of

PEOPLE = (
    *person("p1"),
    *person("p2"),
    *person("late", rights={ZONE: "evening"}),
    *person("teacher", category=Category.STAFF),
)
EVENING = small_city.schedule("evening", (20 * 60, 21 * 60))


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Door]:
    with door(tmp_path, *PEOPLE, settings=(EVENING,)) as made:
        yield made


def refer(lane: Door) -> str:
    """Somebody comes at noon who may come in the evening; the referral's id."""
    lane.tap("late")
    access = lane.last(AccessFact)
    assert (access.outcome, access.reason) == (Outcome.REFER, AccessReason.OUTSIDE_SCHEDULE)
    (waiting,) = lane.screen()["officer"]["referrals"]
    assert waiting["referral"] == lane.key(access)
    return lane.key(access)


def test_who_is_referred_waits_with_name_and_reason(lane: Door) -> None:
    refer(lane)
    (waiting,) = lane.screen()["officer"]["referrals"]
    assert waiting["photo"] == lane.shown()["photo"] == "", "not at a school, unless it chose so"
    lane.change("settings", site(photos=True))
    (waiting,) = lane.screen()["officer"]["referrals"]
    assert waiting["name"] == "Имя late" and waiting["group"] == "Гр late"
    assert waiting["photo"] == "photo-late" and waiting["cardholder"] == "late"
    assert waiting["reason"] == "outside_schedule" and "охраннику" in waiting["text"]
    assert waiting["seconds_left"] == 59 and waiting["access_point"] == "door-in"
    lane.officer.signed = ""
    (waiting,) = lane.screen()["officer"]["referrals"]
    assert waiting["name"] == waiting["group"] == waiting["photo"] == ""


def test_a_yes_opens_the_lane_and_is_the_grant(lane: Door) -> None:
    access = refer(lane)
    assert lane.ask("referral", referral=access, confirm=True) == {"ok": True}
    override, ended = lane.last(Override), lane.last(ReferralEnded)
    assert (override.why, override.officer) == (OverrideReason.REFERRED, "o1")
    assert (override.cardholder, override.of) == ("late", access)
    assert (ended.access, ended.end, ended.officer) == (access, ReferralEnd.CONFIRMED, "o1")
    assert lane.shown()["state"] == "granted" and lane.shown()["name"] == "Имя late"
    lane.tap("late")  # Not sure whether it was read: no new question to the officer.
    assert len(lane.facts(AccessFact)) == 1 and lane.shown()["state"] == "granted"
    lane.walk()
    passage = lane.last(PassageFact)
    assert (passage.result, passage.cardholder) == (PassageResult.TAKEN, "late")
    assert passage.passage == lane.key(override)
    assert lane.screen()["officer"]["referrals"] == []
    assert lane.ask("referral", referral=access, confirm=True)["why"] == "over"


def test_a_no_opens_nothing(lane: Door) -> None:
    access = refer(lane)
    assert lane.ask("referral", referral=access, confirm=False)["ok"]
    ended = lane.last(ReferralEnded)
    assert (ended.end, ended.officer) == (ReferralEnd.REFUSED, "o1")
    assert lane.facts(Override) == [] and lane.shown()["state"] == "refused"
    assert not lane.agent.gates["door-in"].relay_active


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    settings = (EVENING, site(referral_ms_max=20_000))
    with door(tmp_path, *PEOPLE, settings=settings) as lane:
        access = refer(lane)
        lane.step(19_999)
        assert lane.facts(ReferralEnded) == []
        due_ms = lane.agent.due_ms()
        assert due_ms is not None and due_ms <= lane.time[0] + 1
        lane.step(1)
        ended = lane.last(ReferralEnded)
        assert (ended.access, ended.end, ended.officer) == (access, ReferralEnd.EXPIRED, None)
        assert lane.ask("referral", referral=access, confirm=True)["why"] == "over"
        assert lane.facts(Override) == []


def test_a_second_tap_takes_the_place_of_the_first(lane: Door) -> None:
    first = refer(lane)
    lane.step(5_000)
    second = refer(lane)
    assert first != second
    assert [(f.access, f.end) for f in lane.facts(ReferralEnded)] == [(first, "expired")]


def test_a_referral_whose_agent_ended_gets_its_end(tmp_path: Path) -> None:
    with door(tmp_path, *PEOPLE, settings=(EVENING,)) as lane:
        access = refer(lane)
        now_ms = lane.time[0]
    with door(tmp_path, *PEOPLE, settings=(EVENING,), start_ms=now_ms) as again:
        ended = again.last(ReferralEnded)
        assert (ended.access, ended.end) == (access, ReferralEnd.EXPIRED)
        again.step(1_000)
        assert len(again.facts(ReferralEnded)) == 1


@pytest.mark.parametrize(
    ("request_name", "body"),
    [
        ("override", {"access_point": "door-in", "why": "visitor"}),
        ("referral", {"referral": "e.1", "confirm": True}),
        ("forgive", {"cardholder": "p1"}),
        ("lockdown", {"on": True}),
        ("fire_reset", {}),
        ("muster", {}),
        ("alert_seen", {"alert": 1}),
        ("handover_confirm", {"dialogue": "e.1", "confirm": True}),
    ],
)
def test_without_an_officer_nothing_is_done(
    lane: Door, request_name: str, body: dict[str, Any]
) -> None:
    lane.officer.signed = ""
    before = len(lane.facts())
    answer = lane.ask(request_name, **body)
    assert not answer["ok"] and answer["why"] == "no_officer" and "sign in" in answer["error"]
    assert len(lane.facts()) == before


def test_a_visitor_is_let_in_by_hand(lane: Door) -> None:
    assert lane.ask("override", access_point="door-in", why="visitor") == {"ok": True}
    override = lane.last(Override)
    assert (override.why, override.cardholder, override.of) == ("visitor", None, None)
    lane.walk()
    passage = lane.last(PassageFact)
    assert passage.passage == lane.key(override) and passage.cardholder is None
    assert lane.screen()["occupancy"] == {ZONE: 0}


def test_a_forgotten_card_counts_for_whom_the_officer_names(lane: Door) -> None:
    answer = lane.ask("override", access_point="door-in", why="forgotten_card", cardholder="p1")
    assert answer["ok"] and lane.shown()["name"] == "Имя p1"
    lane.walk()
    assert lane.last(PassageFact).cardholder == "p1"
    lane.step(1_000)
    assert lane.screen()["occupancy"] == {ZONE: 1}
    answer = lane.ask("override", access_point="door-in", why="forgotten_card", cardholder="pX")
    assert answer["why"] == "unknown_person"


def test_a_blocked_card_is_told_apart_and_may_be_overridden(lane: Door) -> None:
    for why, word in (("lost", "утерянная"), ("replaced", "новую"), ("blocked", "заблокирована")):
        lane.change("people", small_city.hot(uid_of("p1"), why))
        lane.step(4_000)
        lane.tap("p1")
        assert lane.last(AccessFact).reason is AccessReason.HOT_LISTED
        assert word in lane.shown()["text"]
    access, shown = lane.last(AccessFact), lane.shown()
    lane.ask(
        "override",
        access_point="door-in",
        why="lost_card",
        cardholder=shown["cardholder"],
        of=shown["passage"],
    )
    override = lane.last(Override)
    assert (override.of, override.cardholder) == (lane.key(access), "p1")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"access_point": "door-in", "why": "because"}, "invalid"),
        ({"access_point": "door-in", "why": "referred"}, "invalid"),
        ({"access_point": "door-in", "why": "visitor", "of": "another.1"}, "unknown_decision"),
        ({"access_point": "door-in", "why": "visitor", "of": "nonsense"}, "unknown_decision"),
        ({"access_point": "north-in", "why": "visitor"}, "not_here"),
        ({"access_point": "door-in"}, "invalid"),
        ({"access_point": "x" * 81, "why": "visitor"}, "invalid"),
        ({"access_point": "door-in", "why": "visitor", "cardholder": 7}, "invalid"),
    ],
)
def test_an_override_that_makes_no_sense_is_told_why(
    lane: Door, body: dict[str, Any], why: str
) -> None:
    answer = lane.ask("override", **body)
    assert not answer["ok"] and answer["error"] and answer["why"] == why
    assert lane.facts(Override) == []


def test_a_lane_that_cannot_take_one_says_which_way(lane: Door) -> None:
    gate = lane.agent.gates["door-in"]
    for _ in range(4):  # One passes, three wait.
        assert lane.ask("override", access_point="door-in", why="visitor")["ok"]
    answer = lane.ask("override", access_point="door-in", why="visitor")
    assert answer["why"] == "lane_busy" and len(lane.facts(Override)) == 4
    gate.out_of_order = True
    gate._line_problem = lambda: "gone"  # type: ignore[method-assign]
    answer = lane.ask("override", access_point="door-in", why="visitor")
    assert answer["why"] == "lane_down"


def test_a_lockdown_by_the_officer_stands_across_a_restart(tmp_path: Path) -> None:
    with door(tmp_path, *PEOPLE, settings=(EVENING,)) as lane:
        assert lane.ask("lockdown", on=True)["ok"]
        fact = lane.last(LockdownFact)
        assert fact.on and fact.officer == "o1"
        lane.tap("p1")
        assert lane.last(AccessFact).reason is AccessReason.LOCKDOWN
        assert lane.screen()["lockdown"]
        lane.tap("p1", at="out")
        assert lane.last(AccessFact).outcome is Outcome.GRANT, "nobody is kept inside"
        assert lane.ask("override", access_point="door-in", why="visitor")["why"] == "lockdown"
        now_ms = lane.time[0]
    with door(tmp_path, *PEOPLE, settings=(EVENING,), start_ms=now_ms) as again:
        assert again.agent.lockdown
        assert again.ask("lockdown", on=False)["ok"]
        again.step(4_000)
        again.tap("p1")
        assert again.last(AccessFact).outcome is Outcome.GRANT
        now_ms = again.time[0]
    with door(tmp_path, *PEOPLE, settings=(EVENING,), start_ms=now_ms) as third:
        assert not third.agent.lockdown


def test_to_forgive_makes_the_next_passage_count_anew(tmp_path: Path) -> None:
    settings = (EVENING, site(passback_mode=PassbackMode.HARD))
    with door(tmp_path, *PEOPLE, settings=settings) as lane:
        lane.go("p1")
        lane.tap("p1")
        assert lane.last(AccessFact).reason is AccessReason.PASSBACK
        assert lane.ask("forgive", cardholder="p1")["ok"]
        forgiven = lane.last(Forgiven)
        assert (forgiven.cardholder, forgiven.zone, forgiven.officer) == ("p1", ZONE, "o1")
        lane.step(4_000)
        lane.tap("p1")
        access = lane.last(AccessFact)
        assert (access.outcome, access.caveats) == (Outcome.GRANT, ())
        assert lane.ask("forgive", cardholder="pX")["why"] == "unknown_person"
        assert lane.ask("forgive", cardholder="p1", zone="pool")["why"] == "not_here"


def test_a_disk_that_refuses_keeps_nobody_out(lane: Door) -> None:
    access = refer(lane)
    record = lane.agent.parts.journal.record

    def refuse(*_: object, **__: object) -> None:
        raise DeviceFault("journal.db: disk full")

    lane.agent.parts.journal.record = refuse  # type: ignore[assignment,method-assign]
    assert lane.ask("referral", referral=access, confirm=True)["ok"]
    assert lane.agent.gates["door-in"].relay_active
    assert lane.ask("forgive", cardholder="p1")["why"] == "disk"
    assert lane.ask("lockdown", on=False)["why"] == "disk"
    assert lane.ask("lockdown", on=True)["ok"] and lane.agent.lockdown
    lane.agent.parts.journal.record = record  # type: ignore[method-assign]
    lane.step(1_000)
    assert lane.facts(Override) == []
    assert lane.last(Unrecorded).counts == {"override": 1, "lockdown": 1}


def test_a_referral_that_ends_while_the_disk_refuses_is_told_later(lane: Door) -> None:
    access = refer(lane)
    record = lane.agent.parts.journal.record

    def refuse(*_: object, **__: object) -> None:
        raise DeviceFault("journal.db: disk full")

    lane.agent.parts.journal.record = refuse  # type: ignore[assignment,method-assign]
    lane.step(60_000)
    lane.agent.parts.journal.record = record  # type: ignore[method-assign]
    lane.step(1_000)
    assert [(f.access, f.end) for f in lane.facts(ReferralEnded)] == [(access, "expired")]


# ----------------------------------------------------------------------- who is inside


def test_who_is_inside_is_known_by_name_to_the_officer_alone(lane: Door) -> None:
    for name in ("p1", "p2", "teacher"):
        lane.go(name)
    lane.go("p2", at="out")
    answer = lane.ask("muster")
    assert [(one["cardholder"], one["name"], one["group"]) for one in answer["people"]] == [
        ("p1", "Имя p1", "Гр p1"),
        ("teacher", "Имя teacher", "Гр teacher"),
    ]
    assert not answer["more"]
    assert lane.ask("occupancy") == {"ok": True, "occupancy": {ZONE: 2}}
    assert lane.ask("muster", zone="pool")["why"] == "not_here"


def test_a_long_list_comes_in_pages(tmp_path: Path) -> None:
    people = [row for number in range(260) for row in person(f"n{number:03}")]
    with door(tmp_path, *people) as lane:
        with lane.agent.parts.journal.record(lane.moment()) as filling:
            for number in range(260):
                filling.add(
                    PassageFact(
                        **filling.stamp(lane.moment()),
                        access_point="door-in",
                        zone=ZONE,
                        direction=Direction.IN,
                        result=PassageResult.TAKEN,
                        passage=None,
                        cardholder=f"n{number:03}",
                    )
                )
        first = lane.ask("muster")
        assert first["more"] and len(first["people"]) == 250
        second = lane.ask("muster", after=first["people"][-1]["cardholder"])
        assert not second["more"] and len(second["people"]) == 10
        assert second["people"][0]["name"] == "Имя n250"


def test_who_is_inside_is_known_after_a_restart_and_forgotten_at_midnight(tmp_path: Path) -> None:
    with door(tmp_path, *PEOPLE) as lane:
        lane.go("p1")
        now_ms = lane.time[0]
    with door(tmp_path, *PEOPLE, start_ms=now_ms) as again:
        assert [one["cardholder"] for one in again.ask("muster")["people"]] == ["p1"]
        again.step(12 * 3_600_000)
        assert again.ask("muster")["people"] == []
        assert again.screen()["occupancy"] == {ZONE: 0}


# ------------------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"valid_until_utc_s": 1_700_000_001}, AccessReason.EXPIRED),
        ({"valid_from_utc_s": 1_899_999_999}, AccessReason.NOT_YET_VALID),
        ({"tier": 3}, AccessReason.TIER_BELOW_ENROLLED),
    ],
)
def test_a_card_that_does_not_hold_now(
    lane: Door, card: dict[str, Any], reason: AccessReason
) -> None:
    lane.change("people", card_of("p1", **card))
    lane.tap("p1")
    assert lane.last(AccessFact).reason is reason and lane.shown()["text"]


def test_what_the_site_chose_holds_at_the_next_tap(lane: Door) -> None:
    lane.change("people", *person("p1", here=False))
    lane.tap("p1", at="out")
    access = lane.last(AccessFact)
    assert (access.outcome, access.reason) == (Outcome.GRANT, AccessReason.WRONG_SITE)
    lane.change("settings", site(out_is_free=False))
    lane.step(4_000)
    lane.tap("p1", at="out")
    assert lane.last(AccessFact).outcome is Outcome.DENY


def test_passback_may_differ_by_zone(tmp_path: Path) -> None:
    by_zone = {ZONE: PassbackMode.HARD, "pool": PassbackMode.OFF}
    with door(tmp_path, *PEOPLE, settings=(site(passback_by_zone=by_zone),)) as lane:
        lane.go("p1")
        lane.tap("p1")
        assert lane.last(AccessFact).reason is AccessReason.PASSBACK
        lane.go("teacher")
        lane.tap("teacher")
        assert lane.last(AccessFact).caveats == (), "staff are exempt"
        lane.change("settings", site(passback_by_zone={ZONE: PassbackMode.SOFT}))
        lane.step(4_000)
        lane.tap("p1")
        access = lane.last(AccessFact)
        assert (access.outcome, access.caveats) == (Outcome.GRANT, (Caveat.PASSBACK,))
