"""Photos in the city's books: as they were entered, and sealed for the list's cardholders.

A row of the list names a photo by the hash of its sealed bytes; a device that may show it pulls it
by that name, in pieces. A rotated seal key gives every photo new bytes and so a new name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Final

from edge.messages import (
    CHUNK_BYTES_MAX,
    PHOTO_BYTES_MAX,
    PHOTOS_AT_ONCE,
    PushPhoto,
    b64u,
)
from hil.city.crypto import NONCE_BYTES, seal_bytes
from hil.city.keys import CityKeys
from hil.city.store import Store

COLUMN: Final = "photo"
SEALING_BYTES: Final = 1 + NONCE_BYTES + 16  # Version, nonce, tag.


class Photos:
    """Of one site."""

    def __init__(self, store: Store, keys: CityKeys, scope: str) -> None:
        self._store = store
        self._keys = keys
        self._scope = scope

    def enter(self, cardholder: str, picture: bytes) -> str:
        """A person's photo, in place of the one before. Its name on the list."""
        assert len(picture) + SEALING_BYTES <= PHOTO_BYTES_MAX
        keys = self._keys.scopes[self._scope]
        sealed = seal_bytes(
            keys.seal,
            keys.seal_version,
            scope=self._scope,
            row_key=cardholder.encode(),
            column=COLUMN,
            data=picture,
            nonce=os.urandom(NONCE_BYTES),
        )
        name = b64u(hashlib.sha256(sealed).digest())
        self._store.execute(
            "INSERT INTO photo VALUES (?, ?, ?, ?) ON CONFLICT (cardholder) DO UPDATE SET"
            " hash = excluded.hash, picture = excluded.picture, sealed = excluded.sealed",
            (cardholder, name, picture, sealed),
        )
        return name

    def remove(self, cardholder: str) -> None:
        self._store.execute("DELETE FROM photo WHERE cardholder = ?", (cardholder,))

    def seal_anew(self) -> None:
        """After the seal key was rotated."""
        for cardholder, picture in self._store.rows("SELECT cardholder, picture FROM photo"):
            self.enter(cardholder, picture)

    def answer(self, names: Iterable[str]) -> list[PushPhoto]:
        """The pieces of the photos asked for; one without pieces where there is none."""
        pushes = []
        for name in tuple(dict.fromkeys(names))[:PHOTOS_AT_ONCE]:
            row = self._store.one("SELECT sealed FROM photo WHERE hash = ?", (name,))
            sealed: bytes = b"" if row is None else row[0]
            starts = range(0, len(sealed), CHUNK_BYTES_MAX)
            pushes += [
                PushPhoto(
                    scope=self._scope,
                    hash=name,
                    part=part,
                    parts=len(starts),
                    data=sealed[start : start + CHUNK_BYTES_MAX],
                )
                for part, start in enumerate(starts)
            ] or [PushPhoto(scope=self._scope, hash=name, part=0, parts=0, data=b"")]
        return pushes
