"""Goal: an OSDP reader is trusted only over its own key, a card from before an outage never passes
for a fresh one, and a cable fault is over when it is over.

Method: the real worker and libosdp as panel against libosdp as reader, behind a pty whose cable can
be cut: for less than it takes to be told, and for so long that one new connection was in vain.
Where only our own waiting is long, the test's clock is moved. The rules of waiting are in
`osdp_watch.py`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.model import SetupProblem, UidKind
from edge.readers import wiegand
from edge.readers.dialogue import Failure
from edge.readers.number import NUMBERINGS, UID_AS_PRINTED, ReaderProfile
from edge.readers.open_reader import open_reader
from edge.readers.osdp import (
    DEFAULT_KEY,
    FEEDBACK,
    SHOWN_DS,
    Line,
    OsdpSession,
    load_key,
    load_osdp,
)
from edge.readers.osdp_watch import CONNECT_MS_MAX, SILENT_MS_MAX
from edge.readers.reader import CardRead, LinkDown, LinkUp, ReadFailed, Signal
from edge.readers.worker import ReaderWorker, monotonic_ms
from edge.settings import ReaderSettings
from hil.devices.reader_listener import Listener
from hil.devices.reader_osdp import KEY, VirtualOsdpReader
from tests.support.reader_benches import need_libosdp

pytestmark = pytest.mark.slow

UID = bytes.fromhex("04A1B2C3D4E580")
OLD = bytes.fromhex("DEADBEEF")
STALE_MS = 2_000  # credentials.md: a read older than this opens nothing.
POLLS = 0.3  # Seconds: a handful of polls.


@pytest.fixture(autouse=True)
def _libosdp() -> None:
    need_libosdp()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[VirtualOsdpReader]:
    with VirtualOsdpReader(tmp_path / "reader") as made:
        yield made


def settings_of(device: VirtualOsdpReader, **changed: Any) -> ReaderSettings:
    given = {"frame": "uid", "port": str(device.path), "key_file": "-", **changed}
    return ReaderSettings(reader_id="north-in", driver="osdp", **given)


def listen(
    device: VirtualOsdpReader,
    *,
    key: bytes = KEY,
    now_ms: Callable[[], int] = monotonic_ms,
    **changed: Any,
) -> Listener:
    settings = settings_of(device, **changed)
    profile = ReaderProfile(
        kind=NUMBERINGS[settings.numbering or "iso14443"], reversed=settings.reversed
    )
    session = OsdpSession(settings, library=load_osdp(), key=key, profile=profile)
    return Listener(
        lambda wake: ReaderWorker(
            reader_id="north-in", session=session, wake=wake, now_ms=now_ms, jitter=lambda: 0.5
        )
    )


def pause(seconds: float) -> None:
    """Let the line live so long: an outage is a thing of the wire's own time."""
    threading.Event().wait(seconds)


# --- Outages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cut_s", [1.5, 7.0])
def test_a_card_shown_while_the_cable_was_cut_opens_nothing(
    cut_s: float, device: VirtualOsdpReader
) -> None:
    """Either it is dropped behind the outage, or it says how old it is. Then the reader works."""
    with listen(device) as listener:
        listener.expect(LinkUp)
        device.tap(UID)
        listener.expect(CardRead)
        pause(POLLS)
        device.cut = True
        device.tap(OLD)
        cut_at_ms = monotonic_ms()
        pause(cut_s)
        device.cut = False
        repaired_ms = monotonic_ms()
        if cut_s * 1_000 > SILENT_MS_MAX:
            assert "check cable" in listener.expect(LinkDown).reason
            listener.expect(LinkUp)
            assert monotonic_ms() - repaired_ms < 6_000
            assert listener.reader.counters().discarded_after_reopen >= 1
        else:
            stale = listener.expect(CardRead)
            assert stale.uid == OLD
            assert stale.at_ms <= cut_at_ms
        device.tap(UID[::-1])
        fresh = listener.expect(CardRead)
        assert fresh.uid == UID[::-1]
        assert monotonic_ms() - fresh.at_ms < STALE_MS


def test_a_reader_that_kept_a_card_since_before_the_agent_started_gives_it_in_vain(
    device: VirtualOsdpReader,
) -> None:
    device.tap(OLD)
    with listen(device) as listener:
        listener.expect(LinkUp)
        assert listener.reader.counters().discarded_after_reopen == 1
        device.tap(UID)
        assert listener.expect(CardRead).uid == UID


def test_a_wall_clock_that_steps_is_over_with_the_next_connection(
    device: VirtualOsdpReader,
) -> None:
    """libosdp times itself by the wall clock; all that a step can do to it looks like silence."""
    ahead_ms = 0
    with listen(device, now_ms=lambda: monotonic_ms() + ahead_ms) as listener:
        listener.expect(LinkUp)
        ahead_ms = SILENT_MS_MAX + 1  # The same silence, as our side sees it.
        listener.expect(LinkDown)
        listener.expect(LinkUp)
        device.tap(UID)
        listener.expect(CardRead)


