"""The one shared schema: facts up, updates and orders down, their canonical bytes and versions.

Pure. What a person may want to read on the wire is JSON, one value a line; bulk rows are
MessagePack. Three rules keep the bytes the same on both ends:

- A fact is encoded once (`encode_fact`), stored so, sent so and stored so by the city. Its digest
  is SHA-256 over exactly those bytes, and the next fact of its stream carries it in `previous`.
- A batch is lines: a `BatchHeader`, then one fact a line. JSON written here holds no raw newline,
  so splitting at newlines gives the facts' bytes back untouched in any language.
- What is signed is signed over its bytes as sent (`signing_input`), never over a re-encoding.

Signatures and keys are `edge/trust.py`'s business, topics `sync/topics.py`'s. Every decoder here
takes a size limit and raises `CorruptData` with what was found; nothing else escapes.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from enum import StrEnum, unique
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from edge.model import (
    AccessReason,
    Category,
    Caveat,
    ClockQuality,
    CorruptData,
    Direction,
    Outcome,
    PassageResult,
    PassbackMode,
    PurchaseReason,
    Station,
    Tender,
)

WIRE_VERSION: Final = 1
MESSAGE_BYTES_MAX: Final = (
    64 * 1024
)  # protocol.md: every message; fits the strictest cloud brokers.
BATCH_BYTES_MAX: Final = 32 * 1024  # protocol.md.
BATCH_ROWS_MAX: Final = 100  # protocol.md; measured knee of facts per second against batch size.
FACT_BYTES_MAX: Final = 16 * 1024  # Our choice: a basket of 40 lines is 4 KiB; half a batch.
CHUNK_BYTES_MAX: Final = 56 * 1024  # Our choice: leaves room for envelope and topic in a message.
CHUNK_ROWS_BYTES_MAX: Final = 4 * 1024 * 1024  # Our choice: one chunk unpacked, zip bombs end here.
DIGEST_BYTES: Final = 32
NO_DIGEST: Final = ""  # `previous` of the first fact of an epoch.

assert BATCH_BYTES_MAX + FACT_BYTES_MAX < MESSAGE_BYTES_MAX
assert CHUNK_BYTES_MAX < MESSAGE_BYTES_MAX


@unique
class Stream(StrEnum):
    """One numbered chain of facts of a device."""

    MAIN = "main"  # Written by edge: every fact of the station.
    AGENT = "agent"  # Written by sync: its own answers, refused updates, declared gaps.
    DIAG = "diag"  # Written by sync: health; the only one whose oldest may go undeclared.


class Wire(Struct, frozen=True, kw_only=True):
    """Everything on the wire. Unknown fields are ignored, so a newer peer can add some."""


class VersionMark(Struct, frozen=True, array_like=True):
    """`[list_epoch, number]`."""

    list_epoch: int
    number: int


# ---------------------------------------------------------------------------- facts, up


class Fact(Wire, frozen=True, kw_only=True, tag_field="kind"):
    """What all facts carry. The key is (device, stream, epoch, sequence)."""

    device: str
    site: str
    stream: Stream
    epoch: str  # 16 hex digits, random, one life of a journal.
    sequence: int  # From 1, without gaps.
    previous: str  # base64url SHA-256 of the fact before it; "" at sequence 1.
    boot: str
    mono_ms: int
    wall_ms: int
    clock: ClockQuality


class StreamOpened(Fact, frozen=True, kw_only=True, tag="stream_opened"):
    """The first fact of every epoch: why a new life began."""

    why: str  # new_store, restored_image, damaged
    software: str
    station: Station
    after_epoch: str | None = None


class AccessFact(Fact, frozen=True, kw_only=True, tag="access"):
    """One access decision."""

    access_point: str
    zone: str
    direction: Direction
    reader: str
    tier: int
    credential: str
    cardholder: str | None
    outcome: Outcome
    reason: AccessReason
    caveats: tuple[Caveat, ...]
    people: VersionMark | None  # The list it was judged by, and how old that was.
    list_age_s: int | None
    read_age_ms: int


class PassageFact(Fact, frozen=True, kw_only=True, tag="passage"):
    """What became of a grant (`passage` names it), or of a body nobody had granted."""

    access_point: str
    zone: str
    direction: Direction
    result: PassageResult
    passage: str | None  # `<epoch>.<sequence>` of the grant's fact; None when forced.
    cardholder: str | None
    assumed: bool = False  # The lane has no sensor.


class SaleLine(Wire, frozen=True, kw_only=True):
    product: str
    category: str
    quantity: int
    price_minor: int  # Of one piece, from the catalogue version of the sale.


class Posting(Wire, frozen=True, kw_only=True):
    """One side of a ledger entry; the postings of a sale sum to zero."""

    account: str
    purse: str
    amount_minor: int


class SaleFact(Fact, frozen=True, kw_only=True, tag="sale"):
    """A basket sold. The green light came after this was on disk."""

    account: str
    cardholder: str
    credential: str
    tier: int
    reader: str
    lines: tuple[SaleLine, ...]
    total_minor: int
    tender: Tender
    postings: tuple[Posting, ...]
    business_date: str
    people: VersionMark
    money: VersionMark
    menu: VersionMark
    caveats: tuple[Caveat, ...]
    hold: int | None = None  # Sequence of the hold it replaces.


class SaleRefused(Fact, frozen=True, kw_only=True, tag="sale_refused"):
    """A basket refused, with the one reason."""

    credential: str
    cardholder: str | None
    lines: tuple[SaleLine, ...]
    total_minor: int
    reason: PurchaseReason
    business_date: str
    people: VersionMark | None
    money: VersionMark | None
    menu: VersionMark | None
    caveats: tuple[Caveat, ...]
    tier: int = 1
    reader: str = ""


class OrderAnswer(Fact, frozen=True, kw_only=True, tag="order_answer"):
    """An order accepted (and then acted on) or refused. Recorded before acting."""

    counter: int
    order: str
    accepted: bool
    why: str  # "" when accepted; else late, early, used_counter, unknown_order, not_here, clock
    access_point: str | None = None


class OrderOutcome(Fact, frozen=True, kw_only=True, tag="order_outcome"):
    """What came of an accepted order."""

    counter: int
    done: bool
    why: str = ""


class UpdateRefused(Fact, frozen=True, kw_only=True, tag="update_refused"):
    """Something came down that was not taken: what, of which scope, and why."""

    what: str  # head, manifest, chunk, delta, keys, order, welcome, ack
    scope: str
    reason: str


class Unrecorded(Fact, frozen=True, kw_only=True, tag="unrecorded"):
    """Facts that happened while the disk refused them: how many of which kind."""

    counts: dict[str, int]


AnyFact = (
    StreamOpened
    | AccessFact
    | PassageFact
    | SaleFact
    | SaleRefused
    | OrderAnswer
    | OrderOutcome
    | UpdateRefused
    | Unrecorded
)
FACT_KINDS: Final[tuple[type[Fact], ...]] = (
    StreamOpened,
    AccessFact,
    PassageFact,
    SaleFact,
    SaleRefused,
    OrderAnswer,
    OrderOutcome,
    UpdateRefused,
    Unrecorded,
)


class FactKey(Wire, frozen=True, kw_only=True):
    """The header of any fact, also of a kind this version does not know."""

    kind: str
    device: str
    stream: str
    epoch: str
    sequence: int
    previous: str


class Gap(Wire, frozen=True, kw_only=True):
    """Facts that are truly gone: the one way to move the city's high water past a hole."""

    source: int  # First missing sequence.
    target: int  # Last missing sequence.
    digest: str  # Of the last missing fact: what the next one carries in `previous`.
    counts: dict[str, int]  # By kind, as far as known.


