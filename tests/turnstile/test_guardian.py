"""Goal: a choice is taken when the rules allow it, for the dialogue on the screen alone, and every
dialogue ends once: said, confirmed, or told to the officer.

Method: every choice of up to three of four children (in, absent, barred, a stranger's) against
a rule written anew; dialogues of two guardians driven at random beside a plain model.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import Cardholder, Category, HandoverKind
from edge.turnstile.guardian import (
    CHILDREN_MAX,
    CHOICE_MS_MAX,
    CONFIRMABLE,
    DIALOGUES_MAX,
    Choice,
    Dialogue,
    Dialogues,
    Problem,
    as_allowed,
    problem_of,
    said_to_guardian,
    wards_of,
)

IN, AWAY, BARRED, STRANGER = "in", "away", "barred", "stranger"
PRESENT = {IN, STRANGER}


def dialogue(guardian: str = "g1", access: str = "e.1", until_ms: int | None = 60_000) -> Dialogue:
    return Dialogue(
        access=access,
        guardian_id=guardian,
        zone_id="school",
        ward_ids=frozenset({IN, AWAY}),
        barred_ids=frozenset({BARRED}),
        until_ms=until_ms,
    )


def expected(what: HandoverKind, children: tuple[str, ...]) -> Problem | None:
    if what is HandoverKind.NO_CHILD:
        return Problem.CHILDREN_WITH_NO_CHILD if children else None
    if not children:
        return Problem.NO_CHILDREN
    if BARRED in children:
        return Problem.BARRED
    if STRANGER in children:
        return Problem.NOT_A_WARD
    if what is HandoverKind.BROUGHT:
        return Problem.ALREADY_IN if IN in children else None
    return Problem.NOT_IN if AWAY in children else None


@pytest.mark.parametrize("what", HandoverKind)
def test_every_choice_of_children(what: HandoverKind) -> None:
    taken = set()
    for count in range(4):
        for children in permutations((IN, AWAY, BARRED, STRANGER), count):
            problem = problem_of(dialogue(), Choice(what=what, children=children), present=PRESENT)
            assert problem is expected(what, children), (what, children)
            if problem is None:
                taken.add(children)
    assert (
        taken
        == {
            HandoverKind.BROUGHT: {(AWAY,)},
            HandoverKind.COLLECTED: {(IN,)},
            HandoverKind.NO_CHILD: {()},
        }[what]
    )


def test_a_child_is_named_once_and_not_too_many_are() -> None:
    brought = HandoverKind.BROUGHT
    twice = Choice(what=brought, children=(AWAY, AWAY))
    assert problem_of(dialogue(), twice, present=()) is Problem.TOO_MANY
    many = tuple(f"c{n}" for n in range(CHILDREN_MAX + 1))
    wards = replace(dialogue(), ward_ids=frozenset(many))
    assert problem_of(wards, Choice(what=brought, children=many), present=()) is Problem.TOO_MANY
    most = Choice(what=brought, children=many[:-1])
    assert problem_of(wards, most, present=()) is None


def test_the_guardians_screen_tells_a_barred_child_from_a_strange_one_by_nothing() -> None:
    assert said_to_guardian(Problem.BARRED) == said_to_guardian(Problem.NOT_A_WARD)
    for problem in Problem:
        word, text = said_to_guardian(problem)
        assert word and text and "barred" not in word


def test_who_may_not_be_let_in() -> None:
    for category, wards, barred in product(Category, ((), ("a",), ("a", "b")), ((), ("a",))):
        person = Cardholder(
            cardholder_id="g",
            category=category,
            account_id=None,
            suspended=False,
            here=True,
            windows_by_zone={},
            ward_ids=frozenset(wards),
            barred_ward_ids=frozenset(barred),
        )
        revoked = category is Category.GUARDIAN and bool(barred) and wards in ((), ("a",))
        assert as_allowed(person).suspended is revoked
        assert wards_of(person) == set(wards) - set(barred)


# ------------------------------------------------------------------------- dialogues


def test_a_choice_for_a_screen_that_moved_on_is_refused() -> None:
    open_ones = Dialogues()
    nothing = Choice(what=HandoverKind.NO_CHILD)
    assert open_ones.choose("e.1", nothing, present=())[1] is Problem.MOVED_ON
    open_ones.begin(dialogue("g1", "e.1"))
    open_ones.begin(dialogue("g2", "e.2"))
    assert open_ones.choose("e.1", nothing, present=())[1] is Problem.MOVED_ON
    assert open_ones.resume("g1", until_ms=90_000) and not open_ones.resume("g3", until_ms=1)
    assert open_ones.choose("e.2", nothing, present=())[1] is Problem.MOVED_ON
    ended, problem = open_ones.choose("e.1", nothing, present=())
    assert problem is None and ended is not None and ended.guardian_id == "g1"
    assert open_ones.shown is None, "the other was moved on from; it is not shown by itself"
    assert open_ones.of("g2") is not None


def test_time_is_told_once_and_given_again_by_a_tap() -> None:
    open_ones = Dialogues()
    open_ones.begin(dialogue(until_ms=CHOICE_MS_MAX))
    assert [open_ones.due_ms] == [CHOICE_MS_MAX]
    assert open_ones.overdue(CHOICE_MS_MAX - 1) == []
    assert [one.guardian_id for one in open_ones.overdue(CHOICE_MS_MAX)] == ["g1"]
    assert open_ones.shown is None and open_ones.due_ms is None
    assert open_ones.overdue(10 * CHOICE_MS_MAX) == []
    assert open_ones.resume("g1", until_ms=500_000)
    assert [one.access for one in open_ones.overdue(500_000)] == ["e.1"]


def test_the_officer_confirms_what_can_be_and_nothing_else() -> None:
    for problem, children in (
        (Problem.ALREADY_IN, (IN,)),
        (Problem.BARRED, (BARRED,)),
        (Problem.NOT_A_WARD, (STRANGER,)),
    ):
        open_ones = Dialogues()
        open_ones.begin(dialogue())
        choice = Choice(what=HandoverKind.BROUGHT, children=children)
        assert open_ones.choose("e.1", choice, present=PRESENT)[1] is problem
        still = open_ones.of("g1")
        assert still is not None and (still.claim == choice) is (problem in CONFIRMABLE)
        _, left = open_ones.confirm("e.1", choice, present=PRESENT)
        assert left is (None if problem in CONFIRMABLE else problem)
        assert (open_ones.of("g1") is None) is (problem in CONFIRMABLE)


def test_a_refused_claim_leaves_the_guardian_to_choose_again() -> None:
    open_ones = Dialogues()
    open_ones.begin(dialogue())
    assert not open_ones.refuse_claim("e.1") and not open_ones.refuse_claim("e.9")
    open_ones.choose("e.1", Choice(what=HandoverKind.BROUGHT, children=(IN,)), present=PRESENT)
    assert open_ones.refuse_claim("e.1")
    still = open_ones.of("g1")
    assert still is not None and still.claim is None


def test_dialogues_are_bounded() -> None:
    open_ones = Dialogues()
    for number in range(DIALOGUES_MAX + 5):
        open_ones.begin(dialogue(f"g{number}", f"e.{number}"))
    assert len(open_ones.open) == DIALOGUES_MAX and open_ones.of("g4") is None
    open_ones.new_day()
    assert open_ones.open == () and open_ones.shown is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.sampled_from(("g1", "g2"))),
        st.tuples(st.just("resume"), st.sampled_from(("g1", "g2"))),
        st.tuples(st.just("end"), st.sampled_from(("g1", "g2"))),
        st.tuples(st.just("choose"), st.integers(0, 8)),
        st.tuples(st.just("wait"), st.integers(0, 90_000)),
    ),
    max_size=20,
)


@given(STEPS)
def test_every_dialogue_ends_in_a_choice_or_is_told(steps: list[tuple[str, object]]) -> None:
    open_ones = Dialogues()
    now_ms, made = 0, 0
    waiting: dict[str, tuple[str, int | None]] = {}  # guardian -> access, until
    shown = ""
    for step, value in steps:
        match step, value:
            case "begin", str(guardian):
                made += 1
                waiting[guardian] = (f"e.{made}", now_ms + CHOICE_MS_MAX)
                shown = guardian
                until_ms = now_ms + CHOICE_MS_MAX
                open_ones.begin(dialogue(guardian, f"e.{made}", until_ms))
            case "resume", str(guardian):
                found = open_ones.resume(guardian, until_ms=now_ms + CHOICE_MS_MAX)
                assert found is (guardian in waiting)
                if found:
                    waiting[guardian] = (waiting[guardian][0], now_ms + CHOICE_MS_MAX)
                    shown = guardian
            case "end", str(guardian):
                assert (open_ones.end(guardian) is not None) is (guardian in waiting)
                waiting.pop(guardian, None)
            case "choose", int(number):
                no_child = Choice(what=HandoverKind.NO_CHILD)
                ended, problem = open_ones.choose(f"e.{number}", no_child, present=())
                on_screen = shown in waiting and waiting[shown][0] == f"e.{number}"
                assert (problem is None) is on_screen
                if on_screen:
                    assert ended is not None and ended.guardian_id == shown
                    del waiting[shown]
            case "wait", int(ms):
                now_ms += ms
                over = {g for g, (_, until) in waiting.items() if until and until <= now_ms}
                assert {one.guardian_id for one in open_ones.overdue(now_ms)} == over
                for guardian in over:
                    waiting[guardian] = (waiting[guardian][0], None)
                    shown = "" if shown == guardian else shown
            case _:
                raise AssertionError(step)
        seen = open_ones.shown
        assert (seen.guardian_id if seen else "") == (shown if shown in waiting else "")
        assert {one.guardian_id: one.access for one in open_ones.open} == {
            guardian: access for guardian, (access, _) in waiting.items()
        }
