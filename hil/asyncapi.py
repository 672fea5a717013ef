"""`sync/asyncapi.yaml`: the wire as an AsyncAPI 3.0 document, made from the table of topics.

Directions, QoS and retention come from `sync/topics.py`, what travels from the table below and its
schemas from `sync/schemas/wire.json` (`hil/schemas.py`); `make schemas` writes both. It is told
from the device's side: a device sends up and receives down. Written with the few rules of YAML
that it needs, so that no dependency stands behind a page of documentation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from edge import messages
from edge.messages import MESSAGE_BYTES_MAX, WIRE_VERSION, Stream
from edge.model import Station
from sync.topics import CITY_SCOPE, HAND_IN, PREFIX, Side, Topic, TopicKind, publisher_of, scopes_of

PATH: Final = Path(__file__).parent.parent / "sync" / "asyncapi.yaml"
SCHEMA_FORMAT: Final = "application/schema+json;version=draft-2020-12"
BINDING: Final = "0.2.0"  # Of the MQTT bindings.
EXAMPLE: Final = "device-id"
EXAMPLE_SITE: Final = "site-id"
JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"
PACK: Final = "application/msgpack"
PARAMETERS: Final = {
    "device": "The device's id, the common name of its certificate and its client id:"
    " 1 to 64 of a-z, 0-9 and hyphen.",
    "site": "The school's id, of the same letters.",
    "list": "Which list of the site.",
    "stream": "Which of the device's streams.",
    "other": "Another till of the same school, silent now: a device's id.",
}
LISTS: Final = ("people", "money", "menu", "settings")
OF_SCOPES: Final = (TopicKind.HEAD, TopicKind.DELTA)
HANDED_IN: Final = "HandedInBatch"  # The same header as of a batch, in another wrapping.


@dataclass(frozen=True, slots=True)
class Travels:
    """What one kind of topic carries."""

    kinds: tuple[type[Struct], ...]
    form: str
    note: str = ""


HAND_IN_NOTE: Final = (
    "A neighbour's: this line, then its facts of `main`, one a line, then a SignatureLine by that"
    " neighbour's own key, as it said them in the school."
)
SIGNED: Final = "Two lines: this, then a SignatureLine over its bytes."
CARRIES: Final[dict[TopicKind, Travels]] = {
    TopicKind.STATUS: Travels((messages.Status,), JSON, "Also the will, with online false."),
    TopicKind.HELLO: Travels((messages.Hello,), JSON),
    TopicKind.WELCOME: Travels((messages.Welcome,), LINES, SIGNED),
    TopicKind.UP: Travels(
        (messages.BatchHeader,), LINES, "This line, then one fact a line, in the device's bytes."
    ),
    TopicKind.ACK: Travels((messages.Ack,), JSON, "After the city's commit."),
    TopicKind.HEAD: Travels((messages.Head,), LINES, SIGNED),
    TopicKind.DELTA: Travels(
        (messages.Delta,), PACK, "The array [payload, key_id, signature]; the payload is this."
    ),
    TopicKind.PULL: Travels((messages.Pull,), JSON),
    TopicKind.PUSH: Travels(
        (
            *(messages.PushManifest, messages.PushChunk, messages.PushDelta, messages.PushKeys),
            *(messages.PushPhoto, messages.PushRelease, messages.PushReleaseChunk),
        ),
        PACK,
    ),
    TopicKind.ORDER: Travels((messages.Order,), LINES, SIGNED),
    TopicKind.HEALTH: Travels((messages.Health,), JSON, "Each minute."),
    TopicKind.RENEW: Travels((messages.Renew,), JSON),
    TopicKind.RENEWED: Travels((messages.Renewed,), JSON),
    TopicKind.ROOT: Travels((messages.Root,), LINES, SIGNED),
}
assert set(CARRIES) == set(TopicKind), "say what the new topic carries"


@dataclass(frozen=True, slots=True)
class Channel:
    """One form of topic names."""

    kind: TopicKind
    address: str
    messages: tuple[str, ...]
    readers: Mapping[str, tuple[Station, ...]]  # List -> who reads it; empty: whoever it names.


def channels() -> dict[str, Channel]:
    """All there are, by their names in the document."""
    found = {
        kind.value: Channel(
            kind=kind,
            address=address(kind),
            messages=tuple(one.__name__ for one in CARRIES[kind].kinds),
            readers={name: _readers(f"{EXAMPLE_SITE}/{name}") for name in LISTS}
            if kind in OF_SCOPES
            else {},
        )
        for kind in TopicKind
    }
    for kind in OF_SCOPES:
        found[f"museum_{kind}"] = Channel(
            kind=kind,
            address=Topic(kind=kind, scope=CITY_SCOPE).name(),
            messages=found[kind.value].messages,
            readers={CITY_SCOPE.partition("/")[2]: _readers(CITY_SCOPE)},
        )
    found["up_for"] = Channel(
        kind=TopicKind.UP,
        address=f"{PREFIX}d/{{device}}/{HAND_IN}/{{other}}",
        messages=(HANDED_IN,),
        readers={},
    )
    return found


def _readers(scope: str) -> tuple[Station, ...]:
    return tuple(one for one in Station if scope in scopes_of(EXAMPLE_SITE, one))


def document() -> dict[str, Any]:
    """The whole of it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Between a school's device and its city",
            "version": f"{WIRE_VERSION}.0.0",
            "description": "Told from the device's side. The rules, and why, are in sync/README.md;"
            " golden bytes are in tests/vectors/wire. Every message is at most"
            f" {MESSAGE_BYTES_MAX} bytes; MQTT 3.1.1 or 5, clean sessions.",
        },
        "defaultContentType": JSON,
        "servers": {
            "city": {
                "host": "broker.example:8883",
                "protocol": "secure-mqtt",
                "description": "The city's broker: TLS with a client certificate for each device.",
            }
        },
        "channels": {name: _channel(one) for name, one in channels().items()},
        "operations": {name: _operation(name, one) for name, one in channels().items()},
        "components": {"messages": _messages()},
    }


