"""A dead neighbour's facts, handed in to the city for it: when, and how far. Sans-I/O, pure.

A till holds what its neighbours sold, with their own signatures. When a neighbour has been silent
for a while, what the base does not include yet goes up under `up/for/{device}`, one batch at a
time. The city takes a fact by its key, so it counts once whoever brings it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from edge.messages import Ack, Stream

DEAD_MS: Final = 10 * 60 * 1000  # Our choice: longer than a restart, an update, a pulled plug.
ANSWER_MS: Final = 30_000  # Our choice: a city that does not answer is asked again.
REFUSED_MS: Final = 10 * 60 * 1000  # Our choice: one that will not have it, now and then.


@dataclass(slots=True)
class _Way:
    """One epoch of one neighbour."""

    after: int = 0  # The city has it up to here, as far as we were told.
    next_ms: int = 0


class HandIn:
    """Which batch to bring next. One of each epoch is on its way at most."""

    def __init__(self) -> None:
        self._ways: dict[tuple[str, str], _Way] = {}
        self._alive_ms: dict[str, int] = {}

    def alive(self, devices: Iterable[str], *, heard: Iterable[str], now_ms: int) -> None:
        """Who is on the roster, and who of them is heard now."""
        said = set(heard)
        self._alive_ms = {
            device: now_ms if device in said else self._alive_ms.get(device, now_ms)
            for device in devices
        }

    def due(
        self,
        held: Mapping[tuple[str, str], int],
        base: Mapping[tuple[str, str], int],
        *,
        now_ms: int,
    ) -> list[tuple[str, str, int]]:
        """(device, epoch, after) of what to bring now. `held`: up to where facts are held."""
        due = []
        for (device, epoch), up_to in held.items():
            alive_ms = self._alive_ms.get(device)
            if alive_ms is not None and now_ms - alive_ms < DEAD_MS:
                continue  # Off the roster is as good as dead: nobody else will bring it.
            way = self._ways.setdefault((device, epoch), _Way())
            way.after = max(way.after, base.get((device, epoch), 0))
            if way.after < up_to and now_ms >= way.next_ms:
                due.append((device, epoch, way.after))
        return due

    def sent(self, device: str, epoch: str, *, now_ms: int) -> None:
        self._ways[device, epoch].next_ms = now_ms + ANSWER_MS

    def cannot(self, device: str, epoch: str, *, now_ms: int) -> None:
        """What should follow is not held here."""
        self._ways[device, epoch].next_ms = now_ms + REFUSED_MS

    def acknowledged(self, ack: Ack, *, now_ms: int) -> bool:
        """The city's word on another device's stream; False when nothing was brought for it."""
        way = self._ways.get((ack.device, ack.epoch))
        if way is None or ack.stream is not Stream.MAIN:
            return False
        if ack.problem:
            way.next_ms = now_ms + REFUSED_MS
            return True
        # A city that was restored asks for more than its base lets us think.
        way.after = ack.up_to
        way.next_ms = now_ms
        return True

    def disconnected(self) -> None:
        for way in self._ways.values():
            way.next_ms = 0
