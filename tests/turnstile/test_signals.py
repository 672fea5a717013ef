"""Goal: who looks or listens can tell the signals apart, also without seeing colours; none blinks
so fast that it harms; a pattern is lit exactly when it should be.

Method: every pair of signals compared; every screen the lane can show given to the table; patterns
followed millisecond by millisecond.
"""

from __future__ import annotations

from itertools import combinations, product

import pytest

from edge.model import AccessReason, Direction, Outcome, PassageResult
from edge.turnstile import officer
from edge.turnstile.officer import LaneView
from edge.turnstile.signals import PATTERNS, STEADY, Lamp, Pattern, Shown, lit_until, shown_by


def decided(outcome: Outcome, reason: AccessReason = AccessReason.AUTHORIZED) -> LaneView:
    return officer.decided(outcome, reason, name="", group="", passage="e.1", now_ms=0)


def after(result: PassageResult) -> LaneView:
    return officer.passed(result, officer.WAITING, now_ms=0)


SCREENS = [
    (officer.WAITING, Shown.REST),
    (decided(Outcome.GRANT), Shown.GRANTED),
    (decided(Outcome.REFER, AccessReason.PASSBACK), Shown.ASK),
    (decided(Outcome.DENY, AccessReason.HOT_LISTED), Shown.REFUSED),
    (decided(Outcome.DENY, AccessReason.STALE_READ), Shown.ASK),
    (after(PassageResult.TAKEN), Shown.REST),
    (after(PassageResult.NOT_TAKEN), Shown.REST),
    (after(PassageResult.FORCED), Shown.ALARM),
    (after(PassageResult.HELD), Shown.ALARM),
    (officer.reader_down(), Shown.DOWN),
    (officer.LANE_DOWN, Shown.DOWN),
    (officer.LOCKED_DOWN, Shown.LOCKDOWN),
    (officer.please_wait(now_ms=0), Shown.ASK),
    (officer.failed_read("left_field", now_ms=0), Shown.ASK),
]


def shown(view: LaneView, *, direction: Direction = Direction.IN, fire: bool = False) -> Shown:
    return shown_by(view, direction, fire=fire, held=False)


REACHED = {shown(view) for view, _ in SCREENS} | {
    shown(officer.WAITING, direction=direction, fire=True) for direction in Direction
}


@pytest.mark.parametrize(("view", "expected"), SCREENS, ids=[view.state for view, _ in SCREENS])
def test_the_signal_says_what_the_screen_says(view: LaneView, expected: Shown) -> None:
    assert shown(view) is expected


def test_fire_goes_before_everything_and_tells_who_is_outside_from_who_is_inside() -> None:
    for (view, _), held in product(SCREENS, (False, True)):
        assert shown_by(view, Direction.OUT, fire=True, held=held) is Shown.FIRE
        assert shown_by(view, Direction.IN, fire=True, held=held) is Shown.FIRE_OUTSIDE


def test_an_arm_that_stays_turned_is_an_alarm_whatever_the_screen_says() -> None:
    assert shown_by(officer.LANE_HELD, Direction.IN, fire=False, held=True) is Shown.ALARM


def test_any_two_signals_differ() -> None:
    for one, other in combinations(Shown, 2):
        assert PATTERNS[one] != PATTERNS[other]


def test_signals_that_ask_something_differ_without_colours() -> None:
    """By rhythm or sound; a refusal and a lockdown are told apart by the sound at the tap."""

    def grey(which: Shown) -> tuple[object, ...]:
        lamps = PATTERNS[which]
        return (
            tuple(sorted(str(p) for lamp, p in lamps.items() if lamp is not Lamp.BUZZER)),
            lamps.get(Lamp.BUZZER),
        )

    same = {
        frozenset((one, other)) for one, other in combinations(Shown, 2) if grey(one) == grey(other)
    }
    assert same == {frozenset((Shown.FIRE, Shown.FIRE_OUTSIDE))}, "their lamps face other people"


def test_nothing_blinks_more_than_three_times_a_second() -> None:
    for lamps in PATTERNS.values():
        for lamp, pattern in lamps.items():
            if lamp is not Lamp.BUZZER and pattern is not STEADY:
                assert pattern.period_ms >= 334


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_pattern_is_lit_when_it_should_be(times: int) -> None:
    pattern = Pattern(on_ms=3, off_ms=2, times=times)
    for now_ms in range(40):
        lit, until_ms = lit_until(pattern, since_ms=0, now_ms=now_ms)
        over = times != 0 and now_ms >= 5 * times
        assert lit is (not over and now_ms % 5 < 3)
        assert (until_ms is None) is over
        if until_ms is not None:
            assert until_ms == now_ms - now_ms % 5 + (3 if lit else 5)
