"""The keys of this device's lists, sealed to it: taken, kept, and asked for anew. No rule.

They come in a signed message, each sealed to the device's own key, and stay sealed in `sync.db`.
"""

from __future__ import annotations

from edge.messages import SealedKeys, decode_pack
from edge.model import CorruptData
from edge.offline_cache.apply import held_scope_keys, store_scope_keys
from edge.offline_cache.store import Writer
from edge.trust import PURPOSE_IDENTIFIER, PURPOSE_SEAL, KeyStore, is_sealed_now, open_scope_key


class ScopeKeys:
    """Of one device."""

    def __init__(
        self, *, device: str, scopes: tuple[str, ...], writer: Writer, keys: KeyStore
    ) -> None:
        self._device = device
        self._scopes = scopes
        self._writer = writer
        self._keys = keys

    def take(self, payload: bytes) -> None:
        """A `SealedKeys` whose signature was good. `CorruptData` for what is not ours."""
        came = decode_pack(SealedKeys, payload)
        if came.device != self._device:
            raise CorruptData("keys: for another device")
        for key in came.keys:
            if key.scope not in self._scopes:
                raise CorruptData(f"keys: of scope {key.scope!r:.60}, not ours")
            open_scope_key(self._keys, key)  # Only what opens is kept.
        store_scope_keys(self._writer, came.keys)

    def newest(self) -> dict[str, int]:
        """Scope -> newest identifier key held."""
        newest: dict[str, int] = {}
        for key in held_scope_keys(self._writer.db):
            if key.purpose == PURPOSE_IDENTIFIER:
                newest[key.scope] = max(newest.get(key.scope, 0), key.version)
        return newest

    def versions(self, scope: str) -> tuple[set[int], set[int]]:
        """Of identifier keys and of seal keys held."""
        held = [key for key in held_scope_keys(self._writer.db) if key.scope == scope]
        return (
            {key.version for key in held if key.purpose == PURPOSE_IDENTIFIER},
            {key.version for key in held if key.purpose == PURPOSE_SEAL},
        )

    def to_reseal(self) -> tuple[str, ...]:
        """Scopes with keys that are sealed to a device key on its way out: to be pulled again."""
        held = held_scope_keys(self._writer.db)
        return tuple(sorted({key.scope for key in held if not is_sealed_now(self._keys, key)}))
