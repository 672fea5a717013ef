"""What the miniature is made of: its folder, its stations as `device.toml`, its programs. Pure.

One school: an entrance with one lane used both ways, a serial reader at each side of it (13.56 MHz
cards on the way in, 125 kHz fobs on the way out), and a till with a desktop reader. Beside those of
the way in and the till stands a PN532, for cards that can prove themselves: a serial reader knows
numbers and no more. On request there are three stations more: a second till, the gate of a
pre-school and the desk of a museum. Everything lives below one folder, so a second start goes on
where the first one ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.model import DeviceFault, SetupProblem
from hil.world.school import ZONE

SITE: Final = "s0001"
SEED: Final = 1
SOCKET_PATH_BYTES_MAX: Final = 107  # unix(7): sun_path holds 108 bytes with its end.
PROX_SUFFIX: Final = "-125"  # hil/world/school.py: the 125 kHz fob of the same person.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderPlace:
    """A virtual reader: what the page calls the place, and what stands there."""

    name: str  # Its own, on the disk too.
    at: str  # in, out, till, …
    station: str
    driver: str = "serial"
    frame: str = ""  # Of a serial one.
    access_point_id: str = ""

    @property
    def screen(self) -> str:
        """Whose screen answers a card shown here."""
        if self.access_point_id:
            return self.access_point_id
        return f"reader-{self.name}" if self.station == "museum" else "till"


@dataclass(frozen=True, slots=True, kw_only=True)
class StationPlace:
    """One device of the miniature."""

    name: str
    device_id: str
    station: str
    scopes: int  # How many lists it holds when it has all of them (WIRE: scopes per role).


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePlace:
    """A lane of the miniature. Broadcom numbers of mock lines: they only have to differ."""

    lane_id: str
    station: str
    pins: dict[str, int]
    points: dict[str, dict[str, int]]  # Direction -> its pins; ids are those edge/config.py gives.

    def point_id(self, direction: str) -> str:
        return f"{self.lane_id}-{direction}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """How each process is called, without its arguments."""

    broker: tuple[str, ...] = (sys.executable, "-m", "hil.broker")
    city: tuple[str, ...] = (sys.executable, "-m", "hil.city")
    edge: tuple[str, ...] = (sys.executable, "-m", "edge")
    sync: tuple[str, ...] = (sys.executable, "-m", "sync")
    provision: tuple[str, ...] = (
        *(sys.executable, "-m", "provisioning", "provision"),
        *("--key", "file"),  # A bench leaves the TPM of its machine alone.
    )


READERS: Final = (
    ReaderPlace(
        name="in", at="in", station="entrance", frame="hex_line", access_point_id="north-in"
    ),
    ReaderPlace(
        name="in-nfc", at="in", station="entrance", driver="pn532", access_point_id="north-in"
    ),
    ReaderPlace(
        name="out", at="out", station="entrance", frame="id12", access_point_id="north-out"
    ),
    ReaderPlace(name="till", at="till", station="till", frame="hex_line"),
    ReaderPlace(name="till-nfc", at="till", station="till", driver="pn532"),
    ReaderPlace(name="till-2", at="till-2", station="till-2", frame="hex_line"),
    ReaderPlace(name="till-2-nfc", at="till-2", station="till-2", driver="pn532"),
    ReaderPlace(
        name="garden-in",
        at="garden-in",
        station="preschool",
        frame="hex_line",
        access_point_id="garden-in",
    ),
    ReaderPlace(
        name="garden-out",
        at="garden-out",
        station="preschool",
        frame="hex_line",
        access_point_id="garden-out",
    ),
    ReaderPlace(name="museum", at="museum", station="museum", frame="hex_line"),
)
PLACES: Final = tuple(dict.fromkeys(place.at for place in READERS))
STATIONS: Final = (
    StationPlace(name="entrance", device_id="s0001-north", station="entrance", scopes=2),
    StationPlace(name="till", device_id="s0001-till-1", station="till", scopes=4),
)
PRINTER_AT: Final = "till"
# `make run STATIONS=all`: three more, at two processes each.
ALL_STATIONS: Final = (
    *STATIONS,
    StationPlace(name="till-2", device_id="s0001-till-2", station="till", scopes=4),
    StationPlace(name="preschool", device_id="s0001-garden", station="preschool", scopes=2),
    StationPlace(name="museum", device_id="s0001-museum", station="admission", scopes=2),
)
SETS: Final = {"few": STATIONS, "all": ALL_STATIONS}
ACCESS_POINTS: Final = {  # Of the entrance.
    place.at: place.access_point_id for place in READERS if place.station == "entrance"
}
PINS: Final = {
    "in": {"relay": 17, "rotation": 27, "button": 7, "green": 12, "red": 16, "buzzer": 21},
    "out": {"relay": 22, "rotation": 23, "button": 8, "green": 13, "red": 19},
}
LANES: Final = tuple(
    LanePlace(
        lane_id=lane_id,
        station=station,
        pins={"fire": 5, "hold": 24, "tamper": 6},
        points=PINS,
    )
    for lane_id, station in (("north", "entrance"), ("garden", "preschool"))
)
LANE_POINTS: Final = {lane.point_id(way) for lane in LANES for way in lane.points}
# What a person at the page may do to a lane beside walking through it.
WIRES: Final = tuple(
    f"{lane.lane_id}{wire}" for lane in LANES for wire in (".fire", ".tamper", "-in.button")
)


@dataclass(frozen=True, slots=True)
class Folder:
    """Where everything is."""

    root: Path

    @property
    def address(self) -> Path:
        return self.root / "address"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def memory(self) -> Path:
        return self.root / "miniature.json"

    @property
    def tray(self) -> Path:
        return self.root / "tray.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def city(self) -> Path:
        return self.root / "city"

    def station(self, name: str) -> Path:
        return self.root / name

    def device_file(self, name: str) -> Path:
        return self.station(name) / "device.toml"

    def wanted_file(self, name: str) -> Path:
        return self.station(name) / "wanted.toml"

    def certificate(self, name: str) -> Path:
        return self.station(name) / "identity" / "device.crt"

    def runtime(self, name: str) -> Path:
        return self.station(name) / "run"

    def reader(self, name: str) -> Path:
        return self.root / "readers" / name

    def everything(self) -> tuple[Path, ...]:
        """What `--fresh` takes away: what a miniature made, and nothing else."""
        names = ("city", "logs", "readers", *(station.name for station in ALL_STATIONS))
        return (*(self.root / name for name in names), self.memory, self.tray, self.address)

    def check(self) -> None:
        """`SetupProblem` when a socket in it would have too long a name."""
        longest = max(len(bytes(self.runtime(s.name) / "edge.sock")) for s in ALL_STATIONS)
        if longest > SOCKET_PATH_BYTES_MAX:
            spare = longest - SOCKET_PATH_BYTES_MAX
            raise SetupProblem(
                f"{self.root}: {spare} characters too long for the sockets in it; "
                "choose a shorter one with --folder (make run RUN_DIR=/tmp/school)"
            )


def device_toml(
    station: StationPlace,
    folder: Folder,
    *,
    endpoint: str,
    screens_port: int = 0,
    printer_port: int = 0,
) -> str:
    """The station's `device.toml`. Strings of JSON are strings of TOML."""

    def text(value: object) -> str:
        return json.dumps(str(value), ensure_ascii=False)

    lines = [
        "schema = 1",
        "",
        "[device]",
        f"id = {text(station.device_id)}",
        f"site = {text(SITE)}",
        f"station = {text(station.station)}",
        "",
        "[city]",
        f"endpoints = [{text(endpoint)}]",
    ]
    if screens_port:
        lines += ["", "[screens]", f"port = {screens_port}"]
    if printer_port and station.name == PRINTER_AT:
        lines += ["", "[printer]", 'driver = "network"', 'host = "127.0.0.1"']
        lines.append(f"tcp_port = {printer_port}")
    for place in READERS:
        if place.station == station.name:
            lines += [
                "",
                "[[readers]]",
                f"id = {text(f'reader-{place.name}')}",
                f"driver = {text(place.driver)}",
                f"port = {text(folder.reader(place.name))}",
            ]
            if place.frame:
                lines.append(f"frame = {text(place.frame)}")
            if place.access_point_id:
                lines.append(f"access_point = {text(place.access_point_id)}")
    for lane in LANES:
        if lane.station != station.name:
            continue
        lines += ["", "[[lanes]]", f"id = {text(lane.lane_id)}", 'driver = "mock"']
        lines += [f"{key} = {{ pin = {pin} }}" for key, pin in lane.pins.items()]
        for direction, pins in lane.points.items():
            lines += [
                "",
                "[[lanes.access_points]]",
                f"id = {text(lane.point_id(direction))}",
                f"zone = {text(ZONE)}",
                f"direction = {text(direction)}",
                *(f"{key} = {{ pin = {pin} }}" for key, pin in pins.items()),
            ]
    return "\n".join(lines) + "\n"


def station_of_line(line: str) -> str:
    """Whose lane that wire belongs to: `north.fire`, `garden-in.rotation`."""
    for lane in LANES:
        if line.startswith((f"{lane.lane_id}.", f"{lane.lane_id}-")):
            return lane.station
    raise DeviceFault(f'there is no wire "{line}"; there are {", ".join(WIRES)}')


def readers_of(stations: Collection[StationPlace]) -> tuple[ReaderPlace, ...]:
    """What stands at these stations."""
    names = {station.name for station in stations}
    return tuple(reader for reader in READERS if reader.station in names)


def provision_arguments(
    station: StationPlace, folder: Folder, *, city: str, claim: str
) -> tuple[str, ...]:
    """What a technician would type; `wanted_file` holds what the file is to say."""
    return (
        *("--config", str(folder.device_file(station.name))),
        *("--config-from", str(folder.wanted_file(station.name)), "--replace"),
        *("--city", city, "--claim", claim),
    )
