"""Goal: the bridge holds its lead on paho whatever a broker does: it floods nobody, takes no more
than it can hold, tells why it ended, and never blocks its caller or dies unseen.

Method: a scripted broker for what a real one does on its worst day (no answer, failing PUBACK,
Receive Maximum, floods, packets of absurd size); name look-ups and handshakes that hang; threads
that die.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edge.messages import MESSAGE_BYTES_MAX
from edge.model import DeviceFault
from sync import mqtt_link, turns
from sync.bridge import EVENTS_MAX, GATHERED_MAX, HANGING_MAX
from sync.bridge_events import (
    Connected,
    Disconnected,
    Loss,
    Message,
    Oversized,
    Published,
    SubscriptionsReady,
)
from sync.mqtt_link import IN_FLIGHT_MAX, TURN_MS_MAX, Link
from sync.session import Endpoint
from tests.process.bridge_ends import PATIENCE_MS, QUICK, City, Ends, links_alive, until
from tests.process.brokers import (
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    SUBSCRIBE,
    Packet,
    ScriptedBroker,
    connack,
    puback,
    publish,
)

pytestmark = pytest.mark.process


@pytest.fixture(params=["lent", "turned by its thread"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    ends = Ends(lent=request.param == "lent")
    yield ends
    ends.close()
    until(lambda: not links_alive(), "a link outlived its bridge")


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
        connects = broker.of_kind(CONNECT)
        assert [packet.connect_version for packet in connects] == [5, 4]
        assert all(packet.body[7] & 0x02 for packet in connects), "a clean session"


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


def speaks_by(
    sends: list[Callable[[bytes], None]],
) -> Callable[[Packet, Callable[[bytes], None]], bool]:
    """Answers CONNECT, and leaves there how to say something to whom it was."""

    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            sends.append(send)
        return silent(packet, send)

    return on_packet


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


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_published_together_leaves_when_it_ends(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """By a ring, not by a look of the thread's own: here that would come too late."""
    monkeypatch.setattr(mqtt_link, "TURN_MS_MAX", 6 * PATIENCE_MS)
    with ScriptedBroker(on_packet=silent).running() as broker:
        device = ends.connected(broker.endpoint)
        with suppress(DeviceFault), device.together():
            for i in range(3):
                device.publish("up", b"%d" % i, qos=1)
            if fails:
                raise DeviceFault("the disk refused")
        until(lambda: len(broker.of_kind(PUBLISH)) == 3, "all leave")
        assert [p.body[-1:] for p in broker.of_kind(PUBLISH)] == [b"0", b"1", b"2"]
        device.publish("up", b"3", qos=1)
        until(lambda: len(broker.of_kind(PUBLISH)) == 4, "by itself it leaves at once")


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
        device.subscribe(topics, at_most_once=("t/4", "t/19"))
        assert ends.expect(device, SubscriptionsReady).refused == tuple(topics[16:])
        asked = b"".join(packet.body for packet in broker.of_kind(SUBSCRIBE))
        for topic in topics:  # Each is its length, its name and the QoS asked for.
            qos = 0 if topic in ("t/4", "t/19") else 1
            assert len(topic).to_bytes(2) + topic.encode() + bytes([qos]) in asked
        assert len(broker.of_kind(SUBSCRIBE)) == 3


def test_a_message_above_the_limit_is_thrown_away_and_a_monster_ends_the_link(ends: Ends) -> None:
    sends: list[Callable[[bytes], None]] = []
    with ScriptedBroker(on_packet=speaks_by(sends)).running() as broker:
        device = ends.connected(broker.endpoint)
        sends[0](publish("down", bytes(MESSAGE_BYTES_MAX), mid=1))
        assert len(ends.expect(device, Message).payload) == MESSAGE_BYTES_MAX
        sends[0](publish("down", bytes(MESSAGE_BYTES_MAX + 1), mid=7))
        size = MESSAGE_BYTES_MAX + 1
        assert ends.expect(device, Oversized) == Oversized(topic="down", size_bytes=size)
        until(lambda: [p.mid for p in broker.of_kind(PUBACK)] == [7], "it is acknowledged")
        sends[0](bytes([PUBLISH << 4, 0xFF, 0xFF, 0xFF, 0x7F]) + bytes(1_000))  # 256 MB, it says.
        assert ends.expect(device, Disconnected).loss is Loss.OVERSIZE


