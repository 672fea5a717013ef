"""What a card dialogue is: what a card proved, why it proved nothing, and how one is run.

A dialogue is a generator. It yields a command, is sent the card's answer, and returns `Evidence` or
one `Failure` of a closed list; it raises nothing over what a card sent. It owns no reader, clock,
random source or key store: a transport carries the bytes, random bytes are arguments, the key of a
card is asked of a function, and `Conversation` holds the time budget with times passed in.

    conversation = Conversation(desfire_ev2(uid, profile, key_of=held.get, random_bytes=fresh))
    step = conversation.start(now_ms=0)                    # the first command ...
    step = conversation.receive(answer, now_ms=18)         # ... the next, or the outcome

A dialogue makes one attempt with one key. It never tries another: cards count wrong keys, and some
lock for ever. Backing off after a failure, and alarming at the second, is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum, unique

from edge.model import UidKind

BUDGET_MS_MAX = 300  # Our choice: 16 short commands at the 18 ms of 106 kbit/s; a pupil's patience.
ANSWER_SIZE_MAX = 256 + 2  # ISO/IEC 7816-3: the data of a short answer, and SW1 SW2.


@unique
class Tier(IntEnum):
    """What a card proved (the table of tiers). The enrolled tier is a floor for every read."""

    NUMBER = 0  # 125 kHz, Wiegand, a serial reader.
    UID = 1
    ULTRALIGHT_C = 2  # 3DES mutual authentication; nothing after it is protected.
    ULTRALIGHT_AES = 3  # AES mutual authentication, configuration read under CMAC.
    SUN = 4  # A message this card made, newer than any seen before; it may be a copied one.
    AUTHENTICATED = 5  # AES mutual authentication with the key of this card.
    SESSION = 6  # EV2 or LRP authentication, and a read under the session's MAC.


@unique
class Failure(StrEnum):
    """Why a dialogue proved nothing. Values reach the event log: add members, never rename one.

    Whether what was proved is enough (`tier_below_enrolled`) is a decision and no failure of these.
    """

    LEFT_FIELD = "left_field"
    TWO_CARDS = "two_cards"  # More than one in the field: whose it is cannot be told.
    READER_ERROR = "reader_error"
    DEADLINE = "deadline"  # The budget ran out between two commands.
    UNKNOWN_FAMILY = "unknown_family"  # Not the application or chip this dialogue is for.
    RANDOM_UID = "random_uid"  # A random id, and no shared key here to ask for the real one.
    NO_KEY = "no_key"  # This device holds no key for this card: another site's, or nobody's.
    FACTORY_KEY = "factory_key"  # The key held is one that chips are shipped with; never used.
    HELD_BACK = "held_back"  # It failed moments ago and has not left since: not asked again yet.
    KEY_VERSION = "key_version"  # The card has another version of the key: it goes to the desk.
    WRONG_KEY = "wrong_key"  # The card does not know the key, or says that we do not.
    CARD_LOCKED = "card_locked"  # The card refuses or delays after too many wrong keys.
    BAD_ANSWER = "bad_answer"  # Not what a card of this family says here: cut, long, or strange.
    BAD_MAC = "bad_mac"  # Changed under way, or made without the key.
    REPLAYED = "replayed"  # The counter is not above the last one seen.
    UNSAFE_CONFIGURATION = "unsafe_configuration"  # The chip lets others change its key or mode.


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one dialogue proved.

    `counter` is the read counter of a SUN message: it is stored as the last one seen before any
    relay moves. `data` is proven by the session where `data_proven`, else only claimed by the card.
    `failure` says why a card that has a number did not prove more, where more was asked of it.
    """

    uid: bytes = field(repr=False)  # As in ISO/IEC 14443-3. Ends in `trust.py`.
    uid_kind: UidKind = UidKind.ISO14443
    tier: Tier
    key_version: int | None = None
    counter: int | None = None
    data: bytes = field(default=b"", repr=False)
    data_proven: bool = True
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardKey:
    """A key this device holds: one card's own, derived by the city, or a shared key for UIDs."""

    key: bytes = field(repr=False)
    version: int | None = None

    def __post_init__(self) -> None:
        assert len(self.key) == 16, "AES-128 and two-key 3DES keys have 16 bytes"
        assert self.version is None or 0 <= self.version <= 0xFF


KeyOf = Callable[[bytes], CardKey | None]  # The key held for a UID; None if there is none.
Dialogue = Generator[bytes, bytes, Evidence | Failure]


def held_key(
    key_of: KeyOf, uid: bytes, *, is_factory_key: Callable[[bytes], bool]
) -> CardKey | Failure:
    """The key to make the one attempt with, or why none is made."""
    held = key_of(uid)
    if held is None:
        return Failure.NO_KEY
    return Failure.FACTORY_KEY if is_factory_key(held.key) else held


class Conversation:
    """One dialogue under a time budget. Each step gives the next command or the outcome.

    The budget is looked at before a command is given out, so a card that answered its last command
    late has still answered. `now_ms` is a monotonic clock, the same one every time.
    """

    def __init__(self, dialogue: Dialogue, *, budget_ms: int = BUDGET_MS_MAX) -> None:
        assert budget_ms > 0
        self._dialogue = dialogue
        self._budget_ms = budget_ms
        self._until_ms: int | None = None

    def start(self, *, now_ms: int) -> bytes | Evidence | Failure:
        assert self._until_ms is None, "a conversation is started once"
        self._until_ms = now_ms + self._budget_ms
        return self._advance(None, now_ms)

    def receive(self, answer: bytes, *, now_ms: int) -> bytes | Evidence | Failure:
        assert self._until_ms is not None, "a conversation is started first"
        if len(answer) > ANSWER_SIZE_MAX:
            return self.abandon(Failure.BAD_ANSWER)
        return self._advance(answer, now_ms)

    def abandon(self, failure: Failure) -> Failure:
        """End it from outside, because the card left or the reader failed."""
        self._dialogue.close()
        return failure

    def _advance(self, answer: bytes | None, now_ms: int) -> bytes | Evidence | Failure:
        assert self._until_ms is not None
        try:
            command = next(self._dialogue) if answer is None else self._dialogue.send(answer)
        except StopIteration as ended:
            outcome: Evidence | Failure = ended.value
            return outcome
        if now_ms >= self._until_ms:
            return self.abandon(Failure.DEADLINE)
        return command


def run(
    dialogue: Dialogue,
    *,
    transmit: Callable[[bytes], bytes | Failure],
    now_ms: Callable[[], int],
    budget_ms: int = BUDGET_MS_MAX,
) -> Evidence | Failure:
    """Carry a dialogue to its end over `transmit`, which gives the answer or why there is none.

    What `transmit` raises (a `DeviceFault` of its reader) passes through; the dialogue is ended.
    """
    conversation = Conversation(dialogue, budget_ms=budget_ms)
    step = conversation.start(now_ms=now_ms())
    while isinstance(step, bytes):
        try:
            answer = transmit(step)
        except BaseException:
            conversation.abandon(Failure.READER_ERROR)
            raise
        if isinstance(answer, Failure):
            return conversation.abandon(answer)
        step = conversation.receive(answer, now_ms=now_ms())
    return step
