"""`device.toml` -> one frozen value; all problems reported together.

Every problem names file, key, what was found and what to do. Nothing here opens a port or a pin:
"moskvenok doctor" does that, this only says whether the file makes sense.
"""

from __future__ import annotations

import re
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from edge.config_lanes import LaneReader
from edge.config_till import read_printer, read_scanner
from edge.logs import LEVELS
from edge.model import Direction, SetupProblem, Station
from edge.settings import (
    BAUD_DEFAULT,
    READER_FRAMES,
    DeviceSettings,
    Driver,
    Folders,
    LaneSettings,
    ReaderSettings,
    reader_problems,
)
from edge.toml_table import Problem, Table, shown

SCHEMA: Final = 1
FILE_BYTES_MAX: Final = 256 * 1024  # Our choice: a hundred times the largest sensible file.
PORT_MAX: Final = 65_535  # TCP.
ENDPOINT: Final = re.compile(r"mqtts?://[^/\s:]+(:\d{1,5})?")
KEY_CHARS_SHOWN: Final = 160  # Our choice: longer than any key of ours.
WITH_LANES: Final = (Station.ENTRANCE, Station.PRESCHOOL)


class ConfigProblem(SetupProblem):
    """All that is wrong with one file."""

    def __init__(self, source: Path, problems: list[Problem]) -> None:
        self.source, self.problems = source, problems
        lines = "".join(f"\n  {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{source}: {count}{lines}")


def load(path: Path) -> DeviceSettings:
    """Read and check `device.toml`. Raises `ConfigProblem` with everything that is wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigProblem(
            path,
            [Problem(key="file", found=str(error.strerror), do='run "moskvenok provision"')],
        ) from error
    return parse(data, path)


def parse(data: bytes, source: Path) -> DeviceSettings:
    """As `load`, from bytes; relative folders are relative to the file's folder."""
    if len(data) > FILE_BYTES_MAX:
        found = f"more than {FILE_BYTES_MAX} bytes"
        raise ConfigProblem(
            source, [Problem(key="file", found=found, do="is this the right file?")]
        )
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits.
        raise ConfigProblem(
            source, [Problem(key="file", found=f"not TOML: {error}", do="mend that line")]
        ) from error
    checker = _Checker(source.parent)
    settings = checker.device(table, source)
    if checker.problems or settings is None:
        raise ConfigProblem(source, checker.problems)
    return settings


