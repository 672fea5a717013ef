"""Goal: one grant makes one turn of the right gate, at human speed, or none when they turn back.

Method: screens and times are arguments, so a morning at the lane takes no time at all.
"""

from __future__ import annotations

from typing import Any

from hil.devices.lane import PASSAGES_MAX, STEP_S, TURN_S, Move, People

ON_IN = Move(line="north-in.rotation", active=True)
OFF_IN = Move(line="north-in.rotation", active=False)


def granted(passage: str, access_point: str = "north-in") -> list[dict[str, Any]]:
    return [{"access_point": access_point, "state": "granted", "passage": passage}]


def test_a_grant_turns_the_gate_once_after_the_time_of_a_step() -> None:
    people = People()
    assert people.step(granted("e.1"), now_s=10) == ()
    assert people.step(granted("e.1"), now_s=10 + STEP_S - 0.01) == ()
    assert people.step(granted("e.1"), now_s=10 + STEP_S) == (ON_IN,)
    assert people.step(granted("e.1"), now_s=10 + STEP_S + TURN_S) == (OFF_IN,)
    assert people.step(granted("e.1"), now_s=100) == ()


def test_a_late_look_moves_on_and_off_in_order() -> None:
    people = People()
    people.step(granted("e.1"), now_s=0)
    assert people.step([], now_s=60) == (ON_IN, OFF_IN)


def test_who_turns_back_moves_nothing_even_when_walking_is_switched_on_later() -> None:
    people = People()
    people.walking = False
    people.step(granted("e.1"), now_s=0)
    people.walking = True
    assert people.step(granted("e.1"), now_s=60) == ()
    people.step(granted("e.2"), now_s=60)
    assert people.step(granted("e.2"), now_s=120) == (ON_IN, OFF_IN)


def test_both_directions_have_their_own_gate() -> None:
    people = People()
    people.step([*granted("e.1"), *granted("e.2", "north-out")], now_s=0)
    moved = [move.line for move in people.step([], now_s=60) if move.active]
    assert moved == ["north-in.rotation", "north-out.rotation"]


def test_two_people_go_through_one_after_the_other() -> None:
    people = People()
    people.step(granted("e.1"), now_s=0)
    people.step(granted("e.2"), now_s=0.1)
    assert people.step([], now_s=STEP_S) == (ON_IN,)
    assert people.step([], now_s=STEP_S + TURN_S) == (OFF_IN,)
    assert people.step([], now_s=2 * STEP_S + TURN_S - 0.01) == ()
    assert people.step([], now_s=3 * STEP_S) == (ON_IN, OFF_IN)


def test_only_a_grant_with_a_passage_moves_anything() -> None:
    people = People()
    for state in ("idle", "taken", "refused", "ask", "not_taken", "reader_down"):
        people.step([{"access_point": "north-in", "state": state, "passage": "e.1"}], now_s=0)
    people.step([{"access_point": "north-in", "state": "granted", "passage": None}], now_s=0)
    assert people.step([], now_s=60) == ()


def test_a_long_day_does_not_grow() -> None:
    people = People()
    turns = 0
    for number in range(10 * PASSAGES_MAX):
        people.step(granted(f"e.{number}"), now_s=10 * number)
        moves = people.step([], now_s=10 * number + 5)
        turns += sum(move.active for move in moves)
    assert turns == 10 * PASSAGES_MAX
