"""Goal: devices come back out of step, later each time, and soon after a good connection.

Method: the ceiling is read with the fraction 1; a fleet that fails together is sampled by seed.
"""

from __future__ import annotations

from random import Random

import pytest

from sync.backoff import BACKOFF_MS_MAX, BACKOFF_MS_MIN, USEFUL_MS, Backoff


def test_the_ceiling_doubles_to_its_highest() -> None:
    backoff = Backoff(endpoints=1)
    ceilings = [backoff.ended(now_ms=0, fraction=1.0) for _ in range(40)]
    assert ceilings[:4] == [1_000, 2_000, 4_000, 8_000]
    assert ceilings[-1] == BACKOFF_MS_MAX and sorted(ceilings) == ceilings


def test_every_endpoint_gets_its_turn_before_the_wait_grows() -> None:
    backoff = Backoff(endpoints=3)
    tried, waits = [], []
    for _ in range(6):
        tried.append(backoff.endpoint)
        waits.append(backoff.ended(now_ms=0, fraction=1.0))
    assert tried == [0, 1, 2, 0, 1, 2]
    assert waits == [1_000, 1_000, 1_000, 2_000, 2_000, 2_000]


@pytest.mark.parametrize(("served_ms", "reset"), [(USEFUL_MS - 1, False), (USEFUL_MS, True)])
def test_only_a_connection_that_served_resets_and_keeps_its_endpoint(
    served_ms: int, reset: bool
) -> None:
    backoff = Backoff(endpoints=2)
    for _ in range(5):
        backoff.ended(now_ms=0, fraction=1.0)
    assert backoff.endpoint == 1
    backoff.useful(now_ms=1_000)
    backoff.useful(now_ms=9_000)  # Said again with each welcome; the first counts.
    wait_ms = backoff.ended(now_ms=1_000 + served_ms, fraction=1.0)
    assert (wait_ms == BACKOFF_MS_MIN) is reset
    assert (backoff.endpoint == 1) is reset


def test_a_broker_that_accepts_and_drops_is_still_backed_off_from() -> None:
    backoff = Backoff(endpoints=1)
    now_ms = wait_ms = 0
    for _ in range(12):
        backoff.useful(now_ms=now_ms)
        now_ms += 100
        wait_ms = backoff.ended(now_ms=now_ms, fraction=1.0)
        now_ms += wait_ms
    assert wait_ms == BACKOFF_MS_MAX


def test_a_denied_identity_does_not_knock_harder() -> None:
    assert Backoff(endpoints=1).ended(now_ms=0, fraction=1.0, denied=True) == BACKOFF_MS_MAX


@pytest.mark.parametrize("endpoints", [2, 3])
def test_one_endpoint_that_denies_does_not_keep_us_from_the_others(endpoints: int) -> None:
    backoff = Backoff(endpoints=endpoints)
    waits = [backoff.ended(now_ms=0, fraction=1.0, denied=True) for _ in range(endpoints + 1)]
    assert waits[:-2] == [BACKOFF_MS_MIN] * (endpoints - 1), "the others come first"
    assert waits[-2:] == [BACKOFF_MS_MAX] * 2, "all of them have said so, and go on saying it"


def test_a_round_of_denials_begins_anew_with_an_endpoint_that_is_only_away() -> None:
    backoff = Backoff(endpoints=2)
    waits = [
        backoff.ended(now_ms=0, fraction=1.0, denied=denied)
        for denied in (True, False, True, False, True, True)
    ]
    assert waits == [1_000, 1_000, 2_000, 2_000, 4_000, BACKOFF_MS_MAX]


def test_a_connection_that_served_ends_the_row_of_denials() -> None:
    backoff = Backoff(endpoints=2)
    backoff.ended(now_ms=0, fraction=1.0, denied=True)
    backoff.useful(now_ms=1_000)
    assert backoff.ended(now_ms=1_000 + USEFUL_MS, fraction=1.0) == BACKOFF_MS_MIN
    assert backoff.ended(now_ms=99_000, fraction=1.0, denied=True) == BACKOFF_MS_MIN


def test_a_fleet_that_fails_together_does_not_return_together() -> None:
    random = Random(11)
    fleet = [Backoff(endpoints=1) for _ in range(2_000)]
    waits: list[int] = []
    for _ in range(8):
        waits = [one.ended(now_ms=0, fraction=random.random()) for one in fleet]
    seconds = [wait // 1_000 for wait in waits]
    assert max(seconds.count(second) for second in set(seconds)) < 40  # 2,000 over 128 s.
