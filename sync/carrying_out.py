"""What sync does when an order asks for it: one method a word, called by `sync/orders.py`.

Each answers at once (done, or a word why not) or begins something that `look` finds ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from edge import logs
from edge.messages import LogLines, Order
from edge.model import Moment
from edge.order_rules import Process, Word
from sync.neighbour import Answered
from sync.orders import Act, Refuse, never
from sync.release_files import ReleaseFiles, Wanted
from sync.releases import Releases, this_machine
from sync.renewal import Step

if TYPE_CHECKING:
    from sync.loop import Sync

FETCH_MS_MIN: Final = 60_000  # Our choice: a person reads what came before asking again.
LINES_BYTES_MAX: Final = 8 * 1024  # Our choice: half of what a fact may hold.
LOGS: Final = "logs "  # Marks edge's answers that belong to an order.


class CarryingOut:
    """The acts, and what of them is under way."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self._fetched_ms: int | None = None
        self._rotating: int | None = None
        self._reloads: dict[int, tuple[str, int]] = {}  # counter -> scope, snapshots before.
        self.releases = Releases(
            device=sync.settings.device_id,
            files=ReleaseFiles(sync.settings.updates_path),
            machine=this_machine(),
        )
        sync.downlink.take_release = lambda push, moment: self.releases.take(
            push, sync.downlink.verifier, moment
        )

    def acts(self) -> Mapping[Word, tuple[Refuse, Act]]:
        """For `SyncOrders`: may it be done now, and do it."""
        return {
            Word.RELOAD_LIST: (never, self._reload_list),
            Word.ROTATE_KEY: (self._busy_renewing, self._rotate_key),
            Word.FETCH_LOGS: (self._too_often, self._fetch_logs),
            Word.UPDATE: (self._busy_updating, self._update),
            Word.SET_LOG_LEVEL: (never, self._set_log_level),
            Word.RESTART: (never, self._restart),
        }

    def look(self, moment: Moment) -> None:
        """Once in a while: has something ended that was begun?"""
        orders = self._sync.orders
        for counter, (scope, before) in tuple(self._reloads.items()):
            if self._sync.downlink.snapshots.get(scope, 0) > before:
                orders.finish(counter, "", moment)
            if counter not in orders.open:
                del self._reloads[counter]
        renewal = self._sync.renewing.renewal
        if self._rotating is not None and renewal.step is Step.REST and not renewal.wanted:
            orders.finish(self._rotating, renewal.why, moment)
            self._rotating = None
        self._look_at_releases(moment)

    def _look_at_releases(self, moment: Moment) -> None:
        """What came of an ordered release, and what of it to ask for next."""
        orders, releases = self._sync.orders, self.releases
        for counter, word in tuple(orders.open.items()):
            if word == Word.UPDATE and (why := releases.came_of(counter)) is not None:
                orders.finish(counter, why, moment)
        wanted = releases.fetching
        if wanted is not None and wanted.counter not in orders.open:
            releases.forget()  # Its time was over.
        pull = releases.step(moment, connected=self._sync.link.welcomed)
        if pull is not None:
            self._sync.downlink.ask(pull)

    def answered(self, answer: Answered, moment: Moment) -> None:
        """Edge's lines for an order, or its silence."""
        counter = int(answer.about.removeprefix(LOGS))
        if counter not in self._sync.orders.open:
            return
        found = None if answer.body is None else answer.body.get("lines")
        if not isinstance(found, list):
            self._sync.orders.finish(counter, "no_answer", moment)
            return
        self._record_lines(counter, Process.EDGE, [str(line) for line in found], moment)
        self._sync.orders.finish(counter, "", moment)

    # ------------------------------------------------------------------------------- acts

    def _reload_list(self, order: Order, moment: Moment) -> str | None:
        before = self._sync.downlink.snapshots.get(order.scope, 0)
        self._reloads[order.counter] = (order.scope, before)
        self._sync.downlink.reload(order.scope, moment)
        return None

    def _busy_renewing(self, _order: Order, _moment: Moment) -> str:
        """One renewal at a time, and no second before all is sealed to the newest key."""
        renewal = self._sync.renewing.renewal
        idle = renewal.step is Step.REST and not renewal.wanted
        return "" if idle and not self._sync.downlink.keys.to_reseal() else "busy"

    def _rotate_key(self, order: Order, _moment: Moment) -> str | None:
        self._sync.renewing.renewal.want()
        self._rotating = order.counter
        return None

    def _too_often(self, _order: Order, moment: Moment) -> str:
        last_ms = self._fetched_ms
        return (
            "too_often" if last_ms is not None and moment.mono_ms - last_ms < FETCH_MS_MIN else ""
        )

    def _fetch_logs(self, order: Order, moment: Moment) -> str | None:
        self._fetched_ms = moment.mono_ms
        if order.process == Process.SYNC:
            lines = logs.recent(moment.mono_ms - order.minutes * 60_000)
            self._record_lines(order.counter, Process.SYNC, lines, moment)
            return ""
        request = {"request": "logs", "minutes": order.minutes}
        return None if self._sync.neighbour.ask(f"{LOGS}{order.counter}", request) else "no_answer"

    def _busy_updating(self, _order: Order, _moment: Moment) -> str:
        """One release at a time, from its order to what came of it."""
        return "busy" if self.releases.busy(self._sync.orders.open) else ""

    def _update(self, order: Order, _moment: Moment) -> str | None:
        """Fetched and laid ready here; installed by the updater, and told when it is kept."""
        if self.releases.is_held(release=order.release, sha256=order.sha256):
            return ""
        self.releases.want(
            Wanted(release=order.release, sha256=order.sha256, counter=order.counter)
        )
        return None

    def _set_log_level(self, order: Order, moment: Moment) -> str | None:
        self._sync.level.order(order.level, order.minutes, moment.mono_ms)
        return ""

    def _restart(self, _order: Order, _moment: Moment) -> str | None:
        self._sync.stopping = True
        return ""

    def _record_lines(
        self, counter: int, process: Process, lines: list[str], moment: Moment
    ) -> None:
        groups = parts_of(lines)
        with self._sync.diag.recording() as telling:
            for part, group in enumerate(groups, start=1):
                telling.add(
                    LogLines(
                        **telling.stamp(moment),
                        counter=counter,
                        process=process,
                        part=part,
                        parts=len(groups),
                        lines=group,
                    )
                )


def parts_of(lines: list[str]) -> list[tuple[str, ...]]:
    """Lines in groups that fit a fact each, in order; one empty group when there is nothing."""
    groups: list[list[str]] = [[]]
    size = 0
    for line in lines:
        bytes_of_line = len(msgspec.json.encode(line)) + 1
        if groups[-1] and size + bytes_of_line > LINES_BYTES_MAX:
            groups.append([])
            size = 0
        groups[-1].append(line)
        size += bytes_of_line
    return [tuple(group) for group in groups]
