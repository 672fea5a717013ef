"""What a blank DESFire and a blank NTAG 424 are made cards of the city with: keys and settings.

Dialogues in the sense of `dialogue.py`, but they write; the issuer's desk alone runs them. The
whole of it is in `issue_desfire.py` and `issue_ntag424.py`. Every key gets one attempt. A version
of 0 is a factory key's; the city's begin at 1.

Sources: NT4H2421Gx chapter 10, AN12196 chapter 5; recorded in `tests/readers/test_personalise.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from edge.readers import card_crypto, secure_channel
from edge.readers.card_crypto import is_factory_aes_key
from edge.readers.dialogue import CardKey, Failure
from edge.readers.secure_channel import CommMode, Ev2Channel, Step, say

CHANGE_KEY = 0xC4
SET_CONFIGURATION = 0x5C
WRITE_DATA = 0x8D

FACTORY_KEY = bytes(16)
FACTORY_VERSION = 0
PICC_CONFIGURATION = 0x00  # The option of SetConfiguration that holds the random UID ...
RANDOM_UID = b"\x02"  # ... which is on for ever then.
FREE, NEVER = 0xE, 0xF  # In access rights, where a key number would stand.

T = TypeVar("T")
Issuing = Generator[bytes, bytes, "bytes | Trouble"]  # The card's real UID, once all is proven.
RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a card was not made, and in which step. What is on it by now may be gone on with."""

    step: str
    failure: Failure
    words: str = ""


def assert_ours(keys: tuple[CardKey, ...]) -> None:
    """What a plan may write."""
    for key in keys:
        assert not is_factory_aes_key(key.key), "a factory key is never written"
        assert key.version is not None and key.version > FACTORY_VERSION


def carry(
    dialogue: Generator[bytes, bytes, T], *, transmit: Callable[[bytes], bytes | Failure]
) -> T | Failure:
    """Carry a dialogue that writes to its end: no budget, the card lies on a desk."""
    try:
        command = next(dialogue)
        while True:
            answer = transmit(command)
            if isinstance(answer, Failure):
                dialogue.close()
                return answer
            command = dialogue.send(answer)
    except StopIteration as ended:
        outcome: T = ended.value
        return outcome


def version_in(channel: Ev2Channel, key_no: int) -> Step[int]:
    """GetKeyVersion inside a session."""
    command = channel.command(secure_channel.GET_KEY_VERSION, bytes([key_no]), CommMode.MAC)
    answer = yield from say(command)
    if isinstance(answer, Failure):
        return answer
    found = channel.open(answer, CommMode.MAC, 1)
    return found if isinstance(found, Failure) else found[0]


def change_keys(channel: Ev2Channel, keys: tuple[CardKey, ...], numbers: list[int]) -> Step[bool]:
    """From factory keys, in a session of key 0. Key 0 ends the session, so it stands last."""
    assert 0 not in numbers[:-1]
    for number in numbers:
        command = change_key(channel, number, keys[number], old=FACTORY_KEY)
        answer = yield from say(command)
        if isinstance(answer, Failure):
            return answer
        if number == 0:
            if answer.data:
                return Failure.BAD_ANSWER
        else:
            opened = channel.open(answer, CommMode.MAC, 0)
            if isinstance(opened, Failure):
                return opened
    return True


def change_key(channel: Ev2Channel, key_no: int, new: CardKey, *, old: bytes) -> bytes:
    """ChangeKey inside a session of key 0; NT4H2421Gx 10.6.1, AN12196 tables 25 and 26."""
    assert new.version is not None
    data = new.key + bytes([new.version])
    if key_no:
        changed = card_crypto.xor(new.key, old) + bytes([new.version])
        data = changed + card_crypto.crc32(new.key)
    return channel.write(CHANGE_KEY, bytes([key_no]), data, CommMode.FULL)


def do(
    channel: Ev2Channel, instruction: int, header: bytes, data: bytes, mode: CommMode
) -> Step[bool]:
    """A command in the session that is answered with a MAC and nothing else."""
    answer = yield from say(channel.write(instruction, header, data, mode))
    if isinstance(answer, Failure):
        return answer
    if mode is CommMode.PLAIN:
        return True
    opened = channel.open(answer, CommMode.MAC, 0)
    return opened if isinstance(opened, Failure) else True