def text() -> str:
    """The document as YAML."""
    return "\n".join(_yaml(document(), 0)) + "\n"


def address(kind: TopicKind) -> str:
    """The topic's name with its parameters in braces."""
    for topic in (
        Topic(kind=kind, device=EXAMPLE),
        Topic(kind=kind, device=EXAMPLE, stream=Stream.MAIN),
        Topic(kind=kind, scope=f"{EXAMPLE_SITE}/people"),
        Topic(kind=kind),
    ):
        try:
            name = topic.name()
        except AssertionError:
            continue  # A topic of this kind has other parts.
        if kind is TopicKind.UP:
            name = name.removesuffix(Stream.MAIN) + "{stream}"
        return name.replace(EXAMPLE, "{device}").replace(f"{EXAMPLE_SITE}/people", "{site}/{list}")
    raise AssertionError(f"{kind} has no name under {PREFIX}")


def _channel(channel: Channel) -> dict[str, Any]:
    name = channel.address
    parameters: dict[str, Any] = {
        part: {"description": words} for part, words in PARAMETERS.items() if f"{{{part}}}" in name
    }
    if "list" in parameters:
        parameters["list"]["enum"] = list(LISTS)
    if "stream" in parameters:
        parameters["stream"]["enum"] = [stream.value for stream in Stream]
    told: dict[str, Any] = {
        "address": name,
        "messages": {
            message: {"$ref": f"#/components/messages/{message}"} for message in channel.messages
        },
    }
    if parameters:
        told["parameters"] = parameters
    if channel.readers:
        told["x-read-by"] = {
            name: [station.value for station in stations]
            for name, stations in channel.readers.items()
        }
    return told


def _operation(name: str, channel: Channel) -> dict[str, Any]:
    form = Topic(kind=channel.kind, device=EXAMPLE)
    return {
        "action": "send" if publisher_of(channel.kind) is Side.DEVICE else "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [
            {"$ref": f"#/channels/{name}/messages/{message}"} for message in channel.messages
        ],
        "bindings": {"mqtt": {"qos": form.qos, "retain": form.retained, "bindingVersion": BINDING}},
    }


def _messages() -> dict[str, Any]:
    """What travels, then the facts, which are the lines of a batch."""
    found: dict[str, Any] = {}
    for travels in CARRIES.values():
        for message in travels.kinds:
            found[message.__name__] = _message(message, travels.form, travels.note)
    for fact in messages.FACT_KINDS:
        found[fact.__name__] = _message(fact, JSON, "A line of a batch.")
    found[HANDED_IN] = _message(messages.BatchHeader, LINES, HAND_IN_NOTE) | {"name": HANDED_IN}
    return dict(sorted(found.items()))


def _message(kind: type[Struct], form: str, note: str) -> dict[str, Any]:
    lines = (kind.__doc__ or "").strip().split("\n\n")[0]
    words = " ".join(" ".join((lines, note)).split())
    return {
        "name": kind.__name__,
        "contentType": form,
        **({"summary": words} if words else {}),
        "payload": {
            "schemaFormat": SCHEMA_FORMAT,
            "schema": {"$ref": f"schemas/wire.json#/$defs/{kind.__name__}"},
        },
    }


def _yaml(value: Any, depth: int) -> Iterator[str]:
    """Block style; every string is a JSON string, which YAML 1.2 reads as it stands."""
    pad = "  " * depth
    if isinstance(value, dict):
        for key, inner in value.items():
            name = key if key.replace("_", "").isalnum() else json.dumps(key)
            if isinstance(inner, dict | list) and inner:
                yield f"{pad}{name}:"
                yield from _yaml(inner, depth + 1)
            else:
                yield f"{pad}{name}: {json.dumps(inner, ensure_ascii=False)}"
    else:
        for inner in value:
            if isinstance(inner, dict):
                first, *rest = _yaml(inner, depth + 1)
                yield f"{pad}- {first.strip()}"
                yield from rest
            else:
                yield f"{pad}- {json.dumps(inner, ensure_ascii=False)}"
