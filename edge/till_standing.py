"""What of a till outlives its process: open holds, a sale whose light nobody saw, the base told of.

At start, before the first sale, open holds are released and an unlit sale is undone: it is not
charged. A disk that refuses is asked again, and nothing is sold until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge import logs
from edge.messages import BaseSeen, HoldReleased, SaleFact, VersionMark, Void
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache import till_books
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal, JournalRecording
from edge.pos.decision import HeldAmount
from edge.till_facts import turned

BASE_SEEN_MS: Final = 5_000  # Our choice: on its own so often at most; a sale tells it too.
# The step in which a card is read ends before the pages are answered: its commit is waited for, the
# one that notes the light is not.
STEPS_BEFORE_LIT: Final = 1
Found = tuple[VersionMark, str]


class TillStanding:
    """Of one till, in its journal."""

    def __init__(self, journal: Journal, cache: Cache, count: Callable[[str], None]) -> None:
        self._journal = journal
        self._cache = cache
        self._count = count
        self._ready = False
        self._unlit = False
        self._steps = 0  # Begun since the light came on.
        self._told = journal.meta(till_books.BASE_SEEN)
        self._told_ms: int | None = None
        self._log = logs.get("till")

    # ---------------------------------------------------------------------- at start

    def ready(self, moment: Moment) -> bool:
        """Whether nothing is open that has to be ended first; ends what is."""
        if self._ready:
            return True
        db = self._journal.writer.db
        try:
            holds, unlit = till_books.open_holds(db), till_books.shift_sales(db, unlit=True)
            if holds or unlit:
                with self._journal.record(moment) as recording:
                    for hold in holds:
                        self._add_release(recording, moment, hold, "restart")
                    for key in unlit:
                        self._undo(recording, moment, key)
                self._count("set_right")
        except (DeviceFault, CorruptData) as fault:
            self._log.error("cannot set right what was open, so nothing is sold", reason=str(fault))
            return False
        self._ready, self._unlit = True, False
        return True

    def leave_open(self) -> None:
        """Something could not be ended now: before the next sale it is."""
        self._ready = False

    def release(self, held: HeldAmount, account_id: str, why: str, moment: Moment) -> None:
        """End a hold that was not sold; later, if the disk refuses now."""
        hold = till_books.OpenHold(epoch=held.epoch, sequence=held.sequence, account_id=account_id)
        try:
            with self._journal.record(moment) as recording:
                self._add_release(recording, moment, hold, why)
        except (DeviceFault, CorruptData) as fault:
            self.leave_open()
            self._log.error("cannot release a hold now", reason=str(fault))

    def _add_release(
        self, recording: JournalRecording, moment: Moment, hold: till_books.OpenHold, why: str
    ) -> None:
        recording.add(
            HoldReleased(
                **recording.stamp(moment),
                hold_epoch=hold.epoch,
                hold=hold.sequence,
                account=hold.account_id,
                why=why,
            )
        )

    def _undo(self, recording: JournalRecording, moment: Moment, key: tuple[str, int]) -> None:
        sale = till_books.fact_at(self._journal.writer.db, *key)
        if not isinstance(sale, SaleFact):
            return
        recording.add(
            Void(
                **recording.stamp(moment),
                sale_epoch=key[0],
                sale=key[1],
                account=sale.account,
                postings=turned(sale.postings),
                business_date=sale.business_date,
                why="unlit",
            )
        )

    # ---------------------------------------------------------------------- the light

    @property
    def unlit(self) -> bool:
        """There is a light still to be noted: the next step is due."""
        return self._unlit

    def sold(self) -> None:
        """A sale is on disk; its light comes now, and every screen shows it behind this step."""
        self._unlit, self._steps = True, 0

    def lit(self, *, ending: bool = False) -> None:
        """The light is on: what was sold stands. A step after the tap, so that nobody waits for
        it; `ending`: there is no later step."""
        if not self._unlit:
            return
        self._steps += 1
        if self._steps <= STEPS_BEFORE_LIT and not ending:
            return
        try:
            with self._journal.writer.transaction() as db:
                till_books.set_lit(db)
        except (DeviceFault, CorruptData) as fault:
            self._log.error("cannot note that a sale was shown", reason=str(fault))
            return  # Asked again in the next step.
        self._unlit = False

    # ---------------------------------------------------------------------- the base

    def new_base(self) -> Found | None:
        """The money picture in force, if its rows are not told of yet. A vector alone that went on
        is nothing to tell: or every telling would make the next picture, and that one the next."""
        found = self._cache.money_rows()
        return None if found is None or found[1] == self._told else found

    def tell(self, recording: JournalRecording, moment: Moment, found: Found) -> None:
        """Behind whatever was decided by an older one."""
        recording.add(BaseSeen(**recording.stamp(moment), money=found[0]))
        till_books.told_base(recording.db, found[1])

    def told(self, found: Found, moment: Moment) -> None:
        """It is on disk."""
        self._told, self._told_ms = found[1], moment.mono_ms

    def look(self, moment: Moment) -> None:
        """A new base is told of on its own, if no sale tells of it."""
        if self._told_ms is not None and moment.mono_ms - self._told_ms < BASE_SEEN_MS:
            return
        found = self.new_base()
        if found is None:
            return
        try:
            with self._journal.record(moment) as recording:
                self.tell(recording, moment, found)
        except (DeviceFault, CorruptData) as fault:
            self._log.error("cannot tell of the base", reason=str(fault))
            return
        self.told(found, moment)
