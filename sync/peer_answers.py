"""What the kernel of the school's own network (`sync/peers.py`) answers its shell. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.messages import PeerBeat, PeerKind, SideFact
from edge.model import Station


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDevice:
    """One row of the signed roster."""

    station: Station
    public: bytes = field(repr=False)  # An uncompressed point; b"": the city did not say.


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Sign this and publish it on the own topic of its kind."""

    kind: PeerKind
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRange:
    """Publish own facts after this one; say with `Peers.sent` how far that went."""

    kind: PeerKind
    epoch: str
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeFacts:
    """Keep these facts of a till: they follow what is known of it without a hole."""

    device: str
    epoch: str
    after: int  # What is held of this epoch begins behind it.
    first: int  # Sequence of the first of `facts`.
    facts: tuple[bytes, ...] = field(repr=False)
    up_to: int
    digest: str  # Of the last fact.
    batch_first: int  # Of the batch as it was signed: it may have begun with known facts,
    batch_last: int
    header: bytes = field(repr=False)  # by this header line
    signature: bytes = field(repr=False)  # and this signature.


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveLife:
    """The base, or a gap that the till declared, made all up to here known."""

    device: str
    epoch: str
    after: int
    up_to: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeSides:
    """Where people are after these passages; all of that lane's up to here are known."""

    device: str
    epoch: str
    up_to: int
    facts: tuple[SideFact, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeReport:
    """What a peer says of itself has changed."""

    device: str
    beat: PeerBeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """A till has seen my facts up to here, and I know all that it had done by then."""

    device: str
    store: str
    epoch: str  # Of my journal.
    up_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Until when (monotonic ms) each peer counts as heard, unless this is said anew; 0: it is
    not heard."""

    until_ms: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """It left the roster: what it reported counts no more. What it spent does."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedPeer:
    """Something a peer sent is not taken. `device` is of the roster, or "" for a stranger."""

    kind: PeerKind
    device: str
    reason: str


StoreAnswer = TakeFacts | MoveLife | TakeSides | TakeReport | Cover | Heard | Forget
PeerAnswer = Publish | SendRange | StoreAnswer | RefusedPeer
