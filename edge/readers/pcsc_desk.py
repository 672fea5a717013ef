"""A PC/SC reader on a desk: one card, shown to a person who waits, asked as often as needed.

The lane's loop is `pcsc.py`; here nobody passes, and a card may be written. Every activation is a
connection of its own and ends with the card's power, so that the next one begins anew: a session
never outlives it, and a card with a random UID shows another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edge.model import DeviceFault
from edge.readers.dialogue import Failure
from edge.readers.pcsc import Scard

LOOK_S = 0.1  # Our choice: a hand that lays a card down is slower.

Transmit = Callable[[bytes], bytes | Failure]


class PcscDesk:
    """The first reader whose name begins so. `DeviceFault` where there is none, or no pcscd."""

    def __init__(self, prefix: str, *, scard: Scard) -> None:
        self._scard = scard
        code, self._context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        if code:
            raise self._fault("no PC/SC service", code)
        code, names = scard.SCardListReaders(self._context, [])
        ours = sorted(name for name in names if name.startswith(prefix))
        if code or not ours:
            self.close()
            there = ", ".join(names) or "none"
            raise DeviceFault(
                f'no PC/SC reader named "{prefix}…"; there is {there}; check its plug, and that '
                "pcscd runs: systemctl status pcscd"
            )
        self.name = ours[0]

    def __enter__(self) -> PcscDesk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._scard.SCardReleaseContext(self._context)

    def wait_for(self, *, present: bool, limit_s: float) -> bool:
        """Until a card lies there, or none does. False when that did not come in time."""
        scard, until_s = self._scard, time.monotonic() + limit_s
        while True:
            asked = ((self.name, scard.SCARD_STATE_UNAWARE),)
            code, states = scard.SCardGetStatusChange(self._context, 0, asked)
            if code not in (0, scard.SCARD_E_TIMEOUT):
                raise self._fault(f"{self.name} was lost", code)
            if not code and bool(states[0][1] & scard.SCARD_STATE_PRESENT) is present:
                return True
            if time.monotonic() >= until_s:
                return False
            time.sleep(LOOK_S)

    @contextmanager
    def card(self) -> Iterator[Transmit]:
        """Activate the card that lies there; what it is asked answers, or says why it does not."""
        scard = self._scard
        code, card, protocol = scard.SCardConnect(
            self._context,
            self.name,
            scard.SCARD_SHARE_EXCLUSIVE,
            scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1,
        )
        if code:
            raise self._fault(f"the card on {self.name} does not answer", code)
        pci = scard.SCARD_PCI_T0 if protocol == scard.SCARD_PROTOCOL_T0 else scard.SCARD_PCI_T1

        def transmit(command: bytes) -> bytes | Failure:
            code, answer = scard.SCardTransmit(card, pci, list(command))
            if code or not answer:
                return Failure.LEFT_FIELD if not code else Failure.READER_ERROR
            return bytes(answer)

        try:
            yield transmit
        finally:
            scard.SCardDisconnect(card, scard.SCARD_UNPOWER_CARD)

    def _fault(self, found: str, code: int) -> DeviceFault:
        words: Any = self._scard.SCardGetErrorMessage(code)
        return DeviceFault(
            f"{found} ({words}); lay the card down again, or check the reader's plug"
        )
