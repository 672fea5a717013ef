"""What a fact of a lane changes in `journal.db` beside itself. In the fact's own transaction.

Sides (a passage taken, a forgiveness, a handover of children), what a guardian said, a lockdown,
a visit to a museum: each follows from the fact alone, so nothing can be recorded half. `moves` also
serves sync, for what other lanes say.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from edge.messages import (
    AccessFact,
    Fact,
    Forgiven,
    Handover,
    HandoverOpen,
    LockdownFact,
    PassageFact,
)
from edge.model import ClockQuality, Direction, HandoverKind, PassageResult
from edge.offline_cache import standing

TRUSTED: Final = (ClockQuality.NTP, ClockQuality.CITY, ClockQuality.RTC)
MOVING: Final = (PassageResult.TAKEN, PassageResult.FIRE_RELEASE)
_HANDED: Final = {HandoverKind.BROUGHT: Direction.IN, HandoverKind.COLLECTED: Direction.OUT}


def moves(fact: Fact) -> list[tuple[str, str, Direction | None]]:
    """Whom a fact puts where: (cardholder, zone, direction; None is forgiven)."""
    match fact:
        case PassageFact(cardholder=str(cardholder)) if fact.result in MOVING:
            return [(cardholder, fact.zone, fact.direction)]
        case Forgiven():
            return [(fact.cardholder, fact.zone, None)]
        case Handover() if fact.what in _HANDED:
            return [(child, fact.zone, _HANDED[fact.what]) for child in fact.children]
        case _:
            return []


def change(db: sqlite3.Connection, fact: Fact, *, local_date: str) -> None:
    """All that this fact changes of a lane's tables."""
    _put_sides(db, fact, local_date)
    match fact:
        case LockdownFact():
            standing.set_lockdown(db, fact.on)
        case Handover() | HandoverOpen():
            db.execute(
                "INSERT OR REPLACE INTO handovers VALUES (?, ?, ?, ?)",
                (fact.guardian, fact.access, int(isinstance(fact, Handover)), local_date),
            )
        case AccessFact(tariff=tariff) if tariff is not None:
            db.execute(
                "INSERT OR REPLACE INTO visits VALUES (?, ?, ?, ?)",
                (fact.credential, tariff.value, fact.wall_ms, local_date),
            )
        case _:
            pass


def _put_sides(db: sqlite3.Connection, fact: Fact, local_date: str) -> None:
    passage = fact.passage if isinstance(fact, PassageFact) else None
    for cardholder, zone, direction in moves(fact):
        db.execute(
            "INSERT OR REPLACE INTO sides (cardholder_id, zone_id, direction, wall_ms, local_date,"
            " trusted, passage) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(cardholder, zone, "" if direction is None else direction.value),
                *(fact.wall_ms, local_date, int(fact.clock in TRUSTED), passage or ""),
            ),
        )
