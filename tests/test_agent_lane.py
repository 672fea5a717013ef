"""Goal: fire frees both directions, first and until an officer says so, across any end of the
process; a holding line holds otherwise, and a time that nobody held it is on record; the officer's
button, the housing and the signals do what lane.md says.

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
    FireFact,
    FireWhat,
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
    set_line,
    turn,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as made:
        yield made


def told(bench: Bench) -> list[FireWhat]:
    return [fact.what for fact in of_kind(bench, FireFact)]


def word(bench: Bench, point: str) -> str:
    return str(bench.agent.gates[point].screen(bench.clock.moment()).word)


def refuse_records(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DeviceFault("journal.db: disk full")

    monkeypatch.setattr(bench.agent.parts.journal, "record", refuse)


# -------------------------------------------------------------------------------------- fire


def test_fire_frees_both_directions_and_is_on_record(bench: Bench) -> None:
    assert active(bench, HOLD), "held, for there is no fire"
    set_line(bench, FIRE, True)
    assert not active(bench, HOLD)
    assert all(gate.passage.free for gate in bench.agent.gates.values())
    (fact,) = of_kind(bench, FireFact)
    assert (fact.lane, fact.what, fact.officer) == ("north", FireWhat.ALARM, None)
    assert word(bench, "north-out") == "ВЫХОДИТЕ" and word(bench, "north-in") == "НЕ ВХОДИТЕ"


def test_the_lane_is_free_before_the_disk_hears_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_records(bench, monkeypatch)
    set_line(bench, FIRE, True)
    assert not active(bench, HOLD) and bench.gate.passage.free
    set_line(bench, FIRE, False)
    assert lane_of(bench).fire_reset("p1", bench.clock.moment()) == "not_recorded"
    assert not active(bench, HOLD), "nobody is shut in on a word that is on no record"
    monkeypatch.undo()
    bench.step(1_000)
    assert told(bench) == [FireWhat.ALARM, FireWhat.CLEAR], "told late, in order, each once"


def test_the_lane_is_free_before_the_record_is_begun(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, held = bench.agent.parts.journal.record, []

    def recording(*args: Any, **more: Any) -> Any:
        held.append(active(bench, HOLD))
        return record(*args, **more)

    monkeypatch.setattr(bench.agent.parts.journal, "record", recording)
    set_line(bench, FIRE, True)
    assert held and held[0] is False, "a disk that takes its time keeps nobody in"


def test_a_release_ends_by_a_clear_wire_and_then_an_officer(bench: Bench) -> None:
    lane = lane_of(bench)
    assert lane.fire_reset("p1", bench.clock.moment()) == "no_fire"
    set_line(bench, FIRE, True)
    assert lane.fire_reset("p1", bench.clock.moment()) == "alarm_active"
    set_line(bench, FIRE, False)
    for _ in range(200):
        bench.step(60_000)
    assert not active(bench, HOLD) and bench.gate.passage.free, "it never ends by itself"
    assert lane.fire_reset("p1", bench.clock.moment()) == ""
    assert active(bench, HOLD) and not bench.gate.passage.free
    *_, reset = of_kind(bench, FireFact)
    assert (reset.what, reset.officer) == (FireWhat.RESET, "p1")
    assert told(bench) == [FireWhat.ALARM, FireWhat.CLEAR, FireWhat.RESET]
    assert of_kind(bench, UnattendedRelease) == [], "a fire is no unattended release"


def test_an_alarm_that_comes_again_is_another_alarm(bench: Bench) -> None:
    for on in (True, False, True, False):
        set_line(bench, FIRE, on)
    assert told(bench) == [FireWhat.ALARM, FireWhat.CLEAR] * 2
    assert lane_of(bench).fire_reset("p1", bench.clock.moment()) == ""


def test_an_edge_that_was_lost_is_seen_as_a_level(bench: Bench) -> None:
    bench.agent.move(FIRE, True)
    lines = bench.agent.parts.lines
    assert lines is not None
    lines.poll()  # As if the queue had been full.
    bench.step(1_000)
    assert bench.gate.passage.free and told(bench) == [FireWhat.ALARM]


@pytest.mark.parametrize("clear_first", [False, True], ids=["alarm on", "alarm clear"])
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_restart_keeps_the_release(tmp_path: Path, killed: bool, clear_first: bool) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as bench:
        set_line(bench, FIRE, True)
        if clear_first:
            set_line(bench, FIRE, False)
        bench.killed = killed
    # The wire is clear when the next agent starts; nobody has reset anything.
    with station(tmp_path, people=20, start_ms=1_100_000) as bench:
        bench.step(1_000)
        assert not active(bench, HOLD)
        assert all(gate.passage.free for gate in bench.agent.gates.values())
        assert told(bench) == [FireWhat.ALARM, FireWhat.CLEAR]
        assert of_kind(bench, UnattendedRelease) == []
        assert lane_of(bench).fire_reset("p1", bench.clock.moment()) == ""
        assert active(bench, HOLD)
        bench.killed = killed
    with station(tmp_path, people=20, start_ms=1_200_000) as bench:
        assert active(bench, HOLD), "and a reset is kept, too"


def test_where_nobody_can_sign_in_the_button_ends_a_fire_that_is_over(tmp_path: Path) -> None:
    toml = FULL_TOML.replace('station = "entrance"', 'station = "admission"')
    with station(tmp_path, people=20, device_toml=toml) as bench:
        set_line(bench, FIRE, True)
        press(bench, IN_BUTTON)
        assert not active(bench, HOLD), "the alarm goes before the button"
        set_line(bench, FIRE, False)
        press(bench, IN_BUTTON)
        assert active(bench, HOLD)
        *_, reset = of_kind(bench, FireFact)
        assert (reset.what, reset.officer) == (FireWhat.RESET, None)
        assert of_kind(bench, Override) == [], "it opened nothing"


def test_at_an_entrance_the_button_ends_no_fire(bench: Bench) -> None:
    set_line(bench, FIRE, True)
    set_line(bench, FIRE, False)
    press(bench, IN_BUTTON)
    assert not active(bench, HOLD) and told(bench) == [FireWhat.ALARM, FireWhat.CLEAR]


def test_a_lane_that_is_held_again_says_no_more_that_it_is_free(bench: Bench) -> None:
    set_line(bench, FIRE, True)
    bench.tap(3)
    set_line(bench, FIRE, False)
    assert bench.gate.screen(bench.clock.moment()).state == "fire"
    assert lane_of(bench).fire_reset("p1", bench.clock.moment()) == ""
    assert bench.gate.screen(bench.clock.moment()).state in ("idle", "down")  # No reader here.


def test_fire_found_at_start_never_lets_the_lane_be_held(tmp_path: Path) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML, active=frozenset({FIRE})) as bench:
        lines = bench.agent.parts.lines
        assert lines is not None
        driven = [change.line_id for change in lines.history]  # type: ignore[attr-defined]
        assert HOLD not in driven
        assert told(bench) == [FireWhat.ALARM]


def test_who_passes_in_a_fire_is_on_record_and_nobodys_grant_is_lost(bench: Bench) -> None:
    bench.tap(3)  # Granted, not yet through.
    set_line(bench, FIRE, True)
    bench.tap(4)
    turn(bench, "north-out")
    passages = of_kind(bench, PassageFact)
    assert [fact.result for fact in passages] == [PassageResult.FIRE_RELEASE] * 3
    assert [fact.cardholder for fact in passages] == ["c00000003", "c00000004", None]
    assert [fact.assumed for fact in passages] == [True, True, False]
    assert bench.gate._views == {}


def test_a_lane_whose_alarm_wire_was_taken_out_can_still_be_reset(tmp_path: Path) -> None:
    with station(tmp_path, people=20, device_toml=FULL_TOML) as bench:
        set_line(bench, FIRE, True)
    without = "".join(
        line for line in FULL_TOML.splitlines(keepends=True) if not line.startswith("fire =")
    )
    (tmp_path / "device.toml").write_text(without)
    with station(tmp_path, people=20, start_ms=1_100_000) as bench:
        assert not active(bench, HOLD) and told(bench) == [FireWhat.ALARM, FireWhat.CLEAR]
        assert lane_of(bench).fire_reset("p1", bench.clock.moment()) == ""
        assert active(bench, HOLD)


def test_lockdown_never_blocks_out(bench: Bench) -> None:
    bench.agent.lock_down(True, bench.clock.moment())
    bench.tap(3)
    assert not active(bench, "north-in.relay")
    press(bench, OUT_BUTTON)
    assert active(bench, "north-out.relay")
    turn(bench, "north-out")
    assert of_kind(bench, PassageFact)[-1].result is PassageResult.TAKEN


def test_a_fire_in_a_lockdown_is_a_fire(bench: Bench) -> None:
    bench.agent.lock_down(True, bench.clock.moment())
    set_line(bench, FIRE, True)
    assert not active(bench, HOLD)
    set_line(bench, FIRE, False)
    assert lane_of(bench).fire_reset("p1", bench.clock.moment()) == ""
    bench.step(2_000)  # A look: the reader is up.
    assert bench.gate.screen(bench.clock.moment()).state == "lockdown"


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
    assert lit(bench) == {"red", "buzzer"} and word(bench, "north-in") == "ВНИМАНИЕ"


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
