"""The virtual desk of `moskvenok cards --virtual CARD`: model cards on a PC/SC service in memory.

Named by the entry-point group `moskvenok.desks`, so that product code knows nothing of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

from edge.model import SetupProblem
from hil.devices.cards.blank import BlankDesfire, BlankNtag424
from hil.devices.cards.chip import Chip, UidCard
from hil.devices.reader_scard import VirtualScard

READER: Final = "Training Reader 00 00"
EV2, EV3 = 0x12, 0x33


def _uid() -> bytes:
    return b"\x04" + secrets.token_bytes(6)  # ISO/IEC 7816-6: NXP.


CARDS: Final[dict[str, Callable[[], Chip]]] = {
    "blank-desfire": lambda: BlankDesfire(_uid(), major=EV2),
    "blank-desfire-ev3": lambda: BlankDesfire(_uid(), major=EV3),
    "blank-ntag424": lambda: BlankNtag424(_uid()),
    "number": lambda: UidCard(_uid()),
    "bank": lambda: UidCard(b"\x5a" + secrets.token_bytes(3), sak=0x20),
    "phone": lambda: UidCard(b"\x08\0\0\0", sak=0x20, random_uid=True),
}


class VirtualDesk:
    """Shows these cards one after another."""

    def __init__(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in CARDS]
        if unknown:
            raise SetupProblem(f'no model card "{unknown[0]}"; there are {", ".join(CARDS)}')
        self.cards = [CARDS[name]() for name in names]
        self.scard = VirtualScard(READER)
        self._next = 0

    def advance(self) -> bool:
        if self._next >= len(self.cards):
            return False
        self.scard.remove(READER)
        self.scard.insert(READER, self.cards[self._next])
        self._next += 1
        return True
