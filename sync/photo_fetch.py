"""Which photos to ask the city for, and their pieces put together. Pure.

One pull at a time, of a few photos: they come ahead of need and beside lists that matter more. What
the city does not have, or what came wrong, is asked for again after a while and not before; pieces
of what was not asked for are none of ours.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from edge.messages import CHUNK_BYTES_MAX, PHOTO_PARTS_MAX, PHOTOS_AT_ONCE, Pull, PushPhoto

ANSWER_MS_MAX: Final = 20_000  # Our choice: 0.9 MB at 400 kbit/s; then they are asked for anew.
AGAIN_MS: Final = 60 * 60_000  # Our choice: a photo that is not there was perhaps put there since.
GAP_MS: Final = 500  # Our choice: 4 photos twice a second fill a pre-school of 300 in a minute.


class PhotoFetch:
    """Of one device and one scope."""

    def __init__(self, *, device: str, scope: str) -> None:
        self._device = device
        self._scope = scope
        self._lacking: list[str] = []
        self._not_before_ms: dict[str, int] = {}  # Of those that did not come.
        self._asked: dict[str, dict[int, bytes]] = {}  # Hash -> pieces so far.
        self._asked_ms = 0
        self._gap_until_ms = 0

    def want(self, wanted: Collection[str], held: Collection[str]) -> None:
        """What the list names now, and what is here."""
        self._lacking = sorted(set(wanted) - set(held))
        self._not_before_ms = {
            name: ms for name, ms in self._not_before_ms.items() if name in set(self._lacking)
        }

    @property
    def lacking(self) -> int:
        return len(self._lacking)

    def pull(self, *, now_ms: int) -> Pull | None:
        """The next request, if it is time for one."""
        if self._asked and now_ms - self._asked_ms < ANSWER_MS_MAX:
            return None
        for name in self._asked:
            self._not_before_ms[name] = now_ms + AGAIN_MS
        self._asked = {}
        if now_ms < self._gap_until_ms:
            return None
        ready = [name for name in self._lacking if self._not_before_ms.get(name, now_ms) <= now_ms]
        chosen = tuple(ready[:PHOTOS_AT_ONCE])
        if not chosen:
            return None
        self._asked = {name: {} for name in chosen}
        self._asked_ms, self._gap_until_ms = now_ms, now_ms + GAP_MS
        return Pull(device=self._device, scope=self._scope, photos=chosen)

    def take(self, push: PushPhoto, *, now_ms: int) -> bytes | None:
        """A piece came: all of a photo, once its last piece is here. The caller checks its hash,
        and says `done` or `failed`."""
        pieces = self._asked.get(push.hash)
        if pieces is None or push.scope != self._scope:
            return None
        if push.parts == 0:
            self.failed(push.hash, now_ms=now_ms)
            return None
        fits = 0 <= push.part < push.parts <= PHOTO_PARTS_MAX
        if not fits or len(push.data) > CHUNK_BYTES_MAX:
            self.failed(push.hash, now_ms=now_ms)
            return None
        pieces[push.part] = push.data
        if len(pieces) < push.parts or set(pieces) != set(range(push.parts)):
            return None
        return b"".join(pieces[part] for part in range(push.parts))

    def done(self, photo_hash: str) -> None:
        self._asked.pop(photo_hash, None)
        if photo_hash in self._lacking:
            self._lacking.remove(photo_hash)

    def failed(self, photo_hash: str, *, now_ms: int) -> None:
        """It is not there, or not what it should be."""
        self._asked.pop(photo_hash, None)
        self._not_before_ms[photo_hash] = now_ms + AGAIN_MS

    def disconnected(self) -> None:
        """What was asked for is not coming."""
        self._asked = {}
        self._gap_until_ms = 0
