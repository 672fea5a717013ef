"""Process 2's shell: what the bridge reports goes to uplink and downlink, and back. No rules.

One connection at a time: connect with the will, subscribe, birth, hello, welcome; then facts
leave and lists come until it ends, and `Backoff` says how long to wait. Messages are acknowledged
to the broker after our own commit. A message that makes no sense is refused, counted and
reported, and stops nothing.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from typing import Any, Final

from edge import logs
from edge.clock import Anchor, Clock
from edge.messages import (
    Ack,
    Health,
    Hello,
    Order,
    Pull,
    SignedWhat,
    Stream,
    UpdateRefused,
    Welcome,
    decode_json,
    decode_signed_lines,
    encode_json,
)
from edge.model import CorruptData, DeviceFault, Moment
from edge.offline_cache import marks
from edge.offline_cache.apply import Pictures
from edge.offline_cache.record import SOFTWARE, StreamWriter
from edge.offline_cache.store import Writer
from edge.settings import DeviceSettings
from edge.trust import KeyStore, Verifier
from sync import status
from sync.backoff import Backoff
from sync.bridge import Bridge
from sync.bridge_events import (
    BridgeEvent,
    Connected,
    Disconnected,
    Loss,
    Message,
    Oversized,
    Published,
    SubscriptionsReady,
)
from sync.downlink import Downlink
from sync.session import Endpoint, Session
from sync.topics import Side, TopicKind, own, parse, publisher_of, scopes_of, subscriptions, up
from sync.uplink import Uplink

LOOK_MS: Final = 1_000  # house.md: a look every second covers a lost doorbell.
HEALTH_MS: Final = 60_000  # protocol.md.
HELLO_MS: Final = 15_000  # Our choice: a city that was away answers the next one.
SWEEP_MS: Final = 60_000  # Our choice: old generations go within a minute of their time.
REFUSED_MS: Final = 60_000  # Our choice: the same refusal is a fact once a minute at most.
REFUSED_KINDS_MAX: Final = 256  # Our choice: kinds of refusals remembered for that.
PACKET_BYTES_DEFAULT: Final = 64 * 1024  # What a broker takes that did not say: our own limit.
DENIED: Final = (Loss.DENIED, Loss.UNTRUSTED, Loss.TAKEN_OVER)


class Sync:
    """One device's connection to the city. Call `step` when woken and at `due_ms`."""

    def __init__(
        self,
        settings: DeviceSettings,
        *,
        clock: Clock,
        writer: Writer,
        bridge: Bridge,
        keys: KeyStore,
        verifier: Verifier,
        endpoints: tuple[Endpoint, ...],
        first_contact: Session | None,
        random: Callable[[], float],
        ring_edge: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.counters = marks.counters(writer)
        self.connected: Connected | None = None
        self.since_ms = clock.mono_ms()
        self.reason = "starting"
        self._started_ms = self.since_ms
        self._writer = writer
        self._bridge = bridge
        self._endpoints = endpoints
        self._first_contact = first_contact
        self._random = random
        self._ring_edge = ring_edge
        self._backoff = Backoff(endpoints=len(endpoints))
        self._next_connect_ms: int | None = self.since_ms
        self._connection = 0
        self._nonce = ""
        self._hello_ms: int | None = None
        self._welcomed = False
        self._looked_ms = self._health_ms = self._sweep_ms = 0
        self._refused_ms: dict[tuple[str, str, str], int] = {}
        self._log = logs.get("sync")
        moment = clock.moment()
        self._load_anchor()
        self._agent = StreamWriter(
            writer, device=settings.device_id, site=settings.site_id, stream=Stream.AGENT
        )
        if not self._agent.epoch:
            self._agent.open_epoch(moment, why="new_store", station=settings.station)
        self.pictures = Pictures(settings.folders.state, writer)
        self.uplink = Uplink(
            device=settings.device_id,
            journal=settings.journal_path,
            writer=writer,
            refused=self.refuse,
        )
        self.downlink = Downlink(
            device=settings.device_id,
            scopes=scopes_of(settings.site_id, settings.station),
            writer=writer,
            pictures=self.pictures,
            keys=keys,
            verifier=verifier,
            spread=random(),
            changed=ring_edge,
            refused=self.refuse,
        )
        self.downlink.start(clock.moment())
        self.uplink.look(clock.mono_ms())

    # ------------------------------------------------------------------------ one step

    def step(self, *, rung: bool = False) -> None:
        """Everything that waits."""
        for event in self._bridge.poll():
            self._take(event)
        moment = self.clock.moment()
        if rung or moment.mono_ms - self._looked_ms >= LOOK_MS:
            self._looked_ms = moment.mono_ms
            self.uplink.look(moment.mono_ms)
        if self._welcomed:
            try:
                reason = self.uplink.pump(self._publish_facts, moment.mono_ms)
                self.downlink.step(self._publish_pull, moment)
                if reason:
                    self._end(reason)
            except DeviceFault as fault:
                self._count("publish_failed")
                self._log.warning("the broker takes nothing now", reason=str(fault))
        else:
            self.downlink.step(None, moment)
        self._take_time(moment)

    def due_ms(self) -> int:
        """When `step` is needed at the latest though nothing arrives."""
        due = [self._looked_ms + LOOK_MS]
        if self._next_connect_ms is not None:
            due.append(self._next_connect_ms)
        wake_ms = self.uplink.wake_ms()
        if wake_ms is not None:
            due.append(wake_ms)
        return min(due)

    def refuse(self, what: str, scope: str, reason: str) -> None:
        """Something that came is not taken: counted always, a fact once a minute of its kind."""
        self._count(f"refused_{what}_{reason}")
        moment = self.clock.moment()
        key = (what, scope, reason)
        last_ms = self._refused_ms.get(key)
        if last_ms is not None and moment.mono_ms - last_ms < REFUSED_MS:
            return
        if len(self._refused_ms) >= REFUSED_KINDS_MAX:
            self._refused_ms.clear()
        self._refused_ms[key] = moment.mono_ms
        self._log.warning("refused", what=what, scope=scope, reason=reason)
        try:
            with self._agent.recording() as refusing:
                refusing.add(
                    UpdateRefused(
                        **refusing.stamp(moment), what=what, scope=scope[:80], reason=reason[:80]
                    )
                )
        except DeviceFault:
            self._count("refusals_unrecorded")  # Counted all the same, and told in health.

    def start_over(self) -> None:
        """A step ended halfway (the disk refused): begin the connection anew, nothing is lost."""
        self._welcomed = False
        self._bridge.disconnect()

    def stop(self) -> None:
        """Say goodbye, if there is a link, and let go of everything."""
        if self.connected is not None:
            try:
                self._bridge.publish(
                    own(self.settings.device_id, TopicKind.STATUS),
                    status.will(
                        device=self.settings.device_id,
                        boot=self.clock.boot,
                        connection=self._connection,
                    ),
                    qos=1,
                    retained=True,
                )
            except DeviceFault:
                pass  # The will says the same.
        self._bridge.close()
        marks.save_counters(self._writer, self.counters)
        self.uplink.close()
        self.pictures.close()
        self._writer.close()

    # --------------------------------------------------------------------- the connection

    def _take(self, event: BridgeEvent) -> None:
        match event:
            case Connected():
                self.connected = event
                self.since_ms = self.clock.mono_ms()
                self._log.info("connected", endpoint=str(event.endpoint), mqtt=event.protocol)
                scopes = scopes_of(self.settings.site_id, self.settings.station)
                self._bridge.subscribe(subscriptions(self.settings.device_id, scopes))
            case SubscriptionsReady(refused=refused):
                for topic in refused:
                    self.refuse("subscription", topic, "denied")
                self._greet()
            case Message():
                self._take_message(event)
                self._bridge.done(event.token)
            case Disconnected(loss=loss, detail=detail):
                self._lost(loss, detail)
            case Published(failure=failure):
                if failure:
                    self._count("broker_refused")
                    self._log.warning("the broker refused a message", reason=failure)
            case Oversized():
                # Without its size: the words of a refusal are few, whatever a stranger sends.
                self.refuse("message", "", "oversize")

    def _connect(self, moment: Moment) -> None:
        self._next_connect_ms = None
        self._connection = marks.next_connection(self._writer, moment.wall_ms // 1000)
        endpoint = self._endpoints[self._backoff.endpoint]
        device = self.settings.device_id
        try:
            self._bridge.connect(
                endpoint,
                will_topic=own(device, TopicKind.STATUS),
                will=status.will(device=device, boot=self.clock.boot, connection=self._connection),
                # Without a believable clock no certificate's dates can be checked: this contact
                # is only to fetch signed time (protocol.md, Device identity).
                session=None if moment.clock_trusted else self._first_contact,
            )
        except DeviceFault as fault:
            self._lost(Loss.UNREACHABLE, str(fault))

    def _greet(self) -> None:
        device = self.settings.device_id
        self._publish(
            own(device, TopicKind.STATUS),
            status.birth(device=device, boot=self.clock.boot, connection=self._connection),
            retained=True,
        )
        self._say_hello()

    def _say_hello(self) -> None:
        moment = self.clock.moment()
        self._hello_ms = moment.mono_ms
        self._nonce = secrets.token_hex(16)
        self.uplink.look(moment.mono_ms)
        hello = Hello(
            device=self.settings.device_id,
            site=self.settings.site_id,
            station=self.settings.station,
            boot=moment.boot,
            connection=self._connection,
            nonce=self._nonce,
            software=SOFTWARE,
            clock=moment.quality,
            streams=self.uplink.heads(),
            held=self.downlink.held(),
            keys=self.downlink.key_versions(),
        )
        self._publish(own(self.settings.device_id, TopicKind.HELLO), encode_json(hello))

    def _lost(self, loss: Loss, detail: str) -> None:
        was = self.connected is not None
        moment = self.clock.moment()
        self.connected, self._welcomed, self._hello_ms = None, False, None
        self.uplink.disconnected()
        self.downlink.disconnected()
        wait_ms = self._backoff.ended(
            now_ms=moment.mono_ms, fraction=self._random(), denied=loss in DENIED
        )
        self._next_connect_ms = moment.mono_ms + wait_ms
        if was or self.reason != detail:
            self._log.warning("not connected", why=loss.value, detail=detail)
        self.reason, self.since_ms = detail, moment.mono_ms
        self._count("disconnects" if was else "connects_failed")

    def _end(self, reason: str) -> None:
        self._log.warning("ending this connection", reason=reason)
        self._welcomed = False
        self._bridge.disconnect()

    # ------------------------------------------------------------------------ what came

    def _take_message(self, message: Message) -> None:
        topic = parse(message.topic)
        moment = self.clock.moment()
        kind = "message" if topic is None else topic.kind.value
        try:
            match topic.kind if topic is not None else None:
                case TopicKind.ACK:
                    self._take_ack(message.payload, moment)
                case TopicKind.WELCOME:
                    self._take_welcome(message.payload, moment)
                case TopicKind.HEAD:
                    self.downlink.take_head(message.payload, moment)
                case TopicKind.DELTA:
                    self.downlink.take_delta(message.payload, moment)
                case TopicKind.PUSH:
                    self.downlink.take_push(message.payload, moment)
                case TopicKind.ORDER:
                    self._take_order(message.payload, moment)
                case kind_of if kind_of is not None and publisher_of(kind_of) is Side.DEVICE:
                    self._count("echoes")  # amqtt hands out retained messages nobody asked for.
                case _:
                    raise CorruptData("not for a device")
        except CorruptData as problem:
            scope = "" if topic is None else topic.scope
            self._log.warning("refused", what=kind, reason=str(problem)[:200])
            self.refuse(kind, scope, "invalid")

    def _take_ack(self, payload: bytes, moment: Moment) -> None:
        reason = self.uplink.acknowledged(decode_json(Ack, payload), moment.mono_ms)
        if reason:
            self._end(reason)

    def _take_welcome(self, payload: bytes, moment: Moment) -> None:
        opened = self.downlink.verifier.open(SignedWhat.WELCOME, decode_signed_lines(payload))
        welcome = decode_json(Welcome, opened)
        if welcome.device != self.settings.device_id or welcome.nonce != self._nonce:
            raise CorruptData("welcome: answers another hello")
        self._nonce, self._hello_ms = "", None
        if marks.set_anchor(self._writer, moment, welcome.utc_ms):
            self._load_anchor()
        else:
            self.refuse("welcome", "", "below_floor")
        link = self.connected
        if link is None:
            return
        self._welcomed = True
        self._backoff.useful(now_ms=moment.mono_ms)
        packet_max = link.packet_bytes_max or PACKET_BYTES_DEFAULT
        self.uplink.connected(
            welcome.high_water,
            now_ms=moment.mono_ms,
            window_batches=link.receive_max,
            bytes_max=packet_max,
            throttle_per_s=welcome.throttle_per_s,
        )
        self.downlink.connected(welcome.wanted, self.clock.moment())

    def _take_order(self, payload: bytes, moment: Moment) -> None:
        opened = self.downlink.verifier.open(SignedWhat.ORDER, decode_signed_lines(payload))
        order = decode_json(Order, opened)
        if order.device != self.settings.device_id:
            raise CorruptData("order: for another device")
        problem = marks.take_order(self._writer, order.counter, opened, moment)
        if problem == "used_counter":
            self.refuse("order", str(order.counter), problem)
        elif not problem:
            self._count("orders_taken")
            self._ring_edge()

    # ------------------------------------------------------------------------- helpers

    def _take_time(self, moment: Moment) -> None:
        """What is due by the clock alone."""
        now_ms = moment.mono_ms
        if self._next_connect_ms is not None and now_ms >= self._next_connect_ms:
            self._connect(moment)
        if self._hello_ms is not None and now_ms - self._hello_ms >= HELLO_MS:
            self._count("hello_unanswered")
            self._say_hello()
        if self._welcomed and now_ms - self._health_ms >= HEALTH_MS:
            self._health_ms = now_ms
            health = encode_json(self.health(moment))
            self._publish(own(self.settings.device_id, TopicKind.HEALTH), health, qos=0)
            marks.save_counters(self._writer, self.counters)
        if now_ms - self._sweep_ms >= SWEEP_MS:
            self._sweep_ms = now_ms
            self.pictures.sweep(moment)

    def health(self, moment: Moment) -> Health:
        return Health(
            device=self.settings.device_id,
            boot=moment.boot,
            uptime_s=(moment.mono_ms - self._started_ms) // 1000,
            clock=moment.quality,
            depth=self.uplink.depth(),
            held=self.downlink.held(),
            list_age_s={},
            counters=self.all_counters(),
            parts={},
            disk_free_bytes=shutil.disk_usage(self.settings.folders.state).free,
        )

    def all_counters(self) -> dict[str, int]:
        return {**self.counters, **self.uplink.counters, **self.downlink.counters}

    def status(self) -> dict[str, Any]:
        """Answer to `{"request": "status"}`."""
        link = self.connected
        return {
            "ok": True,
            "process": "sync",
            "device": self.settings.device_id,
            "software": SOFTWARE,
            "connected": self._welcomed,
            "endpoint": "" if link is None else str(link.endpoint),
            "protocol": "" if link is None else link.protocol,
            "since_s": (self.clock.mono_ms() - self.since_ms) // 1000,
            "reason": "" if self._welcomed else self.reason,
            "clock": self.clock.moment().quality,
            "streams": self.uplink.status(),
            "held": {s: [v.list_epoch, v.number] for s, v in self.downlink.held().items()},
            "refused": {
                name.removeprefix("refused_"): count
                for name, count in self.counters.items()
                if name.startswith("refused_")
            },
            "counters": self.all_counters(),
        }

    def _publish(self, topic: str, payload: bytes, *, qos: int = 1, retained: bool = False) -> None:
        try:
            self._bridge.publish(topic, payload, qos=qos, retained=retained)
        except DeviceFault:
            self._count("publish_failed")  # The link is going; what mattered is said again.

    def _publish_facts(self, stream: Stream, batch: bytes) -> None:
        self._bridge.publish(up(self.settings.device_id, stream), batch, qos=1)

    def _publish_pull(self, pull: Pull) -> None:
        self._bridge.publish(own(self.settings.device_id, TopicKind.PULL), encode_json(pull), qos=1)

    def _load_anchor(self) -> None:
        anchor = marks.time_anchor(self._writer.db)
        if anchor is not None:
            self.clock.anchor = Anchor(
                boot=anchor.boot, mono_ms=anchor.mono_ms, utc_ms=anchor.utc_ms
            )
            self.clock.floor_ms = anchor.floor_utc_ms

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
