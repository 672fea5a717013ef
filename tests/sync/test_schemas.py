"""Goal: the published schemas are those of the code, and what is sent fits them.

Method: the file is made again and compared; each golden fact is checked against its definition.
"""

from __future__ import annotations

import json

import jsonschema
import pytest

from edge.messages import (
    FACT_KINDS,
    Ack,
    Stream,
    Unrecorded,
    encode_fact,
    encode_json,
)
from edge.model import ClockQuality
from hil.schemas import FOLDER, schema, text


def test_the_published_schemas_are_made_from_the_code() -> None:
    assert (FOLDER / "wire.json").read_text() == text(), 'run "make schemas"'


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