class DeafPort:
    """A port on which the bytes given here arrive, one list at a time."""

    def __init__(self) -> None:
        self.timeout: float | None = 0
        self.write_timeout: float | None = 0
        self.baudrate = 9_600
        self.arrived = b""

    @property
    def in_waiting(self) -> int:
        return len(self.arrived)

    def fileno(self) -> int:
        raise OSError("no descriptor")

    def read(self, size: int) -> bytes:
        data, self.arrived = self.arrived[:size], self.arrived[size:]
        return data

    def write(self, data: bytes) -> int | None:
        return len(data)

    def close(self) -> None:
        pass


def answered(line: Line) -> int | None:
    return line.answered_ms


def test_an_answer_counts_when_the_next_number_goes_out_and_not_when_one_is_repeated() -> None:
    now_ms = 0
    port = DeafPort()
    line = Line(port, now_ms=lambda: now_ms)
    packets = [bytes([0xFF, 0x53, 0x00, 0x0E, 0x00, number]) for number in (0x0D, 0x0E, 0x0F)]
    line.begin()
    assert (answered(line), line.has_heard) == (None, False)
    line.write(packets[0])
    now_ms, port.arrived = 10, b"answer"
    line.read(64)
    assert answered(line) is None  # Nobody has said yet that it was a good one.
    now_ms = 60
    line.write(packets[1])
    assert answered(line) == 10
    now_ms, port.arrived = 70, b"noise"
    line.read(64)
    for second in range(1, 9):
        now_ms = 1_000 * second
        line.write(packets[1])  # The same number again: the answer was none.
        assert answered(line) == 10
    now_ms = 9_000
    line.write(packets[2][1:])  # Without the mark.
    assert answered(line) == 70
    line.wait(0)
    assert line.fault is not None


# --- Keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("paired", [False, True], ids=["nobody's reader", "another's reader"])
def test_a_reader_without_our_key_stays_down_and_is_never_given_one(
    paired: bool, tmp_path: Path
) -> None:
    theirs = bytes(reversed(KEY)) if paired else None
    with VirtualOsdpReader(tmp_path / "reader", key=theirs) as device:
        device.tap(UID)
        ahead_ms = 0
        with listen(device, now_ms=lambda: monotonic_ms() + ahead_ms) as listener:
            device.wait_asked()
            ahead_ms = CONNECT_MS_MAX
            reason = listener.expect(LinkDown).reason
            assert "gives no secure answers" in reason
            assert "pair the reader" in reason
            pause(POLLS)
            assert listener.reader.counters().reads == 0
        assert device.commands == []


def test_no_answer_at_all_names_cable_polarity_power_and_address(
    device: VirtualOsdpReader,
) -> None:
    ahead_ms = 0
    with listen(device, address=5, now_ms=lambda: monotonic_ms() + ahead_ms) as listener:
        pause(POLLS)
        ahead_ms = CONNECT_MS_MAX
        assert listener.expect(LinkDown).reason == (
            f"reader north-in: no answer from address 5 on {device.path} at 9600 baud; "
            "check cable, polarity, power and address"
        )


def test_a_key_file_is_read(tmp_path: Path, device: VirtualOsdpReader) -> None:
    path = tmp_path / "key"
    for text in (KEY.hex(), KEY.hex().upper() + "\n", f"  {KEY.hex()}\r\n"):
        path.write_text(text)
        path.chmod(0o640)
        assert load_key(settings_of(device, key_file=str(path))) == KEY


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (None, 0, "No such file"),
        ("", 0o600, "not 32 hex digits"),
        (KEY.hex()[:-1], 0o600, "not 32 hex digits"),
        (KEY.hex() + "00", 0o600, "not 32 hex digits"),
        ("x" * 32, 0o600, "not 32 hex digits"),
        ("\u0660" * 32, 0o600, "not 32 hex digits"),
        ("0" * 100_000, 0o600, "not 32 hex digits"),
        (DEFAULT_KEY.hex(), 0o600, "every reader is sold with"),
        ("00" * 16, 0o600, "every reader is sold with"),
        (KEY.hex(), 0o604, "chmod o="),
    ],
)
def test_a_key_file_that_will_not_do_is_the_technicians(
    text: str | None, mode: int, says: str, tmp_path: Path, device: VirtualOsdpReader
) -> None:
    path = tmp_path / "key"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(SetupProblem, match=r"reader north-in: key_file .*key") as problem:
        open_reader(settings_of(device, key_file=str(path)), wake=lambda: None)
    assert says in str(problem.value)
    assert KEY.hex() not in str(problem.value)


# --- What a card said ------------------------------------------------------------------------


def test_raw_bits_are_a_uid_in_the_readers_order(device: VirtualOsdpReader) -> None:
    with listen(device, reversed=True) as listener:
        listener.expect(LinkUp)
        device.tap(UID)
        read = listener.expect(CardRead)
        assert (read.uid, read.kind, read.tier) == (UID[::-1], UidKind.ISO14443, 1)


