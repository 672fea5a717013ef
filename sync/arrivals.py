"""What came from the broker, opened and given to the part of sync that it is for. No rules.

Signatures first, then the schema, then whether it is for this device at all. What makes no sense
is refused, counted and told to the city, and stops nothing. Lists are the downlink's from their
bytes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge import logs
from edge.messages import (
    Ack,
    Order,
    Renewed,
    SignedWhat,
    Welcome,
    decode_json,
    decode_signed_lines,
)
from edge.model import ClockQuality, CorruptData, Moment, Station
from edge.offline_cache import marks
from edge.offline_cache.live_tills import store_live
from sync.bridge_events import Message
from sync.contact import Contact
from sync.parts import Parts
from sync.topics import Side, Topic, TopicKind, parse, publisher_of

if TYPE_CHECKING:
    from sync.loop import Sync


class Arrivals:
    """Of one `Sync`."""

    def __init__(self, sync: Sync, parts: Parts) -> None:
        self._sync = sync
        self._parts = parts
        self._device = parts.settings.device_id
        self._welcome_refused = False
        self._log = logs.get("sync")

    def take(self, message: Message) -> bool:
        """One message; the broker may be told afterwards that it is dealt with. True: it was of our
        own facts, and the pump has it."""
        topic, of_facts = parse(message.topic), False
        try:
            if topic is not None and topic.kind is TopicKind.ACK:
                # Many a second while a backlog drains, and it needs no calendar.
                of_facts = self._take_ack(message.payload, self._sync.clock.mono_ms())
            else:
                self._take(topic, message.payload, self._sync.clock.moment())
        except CorruptData as problem:
            kind, scope = ("message", "") if topic is None else (topic.kind.value, topic.scope)
            self._welcome_refused |= kind == TopicKind.WELCOME.value
            self._log.warning("refused", what=kind, reason=str(problem)[:200])
            self._sync.teller.refuse(kind, scope, "invalid")
        return of_facts

    def _take(self, topic: Topic | None, payload: bytes, moment: Moment) -> None:
        downlink = self._sync.downlink
        match topic.kind if topic is not None else None:
            case TopicKind.WELCOME:
                self._take_welcome(payload, moment)
            case TopicKind.HEAD:
                downlink.take_head(payload, moment)
            case TopicKind.DELTA:
                downlink.take_delta(payload, moment)
            case TopicKind.PUSH:
                downlink.take_push(payload, moment)
            case TopicKind.ORDER:
                self._take_order(payload, moment)
            case TopicKind.RENEWED:
                self._take_renewed(payload, moment)
            case TopicKind.ROOT:
                self._take_root(payload, moment)
            case kind if kind is not None and publisher_of(kind) is Side.DEVICE:
                self._sync.teller.count("echoes")  # amqtt hands out what nobody asked for.
            case _:
                raise CorruptData("not for a device")

    def _take_ack(self, payload: bytes, now_ms: int) -> bool:
        ack = decode_json(Ack, payload)
        if self._sync.peers.handed_in(ack):
            return False
        reason = self._sync.uplink.acknowledged(ack, now_ms)
        if reason:
            self._sync.link.end(reason)
        return not reason

    def _take_welcome(self, payload: bytes, moment: Moment) -> None:
        opened = self._sync.downlink.verifier.open(SignedWhat.WELCOME, decode_signed_lines(payload))
        welcome = decode_json(Welcome, opened)
        if welcome.device != self._device or not self._sync.link.answers(welcome.nonce):
            raise CorruptData("welcome: answers another hello")
        if marks.set_anchor(self._parts.writer, moment, welcome.utc_ms):
            self._sync.load_anchor()
        else:
            self._sync.teller.refuse("welcome", "", "below_floor")
        connected = self._sync.link.connected
        if connected is None:
            return
        if self._sync.link.contact is Contact.TIME:
            self._time_taken(moment)
            return
        again = self._sync.link.welcomed
        self._sync.link.take_welcome()
        self._welcome_refused = False
        self._take_live(welcome, moment)
        moment = self._sync.clock.moment()
        if self._sync.link.contact is Contact.CANDIDATE:
            self._sync.renewing.promote()
            self._sync.link.contact = Contact.FULL
            self._parts.ring_edge()
        self._sync.configuring.welcomed()
        if again:
            return  # On this connection the city has told the rest; nothing in flight is in doubt.
        self._sync.uplink.connected(
            welcome.high_water,
            now_ms=moment.mono_ms,
            window_batches=connected.receive_max,
            bytes_max=self._sync.link.payload_bytes_max,
            throttle_per_s=welcome.throttle_per_s,
        )
        self._sync.downlink.connected(welcome.wanted, moment)
        self._sync.downlink.pull_keys()

    def _take_live(self, welcome: Welcome, moment: Moment) -> None:
        """Which other tills the city hears: a till that is alone in its school may go by it."""
        if self._parts.settings.station is Station.TILL:
            asked_ms = self._sync.link.asked_ms
            with self._parts.writer.transaction() as db:
                store_live(db, welcome.live, asked_ms=asked_ms, boot=moment.boot)

    def _time_taken(self, before: Moment) -> None:
        """The first contact has served: signed time is here, so the next one checks everything.
        Noted once: before a broker whose dates are past by that time too, it comes again and again.
        """
        moment = self._sync.clock.moment()
        self._sync.teller.count("first_contacts")
        self._log.warning("time fetched without date checks", was=before.quality)
        if before.quality is not ClockQuality.CITY is moment.quality:
            self._sync.teller.note("first_contact", why=before.quality)
        self._sync.link.end("connecting again with full checks", at_once=moment.clock_trusted)

    def _take_order(self, payload: bytes, moment: Moment) -> None:
        opened = self._sync.downlink.verifier.open(SignedWhat.ORDER, decode_signed_lines(payload))
        order = decode_json(Order, opened)
        if order.device != self._device:
            raise CorruptData("order: for another device")
        problem = marks.take_order(self._parts.writer, order.counter, opened, moment)
        if problem == "used_counter":
            self._sync.teller.refuse("order", str(order.counter), problem)
        elif not problem:
            self._sync.teller.count("orders_taken")
            self._sync.orders.take(moment)
            self._parts.ring_edge()

    def _take_root(self, payload: bytes, moment: Moment) -> None:
        roots = self._parts.roots
        refused = roots.take(payload)
        if refused == "same":
            return
        if refused:
            self._sync.teller.refuse("root", "", refused)
            return
        self._sync.downlink.take_root(roots.verifier, moment)
        self._log.warning("signing keys were rotated", version=roots.version)
        self._sync.teller.note("root", number=roots.version)
        if self._welcome_refused and self._sync.link.greeting:
            self._sync.link.say_hello()  # It was signed by a key that we did not know yet.

    def _take_renewed(self, payload: bytes, moment: Moment) -> None:
        renewed = decode_json(Renewed, payload)
        if renewed.device != self._device:
            raise CorruptData("renewed: of another device")
        self._sync.renewing.take(renewed, moment)
