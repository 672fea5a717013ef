"""Goal: the published AsyncAPI document is the one of the code, and every reference in it leads
somewhere.

Method: the file is made again and compared; a YAML parser reads it back; references are followed
into it and into the JSON Schemas beside it; the topics are compared with the product's own.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from edge.messages import FACT_KINDS, Stream
from edge.model import Station
from hil.asyncapi import PATH, document, text
from hil.schemas import FOLDER
from sync import topics
from sync.topics import Side, TopicKind, publisher_of

DOCUMENT = document()


def test_the_published_document_is_made_from_the_code() -> None:
    assert PATH.read_text() == text(), 'run "make schemas"'


def test_it_is_yaml_that_says_the_same() -> None:
    yaml: Any = importlib.import_module("yaml")  # It comes with the bench's broker.
    assert yaml.safe_load(PATH.read_text()) == DOCUMENT


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_leads_somewhere() -> None:
    found = list(references(DOCUMENT))
    assert len(found) > 3 * len(TopicKind)
    for reference in found:
        file, _, path = reference.partition("#/")
        place = DOCUMENT if not file else json.loads((FOLDER.parent / file).read_text())
        for part in path.split("/"):
            assert part in place, reference
            place = place[part]


@pytest.mark.parametrize("kind", TopicKind)
def test_every_topic_is_there_with_its_direction_and_its_promise(kind: TopicKind) -> None:
    operation = DOCUMENT["operations"][kind.value]
    assert operation["action"] == ("send" if publisher_of(kind) is Side.DEVICE else "receive")
    address = DOCUMENT["channels"][kind.value]["address"]
    name = (
        address.replace("{device}", "till-1")
        .replace("{site}", "s0001")
        .replace("{list}", "people")
        .replace("{stream}", Stream.MAIN)
    )
    topic = topics.parse(name)
    assert topic is not None and topic.kind is kind
    mqtt = operation["bindings"]["mqtt"]
    assert (mqtt["qos"], mqtt["retain"]) == (topic.qos, topic.retained)


def test_what_a_device_subscribes_to_is_what_it_is_said_to_receive() -> None:
    scopes = topics.scopes_of("s0001", Station.TILL)
    heard = {topics.parse(name) for name in topics.subscriptions("till-1", scopes)}
    received = {
        kind for kind in TopicKind if DOCUMENT["operations"][kind.value]["action"] == "receive"
    }
    assert {topic.kind for topic in heard if topic is not None} == received


def test_every_kind_of_fact_is_a_message() -> None:
    assert {kind.__name__ for kind in FACT_KINDS} <= set(DOCUMENT["components"]["messages"])
