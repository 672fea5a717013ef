"""Goal: every driver keeps the Reader contract of `edge/readers/reader.py`, and so does every
virtual reader that stands in for it.

Method: one suite over benches (`tests/support/reader_benches.py`): each serial family and a
keyboard wedge on a pty, PC/SC over a service in memory, a PN532 and an OSDP reader behind their
own protocols on a pty, and PC/SC over a real pcscd. For the last one the file runs itself again in
namespaces of its own. With `RIG=<device.toml>` the suite is run on a real reader too, and the
terminal says which card to show (`RIG_READER=<id>` names another than the first; run it with
`-n 0 -k rig`); the hands at that bench are tried here on a pty. A card that follows stands as a
fence where nothing must have come before it; time is moved by the test's clock, not waited for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.readers.dialogue import Failure
from edge.readers.reader import (
    CardRead,
    LinkDown,
    LinkUp,
    ReadFailed,
    Signal,
)
from edge.readers.watch import REPEAT_MS_MAX
from hil.devices.pcsc_stack import PcscStack, is_inside, pcsc_missing, rerun_inside
from hil.devices.reader_listener import Listener
from tests.support.reader_benches import FAMILIES, Bench, VpcdBench, make_bench
from tests.support.reader_rig import AtTerminal, RigBench, rig_settings

pytestmark = pytest.mark.slow

RERUN_S_MAX = 180.0  # Our choice: ten times what it takes on an idle machine.


OF_A_RIG = pytest.param(
    "rig",
    marks=[
        pytest.mark.rig,
        pytest.mark.skipif("RIG" not in os.environ, reason="no rig here: set RIG=<device.toml>"),
    ],
)


class Hands:
    """A person at a virtual reader, for the bench that a real one stands on."""

    def __init__(self, virtual: Bench) -> None:
        self._virtual = virtual
        self._cards = (*virtual.uids, virtual.begins_with_08)

    def show(self, card: int) -> None:
        self._virtual.show(self._cards[card])

    def take_away(self) -> None:
        self._virtual.take_away()

    def unplug(self) -> None:
        self._virtual.unplug()

    def replug(self) -> None:
        self._virtual.replug()

    def confirm(self) -> None:
        self._virtual.wait_noticed()


@pytest.fixture(params=["vpcd"] if is_inside() else [*FAMILIES, "hands", OF_A_RIG])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made: Bench
    if request.param == "vpcd":
        stack = PcscStack(tmp_path)
        stack.start()
        made = VpcdBench(stack)
    elif request.param == "hands":
        virtual = make_bench("hex_line", tmp_path)
        request.addfinalizer(virtual.close)
        made = RigBench(virtual.settings, Hands(virtual))
    elif request.param == "rig":
        made = RigBench(rig_settings(), AtTerminal())
    else:
        made = make_bench(request.param, tmp_path)
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
    assert before_ms - bench.older_ms_max <= read.at_ms <= bench.now_ms()
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
    bench.wait_for_a_beat(listener)
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
    if not bench.refuses_08:  # A 125 kHz number is never random, nor a long UID.
        assert listener.expect(CardRead).uid == bench.begins_with_08
        return
    failed = listener.expect(ReadFailed)
    assert (failed.failure, failed.reader_id) == (Failure.RANDOM_UID, "north-in")
    counters = listener.reader.counters()
    assert (counters.reads, counters.refused) == (0, 1)


def test_a_quiet_reader_shows_that_it_lives(bench: Bench, listener: Listener) -> None:
    bench.wait_for_a_beat(listener)
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
