"""Lists down: heads, manifests, deltas, and how they are asked for; releases too. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from edge.messages.rows import Row, RowKey
from edge.messages.wire import CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX, WIRE_VERSION, VersionMark, Wire

RELEASE_CHUNKS_MAX: Final = 1536  # Our choice: 84 MiB; all wheels of an entrance are 25 MB.
RELEASE_BYTES_MAX: Final = RELEASE_CHUNKS_MAX * CHUNK_BYTES_MAX
assert RELEASE_CHUNKS_MAX * 34 + 8 * 1024 < MESSAGE_BYTES_MAX  # Its hashes fit one message.


class VectorEntry(Struct, frozen=True, array_like=True):
    """The base includes this device's stream up to here."""

    device: str
    stream: str
    epoch: str
    sequence: int


class Head(Wire, frozen=True, kw_only=True):
    """Retained, signed by the freshness key: the newest version of a scope."""

    scope: str
    version: VersionMark
    snapshot_id: str
    snapshot_version: VersionMark
    root: str  # base64url SHA-256 over the snapshot's chunk hashes, one after another.
    set_digest: str
    issued_utc_ms: int
    valid_until_utc_ms: int
    v: int = WIRE_VERSION


class Manifest(Wire, frozen=True, kw_only=True):
    """Signed by the list key: what a snapshot consists of."""

    scope: str
    version: VersionMark
    snapshot_id: str
    chunk_hashes: tuple[bytes, ...]
    rows: int
    set_digest: bytes
    issued_utc_ms: int
    identifier_key_version: int
    seal_key_version: int
    vector: tuple[VectorEntry, ...] = ()
    v: int = WIRE_VERSION


class Delta(Wire, frozen=True, kw_only=True):
    """Signed by the list key: the change from exactly one version to the next."""

    scope: str
    base: VersionMark
    target: VersionMark
    upserts: tuple[Row, ...]
    removes: tuple[RowKey, ...]
    set_digest: bytes  # After it.
    issued_utc_ms: int
    vector: tuple[VectorEntry, ...] = ()
    v: int = WIRE_VERSION


class Signed(Struct, frozen=True, array_like=True):
    """Something signed that travels in MessagePack: the payload's bytes as they were signed."""

    payload: bytes
    key_id: str
    signature: bytes


class ScopeKey(Wire, frozen=True, kw_only=True):
    """A scope's secret, sealed to one device's public key."""

    scope: str
    purpose: str  # identifier, seal
    version: int
    sealed: bytes


class SealedKeys(Wire, frozen=True, kw_only=True):
    """Signed by the list key: secrets of some scopes, for one device."""

    device: str
    keys: tuple[ScopeKey, ...]
    issued_utc_ms: int
    v: int = WIRE_VERSION


class Release(Wire, frozen=True, kw_only=True):
    """Signed by a release key: one version of the software, for one kind of machine. Its bundle
    travels in chunks of `CHUNK_BYTES_MAX` bytes, the last of them as long as it is."""

    release: str  # As PEP 440 writes versions; the word of the order.
    sha256: str  # Of the bundle, 64 hex digits; the order's, too.
    size_bytes: int
    chunk_hashes: tuple[bytes, ...]
    platform: str  # linux-x86_64, linux-aarch64, ...: what Python calls it.
    python: str  # 3.11
    # Kind of database -> the oldest schema version that it can take over.
    schema_from: dict[str, int]
    issued_utc_ms: int
    v: int = WIRE_VERSION


class Pull(Wire, frozen=True, kw_only=True):
    """One request for something to come down. Exactly one of the five groups is set."""

    device: str
    scope: str = ""
    have: VersionMark | None = None
    snapshot_id: str = ""
    chunks: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    photos: tuple[str, ...] = ()  # Hashes as rows of `scope` name them; so many at once at most.
    release: str = ""  # A bundle's SHA-256: alone for its manifest, with `chunks` for those.


class PushManifest(Wire, frozen=True, kw_only=True, tag_field="push", tag="manifest"):
    signed: Signed


class PushChunk(Wire, frozen=True, kw_only=True, tag_field="push", tag="chunk"):
    scope: str
    snapshot_id: str
    index: int
    data: bytes


class PushDelta(Wire, frozen=True, kw_only=True, tag_field="push", tag="delta"):
    signed: Signed


class PushKeys(Wire, frozen=True, kw_only=True, tag_field="push", tag="keys"):
    signed: Signed


class PushPhoto(Wire, frozen=True, kw_only=True, tag_field="push", tag="photo"):
    """A piece of a photo, sealed as the column `photo` of its cardholder's row. Its hash is over
    the sealed bytes, and in a signed row, so it needs no signature of its own."""

    scope: str
    hash: str  # base64url SHA-256 of all the pieces, one after another.
    part: int  # From 0.
    parts: int  # 0: the city has no such photo any more.
    data: bytes


class PushRelease(Wire, frozen=True, kw_only=True, tag_field="push", tag="release"):
    """What a release consists of."""

    sha256: str
    signed: Signed | None  # None: the city has no such release.


class PushReleaseChunk(Wire, frozen=True, kw_only=True, tag_field="push", tag="release_chunk"):
    sha256: str
    index: int
    data: bytes


AnyReleasePush = PushRelease | PushReleaseChunk
AnyPush = PushManifest | PushChunk | PushDelta | PushKeys | PushPhoto | AnyReleasePush