@pytest.mark.parametrize("bits", wiegand.FORMATS)
def test_wiegand_bits_are_checked_and_prove_nothing(bits: int, device: VirtualOsdpReader) -> None:
    data = UID[: wiegand.data_size(bits)]
    text = wiegand.encode(data, bits)
    damaged = text[:7] + "10"[int(text[7])] + text[8:]
    with listen(device, frame="wiegand", numbering="prox125") as listener:
        listener.expect(LinkUp)
        device.tap_wiegand(damaged)
        assert listener.expect(ReadFailed).failure is Failure.BAD_ANSWER
        device.tap_wiegand(text)
        read = listener.expect(CardRead)
        assert (read.uid, read.kind, read.tier) == (wiegand.decode(text), UidKind.PROX125, 0)
        assert read.is_ambiguous is (bits == 26)


@pytest.mark.parametrize("uid", ["0102030405", "04A1B2C3D4E58001"])
def test_bits_that_are_no_uid_name_nobody(uid: str, device: VirtualOsdpReader) -> None:
    with listen(device) as listener:
        listener.expect(LinkUp)
        device.tap(bytes.fromhex(uid))
        assert listener.expect(ReadFailed).failure is Failure.BAD_ANSWER
        device.tap_wiegand(wiegand.encode(UID, 34))
        assert listener.expect(ReadFailed).failure is Failure.BAD_ANSWER
        device.tap_wiegand("1" * 30)  # Four bytes with two bits to spare.
        assert listener.expect(ReadFailed).failure is Failure.BAD_ANSWER


class Eavesdropper:
    """libosdp, and a reference to every event it gave out: it keeps one to each for ever itself."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(load_osdp(), name)

    def ControlPanel(self, readers: list[dict[str, Any]]) -> Any:
        panel = load_osdp().ControlPanel(readers)
        return _EavesdroppedPanel(panel, self.events)


class _EavesdroppedPanel:
    def __init__(self, panel: Any, events: list[dict[str, Any]]) -> None:
        self._panel = panel
        self._events = events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._panel, name)

    def set_event_callback(self, callback: Callable[[int, dict[str, Any]], int]) -> None:
        def both(pd: int, event: dict[str, Any]) -> int:
            self._events.append(event)
            return callback(pd, event)

        self._panel.set_event_callback(both)


def test_what_a_card_said_is_not_kept(device: VirtualOsdpReader) -> None:
    library: Any = Eavesdropper()
    session = OsdpSession(settings_of(device), library=library, key=KEY, profile=UID_AS_PRINTED)
    device.tap(OLD)  # In the guard time.
    with Listener(
        lambda wake: ReaderWorker(reader_id="north-in", session=session, wake=wake)
    ) as listener:
        listener.expect(LinkUp)
        device.tap(UID)
        assert listener.expect(CardRead).uid == UID
    assert library.events == [{}, {}]


# --- Lamp, buzzer, text ----------------------------------------------------------------------


@pytest.mark.parametrize("signal", list(Signal))
def test_a_signal_is_seen_heard_and_read(signal: Signal, device: VirtualOsdpReader) -> None:
    library: Any = load_osdp()
    feedback = FEEDBACK[signal]
    color = getattr(library, feedback.color)
    with listen(device) as listener:
        listener.expect(LinkUp)
        listener.reader.signal(signal)
        told = device.wait_told(2 if signal is Signal.DOWN else 4)
    lamps = [one for one in told if one["command"] == library.CMD_LED]
    if signal is Signal.DOWN:
        assert [(one["temporary"], one["on_color"]) for one in lamps] == [(False, color)]
    else:  # For a moment only; it goes dark by itself, whatever becomes of the agent.
        assert [(one["temporary"], one["on_color"]) for one in lamps] == [
            (False, library.LED_COLOR_NONE),
            (True, color),
        ]
        assert lamps[1]["timer_count"] == SHOWN_DS
    beeps = [one["rep_count"] for one in told if one["command"] == library.CMD_BUZZER]
    assert beeps == ([feedback.beeps] if feedback.beeps else [])
    assert [one["data"] for one in told if one["command"] == library.CMD_TEXT] == [feedback.text]


def test_a_signal_from_before_the_link_was_up_is_not_shown(device: VirtualOsdpReader) -> None:
    with listen(device) as listener:
        listener.reader.signal(Signal.GRANTED)
        listener.expect(LinkUp)
        listener.reader.signal(Signal.REFUSED)
        device.wait_told(4)
        assert [one["data"] for one in device.commands if "data" in one] == ["STOP"]


def test_of_many_signals_the_last_one_is_shown(device: VirtualOsdpReader) -> None:
    with listen(device) as listener:
        listener.expect(LinkUp)
        for _ in range(100):
            for signal in Signal:
                listener.reader.signal(signal)
        listener.reader.signal(Signal.GRANTED)
        listener.wait_until(lambda: any(one.get("data") == "OK" for one in device.commands))
        assert len(device.commands) < 40


def test_a_library_that_is_not_installed_is_the_technicians(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "osdp_sys", None)
    with pytest.raises(SetupProblem, match=r"pip install .moskvenok-edge\[osdp\]"):
        load_osdp()
