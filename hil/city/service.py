"""The city's shell: workers own the books; broker and HTTP only put things in their queues.

Each worker has a share of the sites (the hash of a site's name says whose it is) and is the only
thread that touches their books, so sites are committed side by side and a slow one holds up its
own worker alone. Messages of a site that wait together are committed together, published after
the commit and then acknowledged to the broker. A message that meets a mistake of ours is dropped
with a log line rather than redelivered for ever.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from hil.city.batches import Sender
from hil.city.bridge import Bridge, Endpoint, Received
from hil.city.desk import Desk, Done, Refused
from hil.city.intake import UP, CityCore
from hil.city.keydesk import KeyDesk
from hil.city.keys import utc
from hil.city.lists import Out
from hil.city.mischief import Mischief
from hil.city.mosquitto import BrokerFiles, reload_broker, write_access
from hil.city.parents import ParentDesk

GROUP_MAX: Final = 64  # Our choice: messages in one commit; one flush is then 0.1 ms a message.
TICK_S_MAX: Final = 0.5  # Our choice: heads and waiting balances are looked at so often.
TICK_S_MIN: Final = 0.02
STOP_S: Final = 10.0  # Our choice: a group under way is committed well within it.

log = logging.getLogger("city.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """All that the city is at one site."""

    core: CityCore
    desk: Desk
    key_desk: KeyDesk
    parents: ParentDesk
    mischief: Mischief


@dataclass(frozen=True, slots=True)
class _Call:
    site: str
    work: Callable[[int], Any]
    future: Future[Any]


class _Worker:
    """One thread with its share of the sites."""

    def __init__(
        self,
        number: int,
        branches: Mapping[str, Branch],
        *,
        publish: Callable[[Iterable[Out]], None],
        devices_changed: Callable[[Branch], None],
        on_feed: Callable[[], object],
        clock_ms: Callable[[], int],
    ) -> None:
        self._branches = branches
        self._publish = publish
        self._devices_changed = devices_changed
        self._on_feed = on_feed
        self._clock_ms = clock_ms
        self._queue: queue.SimpleQueue[tuple[str, Received] | _Call | None] = queue.SimpleQueue()
        gather_ms = min(branch.core.publisher.gather_ms for branch in branches.values())
        self._tick_s = min(TICK_S_MAX, max(TICK_S_MIN, gather_ms / 2000))
        self._ticked_s = time.monotonic()
        self._feed_ids: dict[str, int] = {}
        self.put = self._queue.put
        self.thread = threading.Thread(target=self._run, name=f"city-worker-{number}", daemon=True)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            messages, calls, stopping = self._next_work()
            for site, found in messages.items():
                self._guard(site, partial(self._receive, site, found))
            for call in calls:
                self._guard(call.site, partial(self._carry_out, call))
            self._tick()
            for site in dict.fromkeys((*messages, *(call.site for call in calls))):
                self._guard(site, partial(self._look_at_feed, site))
        for branch in self._branches.values():
            branch.core.store.close()

    def _guard(self, site: str, work: Callable[[], None]) -> None:
        try:
            work()
        except self._branches[site].core.store.trouble as error:
            # The disk or the server. Nothing was acknowledged, so devices send again.
            log.error("books of %s: %s; mend it, the city goes on trying", site, error)

    def _next_work(self) -> tuple[dict[str, list[Received]], list[_Call], bool]:
        """What waits, at most a group; waits itself no longer than a tick."""
        messages: dict[str, list[Received]] = {}
        calls: list[_Call] = []
        try:
            item = self._queue.get(timeout=self._tick_s)
            for _ in range(GROUP_MAX):
                if item is None:
                    return messages, calls, True
                if isinstance(item, _Call):
                    calls.append(item)
                else:
                    messages.setdefault(item[0], []).append(item[1])
                item = self._queue.get_nowait()
            self._queue.put(item)  # Behind what waits: order across devices means nothing.
        except queue.Empty:
            pass
        return messages, calls, False

    def _receive(self, site: str, messages: Sequence[Received]) -> None:
        branch = self._branches[site]
        try:
            outs = branch.mischief.receive_all(
                [(message.topic, message.payload) for message in messages], self._clock_ms()
            )
        except branch.core.store.trouble:
            raise
        except Exception:
            if len(messages) > 1:
                for message in messages:
                    self._receive(site, [message])
                return
            log.exception("a message on %s was dropped", messages[0].topic)
            outs = []
        self._publish(outs)
        for message in messages:
            message.acknowledge()

    def _carry_out(self, call: _Call) -> None:
        branch, now_ms = self._branches[call.site], self._clock_ms()
        try:
            result = call.work(now_ms)
        except BaseException as error:
            call.future.set_exception(error)
            return
        if isinstance(result, Done):
            if result.devices_changed:
                self._devices_changed(branch)
            self._publish(branch.mischief.leaving(result.outs, now_ms))
        call.future.set_result(result)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if now_s - self._ticked_s < self._tick_s:
            return
        self._ticked_s = now_s
        for site, branch in self._branches.items():
            self._guard(site, partial(self._tick_branch, branch))

    def _tick_branch(self, branch: Branch) -> None:
        self._publish(branch.mischief.tick(self._clock_ms()))

    def _look_at_feed(self, site: str) -> None:
        newest = self._branches[site].desk.newest_feed_id()
        if newest != self._feed_ids.get(site):
            self._feed_ids[site] = newest
            self._on_feed()


class Service:
    """Runs until `stop`. `on_feed` is called on a worker's thread when a feed grew."""

    def __init__(
        self,
        branches: Mapping[str, Branch],
        endpoint: Endpoint,
        *,
        on_feed: Callable[[], object],
        workers: int = 1,
        broker_files: BrokerFiles | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.branches = dict(branches)
        self._first = next(iter(self.branches))
        self._broker_files = broker_files
        self._clock_ms = clock_ms
        self._access = threading.Lock()
        self._listed = {
            site: (branch.desk.senders(), branch.desk.revoked_serials())
            for site, branch in self.branches.items()
        }
        # Every device ever enrolled, revoked ones too: a name belongs to one site.
        self._homes = {
            device: site
            for site, branch in self.branches.items()
            for device in branch.desk.device_ids()
        }
        self.bridge = Bridge(endpoint, on_received=self._route, on_connected=self._greet)
        self._workers: list[_Worker] = []
        self._worker_of: dict[str, _Worker] = {}
        for number in range(workers):
            share = {
                site: branch
                for site, branch in self.branches.items()
                if share_of(site, workers) == number
            }
            if share:
                worker = _Worker(
                    number,
                    share,
                    publish=self.bridge.publish,
                    devices_changed=self._write_access,
                    on_feed=on_feed,
                    clock_ms=clock_ms,
                )
                self._workers.append(worker)
                self._worker_of.update(dict.fromkeys(share, worker))

    def start(self) -> None:
        for worker in self._workers:
            worker.thread.start()
        self.bridge.start()

    def stop(self) -> None:
        """Leaves the broker, ends the work that waits, closes the books."""
        self.bridge.stop()
        for worker in self._workers:
            worker.put(None)
        for worker in self._workers:
            worker.thread.join(STOP_S)

    def site_of(self, request: Mapping[str, Any]) -> str:
        """Whose desk a request is for: by `site`, by its device, or the first."""
        for name in ("site", "site_id"):
            wanted = request.get(name)
            if wanted in self.branches:
                return str(wanted)
            if name == "site" and wanted is not None:
                sites = ", ".join(self.branches)
                raise Refused(404, f"no site {wanted!r:.40}", f"this city serves {sites}")
        return self._homes.get(str(request.get("device", "")), self._first)

    def submit(self, site: str, work: Callable[[int], Any]) -> Future[Any]:
        """Runs `work(now_ms)` on the site's worker; publishes what a `Done` carries."""
        future: Future[Any] = Future()
        self._worker_of[site].put(_Call(site, work, future))
        return future

    def enrol(self, request: dict[str, Any], now_ms: int) -> Done:
        """On the worker of the request's site. A device's name belongs to one site."""
        site, device = self.site_of(request), str(request.get("device_id", ""))
        home = self._homes.get(device)
        if home not in (None, site):
            raise Refused(409, f"{device} is a device of {home}", "enrol it under another id")
        done = self.branches[site].desk.enrol(request, now_ms)
        self._homes[device] = site
        return done

    def _route(self, received: Received) -> None:
        device = received.topic.removeprefix(UP).partition("/")[0]
        site = self._homes.get(device, self._first)
        self._worker_of[site].put((site, received))

    def _greet(self) -> None:
        """After each connection: the root document, then the heads, retained."""
        for site, branch in self.branches.items():

            def heads(now_ms: int, core: CityCore = branch.core) -> Done:
                return Done(answer={}, outs=(core.root(), *core.heads(now_ms)))

            self.submit(site, heads)

    def _write_access(self, branch: Branch) -> None:
        """On the branch's worker; others may be writing for theirs."""
        with self._access:
            self._listed[branch.core.site] = branch.desk.senders(), branch.desk.revoked_serials()
            if self._broker_files is None:
                return
            senders: list[Sender] = []
            revoked: list[int] = []
            for some, serials in self._listed.values():
                senders += some
                revoked += serials
            now = utc(self._clock_ms())
            write_access(self._broker_files, branch.core.keys, senders, revoked, now)
            reload_broker(self._broker_files)


def share_of(site: str, workers: int) -> int:
    """Which worker has a site: the same in every life of the city."""
    return zlib.crc32(site.encode()) % workers
