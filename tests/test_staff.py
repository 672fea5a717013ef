"""Goal: own card and own PIN sign in, nothing else does, and every try is a fact.

Method: a real agent on real files whose list names staff, the PINs' worker and the clock in the
test's hand. What must never happen (a refused card, a guess beyond the lock, a PIN in the journal)
is tried for every kind of person and over restarts of the machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import health, signing_in
from edge.agent import Agent
from edge.messages import SignIn, SignInFact
from edge.model import DeviceFault, StaffRole, SupervisedAct, UidKind
from edge.pin import PinChecker, hash_pin
from edge.readers.dialogue import Evidence, Tier
from edge.readers.reader import CardRead
from edge.requests import HANDLERS
from edge.signing_in import WrongPins, lock_ms, locked_for_ms
from hil.bench.station import uid_of
from tests.support.agent_bench import BOOT, Bench, station
from tests.support.staff_bench import (
    CASHIER,
    ENDED,
    GONE,
    LOST,
    NO_PIN,
    OFFICER,
    PEOPLE,
    PUPIL,
    RELIEF,
    SUPERVISOR,
    HandDesk,
    id_of,
    install,
    pin_of,
    staffed,
)


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[tuple[Bench, HandDesk]]:
    with staffed(tmp_path) as made:
        yield made


@pytest.fixture
def till(tmp_path: Path) -> Iterator[tuple[Bench, HandDesk]]:
    with staffed(tmp_path, till=True) as made:
        yield made


def ask(bench: Bench, name: str, **body: Any) -> dict[str, Any]:
    return HANDLERS[name](bench.agent, {"request": name, **body}, bench.clock.moment())


def staff_screen(bench: Bench) -> dict[str, Any]:
    found = health.screens(bench.agent, bench.clock.moment())["staff"]
    assert isinstance(found, dict)
    return found


def give_pin(bench: Bench, desk: HandDesk, pin: str) -> None:
    assert ask(bench, "sign_in_pin", pin=pin)["ok"]
    desk.answer()
    bench.step()


def sign_in(bench: Bench, desk: HandDesk, number: int, role: str, pin: str = "") -> None:
    start = "supervise_start" if role == "supervisor" else "sign_in_start"
    assert ask(bench, start, role=role, act="refund")["ok"]
    bench.tap(number)
    if staff_screen(bench)["dialogue"]["step"] == "pin":
        give_pin(bench, desk, pin or pin_of(number))


def told(bench: Bench) -> list[tuple[str, str]]:
    return [
        (fact.cardholder, fact.what.value) for fact in bench.facts() if isinstance(fact, SignInFact)
    ]


def notice(bench: Bench) -> str:
    return str(staff_screen(bench)["notice"]["key"])


def test_an_officer_signs_in_and_out(lane: tuple[Bench, HandDesk]) -> None:
    bench, desk = lane
    assert bench.agent.staff.officer(bench.clock.moment()) == ""
    assert ask(bench, "sign_in_start", role="officer")["ok"]
    assert staff_screen(bench)["dialogue"]["step"] == "card"
    bench.tap(OFFICER)
    dialogue = staff_screen(bench)["dialogue"]
    assert (dialogue["step"], dialogue["person"]["name"]) == ("pin", "Имя 0")
    assert ask(bench, "sign_in_pin", pin=pin_of(OFFICER))["ok"]
    assert staff_screen(bench)["dialogue"]["step"] == "checking"
    assert bench.agent.staff.officer(bench.clock.moment()) == "", "not before the answer"
    desk.answer()
    bench.step()
    assert bench.agent.staff.officer(bench.clock.moment()) == id_of(OFFICER)
    assert staff_screen(bench)["officer"] == {"cardholder": id_of(OFFICER), "name": "Имя 0"}
    assert ask(bench, "sign_out")["ok"]
    assert bench.agent.staff.officer(bench.clock.moment()) == ""
    assert told(bench) == [(id_of(OFFICER), "in"), (id_of(OFFICER), "out")]
    fact = next(fact for fact in bench.facts() if isinstance(fact, SignInFact))
    assert fact.role is StaffRole.OFFICER and fact.credential


def test_the_lane_goes_on_while_somebody_signs_in(lane: tuple[Bench, HandDesk]) -> None:
    bench, _ = lane
    ask(bench, "sign_in_start", role="officer")
    bench.tap(PUPIL)
    assert bench.screen()["state"] == "granted", "a pupil's card is the lane's"
    bench.walk()
    bench.tap(OFFICER)
    assert bench.screen()["state"] == "taken", "the officer's card opened nothing"
    assert staff_screen(bench)["dialogue"]["step"] == "pin"
    bench.tap(RELIEF)
    assert bench.screen()["state"] == "granted", "no card is waited for any more"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (LOST, "card_refused"),
        (ENDED, "card_refused"),
        (GONE, "card_refused"),
        (NO_PIN, "no_pin"),
        (CASHIER, "no_role"),
        (PUPIL, "not_staff"),
    ],
)
def test_who_may_not_is_not_asked_for_a_pin(
    lane: tuple[Bench, HandDesk], number: int, said: str
) -> None:
    bench, desk = lane
    ask(bench, "sign_in_start", role="officer")
    bench.tap(number)
    assert notice(bench) == said
    assert staff_screen(bench)["dialogue"]["step"] == "card"
    assert not ask(bench, "sign_in_pin", pin=pin_of(number))["ok"]
    assert desk.asked == []
    ru, en = staff_screen(bench)["notice"]["ru"], staff_screen(bench)["notice"]["en"]
    assert ru and en


def test_an_old_read_signs_nobody_in(lane: tuple[Bench, HandDesk]) -> None:
    bench, _ = lane
    ask(bench, "sign_in_start", role="officer")
    bench.tap(OFFICER, age_ms=signing_in.PRESENTATION_AGE_MS_MAX + 1)
    assert notice(bench) == "card_again"
    assert staff_screen(bench)["dialogue"]["step"] == "card"


def test_wrong_pins_lock_for_longer_and_longer(lane: tuple[Bench, HandDesk]) -> None:
    bench, desk = lane
    sign_in(bench, desk, OFFICER, "officer", "9999")
    for _ in range(3):
        assert notice(bench) == "wrong_pin"
        give_pin(bench, desk, "9999")
    give_pin(bench, desk, "9999")
    assert staff_screen(bench)["dialogue"] is None and notice(bench) == "locked"
    assert told(bench) == [(id_of(OFFICER), "wrong_pin")] * 5 + [(id_of(OFFICER), "locked")]
    ask(bench, "sign_in_start", role="officer")
    bench.tap(OFFICER)
    assert notice(bench) == "locked", "not even the right PIN is asked for"
    bench.step(lock_ms(5))
    sign_in(bench, desk, OFFICER, "officer", "9999")
    bench.step(lock_ms(5))
    ask(bench, "sign_in_start", role="officer")
    bench.tap(OFFICER)
    assert notice(bench) == "locked", "the sixth locks for twice as long"
    bench.step(lock_ms(6))
    sign_in(bench, desk, OFFICER, "officer")
    assert bench.agent.staff.officer(bench.clock.moment()) == id_of(OFFICER)
    sign_in(bench, desk, OFFICER, "officer", "9999")
    assert notice(bench) == "wrong_pin", "the right one began the count anew"


def test_a_lock_is_of_a_person_and_survives_the_process(tmp_path: Path) -> None:
    with staffed(tmp_path) as (bench, desk):
        sign_in(bench, desk, OFFICER, "officer", "9999")
        for _ in range(4):
            give_pin(bench, desk, "9999")
        parts, moment = bench.agent.parts, bench.clock.moment()
        again = Agent(parts, moment)
        again.step(moment)
        HANDLERS["sign_in_start"](again, {"role": "officer"}, moment)
        before, bench.agent = bench.agent, again
        bench.tap(OFFICER)
        assert notice(bench) == "locked"
        bench.tap(RELIEF)
        assert staff_screen(bench)["dialogue"]["step"] == "pin", "the next officer may"
        bench.agent = before


@pytest.mark.parametrize("count", range(10))
def test_no_restart_of_the_machine_shortens_a_lock(
    lane: tuple[Bench, HandDesk], count: int
) -> None:
    bench, _ = lane
    moment = bench.clock.moment()
    wrong = WrongPins(count=count, boot="before", mono_ms=5)
    first = replace(moment, mono_ms=0)
    assert locked_for_ms(wrong, first) == lock_ms(count)
    later = replace(moment, mono_ms=lock_ms(count))
    assert locked_for_ms(wrong, later) == 0
    here = WrongPins(count=count, boot=BOOT, mono_ms=moment.mono_ms)
    assert locked_for_ms(here, moment) == lock_ms(count)


@pytest.mark.parametrize("pin", ["", "123", "12345678901", "abcd", 1234, None])
def test_what_is_no_pin_counts_as_no_try(lane: tuple[Bench, HandDesk], pin: object) -> None:
    bench, desk = lane
    ask(bench, "sign_in_start", role="officer")
    bench.tap(OFFICER)
    assert not ask(bench, "sign_in_pin", pin=pin)["ok"]
    assert notice(bench) == "not_a_pin" and desk.asked == [] and told(bench) == []


def test_a_dialogue_left_alone_ends(lane: tuple[Bench, HandDesk]) -> None:
    bench, _ = lane
    ask(bench, "sign_in_start", role="officer")
    bench.step(signing_in.CARD_WAIT_MS)
    assert staff_screen(bench)["dialogue"] is None and notice(bench) == "timed_out"
    bench.tap(OFFICER)
    assert bench.screen()["state"] == "granted", "the card is the lane's again"
    bench.walk()
    ask(bench, "sign_in_start", role="officer")
    bench.tap(OFFICER)
    bench.step(signing_in.PIN_WAIT_MS)
    assert staff_screen(bench)["dialogue"] is None


def test_an_answer_to_an_older_question_is_none(lane: tuple[Bench, HandDesk]) -> None:
    """The right PIN of one person must not sign in the next one who shows a card."""
    bench, desk = lane
    ask(bench, "sign_in_start", role="officer")
    bench.tap(OFFICER)
    ask(bench, "sign_in_pin", pin=pin_of(OFFICER))
    ask(bench, "sign_in_start", role="officer")
    bench.tap(RELIEF)
    desk.answer()
    bench.step()
    assert bench.agent.staff.officer(bench.clock.moment()) == ""
    assert staff_screen(bench)["dialogue"]["step"] == "pin" and told(bench) == []


def test_the_right_pin_of_one_is_no_answer_for_the_next(lane: tuple[Bench, HandDesk]) -> None:
    """The same, when the next one's own PIN is being checked already."""
    bench, desk = lane
    ask(bench, "sign_in_start", role="officer")
    bench.tap(OFFICER)
    ask(bench, "sign_in_pin", pin=pin_of(OFFICER))
    ask(bench, "sign_in_start", role="officer")
    bench.tap(RELIEF)
    ask(bench, "sign_in_pin", pin="9999")
    desk.answer_first()
    bench.step()
    assert staff_screen(bench)["dialogue"]["step"] == "checking" and told(bench) == []
    desk.answer_first()
    bench.step()
    assert notice(bench) == "wrong_pin" and told(bench) == [(id_of(RELIEF), "wrong_pin")]


