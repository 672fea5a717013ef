"""What this device says to its peers, and when: heartbeats, own facts, facts said again. Pure.

One part of `sync/peers.py`. New facts leave at once; what a peer asks for leaves in batches at a
bounded pace, to all, whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from edge.messages import (
    PeerBeat,
    PeerKind,
    PeerLife,
    PeerSeen,
    PeerWant,
    VersionMark,
    encode_json,
)
from edge.model import Station
from sync.peer_answers import Publish, SendRange

BEAT_MS: Final = 5_000  # ledger.md: at once when something changed, else every 5 s.
BEAT_GAP_MS: Final = 50  # Our choice: "at once" for a person, and 20 signatures a second at most.
HEARD_MS: Final = 20_000  # Our choice: two heartbeats in a row may be lost, and one be late.
UNSAID_MAX: Final = 1_000  # Our choice: half a day's sales; a longer outage is asked for, slowly.
ANSWER_MS: Final = 100  # Our choice: 10 batches, 1,000 facts a second: a day's in two seconds.
LANES: Final = (Station.ENTRANCE, Station.PRESCHOOL)
FACTS: Final = (PeerKind.SPEND, PeerKind.SIDE)

assert BEAT_GAP_MS < BEAT_MS and 3 * BEAT_MS < HEARD_MS


class Voice:
    """One device's own words. Nothing is said before `connected`."""

    def __init__(
        self, *, device: str, site: str, station: Station, session: str, nonce: Callable[[], str]
    ) -> None:
        self.device, self.site, self.station = device, site, station
        self.online = False
        self._session = session
        self._nonce = nonce
        self._lives: tuple[PeerLife, ...] = ()
        self._store = ""
        self._seen: tuple[PeerSeen, ...] = ()
        self._base: VersionMark | None = None
        self._published: dict[tuple[PeerKind, str], int] = {}
        self._wanted: dict[tuple[PeerKind, str], int] = {}  # Asked for by peers: after what.
        self._answered_ms = 0
        self._nonces: dict[str, int] = {}  # Sent a moment ago -> when.
        self._counter = 0
        self._beat_ms: int | None = None
        self._said: tuple[object, ...] = ()
        self._soon = False

    def mine(self, *, lives: tuple[PeerLife, ...], store: str, seen: tuple[PeerSeen, ...]) -> None:
        self._lives, self._store, self._seen = lives, store, seen

    def base(self, version: VersionMark | None) -> None:
        self._base = version

    def connected(self) -> None:
        """What was recorded before this start is not said by itself: who misses it asks. What was
        recorded while no broker was there is new, unless it is a long time's."""
        self.online = True
        before, self._published = self._published, {}
        for life in self._lives:
            for kind in FACTS:
                last = _last(kind, life)
                said = before.get((kind, life.epoch), last)
                self._published[kind, life.epoch] = said if last - said <= UNSAID_MAX else last
        self._soon = True

    def disconnected(self) -> None:
        self.online = False
        self._wanted.clear()

    # ------------------------------------------------------------------------- own facts

    def asked(self, want: PeerWant, *, by: Station) -> None:
        """A peer misses something of ours. Spend is for tills."""
        life = self._life(want.epoch)
        if want.device != self.device or life is None or not self._speaks_of(want.kind):
            return
        if want.kind is PeerKind.SPEND and by is not Station.TILL:
            return
        if 0 <= want.after < _last(want.kind, life):
            key = (want.kind, want.epoch)
            self._wanted[key] = min(want.after, self._wanted.get(key, want.after))

    def ranges(self, now_ms: int) -> list[SendRange]:
        """New facts first; then, in its turn, one batch of each range that was asked for."""
        fresh = self._fresh()
        if fresh or not self._wanted or now_ms - self._answered_ms < ANSWER_MS:
            return fresh
        self._answered_ms = now_ms
        return [
            SendRange(kind=kind, epoch=epoch, after=after)
            for (kind, epoch), after in self._wanted.items()
        ]

    def _fresh(self) -> list[SendRange]:
        return [
            SendRange(kind=kind, epoch=life.epoch, after=after)
            for life in self._lives
            for kind in FACTS
            if self._speaks_of(kind)
            and (after := self._published.get((kind, life.epoch), 0)) < _last(kind, life)
        ]

    def sent(self, kind: PeerKind, epoch: str, *, after: int, up_to: int | None) -> None:
        key, life = (kind, epoch), self._life(epoch)
        last = 0 if life is None else _last(kind, life)
        done = last if up_to is None else up_to
        if after <= self._published.get(key, 0):
            self._published[key] = max(self._published.get(key, 0), done)
        if key in self._wanted and after <= self._wanted[key]:
            self._wanted[key] = max(self._wanted[key], done)
            if done >= last:
                del self._wanted[key]

    # ------------------------------------------------------------------------ heartbeats

    def proven_ms(self, nonce: str) -> int | None:
        """When we sent this nonce, if that was a moment ago."""
        return self._nonces.get(nonce)

    def speak_soon(self) -> None:
        self._soon = True

    def beat(self, echo: Mapping[str, str], now_ms: int) -> list[Publish]:
        """A heartbeat, when it is time for one, and behind the facts that its heads name: else it
        would make a hole of every sale where it is heard."""
        if self._fresh():
            return []
        if self._beat_ms is not None and now_ms < self._beat_due_ms(self._beat_ms):
            return []
        self._beat_ms, self._said, self._soon = now_ms, self._to_say(), False
        self._counter += 1
        self._nonces = {n: at for n, at in self._nonces.items() if now_ms - at < HEARD_MS}
        nonce = self._nonce()
        self._nonces[nonce] = now_ms
        beat = PeerBeat(
            device=self.device,
            site=self.site,
            session=self._session,
            counter=self._counter,
            nonce=nonce,
            echo=dict(echo),
            lives=self._lives,
            store=self._store,
            seen=self._seen,
            base=self._base,
        )
        return [Publish(kind=PeerKind.BEAT, payload=encode_json(beat))]

    def due_ms(self, now_ms: int) -> int:
        if not self.online:
            return now_ms + BEAT_MS
        due_ms = now_ms if self._beat_ms is None else self._beat_due_ms(self._beat_ms)
        return min(due_ms, self._answered_ms + ANSWER_MS) if self._wanted else due_ms

    # --------------------------------------------------------------------------- helpers

    def _beat_due_ms(self, last_ms: int) -> int:
        changed = self._soon or self._to_say() != self._said
        return last_ms + (BEAT_GAP_MS if changed else BEAT_MS)

    def _to_say(self) -> tuple[object, ...]:
        return (self._lives, self._store, self._seen, self._base)

    def _life(self, epoch: str) -> PeerLife | None:
        return next((life for life in self._lives if life.epoch == epoch), None)

    def _speaks_of(self, kind: PeerKind) -> bool:
        return self.station is Station.TILL if kind is PeerKind.SPEND else self.station in LANES


def _last(kind: PeerKind, life: PeerLife) -> int:
    return life.head if kind is PeerKind.SPEND else life.side
