"""Goal: the bridge carries what it is given and tells what happened, on real brokers and on ones
that lie, and never blocks, floods, resends or dies unseen.

Method: real Mosquitto, plain and with mutual TLS, killed, frozen and restarted; amqtt for a
broker of 3.1.1 alone; a scripted broker for what a real one does on its worst day (no answer,
failing PUBACK, Receive Maximum, floods, packets of absurd size).
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from edge.messages import MESSAGE_BYTES_MAX
from edge.model import DeviceFault
from sync import mqtt_link
from sync.bridge import EVENTS_MAX, HANGING_MAX, Bridge
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
from sync.mqtt_link import IN_FLIGHT_MAX, Link
from sync.session import Endpoint, Session, session_for, tls_context
from tests.process.brokers import (
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    SUBSCRIBE,
    Packet,
    ScriptedBroker,
    amqtt,
    connack,
    mosquitto,
    puback,
    publish,
)
from tests.sync.pki import Authority, Identity

pytestmark = pytest.mark.process

PATIENCE_MS = 10_000
WILL = b"gone"
QUICK = replace(session_for("lane-1", None), connack_ms_max=500)
CITY = replace(QUICK, client_id="city")


E = TypeVar("E")


class Ends:
    """The bridges of one test, all closed at its end; and waits for what they tell."""

    def __init__(self) -> None:
        self._told: dict[Bridge, list[BridgeEvent]] = {}

    def bridge(self, session: Session = QUICK) -> Bridge:
        bridge = Bridge(session)
        self._told[bridge] = []
        return bridge

    def connected(self, endpoint: Endpoint, session: Session = QUICK) -> Bridge:
        bridge = self.bridge(session)
        self.connect(bridge, endpoint, session)
        self.expect(bridge, Connected)
        return bridge

    def connect(self, bridge: Bridge, endpoint: Endpoint, session: Session = QUICK) -> None:
        bridge.connect(endpoint, will_topic=f"will/{session.client_id}", will=WILL)

    def subscribed(self, endpoint: Endpoint, *topics: str, session: Session = CITY) -> Bridge:
        bridge = self.connected(endpoint, session)
        bridge.subscribe(topics)
        assert self.expect(bridge, SubscriptionsReady).refused == ()
        return bridge

    def told(self, bridge: Bridge) -> list[BridgeEvent]:
        """Everything told and not yet expected."""
        self._told[bridge] += bridge.poll()
        return self._told[bridge]

    def expect(self, bridge: Bridge, kind: type[E]) -> E:
        """The next event of this kind; it is taken out."""
        return self.expect_many(bridge, kind, 1)[0]

    def expect_many(self, bridge: Bridge, kind: type[E], count: int) -> list[E]:
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while True:
            told = self.told(bridge)
            found: list[E] = []
            rest: list[BridgeEvent] = []
            for event in told:
                if isinstance(event, kind) and len(found) < count:
                    found.append(event)
                else:
                    rest.append(event)
            if len(found) == count:
                told[:] = rest
                return found
            assert time.monotonic() < deadline, (kind.__name__, len(found), told[-5:])
            bridge.wait(50)

    def quiet(self, bridge: Bridge, kind: type[BridgeEvent], wait_ms: int = 150) -> bool:
        """Whether nothing of this kind comes for a while."""
        deadline = time.monotonic() + wait_ms / 1000
        while time.monotonic() < deadline:
            if any(isinstance(event, kind) for event in self.told(bridge)):
                return False
            bridge.wait(20)
        return True

    def close(self) -> None:
        for bridge in self._told:
            bridge.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()
    until(lambda: not links_alive(), "a link outlived its bridge")


def links_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mqtt-")]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


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


class City:
    """A broker with mutual TLS, and what a device needs to speak to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.server = self.authority.issue("broker", server=True)
        self.mine = self.authority.issue("lane-1")

    def session(
        self,
        *,
        mine: Identity | None = None,
        ca_file: Path | None = None,
        check_time: bool = True,
    ) -> Session:
        mine = mine or self.mine
        context = tls_context(
            ca_file=ca_file or self.authority.file,
            certificate_file=mine.certificate,
            key_file=mine.key,
            check_time=check_time,
        )
        return replace(QUICK, tls=context)


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
    with mosquitto(tmp_path) as other:
        # What was learnt is forgotten where it leads nowhere, and version 5 is tried again.
        ends.connect(device, broker.endpoint)
        assert ends.expect(device, Disconnected).loss is Loss.UNREACHABLE
        ends.connect(device, other.endpoint)
        assert ends.expect(device, Connected).protocol == "5"


