"""Goal: at a pre-school the door opens for a guardian at once, and who is present follows from what
the guardian says afterwards; nothing said is never forgotten, and who was barred is told nothing.

Method: the real agent at a pre-school's door in virtual time; facts and both screens read back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge import logs
from edge.messages import AccessFact, Handover, HandoverOpen, PassageFact
from edge.model import (
    AccessReason,
    DeviceFault,
    HandoverKind,
    Outcome,
    PassageResult,
    Station,
)
from tests.support.lane_school import ZONE, Door, door, group, guardian, person

PEOPLE = (
    *person("anya"),
    *person("boris"),
    *person("vera"),
    *guardian("mama", "anya", "boris"),
    *guardian("papa", "anya", "boris", barred=("boris",)),
    *guardian("revoked", "anya", barred=("anya",)),
    *guardian("opa", "vera"),
    group("bees", "anya", "vera"),
)


@pytest.fixture
def school(tmp_path: Path) -> Iterator[Door]:
    with door(tmp_path, *PEOPLE, station=Station.PRESCHOOL) as made:
        yield made


def choose(school: Door, what: str, *children: str, dialogue: str | None = None) -> dict[str, Any]:
    name = school.ask("handover_screen")["dialogue"] if dialogue is None else dialogue
    return school.ask("handover_choose", dialogue=name, what=what, children=list(children))


def children_in(school: Door) -> list[str]:
    inside = school.agent.parts.cache.present(school.moment())
    return sorted(inside & {"anya", "boris", "vera"})


def test_a_guardian_brings_several_children_at_once(school: Door) -> None:
    school.tap("mama")
    access = school.last(AccessFact)
    assert access.outcome is Outcome.GRANT and school.agent.gates["door-in"].relay_active
    shown = school.shown()
    assert shown["photo"] == "photo-mama" and shown["name"] == "Имя mama"
    info = school.ask("handover_screen")
    assert info["dialogue"] == school.key(access) and info["guardian"] == "Имя mama"
    assert [(c["child"], c["name"], c["group"], c["relation"]) for c in info["children"]] == [
        ("anya", "Имя anya", "Гр anya", "мама"),
        ("boris", "Имя boris", "Гр boris", "мама"),
    ]
    assert [(c["photo"], c["present"]) for c in info["children"]] == [
        ("photo-anya", False),
        ("photo-boris", False),
    ]
    assert info == {"ok": True, **school.screen()["handover"]}
    assert choose(school, "brought", "anya", "boris") == {"ok": True}
    said = school.last(Handover)
    assert (said.guardian, said.children) == ("mama", ("anya", "boris"))
    assert (said.what, said.access, said.zone) == ("brought", school.key(access), ZONE)
    assert said.officer is None
    assert children_in(school) == ["anya", "boris"]
    assert school.ask("handover_screen")["dialogue"] == ""


def test_presence_is_collected_again_and_by_group(school: Door) -> None:
    school.go("mama")
    choose(school, "brought", "anya", "boris")
    school.go("mama", at="out")
    present = school.agent.parts.cache.present
    assert present(school.moment(), "bees") == {"anya"}
    assert present(school.moment(), "wasps") == frozenset()
    school.go("mama")
    assert [c["present"] for c in school.ask("handover_screen")["children"]] == [True, True]
    assert choose(school, "collected", "boris")["ok"]
    assert children_in(school) == ["anya"]


def test_nobody_leaves_before_it_is_said_for_whom_they_came(school: Door) -> None:
    school.go("mama")
    school.tap("mama", at="out")
    access = school.last(AccessFact)
    assert (access.outcome, access.reason) == (Outcome.REFER, AccessReason.GUARDIAN_CHOICE)
    assert choose(school, "no_child")["ok"]
    school.step(4_000)
    school.tap("mama", at="out")
    assert school.last(AccessFact).outcome is Outcome.GRANT
    school.walk("out")
    assert school.last(PassageFact).result is PassageResult.TAKEN
    assert children_in(school) == []


def test_no_choice_within_a_minute_is_a_fact_and_the_second_tap_goes_on(school: Door) -> None:
    school.go("mama")
    access = school.key(school.last(AccessFact))
    school.step(50_000)
    assert school.facts(HandoverOpen) == []
    school.step(10_000)
    told = school.last(HandoverOpen)
    assert (told.guardian, told.access, told.zone) == ("mama", access, ZONE)
    assert school.facts(Handover) == [] and children_in(school) == []
    (alert,) = school.screen()["officer"]["alerts"]
    assert (alert["what"], alert["guardian"]) == ("handover_open", "Имя mama")
    assert alert["children"] == ["Имя anya", "Имя boris"]
    assert school.ask("handover_screen")["dialogue"] == "", "the next guardian's turn"
    school.tap("mama", at="out")
    assert school.last(AccessFact).reason is AccessReason.GUARDIAN_CHOICE
    assert choose(school, "brought", "anya")["ok"]
    assert school.last(Handover).access == access
    assert school.ask("alert_seen", alert=alert["alert"])["ok"]
    assert school.screen()["officer"]["alerts"] == []
    assert school.ask("alert_seen", alert=alert["alert"])["why"] == "seen"
    school.step(120_000)
    assert len(school.facts(HandoverOpen)) == 1


def test_the_screen_belongs_to_who_came_last(school: Door) -> None:
    school.go("mama")
    first = school.ask("handover_screen")["dialogue"]
    school.go("opa")
    refused = choose(school, "brought", "anya", dialogue=first)
    assert refused["why"] == "moved_on" and refused["text"]
    assert choose(school, "brought", "vera")["ok"]
    assert choose(school, "no_child", dialogue=first)["why"] == "moved_on", "nobody is asked now"
    school.tap("mama", at="out")  # Shown again.
    assert choose(school, "brought", "anya", dialogue=first)["ok"]
    assert [said.guardian for said in school.facts(Handover)] == ["opa", "mama"]


def test_what_cannot_be_waits_for_the_officer(school: Door) -> None:
    school.go("mama")
    answer = choose(school, "collected", "anya")
    assert answer["why"] == "not_in" and answer["text"]
    assert school.facts(Handover) == []
    (open_one,) = school.screen()["officer"]["handovers"]
    assert open_one["claim"] == {"what": "collected", "children": ["anya"]}
    name = open_one["dialogue"]
    assert school.ask("handover_confirm", dialogue=name, confirm=False)["ok"]
    assert school.ask("handover_confirm", dialogue=name, confirm=True)["why"] == "moved_on"
    choose(school, "brought", "anya")
    school.go("mama")
    assert choose(school, "brought", "anya", "boris")["why"] == "already_in"
    (open_one,) = school.screen()["officer"]["handovers"]
    assert school.ask("handover_confirm", dialogue=open_one["dialogue"], confirm=True)["ok"]
    said = school.last(Handover)
    assert (said.children, said.officer) == (("anya", "boris"), "o1")
    assert children_in(school) == ["anya", "boris"]


def test_a_barred_pair_is_refused_and_the_officer_is_told_in_silence(school: Door) -> None:
    school.tap("papa")
    assert school.last(AccessFact).outcome is Outcome.GRANT
    info = school.ask("handover_screen")
    assert [child["child"] for child in info["children"]] == ["anya"]
    assert "barred" not in str(info)
    (alert,) = school.screen()["officer"]["alerts"]
    assert (alert["what"], alert["children"]) == ("barred", ["Имя boris"])
    stranger, barred = choose(school, "brought", "vera"), choose(school, "brought", "boris")
    assert stranger == barred and barred["why"] == "ask_officer", "the screen gives nothing away"
    assert len(school.screen()["officer"]["alerts"]) == 2
    (open_one,) = school.screen()["officer"]["handovers"]
    assert [child["barred"] for child in open_one["children"]] == [False, True]
    school.officer.signed = ""
    shown = school.screen()["officer"]
    assert (shown["alerts"], shown["handovers"], shown["alerts_waiting"]) == ([], [], 2)
    assert school.facts(Handover) == []


def test_a_guardian_of_nobody_any_more_is_not_let_in(school: Door) -> None:
    school.tap("revoked")
    access = school.last(AccessFact)
    assert (access.outcome, access.reason) == (Outcome.DENY, AccessReason.SUSPENDED)
    assert "приостановлен" in school.shown()["text"]
    assert [alert["what"] for alert in school.screen()["officer"]["alerts"]] == ["barred"]
    assert school.ask("handover_screen")["dialogue"] == ""


def test_who_did_not_come_in_has_nothing_to_say(school: Door) -> None:
    school.tap("mama")
    assert school.ask("handover_screen")["dialogue"]
    school.step(5_000)
    school.step(2_000)  # The wait is over, and nobody walked.
    assert school.last(PassageFact).result is PassageResult.NOT_TAKEN
    assert school.ask("handover_screen")["dialogue"] == ""
    school.step(120_000)
    assert school.facts(HandoverOpen) == []


def test_an_entry_before_is_still_to_be_said_when_a_second_tap_leads_nowhere(school: Door) -> None:
    school.go("mama")
    first = school.key(school.last(AccessFact))
    school.tap("mama")
    assert school.key(school.last(AccessFact)) != first
    school.step(7_000)
    school.step(1_000)
    school.tap("mama", at="out")
    assert school.last(AccessFact).reason is AccessReason.GUARDIAN_CHOICE
    assert school.ask("handover_screen")["dialogue"] == first


def test_a_restart_forgets_nobody_who_has_still_to_say_something(tmp_path: Path) -> None:
    with door(tmp_path, *PEOPLE, station=Station.PRESCHOOL) as school:
        school.go("mama")
        first = school.key(school.last(AccessFact))
        school.go("opa")
        choose(school, "brought", "vera")
        now_ms = school.time[0]
    with door(tmp_path, *PEOPLE, station=Station.PRESCHOOL, start_ms=now_ms) as again:
        assert children_in(again) == ["vera"]
        assert again.ask("handover_screen")["dialogue"] == "", "nobody stands before it"
        assert [one["dialogue"] for one in again.screen()["officer"]["handovers"]] == [first]
        again.step(62_000)
        told = again.last(HandoverOpen)
        assert (told.guardian, told.access) == ("mama", first)
        now_ms = again.time[0]
    with door(tmp_path, *PEOPLE, station=Station.PRESCHOOL, start_ms=now_ms) as third:
        third.step(120_000)
        assert len(third.facts(HandoverOpen)) == 1
        third.tap("mama", at="out")
        assert third.last(AccessFact).reason is AccessReason.GUARDIAN_CHOICE
        assert choose(third, "no_child")["ok"]
        assert third.last(Handover).access == first


def test_midnight_ends_it_all(school: Door) -> None:
    school.go("mama")
    school.step(12 * 3_600_000)
    assert school.ask("handover_screen")["dialogue"] == "" and children_in(school) == []
    school.tap("mama", at="out")
    assert school.last(AccessFact).outcome is Outcome.GRANT


def test_the_officer_opens_for_a_guardian_without_a_card(school: Door) -> None:
    answer = school.ask("override", access_point="door-in", why="forgotten_card", cardholder="mama")
    assert answer["ok"]
    school.walk()
    assert choose(school, "brought", "anya")["ok"]
    said = school.last(Handover)
    assert (said.guardian, said.what) == ("mama", HandoverKind.BROUGHT)
    school.step(4_000)
    school.tap("mama", at="out")
    assert school.last(AccessFact).outcome is Outcome.GRANT, "said already"


def test_what_could_not_be_written_was_not_said(school: Door) -> None:
    school.go("mama")
    record = school.agent.parts.journal.record

    def refuse(*_: object, **__: object) -> None:
        raise DeviceFault("journal.db: disk full")

    school.agent.parts.journal.record = refuse  # type: ignore[assignment,method-assign]
    answer = choose(school, "brought", "anya")
    assert answer["why"] == "disk" and answer["text"]
    school.agent.parts.journal.record = record  # type: ignore[method-assign]
    assert choose(school, "brought", "anya")["ok"]
    assert children_in(school) == ["anya"]


@pytest.mark.parametrize(
    "body",
    [
        {"what": "sold", "children": []},
        {"what": "brought", "children": "anya"},
        {"what": "brought", "children": [1]},
        {"what": "brought", "children": ["x" * 81]},
        {"what": "brought", "children": ["anya"] * 17},
        {"children": ["anya"]},
        {"what": "brought", "dialogue": None},
    ],
)
def test_a_request_that_makes_no_sense_changes_nothing(school: Door, body: dict[str, Any]) -> None:
    school.go("mama")
    name = school.ask("handover_screen")["dialogue"]
    answer = school.ask("handover_choose", **({"dialogue": name} | body))
    assert not answer["ok"] and answer["error"]
    assert school.facts(Handover) == [] and school.ask("handover_screen")["dialogue"] == name


def test_no_name_reaches_a_log_or_a_repr(school: Door, capsys: pytest.CaptureFixture[str]) -> None:
    school.tap("papa")
    school.walk()
    choose(school, "brought", "boris")
    choose(school, "collected", "anya")
    school.step(61_000)
    school.ask("muster")
    desk = school.agent.desk
    assert desk is not None and desk.handovers is not None
    shown = repr((desk.handovers.dialogues.open, desk.handovers.alerts, desk.referrals.waiting))
    shown += repr((desk.handovers._children, desk.muster("", "", school.moment())))
    assert "papa" in shown and "Имя" not in shown and "Гр " not in shown and "мама" not in shown
    printed = capsys.readouterr()
    assert "Имя" not in printed.out + printed.err + repr(logs.recent(0))


def test_an_entrance_hands_over_nobody(tmp_path: Path) -> None:
    with door(tmp_path, *PEOPLE) as lane:
        lane.go("mama")
        for request in ("handover_screen", "handover_choose"):
            assert lane.ask(request, dialogue="", what="no_child")["why"] == "no_handovers"
        lane.tap("mama", at="out")
        assert lane.last(AccessFact).outcome is Outcome.GRANT
        assert "handover" not in lane.screen()
