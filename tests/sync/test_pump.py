"""Goal: whatever the link does, once it stops doing it everything recorded is with the city,
once, and no more than the window was ever in flight; and each rule of the pump is seen alone.

Method: exhaust the fate of the first messages in a small world, then sample big ones by seed
(loss, doubling, reordering, reconnects, restarts, a city restored from backup, dropped facts, new
epochs), all in virtual time against a model city. Then one example per rule.
"""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages import BATCH_BYTES_MAX, BATCH_ROWS_MAX, Ack, Stream
from sync.answers import (
    Acknowledged,
    Ahead,
    Behind,
    Missing,
    Problem,
    PumpEvent,
    Reconnect,
    RefusedAck,
    Rewind,
    Send,
    SetAside,
)
from sync.pump import (
    ACK_PATIENCE_MS,
    ASIDE_MS,
    BATCH_WAIT_MS,
    STALLS_MAX,
    UNSENT_WAIT_MS,
    WINDOW_BATCHES_MAX,
    Pump,
)
from tests.sync.link_world import CALM, DEVICE, Faults, World

ROUGH = Faults(
    lost=0.15,
    doubled=0.15,
    late_ms_max=4_000,
    link_lost=0.05,
    restarted=0.03,
    city_restored=0.02,
    dropped=0.05,
    new_epoch=0.02,
)


# ---------------------------------------------------------------------------- worlds


@pytest.mark.slow
@pytest.mark.parametrize("window", [1, 2, 8])
def test_every_fate_of_the_first_messages_ends_well(window: int) -> None:
    """Lost, in time, late, doubled: all 4**5 fates of the first five messages either way."""
    fates: tuple[list[int], ...] = ([], [5], [700], [5, 700])
    for chosen in product(fates, repeat=5):
        world = World(Random(1), window=window)
        left = list(reversed(chosen))
        world.transfer = lambda left=left: left.pop() if left else [5]  # type: ignore[misc]
        for delay_ms in (250, 260, 270, 280):
            world.at(delay_ms, lambda world=world: world.record(1, money=True))  # type: ignore[misc]
        world.run(300_000)
        world.check_kept()


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32), window=st.sampled_from([1, 2, 8, 20]))
def test_after_any_faults_everything_is_with_the_city_once(seed: int, window: int) -> None:
    world = World(Random(seed), window=window)
    world.faults = ROUGH
    for second in range(120):
        world.run(second * 1_000)
        world.each_second()
        if world.random.random() < 0.6:
            world.record(world.random.choice([1, 1, 3, 40, 250]), money=world.random.random() < 0.3)
    world.faults = CALM
    world.run(1_800_000)
    world.check_kept()


def test_a_calm_link_sends_nothing_twice() -> None:
    world = World(Random(3))
    for second in range(60):
        world.run(second * 1_000)
        world.record(7)
    world.run(70_000)
    world.check_kept()
    assert world.batches == 60  # 200 ms after each seven, one batch.


# ---------------------------------------------------------------------------- one rule each


def connected_pump(
    head: int = 0,
    *,
    acknowledged: int = 0,
    high_water: int | None = None,
    held_from: int = 1,
    window: int = WINDOW_BATCHES_MAX,
    throttle_per_s: int | None = None,
) -> tuple[Pump, list[PumpEvent]]:
    pump = Pump(device=DEVICE, stream=Stream.MAIN)
    pump.held(epoch="e1", held_from=held_from, head=head, acknowledged=acknowledged)
    told = acknowledged if high_water is None else high_water
    events = pump.connected(
        {"e1": told}, now_ms=0, window_batches=window, throttle_per_s=throttle_per_s
    )
    return pump, events


def ack(up_to: int, *, epoch: str = "e1", rewind: bool = False, problem: str = "") -> Ack:
    return Ack(
        device=DEVICE,
        stream=Stream.MAIN,
        epoch=epoch,
        up_to=up_to,
        rewind=rewind,
        problem=problem,
    )


def send_of(events: list[PumpEvent]) -> Send | None:
    return next((event for event in events if isinstance(event, Send)), None)