@pytest.mark.parametrize("answer", ["silence", "hang up", "unsupported", "old refusal"])
def test_every_way_to_not_know_version_5_leads_to_3_1_1(ends: Ends, answer: str) -> None:
    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT and packet.connect_version == 5:
            if answer == "unsupported":
                send(connack(version=5, code=0x84))
            elif answer == "old refusal":
                send(connack(version=4, code=1))
            return answer == "silence"
        if packet.kind == CONNECT:
            send(connack(version=4))
        return True

    with ScriptedBroker(on_packet=on_packet).running() as broker:
        device = ends.bridge()
        ends.connect(device, broker.endpoint)
        assert ends.expect(device, Connected).protocol == "3.1.1"
        assert [packet.connect_version for packet in broker.of_kind(CONNECT)] == [5, 4]


@pytest.mark.parametrize(
    ("code", "loss"), [(0x87, Loss.DENIED), (0x86, Loss.DENIED), (0x89, Loss.ENDED)]
)
def test_a_refusal_is_no_reason_to_try_3_1_1(ends: Ends, code: int, loss: Loss) -> None:
    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        send(connack(version=5, code=code))
        return True

    with ScriptedBroker(on_packet=on_packet).running() as broker:
        device = ends.bridge()
        ends.connect(device, broker.endpoint)
        assert ends.expect(device, Disconnected).loss is loss
        assert len(broker.packets) == 1


# ---------------------------------------------------------------------------- a scripted broker


def silent(packet: Packet, send: Callable[[bytes], None]) -> bool:
    """Answers CONNECT and nothing else."""
    if packet.kind == CONNECT:
        send(connack(version=5))
    return True


def test_the_brokers_receive_maximum_is_kept(ends: Ends) -> None:
    answers: list[Callable[[bytes], None]] = []

    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            send(connack(version=5, properties=b"\x21\x00\x03"))  # Receive Maximum 3.
        answers.append(send)
        return True

    with ScriptedBroker(on_packet=on_packet).running() as broker:
        device = ends.bridge()
        ends.connect(device, broker.endpoint)
        assert ends.expect(device, Connected).receive_max == 3
        numbers = [device.publish("up", b"%d" % i, qos=1) for i in range(10)]
        until(lambda: len(broker.of_kind(PUBLISH)) == 3, "the window is used")
        assert ends.quiet(device, Published) and len(broker.of_kind(PUBLISH)) == 3
        for i in range(10):
            until(lambda i=i: len(broker.of_kind(PUBLISH)) > i, "the next")  # type: ignore[misc]
            assert len(broker.of_kind(PUBLISH)) <= i + 3
            answers[0](puback(broker.of_kind(PUBLISH)[i].mid))
            assert ends.expect(device, Published).number == numbers[i]
        assert [p.body[-1:] for p in broker.of_kind(PUBLISH)] == [b"%d" % i for i in range(10)]


def test_without_a_receive_maximum_our_own_window_holds(ends: Ends) -> None:
    with ScriptedBroker(on_packet=silent).running() as broker:
        device = ends.connected(broker.endpoint)
        for _ in range(200):
            device.publish("up", b"", qos=1)
        until(lambda: len(broker.of_kind(PUBLISH)) == IN_FLIGHT_MAX, "the window is used")
        assert ends.quiet(device, Published)
        assert len(broker.of_kind(PUBLISH)) == IN_FLIGHT_MAX


def test_a_failing_puback_is_told(ends: Ends) -> None:
    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            send(connack(version=5))
        elif packet.kind == PUBLISH:
            send(puback(packet.mid, 0x97))
        return True

    with ScriptedBroker(on_packet=on_packet).running() as broker:
        device = ends.connected(broker.endpoint)
        device.publish("up", b"", qos=1)
        assert ends.expect(device, Published).failure == "Quota exceeded"


