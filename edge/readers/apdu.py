"""The ISO 7816 exchange that gets an identity from any contactless card: its UID, nothing proved.

A dialogue in the sense of `dialogue.py`, which runs it within a time budget. Cards that can prove
more have dialogues of their own; `proving.py` begins them with `shown_uid`.
"""

from __future__ import annotations

from collections.abc import Generator

from edge.model import UidKind
from edge.readers.dialogue import Dialogue, Evidence, Failure, Tier
from edge.readers.reader import UID_SIZES, is_random_uid

GET_UID = bytes.fromhex("FFCA000000")  # PC/SC part 3, 3.2.2.1.3: Get Data, UID, any length.
STATUS_SIZE = 2
STATUS_OK = b"\x90\x00"
WRONG_LENGTH = 0x6C  # ISO 7816-4: wrong Le; the second byte is the right one.


def get_uid() -> Dialogue:
    """Ask the reader for the UID of the ISO 14443 card in its field: tier 1."""
    uid = yield from shown_uid()
    if isinstance(uid, Failure):
        return uid
    if is_random_uid(uid, UidKind.ISO14443):
        return Failure.RANDOM_UID
    return Evidence(uid=uid, tier=Tier.UID)


def shown_uid() -> Generator[bytes, bytes, bytes | Failure]:
    """The UID that the anticollision showed, a random one too: a part of a dialogue."""
    answer = yield GET_UID
    if len(answer) == STATUS_SIZE and answer[0] == WRONG_LENGTH and answer[1] in UID_SIZES:
        answer = yield GET_UID[:-1] + answer[1:]  # Once: a second 6C is no identity.
    uid, status = answer[:-STATUS_SIZE], answer[-STATUS_SIZE:]
    if len(status) < STATUS_SIZE:
        return Failure.BAD_ANSWER
    if status != STATUS_OK:
        return Failure.UNKNOWN_FAMILY
    return uid if len(uid) in UID_SIZES else Failure.BAD_ANSWER
