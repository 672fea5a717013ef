"""What `device.toml` says, as frozen values: the device, its readers, lanes and lines.

Pure. `edge/config.py` reads and checks the file; what the city chooses (floor limit, list ages,
anti-passback) is not here but in the signed `settings` list.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path

from edge.model import Direction, Station

PULSE_MS_MIN = 100  # lane.md: shorter pulses are missed by some turnstile boards.
PULSE_MS_DEFAULT = 200  # lane.md.
PULSE_MS_CEILING = 2_000  # Our choice: ten default pulses; longer wants level drive.
WAIT_MS_DEFAULT = 5_000  # lane.md: time to walk through.
WAIT_MS_CEILING = 30_000  # Our choice: a gate open longer than this is a held gate.
BAUD_DEFAULT = 9_600  # ID-12 and RDM6300 data sheets.


@unique
class Pull(StrEnum):
    UP = "up"
    DOWN = "down"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """One reader as `device.toml` describes it; `open_reader` checks it."""

    reader_id: str
    driver: str  # "serial" or "pcsc".
    port: str = ""  # Serial: the device's path; prefer /dev/serial/by-path, which stays the same.
    frame: str = ""  # Serial: "id12" or "hex_line".
    baud: int = BAUD_DEFAULT  # Serial: 8N1. Both families leave the factory at this speed.
    name: str = ""  # PC/SC: how the reader's name begins; "" takes the first one listed.
    access_point_id: str = ""  # At an entrance: the direction this reader stands at.


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """One wire: its pin, and what its levels mean. Polarity is said here and nowhere else."""

    line_id: str
    pin: int  # Broadcom number.
    active_high: bool = True
    pull: Pull = Pull.NONE  # Of an input; an output's safe level is a resistor outside.


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPointSettings:
    """One direction through one lane, with its drive and its sensor."""

    access_point_id: str
    zone_id: str
    direction: Direction
    relay: LineSettings
    rotation: LineSettings | None = None  # None: passages are `assumed`.
    pulse_ms_max: int = PULSE_MS_DEFAULT
    wait_ms_max: int = WAIT_MS_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    lane_id: str
    driver: str  # "lgpio" on a Pi, "mock" on a bench.
    access_points: tuple[AccessPointSettings, ...]


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

    def socket_path(self, process: str) -> Path:
        """Where `edge` or `sync` listens for the doorbell and for the technician."""
        return self.folders.runtime / f"{process}.sock"

    def access_points(self) -> dict[str, AccessPointSettings]:
        return {p.access_point_id: p for lane in self.lanes for p in lane.access_points}