@pytest.mark.parametrize(
    ("code", "loss"), [(0x8E, Loss.TAKEN_OVER), (0x87, Loss.DENIED), (0x8B, Loss.ENDED)]
)
def test_why_the_broker_ended_it_is_told(ends: Ends, code: int, loss: Loss) -> None:
    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            send(connack(version=5))
        elif packet.kind == PUBLISH:
            send(bytes([DISCONNECT << 4, 2, code, 0]))
            return False
        return True

    with ScriptedBroker(on_packet=on_packet).running() as broker:
        device = ends.connected(broker.endpoint)
        device.publish("up", b"", qos=1)
        assert ends.expect(device, Disconnected).loss is loss


def test_many_topics_go_in_several_subscribes_and_are_answered_as_one(ends: Ends) -> None:
    topics = [f"t/{i}" for i in range(20)]

    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            send(connack(version=5))
        elif packet.kind == SUBSCRIBE:
            names = packet.body.count(b"t/")
            codes = bytes([0x87 if packet.body.count(b"t/19") else 1]) * names
            body = packet.body[:2] + b"\0" + codes
            send(bytes([0x90, len(body)]) + body)
        return True

    with ScriptedBroker(on_packet=on_packet).running() as broker:
        device = ends.connected(broker.endpoint)
        device.subscribe(topics)
        assert ends.expect(device, SubscriptionsReady).refused == tuple(topics[16:])
        assert len(broker.of_kind(SUBSCRIBE)) == 3


def test_a_message_above_the_limit_is_thrown_away_and_a_monster_ends_the_link(ends: Ends) -> None:
    sends: list[Callable[[bytes], None]] = []

    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            send(connack(version=5))
            sends.append(send)
        return True

    with ScriptedBroker(on_packet=on_packet).running() as broker:
        device = ends.connected(broker.endpoint)
        sends[0](publish("down", bytes(MESSAGE_BYTES_MAX), mid=1))
        assert len(ends.expect(device, Message).payload) == MESSAGE_BYTES_MAX
        sends[0](publish("down", bytes(MESSAGE_BYTES_MAX + 1), mid=7))
        size = MESSAGE_BYTES_MAX + 1
        assert ends.expect(device, Oversized) == Oversized(topic="down", size_bytes=size)
        until(lambda: [p.mid for p in broker.of_kind(PUBACK)] == [7], "it is acknowledged")
        sends[0](bytes([PUBLISH << 4, 0xFF, 0xFF, 0xFF, 0x7F]) + bytes(1_000))  # 256 MB, it says.
        assert ends.expect(device, Disconnected).loss is Loss.OVERSIZE


def test_a_flood_that_nobody_fetches_waits_at_the_broker(ends: Ends) -> None:
    total = 4 * EVENTS_MAX
    flooded = threading.Event()

    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            send(connack(version=5))
            for i in range(total):
                send(publish("down", b"%d" % i + bytes(60_000)))
            flooded.set()
        return True

    with ScriptedBroker(on_packet=on_packet).running() as broker:
        device = ends.connected(broker.endpoint)
        assert not flooded.wait(0.5), "60 MB fit into no socket buffer"
        assert EVENTS_MAX <= len(device._events) <= EVENTS_MAX + 2
        messages = ends.expect_many(device, Message, total)
        assert [int(m.payload.rstrip(b"\0")) for m in messages] == list(range(total))


def test_a_broker_that_never_answers_is_given_up(ends: Ends) -> None:
    with ScriptedBroker(on_packet=lambda packet, send: True).running() as broker:
        device = ends.bridge()
        ends.connect(device, broker.endpoint)
        lost = ends.expect(device, Disconnected)
        assert (lost.loss, lost.was_connected) == (Loss.SILENT, False)


def test_an_ordered_end_waits_for_answers_but_not_for_ever(ends: Ends) -> None:
    with ScriptedBroker(on_packet=silent).running() as broker:
        device = ends.connected(broker.endpoint)
        device.publish("up", b"", qos=1)
        device.disconnect()
        assert ends.expect(device, Disconnected).loss is Loss.ASKED
        until(lambda: len(broker.of_kind(DISCONNECT)) == 1, "DISCONNECT")
        assert [packet.kind for packet in broker.packets] == [CONNECT, PUBLISH, DISCONNECT]


