"""`device.toml` -> one frozen value; all problems reported together.

Every problem names file, key, what was found and what to do. Nothing here opens a port or a pin:
"moskvenok doctor" does that, this only says whether the file makes sense.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from edge.logs import LEVELS
from edge.model import Direction, SetupProblem, Station
from edge.settings import (
    BAUD_DEFAULT,
    PULSE_MS_CEILING,
    PULSE_MS_DEFAULT,
    PULSE_MS_MIN,
    READER_FRAMES,
    WAIT_MS_CEILING,
    WAIT_MS_DEFAULT,
    AccessPointSettings,
    DeviceSettings,
    Folders,
    LaneSettings,
    LineSettings,
    Pull,
    ReaderSettings,
    reader_problems,
)

SCHEMA: Final = 1
FILE_BYTES_MAX: Final = 256 * 1024  # Our choice: a hundred times the largest sensible file.
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")  # protocol.md: fits a topic and a CN.
PORT_MAX: Final = 65_535  # TCP.
PIN_MAX: Final = 27  # The 40-pin header of every Raspberry Pi has BCM 0..27.
ENDPOINT: Final = re.compile(r"mqtts?://[^/\s:]+(:\d{1,5})?")
VALUE_CHARS_SHOWN: Final = 80  # Our choice: one line on a technician's screen.
KEY_CHARS_SHOWN: Final = 160  # Our choice: longer than any key of ours.
LANE_DRIVERS: Final = ("lgpio", "mock")
WITH_LANES: Final = (Station.ENTRANCE, Station.PRESCHOOL)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with the file."""

    key: str
    found: str
    do: str

    def __str__(self) -> str:
        return f"{self.key}: {self.found}; {self.do}"


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
        self._pins: dict[int, str] = {}
        self._ports: dict[str, str] = {}

    def wrong(self, key: str, found: str, do: str) -> None:
        """The first thing wrong with a key; what follows from it would only confuse."""
        problem = Problem(key=key[:KEY_CHARS_SHOWN], found=found, do=do)
        if problem.key not in {told.key for told in self.problems}:
            self.problems.append(problem)

    def device(self, table: dict[str, Any], source: Path) -> DeviceSettings | None:
        root = _Table(self, "", table)
        schema = root.get("schema", int, 0)
        if schema != SCHEMA:
            self.wrong("schema", _shown(schema), f"this software reads schema = {SCHEMA}")
        device = root.table("device")
        folders = root.table("folders")
        city = root.table("city")
        control = root.table("control")
        metrics = root.table("metrics")
        device_id = device.name("id")
        site_id = device.name("site")
        station = device.choice("station", Station)
        time_zone = self._zone(device.get("time_zone", str, "Europe/Moscow"))
        readers = tuple(self._reader(item) for item in root.tables("readers"))
        lanes = tuple(self._lane(item) for item in root.tables("lanes"))
        if station is not None:
            self._fit(station, readers, lanes)
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
        )
        for part in (device, folders, city, control, metrics, root):
            part.no_more()
        return settings

    def _zone(self, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError.
            self.wrong("device.time_zone", _shown(name), 'name one like "Europe/Moscow"')
        return name

    def _level(self, level: str) -> str:
        if level not in LEVELS:
            self.wrong("control.log_level", _shown(level), f"one of {', '.join(LEVELS)}")
        return level

    def _endpoints(self, found: list[Any]) -> tuple[str, ...]:
        if not found:
            self.wrong("city.endpoints", "none", 'list one like "mqtts://broker:8883"')
        for number, endpoint in enumerate(found):
            if not isinstance(endpoint, str) or not ENDPOINT.fullmatch(endpoint):
                self.wrong(f"city.endpoints[{number}]", _shown(endpoint), "write mqtts://HOST:PORT")
        return tuple(endpoint for endpoint in found if isinstance(endpoint, str))

    def _unique(self, key: str, name: str) -> str:
        if name and name in self._taken:
            self.wrong(key, _shown(name), f"already used at {self._taken[name]}; choose another")
        self._taken.setdefault(name, key)
        return name

    def _reader(self, item: _Table) -> ReaderSettings:
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
            access_point_id=item.get("access_point", str, ""),
        )
        for problem in reader_problems(settings):
            self.wrong(item.path(problem.key), _shown(problem.found), problem.do)
        if settings.driver in READER_FRAMES and settings.port:
            taken_by = self._ports.setdefault(settings.port, item.path("port"))
            if taken_by != item.path("port"):
                do = f"already used at {taken_by}; each reader has a port of its own"
                self.wrong(item.path("port"), _shown(settings.port), do)
        item.no_more()
        return settings

    def _lane(self, item: _Table) -> LaneSettings:
        lane = LaneSettings(
            lane_id=self._unique(item.path("id"), item.name("id")),
            driver=item.one_of("driver", LANE_DRIVERS),
            access_points=tuple(self._access_point(p) for p in item.tables("access_points")),
        )
        if not lane.access_points:
            self.wrong(item.path("access_points"), "none", "describe at least one direction")
        item.no_more()
        return lane

    def _access_point(self, item: _Table) -> AccessPointSettings:
        name = item.name("id")
        rotation = item.get("rotation", dict, None)
        point = AccessPointSettings(
            access_point_id=self._unique(item.path("id"), name),
            zone_id=item.name("zone"),
            direction=item.choice("direction", Direction) or Direction.IN,
            relay=self._line(item.table("relay"), f"{name}.relay"),
            rotation=None
            if rotation is None
            else self._line(item.table("rotation"), f"{name}.rotation"),
            pulse_ms_max=item.number(
                "pulse_ms_max", PULSE_MS_DEFAULT, PULSE_MS_MIN, PULSE_MS_CEILING
            ),
            wait_ms_max=item.number("wait_ms_max", WAIT_MS_DEFAULT, 500, WAIT_MS_CEILING),
        )
        item.no_more()
        return point

    def _line(self, item: _Table, line_id: str) -> LineSettings:
        pin = item.number("pin", None, 0, PIN_MAX)
        if pin in self._pins and 0 <= pin <= PIN_MAX:
            self.wrong(
                item.path("pin"), _shown(pin), f"already wired to {self._pins[pin]}; choose another"
            )
        self._pins[pin] = line_id
        line = LineSettings(
            line_id=line_id,
            pin=pin,
            active_high=item.get("active_high", bool, True),
            pull=item.choice("pull", Pull, Pull.NONE) or Pull.NONE,
        )
        item.no_more()
        return line

    def _fit(
        self,
        station: Station,
        readers: tuple[ReaderSettings, ...],
        lanes: tuple[LaneSettings, ...],
    ) -> None:
        """What only shows when the parts are seen together."""
        if not readers:
            self.wrong("readers", "none", "add a [[readers]] section for each reader")
        points = {p.access_point_id for lane in lanes for p in lane.access_points}
        if station in WITH_LANES:
            if not lanes:
                self.wrong("lanes", "none", f"a station of kind {station} drives a lane: add one")
            for number, reader in enumerate(readers):
                if reader.access_point_id not in points:
                    self.wrong(
                        f"readers[{number}].access_point",
                        _shown(reader.access_point_id),
                        f"one of {', '.join(sorted(points)) or 'the lanes’ access points'}",
                    )
        elif lanes:
            self.wrong("lanes", f"{len(lanes)} at a {station}", "only entrances drive lanes")


