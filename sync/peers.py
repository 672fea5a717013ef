"""The school's other devices: who is heard, what they did, what is missing. Sans-I/O, pure.

Every device publishes under its own name: tills all facts of `main`, lanes the passages taken,
everybody heartbeats. What is lost on the way shows in the next heartbeat and is asked for; its
owner says it again to all. So the broker may lose, double, reorder or replay what it likes.

- Only devices on the signed roster count, each with its own key, each for its own facts: a till's
  word on sales, a lane's on passages. Everything is bounded: sizes, rates, epochs, bytes kept.
- A heartbeat is *new* when it echoes a nonce that this device sent a moment ago. Nothing else
  makes a peer heard: no clock, no counter that outlives a start.
- Facts are taken in sequence only; `sync/peer_held.py` says how far each epoch is known.

`sync/peer_link.py` connects, signs, reads journals and stores; what tills and lanes decide with
all this is edge's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from edge.messages import (
    PeerAsk,
    PeerBeat,
    PeerKind,
    PeerLife,
    PeerSeen,
    PeerWant,
    Stream,
    VersionMark,
    decode_batch,
    decode_fact_key,
    decode_json,
    decode_peer,
    decode_sides,
    encode_json,
    peer_signing_input,
)
from edge.model import CorruptData, Station
from sync.peer_answers import (
    Cover,
    Forget,
    Heard,
    PeerAnswer,
    PeerDevice,
    Publish,
    RefusedPeer,
    TakeFacts,
    TakeReport,
    TakeSides,
)
from sync.peer_held import Held
from sync.peer_state import (
    NUMBER_MAX,
    HeldLife,
    Peer,
    Report,
    check_beat,
    is_backed,
    moves_somebody,
)
from sync.peer_voice import HEARD_MS, LANES, Voice

LEASE_MS: Final = 30_000  # Our choice: a dead sync is believed so long; spares the SD card.
ASK_MS: Final = 300  # Our choice: what is under way on a school's network arrives by then.
ASK_MS_MAX: Final = 8_000  # Our choice: a till that does not answer is asked less and less.
CHALLENGE_MS: Final = 1_000  # Our choice: a stranger session makes us speak once a second.
WANTS_MAX: Final = 16  # Our choice: asked for in one message; the next follows in a second.
PEERS_MAX: Final = 64  # Our choice: four times the devices of a large school.
HELD_BYTES_MAX: Final = 32 * 1024 * 1024  # Our choice, of one till: ten days of 2,000 sales.

assert HEARD_MS <= LEASE_MS and ASK_MS < ASK_MS_MAX

Verify = Callable[[bytes, bytes, bytes], bool]  # public point, data, signature


class Peers:
    """One device's view of all others. `step` whenever `due_ms` says, and after each call."""

    def __init__(
        self,
        *,
        device: str,
        site: str,
        station: Station,
        session: str,
        verify: Verify,
        nonce: Callable[[], str],
    ) -> None:
        self.device, self.site, self.station = device, site, station
        self.counters: dict[str, int] = {}
        self._verify = verify
        self._voice = Voice(device=device, site=site, station=station, session=session, nonce=nonce)
        self._peers: dict[str, Peer] = {}
        self._held = Held()
        self._heard: frozenset[str] = frozenset()
        self._leased_ms: int | None = None

    # ---------------------------------------------------------------- what the shell knows

    def roster(self, devices: Mapping[str, PeerDevice]) -> list[PeerAnswer]:
        """The signed roster, this device's own row among others. A row with another key than
        before is another peer."""
        wanted = {
            device: row
            for device, row in sorted(devices.items())[: PEERS_MAX + 1]
            if device != self.device and row.public
        }
        answers: list[PeerAnswer] = []
        kept: dict[str, int] = {}
        for device in [d for d, peer in self._peers.items() if wanted.get(d) != peer.row]:
            if device not in wanted:
                answers.append(Forget(device=device))
            kept[device] = self._peers.pop(device).bytes
        for device, row in wanted.items():
            self._peers.setdefault(device, Peer(device=device, row=row, bytes=kept.get(device, 0)))
        return answers

    def held(
        self, *, device: str, epoch: str, after: int, up_to: int, digest: str, side: int
    ) -> None:
        """What the store has of an epoch: at start, and when old facts were dropped."""
        life = HeldLife(after=after, up_to=up_to, digest=digest, side=side)
        self._held.keep((device, epoch), life)

    def held_bytes(self, size_by_device: Mapping[str, int]) -> None:
        for device, peer in self._peers.items():
            peer.bytes = size_by_device.get(device, 0)

    def base(
        self, version: VersionMark | None, vector: Mapping[tuple[str, str], int]
    ) -> list[PeerAnswer]:
        """The money picture in force: (device, epoch) -> how much of its `main` it includes."""
        self._voice.base(version)
        self._held.base(vector)
        answers = self._include({*self._held.keys(), *self._announced()})
        for peer in self._peers.values():
            answers += self._confirm(peer)
        return answers

    def mine(self, *, lives: tuple[PeerLife, ...], store: str, seen: tuple[PeerSeen, ...]) -> None:
        """From one look at the own journal. Of a lane, `head` is the last passage."""
        self._voice.mine(lives=lives, store=store, seen=seen)

    def connected(self) -> None:
        """To one broker at least."""
        self._voice.connected()

    def disconnected(self) -> None:
        self._voice.disconnected()

    def sent(self, kind: PeerKind, epoch: str, *, after: int, up_to: int | None) -> None:
        """A `SendRange` was carried out up to here; None: there is nothing to give."""
        self._voice.sent(kind, epoch, after=after, up_to=up_to)

    # ---------------------------------------------------------------------------- what came

    def receive(self, kind: PeerKind, device: str, data: bytes, *, now_ms: int) -> list[PeerAnswer]:
        """One message from the topic of `device`."""
        peer = self._peers.get(device)
        if peer is None:
            if device != self.device:  # A broker sends us our own words too.
                self._count("stranger")
            return []
        if not peer.allowance.take(len(data), now_ms):
            return self._refuse(kind, peer, "flood")
        try:
            signed = decode_peer(data)
            if signed.key_id != device or not self._verify(
                peer.row.public, peer_signing_input(kind, signed.payload), signed.signature
            ):
                return self._refuse(kind, peer, "signature")
            match kind:
                case PeerKind.BEAT:
                    return self._take_beat(peer, signed.payload, now_ms)
                case PeerKind.ASK:
                    return self._take_ask(peer, signed.payload)
                case PeerKind.SPEND:
                    return self._take_facts(peer, signed.payload, signed.signature, now_ms)
                case PeerKind.SIDE:
                    return self._take_sides(peer, signed.payload, now_ms)
        except CorruptData:
            return self._refuse(kind, peer, "invalid")

    # ---------------------------------------------------------------------------- time went

    def step(self, *, now_ms: int) -> list[PeerAnswer]:
        """All that is due. Call again at once while it answers a `SendRange`."""
        answers: list[PeerAnswer] = self._tell_heard(now_ms)
        if self._voice.online:
            answers += self._voice.ranges(now_ms)
            answers += self._ask_for_missing(now_ms)
            echo = {device: peer.nonce for device, peer in self._peers.items() if peer.nonce}
            answers += self._voice.beat(echo, now_ms)
        return answers

    def due_ms(self, now_ms: int) -> int:
        """When `step` is needed at the latest though nothing happens."""
        due = [self._voice.due_ms(now_ms)]
        for device in self._heard:
            fresh_ms = self._peers[device].fresh_ms if device in self._peers else None
            due.append(now_ms if fresh_ms is None else fresh_ms + HEARD_MS)
        if self._heard and self._leased_ms is not None:
            due.append(self._leased_ms + LEASE_MS // 2)
        if self._voice.online:
            due += [asked.at_ms for peer in self._peers.values() for asked in peer.asks.values()]
        return max(now_ms, min(due))

    # ---------------------------------------------------------------------- honest reports

    def known(self, device: str, epoch: str) -> int:
        """Every fact of that till's epoch up to here is held, or is in the base."""
        return self._held.known(device, epoch)

    def heard(self, device: str, *, now_ms: int) -> bool:
        """A heartbeat made in the last moments came from it."""
        peer = self._peers.get(device)
        fresh_ms = None if peer is None else peer.fresh_ms
        return fresh_ms is not None and now_ms - fresh_ms < HEARD_MS

    def complete(self, device: str) -> bool:
        """Nothing is missing here of what it last said it had done: between tills its facts, of a
        lane its passages."""
        peer = self._peers.get(device)
        if peer is None or peer.beat is None:
            return False
        if peer.row.station is not Station.TILL:
            return self._first_short(peer) is None
        lives = peer.beat.lives if self.station is Station.TILL else ()
        return all(self.known(device, life.epoch) >= life.head for life in lives)

    def devices(self) -> dict[str, Station]:
        return {device: peer.row.station for device, peer in self._peers.items()}

    # ------------------------------------------------------------------------------ beats

    def _take_beat(self, peer: Peer, payload: bytes, now_ms: int) -> list[PeerAnswer]:
        beat = decode_json(PeerBeat, payload)
        check_beat(beat, device=peer.device, site=self.site)
        proven_ms = self._voice.proven_ms(beat.echo.get(self.device, ""))
        if beat.session != peer.session:
            if proven_ms is None:
                # New, or played back from another day: our next beat lets it prove which.
                self._count("unproven")
                if now_ms - peer.challenged_ms >= CHALLENGE_MS:
                    peer.challenged_ms = now_ms
                    self._voice.speak_soon()
                peer.nonce = beat.nonce
                return []
            peer.session, peer.fresh_ms = beat.session, None
        elif beat.counter <= peer.counter:
            self._count("old_beats")
            return []
        peer.counter, peer.nonce = beat.counter, beat.nonce
        if proven_ms is not None:
            peer.fresh_ms = max(proven_ms, peer.fresh_ms or proven_ms)
        # Kept together: whose facts are missing is told with whether they may come.
        return self._take_report(peer, beat, now_ms) + self._tell_heard(now_ms)

    def _take_report(self, peer: Peer, beat: PeerBeat, now_ms: int) -> list[PeerAnswer]:
        answers: list[PeerAnswer] = []
        before = peer.beat
        said = (beat.lives, beat.store, beat.base)
        if before is None or (before.lives, before.store, before.base) != said:
            answers.append(TakeReport(device=peer.device, beat=beat))
        if before is not None and before.store != beat.store:
            peer.reports.clear()
        new = [life.epoch for life in beat.lives if not peer.announces(life.epoch)]
        peer.beat = beat
        answers += self._include(self._announced())
        for (kind, epoch), after in self._missing(peer):
            if epoch in new:  # What came of it until now was not taken.
                peer.missed(kind, epoch, after, now_ms)
        seen = {one.epoch: one.up_to for one in beat.seen if one.device == self.device}
        if seen and peer.row.station is Station.TILL and self.station is Station.TILL:
            heads = {life.epoch: life.head for life in beat.lives}
            peer.add_report(Report(store=beat.store, seen=seen, heads=heads))
        return answers + self._confirm(peer)

    def _confirm(self, peer: Peer) -> list[PeerAnswer]:
        """Its reports that count: whatever it had done when it saw my facts is known here."""
        known = [
            n
            for n, report in enumerate(peer.reports)
            if is_backed(report, partial(self.known, peer.device))
        ]
        if not known:
            return []
        report = peer.reports[known[-1]]
        del peer.reports[: known[-1] + 1]
        answers: list[PeerAnswer] = []
        for epoch, up_to in report.seen.items():
            if up_to > peer.covers.get((report.store, epoch), 0):
                peer.covers[report.store, epoch] = up_to
                answers.append(
                    Cover(device=peer.device, store=report.store, epoch=epoch, up_to=up_to)
                )
        return answers

    def _tell_heard(self, now_ms: int) -> list[PeerAnswer]:
        """When somebody came or went, and now and then, so that what is told outlives not us."""
        heard = frozenset(d for d in self._peers if self.heard(d, now_ms=now_ms))
        due = self._leased_ms is None or now_ms - self._leased_ms >= LEASE_MS // 2
        if heard == self._heard and not (heard and due):
            return []
        until = dict.fromkeys(self._heard, 0) | dict.fromkeys(heard, now_ms + LEASE_MS)
        self._heard, self._leased_ms = heard, now_ms
        return [Heard(until_ms=until)]

    # ------------------------------------------------------------------------------ facts

    def _take_facts(
        self, peer: Peer, payload: bytes, signature: bytes, now_ms: int
    ) -> list[PeerAnswer]:
        if self.station is not Station.TILL or peer.row.station is not Station.TILL:
            return self._refuse(PeerKind.SPEND, peer, "not_a_till")
        header, facts = decode_batch(payload)
        if header.device != peer.device or header.stream is not Stream.MAIN:
            raise CorruptData("spend: of another device or stream")
        key, gap = (peer.device, header.epoch), header.gap
        head = peer.head_of(header.epoch)
        if head is None or header.first + len(facts) - 1 > head:
            return []  # Its heartbeat is still to come, or what it had said is void since.
        known = self.known(*key)
        first_of_all = header.first if gap is None else gap.source
        if first_of_all > known + 1:
            peer.missed(PeerKind.SPEND, header.epoch, known, now_ms)
            return []
        up_to = max(header.first - 1, 0) + len(facts)
        if up_to <= known:
            return []
        if up_to > NUMBER_MAX:
            raise CorruptData("spend: its numbers are out of range")
        life = self._held.life(key).moved(known)
        new = tuple(facts[max(0, known + 1 - header.first) :])
        jumps = gap is not None and gap.target > known
        if new and not jumps and life.digest not in ("", decode_fact_key(new[0]).previous):
            return self._refuse(PeerKind.SPEND, peer, "fork")
        size = sum(map(len, new))
        if peer.bytes + size > HELD_BYTES_MAX:
            return self._refuse(PeerKind.SPEND, peer, "full")
        peer.bytes += size
        life = self._held.keep(key, life.grown(up_to, header.digest))
        peer.asks.pop((PeerKind.SPEND, header.epoch), None)
        if not new:
            return [life.answer(*key), *self._confirm(peer)]
        taken = TakeFacts(
            device=peer.device,
            epoch=header.epoch,
            after=life.after,
            first=up_to - len(new) + 1,
            facts=new,
            up_to=up_to,
            digest=header.digest,
            batch_first=header.first,
            batch_last=up_to,
            header=payload.partition(b"\n")[0],
            signature=signature,
        )
        return [taken, *self._confirm(peer)]

    def _take_sides(self, peer: Peer, payload: bytes, now_ms: int) -> list[PeerAnswer]:
        if peer.row.station not in LANES:
            return self._refuse(PeerKind.SIDE, peer, "not_a_lane")
        header, facts = decode_sides(payload)
        if header.device != peer.device or header.site != self.site:
            raise CorruptData("side: of another device or school")
        if not peer.announces(header.epoch):
            return []
        side = self._held.side(peer.device, header.epoch)
        if header.after > side or self._first_short(peer) not in (None, header.epoch):
            peer.missed(PeerKind.SIDE, header.epoch, side, now_ms)
            return []
        if not side < header.up_to <= NUMBER_MAX:
            return []
        key = (peer.device, header.epoch)
        self._held.keep(key, self._held.life(key).passed(header.up_to))
        peer.asks.pop((PeerKind.SIDE, header.epoch), None)
        taken = tuple(fact for fact in facts if fact.sequence > side and moves_somebody(fact))
        return [TakeSides(device=peer.device, epoch=header.epoch, up_to=header.up_to, facts=taken)]

    # ------------------------------------------------------------------ asking and answering

    def _take_ask(self, peer: Peer, payload: bytes) -> list[PeerAnswer]:
        ask = decode_json(PeerAsk, payload)
        if ask.device != peer.device or ask.site != self.site or len(ask.wants) > WANTS_MAX:
            raise CorruptData("ask: of another device or school, or for too much")
        for want in ask.wants:
            self._voice.asked(want, by=peer.row.station)
        return []

    def _ask_for_missing(self, now_ms: int) -> list[PeerAnswer]:
        wants: list[PeerWant] = []
        for peer in self._peers.values():
            missing = dict(self._missing(peer))
            peer.asks = {key: asked for key, asked in peer.asks.items() if key in missing}
            for (kind, epoch), after in missing.items():
                if len(wants) < WANTS_MAX and peer.is_to_ask(
                    (kind, epoch), after, now_ms, soon_ms=ASK_MS, late_ms=ASK_MS_MAX
                ):
                    wants.append(PeerWant(device=peer.device, kind=kind, epoch=epoch, after=after))
        if not wants:
            return []
        ask = PeerAsk(device=self.device, site=self.site, wants=tuple(wants))
        return [Publish(kind=PeerKind.ASK, payload=encode_json(ask))]

    def _missing(self, peer: Peer) -> Iterable[tuple[tuple[PeerKind, str], int]]:
        """What it said it had done, is not known here, and can still be given."""
        for life in () if peer.beat is None else peer.beat.lives:
            known = self.known(peer.device, life.epoch)
            tills = Station.TILL is self.station is peer.row.station
            if tills and life.held_from - 1 <= known < life.head:
                yield (PeerKind.SPEND, life.epoch), known
        epoch = self._first_short(peer)
        if epoch is not None:
            yield (PeerKind.SIDE, epoch), self._held.side(peer.device, epoch)

    def _first_short(self, peer: Peer) -> str | None:
        """The oldest epoch of a lane of which passages are missing. Those behind it wait, for the
        later passage of a person is the one that counts."""
        if peer.row.station not in LANES or peer.beat is None:
            return None
        short = (e for e in peer.beat.lives if self._held.side(peer.device, e.epoch) < e.side)
        return next((life.epoch for life in short), None)

    def _include(self, epochs: Iterable[tuple[str, str]]) -> list[PeerAnswer]:
        """Where the base has gone past what is held, or back behind it."""
        answers: list[PeerAnswer] = []
        for device, epoch in epochs:
            life = self._held.life((device, epoch))
            if (moved := life.moved(self.known(device, epoch))) != life:
                self._held.keep((device, epoch), moved)
                answers.append(moved.answer(device, epoch))
        return answers

    def _announced(self) -> Iterable[tuple[str, str]]:
        for peer in self._peers.values():
            for life in () if peer.beat is None else peer.beat.lives:
                if peer.row.station is Station.TILL:
                    yield peer.device, life.epoch

    # ---------------------------------------------------------------------------- helpers

    def _refuse(self, kind: PeerKind, peer: Peer, reason: str) -> list[PeerAnswer]:
        self._count(f"refused_{kind}_{reason}")
        return [RefusedPeer(kind=kind, device=peer.device, reason=reason)]

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