class _Checker:
    """Walks the file once and collects what is wrong instead of stopping at it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.problems: list[Problem] = []
        self._taken: dict[str, str] = {}
        self._lanes = LaneReader(self.wrong, self._unique)
        self._ports: dict[str, str] = {}

    def wrong(self, key: str, found: str, do: str) -> None:
        """The first thing wrong with a key; what follows from it would only confuse."""
        problem = Problem(key=key[:KEY_CHARS_SHOWN], found=found, do=do)
        if problem.key not in {told.key for told in self.problems}:
            self.problems.append(problem)

    def device(self, table: dict[str, Any], source: Path) -> DeviceSettings | None:
        root = Table(self.wrong, "", table)
        schema = root.get("schema", int, 0)
        if schema != SCHEMA:
            self.wrong("schema", shown(schema), f"this software reads schema = {SCHEMA}")
        device = root.table("device")
        folders = root.table("folders")
        city = root.table("city")
        control = root.table("control")
        metrics = root.table("metrics")
        screens = root.table("screens")
        printer = read_printer(root.table("printer"), self.wrong) if "printer" in table else None
        scanner = read_scanner(root.table("scanner"), self.wrong)
        device_id = device.name("id")
        site_id = device.name("site")
        station = device.choice("station", Station)
        time_zone = self._zone(device.get("time_zone", str, "Europe/Moscow"))
        readers = tuple(self._reader(item) for item in root.tables("readers"))
        lanes = tuple(self._lanes.read(item) for item in root.tables("lanes"))
        if station is not None:
            self._fit(station, readers, lanes)
        for name in ("printer", "scanner"):
            if name in table and station not in (None, Station.TILL):
                self.wrong(name, f"at a {station}", "only a till has one: remove it")
        settings = DeviceSettings(
            source=source,
            device_id=device_id,
            site_id=site_id,
            station=station or Station.ENTRANCE,
            time_zone=time_zone,
            folders=Folders(
                state=self.base / folders.get("state", str, "state"),
                identity=self.base / folders.get("identity", str, "identity"),
                runtime=self.base / folders.get("runtime", str, "run"),
            ),
            endpoints=self._endpoints(city.get("endpoints", list, [])),
            readers=readers,
            lanes=lanes,
            simulated_taps=control.get("simulated_taps", bool, False),
            log_level=self._level(control.get("log_level", str, "info")),
            metrics_port=metrics.number("port", 0, 0, PORT_MAX),
            screens_port=screens.number("port", 0, 0, PORT_MAX),
            screens_host=self._address(screens.get("host", str, "127.0.0.1")),
            printer=printer,
            scanner=scanner,
        )
        for part in (device, folders, city, control, metrics, screens, root):
            part.no_more()
        return settings

    def _zone(self, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError.
            self.wrong("device.time_zone", shown(name), 'name one like "Europe/Moscow"')
        return name

    def _address(self, host: str) -> str:
        try:
            ip_address(host)
        except ValueError:
            do = 'an address of this device; "127.0.0.1": only a screen at the device itself'
            self.wrong("screens.host", shown(host), do)
        return host

    def _level(self, level: str) -> str:
        if level not in LEVELS:
            self.wrong("control.log_level", shown(level), f"one of {', '.join(LEVELS)}")
        return level

    def _endpoints(self, found: list[Any]) -> tuple[str, ...]:
        if not found:
            self.wrong("city.endpoints", "none", 'list one like "mqtts://broker:8883"')
        for number, endpoint in enumerate(found):
            if not isinstance(endpoint, str) or not ENDPOINT.fullmatch(endpoint):
                self.wrong(f"city.endpoints[{number}]", shown(endpoint), "write mqtts://HOST:PORT")
        return tuple(endpoint for endpoint in found if isinstance(endpoint, str))

    def _unique(self, key: str, name: str) -> str:
        if name and name in self._taken:
            self.wrong(key, shown(name), f"already used at {self._taken[name]}; choose another")
        self._taken.setdefault(name, key)
        return name

    def _reader(self, item: Table) -> ReaderSettings:
        key_file = item.get("key_file", str, "")
        settings = ReaderSettings(
            reader_id=self._unique(item.path("id"), item.name("id")),
            driver=item.get("driver", str, ""),
            port=item.get("port", str, ""),
            frame=item.get("frame", str, ""),
            baud=item.get("baud", int, BAUD_DEFAULT),
            numbering=item.get("numbering", str, ""),
            reversed=item.get("reversed", bool, False),
            address=item.get("address", int, 0),
            key_file=str(self.base / key_file) if key_file else "",
            name=item.get("name", str, ""),
            reset_pin=item.get("reset_pin", int, None),
            access_point_id=item.get("access_point", str, ""),
        )
        for problem in reader_problems(settings):
            self.wrong(item.path(problem.key), shown(problem.found), problem.do)
        if settings.driver in READER_FRAMES and settings.port:
            taken_by = self._ports.setdefault(settings.port, item.path("port"))
            if taken_by != item.path("port"):
                do = f"already used at {taken_by}; each reader has a port of its own"
                self.wrong(item.path("port"), shown(settings.port), do)
        item.no_more()
        return settings

    def _take_reset_pins(
        self, readers: tuple[ReaderSettings, ...], lanes: tuple[LaneSettings, ...]
    ) -> None:
        """Pins of readers and of lanes are the same header's; a relay board has channels."""
        on_board = any(lane.driver == Driver.RELAY_BOARD for lane in lanes)
        pins = LaneReader(self.wrong, self._unique) if on_board else self._lanes
        for number, reader in enumerate(readers):
            if reader.reset_pin is not None:
                key = f"readers[{number}].reset_pin"
                pins.take_pin(key, f"reader {reader.reader_id}", reader.reset_pin)

    def _fit(
        self,
        station: Station,
        readers: tuple[ReaderSettings, ...],
        lanes: tuple[LaneSettings, ...],
    ) -> None:
        """What only shows when the parts are seen together."""
        if not readers:
            self.wrong("readers", "none", "add a [[readers]] section for each reader")
        self._take_reset_pins(readers, lanes)
        points = {p.access_point_id for lane in lanes for p in lane.access_points}
        if station in WITH_LANES:
            if not lanes:
                self.wrong("lanes", "none", f"a station of kind {station} drives a lane: add one")
            for number, reader in enumerate(readers):
                if reader.access_point_id not in points:
                    self.wrong(
                        f"readers[{number}].access_point",
                        shown(reader.access_point_id),
                        f"one of {', '.join(sorted(points)) or 'the lanes’ access points'}",
                    )
        elif station is Station.ADMISSION:
            # A reader and a screen alone are an admission; a lane is extra.
            for number, reader in enumerate(readers):
                if reader.access_point_id not in (points or {""}):
                    do = (
                        f"one of {', '.join(sorted(points))}" if points else "no lane: leave it out"
                    )
                    found = shown(reader.access_point_id)
                    self.wrong(f"readers[{number}].access_point", found, do)
            for number, lane in enumerate(lanes):
                if lane.fire is not None and all(p.button is None for p in lane.access_points):
                    do = "nobody signs in at an admission: a button is what ends a fire release"
                    self.wrong(f"lanes[{number}].fire", "and no button", do)
        elif lanes:
            self.wrong("lanes", f"{len(lanes)} at a {station}", "only entrances drive lanes")
        for number, lane in enumerate(lanes):
            entered = {p.zone_id for p in lane.access_points if p.direction is Direction.IN}
            for place, point in enumerate(lane.access_points if entered else ()):
                if point.direction is Direction.OUT and point.zone_id not in entered:
                    # Else nobody who came in would ever be out again.
                    do = f"the zone that is left by it: {', '.join(sorted(entered))}"
                    where = f"lanes[{number}].access_points[{place}].zone"
                    self.wrong(where, shown(point.zone_id), do)
            if (lane.driver, lane.port) != (lanes[0].driver, lanes[0].port):
                do = "all lanes of a device use one driver, and one relay board"
                found = f"{lane.driver} {lane.port}".strip()
                self.wrong(f"lanes[{number}].driver", shown(found), do)
