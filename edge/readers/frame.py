"""What every serial reader protocol gives: bytes and times in, numbers out.

The families are one file each (`id12_frame.py`, `hex_line_frame.py`), all sans-I/O: nothing in
them looks at a clock, sleeps, or raises over what a reader sent. The port belongs to
`serial_port.py`. These families have no sign of life, so link up and down are the port's to tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from edge.model import UidKind

BYTE_GAP_MS_MAX = 50  # Our choice: three whole ID-12 frames at 9600 baud; the rest is not coming.
BITS_PER_BYTE = 10  # 8N1: start bit, eight data bits, stop bit.
BAUD_MIN = 9_600  # The slowest speed the gap was chosen for.


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRead:
    """A number that arrived whole and checked as far as its family can check."""

    uid: bytes = field(repr=False)
    at_ms: int  # When its last byte came.
    kind: UidKind
    tier: int


class Frame(Protocol):
    """One link to one reader. `now_ms` is a monotonic clock, the same one every time."""

    noise_bytes: int  # Bytes that were part of no valid frame.

    def receive(self, data: bytes, *, now_ms: int) -> list[FrameRead]:
        """Hand over what was read, an empty read too: it tells that time has passed."""
        ...


def transfer_ms(size: int, baud: int = BAUD_MIN) -> float:
    """How long so many bytes take on the wire, in milliseconds.

    >>> transfer_ms(48)
    50.0
    """
    return size * BITS_PER_BYTE * 1_000 / baud