# ---------------------------------------------------------------------------- hanging and dying


def test_a_hanging_name_look_up_blocks_nobody_and_comes_too_late(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when it comes back after all, it must not throw out its own successor."""
    answer = threading.Event()
    really = socket.getaddrinfo

    def slow(host: str, *rest: object, **more: object) -> object:
        if host == "broker.test":
            answer.wait(PATIENCE_MS / 1000)
            host = "127.0.0.1"
        return really(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with ScriptedBroker(on_packet=silent).running() as broker:
        session = replace(QUICK, connect_ms_max=200)
        device = ends.bridge(session)
        endpoint = replace(broker.endpoint, host="broker.test")
        started = time.monotonic()
        ends.connect(device, endpoint)
        assert time.monotonic() - started < 0.1
        lost = ends.expect(device, Disconnected)
        assert lost.loss is Loss.UNREACHABLE and "no connection after 200 ms" in lost.detail
        ends.connect(device, broker.endpoint)
        ends.expect(device, Connected)
        answer.set()
        until(lambda: broker.connections == 2, "the late one reaches the broker")
        assert ends.quiet(device, Disconnected) and device.alive()
        assert len(broker.of_kind(CONNECT)) == 1


def test_too_many_hanging_look_ups_are_a_fault(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def never(*_args: object, **_more: object) -> object:
        answer.wait(PATIENCE_MS / 1000)
        raise socket.gaierror("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    device = ends.bridge(replace(QUICK, connect_ms_max=50))
    endpoint = Endpoint(host="broker.test", port=1, tls=False)
    for _ in range(HANGING_MAX):
        ends.connect(device, endpoint)
        ends.expect(device, Disconnected)
    with pytest.raises(DeviceFault, match="name server"):
        ends.connect(device, endpoint)
    answer.set()
    until(lambda: not links_alive(), "they end")


def test_a_handshake_that_hangs_is_given_up(ends: Ends, tmp_path: Path) -> None:
    city = City(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        session = replace(city.session(), connect_ms_max=200)
        device = ends.bridge(session)
        endpoint = Endpoint(host="localhost", port=server.getsockname()[1], tls=True)
        ends.connect(device, endpoint)
        client, _ = server.accept()
        assert ends.expect(device, Disconnected).loss is Loss.UNREACHABLE
        client.close()


@pytest.mark.parametrize("how", ["error", "silently"])
def test_a_thread_that_dies_is_told(ends: Ends, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    with ScriptedBroker(on_packet=silent).running() as broker:
        device = ends.connected(broker.endpoint)

        def dying(*_args: object) -> None:
            raise RuntimeError("broken") if how == "error" else SystemExit

        monkeypatch.setattr(threading, "excepthook", lambda _args: None)
        monkeypatch.setattr(Link, "_turn", dying)
        lost = ends.expect(device, Disconnected)
        assert lost.loss is Loss.LOST and lost.was_connected
        assert ("broken" if how == "error" else "without a word") in lost.detail


def test_a_thread_that_hangs_and_a_line_that_is_dead_are_told(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedBroker(on_packet=silent).running() as broker:
        device = ends.connected(broker.endpoint)
        assert device.alive()
        skew = 2_000 * QUICK.keepalive_s + 1
        really = mqtt_link.monotonic_ms
        monkeypatch.setattr("sync.bridge.monotonic_ms", lambda: really() + skew)
        assert not device.alive()
        assert "thread made no turn" in ends.expect(device, Disconnected).detail
        monkeypatch.setattr("sync.bridge.monotonic_ms", really)
        device = ends.connected(broker.endpoint, replace(QUICK, keepalive_s=1))
        link = device._link
        assert link is not None
        link._heard_ms -= 2_001
        assert "nothing heard for 2 s" in ends.expect(device, Disconnected).detail


def test_a_wait_ends_when_it_is_woken(ends: Ends) -> None:
    device = ends.bridge()
    thread = threading.Timer(0.02, device.wake)
    thread.start()
    started = time.monotonic()
    device.wait(PATIENCE_MS)
    assert time.monotonic() - started < PATIENCE_MS / 2_000
    thread.join()
    assert device.poll() == []
