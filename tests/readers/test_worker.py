"""Goal: a worker that hangs or breaks is seen from outside, told once, and never takes the agent
with it.

Method: a session that does what the test says, step by step, over real threads; the clock is the
test's own, so nothing waits for time to pass.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.model import DeviceFault, UidKind
from edge.readers import watch
from edge.readers.dialogue import Evidence, Failure, Tier
from edge.readers.reader import (
    ALIVE_AGE_MS_MAX,
    CardRead,
    LinkDown,
    LinkUp,
    ReadFailed,
    Signal,
)
from edge.readers.watch import REOPEN_MS, STABLE_MS
from edge.readers.worker import ReaderWorker, monotonic_ms
from hil.devices.reader_listener import Listener

UID = bytes.fromhex("04A1B2C3D4E580")
Step = Callable[[ReaderWorker], None]


class ScriptedSession:
    """Runs the steps it is given in the worker's thread, one after another."""

    def __init__(self) -> None:
        self.steps: queue.Queue[Step] = queue.Queue()
        self.signals: list[Signal] = []
        self.served = 0

    def serve(self, worker: ReaderWorker) -> None:
        self.served += 1
        while not worker.stopping:
            worker.beat()
            try:
                step = self.steps.get(timeout=0.01)
            except queue.Empty:
                continue
            step(worker)

    def signal(self, signal: Signal) -> None:
        self.signals.append(signal)


class Bench:
    def __init__(self) -> None:
        self.session = ScriptedSession()
        self.clock_ms = 1_000
        self.listener = Listener(
            lambda wake: ReaderWorker(
                reader_id="north-in",
                session=self.session,
                wake=wake,
                now_ms=lambda: self.clock_ms,
                jitter=lambda: 0.5,
            )
        )
        self.worker = self.listener.reader

    def do(self, step: Step) -> None:
        self.session.steps.put(step)

    def show(self, uid: bytes) -> None:
        at_ms = self.clock_ms
        self.do(lambda worker: worker.read(uid, at_ms=at_ms, kind=UidKind.ISO14443, tier=1))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.listener:
        yield made


def fail(_: ReaderWorker) -> None:
    raise DeviceFault("reader north-in: gone; check its plug")


def test_a_fault_is_told_once_however_often_the_device_fails(bench: Bench) -> None:
    began_ms = monotonic_ms()
    bench.do(fail)
    bench.do(fail)
    bench.do(ReaderWorker.up)
    assert bench.listener.expect(LinkDown).reason == "reader north-in: gone; check its plug"
    bench.listener.expect(LinkUp)
    assert bench.session.served == 3
    assert monotonic_ms() - began_ms >= REOPEN_MS[0] + REOPEN_MS[1]


def test_the_reopening_schedule_starts_over_after_a_stable_link(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "REOPEN_MS", (1, 60_000))  # A second delay would never end.
    bench.do(fail)
    bench.do(ReaderWorker.up)
    bench.listener.expect(LinkDown)
    bench.listener.expect(LinkUp)
    bench.clock_ms += STABLE_MS
    bench.do(fail)
    bench.do(ReaderWorker.up)
    bench.listener.expect(LinkDown)
    bench.listener.expect(LinkUp)


def test_a_plug_that_is_put_back_is_seen_at_once_and_not_when_a_delay_is_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "REOPEN_MS", (600_000,))
    session, port = ScriptedSession(), tmp_path / "reader"
    with Listener(
        lambda wake: ReaderWorker(reader_id="north-in", session=session, wake=wake, port=str(port))
    ) as listener:
        for _ in range(3):  # Each time anew: the delay before it is forgotten.
            session.steps.put(fail)
            listener.wait_until(session.steps.empty)
            failed_ms = monotonic_ms()  # Its next sign of life is one of waiting.
            listener.wait_until(
                lambda failed_ms=failed_ms: listener.reader.alive_ms > failed_ms  # type: ignore[misc]
            )
            served = session.served
            port.touch()
            listener.wait_until(lambda served=served: session.served > served)  # type: ignore[misc]
            port.unlink()


def test_the_first_up_is_no_reopening_and_the_next_is(bench: Bench) -> None:
    for step in (ReaderWorker.up, ReaderWorker.up, fail, ReaderWorker.up):
        bench.do(step)
    bench.listener.expect(LinkUp)
    bench.listener.expect(LinkDown)
    bench.listener.expect(LinkUp)
    assert bench.worker.counters().reopened == 1


def test_a_mistake_in_our_own_code_is_told_without_its_text_and_tried_again(bench: Bench) -> None:
    def mistake(_: ReaderWorker) -> None:
        raise ZeroDivisionError(UID.hex())

    bench.do(mistake)
    bench.do(ReaderWorker.up)
    reason = bench.listener.expect(LinkDown).reason
    assert reason.startswith("reader north-in: ZeroDivisionError at test_worker.py:")
    assert UID.hex() not in reason
    bench.listener.expect(LinkUp)


