"""What the money list waits for and stands on: gathered changes, applied vector, earmarks shown.

Beside `lists.py`, which publishes. Everything here is read and written in the transaction that
publishes: rows, vector and version must be of one moment.
"""

from __future__ import annotations

from typing import Final

from edge.messages import Row, RowKey, RowKind, VectorEntry, VersionMark
from hil.city.registry import Registry
from hil.city.rows import row_key
from hil.city.store import Store

VECTOR: Final = "vector"
# ledger.md: so long a device may hold facts of a closed epoch.
CLOSED_EPOCH_MS: Final = 60 * 24 * 60 * 60 * 1000


class MoneyQueue:
    """Which rows of a site's money list are to be looked at again."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._scope = f"{registry.site}/money"

    def touch(self, kind: RowKind, key: bytes, now_ms: int) -> None:
        """This row goes out with the next version, or goes away with it."""
        self._note(f"{kind}:{key.hex()}", now_ms)

    def touch_vector(self, now_ms: int) -> None:
        self._note(VECTOR, now_ms)

    def _note(self, item: str, now_ms: int) -> None:
        self._store.execute(
            "INSERT INTO unpublished VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (self._scope, item, now_ms),
        )

    def due(self, now_ms: int, gather_ms: int) -> bool:
        """Whether the oldest has waited long enough."""
        found = self._store.one(
            "SELECT MIN(since_ms) FROM unpublished WHERE scope = ?", (self._scope,)
        )
        if found is None or found[0] is None:
            return False
        # A clock that was set back must not hold balances until it catches up.
        return not 0 <= now_ms - int(found[0]) < gather_ms

    def any(self) -> bool:
        return self._store.one(
            "SELECT 1 FROM unpublished WHERE scope = ?", (self._scope,)
        ) is not None  # fmt: skip

    def changes(self, now_ms: int) -> tuple[list[Row], list[RowKey]]:
        """The rows as they should be, and those that should be no more."""
        upserts: list[Row] = []
        removes: list[RowKey] = []
        for (item,) in self._store.rows(
            "SELECT item FROM unpublished WHERE scope = ? ORDER BY item", (self._scope,)
        ):
            if item == VECTOR:
                continue
            word, _, data = item.partition(":")
            kind, key = RowKind(word), bytes.fromhex(data)
            row = self._registry.money_row(kind, key, now_ms)
            if row is None:
                removes.append(row_key(kind, key))
            else:
                upserts.append(row)
        return upserts, removes

    def clear(self) -> None:
        self._store.execute("DELETE FROM unpublished WHERE scope = ?", (self._scope,))


def applied_vector(store: Store, site: str, now_ms: int) -> tuple[VectorEntry, ...]:
    """For every till of the site, every epoch: up to where the balances include `main`.

    A till that has left the roster counts on: others may hold its facts. An epoch that another one
    of the same till followed leaves the vector when it was last heard of 60 days ago.
    """
    found = store.rows(
        "SELECT c.device, c.stream, c.epoch, c.up_to FROM cursor c JOIN device d USING (device)"
        " WHERE c.stream = 'main' AND d.site = ? AND d.station = 'till'"
        " AND (c.moved_ms > ? OR NOT EXISTS (SELECT 1 FROM cursor n WHERE n.device = c.device"
        "  AND n.stream = 'main' AND n.moved_ms > c.moved_ms))"
        " ORDER BY c.device, c.epoch",
        (site, now_ms - CLOSED_EPOCH_MS),
    )
    return tuple(VectorEntry(*row) for row in found)


def show_earmarks(store: Store, version: VersionMark) -> None:
    """This version shows what was earmarked before it: from here on tills can confirm it."""
    store.execute(
        "UPDATE debit SET list_epoch = ?, number = ? WHERE state = 'earmarked' AND number IS NULL",
        (version.list_epoch, version.number),
    )
