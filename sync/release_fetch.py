"""Which parts of a release to ask the city for, one pull at a time. Pure.

First its manifest, then four chunks a pull, until all are here. What does not come is asked for
again after a growing wait; what comes and is not what was signed is dropped, and waits too. What
was not asked for is none of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from enum import Enum, auto, unique
from typing import Final

from edge.messages import Pull, Release
from sync.release_rules import chunk_span

CHUNKS_AT_ONCE: Final = 4  # sync/README.md: as of lists.
ANSWER_MS_MAX: Final = 20_000  # Our choice: 224 KiB at 100 kbit/s; then it is asked for anew.
AGAIN_MS_MIN: Final = 20_000
AGAIN_MS_MAX: Final = 300_000  # Our choice: as between two attempts to connect.
assert AGAIN_MS_MIN <= AGAIN_MS_MAX


@unique
class Chunk(Enum):
    """What became of a chunk that came."""

    GOOD = auto()
    BAD = auto()
    NOT_ASKED = auto()


class ReleaseFetch:
    """Of one release."""

    def __init__(self, *, device: str, sha256: str) -> None:
        self.sha256 = sha256
        self._device = device
        self._release: Release | None = None
        self._missing: set[int] = set()
        self._asked: set[int] | None = None  # Chunks under way; empty: the manifest.
        self._asked_ms = 0
        self._not_before_ms: int | None = None
        self._again_ms = AGAIN_MS_MIN

    @property
    def release(self) -> Release | None:
        """Its manifest, once that is here."""
        return self._release

    @property
    def missing(self) -> int:
        return len(self._missing)

    @property
    def done(self) -> bool:
        return self._release is not None and not self._missing

    def begin(self, release: Release, have: Collection[int]) -> None:
        """The manifest was checked; `have` are chunks that were here before."""
        assert release.sha256 == self.sha256
        self._release = release
        self._missing = set(range(len(release.chunk_hashes))) - set(have)
        self._came()
        self._asked = None

    def pull(self, *, now_ms: int) -> Pull | None:
        """The next request, if it is time for one."""
        if self._asked is not None:
            if now_ms - self._asked_ms < ANSWER_MS_MAX:
                return None
            self._wait(now_ms)
        if self.done or (self._not_before_ms is not None and now_ms < self._not_before_ms):
            return None
        chosen = tuple(sorted(self._missing)[:CHUNKS_AT_ONCE])
        self._asked, self._asked_ms = set(chosen), now_ms
        return Pull(device=self._device, release=self.sha256, chunks=chosen)

    def check(self, index: int, data: bytes, *, now_ms: int) -> Chunk:
        """A chunk came. It counts once the caller has it on disk and says `kept`."""
        release = self._release
        if release is None or self._asked is None or index not in self._asked:
            return Chunk.NOT_ASKED
        _, size = chunk_span(release, index)
        if len(data) == size and hashlib.sha256(data).digest() == release.chunk_hashes[index]:
            return Chunk.GOOD
        self._wait(now_ms)
        return Chunk.BAD

    def kept(self, index: int, *, now_ms: int) -> None:
        self._missing.discard(index)
        if self._asked is not None:
            self._asked.discard(index)
            self._asked_ms = now_ms
            if not self._asked:
                self._asked = None
        self._came()

    def disconnected(self) -> None:
        """What was asked for is not coming."""
        self._asked = None

    def _came(self) -> None:
        self._again_ms, self._not_before_ms = AGAIN_MS_MIN, None

    def _wait(self, now_ms: int) -> None:
        self._asked = None
        self._not_before_ms = now_ms + self._again_ms
        self._again_ms = min(AGAIN_MS_MAX, 2 * self._again_ms)
