"""Goal: fire frees both directions, first and until an officer says so, across any end of the
process; a lockdown never blocks the way out.

Method: as in `test_agent_lane.py`. The rule behind each test was taken out once, and the test seen
to fail.
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
    UnattendedRelease,
)
from edge.model import PassageResult
from tests.support.agent_bench import Bench, station
from tests.support.lane_bench import (
    FIRE,
    FULL_TOML,
    HOLD,
    IN_BUTTON,
    OUT_BUTTON,
    active,
    fire_told,
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


def test_fire_frees_both_directions_and_is_on_record(bench: Bench) -> None:
    assert active(bench, HOLD), "held, for there is no fire"
    set_line(bench, FIRE, True)
    assert not active(bench, HOLD)
    assert all(gate.passage.free for gate in bench.agent.gates.values())
    (fact,) = of_kind(bench, FireFact)
    assert (fact.lane, fact.what, fact.officer) == ("north", FireWhat.ALARM, None)
    assert word_at(bench, "north-out") == "ВЫХОДИТЕ" and word_at(bench, "north-in") == "НЕ ВХОДИТЕ"


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
    assert fire_told(bench) == [FireWhat.ALARM, FireWhat.CLEAR], "told late, in order, each once"


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
    assert fire_told(bench) == [FireWhat.ALARM, FireWhat.CLEAR, FireWhat.RESET]
    assert of_kind(bench, UnattendedRelease) == [], "a fire is no unattended release"


def test_an_alarm_that_comes_again_is_another_alarm(bench: Bench) -> None:
    for on in (True, False, True, False):
        set_line(bench, FIRE, on)
    assert fire_told(bench) == [FireWhat.ALARM, FireWhat.CLEAR] * 2
    assert lane_of(bench).fire_reset("p1", bench.clock.moment()) == ""


def test_an_edge_that_was_lost_is_seen_as_a_level(bench: Bench) -> None:
    bench.agent.move(FIRE, True)
    lines = bench.agent.parts.lines
    assert lines is not None
    lines.poll()  # As if the queue had been full.
    bench.step(1_000)
    assert bench.gate.passage.free and fire_told(bench) == [FireWhat.ALARM]


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
        assert fire_told(bench) == [FireWhat.ALARM, FireWhat.CLEAR]
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
    assert not active(bench, HOLD) and fire_told(bench) == [FireWhat.ALARM, FireWhat.CLEAR]


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
        assert fire_told(bench) == [FireWhat.ALARM]


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
        assert not active(bench, HOLD) and fire_told(bench) == [FireWhat.ALARM, FireWhat.CLEAR]
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
