"""Moments for tests: one readable Monday in Moscow, moved by whole milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from edge.clock import moment_at
from edge.model import ClockQuality, Moment

MOSCOW = ZoneInfo("Europe/Moscow")
NOON_MS = int(datetime(2026, 3, 2, 9, 0, tzinfo=UTC).timestamp()) * 1000  # Monday, 12:00 there.
BOOT = "b00000000001"


def at(
    after_ms: int = 0,
    *,
    quality: ClockQuality = ClockQuality.CITY,
    boot: str = BOOT,
    mono_ms: int | None = None,
) -> Moment:
    """So long after noon; the monotonic clock stood at 1,000,000 then."""
    return moment_at(
        boot=boot,
        mono_ms=1_000_000 + after_ms if mono_ms is None else mono_ms,
        wall_ms=NOON_MS + after_ms,
        quality=quality,
        zone=MOSCOW,
    )
