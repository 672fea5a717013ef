"""How a card in the field is asked to prove itself: by which profile, once, and what then counts.

    shown UID, static    its enrolled profile says how; without one the number is all there is
    shown UID, random    each profile with a shared UID key in turn, until one knows the card

A card that answers as another family, or for which no key is held, is a number (tier 1). One that
was asked to prove itself and failed is a number that proves nothing (tier 0), with the failure: a
lane then says whose card was copied, and its enrolled tier refuses it. What failed by accident
(the card left, the reader, the time) is no read at all; the person is told to try again.

Pure: times and random bytes come from outside, keys from a `CardBook`. A `Prover` is one reader's.
`ask_activated` is the same for a reader that gives a raw channel (a PN532).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from edge.model import UidKind
from edge.readers.apdu import shown_uid
from edge.readers.dialogue import CardKey, Dialogue, Evidence, Failure, Tier, run
from edge.readers.profile import CardProfile, RandomBytes
from edge.readers.reader import is_random_uid
from edge.readers.ultralight import MORE
from edge.readers.watch import REPEAT_MS_MAX

# The attempt was made, or was seen to be no use, and it said something about the card.
DISPROVED: Final = frozenset(
    {
        *(Failure.FACTORY_KEY, Failure.KEY_VERSION, Failure.WRONG_KEY, Failure.CARD_LOCKED),
        *(Failure.BAD_MAC, Failure.UNSAFE_CONFIGURATION),
    }
)
NUMBER_ONLY: Final = frozenset({Failure.UNKNOWN_FAMILY, Failure.NO_KEY})

HOLD_MS = 3_000  # Our choice: the refusal's screen lasts as long, and a flutter is over by then.
AWAY_MS_MIN = 500  # Our choice: a hand that takes a card away and shows it anew takes longer.
FAILED_REMEMBERED_MAX = 16  # Our choice: a wallet of cards, several times over.
STRANGER = b"a random id"  # All random ids are one: the next activation shows another.
SAK_ISO_DEP = 0x20  # ISO/IEC 14443-3, 6.5.3.4: the card takes APDUs; others take native frames.
NAK = b"\x00"  # A raw channel tells four bits of refusal from noise by their length alone.

assert AWAY_MS_MIN < HOLD_MS
assert AWAY_MS_MIN <= REPEAT_MS_MAX


class CardBook(Protocol):
    """What is held of cards here. Asked from a reader's thread; reads only, and raises nothing."""

    def candidates(self, shown: bytes) -> Sequence[CardProfile]:
        """How a card that shows this UID may be asked: for a real UID at most its own profile."""
        ...

    def key_of(self, profile_id: str, uid: bytes) -> CardKey | None:
        """The key held for the card with this real UID, if it is enrolled in that profile."""
        ...


class NoBook:
    """No card can be asked to prove anything: UIDs alone."""

    def candidates(self, shown: bytes) -> Sequence[CardProfile]:
        return ()

    def key_of(self, profile_id: str, uid: bytes) -> CardKey | None:
        return None


class Attempts:
    """Cards that failed and may not be asked again yet: some count wrong keys, some lock for ever.

    A card is asked again once it was away for `AWAY_MS_MIN`, or after `HOLD_MS`. One that flutters
    at the edge of the field is neither.
    """

    def __init__(self) -> None:
        self._failed_ms: dict[bytes, int] = {}
        self._gone_ms: int | None = None

    def may_try(self, name: bytes, *, now_ms: int) -> bool:
        failed_ms = self._failed_ms.get(name)
        if failed_ms is None or now_ms - failed_ms >= HOLD_MS:
            return True
        gone_ms = self._gone_ms
        return gone_ms is not None and gone_ms >= failed_ms and now_ms - gone_ms >= AWAY_MS_MIN

    def failed(self, name: bytes, *, now_ms: int) -> None:
        self._failed_ms.pop(name, None)
        self._failed_ms[name] = now_ms  # Youngest last.
        if len(self._failed_ms) > FAILED_REMEMBERED_MAX:
            del self._failed_ms[next(iter(self._failed_ms))]

    def field_empty(self, *, now_ms: int) -> None:
        """The reader saw that no card is there."""
        self._gone_ms = now_ms