def send_all(pump: Pump, head: int, now_ms: int) -> list[tuple[int, int]]:
    """Answer every Send with what a file up to `head` has; the ranges sent."""
    ranges = []
    while (send := send_of(pump.step(now_ms=now_ms))) is not None:
        last = min(head, send.first + send.rows_max - 1)
        pump.sent(epoch=send.epoch, first=send.first, last=last, now_ms=now_ms)
        ranges.append((send.first, last))
    return ranges


def test_money_leaves_at_once_and_the_rest_waits_for_company() -> None:
    pump, _ = connected_pump()
    pump.committed(epoch="e1", head=1, has_money=False, now_ms=1_000)
    assert pump.step(now_ms=1_000 + BATCH_WAIT_MS - 1) == []
    assert pump.wake_ms() == 1_000 + BATCH_WAIT_MS
    assert send_all(pump, 1, 1_000 + BATCH_WAIT_MS) == [(1, 1)]
    pump.committed(epoch="e1", head=2, has_money=False, now_ms=5_000)
    pump.committed(epoch="e1", head=3, has_money=True, now_ms=5_010)
    assert pump.wake_ms() == 5_010
    assert send_all(pump, 3, 5_010) == [(2, 3)]


def test_a_full_batch_does_not_wait_and_the_wait_is_counted_from_the_first_fact() -> None:
    pump, _ = connected_pump()
    pump.committed(epoch="e1", head=1, has_money=False, now_ms=0)
    pump.committed(epoch="e1", head=2, has_money=False, now_ms=BATCH_WAIT_MS - 1)
    assert pump.wake_ms() == BATCH_WAIT_MS
    pump.committed(epoch="e1", head=BATCH_ROWS_MAX, has_money=False, now_ms=BATCH_WAIT_MS - 1)
    assert send_all(pump, BATCH_ROWS_MAX, BATCH_WAIT_MS - 1) == [(1, BATCH_ROWS_MAX)]


def test_what_did_not_fit_by_bytes_follows_at_once() -> None:
    pump, _ = connected_pump()
    pump.committed(epoch="e1", head=60, has_money=True, now_ms=0)
    send = send_of(pump.step(now_ms=0))
    assert send == Send(epoch="e1", first=1, rows_max=BATCH_ROWS_MAX, bytes_max=BATCH_BYTES_MAX)
    pump.sent(epoch="e1", first=1, last=55, now_ms=0)
    assert send_all(pump, 60, 0) == [(56, 60)]


@pytest.mark.parametrize("window", [1, 3, WINDOW_BATCHES_MAX, 65_535])
def test_the_window_is_ours_or_the_brokers_whichever_is_lower(window: int) -> None:
    pump, _ = connected_pump(5_000, window=window)
    allowed = min(window, WINDOW_BATCHES_MAX)
    assert len(send_all(pump, 5_000, 0)) == allowed
    pump.acknowledged(ack(BATCH_ROWS_MAX), now_ms=5)
    assert len(send_all(pump, 5_000, 5)) == 1
    pump.acknowledged(ack((allowed + 1) * BATCH_ROWS_MAX), now_ms=6)  # Cumulative.
    assert len(send_all(pump, 5_000, 6)) == allowed


def test_nothing_leaves_before_the_welcome_or_after_the_link() -> None:
    pump = Pump(device=DEVICE, stream=Stream.MAIN)
    pump.held(epoch="e1", held_from=1, head=9, acknowledged=0)
    assert pump.step(now_ms=0) == [] and pump.wake_ms() is None
    pump.connected({}, now_ms=0)
    assert send_all(pump, 9, 0) == [(1, 9)]
    pump.disconnected()
    assert pump.step(now_ms=60_000) == [] and pump.in_flight == 0
    pump.connected({"e1": 4}, now_ms=70_000)
    assert send_all(pump, 9, 70_000) == [(5, 9)]


def test_the_welcome_is_as_good_as_an_acknowledgement() -> None:
    _, events = connected_pump(9, acknowledged=2, high_water=7)
    assert events == [Acknowledged(epoch="e1", up_to=7)]


