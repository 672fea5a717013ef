"""Goal: two tills that are cut off from each other and from the city in every possible way overdraw
a purse by one CAP at most, with holds and without; and each half of the rule is needed for it.

Method: every interleaving of a small world, each state once. A till is two processes: edge decides
by what `sync.db` holds now, and notes now and then in its journal what it has seen; sync stores the
peer's facts one by one, whenever they come, and reports what the *journal* says. The city applies
both tills' facts in any order; each till takes its pictures one after another. Facts, reports and
bases are late or lost by not happening. What may be sold is asked of the product:
`edge.pos.cover`, `edge.pos.ledger`, `sync.peer_state.is_backed`. A card that waits for facts on
their way is a sale of a later moment: it is judged anew when they came. Then one rule at a time is
switched off, and the same worlds must break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest

from edge.model import Account, PeerTill, Spend
from edge.pos import cover
from edge.pos.ledger import MAIN_STREAM, available_minor
from sync.peer_state import Report, is_backed

PURSE = "meals"
NAMES = ("till-0", "till-1")
STATES_MAX = 400_000  # A world that grew past it is no small world any more.


@dataclass(frozen=True, slots=True)
class Fact:
    """`sale`, `hold`, `sold` (replaces the hold before it) or `released`."""

    kind: str
    amount: int
    more: int = 0  # Of `sold`, above its hold: an entitlement that was to pay was used meanwhile.


@dataclass(frozen=True, slots=True)
class Till:
    facts: tuple[Fact, ...] = ()  # Its journal.
    known: int = 0  # Of the other's facts, in its sync.db.
    seen: int = 0  # The same, as its edge has noted it.
    told: int = 0  # The other's newest head that it has heard of.
    waiting: frozenset[tuple[int, int]] = frozenset()  # Reports (seen, head) not backed yet.
    covered: int = 0  # Own facts, by the other's reports.
    base: tuple[int, int] = (0, 0)  # The vector of the picture in force.


@dataclass(frozen=True, slots=True)
class World:
    tills: tuple[Till, Till] = (Till(), Till())
    history: tuple[tuple[int, int], ...] = ((0, 0),)  # Every vector the city had, from the oldest
    # that is in force somewhere: a picture of each may still be under way.


@dataclass(frozen=True)
class Rules:
    """The rule, and what it is like with a part of it taken out."""

    credit: int
    cap: int
    facts: tuple[int, int]  # What each till may make at most.
    amounts: tuple[int, ...] = (1,)
    of_second: tuple[int, ...] = ()  # Amounts of the second till, where they are others.
    holds: bool = False
    bases: bool = False
    base_at: tuple[int, ...] = (0, 1)  # Whom the city reaches with its pictures.
    is_backed: Callable[[Report, Callable[[str], int]], bool] = is_backed
    second_check: bool = True
    has_cap: bool = True
    surplus: tuple[int, ...] = ()  # By how much a basket may outgrow its hold.
    surplus_is_capped: bool = True
    holds_wait: bool = True
    no_hole: bool = True  # Off, the rule of cover stands alone: it must be enough by itself.


def spends(who: int, facts: tuple[Fact, ...], *, own: bool) -> Iterator[Spend]:
    for sequence, fact in enumerate(facts, start=1):
        amount = {
            "sale": fact.amount,
            "hold": fact.amount,
            "sold": fact.more,
            "released": -fact.amount,
        }
        yield Spend(
            device=NAMES[who],
            epoch="e",
            sequence=sequence,
            purse=PURSE,
            amount_minor=amount[fact.kind],
            business_date="2026-03-02",
            own=own,
            hold_ended=fact.kind in ("sold", "released"),
        )


@cache
def rooms(
    who: int,
    mine: tuple[Fact, ...],
    theirs: tuple[Fact, ...],
    in_base: int,
    base: tuple[int, int],
    covered: int,
    credit: int,
    cap: int,
) -> tuple[int, int, int]:
    """What the product says: available, room under the cap, and up to where it is covered."""
    tail = (*spends(who, mine, own=True), *spends(1 - who, theirs, own=False))
    vector = {(NAMES[n], MAIN_STREAM, "e"): up_to for n, up_to in enumerate(base)}
    account = Account(
        account_id="a",
        suspended=False,
        balance_minor_by_purse={PURSE: credit - in_base},
        day_limit_minor=None,
        week_limit_minor=None,
        spent_day_minor=0,
        spent_week_minor=0,
        spent_date="",
        banned_products=frozenset(),
        banned_categories=frozenset(),
    )
    peers = (PeerTill(device=NAMES[1 - who], heard=True, complete=True, covers={"e": covered}),)
    room = cover.room_minor(PURSE, tail, vector, peers, cap_minor=cap)
    assert room is not None
    return (
        available_minor(account, PURSE, tail, vector),
        room,
        cover.covered_up_to(NAMES[who], "e", vector, peers),
    )


def asked(rules: Rules, world: World, who: int) -> tuple[int, int, int]:
    me, other = world.tills[who], world.tills[1 - who]
    in_base = sum(
        one.amount_minor
        for n, up_to in enumerate(me.base)
        for one in spends(n, world.tills[n].facts[:up_to], own=True)
    )
    theirs = other.facts[: me.known]
    return rooms(who, me.facts, theirs, in_base, me.base, me.covered, rules.credit, rules.cap)


def settled(rules: Rules, till: Till, who: int) -> Till:
    """Reports that count by now."""
    known = max(till.known, till.base[1 - who])
    waiting, covered = set(), till.covered
    for seen, head in till.waiting:
        if rules.is_backed(Report(store="s", seen={"e": seen}, heads={"e": head}), lambda _: known):
            covered = max(covered, seen)
        else:
            waiting.add((seen, head))
    useful = frozenset(one for one in waiting if one[0] > covered)
    return replace(till, waiting=useful, covered=covered)


def decisions(rules: Rules, world: World, who: int) -> Iterator[Fact]:
    """What edge may record now."""
    me = world.tills[who]
    available, room, covered = asked(rules, world, who)
    hole = rules.no_hole and max(me.known, me.base[1 - who]) < me.told
    held = me.facts[-1] if me.facts and me.facts[-1].kind == "hold" else None
    if held is not None:
        yield Fact("released", held.amount)
        heard = not rules.holds_wait or len(me.facts) <= covered
        suffices = available + held.amount >= held.amount or not rules.second_check
        if heard and suffices and not hole:
            yield Fact("sold", held.amount)
        for more in rules.surplus:
            fits = more <= room or not rules.surplus_is_capped
            if heard and fits and not hole and available >= more:
                yield Fact("sold", held.amount, more)
        return
    if len(me.facts) >= rules.facts[who] or hole:
        return
    for amount in (who and rules.of_second) or rules.amounts:
        if amount > available:
            continue
        if amount <= room or not rules.has_cap:
            yield Fact("sale", amount)
        elif rules.holds and len(me.facts) + 2 <= rules.facts[who]:
            yield Fact("hold", amount)


def steps(rules: Rules, world: World) -> Iterator[World]:
    for who in (0, 1):
        me, other = world.tills[who], world.tills[1 - who]

        def changed(till: Till, who: int = who, other: Till = other) -> World:
            till = settled(rules, till, who)
            tills = (till, other) if who == 0 else (other, till)
            oldest = min(map(world.history.index, (t.base for t in tills)))
            return World(tills, world.history[oldest:])

        for fact in decisions(rules, world, who):
            yield changed(replace(me, facts=(*me.facts, fact)))
        if me.known < len(other.facts):
            yield changed(replace(me, known=me.known + 1))
        if me.seen < me.known:
            yield changed(replace(me, seen=me.known))
        # The other's sync reads its journal and reports; a report that is late is one made late.
        report = (other.seen, len(other.facts))
        heard = replace(me, told=max(me.told, report[1]), waiting=me.waiting | {report})
        if (world_then := changed(heard)) != world:
            yield world_then
        if rules.bases:
            applied = world.history[-1]
            if applied[who] < len(me.facts):
                grown = (applied[0] + (who == 0), applied[1] + (who == 1))
                yield replace(world, history=(*world.history, grown))
            place = world.history.index(me.base)
            if me.base != applied and who in rules.base_at:
                yield changed(replace(me, base=world.history[place + 1]))


def overdraft(rules: Rules, world: World) -> int:
    facts = [fact for till in world.tills for fact in till.facts]
    return sum(f.amount + f.more for f in facts if f.kind in ("sale", "sold")) - rules.credit


def reachable(rules: Rules) -> Iterator[World]:
    """Every state that can be reached, each once."""
    start = World()
    found, waiting = {start}, [start]
    while waiting:
        world = waiting.pop()
        yield world
        for after in steps(rules, world):
            if after not in found:
                found.add(after)
                waiting.append(after)
        assert len(found) <= STATES_MAX, "no small world"


@cache
def worst(rules: Rules) -> tuple[int, int]:
    """The largest overdraft of any state that can be reached, and how many there are."""
    most, states = -rules.credit, 0
    for world in reachable(rules):
        most, states = max(most, overdraft(rules, world)), states + 1
    return most, states


SALES = Rules(credit=2, cap=1, facts=(4, 4))
ALONE = replace(SALES, no_hole=False)
HOLDS = Rules(credit=2, cap=1, facts=(3, 3), amounts=(1, 2), holds=True)
# One till's basket outgrows its hold; the other one sells, and the city's pictures reach it alone.
GROWN = Rules(
    credit=4,
    cap=1,
    facts=(2, 2),
    amounts=(2,),
    of_second=(1,),
    holds=True,
    bases=True,
    base_at=(1,),
    surplus=(1, 2),
)
BASES_ALONE = Rules(credit=2, cap=1, facts=(2, 2), bases=True, no_hole=False)
WORLDS = {
    "sales": SALES,
    "sales, cover alone": ALONE,
    "more credit": Rules(credit=3, cap=1, facts=(4, 3)),
    "a larger cap": Rules(credit=3, cap=2, facts=(3, 3), amounts=(1, 2)),
    "holds": HOLDS,
    "holds, cover alone": replace(HOLDS, facts=(3, 2), no_hole=False),
    "bases": replace(BASES_ALONE, no_hole=True),
    "bases, cover alone": BASES_ALONE,
    "a hold is outgrown": GROWN,
    "holds and bases": Rules(credit=2, cap=1, facts=(2, 1), amounts=(1, 2), holds=True, bases=True),
}


@pytest.mark.parametrize("name", WORLDS)
def test_two_tills_overdraw_by_one_cap_at_most(name: str) -> None:
    rules = WORLDS[name]
    most, states = worst(rules)
    assert most <= rules.cap, f"{most} in {states} states"
    assert states > 200


def test_the_bound_is_reached_so_the_worlds_are_not_idle() -> None:
    assert worst(SALES)[0] == SALES.cap


@pytest.mark.parametrize(
    ("rules", "without"),
    [
        (SALES, {"has_cap": False}),
        (BASES_ALONE, {"is_backed": lambda _report, _known: True}),
        (HOLDS, {"second_check": False}),
        (HOLDS, {"holds_wait": False}),
        (GROWN, {"surplus_is_capped": False}),
    ],
    ids=[
        "the cap",
        "the second half",
        "a hold's second check",
        "a hold waits",
        "the cap of what a hold is outgrown by",
    ],
)
def test_without_it_the_bound_breaks(rules: Rules, without: dict[str, object]) -> None:
    broken = replace(rules, **without)  # type: ignore[arg-type]
    assert any(overdraft(broken, world) > rules.cap for world in reachable(broken))
