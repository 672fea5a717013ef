"""Goal: a card left lying is one read, a dead port is tried at a known pace, and no byte is
thought younger than it may be.

Method: each rule over its whole range with times passed in; the reopening schedule spelled out.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.readers.frame import BYTE_GAP_MS_MAX
from edge.readers.watch import (
    BABBLE_MS_MAX,
    CARDS_REMEMBERED_MAX,
    GUARD_MS,
    LATE_MS_MAX,
    REPEAT_MS_MAX,
    STABLE_MS,
    Backoff,
    Guard,
    LinkState,
    OpenGuard,
    Repeats,
    arrived_ms,
)

A, B = b"\x04AAA", b"\x04BBB"


def test_a_card_left_on_the_reader_is_one_read_until_it_was_away_long_enough() -> None:
    repeats = Repeats()
    assert repeats.is_new(A, now_ms=0)
    sightings_ms = range(0, 20 * REPEAT_MS_MAX, REPEAT_MS_MAX)
    assert not any(repeats.is_new(A, now_ms=now_ms) for now_ms in sightings_ms)
    assert repeats.is_new(A, now_ms=sightings_ms[-1] + REPEAT_MS_MAX + 1)


def test_two_cards_in_one_wallet_are_one_read_each() -> None:
    repeats = Repeats()
    news = [repeats.is_new((A, B)[turn % 2], now_ms=100 * turn) for turn in range(50)]
    assert news == [True, True] + [False] * 48


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 400)), max_size=100))
def test_a_sighting_is_new_exactly_when_the_last_one_is_too_old(
    steps: list[tuple[int, int]],
) -> None:
    """Against a memory without a bound, for as many cards as the bound allows."""
    repeats, now_ms, seen_ms = Repeats(), 0, dict[int, int]()
    for number, wait_ms in steps:
        card = number % CARDS_REMEMBERED_MAX
        now_ms += wait_ms
        expected = card not in seen_ms or now_ms - seen_ms[card] > REPEAT_MS_MAX
        assert repeats.is_new(bytes([card]), now_ms=now_ms) is expected
        seen_ms[card] = now_ms


def test_few_cards_are_remembered_and_the_one_longest_unseen_goes() -> None:
    repeats = Repeats()
    for number in (*range(CARDS_REMEMBERED_MAX), 0, CARDS_REMEMBERED_MAX):
        repeats.is_new(bytes([number]), now_ms=0)
    assert not repeats.is_new(bytes([0]), now_ms=0)  # Seen twice, the second time lately.
    assert not repeats.is_new(bytes([CARDS_REMEMBERED_MAX]), now_ms=0)
    assert repeats.is_new(bytes([1]), now_ms=0)


def test_the_reopening_schedule() -> None:
    backoff = Backoff()
    delays = [backoff.failed(now_ms=0, jitter=0.5) for _ in range(8)]
    assert delays == [100, 200, 500, 1_000, 2_000, 5_000, 5_000, 5_000]


@pytest.mark.parametrize(("jitter", "delay_ms"), [(0.0, 80), (0.25, 90), (0.5, 100), (0.75, 110)])
def test_jitter_spreads_the_delay_both_ways(jitter: float, delay_ms: int) -> None:
    assert Backoff().failed(now_ms=0, jitter=jitter) == delay_ms


def test_the_schedule_starts_over_after_a_stable_link_and_not_after_a_flapping_one() -> None:
    backoff = Backoff()
    backoff.failed(now_ms=0, jitter=0.5)
    backoff.up(now_ms=0)
    assert backoff.failed(now_ms=STABLE_MS - 1, jitter=0.5) == 200
    backoff.up(now_ms=0)
    assert backoff.failed(now_ms=STABLE_MS, jitter=0.5) == 100
    assert backoff.failed(now_ms=10 * STABLE_MS, jitter=0.5) == 200  # It was not up meanwhile.


def test_each_change_of_a_link_is_news_once() -> None:
    link = LinkState()
    assert not link.is_up
    changes = [link.changes_to(up) for up in (False, False, True, True, False)]
    assert changes == [True, False, True, False, True]
    assert LinkState().changes_to(True)


def test_a_quiet_port_is_ready_after_the_guard_time() -> None:
    guard = OpenGuard(opened_ms=1_000)
    assert guard.look(0, now_ms=1_000 + GUARD_MS - 1) is Guard.DISCARD
    assert guard.look(0, now_ms=1_000 + GUARD_MS) is Guard.READY


def test_reading_begins_between_two_frames() -> None:
    guard = OpenGuard(opened_ms=0)
    assert guard.look(5, now_ms=GUARD_MS) is Guard.DISCARD
    assert guard.look(5, now_ms=GUARD_MS + BYTE_GAP_MS_MAX) is Guard.DISCARD
    assert guard.look(0, now_ms=GUARD_MS + 2 * BYTE_GAP_MS_MAX) is Guard.DISCARD
    assert guard.look(0, now_ms=GUARD_MS + 2 * BYTE_GAP_MS_MAX + 1) is Guard.READY


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 200)), max_size=200))
def test_a_guard_never_lets_bytes_through(looks: list[tuple[int, int]]) -> None:
    guard, now_ms = OpenGuard(opened_ms=0), 0
    for size, wait_ms in looks:
        now_ms += wait_ms
        assert not (guard.look(size, now_ms=now_ms) is Guard.READY and size)


def test_a_reader_that_never_pauses_is_babbling() -> None:
    guard = OpenGuard(opened_ms=0)
    for now_ms in range(0, BABBLE_MS_MAX + 1, BYTE_GAP_MS_MAX):
        assert guard.look(1, now_ms=now_ms) is Guard.DISCARD
    assert guard.look(1, now_ms=BABBLE_MS_MAX + 1) is Guard.BABBLING


def test_bytes_that_wake_the_worker_came_now() -> None:
    at_ms = arrived_ms(looked_ms=0, asked_ms=0, answered_ms=LATE_MS_MAX, waiting=False)
    assert at_ms == LATE_MS_MAX


def test_bytes_that_were_waiting_may_have_come_since_the_last_look() -> None:
    assert arrived_ms(looked_ms=5, asked_ms=3_000, answered_ms=3_001, waiting=True) == 5


def test_bytes_found_after_the_process_was_held_up_may_have_come_at_its_beginning() -> None:
    late_ms = 10 + LATE_MS_MAX + 1
    assert arrived_ms(looked_ms=5, asked_ms=10, answered_ms=late_ms, waiting=False) == 10
