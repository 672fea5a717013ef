"""The city's one connection to its broker, over paho. Decides nothing.

paho is kept on a short lead: one client object a connection, so nothing of an old one is resent;
its callbacks only hand over; a PUBACK leaves when the worker says the message is committed; the
reconnect loop is our own. MQTT 3.1.1 with a clean session: nothing here needs more, and every
broker speaks it. What is published without a connection is dropped: acknowledgements are
cumulative, heads are published again after each connection, and lost deltas are pulled.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge.model import SetupProblem
from hil.city.lists import Out

CLIENT_ID: Final = "city"
KEEPALIVE_S: Final = 15  # Our choice: a dead broker is noticed within a school minute.
CONNECT_S: Final = 5.0  # Our choice: paho's own default, for TCP and TLS together.
ANSWER_S: Final = 10.0  # Our choice: CONNACK and SUBACK of a loaded broker.
WAIT_S: Final = 0.1  # Our choice: how soon the thread sees that the city stops.
BACKOFF_S_MIN: Final = 0.2  # Our choice: one city, not ten thousand devices, may come back soon.
BACKOFF_S_MAX: Final = 5.0
IN_FLIGHT_MAX: Final = 200  # Our choice: as the broker's; 1,000 halved paho's throughput.
QUEUED_MAX: Final = 20_000  # Our choice: heads, acks and deltas of 2,000 devices; then drop.
SUBSCRIPTIONS: Final = tuple(
    (f"mk/v1/d/+/{topic}", 1)
    for topic in ("status", "hello", "pull", "up/+", "up/for/+", "renew", "health")
)
PORTS: Final = {"mqtt": 1883, "mqtts": 8883}

log = logging.getLogger("city.bridge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the broker is, and the TLS to reach it with."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One message; `acknowledge` sends the PUBACK and may be called from any thread."""

    topic: str
    payload: bytes
    acknowledge: Callable[[], object]


def parse_endpoint(url: str, tls: Callable[[], ssl.SSLContext]) -> Endpoint:
    """`mqtt://host[:port]` or `mqtts://host[:port]`; `SetupProblem` for anything else."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SetupProblem(f"broker {url!r}: {error}") from error
    if parts.scheme not in PORTS or not host or parts.path.strip("/"):
        raise SetupProblem(f"broker {url!r}: write mqtt://host:port or mqtts://host:port")
    return Endpoint(
        host=host,
        port=port or PORTS[parts.scheme],
        tls=tls() if parts.scheme == "mqtts" else None,
    )


class _Link:
    """What the callbacks of one connection say."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.subscribed = threading.Event()
        self.ended = threading.Event()
        self.refusal = ""


class Bridge:
    """Keeps a connection while it runs."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        on_received: Callable[[Received], object],
        on_connected: Callable[[], object],
    ) -> None:
        self._endpoint = endpoint
        self._on_received = on_received
        self._on_connected = on_connected
        self._client: mqtt.Client | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="city-bridge", daemon=True)
        self._complained = False
        self.dropped = 0

    @property
    def connected(self) -> bool:
        return self._client is not None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Disconnects and waits for the thread."""
        self._stopping.set()
        self._thread.join(ANSWER_S)

    def publish(self, outs: Iterable[Out]) -> None:
        """On the wire, or dropped and counted."""
        client = self._client
        for out in outs:
            if client is None:
                self.dropped += 1
                continue
            sent = client.publish(out.topic, out.payload, qos=out.qos, retain=out.retain)
            if sent.rc not in (mqtt.MQTT_ERR_SUCCESS, mqtt.MQTT_ERR_NO_CONN):
                self.dropped += 1

    def _run(self) -> None:
        attempts = 0
        while not self._stopping.is_set():
            reached = self._one_connection()
            attempts = 0 if reached else attempts + 1
            longest = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2 ** min(attempts, 10))
            self._stopping.wait(random.uniform(BACKOFF_S_MIN / 2, longest))

    def _one_connection(self) -> bool:
        """From connect to the end of the link; False when it never came up."""
        link = _Link()
        client = self._make_client(link)
        try:
            client.connect(self._endpoint.host, self._endpoint.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            self._complain(f"{type(error).__name__}: {error}")
            return False
        client.loop_start()
        try:
            if not self._await(link.ready, link) or link.refusal:
                self._complain(link.refusal or "no answer to CONNECT")
                return False
            self._client = client
            client.subscribe(list(SUBSCRIPTIONS))
            if not self._await(link.subscribed, link):
                self._complain("no answer to SUBSCRIBE")
                return False
            log.info("broker %s:%s is there", self._endpoint.host, self._endpoint.port)
            self._complained = False
            self._on_connected()
            while not link.ended.wait(WAIT_S) and not self._stopping.is_set():
                pass
            return True
        finally:
            self._client = None
            client.disconnect()
            client.loop_stop()

    def _await(self, event: threading.Event, link: _Link) -> bool:
        """True when it came, False when the link ended, the city stops, or it took too long."""
        waited_s = 0.0
        while not event.wait(WAIT_S):
            waited_s += WAIT_S
            if waited_s >= ANSWER_S or link.ended.is_set() or self._stopping.is_set():
                return False
        return True

    def _complain(self, why: str) -> None:
        """Once when the broker goes; its return is logged too."""
        if not self._complained:
            host, port = self._endpoint.host, self._endpoint.port
            log.warning("broker %s:%s: %s; trying again until it is there", host, port, why)
        self._complained = True

    def _make_client(self, link: _Link) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=CLIENT_ID,
            clean_session=True,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(IN_FLIGHT_MAX)
        client.max_queued_messages_set(QUEUED_MAX)
        if self._endpoint.tls is not None:
            client.tls_set_context(self._endpoint.tls)

        def on_socket_open(_client: Any, _userdata: Any, opened: Any) -> None:
            # Two small packets and Nagle's algorithm cost 40 ms a batch.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def on_connect(_c: Any, _u: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                link.refusal = f"refused: {reason}"
            link.ready.set()

        def on_subscribe(_c: Any, _u: Any, _mid: Any, _reasons: Any, _properties: Any) -> None:
            link.subscribed.set()

        def on_disconnect(_c: Any, _u: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
            link.ended.set()

        def on_message(_client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
            mid, qos = message.mid, message.qos
            received = Received(
                topic=message.topic,
                payload=bytes(message.payload),
                acknowledge=lambda: client.ack(mid, qos),
            )
            self._on_received(received)

        client.on_socket_open = on_socket_open
        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_disconnect = on_disconnect
        client.on_message = on_message
        return client
