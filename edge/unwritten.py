"""What happened while the disk refused: the door goes on and counts, and the first fact afterwards
says how many are missing.
"""

from __future__ import annotations

from collections.abc import Callable

from edge import logs
from edge.messages import Unrecorded
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache.record import Journal


class Unwritten:
    """Of one direction of a lane, or of an admission's readers without one."""

    def __init__(self, journal: Journal, count: Callable[[str], None], *, where: str) -> None:
        self.counts: dict[str, int] = {}  # By kind of fact.
        self._journal = journal
        self._count = count
        self._grants = 0
        self._log = logs.get(where)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def note(self, kind: str, fault: Exception) -> None:
        """One fact of this kind was not taken."""
        if not self.counts:
            self._log.error("cannot record; it goes on and is counted", reason=str(fault))
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._count("unrecorded")

    def note_grant(self, kind: str, fault: Exception) -> str:
        """A grant that the disk refused stands all the same: its name for the lane."""
        self.note(kind, fault)
        self._grants += 1
        return f"{self._journal.epoch}.unrecorded-{self._grants}"

    def step(self, moment: Moment) -> None:
        """Declare them as soon as the disk takes it."""
        if not self.counts:
            return
        counts = dict(self.counts)
        try:
            with self._journal.record(moment) as declaring:
                declaring.add(Unrecorded(**declaring.stamp(moment), counts=counts))
        except (DeviceFault, CorruptData):
            return  # Still refused; said once already.
        self.counts.clear()
        self._log.info("recording again", missing=sum(counts.values()))
