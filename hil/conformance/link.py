"""What a played device speaks through: a connection to a broker, or to a city in memory in tests.

`MqttLink` is the conformance run's one owner of MQTT. It subscribes to a device's topics by their
full names, so whatever it hears was published there; decides nothing; and makes its connection
anew when told to, because retained messages come with a new subscription alone.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge.model import DeviceFault

ANSWER_S: Final = 10.0  # Our choice: CONNACK, SUBACK and PUBACK of a loaded broker.
KEEPALIVE_S: Final = 15


@dataclass(frozen=True, slots=True)
class Message:
    """Something heard."""

    topic: str
    payload: bytes
    retained: bool = False


class Link(Protocol):
    """One device's connection."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """On the wire when this returns; `DeviceFault` when the link is down."""
        ...

    def take(self, wait_s: float) -> Message | None:
        """The next message, or None after so long."""
        ...

    def reopen(self) -> None:
        """A new connection and new subscriptions. `DeviceFault` when it is refused."""
        ...

    def now_ms(self) -> int:
        """Wall time, by which a city's times are looked at."""
        ...

    def close(self) -> None: ...


class MqttLink:
    """Over a real broker, MQTT 3.1.1, clean session, QoS 1."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        client_id: str,
        topics: Sequence[str],
        tls: ssl.SSLContext | None,
        clock_ms: Callable[[], int],
    ) -> None:
        self._host, self._port = host, port
        self._client_id = client_id
        self._topics = tuple(topics)
        self._tls = tls
        self._clock_ms = clock_ms
        self._heard: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._client: mqtt.Client | None = None
        self.reopen()

    def now_ms(self) -> int:
        return self._clock_ms()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        client = self._client
        if client is None:
            raise DeviceFault(f"{self._client_id}: not connected")
        sent = client.publish(topic, payload, qos=1, retain=retain)
        try:
            sent.wait_for_publish(ANSWER_S)
        except (RuntimeError, ValueError) as error:
            raise DeviceFault(f"{self._client_id}: {error}") from error
        if not sent.is_published():
            raise DeviceFault(f"{self._client_id}: the broker does not acknowledge {topic}")

    def take(self, wait_s: float) -> Message | None:
        try:
            return self._heard.get(timeout=max(wait_s, 0.001))
        except queue.Empty:
            return None

    def reopen(self) -> None:
        self.close()
        ready, subscribed, refusal = threading.Event(), threading.Event(), list[str]()
        client = self._make_client(ready, subscribed, refusal)
        try:
            client.connect(self._host, self._port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise DeviceFault(f"{self._client_id}: {error}") from error
        client.loop_start()
        self._client = client
        if not ready.wait(ANSWER_S) or refusal:
            self.close()
            raise DeviceFault(f"{self._client_id}: {(refusal or ['no answer to CONNECT'])[0]}")
        client.subscribe([(topic, 1) for topic in self._topics])
        if not subscribed.wait(ANSWER_S):
            self.close()
            raise DeviceFault(f"{self._client_id}: {(refusal or ['no answer to SUBSCRIBE'])[0]}")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _make_client(
        self, ready: threading.Event, subscribed: threading.Event, refusal: list[str]
    ) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=True,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        if self._tls is not None:
            client.tls_set_context(self._tls)

        def on_socket_open(_client: Any, _userdata: Any, opened: Any) -> None:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def on_connect(_c: Any, _u: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                refusal.append(f"refused: {reason}")
            ready.set()

        def on_disconnect(_c: Any, _u: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            refusal.append(f"the connection ended: {reason}")
            ready.set()
            subscribed.set()

        def on_subscribe(_c: Any, _u: Any, _mid: Any, _reasons: Any, _properties: Any) -> None:
            subscribed.set()

        def on_message(_client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
            self._heard.put(Message(message.topic, bytes(message.payload), bool(message.retain)))

        client.on_socket_open = on_socket_open
        client.on_connect = on_connect
        client.on_disconnect = on_disconnect
        client.on_subscribe = on_subscribe
        client.on_message = on_message
        return client
