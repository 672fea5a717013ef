"""Goal: a holding line holds but in a fire, and a time that nobody held it is on record; bodies,
the officer's button, the housing and the signals do what lane.md says. Fire is in
`test_agent_fire.py`.

Method: the real agent on real files, its lines mock pins, time a number that the test moves. A
process that is killed is one that says nothing more, and another that starts on what it left
(`tests/process/test_lane_killed.py` does the same with a real one). The rule behind each test was
taken out once, and the test seen to fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.messages import (
    Override,
    PassageFact,
    Tamper,
    UnattendedRelease,
)
from edge.model import DeviceFault, OverrideReason, PassageResult
from edge.turnstile.signals import Shown
from tests.support.agent_bench import Bench, station
from tests.support.lane_bench import (
    FIRE,
    FULL_TOML,
    HOLD,
    IN_BUTTON,
    OUT_BUTTON,
    TAMPER,
    active,
    lane_of,
    of_kind,
    press,
    refuse_records,
    set_line,
    turn,
    word_at,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as made:
        yield made


# ---------------------------------------------------------------------------------- bodies


def results(bench: Bench) -> list[tuple[str, PassageResult]]:
    return [(fact.access_point, fact.result) for fact in of_kind(bench, PassageFact)]


def test_a_body_against_the_direction_that_was_opened_is_forced_and_uses_nothing_up(
    bench: Bench,
) -> None:
    bench.tap(3)
    turn(bench, "north-out")
    turn(bench, "north-in")
    assert results(bench) == [
        ("north-out", PassageResult.FORCED),
        ("north-in", PassageResult.TAKEN),
    ]


def test_two_bodies_on_one_grant_are_one_taken_and_one_forced(bench: Bench) -> None:
    bench.tap(3)
    turn(bench, "north-in")
    turn(bench, "north-in")
    assert [result for _, result in results(bench)] == [PassageResult.TAKEN, PassageResult.FORCED]


def test_both_directions_are_used_at_once_each_with_its_queue(bench: Bench) -> None:
    bench.tap(3)
    bench.tap(4)
    press(bench, OUT_BUTTON)
    assert active(bench, "north-in.relay") and active(bench, "north-out.relay")
    turn(bench, "north-out")
    turn(bench, "north-in")
    turn(bench, "north-in")
    assert results(bench) == [
        ("north-out", PassageResult.TAKEN),
        ("north-in", PassageResult.TAKEN),
        ("north-in", PassageResult.TAKEN),
    ]


# ------------------------------------------------------------------------------ holding line


def test_a_first_start_holds_and_tells_of_nothing(bench: Bench) -> None:
    assert active(bench, HOLD) and of_kind(bench, UnattendedRelease) == []


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_the_time_that_nobody_held_it_is_told_at_the_next_start(
    tmp_path: Path, killed: bool
) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as bench:
        for _ in range(5):
            bench.step(59_000)
        ended = bench.clock.moment().wall_ms
        bench.killed = killed
    with station(tmp_path, people=20, start_ms=2_000_000) as bench:
        (fact,) = of_kind(bench, UnattendedRelease)
        assert fact.lane == "north"
        assert fact.to_wall_ms == bench.clock.moment().wall_ms
        assert 0 <= ended - fact.from_wall_ms <= (60_000 if killed else 0)
        assert active(bench, HOLD)
        bench.killed = killed
    with station(tmp_path, people=20, start_ms=3_000_000) as bench:
        assert len(of_kind(bench, UnattendedRelease)) == 2


def test_a_fact_says_that_the_lane_was_held_as_well_as_a_heartbeat(tmp_path: Path) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as bench:
        bench.step(30_000)
        bench.tap(3)
        tapped = bench.clock.moment().wall_ms
        bench.step(20_000)
        bench.killed = True
    with station(tmp_path, people=20, start_ms=2_000_000) as bench:
        (fact,) = of_kind(bench, UnattendedRelease)
        assert 0 <= fact.from_wall_ms - tapped <= 20_000


def test_the_heartbeat_is_one_commit_a_minute(bench: Bench) -> None:
    writes: list[int] = []
    note = lane_of(bench)._note_held

    def counted(wall_ms: int, *, exact: bool) -> None:
        writes.append(wall_ms)
        note(wall_ms, exact=exact)

    lane_of(bench)._note_held = counted  # type: ignore[method-assign]
    for _ in range(600):
        bench.step(1_000)
    assert 9 <= len(writes) <= 11


def test_a_line_that_fell_on_its_own_is_held_again_and_told(bench: Bench) -> None:
    bench.step(1_000)
    lines = bench.agent.parts.lines
    assert lines is not None
    lines.let_go_all()  # As the watchdog does.
    before = bench.clock.moment().wall_ms
    bench.step(30_000)
    (fact,) = of_kind(bench, UnattendedRelease)
    assert (fact.from_wall_ms, fact.to_wall_ms) == (before, before + 30_000)
    assert active(bench, HOLD)


def test_a_holding_line_that_does_not_move_is_said_and_tried_again(bench: Bench) -> None:
    lines: Any = bench.agent.parts.lines
    lines.let_go_all()
    drive = lines.activate

    def refuse(line_id: str, *, ms: int | None) -> None:
        raise DeviceFault(f"line {line_id}: no such pin")

    lines.activate = refuse
    bench.step(1_000)
    bench.step(1_000)
    assert lane_of(bench).alarms == ("hold",)
    assert bench.agent.lanes.part_states()["lane north"] == ("down", "hold")
    lines.activate = drive
    bench.step(1_000)
    assert lane_of(bench).alarms == () and active(bench, HOLD)
    (fact,) = of_kind(bench, UnattendedRelease)
    assert fact.to_wall_ms - fact.from_wall_ms >= 3_000


# -------------------------------------------------------------------------- button, housing


def test_the_officers_button_opens_once_and_knows_nobody(bench: Bench) -> None:
    press(bench, IN_BUTTON)
    assert active(bench, "north-in.relay") and not active(bench, "north-out.relay")
    turn(bench, "north-in")
    turn(bench, "north-in")
    (override,) = of_kind(bench, Override)
    assert (override.officer, override.why) == (None, OverrideReason.OTHER)
    taken, forced = of_kind(bench, PassageFact)
    assert taken.result is PassageResult.TAKEN and forced.result is PassageResult.FORCED
    assert taken.passage == f"{override.epoch}.{override.sequence}"


def test_the_buttons_fact_is_on_disk_before_the_relay_moves(bench: Bench) -> None:
    lines: Any = bench.agent.parts.lines
    drive, seen = lines.activate, []

    def activate(line_id: str, *, ms: int | None) -> None:
        if line_id == "north-in.relay":
            seen.append(len(of_kind(bench, Override)))
        drive(line_id, ms=ms)

    lines.activate = activate
    press(bench, IN_BUTTON)
    assert seen == [1]


def test_a_button_that_is_held_down_is_one_press_and_an_alarm(bench: Bench) -> None:
    set_line(bench, IN_BUTTON, True)
    for _ in range(30):
        bench.step(1_000)
    assert len(of_kind(bench, Override)) == 1
    assert lane_of(bench).alarms == (f"stuck {IN_BUTTON}",)
    assert bench.agent.counters["button_stuck"] == 1
    set_line(bench, IN_BUTTON, False)
    assert lane_of(bench).alarms == ()
    press(bench, IN_BUTTON)
    assert len(of_kind(bench, Override)) == 2


def test_a_button_found_pressed_at_start_opens_nothing(tmp_path: Path) -> None:
    with station(
        tmp_path, people=20, device_toml=FULL_TOML, active=frozenset({IN_BUTTON})
    ) as bench:
        bench.step(11_000)
        assert of_kind(bench, Override) == [] and not active(bench, "north-in.relay")
        assert lane_of(bench).alarms == (f"stuck {IN_BUTTON}",)


def test_a_disk_that_refuses_does_not_stop_the_button(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_records(bench, monkeypatch)
    press(bench, IN_BUTTON)
    assert active(bench, "north-in.relay")
    assert bench.gate.unwritten.counts == {"override": 1}


def test_a_grant_by_hand_whose_agent_was_killed_gets_its_end(tmp_path: Path) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as bench:
        press(bench, IN_BUTTON)
        bench.killed = True
    with station(tmp_path, people=20, start_ms=1_100_000) as bench:
        (passage,) = of_kind(bench, PassageFact)
        (override,) = of_kind(bench, Override)
        assert passage.result is PassageResult.UNKNOWN
        assert passage.passage == f"{override.epoch}.{override.sequence}"


def test_a_housing_that_is_opened_is_a_fact_and_an_alarm(tmp_path: Path) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as bench:
        set_line(bench, TAMPER, True)
        assert lane_of(bench).alarms == ("tamper",)
    with station(tmp_path, people=20, start_ms=1_100_000, active=frozenset({TAMPER})) as bench:
        assert lane_of(bench).alarms == ("tamper",), "known already, and told once"
        set_line(bench, TAMPER, False)
        assert [(f.line, f.active) for f in of_kind(bench, Tamper)] == [
            (TAMPER, True),
            (TAMPER, False),
        ]


def test_a_housing_that_was_opened_while_nobody_looked_is_told(tmp_path: Path) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML, active=frozenset({TAMPER})) as bench:
        assert [fact.active for fact in of_kind(bench, Tamper)] == [True]


# ------------------------------------------------------------------------------------ lamps


def lit(bench: Bench) -> set[str]:
    outputs = ("green", "red", "amber", "buzzer")
    return {name for name in outputs if active(bench, f"north-in.{name}")}


def test_lamps_and_buzzer_say_what_the_screen_says(bench: Bench) -> None:
    bench.agent.readers["r1"].up = True
    bench.step(2_000)
    assert lit(bench) == set(), "at rest"
    bench.tap(3)
    assert lit(bench) == {"green", "buzzer"}
    bench.step(100)
    assert lit(bench) == {"green"}
    bench.step(6_000)
    bench.step(6_000)
    assert lit(bench) == set()
    bench.tap(0, uid=bytes.fromhex("04ffffffffffff"))
    assert lit(bench) == {"red", "buzzer"}
    bench.agent.lock_down(True, bench.clock.moment())
    bench.step(6_000)
    assert lit(bench) == {"red"}
    set_line(bench, FIRE, True)
    assert "red" in lit(bench) and active(bench, "north-out.green")


def test_a_steady_lamp_stays_lit_for_hours_by_bounded_stretches(bench: Bench) -> None:
    bench.agent.readers["r1"].up = True
    bench.agent.lock_down(True, bench.clock.moment())
    for _ in range(200):
        bench.step(1_000)
        assert active(bench, "north-in.red")


def test_a_lamp_that_does_not_work_stops_nothing(bench: Bench) -> None:
    lines: Any = bench.agent.parts.lines
    drive = lines.activate

    def no_lamps(line_id: str, *, ms: int | None) -> None:
        if line_id.endswith(("green", "buzzer")):
            raise DeviceFault(f"line {line_id}: no such pin")
        drive(line_id, ms=ms)

    lines.activate = no_lamps
    bench.tap(3)
    assert active(bench, "north-in.relay") and bench.gate.ready
    bench.step(100)
    assert bench.agent.counters["lamp_failed"] == 2


def test_every_signal_is_reached_by_what_can_happen() -> None:
    from tests.turnstile.test_signals import REACHED

    assert set(Shown) == REACHED


# ------------------------------------------------------------- GOST R 51241-2008, 5.3.1
# What it asks of a stand-alone system at the entrance, by name.


def test_gost_51241_opens_on_a_known_identifier(bench: Bench) -> None:
    bench.tap(3)
    assert active(bench, "north-in.relay")


def test_gost_51241_locks_again_by_itself_when_nobody_passed(bench: Bench) -> None:
    bench.tap(3)
    for _ in range(8):
        bench.step(1_000)
    assert of_kind(bench, PassageFact)[-1].result is PassageResult.NOT_TAKEN
    assert bench.gate.passage.state == "idle"
    turn(bench, "north-in")
    assert of_kind(bench, PassageFact)[-1].result is PassageResult.FORCED, "it is shut again"


def test_gost_51241_forced_opening_is_an_alarm(bench: Bench) -> None:
    bench.agent.move("north-in.rotation", True)
    bench.step()
    assert of_kind(bench, PassageFact)[-1].result is PassageResult.FORCED
    assert bench.agent.counters["alarm_forced"] == 1
    assert lit(bench) == {"red", "buzzer"} and word_at(bench, "north-in") == "ВНИМАНИЕ"


def test_gost_51241_emergency_opening_by_hand(bench: Bench) -> None:
    press(bench, OUT_BUTTON)
    assert active(bench, "north-out.relay")


def test_gost_51241_emergency_opening_in_a_fire(bench: Bench) -> None:
    set_line(bench, FIRE, True)
    assert not active(bench, HOLD)


def test_gost_51241_emergency_opening_when_the_controller_fails(tmp_path: Path) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as bench:
        lines = bench.agent.parts.lines
        assert lines is not None and active(bench, HOLD)
        bench.killed = True
    assert not lines.is_active(HOLD)


def test_gost_51241_keeps_its_settings_and_record_when_power_fails(tmp_path: Path) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as bench:
        bench.tap(3)
        bench.walk()
        bench.killed = True
    with station(tmp_path, people=20, start_ms=1_100_000) as bench:
        assert of_kind(bench, PassageFact)[0].result is PassageResult.TAKEN
        bench.tap(4)
        assert active(bench, "north-in.relay")
