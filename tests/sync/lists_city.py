"""The lists of a small city, served to a `sync_world.World` by the wire's page: heads, manifests,
chunks and deltas, signed with `tests/support/small_city.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import structs

from edge.messages import (
    Delta,
    Manifest,
    Pull,
    PushChunk,
    PushDelta,
    PushManifest,
    RowBody,
    SignedWhat,
    VersionMark,
    b64u,
    encode_json,
    encode_pack,
)
from tests.support import small_city
from tests.sync.sync_world import DEVICE, World, signed_lines


@dataclass
class ListsCity:
    """Every scope with its snapshot and the deltas since. `chunks_max`: so many chunks are handed
    out, then it falls silent."""

    world: World
    scopes: dict[str, small_city.Scope] = field(default_factory=dict)
    manifests: dict[str, tuple[Manifest, list[bytes]]] = field(default_factory=dict)
    deltas: dict[tuple[str, VersionMark], Delta] = field(default_factory=dict)
    pulls: list[Pull] = field(default_factory=list)
    chunks_sent: int = 0
    chunks_max: int = 10**9

    def __post_init__(self) -> None:
        city, subscribed = self.world.city, self.world.city.subscribed
        city.answer_pull = self.answer

        def with_heads(topics: tuple[str, ...]) -> None:
            subscribed(topics)
            self.tell_heads()  # They stand retained.

        city.subscribed = with_heads  # type: ignore[method-assign]

    def begin(self, name: str, *rows: tuple[small_city.Key, RowBody]) -> None:
        """A list and its snapshot."""
        self.scopes[name] = small_city.Scope(name)
        self.scopes[name].put(*rows)
        self.snapshot(name)

    def snapshot(self, name: str, *, rows_per_chunk: int = 1) -> None:
        manifest, chunks = self.scopes[name].snapshot(rows_per_chunk=rows_per_chunk)
        self.manifests[name] = (
            structs.replace(manifest, snapshot_id=f"{name}#{manifest.version}"),
            chunks,
        )

    def change(self, name: str, *rows: tuple[small_city.Key, RowBody]) -> None:
        """One more version, told as it happens."""
        delta = self.scopes[name].put(*rows)
        self.deltas[name, delta.base] = delta
        self.tell_heads([name])

    def tell_heads(self, names: Iterable[str] = ()) -> None:
        for name in names or self.scopes:
            manifest, _ = self.manifests[name]
            head = structs.replace(
                self.scopes[name].head(),
                snapshot_id=manifest.snapshot_id,
                snapshot_version=manifest.version,
                root=b64u(hashlib.sha256(b"".join(manifest.chunk_hashes)).digest()),
            )
            signed = small_city.sign(SignedWhat.HEAD, encode_json(head), key="freshness")
            self.world.bridge.deliver(f"mk/v1/s/{name}/head", signed_lines(signed))

    def answer(self, pull: Pull) -> None:
        self.pulls.append(pull)
        if pull.scope not in self.manifests:
            return
        manifest, chunks = self.manifests[pull.scope]
        if pull.snapshot_id:
            for index in pull.chunks if pull.snapshot_id == manifest.snapshot_id else ():
                if self.chunks_sent < self.chunks_max:
                    self.chunks_sent += 1
                    data = chunks[index]
                    self._push(
                        PushChunk(
                            scope=pull.scope, snapshot_id=pull.snapshot_id, index=index, data=data
                        )
                    )
            return
        version, chain = pull.have, []
        while version is not None and (pull.scope, version) in self.deltas:
            chain.append(self.deltas[pull.scope, version])
            version = chain[-1].target
        for delta in chain:
            signed = small_city.sign(SignedWhat.DELTA, encode_pack(delta), key="list")
            self._push(PushDelta(signed=signed))
        if not chain:
            signed = small_city.sign(SignedWhat.MANIFEST, encode_pack(manifest), key="list")
            self._push(PushManifest(signed=signed))

    def _push(self, push: PushChunk | PushDelta | PushManifest) -> None:
        self.world.bridge.deliver(f"mk/v1/d/{DEVICE}/push", encode_pack(push))
