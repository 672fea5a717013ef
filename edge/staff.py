"""Sign-in of officers, cashiers and supervisors at this station: own card, own PIN, no network.

The shell of `edge/signing_in.py`: it looks cards up, has PINs checked by a worker (`edge/pin.py`),
and writes every sign-in, sign-out and wrong PIN down before it counts. While a dialogue waits for a
card, a card of staff that is shown at any reader of the station is the dialogue's; every other card
goes its usual way, so nobody in the lane waits for somebody at the screen.

A restart signs everybody out. Who acts is never said by a request: whoever carries one out asks
`officer`, `cashier` or `supervise`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from edge import logs, signing_in
from edge.messages import SignInFact
from edge.model import (
    CacheView,
    CorruptData,
    DeviceFault,
    Moment,
    Presentation,
    StaffRole,
    Station,
    SupervisedAct,
)
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from edge.offline_cache.staff_rows import StaffMember, staff_member
from edge.offline_cache.wrong_pins import wrong_pins
from edge.pin import PinDesk, is_pin
from edge.readers.reader import CardRead
from edge.signing_in import NOTICE_TEXTS, Notice, Record, StaffState, Step, WrongPins
from edge.trust import ScopeKeys, unseal_column

COLUMN_PIN: Final = "pin"
COLUMN_NAME: Final = "name"
ANY_ZONE: Final = ""  # A card's zones are no matter here: who may sign in stands in its staff row.


def roles_at(station: Station) -> tuple[StaffRole, ...]:
    """Who may sign in where."""
    if station is Station.TILL:
        return StaffRole.CASHIER, StaffRole.SUPERVISOR
    return StaffRole.OFFICER, StaffRole.SUPERVISOR


class Staff:
    """Of one station. Used in the agent's thread alone."""

    def __init__(
        self,
        cache: Cache,
        journal: Journal,
        counters: CardCounters,
        *,
        station: Station,
        desk: PinDesk,
        keys: Callable[[], ScopeKeys | None],
        count: Callable[[str], None],
    ) -> None:
        self.roles = roles_at(station)
        self._cache = cache
        self._journal = journal
        self._counters = counters
        self._desk = desk
        self._keys = keys
        self._count = count
        self._state = StaffState()
        self._phc = ""  # Of the card that was shown; needed once, for the question.
        self._names: dict[str, str] = {}  # Of those in the state, for the screen.
        self._unwritten: dict[str, WrongPins] = {}  # While the disk refuses.
        self._log = logs.get("staff")

    # --------------------------------------------------------------------- who acts

    def officer(self, moment: Moment) -> str:
        """The officer who is signed in and not idle, or ""."""
        return self._state.who(StaffRole.OFFICER, now_ms=moment.mono_ms)

    def cashier(self, moment: Moment) -> str:
        """The cashier who is signed in and not idle, or ""."""
        return self._state.who(StaffRole.CASHIER, now_ms=moment.mono_ms)

    def supervise(self, moment: Moment, act: SupervisedAct) -> str:
        """A supervisor who has just proved card and PIN for this act, or "". Used up by it."""
        self._state, supervisor = self._state.supervised(act, now_ms=moment.mono_ms)
        return supervisor

    def touch(self, moment: Moment) -> None:
        """Somebody pressed something at the screen."""
        self._state = self._state.touch(now_ms=moment.mono_ms)

    # ------------------------------------------------------------------ the dialogue

    def start(self, role: StaffRole, moment: Moment, act: SupervisedAct | None = None) -> str:
        """Ask for a card, a supervisor's for `act`. "" or why not."""
        if role not in self.roles:
            return f"nobody signs in as {role} at this station"
        self._phc = ""
        self._state = self._state.start(role, now_ms=moment.mono_ms, act=act)
        return ""

    def cancel(self) -> None:
        self._phc = ""
        self._state = self._state.cancel()

    def take_tap(
        self, credential_id: str, read: CardRead, moment: Moment, view: CacheView | None = None
    ) -> bool:
        """Whether this card was meant for the dialogue: then nothing else is done with it."""
        talk = self._state.dialogue
        if talk is None or talk.step is not Step.CARD or not credential_id:
            return False
        try:
            if view is None:
                view = self._cache.access_view(credential_id, ANY_ZONE, moment)
            holder = view.cardholder
            member = None if holder is None else staff_member(self._cache, holder.cardholder_id)
        except (CorruptData, DeviceFault) as problem:
            self._count("lookup_failed")
            self._log.error("cannot read the list of staff", reason=str(problem))
            return False
        if member is None or holder is None or view.credential is None:
            self._say(Notice.NOT_STAFF, moment)
            return False
        counter = None if read.evidence is None else read.evidence.counter
        presentation = Presentation(
            credential_id=credential_id,
            age_ms=max(0, moment.mono_ms - read.at_ms),
            tier=read.tier,
            replayed=counter is not None and self._counters.is_replayed(credential_id, counter),
            ambiguous=read.is_ambiguous,
        )
        wrong = signing_in.card_problem(
            presentation,
            view.credential,
            moment,
            here=holder.here and not holder.suspended,
            hot=view.hot_listed,
        )
        if wrong is None:
            wrong = self._member_problem(member, talk.role, moment)
        if wrong is not None:
            self._count(f"sign_in_{wrong}")
            self._say(wrong, moment)
            return True
        self._names[member.cardholder_id] = self._unsealed(
            member.sealed_name, member.cardholder_id, COLUMN_NAME
        )
        self._state = self._state.card(member.cardholder_id, credential_id, now_ms=moment.mono_ms)
        return True

    def pin(self, pin: object, moment: Moment) -> str:
        """Have a PIN checked. "" or why it was not even asked."""
        talk = self._state.dialogue
        if talk is None or talk.step is not Step.PIN:
            return "no PIN is asked for now; show a card first"
        if not isinstance(pin, str) or not is_pin(pin):
            self._say(Notice.NOT_A_PIN, moment)
            return "a PIN has 4 to 8 digits"
        asking = self._state.checking()
        assert asking.dialogue is not None
        if not self._desk.ask(asking.dialogue.number, pin, self._phc):
            return "another PIN is being checked; try again"
        self._state = asking
        return ""

    def sign_out(self, role: StaffRole, moment: Moment) -> None:
        state, records = self._state.sign_out(role)
        self._write(records, moment)  # A disk that refuses keeps nobody signed in.
        self._state = state

    def step(self, moment: Moment) -> None:
        """Answers of the worker, and time."""
        for answer in self._desk.poll():
            talk = self._state.dialogue
            if talk is not None and talk.step is Step.CHECKING and talk.number == answer.number:
                self._answered(answer.ok, talk.cardholder_id, moment)
        state, records = self._state.step(now_ms=moment.mono_ms)
        self._write(records, moment)
        self._state = state

    def close(self) -> None:
        self._desk.close()

    # -------------------------------------------------------------------- for screens

    def screen(self, moment: Moment) -> dict[str, Any]:
        """Who is signed in, and what the dialogue asks for. With names: for this screen alone."""
        now_ms, state = moment.mono_ms, self._state
        shown: dict[str, Any] = {
            role.value: self._person(state.who(role, now_ms=now_ms))
            for role in self.roles
            if role in signing_in.IDLE_MS_MAX
        }
        shown["proved"] = "" if state.proved is None else state.proved.act
        ru, en = ("", "") if state.notice is None else NOTICE_TEXTS[state.notice]
        shown["notice"] = {"key": "" if state.notice is None else state.notice, "ru": ru, "en": en}
        talk = state.dialogue
        if talk is None:
            shown["dialogue"] = None
            return shown
        shown["dialogue"] = {
            "role": talk.role,
            "step": talk.step,
            "person": self._person(talk.cardholder_id),
            "seconds": max(0, talk.until_ms - now_ms) // 1000,
        }
        return shown

    # ------------------------------------------------------------------------- helpers

    def _member_problem(
        self, member: StaffMember, role: StaffRole, moment: Moment
    ) -> Notice | None:
        if role not in member.roles:
            return Notice.NO_ROLE
        try:
            wrong = self._wrong(member.cardholder_id)
        except (CorruptData, DeviceFault) as problem:
            self._log.error("cannot read how many PINs were wrong", reason=str(problem))
            return Notice.NOT_RECORDED
        if signing_in.locked_for_ms(wrong, moment):
            return Notice.LOCKED
        self._phc = self._unsealed(member.sealed_pin, member.cardholder_id, COLUMN_PIN)
        return None if self._phc else Notice.NO_PIN

    def _answered(self, ok: bool | None, cardholder_id: str, moment: Moment) -> None:
        now_ms, before = moment.mono_ms, self._state
        if ok is None:
            self._count("sign_in_no_pin")
            self._state = before.give_up(Notice.NO_PIN, now_ms=now_ms)
            return
        try:
            wrong = self._wrong(cardholder_id)
        except (CorruptData, DeviceFault):
            self._state = before.give_up(Notice.NOT_RECORDED, now_ms=now_ms)
            return
        if not ok:
            state, records = before.wrong(wrong.count, now_ms=now_ms)
            self._count("sign_in_wrong_pin")
            if not self._write(records, moment):
                self._unwritten[cardholder_id] = WrongPins(
                    count=wrong.count + 1, boot=moment.boot, mono_ms=now_ms
                )
            self._state = state
            return
        state, records = before.right(now_ms=now_ms)
        talk = before.dialogue
        assert talk is not None
        written = self._write(records, moment)
        if not written and talk.role is not StaffRole.OFFICER:
            # Nothing can be sold now anyway; but a lane is in need of its officer.
            self._state = before.give_up(Notice.NOT_RECORDED, now_ms=now_ms)
            return
        self._unwritten.pop(cardholder_id, None)
        self._count("sign_in_in")
        self._state = state

    def _wrong(self, cardholder_id: str) -> WrongPins:
        unwritten = self._unwritten.get(cardholder_id)
        count, boot, mono_ms = wrong_pins(self._journal.writer.db, cardholder_id)
        if unwritten is not None and unwritten.count > count:
            return unwritten
        return WrongPins(count=count, boot=boot, mono_ms=mono_ms)

    def _write(self, records: Sequence[Record], moment: Moment) -> bool:
        """Facts of what happened; False when the disk refuses."""
        if not records:
            return True
        try:
            with self._journal.record(moment) as recording:
                self._counters.write(recording.db)
                for record in records:
                    recording.add(
                        SignInFact(
                            **recording.stamp(moment),
                            cardholder=record.cardholder_id,
                            role=record.role,
                            what=record.what,
                            credential=record.credential_id,
                        )
                    )
        except (DeviceFault, CorruptData) as problem:
            self._count("unrecorded_sign_in")
            self._log.error("cannot record who signs in", reason=str(problem))
            return False
        self._counters.written()
        return True

    def _say(self, notice: Notice, moment: Moment) -> None:
        self._state = self._state.say(notice, now_ms=moment.mono_ms)

    def _unsealed(self, sealed: bytes, cardholder_id: str, column: str) -> str:
        """A column of a person's row; "" when it cannot be opened here."""
        keys = self._keys()
        if keys is None:
            return ""
        try:
            return unseal_column(
                keys.seal, sealed, scope=keys.scope, row_key=cardholder_id.encode(), column=column
            )
        except CorruptData as problem:
            self._count("unsealing_failed")
            self._log.error("a column of staff does not open", reason=str(problem))
            return ""

    def _person(self, cardholder_id: str) -> dict[str, str] | None:
        if not cardholder_id:
            return None
        return {"cardholder": cardholder_id, "name": self._names.get(cardholder_id, "")}
