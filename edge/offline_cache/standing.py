"""What stands apart from facts: lockdown in `journal.db`; in `sync.db` the orders that sync answers
by itself, and the desired configuration.

Facts are pruned one day; what still holds must not go with them. Each value is one row of `meta`,
written in the transaction of the fact that tells of it.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from edge.model import CorruptData
from edge.offline_cache.store import Connection, telling

LOCKDOWN: Final = "lockdown"
ANSWERED: Final = "orders_answered"
OPEN: Final = "orders_open"
CONFIGURATION: Final = "configuration"
LOG_LEVEL: Final = "log_level"


def _get(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _set(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


# ---------------------------------------------------------------------------- journal.db


@telling()
def lockdown(journal: Connection) -> bool:
    """Whether the city locked this device down and has not lifted it."""
    return _get(journal, LOCKDOWN) == "on"


def set_lockdown(journal: Connection, on: bool) -> None:
    """In the caller's transaction: with the fact that says so."""
    _set(journal, LOCKDOWN, "on" if on else "off")


# ------------------------------------------------------------------------------- sync.db


@telling()
def orders_after_answered(sync: Connection) -> list[tuple[int, bytes]]:
    """Orders in the inbox that sync has not looked at yet: (counter, signed payload)."""
    answered = _get(sync, ANSWERED)
    return sync.execute(
        "SELECT counter, payload FROM orders WHERE counter > ? ORDER BY counter",
        (0 if answered is None else int(answered),),
    ).fetchall()


def set_answered(sync: Connection, counter: int) -> None:
    """In the caller's transaction: sync has looked at all orders up to this one."""
    _set(sync, ANSWERED, str(counter))


@telling()
def open_orders(sync: Connection) -> dict[int, str]:
    """Accepted by sync, and nothing has come of them yet: counter -> word."""
    text = _get(sync, OPEN)
    try:
        return {} if text is None else msgspec.json.decode(text, type=dict[int, str])
    except msgspec.MsgspecError as error:
        raise CorruptData(f"orders begun, in sync.db: {error}") from error


def set_open_orders(sync: Connection, orders: dict[int, str]) -> None:
    """In the caller's transaction."""
    _set(sync, OPEN, msgspec.json.encode(orders).decode())


@telling()
def configuration(sync: Connection) -> bytes | None:
    """What `sync/desired.py` remembers, as it wrote it."""
    text = _get(sync, CONFIGURATION)
    return None if text is None else text.encode()


@telling()
def log_level(sync: Connection) -> str:
    """The log level of the desired configuration in force, for both processes; "" for none."""
    return _get(sync, LOG_LEVEL) or ""


def set_configuration(sync: Connection, state: bytes, *, log_level: str) -> None:
    """In the caller's transaction. `log_level` stands apart, for edge reads it too."""
    _set(sync, CONFIGURATION, state.decode())
    _set(sync, LOG_LEVEL, log_level)