def test_a_message_of_a_card_signs_in_once(lane: tuple[Bench, HandDesk]) -> None:
    """A card that makes its own messages: one that was seen before is a recording of it."""
    bench, _ = lane
    for counter, step in ((7, "pin"), (7, "card"), (6, "card"), (8, "pin")):
        ask(bench, "sign_in_start", role="officer")
        read = CardRead(
            uid=uid_of(OFFICER),
            at_ms=bench.time[0],
            kind=UidKind.ISO14443,
            tier=4,
            reader_id="r1",
            evidence=Evidence(uid=uid_of(OFFICER), tier=Tier.SUN, counter=counter),
        )
        bench.reader.waiting.append(read)
        bench.step()
        assert staff_screen(bench)["dialogue"]["step"] == step


def test_the_next_officer_takes_over(lane: tuple[Bench, HandDesk]) -> None:
    bench, desk = lane
    sign_in(bench, desk, OFFICER, "officer")
    sign_in(bench, desk, RELIEF, "officer")
    assert bench.agent.staff.officer(bench.clock.moment()) == id_of(RELIEF)
    assert told(bench) == [
        (id_of(OFFICER), "in"),
        (id_of(OFFICER), "out"),
        (id_of(RELIEF), "in"),
    ]


@pytest.mark.parametrize(
    ("at", "number", "role"), [("lane", OFFICER, "officer"), ("till", CASHIER, "cashier")]
)
def test_who_touches_nothing_is_signed_out(
    request: pytest.FixtureRequest, at: str, number: int, role: str
) -> None:
    bench, desk = request.getfixturevalue(at)
    sign_in(bench, desk, number, role)
    idle_ms = signing_in.IDLE_MS_MAX[StaffRole(role)]
    acts = bench.agent.staff.officer if role == "officer" else bench.agent.staff.cashier
    bench.step(idle_ms - 1)
    assert acts(bench.clock.moment()) == id_of(number)
    bench.agent.staff.touch(bench.clock.moment())
    bench.step(idle_ms - 1)
    assert acts(bench.clock.moment()) == id_of(number)
    bench.step(1)
    assert acts(bench.clock.moment()) == ""
    assert told(bench)[-1] == (id_of(number), "idle")


