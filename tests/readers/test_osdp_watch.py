"""Goal: an OSDP reader counts only behind the guard time, is down soon after its last answer, and
is never left to wait for 300 s.

Method: the rules step by step in virtual time; then any course of answers and silences, judged by
the rules said in other words.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.readers.osdp_watch import (
    CONNECT_MS_MAX,
    GUARD_MS,
    POLL_MS,
    RETRY_MS,
    SILENT_MS_MAX,
    Connection,
    Step,
)

SECURE_AT_MS = 500


def healthy(until_ms: int) -> Connection:
    """A connection whose reader has answered every poll up to then."""
    connection = Connection(now_ms=0)
    for now_ms in range(0, until_ms + 1, POLL_MS):
        secure = now_ms >= SECURE_AT_MS
        connection.step(secure=secure, answered_ms=now_ms, now_ms=now_ms)
    return connection


def test_a_reader_is_up_when_the_guard_time_after_its_handshake_is_over() -> None:
    connection = Connection(now_ms=0)
    steps = {}
    for now_ms in range(0, 5_000, POLL_MS):
        step = connection.step(secure=now_ms >= SECURE_AT_MS, answered_ms=now_ms, now_ms=now_ms)
        if step is not Step.WAIT:
            steps[now_ms] = step
        assert connection.is_up is (now_ms >= SECURE_AT_MS + GUARD_MS)
    assert steps == {SECURE_AT_MS + GUARD_MS: Step.UP}


def test_a_reader_that_is_not_secure_in_time_is_begun_anew() -> None:
    connection = Connection(now_ms=0)
    for now_ms in range(0, CONNECT_MS_MAX + 1, POLL_MS):
        assert connection.step(secure=False, answered_ms=now_ms, now_ms=now_ms) is Step.WAIT
    late_ms = CONNECT_MS_MAX + 1
    assert connection.step(secure=False, answered_ms=late_ms, now_ms=late_ms) is Step.RENEW
    assert not connection.was_secure


@pytest.mark.parametrize("up_ms", [SECURE_AT_MS + POLL_MS, 10_000])
def test_silence_ends_it_before_and_after_it_is_up(up_ms: int) -> None:
    connection = healthy(up_ms)
    last_ms = up_ms + SILENT_MS_MAX
    assert connection.step(secure=True, answered_ms=up_ms, now_ms=last_ms) is not Step.RENEW
    assert connection.step(secure=True, answered_ms=up_ms, now_ms=last_ms + 1) is Step.RENEW
    assert not connection.is_up
    assert connection.was_secure


def test_two_lost_answers_are_no_outage() -> None:
    connection = healthy(10_000)
    for now_ms in range(10_000, 10_000 + 2 * RETRY_MS, POLL_MS):
        assert connection.step(secure=True, answered_ms=10_000, now_ms=now_ms) is Step.WAIT


def test_a_channel_that_is_no_longer_secure_ends_it_at_once() -> None:
    connection = healthy(10_000)
    assert connection.step(secure=False, answered_ms=10_000, now_ms=10_050) is Step.RENEW


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 3_000)), max_size=40))
def test_it_is_up_only_while_secure_answered_and_guarded(
    course: list[tuple[bool, bool, int]],
) -> None:
    connection = Connection(now_ms=0)
    now_ms = answered_ms = 0
    secure_since_ms: int | None = None
    for secure, answered, pause_ms in course:
        now_ms += pause_ms
        answered_ms = now_ms if answered else answered_ms
        secure_since_ms = (secure_since_ms or now_ms) if secure else None
        step = connection.step(secure=secure, answered_ms=answered_ms, now_ms=now_ms)
        if connection.is_up:
            assert secure_since_ms is not None
            assert now_ms - secure_since_ms >= GUARD_MS
            assert now_ms - answered_ms <= SILENT_MS_MAX
        if step is Step.RENEW:
            connection = Connection(now_ms=now_ms)
            secure_since_ms = None
        if step is Step.UP:
            assert connection.is_up
