"""Structured log lines, and the one place that knows which fields are personal.

Readable on a terminal, one JSON object a line otherwise. A value under a personal name is never
written, whatever it holds: the line says `[personal]` in its place. So a careless caller cannot
leak, and `tests/process` proves it by searching everything a day has written.
"""

from __future__ import annotations

import logging
import sys
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
    out = stream if stream is not None else sys.stderr
    renderer: Any
    if out.isatty():
        renderer = structlog.dev.ConsoleRenderer(colors=True)
    else:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _hide_personal,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(process=process)


def get(part: str) -> Any:
    """A logger for one part of a process."""
    return structlog.get_logger().bind(part=part)
