"""How a blank DESFire EV2 or EV3 becomes a card of the city. The issuer's desk alone.

It can be run again over a card that was torn away in the middle: what is there already is known by
its key version and left as it is. At the end everything that was written has been proven from the
card's side, and no factory key is left.

A card is random only after its next activation, and its UID must then be asked for with the shared
key; so the random UID is switched on last. It cannot be undone.

Sources: AN12343 and MF2DLHX0 (DESFire Light), whose commands EV2 and EV3 share; for a blank card's
first key, which is 2TDEA, recorded sessions of real cards (`tests/readers/test_personalise.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge.readers import card_crypto, secure_channel
from edge.readers.card_crypto import DES_BLOCK
from edge.readers.desfire import AID_SIZE, SELECT_APPLICATION
from edge.readers.dialogue import CardKey, Failure
from edge.readers.personalise import (
    CHANGE_KEY,
    FACTORY_KEY,
    FACTORY_VERSION,
    PICC_CONFIGURATION,
    RANDOM_UID,
    SET_CONFIGURATION,
    WRITE_DATA,
    Issuing,
    RandomBytes,
    Trouble,
    assert_ours,
    change_keys,
    do,
)
from edge.readers.secure_channel import CommMode, Ev2Channel, FileRead, Step, native, say

AUTHENTICATE_ISO = 0x1A  # 2TDEA: what a blank card's own level speaks.
CHANGE_KEY_SETTINGS = 0x54
CREATE_APPLICATION = 0xCA
CREATE_STANDARD_FILE = 0xCD
GET_FILE_IDS = 0x6F
GET_FILE_SETTINGS = 0xF5

CARD_LEVEL = bytes(AID_SIZE)
KEY_IS_AES = 0x80  # In a key number of the card's own level, and in a count of keys.
# Key settings: the master key and these settings may change, and everything needs the master key.
KEY_SETTINGS = 0x09
COMM_MODES = {CommMode.PLAIN: 0x00, CommMode.MAC: 0x01, CommMode.FULL: 0x03}
FILE_SIZE_MAX = 32  # Our choice: with its header and MAC it fits the 59 bytes of a native frame.


@dataclass(frozen=True, slots=True, kw_only=True)
class DesfirePlan:
    """What is to be on the card. `app_keys[0]` is the application's master key."""

    aid: bytes
    picc_key: CardKey = field(repr=False)
    app_keys: tuple[CardKey, ...] = field(repr=False)
    read: FileRead
    read_key_no: int
    data: bytes
    random_uid: bool

    def __post_init__(self) -> None:
        assert len(self.aid) == AID_SIZE and any(self.aid)
        assert 2 <= len(self.app_keys) <= 14 and 0 < self.read_key_no < len(self.app_keys)
        assert len(self.data) == self.read.size <= FILE_SIZE_MAX and self.read.offset == 0
        assert_ours((self.picc_key, *self.app_keys))


def issue_desfire(uid: bytes, plan: DesfirePlan, *, random_bytes: RandomBytes) -> Issuing:
    """Make a card of a blank DESFire EV2 or EV3 whose real UID this is, or finish one begun."""
    steps: tuple[tuple[str, Callable[[], Step[bool]]], ...] = (
        ("card master key", lambda: _own_card_level(plan, random_bytes)),
        ("application", lambda: _create_application(uid, plan, random_bytes)),
        ("file", lambda: _fill_application(plan, random_bytes)),
        ("keys", lambda: _change_application_keys(plan, random_bytes)),
        ("check", lambda: _check_application(uid, plan, random_bytes)),
        ("card settings", lambda: _close_card_level(plan, random_bytes)),
    )
    for name, step in steps:
        done = yield from step()
        if isinstance(done, Failure):
            return Trouble(step=name, failure=done)
    return uid


def _own_card_level(plan: DesfirePlan, random_bytes: RandomBytes) -> Step[bool]:
    """The card's own master key: 2TDEA of zeros on a blank card, the city's AES key after."""
    version = yield from _version_at(CARD_LEVEL, 0)
    if isinstance(version, Failure):
        return version
    if version == FACTORY_VERSION:
        changed = yield from change_factory_key(plan.picc_key, random_bytes(DES_BLOCK))
        if isinstance(changed, Failure):
            return changed
        version = yield from _version_at(CARD_LEVEL, 0)
        if isinstance(version, Failure):
            return version
    return True if version == plan.picc_key.version else Failure.KEY_VERSION


