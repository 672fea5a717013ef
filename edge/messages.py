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
RESTATES_BYTES_MAX: Final = 24 * 1024  # A whole fact in base64 (4/3 of it), and a header of 500 B.
CHUNK_BYTES_MAX: Final = 56 * 1024  # Our choice: leaves room for envelope and topic in a message.
CHUNK_ROWS_BYTES_MAX: Final = 4 * 1024 * 1024  # Our choice: one chunk unpacked, zip bombs end here.
DIGEST_BYTES: Final = 32
NO_DIGEST: Final = ""  # `previous` of the first fact of an epoch.

assert FACT_BYTES_MAX * 4 // 3 + 1024 < RESTATES_BYTES_MAX
assert BATCH_BYTES_MAX + RESTATES_BYTES_MAX < MESSAGE_BYTES_MAX
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

    why: str  # new_store, restored_image, damaged, city_ahead, lost_tail, lost_sync
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
    why: str  # "" when accepted; else unknown_order, not_here, arguments, too_often, busy, clock,
    #           early, late (edge/orders.py and sync/orders.py say when).
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


class LogLines(Fact, frozen=True, kw_only=True, tag="log_lines"):
    """What a process logged, by order `fetch_logs`, in parts; redacted where it was logged."""

    counter: int  # Of the order.
    process: str
    part: int  # From 1 to `parts`.
    parts: int
    lines: tuple[str, ...]


class Noted(Fact, frozen=True, kw_only=True, tag="noted"):
    """Something about the device itself that a person may ask about later."""

    what: str  # first_contact, root, configuration, certificate, key, refused_by_broker
    why: str = ""
    number: int | None = None  # A version, where there is one.
    until_utc_s: int | None = None  # An end, where there is one.


class Restates(Fact, frozen=True, kw_only=True, tag="restates"):
    """A fact of a closed epoch of this stream once more, by its original bytes.

    The epoch was closed because the city has other facts, or more of them, under its numbers: the
    journal was an old copy. What the city does not hold under that key with those bytes counts as
    if it had arrived there; what it does hold so, counts once.
    """

    old_epoch: str
    old_sequence: int
    body: bytes  # The fact's line as it was encoded; base64 in JSON.


class EpochClosed(Fact, frozen=True, kw_only=True, tag="epoch_closed"):
    """The end of an epoch that was closed: all that this device can still say of it was said."""

    old_epoch: str
    kept_up_to: int  # Up to here it is one history with the city's; above it facts are restated.
    head: int  # The last fact ever known here.
    restated: int
    missing: dict[str, int]  # Facts that are gone, by kind as far as known, else under `unknown`.


class Folded(Fact, frozen=True, kw_only=True, tag="folded"):
    """Facts of this stream that went, unacknowledged, to make room: never money."""

    of_epoch: str
    source: int  # First and
    target: int  # last of them.
    counts: dict[str, int]  # By kind.
    digest: str  # Of the fact at `target`, whose chain holds all before it.


class PartState(Fact, frozen=True, kw_only=True, tag="part_state"):
    """A part of the station went or came back. In `diag`, whose oldest go undeclared."""

    part: str  # link, reader r1, lane north, disk
    state: str  # up, down, tight, full
    why: str = ""


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
    | LogLines
    | Noted
    | Restates
    | EpochClosed
    | Folded
    | PartState
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
    LogLines,
    Noted,
    Restates,
    EpochClosed,
    Folded,
    PartState,
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


class ConfigurationReport(Wire, frozen=True, kw_only=True):
    """Which desired configuration is in force, and what became of the newest one."""

    version: int  # In force; 0 is device.toml alone.
    wanted: int  # The newest the city asked for.
    state: str  # applied, trying, rolled_back, refused
    why: str = ""


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
    key: str = ""  # base64url SHA-256 of the device key's uncompressed point.
    root: int = 0  # Version of the root document in force.
    configuration: ConfigurationReport | None = None


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
    edge_counters: dict[str, int] = {}  # Of the other process; none while it does not answer.
    gauges: dict[str, int] = {}  # Units stand last: commit_ms_p99, certificate_left_s, …
    configuration: ConfigurationReport | None = None


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
    DEVICE = "device"
    PROFILE = "profile"


