"""Meals by right: what is due to a person in this slot, and whether this till may serve it.

The key of a meal is (cardholder, date, slot, entitlement), at most once. While every other till of
the roster is heard, the claims known here are all there are. A till that is alone serves silently
whom it *owns*; a stranger too, one meal a slot at most, marked `unconfirmed`: should two tills have
served it, the city keeps the earliest, and no family is billed for our fault.

Pure. Who is heard, and what is claimed, is `edge/offline_cache`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from edge.model import Entitlement, PeerTill, meal_claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A meal that may be served now."""

    entitlement: Entitlement
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """For whom, when and where: all that decides beside the entitlements themselves."""

    cardholder_id: str
    business_date: str
    slot: str  # "": no meal is served now.
    device: str
    peers: tuple[PeerTill, ...]

    @property
    def alone(self) -> bool:
        return not all(peer.heard for peer in self.peers)


def current_slot(meal_slots: Mapping[str, tuple[int, int]], minute_of_day: int) -> str:
    """The slot of a minute of the local day, the one that began last; "" between slots."""
    open_now = [
        (first, name) for name, (first, last) in meal_slots.items() if first <= minute_of_day < last
    ]
    return max(open_now)[1] if open_now else ""


def is_due(one: Entitlement, business_date: str, slot: str) -> bool:
    """Whether it gives a meal on this date in this slot at all."""
    if slot not in one.slots or not one.first_date <= business_date <= one.last_date:
        return False
    if business_date in one.except_dates:
        return False
    try:
        return date.fromisoformat(business_date).isoweekday() in one.weekdays
    except ValueError:
        return False


def owner_of(one: Entitlement, cardholder_id: str, tills: Sequence[str]) -> str:
    """The till that serves it when tills cannot hear each other: the class's, as the city set it,
    else the one whose hash with the person is highest. All tills come to the same one."""
    return one.owner_till if one.owner_till in tills else owner_by_person(cardholder_id, tills)


def owner_by_person(cardholder_id: str, tills: Sequence[str]) -> str:
    """Rendezvous hash: when a till goes, only its own people move to another."""

    def weight(till: str) -> bytes:
        return hashlib.sha256(f"{till}\0{cardholder_id}".encode()).digest()

    return max(tills, key=weight)


def servings(
    entitlements: Iterable[Entitlement], claims: Iterable[str], occasion: Occasion
) -> tuple[Serving, ...]:
    """What may be served now, in order of id."""
    taken = frozenset(claims)
    when = (occasion.business_date, occasion.slot)
    of_slot = meal_claim(*when, "")
    stranger_fed = any(claim.startswith(of_slot) for claim in taken)
    tills = sorted([occasion.device, *(peer.device for peer in occasion.peers)])
    found = []
    for one in sorted(entitlements, key=lambda one: one.entitlement_id):
        if not is_due(one, *when) or meal_claim(*when, one.entitlement_id) in taken:
            continue
        if not occasion.alone or owner_of(one, occasion.cardholder_id, tills) == occasion.device:
            found.append(Serving(entitlement=one))
        elif not stranger_fed:
            stranger_fed = True
            found.append(Serving(entitlement=one, unconfirmed=True))
    return tuple(found)


def used(
    entitlements: Iterable[Entitlement], claims: Iterable[str], occasion: Occasion
) -> tuple[Entitlement, ...]:
    """What would be due, but was served before, or may have been at a till that is not heard."""
    may = {serving.entitlement for serving in servings(entitlements, claims, occasion)}
    when = (occasion.business_date, occasion.slot)
    return tuple(one for one in entitlements if is_due(one, *when) and one not in may)
