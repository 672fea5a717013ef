"""Goal: the process itself gives its numbers to whoever asks on this machine, ends in order, and
where it cannot, its broker tells that it is gone.

Method: `python -m sync` on an enrolled device. While its broker is away: Prometheus text over real
HTTP, the technician's socket, then SIGTERM. On a real Mosquitto: SIGKILL, and what stands retained.
"""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge.control import ask
from edge.messages import Status
from edge.model import DeviceFault
from sync.bridge import Bridge
from sync.bridge_events import Connected, Message
from sync.session import Endpoint, session_for
from sync.status import read_status
from sync.topics import TopicKind, own
from tests.process.brokers import free_port, mosquitto
from tests.sync.sync_world import DEVICE, World

ROOT = Path(__file__).parent.parent.parent
WAIT_S = 20.0  # Our choice: many times what a start takes on a loaded machine.
Process = subprocess.Popen[bytes]


@contextmanager
def running(folder: Path, endpoint: str, more: str = "") -> Iterator[Process]:
    """The process of a device that was enrolled here; ended at last, whatever it was told."""
    world = World(folder)
    world.stop()  # Only its files are wanted.
    config = folder / "device.toml"
    text = config.read_text().replace("mqtts://first.example:8883", endpoint)
    config.write_text(f"{text}\n{more}")
    with (folder / "sync.log").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "sync", "--config", str(config)], cwd=ROOT, stderr=errors
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.process
def test_numbers_on_loopback_and_an_end_in_order(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "sync.log"
    away = f"mqtts://127.0.0.1:{free_port()}"
    with running(tmp_path, away, f"[metrics]\nport = {port}\n") as process:
        found = _until(lambda: _metrics(port), log)
        assert "moskvenok_connected 0\n" in found and "moskvenok_edge_up 0\n" in found
        assert 'moskvenok_sync_total{what="connects_failed"}' in found
        status = ask(tmp_path / "run" / "sync.sock", {"request": "status"})
        assert status["certificate"]["renewal"] == "rest" and not status["connected"]
        assert ask(tmp_path / "run" / "sync.sock", {"request": "logs", "minutes": 5})["lines"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0, log.read_text()


@pytest.mark.process
def test_a_process_that_is_killed_stands_offline_with_its_broker(tmp_path: Path) -> None:
    """Mosquitto publishes the will when the socket breaks, retained: who comes later reads it."""
    with mosquitto(tmp_path) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        with running(tmp_path, url) as process, closing(_watching(broker.endpoint)) as watching:
            birth, _ = _next_status(watching, tmp_path / "sync.log")
            assert birth.online and birth.device == DEVICE
            process.kill()
            will, _ = _next_status(watching, tmp_path / "sync.log")
        assert not will.online
        assert (will.boot, will.connection) == (birth.boot, birth.connection)
        with closing(_watching(broker.endpoint)) as late:
            assert _next_status(late, tmp_path / "sync.log") == (will, True)


def _watching(endpoint: Endpoint) -> Bridge:
    """Somebody of the city, with one subscription."""
    bridge = Bridge(session_for("city", None))
    bridge.connect(endpoint, will_topic="", will=b"")
    deadline = time.monotonic() + WAIT_S
    while not any(isinstance(event, Connected) for event in bridge.poll()):
        assert time.monotonic() < deadline
        bridge.wait(50)
    bridge.subscribe([own(DEVICE, TopicKind.STATUS)])
    return bridge


def _next_status(bridge: Bridge, log: Path) -> tuple[Status, bool]:
    """And whether it stood retained."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for event in bridge.poll():
            if isinstance(event, Message):
                bridge.done(event.token)
                return read_status(event.payload), event.retained
        bridge.wait(50)
    raise AssertionError(log.read_text())


def _until(look: Callable[[], str], log: Path) -> str:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = look()
        if "connects_failed" in found:
            return found
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def _metrics(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    except (OSError, DeviceFault):
        return ""
    finally:
        connection.close()
