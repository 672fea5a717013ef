"""What stands of a lane's hardware in `journal.db`: fire, a housing that is open, since when held.

Each is one row of `meta`, written with the fact that tells of it, and follows from that fact alone.
Only the heartbeat of a holding line has no fact: it says until when the lane is known to have been
held, so that the next start can tell how long it stood free (`edge/lane.py`).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from edge.messages import (
    FireFact,
    FireWhat,
    Stream,
    StreamOpened,
    Tamper,
    UnattendedRelease,
    decode_fact,
)
from edge.model import CorruptData
from edge.offline_cache.store import Connection, telling

FIRE: Final = "fire "  # + lane id: alarm or clear; no row: no fire, or reset.
TAMPER: Final = "tamper "  # + line id: a row while the housing is open.
HELD: Final = "held "  # + lane id: wall_ms, and how that is known.
AT_LEAST: Final = "at least"  # It was held then, and whatever was recorded later was too.
EXACTLY: Final = "exactly"  # It was let go then.


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Until when a lane is known to have been held."""

    wall_ms: int
    exact: bool


@telling()
def fire(journal: Connection, lane: str) -> FireWhat | None:
    """`ALARM` or `CLEAR` while a fire is not reset; None where there is none."""
    found = _get(journal, FIRE + lane)
    return None if found is None else FireWhat(found)


@telling()
def tampered(journal: Connection, line: str) -> bool:
    """Whether this housing is open as far as the record knows."""
    return _get(journal, TAMPER + line) is not None


@telling()
def held(journal: Connection, lane: str) -> Held | None:
    """None where it was never held, or a fire let it go."""
    found = _get(journal, HELD + lane)
    if found is None:
        return None
    wall_ms, _, how = found.partition(" ")
    if not wall_ms.lstrip("-").isdigit() or how not in (AT_LEAST, EXACTLY):
        raise CorruptData(f"journal.db: {HELD}{lane} is {found!r:.40}")
    return Held(wall_ms=int(wall_ms), exact=how == EXACTLY)


@telling()
def last_recorded_ms(journal: Connection) -> int | None:
    """Wall time of the newest fact of the newest epoch: its agent was alive then. An epoch's own
    opening says nothing of the agent before it."""
    row = journal.execute(
        "SELECT body FROM facts JOIN lives USING (life) WHERE stream = ? AND sequence = head"
        " ORDER BY life DESC LIMIT 1",
        (Stream.MAIN.value,),
    ).fetchone()
    if row is None:
        return None
    try:
        fact = decode_fact(row[0])
    except CorruptData:
        return None  # Of a kind that a newer version wrote.
    return None if isinstance(fact, StreamOpened) else fact.wall_ms


def note(db: sqlite3.Connection, fact: FireFact | Tamper | UnattendedRelease) -> None:
    """In the caller's transaction: what this fact leaves standing."""
    match fact:
        case FireFact(what=FireWhat.RESET):
            _forget(db, FIRE + fact.lane)
        case FireFact():
            _set(db, FIRE + fact.lane, fact.what.value)
            _forget(db, HELD + fact.lane)  # Free from here on, and everybody knows why.
        case Tamper(active=True):
            _set(db, TAMPER + fact.line, "open")
        case Tamper():
            _forget(db, TAMPER + fact.line)
        case UnattendedRelease():
            set_held(db, fact.lane, fact.to_wall_ms, exact=True)


def set_held(db: sqlite3.Connection, lane: str, wall_ms: int, *, exact: bool) -> None:
    """In the caller's transaction."""
    _set(db, HELD + lane, f"{wall_ms} {EXACTLY if exact else AT_LEAST}")


def _get(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _set(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _forget(db: sqlite3.Connection, key: str) -> None:
    db.execute("DELETE FROM meta WHERE key = ?", (key,))
