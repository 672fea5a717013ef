"""How far the other devices' epochs are known here: what is held, and what the base includes. Pure.

`known` up to N means: every fact up to N is held here or is in the base. The rule that a tail has
no hole, and all reports, rest on this one number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sync.peer_state import HeldLife

Key = tuple[str, str]  # device, epoch


class Held:
    """Of one device."""

    def __init__(self) -> None:
        self._lives: dict[Key, HeldLife] = {}
        self._vector: Mapping[Key, int] = {}

    def base(self, vector: Mapping[Key, int]) -> None:
        """(device, epoch) -> how much of its `main` the money picture includes."""
        self._vector = vector

    def keys(self) -> Iterable[Key]:
        return tuple(self._lives)

    def life(self, key: Key) -> HeldLife:
        return self._lives.get(key, HeldLife())

    def keep(self, key: Key, life: HeldLife) -> HeldLife:
        self._lives[key] = life
        return life

    def known(self, device: str, epoch: str) -> int:
        """Every fact of that till's epoch up to here is held, or is in the base."""
        included = self._vector.get((device, epoch), 0)
        life = self._lives.get((device, epoch))
        if life is None or life.after > included:
            return included  # What is between base and held facts is missing.
        return max(life.up_to, included)

    def side(self, device: str, epoch: str) -> int:
        """Every passage of that lane's epoch up to here is known."""
        return self.life((device, epoch)).side