def _create_application(uid: bytes, plan: DesfirePlan, random_bytes: RandomBytes) -> Step[bool]:
    probe = secure_channel.parse((yield native(SELECT_APPLICATION, plan.aid)))
    if isinstance(probe, Failure):
        return probe
    is_there = probe.status == secure_channel.OK
    channel = yield from _session(CARD_LEVEL, 0, plan.picc_key.key, random_bytes)
    if isinstance(channel, Failure):
        return channel
    real = yield from secure_channel.get_card_uid(channel)
    if isinstance(real, Failure):
        return real
    if real != uid:
        return Failure.WRONG_KEY
    if is_there:
        return True
    settings = bytes([KEY_SETTINGS, KEY_IS_AES | len(plan.app_keys)])
    return (yield from do(channel, CREATE_APPLICATION, plan.aid + settings, b"", CommMode.MAC))


def _fill_application(plan: DesfirePlan, random_bytes: RandomBytes) -> Step[bool]:
    channel = yield from _master_session(plan, random_bytes)
    if isinstance(channel, Failure):
        return channel
    answer = yield from say(channel.command(GET_FILE_IDS, b"", CommMode.MAC))
    if isinstance(answer, Failure):
        return answer
    file_ids = channel.open(answer, CommMode.MAC, max(0, len(answer.data) - 8))
    if isinstance(file_ids, Failure):
        return file_ids
    if plan.read.file_no not in file_ids:
        size = plan.read.size.to_bytes(3, "little")
        header = bytes([plan.read.file_no, COMM_MODES[plan.read.mode]]) + _rights(plan) + size
        created = yield from do(channel, CREATE_STANDARD_FILE, header, b"", CommMode.MAC)
        if isinstance(created, Failure):
            return created
    return (yield from do(channel, WRITE_DATA, plan.read.header(), plan.data, plan.read.mode))


def _change_application_keys(plan: DesfirePlan, random_bytes: RandomBytes) -> Step[bool]:
    """All that are still the factory's; the application's master key last, it ends the session."""
    stale = []
    for number, key in enumerate(plan.app_keys):
        version = yield from _version_at(plan.aid, number)
        if isinstance(version, Failure):
            return version
        if version == FACTORY_VERSION:
            stale.append(number)
        elif version != key.version:
            return Failure.KEY_VERSION
    channel = yield from _master_session(plan, random_bytes)
    if isinstance(channel, Failure):
        return channel
    return (yield from change_keys(channel, plan.app_keys, sorted(stale, reverse=True)))


def _check_application(uid: bytes, plan: DesfirePlan, random_bytes: RandomBytes) -> Step[bool]:
    """Every key opens a session, the file is what was written and as it is protected."""
    for number, key in enumerate(plan.app_keys):
        channel = yield from _session(plan.aid, number, key.key, random_bytes)
        if isinstance(channel, Failure):
            return channel
        real = yield from secure_channel.get_card_uid(channel)
        if isinstance(real, Failure):
            return real
        if real != uid:
            return Failure.WRONG_KEY
        if number == plan.read_key_no:
            data = yield from secure_channel.read_file(channel, plan.read)
            if isinstance(data, Failure):
                return data
            if data != plan.data:
                return Failure.BAD_ANSWER
        if number == 0:
            safe = yield from _check_file(channel, plan)
            if isinstance(safe, Failure):
                return safe
    return True


def _check_file(channel: Ev2Channel, plan: DesfirePlan) -> Step[bool]:
    command = channel.command(GET_FILE_SETTINGS, bytes([plan.read.file_no]), CommMode.MAC)
    answer = yield from say(command)
    if isinstance(answer, Failure):
        return answer
    size = plan.read.size.to_bytes(3, "little")
    wanted = bytes([0x00, COMM_MODES[plan.read.mode]]) + _rights(plan) + size
    found = channel.open(answer, CommMode.MAC, len(wanted))
    if isinstance(found, Failure):
        return found
    return True if found == wanted else Failure.UNSAFE_CONFIGURATION


