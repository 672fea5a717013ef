"""How a blank NTAG 424 becomes a card of the city. The issuer's desk alone.

Its master key is changed last, so a tag that was torn away before still opens with the factory key
and is gone on with. At the end every key has opened a session, and none is the factory's.

Sources: NT4H2421Gx chapters 8, 10 and 11, AN12196 chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge.readers import secure_channel
from edge.readers.dialogue import CardKey, Failure
from edge.readers.ntag424 import ISO_OK, SELECT_APPLICATION
from edge.readers.personalise import (
    FACTORY_KEY,
    FACTORY_VERSION,
    FREE,
    NEVER,
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
    version_in,
)
from edge.readers.secure_channel import CommMode, Ev2Channel, FileRead, Step, say

CHANGE_FILE_SETTINGS = 0x5F
NTAG_KEYS = 5
NTAG_NDEF_FILE = 0x02
NTAG_NDEF_SIZE_MAX = 128  # Our choice: one short command; the file has 256 bytes.
SDM_ON = 0x40
SDM_OPTIONS = 0xC1  # UID and counter are mirrored, in ASCII.

# Anyone reads, key 0 writes and changes: NT4H2421Gx 8.2.3.3. The file is shipped open to writers.
NDEF_RIGHTS = (FREE << 12).to_bytes(2, "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class SunPlan:
    """The message that the chip makes: the file as written, and where it writes."""

    ndef: bytes
    picc_data: int
    mac_input: int
    mac: int
    meta_key_no: int
    file_key_no: int

    def settings(self) -> bytes:
        """File option, access rights and SDM settings; NT4H2421Gx 10.7.1."""
        rights = self.meta_key_no << 12 | self.file_key_no << 8 | 0xF << 4 | NEVER
        offsets = (self.picc_data, self.mac_input, self.mac)
        return (
            bytes([SDM_ON])
            + NDEF_RIGHTS
            + bytes([SDM_OPTIONS])
            + rights.to_bytes(2, "little")
            + b"".join(offset.to_bytes(3, "little") for offset in offsets)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NtagPlan:
    """What is to be on the tag: all five keys, and perhaps a message."""

    keys: tuple[CardKey, ...] = field(repr=False)
    sun: SunPlan | None
    random_uid: bool

    def __post_init__(self) -> None:
        assert len(self.keys) == NTAG_KEYS
        assert self.sun is None or len(self.sun.ndef) <= NTAG_NDEF_SIZE_MAX
        assert_ours(self.keys)


def issue_ntag424(uid: bytes, plan: NtagPlan, *, random_bytes: RandomBytes) -> Issuing:
    """Make a card of a blank NTAG 424 whose real UID this is, or finish one begun.

    One that does not open with the factory key is finished, or somebody else's.
    """
    channel = yield from _ntag_session(0, FACTORY_KEY, random_bytes)
    if isinstance(channel, Failure):
        return Trouble(step="factory key", failure=channel)
    steps: tuple[tuple[str, Callable[[Ev2Channel], Step[bool]]], ...] = (
        ("uid", lambda session: _check_uid(session, uid)),
        ("message", lambda session: _write_message(session, plan)),
        ("keys", lambda session: _change_ntag_keys(session, plan)),
        ("random uid", lambda session: _random_ntag_uid(session, plan)),
        ("master key", lambda session: change_keys(session, plan.keys, [0])),
    )
    for name, step in steps:
        done = yield from step(channel)
        if isinstance(done, Failure):
            return Trouble(step=name, failure=done)
    checked = yield from _check_ntag(uid, plan, random_bytes)
    return Trouble(step="check", failure=checked) if isinstance(checked, Failure) else uid


def _write_message(channel: Ev2Channel, plan: NtagPlan) -> Step[bool]:
    """The message, then the settings that make it live and close the file to writers."""
    if plan.sun is None:
        settings = bytes([0x00]) + NDEF_RIGHTS
    else:
        settings = plan.sun.settings()
        read = FileRead(file_no=NTAG_NDEF_FILE, size=len(plan.sun.ndef), mode=CommMode.PLAIN)
        command = channel.write(WRITE_DATA, read.header(), plan.sun.ndef, CommMode.PLAIN)
        written = yield from say(command)
        if isinstance(written, Failure):
            return written
    header = bytes([NTAG_NDEF_FILE])
    return (yield from do(channel, CHANGE_FILE_SETTINGS, header, settings, CommMode.FULL))


def _change_ntag_keys(channel: Ev2Channel, plan: NtagPlan) -> Step[bool]:
    stale = []
    for number in range(1, NTAG_KEYS):
        version = yield from version_in(channel, number)
        if isinstance(version, Failure):
            return version
        if version == FACTORY_VERSION:
            stale.append(number)
        elif version != plan.keys[number].version:
            return Failure.KEY_VERSION
    return (yield from change_keys(channel, plan.keys, stale))


def _random_ntag_uid(channel: Ev2Channel, plan: NtagPlan) -> Step[bool]:
    if not plan.random_uid:
        return True
    header = bytes([PICC_CONFIGURATION])
    return (yield from do(channel, SET_CONFIGURATION, header, RANDOM_UID, CommMode.FULL))


def _check_ntag(uid: bytes, plan: NtagPlan, random_bytes: RandomBytes) -> Step[bool]:
    """Every key opens a session, and none has the factory's version."""
    for number, key in enumerate(plan.keys):
        channel = yield from _ntag_session(number, key.key, random_bytes)
        if isinstance(channel, Failure):
            return channel
        version = yield from version_in(channel, number)
        if isinstance(version, Failure):
            return version
        if version != key.version:
            return Failure.UNSAFE_CONFIGURATION
        checked = yield from _check_uid(channel, uid)
        if isinstance(checked, Failure):
            return checked
    return True


def _check_uid(channel: Ev2Channel, uid: bytes) -> Step[bool]:
    real = yield from secure_channel.get_card_uid(channel)
    if isinstance(real, Failure):
        return real
    return True if real == uid else Failure.WRONG_KEY


def _ntag_session(key_no: int, key: bytes, random_bytes: RandomBytes) -> Step[Ev2Channel]:
    failure = yield from secure_channel.select(SELECT_APPLICATION, answer_ok=ISO_OK)
    if failure is not None:
        return failure
    return (yield from secure_channel.authenticate_ev2_first(key_no, key, random_bytes(16)))
