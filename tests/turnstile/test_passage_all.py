"""Goal: every grant ends in exactly one result, every turn of the arm is in the record once, and a
lane is driven for a bounded time by one grant at a time, whatever happens in whatever order.

Method: a small world exhausted (every sequence of three events out of thirteen, from seven
beginnings, on each kind of lane), which must reach every row of the table; then long random
sequences with a seed. All of them run under one `Witness` that knows the promises and not the
table. Time is an argument, so nothing waits.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.settings import WAIT_MS_DEFAULT as WAIT_MS
from edge.turnstile.passage import (
    LATE_MS,
    QUEUED_MS,
    Event,
    Fault,
    Fire,
    FireReset,
    Lockdown,
    Rotated,
)
from edge.turnstile.passage_table import REST, TABLE, State, Trigger
from tests.turnstile.witness import CLEAR, LANES, TURN, Witness, granted

WAIT = None  # Until the machine asks to be stepped.
EVENTS: tuple[Event | None, ...] = (
    WAIT,
    granted("ana"),
    granted("ben"),
    granted("cem"),
    TURN,
    CLEAR,
    Lockdown(on=True),
    Lockdown(on=False),
    Fault(on=True),
    Fault(on=False),
    Fire(active=True),
    Fire(active=False),
    FireReset(),
)
SMALL = {name: replace(lane, queued_max=min(1, lane.queued_max)) for name, lane in LANES.items()}
ENDINGS = tuple(product(EVENTS, repeat=3))
BEGINNINGS: tuple[tuple[Event | None, ...], ...] = (
    (),
    (granted("ana"),),
    (granted("ana"), WAIT),
    (TURN,),
    (TURN, WAIT),
    (Lockdown(on=True),),
    (Fire(active=True),),
)


def run(lane: Witness, events: tuple[Event | None, ...]) -> None:
    for event in events:
        if event is WAIT:
            lane.wait_until_due()
        elif lane.lane.sensor or not isinstance(event, Rotated):
            lane.give(event)


@pytest.mark.slow
def test_every_short_sequence_keeps_the_promises_and_reaches_every_row() -> None:
    rows: set[tuple[State, Trigger]] = set()
    rests: set[State] = set()
    for settings_of_lane in SMALL.values():
        for beginning, events in product(BEGINNINGS, ENDINGS):
            lane = Witness(settings_of_lane)
            run(lane, beginning + events)
            rows |= lane.rows
            rests |= lane.rests
    assert rows == {(row.state, row.trigger) for row in TABLE}
    assert rests == {state for _, state, _ in REST}


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.sampled_from(sorted(LANES)),
    st.lists(
        st.one_of(
            st.sampled_from(EVENTS[1:]),
            st.sampled_from(EVENTS[1:6]),
            st.integers(0, 12_000),
        ),
        max_size=60,
    ),
)
def test_long_sequences_keep_the_promises_and_end_at_rest(
    name: str, events: list[Event | int]
) -> None:
    lane = Witness(LANES[name])
    for event in events:
        if isinstance(event, int):
            lane.wait(event)
        else:
            run(lane, (event,))
    run(lane, (CLEAR,))
    lane.wait(10 * (WAIT_MS + LATE_MS + QUEUED_MS))
    assert lane.open == {}
    assert lane.due_ms is None
    assert lane.state in (State.IDLE, State.BLOCKED, State.FIRE)