def test_a_worker_that_hangs_is_seen_from_outside_and_so_is_its_return(bench: Bench) -> None:
    release = threading.Event()
    bench.do(ReaderWorker.up)
    bench.listener.expect(LinkUp)
    entered = threading.Event()

    def hang(_: ReaderWorker) -> None:
        entered.set()
        release.wait()

    bench.do(hang)
    entered.wait()
    bench.clock_ms = bench.worker.alive_ms + ALIVE_AGE_MS_MAX
    assert bench.worker.poll() == []
    bench.clock_ms += 1
    (down,) = bench.worker.poll()
    assert isinstance(down, LinkDown)
    assert "no answer from its driver for 5 s" in down.reason
    bench.clock_ms += ALIVE_AGE_MS_MAX
    assert bench.worker.poll() == []
    release.set()
    bench.listener.wait_until(lambda: bench.worker.alive_ms == bench.clock_ms)
    assert bench.worker.poll() == [LinkUp(reader_id="north-in")]
    assert bench.worker.poll() == []


def test_a_worker_that_hangs_before_it_was_ever_up_is_told_too(bench: Bench) -> None:
    entered, release = threading.Event(), threading.Event()

    def hang(_: ReaderWorker) -> None:
        entered.set()
        release.wait()

    bench.do(hang)
    entered.wait()
    bench.clock_ms = bench.worker.alive_ms + ALIVE_AGE_MS_MAX + 1
    assert [type(event) for event in bench.worker.poll()] == [LinkDown]
    release.set()
    bench.do(ReaderWorker.up)
    bench.listener.expect(LinkUp)


def test_what_was_queued_before_a_hang_comes_before_it(bench: Bench) -> None:
    entered, release = threading.Event(), threading.Event()

    def up_and_hang(worker: ReaderWorker) -> None:
        worker.up()
        entered.set()
        release.wait()

    bench.do(up_and_hang)
    entered.wait()
    bench.clock_ms = bench.worker.alive_ms + ALIVE_AGE_MS_MAX + 1
    assert [type(event) for event in bench.worker.poll()] == [LinkUp, LinkDown]
    release.set()
    bench.listener.wait_until(lambda: bench.worker.alive_ms == bench.clock_ms)
    assert [type(event) for event in bench.worker.poll()] == [LinkUp]


def test_a_hang_that_ends_in_a_fault_is_one_link_down(bench: Bench) -> None:
    release = threading.Event()
    entered = threading.Event()
    bench.do(ReaderWorker.up)
    bench.listener.expect(LinkUp)

    def hang_and_fail(worker: ReaderWorker) -> None:
        entered.set()
        release.wait()
        fail(worker)

    bench.do(hang_and_fail)
    entered.wait()
    bench.clock_ms = bench.worker.alive_ms + ALIVE_AGE_MS_MAX + 1
    assert [type(event) for event in bench.worker.poll()] == [LinkDown]
    release.set()
    bench.listener.wait_until(lambda: bench.session.served == 2)
    assert bench.worker.poll() == []
    bench.do(ReaderWorker.up)
    bench.listener.expect(LinkUp)


def test_a_random_id_names_nobody_and_a_longer_number_that_begins_so_does(bench: Bench) -> None:
    bench.show(bytes.fromhex("08A1B2C3"))
    bench.show(bytes.fromhex("08A1B2C3D4E580"))
    failed = bench.listener.expect(ReadFailed)
    assert (failed.failure, failed.at_ms) == (Failure.RANDOM_UID, 1_000)
    bench.listener.expect(CardRead)
    counters = bench.worker.counters()
    assert (counters.refused, counters.reads) == (1, 1)


def test_a_card_that_was_still_there_is_no_new_read(bench: Bench) -> None:
    bench.show(UID)
    bench.listener.expect(CardRead)
    bench.clock_ms += 60_000
    bench.do(lambda worker: worker.still_there(UID, at_ms=bench.clock_ms))
    bench.show(UID)
    bench.listener.wait_until(lambda: bench.worker.counters().repeats == 1)
    assert bench.worker.poll() == []


def test_evidence_reaches_the_read_and_no_number_its_repr(bench: Bench) -> None:
    evidence = Evidence(uid=UID, tier=Tier.SESSION, data=b"proved")
    bench.do(
        lambda worker: worker.read(
            UID, at_ms=1_000, kind=UidKind.ISO14443, tier=evidence.tier, evidence=evidence
        )
    )
    read = bench.listener.expect(CardRead)
    assert (read.tier, read.evidence) == (6, evidence)
    assert "proved" not in repr(read)
    assert UID.hex() not in repr(read).lower()


def test_a_signal_reaches_the_device(bench: Bench) -> None:
    for signal in Signal:
        bench.worker.signal(signal)
    assert bench.session.signals == list(Signal)


def test_after_close_nothing_comes_and_nobody_is_woken() -> None:
    session, woken = ScriptedSession(), list[int]()
    worker = ReaderWorker(reader_id="north-in", session=session, wake=lambda: woken.append(1))
    entered, release = threading.Event(), threading.Event()

    def hold(worker: ReaderWorker) -> None:
        entered.set()
        release.wait()
        worker.read(UID, at_ms=1_000, kind=UidKind.ISO14443, tier=1)

    session.steps.put(hold)
    entered.wait()
    closing = threading.Thread(target=worker.close)
    closing.start()
    while not worker.stopping:
        closing.join(0.01)
    release.set()
    closing.join()
    worker.close()
    assert worker.poll() == []
    assert woken == []
