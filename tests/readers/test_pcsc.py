"""Goal: what a PC/SC service and its cards can do to a reader beyond the contract: cards swapped
and torn away, other programs, readers that come and go, a service that hangs.

Method: the real worker over a service in memory, which can be made to do each of these. The same
worker runs over a real pcscd in `tests/process/test_pcsc_reader.py`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from edge.model import SetupProblem
from edge.readers.dialogue import BUDGET_MS_MAX, Failure
from edge.readers.open_reader import open_reader
from edge.readers.pcsc import PcscSession
from edge.readers.reader import (
    ALIVE_AGE_MS_MAX,
    CardRead,
    LinkDown,
    LinkUp,
    ReadFailed,
)
from edge.readers.watch import REPEAT_MS_MAX
from edge.readers.worker import ReaderWorker, monotonic_ms
from edge.settings import ReaderSettings
from hil.devices.reader_listener import Listener
from hil.devices.reader_scard import VirtualScard
from hil.devices.vpcd_card import VirtualCard

NAME = "Lane 00 00"
UID = bytes.fromhex("04A1B2C3D4E580")
STALL_MS = 3_000  # Longer than a read may be old (credentials.md: 2 s).
FENCE = bytes.fromhex("DEADBEEF")


class Bench:
    def __init__(self) -> None:
        self.ahead_ms = 0
        self.service = VirtualScard(NAME, "Desk 00 00")
        self.listener = self.listen("Lane")

    def now_ms(self) -> int:
        return monotonic_ms() + self.ahead_ms

    def listen(self, prefix: str) -> Listener:
        settings = ReaderSettings(reader_id="north-in", driver="pcsc", name=prefix)

        def open_with(wake: Callable[[], None]) -> ReaderWorker:
            session = PcscSession(settings, scard=self.service)
            return ReaderWorker(
                reader_id="north-in", session=session, wake=wake, now_ms=self.now_ms
            )

        return Listener(open_with)

    def pass_time(self, ms: int) -> None:
        """The clock moves, and the worker has seen it."""
        self.ahead_ms += ms
        now_ms = self.now_ms()
        self.listener.wait_until(lambda: self.listener.reader.alive_ms >= now_ms)

    def expect_fence(self) -> None:
        """Nothing came since; then another card is read."""
        self.service.swap(NAME, VirtualCard(FENCE))
        assert self.listener.expect(CardRead).uid == FENCE
        assert self.service.connections == 0


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.listener:
        made.listener.expect(LinkUp)
        yield made


def test_a_card_laid_down_while_the_service_was_away_is_not_read(bench: Bench) -> None:
    bench.service.stop_service()
    bench.listener.expect(LinkDown)
    bench.service.insert(NAME, VirtualCard(UID))
    bench.service.start_service()
    bench.listener.expect(LinkUp)
    assert bench.listener.reader.counters().discarded_after_reopen == 1
    bench.expect_fence()


def test_a_card_swapped_between_two_looks_is_read(bench: Bench) -> None:
    bench.service.insert(NAME, VirtualCard(UID))
    assert bench.listener.expect(CardRead).uid == UID
    bench.expect_fence()


def test_a_card_that_flutters_in_the_field_is_one_read(bench: Bench) -> None:
    bench.service.insert(NAME, VirtualCard(UID))
    bench.listener.expect(CardRead)
    bench.pass_time(10 * REPEAT_MS_MAX)
    bench.service.swap(NAME, VirtualCard(UID))
    bench.listener.wait_until(lambda: bench.listener.reader.counters().repeats == 1)
    bench.expect_fence()


class TornAway(VirtualCard):
    """Leaves the field instead of answering."""

    def apdu(self, command: bytes) -> bytes | None:
        return None


def test_a_card_torn_away_before_its_answer_says_so(bench: Bench) -> None:
    bench.service.insert(NAME, TornAway(UID))
    failed = bench.listener.expect(ReadFailed)
    assert (failed.failure, failed.reader_id) == (Failure.LEFT_FIELD, "north-in")
    bench.expect_fence()


@pytest.mark.parametrize("where", ["connect", "transmit"])
def test_a_card_reset_by_another_program_is_asked_once_more(bench: Bench, where: str) -> None:
    codes = bench.service.connect_codes if where == "connect" else bench.service.transmit_codes
    codes.append(VirtualScard.SCARD_W_RESET_CARD)
    bench.service.insert(NAME, VirtualCard(UID))
    assert bench.listener.expect(CardRead).uid == UID
    codes.extend([VirtualScard.SCARD_W_RESET_CARD] * 2)
    bench.service.swap(NAME, VirtualCard(UID))
    assert bench.listener.expect(ReadFailed).failure is Failure.READER_ERROR
    bench.expect_fence()


def test_a_reader_that_another_program_held_for_a_moment_is_tried_once_more(bench: Bench) -> None:
    bench.service.connect_codes.append(VirtualScard.SCARD_E_SHARING_VIOLATION)
    bench.service.insert(NAME, VirtualCard(UID))
    assert bench.listener.expect(CardRead).uid == UID
    bench.expect_fence()


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (VirtualScard.SCARD_E_NO_SMARTCARD, Failure.LEFT_FIELD),
        (VirtualScard.SCARD_W_REMOVED_CARD, Failure.LEFT_FIELD),
        (VirtualScard.SCARD_W_UNRESPONSIVE_CARD, Failure.UNKNOWN_FAMILY),
        (VirtualScard.SCARD_W_UNPOWERED_CARD, Failure.UNKNOWN_FAMILY),
        (VirtualScard.SCARD_E_SHARING_VIOLATION, Failure.READER_ERROR),
    ],
)
@pytest.mark.parametrize("where", ["connect", "transmit"])
def test_each_refusal_of_the_service_has_its_failure(
    bench: Bench, where: str, code: int, failure: Failure
) -> None:
    codes = bench.service.connect_codes if where == "connect" else bench.service.transmit_codes
    codes.append(code)
    if where == "connect" and failure is Failure.READER_ERROR:
        codes.append(code)  # Nothing was asked of the card yet, so it was tried twice.
    bench.service.insert(NAME, VirtualCard(UID))
    assert bench.listener.expect(ReadFailed).failure is failure
    assert not codes
    assert bench.listener.reader.counters().refused == 1
    bench.expect_fence()


def test_a_card_slower_than_a_tap_may_take_is_given_up(bench: Bench) -> None:
    class Slow(VirtualCard):
        def apdu(self, command: bytes) -> bytes | None:
            bench.ahead_ms += BUDGET_MS_MAX
            return bytes([0x6C, len(self.uid)])

    bench.service.insert(NAME, Slow(UID))
    assert bench.listener.expect(ReadFailed).failure is Failure.DEADLINE
    bench.expect_fence()


def test_an_answer_that_waited_while_the_process_was_held_up_says_how_old_it_may_be(
    bench: Bench,
) -> None:
    class HeldUp(VirtualCard):
        def apdu(self, command: bytes) -> bytes | None:
            bench.ahead_ms += STALL_MS
            return super().apdu(command)

    bench.service.insert(NAME, HeldUp(UID))
    read = bench.listener.expect(CardRead)
    assert bench.now_ms() - read.at_ms >= STALL_MS
    bench.expect_fence()


def test_the_time_of_a_read_is_its_commands_and_not_its_connections(bench: Bench) -> None:
    connected_ms: list[int] = []

    def connect_slowly() -> None:
        bench.ahead_ms += STALL_MS
        connected_ms.append(bench.now_ms())

    bench.service.before_connect = connect_slowly
    bench.service.insert(NAME, VirtualCard(UID))
    assert bench.listener.expect(CardRead).at_ms >= connected_ms[0]


def test_the_reader_of_the_name_is_taken_and_another_is_no_substitute(bench: Bench) -> None:
    bench.service.unplug(NAME)
    assert bench.listener.expect(LinkDown).reason == (
        'reader north-in: no PC/SC reader named "Lane…"; there is Desk 00 00; check its plug and '
        "the name in device.toml"
    )
    bench.service.insert("Desk 00 00", VirtualCard(UID))
    bench.service.replug(NAME)
    bench.listener.expect(LinkUp)
    bench.expect_fence()


def test_a_reader_is_kept_when_another_of_its_name_comes(bench: Bench) -> None:
    bench.service.replug("Lane 00 000 earlier in the list")
    bench.pass_time(1)
    bench.service.insert("Lane 00 000 earlier in the list", VirtualCard(UID))
    bench.expect_fence()


class Lagging(VirtualScard):
    """Names a reader that is gone already, as between two calls, three times."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self._code = code
        self._times_left = 3

    def SCardListReaders(self, context: int, groups: list[str]) -> tuple[int, list[str]]:
        self._times_left -= 1
        return (0, [NAME]) if self._times_left >= 0 else super().SCardListReaders(context, groups)

    def SCardGetStatusChange(
        self, context: int, timeout_ms: int, states: Sequence[tuple[str, int]]
    ) -> tuple[int, list[tuple[str, int, list[int]]]]:
        if self._code and self._times_left >= 0:
            return self._code, []
        return super().SCardGetStatusChange(context, timeout_ms, states)


