"""Entries that something is still to be said of, as the files on this device have them: guardians
who have not said for whom they came, and today's visits to a museum. Read-only; `moves.py` writes
what is ours with its facts, sync what other lanes say.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from edge.area import latest
from edge.model import Direction, Moment
from edge.offline_cache.peers import was_said
from edge.offline_cache.sides import own_side, peers_of
from edge.offline_cache.store import telling


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEntry:
    """Somebody is inside by this grant, and no handover names it."""

    cardholder_id: str
    zone_id: str
    access: str
    wall_ms: int  # When they came in.
    told: bool  # The officer was told that nothing was said.


@telling()
def open_entry(
    journal: sqlite3.Connection,
    heard: sqlite3.Connection | None,
    cardholder_id: str,
    zone_id: str,
    moment: Moment,
) -> OpenEntry | None:
    """Of one person in one zone today. `heard`: what other lanes say, while they can be heard;
    None: this device's own word alone."""
    own = own_side(journal, cardholder_id, zone_id, moment)
    others = peers_of(heard, cardholder_id, zone_id, moment)
    side = latest(others if own is None else (own, *others))
    if side is None or side.direction is not Direction.IN or not side.passage:
        return None
    row = journal.execute(
        "SELECT chosen FROM handovers WHERE guardian = ? AND access = ?",
        (cardholder_id, side.passage),
    ).fetchone()
    if row is not None and row[0]:
        return None
    if heard is not None and was_said(heard, cardholder_id, side.passage):
        return None
    return OpenEntry(
        cardholder_id=cardholder_id,
        zone_id=zone_id,
        access=side.passage,
        wall_ms=side.wall_ms,
        told=row is not None,
    )


@telling()
def is_over(
    heard: sqlite3.Connection,
    guardian_id: str,
    zone_id: str,
    access: str,
    since_wall_ms: int,
    moment: Moment,
) -> bool:
    """Whether another lane has ended what began here at this time: it was said there, or they went
    out there, or came in anew."""
    if was_said(heard, guardian_id, access):
        return True
    others = peers_of(heard, guardian_id, zone_id, moment)
    return any(side.wall_ms > since_wall_ms and side.passage != access for side in others)


@telling()
def entered(journal: sqlite3.Connection, moment: Moment) -> list[tuple[str, str]]:
    """(cardholder, zone) of everybody who came in here today and is in by this device's own word,
    children and staff among them: whose they are the list tells."""
    rows = journal.execute(
        "SELECT cardholder_id, zone_id FROM sides WHERE local_date = ? AND direction = ?"
        " AND passage <> ''",
        (moment.local_date, Direction.IN.value),
    )
    return rows.fetchall()


@telling()
def visit(
    journal: sqlite3.Connection, credential_id: str, moment: Moment
) -> tuple[str, int] | None:
    """(tariff, wall ms) of this card's last admission here today."""
    row = journal.execute(
        "SELECT tariff, wall_ms FROM visits WHERE credential_id = ? AND local_date = ?",
        (credential_id, moment.local_date),
    ).fetchone()
    return None if row is None else (str(row[0]), int(row[1]))
