"""Who is signed in at this station, and the dialogue by which they do: own card, own PIN. Pure.

One dialogue at a time: card -> PIN -> checking -> signed in. Each role has one person at most; a
supervisor is never signed in, a proved card and PIN are good for one action. The shell
(`edge/staff.py`) brings cards, checked PINs and time, and writes the records down before the state
that rests on them is taken on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from edge.messages import SignIn
from edge.model import Credential, Moment, Presentation, StaffRole, SupervisedAct

PRESENTATION_AGE_MS_MAX: Final = 2_000  # As edge/turnstile/decision.py: an older read is stale.
CARD_WAIT_MS: Final = 30_000  # Our choice: a card is sought in a bag; then the lane is the lane's.
PIN_WAIT_MS: Final = 60_000  # Our choice: eight digits on a touch screen, twice.
NOTICE_MS: Final = 8_000  # Our choice: one sentence is read, and read again.
SUPERVISED_MS_MAX: Final = 60_000  # Our choice: from the PIN to the one press it was given for.
CASHIER_IDLE_MS_MAX: Final = 15 * 60_000  # PCI DSS 8.2.8: asked anew after 15 idle minutes.
# Our choice: a shift. An officer touches the screen seldom and must be able to open at once when it
# matters, so the officer stays signed in for the day, and signs out (or the next one signs in).
OFFICER_IDLE_MS_MAX: Final = 8 * 60 * 60_000
WRONG_MAX: Final = 5  # Our choice: two slips and two guesses of one's own, then it is a stranger.
LOCK_MS: Final = 60_000  # Our choice: the first lock; each further wrong PIN doubles it,
LOCK_MS_MAX: Final = 60 * 60_000  # to an hour: 10,000 PINs would take more than a year.

IDLE_MS_MAX: Final[Mapping[StaffRole, int]] = MappingProxyType(
    {StaffRole.OFFICER: OFFICER_IDLE_MS_MAX, StaffRole.CASHIER: CASHIER_IDLE_MS_MAX}
)


@unique
class Step(StrEnum):
    CARD = "card"  # Show your card at this station's reader.
    PIN = "pin"
    CHECKING = "checking"


@unique
class Notice(StrEnum):
    """What the dialogue says, beside what it asks for."""

    NOT_STAFF = "not_staff"
    NO_ROLE = "no_role"
    NO_PIN = "no_pin"
    CARD_AGAIN = "card_again"
    CARD_REFUSED = "card_refused"
    WRONG_PIN = "wrong_pin"
    LOCKED = "locked"
    NOT_A_PIN = "not_a_pin"
    TIMED_OUT = "timed_out"
    NOT_RECORDED = "not_recorded"
    SIGNED_IN = "signed_in"
    PROVED = "proved"


NOTICE_TEXTS: Final[Mapping[Notice, tuple[str, str]]] = MappingProxyType(
    {
        Notice.NOT_STAFF: ("Это карта не сотрудника", "This is no card of the staff"),
        Notice.NO_ROLE: ("Этой карте такой вход не разрешён", "This card may not sign in so"),
        Notice.NO_PIN: (
            "ПИН не назначен: обратитесь к администратору школы",
            "No PIN is set: ask the school's administrator",
        ),
        Notice.CARD_AGAIN: ("Приложите карту ещё раз", "Show the card again"),
        Notice.CARD_REFUSED: (
            "Карта не действует: обратитесь к администратору школы",
            "The card is not valid: ask the school's administrator",
        ),
        Notice.WRONG_PIN: ("Неверный ПИН", "Wrong PIN"),
        Notice.LOCKED: (
            "Слишком много неверных ПИН: подождите",
            "Too many wrong PINs: please wait",
        ),
        Notice.NOT_A_PIN: ("ПИН: от 4 до 8 цифр", "A PIN has 4 to 8 digits"),
        Notice.TIMED_OUT: ("Время вышло: начните снова", "Time is up: begin again"),
        Notice.NOT_RECORDED: (
            "Устройство не может записать вход: сообщите технику",
            "The device cannot record it: tell the technician",
        ),
        Notice.SIGNED_IN: ("Вы вошли", "You are signed in"),
        Notice.PROVED: ("Подтверждено для одного действия", "Confirmed for one action"),
    }
)
assert set(NOTICE_TEXTS) == set(Notice)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongPins:
    """How often in a row, and when last: by the boot and its monotonic clock."""

    count: int = 0
    boot: str = ""
    mono_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing to be written down."""

    cardholder_id: str
    role: StaffRole
    what: SignIn
    credential_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    cardholder_id: str
    touched_ms: int
    act: SupervisedAct | None = None  # The only one that a supervisor has proved for.


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    role: StaffRole
    step: Step
    until_ms: int
    number: int  # Of the question to the PIN's worker: an answer to another one is none.
    cardholder_id: str = ""
    credential_id: str = ""
    act: SupervisedAct | None = None  # What a supervisor is asked for.


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffState:
    """All of it at one moment."""

    sessions: Mapping[StaffRole, Session] = field(default_factory=lambda: MappingProxyType({}))
    dialogue: Dialogue | None = None
    proved: Session | None = None  # A supervisor, for the one act that was named.
    notice: Notice | None = None
    notice_until_ms: int = 0
    number: int = 0

    # -------------------------------------------------------------------- the dialogue

    def start(
        self, role: StaffRole, *, now_ms: int, act: SupervisedAct | None = None
    ) -> StaffState:
        """Ask for a card, a supervisor's for one act. A dialogue that was open is over; what it
        asked is not answered."""
        assert (act is not None) is (role is StaffRole.SUPERVISOR)
        dialogue = Dialogue(
            role=role,
            step=Step.CARD,
            until_ms=now_ms + CARD_WAIT_MS,
            number=self.number + 1,
            act=act,
        )
        return replace(self, dialogue=dialogue, notice=None, number=self.number + 1)

    def cancel(self) -> StaffState:
        return replace(self, dialogue=None, notice=None)

    def card(self, cardholder_id: str, credential_id: str, *, now_ms: int) -> StaffState:
        """A card that may sign in so was shown: ask for its PIN."""
        assert self.dialogue is not None
        dialogue = replace(
            self.dialogue,
            step=Step.PIN,
            until_ms=now_ms + PIN_WAIT_MS,
            cardholder_id=cardholder_id,
            credential_id=credential_id,
        )
        return replace(self, dialogue=dialogue, notice=None)

    def say(self, notice: Notice, *, now_ms: int) -> StaffState:
        return replace(self, notice=notice, notice_until_ms=now_ms + NOTICE_MS)

    def checking(self) -> StaffState:
        assert self.dialogue is not None and self.dialogue.step is Step.PIN
        number = self.number + 1
        dialogue = replace(self.dialogue, step=Step.CHECKING, number=number)
        return replace(self, dialogue=dialogue, notice=None, number=number)

    def right(self, *, now_ms: int) -> tuple[StaffState, tuple[Record, ...]]:
        """The PIN is the card's: signed in, or proved for one action."""
        talk = self._checked()
        session = Session(cardholder_id=talk.cardholder_id, touched_ms=now_ms, act=talk.act)
        done = replace(self, dialogue=None)
        came = Record(
            cardholder_id=talk.cardholder_id,
            role=talk.role,
            what=SignIn.IN,
            credential_id=talk.credential_id,
        )
        if talk.role not in IDLE_MS_MAX:
            return replace(done, proved=session).say(Notice.PROVED, now_ms=now_ms), (came,)
        before = self.sessions.get(talk.role)
        went: tuple[Record, ...] = ()
        if before is not None and before.cardholder_id != talk.cardholder_id:
            went = (Record(cardholder_id=before.cardholder_id, role=talk.role, what=SignIn.OUT),)
        sessions = MappingProxyType({**self.sessions, talk.role: session})
        state = replace(done, sessions=sessions).say(Notice.SIGNED_IN, now_ms=now_ms)
        return state, (*went, came)

    def wrong(self, wrong_before: int, *, now_ms: int) -> tuple[StaffState, tuple[Record, ...]]:
        """Another PIN is asked for, until there were too many."""
        talk = self._checked()
        failed = Record(
            cardholder_id=talk.cardholder_id,
            role=talk.role,
            what=SignIn.WRONG_PIN,
            credential_id=talk.credential_id,
        )
        if wrong_before + 1 < WRONG_MAX:
            again = replace(talk, step=Step.PIN, until_ms=now_ms + PIN_WAIT_MS)
            return replace(self, dialogue=again).say(Notice.WRONG_PIN, now_ms=now_ms), (failed,)
        state = replace(self, dialogue=None).say(Notice.LOCKED, now_ms=now_ms)
        return state, (failed, replace(failed, what=SignIn.LOCKED))

    def give_up(self, notice: Notice, *, now_ms: int) -> StaffState:
        return replace(self, dialogue=None).say(notice, now_ms=now_ms)

    def _checked(self) -> Dialogue:
        assert self.dialogue is not None and self.dialogue.step is Step.CHECKING
        return self.dialogue

    # --------------------------------------------------------------- who is signed in

    def sign_out(self, role: StaffRole) -> tuple[StaffState, tuple[Record, ...]]:
        return self._end(role, SignIn.OUT)

    def touch(self, *, now_ms: int) -> StaffState:
        """Somebody uses the screen: nobody is idle."""
        sessions = {
            role: replace(session, touched_ms=now_ms) for role, session in self.sessions.items()
        }
        return replace(self, sessions=MappingProxyType(sessions))

    def who(self, role: StaffRole, *, now_ms: int) -> str:
        """The cardholder who is signed in and not idle, or ""."""
        session = self.sessions.get(role)
        if session is None or now_ms - session.touched_ms >= IDLE_MS_MAX[role]:
            return ""
        return session.cardholder_id

    def supervised(self, act: SupervisedAct, *, now_ms: int) -> tuple[StaffState, str]:
        """Whoever has just proved to be a supervisor, for this act; used up by asking."""
        proved = self.proved
        if proved is None or proved.act is not act:
            return self, ""
        fresh = now_ms - proved.touched_ms < SUPERVISED_MS_MAX
        return replace(self, proved=None), proved.cardholder_id if fresh else ""

    def step(self, *, now_ms: int) -> tuple[StaffState, tuple[Record, ...]]:
        """Time went by: notices, dialogues and idle people end."""
        state = self
        records: tuple[Record, ...] = ()
        if self.notice is not None and now_ms >= self.notice_until_ms:
            state = replace(state, notice=None)
        talk = self.dialogue
        if talk is not None and talk.step is not Step.CHECKING and now_ms >= talk.until_ms:
            state = state.give_up(Notice.TIMED_OUT, now_ms=now_ms)
        if self.proved is not None and now_ms - self.proved.touched_ms >= SUPERVISED_MS_MAX:
            state = replace(state, proved=None)
        for role in self.sessions:
            if not self.who(role, now_ms=now_ms):
                state, ended = state._end(role, SignIn.IDLE)
                records += ended
        return state, records

    def _end(self, role: StaffRole, what: SignIn) -> tuple[StaffState, tuple[Record, ...]]:
        session = self.sessions.get(role)
        if session is None:
            return self, ()
        left = {other: held for other, held in self.sessions.items() if other is not role}
        ended = Record(cardholder_id=session.cardholder_id, role=role, what=what)
        return replace(self, sessions=MappingProxyType(left)), (ended,)


