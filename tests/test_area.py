"""Goal: the newest word on a person counts, and one whose time nobody vouches for counts last.

Method: every pair of sides of three moments against the rule; the people of a zone by example.
"""

from __future__ import annotations

from itertools import product

from edge.area import Side, inside, latest
from edge.model import Direction

WAYS = (Direction.IN, Direction.OUT, None)


def side(direction: Direction | None, wall_ms: int, *, trusted: bool = True) -> Side:
    return Side(direction=direction, wall_ms=wall_ms, trusted=trusted)


def test_every_pair_of_words() -> None:
    every = [side(way, at, trusted=ok) for way, at, ok in product(WAYS, (1, 2, 3), (True, False))]
    for own, other in product(every, repeat=2):
        found = latest((own, other))
        if own.trusted is not other.trusted:
            assert found is (own if own.trusted else other)
        elif own.wall_ms != other.wall_ms:
            assert found is max((own, other), key=lambda one: one.wall_ms)
        else:
            assert found is own, "of one moment the own word is first"
    assert latest(()) is None


def test_who_is_in_which_zone() -> None:
    sides = {
        ("p1", "school"): [side(Direction.IN, 5)],
        ("p1", "pool"): [side(Direction.IN, 6), side(Direction.OUT, 7)],
        ("p2", "school"): [side(Direction.OUT, 9), side(Direction.IN, 8)],
        ("p3", "school"): [side(Direction.IN, 8), side(None, 9)],
        ("p4", "school"): [side(Direction.IN, 1), side(Direction.OUT, 99, trusted=False)],
        ("p5", "pool"): [],
    }
    assert inside(sides) == {"school": ["p1", "p4"]}
