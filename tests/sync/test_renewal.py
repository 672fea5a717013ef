"""Goal: a device renews its certificate in time, asks no more often than it should, and never gives
up what it has for something the city has not welcomed.

Method: every edge of the state machine by hand; then a year and a half of hourly steps with a city
that answers, refuses or is away by chance, many seeds; the certificate must never end unrenewed
while the city is reached, and what is promoted was welcomed.
"""

from __future__ import annotations

from random import Random

import pytest

from sync.renewal import (
    ANSWER_MS,
    RETRY_MS_MAX,
    RETRY_MS_MIN,
    SPREAD_PART,
    TRIES_MAX,
    WELCOME_MS,
    Do,
    Renewal,
    Step,
)

DAY_S = 24 * 3600
LIFE_S = 90 * DAY_S


def renewal(spread: float = 0.0) -> Renewal:
    return Renewal(spread=spread, from_utc_s=0, until_utc_s=LIFE_S)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_it_is_due_from_half_time_and_spread_over_a_twentieth(spread: float) -> None:
    one = renewal(spread)
    due_s = LIFE_S // 2 + round(spread * LIFE_S / SPREAD_PART)
    assert one.due(0, due_s - 1, connected=True) is None
    assert one.due(0, None, connected=True) is None, "without a clock nothing is due"
    assert one.due(0, due_s, connected=False) is None, "nobody to ask"
    assert one.due(0, due_s, connected=True) is Do.ASK


def test_by_order_it_is_due_at_once_and_once() -> None:
    one = renewal()
    one.want()
    assert one.due(0, None, connected=True) is Do.ASK
    one.answered("misfit", 10)
    assert (one.step, one.wanted, one.why) == (Step.REST, False, "misfit")
    assert one.due(RETRY_MS_MAX, 0, connected=True) is None


def test_step_by_step_to_the_end() -> None:
    one = renewal()
    one.want()
    assert one.due(0, 1, connected=True) is Do.ASK and one.expects_answer
    assert one.due(ANSWER_MS - 1, 1, connected=True) is None
    one.answered("", 10)
    assert one.due(11, 1, connected=False) is None, "a candidate is tried from a link that works"
    assert one.due(12, 1, connected=True) is Do.CONNECT and one.as_candidate
    assert one.due(12 + WELCOME_MS - 1, 1, connected=False) is None
    one.promoted(50, 50 + LIFE_S)
    assert (one.step, one.wanted, one.as_candidate, one.why) == (Step.REST, False, False, "")
    assert one.due_utc_s == 50 + LIFE_S // 2


def test_no_answer_is_a_failure_and_waits_twice_as_long_each_time() -> None:
    one, now_ms = renewal(), 0
    for failure in range(8):
        assert one.due(now_ms, LIFE_S // 2, connected=True) is Do.ASK
        now_ms += ANSWER_MS
        assert one.due(now_ms, LIFE_S // 2, connected=True) is None
        wait_ms = min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** min(failure, TRIES_MAX))
        assert one.why == "no_answer"
        assert one.due(now_ms + wait_ms - 1, LIFE_S // 2, connected=True) is None
        now_ms += wait_ms


def test_a_candidate_is_tried_so_often_and_then_thrown_away() -> None:
    one, now_ms = renewal(), 0
    one.found_ready()
    for number in range(1, TRIES_MAX + 1):
        assert one.due(now_ms, 0, connected=True) is Do.CONNECT
        assert one.lost("denied", now_ms) is (number == TRIES_MAX)
        assert not one.as_candidate
        now_ms += RETRY_MS_MAX
    assert one.step is Step.REST
    assert not one.lost("denied", now_ms), "of another connection"


def test_a_candidate_that_is_not_welcomed_in_time_is_ended() -> None:
    one = renewal()
    one.found_ready()
    one.due(0, 0, connected=True)
    assert one.due(WELCOME_MS, 0, connected=False) is Do.END
    assert (one.step, one.why) == (Step.READY, "no_welcome")


def test_what_waits_can_be_tried_at_once_and_nothing_else() -> None:
    one = renewal()
    assert not one.try_now(0)
    one.found_ready()
    assert one.try_now(5) and one.as_candidate
    assert not one.try_now(6)


@pytest.mark.parametrize("seed", range(40))
def test_no_certificate_ends_while_the_city_is_reached(seed: int) -> None:
    random = Random(seed)
    one = renewal(random.random())
    asked = promoted = 0
    reached = True
    for hour in range(540 * 24):
        now_ms, utc_s = hour * 3_600_000, hour * 3600
        if random.random() < 0.005:
            reached = not reached
        for after_ms in (0, 1_000, 2_000):
            before = one.step
            do = one.due(now_ms + after_ms, utc_s, connected=reached)
            chance = random.random()
            if do is Do.ASK:
                asked += 1
                assert before is Step.REST
                if chance < 0.6:
                    one.answered("" if chance < 0.4 else "misfit", now_ms + after_ms)
            elif do is Do.CONNECT:
                assert before is Step.READY
                if chance < 0.5 and reached:
                    promoted += 1
                    one.promoted(utc_s, utc_s + LIFE_S)
                else:
                    one.lost("denied", now_ms + after_ms)
        if reached and random.random() < 0.99:
            continue
    assert one.until_utc_s > 540 * DAY_S - LIFE_S
    assert 8 <= promoted <= 13, "each half life, not sooner"
    assert asked < 60
