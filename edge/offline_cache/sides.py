"""Where people are, on disk: own sides in `journal.db`, the other lanes' in `sync.db`.

Which facts change sides is `moves.py`'s. Own sides are of the local
date they were recorded on; a peer's count when they are of today and its clock was trusted.
What a side means is `edge/area.py`'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Final

from edge.area import Side
from edge.model import Direction, Moment, Station
from edge.offline_cache.moves import TRUSTED
from edge.offline_cache.outbox import schema_version
from edge.offline_cache.peers import peer_states, peers_sides

LANE_STATIONS: Final = (Station.ENTRANCE, Station.PRESCHOOL)


def own_side(
    journal: sqlite3.Connection, cardholder_id: str, zone_id: str, moment: Moment
) -> Side | None:
    """This device's own word on a person; None where it has none of today."""
    row = journal.execute(
        "SELECT direction, wall_ms, local_date, trusted, passage FROM sides"
        " WHERE cardholder_id = ? AND zone_id = ?",
        (cardholder_id, zone_id),
    ).fetchone()
    if row is None or row[2] != moment.local_date:
        return None  # lane.md: sides are forgotten at local midnight.
    return _side(row[0], row[1], trusted=bool(row[3]), passage=row[4])


def peers_of(
    sync_db: sqlite3.Connection | None, cardholder_id: str, zone_id: str, moment: Moment
) -> tuple[Side, ...]:
    """What other lanes say of a person today. Whose time cannot be compared says nothing."""
    if sync_db is None or not moment.clock_trusted:
        return ()
    return tuple(
        Side(direction=said.direction, wall_ms=said.wall_ms, trusted=True, passage=said.passage)
        for said in peers_sides(sync_db, cardholder_id, zone_id)
        if said.clock in TRUSTED and said.wall_ms >= moment.day_start_ms
    )


def all_sides(
    journal: sqlite3.Connection, sync_db: sqlite3.Connection | None, moment: Moment
) -> dict[tuple[str, str], list[Side]]:
    """Today's sides of everybody: (cardholder, zone) -> own first, then the peers'."""
    found: dict[tuple[str, str], list[Side]] = {}
    own = journal.execute(
        "SELECT cardholder_id, zone_id, direction, wall_ms, trusted FROM sides"
        " WHERE local_date = ?",
        (moment.local_date,),
    )
    for cardholder, zone, direction, wall_ms, trusted in own:
        side = _side(direction, wall_ms, trusted=bool(trusted))
        found.setdefault((cardholder, zone), []).append(side)
    if sync_db is None or not moment.clock_trusted or schema_version(sync_db) < 2:
        return found
    heard = sync_db.execute(
        "SELECT cardholder_id, zone_id, direction, wall_ms FROM peer_sides"
        " WHERE wall_ms >= ? AND clock IN (?, ?, ?)",
        (moment.day_start_ms, *(quality.value for quality in TRUSTED)),
    )
    for cardholder, zone, direction, wall_ms in heard:
        side = _side(direction, wall_ms, trusted=True)
        found.setdefault((cardholder, zone), []).append(side)
    return found


def unknown_lanes(
    sync_db: sqlite3.Connection, devices: Collection[str], moment: Moment
) -> set[str]:
    """Of these lanes, who is not heard, or has said that it holds passages which are not known
    here."""
    if schema_version(sync_db) < 2:
        return set(devices)
    known = {
        (device, epoch): side
        for device, epoch, side in sync_db.execute("SELECT device, epoch, side FROM peer_lives")
    }
    states = peer_states(sync_db, moment)
    return {
        device
        for device in devices
        if (state := states.get(device)) is None
        or not state.heard
        or any(known.get((device, life.epoch), 0) < life.side for life in state.lives)
    }


def _side(direction: str, wall_ms: int, *, trusted: bool, passage: str = "") -> Side:
    said = Direction(direction) if direction else None
    return Side(direction=said, wall_ms=wall_ms, trusted=trusted, passage=passage)
