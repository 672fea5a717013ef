"""Tills that the city named live, in `sync.db`: as good as heard on the school's own network,
because what they serve comes here through the city.

The naming is in a signed welcome that answers our own nonce, so nobody can say it again later; it
is timed by the monotonic clock from the hello on, and counts for nothing after a restart.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Final

from edge.model import Moment
from edge.offline_cache.outbox import schema_version
from edge.offline_cache.store import telling

LIVE_MS: Final = 60_000  # ledger.md: named live by the city in the last 60 s.
LIVE_MAX: Final = 64  # Our choice: many times the tills of the largest school.


def store_live(
    db: sqlite3.Connection, devices: Collection[str], *, asked_ms: int, boot: str
) -> None:
    """The city's newest word replaces the one before. `asked_ms`: when the hello was said."""
    db.execute("DELETE FROM live_tills")
    db.executemany(
        "INSERT INTO live_tills VALUES (?, ?, ?)",
        ((device, boot, asked_ms + LIVE_MS) for device in sorted(set(devices))[:LIVE_MAX]),
    )


@telling()
def live_tills(sync_db: sqlite3.Connection, moment: Moment) -> frozenset[str]:
    """Whom the city named, as far as it still counts."""
    if schema_version(sync_db) < 3:
        return frozenset()
    rows = sync_db.execute(
        "SELECT device FROM live_tills WHERE boot = ? AND until_ms > ?",
        (moment.boot, moment.mono_ms),
    )
    return frozenset(device for (device,) in rows)
