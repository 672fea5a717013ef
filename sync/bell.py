"""Wakes a wait in another thread, without carrying anything."""

from __future__ import annotations

import select
import socket


class Bell:
    """A socket pair. Rung twice, it rings once. Who waits hears first and then looks at what it
    was rung for: what came in between would ring no more."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._rung = False

    def ring(self) -> None:
        if self._rung:
            return
        self._rung = True
        try:
            self._write.send(b"\0")
        except OSError:
            pass  # Full: it is ringing already. Closed: nobody is left to hear it.

    def hear(self) -> None:
        try:
            self._read.recv(4096)
        except OSError:
            pass  # It had not rung.
        self._rung = False

    def fileno(self) -> int:
        return self._read.fileno()

    def wait(self, timeout_ms: int) -> None:
        poller = select.poll()
        poller.register(self._read, select.POLLIN)
        poller.poll(max(0, timeout_ms))

    def close(self) -> None:
        self._read.close()
        self._write.close()
