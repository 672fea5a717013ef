"""Goal: what a person should look at raises an alarm, once and in ids; what a family should know is
told, of passages taken and handovers alone.

Method: each kind of fact through the core of a city in memory; the pure words beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.messages import (
    AccessFact,
    FireFact,
    FireWhat,
    Handover,
    HandoverOpen,
    SignIn,
    SignInFact,
    StreamOpened,
    Tamper,
    UnattendedRelease,
    b64u,
)
from edge.model import (
    AccessReason,
    Direction,
    HandoverKind,
    Outcome,
    PassageResult,
    StaffRole,
    Station,
    Tariff,
)
from hil.city.desk import Desk
from hil.city.intake import CityCore
from tests.city.sham import MARK, NOON_MS, SITE, Sham, make_core, small_school

ANN, GUARDIAN, OFFICER = f"{SITE}c0001", f"{SITE}c5001", f"{SITE}c9002"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def core(folder: Path) -> CityCore:
    return make_core(folder)


@pytest.fixture
def gate(core: CityCore) -> Sham:
    gate = Sham(core, "gate-1", Station.PRESCHOOL)
    gate.opened()
    return gate


def alarms(core: CityCore) -> dict[str, tuple[str, int]]:
    found = core.store.rows("SELECT what, text, times FROM alarm")
    return {what: (text, times) for what, text, times in found}


def feed(core: CityCore) -> list[tuple[str, str, str]]:
    return core.store.rows("SELECT cardholder, kind, text FROM feed ORDER BY id")


def person(core: CityCore, cardholder: str) -> str:
    name = core.registry.person_name(cardholder)
    assert name is not None
    return name


WORTH_A_LOOK: dict[str, Callable[[Sham], bytes]] = {
    "forced": lambda gate: gate.passage(PassageResult.FORCED, cardholder=None),
    "held": lambda gate: gate.passage(PassageResult.HELD),
    "tamper": lambda gate: gate.add(Tamper, line="lid", active=True),
    "fire": lambda gate: gate.add(FireFact, lane="north", what=FireWhat.ALARM),
    "handover_open": lambda gate: gate.add(
        HandoverOpen, guardian=GUARDIAN, access=f"{gate.epoch}.1", zone="school"
    ),
    "locked_pin": lambda gate: gate.add(
        SignInFact, cardholder=OFFICER, role=StaffRole.OFFICER, what=SignIn.LOCKED
    ),
    "unattended_release": lambda gate: gate.add(
        UnattendedRelease, lane="north", from_wall_ms=1, to_wall_ms=2
    ),
}
QUIET: list[Callable[[Sham], bytes]] = [
    lambda gate: gate.passage(),
    lambda gate: gate.passage(PassageResult.NOT_TAKEN),
    lambda gate: gate.add(Tamper, line="lid", active=False),
    lambda gate: gate.add(FireFact, lane="north", what=FireWhat.CLEAR),
    lambda gate: gate.add(FireFact, lane="north", what=FireWhat.RESET, officer=OFFICER),
    lambda gate: gate.add(
        SignInFact, cardholder=OFFICER, role=StaffRole.OFFICER, what=SignIn.WRONG_PIN
    ),
]


@pytest.mark.parametrize("what", WORTH_A_LOOK)
def test_what_happened_at_a_station_is_an_alarm(core: CityCore, gate: Sham, what: str) -> None:
    WORTH_A_LOOK[what](gate)
    WORTH_A_LOOK[what](gate)
    gate.send_all()
    ((found, (text, times)),) = alarms(core).items()
    assert (found, times) == (what, 2)
    assert not any(person.name in text for person in small_school().people)
    gate.send_all()
    assert alarms(core)[what][1] == 2, "a batch that comes again is no second alarm"


def test_what_is_in_order_is_none(core: CityCore, gate: Sham) -> None:
    for add in QUIET:
        add(gate)
    gate.send_all()
    assert alarms(core) == {}


def test_a_new_life_is_an_alarm_unless_the_disk_is_new(core: CityCore, gate: Sham) -> None:
    gate.send_all()
    assert alarms(core) == {}
    gate.epoch, gate.facts = "00000000000000e2", []
    gate.add(StreamOpened, why="restored_image", software="sham", station=Station.PRESCHOOL)
    gate.send_all()
    assert "restored_image" in alarms(core)["stream_opened"][0]


def low_tier(gate: Sham, credential: str) -> None:
    gate.record(gate_access(gate, credential=credential, reason=AccessReason.TIER_BELOW_ENROLLED))


def gate_access(gate: Sham, **changes: object) -> AccessFact:
    fields = {
        "access_point": "north-in",
        "zone": "school",
        "direction": Direction.IN,
        "reader": "north-in",
        "tier": 1,
        "credential": "c" * 22,
        "cardholder": None,
        "outcome": Outcome.DENY,
        "reason": AccessReason.UNKNOWN_CREDENTIAL,
        "caveats": (),
        "people": MARK,
        "list_age_s": 1,
        "read_age_ms": 1,
        **gate.base(),
        **changes,
    }
    return AccessFact(**fields)  # type: ignore[arg-type]


def test_the_second_refusal_of_one_card_for_its_tier_is_a_copy(core: CityCore, gate: Sham) -> None:
    low_tier(gate, "a" * 22)
    low_tier(gate, "b" * 22)
    gate.send_all()
    assert alarms(core) == {}, "each may be a bad read"
    other = Sham(core, "gate-2", Station.ENTRANCE)
    other.opened()
    low_tier(other, "a" * 22)
    other.send_all()
    assert alarms(core)["tier_below_enrolled"][0].startswith("a" * 22)


# -------------------------------------------------------------------------------------- feed


def test_an_assumed_passage_says_so(core: CityCore, gate: Sham) -> None:
    gate.passage(assumed=True)
    gate.passage(direction=Direction.OUT)
    gate.send_all()
    name = person(core, ANN)
    assert [text for _, _, text in feed(core)] == [
        f"{name} probably came 12:00",
        f"{name} left 12:00",
    ]


def handover(gate: Sham, what: HandoverKind, *children: str) -> None:
    gate.add(
        Handover,
        guardian=GUARDIAN,
        children=children,
        what=what,
        access=f"{gate.epoch}.1",
        zone="school",
    )


def test_a_handover_tells_each_family_who_brought_or_collected(core: CityCore, gate: Sham) -> None:
    other = f"{SITE}c0002"
    handover(gate, HandoverKind.BROUGHT, ANN, other)
    handover(gate, HandoverKind.COLLECTED, ANN)
    handover(gate, HandoverKind.NO_CHILD)
    handover(gate, HandoverKind.BROUGHT, "nobody")
    gate.send_all()
    guardian = next(p for p in small_school().people if p.cardholder_id == GUARDIAN)
    relation = dict(guardian.relations)[ANN]
    by = f"by {guardian.name} ({relation}) 12:00"
    assert feed(core)[0] == (ANN, "brought", f"{person(core, ANN)} was brought {by}")
    assert feed(core)[1][:2] == (other, "brought")
    assert feed(core)[2] == (ANN, "collected", f"{person(core, ANN)} was collected {by}")
    assert len(feed(core)) == 3
    assert core.store.rows("SELECT reason FROM suspense") == [("unknown_cardholder",)]


def test_a_museum_visit_is_told_where_the_token_is_known(core: CityCore) -> None:
    museum = Sham(core, "museum-1", Station.ADMISSION)
    museum.opened()
    card = small_school().characters["pupil"]
    token = b64u(core.museum.token(card.uid_kind, card.uid))
    visits = [
        (token, Outcome.GRANT, Tariff.PUPIL),
        (token, Outcome.DENY, Tariff.PUPIL),
        (token, Outcome.GRANT, None),  # No admission.
        ("A" * 22, Outcome.GRANT, Tariff.PUPIL),  # Somebody of another city.
        ("not base64!", Outcome.GRANT, Tariff.PUPIL),
    ]
    for credential, outcome, tariff in visits:
        fact = gate_access(museum, credential=credential, outcome=outcome, tariff=tariff)
        museum.record(fact)
    assert museum.send_all(now_ms=NOON_MS).up_to == 6
    assert feed(core) == [(ANN, "visited", f"{person(core, ANN)} visited {SITE} 12:00")]


# ------------------------------------------------------------------------------------ orders


def test_an_order_goes_out_signed_and_its_answer_stands_beside_it(
    core: CityCore, gate: Sham
) -> None:
    desk = Desk(core, ())
    for word in ("open_once", "lockdown_on", "lockdown_off"):
        done = desk.order({"device": "gate-1", "order": word, "valid_s": 60}, NOON_MS)
        assert done.outs[0].topic == "mk/v1/d/gate-1/order" and not done.outs[0].retain
    assert [order["word"] for order in desk.status()["orders"]] == [
        *("open_once", "lockdown_on", "lockdown_off"),
    ]
