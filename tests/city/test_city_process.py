"""Goal: the city as a process does over real brokers and HTTP what its core does in memory.

Method: `python -m hil.city` as a child, in front of it Mosquitto with TLS, client certificates and
the access list the city writes (then amqtt, plain); a small paho device enrols over HTTP, says
hello, sends a sale, hears a block, and tries what it may not. The broker is killed and comes back
empty. Every child is ended by its own handle.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from paho.mqtt.enums import CallbackAPIVersion

from edge.messages import (
    Ack,
    BatchHeader,
    Fact,
    Hello,
    PassageFact,
    Stream,
    StreamOpened,
    decode_json,
    digest_of,
    encode_batch,
    encode_fact,
    encode_json,
)
from edge.model import ClockQuality, Direction, PassageResult, Station
from tests.city.sham import EPOCH, SITE, make_request

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("mosquitto") is None, reason="needs mosquitto"),
]
WAIT_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait_for(what: Callable[[], bool], words: str) -> None:
    until = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < until, f"{words}: not within {WAIT_S} s"
        time.sleep(0.05)


class City:
    """The city's process."""

    def __init__(self, folder: Path, broker: str, *more: str) -> None:
        command = [sys.executable, "-m", "hil.city", "--folder", str(folder), "--broker", broker]
        command += ["--gather-ms", "20", "--claim", "CLAIM-1", *more]
        self._errors = (folder.parent / f"{folder.name}.stderr").open("ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors)
        assert self.process.stdout is not None
        first = json.loads(self.process.stdout.readline())
        assert first["ready"] is True
        self._address = urlsplit(first["http"]).netloc

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address, timeout=WAIT_S)
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, None if body is None else data)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, data = self.ask("GET", path)
        assert status == 200, data
        return json.loads(data)

    def post(self, path: str, body: object) -> Any:
        status, data = self.ask("POST", path, body)
        assert status == 200, data
        return json.loads(data)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()
        return code


class Broker:
    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


