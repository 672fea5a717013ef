"""Brokers for tests: real Mosquitto (plain or mutual TLS), amqtt, and one that does as scripted.

Each is started on a free loopback port in the test's own folder and ended by its own process id.
On a machine without Mosquitto a test is skipped with the reason; in CI that is a failure.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sync.session import Endpoint

PORTS = (12_000, 32_000)  # Below Linux's ephemeral ports, above most services.
READY_S_MAX = 10.0  # Our choice: both are ready in 0.2 s on an idle machine.


def free_port() -> int:
    """Of those that the kernel gives to nobody by itself: a broker that was killed finds its own
    port free when it comes back."""
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(kw_only=True)
class Broker:
    """A broker process that can be killed, frozen and started again on the same port."""

    command: Sequence[str]
    port: int
    tls: bool
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(host="localhost", port=self.port, tls=self.tls)

    def start(self) -> None:
        assert self.process is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
            except OSError:
                ended = self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    self.stop()
                    raise AssertionError(
                        f"{self.command[0]} is not listening: {self.log.read_text()[-2000:]}"
                    ) from None
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """SIGKILL: what a power cut does to it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """SIGHUP: read the access list, passwords and revocations again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5.0)
        self.process = None


def mosquitto_program() -> str:
    """Its path; skips the test where it is not installed, and fails it in CI."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is not None:
        return found
    reason = "mosquitto is not installed (Debian: apt-get install mosquitto)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def mosquitto(
    folder: Path,
    *,
    ca_file: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    acl: str = "",
    settings: Sequence[str] = (),
    port: int = 0,
) -> Iterator[Broker]:
    """Mosquitto without persistence. With the three files: mutual TLS, the common name as user.

    `settings` are further lines of its configuration; `acl` the text of an access list.
    """
    port = port or free_port()
    lines = [
        "persistence false",
        "set_tcp_nodelay true",
        f"listener {port} 127.0.0.1",
        *(["user root"] if os.geteuid() == 0 else []),
    ]
    tls = ca_file is not None
    if tls:
        lines += [
            f"cafile {ca_file}",
            f"certfile {certificate}",
            f"keyfile {key}",
            "require_certificate true",
            "use_identity_as_username true",
            "allow_anonymous false",
        ]
    else:
        lines.append("allow_anonymous true")
    if acl:
        (folder / "acl").write_text(acl)
        (folder / "acl").chmod(0o600)
        lines.append(f"acl_file {folder / 'acl'}")
    configuration = folder / f"mosquitto-{port}.conf"
    configuration.write_text("\n".join([*lines, *settings]) + "\n")
    command = (mosquitto_program(), "-c", str(configuration))
    broker = Broker(command=command, port=port, tls=tls, log=folder / "mosquitto.log")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


_AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
async def run():
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(run())
"""


@contextlib.contextmanager
def amqtt(folder: Path) -> Iterator[Broker]:
    """amqtt, which knows MQTT 3.1.1 alone and leaves a CONNECT of version 5 unanswered."""
    port = free_port()
    command = (sys.executable, "-c", _AMQTT, str(port))
    broker = Broker(command=command, port=port, tls=False, log=folder / "amqtt.log")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


# ---------------------------------------------------------------------------- scripted

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 4, 8, 12, 14


@dataclass(frozen=True, kw_only=True)
class Packet:
    """What a client sent: the first byte and the body of an MQTT packet."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        return self.first >> 4

    @property
    def mid(self) -> int:
        """Of a PUBLISH with QoS 1, a SUBSCRIBE or a PUBACK."""
        start = 2 + int.from_bytes(self.body[:2], "big") if self.kind == PUBLISH else 0
        return int.from_bytes(self.body[start : start + 2], "big")

    @property
    def connect_version(self) -> int:
        return self.body[6]


@dataclass(kw_only=True)
class ScriptedBroker:
    """Speaks as much MQTT as its `on_packet` makes it: it gets each packet and a `send`; False
    ends the connection. `packets` keeps what came, over all connections."""

    on_packet: Callable[[Packet, Callable[[bytes], None]], bool]
    packets: list[Packet] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    tls: ssl.SSLContext | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(host="127.0.0.1", port=self.port, tls=self.tls is not None)

    def of_kind(self, kind: int) -> list[Packet]:
        return [packet for packet in list(self.packets) if packet.kind == kind]

    @contextlib.contextmanager
    def running(self) -> Iterator[ScriptedBroker]:
        clients: list[socket.socket] = []
        threads: list[threading.Thread] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]

            def accept() -> None:
                while True:
                    try:
                        client, _ = server.accept()
                    except OSError:
                        return
                    self.connections += 1
                    if self.tls is not None:
                        client = self.tls.wrap_socket(client, server_side=True)
                    clients.append(client)
                    thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                    threads.append(thread)
                    thread.start()

            acceptor = threading.Thread(target=accept, daemon=True)
            acceptor.start()
            try:
                yield self
            finally:
                server.shutdown(socket.SHUT_RDWR)
                acceptor.join(5.0)
                for client in clients:
                    with contextlib.suppress(OSError):
                        client.shutdown(socket.SHUT_RDWR)
                for thread in threads:
                    thread.join(5.0)
                for client in clients:
                    client.close()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                first = _exactly(client, 1)[0]
                size = shift = 0
                while True:
                    byte = _exactly(client, 1)[0]
                    size |= (byte & 127) << shift
                    shift += 7
                    if not byte & 128:
                        break
                packet = Packet(first=first, body=_exactly(client, size))
                self.packets.append(packet)
                if not self.on_packet(packet, client.sendall):
                    break
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def connack(*, version: int, code: int = 0, properties: bytes = b"") -> bytes:
    body = bytes([0, code]) + (bytes([len(properties)]) + properties if version == 5 else b"")
    return bytes([CONNECT + 1 << 4, len(body)]) + body


def puback(mid: int, code: int | None = None) -> bytes:
    """With a `code`: as MQTT 5 does."""
    body = mid.to_bytes(2, "big") + (b"" if code is None else bytes([code, 0]))
    return bytes([PUBACK << 4, len(body)]) + body


def publish(topic: str, payload: bytes, *, mid: int = 0, version: int = 5) -> bytes:
    """QoS 1 with a `mid`, else QoS 0."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name
    body += (mid.to_bytes(2, "big") if mid else b"") + (b"\0" if version == 5 else b"") + payload
    size, rest = b"", len(body)
    while True:
        rest, byte = rest >> 7, rest & 127
        size += bytes([byte | (128 if rest else 0)])
        if not rest:
            break
    return bytes([PUBLISH << 4 | (2 if mid else 0)]) + size + body


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
