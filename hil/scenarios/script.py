"""A scenario as a value: read from its TOML file, every mistake told at its place.

`README.md` shows the format. Reading a file knows no agent: who plays a script is `play.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec

from edge.messages import ScheduleRow, SiteRow
from edge.model import Category, StaffRole, Station
from hil.scenarios.words import (
    CLOCK,
    EXPECTED,
    LISTS,
    LIVE_VERBS,
    PERSON,
    STATION,
    STEP,
    STEP_KEYS,
    TOP,
    VERBS,
)

FOLDER: Final = Path(__file__).parent
STEPS_MAX: Final = 200  # Our choice: a longer story is two.
UNITS_MS: Final = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION: Final = re.compile(r"(\d{1,6})(ms|s|min|h|d)")
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WINDOW: Final = re.compile(
    r"(?:(mon|tue|wed|thu|fri|sat|sun)(?:-(mon|tue|wed|thu|fri|sat|sun))? )?"
    r"([0-2]\d):([0-5]\d)-([0-2]\d):([0-5]\d)"
)
DAY_MINUTES: Final = 24 * 60
LANES: Final = ("plain", "full", "level", "no_sensor", "none")


class BadScript(Exception):
    """A scenario's file is wrong: which, where, what was found and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody on the list of people; the first card has the person's own name."""

    name: str
    category: Category = Category.PUPIL
    schedule: str = "always"  # "": no right to the zone.
    here: bool = True
    suspended: bool = False
    hot: str = ""  # Why all of the cards are on the hot list.
    cards: tuple[str, ...] = ()
    tier: int = 1
    valid_from: str = "2020-01-01"
    valid_until: str = "2035-01-01"
    wards: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()
    pin: str = ""
    roles: tuple[StaffRole, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens, and what must be seen of it. `number` counts from 1."""

    number: int
    verb: str
    given: Mapping[str, Any]
    expected: Mapping[str, Any]
    lane: str = "one"

    @property
    def what(self) -> Any:
        """What stands behind the verb."""
        return self.given[self.verb]

    def ms(self, key: str, default_ms: int) -> int:
        return default_ms if key not in self.given else duration_ms(self.given[key])


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One file."""

    path: Path
    title: str
    steps: tuple[Step, ...]
    live: bool = False  # Plays on real processes in real time too.
    station: Station = Station.ENTRANCE
    lane: str = "plain"
    lanes: int = 1
    active: tuple[str, ...] = ()  # Inputs that are so before the agent starts.
    wait_ms: int = 5_000
    local: str = "2026-03-02 08:00"  # A Monday.
    zone: str = "Europe/Moscow"
    clock_trusted: bool = True
    list_age_ms: int = 0
    lists_held: bool = True
    lists_this_boot: bool = True  # Received since this boot: their age can be told.
    keys_held: bool = True
    site: Mapping[str, Any] = field(default_factory=dict)
    schedules: Mapping[str, ScheduleRow] = field(default_factory=dict)
    people: tuple[Person, ...] = ()
    visitors: Mapping[str, str] = field(default_factory=dict)  # Card -> category, of a museum.
    start: tuple[str, ...] | None = None  # Facts of the first start; None: not looked at.

    @property
    def name(self) -> str:
        return self.path.stem


def all_scripts(folder: Path = FOLDER) -> list[Path]:
    """Every file of the set, in the order of their names."""
    return sorted(folder.glob("*.toml"))


def duration_ms(text: object) -> int:
    """`200ms`, `5s`, `2min`, `25h`, `8d`. Raises `ValueError` for anything else."""
    found = DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is no time; write a number with ms, s, min, h or d: 5s")
    return int(found[1]) * UNITS_MS[found[2]]


def load(path: Path) -> Script:
    """The script in a file. Raises `BadScript` with everything that is wrong, a line each."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise BadScript(f"{path.name}: cannot be read ({error.strerror}); give its path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadScript(f"{path.name}: is no TOML: {error}; mend that place") from error
    reading = _Reading(path, text)
    script = reading.script(data)
    if reading.problems:
        raise BadScript("\n".join(reading.problems))
    assert script is not None
    return script


