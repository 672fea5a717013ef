"""OSDP readers on RS-485: the one place that knows libosdp.

libosdp speaks the protocol as control panel: frames, checks, the secure channel. What it leaves to
others is here and in `osdp_watch.py`: when a reader counts as up, how old a card is, and what a
lamp says. One reader to a port: the bus of two readers on one cable is not shared.

The secure channel is enforced with the key of this reader. The default key is refused, and nothing
here ever sets a key: a reader without ours stays down until a technician pairs it
(`osdp_pairing.py`, `moskvenok reader pair`).

`osdp_sys` is used as it is, because its wrapper `osdp` keeps every event in a queue without a
limit and drives the line from a thread of its own.
"""

from __future__ import annotations

import select
import stat
import termios
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from edge.model import SetupProblem
from edge.readers import wiegand
from edge.readers.dialogue import Failure
from edge.readers.number import Number, ReaderProfile
from edge.readers.osdp_watch import Connection, Step
from edge.readers.reader import Signal
from edge.readers.serial_port import READ_SIZE_MAX, Port, faults_named, open_port
from edge.readers.worker import ReaderWorker
from edge.settings import ReaderSettings

KEY_SIZE = 16  # The secure channel is AES-128.
DEFAULT_KEY = bytes(range(0x30, 0x40))  # SCBK-D, the same in every reader that is sold.
KEY_FILE_BYTES_MAX = 256  # Our choice: 32 hex digits and a line end need 34.
PAIR = 'pair the reader: "moskvenok reader pair"'
OTHERS = stat.S_IROTH | stat.S_IWOTH
REFRESH_S = 0.005  # Measured: a card comes in 52 ms; in 88 ms with the 20 ms of libosdp's wrapper.
WRITE_S_MAX = 0.5  # Our choice: a packet takes 60 ms at 9600 baud.
SEQUENCE_AT = 4  # SOM, address, length (2), control: its low two bits (seen on the wire).
MARK = 0xFF  # May stand before a packet.
PANEL_PD = 0  # The one reader of this panel.

# Control codes as libosdp's osdp.h has them; OSDP v2.2, 6.10 for the lamp.
TEMPORARY, PERMANENT = 2, 1  # Lamp: set the temporary, the permanent state.
DEFAULT_TONE = 2
TEMPORARY_TEXT = 3  # For a time, no wrap; offsets begin at 1.
SHOWN_DS = 20  # Our choice: two seconds, in the protocol's tenths; a passage takes so long.


class Panel(Protocol):
    """What is used of `osdp_sys.ControlPanel`."""

    def refresh(self) -> None: ...
    def sc_status(self) -> int: ...
    def set_event_callback(self, callback: Callable[[int, dict[str, Any]], int], /) -> None: ...
    def submit_command(self, pd: int, command: dict[str, Any], /) -> bool: ...
    def check_capability(self, pd: int, function: int, /) -> tuple[int, int]: ...


class Osdp(Protocol):
    """What is used of `osdp_sys`."""

    FLAG_ENFORCE_SECURE: int
    LOG_EMERG: int
    EVENT_CARDREAD: int
    CARD_FMT_ASCII: int
    CMD_LED: int
    CMD_BUZZER: int
    CMD_TEXT: int
    CAP_READER_LED_CONTROL: int
    CAP_READER_AUDIBLE_OUTPUT: int
    CAP_READER_TEXT_OUTPUT: int
    LED_COLOR_NONE: int
    LED_COLOR_RED: int
    LED_COLOR_GREEN: int
    LED_COLOR_AMBER: int

    def set_loglevel(self, level: int, /) -> None: ...
    def ControlPanel(self, readers: list[dict[str, Any]], /) -> Panel: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """How a signal looks and sounds. OSDP texts are ASCII: these read the same in any language."""

    color: str
    beeps: int
    text: str


FEEDBACK: Mapping[Signal, Feedback] = MappingProxyType(
    {
        Signal.GRANTED: Feedback(color="LED_COLOR_GREEN", beeps=1, text="OK"),
        Signal.REFUSED: Feedback(color="LED_COLOR_RED", beeps=3, text="STOP"),
        Signal.ASK: Feedback(color="LED_COLOR_AMBER", beeps=2, text="?"),
        Signal.DOWN: Feedback(color="LED_COLOR_RED", beeps=0, text="X"),
    }
)
assert set(FEEDBACK) == set(Signal)


def load_osdp() -> Osdp:
    """Raises SetupProblem where libosdp is not installed."""
    try:
        import osdp_sys
    except ImportError as problem:
        raise SetupProblem(
            "an OSDP reader is configured, but libosdp is not installed; run: "
            'pip install "moskvenok-edge[osdp]"'
        ) from problem
    library: Osdp = osdp_sys
    library.set_loglevel(library.LOG_EMERG)  # Its log says what cards say.
    return library


