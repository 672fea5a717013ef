"""The connection to a broker, as the shell sees it: calls go in, events come out.

It decides nothing: when to connect, what to send and what a message means is the shell's. Each
connection is a `Link` with a thread of its own, so a look-up or handshake that hangs blocks nobody:
it is given up by time. Once connected, whoever waits for the bridge turns the link meanwhile
(`sync/turns.py`). What happens becomes events in a bounded queue. The links, and they alone, know
paho (`sync/mqtt_link.py`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from edge.messages import MESSAGE_BYTES_MAX
from edge.model import DeviceFault
from sync.bell import Bell
from sync.bridge_events import BridgeEvent, Disconnected, Loss, Token
from sync.mqtt_link import LINGER_MS_MAX, TURN_MS_MAX, Link
from sync.session import Endpoint, Session
from sync.turns import monotonic_ms

EVENTS_MAX: Final = 256  # Our choice: 16 MB of the largest messages; then the socket rests.
WAITING_MAX: Final = 256  # Our choice: publishes taken on; pumps and pulls have windows below it.
# Measured: with 4 a stream of small messages costs a quarter of the steps; with 32 a window of
# batches is answered late, and a backlog leaves a fifth slower.
GATHERED_MAX: Final = 4
HANGING_MAX: Final = 4  # Our choice: look-ups given up that still run; then something is broken.


class Bridge:
    """At most one connection at a time. All methods are for one thread, `wake` for any. Whoever
    waits for several at once is told by `woken` that this one has something, and does not `wait`:
    then the link's thread turns it."""

    def __init__(self, session: Session, *, woken: Callable[[], None] | None = None) -> None:
        self._session = session
        self._woken = woken
        self._lock = threading.Lock()  # Over the next three.
        self._events: deque[BridgeEvent] = deque()
        self._speaker = 0  # The link that may still post; 0: none.
        self._closed = False
        self._ready = Bell()
        self._link: Link | None = None
        self._links = 0
        self._numbers = 0
        self._link_waits = False  # For more of what is published together.
        self._hanging: list[threading.Thread] = []
        self._old_protocol: set[Endpoint] = set()  # Those that answered 3.1.1 alone.

    # ------------------------------------------------------------------ connection

    def connect(
        self,
        endpoint: Endpoint,
        *,
        will_topic: str,
        will: bytes,
        session: Session | None = None,
    ) -> None:
        """Begin; `Connected` or `Disconnected` follows within `connect_ms_max`. `session` is used
        for this connection alone (a first contact without date checks). No will without a
        topic."""
        assert self._link is None, "one connection at a time: wait for Disconnected"
        used = session or self._session
        assert used.tls is not None or not endpoint.tls
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= HANGING_MAX:
            raise DeviceFault(
                f"{endpoint}: {HANGING_MAX} attempts still hang in name look-up or connect;"
                " check the network's name server"
            )
        self._links += 1
        self._speaker = self._links
        self._link = Link(
            number=self._links,
            session=used,
            endpoint=endpoint,
            will=(will_topic, will),
            old_protocol=endpoint in self._old_protocol,
            post=self._post,
            tell=self._tell,
            crowded=lambda: len(self._events) >= EVENTS_MAX,
            recall=self._ready if self._woken is None else None,
        )
        self._link.thread.start()

    def disconnect(self) -> None:
        """End in order: what was published is given a moment, then DISCONNECT. `Disconnected`
        follows. Nothing happens when there is no connection."""
        if self._link is not None:
            self._link.submit(self._link.finish)

    def close(self) -> None:
        """End now and for good; nothing is reported any more."""
        link, self._link = self._link, None
        with self._lock:
            self._closed = True
            self._speaker = 0
            self._events.clear()
        if link is not None:
            link.give_back()
            link.submit(link.finish)
            link.thread.join((LINGER_MS_MAX + TURN_MS_MAX) / 1000)
            link.given_up = True  # Should it still hang: its bell is about to go.
        self._ready.close()

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.connected

    def alive(self) -> bool:
        """Connected, its thread turning, and the broker heard from within two keepalives."""
        return (
            self._link is not None
            and self._link.connected
            and not self._link.problem(monotonic_ms())
        )

    # ------------------------------------------------------------------ traffic

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is published and done inside leaves when it ends, all at once."""
        link, self._link_waits = self._link, True
        try:
            yield
        finally:
            self._link_waits = False
            if link is not None:
                link.wake()

    def subscribe(self, topics: Sequence[str], *, at_most_once: Collection[str] = ()) -> None:
        """QoS 0 on those of them in `at_most_once`, QoS 1 on all others; `SubscriptionsReady`
        follows. `DeviceFault` when not connected."""
        link = self._connected_link()
        asked = tuple((topic, 0 if topic in at_most_once else 1) for topic in topics)
        link.submit(lambda: link.subscribe(asked))

    def publish(self, topic: str, payload: bytes, *, qos: int, retained: bool = False) -> int:
        """Taken on for this connection alone: the number that `Published` will carry (QoS 1).
        `DeviceFault` when not connected, or when the broker has not taken the last ones."""
        assert len(payload) <= MESSAGE_BYTES_MAX and qos in (0, 1)
        link = self._connected_link()
        waiting = link.submitted - link.settled
        if waiting >= WAITING_MAX:
            raise DeviceFault(f"{link.endpoint}: {waiting} messages wait for the broker")
        self._numbers += 1
        number = self._numbers
        link.submitted += 1
        command = partial(link.publish, number, topic, payload, qos, retained)
        link.submit(command, wake=not self._link_waits)
        return number

    def done(self, *tokens: Token) -> None:
        """Our commit holds what these messages brought: tell the broker. Of an earlier connection
        they are ignored; the message comes again or is asked for."""
        link = self._link
        if link is None:
            return
        mids = [token.mid for token in tokens if token.link == link.number and token.mid]
        if mids:
            link.submit(lambda: link.acknowledge(mids), wake=not self._link_waits)

    # ------------------------------------------------------------------ events

    def poll(self) -> list[BridgeEvent]:
        """What happened since the last time, in order. Never blocks."""
        self._watch()
        self._ready.hear()
        with self._lock:
            events = list(self._events)
            self._events.clear()
        link = self._link
        if link is not None and len(events) >= EVENTS_MAX:
            link.bell.ring()  # It rests until there is room again.
        if link is not None and events and isinstance(events[-1], Disconnected):
            if link.old_protocol is True:
                self._old_protocol.add(link.endpoint)
            elif link.old_protocol is False:
                self._old_protocol.discard(link.endpoint)
            self._link = None
        return events

    @property
    def has_news(self) -> bool:
        """`poll` has something. What hangs is found by `poll` alone."""
        return bool(self._events)

    def wait(self, timeout_ms: int) -> None:
        """Until something happened, `wake` was called, or time is up; at once while events wait to
        be fetched. Meanwhile the link is turned here, in the caller's thread; what comes together
        is gathered, for each look at it costs the caller a step."""
        until_ms = monotonic_ms() + timeout_ms
        left_ms, came = max(0, timeout_ms), len(self._events)
        while came < GATHERED_MAX:
            link = self._link
            if link is None or not link.turns.lent:
                if not came:
                    self._ready.wait(left_ms)
                return
            called = link.turns.serve(0 if came else left_ms)
            before, came = came, len(self._events)
            left_ms = until_ms - monotonic_ms()
            if called or (came == before if came else left_ms <= 0):
                return

    def wake(self) -> None:
        """End a `wait`; from any thread."""
        self._ready.ring()

    # ------------------------------------------------------------------ helpers

    def _connected_link(self) -> Link:
        link = self._link
        if link is None or not link.connected:
            raise DeviceFault("no connection to a broker; wait for Connected")
        return link

    def _post(self, number: int, event: BridgeEvent) -> None:
        """From a link's thread. A link that was given up, or has said its last, is not heard."""
        with self._lock:
            if self._closed or self._speaker != number:
                return
            if isinstance(event, Disconnected):
                self._speaker = 0
            self._events.append(event)

    def _tell(self) -> None:
        """From a link's thread: what it posted is to be looked at now."""
        with self._lock:
            if self._closed:
                return
            self._ready.ring()
            if self._woken is not None:
                self._woken()

    def _watch(self) -> None:
        """Give up a link whose thread hangs, stopped without a word, or hears nothing."""
        link = self._link
        problem = "" if link is None else link.problem(monotonic_ms())
        if link is None or not problem:
            return
        loss = Loss.LOST if link.was_connected else Loss.UNREACHABLE
        detail = f"{link.endpoint}: {problem}"
        self._post(
            link.number, Disconnected(loss=loss, detail=detail, was_connected=link.was_connected)
        )
        self._tell()
        link.given_up = True
        link.give_back()
        if link.thread.is_alive():
            self._hanging.append(link.thread)
