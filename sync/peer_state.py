"""What is remembered of one peer, and the limits of what it may say. Pure; for `sync/peers.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from edge.messages import PassageFact, PeerBeat, PeerKind, SideFact
from edge.model import CorruptData, PassageResult
from sync.peer_answers import MoveLife, PeerDevice

MOVING: Final = (PassageResult.TAKEN, PassageResult.FIRE_RELEASE)
NUMBER_MAX: Final = 2**53  # Our choice: what every JSON reader holds exactly.
WORD_CHARS_MAX: Final = 64  # Our choice: epochs, sessions, nonces and stores have 16 to 32.
LIVES_MAX: Final = 4  # Our choice: a till restored three times in one school week.
SEEN_MAX: Final = 256  # Our choice: four epochs of each of 64 devices.
ECHO_MAX: Final = 64  # Our choice: as many devices.
REPORTS_MAX: Final = 32  # Our choice: reports that wait for facts; the oldest and newest stay.
MESSAGES_PER_S: Final = 50  # Our choice: five times what a till at its busiest says,
MESSAGES_BURST: Final = 200  # and a whole answer to an ask at once.
BYTES_PER_S: Final = 512 * 1024  # Our choice: 10 full batches a second, and more than half again.
BYTES_BURST: Final = 4 * 1024 * 1024  # Our choice: 64 of the largest messages.


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLife:
    """One epoch of a peer: all facts of `(after, up_to]` are held; what lies up to `after` was in
    the base. Of a lane, all passages up to `side` are known."""

    after: int = 0
    up_to: int = 0
    digest: str = ""  # Of the fact at `up_to`; "" when it was never held.
    side: int = 0

    def moved(self, known: int) -> HeldLife:
        """It begins anew behind what the base includes, unless it holds that and more."""
        if self.after <= known <= self.up_to:
            return self
        return replace(self, after=known, up_to=known, digest="")

    def grown(self, up_to: int, digest: str) -> HeldLife:
        return replace(self, up_to=up_to, digest=digest)

    def passed(self, side: int) -> HeldLife:
        return replace(self, side=side)

    def answer(self, device: str, epoch: str) -> MoveLife:
        return MoveLife(
            device=device, epoch=epoch, after=self.after, up_to=self.up_to, digest=self.digest
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a till had seen of my epochs, and how far it had come itself by then."""

    store: str
    seen: Mapping[str, int]
    heads: Mapping[str, int]


def is_backed(report: Report, known: Callable[[str], int]) -> bool:
    """Whether a report counts as cover: all that its till had done by then is known here.

    The half of the rule that is easily forgotten; `tests/pos/test_small_worlds.py` shows what
    happens without it.
    """
    return all(known(epoch) >= head for epoch, head in report.heads.items())


@dataclass(slots=True)
class Asked:
    """A question that is open: for what lies after this, when next, and how patient."""

    after: int
    at_ms: int
    wait_ms: int


@dataclass(slots=True)
class Allowance:
    """How much one peer may still send: messages and bytes, refilled by time."""

    messages: float = MESSAGES_BURST
    bytes: float = BYTES_BURST
    at_ms: int | None = None

    def take(self, size: int, now_ms: int) -> bool:
        past_s = 0.0 if self.at_ms is None else max(0, now_ms - self.at_ms) / 1000
        self.at_ms = now_ms
        self.messages = min(MESSAGES_BURST, self.messages + past_s * MESSAGES_PER_S)
        self.bytes = min(BYTES_BURST, self.bytes + past_s * BYTES_PER_S)
        if self.messages < 1 or self.bytes < size:
            return False
        self.messages -= 1
        self.bytes -= size
        return True


@dataclass(slots=True, kw_only=True)
class Peer:
    """One device of the roster."""

    device: str
    row: PeerDevice
    allowance: Allowance = field(default_factory=Allowance)
    session: str = ""  # Proven to be now.
    counter: int = 0
    nonce: str = ""  # To be echoed.
    fresh_ms: int | None = None  # It was alive then, or later.
    challenged_ms: int = -1_000_000
    beat: PeerBeat | None = None
    reports: list[Report] = field(default_factory=list)
    covers: dict[tuple[str, str], int] = field(default_factory=dict)
    asks: dict[tuple[PeerKind, str], Asked] = field(default_factory=dict)
    bytes: int = 0  # Of its facts held.

    def announces(self, epoch: str) -> bool:
        return self.beat is not None and any(life.epoch == epoch for life in self.beat.lives)

    def head_of(self, epoch: str) -> int | None:
        """Up to where facts of this epoch may come: of the current one without end, of one
        before it no further than it said. None: it did not speak of it."""
        lives = () if self.beat is None else self.beat.lives
        heads = {life.epoch: life.head for life in lives[:-1]}
        if lives and lives[-1].epoch == epoch:
            return NUMBER_MAX
        return heads.get(epoch)

    def add_report(self, report: Report) -> None:
        """One behind the others; of the same heads only the newest says something."""
        if self.reports and self.reports[-1].heads == report.heads:
            self.reports.pop()
        elif len(self.reports) >= REPORTS_MAX:
            del self.reports[-1]
        self.reports.append(report)

    def missed(self, kind: PeerKind, epoch: str, after: int, now_ms: int) -> None:
        """Something is known to be missing: no need to wait whether it comes by itself."""
        self.asks.setdefault((kind, epoch), Asked(after=after, at_ms=now_ms, wait_ms=0))

    def is_to_ask(
        self, key: tuple[PeerKind, str], after: int, now_ms: int, *, soon_ms: int, late_ms: int
    ) -> bool:
        """Whether now is the time; if so, it counts as asked."""
        asked = self.asks.get(key)
        if asked is None or asked.after != after:  # New, or something came meanwhile.
            self.asks[key] = Asked(after=after, at_ms=now_ms + soon_ms, wait_ms=0)
            return False
        if now_ms < asked.at_ms:
            return False
        asked.wait_ms = min(late_ms, max(2 * soon_ms, 2 * asked.wait_ms))
        asked.at_ms = now_ms + asked.wait_ms
        return True


def moves_somebody(fact: SideFact) -> bool:
    """Whether it says where a person is now. The store knows whom it puts where."""
    if not isinstance(fact, PassageFact):
        return True
    return fact.result in MOVING and fact.cardholder is not None


def check_beat(beat: PeerBeat, *, device: str, site: str) -> None:
    """`CorruptData` for a heartbeat that is of another, or says more than anyone has to say."""
    if beat.device != device or beat.site != site:
        raise CorruptData("beat: of another device or school")
    if len(beat.lives) > LIVES_MAX or len(beat.seen) > SEEN_MAX or len(beat.echo) > ECHO_MAX:
        raise CorruptData("beat: too long a list")
    words = [beat.session, beat.nonce, beat.store]
    words += [life.epoch for life in beat.lives]
    words += [word for one in beat.seen for word in (one.device, one.epoch)]
    if not beat.session or not beat.nonce or max(map(len, words)) > WORD_CHARS_MAX:
        raise CorruptData("beat: a word that is empty or too long")
    numbers = [beat.counter, *(one.up_to for one in beat.seen)]
    for life in beat.lives:
        numbers += (life.held_from, life.head, life.side)
    if beat.base is not None:
        numbers += (beat.base.list_epoch, beat.base.number)
    if min(numbers) < 0 or max(numbers) > NUMBER_MAX:
        raise CorruptData("beat: a number out of range")
