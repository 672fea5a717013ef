"""Goal: the published AsyncAPI document is the one of the code, and every reference in it leads
somewhere.

Method: the file is made again and compared; a YAML parser reads it back; references are followed
into it and into the JSON Schemas beside it; the topics of every station, and of the city, are
compared with the tables that the product subscribes by and a broker's access list is made from.
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


SITE, DEVICE = "s0001", "device-1"


def names_of(channel: dict[str, Any], *, wild: bool = False) -> set[str]:
    """Every topic of a channel, of one device and its school; `wild`: the filters of all."""
    values = {"device": [DEVICE], "site": [SITE], "other": ["+"]}
    if wild:
        values |= {"device": ["+"], "site": ["+"], "list": ["+"]}
    found = {channel["address"]}
    for part, parameter in channel.get("parameters", {}).items():
        chosen = values.get(part) or parameter["enum"]
        found = {name.replace(f"{{{part}}}", value) for name in found for value in chosen}
    assert not any("{" in name for name in found)
    return found


def names(action: str, *, wild: bool = False) -> set[str]:
    return {
        name
        for key, operation in DOCUMENT["operations"].items()
        if operation["action"] == action
        for name in names_of(DOCUMENT["channels"][key], wild=wild)
    }


@pytest.mark.parametrize("station", Station)
def test_what_a_station_writes_and_reads_is_what_it_is_said_to(station: Station) -> None:
    scopes = topics.scopes_of(SITE, station)
    assert names("send") == set(topics.device_write_patterns(DEVICE))
    reads = {*topics.device_read_patterns(DEVICE), *topics.scope_read_topics(scopes)}
    assert reads == set(topics.subscriptions(DEVICE, scopes))
    told = set()
    for key, operation in DOCUMENT["operations"].items():
        channel = DOCUMENT["channels"][key]
        if operation["action"] != "receive":
            continue
        if "x-read-by" not in channel:
            told |= names_of(channel)
            continue
        lists = [name for name, who in channel["x-read-by"].items() if station in who]
        told |= {name for name in names_of(channel) if name.split("/")[-2] in lists}
    assert told == reads


def test_what_the_city_reads_and_writes_is_all_there_is() -> None:
    assert names("send", wild=True) == set(topics.city_read_patterns())
    museum = {
        topics.of_scope(topics.CITY_SCOPE, kind) for kind in (TopicKind.HEAD, TopicKind.DELTA)
    }
    assert names("receive", wild=True) == set(topics.city_write_patterns()) | museum


def test_every_channel_has_an_operation_and_says_who_reads_a_list() -> None:
    channels = DOCUMENT["channels"]
    assert set(channels) == set(DOCUMENT["operations"])
    for name, channel in channels.items():
        assert ("x-read-by" in channel) == (name.removeprefix("museum_") in ("head", "delta"))
        if "list" in channel.get("parameters", {}):
            assert list(channel["x-read-by"]) == channel["parameters"]["list"]["enum"]


def test_every_kind_of_fact_is_a_message() -> None:
    assert {kind.__name__ for kind in FACT_KINDS} <= set(DOCUMENT["components"]["messages"])
