"""When the device renews its certificate, and by which steps. Pure: time is passed in.

    rest --(half time, or an order)--> asked --(an answer that fits)--> ready
    ready --(the connection is made anew, as the candidate)--> trying
    trying --(welcomed)--> rest, the candidate is in force
    trying --(refused, or no welcome in time)--> ready, after a while; too often: rest, ask anew

Every renewal is for a new key. What it has stands until the next was welcomed by the city: a
renewal that fails costs nothing but another try. The files are `edge/certificates.py`'s, the
messages and the connection the shell's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

ANSWER_MS: Final = 60_000  # Our choice: a city that was asked answers within a minute or not now.
WELCOME_MS: Final = 60_000  # Our choice: connect, subscribe, hello and welcome, with a slow broker.
RETRY_MS_MIN: Final = 15 * 60_000  # Our choice: half a certificate's life is left to try in.
RETRY_MS_MAX: Final = 24 * 60 * 60_000
TRIES_MAX: Final = 5  # Our choice: a candidate refused so often is not going to be taken.
SPREAD_PART: Final = 20  # Our choice: a twentieth of the life, so that a fleet renews over days.


@unique
class Step(StrEnum):
    REST = "rest"
    ASKED = "asked"
    READY = "ready"
    TRYING = "trying"


@unique
class Do(StrEnum):
    """What the shell is to do now."""

    ASK = "ask"  # Publish a request for the candidate key's certificate; then `asked`.
    CONNECT = "connect"  # End the connection in order: the next is made as the candidate.
    END = "end"  # End the candidate's connection: it was not welcomed in time.


@dataclass(slots=True, kw_only=True)
class Renewal:
    """One device's. `spread` (0 to 1, this device's own) keeps a fleet out of step."""

    spread: float
    from_utc_s: int
    until_utc_s: int
    step: Step = Step.REST
    wanted: bool = False  # By order, or by the technician.
    failures: int = 0
    why: str = ""  # Of the last failure.
    _at_ms: int = 0
    _not_before_ms: int | None = None

    @property
    def due_utc_s(self) -> int:
        """Half time, and a little later on each device than on the next."""
        life_s = self.until_utc_s - self.from_utc_s
        return self.from_utc_s + life_s // 2 + round(self.spread * life_s / SPREAD_PART)

    def due(self, now_ms: int, utc_s: int | None, *, connected: bool) -> Do | None:
        """What to do now. `utc_s` is trusted time, or None; `connected`: welcomed by the city."""
        match self.step:
            case Step.REST if connected and self._is_time(now_ms, utc_s):
                self.step, self._at_ms = Step.ASKED, now_ms
                return Do.ASK
            case Step.ASKED if now_ms - self._at_ms >= ANSWER_MS:
                self._fail("no_answer", now_ms, Step.REST)
            case Step.READY if connected and self._rested(now_ms):
                self.step, self._at_ms = Step.TRYING, now_ms
                return Do.CONNECT
            case Step.TRYING if now_ms - self._at_ms >= WELCOME_MS:
                self.lost("no_welcome", now_ms)
                return Do.END
            case _:
                pass
        return None

    def want(self) -> None:
        """Now, whatever the dates say."""
        self.wanted = True
        self._not_before_ms = None

    def could_not_ask(self, why: str, now_ms: int) -> None:
        """The request could not be made or sent."""
        assert self.step is Step.ASKED
        self._fail(why, now_ms, Step.REST)

    def answered(self, why: str, now_ms: int) -> None:
        """The answer came; `why` is empty when it fits and is kept."""
        if why:
            self._fail(why, now_ms, Step.REST)
        else:
            self.found_ready()

    def found_ready(self) -> None:
        """A candidate waits on the disk: just answered, or from before the restart."""
        self.step, self.failures, self._not_before_ms = Step.READY, 0, None

    def try_now(self, now_ms: int) -> bool:
        """A candidate that waits is tried with the next connection; False when there is none."""
        if self.step is not Step.READY:
            return False
        self.step, self._at_ms = Step.TRYING, now_ms
        return True

    @property
    def expects_answer(self) -> bool:
        return self.step is Step.ASKED

    @property
    def as_candidate(self) -> bool:
        """Whether the next connection is to be made with the candidate."""
        return self.step is Step.TRYING

    def lost(self, why: str, now_ms: int) -> bool:
        """The candidate's connection ended without a welcome. True when it was given up and is to
        be thrown away."""
        if self.step is not Step.TRYING:
            return False
        over = self.failures + 1 >= TRIES_MAX
        self._fail(why, now_ms, Step.REST if over else Step.READY)
        return over

    def promoted(self, from_utc_s: int, until_utc_s: int) -> None:
        """The city welcomed the candidate and it is in force."""
        assert self.step is Step.TRYING
        self.step, self.wanted, self.failures, self.why = Step.REST, False, 0, ""
        self._not_before_ms = None
        self.from_utc_s, self.until_utc_s = from_utc_s, until_utc_s

    def _is_time(self, now_ms: int, utc_s: int | None) -> bool:
        due = utc_s is not None and utc_s >= self.due_utc_s
        return (self.wanted or due) and self._rested(now_ms)

    def _rested(self, now_ms: int) -> bool:
        return self._not_before_ms is None or now_ms >= self._not_before_ms

    def _fail(self, why: str, now_ms: int, step: Step) -> None:
        wait_ms = min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** min(self.failures, 16))
        self._not_before_ms = now_ms + wait_ms
        self.failures += 1
        self.why, self.step, self.wanted = why, step, False
        if step is Step.REST and self.failures >= TRIES_MAX:
            self.failures = TRIES_MAX
