"""The lamps and the buzzer of one direction, driven by the table of `turnstile/signals.py`.

Each stretch of light is one bounded activation, so a lamp goes dark by itself when nobody tells it
again. A lamp that does not work stops nothing: it is counted and said once.
"""

from __future__ import annotations

from collections.abc import Callable

from edge import logs
from edge.model import DeviceFault
from edge.settings import AccessPointSettings, LineSettings
from edge.turnstile.lines import ACTIVE_MS_MAX, Lines
from edge.turnstile.officer import LaneView
from edge.turnstile.signals import PATTERNS, STEADY, Lamp, Shown, lit_until

REFRESH_MS = 1_000  # Our choice: with the agent's look, three times within what a lamp is lit for.

assert REFRESH_MS * 2 < STEADY.on_ms < ACTIVE_MS_MAX


class Lamps:
    """Those that this direction has."""

    def __init__(
        self, point: AccessPointSettings, *, lines: Lines, count: Callable[[str], None]
    ) -> None:
        every = {
            Lamp.GREEN: point.green,
            Lamp.RED: point.red,
            Lamp.AMBER: point.amber,
            Lamp.BUZZER: point.buzzer,
        }
        self._wires: dict[Lamp, LineSettings] = {
            lamp: line for lamp, line in every.items() if line is not None
        }
        self._lines = lines
        self._count = count
        self._log = logs.get(f"lamps {point.access_point_id}")
        self._of: object = None  # What is shown, and for whom: another person begins it anew.
        self._since_ms = 0
        self._lit_since_ms: dict[Lamp, int] = {}
        self._broken: set[Lamp] = set()
        self.due_ms: int | None = None  # When `step` is needed again.

    def step(self, shown: Shown, view: LaneView, now_ms: int) -> None:
        """Light what belongs to this signal now, and let the rest go."""
        if not self._wires:
            return
        whose = (shown, view.passage, view.until_ms)
        if whose != self._of:
            self._of, self._since_ms = whose, now_ms
        due = []
        for lamp, line in self._wires.items():
            pattern = PATTERNS[shown].get(lamp)
            lit, ends_ms = False, None
            if pattern is not None:
                lit, ends_ms = lit_until(pattern, since_ms=self._since_ms, now_ms=now_ms)
                if pattern is STEADY:
                    ends_ms = now_ms + STEADY.on_ms
            if lit:
                assert ends_ms is not None
                self._light(lamp, line, ends_ms - now_ms, now_ms)
            else:
                self._darken(lamp, line)
            if pattern is STEADY:
                due.append(now_ms + REFRESH_MS)
            elif ends_ms is not None:
                due.append(ends_ms)
        self.due_ms = min(due, default=None)

    def _light(self, lamp: Lamp, line: LineSettings, ms: int, now_ms: int) -> None:
        try:
            if not self._lines.is_active(line.line_id):
                self._lit_since_ms[lamp] = now_ms
            elif now_ms + ms >= self._lit_since_ms.get(lamp, now_ms) + ACTIVE_MS_MAX:
                self._lines.let_go(line.line_id)  # Its bound is near: a new stretch, unseen.
                self._lit_since_ms[lamp] = now_ms
            self._lines.activate(line.line_id, ms=ms)
        except DeviceFault as fault:
            self._note_broken(lamp, fault)
            return
        self._broken.discard(lamp)

    def _darken(self, lamp: Lamp, line: LineSettings) -> None:
        try:
            if self._lines.is_active(line.line_id):
                self._lines.let_go(line.line_id)
        except DeviceFault as fault:
            self._note_broken(lamp, fault)

    def _note_broken(self, lamp: Lamp, fault: DeviceFault) -> None:
        if lamp not in self._broken:
            self._broken.add(lamp)
            self._count("lamp_failed")
            self._log.error("a lamp does not work", lamp=lamp.value, reason=str(fault))