ROW_NUMBERS: Final[dict[RowKind, int]] = {
    RowKind.CARDHOLDER: 1,
    RowKind.CREDENTIAL: 2,
    RowKind.HOT: 3,
    RowKind.ACCOUNT: 16,
    RowKind.PRODUCT: 32,
    RowKind.SITE: 48,
    RowKind.SCHEDULE: 49,
    RowKind.ROSTER: 50,
    RowKind.DEVICE: 51,
    RowKind.PROFILE: 52,
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
    """Key: the 16 raw bytes of the credential id.

    A card that can prove itself has a profile (a `ProfileRow` of the settings) and its own derived
    key: 16 bytes, sealed as a column `key` of this row.
    """

    cardholder_id: str
    tier: int
    valid_from_utc_s: int
    valid_until_utc_s: int
    profile: str = ""
    key_version: int | None = None
    sealed_key: bytes = b""


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


class PeerBroker(Struct, frozen=True, array_like=True):
    """A broker in the school: the device whose certificate it shows, and where it listens."""

    device: str
    endpoint: str  # mqtts://host:port


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
    peer_brokers: tuple[PeerBroker, ...] = ()  # The first, and its stand-by.


class ScheduleRow(RowBody, frozen=True, array_like=True):
    """Windows of the week as minutes `[start, stop)`."""

    windows: tuple[tuple[int, int], ...]


class RosterRow(RowBody, frozen=True, array_like=True):
    """Key: device id."""

    station: Station
    public: bytes = b""  # The device key: EC P-256, an uncompressed point.


class SdmMarks(Struct, frozen=True, array_like=True):
    """Offsets in bytes from the start of the NDEF file; NT4H2421Gx 9.3."""

    template: bytes
    mac_input: int
    mac: int
    picc_data: int | None = None
    uid: int | None = None
    counter: int | None = None
    file_data: int | None = None
    file_data_size: int = 0
    lrp: bool = False


class DeviceRow(RowBody, frozen=True, array_like=True):
    """Key: device id. What is set from afar on this one device; other versions, other settings."""

    version: int  # Above 0.
    values: dict[str, str | int | tuple[str, ...]]  # sync/desired.py lists what is known.


class ProfileRow(RowBody, frozen=True, array_like=True):
    """Key: profile id. How the city personalised one kind of card, and how it is asked.

    `family` is a word of `edge/readers/profile.py`. Shared keys are 16 bytes, sealed with the seal
    key of the *people* scope as columns `uid_key` and `meta_key` of this row.
    """

    family: str
    aid: bytes = b""  # DESFire: three bytes as they are sent.
    key_no: int = 0  # Of the card's own key.
    read: tuple[int, int, int, str] | None = None  # File, offset, size, mode; None: the real UID.
    uid_key_no: int | None = None  # Random UIDs: the shared key that opens GetCardUID.
    uid_key_version: int | None = None
    sealed_uid_key: bytes = b""
    non_first: bool = False
    read_key_version: bool = False
    cmac: bool = True  # Ultralight AES: False takes cards whose CMAC is off, as tier 2.
    version_page: int | None = None  # Ultralight: where the version of the key stands.
    sdm: SdmMarks | None = None  # NTAG 424 SUN: where its message is in the file.
    sealed_meta_key: bytes = b""


ROW_BODIES: Final[dict[int, type[RowBody]]] = {
    1: CardholderRow,
    2: CredentialRow,
    3: HotRow,
    16: AccountRow,
    32: ProductRow,
    48: SiteRow,
    49: ScheduleRow,
    50: RosterRow,
    51: DeviceRow,
    52: ProfileRow,
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


# ---------------------------------------------------- peers, over the school's own broker


@unique
class PeerKind(StrEnum):
    """What devices of one school say to each other; the last part of the topic."""

    SPEND = "spend"  # A till's `main`, whole: batch lines, as they go to the city.
    SIDE = "side"  # Passages taken at a lane: a `SideRange`, then the facts' lines.
    BEAT = "beat"  # A `PeerBeat`.
    ASK = "ask"  # A `PeerAsk`.


class PeerLife(Wire, frozen=True, kw_only=True):
    """One epoch of a device's `main`, as it stands in its journal."""

    epoch: str
    held_from: int  # The oldest fact it can still give.
    head: int  # The last fact that counts under this epoch.
    side: int = 0  # The last fact that concerns where people are; 0: none.


class PeerSeen(Wire, frozen=True, kw_only=True):
    """Whatever this device decided since rests on all of that epoch up to here."""

    device: str
    epoch: str
    up_to: int


class PeerBeat(Wire, frozen=True, kw_only=True):
    """I am here, and so far have I come. `lives` and `seen` come from one look at the journal."""

    device: str
    site: str
    session: str  # Random, one start of the process.
    counter: int  # From 1, in a session.
    nonce: str  # Random, of this beat.
    echo: dict[str, str]  # device -> the nonce last heard from it: what proves this beat is new.
    lives: tuple[PeerLife, ...]  # The current one last.
    store: str = ""  # Where `seen` was held: what another store has seen counts for nothing.
    seen: tuple[PeerSeen, ...] = ()
    base: VersionMark | None = None  # The money picture in force.
    v: int = WIRE_VERSION


class PeerWant(Wire, frozen=True, kw_only=True):
    """Please say again what you have of this epoch after that fact."""

    device: str  # Who has it.
    kind: PeerKind
    epoch: str
    after: int


class PeerAsk(Wire, frozen=True, kw_only=True):
    device: str
    site: str
    wants: tuple[PeerWant, ...]
    v: int = WIRE_VERSION


class SideRange(Wire, frozen=True, kw_only=True):
    """These are all the facts about where people are in `(after, up_to]` of that epoch."""

    device: str
    site: str
    epoch: str
    after: int
    up_to: int
    count: int
    v: int = WIRE_VERSION


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
    list_epoch: int = 1  # The highest there is: only the root key raises it.
    v: int = WIRE_VERSION


class Renew(Wire, frozen=True, kw_only=True):
    """A device's request for its next certificate, sent under the one it has."""

    device: str
    csr_pem: str  # Of a new EC P-256 key, signed by it; its name is not looked at.
    v: int = WIRE_VERSION


class Renewed(Wire, frozen=True, kw_only=True):
    """The answer to `Renew`. Nothing in it is secret; the chain proves it."""

    device: str
    certificate_pem: str
    chain_pem: str
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
    # Arguments, each of some orders; edge/orders.py says which.
    scope: str = ""
    process: str = ""  # edge, sync
    level: str = ""
    minutes: int = 0
    release: str = ""
    sha256: str = ""


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
    bytes_max = RESTATES_BYTES_MAX if isinstance(fact, Restates) else FACT_BYTES_MAX
    assert len(data) <= bytes_max, "a fact is bounded by what its kind may hold"
    return data


def decode_fact(data: bytes) -> AnyFact:
    """A fact of a known kind, or `CorruptData`."""
    if len(data) > RESTATES_BYTES_MAX:  # The largest kind's.
        raise CorruptData(f"a fact of {len(data)} bytes, more than {RESTATES_BYTES_MAX}")
    try:
        return _FACT_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"not a fact of version {WIRE_VERSION}: {error}") from error


def decode_fact_key(data: bytes) -> FactKey:
    """The key of any fact, also of a kind of a later version."""
    if len(data) > RESTATES_BYTES_MAX:  # The largest kind's.
        raise CorruptData(f"a fact of {len(data)} bytes, more than {RESTATES_BYTES_MAX}")
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


def peer_signing_input(kind: PeerKind, payload: bytes) -> bytes:
    """The bytes a device signs with its own key (ECDSA, P-256, SHA-256) for its peers."""
    return b"moskvenok/v1/peer/" + kind.value.encode() + b"\n" + payload


def encode_peer(payload: bytes, device: str, signature: bytes) -> bytes:
    """A peer's message: the payload's lines, then the signature's."""
    line = SignatureLine(key_id=device, signature=b64u(signature))
    return payload + b"\n" + _JSON_ENCODER.encode(line)


def decode_peer(data: bytes) -> Signed:
    """Payload and signature apart; nothing is verified here."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise CorruptData(f"peer message: {len(data)} bytes, more than {MESSAGE_BYTES_MAX}")
    payload, mark, last = data.rpartition(b"\n")
    if not mark:
        raise CorruptData("peer message: no signature line")
    line = decode_json(SignatureLine, last)
    return Signed(payload, line.key_id, from_b64u(line.signature))


def encode_sides(header: SideRange, facts: Sequence[bytes]) -> bytes:
    """Lines: the header, then the facts' bytes untouched."""
    assert header.count == len(facts)
    return b"\n".join((_JSON_ENCODER.encode(header), *facts))


def decode_sides(data: bytes) -> tuple[SideRange, list[PassageFact]]:
    """Header and facts, which are of this device and epoch and stand in order in the range."""
    first_line, *lines = data.split(b"\n")
    header = decode_json(SideRange, first_line)
    if header.count != len(lines) or header.count > BATCH_ROWS_MAX:
        raise CorruptData(f"sides: {len(lines)} facts, said {header.count}")
    if not 0 <= header.after <= header.up_to:
        raise CorruptData(f"sides: from {header.after} to {header.up_to}")
    facts: list[PassageFact] = []
    last = header.after
    for line in lines:
        fact = decode_fact(line)
        mine = (header.device, Stream.MAIN, header.epoch)
        if not isinstance(fact, PassageFact) or (fact.device, fact.stream, fact.epoch) != mine:
            raise CorruptData("sides: a fact that is no passage of this device and epoch")
        if not last < fact.sequence <= header.up_to:
            raise CorruptData(f"sides: fact {fact.sequence} behind {last} up to {header.up_to}")
        last = fact.sequence
        facts.append(fact)
    return header, facts


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
