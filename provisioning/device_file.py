"""What a technician types -> the text of `device.toml`, and how two such files differ. Pure.

Only the forms are read here; whether a pin, name or driver makes sense is `edge.config`'s to say,
so that a file typed by hand and one made here are judged alike.

    reader  ID:serial:PORT:FRAME[:KEY=VALUE…]      r1:serial:/dev/ttyUSB0:id12:access_point=north-in
            ID:pcsc[:NAME][:KEY=VALUE…]            r1:pcsc:ACS ACR122U:access_point=north-in
            ID:pn532:PORT[:reset_pin=N][:KEY=VALUE…]   r1:pn532:/dev/ttyUSB0:reset_pin=4
            ID:osdp:PORT:FRAME:address=N:key_file=PATH[:KEY=VALUE…]
            ID:wedge:PORT:FRAME[:KEY=VALUE…]       r1:wedge:/dev/input/by-id/…:d10
    lane    LANE:DRIVER:[port=PATH,][fire=PIN,][hold=PIN,][tamper=PIN,]POINT[,POINT…]
    point   ID=DIRECTION:ZONE:relay=PIN[:KEY=VALUE…]
                              north:lgpio:north-in=in:school:relay=17:rotation=27/low/up
    pin     NUMBER[/low|/high][/up|/down|/none]    default /high/none

A contact to ground wants `/up`, an inner pull that lifts the pin while the contact is open. One
that closes when something happens, as a turnstile's rotation does, is then active at the low level:
`27/low/up`. One that is closed while all is well, as a fire alarm's or a lid's is, is active at the
high level: `5/up`; a broken wire looks like the alarm. Without a pull the wire itself must hold the
level.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any, Final

from edge.model import SetupProblem

READER_KEYS: Final = {
    "access_point": str,
    "baud": int,
    "numbering": str,
    "reversed": bool,
    "address": int,
    "key_file": str,  # OSDP.
    "reset_pin": int,  # PN532.
}
POINT_KEYS: Final = {"pulse_ms_max": int, "wait_ms_max": int, "drive": str}
LINES: Final = ("relay", "rotation", "green", "red", "amber", "buzzer", "button")
LANE_LINES: Final = ("fire", "hold", "tamper")
PORT: Final = "port"
TEMPLATE_PARTS: Final = ("readers", "lanes", "control", "folders")
READER_EXAMPLE: Final = "r1:serial:/dev/ttyUSB0:id12:access_point=north-in"
LANE_EXAMPLE: Final = "north:lgpio:north-in=in:school:relay=17:rotation=27/low/up"

Table = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a file is made of. `template` is text with readers and lanes, kept as it is."""

    device_id: str
    site_id: str
    station: str
    time_zone: str
    endpoints: tuple[str, ...]
    runtime: str = ""
    simulated_taps: bool = False
    readers: tuple[str, ...] = ()
    lanes: tuple[str, ...] = ()
    template: str = ""


def compose(body: Body) -> str:
    """The whole file. `SetupProblem` names the option that cannot be read."""
    parts = ['# Written by "moskvenok provision"; check changes with "moskvenok doctor".\n']
    parts.append("schema = 1\n")
    device = {"id": body.device_id, "site": body.site_id, "station": body.station}
    parts.append(_section("[device]", device | {"time_zone": body.time_zone}))
    parts.append(_section("[city]", {"endpoints": list(body.endpoints)}))
    if body.runtime:
        parts.append(_section("[folders]", {"runtime": body.runtime}))
    if body.simulated_taps:
        parts.append(_section("[control]", {"simulated_taps": True}))
    parts.extend(_section("[[readers]]", read_reader(text)) for text in body.readers)
    for text in body.lanes:
        lane = read_lane(text)
        points = lane.pop("access_points")
        parts.append(_section("[[lanes]]", lane))
        parts.extend(_section("[[lanes.access_points]]", point) for point in points)
    made = "\n".join(parts)
    return _with_template(made, body.template) if body.template else made


def read_reader(text: str) -> Table:
    """One `--reader`. A port may hold colons, so the ends are read first."""
    items = text.split(":")
    pairs = _take_pairs("reader", text, items, READER_KEYS)
    match items:
        case [name, "serial" | "osdp" | "wedge" as driver, *port, frame] if name and any(port):
            place = ":".join(port)
            table: Table = {"id": name, "driver": driver, "port": place, "frame": frame}
        case [name, "pn532", *port] if name and any(port):
            table = {"id": name, "driver": "pn532", "port": ":".join(port)}
        case [name, "pcsc", *rest] if name:
            table = {"id": name, "driver": "pcsc"}
            if rest:
                table["name"] = ":".join(rest)
        case _:
            raise _unreadable("reader", text, f'write it like "{READER_EXAMPLE}"')
    return table | pairs


