"""Goal: what a broker, a network or a certificate can do to the wire costs time and never a fact.

Method: the whole of sync on real sockets (`wired.py`) against real Mosquitto with its limits set
low, a scripted broker that breaks its word, a proxy that falls silent, ports that answer something
else. Each ends with the city's books being the journal, byte for byte, or with the right word for a
person.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hil.proxy import Proxy, Wire
from sync import city_link, mqtt_link, pump
from sync.bridge_events import Connected, Disconnected, Loss
from sync.mqtt_link import Link
from sync.session import Endpoint, tls_context
from tests.process.bridge_ends import QUICK, City, Ends, links_alive, until
from tests.process.brokers import (
    CONNECT,
    PUBLISH,
    Packet,
    ScriptedBroker,
    free_port,
    mosquitto,
    puback,
)
from tests.process.wired import CityBroker, Wired
from tests.sync.pki import Authority

pytestmark = pytest.mark.process
T = TypeVar("T")


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    wired = Wired(tmp_path)
    yield wired
    wired.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends(lent=True)
    yield ends
    ends.close()
    until(lambda: not links_alive(), "a link outlived its bridge")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules on a faster clock."""
    monkeypatch.setattr(pump, "ACK_PATIENCE_MS", 300)
    monkeypatch.setattr(pump, "ACK_PATIENCE_MS_MAX", 600)
    monkeypatch.setattr(city_link, "HELLO_MS", 300)


# ----------------------------------------------------------------------- brokers that lie


def test_a_broker_that_acknowledges_and_forgets_costs_nothing(
    wired: Wired, impatient: None
) -> None:
    """Every PUBACK is given; of the batches two in three never reach the city."""
    wired.record(600)
    count = 0

    def keeps(packet: Packet) -> bool:
        nonlocal count
        if b"/up/" not in packet.body[:60]:
            return True
        count += 1
        return count % 3 == 0

    script = CityBroker(city=wired.city, keeps=keeps)
    with script.broker().running() as broker, wired.syncing(f"mqtt://127.0.0.1:{broker.port}") as s:
        wired.run(s, wired.arrived, "everything arrives")
    assert count > wired.city.batches


def test_mosquitto_that_took_everything_and_came_back_empty_is_sent_it_again(
    wired: Wired, tmp_path: Path, impatient: None
) -> None:
    """Nobody subscribes: it acknowledges each batch and keeps none."""
    with mosquitto(tmp_path) as broker:
        city = wired.city_on(broker.endpoint)
        with wired.syncing(f"mqtt://localhost:{broker.port}") as sync:
            wired.run(sync, lambda: sync.link.welcomed, "welcome", also=city.pump)
            city.bridge.close()
            wired.record(300)
            wired.run(sync, lambda: sync.counters.get("disconnects"), "no word of the city")
            broker.kill()
            broker.start()
            city = wired.city_on(broker.endpoint)
            wired.run(sync, wired.arrived, "everything arrives", also=city.pump)


def test_a_brokers_queue_cap_drops_batches_and_the_city_asks_for_them(
    wired: Wired, tmp_path: Path, impatient: None
) -> None:
    """Mosquitto queues one message for a city that is not reading, and throws away the rest."""
    with mosquitto(tmp_path, settings=("max_queued_messages 1",)) as broker:
        city = wired.city_on(broker.endpoint, receive_max=1)
        with wired.syncing(f"mqtt://localhost:{broker.port}") as sync:
            wired.run(sync, lambda: sync.link.welcomed, "welcome", also=city.pump)
            for _ in range(12):
                wired.record(1, money=True)  # A batch of its own, at once.
                sync.step(rung=True)
            assert sync.uplink.counters["batches_sent"] >= pump.WINDOW_BATCHES_MAX
            wired.run(sync, wired.arrived, "everything arrives", also=city.pump)
            counters = sync.uplink.counters
            assert counters["batches_sent"] > wired.city.batches, "the broker dropped some"
            assert counters["rewind_lost"] > 0, "and the city asked for them"