class Device:
    """A paho client with a certificate, that keeps what it hears."""

    def __init__(self, name: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Connected and subscribed when made."""
        self.heard: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self.name = name
        ready, subscribed = threading.Event(), threading.Event()
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311
        )
        if tls is not None:
            self.client.tls_set_context(tls)
        self.client.on_connect = lambda *_: ready.set()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _c, _u, m: self.heard.put((m.topic, bytes(m.payload)))
        self.client.connect("localhost", port)
        self.client.loop_start()
        assert ready.wait(WAIT_S)
        self.client.subscribe([("mk/v1/#", 1)])  # Granted by the broker; the list decides.
        assert subscribed.wait(WAIT_S)

    def publish(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, qos=1).wait_for_publish(WAIT_S)

    def hear(self, topic: str) -> bytes:
        """The next message on this topic; what came before it is passed over."""
        until = time.monotonic() + WAIT_S
        while True:
            found, payload = self.heard.get(timeout=max(0.01, until - time.monotonic()))
            if found == topic:
                return payload

    def end(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def base(device: str, sequence: int, previous: str) -> dict[str, Any]:
    return {
        "device": device,
        "site": SITE,
        "stream": Stream.MAIN,
        "epoch": EPOCH,
        "sequence": sequence,
        "previous": previous,
        "boot": "b",
        "mono_ms": sequence,
        "wall_ms": time.time_ns() // 1_000_000,
        "clock": ClockQuality.NTP,
    }


def morning(device: str) -> list[bytes]:
    """A journal with one pupil who came."""
    opened = encode_fact(
        StreamOpened(why="new_store", software="s", station=Station.TILL, **base(device, 1, ""))
    )
    came: Fact = PassageFact(
        access_point="in",
        zone="school",
        direction=Direction.IN,
        result=PassageResult.TAKEN,
        passage=None,
        cardholder=f"{SITE}c0001",
        **base(device, 2, digest_of(opened)),
    )
    return [opened, encode_fact(came)]


def batch(device: str, facts: list[bytes]) -> bytes:
    header = BatchHeader(
        device=device,
        stream=Stream.MAIN,
        epoch=EPOCH,
        first=1,
        count=len(facts),
        digest=digest_of(facts[-1]),
    )
    return encode_batch(header, facts)


def hello(device: str) -> bytes:
    return encode_json(
        Hello(
            device=device,
            site=SITE,
            station=Station.TILL,
            boot="b",
            connection=1,
            nonce="n",
            software="s",
            clock=ClockQuality.NTP,
            streams=(),
            held={},
            keys={},
        )
    )


def enrol(city: City, folder: Path, device: str, claim: str) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    answer = city.post(
        "/enrol",
        {
            "claim": claim,
            "device_id": device,
            "site_id": SITE,
            "station": "till",
            "csr_pem": make_request(key),
        },
    )
    certificate, secret, chain = (folder / f"{device}.{end}" for end in ("pem", "key", "ca"))
    certificate.write_text(answer["certificate_pem"])
    chain.write_text(answer["chain_pem"])
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(cafile=str(chain))
    context.load_cert_chain(certificate, secret)
    return context


@pytest.fixture
def ending() -> Iterator[list[Callable[[], object]]]:
    """What is to be ended, last begun first."""
    ends: list[Callable[[], object]] = []
    yield ends
    for end in reversed(ends):
        end()


def test_a_city_over_mosquitto_with_tls(tmp_path: Path, ending: list[Callable[[], object]]) -> None:
    port, files = free_port(), tmp_path / "broker"
    city = City(tmp_path / "city", f"mqtts://localhost:{port}", "--mosquitto", str(files))
    ending.append(lambda: city.process.poll() is None and city.end())
    tls = {
        device: enrol(city, tmp_path, device, city.post("/claims", {})["claim"])
        for device in ("till-1", "till-2")
    }
    command = ("mosquitto", "-c", str(files / "mosquitto.conf"))
    broker = Broker(*command)
    ending.append(lambda: broker.process.poll() is None and broker.end())
    wait_for(lambda: bool(city.get("/status")["broker_connected"]), "city at the broker")

    mine, other = (Device(name, port, tls[name]) for name in ("till-1", "till-2"))
    ending += [mine.end, other.end]
    mine.hear(f"mk/v1/s/{SITE}/people/head")
    mine.publish("mk/v1/d/till-1/hello", hello("till-1"))
    mine.hear("mk/v1/d/till-1/welcome")
    facts = morning("till-1")
    mine.publish("mk/v1/d/till-1/up/main", batch("till-1", facts))
    assert decode_json(Ack, mine.hear("mk/v1/d/till-1/ack")).up_to == 2
    query = f"/facts?device=till-1&stream=main&epoch={EPOCH}&after=0"
    assert city.ask("GET", query) == (200, b"\n".join(facts))
    (line,) = city.get("/feed?after=0&wait_s=20")
    assert line["cardholder"] == f"{SITE}c0001" and " came " in line["text"]

    # Its neighbour heard none of it, and cannot speak for it: 3.1.1 acknowledges and throws away.
    other.publish("mk/v1/d/till-1/up/main", batch("till-1", morning("till-1")))
    other.publish("mk/v1/d/till-2/hello", hello("till-2"))
    other.hear("mk/v1/d/till-2/welcome")
    assert city.get("/status")["forks"] == []
    city.post("/orders", {"device": "till-1", "order": "open"})
    mine.hear("mk/v1/d/till-1/order")
    city.post("/block", {"card": "pupil"})
    other.hear(f"mk/v1/s/{SITE}/people/delta")
    heard = []
    while not other.heard.empty():
        heard.append(other.heard.get()[0])
    assert not any("/till-1/" in topic for topic in heard)

    # A device enrolled now is let in without a restart: the list is written and read again.
    late_tls = enrol(city, tmp_path, "till-3", city.post("/claims", {})["claim"])
    late = Device("till-3", port, late_tls)
    ending.append(late.end)
    late.hear(f"mk/v1/s/{SITE}/people/head")
    late.publish("mk/v1/d/till-3/hello", hello("till-3"))
    late.hear("mk/v1/d/till-3/welcome")

    # A broker that lost everything has its heads again as soon as it is back.
    broker.end(signal.SIGKILL)
    wait_for(lambda: not city.get("/status")["broker_connected"], "city notices the end")
    again = Broker(*command)
    ending.append(lambda: again.process.poll() is None and again.end())
    wait_for(lambda: bool(city.get("/status")["broker_connected"]), "city is back")
    fresh = Device("till-1", port, tls["till-1"])
    ending.append(fresh.end)
    fresh.hear(f"mk/v1/s/{SITE}/people/head")
    assert city.get("/ledger")["zero"] is True
    assert city.end() == 0


def test_a_city_over_the_embedded_broker(
    tmp_path: Path, ending: list[Callable[[], object]]
) -> None:
    port = free_port()
    broker = Broker(sys.executable, "-m", "hil.broker", "--port", str(port))
    ending.append(lambda: broker.process.poll() is None and broker.end())
    city = City(tmp_path / "city", f"mqtt://127.0.0.1:{port}")
    ending.append(lambda: city.process.poll() is None and city.end())
    wait_for(lambda: bool(city.get("/status")["broker_connected"]), "city at the broker")
    enrol(city, tmp_path, "till-1", "CLAIM-1")
    device = Device("till-1", port, None)
    ending.append(device.end)
    device.hear(f"mk/v1/s/{SITE}/settings/head")
    device.publish("mk/v1/d/till-1/up/main", batch("till-1", morning("till-1")))
    assert decode_json(Ack, device.hear("mk/v1/d/till-1/ack")).up_to == 2
    # Killed and started again, it holds what it acknowledged, and its lists are the same.
    money = f"{SITE}/money"  # Its new vector waits 20 ms for company.
    wait_for(lambda: bool(city.get("/status")["versions"][money] == [1, 2]), "money version")
    before = city.get("/status")
    os.kill(city.process.pid, signal.SIGKILL)
    city.process.wait(WAIT_S)
    assert city.process.stdout is not None
    city.process.stdout.close()
    city._errors.close()
    second = City(tmp_path / "city", f"mqtt://127.0.0.1:{port}")
    ending.append(lambda: second.process.poll() is None and second.end())
    after = second.get("/status")
    assert after["cursors"] == before["cursors"]
    assert after["versions"] == before["versions"]
    assert second.end() == 0


def test_http_answers_bad_requests_in_words(
    tmp_path: Path, ending: list[Callable[[], object]]
) -> None:
    city = City(tmp_path / "city", f"mqtt://127.0.0.1:{free_port()}")
    ending.append(lambda: city.process.poll() is None and city.end())
    for method, path, body, status in (
        ("POST", "/enrol", b"x" * 70_000, 413),
        ("POST", "/enrol", b"{", 400),
        ("POST", "/enrol", b"[" * 60_000, 400),
        ("POST", "/enrol", b"[]", 400),
        ("POST", "/enrol", b"\xff", 400),
        ("POST", "/block", {"card": 5}, 400),
        ("POST", "/claims", {"claim": "no spaces"}, 400),
        ("GET", "/feed?after=-1", None, 400),
        ("GET", "/feed?after=9999999999999999999", None, 400),
        ("GET", "/facts?device=x&epoch=y", None, 400),
        ("GET", "/nothing", None, 404),
        ("GET", "/enrol", None, 405),
    ):
        found, data = city.ask(method, path, body)
        answer = json.loads(data)
        assert found == status and answer["error"] and answer["do"], (path, found, data)
    labels = {card["label"] for card in city.get("/cards")}
    assert {"pupil", "blocked", "stranger", "wristband", "poor", "pupil-125"} <= labels
    started = time.monotonic()
    assert city.get("/feed?after=0&wait_s=1") == [] and time.monotonic() - started >= 0.9
    # A long poll does not hold up an end.
    poll = threading.Thread(target=lambda: city.ask("GET", "/feed?after=0&wait_s=60"))
    poll.start()
    time.sleep(0.3)
    started = time.monotonic()
    assert city.end() == 0 and time.monotonic() - started < 5
    poll.join(WAIT_S)


def test_a_wrong_set_up_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hil.city", "--folder", str(tmp_path / "c")]
    for more in (["--broker", "http://x"], ["--broker", "mqtt://x", "--http", "nowhere"]):
        done = subprocess.run([*command, *more], capture_output=True, timeout=60, check=False)
        assert done.returncode == 1 and done.stdout == b""
        assert done.stderr.count(b"\n") == 1 and b"write" in done.stderr
