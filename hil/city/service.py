"""The city's shell: one worker thread owns the store; broker and HTTP only put things in its queue.

Messages that wait together are committed together, published after the commit and then
acknowledged to the broker. A message that meets a mistake of ours is dropped with a log line
rather than redelivered for ever.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from hil.city.bridge import Bridge, Endpoint, Received
from hil.city.desk import Desk, Done
from hil.city.intake import CityCore
from hil.city.keys import utc
from hil.city.lists import Out
from hil.city.mosquitto import BrokerFiles, reload_broker, write_access

GROUP_MAX: Final = 64  # Our choice: messages in one commit; one flush is then 0.1 ms a message.
TICK_S_MAX: Final = 0.5  # Our choice: heads and waiting balances are looked at so often.
TICK_S_MIN: Final = 0.02

log = logging.getLogger("city.service")


@dataclass(frozen=True, slots=True)
class _Call:
    work: Callable[[int], Any]
    future: Future[Any]


class Service:
    """Runs until `stop`. `on_feed` is called on the worker's thread when the feed grew."""

    def __init__(
        self,
        core: CityCore,
        desk: Desk,
        endpoint: Endpoint,
        *,
        on_feed: Callable[[], object],
        broker_files: BrokerFiles | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._core = core
        self._desk = desk
        self._on_feed = on_feed
        self._broker_files = broker_files
        self._clock_ms = clock_ms
        self._queue: queue.SimpleQueue[Received | _Call | None] = queue.SimpleQueue()
        self._tick_s = min(TICK_S_MAX, max(TICK_S_MIN, core.publisher.gather_ms / 2000))
        self._ticked_s = time.monotonic()
        self._feed_id = -1
        self._worker = threading.Thread(target=self._run, name="city-worker", daemon=True)
        self.bridge = Bridge(
            endpoint, on_received=self._queue.put, on_connected=self._publish_heads
        )

    def start(self) -> None:
        self._worker.start()
        self.bridge.start()

    def stop(self) -> None:
        """Leaves the broker, ends the work that waits, closes the store."""
        self.bridge.stop()
        self._queue.put(None)
        self._worker.join(10)

    def submit(self, work: Callable[[int], Any]) -> Future[Any]:
        """Runs `work(now_ms)` on the worker's thread; publishes what a `Done` carries."""
        future: Future[Any] = Future()
        self._queue.put(_Call(work, future))
        return future

    def _publish_heads(self) -> None:
        self.submit(lambda now_ms: Done(answer={}, outs=tuple(self._core.heads(now_ms))))

    # ------------------------------------------------------------------- the worker's thread

    def _run(self) -> None:
        while True:
            messages, calls, stopping = self._next_work()
            try:
                if messages:
                    self._receive(messages)
                for call in calls:
                    self._carry_out(call)
                self._tick()
                self._look_at_feed()
            except sqlite3.OperationalError as error:
                # The disk. Nothing was acknowledged, so devices send again.
                log.error("store: %s; free the disk, the city goes on trying", error)
            if stopping:
                self._core.store.close()
                return

    def _next_work(self) -> tuple[list[Received], list[_Call], bool]:
        """What waits, at most a group; waits itself no longer than a tick."""
        messages: list[Received] = []
        calls: list[_Call] = []
        try:
            item = self._queue.get(timeout=self._tick_s)
            while True:
                if item is None:
                    return messages, calls, True
                if isinstance(item, Received):
                    messages.append(item)
                else:
                    calls.append(item)
                if len(messages) + len(calls) >= GROUP_MAX:
                    break
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        return messages, calls, False

    def _receive(self, messages: Sequence[Received]) -> None:
        try:
            outs = self._core.receive_all(
                [(message.topic, message.payload) for message in messages], self._clock_ms()
            )
        except sqlite3.OperationalError:
            raise
        except Exception:
            if len(messages) > 1:
                for message in messages:
                    self._receive([message])
                return
            log.exception("a message on %s was dropped", messages[0].topic)
            outs = []
        self.bridge.publish(outs)
        for message in messages:
            message.acknowledge()

    def _carry_out(self, call: _Call) -> None:
        try:
            result = call.work(self._clock_ms())
        except BaseException as error:
            call.future.set_exception(error)
            return
        if isinstance(result, Done):
            if result.devices_changed:
                self._write_access()
            self.bridge.publish(result.outs)
        call.future.set_result(result)

    def _write_access(self) -> None:
        if self._broker_files is None:
            return
        senders, revoked = self._desk.senders(), self._desk.revoked_serials()
        now = utc(self._clock_ms())
        write_access(self._broker_files, self._core.keys, senders, revoked, now)
        reload_broker(self._broker_files)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if now_s - self._ticked_s >= self._tick_s:
            self._ticked_s = now_s
            outs: list[Out] = self._core.tick(self._clock_ms())
            self.bridge.publish(outs)

    def _look_at_feed(self) -> None:
        row = self._core.store.one("SELECT COALESCE(MAX(id), 0) FROM feed")
        assert row is not None
        if row[0] != self._feed_id:
            self._feed_id = row[0]
            self._on_feed()
