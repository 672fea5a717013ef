"""Facts of an entrance: who was let in, who went through, what was done by hand. Pure."""

from __future__ import annotations

from enum import StrEnum, unique

from edge.messages.facts import Fact
from edge.messages.wire import VersionMark
from edge.model import (
    AccessReason,
    Caveat,
    Direction,
    HandoverKind,
    Outcome,
    OverrideReason,
    PassageResult,
    Tariff,
)


class AccessFact(Fact, frozen=True, kw_only=True, tag="access"):
    """One access decision."""

    access_point: str
    zone: str
    direction: Direction
    reader: str
    tier: int
    credential: str
    cardholder: str | None
    outcome: Outcome
    reason: AccessReason
    caveats: tuple[Caveat, ...]
    people: VersionMark | None  # The list it was judged by, and how old that was.
    list_age_s: int | None
    read_age_ms: int
    tariff: Tariff | None = None  # Of an admission: it and the decision are the fact.
    key_version: int | None = None  # Of the identifier key, where ids are a city-wide token.


class PassageFact(Fact, frozen=True, kw_only=True, tag="passage"):
    """What became of a grant (`passage` names it), or of a body nobody had granted."""

    access_point: str
    zone: str
    direction: Direction
    result: PassageResult
    passage: str | None  # `<epoch>.<sequence>` of the grant's fact; None when forced.
    cardholder: str | None
    assumed: bool = False  # The lane has no sensor.


class Override(Fact, frozen=True, kw_only=True, tag="override"):
    """An officer opens by hand. It is the grant: a passage names this fact."""

    access_point: str
    zone: str
    direction: Direction
    officer: str | None  # None: the wired button, which knows nobody.
    why: OverrideReason
    cardholder: str | None = None  # Whom the officer let in, where that is known.
    of: str | None = None  # `<epoch>.<sequence>` of the decision it overrides.


@unique
class ReferralEnd(StrEnum):
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    EXPIRED = "expired"  # Nobody answered in time.


class ReferralEnded(Fact, frozen=True, kw_only=True, tag="referral_ended"):
    """What came of a decision that was referred to the officer."""

    access: str  # `<epoch>.<sequence>` of the decision.
    end: ReferralEnd
    officer: str | None


class Forgiven(Fact, frozen=True, kw_only=True, tag="forgiven"):
    """An officer forgives where the system thinks a person is: the next passage counts anew."""

    cardholder: str
    zone: str
    officer: str


@unique
class FireWhat(StrEnum):
    ALARM = "alarm"  # The input went active, or was found so: released.
    CLEAR = "clear"  # The input is clear; released all the same until an officer resets.
    RESET = "reset"


class FireFact(Fact, frozen=True, kw_only=True, tag="fire"):
    """The copy of the fire alarm's wire, and the officer's reset."""

    lane: str
    what: FireWhat
    officer: str | None = None


class UnattendedRelease(Fact, frozen=True, kw_only=True, tag="unattended_release"):
    """A fail-safe lane stood free while no agent held it."""

    lane: str
    from_wall_ms: int  # The last moment this agent is known to have held it.
    to_wall_ms: int


class LockdownFact(Fact, frozen=True, kw_only=True, tag="lockdown"):
    """The site admits no one, or again everybody: by an officer (an order has its own facts)."""

    on: bool
    officer: str


class Tamper(Fact, frozen=True, kw_only=True, tag="tamper"):
    """A housing's contact opened or closed."""

    line: str
    active: bool


class Handover(Fact, frozen=True, kw_only=True, tag="handover"):
    """Which children a guardian brought or collected. Presence at a pre-school follows from it."""

    guardian: str
    children: tuple[str, ...]  # None for `no_child`.
    what: HandoverKind
    access: str  # `<epoch>.<sequence>` of the decision on the guardian's tap.
    zone: str
    officer: str | None = None  # Who confirmed what the rules would not take.


SideFact = PassageFact | Forgiven | Handover
"""What lanes of one school tell each other: facts that say where people are."""


class HandoverOpen(Fact, frozen=True, kw_only=True, tag="handover_open"):
    """A guardian is inside and has not said for whom: no child is recorded."""

    guardian: str
    access: str
    zone: str
