"""Prometheus text on loopback, for a school's own monitoring. Off unless `device.toml` says a port.

`render` is pure: what both processes say of themselves becomes lines of the text format (version
0.0.4). The server gives out what the loop rendered last; it asks nobody, so that whoever scrapes
too often costs one small answer each, in one thread, one client at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer
from typing import Any, Final

from edge.model import SetupProblem

LOOPBACK: Final = "127.0.0.1"
CLIENT_S: Final = 2.0  # Our choice: a scraper on this machine is never slower.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "moskvenok_"

# What stands in a status under these names, as gauges: (name, help).
_SYNC_GAUGES: Final = (
    ("connected", "1 while the city answers"),
    ("uptime_s", "seconds since the process started"),
    ("disk_free_bytes", "free bytes where the databases are"),
    ("commit_ms_p99", "the slowest hundredth of durable commits, in milliseconds"),
    ("certificate_left_s", "seconds until this device's certificate ends"),
    ("root", "version of the root document in force"),
)


def render(sync: Mapping[str, Any], edge: Mapping[str, Any] | None) -> str:
    """The whole text. `edge` is None while the other process does not answer."""
    lines: list[str] = []
    for name, about in _SYNC_GAUGES:
        _family(lines, name, "gauge", about, [({}, sync.get(name))])
    alarms = sync.get("alarms")
    count = len(alarms) if isinstance(alarms, list) else None
    _family(lines, "alarms", "gauge", "what `moskvenok status` asks somebody to do", [({}, count)])
    streams = [
        (stream, one) for stream, one in _table(sync.get("streams")) if isinstance(one, Mapping)
    ]
    waiting = [({"stream": stream}, one.get("depth")) for stream, one in streams]
    _family(lines, "facts_waiting", "gauge", "facts the city has not acknowledged", waiting)
    ages = [({"list": scope}, age_s) for scope, age_s in _table(sync.get("list_age_s"))]
    _family(lines, "list_age_s", "gauge", "seconds since the city confirmed a list", ages)
    counted = [({"what": name}, n) for name, n in _table(sync.get("counters"))]
    _family(lines, "sync_total", "counter", "what sync counts, by name", counted)
    _family(lines, "edge_up", "gauge", "1 while edge answers", [({}, edge is not None)])
    if edge is not None:
        _edge(lines, edge)
    return "\n".join(lines) + "\n"


def _edge(lines: list[str], edge: Mapping[str, Any]) -> None:
    trusted, locked = edge.get("clock_trusted"), edge.get("lockdown")
    _family(lines, "clock_trusted", "gauge", "1 while wall time is believed", [({}, trusted)])
    _family(lines, "lockdown", "gauge", "1 while nobody is let in by order", [({}, locked)])
    readers = [({"reader": str(r.get("reader"))}, r.get("up")) for r in _items(edge, "readers")]
    _family(lines, "reader_up", "gauge", "1 while a card shown here is read", readers)
    lanes = [({"lane": str(lane.get("lane"))}, lane.get("up")) for lane in _items(edge, "lanes")]
    _family(lines, "lane_up", "gauge", "1 while the lane moves when it is told", lanes)
    spread = [({"part": part}, ms) for part, ms in _table(edge.get("tap_ms")) if part != "count"]
    _family(lines, "tap_ms", "gauge", "read to answer of the newest taps, milliseconds", spread)
    counted = [({"what": name}, n) for name, n in _table(edge.get("counters"))]
    _family(lines, "edge_total", "counter", "what edge counts, by name", counted)


def _table(found: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(found, Mapping):
        yield from sorted((str(name), value) for name, value in found.items())


def _items(facts: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    found = facts.get(name)
    if isinstance(found, list):
        yield from (item for item in found if isinstance(item, Mapping))


def _family(
    lines: list[str], name: str, kind: str, about: str, samples: list[tuple[dict[str, str], Any]]
) -> None:
    """One metric with its samples; what is no number is left out, as is a metric without any."""
    numbers = [(labels, value) for labels, value in samples if isinstance(value, int | float)]
    if not numbers:
        return
    lines.append(f"# HELP {PREFIX}{name} {about}")
    lines.append(f"# TYPE {PREFIX}{name} {kind}")
    for labels, value in numbers:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        shown = f"{{{inside}}}" if inside else ""
        number = f"{value:g}" if isinstance(value, float) else str(int(value))
        lines.append(f"{PREFIX}{name}{shown} {number}")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _Server(HTTPServer):
    """One client at a time, and never a look-up of this machine's name."""

    text = b""
    allow_reuse_address = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_S
    server: _Server

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "only /metrics is here")
            return
        data = self.server.text
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: a scrape each quarter of a minute is no news."""


class MetricsServer:
    """Listens on loopback in a thread of its own. `put` gives it what to tell."""

    def __init__(self, port: int) -> None:
        """`SetupProblem` when the port is taken."""
        try:
            self._server = _Server((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            raise SetupProblem(
                f"metrics.port {port}: cannot be listened on ({error}); choose another"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.5}, name="metrics"
        )
        self._thread.daemon = True
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def put(self, text: str) -> None:
        self._server.text = text.encode()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