def test_a_city_that_lost_facts_gets_them_again() -> None:
    pump, events = connected_pump(9, acknowledged=9, high_water=4)
    assert events == [Behind(epoch="e1", high_water=4, acknowledged=9)]
    assert send_all(pump, 9, 0) == [(5, 9)]


def test_what_is_no_longer_held_is_asked_to_be_declared() -> None:
    pump, _ = connected_pump(20, acknowledged=20, high_water=4, held_from=11)
    send = send_of(pump.step(now_ms=0))
    assert send is not None and send.first == 11
    assert send.gap == Missing(source=5, target=10)
    pump.sent(epoch="e1", first=11, last=20, now_ms=0)
    assert pump.acknowledged(ack(20), now_ms=1) == [Acknowledged(epoch="e1", up_to=20)]


def test_a_gap_with_nothing_behind_it_is_a_batch_without_rows() -> None:
    pump, _ = connected_pump(20, acknowledged=20, high_water=4, held_from=21)
    send = send_of(pump.step(now_ms=0))
    assert send is not None and send.first == 21 and send.gap == Missing(source=5, target=20)
    pump.sent(epoch="e1", first=21, last=20, now_ms=0)
    pump.acknowledged(ack(20), now_ms=1)
    assert pump.depth == 0 and pump.step(now_ms=2) == []


def test_an_old_copy_is_noticed_and_nothing_of_it_leaves_or_is_believed() -> None:
    pump, events = connected_pump(250, acknowledged=40, high_water=400)
    assert events == [Ahead(epoch="e1", high_water=400, head=250)]
    assert send_all(pump, 250, 0) == []
    assert pump.wake_ms() is None
    assert pump.acknowledged(ack(400), now_ms=1) == []
    assert pump.depth == 210  # They wait for their epoch to be closed.
    pump.committed(epoch="e1", head=260, has_money=True, now_ms=2)  # edge has not looked yet.
    assert send_all(pump, 260, 2) == []


def test_what_was_on_the_wire_when_an_old_copy_was_noticed_counts_for_nothing() -> None:
    pump, _ = connected_pump(250)
    send_all(pump, 250, 0)
    pump.halt(epoch="e1")
    assert pump.in_flight == 0
    assert pump.acknowledged(ack(250), now_ms=1) == []
    assert pump.step(now_ms=10 * ACK_PATIENCE_MS) == []


def test_behind_an_old_copy_a_new_epoch_leaves_at_once() -> None:
    pump, _ = connected_pump(250, acknowledged=40, high_water=400)
    pump.committed(epoch="e2", head=3, has_money=True, now_ms=1)
    send = send_of(pump.step(now_ms=1))
    assert send is not None and (send.epoch, send.first) == ("e2", 1)


def test_a_closed_epoch_ends_where_the_histories_part() -> None:
    pump, _ = connected_pump(250, acknowledged=40, high_water=400)
    pump.closed(epoch="e1", up_to=40)
    assert pump.depth == 0
    assert send_all(pump, 250, 0) == []
    # Whatever the city has above it is another history and no news.
    assert pump.connected({"e1": 500}, now_ms=1) == []
    assert pump.depth == 0 and send_all(pump, 250, 1) == []
    # A city that lost what it had acknowledged gets that again, and no more.
    assert pump.connected({"e1": 10}, now_ms=2) == [
        Behind(epoch="e1", high_water=10, acknowledged=40)
    ]
    send = send_of(pump.step(now_ms=2))
    assert send is not None and send.first == 11
    pump.sent(epoch="e1", first=11, last=40, now_ms=2)
    assert pump.acknowledged(ack(90), now_ms=3) == [Acknowledged(epoch="e1", up_to=40)]
    assert send_all(pump, 250, 4) == []


def test_a_closed_epoch_may_have_dropped_what_was_restated() -> None:
    pump, _ = connected_pump(250, acknowledged=40)
    pump.closed(epoch="e1", up_to=40)
    pump.dropped(epoch="e1", held_from=200)
    assert pump.depth == 0 and send_all(pump, 250, 0) == []


