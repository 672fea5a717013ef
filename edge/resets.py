"""Readers that can be reset: a pin at a chip's reset line, pulled low when it answers no more.

Its lines are opened beside those of the lanes and are none of theirs: a pin that cannot be had
costs a reader its reset, and nobody a gate. The pulse ends by itself, as every line's does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edge import logs
from edge.model import DeviceFault, SetupProblem
from edge.settings import DeviceSettings, ReaderSettings
from edge.turnstile.lines import RESET_MS, Lines
from edge.wiring import reset_line, resets_of


def open_resets(settings: DeviceSettings, *, now_ms: Callable[[], int]) -> Lines | None:
    """The reset lines, each letting its reader run; None where there are none to be had."""
    wiring = resets_of(settings)
    if wiring is None:
        return None
    from edge.turnstile.relay import open_lines  # Only stations with pins pay for it.

    try:
        return open_lines(wiring, now_ms=now_ms)
    except (DeviceFault, SetupProblem) as problem:
        logs.get("edge").warning("no reader can be reset", reason=str(problem))
        return None


def reset_of(reader: ReaderSettings, lines: Lines | None) -> Callable[[], None] | None:
    """What resets this reader, from whatever thread; None where its line is not wired. It returns
    at once and raises `DeviceFault` when the line cannot be driven."""
    if lines is None or reader.reset_pin is None:
        return None
    return partial(lines.activate, reset_line(reader), ms=RESET_MS)