@pytest.mark.parametrize("code", [0, VirtualScard.SCARD_E_UNKNOWN_READER], ids=["state", "code"])
def test_a_reader_gone_between_two_calls_is_not_taken_for_one_that_is_up(code: int) -> None:
    settings = ReaderSettings(reader_id="north-in", driver="pcsc", name="Lane")

    def open_with(wake: Callable[[], None]) -> ReaderWorker:
        session = PcscSession(settings, scard=Lagging(code))
        return ReaderWorker(reader_id="north-in", session=session, wake=wake)

    with Listener(open_with) as listener:
        assert "no PC/SC reader named" in listener.expect(LinkDown).reason


def test_without_a_name_the_first_reader_is_taken(bench: Bench) -> None:
    with bench.listen("") as listener:
        listener.expect(LinkUp)
        bench.service.insert("Desk 00 00", VirtualCard(UID))
        assert listener.expect(CardRead).uid == UID


def test_a_service_that_hangs_is_seen_from_outside(bench: Bench) -> None:
    entered, release = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait()

    bench.service.before_connect = hang
    bench.service.insert(NAME, VirtualCard(UID))
    entered.wait()
    bench.ahead_ms += ALIVE_AGE_MS_MAX + 1_000
    (down,) = bench.listener.reader.poll()
    assert isinstance(down, LinkDown)
    bench.service.before_connect = lambda: None
    release.set()
    bench.listener.expect(LinkUp)


def test_without_pyscard_the_technician_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "smartcard", None)
    settings = ReaderSettings(reader_id="north-in", driver="pcsc")
    with pytest.raises(SetupProblem, match=r"pyscard is not installed.*apt-get install.*\[pcsc\]"):
        open_reader(settings, wake=lambda: None)
