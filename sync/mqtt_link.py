"""The one import of paho: one connection to one broker, on a short lead.

Every connection is a new paho client in a new thread: no state of an earlier connection can be
resent. The thread looks up, connects and shakes hands, which may hang; then it turns the client, or
lends it to whoever waits for it (`sync/turns.py`). Calls from outside are commands, done in order
by who has the client.

The lead, point by point (each was seen to matter): own window by the broker's Receive Maximum,
never a publish while not connected, `drop_out_messages` at the end, no reconnecting by paho,
manual acknowledgement after our commit, TCP_NODELAY and TCP_USER_TIMEOUT, callbacks that only
note, packets of bounded size, MQTT 5 first and then 3.1.1. When the events are not fetched the
socket is not read, and TCP makes the broker wait.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.messages import MESSAGE_BYTES_MAX
from sync.bell import Bell
from sync.bridge_events import (
    BridgeEvent,
    Connected,
    Disconnected,
    Loss,
    Message,
    Oversized,
    Published,
    SubscriptionsReady,
    Token,
    loss_of_code,
)
from sync.link_end import Ended, LastWords, connect_problem
from sync.pulse import STUCK_MS, Pulse
from sync.session import TCP_MS_MAX, USER_TIMEOUT_MS, Endpoint, Session
from sync.turns import STAND_IN_MS, Turns, monotonic_ms

IN_FLIGHT_MAX: Final = 64  # Measured: above 100 paho gets slower, each PUBACK walks its table.
TOPICS_PER_SUBSCRIBE: Final = 8  # The strictest cloud broker's limit.
PACKET_BYTES_CUT: Final = 1024 * 1024  # Our choice: 3.1.1 has no limit to agree on; here it ends.
LINGER_MS_MAX: Final = 2_000  # Our choice: what an ordered end may wait for last answers.
TURN_MS_MAX: Final = 1_000  # Keepalive is counted in seconds.
ENDING_TURN_MS_MAX: Final = 10  # Our choice: a stop waits no longer than it must.
REFUSAL_MS_MAX: Final = 2_000  # Our choice: a slow line. NATS without a leader hangs up after 4 s.

assert MESSAGE_BYTES_MAX < PACKET_BYTES_CUT
assert TURN_MS_MAX + STAND_IN_MS < STUCK_MS

_UNSUPPORTED_VERSION: Final = 0x84  # Reason codes of MQTT 5.0, 2.4.
_NO_MATCHING_SUBSCRIBERS: Final = 0x10


class Link:
    """One connection: its thread, its client, its window. The public methods are for the bridge's
    thread; everything else is done by who has the client: the link's own thread, or the bridge's
    while it is lent. `recall`: it is to be lent, and this bell calls the borrower away."""

    def __init__(
        self,
        *,
        number: int,
        session: Session,
        endpoint: Endpoint,
        will: tuple[str, bytes],
        old_protocol: bool,
        post: Callable[[int, BridgeEvent], None],
        tell: Callable[[], None],
        crowded: Callable[[], bool],
        recall: Bell | None,
    ) -> None:
        self.number = number
        self.endpoint = endpoint
        self.connected = False
        self.was_connected = False
        self.given_up = False  # Set by the bridge: whatever it still reaches, it is not wanted.
        self.submitted = 0  # Publishes; counted by the bridge's thread alone.
        self.settled = 0  # Those answered; counted by who has the client.
        self.old_protocol: bool | None = None  # Learnt: 3.1.1 alone (True), not so (False).
        self.bell = Bell()
        self.turns = Turns(self._turn, failed=self._fail, over=lambda: self._ended is not None)
        self.thread = threading.Thread(target=self._run, name=f"mqtt-{number}", daemon=True)
        self._session = session
        self._will = will
        self._assume_old = old_protocol
        self._note = partial(post, number)
        self._tell = tell
        self._untold = False  # Something is noted that somebody waits for.
        self._crowded = crowded
        self._recall = recall
        self._commands: deque[Callable[[], None]] = deque()
        self._client: Client | None = None
        self._poller = select.poll()  # Of the bell and the client's socket.
        self._words = LastWords()
        self._connack: tuple[ReasonCode, Properties | None] | None = None
        self._ended: Ended | None = None
        self._receive_max = IN_FLIGHT_MAX
        self._unanswered: dict[int, int] = {}  # paho's mid -> our number.
        self._held_back: deque[tuple[int, str, bytes, bool]] = deque()
        self._subscribing: dict[int, tuple[str, ...]] = {}
        self._refused_topics: list[str] = []
        self._finish_by_ms: int | None = None
        now_ms = monotonic_ms()
        self._pulse = Pulse(
            started_ms=now_ms,
            connect_ms_max=session.connect_ms_max,
            keepalive_s=session.keepalive_s,
            beat_ms=now_ms,
            heard_ms=now_ms,
        )

    # ------------------------------------------------------------------ for the bridge's thread

    def submit(self, command: Callable[[], None], *, wake: bool = True) -> None:
        """Have this done, in order; without `wake` at the next turn."""
        self._commands.append(command)
        if wake:
            self.wake()

    def wake(self) -> None:
        """Have done now what was submitted."""
        if self._commands and self.turns.lent:
            self.turns.do(self._do_commands)
        elif self._commands:
            self.bell.ring()

    def give_back(self) -> None:
        """The borrower serves no more: the thread goes on alone, and at once."""
        self.turns.give_back()
        self.bell.ring()  # It may not have lent it yet, and be waiting in a turn of its own.

    def problem(self, now_ms: int) -> str:
        """Why this link cannot be believed any more, or ""."""
        # One that has ended says why itself.
        problem = self._pulse.problem(now_ms, connected=self.was_connected)
        if not problem and not self.thread.is_alive() and self.thread.ident is not None:
            problem = "its thread ended without a word"
        return problem

    # ------------------------------------------------------------------ commands, submitted

    def subscribe(self, topics: tuple[tuple[str, int], ...]) -> None:
        assert self._client is not None
        for start in range(0, len(topics), TOPICS_PER_SUBSCRIBE):
            group = topics[start : start + TOPICS_PER_SUBSCRIBE]
            _, mid = self._client.subscribe(list(group))
            if mid is not None:  # None: the connection is gone, and Disconnected says so.
                self._subscribing[mid] = tuple(topic for topic, _ in group)

    def publish(self, number: int, topic: str, payload: bytes, qos: int, retained: bool) -> None:
        assert self._client is not None
        if qos == 0:
            self.settled += 1
            self._client.publish(topic, payload, qos=0, retain=retained)
        else:
            self._held_back.append((number, topic, payload, retained))
            self._send_held_back()

    def acknowledge(self, mids: Sequence[int]) -> None:
        assert self._client is not None
        for mid in mids:
            self._client.ack(mid, 1)

    def finish(self) -> None:
        """End in order, as soon as what was published is answered or a moment has passed."""
        self._finish_by_ms = monotonic_ms() + LINGER_MS_MAX

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            ended = self._live()
        except Exception as error:
            self._fail(error)
            assert self._ended is not None
            ended = self._ended
        finally:
            self.connected = False
            self._let_go()
            self.bell.close()
        if self._assume_old and not self.was_connected:
            self.old_protocol = False  # Learnt wrongly once, or the broker is another now.
        detail = f"{self.endpoint}: {ended}"
        self._post(Disconnected(loss=ended.loss, detail=detail, was_connected=self.was_connected))

    def _live(self) -> Ended:
        if self._assume_old or not self._open(MQTTProtocolVersion.MQTTv5):
            # A broker of 3.1.1 alone refuses version 5, hangs up, or says nothing at all.
            self._let_go()
            self._open(MQTTProtocolVersion.MQTTv311)
            self.old_protocol = True
        if self._recall is not None:
            self._poller.register(self._recall.fileno(), select.POLLIN)
            self.turns.lend(call=self._tell)
            self._poller.unregister(self._recall.fileno())
        while (ended := self._over()) is None:
            self._turn(TURN_MS_MAX)
            if self._untold:
                self._untold = False
                self._tell()
        return ended

    def _open(self, protocol: MQTTProtocolVersion) -> bool:
        """A session, or False when another version of the protocol may do better."""
        self._ended = self._connack = None
        self._words.text = ""
        self._check_wanted()
        client = self._client = self._new_client(protocol)
        new = protocol is MQTTProtocolVersion.MQTTv5
        where = (self.endpoint.host, self.endpoint.port, self._session.keepalive_s)
        try:
            if new:
                client.connect(*where, clean_start=True, properties=self._connect_properties())
            else:
                client.connect(*where)
        except (OSError, ValueError) as error:
            raise connect_problem(error) from error
        until_ms = monotonic_ms() + self._session.connack_ms_max
        refusal_until_ms = monotonic_ms() + REFUSAL_MS_MAX
        while self._answer() is None and self._over() is None and monotonic_ms() < until_ms:
            self._turn(until_ms - monotonic_ms())
            if self._finish_by_ms is not None:
                self._end(Loss.ASKED, "ended by this device before it began")
        answer = self._answer()
        if answer is None:
            ended = self._over() or Ended(Loss.SILENT, "the broker does not answer CONNECT")
            if new and ended.loss in (Loss.SILENT, Loss.LOST):
                return False
            at_once = monotonic_ms() < refusal_until_ms  # Later it could not serve just now.
            if self.endpoint.tls and ended.loss is Loss.LOST and at_once:
                # TLS 1.3 refuses a client's certificate after the handshake, often unheard.
                detail = f"closed before it answered; is this device's certificate good? {ended}"
                raise Ended(Loss.DENIED, detail)
            raise ended
        code, properties = answer
        if code.is_failure:
            if new and code.value == _UNSUPPORTED_VERSION:
                return False
            raise Ended(loss_of_code(code.value), f"refused: {code}")
        self._begin(properties, "5" if new else "3.1.1")
        return True

    def _answer(self) -> tuple[ReasonCode, Properties | None] | None:
        return self._connack

    def _over(self) -> Ended | None:
        return self._ended

    def _new_client(self, protocol: MQTTProtocolVersion) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._session.client_id,
            protocol=protocol,
            clean_session=None if protocol is MQTTProtocolVersion.MQTTv5 else True,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages = 0  # No window of its own: ours follows the broker's.
        client.connect_timeout = TCP_MS_MAX / 1000
        logger = logging.Logger("paho", logging.ERROR)
        logger.addHandler(self._words)
        client.enable_logger(logger)
        if self.endpoint.tls:
            assert self._session.tls is not None
            client.tls_set_context(self._session.tls)
        topic, payload = self._will
        if topic:
            client.will_set(topic, payload, qos=1, retain=True)
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        return client

    def _connect_properties(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = self._session.receive_max
        properties.MaximumPacketSize = self._session.packet_bytes_max
        return properties

    def _begin(self, properties: Properties | None, protocol: str) -> None:
        receive_max = getattr(properties, "ReceiveMaximum", 65_535)  # MQTT 5.0, 3.2.2.3.3.
        self._receive_max = min(IN_FLIGHT_MAX, receive_max)
        keepalive_s = getattr(properties, "ServerKeepAlive", self._session.keepalive_s)
        self._pulse.keepalive_s = keepalive_s
        self.connected = self.was_connected = True
        self._post(
            Connected(
                endpoint=self.endpoint,
                protocol=protocol,
                receive_max=receive_max,
                packet_bytes_max=getattr(properties, "MaximumPacketSize", None),
                keepalive_s=keepalive_s,
            )
        )

    def _do_commands(self) -> None:
        while self._commands and self._ended is None:
            self._commands.popleft()()

    def _turn(self, timeout_ms: int) -> bool:
        """Commands, then whatever the socket has or takes, then paho's own clockwork. Whether the
        borrower is called away."""
        self._pulse.beat_ms = monotonic_ms()
        self._check_wanted()
        self._do_commands()
        client = self._client
        assert client is not None
        sock: Any = client.socket()
        if sock is None:
            self._end(Loss.LOST, self._words.text or "the connection closed")
            return False
        # Events nobody fetched: let the broker wait instead of filling our memory.
        self._pulse.resting = self._crowded()
        pending = not self._pulse.resting and hasattr(sock, "pending") and sock.pending() > 0
        wanted = 0 if self._pulse.resting else select.POLLIN
        self._poller.register(sock, wanted | (select.POLLOUT if client.want_write() else 0))
        turn_ms = TURN_MS_MAX if self._finish_by_ms is None else ENDING_TURN_MS_MAX
        ready = dict(self._poller.poll(0 if pending else min(turn_ms, max(0, timeout_ms))))
        if self.bell.fileno() in ready:
            self.bell.hear()
        state = ready.get(sock.fileno(), 0)
        if self._pulse.resting and state & (select.POLLHUP | select.POLLERR):
            self._end(Loss.LOST, "the connection closed")
        elif pending or state & ~select.POLLOUT:
            self._pulse.heard_ms = monotonic_ms()
            client.loop_read()
            self._check_packet_size(client)
        if state & select.POLLOUT:
            client.loop_write()
        client.loop_misc()
        self._send_held_back()
        self._look_for_end()
        return self._recall is not None and self._recall.fileno() in ready

    def _look_for_end(self) -> None:
        """An ordered end, once what was published is answered, or has had its moment."""
        if self._finish_by_ms is None or not self.connected:
            return
        answered = not self._unanswered and not self._held_back and not self._commands
        if answered or monotonic_ms() >= self._finish_by_ms:
            self._end(Loss.ASKED, "ended by this device")

    def _check_wanted(self) -> None:
        if self.given_up:
            raise Ended(Loss.LOST, "given up")

    def _check_packet_size(self, client: Client) -> None:
        # Not public in paho, and there is no other way to see a packet before it is in memory.
        if client._in_packet["remaining_length"] > PACKET_BYTES_CUT:
            self._end(Loss.OVERSIZE, f"a packet above {PACKET_BYTES_CUT} bytes")

    def _send_held_back(self) -> None:
        client = self._client
        while self._held_back and len(self._unanswered) < self._receive_max and self.connected:
            assert client is not None
            number, topic, payload, retained = self._held_back.popleft()
            info = client.publish(topic, payload, qos=1, retain=retained)
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return  # The connection is gone; Disconnected speaks for all unanswered.
            self._unanswered[info.mid] = number

    def _post(self, event: BridgeEvent) -> None:
        """Outside a turn: at once."""
        self._note(event)
        self._tell()

    def _fail(self, error: Exception) -> None:
        if isinstance(error, Ended):
            self._ended = error
        else:
            self._end(Loss.LOST, f"unexpected {type(error).__name__}: {error}")

    def _end(self, loss: Loss, detail: str) -> None:
        """The first reason stands."""
        if self._ended is None:
            self._ended = Ended(loss, detail)

    def _let_go(self) -> None:
        """Take leave of the client: DISCONNECT if that still goes, and nothing kept in it."""
        client, self._client = self._client, None
        if client is None:
            return
        client.on_disconnect = None
        sock: Any = client.socket()
        if sock is not None and self._ended is not None and self._ended.loss is Loss.ASKED:
            client.disconnect()
            sock = client.socket()
        client.drop_out_messages()
        if sock is not None:
            sock.close()

    # ------------------------------------------------------------------ callbacks: they only note

    def _on_socket_open(self, _c: Client, _u: Any, sock: Any) -> None:
        # Before CONNECT: a look-up that came back late must not throw out its own successor.
        self._check_wanted()
        self._poller = select.poll()
        self._poller.register(self.bell.fileno(), select.POLLIN)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)

    def _on_connect(
        self, _c: Client, _u: Any, _f: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._connack = (code, properties)

    def _on_disconnect(
        self, _c: Client, _u: Any, flags: DisconnectFlags, code: ReasonCode, _p: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(loss_of_code(code.value), f"the broker ended it: {code}")
        else:
            denied = "ALERT" in self._words.text  # TLS 1.3 tells only after the handshake.
            detail = self._words.text or str(code)
            self._end(Loss.DENIED if denied else Loss.LOST, detail)

    def _on_message(self, _c: Client, _u: Any, message: MQTTMessage) -> None:
        self._untold = True
        mid = message.mid if message.qos == 1 else 0
        if len(message.payload) > MESSAGE_BYTES_MAX:
            if mid:
                self._commands.append(lambda: self.acknowledge((mid,)))
            self._note(Oversized(topic=message.topic[:256], size_bytes=len(message.payload)))
            return
        self._note(
            Message(
                topic=message.topic,
                payload=bytes(message.payload),
                retained=message.retain,
                token=Token(self.number, mid),
            )
        )

    def _on_publish(
        self, _c: Client, _u: Any, mid: int, code: ReasonCode, _p: Properties | None
    ) -> None:
        number = self._unanswered.pop(mid, None)
        if number is not None:
            self.settled += 1
            failure = str(code) if code.is_failure else ""
            heard = code.value != _NO_MATCHING_SUBSCRIBERS
            self._note(Published(number=number, failure=failure, heard=heard))
            # Good news waits for the next look, unless its place is wanted: nobody acts on it.
            if failure or self._crowded():
                self._untold = True

    def _on_subscribe(
        self, _c: Client, _u: Any, mid: int, codes: list[ReasonCode], _p: Properties | None
    ) -> None:
        group = self._subscribing.pop(mid, ())
        self._refused_topics += [
            topic for topic, code in zip(group, codes, strict=False) if code.is_failure
        ]
        if group and not self._subscribing:
            refused, self._refused_topics = tuple(self._refused_topics), []
            self._untold = True
            self._note(SubscriptionsReady(refused=refused))
