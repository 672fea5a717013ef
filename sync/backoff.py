"""How long to wait before the next connection, and to which endpoint. Pure.

Ten thousand devices that lost one broker must not come back in step: the wait is random over its
whole range (full jitter), and the random number is passed in. A connection counts as good only
after it served for a while, so a broker that accepts and drops at once is still backed off from.
"""

from __future__ import annotations

from typing import Final

BACKOFF_MS_MIN: Final = 1_000  # protocol.md: full jitter, 1 s to 300 s,
BACKOFF_MS_MAX: Final = 300_000
USEFUL_MS: Final = 30_000  # and reset after 30 useful seconds.

assert BACKOFF_MS_MIN < USEFUL_MS < BACKOFF_MS_MAX


class Backoff:
    """The wait is anything between nothing and a ceiling that doubles with each round of the
    endpoints. The choice is sticky: an endpoint that served usefully is tried first again.
    """

    def __init__(self, *, endpoints: int) -> None:
        assert endpoints >= 1
        self.endpoint = 0  # Index of the endpoint to try next.
        self._endpoints = endpoints
        self._failures = 0
        self._denied = 0  # Endpoints in a row that did not want us.
        self._useful_since_ms: int | None = None

    def useful(self, *, now_ms: int) -> None:
        """From here the connection serves: the city's welcome came."""
        if self._useful_since_ms is None:
            self._useful_since_ms = now_ms

    def fresh(self) -> None:
        """There is reason to think that it is better now: what failed before counts no more."""
        self._failures = 0

    def ended(self, *, now_ms: int, fraction: float, denied: bool = False) -> int:
        """An attempt failed or a connection ended: milliseconds to wait before the next.

        `fraction` is a fresh random number from 0 to 1. `denied`: the broker does not want us
        (identity, access list); when each endpoint in turn has said so, knocking harder helps
        nobody, so the ceiling is the highest. One that denies alone, a stranger's or one with an
        old access list, does not keep us from the others.
        """
        assert 0.0 <= fraction <= 1.0
        since_ms, self._useful_since_ms = self._useful_since_ms, None
        if since_ms is not None and now_ms - since_ms >= USEFUL_MS:
            self._failures = 0
        else:
            self._failures += 1
            self.endpoint = (self.endpoint + 1) % self._endpoints
        self._denied = self._denied + 1 if denied else 0
        rounds = max(0, self._failures - 1) // self._endpoints
        ceiling_ms = min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** min(rounds, 16))
        unwanted = self._denied >= self._endpoints
        return round(fraction * (BACKOFF_MS_MAX if unwanted else ceiling_ms))