class BatchHeader(Wire, frozen=True, kw_only=True):
    """First line of a batch."""

    device: str
    stream: Stream
    epoch: str
    first: int
    count: int
    digest: str  # Of its last fact (or of the gap when it has no rows).
    v: int = WIRE_VERSION
    gap: Gap | None = None  # Stands before the rows: `first` is `gap.target + 1`.


class Ack(Wire, frozen=True, kw_only=True):
    """The city has committed everything up to here. Cumulative: losing one is harmless."""

    device: str  # Whose stream it is.
    stream: Stream
    epoch: str
    up_to: int
    rewind: bool = False  # A batch began above `up_to + 1`: send again from there.
    problem: str = ""  # fork, unknown_device …: for a person.
    throttle_per_s: int | None = None  # Facts a second, when the city is crowded.


# ------------------------------------------------------------------- presence and time


class Status(Wire, frozen=True, kw_only=True):
    """Retained, and the will. A will of a lower connection is late: it hides no newer birth."""

    device: str
    online: bool
    boot: str
    connection: int


class StreamHead(Wire, frozen=True, kw_only=True):
    stream: Stream
    epoch: str
    head: int  # 0: nothing yet.
    digest: str  # Of the fact at `head`.
    held_from: int  # The oldest fact still held.


class Hello(Wire, frozen=True, kw_only=True):
    device: str
    site: str
    station: Station
    boot: str
    connection: int
    nonce: str
    software: str
    clock: ClockQuality
    streams: tuple[StreamHead, ...]
    held: dict[str, VersionMark]  # scope -> version in force
    keys: dict[str, int]  # scope -> identifier key version held
    v: int = WIRE_VERSION


