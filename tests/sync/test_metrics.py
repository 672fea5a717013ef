"""Goal: a school's own monitoring reads true numbers in the format it knows, on this machine alone,
and no scraper, however rude, costs sync more than a small answer.

Method: what both processes say is rendered and read back by a parser of the text format written
here; a real server on a free port is asked well, badly, slowly and not at all.
"""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import ConfigProblem, parse
from edge.model import SetupProblem
from sync.metrics import MetricsServer, render
from sync.reports import hundredth, parts_of
from tests.provisioning.running import edge_status, sync_status
from tests.sync.sync_world import TOML

SAMPLE = re.compile(r"([a-z_0-9]+)(?:\{(.*)\})? (-?[0-9.e+]+)")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')

SYNC: dict[str, Any] = sync_status(
    uptime_s=60,
    disk_free_bytes=1_000_000,
    commit_ms_p99=12,
    certificate_left_s=-5,
    root=2,
    streams={"main": {"epoch": "e", "head": 9, "acknowledged": 7, "depth": 2}},
    list_age_s={"school-7/people": 30},
    alarms=["a list is lost", "the broker is too small"],
    counters={"deltas_applied": 4, 'odd"\n\\name': 1},
)
EDGE = edge_status(
    lockdown=True,
    tap_ms={"count": 3, "p50": 4, "p99": 9},
    counters={"reads": 7},
    lanes=[{"lane": "north", "up": False}],
)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The text format, version 0.0.4, as far as it is used; asserts its shape."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    typed: set[str] = set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("gauge", "counter") and name not in typed
            typed.add(name)
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            name, labels, value = match.groups()
            assert name in typed and name.startswith("moskvenok_")
            key = (name, tuple(LABEL.findall(labels or "")))
            assert key not in found
            found[key] = float(value)
    return found


def test_both_processes_are_told_in_numbers() -> None:
    found = samples(render(SYNC, EDGE))
    expected = {
        ("connected", ()): 1,
        ("commit_ms_p99", ()): 12,
        ("certificate_left_s", ()): -5,
        ("alarms", ()): 2,
        ("facts_waiting", (("stream", "main"),)): 2,
        ("list_age_s", (("list", "school-7/people"),)): 30,
        ("sync_total", (("what", "deltas_applied"),)): 4,
        ("sync_total", (("what", r"odd\"\n\\name"),)): 1,
        ("edge_up", ()): 1,
        ("lockdown", ()): 1,
        ("clock_trusted", ()): 1,
        ("reader_up", (("reader", "r1"),)): 1,
        ("lane_up", (("lane", "north"),)): 0,
        ("tap_ms", (("part", "p99"),)): 9,
        ("edge_total", (("what", "reads"),)): 7,
    }
    for (name, labels), value in expected.items():
        assert found[f"moskvenok_{name}", labels] == value, name


@pytest.mark.parametrize("edge", [None, {}, {"readers": 3, "lanes": [None], "counters": []}])
def test_what_is_missing_is_left_out(edge: dict[str, Any] | None) -> None:
    found = samples(render({"counters": {"name": "x"}, "streams": {"main": 3}}, edge))
    assert found == {("moskvenok_edge_up", ()): float(edge is not None)}


def test_parts_in_a_word_each() -> None:
    assert parts_of(None, {}) == {"edge": "silent"}
    parts = parts_of(EDGE, {})
    assert parts["reader r1"] == "up" and parts["lane north"] == "down"
    assert parts["lockdown"] == "on" and parts["clock"] == "city"
    many = parts_of({"readers": [{"reader": f"{n}" * 90} for n in range(1_000)]}, {})
    assert len(many) <= 120 and max(map(len, many)) <= 64


def test_a_hundredth_part() -> None:
    assert [hundredth(range(1, n + 1)) for n in (1, 2, 99, 100, 101, 200)] == [
        *(1, 2, 99, 99, 100),
        198,
    ]


def test_it_is_off_unless_the_devices_file_names_a_port() -> None:
    def port(text: str) -> int:
        return parse((TOML + text).encode(), Path("device.toml")).metrics_port

    assert port("") == 0 and port("[metrics]\nport = 9464\n") == 9464
    for wrong in ("70000", "-1", '"x"', "true"):
        with pytest.raises(ConfigProblem, match=r"metrics\.port"):
            port(f"[metrics]\nport = {wrong}\n")


# ---------------------------------------------------------------------------- the server


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    made = MetricsServer(0)
    try:
        yield made
    finally:
        made.close()


def ask(server: MetricsServer, method: str = "GET", path: str = "/metrics") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_gives_what_was_put_last_and_nothing_else(server: MetricsServer) -> None:
    assert ask(server) == (200, b"")
    server.put("a 1\n")
    server.put("a 2\n")
    assert ask(server) == (200, b"a 2\n") == ask(server, path="/metrics?x=1")
    assert ask(server, path="/")[0] == 404 and ask(server, "POST")[0] == 501


def test_a_client_that_says_nothing_is_let_go(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.metrics._Handler.timeout", 0.1)
    server.put("a 1\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as silent:
        assert ask(server) == (200, b"a 1\n")
        assert silent.recv(1) == b""


def test_only_this_machine_is_listened_to(server: MetricsServer) -> None:
    assert server._server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_the_technicians_to_mend(server: MetricsServer) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SetupProblem, match="choose another"),
    ):
        MetricsServer(taken.getsockname()[1])
