"""Goal: every driver keeps the Reader contract of `edge/readers/reader.py`, and so does every
virtual reader that stands in for it.

Method: one suite over benches: each virtual serial family on a pty, PC/SC over a service in
memory, and PC/SC over a real pcscd. For the last one the file runs itself again in namespaces of
its own. A card that follows stands as a fence where nothing must have come before it; time is
moved by the test's clock, not waited for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.model import UidKind
from edge.readers.dialogue import Failure
from edge.readers.open_reader import open_reader
from edge.readers.pcsc import PcscSession
from edge.readers.reader import (
    CardRead,
    LinkDown,
    LinkUp,
    Reader,
    ReadFailed,
    Signal,
)
from edge.readers.watch import REPEAT_MS_MAX
from edge.readers.worker import ReaderWorker, monotonic_ms
from edge.settings import ReaderSettings
from hil.devices.pcsc_stack import PcscStack, is_inside, pcsc_missing, rerun_inside
from hil.devices.reader_listener import Listener
from hil.devices.reader_scard import VirtualScard
from hil.devices.reader_serial import VirtualSerialReader
from hil.devices.vpcd_card import VirtualCard, VpcdSlot

pytestmark = pytest.mark.slow

RERUN_S_MAX = 180.0  # Our choice: ten times what it takes on an idle machine.
POWERED_S_MAX = 5.0


class Bench:
    """One kind of reader with a person in front of it. Plugged in when made."""

    kind = UidKind.ISO14443
    tier = 1
    uids = (bytes.fromhex("04A1B2C3D4E580"), bytes.fromhex("DEADBEEF"))
    begins_with_08 = bytes.fromhex("08A1B2C3")
    settings: ReaderSettings

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return monotonic_ms() + self.ahead_ms

    def listen(self) -> Listener:
        return Listener(self.open)

    def open(self, wake: Callable[[], None]) -> Reader:
        return open_reader(self.settings, wake=wake, now_ms=self.now_ms)

    def show(self, uid: bytes) -> None:
        raise NotImplementedError

    def say_again(self, uid: bytes) -> None:
        """The card still lies there; a reader that repeats says so."""

    def take_away(self) -> None:
        """The card leaves the field."""

    def wait_noticed(self) -> None:
        """Until the reader has the card that was shown, though nobody may be listening."""

    def unplug(self) -> None:
        raise NotImplementedError

    def replug(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.unplug()


class SerialBench(Bench):
    def __init__(self, folder: Path, *, frame: str) -> None:
        super().__init__()
        self._device = VirtualSerialReader(folder / "reader", frame=frame)
        self.settings = ReaderSettings(
            reader_id="north-in", driver="serial", port=str(self._device.path), frame=frame
        )
        if frame == "id12":
            self.kind, self.tier = UidKind.PROX125, 0
            self.uids = (bytes.fromhex("62E3086CED"), bytes.fromhex("0A00001234"))
            self.begins_with_08 = bytes.fromhex("08A1B2C3D4")

    def show(self, uid: bytes) -> None:
        self._device.tap(uid)

    def say_again(self, uid: bytes) -> None:
        self._device.tap(uid)

    def unplug(self) -> None:
        self._device.unplug()

    def replug(self) -> None:
        self._device.replug()


class ScardBench(Bench):
    name = "Virtual PCD 00 00"

    def __init__(self) -> None:
        super().__init__()
        self._service = VirtualScard(self.name, "Other 00 00")
        self.settings = ReaderSettings(reader_id="north-in", driver="pcsc", name="Virtual")

    def open(self, wake: Callable[[], None]) -> Reader:
        session = PcscSession(self.settings, scard=self._service)
        return ReaderWorker(reader_id="north-in", session=session, wake=wake, now_ms=self.now_ms)

    def show(self, uid: bytes) -> None:
        self._service.insert(self.name, VirtualCard(uid))

    def take_away(self) -> None:
        self._service.remove(self.name)

    def unplug(self) -> None:
        self._service.unplug(self.name)

    def replug(self) -> None:
        self._service.replug(self.name)


class VpcdBench(Bench):
    """A real pcscd. Its readers cannot be unplugged, so it is pcscd that goes and comes."""

    def __init__(self, stack: PcscStack) -> None:
        super().__init__()
        self._stack = stack
        self._slot = VpcdSlot()
        self._card = VirtualCard(b"")
        self.settings = ReaderSettings(reader_id="north-in", driver="pcsc", name="Virtual PCD")

    def show(self, uid: bytes) -> None:
        self._card = VirtualCard(uid)
        self._slot.insert(self._card)

    def take_away(self) -> None:
        self._slot.remove()

    def wait_noticed(self) -> None:
        assert self._card.was_powered.wait(POWERED_S_MAX)

    def unplug(self) -> None:
        self._slot.remove()
        self._stack.stop()

    def replug(self) -> None:
        self._stack.start()


@pytest.fixture(params=["vpcd"] if is_inside() else ["id12", "hex_line", "scard"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made: Bench
    if request.param == "vpcd":
        stack = PcscStack(tmp_path)
        stack.start()
        made = VpcdBench(stack)
    elif request.param == "scard":
        made = ScardBench()
    else:
        made = SerialBench(tmp_path, frame=request.param)
    yield made
    made.close()


@pytest.fixture
def listener(bench: Bench) -> Iterator[Listener]:
    """A reader that is up."""
    with bench.listen() as made:
        assert made.expect(LinkUp).reader_id == "north-in"
        yield made


@pytest.mark.process
@pytest.mark.skipif(is_inside(), reason="this is the inner run")
def test_the_contract_holds_on_a_real_pcscd() -> None:
    missing = pcsc_missing()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    code, output = rerun_inside(__file__, "-k", "vpcd", timeout_s=RERUN_S_MAX)
    print(output)
    assert code == 0, output


def test_a_card_that_is_shown_is_reported_with_its_time(bench: Bench, listener: Listener) -> None:
    before_ms = bench.now_ms()
    bench.show(bench.uids[0])
    read = listener.expect(CardRead)
    assert before_ms - 100 <= read.at_ms <= bench.now_ms()  # A look at a port may be so old.
    assert read.uid == bench.uids[0]
    assert (read.kind, read.tier, read.reader_id) == (bench.kind, bench.tier, "north-in")
    assert read.evidence is None or (read.evidence.uid, read.evidence.tier) == (read.uid, read.tier)
    assert bench.uids[0].hex() not in repr(read).lower()


def test_cards_come_in_the_order_they_were_shown(bench: Bench, listener: Listener) -> None:
    for uid in bench.uids:
        bench.show(uid)
        assert listener.expect(CardRead).uid == uid
        bench.take_away()
    assert listener.reader.counters().reads == len(bench.uids)


def test_a_card_left_on_the_reader_is_one_read(bench: Bench, listener: Listener) -> None:
    card, fence = bench.uids
    bench.show(card)
    assert listener.expect(CardRead).uid == card
    for _ in range(3):
        bench.say_again(card)
    bench.take_away()
    bench.show(fence)
    assert listener.expect(CardRead).uid == fence


def test_a_card_shown_again_later_is_another_read(bench: Bench, listener: Listener) -> None:
    card, fence = bench.uids
    for uid in (card, fence):
        bench.show(uid)
        assert listener.expect(CardRead).uid == uid
        bench.take_away()
    bench.ahead_ms += REPEAT_MS_MAX + 1
    _wait_for_a_beat(bench, listener)
    bench.show(card)
    assert listener.expect(CardRead).uid == card


def test_poll_takes_everything_at_once_and_never_waits(bench: Bench, listener: Listener) -> None:
    assert listener.reader.poll() == []
    bench.show(bench.uids[0])
    listener.wait_until(lambda: listener.reader.counters().reads == 1)
    (read,) = listener.reader.poll()
    assert isinstance(read, CardRead)
    assert listener.reader.poll() == []


def test_a_reader_that_goes_is_told_once_and_once_when_it_is_back(
    bench: Bench, listener: Listener
) -> None:
    bench.unplug()
    reason = listener.expect(LinkDown).reason
    assert reason.startswith("reader north-in: ")
    assert "; check " in reason
    bench.replug()
    listener.expect(LinkUp)
    bench.show(bench.uids[0])
    assert listener.expect(CardRead).uid == bench.uids[0]
    assert listener.reader.counters().reopened == 1


def test_a_reader_that_is_not_there_at_first_is_down_until_it_comes(bench: Bench) -> None:
    bench.unplug()
    with bench.listen() as listener:
        listener.expect(LinkDown)
        bench.replug()
        listener.expect(LinkUp)
        bench.show(bench.uids[0])
        assert listener.expect(CardRead).uid == bench.uids[0]
        assert listener.reader.counters().reopened == 0


def test_a_card_shown_before_the_reader_was_opened_is_not_reported(bench: Bench) -> None:
    old, fence = bench.uids
    bench.show(old)
    bench.wait_noticed()
    with bench.listen() as listener:
        listener.expect(LinkUp)
        bench.take_away()
        bench.show(fence)
        assert listener.expect(CardRead).uid == fence


def test_a_random_id_is_refused_aloud(bench: Bench, listener: Listener) -> None:
    bench.show(bench.begins_with_08)
    if bench.kind is UidKind.PROX125:  # A 125 kHz number is never random.
        assert listener.expect(CardRead).uid == bench.begins_with_08
        return
    failed = listener.expect(ReadFailed)
    assert (failed.failure, failed.reader_id) == (Failure.RANDOM_UID, "north-in")
    counters = listener.reader.counters()
    assert (counters.reads, counters.refused) == (0, 1)


def test_a_quiet_reader_shows_that_it_lives(bench: Bench, listener: Listener) -> None:
    _wait_for_a_beat(bench, listener)
    assert listener.reader.poll() == []


def test_a_signal_is_never_an_error(bench: Bench, listener: Listener) -> None:
    for signal in Signal:
        listener.reader.signal(signal)
    bench.show(bench.uids[0])
    listener.expect(CardRead)


def test_after_close_the_device_is_free_and_nothing_comes(bench: Bench, listener: Listener) -> None:
    listener.reader.close()
    listener.reader.close()
    assert "reader north-in" not in [thread.name for thread in threading.enumerate()]
    assert listener.reader.poll() == []
    with bench.listen() as second:
        second.expect(LinkUp)
        bench.show(bench.uids[0])
        second.expect(CardRead)
    assert listener.reader.poll() == []


def _wait_for_a_beat(bench: Bench, listener: Listener) -> None:
    now_ms = bench.now_ms()
    listener.wait_until(lambda: listener.reader.alive_ms > now_ms)