@pytest.mark.parametrize("problem", ["fork", "corrupt"])
def test_an_answer_with_a_problem_moves_no_mark(problem: str) -> None:
    pump, _ = connected_pump(100)
    send_all(pump, 100, 0)
    assert pump.acknowledged(ack(60, problem=problem), now_ms=1) == [
        Problem(epoch="e1", text=problem)
    ]
    assert pump.depth == 100


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (Ack(device="other", stream=Stream.MAIN, epoch="e1", up_to=1), "foreign"),
        (Ack(device=DEVICE, stream=Stream.DIAG, epoch="e1", up_to=1), "foreign"),
        (Ack(device=DEVICE, stream=Stream.MAIN, epoch="e9", up_to=1), "epoch"),
        (Ack(device=DEVICE, stream=Stream.MAIN, epoch="e1", up_to=10), "future"),
        (Ack(device=DEVICE, stream=Stream.MAIN, epoch="e1", up_to=-1), "future"),
    ],
    ids=["device", "stream", "epoch", "future", "negative"],
)
def test_an_acknowledgement_that_cannot_be_true_moves_nothing(wrong: Ack, reason: str) -> None:
    pump, _ = connected_pump(9)
    send_all(pump, 9, 0)
    assert pump.acknowledged(wrong, now_ms=1) == [RefusedAck(epoch=wrong.epoch, reason=reason)]
    assert (pump.depth, pump.in_flight) == (9, 1)


def test_what_was_never_sent_is_not_acknowledged_by_word_alone() -> None:
    pump, _ = connected_pump(500, window=1)
    send_all(pump, 500, 0)
    assert pump.acknowledged(ack(300), now_ms=1) == [Acknowledged(epoch="e1", up_to=100)]


def test_a_lost_batch_is_sent_again_once_however_often_the_city_says_so() -> None:
    pump, _ = connected_pump(800)
    assert len(send_all(pump, 800, 0)) == 8
    assert pump.acknowledged(ack(100), now_ms=1) == [Acknowledged(epoch="e1", up_to=100)]
    asked = [pump.acknowledged(ack(100, rewind=True), now_ms=2) for _ in range(6)]
    assert asked == [[Rewind(epoch="e1", up_to=100, why="lost")], *[[]] * 5]
    again = send_all(pump, 800, 3)
    assert again[0] == (101, 200) and again[-1] == (701, 800)
    pump.acknowledged(ack(200), now_ms=4)
    assert pump.acknowledged(ack(200, rewind=True), now_ms=5) == [
        Rewind(epoch="e1", up_to=200, why="lost")
    ]


def test_a_batch_lost_twice_is_sent_again_after_a_silence() -> None:
    pump, _ = connected_pump(300)
    for now_ms in (0, ACK_PATIENCE_MS + 1):
        assert send_of(pump.step(now_ms=now_ms)) is not None
        pump.sent(epoch="e1", first=1, last=100, now_ms=now_ms)
        events = pump.acknowledged(ack(0, rewind=True), now_ms=now_ms + 1)
        assert events == [Rewind(epoch="e1", up_to=0, why="lost")]
        send_of(pump.step(now_ms=now_ms + 1))
        pump.sent(epoch="e1", first=1, last=100, now_ms=now_ms + 1)


def test_a_city_restored_while_connected_gets_its_facts_again_each_time() -> None:
    pump, _ = connected_pump(300)
    for now_ms in (0, 100):
        send_all(pump, 300, now_ms)
        pump.acknowledged(ack(300), now_ms=now_ms + 1)
        assert pump.depth == 0
        assert pump.acknowledged(ack(120, rewind=True), now_ms=now_ms + 2) == [
            Behind(epoch="e1", high_water=120, acknowledged=300),
            Rewind(epoch="e1", up_to=120, why="lost"),
        ]
    assert send_all(pump, 300, 200) == [(121, 220), (221, 300)]