def load_key(settings: ReaderSettings) -> bytes:
    """The key of this reader. Raises SetupProblem: a wrong file is the technician's to mend."""
    path = Path(settings.key_file)
    where = f"reader {settings.reader_id}: key_file {path}"
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            text = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as problem:
        raise SetupProblem(f"{where}: {problem.strerror}; {PAIR}") from problem
    if mode & OTHERS:
        raise SetupProblem(f"{where}: others may read it; run: chmod o= {path}")
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        raise SetupProblem(f"{where}: not 32 hex digits; move it away, then {PAIR}")
    if key == DEFAULT_KEY or not any(key):
        raise SetupProblem(
            f"{where}: holds a key that every reader is sold with; move it away, then {PAIR}"
        )
    return key


class Line:
    """What libosdp takes for a channel: bytes over a port, and when a good answer came.

    libosdp cannot carry an exception through, so `fault` keeps it. One line serves all lives of the
    connection, because libosdp never lets go of a channel.
    """

    id = 0

    def __init__(self, port: Port, *, now_ms: Callable[[], int]) -> None:
        self._port = port
        self._now_ms = now_ms
        self._heard_ms: int | None = None
        self._sequence: int | None = None
        self.fault: OSError | termios.error | None = None
        self.answered_ms: int | None = None

    @property
    def has_heard(self) -> bool:
        return self._heard_ms is not None

    def begin(self) -> None:
        """A new connection: nothing was answered yet."""
        self._heard_ms = self._sequence = self.answered_ms = None
        self.read(READ_SIZE_MAX)
        self._heard_ms = None

    def read(self, size: int) -> bytes:
        try:
            data = self._port.read(min(size, self._port.in_waiting))
        except (OSError, termios.error) as fault:
            self.fault = fault
            return b""
        if data:
            self._heard_ms = self._now_ms()
        return data

    def write(self, packet: bytes) -> int:
        """A packet with a new sequence number: what was heard last answered the one before.

        A lost answer is asked for again under the same number. So a card that is in the answer to
        this packet may be as old as `answered_ms`, and no older.
        """
        sequence = packet[(packet[0] == MARK) + SEQUENCE_AT] & 0x03
        if sequence != self._sequence:
            self._sequence = sequence
            self.answered_ms = self._heard_ms
        try:
            self._port.write(packet)
        except (OSError, termios.error) as fault:
            self.fault = fault
        return len(packet)

    def flush(self) -> None:
        """A port has nothing to flush that an answer could wait for."""

    def wait(self, limit_s: float) -> None:
        """Until something came, or so long."""
        try:
            select.select([self._port.fileno()], [], [], limit_s)
        except (OSError, ValueError) as fault:
            self.fault = fault if isinstance(fault, OSError) else OSError(str(fault))


def described(settings: ReaderSettings, line: Line, *, key: bytes, flags: int) -> dict[str, Any]:
    """The reader as libosdp wants to know it; the last five are a reader's own to say."""
    return {
        "name": settings.reader_id,
        "address": settings.address,
        "flags": flags,
        "scbk": key,
        "channel": line,
        **dict.fromkeys(
            ("version", "model", "vendor_code", "serial_number", "firmware_version"), 0
        ),
    }


