"""Connections to the school's own brokers: the named one and its stand-by, both at once.

What is said goes to every broker that is there. So there is no moment at which the school must
agree to change over, and two devices hear each other whenever one broker reaches both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge import logs
from edge.model import DeviceFault, Moment, SetupProblem
from sync.bridge import Bridge
from sync.bridge_events import Connected, Disconnected, Message, SubscriptionsReady, Token
from sync.session import Endpoint, Session

BACKOFF_MS_MIN: Final = 500  # Our choice: full jitter; dozens of devices at most, on one network,
BACKOFF_MS_MAX: Final = 15_000  # and the school should hear itself soon after power returns.
MESSAGES_PER_S: Final = 400  # Our choice: eight tills at their limit; 0.3 s of a Pi's processor.

Sessions = Callable[[str, bool], Session]  # The broker's device; whether dates are checked.


@dataclass(slots=True)
class _Broker:
    device: str  # Whose certificate it shows.
    endpoint: Endpoint
    bridge: Bridge
    ready: bool = False  # Connected, and listening.
    next_ms: int | None = 0
    failures: int = 0
    reason: str = "not yet tried"


class Brokers:
    """At most one connection to each. A broker that is gone is tried again, in its own time."""

    def __init__(
        self,
        *,
        topics: Sequence[str],
        sessions: Sessions,
        random: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self.counters: dict[str, int] = {}
        self._topics = topics
        self._sessions = sessions
        self._random = random
        self._wake = wake
        self._brokers: list[_Broker] = []
        self._second = (0, 0)  # Of the clock, and how many messages were looked at in it.
        self._log = logs.get("peers")

    @property
    def ready(self) -> bool:
        """At least one broker carries what is said."""
        return any(broker.ready for broker in self._brokers)

    @property
    def has_news(self) -> bool:
        """Something came that `poll` has not given out."""
        return any(broker.bridge.has_news for broker in self._brokers)

    def use(self, wanted: Iterable[tuple[str, Endpoint]], moment: Moment) -> None:
        """These (device, endpoint), and no others."""
        names = dict.fromkeys(wanted)
        for broker in [b for b in self._brokers if (b.device, b.endpoint) not in names]:
            broker.bridge.close()
            self._brokers.remove(broker)
        there = {(broker.device, broker.endpoint) for broker in self._brokers}
        for device, endpoint in names:
            if (device, endpoint) in there:
                continue
            try:
                bridge = Bridge(self._sessions(device, moment.clock_trusted), woken=self._wake)
            except SetupProblem as problem:
                self._log.error("no session with the school's broker", reason=str(problem))
                continue
            self._brokers.append(_Broker(device=device, endpoint=endpoint, bridge=bridge))

    def poll(self, moment: Moment) -> Iterator[tuple[Message, Callable[[], None]] | None]:
        """What came, with how to tell the broker that it is kept; None: a broker is ready anew.

        When more came this second than is looked at, the rest waits: first here, then in the
        socket, then at the broker.
        """
        for broker in list(self._brokers):
            if broker.next_ms is not None and moment.mono_ms >= broker.next_ms:
                self._connect(broker, moment)
            if not self._has_time(moment):
                self._count("messages_waited")
                return
            for event in broker.bridge.poll():
                match event:
                    case Connected():
                        broker.bridge.subscribe(self._topics)
                    case SubscriptionsReady():
                        self._log.info("connected", broker=str(broker.endpoint))
                        broker.ready, broker.failures = True, 0
                        yield None
                    case Message(token=token):
                        self._second = (self._second[0], self._second[1] + 1)
                        yield event, _done(broker.bridge, token)
                    case Disconnected(detail=detail):
                        self._lost(broker, detail, moment)
                    case _:
                        pass  # Published or too large: what is lost is asked for.

    def publish(self, topic: str, data: bytes, *, qos: int) -> None:
        """On each that is there; what one does not take now is asked for later."""
        for broker in self._brokers:
            if broker.ready:
                try:
                    broker.bridge.publish(topic, data, qos=qos)
                except DeviceFault:
                    self._count("publish_failed")

    def due_ms(self) -> int | None:
        times = [broker.next_ms for broker in self._brokers if broker.next_ms is not None]
        return min(times, default=None)

    def status(self) -> list[dict[str, Any]]:
        return [
            {
                "device": broker.device,
                "endpoint": str(broker.endpoint),
                "connected": broker.ready,
                "reason": "" if broker.ready else broker.reason,
            }
            for broker in self._brokers
        ]

    def close(self) -> None:
        for broker in self._brokers:
            broker.bridge.close()
        self._brokers.clear()

    # --------------------------------------------------------------------------- helpers

    def _connect(self, broker: _Broker, moment: Moment) -> None:
        broker.next_ms = None
        try:
            # A renewed certificate, and a clock that is trusted by now, count from here on.
            session = self._sessions(broker.device, moment.clock_trusted)
            broker.bridge.connect(broker.endpoint, will_topic="", will=b"", session=session)
        except (DeviceFault, SetupProblem) as problem:
            self._lost(broker, str(problem), moment)

    def _lost(self, broker: _Broker, reason: str, moment: Moment) -> None:
        if broker.ready or broker.reason != reason:
            self._log.warning("not connected", broker=str(broker.endpoint), reason=reason)
        broker.failures = 0 if broker.ready else broker.failures + 1
        ceiling_ms = min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** min(broker.failures, 8))
        broker.next_ms = moment.mono_ms + round(self._random() * ceiling_ms)
        broker.ready, broker.reason = False, reason

    def _has_time(self, moment: Moment) -> bool:
        now_s = moment.mono_ms // 1000
        if self._second[0] != now_s:
            self._second = (now_s, 0)
        return self._second[1] < MESSAGES_PER_S

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1


def _done(bridge: Bridge, token: Token) -> Callable[[], None]:
    return lambda: bridge.done(token)