def card_problem(
    presentation: Presentation, credential: Credential, moment: Moment, *, here: bool, hot: bool
) -> Notice | None:
    """Why this card of a member of staff signs nobody in. `here`: they may be at this site."""
    if presentation.age_ms > PRESENTATION_AGE_MS_MAX or presentation.replayed:
        return Notice.CARD_AGAIN
    if hot or not here or presentation.ambiguous or presentation.tier < credential.tier:
        return Notice.CARD_REFUSED
    utc_s = moment.wall_ms // 1000
    valid = credential.valid_from_utc_s <= utc_s < credential.valid_until_utc_s
    return None if valid or not moment.clock_trusted else Notice.CARD_REFUSED


def lock_ms(wrong: int) -> int:
    """How long after its last wrong PIN a person is locked out.

    >>> [lock_ms(wrong) // 60_000 for wrong in (4, 5, 6, 7, 20)]
    [0, 1, 2, 4, 60]
    """
    if wrong < WRONG_MAX:
        return 0
    doublings = min(wrong - WRONG_MAX, LOCK_MS_MAX.bit_length())
    return int(min(LOCK_MS << doublings, LOCK_MS_MAX))


def locked_for_ms(wrong: WrongPins, moment: Moment) -> int:
    """How long still. A restart of the machine ends no lock: the time before it does not count."""
    since_ms = moment.mono_ms - wrong.mono_ms if wrong.boot == moment.boot else moment.mono_ms
    return max(0, lock_ms(wrong.count) - max(0, since_ms))