def read_lane(text: str) -> Table:
    """One `--lane` with its access points."""
    name, _, rest = text.partition(":")
    driver, _, points = rest.partition(":")
    if not (name and driver and points):
        raise _unreadable("lane", text, f'write it like "{LANE_EXAMPLE}"')
    lane: Table = {"id": name, "driver": driver}
    found = []
    for item in points.split(","):
        key, mark, value = item.partition("=")
        if mark and key in LANE_LINES and key not in lane:
            lane[key] = _read_pin(text, value)
        elif mark and key == PORT and key not in lane:
            lane[key] = value
        else:
            found.append(_read_point(text, item))
    return lane | {"access_points": found}


def same_meaning(left: str, right: str) -> bool:
    """Whether both say the same, whatever their comments and order of lines."""
    try:
        return tomllib.loads(left) == tomllib.loads(right)
    except tomllib.TOMLDecodeError:
        return left == right


def difference(there: str, asked: str) -> str:
    lines = unified_diff(
        there.splitlines(), asked.splitlines(), "there now", "asked for", lineterm="", n=1
    )
    return "\n".join(lines)


def _read_point(lane: str, text: str) -> Table:
    items = text.split(":")
    lines = _take_lines(lane, items)
    pairs = _take_pairs("lane", lane, items, POINT_KEYS)
    match items:
        case [first, zone] if "=" in first and "relay" in lines:
            name, _, direction = first.partition("=")
            return {"id": name, "zone": zone, "direction": direction, **lines, **pairs}
    raise _unreadable("lane", lane, f'"{text}" is no access point; write it like "{LANE_EXAMPLE}"')


def _take_lines(lane: str, items: list[str]) -> Table:
    """Take `relay=…`, `rotation=…` and their like out of the items."""
    lines: Table = {}
    for item in list(items[1:]):
        key, mark, value = item.partition("=")
        if mark and key in LINES:
            items.remove(item)
            lines[key] = _read_pin(lane, value)
    return lines


def _read_pin(lane: str, text: str) -> Table:
    number, *marks = text.split("/")
    if not number.isascii() or not number.isdigit():
        raise _unreadable("lane", lane, f'"{text}" is no pin; write a number like 17 or 17/low/up')
    line: Table = {"pin": int(number)}
    for mark in marks:
        if mark in ("low", "high") and "active_high" not in line:
            line["active_high"] = mark == "high"
        elif mark in ("up", "down", "none") and "pull" not in line:
            line["pull"] = mark
        else:
            raise _unreadable(
                "lane", lane, f'"{text}": after the pin comes /low or /high and /up, /down or /none'
            )
    return line


def _take_pairs(option: str, text: str, items: list[str], keys: Mapping[str, type]) -> Table:
    """Take `KEY=VALUE` off the end of the items."""
    pairs: Table = {}
    while len(items) > 1 and "=" in items[-1]:
        key, _, value = items.pop().partition("=")
        if key not in keys:
            allowed = ", ".join((*keys, *LINES) if option == "lane" else keys)
            raise _unreadable(option, text, f'"{key}" is not one of {allowed}')
        if keys[key] is int and not (value.isascii() and value.isdigit()):
            raise _unreadable(option, text, f'{key} is "{value}"; give a whole number')
        if keys[key] is bool and value not in ("true", "false"):
            raise _unreadable(option, text, f'{key} is "{value}"; give true or false')
        pairs[key] = value == "true" if keys[key] is bool else keys[key](value)
    return pairs


def _unreadable(option: str, text: str, do: str) -> SetupProblem:
    return SetupProblem(f'--{option} "{text[:200]}": cannot be read; {do}')


def _with_template(made: str, template: str) -> str:
    try:
        table = tomllib.loads(template)
    except tomllib.TOMLDecodeError as error:
        raise SetupProblem(f"--template: not TOML: {error}; mend that line") from error
    extra = sorted(table.keys() - set(TEMPLATE_PARTS))
    if extra:
        raise SetupProblem(
            f"--template: holds {', '.join(extra)}; it may hold {', '.join(TEMPLATE_PARTS)}. For a "
            "whole file use --config-from"
        )
    whole = f"{made}\n{template.strip()}\n"
    try:
        found = tomllib.loads(whole)
    except tomllib.TOMLDecodeError as error:
        raise SetupProblem(
            f"--template: does not go with the other options: {error}; say each thing once"
        ) from error
    if any(
        found.get(key) != value for key, value in table.items() if key not in tomllib.loads(made)
    ):
        raise SetupProblem("--template: begin it with a section, like [[readers]]")
    return whole


def _section(title: str, table: Mapping[str, Any]) -> str:
    return "\n".join([title, *(f"{key} = {_value(value)}" for key, value in table.items())]) + "\n"


def _value(value: object) -> str:
    """TOML 1.0: its basic strings take JSON's escapes, but want DEL escaped too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