class HighWater(Wire, frozen=True, kw_only=True):
    stream: Stream
    epoch: str
    up_to: int
    digest: str = ""


class Welcome(Wire, frozen=True, kw_only=True):
    """Signed by the freshness key; the time in it is trusted because it answers our nonce."""

    device: str
    nonce: str
    utc_ms: int
    high_water: tuple[HighWater, ...]
    wanted: dict[str, VersionMark]
    throttle_per_s: int | None = None
    v: int = WIRE_VERSION


class Health(Wire, frozen=True, kw_only=True):
    """Each minute, QoS 0. Numbers only: a monitoring system may keep them for ever."""

    device: str
    boot: str
    uptime_s: int
    clock: ClockQuality
    depth: dict[str, int]  # stream -> facts not acknowledged
    held: dict[str, VersionMark]
    list_age_s: dict[str, int]
    counters: dict[str, int]
    parts: dict[str, str]  # reader north-in -> up
    disk_free_bytes: int
    v: int = WIRE_VERSION


# -------------------------------------------------------------------------- lists, down


@unique
class RowKind(StrEnum):
    """Kinds of rows, by scope; `ROW_NUMBERS` gives the byte on the wire."""

    CARDHOLDER = "cardholder"
    CREDENTIAL = "credential"
    HOT = "hot"
    ACCOUNT = "account"
    PRODUCT = "product"
    SITE = "site"
    SCHEDULE = "schedule"
    ROSTER = "roster"


ROW_NUMBERS: Final[dict[RowKind, int]] = {
    RowKind.CARDHOLDER: 1,
    RowKind.CREDENTIAL: 2,
    RowKind.HOT: 3,
    RowKind.ACCOUNT: 16,
    RowKind.PRODUCT: 32,
    RowKind.SITE: 48,
    RowKind.SCHEDULE: 49,
    RowKind.ROSTER: 50,
}


KindByte = Annotated[int, Meta(ge=0, le=255)]  # As `row_hash` writes it: one byte,
KeyBytes = Annotated[bytes, Meta(max_length=0xFFFF)]  # and the key's length in two.


class Row(Struct, frozen=True, array_like=True):
    """`[kind, key, body]`: the body is MessagePack of the struct for that kind."""

    kind: KindByte
    key: KeyBytes
    body: bytes


class RowKey(Struct, frozen=True, array_like=True):
    kind: KindByte
    key: KeyBytes


class RowBody(Struct, frozen=True, array_like=True):
    """Bodies are arrays; a newer city may append fields."""


class CardholderRow(RowBody, frozen=True, array_like=True):
    category: Category
    account_id: str | None
    suspended: bool
    here: bool
    rights: dict[str, str]  # zone_id -> schedule_id
    allergens: tuple[str, ...]
    ward_ids: tuple[str, ...]
    sealed_name: bytes = b""
    sealed_group: bytes = b""
    photo_hash: str = ""


class CredentialRow(RowBody, frozen=True, array_like=True):
    """Key: the 16 raw bytes of the credential id."""

    cardholder_id: str
    tier: int
    valid_from_utc_s: int
    valid_until_utc_s: int


class HotRow(RowBody, frozen=True, array_like=True):
    """Key as `CredentialRow`. Refuse it at once, at any age of the list."""

    why: str  # lost, replaced, blocked


class AccountRow(RowBody, frozen=True, array_like=True):
    suspended: bool
    balance_minor_by_purse: dict[str, int]
    day_limit_minor: int | None
    week_limit_minor: int | None
    spent_date: str
    spent_day_minor: int
    spent_week_minor: int
    banned_products: tuple[str, ...]
    banned_categories: tuple[str, ...]


class ProductRow(RowBody, frozen=True, array_like=True):
    name: str
    category: str
    price_minor: int
    allergens: tuple[str, ...]
    allergens_checked: bool
    purse: str


class SiteRow(RowBody, frozen=True, array_like=True):
    """Key `site`: the settings a site's city has chosen, in force at the next tap."""

    time_zone: str
    currency: str
    floor_limit_minor: int
    list_age_amber_s: int
    list_age_refer_s: int
    passback_mode: PassbackMode
    passback_window_s: int
    base_age_days_max: int