class _Table:
    """One table of the file, with its place in it for messages."""

    def __init__(self, checker: _Checker, at: str, table: Mapping[str, Any]) -> None:
        self._checker, self._at, self._table = checker, at, table
        self._seen: set[str] = set()

    def path(self, key: str) -> str:
        return f"{self._at}.{key}" if self._at else key

    def get(self, key: str, kind: type[T], default: T | None) -> T:
        self._seen.add(key)
        value = self._table.get(key)
        if value is None:
            return default  # type: ignore[return-value]  # None only where a caller asks for it
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self._checker.wrong(self.path(key), _shown(value), f"must be {_WORDS[kind]}")
            return default if default is not None else kind()
        return value

    def name(self, key: str) -> str:
        value = self.get(key, str, "")
        if not NAME.fullmatch(value):
            self._checker.wrong(
                self.path(key), _shown(value), "use a-z, 0-9 and -, at most 64 characters"
            )
        return value

    def one_of(self, key: str, words: tuple[str, ...]) -> str:
        value = self.get(key, str, "")
        if value not in words:
            self._checker.wrong(self.path(key), _shown(value), f"one of {', '.join(words)}")
        return value

    def choice(self, key: str, kind: Callable[[str], T], default: T | None = None) -> T | None:
        value = self.get(key, str, "")
        if not value and default is not None:
            return default
        try:
            return kind(value)
        except ValueError:
            words = ", ".join(str(word) for word in kind)  # type: ignore[attr-defined]
            self._checker.wrong(self.path(key), _shown(value), f"one of {words}")
            return None

    def number(self, key: str, default: int | None, least: int, most: int) -> int:
        value = self.get(key, int, default if default is not None else -1)
        if not least <= value <= most:
            found = _shown(value) if key in self._table else "nothing"
            self._checker.wrong(self.path(key), found, f"a number from {least} to {most}")
        return value

    def table(self, key: str) -> _Table:
        value: dict[str, Any] = self.get(key, dict, {})
        return _Table(self._checker, self.path(key), value)

    def tables(self, key: str) -> list[_Table]:
        value: list[Any] = self.get(key, list, [])
        tables = []
        for number, item in enumerate(value):
            at = f"{self.path(key)}[{number}]"
            if isinstance(item, dict):
                tables.append(_Table(self._checker, at, item))
            else:
                self._checker.wrong(at, _shown(item), "must be a table")
        return tables

    def no_more(self) -> None:
        """What nobody asked for is a mistyped key."""
        for key in sorted(self._table.keys() - self._seen):
            self._checker.wrong(self.path(key), "not a key of this file", "remove or mend it")


def _shown(value: object) -> str:
    """A value as a message shows it: never long, whatever stands in the file."""
    try:
        return repr(value)[:VALUE_CHARS_SHOWN]
    except (ValueError, RecursionError):  # A number of 5,000 digits, a table in a table in a …
        return f"a {type(value).__name__} too large to show"


_WORDS: Final[dict[type, str]] = {
    str: "text in quotes",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
