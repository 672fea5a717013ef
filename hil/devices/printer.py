"""A virtual receipt printer: listens on a port of loopback, understands ESC/POS, answers for its
paper, and keeps what it printed as text.

It stands outside the agent, which is told host and port as of any network printer. A line comes
out when its LF is there; a slip is what stands between two cuts.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final, Self

READ_BYTES: Final = 4_096
SLIPS_KEPT: Final = 100  # Our choice: a class of thirty three times.
JOIN_S_MAX: Final = 2.0
ESC, GS, DLE, EOT = 0x1B, 0x1D, 0x10, 0x04
CODE_PAGES: Final[Mapping[int, str]] = MappingProxyType({0: "cp437", 17: "cp866", 46: "cp1251"})
# How many bytes follow a command's two: Epson's ESC/POS reference.
ARGUMENTS: Final[Mapping[tuple[int, int], int]] = MappingProxyType(
    {
        (ESC, ord("@")): 0,
        (ESC, ord("t")): 1,
        (ESC, ord("E")): 1,
        (ESC, ord("a")): 1,
        (ESC, ord("d")): 1,
        (ESC, ord("!")): 1,
        (ESC, ord("M")): 1,
        (GS, ord("V")): 1,
        (DLE, EOT): 1,
    }
)
FINE, LOW, OUT = 0x12, 0x1E, 0x7E  # DLE EOT 4: both sensors, near end, end.


class VirtualPrinter:
    """Listens from the start. `paper` is a hand at the roll, `power` one at the plug."""

    def __init__(self, *, port: int = 0) -> None:
        self.paper = FINE
        self.slips: list[list[str]] = []
        self.printed = 0  # Of them all, also those that are not kept.
        self.noise_bytes = 0
        self.answers = True  # Off: it hears and says nothing, like many a cheap one.
        self._lines: list[str] = []
        self._text = bytearray()
        self._page = "cp437"
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._port = port
        self._talks: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.power(on=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        return self._port

    def power(self, *, on: bool) -> None:
        """Plug it in, or pull the plug: whoever talks to it is cut off."""
        if on and self._listener is None:
            listener = socket.create_server(("127.0.0.1", self._port))
            self._port = listener.getsockname()[1]
            self._listener = listener
            self._start(lambda: self._listen(listener))
        elif not on and self._listener is not None:
            listener, self._listener = self._listener, None
            for one in (listener, *self._talks):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            for thread in self._threads:
                thread.join(JOIN_S_MAX)
            self._talks, self._threads, self._text = [], [], bytearray()

    def close(self) -> None:
        self.power(on=False)

    # ------------------------------------------------------------------------- inside

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="virtual printer", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                talk, _ = listener.accept()
                self._talks.append(talk)
                self._talk(talk)
                self._talks.remove(talk)
                talk.close()

    def _talk(self, talk: socket.socket) -> None:
        waiting = b""
        with suppress(OSError):
            while data := talk.recv(READ_BYTES):
                waiting = self._understand(waiting + data, talk)

    def _understand(self, data: bytes, talk: socket.socket) -> bytes:
        """All whole commands; what is left waits for the rest."""
        at = 0
        with self._lock:
            while at < len(data):
                byte = data[at]
                if byte not in (ESC, GS, DLE):
                    self._take(byte)
                    at += 1
                    continue
                if at + 1 >= len(data):
                    break
                many = ARGUMENTS.get((byte, data[at + 1]))
                if many is None:
                    self.noise_bytes += 2
                    at += 2
                    continue
                if at + 2 + many > len(data):
                    break
                self._obey(byte, data[at + 1], data[at + 2 : at + 2 + many], talk)
                at += 2 + many
        return data[at:]

    def _take(self, byte: int) -> None:
        if byte != 0x0A:
            self._text.append(byte)
            return
        if self.paper != OUT:
            self._lines.append(self._text.decode(self._page))
        self._text.clear()

    def _obey(self, first: int, second: int, rest: bytes, talk: socket.socket) -> None:
        match (first, chr(second)):
            case (0x1B, "@"):
                self._page = "cp437"
            case (0x1B, "t"):
                self._page = CODE_PAGES.get(rest[0], "cp437")
            case (0x1D, "V"):
                if self._lines:  # A printer without paper cuts nothing.
                    self.slips = [*self.slips, self._lines][-SLIPS_KEPT:]
                    self.printed += 1
                self._lines = []
            case (0x10, _):
                if self.answers:
                    talk.sendall(bytes([self.paper]))
            case _:
                pass  # Weight, place and feed: no letters.