class Prover:
    """Asks the cards of one reader. One card at a time: `dialogue`, run it, `concluded`."""

    def __init__(self, book: CardBook | None, *, random_bytes: RandomBytes) -> None:
        self._book: CardBook = NoBook() if book is None else book
        self._random_bytes = random_bytes
        self._attempts = Attempts()
        self._name = b""

    def dialogue(
        self, *, now_ms: int, shown: bytes | None = None, native: bool = False
    ) -> Dialogue:
        """The whole conversation with the card in the field.

        `shown` is the UID of the anticollision where the transport knows it; else it is asked for
        by the PC/SC pseudo-APDU. `native` says that commands go to the card as bare frames.
        """
        self._name = b""
        uid: bytes | Failure = shown if shown is not None else (yield from shown_uid())
        if isinstance(uid, Failure):
            return uid
        hidden = is_random_uid(uid, UidKind.ISO14443)
        self._name = STRANGER if hidden else uid
        if not self._attempts.may_try(self._name, now_ms=now_ms):
            return Failure.HELD_BACK
        candidates = [
            profile
            for profile in self._book.candidates(uid)
            if profile.native is native and (profile.reveals_uid or not hidden)
        ]
        if not candidates:
            return Failure.RANDOM_UID if hidden else Evidence(uid=uid, tier=Tier.UID)
        outcome = yield from self._ask(uid, candidates)
        if hidden:
            return Failure.RANDOM_UID if outcome is Failure.UNKNOWN_FAMILY else outcome
        return _as_number(uid, outcome)

    def concluded(self, outcome: Evidence | Failure, *, now_ms: int) -> None:
        """What came of the dialogue, and when."""
        failure = outcome.failure if isinstance(outcome, Evidence) else outcome
        if self._name and failure in DISPROVED:
            self._attempts.failed(self._name, now_ms=now_ms)

    def field_empty(self, *, now_ms: int) -> None:
        self._attempts.field_empty(now_ms=now_ms)

    def _ask(self, shown: bytes, candidates: Sequence[CardProfile]) -> Dialogue:
        """The first profile that knows the card decides; the others are of other families."""
        outcome: Evidence | Failure = Failure.UNKNOWN_FAMILY
        for profile in candidates:
            outcome = yield from profile.dialogue(
                shown,
                key_of=partial(self._book.key_of, profile.profile_id),
                random_bytes=self._random_bytes,
            )
            if outcome is not Failure.UNKNOWN_FAMILY:
                break
        return outcome


def _as_number(uid: bytes, outcome: Evidence | Failure) -> Evidence | Failure:
    """What the same outcome is worth of a card whose real UID is plain to see."""
    if isinstance(outcome, Evidence):
        if outcome.uid == uid:
            return outcome
        return Evidence(uid=uid, tier=Tier.NUMBER, failure=Failure.WRONG_KEY)  # Another's message.
    if outcome in NUMBER_ONLY:
        return Evidence(uid=uid, tier=Tier.UID, failure=outcome)
    if outcome in DISPROVED:
        return Evidence(uid=uid, tier=Tier.NUMBER, failure=outcome)
    return outcome


class Activated(Protocol):
    """One card that a reader with a raw channel has activated."""

    uid: bytes
    sak: int

    def transceive(self, command: bytes) -> bytes | Failure: ...


def ask_activated(
    prover: Prover, card: Activated, *, now_ms: Callable[[], int]
) -> Evidence | Failure:
    """Ask a card whose reader reports it anew only after it was away for `REPEAT_MS_MAX`.

    A native card refuses with four bits or with silence. After the second pass of an
    authentication both count as a wrong key: a card torn away just then has to be shown again,
    which is better than a card that counts wrong keys being asked ten times a second.
    """
    native = not card.sak & SAK_ISO_DEP

    def transmit(command: bytes) -> bytes | Failure:
        answer = card.transceive(command)
        refused = answer is Failure.BAD_ANSWER
        silent = answer is Failure.LEFT_FIELD and command[0] == MORE
        return NAK if native and (refused or silent) else answer

    began_ms = now_ms()
    prover.field_empty(now_ms=began_ms - AWAY_MS_MIN)
    dialogue = prover.dialogue(now_ms=began_ms, shown=card.uid, native=native)
    outcome = run(dialogue, transmit=transmit, now_ms=now_ms)
    prover.concluded(outcome, now_ms=now_ms())
    return outcome
