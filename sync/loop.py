"""Process 2's shell: what the bridge reports goes to the parts of sync, and back. No rules.

One connection at a time: connect with the will, subscribe, birth, hello, welcome; then facts
leave and lists come until it ends, and `Backoff` says how long to wait. `sync/contact.py` says as
whom a connection is made: in full, as a candidate of a renewed identity, or without dates checked
and then only to fetch signed time. Messages are acknowledged to the broker after our own commit. A
message that makes no sense is refused, counted and reported, and stops nothing.
"""

from __future__ import annotations

from typing import Any, Final

from edge import logs
from edge.clock import Anchor
from edge.lasting import Lasting
from edge.messages import (
    Pull,
    Renew,
    Stream,
    encode_json,
)
from edge.model import DeviceFault, Moment
from edge.offline_cache import marks
from edge.offline_cache.apply import Pictures
from edge.offline_cache.record import StreamWriter
from edge.order_rules import Here
from sync.arrivals import Arrivals
from sync.bridge_events import (
    BridgeEvent,
    Connected,
    Disconnected,
    Message,
    Oversized,
    Published,
    SubscriptionsReady,
    Token,
)
from sync.carrying_out import LOGS, CarryingOut
from sync.city_link import CityLink
from sync.configuring import Configuring
from sync.downlink import Downlink
from sync.inbox import Inbox
from sync.orders import SyncOrders
from sync.parts import Parts
from sync.peer_link import PeerLink
from sync.photos import Photos
from sync.renewal import Do
from sync.renewing import Renewing
from sync.reports import Reports
from sync.telling import Teller
from sync.topics import TopicKind, own, scopes_of, up
from sync.upkeep import Upkeep
from sync.uplink import Uplink

# Our choice: while nothing but acknowledgements comes, what goes by the clock may wait so long: its
# times are seconds, and a backlog leaves in a thousand steps a second.
REST_MS: Final = 5
LOOK_MS: Final = 1_000  # house.md: a look every second covers a lost doorbell.
SWEEP_MS: Final = 60_000  # Our choice: old generations go within a minute of their time.
ASK_EDGE_MS: Final = 15_000  # Our choice: how old edge's word in health and metrics may be.
# Our choice: two of three answers may be lost before those 60 s are over.
ASK_LIVE_MS: Final = 20_000
EDGE_STATUS: Final = "status"


