"""`make schemas`: the JSON Schemas of the wire and its AsyncAPI document, made from the code.

One file for what travels as JSON. MessagePack messages have the same schema; bytes are named there
as base64, which is how JSON Schema can speak of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from edge import messages
from hil import asyncapi

FOLDER = Path(__file__).parent.parent / "sync" / "schemas"
TOP = (
    *messages.FACT_KINDS,
    *(messages.BatchHeader, messages.Ack, messages.Status, messages.Hello, messages.Welcome),
    *(messages.Health, messages.Head, messages.Manifest, messages.Delta, messages.Pull),
    messages.SealedKeys,
    *(messages.PushManifest, messages.PushChunk, messages.PushDelta, messages.PushKeys),
    *(messages.PushPhoto, messages.PushRelease, messages.PushReleaseChunk, messages.Release),
    *(messages.Root, messages.Order, messages.SignatureLine, messages.Renew, messages.Renewed),
    *(messages.Renew, messages.Renewed),
    *(messages.PeerBeat, messages.PeerAsk, messages.SideRange),
    messages.StickIndex,
    *messages.ROW_BODIES.values(),
)


def schema() -> dict[str, Any]:
    """One document; every message and row under `$defs` by its name."""
    _, parts = msgspec.json.schema_components(TOP, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"The wire between device and city, version {messages.WIRE_VERSION}",
        "$defs": dict(sorted(parts.items())),
    }


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "wire.json").write_text(text())
    print(f"{FOLDER / 'wire.json'}: {len(schema()['$defs'])} definitions")
    asyncapi.PATH.write_text(asyncapi.text())
    print(f"{asyncapi.PATH}: {len(asyncapi.document()['channels'])} channels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
