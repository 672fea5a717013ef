"""What `device.toml` says, as frozen values: the device, its readers, lanes and lines.

Pure. `edge/config.py` reads and checks the file; what the city chooses (floor limit, list ages,
anti-passback) is not here but in the signed `settings` list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from pathlib import Path
from types import MappingProxyType

from edge.model import Direction, Station

PULSE_MS_MIN = 100  # lane.md: shorter pulses are missed by some turnstile boards.
PULSE_MS_DEFAULT = 200  # lane.md.
PULSE_MS_CEILING = 2_000  # Our choice: ten default pulses; longer wants level drive.
WAIT_MS_DEFAULT = 5_000  # lane.md: time to walk through.
WAIT_MS_CEILING = 30_000  # Our choice: a gate open longer than this is a held gate.
# Our choice: contacts of small relays bounce for a few milliseconds, an arm turns for hundreds.
DEBOUNCE_MS = 20
DEBOUNCE_MS_MAX = 250  # Our choice: longer would swallow people who walk close together.
PIN_MAX = 27  # The 40-pin header of every Raspberry Pi brings out GPIO 0 to 27.
CHANNEL_MAX = 8  # LCUS boards are sold with 1, 2, 4 and 8 relays.
BAUD_DEFAULT = 9_600  # ID-12 and RDM6300 data sheets; OSDP v2.2 starts at it too.
BAUDS = (9_600, 19_200, 38_400, 57_600, 115_200)  # What these readers can be set to.
COLUMNS_MIN, COLUMNS_MAX = 24, 64  # A 58 mm roll in large type, an 80 mm one in small.
WEIGHED_PREFIXES = range(20, 30)  # GS1: codes that begin so are for use inside a company.
OSDP_ADDRESS_MAX = 126  # OSDP v2.2: 127 is every reader at once.

# What a board of relays cannot do, and what to do about it.
BOARD_HAS_NO_INPUTS = (
    "a relay board has no inputs: leave it out (without a rotation sensor passages are assumed; "
    'the alarm is wired to the turnstile itself), or wire the whole lane with driver = "lgpio"'
)
BOARD_IS_ACTIVE_HIGH = "a relay is active when it is drawn in: use its other contact instead"
BOARD_MAY_NOT_HOLD = (
    "a relay board keeps a relay drawn in when nobody is left to release it, so it may not hold "
    'a lane shut: wire the holding line with driver = "lgpio"'
)

# Reader drivers, and for each the frames it can carry. A PN532 and PC/SC have no frame to choose.
READER_FRAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "serial": ("id12", "em_desktop", "hex_line", "d10", "d18", "wiegand_bits", "wiegand_hex"),
        "wedge": ("hex_line", "d10", "d18"),
        "osdp": ("uid", "wiegand"),
        "pn532": (),
        "pcsc": (),
    }
)
NUMBERINGS = ("iso14443", "prox125")
# These carry a number of either kind: only whoever bought the reader knows which.
FRAMES_OF_EITHER_KIND = ("d10", "d18", "wiegand_bits", "wiegand_hex", "wiegand")
FRAMES_OF_ANY_ORDER = ("hex_line", "uid", *FRAMES_OF_EITHER_KIND)


@unique
class Pull(StrEnum):
    """The resistor inside the chip, for inputs."""

    UP = "up"
    DOWN = "down"
    NONE = "none"  # There is one outside.


@unique
class Drive(StrEnum):
    """How the turnstile is told to open."""

    PULSE = "pulse"  # Shortly: it waits for the body by its own clock.
    LEVEL = "level"  # For as long as the wait lasts.


@unique
class Driver(StrEnum):
    """What moves the wires of a lane."""

    LGPIO = "lgpio"  # Pins of the machine, through the kernel's character device.
    MOCK = "mock"  # No wires: the bench, `make run`, tests.
    RELAY_BOARD = "relay_board"  # A serial board of relays: outputs alone.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """One reader as `device.toml` describes it; `reader_problems` checks it."""

    reader_id: str
    driver: str  # One of `READER_FRAMES`.
    port: str = ""  # All but PC/SC: the path of the port, or of a wedge's input device. Prefer
    # /dev/serial/by-path and /dev/input/by-path, whose names stay the same.
    frame: str = ""  # One of `READER_FRAMES[driver]`, where there is a choice.
    baud: int = BAUD_DEFAULT  # Serial and OSDP: 8N1.
    numbering: str = ""  # Frames of either kind: whose number it is, "iso14443" or "prox125".
    reversed: bool = False  # The reader says the last byte first.
    address: int = 0  # OSDP: the reader's on its line.
    key_file: str = ""  # OSDP: the path of a file with the reader's own key, 32 hex digits.
    name: str = ""  # PC/SC: how the reader's name begins; "" takes the first one listed.
    reset_pin: int | None = (
        None  # PN532: Broadcom number of the pin at its RSTPDN; None: not wired.
    )
    access_point_id: str = ""  # At an entrance: the direction this reader stands at.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderProblem:
    """One thing that is wrong with a reader's settings."""

    key: str  # As in `device.toml`.
    found: object
    do: str


