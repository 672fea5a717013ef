"""When the pictures in force are looked at, and which are lost: gone, damaged, or not what was
signed. How one is counted is `offline_cache.picture`'s.

At start, once a day, and when edge could not read one. A small picture is counted at once, a large
one slice by slice, so that nothing waits for it. A lost one goes on being read by edge as far as
it can be (what it still blocks stays blocked) until a snapshot of at least its version has taken
its place; that is asked for at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge import logs
from edge.model import CorruptData, DeviceFault, Moment, SetupProblem
from edge.offline_cache.apply import Pictures

AT_ONCE_BYTES: Final = 1024 * 1024  # Our choice: ten thousand rows, counted in about 20 ms.
SLICE_ROWS: Final = 2_000  # Our choice: about 5 ms, less than one broker's answer.
SLICE_MS: Final = 100  # Our choice: 1,400,000 rows in a bit over a minute, at 5 % of a core.
DAILY_MS: Final = 24 * 60 * 60_000  # Our choice: a card that rots does so over weeks.
# Our choice: edge goes on saying that it cannot read a picture that was found right (a row that
# the city itself made wrong); believed once an hour.
AGAIN_MS: Final = 60 * 60_000
WHY_CHARS_MAX: Final = 160


class PictureWatch:
    """Of all lists of this device. Each call tells which scopes were found lost in it."""

    def __init__(self, pictures: Pictures, scopes: tuple[str, ...]) -> None:
        self._pictures = pictures
        self._scopes = scopes
        self._checked_ms: dict[str, int] = {}  # When it was last found right, or begun.
        self._heeded: dict[str, tuple[int, int]] = {}  # Generation edge complained of, and when.
        self._waiting: list[str] = []  # To be counted slice by slice, one after another.
        self._sliced_ms = 0
        self._log = logs.get("pictures")

    def lost(self) -> dict[str, str]:
        """Scope -> why, of those that no snapshot has replaced yet."""
        found = {scope: self._pictures.lost(scope) for scope in self._scopes}
        return {scope: why for scope, why in found.items() if why}

    def start(self, moment: Moment) -> list[str]:
        return [lost for scope in self._scopes for lost in self._begin(scope, moment)]

    def look(self, suspects: Mapping[str, int], moment: Moment) -> list[str]:
        """Once a second. `suspects`: scope -> generation that edge could not read."""
        lost = []
        for scope in self._scopes:
            if self._is_due(scope, suspects.get(scope), moment):
                lost += self._begin(scope, moment)
        return lost

    def step(self, moment: Moment) -> list[str]:
        """A slice of a large picture, if it is time."""
        if not self._waiting or moment.mono_ms - self._sliced_ms < SLICE_MS:
            return []
        self._sliced_ms = moment.mono_ms
        return self._count(self._waiting[0])

    def due_ms(self) -> int | None:
        return self._sliced_ms + SLICE_MS if self._waiting else None

    def replaced(self, scope: str, moment: Moment) -> None:
        """Another generation is in force, checked as it was built."""
        self._forget(scope)
        self._heeded.pop(scope, None)
        self._checked_ms[scope] = moment.mono_ms

    def declare_lost(self, scope: str, why: str) -> bool:
        """Found by another way, such as a delta that could not be read in. False: known."""
        if self._pictures.lost(scope):
            return False
        self._forget(scope)
        self._log.error("a list is lost; fetching it again", scope=scope, reason=why)
        self._pictures.declare_lost(scope, why[:WHY_CHARS_MAX])
        return True

    # ------------------------------------------------------------------------- helpers

    def _is_due(self, scope: str, suspect: int | None, moment: Moment) -> bool:
        if self._pictures.lost(scope) or scope in self._waiting:
            return False
        if moment.mono_ms - self._checked_ms[scope] >= DAILY_MS:
            return True
        if suspect is None or suspect != self._pictures.generation(scope):
            return False
        heeded = self._heeded.get(scope)
        if heeded is not None and heeded[0] == suspect and moment.mono_ms - heeded[1] < AGAIN_MS:
            return False
        self._heeded[scope] = (suspect, moment.mono_ms)
        return True

    def _begin(self, scope: str, moment: Moment) -> list[str]:
        self._checked_ms[scope] = moment.mono_ms
        if self._pictures.lost(scope) or self._pictures.generation(scope) is None:
            return []
        self._waiting.append(scope)
        small = self._pictures.file_bytes(scope) <= AT_ONCE_BYTES
        lost = self._count(scope)  # The first slice always: whether it can be opened at all.
        while small and scope in self._waiting:
            lost += self._count(scope)
        return lost

    def _count(self, scope: str) -> list[str]:
        """One slice; the scope when it turned out lost."""
        try:
            if self._pictures.check_some(scope, SLICE_ROWS):
                self._forget(scope)
            return []
        except (CorruptData, DeviceFault, SetupProblem) as problem:
            # The last: its header names another release's schema. Fetching it again mends that too.
            self.declare_lost(scope, str(problem))
            return [scope]

    def _forget(self, scope: str) -> None:
        if scope in self._waiting:
            self._waiting.remove(scope)
