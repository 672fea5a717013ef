"""Goal: what a keyboard device can do to a reader beyond the contract: other holders, wrong files,
held keys, lost keys, keys older than they look.

Method: the real worker on a pty that carries input events (`hil/devices/reader_wedge.py`); a card
that follows stands as a fence. Only the grab itself needs a real keyboard: a pty refuses it, and
that is tried too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.model import SetupProblem
from edge.readers.key_events import EVENT
from edge.readers.open_reader import new_frame, open_reader
from edge.readers.reader import CardRead, LinkDown, LinkUp
from edge.readers.watch import BABBLE_MS_MAX
from edge.readers.wedge import WedgeSession
from edge.readers.worker import ReaderWorker
from edge.settings import ReaderSettings
from hil.devices.reader_listener import Listener
from hil.devices.reader_wedge import EV_KEY, EV_SYN, VirtualWedge, event, grab_virtual, typed
from tests.support.ahead_clock import Clock

pytestmark = pytest.mark.slow

CARD = bytes.fromhex("04A1B2C3D4E580")
FENCE = bytes.fromhex("DEADBEEF")
HELD, SYN_DROPPED = 2, 3
STALL_MS = 3_000  # Longer than a read may be old (credentials.md: 2 s).


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[VirtualWedge]:
    with VirtualWedge(tmp_path / "keyboard", frame="hex_line") as made:
        yield made


def settings_of(device: VirtualWedge) -> ReaderSettings:
    return ReaderSettings(
        reader_id="till-1", driver="wedge", port=str(device.path), frame="hex_line"
    )


def listen(
    device: VirtualWedge, clock: Clock, *, in_wake: Callable[[], None] = lambda: None
) -> Listener:
    """`in_wake` runs in the worker's thread, each time before it wakes the listener."""
    settings = settings_of(device)
    session = WedgeSession(settings, new_frame=lambda: new_frame(settings), grab=grab_virtual)

    def open_with(wake: Callable[[], None]) -> ReaderWorker:
        def do_and_wake() -> None:
            in_wake()
            wake()

        return ReaderWorker(
            reader_id="till-1", session=session, wake=do_and_wake, now_ms=clock.now_ms
        )

    return Listener(open_with)


def test_a_keyboard_another_program_holds_is_down_until_it_lets_go(
    device: VirtualWedge, clock: Clock
) -> None:
    with listen(device, clock) as first:
        first.expect(LinkUp)
        with listen(device, clock) as second:
            assert second.expect(LinkDown).reason == (
                f"reader till-1: {device.path} is held by another program; stop it"
            )
            first.reader.close()
            second.expect(LinkUp)
            device.tap(CARD)
            assert second.expect(CardRead).uid == CARD


def test_what_is_no_keyboard_is_refused_by_the_real_grab(device: VirtualWedge) -> None:
    with Listener(lambda wake: open_reader(settings_of(device), wake=wake)) as listener:
        assert "is no input device; check the port" in listener.expect(LinkDown).reason


@pytest.mark.parametrize("there", [True, False], ids=["folder", "nothing"])
def test_a_port_that_cannot_be_one_says_what_to_do(tmp_path: Path, there: bool) -> None:
    settings = ReaderSettings(
        reader_id="till-1", driver="wedge", port=str(tmp_path / "at"), frame="hex_line"
    )
    if there:
        (tmp_path / "at").mkdir()
    with Listener(lambda wake: open_reader(settings, wake=wake)) as listener:
        found = "is no input device" if there else "is not there"
        assert found in listener.expect(LinkDown).reason


def test_a_key_held_down_for_ever_is_down_and_the_reason_says_so(
    device: VirtualWedge, clock: Clock
) -> None:
    with listen(device, clock) as listener:

        def held(enough: int) -> bool:
            device.babble(event(EV_KEY, 30, HELD) + event(EV_SYN, 0, 0))
            return listener.reader.counters().discarded_after_reopen >= enough

        listener.wait_until(lambda: held(1))
        clock.ahead_ms += BABBLE_MS_MAX + 1
        listener.wait_until(lambda: held(10))
        assert "types without a pause" in listener.expect(LinkDown).reason
        listener.expect(LinkUp)


def test_keys_the_kernel_lost_make_no_other_number(device: VirtualWedge, clock: Clock) -> None:
    with listen(device, clock) as listener:
        listener.expect(LinkUp)
        device.babble(typed("04A1B2") + event(EV_SYN, SYN_DROPPED, 0) + typed("DEADBEEF\r"))
        device.tap(CARD)
        assert listener.expect(CardRead).uid == CARD
        assert listener.reader.counters().reads == 1


def test_an_event_cut_by_a_pause_costs_one_event(device: VirtualWedge, clock: Clock) -> None:
    with listen(device, clock) as listener:
        listener.expect(LinkUp)
        device.babble(event(EV_KEY, 30, 1)[:-1])
        listener.wait_until(lambda: listener.reader.counters().noise_bytes == EVENT.size - 1)
        device.tap(CARD)
        assert listener.expect(CardRead).uid == CARD


def test_a_barcode_or_a_person_that_types_is_noise(device: VirtualWedge, clock: Clock) -> None:
    with listen(device, clock) as listener:
        listener.expect(LinkUp)
        device.type("hallo welt".replace(" ", "") + "\r")
        device.type("4600051000057\r")
        device.tap(CARD)
        assert listener.expect(CardRead).uid == CARD
        assert listener.reader.counters().noise_bytes == len("hallowelt") + 13


def test_a_card_that_waited_while_the_process_was_held_up_says_how_old_it_is(
    device: VirtualWedge, clock: Clock
) -> None:
    stalled_at_ms: list[int] = []
    fence = typed(FENCE.hex().upper() + "\r")

    def stall_once() -> None:
        if listener.reader.counters().reads == 1 and not stalled_at_ms:
            device.tap(FENCE)
            listener.wait_until(lambda: device.unread_bytes == len(fence))
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


def test_a_frame_that_no_keyboard_can_type_is_refused_at_the_start(device: VirtualWedge) -> None:
    settings = replace(settings_of(device), frame="id12")
    with pytest.raises(SetupProblem, match="frame is 'id12'; one of hex_line, d10, d18"):
        open_reader(settings, wake=lambda: None)