class Sync:
    """One device's connection to the city. Call `step` when woken and at `due_ms`."""

    def __init__(self, parts: Parts) -> None:
        settings, clock, writer = parts.settings, parts.clock, parts.writer
        self.settings, self.clock, self.neighbour = settings, clock, parts.neighbour
        self.counters = marks.counters(writer)
        self.stopping = False  # By order: the process is to end, and be started again.
        self._parts = parts
        self._bridge = parts.bridge
        self._started_ms = clock.mono_ms()
        self._looked_ms = self._health_ms = self._sweep_ms = self._rested_ms = 0
        self._rest_waits = False  # The last step saw to the facts alone.
        self._asked_edge_ms: int | None = None
        self._done: list[Token] = []
        self._up = {stream: up(settings.device_id, stream) for stream in Stream}
        self._crowded = Lasting()
        self._log = logs.get("sync")
        self.load_anchor()
        moment = clock.moment()
        self.agent, self.diag = (self._stream(s) for s in (Stream.AGENT, Stream.DIAG))
        self.teller = Teller(self.agent, self.counters, clock.moment)
        self.level = logs.LevelKeeper(settings.log_level)
        self.pictures = Pictures(settings.folders.state, writer)
        self._make_uplink(parts, moment)
        self._make_downlink(parts)
        self.configuring = Configuring(
            settings,
            writer=writer,
            enrolled=parts.endpoints,
            downlink=self.downlink,
            teller=self.teller,
            now_ms=moment.mono_ms,
        )
        self.renewing = Renewing(
            parts.identity,
            parts.sessions,
            self.teller,
            spread=parts.random(),
            now_ms=moment.mono_ms,
        )
        self.reports = Reports(self)
        self.link = CityLink(
            parts,
            teller=self.teller,
            configuring=self.configuring,
            renewing=self.renewing,
            hello=self.reports.hello,
        )
        self._make_orders(parts, moment)
        self.peers = PeerLink.of(parts, refused=self.teller.refuse)
        self.arrivals = Arrivals(self, parts)
        self.inbox = Inbox(self, parts)
        self.downlink.start(moment)
        self.uplink.look(moment.mono_ms)

    def _make_uplink(self, parts: Parts, moment: Moment) -> None:
        settings, writer = parts.settings, parts.writer
        self.uplink = Uplink(
            device=settings.device_id,
            journal=settings.journal_path,
            writer=writer,
            refused=self.teller.refuse,
            ring_edge=parts.ring_edge,
        )
        self.upkeep = Upkeep(
            writer,
            uplink=self.uplink,
            agent=self.agent,
            diag=self.diag,
            station=settings.station,
            moment=moment,
        )

    def _make_downlink(self, parts: Parts) -> None:
        settings, writer = parts.settings, parts.writer
        self.photos = Photos(
            device=settings.device_id,
            site=settings.site_id,
            station=settings.station,
            pictures=self.pictures,
            writer=writer,
            folder=settings.folders.state,
        )
        self.downlink = Downlink(
            device=settings.device_id,
            scopes=scopes_of(settings.site_id, settings.station),
            writer=writer,
            pictures=self.pictures,
            keys=parts.keys,
            verifier=parts.roots.verifier,
            spread=parts.random(),
            changed=self._take_change,
            refused=self.teller.refuse,
            photos=self.photos,
        )

    def _make_orders(self, parts: Parts, moment: Moment) -> None:
        settings = parts.settings
        self._carrying_out = CarryingOut(self)
        here = Here(
            access_points={},
            readers=0,
            scopes=frozenset(scopes_of(settings.site_id, settings.station)),
            updater=settings.updates_path.is_dir(),
        )
        self.orders = SyncOrders(
            self.agent, here=here, acts=self._carrying_out.acts(), count=self.teller.count
        )
        self.orders.close_unacted(moment)

    # ------------------------------------------------------------------------ one step

    def step(self, *, rung: bool = False) -> None:
        """Everything that waits."""
        with self._bridge.together():
            self._step(rung=rung)
        self.uplink.read_on()

    def _step(self, *, rung: bool) -> None:
        of_facts = [self._take(event) for event in self._bridge.poll()]
        moment = self.clock.moment()
        soon = moment.mono_ms - self._rested_ms < REST_MS
        self._rest_waits = soon and bool(of_facts) and all(of_facts) and not rung
        self.uplink.settle(moment.mono_ms)
        for answer in self.neighbour.poll():
            if answer.about == EDGE_STATUS:
                self.reports.edge = answer.body
            elif answer.about.startswith(LOGS):
                self._carrying_out.answered(answer, moment)
        if rung or moment.mono_ms - self._looked_ms >= LOOK_MS:
            self._looked_ms = moment.mono_ms
            if self._parts.network.came_back():
                self.link.try_now(moment, spread=True)
            self.uplink.look(moment.mono_ms)
            self._look_after(moment)
        self._send(moment)
        # After what they made leave: the city waits for facts, the broker's window is wide.
        self._bridge.done(*self._done)
        self._done.clear()
        self.inbox.step(moment, rung=rung)
        if not self._rest_waits:
            self._rested_ms = moment.mono_ms
            self._take_time(moment)
            self.peers.step(rung=rung)

    def due_ms(self) -> int:
        """When `step` is needed at the latest though nothing arrives."""
        if self._rest_waits:
            return self._rested_ms + REST_MS
        due = [self._looked_ms + LOOK_MS, self.peers.due_ms(), self.inbox.due_ms()]
        if self.link.next_connect_ms is not None:
            due.append(self.link.next_connect_ms)
        for wake_ms in (self.uplink.wake_ms(), self.downlink.watch.due_ms()):
            if wake_ms is not None:
                due.append(wake_ms)
        return min(due)

    def wait(self, timeout_ms: int) -> None:
        """Until something happened, or time is up."""
        self._bridge.wait(timeout_ms)

    def uptime_s(self, moment: Moment) -> int:
        return (moment.mono_ms - self._started_ms) // 1000

    def start_over(self) -> None:
        """A step ended halfway (the disk refused): begin the connection anew, nothing is lost."""
        self.link.welcomed = False
        self._bridge.disconnect()

    def stop(self) -> None:
        """Say goodbye, if there is a link, and let go of everything."""
        self.link.goodbye()
        self._bridge.close()
        self.neighbour.close()
        self._parts.network.close()
        self.peers.stop()
        marks.save_counters(self._parts.writer, self.counters)
        self.uplink.disconnected()
        self.uplink.close()
        self.downlink.close()
        self.pictures.close()
        self._parts.writer.close()

    def _send(self, moment: Moment) -> None:
        """Facts, and what lists need."""
        if not self.link.welcomed:
            self.downlink.step(None, moment)
            return
        try:
            reason = self.uplink.pump(self._publish_facts, moment.mono_ms)
            if not self._rest_waits:
                self.peers.hand_in(self._bridge, self.link.payload_bytes_max)
                self.downlink.step(self._publish_pull, moment)
            if reason:
                self.link.end(reason)
        except DeviceFault as fault:
            self.teller.count("publish_failed")
            if self._crowded.is_news(str(fault), now_ms=moment.mono_ms):
                self._log.warning("the broker takes nothing now", reason=str(fault))

    # --------------------------------------------------------------------- the connection

    def _take(self, event: BridgeEvent) -> bool:
        """Whether it is about facts that left, and nothing else follows from it."""
        match event:
            case Connected():
                self.link.take_connected(event)
            case SubscriptionsReady(refused=refused):
                for topic in refused:
                    self.teller.refuse("subscription", topic, "denied")
                self.link.greet()
            case Message():
                of_facts = self.arrivals.take(event)
                self._done.append(event.token)
                return of_facts
            case Disconnected(loss=loss, detail=detail):
                self.uplink.disconnected()
                self.downlink.disconnected()
                self.link.lost(loss, detail)
            case Published(failure=failure):
                if failure:
                    self.teller.count("broker_refused")
                    self._log.warning("the broker refused a message", reason=failure)
                return True
            case Oversized():
                # Without its size: the words of a refusal are few, whatever a stranger sends.
                self.teller.refuse("message", "", "oversize")
        return False

    # --------------------------------------------------------------- identity and configuration

    def _renew(self, moment: Moment) -> None:
        match self.renewing.due(moment, self._publish_renew, welcomed=self.link.welcomed):
            case Do.CONNECT:
                self.link.end("connecting with the renewed certificate", at_once=True)
            case Do.END:
                self.link.end("the renewed certificate was not welcomed", at_once=True)
            case _:
                pass

    def _publish_renew(self, csr_pem: str) -> None:
        device = self.settings.device_id
        request = Renew(device=device, csr_pem=csr_pem)
        self._bridge.publish(own(device, TopicKind.RENEW), encode_json(request), qos=1)

    def _take_change(self) -> None:
        self.configuring.lists_changed = True
        self._parts.ring_edge()

    def _look_after(self, moment: Moment) -> None:
        """Once a second: what the settings list says of this device, and orders under way."""
        changed = self.configuring.look(moment.mono_ms)
        if changed.endpoints:
            self.link.use_endpoints()
        elif changed.trial and self.link.welcomed:
            self.link.say_hello()  # Its welcome is the proof that we are still reached.
        if changed.saved:
            self._parts.ring_edge()
        self.level.settle(self.configuring.desired.values.log_level, moment.mono_ms)
        self.orders.take(moment)
        self.orders.step(moment)
        self._carrying_out.look(moment)
        self.downlink.look(self.uplink.journal.suspects(), moment)

    # ------------------------------------------------------------------------- helpers

    def _take_time(self, moment: Moment) -> None:
        """What is due by the clock alone."""
        now_ms = moment.mono_ms
        self.link.step(moment)
        may_ask = self.link.welcomed and not self.link.greeting
        if may_ask and now_ms - self.link.asked_ms >= ASK_LIVE_MS and self.peers.lacks_a_till():
            self.link.say_hello()  # Its welcome names the tills that the city hears.
        self.upkeep.tick(
            moment, up=self.link.welcomed, why=self.link.reason, lost=self.downlink.lost
        )
        self._renew(moment)
        asked_ms = self._asked_edge_ms
        if asked_ms is None or now_ms - asked_ms >= ASK_EDGE_MS:
            self._asked_edge_ms = now_ms
            if not self.neighbour.ask(EDGE_STATUS, {"request": "status"}):
                self.reports.edge = None
        if now_ms - self._health_ms >= self.configuring.desired.values.health_s * 1000:
            self._health_ms = now_ms
            self._sample_commit()
            if self.link.welcomed:
                self.link.publish(TopicKind.HEALTH, self.reports.health_bytes(moment), qos=0)
        if now_ms - self._sweep_ms >= SWEEP_MS:
            self._sweep_ms = now_ms
            self.pictures.sweep(moment)

    def _sample_commit(self) -> None:
        """Counters to the disk; and how long the disk took is one of our measures of it."""
        began_ms = self.clock.mono_ms()
        marks.save_counters(self._parts.writer, self.counters)
        self.reports.commits_ms.append(self.clock.mono_ms() - began_ms)

    def answer(self, request: dict[str, Any], moment: Moment) -> dict[str, Any]:
        """One request of the station's own socket."""
        match request.get("request"):
            case "status":
                return self.reports.status(moment)
            case "connect":
                hurried = self.link.try_now(moment, spread=False)
                return {"ok": True, "connected": self.link.welcomed, "trying": hurried}
            case "renew":
                self.renewing.renewal.want()
                return {"ok": True, "connected": self.link.welcomed}
            case "logs":
                minutes = request.get("minutes")
                since_ms = moment.mono_ms - minutes * 60_000 if isinstance(minutes, int) else 0
                return {"ok": True, "lines": logs.recent(since_ms)}
            case _:
                return {"ok": False, "error": "known requests: connect, logs, renew, status"}

    def _publish_facts(self, stream: Stream, batch: bytes) -> None:
        self._bridge.publish(self._up[stream], batch, qos=1)

    def _publish_pull(self, pull: Pull) -> None:
        self._bridge.publish(own(self.settings.device_id, TopicKind.PULL), encode_json(pull), qos=1)

    def _stream(self, stream: Stream) -> StreamWriter:
        """The one writer of a stream of ours; `Upkeep` opens its epoch."""
        device, site = self.settings.device_id, self.settings.site_id
        return StreamWriter(self._parts.writer, device=device, site=site, stream=stream)

    def load_anchor(self) -> None:
        anchor = marks.time_anchor(self._parts.writer.db)
        if anchor is not None:
            self.clock.anchor = Anchor(
                boot=anchor.boot, mono_ms=anchor.mono_ms, utc_ms=anchor.utc_ms
            )
            self.clock.floor_ms = anchor.floor_utc_ms
