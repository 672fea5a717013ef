"""Goal: the process itself gives its numbers to whoever asks on this machine, and ends in order.

Method: `python -m sync` on an enrolled device whose broker is away: Prometheus text over real HTTP,
the technician's socket, then SIGTERM.
"""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.control import ask
from edge.model import DeviceFault
from tests.process.brokers import free_port
from tests.sync.sync_world import World

ROOT = Path(__file__).parent.parent.parent
WAIT_S = 20.0  # Our choice: many times what a start takes on a loaded machine.


@pytest.mark.process
def test_numbers_on_loopback_and_an_end_in_order(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.stop()  # Only its files are wanted.
    port = free_port()
    config = tmp_path / "device.toml"
    text = config.read_text().replace("first.example:8883", f"127.0.0.1:{free_port()}")
    config.write_text(f"{text}\n[metrics]\nport = {port}\n")
    log = tmp_path / "sync.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "sync", "--config", str(config)], cwd=ROOT, stderr=errors
        )
    try:
        found = _until(lambda: _metrics(port), log)
        assert "moskvenok_connected 0\n" in found and "moskvenok_edge_up 0\n" in found
        assert 'moskvenok_sync_total{what="connects_failed"}' in found
        status = ask(tmp_path / "run" / "sync.sock", {"request": "status"})
        assert status["certificate"]["renewal"] == "rest" and not status["connected"]
        assert ask(tmp_path / "run" / "sync.sock", {"request": "logs", "minutes": 5})["lines"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _until(look: object, log: Path) -> str:
    assert callable(look)
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = look()
        if "connects_failed" in found:
            return str(found)
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
