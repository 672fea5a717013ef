"""Goal: the PC/SC reader outlives pcscd. Whatever pcscd does, a card is read only while it lies
there, once, and the next card after the link is back is read.

Method: real pcscd, real vpcd, real pyscard. The file runs itself again in namespaces of its own
(`hil/devices/pcsc_stack.py`); its `check_…` functions are what runs there. pcscd is stopped,
killed and frozen under a stream of taps; the stream keeps its own record of when each card lay
on the reader, and the reads are held against it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.model import SetupProblem
from edge.readers.dialogue import Failure
from edge.readers.open_reader import open_reader
from edge.readers.reader import (
    ALIVE_AGE_MS_MAX,
    CardRead,
    LinkDown,
    LinkUp,
    Reader,
    ReadFailed,
)
from edge.readers.worker import CLOSE_MS_MAX, monotonic_ms
from edge.settings import ReaderSettings
from hil.devices.pcsc_stack import PcscStack, is_inside, pcsc_missing, rerun_inside
from hil.devices.reader_listener import Listener
from hil.devices.vpcd_card import VirtualCard, VpcdSlot

RERUN_S_MAX = 180.0  # Our choice: several times what it takes on an idle machine.
HOLD_S_MAX = 3.0  # A card lies there until it was read, and at most so long.
QUICK_MS_MAX = 2_000  # credentials.md: an older read opens nothing.
UID = bytes.fromhex("04A1B2C3D4E580")
SETTINGS = ReaderSettings(reader_id="north-in", driver="pcsc", name="Virtual PCD 00 00")


@pytest.mark.process
@pytest.mark.slow
def test_on_a_real_pcscd() -> None:
    missing = pcsc_missing()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    code, output = rerun_inside(__file__, "-o", "python_functions=check_*", timeout_s=RERUN_S_MAX)
    print(output)
    assert code == 0, output


def test_a_private_pcscd_never_takes_the_place_of_the_machines_own(tmp_path: Path) -> None:
    assert not is_inside()
    with pytest.raises(SetupProblem, match="in_private_namespaces"):
        PcscStack(tmp_path).start()


@dataclass(kw_only=True)
class Tap:
    """One card of the stream: when it was laid down, known to lie there, and taken away."""

    uid: bytes
    down_ms: int
    away_ms: int = 0


class Stream(threading.Thread):
    """One person after another, each with a card of their own, until told to stop."""

    def __init__(self) -> None:
        super().__init__(name="stream of taps")
        self.taps: list[Tap] = []
        self._read: dict[bytes, threading.Event] = {}
        self._stop_asked = threading.Event()

    def run(self) -> None:
        with VpcdSlot() as slot:
            while not self._stop_asked.is_set():
                uid = b"\x04" + len(self.taps).to_bytes(6, "big")
                was_read = self._read.setdefault(uid, threading.Event())
                tap = Tap(uid=uid, down_ms=monotonic_ms())
                self.taps.append(tap)
                try:
                    slot.insert(VirtualCard(uid))
                except ConnectionError:
                    pass  # No pcscd: the person shows the card all the same, to nobody.
                was_read.wait(HOLD_S_MAX if slot.holds_card else 0.1)
                slot.remove()
                tap.away_ms = monotonic_ms()

    def was_read(self, uid: bytes) -> None:
        self._read[uid].set()

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


class Bench:
    def __init__(self, stack: PcscStack) -> None:
        self.stack = stack
        self.ahead_ms = 0
        self.listener = Listener(self._open)
        self.listener.expect(LinkUp)

    def _open(self, wake: Callable[[], None]) -> Reader:
        return open_reader(SETTINGS, wake=wake, now_ms=lambda: monotonic_ms() + self.ahead_ms)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with PcscStack(tmp_path) as stack:
        made = Bench(stack)
        with made.listener:
            yield made


def check_a_stream_of_taps_through_restarts_and_crashes(bench: Bench) -> None:
    reads: list[CardRead] = []
    links: list[LinkUp | LinkDown] = []
    stream = Stream()

    def read_until(is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            event = bench.listener.next()
            if isinstance(event, CardRead):
                assert monotonic_ms() - event.at_ms < QUICK_MS_MAX
                stream.was_read(event.uid)
                reads.append(event)
            elif isinstance(event, LinkUp | LinkDown):
                links.append(event)

    stream.start()
    try:
        for fault in (bench.stack.restart, bench.stack.stop, _crash(bench.stack)):
            goal = len(reads) + 3
            read_until(lambda goal=goal: len(reads) >= goal)  # type: ignore[misc]
            goal = len(links) + 2
            fault()
            if fault == bench.stack.stop:
                read_until(lambda goal=goal: len(links) >= goal - 1)  # type: ignore[misc]
                bench.stack.start()
            read_until(lambda goal=goal: len(links) >= goal)  # type: ignore[misc]
        goal = len(reads) + 3
        read_until(lambda: len(reads) >= goal)
    finally:
        stream.stop()
    taps = {tap.uid: tap for tap in stream.taps}
    assert [type(link) for link in links] == [LinkDown, LinkUp] * 3
    assert len({read.uid for read in reads}) == len(reads), "a card was read twice"
    for read in reads:
        assert taps[read.uid].down_ms <= read.at_ms <= taps[read.uid].away_ms
    assert bench.listener.reader.counters().reopened == 3


def _crash(stack: PcscStack) -> Callable[[], None]:
    def crash() -> None:
        stack.kill()
        stack.start()

    return crash


def check_a_frozen_pcscd_is_seen_from_outside_and_its_return_too(bench: Bench) -> None:
    _freeze(bench)
    bench.ahead_ms += ALIVE_AGE_MS_MAX + 1_000
    (down,) = bench.listener.reader.poll()
    assert isinstance(down, LinkDown)
    assert "no answer from its driver" in down.reason
    bench.stack.thaw()
    bench.listener.wait_until(lambda: bench.listener.reader.alive_ms > monotonic_ms())
    assert LinkUp(reader_id="north-in") in bench.listener.reader.poll()
    with VpcdSlot() as slot:
        slot.insert(VirtualCard(UID))
        assert bench.listener.expect(CardRead).uid == UID


def check_closing_over_a_frozen_pcscd_takes_a_bounded_time(bench: Bench) -> None:
    _freeze(bench)
    began_ms = monotonic_ms()
    bench.listener.reader.close()
    assert monotonic_ms() - began_ms < CLOSE_MS_MAX + 1_000
    bench.stack.thaw()


def check_a_card_torn_away_before_its_answer_says_so_and_the_next_is_read(bench: Bench) -> None:
    class TornAway(VirtualCard):
        def apdu(self, command: bytes) -> bytes | None:
            return None

    with VpcdSlot() as slot:
        slot.insert(TornAway(UID))
        assert bench.listener.expect(ReadFailed).failure is Failure.LEFT_FIELD
        slot.insert(VirtualCard(UID))
        assert bench.listener.expect(CardRead).uid == UID


def check_a_card_without_an_identity_says_so(bench: Bench) -> None:
    class Mute(VirtualCard):
        def apdu(self, command: bytes) -> bytes | None:
            return b"\x6a\x81"

    with VpcdSlot() as slot:
        slot.insert(Mute(UID))
        assert bench.listener.expect(ReadFailed).failure is Failure.UNKNOWN_FAMILY


def _freeze(bench: Bench) -> None:
    """Until the worker sits in a call that does not return: no beat for several of its waits."""
    bench.stack.freeze()
    bench.listener.wait_until(lambda: monotonic_ms() - bench.listener.reader.alive_ms > 1_000)