class ScheduleRow(RowBody, frozen=True, array_like=True):
    """Windows of the week as minutes `[start, stop)`."""

    windows: tuple[tuple[int, int], ...]


class RosterRow(RowBody, frozen=True, array_like=True):
    """Key: device id."""

    station: Station


ROW_BODIES: Final[dict[int, type[RowBody]]] = {
    1: CardholderRow,
    2: CredentialRow,
    3: HotRow,
    16: AccountRow,
    32: ProductRow,
    48: SiteRow,
    49: ScheduleRow,
    50: RosterRow,
}


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


class Pull(Wire, frozen=True, kw_only=True):
    """One request for something to come down. Exactly one of the three groups is set."""

    device: str
    scope: str = ""
    have: VersionMark | None = None
    snapshot_id: str = ""
    chunks: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()


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
    keys: tuple[ScopeKey, ...]


AnyPush = PushManifest | PushChunk | PushDelta | PushKeys


# ---------------------------------------------------------------------- keys and orders


class RootKey(Wire, frozen=True, kw_only=True):
    key_id: str
    role: str  # list, freshness, order
    public: str  # base64url, Ed25519, 32 bytes


class Root(Wire, frozen=True, kw_only=True):
    """Names the keys in force; signed by the root key that a device was enrolled with."""

    version: int
    keys: tuple[RootKey, ...]
    issued_utc_ms: int
    v: int = WIRE_VERSION


class Order(Wire, frozen=True, kw_only=True):
    """The city asks one device to do something now. Signed; never retained."""

    device: str
    counter: int
    order: str
    not_before_utc_ms: int
    not_after_utc_ms: int
    access_point: str | None = None
    v: int = WIRE_VERSION


@unique
class SignedWhat(StrEnum):
    """What a signature is for: part of what is signed, so none serves in another's place."""

    HEAD = "head"
    MANIFEST = "manifest"
    DELTA = "delta"
    WELCOME = "welcome"
    ORDER = "order"
    ROOT = "root"


SIGNING_ROLE: Final[dict[SignedWhat, str]] = {
    SignedWhat.HEAD: "freshness",
    SignedWhat.WELCOME: "freshness",
    SignedWhat.MANIFEST: "list",
    SignedWhat.DELTA: "list",
    SignedWhat.ORDER: "order",
    SignedWhat.ROOT: "root",
}


class SignatureLine(Wire, frozen=True, kw_only=True):
    key_id: str
    signature: str


# ------------------------------------------------------------------------- bytes, both ways

T = TypeVar("T")
_FACT_DECODER: Final[msgspec.json.Decoder[AnyFact]] = msgspec.json.Decoder(AnyFact)
_FACT_KEY_DECODER: Final = msgspec.json.Decoder(FactKey)
_PUSH_DECODER: Final[msgspec.msgpack.Decoder[AnyPush]] = msgspec.msgpack.Decoder(AnyPush)
_JSON_ENCODER: Final = msgspec.json.Encoder()
_PACK_ENCODER: Final = msgspec.msgpack.Encoder()


def b64u(data: bytes) -> str:
    """base64url without padding, as ids, digests and keys stand in JSON."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_b64u(text: str) -> bytes:
    """The bytes behind `b64u`; `CorruptData` when it is not such text."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise CorruptData(f"not base64url: {len(text)} characters") from error
    if b64u(data) != text:  # The decoder drops what it does not know, and spare bits.
        raise CorruptData(f"not base64url as written here: {len(text)} characters")
    return data


def digest_of(fact: bytes) -> str:
    """A fact's digest, as the next one carries it in `previous`."""
    return b64u(hashlib.sha256(fact).digest())


def encode_json(value: Struct) -> bytes:
    return _JSON_ENCODER.encode(value)


def encode_pack(value: Any) -> bytes:
    return _PACK_ENCODER.encode(value)


def encode_fact(fact: Fact) -> bytes:
    """The canonical bytes: made once, in the tap's transaction."""
    data = _JSON_ENCODER.encode(fact)
    assert len(data) <= FACT_BYTES_MAX, "a fact is bounded by what its kind may hold"
    return data


def decode_fact(data: bytes) -> AnyFact:
    """A fact of a known kind, or `CorruptData`."""
    try:
        return _FACT_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"not a fact of version {WIRE_VERSION}: {error}") from error


def decode_fact_key(data: bytes) -> FactKey:
    """The key of any fact, also of a kind of a later version."""
    try:
        return _FACT_KEY_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"no fact at all: {error}") from error


