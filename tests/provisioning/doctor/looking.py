"""Runs the doctor on a device, and picks out what it found."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from edge.clock import Clock
from provisioning.checks.finding import Finding
from provisioning.doctor import examine

CLOCK = Clock(ZoneInfo("Europe/Moscow"))


def look(path: Path, *parts: str, now: datetime | None = None) -> list[Finding]:
    return list(examine(path, parts, now or datetime.now(UTC)))


def worst(findings: list[Finding], *words: str) -> Finding:
    """The one finding with these words; it must say what to do."""
    (found,) = [f for f in findings if all(word in f"{f.where}: {f.found}" for word in words)]
    assert found.do
    return found
