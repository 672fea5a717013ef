"""Goal: a pre-school's morning through the whole system: guardians bring children and the families
are told by whom, a fire frees the door, an officer lets a child in by card and PIN, the city locks
the door and opens it, a second door knows who passed at the first. The city's books are the
journals byte for byte, and nobody's name or card number is anywhere.

Method: real processes (`two_doors.py`) over two Mosquitto brokers with mutual TLS, the reference
city, devices made by the technician's commands. Afterwards `oracle.py` and `leaks.py` look, and are
given one thing to find each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from edge.messages import AnyFact, Handover, PassageFact
from edge.model import Category, Direction, HandoverKind, PassageResult
from tests.process.leaks import files_under, sealed_by_city, search_for
from tests.process.oracle import assert_city_has_the_journals, feed, is_drained
from tests.process.school import World
from tests.process.two_doors import NORTH, Entrance, TwoDoors

pytestmark = [pytest.mark.process, pytest.mark.slow]

GUARDIANS = 5
EMPTY_BYTES = 64
EMPTY = re.compile(rb"\0{64,}")


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[TwoDoors]:
    with ExitStack() as stack:
        made = TwoDoors(tmp_path, stack)
        made.until(made.together)
        yield made


def test_a_morning_at_a_pre_school(doors: TwoDoors) -> None:
    world = cast(World, doors)  # What oracle.py asks of a world: its city and its stations.
    brought = _guardians_bring(doors)
    _the_other_door_knows(doors)
    _a_fire(doors)
    _an_officer_opens(doors)
    _the_city_locks_and_opens(doors)

    doors.until(lambda: is_drained(world))
    assert [alarm["what"] for alarm in doors.city.get("/status")["alarms"]] == ["fire"]
    facts = assert_city_has_the_journals(world)
    assert Counter((f.what, f.children) for f in facts if isinstance(f, Handover)) == Counter(
        (HandoverKind.BROUGHT, children) for children in brought.values()
    )
    told = _families_should_hear(facts)
    assert Counter((line["cardholder"], line["kind"]) for line in feed(world)) == told
    assert sum(told.values()) > len(brought)
    for station in doors.stations:
        assert (station.edge.stop(), station.sync.stop()) == (0, 0)
    _nobody_is_found(doors)


def _guardians_bring(doors: TwoDoors) -> dict[str, tuple[str, ...]]:
    """Each taps, walks through, says for whom; the choice is the fact. Guardian -> children."""
    north = doors.north
    guardians = doors.of_category(Category.GUARDIAN)[:GUARDIANS]
    assert any(len(guardian.ward_ids) > 1 for guardian in guardians), "siblings"
    brought = {}
    for guardian in guardians:
        access = _granted(north, doors.card(guardian.cardholder_id))
        north.walk()
        doors.until(lambda key=access: north.seen()["handover"]["dialogue"] == key)  # type: ignore[misc]
        on_screen = {child["child"] for child in north.seen()["handover"]["children"]}
        assert on_screen == set(guardian.ward_ids)
        wrong = north.tell("handover_choose", dialogue="e.1", what="brought", children=[])
        assert wrong["why"] == "moved_on"
        choice = {"dialogue": access, "what": "brought", "children": list(guardian.ward_ids)}
        assert north.tell("handover_choose", **choice)["ok"]
        brought[guardian.cardholder_id] = guardian.ward_ids
    inside = len(brought) + sum(map(len, brought.values()))
    doors.until(lambda: north.tell("occupancy")["occupancy"]["school"] == inside)
    # Some leave again; the children stay.
    for guardian in guardians[1:3]:
        _granted(north, doors.card(guardian.cardholder_id), way="out")
        north.walk("out")
    doors.until(lambda: doors.south.tell("occupancy")["occupancy"]["school"] == inside - 2)
    return brought


def _the_other_door_knows(doors: TwoDoors) -> None:
    """Who is in by the north door is not let in by the south door: the officer is asked."""
    first, left = doors.of_category(Category.GUARDIAN)[:2]
    south = doors.south
    back: Any = south.tap(doors.card(first.cardholder_id))
    assert (back.outcome, back.reason, back.caveats) == ("refer", "passback", ()), back
    _granted(south, doors.card(left.cardholder_id))
    south.walk()


def _a_fire(doors: TwoDoors) -> None:
    """The door is free until the alarm is clear and an officer says so; who leaves is on record."""
    north = doors.north
    north.wire("fire", True)
    doors.until(lambda: north.shown()["state"] == "fire")
    assert _line(north, "hold") is False
    out: Any = north.tap(doors.card(doors.of_category(Category.STAFF)[0].cardholder_id), way="out")
    assert out.outcome == "grant"
    north.wire("fire", False)
    assert north.tell("fire_reset")["why"] == "no_officer"
    north.sign_in(*doors.officer())
    doors.until(lambda: north.tell("fire_reset").get("why") != "alarm_active")
    doors.until(lambda: _line(north, "hold") is True)
    assert [fact.what for fact in north.facts("fire")] == ["alarm", "clear", "reset"]
    assert north.facts("passage")[-1].result is PassageResult.FIRE_RELEASE


def _an_officer_opens(doors: TwoDoors) -> None:
    """A child whose card lies at home, by an officer who proved card and PIN."""
    south, child = doors.south, doors.of_category(Category.PUPIL)[-1].cardholder_id
    wish = {"access_point": "south-in", "why": "forgotten_card", "cardholder": child}
    assert south.tell("override", **wish)["why"] == "no_officer"
    south.sign_in(*doors.officer())
    assert south.tell("override", **wish)["ok"]
    south.walk()
    (override,) = south.facts("override")
    assert (override.cardholder, override.why) == (child, "forgotten_card") and override.officer
    assert south.facts("passage")[-1].cardholder == child


def _the_city_locks_and_opens(doors: TwoDoors) -> None:
    north = doors.north
    staff = doors.of_category(Category.STAFF)[1].cardholder_id
    _order(doors, "lockdown_on")
    doors.until(lambda: north.seen()["lockdown"])
    denied: Any = north.tap(doors.card(staff))
    assert (denied.outcome, denied.reason) == ("deny", "lockdown")
    _granted(north, doors.card(staff), way="out")
    north.walk("out")
    _order(doors, "lockdown_off")
    doors.until(lambda: not north.seen()["lockdown"])
    _granted(north, doors.card(staff))
    north.walk()


def _families_should_hear(facts: list[AnyFact]) -> Counter[tuple[str, str]]:
    told: Counter[tuple[str, str]] = Counter()
    for fact in facts:
        if isinstance(fact, PassageFact) and fact.result is PassageResult.TAKEN:
            assert fact.cardholder is not None
            told[fact.cardholder, "came" if fact.direction is Direction.IN else "left"] += 1
        elif isinstance(fact, Handover):
            told.update((child, fact.what.value) for child in fact.children)
    return told


def _nobody_is_found(doors: TwoDoors) -> None:
    """In no file and no log of the devices and brokers; the same search finds what is planted."""
    search = search_for(doors.school, {})
    search.sealed = sealed_by_city(doors.city.folder / "city.db")
    places = files_under(*(s.folder for s in doors.stations), *(s.logs for s in doors.stations))
    places |= {str(log): log.read_bytes() for log in doors.folder.glob("*broker.log")}
    assert any("picture" in name for name in places) and len(places) > 20
    # Empty pages and the disk's reserve hold nobody, and take long to look through.
    places = {name: EMPTY.sub(bytes(EMPTY_BYTES), data) for name, data in places.items()}
    assert search.findings(places) == []
    log = str(doors.north.edge.log)
    person = doors.school.people[0]
    assert search.findings(places | {log: places[log] + person.name.encode()}) != []


def _granted(door: Entrance, uid: str, *, way: str = "in") -> str:
    """Let in or out; the decision's name."""
    access: Any = door.tap(uid, way=way)
    assert access.outcome == "grant", access
    return f"{access.epoch}.{access.sequence}"


def _order(doors: TwoDoors, word: str) -> None:
    doors.city.post("/orders", {"device": NORTH, "order": word, "valid_s": 300})


def _line(door: Entrance, line: str) -> bool:
    (lane,) = door.tell("status")["lanes"]
    return bool(lane["lines"][f"{door.name}.{line}"])
