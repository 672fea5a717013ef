"""MIFARE DESFire EV1, EV2 and EV3: mutual authentication with AES, static or random UID.

EV1 sessions prove tier 5, EV2 sessions with a MACed or full read tier 6 (`mutual.py` has the
course, `secure_channel.py` the sessions). What is on the card is a matter of the profile: one
application of the city's own, the card's key in it, and one small file.

A card that authenticates is one that knows its key. A live relay of a real card is not seen; only
Proximity Check would, which readers do not offer.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.readers.dialogue import Dialogue, KeyOf
from edge.readers.mutual import Method, MutualProfile, prove, refusal_before_contact
from edge.readers.secure_channel import native, select

SELECT_APPLICATION = 0x5A
SELECTED = b"\x91\x00"
AID_SIZE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DesfireProfile:
    aid: bytes  # As it is sent: least significant byte first.
    mutual: MutualProfile

    def __post_init__(self) -> None:
        assert len(self.aid) == AID_SIZE and any(self.aid), "never the card's own level"


def desfire_ev1(
    uid: bytes, profile: DesfireProfile, *, key_of: KeyOf, random_bytes: bytes
) -> Dialogue:
    """AuthenticateAES and a read: tier 5.

    `uid` is the one of the anticollision, real or random. `key_of` gives the card's own key for
    its real UID. `random_bytes` are `mutual.RANDOM_SIZE` fresh secret ones.
    """
    return _desfire(uid, profile, Method.EV1, key_of=key_of, random_bytes=random_bytes)


def desfire_ev2(
    uid: bytes, profile: DesfireProfile, *, key_of: KeyOf, random_bytes: bytes
) -> Dialogue:
    """AuthenticateEV2First (and NonFirst, see the profile) and a read: tier 6, or 5 if plain."""
    return _desfire(uid, profile, Method.EV2, key_of=key_of, random_bytes=random_bytes)


def _desfire(
    uid: bytes, profile: DesfireProfile, method: Method, *, key_of: KeyOf, random_bytes: bytes
) -> Dialogue:
    refusal = refusal_before_contact(uid, profile.mutual)
    if refusal is not None:
        return refusal
    command = native(SELECT_APPLICATION, profile.aid)
    failure = yield from select(command, answer_ok=SELECTED)
    if failure is not None:
        return failure
    return (yield from prove(uid, profile.mutual, method, key_of=key_of, random_bytes=random_bytes))
