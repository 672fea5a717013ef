"""The shell around the school's own network: brokers, journal, store, and the kernel between them.

Nothing here touches the city's connection: own bridges, own back-off, a bound on how many messages
a second are looked at, and whatever goes wrong ends here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from edge import logs
from edge.clock import Clock
from edge.messages import MESSAGE_BYTES_MAX, Ack, PeerKind, encode_peer, peer_signing_input
from edge.model import CorruptData, DeviceFault, Moment, SetupProblem, Station
from edge.offline_cache import peer_own, peers
from edge.offline_cache.epochs import meta
from edge.offline_cache.peer_lists import Base, PeerLists, School
from edge.offline_cache.store import Connection, FileKind, Writer, open_reader
from edge.settings import DeviceSettings
from edge.trust import KeyStore, signed_by_device
from sync.bridge import Bridge
from sync.bridge_events import Message
from sync.hand_in import HandIn
from sync.parts import Parts
from sync.peer_answers import (
    PeerAnswer,
    PeerDevice,
    Publish,
    RefusedPeer,
    SendRange,
    StoreAnswer,
)
from sync.peer_brokers import Brokers, Sessions
from sync.peer_session import peer_session
from sync.peer_store import keep
from sync.peer_topics import parse_topic, subscriptions, topic_of, up_for
from sync.peers import Peers
from sync.session import Endpoint, Session, parse_endpoint

LOOK_MS: Final = 1_000  # house.md: a look every second covers a lost doorbell.
SWEEP_MS: Final = 60_000  # Our choice: what may be dropped goes within a minute of its time.
FAULT_MS: Final = 5_000  # Our choice: a disk that refused is tried again at this pace.
BROKERS_MAX: Final = 2  # protocol.md: the one the site settings name, and a named stand-by.
ROUNDS_MAX: Final = 16  # Our choice: batches that leave in one step; then the city has its turn.


class PeerLink:
    """One device's place in its school. `step` when woken and at `due_ms`; it raises nothing."""

    def __init__(
        self,
        settings: DeviceSettings,
        *,
        clock: Clock,
        writer: Writer,
        keys: KeyStore,
        random: Callable[[], float],
        ring_edge: Callable[[], None],
        wake: Callable[[], None],
        refused: Callable[[str, str, str], None],
        sessions: Sessions | None = None,
    ) -> None:
        self.settings = settings
        self._counts: dict[str, int] = {}
        self._clock = clock
        self._writer = writer
        self._keys = keys
        self._random = random
        self._ring_edge = ring_edge
        self._wake = wake
        self._refused = refused
        self._brokers = Brokers(
            topics=subscriptions(settings.site_id, settings.station),
            sessions=sessions or self._own_session,
            random=random,
            wake=wake,
        )
        self._lists = PeerLists(settings.folders.state, writer.db, site=settings.site_id)
        self._journal: Connection | None = None
        self._school: School | None = None
        self._base: Base | None = None
        self._hand_in = HandIn()
        self._looked_ms: int | None = None
        self._swept_ms = clock.mono_ms()
        self._hand_in_ms = 0
        self._rest_until_ms = 0
        self._due_ms = 0  # When something waits here by the clock.
        self._store = ""  # The one that reports are heard in.
        self._half_done = False  # The kernel may know of things that are not on disk.
        self._fault = ""
        self._log = logs.get("peers")
        self._peers = self._new_peers()

    @classmethod
    def of(cls, parts: Parts, *, refused: Callable[[str, str, str], None]) -> PeerLink:
        """As process 2 puts it together."""
        return cls(
            parts.settings,
            clock=parts.clock,
            writer=parts.writer,
            keys=parts.keys,
            random=parts.random,
            ring_edge=parts.ring_edge,
            wake=parts.bridge.wake,
            refused=refused,
        )

    # ------------------------------------------------------------------------ one step

    def step(self, *, rung: bool = False) -> None:
        """Everything that waits. Most steps are for the city's sake, and nothing waits here."""
        now_ms = self._clock.mono_ms()
        waits = rung or now_ms >= self._due_ms or self._brokers.has_news
        if not waits or now_ms < self._rest_until_ms:
            return
        moment = self._clock.moment()
        try:
            if self._half_done:
                for name, count in self._peers.counters.items():
                    self._counts[name] = self._counts.get(name, 0) + count
                self._peers, self._half_done = self._new_peers(), False
            looked = self._looked_ms
            if rung or looked is None or moment.mono_ms - looked >= LOOK_MS:
                self._look(moment)
            self._take_events(moment)
            self._carry_on(moment)
            self._fault = ""
        except (DeviceFault, CorruptData, SetupProblem) as fault:
            self._start_over(fault, moment)
        self._due_ms = self._next_ms(moment.mono_ms)

    def due_ms(self) -> int:
        """When `step` is needed at the latest though nothing arrives."""
        return max(self._rest_until_ms, self._due_ms)

    def _next_ms(self, now_ms: int) -> int:
        if self._looked_ms is None:
            return now_ms  # All is to begin anew.
        due = [self._looked_ms + LOOK_MS]
        connect_ms = self._brokers.due_ms()
        if connect_ms is not None:
            due.append(connect_ms)
        if self._brokers.ready:
            due.append(self._peers.due_ms(now_ms))
        return min(due)

    def status(self) -> dict[str, Any]:
        """For the technician: brokers, and who is heard."""
        now_ms = self._clock.mono_ms()
        return {
            "brokers": self._brokers.status(),
            "devices": {
                device: {
                    "station": station.value,
                    "heard": self._peers.heard(device, now_ms=now_ms),
                    "complete": self._peers.complete(device),
                }
                for device, station in self._peers.devices().items()
            },
        }

    def lacks_a_till(self) -> bool:
        """At a till: whether another till of the roster is not heard here in the school."""
        if self.settings.station is not Station.TILL:
            return False
        now_ms = self._clock.mono_ms()
        return any(
            station is Station.TILL and not self._peers.heard(device, now_ms=now_ms)
            for device, station in self._peers.devices().items()
        )

    @property
    def counters(self) -> dict[str, int]:
        """What happened since the start, refusals by kind and reason among it."""
        both = {**self._counts, **self._brokers.counters}
        for name, count in self._peers.counters.items():
            both[name] = both.get(name, 0) + count
        return {f"peer_{name}": count for name, count in both.items()}

    def stop(self) -> None:
        """Let go of brokers and files; the writer is the caller's."""
        self._brokers.close()
        self._lists.close()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # ------------------------------------------------------- for a neighbour that is silent

    def hand_in(self, city: Bridge, bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        """To be called while the city listens; its broker takes messages of `bytes_max`.
        `DeviceFault` when it takes nothing."""
        if self.settings.station is not Station.TILL or self._base is None:
            return
        now_ms = self._clock.mono_ms()
        if now_ms < self._hand_in_ms:
            return
        self._hand_in_ms = now_ms + LOOK_MS
        try:
            held = {(one.device, one.epoch): one.up_to for one in peers.held_lives(self._writer.db)}
            for device, epoch, after in self._hand_in.due(held, self._base.vector, now_ms=now_ms):
                batch = peers.signed_batch(self._writer.db, device, epoch, after)
                if batch is None or len(batch[0]) > bytes_max:
                    self._hand_in.cannot(device, epoch, now_ms=now_ms)
                    continue
                city.publish(up_for(self.settings.device_id, device), batch[0], qos=1)
                self._hand_in.sent(device, epoch, now_ms=now_ms)
                self._count("handed_in")
        except CorruptData as problem:
            self._log.error("cannot hand in for a neighbour", reason=str(problem))

    def handed_in(self, ack: Ack) -> bool:
        """The city's answer to that; False when it is none."""
        if ack.device == self.settings.device_id:
            return False
        self._hand_in_ms = 0  # The next one may follow at once.
        return self._hand_in.acknowledged(ack, now_ms=self._clock.mono_ms())

    # ------------------------------------------------------------------------- files

    def _look(self, moment: Moment) -> None:
        """Roster, brokers, base and own journal, as they are now."""
        self._looked_ms = moment.mono_ms
        school, base = self._lists.school(), self._lists.base()
        answers: list[PeerAnswer] = []
        if school is not self._school:
            self._school = school
            rows = school.roster.items()
            answers += self._peers.roster(
                {d: PeerDevice(station=row.station, public=row.public) for d, row in rows}
            )
            self._peers.held_bytes(peers.held_bytes(self._writer.db))
            self._use_brokers(school, moment)
        if base is not self._base:
            self._base = base
            answers += self._peers.base(base.version, base.vector)
        self._look_at_journal()
        if moment.mono_ms - self._swept_ms >= SWEEP_MS:
            self._swept_ms = moment.mono_ms
            self._sweep(moment)
        devices = self._peers.devices()
        heard = [d for d in devices if self._peers.heard(d, now_ms=moment.mono_ms)]
        self._hand_in.alive(devices, heard=heard, now_ms=moment.mono_ms)
        self._carry_out(answers, moment)

    def _look_at_journal(self) -> None:
        if self._journal is None:
            self._journal = open_reader(self.settings.journal_path, FileKind.JOURNAL)
        if self._journal is None:
            return
        store = meta(self._writer.db, "store_id")
        if self._store not in ("", store):
            self._forget_reports()  # What was heard in the store before counts for nothing.
        self._store = store
        report = peer_own.own_report(self._journal, store=store, station=self.settings.station)
        self._peers.mine(lives=report.lives, store=store, seen=report.seen)

    def _forget_reports(self) -> None:
        """Another store: what peers said is asked again, and connections begin anew for it."""
        self._brokers.close()
        self._school = self._base = self._looked_ms = None
        self._half_done = True
        self._count("new_stores")

    def _sweep(self, moment: Moment) -> None:
        base = Base() if self._base is None else self._base
        with self._writer.transaction() as db:
            held = peers.sweep(db, base.vector, moment)
        self._tell_held(self._peers, held)

    def _tell_held(self, kernel: Peers, held: list[peers.PeerHeld]) -> None:
        for one in held:
            kernel.held(
                device=one.device,
                epoch=one.epoch,
                after=one.after,
                up_to=one.up_to,
                digest=one.digest,
                side=one.side,
            )
        kernel.held_bytes(peers.held_bytes(self._writer.db))

    def _new_peers(self) -> Peers:
        kernel = Peers(
            device=self.settings.device_id,
            site=self.settings.site_id,
            station=self.settings.station,
            session=secrets.token_hex(8),
            verify=signed_by_device,
            nonce=lambda: secrets.token_hex(8),
        )
        self._tell_held(kernel, peers.held_lives(self._writer.db))
        return kernel

    def _start_over(self, fault: Exception, moment: Moment) -> None:
        """A step ended halfway: begin again from what is on disk, in a while."""
        if self._fault != str(fault):
            self._fault = str(fault)
            self._log.error("cannot hear the school now", reason=self._fault)
        self._count("start_overs")
        self._rest_until_ms = moment.mono_ms + FAULT_MS
        self._brokers.close()
        self._school = self._base = self._looked_ms = None
        self._half_done = True

    # ------------------------------------------------------------------------ brokers

    def _use_brokers(self, school: School, moment: Moment) -> None:
        """Connections to the brokers that the settings name, and to no others."""
        wanted: list[tuple[str, Endpoint]] = []
        me = school.roster.get(self.settings.device_id)
        for named in school.brokers[:BROKERS_MAX] if me is not None else ():
            try:
                endpoint = parse_endpoint(named.endpoint)
            except SetupProblem as problem:
                self._log.error("the settings name a broker that is none", reason=str(problem))
                self._refused("settings", self.settings.site_id, "peer_broker")
                continue
            wanted.append((named.device, endpoint))
        self._brokers.use(wanted, moment)

    def _own_session(self, broker_device: str, dated: bool) -> Session:
        utc_s = (lambda: self._clock.moment().wall_ms // 1000) if dated else None
        return peer_session(self.settings, broker_device, utc_s=utc_s)

    # ------------------------------------------------------------------------ what came

    def _take_events(self, moment: Moment) -> None:
        """All that may be looked at now; what comes of it is on disk before a broker is told."""
        answers: list[PeerAnswer] = []
        taken: list[Callable[[], None]] = []
        for arrived in self._brokers.poll(moment):
            if arrived is None:
                self._peers.connected()
            else:
                message, done = arrived
                answers += self._take_message(message, moment)
                taken.append(done)
        if not self._brokers.ready:
            self._peers.disconnected()
        self._carry_out(answers, moment)
        for done in taken:
            done()

    def _take_message(self, message: Message, moment: Moment) -> list[PeerAnswer]:
        place = parse_topic(self.settings.site_id, message.topic)
        if place is None:
            return []
        device, kind = place
        return self._peers.receive(kind, device, message.payload, now_ms=moment.mono_ms)

    # ------------------------------------------------------------------------ what follows

    def _carry_on(self, moment: Moment) -> None:
        for _ in range(ROUNDS_MAX):
            answers = self._peers.step(now_ms=moment.mono_ms)
            self._carry_out(answers, moment)
            if not any(isinstance(answer, SendRange) for answer in answers):
                return

    def _carry_out(self, answers: list[PeerAnswer], moment: Moment) -> None:
        """First onto the disk, in one transaction; then to the brokers."""
        kept = [answer for answer in answers if isinstance(answer, StoreAnswer)]
        if kept:
            keep(self._writer, kept, moment)
            self._ring_edge()
        for answer in answers:
            if isinstance(answer, Publish):
                self._publish(answer.kind, answer.payload)
            elif isinstance(answer, SendRange):
                self._send(answer)
            elif isinstance(answer, RefusedPeer):
                self._refused(f"peer_{answer.kind}", answer.device, answer.reason)

    def _send(self, wanted: SendRange) -> None:
        batch: tuple[bytes, int] | None = None
        if self._journal is not None:
            me, site = self.settings.device_id, self.settings.site_id
            if wanted.kind is PeerKind.SPEND:
                batch = peer_own.spend_batch(self._journal, me, wanted.epoch, wanted.after)
            else:
                batch = peer_own.side_batch(self._journal, me, site, wanted.epoch, wanted.after)
        if batch is not None:
            self._publish(wanted.kind, batch[0])
        up_to = None if batch is None else batch[1]
        self._peers.sent(wanted.kind, wanted.epoch, after=wanted.after, up_to=up_to)

    def _publish(self, kind: PeerKind, payload: bytes) -> None:
        """Signed, on every broker that is there."""
        me, site = self.settings.device_id, self.settings.site_id
        data = encode_peer(payload, me, self._keys.sign(peer_signing_input(kind, payload)))
        qos = 1 if kind in (PeerKind.SPEND, PeerKind.SIDE) else 0  # The others are said again.
        self._brokers.publish(topic_of(site, me, kind), data, qos=qos)

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
