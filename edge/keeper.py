"""edge's housekeeping beside the taps: epochs, retention, the disk. Looks once a second, and does
one bounded piece of work at a time while nobody is at a reader.

What is done when is the rule of `offline_cache` (`epochs`, `retention`, `room`); this is the
shell that asks and carries out. A disk that refuses stops none of it for good: the next second
tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edge import logs
from edge.messages import Stream
from edge.model import CorruptData, DeviceFault, Moment, Station
from edge.offline_cache import epochs, marks, outbox, retention, till_books
from edge.offline_cache.epochs import EdgeStep
from edge.offline_cache.lookup import Cache
from edge.offline_cache.marks import Seen, StoreView
from edge.offline_cache.record import Journal
from edge.offline_cache.retention import KEPT_UNTIL, Reach
from edge.offline_cache.room import Level, Room, Use
from edge.offline_cache.salvage import Salvage
from edge.offline_cache.soundness import mark_unsound
from edge.offline_cache.store import file_id, reading

WORK_MS: Final = 1_000  # Our choice: a piece of work a second; each is a few ms and one flush.
IDLE_MS: Final = 2_000  # Our choice: nobody at a reader for so long; a queue taps faster.
PATIENCE_MS: Final = 10_000  # Our choice: what may not wait for a quiet moment waits so long.
PROBE_MS: Final = 5_000  # Our choice: a disk that refused is tried again so often.
HOURLY_MS: Final = 60 * 60_000  # Our choice: what ages by days is looked at by the hour.
NOTHING_MS: Final = 10 * 60_000  # Our choice: no room to be made now; looking costs a whole read.
PARTS_MS: Final = 5_000  # Our choice: a part that comes and goes is written so often at most.
WHY_CHARS_MAX: Final = 80
ALARM_S: Final = 7 * 24 * 60 * 60  # Our choice: a week of a technician's rounds.
# Epochs that were not opened because a device is new: somebody should know.
ALARMING: Final = ("restored_image", "damaged", "city_ahead", "lost_tail", "lost_sync")


class Keeper:
    """Of one journal. Used in the agent's thread alone."""

    def __init__(
        self,
        journal: Journal,
        cache: Cache,
        *,
        station: Station,
        count: Callable[[str], None],
        room: Room | None = None,
    ) -> None:
        self.use: Use | None = None
        self.level = Level.ROOMY
        self.wants_restart = False  # The journal is damaged: a start sets it aside.
        self._journal = journal
        self._cache = cache
        self._station = station
        self._count = count
        self._folder = journal.writer.path.parent
        self._room = Room(self._folder) if room is None else room
        self._life_at_start, self._head_at_start = journal.life, journal.head
        self._opened_by_us = ""  # Why, of the epoch opened while this process ran.
        self._salvage: Salvage | None = None
        self._seen: Mapping[str, Seen] = {}
        self._worked_ms: int | None = None
        self._quiet_ms: int | None = None
        self._hourly_ms: int | None = None
        self._probed_ms: int | None = None
        self._nothing_until_ms = 0
        self._parts: dict[str, tuple[str, str]] | None = None
        self._parts_ms: int | None = None
        self._log = logs.get("keeper")

    # --------------------------------------------------------------------- once a second

    def look(self, moment: Moment, parts: Mapping[str, tuple[str, str]] | None) -> None:
        """What others left for us, and how the disk is. `parts`: reader or lane -> state, why;
        None while they are not known yet."""
        try:
            self._look_at_disk(moment)
            view = self._cache.store_view()
            self._look_for_damage(view)
            if view is not None:
                self._seen = view.seen
                if self._station is Station.TILL:
                    self._salvage_all(moment)
                self._look_at_epochs(view, moment)
                self._look_at_store(view, moment)
            if parts is not None:
                self._tell_parts(parts, moment)
        except (DeviceFault, CorruptData) as problem:
            self._count("keeping_failed")
            self._log.error("cannot keep house now", reason=str(problem))

    def step(self, moment: Moment, *, busy: bool) -> None:
        """One piece of work, if it is time and nobody is at a reader."""
        now_ms = moment.mono_ms
        if busy or self._quiet_ms is None:
            self._quiet_ms = now_ms
        since_ms = PATIENCE_MS if self._worked_ms is None else now_ms - self._worked_ms
        idle = now_ms - self._quiet_ms >= IDLE_MS
        if since_ms < (WORK_MS if idle else PATIENCE_MS) or busy:
            return
        self._worked_ms = now_ms
        try:
            if self._journal.refused:
                self._probe(moment)
            elif not self._work_that_presses(moment) and idle:
                self._work_that_waits(moment)
        except (DeviceFault, CorruptData) as problem:
            self._count("keeping_failed")
            self._log.error("cannot keep house now", reason=str(problem))

    def status(self, moment: Moment) -> dict[str, Any]:
        """For the technician: how full the disk is, and what somebody should know."""
        use = self.use
        return {
            "level": self.level.value,
            "refused": self._journal.refused,
            "sells": not self._journal.no_money,
            "percent": None if use is None else use.percent,
            "used_bytes": None if use is None else use.used_bytes,
            "quota_bytes": None if use is None else use.quota_bytes,
            "reserve": self._room.reserve_held,
            "alarms": self.alarms(moment),
        }

    @property
    def trouble(self) -> str:
        """For the screens: damaged, refused, full, or ""."""
        if self._journal.damaged:
            return "damaged"
        if self._journal.refused:
            return "refused"
        return Level.FULL.value if self.level is Level.FULL else ""

    def alarms(self, moment: Moment) -> list[str]:
        """One line each, with what to do."""
        found = []
        aside = self._note("damaged")
        if aside and (self._folder / aside).exists():
            found.append(
                f"{self._folder / aside}: a damaged journal was set aside; keep a copy for support,"
                " then remove it"
            )
        why = self._opened_by_us or self._note("why")
        if why in ALARMING and why != "damaged" and not self._is_old_news(moment):
            found.append(f"the journal began a new epoch ({why}); tell the city which card this is")
        if self._journal.refused:
            found.append(f"{self._journal.refused}; nothing is sold, passages are counted")
        elif self.level is not Level.ROOMY:
            assert self.use is not None
            found.append(f"the disk is {self.use.percent} % full; connect to the city, or free it")
        return found

    def _is_old_news(self, moment: Moment) -> bool:
        """Whether this epoch has gone on for so long that whoever had to know does."""
        since_s = retention.first_milestone_utc_s(self._journal)
        return since_s is not None and moment.wall_ms // 1000 - since_s > ALARM_S

    # ----------------------------------------------------------------------- epochs

    def _look_at_epochs(self, view: StoreView, moment: Moment) -> None:
        """Close every life whose history is not the city's any more, before the next fact."""
        journal = self._journal
        db = journal.writer.db
        included = self._cache.included()
        for life in outbox.lives(db, Stream.MAIN):
            if life.closed_at is not None or (life.life < 0 and self._note("salvage")):
                continue  # Closed before, or on its way out of a damaged file.
            seen = view.seen.get(life.epoch, Seen())
            known = max(seen.acknowledged, seen.head)
            if seen.city_ahead or included.get(life.epoch, 0) > life.head:
                kept, why = min(seen.acknowledged, life.head), "city_ahead"
            elif known > life.head and life.life == journal.life:
                # What this process has recorded stands where the lost facts stood.
                held = self._head_at_start if life.life == self._life_at_start else life.head
                kept, why = min(seen.acknowledged, held), "lost_tail"
            else:
                continue
            self._log.error(
                "this journal is an old copy; closing its epoch", epoch=life.epoch, why=why
            )
            epochs.close_life(
                journal, life, kept=kept, moment=moment, why=why, station=self._station
            )
            self._count("epochs_closed")
            self._opened_by_us = why

    def _look_at_store(self, view: StoreView, moment: Moment) -> None:
        journal = self._journal
        step = epochs.edge_step(
            epoch=journal.epoch,
            knows=self._note("store"),
            store=view.store_id,
            store_epoch=view.epoch,
        )
        if step is EdgeStep.ADOPT:
            epochs.adopt(journal, view.store_id)
        elif step is EdgeStep.NEW_EPOCH:
            self._log.error("sync.db is another one than before; beginning a new epoch")
            meta = {"store": view.store_id, "why": "lost_sync"}
            journal.open_epoch(moment, why="lost_sync", station=self._station, meta=meta)
            self._opened_by_us = "lost_sync"

    def _look_for_damage(self, view: StoreView | None) -> None:
        """Found by either process. The file is set aside where nobody has it open: at a start."""
        path = self._journal.writer.path
        told = view is not None and view.damaged_journal == str(file_id(path))
        if told and not self._journal.damaged:
            self._journal.damaged = f"{path}: a page cannot be read any more"
        if self._journal.damaged and not self.wants_restart:
            self._log.error("the journal is damaged; starting anew", reason=self._journal.damaged)
            mark_unsound(path)
            self.wants_restart = True

    # ------------------------------------------------------------------------- disk

    def _look_at_disk(self, moment: Moment) -> None:
        use = self._room.look(self._journal.writer)
        self.use = use
        if use.level is not self.level:
            self._log.warning("disk", level=use.level.value, percent=use.percent)
            self._nothing_until_ms = 0
        self.level = use.level
        if use.level is Level.FULL:
            self._journal.full = (
                f"{self._folder}: {use.percent} % of what may be used is full; nothing is sold"
                " until facts have left: connect to the city, or free the disk"
            )
        elif self._note("salvage"):
            self._journal.full = (
                f"{self._journal.writer.path}: what was sold before the damage is not all read"
                " yet; nothing is sold until it is"
            )
        else:
            self._journal.full = ""
        if self.level is Level.FULL or self._journal.refused:
            if self._room.let_reserve_go():
                self._log.warning("the disk's reserve is given up")
        elif self.level is Level.ROOMY:
            self._room.keep_reserve()

    def _probe(self, moment: Moment) -> None:
        if self._probed_ms is not None and moment.mono_ms - self._probed_ms < PROBE_MS:
            return
        self._probed_ms = moment.mono_ms
        if self._journal.probe(moment):
            self._log.info("the disk takes facts again")

    def _make_room(self, moment: Moment) -> bool:
        if self.level is Level.ROOMY or moment.mono_ms < self._nothing_until_ms:
            return False
        acknowledged = {epoch: seen.acknowledged for epoch, seen in self._seen.items()}
        gone = retention.evict(self._journal, acknowledged)
        self._add("facts_evicted", gone)
        if not gone:
            gone = retention.fold(self._journal, acknowledged, moment)
            self._add("facts_folded", gone)
        if not gone:
            self._nothing_until_ms = moment.mono_ms + NOTHING_MS
        return gone > 0

    # ------------------------------------------------------------------------- work

    def _work_that_presses(self, moment: Moment) -> bool:
        if self._make_room(moment):
            return True
        return self._restate(moment) or self._salvage_some()

    def _restate(self, moment: Moment) -> bool:
        waiting = [x for x in outbox.lives(self._journal.writer.db, Stream.MAIN) if x.restating]
        if not waiting:
            return False
        head_seen = self._seen.get(waiting[0].epoch, Seen()).head
        return epochs.restate_some(self._journal, moment, head_seen=head_seen)

    def _salvage_some(self) -> bool:
        name = self._note("salvage")
        if not name:
            return False
        if self._salvage is None:
            path: Path = self._folder / name
            self._salvage = Salvage(self._journal, path, self._city_has)
        if not self._salvage.step():
            self._salvage = None
            self._log.info("what could be read of the damaged journal is kept", file=name)
        return True

    def _salvage_all(self, moment: Moment) -> None:
        """A till waits for it: what it has sold lowers what it may sell."""
        if self._note("salvage"):
            while self._salvage_some():
                pass
            self._look_at_disk(moment)

    def _city_has(self, epoch: str) -> int:
        """Up to which fact an epoch is of no more use here: a till's tail goes on until the money
        picture includes it."""
        acknowledged = self._seen.get(epoch, Seen()).acknowledged
        if self._station is not Station.TILL:
            return acknowledged
        return min(acknowledged, self._cache.included().get(epoch, 0))

    def _work_that_waits(self, moment: Moment) -> None:
        """Age. The oldest facts first, and by the hour what stands beside them."""
        if self._hourly_ms is not None and moment.mono_ms - self._hourly_ms < HOURLY_MS:
            return
        if self._drop_aged(moment):
            return  # There may be more: the next piece of work looks again.
        self._hourly_ms = moment.mono_ms
        retention.set_milestone(self._journal, moment)
        retention.drop_beside(self._journal, moment)

    def _drop_aged(self, moment: Moment) -> bool:
        journal = self._journal
        until = KEPT_UNTIL[retention.kept_as(self._station, Stream.MAIN)]
        with reading(journal.writer.db) as db:
            lives = outbox.lives(db, Stream.MAIN)
            aged = {life.life: retention.aged_up_to(db, life, moment) for life in lives}
        if not any(aged.values()):
            return False
        included = self._cache.included()
        for life in lives:
            current = life.life == journal.life
            reach = Reach(
                acknowledged=self._seen.get(life.epoch, Seen()).acknowledged,
                included=included.get(life.epoch, 0),
                aged=aged[life.life],
                shift_closed=till_books.closed_up_to(journal.writer.db, life.epoch),
            )
            up_to = retention.droppable_up_to(life, until, reach, current=current)
            gone = retention.drop_facts(journal.writer, life, up_to)
            self._add("facts_dropped", gone)
            if gone:
                return True
            if life.held_from > life.head and not current:
                retention.drop_life(journal.writer, life)
                return True
        return False

    # ---------------------------------------------------------------------- helpers

    def _tell_parts(self, parts: Mapping[str, tuple[str, str]], moment: Moment) -> None:
        """For sync, which tells the city what came and went."""
        told = {part: (state, why[:WHY_CHARS_MAX]) for part, (state, why) in parts.items()}
        told["disk"] = ("refused" if self._journal.refused else self.level.value, "")
        if told == self._parts or self._journal.refused:
            return
        if self._parts_ms is not None and moment.mono_ms - self._parts_ms < PARTS_MS:
            return
        self._parts_ms = moment.mono_ms
        marks.tell_parts(self._journal.writer, told)
        self._parts = told

    def _note(self, key: str) -> str:
        return self._journal.meta(key)

    def _add(self, name: str, number: int) -> None:
        for _ in range(number):
            self._count(name)
