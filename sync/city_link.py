"""The one connection to the city, from the attempt to its end: when, where to, and as whom.

Subscribe, birth and hello on the way in; a reason, a wait and the next attempt on the way out. A
contact without dates checked subscribes to nothing but the welcome and tells nothing but the name.
What the connection carries is the loop's business.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from edge import logs
from edge.messages import MESSAGE_BYTES_MAX, Hello, encode_json
from edge.model import DeviceFault, Moment, SetupProblem
from edge.offline_cache import marks
from sync import status
from sync.backoff import Backoff
from sync.bridge_events import Connected, Loss
from sync.configuring import Configuring
from sync.contact import Contact, contact_for, refusal_of
from sync.parts import Parts
from sync.renewing import Renewing
from sync.session import PACKET_BYTES_NEEDED, PACKET_HEADER_BYTES
from sync.telling import Teller
from sync.topics import TopicKind, heard_at_most_once, own, scopes_of, subscriptions

HELLO_MS: Final = 15_000  # Our choice: a city that was away answers the next one.
# Our choice: a plug that shakes costs an attempt in so long.
HURRY_MS: Final = 5_000
# Our choice: the devices of a school whose switch came back try within so long of each other.
HURRY_SPREAD_MS: Final = 2_000
DENIED: Final = (Loss.DENIED, Loss.UNTRUSTED, Loss.TAKEN_OVER)


class CityLink:
    """`hello` is called for what to say, with the nonce and the number of the connection."""

    def __init__(
        self,
        parts: Parts,
        *,
        teller: Teller,
        configuring: Configuring,
        renewing: Renewing,
        hello: Callable[[str, int], Hello],
    ) -> None:
        self.connected: Connected | None = None
        self.welcomed = False
        self.contact = Contact.FULL  # Of the connection that is, or is being made.
        self.since_ms = parts.clock.mono_ms()
        self.reason = "starting"
        self.refusal = ""  # A word of `contact.REFUSALS`: more than a network that is down.
        self.next_connect_ms: int | None = self.since_ms
        self._parts = parts
        self._bridge = parts.bridge
        self._device = parts.settings.device_id
        self._teller = teller
        self._configuring = configuring
        self._renewing = renewing
        self._hello = hello
        self._backoff = Backoff(endpoints=len(configuring.endpoints))
        self._at_once = False  # We end this connection to make another.
        self._dates_failed = False  # And the city has not told the time since.
        self._connection = 0
        self._nonce = ""
        self.asked_ms = 0  # When the last hello was said.
        self._hello_ms: int | None = None
        self._hurried_ms: int | None = None
        self._log = logs.get("sync")

    # ---------------------------------------------------------------------------- the way in

    def step(self, moment: Moment) -> None:
        """What is due by the clock alone."""
        now_ms = moment.mono_ms
        if self.next_connect_ms is not None and now_ms >= self.next_connect_ms:
            self._connect(moment)
        if self._hello_ms is not None and now_ms - self._hello_ms >= HELLO_MS:
            self._teller.count("hello_unanswered")
            self.say_hello()
        only_for_time = self.contact is Contact.TIME and self.connected is not None
        known = moment.clock_trusted and not self._dates_failed
        if only_for_time and known and not self._at_once:
            self.end("the time is known by another way", at_once=True)

    def take_connected(self, event: Connected) -> None:
        self.connected = event
        self.since_ms = self._parts.clock.mono_ms()
        endpoint, contact = str(event.endpoint), self.contact.value
        self._log.info("connected", endpoint=endpoint, mqtt=event.protocol, contact=contact)
        settings = self._parts.settings
        topics = subscriptions(self._device, scopes_of(settings.site_id, settings.station))
        if self.contact is Contact.TIME:
            topics = (own(self._device, TopicKind.WELCOME),)
        self._bridge.subscribe(topics, at_most_once=heard_at_most_once(self._device))

    def greet(self) -> None:
        """The subscriptions are answered: here we are."""
        if self.contact is not Contact.TIME:
            self.publish(TopicKind.STATUS, self._status(online=True), retained=True)
        self.say_hello()

    def say_hello(self) -> None:
        """Anew, with a nonce of its own: the welcome to it shows that the city still answers."""
        self._hello_ms = self.asked_ms = self._parts.clock.mono_ms()
        self._nonce = secrets.token_hex(16)
        self.publish(TopicKind.HELLO, encode_json(self._hello(self._nonce, self._connection)))

    @property
    def greeting(self) -> bool:
        """A hello is out and not answered."""
        return self._hello_ms is not None

    def answers(self, nonce: str) -> bool:
        """Whether a welcome is to our last hello; each is answered once."""
        if not self._nonce or nonce != self._nonce:
            return False
        self._nonce, self._hello_ms = "", None
        self._dates_failed = False  # The time is in it: dates are checked against that.
        return True

    def take_welcome(self) -> None:
        """From here the connection serves."""
        self.welcomed = True
        self._tell_refusal("")
        self._backoff.useful(now_ms=self._parts.clock.mono_ms())

    # --------------------------------------------------------------------------- the way out

    def end(self, reason: str, *, at_once: bool = False) -> None:
        """In order: what was published is given a moment. `at_once`: to make another."""
        self._log.warning("ending this connection", reason=reason)
        self._at_once = at_once
        self.welcomed = False
        if at_once and self.next_connect_ms is not None:
            self.next_connect_ms = self._parts.clock.mono_ms()  # Nothing to end: go on.
        self._bridge.disconnect()

    @property
    def payload_bytes_max(self) -> int:
        """What the broker takes in one message; our own limit where it did not say."""
        packet = None if self.connected is None else self.connected.packet_bytes_max
        if packet is None:
            return MESSAGE_BYTES_MAX
        return min(MESSAGE_BYTES_MAX, packet - PACKET_HEADER_BYTES)

    def alarms(self) -> list[str]:
        """One line each, with what to do."""
        connected = self.connected
        if connected is None or self.payload_bytes_max >= MESSAGE_BYTES_MAX:
            return []
        found = (
            f"{connected.endpoint} takes packets of {connected.packet_bytes_max} bytes at most;"
            f" raise its limit to {PACKET_BYTES_NEEDED} (Mosquitto: max_packet_size): what is"
            " larger waits here"
        )
        return [found]

    def try_now(self, moment: Moment, *, spread: bool) -> bool:
        """There is reason to think that the city can be reached: do not wait longer. `spread`:
        others of this place have the same reason. False when there is nothing to hurry."""
        if self.next_connect_ms is None:
            return False  # Connected, or an attempt is under way.
        hurried_ms = self._hurried_ms
        if spread and hurried_ms is not None and moment.mono_ms - hurried_ms < HURRY_MS:
            return False
        self._hurried_ms = moment.mono_ms
        self._backoff.fresh()  # An address may come a second before the way to anywhere.
        wait_ms = round(self._parts.random() * HURRY_SPREAD_MS) if spread else 0
        self.next_connect_ms = min(self.next_connect_ms, moment.mono_ms + wait_ms)
        self._teller.count("connects_hurried")
        return True

    def next_try_s(self, moment: Moment) -> int | None:
        """Seconds to the next attempt, rounded up; None while one is under way or has led to a
        connection."""
        if self.next_connect_ms is None:
            return None
        return max(0, -(-(self.next_connect_ms - moment.mono_ms) // 1000))

    def use_endpoints(self) -> None:
        """Other brokers are set: begin with the first of them."""
        self._backoff = Backoff(endpoints=len(self._configuring.endpoints))
        self.end("other brokers are set", at_once=True)

    def lost(self, loss: Loss, detail: str) -> None:
        """There is no connection (any more): why, and how long to wait for the next."""
        was, welcomed = self.connected is not None, self.welcomed
        moment = self._parts.clock.moment()
        self.connected, self.welcomed, self._hello_ms = None, False, None
        at_once, self._at_once = self._at_once and loss is Loss.ASKED, False
        self._dates_failed |= loss is Loss.DATES
        renewal = self._renewing.renewal
        if self.contact is Contact.CANDIDATE and not welcomed and renewal.as_candidate:
            self._renewing.failed(loss.value, moment)
            at_once = True  # Back to what we have.
        elif loss in DENIED and renewal.try_now(moment.mono_ms):
            at_once = True  # What we have is not wanted; the candidate may be.
        wait_ms = 0
        if not at_once:
            wait_ms = self._backoff.ended(
                now_ms=moment.mono_ms, fraction=self._parts.random(), denied=loss in DENIED
            )
        self.next_connect_ms = moment.mono_ms + wait_ms
        if was or self.reason != detail:
            self._log.warning(
                "not connected", why=loss.value, detail=detail, next_try_s=wait_ms // 1000
            )
        self.reason, self.since_ms = detail, moment.mono_ms
        # A contact for time alone shows nothing of whether we are served.
        stays = not was or self.contact is Contact.TIME
        self._tell_refusal(refusal_of(loss, detail) or (self.refusal if stays else ""))
        self._teller.count("disconnects" if was else "connects_failed")

    def goodbye(self) -> None:
        """A planned stop: the will says the same."""
        if self.connected is not None and self.contact is not Contact.TIME:
            self.publish(TopicKind.STATUS, self._status(online=False), retained=True)

    def publish(
        self, kind: TopicKind, payload: bytes, *, qos: int = 1, retained: bool = False
    ) -> None:
        """Taken on, or counted: the link is going, and what mattered is said again; or the broker
        would end the connection over it, and `alarms` says so."""
        if len(payload) > self.payload_bytes_max:
            self._teller.count("too_large_for_broker")
            return
        try:
            self._bridge.publish(own(self._device, kind), payload, qos=qos, retained=retained)
        except DeviceFault:
            self._teller.count("publish_failed")

    # ------------------------------------------------------------------------------- helpers

    def _connect(self, moment: Moment) -> None:
        self.next_connect_ms = None
        self._connection = marks.next_connection(self._parts.writer, moment.wall_ms // 1000)
        endpoint = self._configuring.endpoints[self._backoff.endpoint]
        self.contact = contact_for(
            clock_trusted=moment.clock_trusted,
            dates_failed=self._dates_failed,
            tls=endpoint.tls,
            candidate=self._renewing.renewal.as_candidate,
        )
        try:
            self._bridge.connect(
                endpoint,
                will_topic=own(self._device, TopicKind.STATUS),
                will=self._status(online=False),
                session=self._parts.sessions.of(self.contact, endpoint),
            )
        except (DeviceFault, SetupProblem) as fault:
            self.lost(Loss.UNREACHABLE, str(fault))

    def _status(self, *, online: bool) -> bytes:
        make = status.birth if online else status.will
        return make(device=self._device, boot=self._parts.clock.boot, connection=self._connection)

    def _tell_refusal(self, refusal: str) -> None:
        """A person must act, or need not any more: said once."""
        if refusal == self.refusal:
            return
        self.refusal = refusal
        if refusal:
            self._log.error("the broker refuses this device", why=refusal)
            self._teller.note("refused_by_broker", why=refusal)