def test_a_puback_with_a_failure_code_keeps_the_fact(wired: Wired, impatient: None) -> None:
    """Not authorised, quota exceeded: refused a while, then taken."""
    wired.record(400)
    refused = 0

    def pubacks(packet: Packet) -> bytes:
        nonlocal refused
        if b"/up/" in packet.body[:60] and refused < 6:
            refused += 1
            return puback(packet.mid, 0x87 if refused % 2 else 0x97)
        return puback(packet.mid)

    script = CityBroker(city=wired.city, pubacks=pubacks)
    script.keeps = lambda packet: b"/up/" not in packet.body[:60] or refused >= 6
    with script.broker().running() as broker, wired.syncing(f"mqtt://127.0.0.1:{broker.port}") as s:
        wired.run(s, wired.arrived, "everything arrives")
        assert s.counters["broker_refused"] == 6


def test_a_puback_that_never_comes_stops_nothing(wired: Wired, impatient: None) -> None:
    """The city's word counts, not the broker's. When our window is full, a new connection."""
    script = CityBroker(city=wired.city, pubacks=lambda _packet: b"")
    with script.broker().running() as broker, wired.syncing(f"mqtt://127.0.0.1:{broker.port}") as s:
        wired.run(s, lambda: s.link.welcomed, "welcome")
        for number in range(2 * mqtt_link.IN_FLIGHT_MAX):
            wired.record(1, money=True)
            wired.run(s, wired.arrived, f"fact {number}")
        assert broker.connections > 1


def test_receive_maximum_1_and_packets_of_8_kb_are_kept(wired: Wired) -> None:
    """In CONNACK: Receive Maximum 1, Maximum Packet Size 8192. Never two PUBLISH unanswered."""
    wired.record(500)
    properties = b"\x21\x00\x01" + b"\x27" + (8_192).to_bytes(4, "big")
    answers: list[tuple[Callable[[bytes], None], int]] = []
    script = CityBroker(city=wired.city, properties=properties)
    broker = script.broker()
    take, unanswered = broker.on_packet, 0

    def on_packet(packet: Packet, send: Callable[[bytes], None]) -> bool:
        nonlocal unanswered
        if packet.kind == PUBLISH and packet.first & 6:
            assert not answers, "a second PUBLISH before the PUBACK of the first"
            answers.append((send, packet.mid))
            threading.Timer(0.005, answer).start()
        return take(packet, send)

    def answer() -> None:
        send, mid = answers.pop()
        send(puback(mid))

    script.pubacks = lambda _packet: b""
    broker.on_packet = on_packet
    with broker.running(), wired.syncing(f"mqtt://127.0.0.1:{broker.port}") as sync:
        wired.run(sync, wired.arrived, "everything arrives")
        wired.run(sync, lambda: not answers, "answered")
    assert max(script.sizes) <= 8_192 - 5, "the whole packet, its header included"
    assert max(script.sizes) > 4_096, "a batch is as large as it may be"


def test_mosquitto_with_a_window_of_one_and_packets_of_8_kb(wired: Wired, tmp_path: Path) -> None:
    limits = ("max_inflight_messages 1", "max_packet_size 8192")
    wired.record(400)
    with mosquitto(tmp_path, settings=limits) as broker:
        city = wired.city_on(broker.endpoint)
        with wired.syncing(f"mqtt://localhost:{broker.port}") as sync:
            wired.run(sync, wired.arrived, "everything arrives", also=city.pump)
            assert sync.counters.get("disconnects", 0) == 0