def reader_problems(reader: ReaderSettings) -> Iterator[ReaderProblem]:
    """All that is wrong with these settings; nothing is opened to find out."""
    frames = READER_FRAMES.get(reader.driver)
    if frames is None:
        yield ReaderProblem(key="driver", found=reader.driver, do=_one_of(READER_FRAMES))
        return
    if reader.driver != "pcsc" and not reader.port.startswith("/"):
        yield ReaderProblem(key="port", found=reader.port, do="give the device's full path")
    if frames and reader.frame not in frames:
        yield ReaderProblem(key="frame", found=reader.frame, do=_one_of(frames))
    if reader.driver in ("serial", "osdp") and reader.baud not in BAUDS:
        do = f"{_one_of(BAUDS)}; see the reader's data sheet"
        yield ReaderProblem(key="baud", found=reader.baud, do=do)
    either = bool(frames) and reader.frame in FRAMES_OF_EITHER_KIND
    if reader.numbering not in (NUMBERINGS if either else ("",)):
        do = _one_of(NUMBERINGS) if either else "leave it out: this reader says only one kind"
        yield ReaderProblem(key="numbering", found=reader.numbering, do=do)
    if reader.reversed and reader.frame not in FRAMES_OF_ANY_ORDER:
        do = "leave it out: this reader has one order of bytes"
        yield ReaderProblem(key="reversed", found=True, do=do)
    if reader.reset_pin is not None and reader.driver != "pn532":
        do = "leave it out: only a pn532 has a reset line"
        yield ReaderProblem(key="reset_pin", found=reader.reset_pin, do=do)
    elif not 0 <= (reader.reset_pin or 0) <= PIN_MAX:
        do = f"a number from 0 to {PIN_MAX}"
        yield ReaderProblem(key="reset_pin", found=reader.reset_pin, do=do)
    if reader.driver == "osdp":
        if not 0 <= reader.address <= OSDP_ADDRESS_MAX:
            do = f"a number from 0 to {OSDP_ADDRESS_MAX}, as the reader is set"
            yield ReaderProblem(key="address", found=reader.address, do=do)
        if not reader.key_file:
            do = "name the file with this reader's own key, 32 hex digits"
            yield ReaderProblem(key="key_file", found=reader.key_file, do=do)


def _one_of(words: Mapping[str, object] | tuple[str | int, ...]) -> str:
    return f"one of {', '.join(str(word) for word in words)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """One wire: its pin, and what its levels mean. Polarity is said here and nowhere else.

    Whether it is an output, and how long that may be active, follows from what a lane uses it for
    (`turnstile/lines.py`).
    """

    line_id: str
    pin: int  # Broadcom number, not the position on the header; of a relay board, the channel.
    active_high: bool = True
    pull: Pull = Pull.NONE  # Of an input; an output's safe level is a resistor outside.
    debounce_ms: int = DEBOUNCE_MS  # Of an input: a level counts once it stood for so long.


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPointSettings:
    """One direction through one lane: its drive, its sensor, its lamps and its button."""

    access_point_id: str
    zone_id: str
    direction: Direction
    relay: LineSettings
    rotation: LineSettings | None = None  # None: passages are `assumed`.
    green: LineSettings | None = None  # Outputs.
    red: LineSettings | None = None
    amber: LineSettings | None = None
    buzzer: LineSettings | None = None
    button: LineSettings | None = None  # Input: the officer's, opens this direction once.
    drive: Drive = Drive.PULSE
    pulse_ms_max: int = PULSE_MS_DEFAULT
    wait_ms_max: int = WAIT_MS_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """One passage through a gate: one direction or two, and what they share."""

    lane_id: str
    driver: str  # One of `Driver`.
    access_points: tuple[AccessPointSettings, ...]
    port: str = ""  # Of a relay board.
    fire: LineSettings | None = None  # Input: a copy of the fire alarm's wire.
    hold: LineSettings | None = None  # Output that holds a fail-safe turnstile shut.
    tamper: LineSettings | None = None  # Input: the housing's contact; active is open.

    @property
    def inputs(self) -> tuple[LineSettings, ...]:
        """The fire alarm's first: it is read before anything else."""
        own = (self.fire, self.tamper)
        sides = ((point.rotation, point.button) for point in self.access_points)
        lines = (*own, *(line for side in sides for line in side))
        return tuple(line for line in lines if line is not None)

    @property
    def outputs(self) -> tuple[LineSettings, ...]:
        """The holding line last."""
        sides = ((p.relay, p.green, p.red, p.amber, p.buzzer) for p in self.access_points)
        lines = (*(line for side in sides for line in side), self.hold)
        return tuple(line for line in lines if line is not None)


