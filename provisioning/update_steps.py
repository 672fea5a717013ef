"""The life of an update as a state table: made, switched, tried, kept or taken back. Pure.

`decide` is asked again and again with what is seen now. The state it gives is written to disk
*before* its act is done, and every act can be done twice; so a power cut or a kill at any point is
nothing but another look. Between `SWITCHING` and the end of `TRIAL` or `BACK` the one link that
says which release runs names either the new or the former one, both of them whole.

    REST --ready--> MAKING --made--> SWITCHING --restarted--> TRIAL --good--> REST (kept)
                       | failed                                 | not good
                       v                                        v
                      REST                                    BACK --restarted--> REST
"""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Final

import msgspec

from sync.release_files import Ready
from sync.release_rules import Why

# Our choice: what the longest of start, first connection and a broker's own restart take, twice.
TRIAL_MS_MAX: Final = 10 * 60_000
# Our choice: sixty times what a start takes on a slow board, and as long as people wait at a gate
# that does not answer, before somebody opens it by hand.
UP_MS_MAX: Final = 2 * 60_000
BOOTS_MAX: Final = 3  # Our choice: a release that lets the board restart has had its chances.
assert UP_MS_MAX < TRIAL_MS_MAX


@unique
class Step(StrEnum):
    REST = "rest"
    MAKING = "making"
    SWITCHING = "switching"
    TRIAL = "trial"
    BACK = "back"


@unique
class Act(StrEnum):
    """What the shell is to do next, once the state is on disk."""

    NOTHING = "nothing"  # The end of a run.
    DROP = "drop"  # What is ready is dealt with.
    MAKE = "make"
    SWITCH = "switch"
    RESTART = "restart"
    LOOK = "look"  # Wait a little, look again.
    SWITCH_BACK = "switch_back"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that the updater remembers."""

    step: Step = Step.REST
    release: str = ""  # Of the last update, or of the one under way.
    sha256: str = ""
    token: str = ""
    counter: int = 0
    without_city: bool = False
    former: str = ""  # The release that was in use before it; "" is none.
    boot: str = ""  # Since when it is tried.
    since_ms: int = 0
    boots: int = 0
    done: bool = False
    why: str = ""
    detail: str = ""  # For the technician.
    held: str = ""  # The release in use that was kept last, and its bundle.
    held_sha256: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look at everything."""

    boot: str
    mono_ms: int
    current: str  # The release that the link names; "" is none.
    ready: Ready | None = None
    refused: str = ""  # Why what is ready is not taken.
    made: bool = False  # The release under way stands whole in its folder.
    failed: str = ""  # Why it could not be made, in this life of the updater.
    restarted: bool = False  # Both processes were, since this life of the updater switched.
    up: bool = False  # Both processes answer, and are of the release that the link names.
    up_ms: int = 0  # When they last were, or when this life began to look.
    reached: bool = False  # The city has welcomed this release.
    can_go_back: bool = True  # The former release is whole and reads the databases as they are.


def decide(state: State, seen: Seen) -> tuple[State, Act]:
    """What to remember from now on, and what to do then."""
    match state.step:
        case Step.REST:
            return _rest(state, seen)
        case Step.MAKING:
            return _making(state, seen)
        case Step.SWITCHING:
            if seen.current != state.release:
                return state, Act.SWITCH
            if not seen.restarted:
                return state, Act.RESTART
            return _changed(
                state, step=Step.TRIAL, boot=seen.boot, since_ms=seen.mono_ms, boots=0
            ), Act.LOOK
        case Step.TRIAL:
            return _trial(state, seen)
        case Step.BACK:
            if seen.current != state.former:
                return state, Act.SWITCH_BACK
            if not seen.restarted:
                return state, Act.RESTART
            return _changed(state, step=Step.REST, former=""), Act.DROP


def _rest(state: State, seen: Seen) -> tuple[State, Act]:
    ready = seen.ready
    if ready is None:
        return state, Act.NOTHING
    if ready.token == state.token:
        return state, Act.DROP  # It is the one that just ended.
    begun = _changed(
        state,
        release=ready.release,
        sha256=ready.sha256,
        token=ready.token,
        counter=ready.counter,
        without_city=ready.without_city,
        done=False,
        why=seen.refused,
        detail="",
    )
    if seen.refused:
        return begun, Act.DROP
    return _changed(begun, step=Step.MAKING, former=seen.current), Act.MAKE


def _making(state: State, seen: Seen) -> tuple[State, Act]:
    if seen.made:
        return _changed(state, step=Step.SWITCHING), Act.SWITCH
    if seen.failed:
        return _changed(state, step=Step.REST, why=seen.failed), Act.DROP
    return state, Act.MAKE


def _trial(state: State, seen: Seen) -> tuple[State, Act]:
    if state.former and seen.current == state.former:
        # Gone back, though it could not be noted: the disk was full.
        back = _changed(state, step=Step.BACK, why=Why.ROLLED_BACK.value)
        return back, Act.SWITCH_BACK
    if seen.current != state.release:
        return _changed(state, step=Step.SWITCHING), Act.SWITCH  # Somebody has had the link away.
    if seen.boot != state.boot:
        state = _changed(state, boot=seen.boot, since_ms=seen.mono_ms, boots=state.boots + 1)
    if seen.up and (seen.reached or state.without_city):
        kept = _changed(
            state,
            step=Step.REST,
            done=True,
            why="",
            held=state.release,
            held_sha256=state.sha256,
        )
        return kept, Act.DROP
    if state.boots > BOOTS_MAX:
        detail = f"the board started anew {state.boots} times"
    elif not seen.up and seen.mono_ms - max(seen.up_ms, state.since_ms) >= UP_MS_MAX:
        detail = "edge or sync did not come up"
    elif seen.mono_ms - state.since_ms >= TRIAL_MS_MAX:
        detail = "the city was not reached" if seen.up else "edge or sync did not stay up"
    else:
        return state, Act.LOOK
    if not state.former or not seen.can_go_back:
        stays = _changed(state, step=Step.REST, why=Why.NO_WAY_BACK.value, detail=detail)
        return stays, Act.DROP
    back = _changed(state, step=Step.BACK, why=Why.ROLLED_BACK.value, detail=detail)
    return back, Act.SWITCH_BACK


def go_back(state: State, *, current: str, token: str) -> State:
    """By hand: to the release before this one. Ask only at rest, with one that can be gone to."""
    assert state.step is Step.REST and state.former and state.former != current
    return _changed(
        state,
        step=Step.BACK,
        release=current,
        token=token,
        counter=0,
        done=False,
        why=Why.ROLLED_BACK.value,
        detail="by hand",
        held=state.former,
        held_sha256="",
    )


def _changed(state: State, **fields: object) -> State:
    return msgspec.structs.replace(state, **fields)
