"""What the tests of the bridge share: bridges that are closed at the end, waits for what they
tell, and a city with certificates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sync.bridge import Bridge
from sync.bridge_events import BridgeEvent, Connected, SubscriptionsReady
from sync.session import Endpoint, Session, session_for, tls_context
from tests.sync.pki import Authority, Identity

PATIENCE_MS = 10_000
WILL = b"gone"
QUICK = replace(session_for("lane-1", None), connack_ms_max=500)
CITY = replace(QUICK, client_id="city")


E = TypeVar("E")


class Ends:
    """The bridges of one test, all closed at its end; and waits for what they tell. `lent`: who
    waits turns the link; else its own thread does."""

    def __init__(self, *, lent: bool) -> None:
        self.lent = lent
        self._told: dict[Bridge, list[BridgeEvent]] = {}

    def bridge(self, session: Session = QUICK) -> Bridge:
        bridge = Bridge(session, woken=None if self.lent else lambda: None)
        self._told[bridge] = []
        return bridge

    def connected(self, endpoint: Endpoint, session: Session = QUICK) -> Bridge:
        bridge = self.bridge(session)
        self.connect(bridge, endpoint, session)
        self.expect(bridge, Connected)
        return bridge

    def connect(self, bridge: Bridge, endpoint: Endpoint, session: Session = QUICK) -> None:
        bridge.connect(endpoint, will_topic=f"will/{session.client_id}", will=WILL)

    def subscribed(self, endpoint: Endpoint, *topics: str, session: Session = CITY) -> Bridge:
        bridge = self.connected(endpoint, session)
        bridge.subscribe(topics)
        assert self.expect(bridge, SubscriptionsReady).refused == ()
        return bridge

    def told(self, bridge: Bridge) -> list[BridgeEvent]:
        """Everything told and not yet expected."""
        self._told[bridge] += bridge.poll()
        return self._told[bridge]

    def expect(self, bridge: Bridge, kind: type[E]) -> E:
        """The next event of this kind; it is taken out."""
        return self.expect_many(bridge, kind, 1)[0]

    def expect_many(self, bridge: Bridge, kind: type[E], count: int) -> list[E]:
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while True:
            told = self.told(bridge)
            found: list[E] = []
            rest: list[BridgeEvent] = []
            for event in told:
                if isinstance(event, kind) and len(found) < count:
                    found.append(event)
                else:
                    rest.append(event)
            if len(found) == count:
                told[:] = rest
                return found
            assert time.monotonic() < deadline, (kind.__name__, len(found), told[-5:])
            bridge.wait(50)

    def quiet(self, bridge: Bridge, kind: type[BridgeEvent], wait_ms: int = 150) -> bool:
        """Whether nothing of this kind comes for a while."""
        deadline = time.monotonic() + wait_ms / 1000
        while time.monotonic() < deadline:
            if any(isinstance(event, kind) for event in self.told(bridge)):
                return False
            bridge.wait(20)
        return True

    def close(self) -> None:
        for bridge in self._told:
            bridge.close()


def links_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mqtt-")]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class City:
    """A broker with mutual TLS, and what a device needs to speak to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.server = self.authority.issue("broker", server=True)
        self.mine = self.authority.issue("lane-1")

    def session(
        self,
        *,
        mine: Identity | None = None,
        ca_file: Path | None = None,
        check_time: bool = True,
    ) -> Session:
        mine = mine or self.mine
        context = tls_context(
            ca_file=ca_file or self.authority.file,
            certificate_file=mine.certificate,
            key_file=mine.key,
            check_time=check_time,
        )
        return replace(QUICK, tls=context)
