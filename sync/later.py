"""Deltas of one list that cannot be applied yet: remembered by their base, within bounds. Pure."""

from __future__ import annotations

from typing import Final

from edge.messages import Delta, VersionMark

LATER_MAX: Final = 4_096  # Our choice: deltas remembered per scope,
LATER_BYTES_MAX: Final = 8 * 1024 * 1024  # and their bytes; a city makes a snapshot long before.
ROW_BYTES: Final = 128  # What one row or key costs in memory beside its bytes, roughly.


def rank(version: VersionMark | None) -> tuple[int, int]:
    """A version as something to compare; nothing held is below everything."""
    return (-1, -1) if version is None else (version.list_epoch, version.number)


class Later:
    """Of one scope. What there is no room for is asked for again when its turn comes."""

    def __init__(self) -> None:
        self.top = rank(None)  # The highest version a delta ever spoke of.
        self._by_base: dict[VersionMark, Delta] = {}
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self._by_base) >= LATER_MAX or self._bytes >= LATER_BYTES_MAX

    def on(self, base: VersionMark) -> Delta | None:
        """The delta that leads on from a version."""
        return self._by_base.get(base)

    def chain(self, version: VersionMark) -> list[Delta]:
        """Those that follow each other from a version on."""
        found: list[Delta] = []
        while (delta := self._by_base.get(version)) is not None:
            found.append(delta)
            version = delta.target
        return found

    def keep(self, delta: Delta) -> bool:
        """False for one that is here already. When there is no room, the nearest are worth most."""
        if delta.base in self._by_base:
            return False
        self.top = max(self.top, rank(delta.target))
        size = _size_of(delta)
        while self._by_base and (
            len(self._by_base) >= LATER_MAX or self._bytes + size > LATER_BYTES_MAX
        ):
            farthest = max(self._by_base, key=rank)
            if rank(farthest) <= rank(delta.base):
                return True
            self.forget(farthest)
        self._by_base[delta.base] = delta
        self._bytes += size
        return True

    def forget(self, base: VersionMark) -> None:
        gone = self._by_base.pop(base, None)
        if gone is not None:
            self._bytes -= _size_of(gone)

    def forget_below(self, oldest: tuple[int, int]) -> None:
        for base in [base for base in self._by_base if rank(base) < oldest]:
            self.forget(base)


def _size_of(delta: Delta) -> int:
    rows = sum(len(row.key) + len(row.body) + ROW_BYTES for row in delta.upserts)
    return rows + sum(len(gone.key) + ROW_BYTES for gone in delta.removes) + ROW_BYTES
