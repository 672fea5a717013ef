"""The officer's queue: decisions that were referred to a person and wait for the answer. Pure.

A referral ends once: confirmed, refused, or expired because nobody answered in time. A card shown
again while its referral waits is a new decision; it takes the place of the older one, which ends
as expired, for nobody answered *that* one. What an ending does to lane and record is the shell's
(`edge/desk.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from edge.model import AccessReason, Direction

WAITING_MAX: Final = 16  # Our choice: more than an officer can keep apart; the oldest gives way.


@dataclass(frozen=True, slots=True, kw_only=True)
class Referral:
    """One decision that waits."""

    access: str  # `<epoch>.<sequence>` of its fact: the name the officer's answer uses.
    access_point_id: str
    zone_id: str
    direction: Direction
    reason: AccessReason
    cardholder_id: str | None
    until_ms: int  # Monotonic: then it is over.
    text: str = ""  # The reason, as a sentence.
    name: str = field(default="", repr=False)
    group: str = field(default="", repr=False)
    photo: str = field(default="", repr=False)


class Referrals:
    """All that wait at one station, oldest first. `now_ms` is the monotonic clock."""

    def __init__(self) -> None:
        self._waiting: dict[str, Referral] = {}

    @property
    def waiting(self) -> tuple[Referral, ...]:
        return tuple(self._waiting.values())

    @property
    def due_ms(self) -> int | None:
        """When `expire` is needed at the latest."""
        return min((one.until_ms for one in self._waiting.values()), default=None)

    def add(self, referral: Referral) -> list[Referral]:
        """Let one wait. Those that end by it: the same person's older one, and the oldest of too
        many."""
        assert referral.access not in self._waiting
        ended = [one for one in self._waiting.values() if _same_person(one, referral)]
        for one in ended:
            del self._waiting[one.access]
        if len(self._waiting) >= WAITING_MAX:
            ended.append(self._waiting.pop(next(iter(self._waiting))))
        self._waiting[referral.access] = referral
        return ended

    def expire(self, now_ms: int) -> list[Referral]:
        """Those whose time is over; they wait no more."""
        over = [one for one in self._waiting.values() if one.until_ms <= now_ms]
        for one in over:
            del self._waiting[one.access]
        return over

    def find(self, access: str, now_ms: int) -> Referral | None:
        """One that still waits, for the officer's answer."""
        found = self._waiting.get(access)
        return None if found is None or found.until_ms <= now_ms else found

    def end(self, access: str) -> None:
        """It was answered."""
        del self._waiting[access]

    def passed(self, cardholder_id: str) -> list[Referral]:
        """The person was let in otherwise; what still waited for them has no object any more."""
        found = [one for one in self._waiting.values() if one.cardholder_id == cardholder_id]
        for one in found:
            del self._waiting[one.access]
        return found


def _same_person(one: Referral, other: Referral) -> bool:
    return (
        one.cardholder_id is not None
        and one.cardholder_id == other.cardholder_id
        and one.access_point_id == other.access_point_id
    )
