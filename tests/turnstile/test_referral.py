"""Goal: every referral ends exactly once, whatever order people, officers and time come in.

Method: sampled sequences of taps, answers and waiting, beside a plain list.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.model import AccessReason, Direction
from edge.turnstile.referral import WAITING_MAX, Referral, Referrals

WAIT_MS = 60_000


def referral(number: int, person: str | None, *, until_ms: int = WAIT_MS) -> Referral:
    return Referral(
        access=f"e.{number}",
        access_point_id="door-in",
        zone_id="school",
        direction=Direction.IN,
        reason=AccessReason.PASSBACK,
        cardholder_id=person,
        until_ms=until_ms,
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tap"), st.sampled_from((None, "p1", "p2", "p3"))),
        st.tuples(st.just("answer"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.integers(0, 40_000)),
        st.tuples(st.just("passed"), st.sampled_from(("p1", "p2"))),
    ),
    max_size=40,
)


@given(STEPS)
def test_each_ends_once(steps: list[tuple[str, object]]) -> None:
    referrals = Referrals()
    made, now_ms = 0, 0
    ended: list[str] = []
    for step, value in steps:
        match step, value:
            case "tap", (str() | None) as person:
                new = referral(made, person, until_ms=now_ms + WAIT_MS)
                ended += [one.access for one in referrals.add(new)]
                made += 1
            case "answer", int(number):
                found = referrals.find(f"e.{number}", now_ms)
                if found is not None:
                    referrals.end(found.access)
                    ended.append(found.access)
            case "wait", int(ms):
                now_ms += ms
                ended += [one.access for one in referrals.expire(now_ms)]
                assert referrals.due_ms is None or referrals.due_ms > now_ms
            case "passed", str(person):
                ended += [one.access for one in referrals.passed(person)]
            case _:
                raise AssertionError(step)
        waiting = [one.access for one in referrals.waiting]
        assert sorted(ended + waiting) == sorted(f"e.{number}" for number in range(made))
        assert len(waiting) <= WAITING_MAX
        people = [one.cardholder_id for one in referrals.waiting if one.cardholder_id]
        assert len(people) == len(set(people)), "a person waits once"


def test_the_oldest_of_too_many_gives_way() -> None:
    referrals = Referrals()
    for number in range(WAITING_MAX):
        assert referrals.add(referral(number, None)) == []
    assert [one.access for one in referrals.add(referral(99, None))] == ["e.0"]


def test_an_answer_after_its_time_finds_nobody() -> None:
    referrals = Referrals()
    referrals.add(referral(1, "p1"))
    assert referrals.find("e.1", WAIT_MS - 1) is not None
    assert referrals.find("e.1", WAIT_MS) is None


def test_names_are_in_no_repr() -> None:
    shown = repr(
        Referral(
            access="e.1",
            access_point_id="door-in",
            zone_id="school",
            direction=Direction.IN,
            reason=AccessReason.PASSBACK,
            cardholder_id="p1",
            until_ms=1,
            name="Аня",
            group="7Б",
            photo="hash",
        )
    )
    assert "Аня" not in shown and "7Б" not in shown and "hash" not in shown
