"""Sticks for a `sync_world.World`: written by the wire's page, spoilt by whoever wants to see it
refused. What a city signs is signed with `tests/support/small_city.py`. And a world without any
network, with what is asked of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import structs

from edge import logs
from edge.config import load
from edge.messages import (
    Delta,
    Head,
    Manifest,
    PushChunk,
    PushDelta,
    PushKeys,
    PushManifest,
    ScopeKey,
    SealedKeys,
    SignedWhat,
    UpdateRefused,
    VersionMark,
    b64u,
    encode_json,
    encode_pack,
)
from edge.settings import DeviceSettings
from sync.bridge_events import Loss
from sync.inbox_form import Answer, read_answer
from tests.support import small_city
from tests.support.pictures import seen
from tests.support.small_city import PEOPLE, SETTINGS, Scope, cardholder, credential, site
from tests.support.times import NOON_MS
from tests.sync.sync_world import DEVICE, World, signed_lines

NAME = "stick-0123456789abcdef"


def framed(messages: Iterable[bytes]) -> bytes:
    """Each behind its length in four bytes, big-endian."""
    return b"".join(len(one).to_bytes(4, "big") + one for one in messages)


@dataclass
class ListOfStick:
    """The messages of one list. Change any before they are written."""

    manifest: Manifest
    chunks: list[bytes]
    head: Head
    deltas: Sequence[Delta] = ()
    head_key: str = "freshness"
    list_key: str = "list"

    @classmethod
    def of(
        cls, scope: small_city.Scope, *, rows_per_chunk: int = 1, issued_utc_ms: int = NOON_MS
    ) -> ListOfStick:
        manifest, chunks = scope.snapshot(rows_per_chunk=rows_per_chunk)
        manifest = structs.replace(manifest, snapshot_id=f"{scope.name}#{scope.version}")
        head = structs.replace(
            scope.head(issued_utc_ms=issued_utc_ms),
            snapshot_id=manifest.snapshot_id,
            snapshot_version=manifest.version,
            root=b64u(hashlib.sha256(b"".join(manifest.chunk_hashes)).digest()),
        )
        return cls(manifest=manifest, chunks=chunks, head=head)

    def messages(self) -> list[bytes]:
        head = small_city.sign(SignedWhat.HEAD, encode_json(self.head), key=self.head_key)
        manifest = small_city.sign(
            SignedWhat.MANIFEST, encode_pack(self.manifest), key=self.list_key
        )
        made = self.manifest.snapshot_id
        scope = self.manifest.scope
        return [
            signed_lines(head),
            encode_pack(PushManifest(signed=manifest)),
            *(
                encode_pack(PushChunk(scope=scope, snapshot_id=made, index=index, data=data))
                for index, data in enumerate(self.chunks)
            ),
            *(
                encode_pack(
                    PushDelta(
                        signed=small_city.sign(SignedWhat.DELTA, encode_pack(one), key="list")
                    )
                )
                for one in self.deltas
            ),
        ]


@dataclass
class StickMaker:
    """The files of a stick, then its folder."""

    files: dict[str, tuple[dict[str, Any], bytes]] = field(default_factory=dict)

    def put(self, name: str, content: bytes, **more: str) -> StickMaker:
        self.files[name] = more, content
        return self

    def root(self, document: bytes) -> StickMaker:
        return self.put("root", framed([document]), what="root")

    def keys(self, world: World, *scopes: str, device: str = DEVICE) -> StickMaker:
        (point,) = world.city.points.values()
        sealed = []
        for scope in scopes:
            for purpose, key in (
                ("identifier", small_city.secret(f"identifier {scope}")),
                ("seal", small_city.secret(f"seal {scope} 1")),
            ):
                box = small_city.sealed_to(point, key, scope=scope, purpose=purpose, version=1)
                sealed.append(ScopeKey(scope=scope, purpose=purpose, version=1, sealed=box))
        told = SealedKeys(device=device, keys=tuple(sealed), issued_utc_ms=NOON_MS)
        signed = small_city.sign(SignedWhat.KEYS, encode_pack(told), key="list")
        message = encode_pack(PushKeys(signed=signed))
        return self.put(f"keys-{device}", framed([message]), what="keys", device=device)

    def list(self, one: ListOfStick | list[bytes], scope: str = "") -> StickMaker:
        if isinstance(one, ListOfStick):
            scope, one = scope or one.manifest.scope, one.messages()
        return self.put(f"list-{scope.replace('/', '-')}", framed(one), what="list", scope=scope)

    def index(self) -> bytes:
        files = [
            {"name": name, "size_bytes": len(content), **more}
            for name, (more, content) in self.files.items()
        ]
        return json.dumps({"files": files, "made_utc_ms": NOON_MS, "v": 1}).encode()

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        for name, (_, content) in self.files.items():
            (folder / name).write_bytes(content)
        (folder / "moskvenok-stick.json").write_bytes(self.index())
        return folder

    def put_in(self, world: World, name: str = NAME) -> Path:
        return self.write(inbox(world) / name)


def inbox(world: World) -> Path:
    return world.settings.folders.state / "inbox"


# ----------------------------------------------------------------------- without a network


class Offline(World):
    """No broker is ever reached."""

    def start(self, **clock: Any) -> None:
        self.city.refused = lambda _endpoint: (Loss.UNREACHABLE, "no network")
        super().start(**clock)


class Again(Offline):
    """Another process on the folder of one that is gone."""

    def _enrol(self) -> DeviceSettings:
        return load(self.folder / "device.toml")


@contextmanager
def offline(folder: Path) -> Iterator[World]:
    """A device that was never online."""
    made = Offline(folder)
    made.run()
    try:
        yield made
    finally:
        made.stop()
        logs.set_level("info")


def people(*names: str, number: int = 1) -> Scope:
    scope = Scope(PEOPLE, number=number - 1)
    scope.put(*(cardholder(name) for name in names), credential(b"\x04\x01\x02\x03", names[0]))
    return scope


def settings() -> Scope:
    scope = Scope(SETTINGS)
    scope.put(site())
    return scope


def version(world: World, scope: str = PEOPLE) -> VersionMark | None:
    found = seen(world.settings.folders.state, scope)
    return None if found is None else found[0]


def taken(world: World, name: str = NAME) -> Answer:
    """What sync says of the stick, and that it is gone."""
    world.run(5_000)
    answer = read_answer(inbox(world), name)
    assert answer is not None, "no answer"
    assert sorted(path.name for path in inbox(world).iterdir()) == [f"{name}.answer"]
    (inbox(world) / f"{name}.answer").unlink()
    return answer


def refusals(world: World) -> list[tuple[str, str, str]]:
    return [(f.what, f.scope, f.reason) for f in world.facts() if isinstance(f, UpdateRefused)]
