"""When an OSDP reader counts as up, and when its connection is begun anew. Pure.

libosdp supervises a reader by itself, but not for a gate: after a cable fault of 8 s it waits 300 s
before it looks again, and what it calls online begins with whatever card the reader kept from
before. So the rules here stand above it. Times are passed in.

- A reader is up once its channel is secure and the guard time is over. Cards in the guard time
  were shown before: a reader delivers them 0.1 to 0.7 s after a repair, as if they were fresh.
- A reader that gave no good answer for `SILENT_MS_MAX` is down, and the connection begins anew; so
  does one that does not become secure in `CONNECT_MS_MAX`. A new connection is also proof against
  a step of the wall clock, which libosdp times itself by.
"""

from __future__ import annotations

from enum import Enum, auto, unique

POLL_MS = 50  # libosdp 3.2.9, OSDP_PD_POLL_TIMEOUT_MS: a healthy reader answers so often.
RETRY_MS = 1_000  # Measured with 3.2.9: a lost answer is asked for again after so long.
SILENT_MS_MAX = 2_500  # Our choice: two answers in a row may be lost, a third is a cut cable.
CONNECT_MS_MAX = 4_000  # Our choice: eight times the 0.5 s a secure channel takes (measured).
GUARD_MS = 1_500  # Our choice: twice the 0.7 s after which an old card still came (measured).

assert 2 * RETRY_MS < SILENT_MS_MAX < CONNECT_MS_MAX
assert POLL_MS < RETRY_MS


@unique
class Step(Enum):
    """What the session does now."""

    WAIT = auto()  # Nothing has changed.
    UP = auto()  # From here on cards count.
    RENEW = auto()  # Tell that the reader is down, and begin a new connection.


class Connection:
    """One life of the connection to one reader, from its beginning."""

    def __init__(self, *, now_ms: int) -> None:
        self._began_ms = now_ms
        self._secure_ms: int | None = None
        self.is_up = False
        self.was_secure = False

    def step(self, *, secure: bool, answered_ms: int | None, now_ms: int) -> Step:
        """`answered_ms` is when the last good answer came, None before the first."""
        if not secure:
            lost = self._secure_ms is not None
            late = now_ms - self._began_ms > CONNECT_MS_MAX
            self._secure_ms = None
            return self._ended() if lost or late else Step.WAIT
        if self._secure_ms is None:
            self._secure_ms = now_ms
            self.was_secure = True
        if answered_ms is None or now_ms - answered_ms > SILENT_MS_MAX:
            return self._ended()
        if not self.is_up and now_ms - self._secure_ms >= GUARD_MS:
            self.is_up = True
            return Step.UP
        return Step.WAIT

    def _ended(self) -> Step:
        self.is_up = False
        return Step.RENEW