def test_a_supervisor_is_good_for_one_action(till: tuple[Bench, HandDesk]) -> None:
    bench, desk = till
    sign_in(bench, desk, CASHIER, "cashier")
    sign_in(bench, desk, SUPERVISOR, "supervisor")
    assert bench.agent.staff.cashier(bench.clock.moment()) == id_of(CASHIER), "stays signed in"
    supervise = bench.agent.staff.supervise
    assert staff_screen(bench)["proved"] == "refund"
    for act in set(SupervisedAct) - {SupervisedAct.REFUND}:
        assert supervise(bench.clock.moment(), act) == "", "another act"
    assert supervise(bench.clock.moment(), SupervisedAct.REFUND) == id_of(SUPERVISOR)
    assert supervise(bench.clock.moment(), SupervisedAct.REFUND) == "", "used up"
    for other in ("", "void", None, ["refund"]):
        assert not ask(bench, "supervise_start", act=other)["ok"]
    sign_in(bench, desk, SUPERVISOR, "supervisor")
    bench.step(signing_in.SUPERVISED_MS_MAX)
    assert supervise(bench.clock.moment(), SupervisedAct.REFUND) == "", "too late"
    sign_in(bench, desk, CASHIER, "supervisor")
    assert notice(bench) == "no_role"


def test_roles_belong_to_stations(lane: tuple[Bench, HandDesk]) -> None:
    bench, _ = lane
    assert not ask(bench, "sign_in_start", role="cashier")["ok"]
    for role in ("supervisor", "root", None, ["officer"]):
        assert not ask(bench, "sign_in_start", role=role)["ok"]


