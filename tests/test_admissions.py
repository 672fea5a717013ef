"""Goal: a museum lets pupils in free and a concession has its tariff, one fact a visit, by a list
that names nobody; whoever is not on it is asked and not refused; a lane is welcome and not needed.

Method: the real agent in virtual time with a list of tokens under the city-wide key.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messages import AccessFact, PassageFact, Unrecorded, b64u
from edge.model import AccessReason, DeviceFault, Outcome, Station, Tariff
from tests.support import small_city
from tests.support.lane_school import MUSEUM, Door, door, site, uid_of, visitor

TARIFFS = {"large_family": Tariff.FREE, "student": Tariff.REDUCED, "adult": Tariff.FULL}
CARDS = tuple(
    visitor(uid_of(name), category)
    for name, category in (
        ("pupil1", "pupil"),
        ("big", "large_family"),
        ("stud", "student"),
        ("adult", "adult"),
        ("odd", "unheard_of"),
    )
)


@pytest.fixture
def museum(tmp_path: Path) -> Iterator[Door]:
    with door(
        tmp_path,
        settings=(site(tariffs=TARIFFS),),
        museum=CARDS,
        station=Station.ADMISSION,
        device="museum-1",
        lane=False,
    ) as made:
        yield made


@pytest.mark.parametrize(
    ("name", "outcome", "reason", "tariff", "word"),
    [
        ("pupil1", Outcome.GRANT, AccessReason.AUTHORIZED, Tariff.PUPIL, "ПРОХОДИТЕ"),
        ("big", Outcome.GRANT, AccessReason.AUTHORIZED, Tariff.FREE, "ПРОХОДИТЕ"),
        ("stud", Outcome.GRANT, AccessReason.AUTHORIZED, Tariff.REDUCED, "ЛЬГОТА ЕСТЬ"),
        ("adult", Outcome.REFER, AccessReason.NO_ACCESS_RIGHT, Tariff.FULL, "ПОЛНЫЙ БИЛЕТ"),
        ("odd", Outcome.REFER, AccessReason.NO_ACCESS_RIGHT, Tariff.FULL, "ПОЛНЫЙ БИЛЕТ"),
        ("nobody", Outcome.REFER, AccessReason.UNKNOWN_CREDENTIAL, Tariff.FULL, "ПОЛНЫЙ БИЛЕТ"),
    ],
)
def test_a_category_has_a_tariff_and_the_fact_names_nobody(
    museum: Door, name: str, outcome: Outcome, reason: AccessReason, tariff: Tariff, word: str
) -> None:
    museum.tap(name)
    (visit,) = museum.facts(AccessFact)
    assert (visit.outcome, visit.reason, visit.tariff) == (outcome, reason, tariff)
    assert visit.cardholder is None and visit.key_version == 1
    assert visit.credential == b64u(small_city.id_bytes(uid_of(name), scope=MUSEUM))
    assert (visit.access_point, visit.reader, visit.zone) == ("in", "in", "admission")
    assert museum.shown("in")["word"] == word and museum.shown("in")["text"]
    assert museum.facts(PassageFact) == []


def test_the_same_card_again_is_the_same_visit(tmp_path: Path) -> None:
    settings = (site(tariffs=TARIFFS, admission_again_s=600),)
    with door(
        tmp_path, settings=settings, museum=CARDS, station=Station.ADMISSION, lane=False
    ) as museum:
        museum.tap("pupil1")
        museum.step(300_000)
        museum.tap("pupil1", at="out")
        assert "уже показана" in museum.shown("out")["text"]
        assert museum.shown("out")["state"] == "granted"
        assert len(museum.facts(AccessFact)) == 1
        now_ms = museum.time[0]
    with door(
        tmp_path,
        settings=settings,
        museum=CARDS,
        station=Station.ADMISSION,
        lane=False,
        start_ms=now_ms,
    ) as again:
        again.tap("pupil1")
        assert len(again.facts(AccessFact)) == 1, "a restart makes no second visit"
        assert again.facts(PassageFact) == []
        again.step(300_000)
        again.tap("pupil1")
        assert len(again.facts(AccessFact)) == 2


def test_a_card_taken_off_the_list_is_asked_at_once(museum: Door) -> None:
    museum.tap("pupil1")
    museum.change("museum", remove=(CARDS[0][0],))
    museum.step(4_000)
    museum.tap("pupil1")
    assert museum.last(AccessFact).reason is AccessReason.UNKNOWN_CREDENTIAL
    assert museum.shown("in")["state"] == "ask"


def test_held_to_the_reader_it_is_one_card(museum: Door) -> None:
    museum.tap("nobody")
    museum.step(1_000)
    museum.tap("nobody")
    assert len(museum.facts(AccessFact)) == 1


def is_open(museum: Door) -> bool:
    return museum.agent.gates["door-in"].relay_active


def test_a_lane_opens_for_whom_it_costs_nothing(tmp_path: Path) -> None:
    with door(
        tmp_path, settings=(site(tariffs=TARIFFS),), museum=CARDS, station=Station.ADMISSION
    ) as museum:
        museum.tap("stud")
        assert not is_open(museum)
        museum.tap("pupil1")
        visit = museum.last(AccessFact)
        assert is_open(museum)
        assert (visit.access_point, visit.zone) == ("door-in", "school")
        museum.walk()
        passage = museum.last(PassageFact)
        assert (passage.passage, passage.cardholder) == (museum.key(visit), None)


def test_a_disk_that_refuses_turns_nobody_away(museum: Door) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DeviceFault("journal.db: disk full")

    record = museum.agent.parts.journal.record
    museum.agent.parts.journal.record = refuse  # type: ignore[assignment,method-assign]
    museum.tap("pupil1")
    assert museum.shown("in")["state"] == "granted"
    assert museum.agent.counters["unrecorded"] == 1
    museum.agent.parts.journal.record = record  # type: ignore[method-assign]
    museum.step(1_000)
    assert museum.last(Unrecorded).counts == {"access": 1}
    museum.step(1_000)
    assert len(museum.facts(Unrecorded)) == 1


def test_without_a_list_everybody_is_asked(tmp_path: Path) -> None:
    with door(tmp_path, museum=CARDS, station=Station.ADMISSION, lane=False) as museum:
        with museum.files.writer.transaction() as db:
            db.execute("DELETE FROM pictures WHERE scope = ?", (MUSEUM,))
        museum.tap("pupil1")
        visit = museum.last(AccessFact)
        assert (visit.outcome, visit.reason) == (Outcome.REFER, AccessReason.NO_LIST)
        assert museum.shown("in")["text"]
