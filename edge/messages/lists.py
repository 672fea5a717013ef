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

    device: str  # A till of the site.
    stream: str  # main
    epoch: str  # One life of its journal.
    sequence: int  # The last fact of it that the balances include.


class Head(Wire, frozen=True, kw_only=True):
    """Retained, signed by the freshness key: the newest version of a scope."""

    scope: str  # The same as in the topic.
    version: VersionMark  # The newest there is.
    snapshot_id: str  # Which snapshot to fetch; see `Manifest`.
    # What that snapshot is of: `version`, or an older one with deltas from there on.
    snapshot_version: VersionMark
    root: str  # base64url of SHA-256 over the snapshot's chunk hashes, raw, one after another.
    set_digest: str  # base64url of the set digest of all rows at `version`.
    issued_utc_ms: int  # When you signed it. A device's list is as old as its newest head.
    # Refused when it arrives at this time or later (`frozen`); what is in force only ages.
    valid_until_utc_ms: int
    v: int = WIRE_VERSION


class Manifest(Wire, frozen=True, kw_only=True):
    """Signed by the list key: what a snapshot consists of."""

    scope: str  # Of which list.
    version: VersionMark  # What the rows are of.
    # Any text of yours, new for each snapshot: chunks are asked for and kept under it.
    snapshot_id: str
    # SHA-256 of each chunk as it travels, 32 bytes, in order; 1,800 chunks at most.
    chunk_hashes: tuple[bytes, ...]
    rows: int  # How many rows all chunks have together.
    set_digest: bytes  # Of all rows, 32 bytes.
    issued_utc_ms: int  # When you signed it.
    identifier_key_version: int  # Of the key that made the credential ids; 0: it has none.
    seal_key_version: int  # Of the key that sealed the columns; 0: none is sealed.
    vector: tuple[VectorEntry, ...] = ()  # Of `money`: up to where the balances include facts.
    v: int = WIRE_VERSION


class Delta(Wire, frozen=True, kw_only=True):
    """Signed by the list key: the change from exactly one version to the next."""

    scope: str  # Of which list.
    base: VersionMark  # It fits on exactly this version.
    target: VersionMark  # Of the same list epoch, with a higher number.
    upserts: tuple[Row, ...]  # New rows, and rows with another body.
    removes: tuple[RowKey, ...]  # Rows that are there no more.
    set_digest: bytes  # Of all rows after it, 32 bytes.
    issued_utc_ms: int  # When you signed it.
    vector: tuple[VectorEntry, ...] = ()  # Of `money`: the whole vector after it, as in `Manifest`.
    v: int = WIRE_VERSION


class Signed(Struct, frozen=True, array_like=True):
    """Something signed that travels in MessagePack: the payload's bytes as they were signed."""

    payload: bytes  # MessagePack of what is signed.
    key_id: str  # Which key of the root document.
    signature: bytes  # Ed25519, 64 bytes, over the signing input.


class ScopeKey(Wire, frozen=True, kw_only=True):
    """A scope's secret, sealed to one device's public key."""

    scope: str  # Whose key it is.
    purpose: str  # identifier, seal
    version: int  # From 1; of a seal key at most 255, for columns begin with it as a byte.
    sealed: bytes  # The 32 bytes of the key, sealed to the device.


class SealedKeys(Wire, frozen=True, kw_only=True):
    """Signed by the list key: secrets of some scopes, for one device."""

    device: str  # Whom they are sealed to.
    keys: tuple[ScopeKey, ...]  # All versions that rows in force are made with.
    issued_utc_ms: int  # When you signed it.
    v: int = WIRE_VERSION


class Release(Wire, frozen=True, kw_only=True):
    """Signed by a release key: one version of the software, for one kind of machine. Its bundle
    travels in chunks of `CHUNK_BYTES_MAX` bytes, the last of them as long as it is."""

    release: str  # As PEP 440 writes versions; the word of the order.
    sha256: str  # Of the bundle, 64 hex digits; the order's, too.
    size_bytes: int  # Of the bundle.
    chunk_hashes: tuple[bytes, ...]  # SHA-256 of each 57,344 bytes of it, the last of the rest.
    platform: str  # linux-x86_64, linux-aarch64, ...: what Python calls it.
    python: str  # 3.11
    # Kind of database -> the oldest schema version that it can take over.
    schema_from: dict[str, int]
    issued_utc_ms: int  # When you signed it.
    v: int = WIRE_VERSION


class Pull(Wire, frozen=True, kw_only=True):
    """One request for something to come down. Exactly one of the five groups is set."""

    device: str  # Who asks.
    scope: str = ""  # Alone: whose whole list is wanted, as a manifest.
    have: VersionMark | None = None  # With `scope`: deltas from here on, or a manifest.
    snapshot_id: str = ""  # With `scope` and `chunks`: of which snapshot.
    chunks: tuple[int, ...] = ()  # Numbers from 0, four at most.
    keys: tuple[str, ...] = ()  # Scopes whose keys are wanted, in one `PushKeys`.
    photos: tuple[str, ...] = ()  # Hashes as rows of `scope` name them, four at most.
    release: str = ""  # A bundle's SHA-256: alone for its manifest, with `chunks` for those.


class PushManifest(Wire, frozen=True, kw_only=True, tag_field="push", tag="manifest"):
    """What the newest snapshot consists of: where no deltas lead to the newest version."""

    signed: Signed  # Its payload is a `Manifest`.


class PushChunk(Wire, frozen=True, kw_only=True, tag_field="push", tag="chunk"):
    """One chunk that was asked for. Not signed: its hash is in the manifest."""

    scope: str  # Of which list.
    snapshot_id: str  # As the manifest says.
    index: int  # From 0.
    data: bytes  # zstd of a MessagePack array of `Row`; at most 57,344 bytes.


class PushDelta(Wire, frozen=True, kw_only=True, tag_field="push", tag="delta"):
    """One change of the chain that was asked for; they go one after another."""

    signed: Signed  # Its payload is a `Delta`.


class PushKeys(Wire, frozen=True, kw_only=True, tag_field="push", tag="keys"):
    """The keys of all scopes that were asked for, sealed to the device."""

    signed: Signed  # Its payload is a `SealedKeys`.


class PushPhoto(Wire, frozen=True, kw_only=True, tag_field="push", tag="photo"):
    """A piece of a photo, sealed as the column `photo` of its cardholder's row. Its hash is over
    the sealed bytes, and in a signed row, so it needs no signature of its own."""

    scope: str  # Whose row names it.
    hash: str  # base64url SHA-256 of all the pieces, one after another.
    part: int  # From 0.
    parts: int  # 0: the city has no such photo any more.
    data: bytes  # The piece, at most 57,344 bytes.


class PushRelease(Wire, frozen=True, kw_only=True, tag_field="push", tag="release"):
    """What a release consists of."""

    sha256: str  # Of the bundle that was asked for, 64 hex digits.
    signed: Signed | None  # Its payload is a `Release`; null: the city has no such release.


class PushReleaseChunk(Wire, frozen=True, kw_only=True, tag_field="push", tag="release_chunk"):
    """One chunk of a bundle. Not signed: its hash is in the `Release`."""

    sha256: str  # Of the bundle.
    index: int  # From 0.
    data: bytes  # 57,344 bytes of it; the last chunk has the rest.


AnyReleasePush = PushRelease | PushReleaseChunk
AnyPush = PushManifest | PushChunk | PushDelta | PushKeys | PushPhoto | AnyReleasePush
