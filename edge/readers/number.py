"""From the bytes a reader printed to the number that a credential id is made of.

Readers print one and the same chip in many ways: in another order of bytes, in decimal, cut short.
Which way a reader prints is its profile, and it is settled once, when the reader is set up: the
device says `numbering` and `reversed` in `device.toml`, and the city enrols with a reader of the
same profile. Nothing here guesses. A number that lost bytes on its way is another number than the
whole one, and never opens for it.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edge.model import UidKind
from edge.readers.dialogue import Tier
from edge.readers.reader import UID_SIZES

NUMBERINGS: Mapping[str, UidKind] = MappingProxyType(
    {"iso14443": UidKind.ISO14443, "prox125": UidKind.PROX125}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number a reader said, in canonical order, and what it is worth."""

    uid: bytes = field(repr=False)
    kind: UidKind
    tier: Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderProfile:
    """How one reader prints its numbers."""

    kind: UidKind
    reversed: bool = False  # It prints the last byte first.

    def number(self, printed: bytes, *, tier: Tier | None = None) -> Number | None:
        """The number behind these bytes; None when no chip of this kind has one so long.

        `tier` is said where the way to the reader proves less than the chip could.

        >>> profile = ReaderProfile(kind=UidKind.ISO14443, reversed=True)
        >>> profile.number(bytes.fromhex("EFBEADDE")).uid.hex()
        'deadbeef'
        """
        if self.kind is UidKind.ISO14443 and len(printed) not in UID_SIZES:
            return None
        if tier is None:
            tier = Tier.UID if self.kind is UidKind.ISO14443 else Tier.NUMBER
        uid = printed[::-1] if self.reversed else printed
        return Number(uid=uid, kind=self.kind, tier=tier)


UID_AS_PRINTED = ReaderProfile(kind=UidKind.ISO14443)
EM4100_AS_PRINTED = ReaderProfile(kind=UidKind.PROX125)
