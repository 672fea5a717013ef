"""Who is where: the side of each person from passages taken here and at the other lanes. Pure.

A side is what the last passage says: in, out, or (`None`) forgiven by an officer, which is as if
nobody had passed. Sides are of one local day. Those of other devices are compared by wall time,
so a side whose time nobody vouches for gives way to any whose time is trusted.

Reading sides from disk is `edge/offline_cache/lookup.py`'s; what a passage back in the same
direction means is `edge/turnstile/decision.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge.model import Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One device's last word on where a person is in a zone."""

    direction: Direction | None  # None: forgiven.
    wall_ms: int
    trusted: bool  # Its clock was, when it was said.
    passage: str = ""  # The grant it was taken on, where this device knows it.


def latest(sides: Iterable[Side]) -> Side | None:
    """The newest of today's sides. Two of one moment: the first given, so give one's own first."""
    best: Side | None = None
    for side in sides:
        if best is None or (side.trusted, side.wall_ms) > (best.trusted, best.wall_ms):
            best = side
    return best


def inside(sides: Mapping[tuple[str, str], Iterable[Side]]) -> dict[str, list[str]]:
    """Zone -> who is in it, in order of id; from (cardholder, zone) -> sides. Zones without
    anybody are left out.

    >>> here = Side(direction=Direction.IN, wall_ms=1, trusted=True)
    >>> inside({("p2", "school"): [here], ("p1", "school"): [here], ("p3", "school"): []})
    {'school': ['p1', 'p2']}
    """
    found: dict[str, list[str]] = {}
    for (cardholder_id, zone_id), said in sorted(sides.items()):
        side = latest(said)
        if side is not None and side.direction is Direction.IN:
            found.setdefault(zone_id, []).append(cardholder_id)
    return found
