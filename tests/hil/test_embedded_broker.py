"""Goal: the embedded broker says what the stations rely on, and where amqtt does not, we do.

Method: the real process on a free port, asked by a real client; and by bytes where the answer to a
CONNECT is the question.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

pytestmark = pytest.mark.process
WAIT_S_MAX = 10.0

# MQTT 5.0 CONNECT of client "d", with a will and no properties.
CONNECT_5 = bytes.fromhex("101600044d51545405060014000001640000017700047061796c")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-m", "hil.broker"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(json.loads(process.stdout.readline())["port"])
        finally:
            process.terminate()
            assert process.wait(timeout=WAIT_S_MAX) == 0


class Client:
    """Connects with 3.1.1 and collects what comes."""

    def __init__(self, port: int, name: str, *topics: str) -> None:
        self.came: list[tuple[str, bytes, bool]] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv311
        )
        self._client.on_message = self._take
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if topics:
            self._client.subscribe([(topic, 1) for topic in topics])
            assert self._subscribed.wait(WAIT_S_MAX)

    def _take(self, _client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        self.came.append((message.topic, bytes(message.payload), message.retain))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(WAIT_S_MAX)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S_MAX
    while not what():
        assert time.monotonic() < until, "it did not come in time"
        time.sleep(0.01)


def test_mqtt_5_is_refused_in_its_own_words_and_at_once(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S_MAX) as connection:
        connection.sendall(CONNECT_5)
        assert connection.recv(16) == bytes.fromhex("2003008400")
        assert connection.recv(16) == b""


@pytest.mark.parametrize("words", [b"", b"\x10", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64])
def test_what_is_no_client_does_no_harm(port: int, words: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S_MAX) as connection:
        connection.sendall(words)
    client = Client(port, "after", "after")
    client.publish("after", b"fine")
    wait_for(lambda: bool(client.came))
    client.close()


def test_a_new_client_gets_what_is_retained_for_its_own_subscriptions_alone(port: int) -> None:
    everybody = Client(port, "everybody", "s/+/head")
    everybody.publish("s/money/head", b"1", retain=True)
    everybody.publish("s/people/head", b"2", retain=True)
    wait_for(lambda: len(everybody.came) == 2)
    one = Client(port, "one", "s/people/head", "end")
    one.publish("end", b"")
    wait_for(lambda: ("end", b"", False) in one.came)
    assert one.came == [("s/people/head", b"2", True), ("end", b"", False)]
    everybody.close()
    one.close()