def decode_json(kind: type[T], data: bytes, *, size_max: int = MESSAGE_BYTES_MAX) -> T:
    if len(data) > size_max:
        raise CorruptData(f"{kind.__name__}: {len(data)} bytes, more than {size_max}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"{kind.__name__}: {error}") from error


def decode_pack(kind: type[T], data: bytes, *, size_max: int = MESSAGE_BYTES_MAX) -> T:
    if len(data) > size_max:
        raise CorruptData(f"{kind.__name__}: {len(data)} bytes, more than {size_max}")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"{kind.__name__}: {error}") from error


def decode_push(data: bytes) -> AnyPush:
    if len(data) > MESSAGE_BYTES_MAX:
        raise CorruptData(f"push: {len(data)} bytes, more than {MESSAGE_BYTES_MAX}")
    try:
        return _PUSH_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"push: {error}") from error


def encode_batch(header: BatchHeader, facts: Sequence[bytes]) -> bytes:
    """Lines: the header, then the facts' bytes untouched."""
    assert header.count == len(facts)
    return b"\n".join((_JSON_ENCODER.encode(header), *facts))


def decode_batch(data: bytes) -> tuple[BatchHeader, list[bytes]]:
    """Header and facts' bytes. Checks counts, numbering and the chain inside the batch."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise CorruptData(f"batch: {len(data)} bytes, more than {MESSAGE_BYTES_MAX}")
    first_line, *facts = data.split(b"\n")
    header = decode_json(BatchHeader, first_line)
    if header.count != len(facts) or header.count > BATCH_ROWS_MAX or header.first < 1:
        raise CorruptData(f"batch: {len(facts)} facts from {header.first}, said {header.count}")
    if header.gap is not None and header.first != header.gap.target + 1:
        raise CorruptData(f"batch: rows from {header.first} behind a gap to {header.gap.target}")
    previous = header.gap.digest if header.gap is not None else None
    for sequence, fact in enumerate(facts, start=header.first):
        key = decode_fact_key(fact)
        mine = (header.device, header.stream, header.epoch, sequence)
        if (key.device, key.stream, key.epoch, key.sequence) != mine:
            raise CorruptData(f"batch: a fact of {key.stream} {key.sequence} in place {sequence}")
        if previous is not None and key.previous != previous:
            raise CorruptData(f"batch: the chain breaks before {sequence}")
        previous = digest_of(fact)
    if previous != header.digest:
        raise CorruptData("batch: its digest is not that of its last fact")
    return header, facts


def signing_input(what: SignedWhat, payload: bytes) -> bytes:
    """The bytes an Ed25519 signature is made over."""
    return b"moskvenok/v1/" + what.value.encode() + b"\n" + payload


def encode_signed_lines(payload: bytes, key_id: str, signature: bytes) -> bytes:
    """A signed JSON message: the payload's line, then the signature's."""
    assert b"\n" not in payload
    line = SignatureLine(key_id=key_id, signature=b64u(signature))
    return payload + b"\n" + _JSON_ENCODER.encode(line)


def decode_signed_lines(data: bytes, *, size_max: int = MESSAGE_BYTES_MAX) -> Signed:
    """The two lines apart; nothing is verified here."""
    if len(data) > size_max:
        raise CorruptData(f"signed message: {len(data)} bytes, more than {size_max}")
    payload, mark, rest = data.partition(b"\n")
    if not mark:
        raise CorruptData("signed message: no signature line")
    line = decode_json(SignatureLine, rest)
    return Signed(payload, line.key_id, from_b64u(line.signature))


def row_hash(row: Row) -> int:
    """A row's share of the set digest, as a number below 2**256."""
    head = bytes([row.kind]) + len(row.key).to_bytes(2, "big")
    return int.from_bytes(hashlib.sha256(head + row.key + row.body).digest(), "big")


SET_DIGEST_MODULUS: Final = 1 << (8 * DIGEST_BYTES)


def set_digest(rows: Iterable[Row]) -> int:
    """Order-free: the sum of the row hashes modulo 2**256."""
    total = 0
    for row in rows:
        total += row_hash(row)
    return total % SET_DIGEST_MODULUS


def set_digest_bytes(total: int) -> bytes:
    return total.to_bytes(DIGEST_BYTES, "big")


def decode_body(row: Row) -> RowBody:
    """A row's body by its kind; `CorruptData` for a kind or body that does not decode."""
    kind = ROW_BODIES.get(row.kind)
    if kind is None:
        raise CorruptData(f"a row of unknown kind {row.kind}")
    return decode_pack(kind, row.body, size_max=CHUNK_BYTES_MAX)
