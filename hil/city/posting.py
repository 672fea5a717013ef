"""What a fact means for the city: postings, lines in the family's feed, or suspense. Pure.

A fact is what happened and is never judged again: an offline sale is posted even below zero, and a
ban that came too late undoes nothing. Only what cannot be posted (an account or product nobody
knows, sums that do not add up) is put aside, with one reason from a closed list. Messages to
families come from passages *taken* and from handovers alone, never from a grant; where a lane has
no sensor the words say so. What a fact does to facts before it (a void, a release) is `tills.py`'s.
"""

from __future__ import annotations

from typing import Final

from edge.messages import AccessFact, AnyFact, Handover, MealServed, PassageFact, SaleFact
from edge.model import Direction, HandoverKind, Outcome, PassageResult
from hil.city.meaning import (
    NOTHING,
    Directory,
    FeedLine,
    Meaning,
    Place,
    SuspenseReason,
    line_at,
    money,
    when,
)
from hil.city.sales import judge_sale

__all__ = [
    "NOTHING",
    "Directory",
    "FeedLine",
    "Meaning",
    "Place",
    "SuspenseReason",
    "meaning_of",
    "money",
]

CHILDREN_MAX: Final = 32  # Our choice: no guardian brings a class.


def meaning_of(fact: AnyFact, directory: Directory, place: Place) -> Meaning:
    """Equal arguments give an equal answer, so a ledger can be made again from the facts."""
    if fact.site != place.site:
        return Meaning(suspense=SuspenseReason.WRONG_SITE)
    match fact:
        case SaleFact():
            return judge_sale(fact, directory, place)
        case PassageFact():
            return _passage(fact, directory, place)
        case Handover():
            return _handover(fact, directory, place)
        case AccessFact():
            return _visit(fact, directory, place)
        case MealServed():
            return _served(fact, directory, place)
        case _:
            return NOTHING


def _passage(fact: PassageFact, directory: Directory, place: Place) -> Meaning:
    if fact.result is not PassageResult.TAKEN or fact.cardholder is None:
        return NOTHING
    name = directory.person_name(fact.cardholder)
    if name is None:
        return Meaning(suspense=SuspenseReason.UNKNOWN_CARDHOLDER)
    kind = "came" if fact.direction is Direction.IN else "left"
    _, words = when(fact, place)
    # Without a sensor the lane saw a card and an open way, and nobody saw the child pass.
    text = f"{name} {kind} {words}" if not fact.assumed else f"{name} probably {kind} {words}"
    return Meaning(feeds=(line_at(fact, place, cardholder=fact.cardholder, kind=kind, text=text),))


def _handover(fact: Handover, directory: Directory, place: Place) -> Meaning:
    """A line for each child: who brought or collected it. Presence follows from it."""
    if fact.what is HandoverKind.NO_CHILD:
        return NOTHING
    guardian = directory.person_name(fact.guardian)
    names = [directory.person_name(child) for child in fact.children[:CHILDREN_MAX]]
    if guardian is None or None in names:
        return Meaning(suspense=SuspenseReason.UNKNOWN_CARDHOLDER)
    _, words = when(fact, place)
    feeds = []
    for child, name in zip(fact.children, names, strict=False):
        relation = directory.relation(fact.guardian, child)
        by = f"{guardian} ({relation})" if relation else guardian
        text = f"{name} was {fact.what} by {by} {words}"
        feeds.append(line_at(fact, place, cardholder=child, kind=fact.what.value, text=text))
    return Meaning(feeds=tuple(feeds))


def _visit(fact: AccessFact, directory: Directory, place: Place) -> Meaning:
    """An admission is its decision. Whose token it was is known to the city alone, or to nobody."""
    if fact.tariff is None or fact.outcome is not Outcome.GRANT:
        return NOTHING
    owner = fact.cardholder or directory.token_owner(fact.credential)
    name = None if owner is None else directory.person_name(owner)
    if owner is None or name is None:
        return NOTHING
    _, words = when(fact, place)
    text = f"{name} visited {place.site} {words}"
    return Meaning(feeds=(line_at(fact, place, cardholder=owner, kind="visited", text=text),))


def _served(fact: MealServed, directory: Directory, place: Place) -> Meaning:
    name = directory.person_name(fact.cardholder)
    if name is None:
        return Meaning(suspense=SuspenseReason.UNKNOWN_CARDHOLDER)
    text = f"{name} ate: {fact.meal.slot}"
    return Meaning(
        feeds=(line_at(fact, place, cardholder=fact.cardholder, kind="bought", text=text),)
    )
