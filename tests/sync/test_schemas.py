"""Goal: the published schemas are those of the code, what is sent fits them, and whoever has only
them can tell what each place and each field is.

Method: the files are made again and compared; each golden fact is checked against its definition;
every array of fixed length is looked at wherever it stands; what is said in words is taken out
again, and the bare schema of the library must be left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest

from edge.messages import (
    FACT_KINDS,
    ROW_BODIES,
    ROW_NUMBERS,
    Ack,
    RowKind,
    Stream,
    Unrecorded,
    encode_fact,
    encode_json,
)
from edge.model import ClockQuality
from hil import row_pages
from hil.schemas import FOLDER, TOP, schema, text
from hil.wire_notes import notes_in, places_of

SCHEMA = schema()
# What the city fills in, and what it has to understand of every device.
TO_BE_SAID = (
    *("BatchHeader", "Ack", "Status", "StreamHead", "Hello", "HighWater", "Welcome", "Health"),
    *("Head", "Manifest", "Delta", "VectorEntry", "VersionMark", "Signed", "Row", "RowKey"),
    *("ScopeKey", "SealedKeys", "Release", "Pull", "Root", "RootKey", "Renew", "Renewed"),
    *("PushManifest", "PushChunk", "PushDelta", "PushKeys", "PushPhoto", "PushRelease"),
    *("PushReleaseChunk", "Order", "SignatureLine", "StickIndex", "StickFile"),
    *("PeerBroker", "SdmMarks", *(kind.__name__ for kind in ROW_BODIES.values())),
)
WORDS = ("title", "description", "x-row")


def test_the_published_schemas_are_made_from_the_code() -> None:
    assert (FOLDER / "wire.json").read_text() == text(), 'run "make schemas"'


def test_the_published_page_of_rows_is_made_from_the_schemas() -> None:
    assert row_pages.PATH.read_text() == row_pages.text(SCHEMA["$defs"]), 'run "make schemas"'


def fixed_arrays(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "prefixItems" in value:
            yield value
        for inner in value.values():
            yield from fixed_arrays(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from fixed_arrays(inner)


def test_every_place_of_every_array_has_its_name() -> None:
    found = list(fixed_arrays(SCHEMA))
    assert len(found) > len(ROW_BODIES)
    for array in found:
        titles = [place.get("title", "") for place in array["prefixItems"]]
        assert all(titles) and len(set(titles)) == len(titles), array
    for kind in ROW_BODIES.values():
        array = SCHEMA["$defs"][kind.__name__]
        assert [place["title"] for place in array["prefixItems"]] == list(kind.__struct_fields__)


def test_every_field_that_the_city_fills_in_is_explained() -> None:
    for name in TO_BE_SAID:
        part = SCHEMA["$defs"][name]
        fields = {place["title"]: place for place in part.get("prefixItems", ())}
        fields |= part.get("properties", {})
        silent = [field for field, one in fields.items() if not one.get("description")]
        assert [field for field in silent if field != "push"] == [], f"{name}: comment these"
        assert part["description"], name


def test_every_kind_of_row_says_its_number_its_list_and_its_key() -> None:
    rows = {name: one["x-row"] for name, one in SCHEMA["$defs"].items() if "x-row" in one}
    assert {ROW_BODIES[row["kind"]].__name__ for row in rows.values()} == set(rows)
    assert sorted(row["kind"] for row in rows.values()) == sorted(ROW_NUMBERS.values())
    for name, row in rows.items():
        assert SCHEMA["$defs"][name]["description"].startswith(
            f"Kind {row['kind']}, in {row['list']}. Key: {row['key']}."
        )
    page = row_pages.PATH.read_text()
    for kind in RowKind:
        body = ROW_BODIES[ROW_NUMBERS[kind]].__name__
        assert f"| {ROW_NUMBERS[kind]} | [`{body}`]" in page


def bare(value: Any) -> Any:
    """Without what is said in words. Names of properties are no words."""
    if isinstance(value, list):
        return [bare(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {name: bare(one) for name, one in inner.items()}
        if key == "properties"
        else bare(inner)
        for key, inner in value.items()
        if key not in WORDS
    }


def test_words_alone_are_added_to_what_the_library_says() -> None:
    _, parts = msgspec.json.schema_components(TOP, ref_template="#/$defs/{name}")
    assert bare(SCHEMA["$defs"]) == bare(parts)


SOURCE = """\
class Example(Struct):
    # Above, on
    # two lines.
    first: int
    second: int = 0  # Beside, and
                     # further down.

    third: int = 0
    # `[left, right]`: named.
    fourth: tuple[int, int] = field(
        default=(0, 0)
    )  # At its end.
    LAST = "last"  # Of an enum.
"""


def test_comments_beside_above_and_further_down_are_taken() -> None:
    found = notes_in(SOURCE)
    assert found == {
        "first": "Above, on two lines.",
        "second": "Beside, and further down.",
        "fourth": "`[left, right]`: named. At its end.",
        "LAST": "Of an enum.",
    }
    assert places_of(found["fourth"]) == ("left", "right")
    assert places_of("A pair: `[left, right]`") == ()


@pytest.mark.parametrize("kind", FACT_KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_fact_is_published(kind: type) -> None:
    assert kind.__name__ in schema()["$defs"]


def test_what_is_sent_fits_and_what_does_not_fit_is_seen() -> None:
    fact = Unrecorded(
        device="s0001-north",
        site="s0001",
        stream=Stream.MAIN,
        epoch="00112233445566aa",
        sequence=1,
        previous="",
        boot="b",
        mono_ms=1,
        wall_ms=2,
        clock=ClockQuality.CITY,
        counts={"access": 3},
    )
    ack = Ack(device="s0001-north", stream=Stream.MAIN, epoch="00112233445566aa", up_to=1)
    whole = schema()
    for name, data in (("Unrecorded", encode_fact(fact)), ("Ack", encode_json(ack))):
        validator = jsonschema.Draft202012Validator({**whole, "$ref": f"#/$defs/{name}"})
        value = json.loads(data)
        validator.validate(value)
        del value["device"]
        assert not validator.is_valid(value)
