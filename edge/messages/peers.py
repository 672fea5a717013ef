"""What devices of one school say to each other, over the school's own broker. Pure."""

from __future__ import annotations

from enum import StrEnum, unique

from edge.messages.wire import WIRE_VERSION, VersionMark, Wire


@unique
class PeerKind(StrEnum):
    """What devices of one school say to each other; the last part of the topic."""

    SPEND = "spend"  # A till's `main`, whole: batch lines, as they go to the city.
    SIDE = "side"  # Where people are, by a lane: a `SideRange`, then the facts' lines.
    BEAT = "beat"  # A `PeerBeat`.
    ASK = "ask"  # A `PeerAsk`.


class PeerLife(Wire, frozen=True, kw_only=True):
    """One epoch of a device's `main`, as it stands in its journal."""

    epoch: str
    held_from: int  # The oldest fact it can still give.
    head: int  # The last fact that counts under this epoch.
    side: int = 0  # The last fact that concerns where people are; 0: none.


class PeerSeen(Wire, frozen=True, kw_only=True):
    """Whatever this device decided since rests on all of that epoch up to here."""

    device: str
    epoch: str
    up_to: int


class PeerBeat(Wire, frozen=True, kw_only=True):
    """I am here, and so far have I come. `lives` and `seen` come from one look at the journal."""

    device: str
    site: str
    session: str  # Random, one start of the process.
    counter: int  # From 1, in a session.
    nonce: str  # Random, of this beat.
    echo: dict[str, str]  # device -> the nonce last heard from it: what proves this beat is new.
    lives: tuple[PeerLife, ...]  # The current one last.
    store: str = ""  # Where `seen` was held: what another store has seen counts for nothing.
    seen: tuple[PeerSeen, ...] = ()
    base: VersionMark | None = None  # The money picture in force.
    v: int = WIRE_VERSION


class PeerWant(Wire, frozen=True, kw_only=True):
    """Please say again what you have of this epoch after that fact."""

    device: str  # Who has it.
    kind: PeerKind
    epoch: str
    after: int


class PeerAsk(Wire, frozen=True, kw_only=True):
    device: str
    site: str
    wants: tuple[PeerWant, ...]
    v: int = WIRE_VERSION


class SideRange(Wire, frozen=True, kw_only=True):
    """These are all the facts about where people are in `(after, up_to]` of that epoch."""

    device: str
    site: str
    epoch: str
    after: int
    up_to: int
    count: int
    v: int = WIRE_VERSION
