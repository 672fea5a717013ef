"""The city-wide list of who may enter museums: a token and a category each, nothing else.

A token is a credential id under the list's own identifier key, so it says nothing to who holds a
school's list. A lost card is blocked by the removal of its row. This reference city publishes the
list in the books of its first site, to whose admission stations alone it goes by network; the
pupils of its other sites, as those of other cities, come as bare tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Final

from edge.messages import AdmissionRow, Row, RowKind
from edge.model import Category, UidKind
from hil.city.crypto import CREDENTIAL_ID_BYTES, credential_id
from hil.city.keys import CITY_SCOPE, CityKeys
from hil.city.lists import Out, Publisher
from hil.city.rows import make_row, row_key
from hil.city.store import Store

PUPIL: Final = Category.PUPIL.value


class Museum:
    """Keeps to the transaction of the caller."""

    def __init__(self, store: Store, keys: CityKeys, publisher: Publisher) -> None:
        self._store = store
        self._keys = keys
        self._publisher = publisher

    @property
    def _here(self) -> bool:
        return CITY_SCOPE in self._publisher.scopes

    def token(self, kind: UidKind, uid: bytes) -> bytes:
        return credential_id(self._keys.scopes[CITY_SCOPE].identifier, kind, uid)

    def enter_all(self) -> None:
        """Every pupil's cards that are on no hot list."""
        if not self._here:
            return
        for uid, kind, cardholder in self._store.rows(
            "SELECT c.uid, c.uid_kind, c.cardholder FROM card c JOIN person p USING (cardholder)"
            " WHERE p.category = ? AND c.hot = ''",
            (PUPIL,),
        ):
            self._enter(self.token(UidKind(kind), bytes.fromhex(uid)), cardholder)

    def enter_others(self, tokens: Iterable[bytes]) -> None:
        """Pupils of whom this city knows nothing else."""
        for token in tokens:
            self._enter(token, None)

    def _enter(self, token: bytes, cardholder: str | None) -> None:
        self._store.execute(
            "INSERT INTO token VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (token, cardholder, PUPIL)
        )

    def follow(self, credentials: Iterable[bytes], now_ms: int) -> list[Out]:
        """What became of these cards at the school: blocked ones leave, others come back."""
        if not self._here:
            return []
        upserts: list[Row] = []
        removes = []
        for credential in credentials:
            row = self._store.one(
                "SELECT c.uid, c.uid_kind, c.cardholder, c.hot FROM card c"
                " JOIN person p USING (cardholder) WHERE c.credential = ? AND p.category = ?",
                (credential, PUPIL),
            )
            if row is None:
                continue
            uid, kind, cardholder, hot = row
            token = self.token(UidKind(kind), bytes.fromhex(uid))
            if hot:
                self._store.execute("DELETE FROM token WHERE token = ?", (token,))
                removes.append(row_key(RowKind.ADMISSION, token))
            else:
                self._enter(token, cardholder)
                upserts.append(make_row(RowKind.ADMISSION, token, AdmissionRow(PUPIL)))
        return self._publisher.publish(CITY_SCOPE, upserts, removes, now_ms)


def make_tokens(count: int, seed: int = 1) -> Iterator[bytes]:
    """Tokens of a city as large as one likes; the same for the same seed."""
    draw = random.Random(f"museum/{seed}")
    for _ in range(count):
        yield draw.randbytes(CREDENTIAL_ID_BYTES)
