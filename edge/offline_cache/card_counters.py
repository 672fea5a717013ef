"""The last counter seen of each card that makes its own messages (NTAG 424 SUN, tier 4).

A message is good once: its counter must be strictly greater than any seen here before. It is stored
in the transaction of the tap's fact, so before the relay moves or a sale is lit. Where the disk
refuses, the counter is kept in memory, so that a message is good once at least until a restart.
"""

from __future__ import annotations

from edge.model import CorruptData, DeviceFault
from edge.offline_cache.store import Connection, telling

COUNTER_MAX = 0xFF_FF_FF  # NT4H2421Gx 9.3: SDMReadCtr has 24 bits.


class CardCounters:
    """Of one journal. Used in the agent's thread alone."""

    def __init__(self, journal: Connection) -> None:
        self._journal = journal
        self._unwritten: dict[str, int] = {}  # Seen, and not on disk yet.

    def is_replayed(self, credential_id: str, counter: int) -> bool:
        """Whether a message with this counter, or a later one, was seen before. It is seen now.

        Where that cannot be told it counts as seen: such a card opens nothing by itself.
        """
        assert 0 <= counter <= COUNTER_MAX
        try:
            last = self.last_seen(credential_id)
        except (CorruptData, DeviceFault):
            return True
        self._unwritten[credential_id] = max(counter, last)
        return counter <= last

    @telling()
    def last_seen(self, credential_id: str) -> int:
        """The highest counter seen of this card; -1 for none."""
        row = self._journal.execute(
            "SELECT counter FROM card_counters WHERE credential_id = ?", (credential_id,)
        ).fetchone()
        on_disk = -1 if row is None else int(row[0])
        return max(on_disk, self._unwritten.get(credential_id, -1))

    @telling()
    def write(self, db: Connection) -> None:
        """Into the open transaction of a tap; `written` when that was committed."""
        db.executemany(
            "INSERT INTO card_counters VALUES (?, ?) ON CONFLICT (credential_id)"
            " DO UPDATE SET counter = max(counter, excluded.counter)",
            self._unwritten.items(),
        )

    def written(self) -> None:
        self._unwritten.clear()
