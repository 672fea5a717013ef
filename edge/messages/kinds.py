"""Every kind of fact there is. Pure."""

from __future__ import annotations

from typing import Final

from edge.messages.facts import (
    EpochClosed,
    Fact,
    Folded,
    LogLines,
    Noted,
    OrderAnswer,
    OrderOutcome,
    PartState,
    Restates,
    StreamOpened,
    Unrecorded,
    UpdateRefused,
)
from edge.messages.lane_facts import (
    AccessFact,
    FireFact,
    Forgiven,
    Handover,
    HandoverOpen,
    LockdownFact,
    Override,
    PassageFact,
    ReferralEnded,
    Tamper,
    UnattendedRelease,
)
from edge.messages.staff_facts import SignInFact
from edge.messages.till_facts import (
    BaseSeen,
    CloseOut,
    GroupServed,
    Hold,
    HoldReleased,
    MealServed,
    PreorderUncollected,
    Refund,
    SaleFact,
    SaleRefused,
    Void,
)
from edge.messages.wire import Wire

AnyFact = (
    StreamOpened
    | AccessFact
    | PassageFact
    | SaleFact
    | SaleRefused
    | OrderAnswer
    | OrderOutcome
    | UpdateRefused
    | Unrecorded
    | LogLines
    | Noted
    | Restates
    | EpochClosed
    | Folded
    | PartState
    | Override
    | ReferralEnded
    | Forgiven
    | FireFact
    | UnattendedRelease
    | LockdownFact
    | Tamper
    | Handover
    | HandoverOpen
    | Hold
    | HoldReleased
    | BaseSeen
    | Void
    | Refund
    | MealServed
    | GroupServed
    | PreorderUncollected
    | CloseOut
    | SignInFact
)
FACT_KINDS: Final[tuple[type[Fact], ...]] = (
    StreamOpened,
    AccessFact,
    PassageFact,
    SaleFact,
    SaleRefused,
    OrderAnswer,
    OrderOutcome,
    UpdateRefused,
    Unrecorded,
    LogLines,
    Noted,
    Restates,
    EpochClosed,
    Folded,
    PartState,
    Override,
    ReferralEnded,
    Forgiven,
    FireFact,
    UnattendedRelease,
    LockdownFact,
    Tamper,
    Handover,
    HandoverOpen,
    Hold,
    HoldReleased,
    BaseSeen,
    Void,
    Refund,
    MealServed,
    GroupServed,
    PreorderUncollected,
    CloseOut,
    SignInFact,
)


class FactKey(Wire, frozen=True, kw_only=True):
    """The header of any fact, also of a kind this version does not know."""

    kind: str
    device: str
    stream: str
    epoch: str
    sequence: int
    previous: str
