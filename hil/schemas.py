"""`make schemas`: the JSON Schemas of the wire, its table of rows and its AsyncAPI document, made
from the code.

One file for what travels as JSON. MessagePack messages have the same schema; bytes are named there
as base64, which is how JSON Schema can speak of them. What is said of a field is the comment beside
it (`hil/wire_notes.py`); here it becomes the description of a property, or of a place of an array.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from edge import messages, model
from edge.messages import ROW_BODIES, ROW_NUMBERS, RowKind
from hil import asyncapi, row_pages
from hil.wire_notes import notes_of, places_of, words_of

FOLDER = Path(__file__).parent.parent / "sync" / "schemas"
TOP = (
    *messages.FACT_KINDS,
    *(messages.BatchHeader, messages.Ack, messages.Status, messages.Hello, messages.Welcome),
    *(messages.Health, messages.Head, messages.Manifest, messages.Delta, messages.Pull),
    messages.SealedKeys,
    *(messages.PushManifest, messages.PushChunk, messages.PushDelta, messages.PushKeys),
    *(messages.PushPhoto, messages.PushRelease, messages.PushReleaseChunk, messages.Release),
    *(messages.Root, messages.Order, messages.SignatureLine, messages.Renew, messages.Renewed),
    *(messages.PeerBeat, messages.PeerAsk, messages.SideRange),
    messages.StickIndex,
    *messages.ROW_BODIES.values(),
)
ABOUT: Final = (
    "sync/README.md has the rules. A struct is an object, or an array where its type is array:"
    " `title` then names each place, and places may be appended. JSON and MessagePack messages"
    " have the same schema: in MessagePack an object is a map with text keys, an enum its text,"
    " and what has contentEncoding base64 here is a `bin` of the bytes themselves. In JSON it is"
    " base64 with padding (RFC 4648, section 4): `Restates.body` alone. A property that is not"
    " required may be left out: its default then holds. Unknown properties are to be ignored."
)
BIN: Final = "MessagePack bin."
IN_JSON: Final = frozenset({"Restates"})  # The one message in JSON that has bytes.
BYTES: Final = "contentEncoding"


def schema() -> dict[str, Any]:
    """One document; every message and row under `$defs` by its name."""
    _, parts = msgspec.json.schema_components(TOP, ref_template="#/$defs/{name}")
    types = _types()
    for name, part in parts.items():
        _describe(part, types[name])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"The wire between device and city, version {messages.WIRE_VERSION}",
        "description": ABOUT,
        "$defs": dict(sorted(parts.items())),
    }


def _types() -> dict[str, type]:
    """Every struct and enum of the wire by its name."""
    found: dict[str, type] = {}
    for module in (messages, model, *_modules()):
        for name, one in vars(module).items():
            if inspect.isclass(one) and issubclass(one, Struct | Enum):
                found[name] = one
    return found


def _modules() -> list[Any]:
    return [one for name, one in sys.modules.items() if name.startswith("edge.messages.")]


def _describe(part: dict[str, Any], kind: type) -> None:
    """Adds what the code says of a definition; changes nothing that was there."""
    notes, words = notes_of(kind), words_of(kind)
    if issubclass(kind, Enum):
        said = [f"`{one.value}`: {notes[one.name]}" for one in kind if one.name in notes]
        words = " ".join((words, *said)).strip()
    if words:
        part["description"] = words
    else:
        part.pop("description", None)  # An inherited docstring tells of something else.
    if not issubclass(kind, Struct):
        return
    if row := _row_of(kind):
        part["x-row"] = row
        part["description"] = f"Kind {row['kind']}, in {row['list']}. {words}"
    fields = msgspec.structs.fields(kind)
    by_place = part.get("prefixItems")
    for place, one in enumerate(fields):
        inner = by_place[place] if by_place is not None else part["properties"][one.encode_name]
        if by_place is not None:
            inner["title"] = one.encode_name
        _describe_field(inner, notes.get(one.name, ""), in_json=kind.__name__ in IN_JSON)


def _describe_field(inner: dict[str, Any], note: str, *, in_json: bool) -> None:
    said = [note] if note else []
    text = json.dumps(inner)
    if f'"{BYTES}"' in text and not in_json:
        said.append(BIN)
    if said:
        inner["description"] = " ".join(said)
    places = places_of(note)
    for tuple_schema in _fixed_tuples(inner):
        assert len(places) == len(tuple_schema["prefixItems"]), f"name the places: {text}"
        for name, item in zip(places, tuple_schema["prefixItems"], strict=True):
            item["title"] = name


def _fixed_tuples(value: Any) -> list[dict[str, Any]]:
    """Arrays of fixed length that have no definition of their own."""
    if isinstance(value, list):
        return [found for one in value for found in _fixed_tuples(one)]
    if not isinstance(value, dict):
        return []
    mine = [value] if "prefixItems" in value else []
    return mine + [found for one in value.values() for found in _fixed_tuples(one)]


def _row_of(kind: type) -> dict[str, Any]:
    """Number, list and key of a row's body; nothing for what is none."""
    for row, number in ROW_NUMBERS.items():
        if ROW_BODIES[number] is kind:
            return {"kind": number, "list": row_pages.LIST_OF[row], "key": key_of(row)}
    return {}


def key_of(row: RowKind) -> str:
    """What the key of such a row is, as its docstring begins."""
    found = re.match(r"Key: ([^.]+)\.", words_of(ROW_BODIES[ROW_NUMBERS[row]]))
    assert found is not None, f"say the key of {row} first"
    return found[1]


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    made = schema()
    (FOLDER / "wire.json").write_text(text())
    print(f"{FOLDER / 'wire.json'}: {len(made['$defs'])} definitions")
    row_pages.PATH.write_text(row_pages.text(made["$defs"]))
    print(f"{row_pages.PATH}: {len(ROW_NUMBERS)} kinds of rows")
    asyncapi.PATH.write_text(asyncapi.text())
    print(f"{asyncapi.PATH}: {len(asyncapi.document()['channels'])} channels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