@unique
class PrinterDriver(StrEnum):
    """How a receipt printer is reached."""

    USB = "usb"
    SERIAL = "serial"
    NETWORK = "network"
    FILE = "file"  # A device like /dev/usb/lp0: nothing comes back from it.


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterSettings:
    """An ESC/POS printer beside a till."""

    driver: PrinterDriver
    port: str = ""  # Serial and file: the device's path.
    baud: int = BAUD_DEFAULT
    host: str = ""
    tcp_port: int = 0
    vendor: int = 0  # USB.
    product: int = 0
    columns: int = 32  # Characters of a line.
    code_page: str = "CP866"  # One that the printer has and that holds the letters of the menu.
    profile: str = ""  # Of python-escpos; "" is its default.
    asks_paper: bool = True  # The printer answers whether it has paper.
    every_sale: bool = True  # Else a slip is printed only when the cashier asks for it.


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerSettings:
    """A barcode scanner beside a till."""

    port: str = ""  # "": it types like a keyboard, into the cashier's page.
    baud: int = BAUD_DEFAULT
    weighed_prefixes: tuple[int, ...] = ()  # Of 20 to 29: labels of scales, weight in grams.


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    state: Path
    identity: Path
    runtime: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """The whole of `device.toml`."""

    source: Path
    device_id: str
    site_id: str
    station: Station
    time_zone: str
    folders: Folders
    endpoints: tuple[str, ...]
    readers: tuple[ReaderSettings, ...]
    lanes: tuple[LaneSettings, ...]
    simulated_taps: bool = False  # The control socket takes taps: benches and training only.
    log_level: str = "info"
    metrics_port: int = 0  # Prometheus text on loopback; 0 is off.
    screens_port: int = 0  # The station's own pages; 0 is off.
    screens_host: str = "127.0.0.1"  # Another address: by TLS, and only to who has the token.
    printer: PrinterSettings | None = None  # At a till.
    scanner: ScannerSettings = field(default_factory=ScannerSettings)

    @property
    def journal_path(self) -> Path:
        return self.folders.state / "journal.db"

    @property
    def sync_path(self) -> Path:
        return self.folders.state / "sync.db"

    @property
    def key_path(self) -> Path:
        return self.folders.identity / "device.key"

    @property
    def certificate_path(self) -> Path:
        return self.folders.identity / "device.crt"

    @property
    def authority_path(self) -> Path:
        return self.folders.identity / "authority.pem"

    @property
    def root_key_path(self) -> Path:
        return self.folders.identity / "root.pub"

    @property
    def root_document_path(self) -> Path:
        return self.folders.identity / "root.json"

    @property
    def updates_path(self) -> Path:
        """Where wanted releases are named; there is such a folder where an updater is installed."""
        return self.folders.state / "updates"

    def socket_path(self, process: str) -> Path:
        """Where `edge` or `sync` listens for the doorbell and for the technician."""
        return self.folders.runtime / f"{process}.sock"

    def access_points(self) -> dict[str, AccessPointSettings]:
        return {p.access_point_id: p for lane in self.lanes for p in lane.access_points}
