"""Goal: an agent that is killed in any moment leaves a free lane, never forgets a fire, and tells
how long its lane stood free.

Method: the real process on mock pins, moved through its own socket as a bench does, killed by its
id, and started again as systemd would. What it recorded is read from its journal afterwards.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from edge import control
from edge.messages import Fact, FireFact, FireWhat, Stream, UnattendedRelease, decode_fact
from edge.model import CorruptData, DeviceFault
from edge.offline_cache import outbox
from edge.offline_cache.store import FileKind, open_reader
from edge.settings import DeviceSettings
from hil.bench.station import build
from tests.support.lane_bench import FIRE, FULL_TOML, HOLD

ROOT = Path(__file__).parent.parent.parent
DEADLINE_S = 60.0  # Other tests share the processors.

pytestmark = pytest.mark.process


class Edge:
    """The process, and its socket."""

    def __init__(self, settings: DeviceSettings) -> None:
        self._socket = settings.socket_path("edge")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge", "--config", str(settings.source)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, **body: Any) -> dict[str, Any]:
        return control.ask(self._socket, body, timeout_s=DEADLINE_S)

    def lane(self) -> dict[str, Any]:
        (lane,) = self.ask(request="status")["lanes"]
        assert isinstance(lane, dict)
        return lane

    def until(self, key: str, value: object) -> dict[str, Any]:
        """The lane once it is so."""
        end_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                lane = self.lane()
            except (DeviceFault, CorruptData):
                lane = {}
            if lane.get(key, "nothing") == value:
                return lane
            assert self.process.poll() is None, "edge ended by itself"
            assert time.monotonic() < end_s, f"{key} is {lane.get(key)}"
            Event().wait(0.02)

    def move(self, line: str, active: bool) -> None:
        assert self.ask(request="move", line=line, active=active)["ok"]


@contextmanager
def edge(settings: DeviceSettings) -> Iterator[Edge]:
    """Killed at the end, whatever happened."""
    running = Edge(settings)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def facts(settings: DeviceSettings) -> list[Fact]:
    db = open_reader(settings.journal_path, FileKind.JOURNAL)
    assert db is not None
    try:
        life = outbox.lives(db, Stream.MAIN)[-1]
        bodies = outbox.next_facts(db, life.life, 1, rows_max=1_000, bytes_max=1 << 20)
        return [decode_fact(body) for body in bodies]
    finally:
        db.close()


def told(settings: DeviceSettings) -> list[FireWhat]:
    return [fact.what for fact in facts(settings) if isinstance(fact, FireFact)]


def test_a_fire_is_not_forgotten_by_a_kill(tmp_path: Path) -> None:
    settings = build(tmp_path, 5, device_toml=FULL_TOML)
    with edge(settings) as first:
        assert first.until("fire", None)["lines"][HOLD] is True
        first.move(FIRE, True)
        assert first.until("fire", "alarm")["lines"][HOLD] is False
    for _ in range(2):  # Mock wires forget: the alarm is clear, and nobody has reset it.
        with edge(settings) as again:
            lane = again.until("fire", "clear")
            assert lane["lines"][HOLD] is False and "fire_clear" in lane["alarms"]
            refused = again.ask(request="fire_reset", lane="north")
            assert refused["ok"] is False, "no officer is signed in"
            assert again.lane()["lines"][HOLD] is False
    assert told(settings) == [FireWhat.ALARM, FireWhat.CLEAR]


def test_a_killed_agent_tells_how_long_its_lane_stood_free(tmp_path: Path) -> None:
    settings = build(tmp_path, 5, device_toml=FULL_TOML)
    with edge(settings) as first:
        assert first.until("fire", None)["lines"][HOLD] is True
    killed_ms = time.time_ns() // 1_000_000
    assert [fact for fact in facts(settings) if isinstance(fact, UnattendedRelease)] == []
    with edge(settings) as again:
        assert again.until("fire", None)["lines"][HOLD] is True
    (release,) = [fact for fact in facts(settings) if isinstance(fact, UnattendedRelease)]
    assert release.from_wall_ms <= killed_ms <= release.to_wall_ms


def test_a_stopped_agent_tells_it_from_the_very_moment(tmp_path: Path) -> None:
    settings = build(tmp_path, 5, device_toml=FULL_TOML)
    with edge(settings) as first:
        first.until("fire", None)
        stopping_ms = time.time_ns() // 1_000_000
        first.process.terminate()
        assert first.process.wait(DEADLINE_S) == 0
        stopped_ms = time.time_ns() // 1_000_000
    with edge(settings) as again:
        again.until("fire", None)
    (release,) = [fact for fact in facts(settings) if isinstance(fact, UnattendedRelease)]
    assert stopping_ms - 1 <= release.from_wall_ms <= stopped_ms + 1