class _Reading:
    """Collects every mistake instead of stopping at the first."""

    def __init__(self, path: Path, text: str) -> None:
        self.problems: list[str] = []
        self._path = path
        self._step_lines = [
            number
            for number, line in enumerate(text.splitlines(), start=1)
            if line.strip().startswith("[[step]]")
        ]

    def wrong(self, where: str, found: object, do: str) -> None:
        step = re.match(r"step (\d+)", where)
        place = self._path.name
        if step is not None and int(step[1]) <= len(self._step_lines):
            place += f":{self._step_lines[int(step[1]) - 1]}"
        said = found if isinstance(found, str) else f"{found!r:.60}"
        self.problems.append(f"{place}: {where}: {said}; {do}")

    def script(self, data: dict[str, Any]) -> Script | None:
        top = self.table(data, "file", TOP)
        station = self.table(top.get("station", {}), "[station]", STATION)
        clock = self.table(top.get("clock", {}), "[clock]", CLOCK)
        lists = self.table(top.get("lists", {}), "[lists]", LISTS)
        kind = self.word(station.get("kind", "entrance"), "[station] kind", tuple(Station))
        lane = self.word(station.get("lane", "plain"), "[station] lane", LANES)
        if not top.get("title"):
            self.wrong("file", "no title", "say in one sentence what it shows")
        steps = tuple(
            one
            for number, item in enumerate(top.get("step", []), start=1)
            if (one := self.step(item, number)) is not None
        )
        if not 0 < len(top.get("step", [])) <= STEPS_MAX:
            self.wrong("file", f"{len(steps)} steps", f"write [[step]], 1 to {STEPS_MAX} of them")
        schedules = {
            name: row
            for name, item in top.get("schedules", {}).items()
            if (row := self.schedule(item, f"[schedules.{name}]")) is not None
        }
        people = tuple(
            self.person(name, item, schedules) for name, item in top.get("people", {}).items()
        )
        for step in steps:
            if top.get("live") and step.verb not in LIVE_VERBS:
                do = f"leave live out, or do only {', '.join(LIVE_VERBS)}"
                self.wrong(f"step {step.number}", f"{step.verb} cannot be played live", do)
        start = top.get("start")
        if self.problems:
            return None
        return Script(
            path=self._path,
            title=top["title"],
            steps=steps,
            live=top.get("live", False),
            station=Station(kind),
            lane=lane,
            lanes=station.get("lanes", 1),
            active=tuple(station.get("active", ())),
            wait_ms=self.duration(station.get("wait", "5s"), "[station] wait"),
            local=clock.get("local", "2026-03-02 08:00"),
            zone=clock.get("zone", "Europe/Moscow"),
            clock_trusted=clock.get("trusted", True),
            list_age_ms=self.duration(lists.get("age", "0s"), "[lists] age"),
            lists_held=lists.get("held", True),
            lists_this_boot=lists.get("this_boot", True),
            keys_held=lists.get("keys", True),
            site=self.site(top.get("site", {}), "[site]"),
            schedules=schedules,
            people=people,
            visitors=top.get("visitors", {}),
            start=None if start is None else tuple(start),
        )

    # ------------------------------------------------------------------------- pieces

    def table(self, found: object, where: str, known: Mapping[str, type]) -> dict[str, Any]:
        """What of it has a name and a type that belongs here."""
        if not isinstance(found, dict):
            self.wrong(where, found, "it must be a table")
            return {}
        good = {}
        for key, value in found.items():
            if key not in known:
                self.wrong(where, f'"{key}" is not known', f"known: {', '.join(sorted(known))}")
            elif not isinstance(value, known[key]) or (
                known[key] is int and isinstance(value, bool)
            ):
                self.wrong(f"{where} {key}", value, f"it must be of type {known[key].__name__}")
            else:
                good[key] = value
        return good

    def word(self, found: str, where: str, known: tuple[str, ...]) -> str:
        if found not in known:
            self.wrong(where, found, f"known: {', '.join(known)}")
            return known[0]
        return found

    def duration(self, found: object, where: str) -> int:
        try:
            return duration_ms(found)
        except ValueError as error:
            self.wrong(where, str(error).split("; ")[0], str(error).split("; ")[-1])
            return 0

    def site(self, found: object, where: str) -> dict[str, Any]:
        hints = get_type_hints(SiteRow)
        if not isinstance(found, dict):
            self.wrong(where, found, "it must be a table")
            return {}
        good = {}
        for key, value in found.items():
            if key not in hints:
                self.wrong(where, f'"{key}" is not known', f"known: {', '.join(sorted(hints))}")
                continue
            try:
                good[key] = msgspec.convert(value, hints[key])
            except msgspec.ValidationError as error:
                self.wrong(f"{where} {key}", str(error), "see SiteRow in edge/messages/rows.py")
        return good

    def schedule(self, found: object, where: str) -> ScheduleRow | None:
        known = {"windows": list, "terms": list, "holidays": list, "days": dict}
        item = self.table(found, where, known)
        windows: list[tuple[int, int]] = []
        for text in item.get("windows", []):
            windows += self.window(text, where, week=True)
        days = {
            day: tuple(one for text in texts for one in self.window(text, where, week=False))
            for day, texts in item.get("days", {}).items()
        }
        return ScheduleRow(
            windows=tuple(windows),
            terms=tuple((first, last) for first, last in item.get("terms", [])),
            holidays=tuple((first, last) for first, last in item.get("holidays", [])),
            days=days,
        )

    def window(self, text: object, where: str, *, week: bool) -> list[tuple[int, int]]:
        """`mon-fri 08:00-15:00` as minutes of the week; `10:00-12:00` as minutes of a day."""
        found = WINDOW.fullmatch(text) if isinstance(text, str) else None
        if found is None or (found[1] is not None) is not week:
            form = "mon-fri 08:00-15:00" if week else "10:00-12:00"
            self.wrong(where, text, f"write a window as {form}")
            return []
        start, stop = int(found[3]) * 60 + int(found[4]), int(found[5]) * 60 + int(found[6])
        if not 0 <= start < stop <= DAY_MINUTES:
            self.wrong(where, text, "it must begin before it ends, on one day")
            return []
        if not week:
            return [(start, stop)]
        first = DAYS.index(found[1])
        last = DAYS.index(found[2]) if found[2] else first
        return [(d * DAY_MINUTES + start, d * DAY_MINUTES + stop) for d in range(first, last + 1)]

    def person(self, name: str, found: object, schedules: Mapping[str, object]) -> Person:
        where = f"[people.{name}]"
        item = self.table(found, where, PERSON)
        schedule = item.get("schedule", "always")
        if schedule not in {"", "always", *schedules}:
            self.wrong(where, f"schedule {schedule!r}", "write [schedules] for it, or always")
        category = self.word(item.get("category", "pupil"), f"{where} category", tuple(Category))
        roles = [
            self.word(role, f"{where} roles", tuple(StaffRole)) for role in item.get("roles", [])
        ]
        texts = {
            key: item[key]
            for key in ("here", "suspended", "hot", "tier", "valid_from", "valid_until", "pin")
            if key in item
        }
        return Person(
            name=name,
            category=Category(category),
            schedule=schedule,
            cards=tuple(item.get("cards", (name,))),
            wards=tuple(item.get("wards", ())),
            barred=tuple(item.get("barred", ())),
            roles=tuple(StaffRole(role) for role in roles),
            **texts,
        )

    def step(self, found: object, number: int) -> Step | None:
        where = f"step {number}"
        item = self.table(found, where, STEP)
        verbs = [verb for verb in VERBS if verb in item]
        if len(verbs) != 1:
            told = " and ".join(verbs) or "nothing"
            self.wrong(where, f"{told} happens", f"one thing a step: {', '.join(VERBS)}")
            return None
        (verb,) = verbs
        strange = sorted(set(item) - {verb, *VERBS[verb], *STEP_KEYS})
        if strange:
            belongs = ", ".join(VERBS[verb]) or "nothing"
            self.wrong(where, f'"{strange[0]}" beside {verb}', f"to {verb} belongs {belongs}")
        for key in ("age", "wait", "after", "valid", "away"):
            if key in item:
                self.duration(item[key], f"{where} {key}")
        if verb == "change":
            self.site(item["change"].get("site", {}), f"{where} change.site")
        expected: dict[str, Any] = {key: item[key] for key in EXPECTED if key in item}
        given = {key: value for key, value in item.items() if key not in STEP_KEYS}
        lane = self.word(item.get("lane", "one"), f"{where} lane", ("one", "two"))
        return Step(number=number, verb=verb, given=given, expected=expected, lane=lane)


def changed_people(step: Step) -> list[Person]:
    """The people that a `change` brings on the list. Raises `BadScript`."""
    reading = _Reading(Path("change"), "")
    schedules = dict.fromkeys(step.what.get("schedules", ()), None)
    people = [
        reading.person(name, item, schedules) for name, item in step.what.get("people", {}).items()
    ]
    if reading.problems:
        raise BadScript("\n".join(reading.problems))
    return people


def changed_site(step: Step) -> dict[str, Any]:
    """The settings that a `change` brings; looked at when the file was read."""
    return _Reading(Path("change"), "").site(step.what.get("site", {}), "change.site")
