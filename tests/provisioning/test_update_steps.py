"""Goal: whatever is seen in whatever step, an update ends with a release that works in place.

Method: the state table is asked for the product of all steps and everything that can be seen; then
a small device that does what the table says is walked through with a kill before and after every
act, with a release that is good, one that never comes up, and one that never meets the city.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from msgspec import structs

from provisioning.update_steps import (
    BOOTS_MAX,
    TRIAL_MS_MAX,
    UP_MS_MAX,
    Act,
    Seen,
    State,
    Step,
    decide,
    go_back,
)
from sync.release_files import Ready
from sync.release_rules import Why

A, B = "1.0", "1.1"
READY = Ready(release=B, sha256="bb" * 32, token="order 7", counter=7)
UNDER_WAY = State(release=B, sha256=READY.sha256, token=READY.token, counter=7, former=A, boot="b")
FLAGS = ("made", "restarted", "up", "reached", "can_go_back")


def every_look() -> list[Seen]:
    looks = []
    for flags in itertools.product((False, True), repeat=len(FLAGS)):
        for current, ready, failed, refused, late, boot in itertools.product(
            ("", A, B), (None, READY), ("", "no_space"), ("", "too_old"), (False, True), "bc"
        ):
            looks.append(
                Seen(
                    boot=boot,
                    mono_ms=TRIAL_MS_MAX + 1 if late else 1_000,
                    current=current,
                    ready=ready,
                    failed=failed,
                    refused=refused,
                    **dict(zip(FLAGS, flags, strict=True)),
                )
            )
    return looks


@pytest.mark.parametrize("step", Step)
def test_every_look_in_every_step_has_an_answer_that_keeps_the_rules(step: Step) -> None:
    for former, without_city in itertools.product((A, ""), (False, True)):
        for seen in every_look():
            state = structs.replace(UNDER_WAY, step=step, former=former, without_city=without_city)
            after, act = decide(state, seen)
            assert rules_broken(state, seen, after, act) == [], (state, seen, after, act)


def rules_broken(state: State, seen: Seen, after: State, act: Act) -> list[str]:
    """In words: what may never be."""
    broken = []
    trusted = state.step is Step.TRIAL and seen.current == state.release
    proven = trusted and seen.up and (seen.reached or state.without_city)
    was_kept = state.done and state.step is after.step
    if after.done and not proven and not was_kept:
        broken.append("kept without proof")
    if act is Act.SWITCH and not (seen.made or state.step in (Step.SWITCHING, Step.TRIAL)):
        broken.append("switched to what is not whole")
    if act is Act.SWITCH_BACK and not state.former and state.step is not Step.BACK:
        broken.append("went back to nothing")
    if act is Act.MAKE and seen.refused and state.step is Step.REST:
        broken.append("made what was refused")
    if after.step is Step.REST and act not in (Act.NOTHING, Act.DROP):
        broken.append("at rest and busy")
    if act is Act.NOTHING and after.step is not Step.REST:
        broken.append("stops in the middle")
    is_back = seen.current == state.former and seen.restarted
    if state.step is Step.BACK and after.step is Step.REST and not is_back:
        broken.append("says it went back and did not")
    return broken


def test_nothing_ready_is_nothing_to_do() -> None:
    seen = Seen(boot="b", mono_ms=0, current=A)
    assert decide(State(), seen) == (State(), Act.NOTHING)


def test_what_just_ended_is_dropped_and_not_judged_again() -> None:
    kept = structs.replace(UNDER_WAY, done=True, held=B)
    seen = Seen(boot="b", mono_ms=0, current=B, ready=READY, refused=Why.TOO_OLD)
    assert decide(kept, seen) == (kept, Act.DROP)


def test_what_is_refused_is_told_and_dropped() -> None:
    seen = Seen(boot="b", mono_ms=0, current=A, ready=READY, refused=Why.TOO_OLD)
    after, act = decide(State(), seen)
    assert (after.step, after.why, after.counter, act) == (Step.REST, "too_old", 7, Act.DROP)


def trial(**fields: object) -> Seen:
    return structs.replace(Seen(boot="b", mono_ms=1_000, current=B, up_ms=0), **fields)


@pytest.mark.parametrize(
    ("seen", "step", "detail"),
    [
        (trial(up=True, mono_ms=TRIAL_MS_MAX - 1), Step.TRIAL, ""),
        (trial(up=True, mono_ms=TRIAL_MS_MAX), Step.BACK, "the city was not reached"),
        (trial(mono_ms=UP_MS_MAX - 1), Step.TRIAL, ""),
        (trial(mono_ms=UP_MS_MAX), Step.BACK, "edge or sync did not come up"),
        (trial(mono_ms=UP_MS_MAX, up_ms=1), Step.TRIAL, ""),
        (trial(mono_ms=TRIAL_MS_MAX, up_ms=TRIAL_MS_MAX - 1), Step.BACK, "did not stay up"),
        (trial(up=True, reached=True, mono_ms=2 * TRIAL_MS_MAX), Step.REST, ""),
        (trial(current=A, up=True, reached=True), Step.BACK, ""),
    ],
)
def test_a_trial_ends_by_its_numbers(seen: Seen, step: Step, detail: str) -> None:
    state = structs.replace(UNDER_WAY, step=Step.TRIAL)
    after, _ = decide(state, seen)
    assert after.step is step and detail in after.detail


def test_a_board_that_starts_anew_again_and_again_goes_back() -> None:
    state = structs.replace(UNDER_WAY, step=Step.TRIAL)
    for boot in range(BOOTS_MAX):
        state, act = decide(state, trial(boot=f"boot {boot}"))
        assert (state.step, act) == (Step.TRIAL, Act.LOOK)
    state, act = decide(state, trial(boot="one more"))
    assert (state.step, act) == (Step.BACK, Act.SWITCH_BACK)


def test_without_a_way_back_it_stays_and_says_so() -> None:
    state = structs.replace(UNDER_WAY, step=Step.TRIAL)
    after, act = decide(state, trial(mono_ms=TRIAL_MS_MAX, can_go_back=False))
    assert (after.step, after.why, act) == (Step.REST, Why.NO_WAY_BACK, Act.DROP)
    first = structs.replace(state, former="")
    after, act = decide(first, trial(mono_ms=TRIAL_MS_MAX))
    assert (after.step, after.why, act) == (Step.REST, Why.NO_WAY_BACK, Act.DROP)


def test_by_hand_it_goes_back_through_the_same_steps() -> None:
    state = go_back(State(release=B, former=A, held=B, done=True), current=B, token="hand 1")
    device = Device(current=B, state=state)
    device.run()
    assert device.current == A and device.running == A and device.state.held == A


# ------------------------------------------------------------------------- a small device


class Killed(Exception):
    """The power went."""


@dataclass
class Device:
    """Does what the table says. `kill_at` is the moment (before or after an act or a write) at
    which its power goes."""

    current: str = A
    running: str = A  # What the processes were started from.
    state: State = field(default_factory=State)  # On disk.
    ready: Ready | None = None
    made: bool = False
    works: bool = True
    connects: bool = True
    now_ms: int = 0
    kill_at: int = -1
    moments: int = 0
    reboots: bool = True

    def run(self) -> None:
        """One life of the updater, to its end or the cut."""
        restarted, up_ms = False, self.now_ms
        while True:
            runs = self.running == self.current
            up = runs and (self.works or self.running == A)
            if up:
                up_ms = self.now_ms
            seen = Seen(
                boot="b",
                mono_ms=self.now_ms,
                current=self.current,
                ready=self.ready,
                made=self.made,
                restarted=restarted,
                up=up,
                up_ms=up_ms,
                reached=up and (self.connects or self.running == A),
            )
            after, act = decide(self.state, seen)
            self._moment()
            if after != self.state:
                self.state = after
                self._moment()
            match act:
                case Act.NOTHING:
                    return
                case Act.DROP:
                    self.ready = None
                case Act.MAKE:
                    self.made = True
                case Act.SWITCH:
                    self.current, restarted = after.release, False
                case Act.SWITCH_BACK:
                    self.current, restarted = after.former, False
                case Act.RESTART:
                    self.running, restarted = self.current, True
                case Act.LOOK:
                    self.now_ms += 5_000
            assert self.current == A or self.made, "what is not whole never runs"
            self._moment()

    def _moment(self) -> None:
        self.moments += 1
        if self.moments == self.kill_at:
            raise Killed


@pytest.mark.parametrize("reboots", [False, True])
@pytest.mark.parametrize(
    ("works", "connects", "ends"), [(True, True, B), (False, True, A), (True, False, A)]
)
def test_a_cut_at_any_moment_ends_as_without_it(
    works: bool, connects: bool, ends: str, reboots: bool
) -> None:
    whole = Device(ready=READY, works=works, connects=connects)
    whole.run()
    assert whole.moments > 10
    assert (whole.current, whole.running) == (ends, ends) and whole.ready is None
    for cut in range(1, whole.moments + 1):
        device = Device(ready=READY, works=works, connects=connects, kill_at=cut)
        with pytest.raises(Killed):
            device.run()
        assert device.current in (A, B), "one of the two is in place at every moment"
        if reboots:
            device.running = device.current  # Everything is started from the link.
        device.run()
        assert (device.current, device.running) == (ends, ends), cut
        assert device.ready is None
        assert device.state.done is (ends == B)
        assert device.state.why == ("" if ends == B else Why.ROLLED_BACK)


def test_the_city_may_be_waived_by_a_technician() -> None:
    device = Device(ready=structs.replace(READY, without_city=True), connects=False)
    device.run()
    assert device.current == B and device.state.done
