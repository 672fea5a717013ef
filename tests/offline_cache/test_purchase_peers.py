"""Goal: what is known of the other tills counts only where it is true: behind a base that went back
there is a hole, and a new disk in an old till has forgotten what that till reported.

Method: rows of the school's tills as edge puts them together, over small reports and vectors.
"""

from __future__ import annotations

import pytest

from edge.messages import PeerLife, RosterRow
from edge.model import Station
from edge.offline_cache.peers import Known, PeerState, is_complete
from edge.offline_cache.purchases import Above, peer_tills

ME, OTHER = "till-1", "till-2"
ROSTER = {name: RosterRow(station=Station.TILL) for name in (ME, OTHER)}


def state(head: int) -> PeerState:
    return PeerState(
        device=OTHER,
        heard=True,
        store="s",
        lives=(PeerLife(epoch="e", held_from=1, head=head),),
        base=None,
        covers={},
    )


def known(after: int, up_to: int) -> Known:
    return Known(store="s", up_to={(OTHER, "e"): up_to}, after={(OTHER, "e"): after})


@pytest.mark.parametrize(
    ("after", "up_to", "base", "whole"),
    [
        (0, 9, 0, True),
        (0, 8, 0, False),
        (0, 8, 9, True),  # The base has what is not held.
        (5, 9, 5, True),
        (5, 9, 7, True),
        (5, 9, 4, False),  # Held behind 5, and the base includes 4: the fifth is nowhere.
        (5, 9, 0, False),  # A city that was restored.
    ],
)
def test_held_facts_count_from_where_the_base_ends(
    after: int, up_to: int, base: int, whole: bool
) -> None:
    vector = {(OTHER, "main", "e"): base}
    assert is_complete(state(9), known(after, up_to), vector) is whole


def test_what_was_seen_is_the_same_though_old_facts_were_dropped() -> None:
    """Else every sweep would be news to all peers."""
    assert known(0, 9) == known(5, 9) != known(0, 8)


@pytest.mark.parametrize(
    ("own", "named", "waits"),
    [
        (("a",), (), False),  # The first life: it never told that it held something.
        (("a",), ("a",), False),
        (("a", "b"), (), True),
        (("a", "b"), ("a",), True),
        (("b",), ("a",), True),  # A new disk, of which the city has heard nothing yet,
        (("b",), ("a", "b"), True),  # and then it has.
    ],
)
def test_a_till_that_may_have_forgotten_waits_for_a_report_of_each(
    own: tuple[str, ...], named: tuple[str, ...], waits: bool
) -> None:
    vector = {(ME, "main", epoch): 3 for epoch in named} | {(OTHER, "main", "e"): 9}
    for states, complete in (({}, not waits), ({OTHER: state(9)}, True)):
        above = Above(states=states, known=Known(store="s", up_to={}), epochs=frozenset(own))
        (other,) = peer_tills(ROSTER, ME, above, vector)
        assert (other.device, other.complete) == (OTHER, complete)
