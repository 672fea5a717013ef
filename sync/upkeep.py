"""sync's housekeeping, once a second: its own streams' epochs and age, the journal it belongs
with, and what of the station went or came back, as facts in `diag`.

The rules are `offline_cache`'s (`epochs`, `retention`); this is the shell that asks and carries
out. `diag` is a ring: its oldest facts go though nobody acknowledged them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from edge import logs
from edge.lasting import Lasting
from edge.messages import PartState
from edge.model import CorruptData, DeviceFault, Moment, Station
from edge.offline_cache import epochs, marks, outbox, retention
from edge.offline_cache.epochs import StoreStep
from edge.offline_cache.record import StreamWriter
from edge.offline_cache.retention import KEPT_UNTIL, Reach
from edge.offline_cache.store import Writer, reading
from sync.uplink import Uplink

TICK_MS: Final = 1_000  # house.md: a look every second.
HOURLY_MS: Final = 60 * 60_000  # Our choice: what ages by days is looked at by the hour.
LINK: Final = "link"  # The parts of the station that sync itself sees: this,
LIST: Final = "list "  # and lists that were lost, by scope.
WHY_CHARS_MAX: Final = 80
# Our choice: a link that comes and goes writes a fact a minute; what changed in between is told
# as it is then.
PART_MS: Final = 60_000


class Upkeep:
    """Of one `sync.db`. `agent` and `diag` are the one writer of each stream."""

    def __init__(
        self,
        writer: Writer,
        *,
        uplink: Uplink,
        agent: StreamWriter,
        diag: StreamWriter,
        station: Station,
        moment: Moment,
    ) -> None:
        self.counters: dict[str, int] = {}
        self._writer = writer
        self._uplink = uplink
        self._streams = (agent, diag)
        self._diag = diag
        self._station = station
        self._told = marks.parts(writer.db)
        self._told_ms: dict[str, int] = {}
        self._lost: Mapping[str, str] = {}  # Lists that are being fetched again: scope -> why.
        self._ticked_ms: int | None = None
        self._hourly_ms: int | None = None
        self._failing = Lasting()
        self._log = logs.get("upkeep")
        self._begin(moment)

    def _begin(self, moment: Moment) -> None:
        """A store that came from elsewhere begins its streams anew: this machine has not written
        what the old epochs hold."""
        why = epochs.meta(self._writer.db, "reopen")
        for stream in self._streams:
            if why or not stream.epoch:
                stream.open_epoch(moment, why=why or "new_store", station=self._station)
        if why:
            epochs.forget_note(self._writer, "reopen")

    def tick(
        self,
        moment: Moment,
        *,
        up: bool,
        why: str,
        lost: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`up`: the city greets us; `why` it does not; `lost` lists, scope -> why. Cheap until a
        second has gone by."""
        if self._ticked_ms is not None and moment.mono_ms - self._ticked_ms < TICK_MS:
            return
        self._ticked_ms = moment.mono_ms
        self._lost = lost()
        try:
            self._pair()
            self._close_old_copies(moment)
            self._tell_parts(moment, up=up, why=why)
            self._drop(moment)
            self._failing.over()
        except (DeviceFault, CorruptData) as problem:
            self._count("keeping_failed")
            if self._failing.is_news(str(problem), now_ms=moment.mono_ms):
                self._log.error("cannot keep house now", reason=str(problem))

    def status(self) -> dict[str, object]:
        return {
            "store": epochs.meta(self._writer.db, "store_id"),
            "epoch": epochs.meta(self._writer.db, "epoch"),
        }

    def alarms(self) -> list[str]:
        """One line each, with what to do."""
        found = [
            f"list {scope} is lost, and fetched again: {why}; connect to the city"
            for scope, why in self._lost.items()
        ]
        aside = epochs.meta(self._writer.db, "damaged")
        path = self._writer.path.with_name(aside) if aside else None
        if path is not None and path.exists():
            found.append(
                f"{path}: a damaged sync.db was set aside; keep a copy for support, then remove it"
            )
        return found

    # ------------------------------------------------------------------------- helpers

    def _pair(self) -> None:
        """Journal and store name each other; a new one of either makes a new one of the other."""
        journal = self._uplink.journal.notes()
        if journal is None:
            return
        epoch, knows = journal
        step = epochs.store_step(
            epoch=epoch,
            knows=knows,
            store=epochs.meta(self._writer.db, "store_id"),
            store_epoch=epochs.meta(self._writer.db, "epoch"),
        )
        if step is not StoreStep.NOTHING:
            epochs.pair(self._writer, epoch=epoch, new=step is StoreStep.NEW_STORE)
            self._count(f"store_{step}")

    def _close_old_copies(self, moment: Moment) -> None:
        """Of sync's own streams; edge does the same for the journal."""
        for stream in self._streams:
            seen = marks.store_view(self._writer.db, stream.stream).seen
            for life in outbox.lives(self._writer.db, stream.stream):
                known = seen.get(life.epoch, marks.Seen())
                if life.closed_at is None and known.city_ahead:
                    kept = min(known.acknowledged, life.head)
                    epochs.close_life(
                        stream,
                        life,
                        kept=kept,
                        moment=moment,
                        why="city_ahead",
                        station=self._station,
                    )
                    self._count("epochs_closed")
            epochs.restate_some(stream, moment)

    def _tell_parts(self, moment: Moment, *, up: bool, why: str) -> None:
        now = dict(self._uplink.journal.parts())
        now[LINK] = ("up", "") if up else ("down", why[:WHY_CHARS_MAX])
        for part in self._told:
            if part.startswith(LIST):
                now[part] = ("up", "")  # Told of once: so is its return.
        for scope, reason in self._lost.items():
            now[LIST + scope] = ("lost", reason[:WHY_CHARS_MAX])
        changed = {
            part: state
            for part, state in now.items()
            if self._told.get(part, ("", ""))[0] != state[0] and self._may_tell(part, moment)
        }
        if not changed:
            return
        with self._diag.recording() as recording:
            for part, (state, reason) in changed.items():
                recording.add(
                    PartState(**recording.stamp(moment), part=part, state=state, why=reason)
                )
            told = {part: state for part, state in self._told.items() if part in now} | changed
            marks.tell_parts_in(recording.db, told)
        self._told = told
        self._told_ms |= dict.fromkeys(changed, moment.mono_ms)

    def _may_tell(self, part: str, moment: Moment) -> bool:
        last_ms = self._told_ms.get(part)
        return last_ms is None or moment.mono_ms - last_ms >= PART_MS

    def _drop(self, moment: Moment) -> None:
        """`agent` by age, `diag` as a ring: a batch of each, then again in an hour."""
        if self._hourly_ms is not None and moment.mono_ms - self._hourly_ms < HOURLY_MS:
            return
        if not sum(self._drop_some(stream, moment) for stream in self._streams):
            self._hourly_ms = moment.mono_ms

    def _drop_some(self, stream: StreamWriter, moment: Moment) -> int:
        retention.set_milestone(stream, moment)
        until = KEPT_UNTIL[retention.kept_as(self._station, stream.stream)]
        seen = marks.store_view(self._writer.db, stream.stream).seen
        with reading(self._writer.db) as db:
            lives = outbox.lives(db, stream.stream)
            aged = {life.life: retention.aged_up_to(db, life, moment) for life in lives}
        for life in lives:
            current = life.life == stream.life
            reach = Reach(
                acknowledged=seen.get(life.epoch, marks.Seen()).acknowledged,
                included=0,
                aged=aged[life.life],
            )
            up_to = retention.droppable_up_to(life, until, reach, current=current)
            gone = retention.drop_facts(self._writer, life, up_to)
            if gone:
                return gone
            if life.held_from > life.head and not current:
                retention.drop_life(self._writer, life)
                return 1
        return 0

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