def _close_card_level(plan: DesfirePlan, random_bytes: RandomBytes) -> Step[bool]:
    """Nobody adds applications without the city's key; then the random UID, for ever."""
    channel = yield from _session(CARD_LEVEL, 0, plan.picc_key.key, random_bytes)
    if isinstance(channel, Failure):
        return channel
    settings = bytes([KEY_SETTINGS])
    closed = yield from do(channel, CHANGE_KEY_SETTINGS, b"", settings, CommMode.FULL)
    if isinstance(closed, Failure) or not plan.random_uid:
        return closed
    return (yield from do(channel, SET_CONFIGURATION, bytes([PICC_CONFIGURATION]), RANDOM_UID,
                           CommMode.FULL))  # fmt: skip


def _master_session(plan: DesfirePlan, random_bytes: RandomBytes) -> Step[Ev2Channel]:
    version = yield from _version_at(plan.aid, 0)
    if isinstance(version, Failure):
        return version
    ours = plan.app_keys[0]
    if version not in (FACTORY_VERSION, ours.version):
        return Failure.KEY_VERSION
    key = FACTORY_KEY if version == FACTORY_VERSION else ours.key
    return (yield from _session(plan.aid, 0, key, random_bytes))


def _session(aid: bytes, key_no: int, key: bytes, random_bytes: RandomBytes) -> Step[Ev2Channel]:
    selected = yield from say(native(SELECT_APPLICATION, aid), size=0)
    if isinstance(selected, Failure):
        return selected
    return (yield from secure_channel.authenticate_ev2_first(key_no, key, random_bytes(16)))


def _version_at(aid: bytes, key_no: int) -> Step[int]:
    selected = yield from say(native(SELECT_APPLICATION, aid), size=0)
    if isinstance(selected, Failure):
        return selected
    return (yield from secure_channel.get_key_version(key_no))


def _rights(plan: DesfirePlan) -> bytes:
    """Read with the card's own key; write, both and change with the master key."""
    return (plan.read_key_no << 12).to_bytes(2, "little")


def change_factory_key(new: CardKey, rnd_a: bytes) -> Step[bool]:
    """At the card's own level: authenticate with 2TDEA zeros, and make the key an AES one.

    Equal halves make it a DES key, and the session's key the first halves of both random numbers.
    The card ends the session and says nothing more.
    """
    assert new.version is not None
    first = yield from say(native(AUTHENTICATE_ISO, b"\x00"), expect=secure_channel.MORE,
                           size=DES_BLOCK)  # fmt: skip
    if isinstance(first, Failure):
        return first
    rnd_b = card_crypto.tdes_cbc_decrypt(FACTORY_KEY, first.data)
    clear = rnd_a + card_crypto.rotate_left(rnd_b)
    token = card_crypto.tdes_cbc_encrypt(FACTORY_KEY, clear, first.data)
    second = yield from say(native(secure_channel.MORE, token), size=DES_BLOCK)
    if isinstance(second, Failure):
        return second
    proof = card_crypto.tdes_cbc_decrypt(FACTORY_KEY, second.data, token[-DES_BLOCK:])
    if not card_crypto.equal(proof, card_crypto.rotate_left(rnd_a)):
        return Failure.WRONG_KEY
    command = change_key_under_des(2 * (rnd_a[:4] + rnd_b[:4]), KEY_IS_AES, new)
    changed = yield from say(command, size=0)
    return changed if isinstance(changed, Failure) else True


def change_key_under_des(session_key: bytes, key_no: int, new: CardKey) -> bytes:
    """ChangeKey of the key that opened this session, to an AES key where the number says so."""
    data = new.key
    if key_no & KEY_IS_AES:
        assert new.version is not None
        data += bytes([new.version])
    data += card_crypto.crc32(bytes([CHANGE_KEY, key_no]) + data)
    data += bytes(-len(data) % DES_BLOCK)
    return native(CHANGE_KEY, bytes([key_no]) + card_crypto.tdes_cbc_encrypt(session_key, data))
