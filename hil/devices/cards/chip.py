"""What every model chip has: a UID (real or new each time), keys, and a life between two fields."""

from __future__ import annotations

import copy
import secrets
import threading
from collections.abc import Callable
from typing import Self

from hil.devices.vpcd_card import UID_COMMAND, VirtualCard

Random = Callable[[int], bytes]

FACTORY_KEY = bytes(16)


class Chip(VirtualCard):
    """A card with keys. `uid` is what the anticollision shows, `real_uid` what is in the chip.

    A bench that has no field calls `power(on=True)` where a reader would activate the card.
    """

    def __init__(
        self,
        real_uid: bytes,
        *,
        keys: dict[int, bytes],
        random_uid: bool = False,
        random: Random = secrets.token_bytes,
    ) -> None:
        super().__init__(real_uid)
        self.real_uid = real_uid
        self.keys = keys
        self.random_uid = random_uid
        self.random = random
        self.wrong_keys = 0  # Authentications that failed here, for the bench to look at.
        self.reset()

    def power(self, on: bool) -> None:
        self.reset()
        if on and self.random_uid:
            self.uid = b"\x08" + self.random(3)
        super().power(on)

    def apdu(self, command: bytes) -> bytes:
        if command.startswith(UID_COMMAND):
            return super().apdu(command) or b""
        return self.answer(command)

    def answer(self, command: bytes) -> bytes:
        """The chip's own answer to a command that the reader did not answer itself."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget every session: the field is gone."""

    def clone(self) -> Self:
        """The same UID and content on other silicon: everything a copier gets, and no key."""
        return self.with_keys({number: self.random(len(key)) for number, key in self.keys.items()})

    def factory(self) -> Self:
        """The same card before anyone wrote keys to it."""
        return self.with_keys(dict.fromkeys(self.keys, FACTORY_KEY))

    def with_keys(self, keys: dict[int, bytes]) -> Self:
        twin = copy.copy(self)
        twin.keys = keys
        twin.was_powered = threading.Event()
        twin.reset()
        return twin


class UidCard(Chip):
    """A card that has nothing but a number: MIFARE Classic, NTAG21x, a social card, a phone.

    What sectors and passwords it may have prove nothing (tier 1), so no one asks for them.
    """

    def __init__(self, real_uid: bytes, *, sak: int = 0x08, random_uid: bool = False) -> None:
        super().__init__(real_uid, keys={}, random_uid=random_uid)
        self.sak = sak  # 08 is a MIFARE Classic 1K.

    def answer(self, command: bytes) -> bytes:
        return b"\x6d\x00"