def test_messages_that_came_in_one_tls_record_do_not_wait_for_the_next(
    ends: Ends, tmp_path: Path
) -> None:
    city = City(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(city.server.certificate, city.server.key)

    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            send(connack(version=5) + b"".join(publish("down", b"%d" % i) for i in range(50)))
        return True

    with ScriptedBroker(on_packet=on_packet, tls=context).running() as broker:
        device = ends.bridge(city.session())
        started = time.monotonic()
        ends.connect(device, broker.endpoint)
        assert len(ends.expect_many(device, Message, 50)) == 50
        assert time.monotonic() - started < TURN_MS_MAX / 1000


def test_a_message_of_an_earlier_connection_is_not_acknowledged_on_this_one(ends: Ends) -> None:
    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            send(connack(version=5))
            if broker.connections == 1:
                send(publish("down", b"", mid=9))
        return packet.kind != PUBLISH or broker.connections > 1

    with ScriptedBroker(on_packet=on_packet).running() as broker:
        device = ends.connected(broker.endpoint)
        message = ends.expect(device, Message)
        device.publish("up", b"end it", qos=0)
        ends.expect(device, Disconnected)
        ends.connect(device, broker.endpoint)
        ends.expect(device, Connected)
        device.done(message.token)
        device.publish("up", b"behind it", qos=0)
        until(lambda: len(broker.of_kind(PUBLISH)) == 2, "what was published behind it")
        assert broker.of_kind(PUBACK) == []


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
        # A thread that stands in takes a few each time it looks; that it rests when full is seen
        # with the other kind.
        assert (1 if ends.lent else EVENTS_MAX) <= len(device._events) <= EVENTS_MAX + 2
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
        link = device._link
        assert link is not None
        if not ends.lent:
            monkeypatch.setattr(Link, "_turn", dying)
        elif how == "error":
            monkeypatch.setattr(link.turns, "_turn", dying)
        else:
            monkeypatch.setattr(link.turns, "_stand_in", dying)
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
        really = turns.monotonic_ms
        monkeypatch.setattr("sync.bridge.monotonic_ms", lambda: really() + skew)
        assert not device.alive()
        assert "it was not turned" in ends.expect(device, Disconnected).detail
        monkeypatch.setattr("sync.bridge.monotonic_ms", really)
        device = ends.connected(broker.endpoint, replace(QUICK, keepalive_s=1))
        link = device._link
        assert link is not None
        link._pulse.heard_ms -= 2_001
        assert "nothing heard for 2 s" in ends.expect(device, Disconnected).detail


def test_a_link_that_ends_is_not_said_to_have_never_begun(ends: Ends) -> None:
    """Between its end and its word on it somebody may ask: the true reason stands."""
    with ScriptedBroker(on_packet=silent).running() as broker:
        device = ends.connected(broker.endpoint, replace(QUICK, connect_ms_max=5_000))
        link = device._link
        assert link is not None
        link.connected = False
        assert link.problem(turns.monotonic_ms() + 6_000) == ""


@pytest.mark.parametrize("ends", ["lent"], indirect=True)  # Else its thread gathers meanwhile.
def test_what_comes_together_is_handed_over_together(ends: Ends) -> None:
    """A look at each by itself would cost the caller a step each."""
    sends: list[Callable[[bytes], None]] = []
    with ScriptedBroker(on_packet=speaks_by(sends)).running() as broker:
        device = ends.connected(broker.endpoint)
        sends[0](b"".join(publish("down", b"%d" % i) for i in range(100)))
        sizes: list[int] = []
        while sum(sizes) < 100:
            device.wait(PATIENCE_MS)
            sizes.append(len(device.poll()))
        assert sum(sizes) == 100 and len(sizes) <= 100 // GATHERED_MAX + 5


@pytest.mark.parametrize("ends", ["lent"], indirect=True)
@pytest.mark.parametrize("timeout_ms", [-3, 0, 1, 5])
def test_a_wait_that_runs_out_is_a_turn_or_two(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, timeout_ms: int
) -> None:
    with ScriptedBroker(on_packet=silent).running() as broker:
        device = ends.connected(broker.endpoint)
        device.wait(50)  # Called to the link that was lent.
        turned: list[int] = []
        link = device._link
        assert link is not None
        until(lambda: link.turns.lent, "it is lent")
        really = link.turns._turn

        def turn(left_ms: int) -> bool:
            turned.append(left_ms)
            return really(left_ms)

        monkeypatch.setattr(link.turns, "_turn", turn)
        for _ in range(20):
            device.wait(timeout_ms)
        # One that ends a moment early by the clock is gone on with; the thread may stand in once.
        assert 20 <= len(turned) <= 2 * 20 + 1


def test_a_wait_ends_when_it_is_woken(ends: Ends) -> None:
    device = ends.bridge()
    thread = threading.Timer(0.02, device.wake)
    thread.start()
    started = time.monotonic()
    device.wait(PATIENCE_MS)
    assert time.monotonic() - started < PATIENCE_MS / 2_000
    thread.join()
    assert device.poll() == []
