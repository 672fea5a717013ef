"""`sync/rows.md`: every kind of row of every list, place by place, made from the schemas.

`hil/schemas.py` writes it; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge.messages import ROW_BODIES, ROW_NUMBERS, RowKind

PATH: Final = Path(__file__).parent.parent / "sync" / "rows.md"
PEOPLE, MONEY, MENU, SETTINGS = "{site}/people", "{site}/money", "{site}/menu", "{site}/settings"
# A test holds it against the lists that the reference city makes.
LIST_OF: Final[Mapping[RowKind, str]] = {
    RowKind.CARDHOLDER: PEOPLE,
    RowKind.CREDENTIAL: PEOPLE,
    RowKind.HOT: PEOPLE,
    RowKind.STAFF: PEOPLE,
    RowKind.GROUP: PEOPLE,
    RowKind.ACCOUNT: MONEY,
    RowKind.ENTITLEMENT: MONEY,
    RowKind.MEAL_USED: MONEY,
    RowKind.PREORDER: MONEY,
    RowKind.PRODUCT: MENU,
    RowKind.SITE: SETTINGS,
    RowKind.SCHEDULE: SETTINGS,
    RowKind.ROSTER: SETTINGS,
    RowKind.DEVICE: SETTINGS,
    RowKind.PROFILE: SETTINGS,
    RowKind.ADMISSION: "city/museum",
}
assert set(LIST_OF) == set(RowKind), "say in which list the new row stands"
ABOVE: Final = """\
# Rows of the lists

Made by `make schemas` from [the schemas](schemas/wire.json), which say the same;
[the wire](README.md) says what lists are for. A row is `[kind, key, body]` in MessagePack: a
number, a `bin` and a `bin`. The body is MessagePack again: an array of these places in this order.
Places that have a default may be left out from the end; a newer city may append some. A key that
is text is UTF-8. Rows are hashed as bytes (kind, key, body), so a device keeps and counts also a
row of a kind that it does not know.

[`lists.json`](../tests/vectors/wire/lists.json) has one row of each kind (`kinds`): its values, its
body as bytes, and its hash.
"""
SHARED: Final = ("VersionMark", "VectorEntry", "PeerBroker", "SdmMarks")


def text(definitions: Mapping[str, Any]) -> str:
    """The whole page."""
    kinds = sorted(RowKind, key=lambda row: ROW_NUMBERS[row])
    lines = [ABOVE, "| kind | row | list | key | places |", "|---|---|---|---|---|"]
    for row in kinds:
        name, about = _name(row), definitions[_name(row)]["x-row"]
        places = len(definitions[name]["prefixItems"])
        lines.append(
            f"| {about['kind']} | [`{name}`](#{name.lower()}) | `{about['list']}` |"
            f" {about['key']} | {places} |"
        )
    for row in kinds:
        lines += _section(_name(row), definitions)
    lines += ["", "## Arrays inside rows and messages", ""]
    lines += ["They have places, too, and no names on the wire."]
    for name in SHARED:
        lines += _section(name, definitions, level=3)
    return "\n".join(lines) + "\n"


def _name(row: RowKind) -> str:
    return ROW_BODIES[ROW_NUMBERS[row]].__name__


def _section(name: str, definitions: Mapping[str, Any], *, level: int = 2) -> list[str]:
    definition = definitions[name]
    lines = ["", f"{'#' * level} {name}", "", definition["description"], ""]
    lines += ["| place | name | type | default | |", "|---|---|---|---|---|"]
    for place, one in enumerate(definition["prefixItems"]):
        default = f"`{_json(one['default'])}`" if "default" in one else ""
        words = one.get("description", "").removesuffix("MessagePack bin.").strip()
        lines.append(
            f"| {place} | `{one['title']}` | {type_of(one, definitions)} | {default} | {words} |"
        )
    return lines


def type_of(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """The type of a place in a few words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        members = definitions[name].get("enum")
        if members is None:
            return f"[{name}](#{name.lower()})"
        return "one of " + ", ".join(f"`{one}`" for one in members)
    if "anyOf" in value:
        return " or ".join(type_of(one, definitions) for one in value["anyOf"])
    match value.get("type"):
        case "string":
            return "bin" if "contentEncoding" in value else "text"
        case "array" if "prefixItems" in value:
            return "[" + ", ".join(type_of(one, definitions) for one in value["prefixItems"]) + "]"
        case "array":
            return f"array of {type_of(value['items'], definitions)}"
        case "object":
            return f"map of text to {type_of(value['additionalProperties'], definitions)}"
        case kind:
            return {"integer": "int", "boolean": "bool", "null": "nil"}[str(kind)]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
