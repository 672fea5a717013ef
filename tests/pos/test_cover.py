"""Goal: uncovered spend is never less than what some other till may not know of, and no more than
the worst of it; a hold counts until it ends, a void never counts.

Method: seeded samples of a till's facts with holds among them; for every number another till may
have come to, what it then misses is counted anew, fact by fact.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.model import PeerTill, Spend
from edge.pos.cover import covered_up_to, has_hole, room_minor, uncovered_minor

ME, PURSE = "till-1", "meals"


def spend(sequence: int, amount_minor: int, *, ended: bool = False, own: bool = True) -> Spend:
    return Spend(
        device=ME if own else "till-2",
        epoch="e",
        sequence=sequence,
        purse=PURSE,
        amount_minor=amount_minor,
        business_date="2026-03-06",
        own=own,
        hold_ended=ended,
    )


def peer(device: str, up_to: int, *, complete: bool = True) -> PeerTill:
    return PeerTill(device=device, heard=True, complete=complete, covers={"e": up_to})


@st.composite
def tails(draw: st.DrawFn) -> list[Spend]:
    tail, held = [], 0
    for sequence in range(1, draw(st.integers(0, 8)) + 1):
        amount = draw(st.integers(1, 5))
        if held and draw(st.booleans()):
            sold = draw(st.booleans())
            tail.append(spend(sequence, 0 if sold else -held, ended=True))
            held = 0
        elif not held and draw(st.booleans()):
            tail.append(spend(sequence, amount))
            held = amount
        else:
            tail.append(spend(sequence, amount))
    return tail


@settings(derandomize=True, deadline=None, max_examples=500)
@given(
    tail=tails(),
    covers=st.lists(st.integers(0, 8), min_size=1, max_size=3),
    included=st.integers(0, 8),
)
def test_it_is_the_worst_that_another_till_may_not_know(
    tail: list[Spend], covers: list[int], included: int
) -> None:
    peers = [peer(f"till-{n}", up_to) for n, up_to in enumerate(covers, start=2)]
    vector = {(ME, "main", "e"): included}
    first = max(included, min(covers))
    worst = max(
        (sum(s.amount_minor for s in tail if s.sequence > known) for known in range(first, 10)),
        default=0,
    )
    found = uncovered_minor(PURSE, tail, vector, peers)
    assert found == max(0, worst)
    assert covered_up_to(ME, "e", vector, peers) == first
    assert room_minor(PURSE, tail, vector, peers, cap_minor=7) == max(0, 7 - found)
    assert uncovered_minor("other", tail, vector, peers) == 0
    # What a void gave back, and what peers did, changes nothing.
    more = [*tail, spend(9, -3), spend(9, 40, own=False)]
    assert uncovered_minor(PURSE, more, vector, peers) == found


def test_one_till_has_no_cap() -> None:
    assert room_minor(PURSE, [spend(1, 10**9)], {}, (), cap_minor=0) is None


@pytest.mark.parametrize("complete", [True, False])
def test_one_hole_is_enough(complete: bool) -> None:
    peers = [peer("till-2", 0), peer("till-3", 0, complete=complete)]
    assert has_hole(peers) is not complete
