"""Goal: what a serial port can do to a reader beyond the contract: noise, other programs, bytes
that are older than they look.

Method: the real worker on a pty with a virtual reader behind it. Where time matters the clock is
the test's own; a card that follows stands as a fence where nothing must have come before it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.readers.id12_frame import encode
from edge.readers.open_reader import open_reader
from edge.readers.reader import CardRead, LinkDown, LinkUp, Reader
from edge.readers.watch import BABBLE_MS_MAX
from edge.settings import ReaderSettings
from hil.devices.reader_listener import Listener
from hil.devices.reader_serial import VirtualSerialReader
from tests.support.ahead_clock import Clock

pytestmark = pytest.mark.slow

CARD = bytes.fromhex("62E3086CED")
FENCE = bytes.fromhex("0A00001234")
NOISE_SIZE = 100_000  # Our choice: many times what a tty buffers.
STALL_MS = 3_000  # Longer than a read may be old (credentials.md: 2 s).


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[VirtualSerialReader]:
    with VirtualSerialReader(tmp_path / "reader", frame="id12") as made:
        yield made


def listen(
    device: VirtualSerialReader, clock: Clock, *, in_wake: Callable[[], None] = lambda: None
) -> Listener:
    """`in_wake` runs in the worker's thread, each time before it wakes the listener."""
    settings = ReaderSettings(
        reader_id="north-in", driver="serial", port=str(device.path), frame="id12"
    )

    def open_with(wake: Callable[[], None]) -> Reader:
        def do_and_wake() -> None:
            in_wake()
            wake()

        return open_reader(settings, wake=do_and_wake, now_ms=clock.now_ms)

    return Listener(open_with)


def test_cards_in_the_guard_time_are_dropped_and_counted(
    device: VirtualSerialReader, clock: Clock
) -> None:
    with listen(device, clock) as listener:

        def tapped_in_vain() -> bool:
            device.tap(CARD)
            return listener.reader.counters().discarded_after_reopen > 0

        listener.wait_until(tapped_in_vain)
        listener.expect(LinkUp)
        device.tap(FENCE)
        assert listener.expect(CardRead).uid == FENCE


def test_a_reader_that_never_pauses_is_down_and_the_reason_says_so(
    device: VirtualSerialReader, clock: Clock
) -> None:
    with listen(device, clock) as listener:

        def babbled(enough: int) -> bool:
            device.babble(b"\x55")
            return listener.reader.counters().discarded_after_reopen >= enough

        listener.wait_until(lambda: babbled(1))
        clock.ahead_ms += BABBLE_MS_MAX + 1
        listener.wait_until(lambda: babbled(10))
        assert "talks without a pause" in listener.expect(LinkDown).reason
        listener.expect(LinkUp)


def test_noise_is_counted_to_the_byte_and_the_card_behind_it_is_read(
    device: VirtualSerialReader, clock: Clock
) -> None:
    noise = random.Random(11).randbytes(NOISE_SIZE)
    with listen(device, clock) as listener:
        listener.expect(LinkUp)
        device.babble(noise)
        device.tap(CARD)
        assert listener.expect(CardRead).uid == CARD
        listener.wait_until(lambda: listener.reader.counters().noise_bytes == NOISE_SIZE)


def test_a_card_said_many_times_is_one_read_and_the_repeats_are_counted(
    device: VirtualSerialReader, clock: Clock
) -> None:
    with listen(device, clock) as listener:
        listener.expect(LinkUp)
        for _ in range(20):
            device.tap(CARD)
        device.tap(FENCE)
        assert listener.expect(CardRead).uid == CARD
        assert listener.expect(CardRead).uid == FENCE
        assert listener.reader.counters().repeats == 19


def test_a_port_another_program_holds_is_down_until_it_lets_go(
    device: VirtualSerialReader, clock: Clock
) -> None:
    with listen(device, clock) as first:
        first.expect(LinkUp)
        with listen(device, clock) as second:
            assert "is used by another program" in second.expect(LinkDown).reason
            first.reader.close()
            second.expect(LinkUp)
            device.tap(CARD)
            second.expect(CardRead)


def test_a_port_that_is_not_there_says_where_and_what_to_do(
    device: VirtualSerialReader, clock: Clock
) -> None:
    device.unplug()
    with listen(device, clock) as listener:
        assert listener.expect(LinkDown).reason == (
            f"reader north-in: {device.path} is not there; check the reader's plug and the port "
            "in device.toml"
        )


def test_a_port_that_goes_between_two_reads_is_lost_like_one_that_goes_while_it_is_read(
    device: VirtualSerialReader, clock: Clock
) -> None:
    def unplug_after_a_card() -> None:
        if listener.reader.counters().reads:
            device.unplug()

    with listen(device, clock, in_wake=unplug_after_a_card) as listener:
        listener.expect(LinkUp)
        device.tap(CARD)
        listener.expect(CardRead)
        reason = f"reader north-in: {device.path} was lost; check the reader's plug"
        assert listener.expect(LinkDown).reason == reason


def test_a_card_that_waited_while_the_process_was_held_up_says_how_old_it_is(
    device: VirtualSerialReader, clock: Clock
) -> None:
    """The worker is held up in `wake`, after the first card; the second comes meanwhile."""
    stalled_at_ms: list[int] = []

    def stall_once() -> None:
        if listener.reader.counters().reads == 1 and not stalled_at_ms:
            device.tap(FENCE)
            listener.wait_until(lambda: device.unread_bytes == len(encode(FENCE)))
            stalled_at_ms.append(clock.now_ms())
            clock.ahead_ms += STALL_MS

    with listen(device, clock, in_wake=stall_once) as listener:
        listener.expect(LinkUp)
        device.tap(CARD)
        assert listener.expect(CardRead).uid == CARD
        late = listener.expect(CardRead)
        assert late.uid == FENCE
        assert late.at_ms <= stalled_at_ms[0]
        assert clock.now_ms() - late.at_ms >= STALL_MS
