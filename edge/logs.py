"""Structured log lines, and the one place that knows which fields are personal.

Readable on a terminal, one JSON object a line otherwise. A value under a personal name is never
written, whatever it holds: the line says `[personal]` in its place. So a careless caller cannot
leak, and `tests/process` proves it by searching everything a day has written.

The newest lines are also kept in memory, within bounds, for the order `fetch_logs`: as JSON, and
redacted like those that are written. How much is logged can be changed while the process runs.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog

PERSONAL: Final = frozenset(
    {
        *("uid", "name", "full_name", "group", "class_name", "photo", "relation", "phone"),
        *("credential", "credential_id", "key", "secret", "pin", "payload", "data", "body"),
    }
)
LEVELS: Final = ("debug", "info", "warning", "error")
RING_BYTES_MAX: Final = 64 * 1024  # Our choice: a lively hour; eight facts carry it to the city.
LINE_CHARS_MAX: Final = 1_000  # Our choice: five ordinary lines; a traceback is cut.


class Ring:
    """The newest lines, each with its moment on the monotonic clock."""

    def __init__(self, bytes_max: int = RING_BYTES_MAX) -> None:
        self._lines: deque[tuple[int, str]] = deque()
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.Lock()  # Every thread of a process logs.

    def add(self, at_ms: int, line: str) -> None:
        """Keep a line; the oldest make room."""
        line = line if len(line) <= LINE_CHARS_MAX else line[:LINE_CHARS_MAX] + "…"
        with self._lock:
            self._lines.append((at_ms, line))
            self._bytes += len(line.encode())
            while self._bytes > self._bytes_max:
                self._bytes -= len(self._lines.popleft()[1].encode())

    def since(self, at_ms: int) -> list[str]:
        """Lines of that moment and later, oldest first."""
        with self._lock:
            return [line for moment_ms, line in self._lines if moment_ms >= at_ms]


_NUMBERS: Final = {"exception": logging.ERROR} | {
    level: logging.getLevelNamesMapping()[level.upper()] for level in LEVELS
}
_ring = Ring()
_level = logging.INFO
_to_json = structlog.processors.JSONRenderer(ensure_ascii=False)


def recent(since_mono_ms: int) -> list[str]:
    """What this process has logged since then, as far as it is still kept."""
    return _ring.since(since_mono_ms)


def set_level(level: str) -> None:
    """How much is written from now on; one of `LEVELS`."""
    global _level
    assert level in LEVELS
    _level = _NUMBERS[level]


class LevelKeeper:
    """Which level holds: by order for a while, else as the city has set it, else the file's."""

    def __init__(self, of_file: str) -> None:
        self._of_file = of_file
        self._ordered = ""
        self._until_ms: int | None = None

    def order(self, level: str, minutes: int, now_ms: int) -> None:
        """For so many minutes, or until the process ends (0)."""
        self._ordered = level
        self._until_ms = now_ms + minutes * 60_000 if minutes else None
        set_level(level)

    def settle(self, configured: str, now_ms: int) -> None:
        """Time went by, or the city has set another ("": it has not set any)."""
        if self._until_ms is not None and now_ms >= self._until_ms:
            self._ordered, self._until_ms = "", None
        set_level(self._ordered or configured or self._of_file)


def _drop_below_level(
    _logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if _NUMBERS.get(method, logging.CRITICAL) < _level:
        raise structlog.DropEvent
    return event


def _keep(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A copy for the ring; what follows renders for whoever reads along."""
    _ring.add(time.monotonic_ns() // 1_000_000, str(_to_json(logger, method, dict(event))))
    return event


def _hide_personal(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for field, value in event.items():
        event[field] = _hidden(field, value)
    return event


def _hidden(field: object, value: Any) -> Any:
    """The value as it may be written: nothing under a personal name, however deep it lies."""
    if isinstance(field, str) and field.lower() in PERSONAL:
        return "[personal]"
    if isinstance(value, Mapping):
        return {key: _hidden(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hidden("", inner) for inner in value]
    return value


def set_up(process: str, *, level: str = "info", stream: TextIO | None = None) -> None:
    """Configure logging for this process; lines go to standard error."""
    set_level(level)
    out = stream if stream is not None else sys.stderr
    renderer: Any
    if out.isatty():
        renderer = structlog.dev.ConsoleRenderer(colors=True)
    else:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    structlog.configure(
        processors=[
            _drop_below_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _hide_personal,
            _keep,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(process=process)


def get(part: str) -> Any:
    """A logger for one part of a process."""
    return structlog.get_logger().bind(part=part)
