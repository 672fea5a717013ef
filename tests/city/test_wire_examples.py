"""Goal: the examples of facts on the wire's page are facts, and every kind of a till is shown.

Method: each JSON object of `sync/README.md` gets the header that all facts carry and is decoded;
names that its kind does not have are found by encoding it again; sales are judged as the city does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge.messages import (
    FACT_KINDS,
    CloseOut,
    Fact,
    SaleFact,
    decode_fact,
    encode_fact,
)
from hil.city.accounts import sums_to_zero
from hil.city.sales import amounts_agree
from hil.city.tills import TILL_FACTS
from tests.city.sham import EPOCH, NOON_MS, SITE

PAGE = Path(__file__).parent.parent.parent / "sync" / "README.md"
HEADER = {
    "device": "s0001-till-1",
    "site": SITE,
    "stream": "main",
    "epoch": EPOCH,
    "sequence": 2,
    "previous": "",
    "boot": "b",
    "mono_ms": 1,
    "wall_ms": NOON_MS,
    "clock": "ntp",
}


def examples() -> list[dict[str, Any]]:
    found = []
    for block in PAGE.read_text().split("```json\n")[1:]:
        text, decoder = block.partition("```")[0].strip(), json.JSONDecoder()
        while text:
            value, end = decoder.raw_decode(text)
            found.append(value)
            text = text[end:].strip()
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: str(example["kind"]))
def test_an_example_is_a_fact(example: dict[str, Any]) -> None:
    fact = decode_fact(json.dumps({**HEADER, **example}).encode())
    again = json.loads(encode_fact(fact))
    assert set(example) <= set(again), "a name this kind does not have"
    postings = getattr(fact, "postings", ())
    assert sums_to_zero(postings)
    if isinstance(fact, SaleFact):
        assert amounts_agree(fact, SITE)


def test_every_kind_of_a_till_is_shown() -> None:
    shown = {example["kind"] for example in examples()}
    tills = {str(kind.__struct_config__.tag) for kind in TILL_FACTS}
    known = {str(kind.__struct_config__.tag) for kind in FACT_KINDS}
    assert tills <= shown <= known
    assert issubclass(CloseOut, Fact)
