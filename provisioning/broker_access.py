"""The access list of the city's broker: who may write and read what, as Mosquitto reads it.

Derived from the one table of `sync/topics.py`; nothing about topics is said here. What belongs to a
device by its name needs no line of its own (`%u` is the name in the client's certificate). Which
lists it reads depends on its site and station, so there are lines for each device of the list that
the city keeps; who stands on no list speaks with the city and reads no list. Who stands on the list
of the revoked gets nothing at all: denials come first, whatever else would grant. What a list in
place denies is read back, so that who writes the next one can be held to it.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.model import SetupProblem, Station
from sync.topics import (
    check_device_id,
    check_site_id,
    city_read_patterns,
    city_write_patterns,
    device_read_patterns,
    device_write_patterns,
    scope_read_topics,
    scopes_of,
)

COLUMNS: Final = ("device", "site", "station")
LIST_BYTES_MAX: Final = 8 * 1024 * 1024  # Our choice: 64,000 devices with the longest names.
ACCESS_BYTES_MAX: Final = 128 * 1024 * 1024  # Our choice: their lines, up to 2 KB each.
PROBLEMS_SHOWN: Final = 20  # Our choice: a screen of them.
OWN_NAME: Final = "%u"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A device as the city knows it."""

    device: str
    site: str
    station: Station


def read_devices(path: Path) -> tuple[Member, ...]:
    """CSV with the columns device, site, station. `SetupProblem` names every line that is wrong."""
    rows = csv.DictReader(io.StringIO(_text(path)), strict=True)
    problems: list[str] = []
    found: dict[str, Member] = {}
    try:
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise SetupProblem(
                f"{path}: no column {missing[0]!r} in its first line; write: {','.join(COLUMNS)}"
            )
        for row in rows:
            try:
                member = _member(row)
            except SetupProblem as problem:
                problems.append(f"{path}: line {rows.line_num}: {problem}")
                continue
            if member.device in found:
                problems.append(f"{path}: line {rows.line_num}: {member.device} stands there twice")
            found[member.device] = member
    except csv.Error as error:
        raise SetupProblem(f"{path}: line {rows.line_num}: not CSV ({error})") from error
    _raise(problems)
    return tuple(sorted(found.values(), key=lambda one: one.device))


def read_revoked(path: Path) -> tuple[str, ...]:
    """One device a line; empty lines and those that begin with # do not count."""
    problems: list[str] = []
    found: set[str] = set()
    for number, line in enumerate(_text(path).splitlines(), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        try:
            found.add(check_device_id(name))
        except SetupProblem as problem:
            problems.append(f"{path}: line {number}: {problem}")
    _raise(problems)
    return tuple(sorted(found))


def render_access(
    members: Iterable[Member], *, revoked: Iterable[str] = (), cities: Iterable[str]
) -> str:
    """What it does not grant is denied. `SetupProblem` when a city's client has a device's name."""
    members, revoked, cities = tuple(members), set(revoked), tuple(dict.fromkeys(cities))
    for name in cities:
        check_device_id(name)
        if name in revoked or any(one.device == name for one in members):
            raise SetupProblem(
                f"{name} is the city's own client and a device; a device's certificate with that"
                " name could speak for the city: give the city's client another name"
            )
    lines = ['# Written by "moskvenok broker config". %u: the name in the client\'s certificate.']
    lines += [f"pattern write {topic}" for topic in device_write_patterns(OWN_NAME)]
    lines += [f"pattern read {topic}" for topic in device_read_patterns(OWN_NAME)]
    for name in cities:
        lines += ["", f"user {name}"]
        lines += [f"topic read {topic}" for topic in city_read_patterns()]
        lines += [f"topic write {topic}" for topic in city_write_patterns()]
    for name in sorted(revoked):
        lines += ["", f"user {check_device_id(name)}", "topic deny #"]
    for one in members:
        if one.device not in revoked:
            topics = scope_read_topics(scopes_of(check_site_id(one.site), one.station))
            lines += ["", f"user {check_device_id(one.device)}"]
            lines += [f"topic read {topic}" for topic in topics]
    return "\n".join(lines) + "\n"


def denied_in(path: Path) -> tuple[str, ...]:
    """Who is denied anything by an access list that lies there, as Mosquitto would read it; nobody
    when there is none. `SetupProblem` when it cannot be read."""
    found: set[str] = set()
    user = ""
    for line in (read_access(path) or b"").decode(errors="replace").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "user":
            user = rest.strip()
        elif user and word == "topic" and rest.split()[:1] == ["deny"]:
            found.add(user)
    return tuple(sorted(found))


def read_access(path: Path) -> bytes | None:
    """The file as it lies there, None when there is none. `SetupProblem` as for a list."""
    return _bytes(path, ACCESS_BYTES_MAX) if os.path.lexists(path) else None


def _member(row: dict[str | None, str | None]) -> Member:
    device, site, station = ((row.get(name) or "").strip() for name in COLUMNS)
    if station not in set(Station):
        raise SetupProblem(f"station {station[:40]!r}; write one of {', '.join(Station)}")
    return Member(
        device=check_device_id(device), site=check_site_id(site), station=Station(station)
    )


def _bytes(path: Path, size_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(size_max + 1)
    except OSError as error:
        raise SetupProblem(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > size_max:
        raise SetupProblem(f"{path}: more than {size_max} bytes; is this the right file?")
    return data


def _text(path: Path) -> str:
    try:
        return _bytes(path, LIST_BYTES_MAX).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SetupProblem(f"{path}: not text in UTF-8; save it as CSV in UTF-8") from error


def _raise(problems: list[str]) -> None:
    if len(problems) > PROBLEMS_SHOWN:
        problems = [*problems[:PROBLEMS_SHOWN], f"and {len(problems) - PROBLEMS_SHOWN} more"]
    if problems:
        raise SetupProblem("\n".join(problems))