def test_an_answer_that_came_late_spares_the_second_sending() -> None:
    pump, _ = connected_pump(300)
    send_all(pump, 300, 0)
    assert isinstance(pump.step(now_ms=ACK_PATIENCE_MS)[0], Rewind)
    pump.sent(epoch="e1", first=1, last=100, now_ms=ACK_PATIENCE_MS)
    pump.acknowledged(ack(200), now_ms=ACK_PATIENCE_MS + 1)
    assert send_all(pump, 300, ACK_PATIENCE_MS + 1) == [(201, 300)]


def test_an_answer_between_two_connections_moves_nothing() -> None:
    pump, _ = connected_pump(300)
    send_all(pump, 300, 0)
    pump.disconnected()
    assert pump.acknowledged(ack(100), now_ms=1) == []
    assert pump.depth == 300


def test_a_second_welcome_begins_the_window_anew() -> None:
    pump, _ = connected_pump(1_000)
    assert len(send_all(pump, 1_000, 0)) == 8
    pump.connected({"e1": 0}, now_ms=1)
    assert len(send_all(pump, 1_000, 1)) == 8


def test_silence_rewinds_with_one_batch_and_then_reconnects() -> None:
    pump, _ = connected_pump(800)
    send_all(pump, 800, 0)
    assert pump.wake_ms() == ACK_PATIENCE_MS
    assert pump.step(now_ms=ACK_PATIENCE_MS - 1) == []
    events = pump.step(now_ms=ACK_PATIENCE_MS)
    assert events[0] == Rewind(epoch="e1", up_to=0, why="timeout")
    assert send_of(events) is not None
    pump.sent(epoch="e1", first=1, last=100, now_ms=ACK_PATIENCE_MS)
    assert send_all(pump, 800, ACK_PATIENCE_MS) == []  # One batch feels the way.
    events = pump.step(now_ms=3 * ACK_PATIENCE_MS)
    assert isinstance(events[-1], Reconnect)
    assert pump.step(now_ms=10 * ACK_PATIENCE_MS) == []
    pump.connected({"e1": 0}, now_ms=100_000)
    assert len(send_all(pump, 800, 100_000)) == 1
    pump.acknowledged(ack(100), now_ms=100_001)
    assert len(send_all(pump, 800, 100_001)) == 2  # And widens as it is answered.


def test_the_last_answer_of_a_drain_lost_costs_one_patience_and_one_batch() -> None:
    """Nothing follows that would say it too. Acknowledgements are heard at most once."""
    pump, _ = connected_pump(800)
    assert len(send_all(pump, 800, 0)) == 8
    pump.acknowledged(ack(700), now_ms=50)
    assert pump.wake_ms() == 50 + ACK_PATIENCE_MS
    events = pump.step(now_ms=50 + ACK_PATIENCE_MS)
    assert events[0] == Rewind(epoch="e1", up_to=700, why="timeout")
    send = send_of(events)
    assert send is not None and (send.first, send.rows_max) == (701, 100)
    pump.sent(epoch="e1", first=701, last=800, now_ms=50 + ACK_PATIENCE_MS)
    answer = pump.acknowledged(ack(800), now_ms=60 + ACK_PATIENCE_MS)
    assert answer == [Acknowledged(epoch="e1", up_to=800)]
    assert pump.depth == 0 and pump.wake_ms() is None


def test_a_slow_line_that_moves_is_not_given_up() -> None:
    pump, _ = connected_pump(800)
    send_all(pump, 800, 0)
    for batch in range(1, 9):
        now_ms = batch * (ACK_PATIENCE_MS - 1)
        events = pump.step(now_ms=now_ms)
        assert not any(isinstance(event, Rewind) for event in events)
        pump.acknowledged(ack(batch * 100), now_ms=now_ms)
    assert pump.depth == 0


def test_an_old_epoch_is_drained_before_a_new_one_begins() -> None:
    pump, _ = connected_pump(150)
    pump.committed(epoch="e2", head=5, has_money=True, now_ms=0)
    assert send_all(pump, 150, 0) == [(1, 100), (101, 150)]
    pump.acknowledged(ack(150), now_ms=1)
    send = send_of(pump.step(now_ms=1))
    assert send is not None and (send.epoch, send.first) == ("e2", 1)