class OsdpSession:
    """One reader on one port."""

    def __init__(
        self, settings: ReaderSettings, *, library: Osdp, key: bytes, profile: ReaderProfile
    ) -> None:
        assert len(key) == KEY_SIZE and key != DEFAULT_KEY
        self._settings = settings
        self._library = library
        self._key = key
        self._profile = profile
        self._signal: Signal | None = None  # The last one that is not shown yet.

    def serve(self, worker: ReaderWorker) -> None:
        with faults_named(self._settings.reader_id, self._settings.port):
            port = open_port(self._settings.port, self._settings.baud, timeout_s=0)
            try:
                port.write_timeout = WRITE_S_MAX
                line = Line(port, now_ms=worker.now_ms)
                while not worker.stopping:
                    self._live(worker, line)
            finally:
                port.close()

    def signal(self, signal: Signal) -> None:
        """Shown as soon as the reader is asked again; a later signal replaces an earlier one."""
        self._signal = signal

    def _live(self, worker: ReaderWorker, line: Line) -> None:
        """One connection from its beginning to its loss."""
        line.begin()
        events: list[dict[str, Any]] = []
        flags = self._library.FLAG_ENFORCE_SECURE
        description = described(self._settings, line, key=self._key, flags=flags)
        panel = self._library.ControlPanel([description])

        def keep(_: int, event: dict[str, Any]) -> int:
            events.append(event)
            return 0

        panel.set_event_callback(keep)
        connection = Connection(now_ms=worker.now_ms())
        while not worker.stopping:
            panel.refresh()
            worker.beat()
            if line.fault is not None:
                raise line.fault
            for event in events:
                self._report(worker, event, line.answered_ms, is_up=connection.is_up)
            events.clear()
            step = connection.step(
                secure=bool(panel.sc_status()),
                answered_ms=line.answered_ms,
                now_ms=worker.now_ms(),
            )
            if step is Step.RENEW:
                worker.down(self._absence(line, was_secure=connection.was_secure))
                return
            if step is Step.UP:
                self._signal = None  # What was asked for while it was down is past.
                worker.up()
            if connection.is_up:
                self._show(panel)
            line.wait(REFRESH_S)

    def _absence(self, line: Line, *, was_secure: bool) -> str:
        at = f"address {self._settings.address} on {self._settings.port}"
        if line.has_heard and not was_secure:
            return (
                f"reader {self._settings.reader_id}: {at} gives no secure answers; check its key, "
                f"and if it holds another, {PAIR}; then check cable and baud rate"
            )
        return (
            f"reader {self._settings.reader_id}: no answer from {at} at {self._settings.baud} "
            "baud; check cable, polarity, power and address"
        )

    def _report(
        self,
        worker: ReaderWorker,
        event: dict[str, Any],
        answered_ms: int | None,
        *,
        is_up: bool,
    ) -> None:
        if event["event"] == self._library.EVENT_CARDREAD:
            if not is_up or answered_ms is None:
                worker.discarded(1)
            elif (number := self._number(event)) is None:
                worker.failed(Failure.BAD_ANSWER, at_ms=answered_ms)
            else:
                worker.read(number.uid, at_ms=answered_ms, kind=number.kind, tier=number.tier)
        event.clear()  # libosdp never lets go of an event, nor of what a card said.

    def _number(self, event: Mapping[str, Any]) -> Number | None:
        """What the card said, by the reader's profile; None for anything else."""
        if event["format"] == self._library.CARD_FMT_ASCII:
            return None
        bits, data = event["length"], event["data"]
        if self._settings.frame == "wiegand":
            decoded = wiegand.decode(wiegand.bits_of(data, bits))
            return None if decoded is None else wiegand.number_of(decoded, self._profile)
        return self._profile.number(data) if bits == 8 * len(data) else None

    def _show(self, panel: Panel) -> None:
        """Lamp, buzzer and text for the last signal, each where the reader has one."""
        signal, self._signal = self._signal, None
        if signal is None:
            return
        library, feedback = self._library, FEEDBACK[signal]
        stays = signal is Signal.DOWN
        color = getattr(library, feedback.color)
        if self._has(panel, library.CAP_READER_LED_CONTROL):
            panel.submit_command(PANEL_PD, self._led(color if stays else library.LED_COLOR_NONE))
            if not stays:
                panel.submit_command(PANEL_PD, self._led(color, shown_ds=SHOWN_DS))
        if feedback.beeps and self._has(panel, library.CAP_READER_AUDIBLE_OUTPUT):
            beep = {"on_count": 1, "off_count": 1, "rep_count": feedback.beeps}
            panel.submit_command(
                PANEL_PD,
                {"command": library.CMD_BUZZER, "reader": 0, "control_code": DEFAULT_TONE, **beep},
            )
        if self._has(panel, library.CAP_READER_TEXT_OUTPUT):
            place = {"offset_row": 1, "offset_col": 1, "temp_time": SHOWN_DS // 10}
            text = {"control_code": TEMPORARY_TEXT, "data": feedback.text, **place}
            panel.submit_command(PANEL_PD, {"command": library.CMD_TEXT, "reader": 0, **text})

    def _led(self, color: int, *, shown_ds: int = 0) -> dict[str, Any]:
        """Steadily in this colour: for so many tenths of a second, or until further notice."""
        command: dict[str, Any] = {
            "command": self._library.CMD_LED,
            "reader": 0,
            "led_number": 0,
            "temporary": bool(shown_ds),
            "control_code": TEMPORARY if shown_ds else PERMANENT,
            "on_count": 1,
            "off_count": 0,
            "on_color": color,
            "off_color": color,
        }
        return {**command, "timer_count": shown_ds} if shown_ds else command

    def _has(self, panel: Panel, capability: int) -> bool:
        try:
            return panel.check_capability(PANEL_PD, capability)[0] > 0
        except ValueError:
            return False