def test_the_same_client_id_twice_throws_the_older_out_and_loses_nothing(
    wired: Wired, tmp_path: Path, ends: Ends
) -> None:
    with mosquitto(tmp_path) as broker:
        city = wired.city_on(broker.endpoint)
        with wired.syncing(f"mqtt://localhost:{broker.port}") as sync:
            wired.run(sync, lambda: sync.link.welcomed, "welcome", also=city.pump)
            twin = ends.connected(broker.endpoint, replace(QUICK, client_id="till-1"))
            wired.record(300)
            wired.run(sync, lambda: sync.counters.get("disconnects"), "thrown out", also=city.pump)
            twin.disconnect()  # 2.0.11 says no word of why; who says so is heard as an alarm.
            wired.run(sync, wired.arrived, "everything arrives", also=city.pump)


# ----------------------------------------------------------------------- networks


class _Wire:
    """The proxy of `hil`, on a thread of its own."""

    def __init__(self, target: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.proxy = Proxy(target_port=target)
        self.port = self._call(self.proxy.start())
        assert self.port

    def switch(self, wire: Wire) -> None:
        self._loop.call_soon_threadsafe(self.proxy.switch, wire)

    def close(self) -> None:
        self._call(self.proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)


def test_a_half_open_connection_is_noticed_and_everything_sent_again(
    wired: Wired, tmp_path: Path, impatient: None
) -> None:
    """The line falls silent: no FIN, no RST, writes succeed. The city's silence tells."""
    with mosquitto(tmp_path) as broker:
        wire = _Wire(broker.port)
        city = wired.city_on(broker.endpoint)
        try:
            with wired.syncing(f"mqtt://localhost:{wire.port}") as sync:
                wired.run(sync, lambda: sync.link.welcomed, "welcome", also=city.pump)
                wire.switch(Wire.SILENT)
                wired.record(300)
                wired.run(sync, lambda: sync.counters.get("disconnects"), "it is given up")
                wire.switch(Wire.ON)
                wired.run(sync, wired.arrived, "everything arrives", also=city.pump)
        finally:
            wire.close()


def test_a_captive_portal_is_no_broker_and_no_refusal(ends: Ends, tmp_path: Path) -> None:
    """It answers TLS with a page in the clear, or with a certificate of its own."""
    city = City(tmp_path)
    (tmp_path / "portal").mkdir()
    portal = Authority(tmp_path / "portal", "portal-ca").issue("portal", server=True)
    page = b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\nContent-Length: 0\r\n\r\n"

    def one(serve: Callable[[socket.socket], None]) -> Disconnected:
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=lambda: serve(server.accept()[0]))
            thread.start()
            device = ends.bridge(city.session())
            endpoint = Endpoint(host="localhost", port=server.getsockname()[1], tls=True)
            ends.connect(device, endpoint)
            lost = ends.expect(device, Disconnected)
            thread.join(5.0)
        assert not lost.was_connected
        return lost

    def plain(client: socket.socket) -> None:
        with client:
            client.recv(4_096)
            client.sendall(page)

    def sealed(client: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(portal.certificate, portal.key)
        with client, pytest.raises(ssl.SSLError):
            context.wrap_socket(client, server_side=True)

    assert one(plain).loss is Loss.UNREACHABLE
    untrusted = one(sealed)
    assert untrusted.loss is Loss.UNTRUSTED and "certificate" in untrusted.detail


def test_a_name_that_is_nobodys_and_a_port_where_nobody_is_are_one_word(ends: Ends) -> None:
    """A hole in DNS, and a machine that is off."""
    for endpoint in (
        Endpoint(host="broker.invalid", port=8883, tls=False),
        Endpoint(host="127.0.0.1", port=free_port(), tls=False),
    ):
        device = ends.bridge()
        ends.connect(device, endpoint)
        lost = ends.expect(device, Disconnected)
        assert (lost.loss, lost.was_connected) == (Loss.UNREACHABLE, False), lost


# ----------------------------------------------------------------------- certificates


def test_an_authority_that_ended_is_a_matter_of_dates(ends: Ends, tmp_path: Path) -> None:
    """With the broker's and the device's own certificates still good: told as dates, and reached
    without date checks for the time alone."""
    city = City(tmp_path)
    later_s = int(time.time()) + 3651 * 86_400  # Behind the end of the authority of `pki.py`.
    server = city.authority.issue("long", server=True, days=(-1, 5_000))
    with mosquitto(
        tmp_path,
        ca_file=city.authority.file,
        certificate=server.certificate,
        key=server.key,
    ) as broker:
        context = tls_context(
            ca_file=city.authority.file,
            certificate_file=city.mine.certificate,
            key_file=city.mine.key,
            utc_s=lambda: later_s,
        )
        device = ends.bridge(replace(QUICK, tls=context))
        ends.connect(device, broker.endpoint)
        assert ends.expect(device, Disconnected).loss is Loss.DATES
        now = ends.bridge(city.session(check_time=False))
        ends.connect(now, broker.endpoint)
        ends.expect(now, Connected)


def _hangs_up_after(delay_s: float) -> Callable[[Packet, Callable[[bytes], None]], bool]:
    """It reads CONNECT, cannot serve (a cluster without a leader), and hangs up."""

    def on_packet(packet: Packet, _send: Callable[[bytes], None]) -> bool:
        if packet.kind == CONNECT:
            time.sleep(delay_s)
            return False
        return True

    return on_packet


def test_a_broker_that_cannot_serve_is_not_taken_for_one_that_refuses_us(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once after the handshake it is our certificate; later it is the broker's own trouble, or
    a restarting cluster would cost a back-off of up to five minutes."""
    monkeypatch.setattr(mqtt_link, "REFUSAL_MS_MAX", 200)
    city = City(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(city.server.certificate, city.server.key)
    for delay_s, loss in ((0.0, Loss.DENIED), (0.4, Loss.LOST)):
        script = ScriptedBroker(on_packet=_hangs_up_after(delay_s), tls=context)
        with script.running() as broker:
            session = replace(city.session(), connack_ms_max=2_000, connect_ms_max=8_000)
            device = ends.bridge(session)
            ends.connect(device, replace(broker.endpoint, host="localhost"), session)
            assert ends.expect(device, Disconnected).loss is loss


# ----------------------------------------------------------------------- our own mistakes


CALLBACKS = (
    "_on_socket_open",
    "_on_connect",
    "_on_disconnect",
    "_on_message",
    "_on_publish",
    "_on_subscribe",
)


@pytest.mark.parametrize("callback", CALLBACKS)
def test_an_exception_in_any_callback_is_told_and_the_next_connection_carries_on(
    wired: Wired, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, callback: str
) -> None:
    """Once, in the middle of a drain; paho would swallow it, or die of it, without a word."""
    raised = threading.Event()
    really = getattr(Link, callback)

    def spoiled(self: Link, *arguments: object) -> None:
        if self._session.client_id == "till-1" and not raised.is_set():
            raised.set()
            raise RuntimeError("a mistake of ours")
        really(self, *arguments)

    wired.record(300)
    monkeypatch.setattr(Link, callback, spoiled)
    with mosquitto(tmp_path) as broker:
        city = wired.city_on(broker.endpoint)
        with wired.syncing(f"mqtt://localhost:{broker.port}") as sync:
            if callback == "_on_disconnect":
                wired.run(sync, lambda: sync.link.welcomed, "welcome", also=city.pump)
                city.bridge.close()
                broker.kill()
                broker.start()
                city = wired.city_on(broker.endpoint)

            def lost() -> int:
                counters = sync.counters
                return counters.get("disconnects", 0) + counters.get("connects_failed", 0)

            # A drain may be over before the connection is: that it was lost is told all the same.
            def over() -> bool:
                return wired.arrived() and lost() >= 1

            wired.run(sync, over, "everything arrives, and the loss is told", also=city.pump)
            assert raised.is_set()