def test_an_old_epoch_that_is_refused_over_and_over_lets_the_new_one_by() -> None:
    pump, _ = connected_pump(50)
    pump.committed(epoch="e2", head=5, has_money=True, now_ms=0)
    told: list[PumpEvent] = []
    now_ms = 0
    while not any(isinstance(event, SetAside) for event in told):
        events = pump.step(now_ms=now_ms)
        told += events
        if (send := send_of(events)) is not None and send.epoch == "e1":
            pump.sent(epoch="e1", first=1, last=50, now_ms=now_ms)
            problem = pump.acknowledged(ack(0, problem="fork"), now_ms=now_ms + 1)
            assert problem == [Problem(epoch="e1", text="fork")]
        if isinstance(events[-1] if events else None, Reconnect):
            pump.connected({}, now_ms=now_ms)
        now_ms = pump.wake_ms() or now_ms
    timeouts = [event for event in told if isinstance(event, Rewind)]
    assert len(timeouts) == STALLS_MAX - 1
    pump.connected({}, now_ms=now_ms)
    assert send_of(pump.step(now_ms=now_ms)) == Send(
        epoch="e2", first=1, rows_max=BATCH_ROWS_MAX, bytes_max=BATCH_BYTES_MAX
    )
    pump.sent(epoch="e2", first=1, last=5, now_ms=now_ms)
    pump.acknowledged(ack(5, epoch="e2"), now_ms=now_ms)
    again_ms = pump.wake_ms()
    assert again_ms is not None and now_ms < again_ms <= now_ms + ASIDE_MS
    assert pump.step(now_ms=again_ms - 1) == []
    last = send_of(pump.step(now_ms=again_ms))
    assert last is not None and last.epoch == "e1"


def test_a_city_that_says_nothing_sets_no_epoch_aside() -> None:
    pump, _ = connected_pump(50)
    pump.committed(epoch="e2", head=5, has_money=True, now_ms=0)
    for now_ms in range(0, 1_000_000, 100_000):
        events = pump.step(now_ms=now_ms)
        assert not any(isinstance(event, SetAside) for event in events)
        if (send := send_of(events)) is not None:
            assert send.epoch == "e1"
            pump.sent(epoch="e1", first=1, last=50, now_ms=now_ms)
        elif isinstance(events[-1] if events else None, Reconnect):
            pump.connected({}, now_ms=now_ms)


def test_a_throttle_is_a_trickle_and_never_a_stop() -> None:
    pump, _ = connected_pump(100, throttle_per_s=10)
    sent = sum(
        last - first + 1
        for now_ms in range(0, 5_000, 50)
        for first, last in send_all(pump, 100, now_ms)
    )
    assert sent == 50
    pump, _ = connected_pump(100, throttle_per_s=0)
    assert [send_all(pump, 100, ms) for ms in (0, 500, 1_000)] == [[(1, 1)], [], [(2, 2)]]
    pump.acknowledged(ack(2), now_ms=1_001)
    assert send_all(pump, 100, 2_000) == [(3, 100)]  # The city is free again.


def test_what_cannot_be_read_now_is_asked_for_again() -> None:
    pump, _ = connected_pump(5)
    assert send_of(pump.step(now_ms=0)) is not None
    assert pump.step(now_ms=0) == []  # One question at a time.
    pump.unsent(now_ms=0)
    assert pump.step(now_ms=UNSENT_WAIT_MS - 1) == []
    assert send_of(pump.step(now_ms=UNSENT_WAIT_MS)) is not None


def test_a_file_longer_than_told_is_no_surprise() -> None:
    pump, _ = connected_pump(5)
    assert send_of(pump.step(now_ms=0)) is not None
    pump.sent(epoch="e1", first=1, last=8, now_ms=0)
    assert pump.acknowledged(ack(8), now_ms=1) == [Acknowledged(epoch="e1", up_to=8)]
    pump.committed(epoch="e1", head=8, has_money=True, now_ms=2)
    assert pump.step(now_ms=2) == []
