"""A virtual card that plugs into pcscd through vsmartcard's vpcd driver, and its slot.

The card is a TCP client of vpcd. Every message, both ways, is two bytes of length, big-endian,
and the body. A one-byte body from the reader is a control code, anything longer an APDU. Closing
the connection is how the card leaves the field.
"""

from __future__ import annotations

import socket
import threading
import time

HOST = "127.0.0.1"
PORTS = (35_963, 35_964)  # vpcd 3.3: slots 0 and 1 of one driver; it has no more.
POWER_OFF, POWER_ON, RESET, SEND_ATR = 0, 1, 2, 4  # vpcd 3.3: only the last one is answered.

# pcscd looks at vpcd every 400 ms; a swap inside one look wedges the slot (measured on Debian 12).
EMPTY_S_MIN = 0.5
CONNECT_S_MAX = 5.0

UID_COMMAND = b"\xff\xca\x00\x00"
STATUS_OK = b"\x90\x00"
STATUS_UNKNOWN = b"\x6d\x00"
WRONG_LENGTH = 0x6C


def contactless_atr(historical: bytes = b"\x80") -> bytes:
    """The ATR that a PC/SC contactless reader makes for an ISO 14443-4 card (PC/SC part 3)."""
    body = bytes([0x80 | len(historical), 0x80, 0x01]) + historical
    check = 0
    for byte in body:
        check ^= byte
    return bytes([0x3B]) + body + bytes([check])


class VirtualCard:
    """A card that gives its UID and knows nothing else. A richer card overrides `apdu`."""

    def __init__(self, uid: bytes, *, atr: bytes | None = None) -> None:
        self.uid = uid
        self.atr = contactless_atr() if atr is None else atr
        self.was_powered = threading.Event()  # Set when the reader has noticed the card.

    def power(self, on: bool) -> None:
        """The field came or went: a card that authenticates forgets its session here."""
        if on:
            self.was_powered.set()

    def apdu(self, command: bytes) -> bytes | None:
        """The answer; None when the card leaves the field instead of answering."""
        if not command.startswith(UID_COMMAND):
            return STATUS_UNKNOWN
        length = command[4] if len(command) > len(UID_COMMAND) else 0
        if 0 < length < len(self.uid):
            return bytes([WRONG_LENGTH, len(self.uid)])
        return self.uid + STATUS_OK


class VpcdSlot:
    """One virtual PC/SC reader that a card can be laid on. Needs a running `PcscStack`."""

    def __init__(self, *, slot: int = 0) -> None:
        self._port = PORTS[slot]
        self._link: _CardLink | None = None
        self._empty_since_s = time.monotonic() - EMPTY_S_MIN

    def __enter__(self) -> VpcdSlot:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def holds_card(self) -> bool:
        """False too when the card took itself away or pcscd ended."""
        return self._link is not None and self._link.thread.is_alive()

    def insert(self, card: VirtualCard) -> None:
        """Lay the card on the reader, after the pause that pcscd needs between two cards.

        Raises ConnectionError when no vpcd listens.
        """
        self.remove()
        time.sleep(max(0.0, self._empty_since_s + EMPTY_S_MIN - time.monotonic()))
        self._link = _CardLink(card, port=self._port)

    def remove(self) -> None:
        """Take the card away. Twice is fine."""
        if self._link is not None:
            self._link.close()
            self._link = None
            self._empty_since_s = time.monotonic()


class _CardLink:
    """One card's connection to vpcd and the thread that answers for it."""

    def __init__(self, card: VirtualCard, *, port: int) -> None:
        self._card = card
        self._socket = socket.create_connection((HOST, port), timeout=CONNECT_S_MAX)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.thread = threading.Thread(target=self._answer, name="virtual card", daemon=True)
        self.thread.start()

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The other side went first.
        self.thread.join()
        self._socket.close()

    def _answer(self) -> None:
        try:
            while True:
                message = self._receive(int.from_bytes(self._receive(2), "big"))
                answer = self._answer_to(message)
                if answer is None:
                    self._socket.shutdown(socket.SHUT_RDWR)
                    return
                if answer:
                    self._socket.sendall(len(answer).to_bytes(2, "big") + answer)
        except OSError:
            pass  # pcscd ended, or the card was taken away.

    def _answer_to(self, message: bytes) -> bytes | None:
        if len(message) != 1:
            return self._card.apdu(message)
        if message[0] == SEND_ATR:
            return self._card.atr
        self._card.power(message[0] != POWER_OFF)
        return b""

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            # vpcd sends length and body apart; without an immediate ACK its Nagle timer adds
            # 40 ms to every APDU. The option is one-shot: it is set again before every recv.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise ConnectionError("vpcd closed the link")
            data += chunk
        return data
