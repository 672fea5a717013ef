"""Goal: at 30 people a minute for 10 minutes one lane loses nobody and invents nobody.

Method: the real agent in virtual time with 300 people who walk at human pace
(`hil/devices/lane.py`); every card shown must be one grant and one passage taken, in its order.
With NIGHTLY set the same in real time on a real process. A morning with a fact taken away, doubled
or changed must be found out.
"""

from __future__ import annotations

import os
from dataclasses import replace

import msgspec
import pytest

from edge.messages import PassageFact
from edge.model import PassageResult
from hil.scenarios.rush import Rush, live_rush, virtual_rush

PEOPLE, EVERY_S = 300, 2.0


@pytest.fixture(scope="module")
def morning() -> Rush:
    return virtual_rush(people=PEOPLE, every_s=EVERY_S)


@pytest.mark.slow
def test_thirty_a_minute_for_ten_minutes_and_nothing_lost(morning: Rush) -> None:
    assert morning.problem == ""
    assert len(set(morning.shown)) == PEOPLE
    assert PEOPLE * EVERY_S - EVERY_S <= morning.lasted_s <= PEOPLE * EVERY_S + 5


@pytest.mark.slow
def test_what_is_lost_doubled_or_changed_is_found_out(morning: Rush) -> None:
    facts = morning.facts
    one = len(facts) // 2
    walked = next(fact for fact in facts if isinstance(fact, PassageFact))
    place = facts.index(walked)
    other = msgspec.structs.replace(walked, result=PassageResult.NOT_TAKEN)
    for spoilt in (
        facts[:one] + facts[one + 1 :],
        (*facts, facts[one]),
        (*facts[:place], other, *facts[place + 1 :]),
    ):
        assert replace(morning, facts=spoilt).problem != ""
    assert replace(morning, shown=morning.shown[1:]).problem != ""


if "NIGHTLY" in os.environ:

    @pytest.mark.slow
    @pytest.mark.process
    def test_a_live_lane_at_thirty_a_minute_for_ten_minutes() -> None:
        rush = live_rush(people=PEOPLE, every_s=EVERY_S)
        assert rush.problem == ""
        assert len(rush.shown) == PEOPLE
