"""Opened names, for a screen of this station alone: they reach no log and no fact."""

from __future__ import annotations

from collections.abc import Callable

from edge.model import Cardholder, CorruptData
from edge.trust import ScopeKeys, unseal_column

COLUMN_NAME = "name"
COLUMN_GROUP = "group"
COLUMN_RELATION = "relation/"  # And the ward's id behind it.


class Names:
    """Opens personal columns of the list of people with the keys held now."""

    def __init__(self, keys: Callable[[], ScopeKeys | None], count: Callable[[str], None]) -> None:
        self._keys = keys
        self._count = count

    def of(self, person: Cardholder | None) -> tuple[str, str]:
        """Name and group; "" where there is none, or it does not open."""
        if person is None:
            return "", ""
        return (
            self._open(person.cardholder_id, person.sealed_name, COLUMN_NAME),
            self._open(person.cardholder_id, person.sealed_group, COLUMN_GROUP),
        )

    def relation(self, guardian: Cardholder, ward_id: str) -> str:
        """What a guardian is to a child."""
        sealed = guardian.sealed_relations.get(ward_id, b"")
        return self._open(guardian.cardholder_id, sealed, COLUMN_RELATION + ward_id)

    def _open(self, cardholder_id: str, sealed: bytes, column: str) -> str:
        keys = self._keys()
        if keys is None or not sealed:
            return ""
        try:
            return unseal_column(
                keys.seal, sealed, scope=keys.scope, row_key=cardholder_id.encode(), column=column
            )
        except CorruptData:
            self._count("unseal_failed")
            return ""  # The decision stands; the officer sees no name.
