"""Goal: `moskvenok city check` over a real broker finds what it finds in memory.

Method: Mosquitto with TLS and the access list the city writes; the reference city as a process,
good and killed once in the middle by `--restart`, then with three faults; the command as a process.
Every child is ended by its own number.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edge.messages import b64u
from edge.model import Station
from hil.conformance.http_city import HttpCity

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("mosquitto") is None, reason="needs mosquitto"),
]
ROOT = Path(__file__).parent.parent.parent
WAIT_S = 120.0
# Kills the city and starts it as it was: what `--restart` is for.
RESTART = """
kill -9 "$(cat {folder}/pid)"
{start}
"""
START = """
: > {folder}/out
{command} > {folder}/out 2>> {folder}/err &
echo $! > {folder}/pid
while ! grep -q ready {folder}/out; do sleep 0.05; done
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Town:
    """A broker, a city, and the command that checks it."""

    def __init__(self, folder: Path, *faults: str) -> None:
        self.folder = folder
        self.broker_url = f"mqtts://localhost:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        command = [
            *(sys.executable, "-m", "hil.city", "--folder", str(folder / "city")),
            *("--broker", self.broker_url, "--http", self.http, "--gather-ms", "200"),
            *("--mosquitto", str(folder / "broker"), "--claim", "CHECK-1"),
            *(word for fault in faults for word in ("--fault", fault)),
        ]
        start = START.format(folder=folder, command=" ".join(command))
        self.script = folder / "restart.sh"
        self.script.write_text(RESTART.format(folder=folder, start=start))
        subprocess.run(["/bin/sh", "-c", start], cwd=ROOT, timeout=WAIT_S, check=True)
        self.broker = subprocess.Popen(
            ["mosquitto", "-c", str(folder / "broker" / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def check(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "provisioning", "city", "check"),
                *("--broker", self.broker_url, "--http", f"http://{self.http}"),
                *("--claim", "CHECK-1", "--patience", "4", *options),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def end(self) -> None:
        number = int((self.folder / "pid").read_text())
        os.kill(number, signal.SIGTERM)
        self.broker.terminate()
        self.broker.wait(WAIT_S)
        until = time.monotonic() + WAIT_S
        while Path(f"/proc/{number}/stat").exists() and time.monotonic() < until:
            if Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break  # Its parent, the shell, is gone; whoever is first reaps it.
            time.sleep(0.05)


def test_the_reference_city_keeps_every_rule_and_through_a_kill(tmp_path: Path) -> None:
    town = Town(tmp_path)
    try:
        done = town.check("--restart", f"sh {town.script}")
        _, status = HttpCity(f"http://{town.http}").ask("GET", "/status", None)
    finally:
        town.end()
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "err").read_text()
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{len(lines) - 1} kept"
    assert all(line.startswith("kept ") for line in lines[:-1])
    devices = json.loads(status)["devices"]
    assert len(devices) == 3 and all(device["revoked_ms"] for device in devices)


def test_a_careless_city_fails_on_exactly_what_it_breaks(tmp_path: Path) -> None:
    town = Town(tmp_path, "ack-past-gap", "vector-missing", "order-retained")
    try:
        done = town.check("--json")
    finally:
        town.end()
    assert done.returncode == 1, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    broken = {rule["rule"] for rule in found["rules"] if rule["verdict"] == "broken"}
    assert broken == {"gap", "vector", "order-passing"}, found["rules"]
    assert not found["ok"]
    assert all(rule["words"] for rule in found["rules"])


def test_devices_that_were_enrolled_by_hand_are_played(tmp_path: Path) -> None:
    """Over a plain broker, without HTTP: what needs that is left out and does not count."""
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    broker = subprocess.Popen(
        [sys.executable, "-m", "hil.broker", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    command = [sys.executable, "-m", "hil.city", "--folder", str(tmp_path / "city")]
    command += ["--broker", url, "--gather-ms", "100"]
    city = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert city.stdout is not None
        http = HttpCity(json.loads(city.stdout.readline())["http"], ())
        folders = []
        for name, station in (("till", Station.TILL), ("gate", Station.ENTRANCE)):
            identity = http.enrol(name, "s0001", station, tmp_path / name)
            assert identity is not None
            (identity.folder / "root.pub").write_text(b64u(identity.root_public) + "\n")
            (identity.folder / "root.json").write_bytes(identity.root_document)
            folders += ["--identity", str(identity.folder)]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "provisioning", "city", "check", "--json"),
                *("--broker", url, "--patience", "4", *folders),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    finally:
        city.terminate()
        city.communicate(timeout=WAIT_S)
        broker.terminate()
        broker.wait(WAIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    rules = json.loads(done.stdout)["rules"]
    assert {rule["verdict"] for rule in rules} == {"kept", "left out"}
    left_out = {rule["detail"] for rule in rules if rule["verdict"] != "kept"}
    assert left_out == {"needs --http", "needs --restart"}
    assert sum(rule["verdict"] == "kept" for rule in rules) > 35


def test_a_wrong_call_is_one_sentence() -> None:
    """What the sentences are stands in `test_conformance_command.py`."""
    options = ("--broker", "mqtt://127.0.0.1:1", "--http", "http://127.0.0.1:1")
    done = subprocess.run(
        [sys.executable, "-m", "provisioning", "city", "check", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "check the network cable and --http" in done.stderr
