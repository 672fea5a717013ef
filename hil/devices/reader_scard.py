"""A virtual PC/SC service in memory: plays `smartcard.scard` for `edge/readers/pcsc.py`.

Readers come and go here, which vpcd cannot play, and no pcscd, root or namespace is needed. It
answers the calls of `pcsc.Scard` as pcsc-lite 1.9 does, and passes the same contract suite as the
real thing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from hil.devices.vpcd_card import VirtualCard

EVENTS_SHIFT = 16
NO_STATE = 0


class VirtualScard:
    """One service. The names and values are pcsc-lite's own (winscard.h)."""

    SCARD_SCOPE_SYSTEM = 2
    SCARD_SHARE_EXCLUSIVE = 1
    SCARD_PROTOCOL_T0 = 1
    SCARD_PROTOCOL_T1 = 2
    SCARD_PCI_T0 = 1
    SCARD_PCI_T1 = 2
    SCARD_LEAVE_CARD = 0
    SCARD_UNPOWER_CARD = 2
    SCARD_STATE_UNAWARE = 0x0000
    SCARD_STATE_CHANGED = 0x0002
    SCARD_STATE_UNKNOWN = 0x0004
    SCARD_STATE_UNAVAILABLE = 0x0008
    SCARD_STATE_EMPTY = 0x0010
    SCARD_STATE_PRESENT = 0x0020
    SCARD_E_INVALID_HANDLE = 0x80100003
    SCARD_E_UNKNOWN_READER = 0x80100009
    SCARD_E_TIMEOUT = 0x8010000A
    SCARD_E_SHARING_VIOLATION = 0x8010000B
    SCARD_E_NO_SMARTCARD = 0x8010000C
    SCARD_F_COMM_ERROR = 0x80100013
    SCARD_E_NO_SERVICE = 0x8010001D
    SCARD_E_NO_READERS_AVAILABLE = 0x8010002E
    SCARD_W_UNRESPONSIVE_CARD = 0x80100066
    SCARD_W_UNPOWERED_CARD = 0x80100067
    SCARD_W_RESET_CARD = 0x80100068
    SCARD_W_REMOVED_CARD = 0x80100069

    def __init__(self, *reader_names: str) -> None:
        self._changed = threading.Condition()
        self._runs = True
        self._lifetime = 0  # A context dies with the service that gave it.
        self._cards: dict[str, VirtualCard | None] = dict.fromkeys(reader_names)
        self._events: dict[str, int] = dict.fromkeys(reader_names, 0)
        self.connect_codes: list[int] = []  # What the next connects give instead of success.
        self.transmit_codes: list[int] = []  # And the next commands.
        self.before_connect: Callable[[], None] = lambda: None  # Blocks here: a hung service.
        self.connections = 0  # Open now.

    # The person at the bench.

    def insert(self, name: str, card: VirtualCard) -> None:
        self._lay(name, card)

    def remove(self, name: str) -> None:
        """Twice is fine."""
        if self._cards.get(name) is not None:
            self._lay(name, None)

    def swap(self, name: str, card: VirtualCard) -> None:
        """Another card, or the same again, between two looks: nobody sees the reader empty."""
        with self._changed:
            self._events[name] += 1
        self._lay(name, card)

    def unplug(self, name: str) -> None:
        with self._changed:
            del self._cards[name], self._events[name]
            self._changed.notify_all()

    def replug(self, name: str) -> None:
        with self._changed:
            self._cards[name] = None
            self._events[name] = 0
            self._changed.notify_all()

    def stop_service(self) -> None:
        with self._changed:
            self._runs = False
            self._lifetime += 1
            self._events = dict.fromkeys(self._events, 0)
            self._changed.notify_all()

    def start_service(self) -> None:
        with self._changed:
            self._runs = True

    def _lay(self, name: str, card: VirtualCard | None) -> None:
        with self._changed:
            if card is not None:
                card.power(True)
            self._cards[name] = card
            self._events[name] += 1
            self._changed.notify_all()

    # The calls.

    def SCardEstablishContext(self, scope: int) -> tuple[int, int]:
        assert scope == self.SCARD_SCOPE_SYSTEM
        return (0 if self._runs else self.SCARD_E_NO_SERVICE), self._lifetime

    def SCardReleaseContext(self, context: int) -> int:
        return 0 if context == self._lifetime else self.SCARD_E_INVALID_HANDLE

    def SCardListReaders(self, context: int, groups: list[str]) -> tuple[int, list[str]]:
        if not self._serves(context):
            return self.SCARD_E_NO_SERVICE, []
        names = list(self._cards)
        return (0 if names else self.SCARD_E_NO_READERS_AVAILABLE), names

    def SCardGetStatusChange(
        self, context: int, timeout_ms: int, states: Sequence[tuple[str, int]]
    ) -> tuple[int, list[tuple[str, int, list[int]]]]:
        with self._changed:
            names_before = set(self._cards)

            def is_news() -> bool:
                return (
                    not self._serves(context)
                    or set(self._cards) != names_before
                    or any(self._differs(name, known) for name, known in states)
                )

            if not self._changed.wait_for(is_news, timeout_ms / 1_000):
                return self.SCARD_E_TIMEOUT, []
            if not self._serves(context):
                return self.SCARD_F_COMM_ERROR, []
            return 0, [(name, self._state(name, known), []) for name, known in states]

    def SCardConnect(
        self, context: int, name: str, share: int, protocols: int
    ) -> tuple[int, VirtualCard | None, int]:
        assert share == self.SCARD_SHARE_EXCLUSIVE
        self.before_connect()
        if not self._serves(context):
            return self.SCARD_E_NO_SERVICE, None, 0
        if self.connect_codes and (code := self.connect_codes.pop(0)):
            return code, None, 0
        if name not in self._cards:
            return self.SCARD_E_UNKNOWN_READER, None, 0
        card = self._cards[name]
        if card is None:
            return self.SCARD_E_NO_SMARTCARD, None, 0
        self.connections += 1
        return 0, card, self.SCARD_PROTOCOL_T1

    def SCardTransmit(
        self, card: VirtualCard, pci: int, command: list[int]
    ) -> tuple[int, list[int]]:
        assert pci == self.SCARD_PCI_T1
        if self.transmit_codes and (code := self.transmit_codes.pop(0)):
            return code, []
        if not any(card is laid for laid in self._cards.values()):
            return self.SCARD_W_REMOVED_CARD, []
        answer = card.apdu(bytes(command))
        return 0, list(answer or b"")

    def SCardDisconnect(self, card: VirtualCard, disposition: int) -> int:
        assert disposition in (self.SCARD_LEAVE_CARD, self.SCARD_UNPOWER_CARD)
        self.connections -= 1
        if disposition == self.SCARD_UNPOWER_CARD:
            card.power(False)
            card.power(True)  # As at the next connection.
        return 0

    def SCardGetErrorMessage(self, code: int) -> str:
        return f"{code:#010x}"

    def _serves(self, context: int) -> bool:
        return self._runs and context == self._lifetime

    def _is_pseudo(self, name: str) -> bool:
        return name.startswith("\\\\?PnP?")

    def _differs(self, name: str, known: int) -> bool:
        return not self._is_pseudo(name) and self._state(name, known) != known

    def _state(self, name: str, known: int) -> int:
        if self._is_pseudo(name):
            return NO_STATE
        if name not in self._cards:
            return (
                self.SCARD_STATE_UNKNOWN | self.SCARD_STATE_UNAVAILABLE | self.SCARD_STATE_CHANGED
            )
        there = self._cards[name] is not None
        state = self.SCARD_STATE_PRESENT if there else self.SCARD_STATE_EMPTY
        state |= self._events[name] << EVENTS_SHIFT
        return state if state == known else state | self.SCARD_STATE_CHANGED
