"""The composition root and shell of process 1: the life of a tap, in order, and no rule of its own.

    readers.*                bytes arrive, a CardRead waits in a queue
    looking, trust           -> credential id; the UID ends here
    offline_cache.lookup     -> CacheView: base plus tail
    turnstile.decision       -> AccessDecision
    offline_cache.record     the decision is a fact on disk, committed
    turnstile.passage        granted -> taken | not taken
    turnstile.relay          one bounded pulse
    control.ring             sync may look; the tap is over, nothing above needed a network

A sale is the same list with `pos.till` and `pos.decision` and no relay (`edge/counter.py`).

`step(moment)` does everything that waits, in one thread: the only one that touches the journal.
What waits is put into bounded queues by the readers', lines' and socket's threads, which call
`wake`. Nothing here blocks but the commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge import logs
from edge.admissions import Admissions
from edge.clock import Clock
from edge.counter import Counter
from edge.desk import Desk
from edge.handover import Handovers
from edge.keeper import Keeper
from edge.keyring import Keyring
from edge.lanes import Lanes, end_grants
from edge.looking import Looking
from edge.model import CorruptData, DeviceFault, Moment, SetupProblem, Station
from edge.names import Names
from edge.offline_cache import lane_standing, standing
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.lookup import Cache
from edge.offline_cache.opened import MUSEUM
from edge.offline_cache.record import Journal
from edge.order_rules import Here
from edge.orders import Orders
from edge.pin import PinChecker, PinDesk
from edge.pos.till import Phase
from edge.readers.reader import CardRead, LinkDown, LinkUp, Reader, ReadFailed, Signal
from edge.settings import DeviceSettings
from edge.staff import Staff
from edge.till_desk import TillDesk
from edge.till_devices import Codes, Prints, TillDevices
from edge.trust import KeyStore, ScopeKeys
from edge.turnstile.lines import Lines
from edge.turnstile.officer import Light

LOOK_MS = 1_000  # house.md: a look every second covers a lost doorbell.
IDENTIFY_MS = 3_000  # Our choice: long enough to walk along a row of gates.
IDENTIFY_EVERY_MS = 600  # Our choice: two short beeps and a pause, so that an ear can follow it.
ANSWER_STANDS_MS = 2_000  # A person's own answer goes before; as long as an OSDP lamp shows it.
TAPS_KEPT = 512  # Our choice: a morning at one lane; enough for a hundredth part.
LIGHT_SIGNALS = {
    Light.GREEN: Signal.GRANTED,
    Light.RED: Signal.REFUSED,
    Light.AMBER: Signal.ASK,
    Light.BLUE: Signal.DOWN,
    Light.GREY: Signal.DOWN,
}


@dataclass(slots=True)
class ReaderState:
    """What is known of one reader, for status and screens."""

    reader: Reader
    access_point_id: str
    up: bool = False
    reason: str = "not yet opened"
    answered_ms: int | None = None  # When it last showed a person's answer.


@dataclass(slots=True)
class Parts:
    """All that the agent is put together from; tests bring their own."""

    settings: DeviceSettings
    clock: Clock
    journal: Journal
    cache: Cache
    keys: KeyStore
    readers: Mapping[str, tuple[Reader, str]]  # reader id -> (reader, access point id)
    lines: Lines | None  # None where the station drives no lane.
    ring_sync: Callable[[], None]
    move_line: Callable[[str, bool], None] | None = None  # Virtual inputs only.
    keyring: Keyring | None = None  # What readers may ask of cards; None: numbers alone.
    resets: Lines | None = None  # Of readers; None: no reset line is wired.
    pins: PinDesk | None = None  # Who checks the PINs of staff; None: a worker of our own.
    printer: Prints | None = None  # Beside a till.
    scanner: Codes | None = None
    wake: Callable[[], None] = lambda: None  # After what waits was put in a queue.


class Agent:
    """One station. Call `step` when woken, and at least when `due_ms` says."""

    def __init__(self, parts: Parts, moment: Moment) -> None:
        self.parts = parts
        self.started_ms = moment.mono_ms
        self.readers = {
            name: ReaderState(reader, point) for name, (reader, point) in parts.readers.items()
        }
        self.counters: dict[str, int] = {}
        self.till: Counter | None = None
        self.till_desk: TillDesk | None = None
        self.till_devices: TillDevices | None = None
        self.desk: Desk | None = None
        self.admissions: Admissions | None = None
        self.lockdown = standing.lockdown(parts.journal.writer.db)
        self.stopping = False  # By order: the process is to end, and be started again.
        self._level = logs.LevelKeeper(parts.settings.log_level)
        self._identify_until_ms: int | None = None
        self._identify_due_ms: int | None = None  # None: nobody wants to know.
        self.taps_ms: deque[int] = deque(maxlen=TAPS_KEPT)  # How long each took, read to answer.
        self._log = logs.get("agent")
        self._looked_ms: int | None = None
        self._rung_at = 0
        self._reads_before = 0
        self.looking = self._looker()
        alive_ms = lane_standing.last_recorded_ms(parts.journal.writer.db)  # Before our first fact.
        self.keeper = Keeper(
            parts.journal, parts.cache, station=parts.settings.station, count=self.count
        )
        self.keeper.look(moment, None)  # An old copy is noticed before its next fact.
        card_counters = CardCounters(parts.journal.writer.db)
        names = Names(lambda: self.keys_of(parts.cache.scopes["people"]), self.count)
        self.staff = Staff(
            parts.cache,
            parts.journal,
            card_counters,
            station=parts.settings.station,
            desk=parts.pins or PinChecker(parts.wake),
            keys=lambda: self.keys_of(parts.cache.scopes["people"]),
            count=self.count,
        )
        if parts.settings.station is Station.TILL:
            self._open_till(card_counters, names, moment)
        self.lanes = Lanes(
            parts.settings.lanes,
            lines=parts.lines,
            cache=parts.cache,
            journal=parts.journal,
            counters=card_counters,
            count=self.count,
            moment=moment,
            lockdown=self.lockdown,
            alive_ms=alive_ms,
            button_resets=parts.settings.station is Station.ADMISSION,
        )
        self.gates = self.lanes.gates
        self.orders = Orders(
            parts.cache,
            parts.journal,
            self.gates,
            here=self._here(),
            actions=self,
            count=self.count,
        )
        if parts.settings.station is Station.ADMISSION:
            self._open_admissions(card_counters)
        elif self.gates:
            self._open_desk(names)
        self.orders.close_unacted(moment)
        end_grants(parts.journal, self.gates, moment)

    # ------------------------------------------------------------- what a station is made of

    def _looker(self) -> Looking:
        parts = self.parts
        return Looking(
            cache=parts.cache,
            journal=parts.journal,
            clock=parts.clock,
            key_store=parts.keys,
            keyring=parts.keyring,
            level=self._level,
            ring_sync=parts.ring_sync,
            has_lanes=bool(parts.settings.lanes),
            sells=parts.settings.station is Station.TILL,
            count=self.count,
        )

    def _here(self) -> Here:
        """What orders can be about at this station."""
        return Here(
            access_points={name: gate.point.direction for name, gate in self.gates.items()},
            readers=len(self.readers),
            scopes=frozenset(self.parts.cache.scopes.values()),
        )

    def _open_till(self, card_counters: CardCounters, names: Names, moment: Moment) -> None:
        parts = self.parts
        self.till = Counter(parts.cache, parts.journal, card_counters, self.count, parts.clock.zone)
        self.till.staff = self.staff
        self.till.standing.ready(moment)
        self.till_desk = TillDesk(self.till, names, self.count)
        self.looking.others += [self.till.look, self.till_desk.look]
        self.till_devices = TillDevices(
            self.till, self.till_desk, parts.settings, printer=parts.printer, scanner=parts.scanner
        )

    def _open_admissions(self, card_counters: CardCounters) -> None:
        self.admissions = Admissions(
            self.parts.cache,
            self.parts.journal,
            card_counters,
            self.gates,
            readers={name: point for name, (_, point) in self.parts.readers.items()},
            count=self.count,
        )

    def _open_desk(self, names: Names) -> None:
        """The officer's, and at a pre-school the guardians' too."""
        parts, handovers = self.parts, None
        if parts.settings.station is Station.PRESCHOOL:
            handovers = Handovers(parts.cache, parts.journal, names=names, count=self.count)
        self.desk = Desk(
            parts.cache,
            parts.journal,
            self.gates,
            names=names,
            locks=self,
            handovers=handovers,
            count=self.count,
        )
        for gate in self.gates.values():
            gate.desk = self.desk

    # ------------------------------------------------------------------------ one step

    def step(self, moment: Moment, *, rung: bool = False) -> None:
        """Everything that waits: bodies before taps, taps before orders, then time itself."""
        if rung or self._looked_ms is None or moment.mono_ms - self._looked_ms >= LOOK_MS:
            self._look(moment)
        self.lanes.take_lines(moment)
        for name, state in self.readers.items():
            self._take_reads(name, state, moment)
        self.orders.take(moment)
        self.lanes.step(moment)
        if self.desk is not None:
            self.desk.step(moment)
        if self.admissions is not None:
            self.admissions.step(moment)
        if self.till is not None:
            self._step_till(self.till, moment)
        if self.till_devices is not None:
            self.till_devices.step(moment)
        self.staff.step(moment)
        self._go_on_identifying(moment.mono_ms)
        busy = self._busy()
        self.keeper.step(moment, busy=busy)
        self.stopping = self.stopping or (self.keeper.wants_restart and not busy)
        if self.parts.journal.head != self._rung_at:
            self._rung_at = self.parts.journal.head
            self.parts.ring_sync()

    def _step_till(self, till: Counter, moment: Moment) -> None:
        """A basket that waited for the other tills is answered at the reader too."""
        waited = till.busy
        till.step(moment)
        if waited and not till.busy:
            for name, state in self.readers.items():
                state.reader.signal(self._signal_for(name, state))
                state.answered_ms = moment.mono_ms

    def due_ms(self) -> int | None:
        """When `step` is needed at the latest though nothing arrives."""
        due = [] if (lanes_ms := self.lanes.due_ms()) is None else [lanes_ms]
        if self._identify_due_ms is not None:
            due.append(self._identify_due_ms)
        if self.desk is not None and (desk_ms := self.desk.due_ms()) is not None:
            due.append(desk_ms)
        if self.till is not None and (held_ms := self.till.due_ms()) is not None:
            due.append(held_ms)
        if self._looked_ms is not None:
            due.append(self._looked_ms + LOOK_MS)
        return min(due, default=None)

    def count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    def identify(self) -> None:
        """Show at every reader which device this is, for `IDENTIFY_MS` from the next step on."""
        self._identify_until_ms, self._identify_due_ms = None, 0

    def _go_on_identifying(self, now_ms: int) -> None:
        if self._identify_due_ms is None or now_ms < self._identify_due_ms:
            return
        if self._identify_until_ms is None:
            self._identify_until_ms = now_ms + IDENTIFY_MS
        if now_ms >= self._identify_until_ms:
            self._identify_due_ms = None
            return
        self._identify_due_ms = now_ms + IDENTIFY_EVERY_MS
        for state in self.readers.values():
            if state.answered_ms is None or now_ms - state.answered_ms >= ANSWER_STANDS_MS:
                state.reader.signal(Signal.ASK)

    def lock_down(self, on: bool, moment: Moment) -> None:
        """By order, and on disk already: nobody comes in, or everybody may again."""
        self.lockdown = on
        self._log.warning("lockdown" if on else "lockdown lifted")
        for gate in self.gates.values():
            gate.lock_down(on, moment)

    def restart(self) -> None:
        """By order: end in order; whoever started this process starts it again."""
        self._log.warning("restart by order")
        self.stopping = True

    def set_log_level(self, level: str, minutes: int, moment: Moment) -> None:
        """By order: for so many minutes, or until the next start (0)."""
        self._level.order(level, minutes, moment.mono_ms)

    def move(self, line_id: str, active: bool) -> None:
        """Move a virtual input; `SetupProblem` on real lines, which only their wires move."""
        if self.parts.move_line is None:
            raise SetupProblem(f"{line_id}: a real line; only what is wired to it moves it")
        self.parts.move_line(line_id, active)

    def keys_of(self, scope: str) -> ScopeKeys | None:
        return self.looking.keys.get(scope)

    def _busy(self) -> bool:
        """Somebody is at a reader, in the lane, or about to pay."""
        reads, self._reads_before = self._reads_before, self.counters.get("reads", 0)
        if reads != self._reads_before or any(gate.relay_active for gate in self.gates.values()):
            return True
        return self.till is not None and self.till.state.phase is not Phase.OPEN

    # ------------------------------------------------------------------------- a tap

    def _take_reads(self, name: str, state: ReaderState, moment: Moment) -> None:
        for event in state.reader.poll():
            match event:
                case CardRead():
                    shown = self.parts.clock.moment()
                    for_staff = self.take_read(event, state.access_point_id, shown)
                    self.taps_ms.append(self.parts.clock.mono_ms() - shown.mono_ms)
                    state.reader.signal(Signal.ASK if for_staff else self._signal_for(name, state))
                    state.answered_ms = moment.mono_ms
                case LinkUp():
                    state.up, state.reason = True, ""
                    self._log.info("reader up", reader=name)
                case LinkDown(reason=reason):
                    state.up, state.reason = False, reason
                    self._log.warning("reader down", reader=name, reason=reason)
                case ReadFailed(failure=failure):
                    self.count(f"read_failed_{failure}")
                    gate = self.gates.get(state.access_point_id)
                    if self.till is not None:
                        self.till.show_failed_read(failure, moment)
                    elif self.admissions is not None:
                        self.admissions.show_failed_read(name, failure, moment)
                    elif gate is not None:
                        gate.show_failed_read(failure, moment)
                    state.reader.signal(self._signal_for(name, state))
                    state.answered_ms = moment.mono_ms

    def take_read(self, read: CardRead, access_point_id: str, moment: Moment) -> bool:
        """One card, to the gate or the till it was shown at; True: somebody signs in with it."""
        self.count("reads")
        if read.evidence is not None and read.evidence.failure is not None:
            self.count(f"not_proven_{read.evidence.failure}")
        if self.admissions is not None:
            self._admit(self.admissions, read, moment)
            return False
        people = self.parts.cache.scopes["people"]
        identifier, _ = self.looking.identify(read, people)
        keys = self.keys_of(people)
        if self.staff.take_tap(identifier, read, moment):
            return True
        if self.till is not None:
            self.till.tap(identifier, read, moment, keys)
        elif access_point_id in self.gates:
            self.gates[access_point_id].tap(identifier, read, moment, keys)
        return False

    def _admit(self, admissions: Admissions, read: CardRead, moment: Moment) -> None:
        """A card at a museum has another name: under the key of the list of all the city."""
        identifier, version = self.looking.identify(read, self.parts.cache.scopes[MUSEUM])
        admissions.tap(identifier, version, read, moment)

    def _signal_for(self, reader_id: str, state: ReaderState) -> Signal:
        """What the reader's own lamp says: the same as the screen beside it."""
        if self.till is not None and self.till.busy:
            return Signal.ASK
        if self.till is not None:
            return Signal.GRANTED if self.till.view().colour == "green" else Signal.REFUSED
        if self.admissions is not None:
            return LIGHT_SIGNALS[self.admissions.light(reader_id)]
        gate = self.gates.get(state.access_point_id)
        return Signal.DOWN if gate is None else LIGHT_SIGNALS[gate.shown.light]

    # -------------------------------------------------------------- once a second, and the end

    def _look(self, moment: Moment) -> None:
        """Once a second, and when rung."""
        self._looked_ms = moment.mono_ms
        self.looking.look(moment)
        for gate in self.gates.values():
            gate.alone = self.looking.alone
            gate.reader_up = any(
                state.up
                for state in self.readers.values()
                if state.access_point_id == gate.point.access_point_id
            )
        if self.desk is not None:
            self.desk.hear(self.looking.alone, moment)
        self.keeper.look(moment, self._part_states())

    def _part_states(self) -> dict[str, tuple[str, str]]:
        """What the city may want to know went or came back."""
        states = {
            f"reader {name}": ("up", "") if state.up else ("down", state.reason)
            for name, state in self.readers.items()
        }
        if self.till_devices is not None:
            states |= self.till_devices.states()
        return states | self.lanes.part_states()

    def close(self) -> None:
        """Let go of readers, lines and files; lines first, they hold a gate."""
        moment = self.parts.clock.moment()
        self.lanes.close(moment)
        try:
            end_grants(self.parts.journal, self.gates, moment)
        except (DeviceFault, CorruptData) as problem:
            self._log.error("open grants stay without an end", reason=str(problem))
        self.staff.close()
        if self.till is not None:
            self.till.standing.lit(ending=True)
        if self.till_devices is not None:
            self.till_devices.close()
        for reader, _ in self.parts.readers.values():
            reader.close()
        if self.parts.keyring is not None:
            self.parts.keyring.close()
        self.parts.cache.close()
        self.parts.journal.close()
        if self.parts.resets is not None:
            self.parts.resets.close()
