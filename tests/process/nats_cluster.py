"""Three NATS servers with JetStream that speak MQTT, as one broker; any of them can be killed.

TLS with client certificates, and `verify_and_map`: the certificate's subject is the user, whose
rights are those of the access list that the city writes for Mosquitto, as NATS subjects (`/` is
`.` there, which is why no topic of ours has a dot). The city reaches the cluster through a small
balancer, as it would in a data centre; devices have the three addresses.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import shutil
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from hil.city.batches import Sender
from hil.city.keys import CITY_NAME
from hil.city.lists import SCOPE_PARTS
from hil.city.mosquitto import DOWN, PACKET_BYTES_MAX, UP
from tests.process.brokers import free_port
from tests.process.school import Child, wait_until

NODES: Final = 3
CLUSTER: Final = "moskvenok"
# A QoS 1 subscription is a JetStream consumer behind such a subject.
DELIVERY: Final = "$MQTT.sub.>"


def nats_program() -> str:
    """Its path; skips the test where it is not installed, and fails it in CI."""
    found = shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is not None:
        return found
    reason = "nats-server is not installed (Debian: apt-get install nats-server)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Node:
    """One server of the cluster: its ports, its configuration, its process."""

    def __init__(self, number: int) -> None:
        self.name = f"n{number}"
        self.client, self.route, self.monitor, self.mqtt = (free_port() for _ in range(4))
        self.process: Child | None = None

    def prepare(self, files: Path, routes: Sequence[int], users: str) -> None:
        folder = files.parent / self.name
        folder.mkdir()
        urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        text = f"""server_name: {self.name}
listen: "127.0.0.1:{self.client}"
http: "127.0.0.1:{self.monitor}"
max_payload: {PACKET_BYTES_MAX}
jetstream {{ store_dir: "{folder}", max_memory_store: 64MB, max_file_store: 4GB }}
cluster {{ name: {CLUSTER}, listen: "127.0.0.1:{self.route}", routes: [{urls}] }}
mqtt {{
  listen: "127.0.0.1:{self.mqtt}"
  tls {{
    cert_file: "{files}/server.pem", key_file: "{files}/server.key", ca_file: "{files}/chain.pem"
    verify_and_map: true
  }}
}}
{users}
"""
        configuration = folder / "nats.conf"
        configuration.write_text(text)
        log = files.parent / f"{self.name}.log"
        self.process = Child(log, nats_program(), "-c", str(configuration))

    def is_healthy(self) -> bool:
        """It has caught up with the others."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor, timeout=5)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            return answer.status == 200 and json.loads(answer.read())["status"] == "ok"
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class NatsCluster:
    """As `chaos.Broker`. What may be killed is one node at a time: two are no majority."""

    def __init__(self, devices: Sequence[Sender]) -> None:
        self.nodes = [Node(number) for number in range(NODES)]
        self._devices = devices
        self._balancer = Balancer([node.mqtt for node in self.nodes])
        self.url = f"mqtts://127.0.0.1:{self._balancer.port}"
        self.endpoints = tuple(f"mqtts://127.0.0.1:{node.mqtt}" for node in self.nodes)

    def prepare(self, files: Path) -> None:
        users = render_users(self._devices)
        routes = [node.route for node in self.nodes]
        for node in self.nodes:
            node.prepare(files, routes, users)

    def start(self) -> None:
        for node in self.nodes:
            assert node.process is not None
            node.process.start()
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        wait_until(lambda: all(node.is_healthy() for node in self.nodes), self.last_words)

    def stop(self) -> None:
        self._balancer.close()
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()

    def last_words(self) -> str:
        return "\n".join(node.process.last_words() for node in self.nodes if node.process)


def render_users(devices: Sequence[Sender]) -> str:
    """The city's access list, in NATS's words."""
    users = [_user(CITY_NAME, ["mk.v1.>"], ["mk.v1.>"])]
    for sender in devices:
        own = f"mk.v1.d.{sender.device}"
        write = [f"{own}.{topic.replace('/', '.')}" for topic in UP] + [f"{own}.up.for.*"]
        read = [f"{own}.{topic}" for topic in DOWN] + ["mk.v1.c.root"]
        for part in SCOPE_PARTS[sender.station]:
            scope = f"mk.v1.s.{sender.site}.{part}"
            read += [f"{scope}.head", f"{scope}.delta"]
        users.append(_user(sender.device, write, read))
    listed = ",\n    ".join(users)
    return f"""accounts {{
  city {{
    jetstream: enabled
    users: [
    {listed}
    ]
  }}
  SYS {{ users: [] }}
}}
system_account: SYS"""


def _user(name: str, write: Sequence[str], read: Sequence[str]) -> str:
    rights = f"publish: {json.dumps(list(write))}, subscribe: {json.dumps([*read, DELIVERY])}"
    return f'{{ user: "CN={name}", permissions: {{ {rights} }} }}'


class Balancer:
    """Hands each connection to the first server that takes it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _run(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            far = self._connected()
            if far is None:
                return
            with far:
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                other = {near: far, far: near}
                while True:
                    ready, _, _ = select.select([near, far], [], [])
                    for end in ready:
                        piece = end.recv(65_536)
                        if not piece:
                            return
                        other[end].sendall(piece)

    def _connected(self) -> socket.socket | None:
        for port in self._ports:
            with suppress(OSError):
                return socket.create_connection(("127.0.0.1", port), timeout=1.0)
        return None
