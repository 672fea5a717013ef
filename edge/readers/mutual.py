"""The one course of every mutual authentication: which key, one attempt, and a read in the session.

`desfire.py` and `ntag424.py` say how their card is selected and by which method it authenticates;
from there on the course is the same, with a static UID or a random one:

    select · [uid key: authenticate · GetCardUID] · card's key: authenticate · read

A random UID hides the number that the card's key is held under, so one shared key must open
GetCardUID first. That key reveals UIDs and proves nothing; only the card's own key does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique

from edge.model import UidKind
from edge.readers import secure_channel
from edge.readers.card_crypto import AES_BLOCK, is_factory_aes_key
from edge.readers.dialogue import CardKey, Evidence, Failure, KeyOf, Tier, held_key
from edge.readers.reader import is_random_uid
from edge.readers.secure_channel import Channel, CommMode, Ev2Channel, FileRead, Step

RANDOM_SIZE = 2 * AES_BLOCK  # One RndA for the card's key, one for the shared key.


@unique
class Method(StrEnum):
    EV1 = "ev1"  # AuthenticateAES, DESFire EV1 and later.
    EV2 = "ev2"  # AuthenticateEV2First over AES, DESFire EV2 and later, NTAG 424.
    LRP = "lrp"  # AuthenticateLRPFirst, NTAG 424 with LRP mode on.


@dataclass(frozen=True, slots=True, kw_only=True)
class MutualProfile:
    """How the city personalised the cards of one kind."""

    key_no: int  # Of the card's own key in the application.
    read: FileRead | None  # None: the real UID is the read in the session.
    uid_key_no: int | None = None
    uid_key: CardKey | None = None  # Shared, for random UIDs; it opens GetCardUID and no file.
    non_first: bool = False  # The second authentication is EV2NonFirst, within the first session.
    read_key_version: bool = False  # Ask the version before the attempt (DESFire): 18 ms more.

    def __post_init__(self) -> None:
        assert (self.uid_key is None) == (self.uid_key_no is None)


def prove(
    uid: bytes, profile: MutualProfile, method: Method, *, key_of: KeyOf, random_bytes: bytes
) -> Step[Evidence]:
    """From a selected application to evidence. `random_bytes`: RANDOM_SIZE fresh secret ones."""
    assert len(random_bytes) == RANDOM_SIZE
    rnd_a, rnd_a_uid = random_bytes[:AES_BLOCK], random_bytes[AES_BLOCK:]
    version: int | None = None
    if profile.read_key_version:
        answered = yield from secure_channel.get_key_version(profile.key_no)
        if isinstance(answered, Failure):
            return answered
        version = answered
    before: Channel | None = None
    if is_random_uid(uid, UidKind.ISO14443):
        revealed = yield from _reveal(profile, method, rnd_a_uid)
        if isinstance(revealed, Failure):
            return revealed
        uid, before = revealed
    held = held_key(key_of, uid, is_factory_key=is_factory_aes_key)
    if isinstance(held, Failure):
        return held
    if version is not None and version != held.version:
        return Failure.KEY_VERSION
    within = before if profile.non_first else None
    channel = yield from _authenticate(method, profile.key_no, held, rnd_a, within)
    if isinstance(channel, Failure):
        return channel
    return (yield from _read(channel, uid, held, profile.read))


def refusal_before_contact(uid: bytes, profile: MutualProfile) -> Failure | None:
    """What is clear before a single command: a random id that nobody here can look behind."""
    if not is_random_uid(uid, UidKind.ISO14443):
        return None
    if profile.uid_key is None:
        return Failure.RANDOM_UID
    return Failure.FACTORY_KEY if is_factory_aes_key(profile.uid_key.key) else None


def _reveal(profile: MutualProfile, method: Method, rnd_a: bytes) -> Step[tuple[bytes, Channel]]:
    assert profile.uid_key is not None and profile.uid_key_no is not None
    channel = yield from _authenticate(method, profile.uid_key_no, profile.uid_key, rnd_a, None)
    if isinstance(channel, Failure):
        return channel
    uid = yield from secure_channel.get_card_uid(channel)
    return uid if isinstance(uid, Failure) else (uid, channel)


def _authenticate(
    method: Method, key_no: int, key: CardKey, rnd_a: bytes, within: Channel | None
) -> Step[Channel]:
    """The one attempt with this key."""
    if method is Method.EV1:
        return (yield from secure_channel.authenticate_ev1(key_no, key.key, rnd_a))
    if method is Method.LRP:
        return (yield from secure_channel.authenticate_lrp_first(key_no, key.key, rnd_a))
    if isinstance(within, Ev2Channel):
        return (
            yield from secure_channel.authenticate_ev2_non_first(key_no, key.key, rnd_a, within)
        )
    return (yield from secure_channel.authenticate_ev2_first(key_no, key.key, rnd_a))


def _read(channel: Channel, uid: bytes, held: CardKey, read: FileRead | None) -> Step[Evidence]:
    """The read in the session, and the tier that the two together are worth."""
    if read is None:
        confirmed = yield from secure_channel.get_card_uid(channel)
        if isinstance(confirmed, Failure):
            return confirmed
        if confirmed != uid:
            return Failure.WRONG_KEY  # It knows the key of another card, so it is not this one.
        data, proven = b"", True
    else:
        answered = yield from secure_channel.read_file(channel, read)
        if isinstance(answered, Failure):
            return answered
        data, proven = answered, read.mode is not CommMode.PLAIN or channel.proves_plain_reads
    in_session = proven and isinstance(channel, Ev2Channel)
    return Evidence(
        uid=uid,
        tier=Tier.SESSION if in_session else Tier.AUTHENTICATED,
        key_version=held.version,
        data=data,
        data_proven=proven,
    )
