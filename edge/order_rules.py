"""Orders of the city: which process carries one out, and whether it can be accepted. Pure.

Both processes judge by this table, each for the orders it carries out: edge whatever touches the
lane, sync whatever touches lists, identity or the way to the city. The counter is not judged here:
a used one never reaches an inbox (`offline_cache/marks.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from edge.messages import Order
from edge.model import Direction, Moment

LEVELS: Final = ("debug", "info", "warning", "error")
OPEN_WINDOW_MS_MAX: Final = 10 * 60_000  # Our choice: a guest at the gate waits no longer.
LOCKDOWN_WINDOW_MS_MAX: Final = (
    10 * 60_000
)  # Our choice: as long; what comes later is ordered anew.
LEVEL_MINUTES_MAX: Final = 7 * 24 * 60  # Our choice: a week; what is wanted longer is a setting.
LOG_MINUTES_MAX: Final = 24 * 60  # Our choice: the ring seldom reaches further back.
RELEASE: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}")  # PEP 440 versions fit.
SHA256: Final = re.compile(r"[0-9a-f]{64}")


@unique
class Word(StrEnum):
    """What can be ordered. On the wire for ever: added to, never renamed or reused."""

    OPEN_ONCE = "open_once"
    LOCKDOWN_ON = "lockdown_on"
    LOCKDOWN_OFF = "lockdown_off"
    IDENTIFY = "identify"
    RESTART = "restart"
    SET_LOG_LEVEL = "set_log_level"
    RELOAD_LIST = "reload_list"
    ROTATE_KEY = "rotate_key"
    FETCH_LOGS = "fetch_logs"
    UPDATE = "update"


@unique
class Process(StrEnum):
    EDGE = "edge"
    SYNC = "sync"


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What this device is, as far as orders ask."""

    access_points: Mapping[str, Direction]
    readers: int
    scopes: frozenset[str]
    updater: bool = False  # Something is installed that takes releases.


def carried_by(order: Order) -> Process:
    """The process that answers and carries out. What nobody knows is refused by edge, once."""
    match order.order:
        case Word.RELOAD_LIST | Word.ROTATE_KEY | Word.FETCH_LOGS | Word.UPDATE:
            return Process.SYNC
        case Word.RESTART | Word.SET_LOG_LEVEL if order.process == Process.SYNC:
            return Process.SYNC
        case _:
            return Process.EDGE


def judge(order: Order, *, moment: Moment, here: Here) -> str:
    """Why the order is refused, in checking order; "" when it is accepted."""
    if order.order not in _PROBLEMS:
        return "unknown_order"
    why = _PROBLEMS[Word(order.order)](order, here)
    if why:
        return why
    if not moment.clock_trusted:
        return "clock"
    if moment.wall_ms < order.not_before_utc_ms:
        return "early"
    if moment.wall_ms >= order.not_after_utc_ms:
        return "late"
    return ""


def _open_once(order: Order, here: Here) -> str:
    if order.access_point not in here.access_points:
        return "not_here"
    return "arguments" if _is_longer(order, OPEN_WINDOW_MS_MAX) else ""


def _lockdown(order: Order, here: Here) -> str:
    """Lockdown lets nobody in; where nobody comes in there is nothing to lock."""
    if Direction.IN not in here.access_points.values():
        return "not_here"
    return "arguments" if _is_longer(order, LOCKDOWN_WINDOW_MS_MAX) else ""


def _is_longer(order: Order, window_ms_max: int) -> bool:
    """A long-lived order to open, or to lift a lockdown, is a key that lies about."""
    return order.not_after_utc_ms - order.not_before_utc_ms > window_ms_max


def _identify(_order: Order, here: Here) -> str:
    return "" if here.readers else "not_here"


def _restart(order: Order, _here: Here) -> str:
    return "" if order.process in set(Process) else "arguments"


def _set_log_level(order: Order, _here: Here) -> str:
    good = (
        order.process in set(Process)
        and order.level in LEVELS
        and 0 <= order.minutes <= LEVEL_MINUTES_MAX
    )
    return "" if good else "arguments"


def _reload_list(order: Order, here: Here) -> str:
    return "" if order.scope in here.scopes else "not_here"


def _rotate_key(_order: Order, _here: Here) -> str:
    return ""


def _fetch_logs(order: Order, _here: Here) -> str:
    good = order.process in set(Process) and 0 < order.minutes <= LOG_MINUTES_MAX
    return "" if good else "arguments"


def _update(order: Order, here: Here) -> str:
    if not here.updater:
        return "not_here"
    good = RELEASE.fullmatch(order.release) and SHA256.fullmatch(order.sha256)
    return "" if good else "arguments"


_PROBLEMS: Final[Mapping[str, Callable[[Order, Here], str]]] = MappingProxyType(
    {
        Word.OPEN_ONCE: _open_once,
        Word.LOCKDOWN_ON: _lockdown,
        Word.LOCKDOWN_OFF: _lockdown,
        Word.IDENTIFY: _identify,
        Word.RESTART: _restart,
        Word.SET_LOG_LEVEL: _set_log_level,
        Word.RELOAD_LIST: _reload_list,
        Word.ROTATE_KEY: _rotate_key,
        Word.FETCH_LOGS: _fetch_logs,
        Word.UPDATE: _update,
    }
)
assert set(_PROBLEMS) == set(Word)