def test_on_a_disk_that_refuses_the_officer_comes_in_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for till, number, role in ((False, OFFICER, "officer"), (True, CASHIER, "cashier")):
        with staffed(tmp_path / role, till=till) as (bench, desk):
            journal = bench.agent.parts.journal

            def refuse(*_: object, **__: object) -> Any:
                raise DeviceFault("no space left")

            with monkeypatch.context() as broken:
                broken.setattr(journal, "record", refuse)
                sign_in(bench, desk, number, role, "9999")
                assert notice(bench) == "wrong_pin"
                for _ in range(4):
                    give_pin(bench, desk, "9999")
                assert notice(bench) == "locked", "counted in memory"
                bench.step(lock_ms(5))
                sign_in(bench, desk, number, role)
            staff = bench.agent.staff
            if till:
                assert notice(bench) == "not_recorded"
                assert staff.cashier(bench.clock.moment()) == ""
            else:
                assert staff.officer(bench.clock.moment()) == id_of(OFFICER)


def test_a_real_worker_and_real_hashes(tmp_path: Path) -> None:
    """Once with everything real but the readers; the PIN is nowhere on the disk afterwards."""
    woken = threading.Event()
    with station(tmp_path, people=PEOPLE, pins=PinChecker(woken.set)) as bench:
        install(bench, {OFFICER: hash_pin("80258025")})
        ask(bench, "sign_in_start", role="officer")
        bench.tap(OFFICER)
        ask(bench, "sign_in_pin", pin="80258025")
        assert woken.wait(60)
        bench.step()
        assert bench.agent.staff.officer(bench.clock.moment()) == id_of(OFFICER)
        assert SignIn.IN in {f.what for f in bench.facts() if isinstance(f, SignInFact)}
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"80258025" not in path.read_bytes(), path
