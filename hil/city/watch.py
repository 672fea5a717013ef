"""What a person of the city should look at among the facts that are in order. Pure but for a count.

A fact in suspense, a fork and a gap raise their own alarms where they are found; here are the
facts that say something happened at a station: it was forced, tampered with, began a new life for
a reason, or met a copy of a card. An alarm names ids, never people.
"""

from __future__ import annotations

from typing import Final

from edge.messages import (
    AccessFact,
    AnyFact,
    FireFact,
    FireWhat,
    HandoverOpen,
    PassageFact,
    SaleRefused,
    SignIn,
    SignInFact,
    StreamOpened,
    Tamper,
    UnattendedRelease,
)
from edge.model import AccessReason, PassageResult, PurchaseReason
from hil.city.store import Store

NEW_STORE: Final = "new_store"
LOW_TIERS_MIN: Final = 2  # sync/README.md: two such refusals are a copy in somebody's hand.
LOW_TIER_REASONS: Final = (AccessReason.TIER_BELOW_ENROLLED, PurchaseReason.TIER_BELOW_ENROLLED)


def alarm_of(fact: AnyFact) -> tuple[str, str] | None:
    """(what, text) when this fact alone is an alarm."""
    match fact:
        case StreamOpened(why=why) if why != NEW_STORE:
            return "stream_opened", f"{fact.stream} began epoch {fact.epoch}: {why[:40]}"
        case PassageFact(result=PassageResult.FORCED | PassageResult.HELD):
            return fact.result.value, f"{fact.access_point[:64]}, {fact.direction}"
        case Tamper(active=True):
            return "tamper", fact.line[:64]
        case FireFact(what=FireWhat.ALARM):
            return "fire", f"lane {fact.lane[:64]} is released"
        case UnattendedRelease():
            return "unattended_release", f"lane {fact.lane[:64]} stood free without an agent"
        case HandoverOpen():
            return "handover_open", f"{fact.guardian[:64]} is inside and has not said for whom"
        case SignInFact(what=SignIn.LOCKED):
            return "locked_pin", f"{fact.cardholder[:64]}, {fact.role}: too many wrong PINs"
        case _:
            return None


class Watch:
    """Keeps to the transaction of the caller."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def look(self, fact: AnyFact, now_ms: int) -> None:
        found = alarm_of(fact)
        if found is not None:
            self._store.alarm(fact.device, *found, now_ms)
        if isinstance(fact, (AccessFact, SaleRefused)) and fact.reason in LOW_TIER_REASONS:
            self._low_tier(fact, now_ms)

    def _low_tier(self, fact: AccessFact | SaleRefused, now_ms: int) -> None:
        """One such refusal may be a bad read; a second, at whatever station, is a copy."""
        done = self._store.execute(
            "INSERT INTO low_tier VALUES (?, 1) ON CONFLICT (credential) DO UPDATE SET"
            " times = low_tier.times + 1 RETURNING times",
            (fact.credential[:64],),
        )
        times = int(done.rows[0][0])
        if times >= LOW_TIERS_MIN:
            text = f"{fact.credential[:22]} showed less than it is enrolled at, {times} times"
            self._store.alarm(fact.device, "tier_below_enrolled", text, now_ms)
