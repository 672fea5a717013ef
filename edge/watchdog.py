"""Who notices that the agent's loop hangs: a thread that lets go of every line, and systemd.

The lines' own bounds end a pulse whatever the loop does. What they cannot end is a holding line,
which has no bound: a lane that nobody watches must not stay shut. So when no beat came for
`HUNG_S` all lines are let go, once; the loop, if it comes back, holds the lane again and tells how
long it stood free (`edge/lane.py`).

Under systemd (`Type=notify`, `WatchdogSec=`) each beat is passed on, at most as often as asked,
and a process that hangs is ended and started again. The protocol is one datagram (sd_notify(3)).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping

from edge import logs
from edge.model import DeviceFault
from edge.turnstile.lines import Lines

# Our choice: a commit on a worn SD card has been seen to take seconds; people who stand before a
# gate for ten seconds call somebody.
HUNG_S = 10.0
LOOKS = 4  # Our choice: it is noticed within a quarter of that time.


class Watchdog:
    """Call `beat` after every step. Without lines there is nothing to let go of."""

    def __init__(
        self,
        lines: Lines | None,
        *,
        hung_s: float = HUNG_S,
        notify: Callable[[], None] = lambda: None,
    ) -> None:
        self.hangs = 0
        self._lines = lines
        self._hung_s = hung_s
        self._notify = notify
        self._beat_s = time.monotonic()
        self._ended = threading.Event()
        self._log = logs.get("watchdog")
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """The loop has gone round."""
        self._beat_s = time.monotonic()
        self._notify()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        let_go_at_s: float | None = None  # The beat after which it was done.
        while not self._ended.wait(self._hung_s / LOOKS):
            beat_s = self._beat_s
            if time.monotonic() - beat_s < self._hung_s or beat_s == let_go_at_s:
                continue
            let_go_at_s = beat_s
            self.hangs += 1
            try:
                if self._lines is not None:
                    self._lines.let_go_all()
            except DeviceFault as fault:
                self._log.error("a line would not be let go of", reason=str(fault))
            self._log.error("the agent hangs; all lines are let go", after_s=self._hung_s)


class Systemd:
    """Tells systemd that we are ready, alive, stopping. Silent where nobody asked."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket: socket.socket | None = None
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._every_s: float | None = None  # Of the watchdog; None: it is not asked for.
        self._alive_s: float | None = None
        if not self._address.startswith(("/", "@")):
            return
        self._address = self._address.replace("@", "\0", 1)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        micros = environment.get("WATCHDOG_USEC", "")
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if for_us and micros.isascii() and micros.isdigit() and int(micros) > 0:
            self._every_s = int(micros) / 1_000_000 / LOOKS  # sd_watchdog_enabled(3): at least 2.

    def ready(self) -> None:
        self._send("READY=1")

    def alive(self) -> None:
        """As often as the loop goes round; told only as often as is asked for."""
        now_s = time.monotonic()
        if self._every_s is None:
            return
        if self._alive_s is None or now_s - self._alive_s >= self._every_s:
            self._alive_s = now_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, state: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(state.encode(), self._address)
        except OSError:
            pass  # systemd will see for itself that nothing comes.
