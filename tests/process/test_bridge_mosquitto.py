"""Goal: the bridge carries what it is given and tells what happened on real brokers, and never
blocks, resends or dies unseen when they go.

Method: real Mosquitto, plain and with mutual TLS, killed, frozen and restarted; amqtt for a
broker of 3.1.1 alone.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.messages import (
    MESSAGE_BYTES_MAX,
    Ack,
    BatchHeader,
    Stream,
    digest_of,
    encode_batch,
)
from edge.model import DeviceFault
from sync.answers import Send
from sync.bridge_events import (
    Connected,
    Disconnected,
    Loss,
    Message,
    Published,
    SubscriptionsReady,
)
from sync.pump import Pump
from sync.session import USER_TIMEOUT_MS
from tests.process.bridge_ends import CITY, QUICK, WILL, City, Ends, links_alive, until
from tests.process.brokers import amqtt, mosquitto
from tests.sync.pki import Authority

pytestmark = pytest.mark.process


@pytest.fixture(params=["lent", "turned by its thread"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    ends = Ends(lent=request.param == "lent")
    yield ends
    ends.close()
    until(lambda: not links_alive(), "a link outlived its bridge")


# ---------------------------------------------------------------------------- Mosquitto


def test_what_is_published_arrives_once_and_the_broker_says_so(ends: Ends, tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        city = ends.subscribed(broker.endpoint, "up/a", "up/b")
        device = ends.bridge()
        ends.connect(device, broker.endpoint)
        session = ends.expect(device, Connected)
        assert session == Connected(
            endpoint=broker.endpoint,
            protocol="5",
            receive_max=20,
            packet_bytes_max=None,
            keepalive_s=QUICK.keepalive_s,
        )
        assert device.connected and device.alive()
        payloads = [b"%d" % i for i in range(200)]
        numbers = [device.publish("up/a", payload, qos=1) for payload in payloads]
        published = ends.expect_many(device, Published, len(numbers))
        assert [one.number for one in published] == numbers
        assert all(one.heard and not one.failure for one in published)
        arrived: list[bytes] = []
        while len(arrived) < len(payloads):
            message = ends.expect(city, Message)
            city.done(message.token)
            arrived.append(message.payload)
        assert arrived == payloads
        number = device.publish("up/nobody", b"", qos=1)
        assert ends.expect(device, Published) == Published(number=number, failure="", heard=False)
        device.publish("up/b", b"once", qos=0)
        message = ends.expect(city, Message)
        assert (message.topic, message.payload, message.token.mid) == ("up/b", b"once", 0)
        device.disconnect()
        assert ends.expect(device, Disconnected).loss is Loss.ASKED
        assert not device.alive()


def test_small_packets_leave_at_once_and_a_dead_line_is_noticed(ends: Ends, tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        link = ends.connected(broker.endpoint)._link
        assert link is not None and link._client is not None
        sock = link._client.socket()
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        timeout_ms = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert timeout_ms == USER_TIMEOUT_MS


def test_the_broker_keeps_what_we_have_not_committed(ends: Ends, tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        device = ends.subscribed(broker.endpoint, "down", session=replace(QUICK, receive_max=2))
        city = ends.connected(broker.endpoint, CITY)
        for i in range(5):
            city.publish("down", b"%d" % i, qos=1)
        first, second = ends.expect_many(device, Message, 2)
        assert ends.quiet(device, Message)
        device.done(first.token)
        device.done(second.token)
        rest = ends.expect_many(device, Message, 3)
        assert [m.payload for m in (first, second, *rest)] == [b"%d" % i for i in range(5)]


def test_the_will_speaks_when_we_cannot_and_is_silent_when_we_left(
    ends: Ends, tmp_path: Path
) -> None:
    with mosquitto(tmp_path) as broker:
        city = ends.subscribed(broker.endpoint, "will/lane-1")
        device = ends.connected(broker.endpoint)
        device.disconnect()
        ends.expect(device, Disconnected)
        assert ends.quiet(city, Message)
        first = ends.connected(broker.endpoint)
        ends.connected(broker.endpoint)  # The same client id once more: an alarm.
        assert ends.expect(first, Disconnected).was_connected
        assert ends.expect(city, Message).payload == WILL


def test_a_killed_broker_is_noticed_and_nothing_is_resent_to_the_next(
    ends: Ends, tmp_path: Path
) -> None:
    with mosquitto(tmp_path) as broker:
        device = ends.connected(broker.endpoint)
        broker.freeze()
        for i in range(30):
            device.publish("up", b"before %d" % i, qos=1)
        broker.kill()
        lost = ends.expect(device, Disconnected)
        assert (lost.loss, lost.was_connected) == (Loss.LOST, True)
        with pytest.raises(DeviceFault, match="no connection"):
            device.publish("up", b"offline", qos=1)
        with pytest.raises(DeviceFault, match="no connection"):
            device.subscribe(["down"])
        ends.connect(device, broker.endpoint)
        refused = ends.expect(device, Disconnected)
        assert (refused.loss, refused.was_connected) == (Loss.UNREACHABLE, False)
        broker.start()
        city = ends.subscribed(broker.endpoint, "up")
        ends.connect(device, broker.endpoint)
        ends.expect(device, Connected)
        device.publish("up", b"after", qos=1)
        assert ends.expect(city, Message).payload == b"after"
        assert ends.quiet(city, Message)


def test_a_frozen_broker_costs_the_caller_no_time(ends: Ends, tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        device = ends.connected(broker.endpoint)
        broker.freeze()
        started = time.monotonic()
        with pytest.raises(DeviceFault, match="wait for the broker"):
            for _ in range(1_000):
                device.publish("up", bytes(MESSAGE_BYTES_MAX), qos=1)
        device.poll()
        assert time.monotonic() - started < 1.0
        broker.thaw()
        assert not ends.expect(device, Published).failure


# ---------------------------------------------------------------------------- TLS


def test_mutual_tls_connects_the_right_and_names_what_is_wrong(ends: Ends, tmp_path: Path) -> None:
    city = City(tmp_path)
    (tmp_path / "others").mkdir()
    others = Authority(tmp_path / "others", "other-ca")
    stranger = others.issue("lane-1")
    ended = city.authority.issue("lane-9", days=(-20, -10))
    server = city.server
    with mosquitto(
        tmp_path,
        ca_file=city.authority.file,
        certificate=server.certificate,
        key=server.key,
    ) as broker:
        device = ends.connected(broker.endpoint, city.session())
        number = device.publish("up", b"x", qos=1)
        assert ends.expect(device, Published).number == number
        for session, loss in (
            (city.session(ca_file=others.file), Loss.UNTRUSTED),
            (city.session(mine=stranger), Loss.DENIED),
            (city.session(mine=ended), Loss.DENIED),
        ):
            refused = ends.bridge(session)
            ends.connect(refused, broker.endpoint, session)
            event = ends.expect(refused, Disconnected)
            assert (event.loss, event.was_connected) == (loss, False), event
        wrong_host = ends.bridge(city.session())
        ends.connect(wrong_host, replace(broker.endpoint, host="127.0.0.2"))
        assert ends.expect(wrong_host, Disconnected).loss in (Loss.UNTRUSTED, Loss.UNREACHABLE)


def test_a_broker_out_of_its_dates_is_reached_only_without_date_checks(
    ends: Ends, tmp_path: Path
) -> None:
    city = City(tmp_path)
    ended = city.authority.issue("old-broker", server=True, days=(-20, -10))
    with mosquitto(
        tmp_path, ca_file=city.authority.file, certificate=ended.certificate, key=ended.key
    ) as broker:
        device = ends.bridge(city.session())
        ends.connect(device, broker.endpoint)
        assert ends.expect(device, Disconnected).loss is Loss.DATES
        device.connect(
            broker.endpoint, will_topic="w", will=b"", session=city.session(check_time=False)
        )
        ends.expect(device, Connected)


def test_an_access_list_that_forbids_is_heard_by_version_5(ends: Ends, tmp_path: Path) -> None:
    with mosquitto(tmp_path, acl="topic read down\ntopic write up\n") as broker:
        device = ends.connected(broker.endpoint)
        device.publish("up", b"", qos=1)
        assert ends.expect(device, Published).failure == ""
        device.publish("elsewhere", b"", qos=1)
        assert ends.expect(device, Published).failure == "Not authorized"


# ---------------------------------------------------------------------------- 3.1.1


def test_a_broker_of_3_1_1_alone_is_reached_and_remembered(ends: Ends, tmp_path: Path) -> None:
    with amqtt(tmp_path) as broker:
        device = ends.connected(broker.endpoint)
        device.subscribe(["up"])
        ends.expect(device, SubscriptionsReady)
        device.publish("up", b"both ways", qos=1)
        message = ends.expect(device, Message)
        assert message.payload == b"both ways"
        device.done(message.token)
        device.disconnect()
        ends.expect(device, Disconnected)
        started = time.monotonic()
        ends.connect(device, broker.endpoint)
        assert ends.expect(device, Connected).protocol == "3.1.1"
        assert time.monotonic() - started < QUICK.connack_ms_max / 1000
        device.disconnect()
        ends.expect(device, Disconnected)
    # What was learnt is forgotten where it leads nowhere, and version 5 is tried again.
    ends.connect(device, broker.endpoint)
    assert ends.expect(device, Disconnected).loss is Loss.UNREACHABLE
    with mosquitto(tmp_path, port=broker.port):
        ends.connect(device, broker.endpoint)
        assert ends.expect(device, Connected).protocol == "5"


# ---------------------------------------------------------------------------- cost


def test_a_drained_fact_costs_the_device_less_than_the_promised_20_us(
    ends: Ends, tmp_path: Path
) -> None:
    """promises.md: processor time per fact while draining, on the device's side. Pump, encoding
    and bridge on Mosquitto with mutual TLS, from stored bytes; the store itself is not in it."""
    facts = 30_000
    stored = b'{"kind":"access","device":"lane-1","sequence":1,' + b"x" * 250 + b"}"
    city = City(tmp_path)
    pump = Pump(device="lane-1", stream=Stream.MAIN)
    pump.held(epoch="e1", held_from=1, head=facts, acknowledged=0)
    with mosquitto(
        tmp_path,
        ca_file=city.authority.file,
        certificate=city.server.certificate,
        key=city.server.key,
    ) as broker:
        device = ends.connected(broker.endpoint, city.session())
        pump.connected({}, now_ms=0)
        numbers: dict[int, int] = {}
        started = time.process_time()
        while pump.depth:
            for last in pump.step(now_ms=0):
                assert isinstance(last, Send)
                rows = [stored] * min(last.rows_max, facts - last.first + 1)
                up_to = last.first + len(rows) - 1
                header = BatchHeader(
                    device="lane-1",
                    stream=Stream.MAIN,
                    epoch="e1",
                    first=last.first,
                    count=len(rows),
                    digest=digest_of(rows[-1]),
                )
                number = device.publish("up", encode_batch(header, rows), qos=1)
                pump.sent(epoch="e1", first=last.first, last=up_to, now_ms=0)
                numbers[number] = up_to
            for event in device.poll():
                if isinstance(event, Published):  # The acknowledgement's stand-in.
                    up_to = numbers.pop(event.number)
                    ack = Ack(device="lane-1", stream=Stream.MAIN, epoch="e1", up_to=up_to)
                    pump.acknowledged(ack, now_ms=0)
            device.wait(5)
        cost_us = (time.process_time() - started) * 1e6 / facts
    print(f"processor time per drained fact: {cost_us:.1f} us of 20")
    assert cost_us <= 20.0
