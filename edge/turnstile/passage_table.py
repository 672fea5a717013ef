"""The state table of one direction of a lane, as data: `passage.py` runs it, `README.md` shows it.

Pure. A row says: in this state, on this trigger, do these actions in order, then move. What is
not in the table cannot happen; the machine asserts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType


@unique
class State(StrEnum):
    IDLE = "idle"
    GRANTED = "granted"  # Until the wait is over.
    LATE = "late"  # The wait is over; a body already moving still counts.
    PASSING = "passing"  # The sensor is active.
    HELD = "held"  # ... and has been for too long.
    BLOCKED = "blocked"  # Lockdown or fault.
    FIRE = "fire"  # Free until the alarm is clear and an officer has reset it.


@unique
class Trigger(StrEnum):
    """What an event amounts to, here and now."""

    GRANT = "grant"
    AGAIN = "grant, same person"
    NEXT = "grant, no sensor"
    REFUSED = "grant, no room"  # The queue is full, or the lane is blocked.
    ROTATED = "sensor active"
    CLEARED = "sensor clear"
    TIMEOUT = "time over"
    ASSUMED = "time over, no sensor"
    BLOCK = "lockdown or fault"
    UNBLOCK = "block lifted"
    FIRE = "fire"
    FIRE_OVER = "fire over and reset"


@unique
class Action(StrEnum):
    ARM = "drive"
    QUEUE = "queue it"
    REFUSE = "it: not taken"
    LET_GO = "let a level go"
    CUT = "let any drive go"
    TAKEN = "taken"
    ASSUME = "taken, assumed"
    NOT_TAKEN = "not taken"
    FLUSH = "queued: not taken"
    FORCED = "forced, alarm"
    HELD = "held, alarm"
    FREE = "free the lane; all grants: fire release, assumed"
    FIRE_TAP = "it: fire release, assumed"
    FIRE_TURN = "fire release"
    HOLD = "hold the lane again"


@unique
class Move(StrEnum):
    """Where a row leads when it names no state. A state that is named is entered anew."""

    STAY = "stay"  # Time runs on.
    REST = "to rest"  # By `REST`.


@dataclass(frozen=True, slots=True)
class Row:
    state: State
    trigger: Trigger
    move: State | Move
    actions: tuple[Action, ...]


S, T, A = State, Trigger, Action

TABLE: tuple[Row, ...] = (
    Row(S.IDLE, T.GRANT, S.GRANTED, (A.ARM,)),
    Row(S.IDLE, T.ROTATED, S.PASSING, (A.FORCED,)),
    Row(S.IDLE, T.CLEARED, Move.STAY, ()),
    Row(S.IDLE, T.BLOCK, S.BLOCKED, ()),
    Row(S.IDLE, T.FIRE, S.FIRE, (A.FREE,)),
    #
    Row(S.GRANTED, T.GRANT, Move.STAY, (A.QUEUE,)),
    Row(S.GRANTED, T.AGAIN, S.GRANTED, (A.NOT_TAKEN, A.ARM)),
    Row(S.GRANTED, T.NEXT, S.GRANTED, (A.ASSUME, A.ARM)),
    Row(S.GRANTED, T.REFUSED, Move.STAY, (A.REFUSE,)),
    Row(S.GRANTED, T.ROTATED, S.PASSING, (A.LET_GO, A.TAKEN)),
    Row(S.GRANTED, T.CLEARED, Move.STAY, ()),
    Row(S.GRANTED, T.TIMEOUT, S.LATE, (A.LET_GO,)),
    Row(S.GRANTED, T.ASSUMED, Move.REST, (A.LET_GO, A.ASSUME)),
    Row(S.GRANTED, T.BLOCK, S.LATE, (A.CUT, A.FLUSH)),
    Row(S.GRANTED, T.FIRE, S.FIRE, (A.FREE,)),
    #
    Row(S.LATE, T.GRANT, Move.STAY, (A.QUEUE,)),
    Row(S.LATE, T.AGAIN, S.GRANTED, (A.NOT_TAKEN, A.ARM)),
    Row(S.LATE, T.NEXT, S.GRANTED, (A.ASSUME, A.ARM)),
    Row(S.LATE, T.REFUSED, Move.STAY, (A.REFUSE,)),
    Row(S.LATE, T.ROTATED, S.PASSING, (A.TAKEN,)),
    Row(S.LATE, T.CLEARED, Move.STAY, ()),
    Row(S.LATE, T.TIMEOUT, Move.REST, (A.NOT_TAKEN,)),
    Row(S.LATE, T.ASSUMED, Move.REST, (A.ASSUME,)),
    Row(S.LATE, T.BLOCK, Move.STAY, (A.FLUSH,)),
    Row(S.LATE, T.UNBLOCK, Move.STAY, ()),
    Row(S.LATE, T.FIRE, S.FIRE, (A.FREE,)),
    #
    Row(S.PASSING, T.GRANT, Move.STAY, (A.QUEUE,)),
    Row(S.PASSING, T.REFUSED, Move.STAY, (A.REFUSE,)),
    Row(S.PASSING, T.ROTATED, S.PASSING, (A.FORCED,)),
    Row(S.PASSING, T.CLEARED, Move.REST, ()),
    Row(S.PASSING, T.TIMEOUT, S.HELD, (A.HELD,)),
    Row(S.PASSING, T.BLOCK, Move.STAY, (A.FLUSH,)),
    Row(S.PASSING, T.UNBLOCK, Move.STAY, ()),
    Row(S.PASSING, T.FIRE, S.FIRE, (A.FREE,)),
    #
    Row(S.HELD, T.GRANT, Move.STAY, (A.QUEUE,)),
    Row(S.HELD, T.REFUSED, Move.STAY, (A.REFUSE,)),
    Row(S.HELD, T.ROTATED, Move.STAY, (A.FORCED,)),
    Row(S.HELD, T.CLEARED, Move.REST, ()),
    Row(S.HELD, T.BLOCK, Move.STAY, (A.FLUSH,)),
    Row(S.HELD, T.UNBLOCK, Move.STAY, ()),
    Row(S.HELD, T.FIRE, S.FIRE, (A.FREE,)),
    #
    Row(S.BLOCKED, T.REFUSED, Move.STAY, (A.REFUSE,)),
    Row(S.BLOCKED, T.ROTATED, S.PASSING, (A.FORCED,)),
    Row(S.BLOCKED, T.CLEARED, Move.STAY, ()),
    Row(S.BLOCKED, T.UNBLOCK, Move.REST, ()),
    Row(S.BLOCKED, T.FIRE, S.FIRE, (A.FREE,)),
    #
    Row(S.FIRE, T.GRANT, Move.STAY, (A.FIRE_TAP,)),
    Row(S.FIRE, T.ROTATED, Move.STAY, (A.FIRE_TURN,)),
    Row(S.FIRE, T.CLEARED, Move.STAY, ()),
    Row(S.FIRE, T.BLOCK, Move.STAY, ()),
    Row(S.FIRE, T.UNBLOCK, Move.STAY, ()),
    Row(S.FIRE, T.FIRE_OVER, Move.REST, (A.HOLD,)),
)
ROWS: Mapping[tuple[State, Trigger], Row] = MappingProxyType(
    {(row.state, row.trigger): row for row in TABLE}
)
assert len(ROWS) == len(TABLE), "a state answers a trigger in one way"

# Where `to rest` leads: to the first that holds.
REST: tuple[tuple[str, State, tuple[Action, ...]], ...] = (
    ("the sensor is active", S.PASSING, ()),
    ("lockdown or fault", S.BLOCKED, ()),
    ("a grant is queued", S.GRANTED, (A.ARM,)),
    ("otherwise", S.IDLE, ()),
)


def diagram_mermaid() -> str:
    """The states and what leads from one to another; rows that stay are left to the table. Two
    ways from one state to another share an arrow; `rest` is where `REST` chooses."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in TABLE:
        if row.move is Move.STAY:
            continue
        target = "rest" if row.move is Move.REST else row.move.value
        arrows.setdefault((row.state.value, target), []).append(row.trigger.value)
    lines = ["stateDiagram-v2", "    state rest <<choice>>", f"    [*] --> {State.IDLE}"]
    lines += [
        f"    {source} --> {target}: {' / '.join(on)}" for (source, target), on in arrows.items()
    ]
    lines += [f"    rest --> {state}: {condition}" for condition, state, _ in REST]
    return "\n".join(lines) + "\n"


def table_markdown() -> str:
    """Both tables as `README.md` holds them."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "| in state | on | do | then |"
    yield "|---|---|---|---|"
    for row in TABLE:
        actions = "; ".join(row.actions) or "–"
        yield f"| {row.state} | {row.trigger} | {actions} | {row.move} |"
    yield ""
    yield "| to rest, when | do | state |"
    yield "|---|---|---|"
    for condition, state, rest_actions in REST:
        yield f"| {condition} | {'; '.join(rest_actions) or '–'} | {state} |"
