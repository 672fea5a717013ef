"""What a receipt printer can be said to be doing. Pure; `peripherals.py` finds out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class PrinterState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    LOW_PAPER = "low_paper"  # It prints still.
    NO_PAPER = "no_paper"
    GONE = "gone"  # Unplugged, switched off, or it does not answer.
    STUCK = "stuck"  # Took a slip and never ended it: paper, cover, or its cable.


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterStatus:
    state: PrinterState
    reason: str  # For the technician; "" where nothing is wrong.
    failed: str  # The last slip that is not on paper; "" when the last one is.
    waiting: int
    printed: int
