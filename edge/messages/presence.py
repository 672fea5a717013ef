"""Presence, greeting and health. Pure."""

from __future__ import annotations

from msgspec import field

from edge.messages.wire import WIRE_VERSION, Stream, VersionMark, Wire
from edge.model import ClockQuality, Station


class Status(Wire, frozen=True, kw_only=True):
    """Retained, and the will. A will of a lower connection is late: it hides no newer birth."""

    device: str  # Who.
    online: bool  # False: it went, or its connection broke (the will).
    boot: str  # Which start of the machine.
    connection: int  # Higher with each connection that the device makes.


class StreamHead(Wire, frozen=True, kw_only=True):
    """One epoch of a stream, as far as the device holds it."""

    stream: Stream  # Which stream.
    epoch: str  # Which life of its journal.
    head: int  # The last fact; 0: nothing yet.
    digest: str  # Of the fact at `head`.
    # The oldest fact still held: what is below it, and not with you, comes as a gap.
    held_from: int


class ConfigurationReport(Wire, frozen=True, kw_only=True):
    """Which desired configuration is in force, and what became of the newest one."""

    version: int  # In force; 0 is device.toml alone.
    wanted: int  # The newest the city asked for.
    state: str  # applied, trying, rolled_back, refused
    why: str = ""  # Of what was rolled back or refused: the name of the value, or what happened.


class Hello(Wire, frozen=True, kw_only=True):
    """What the device is and holds. The city answers each with a `Welcome`."""

    device: str  # Who.
    site: str  # The school that its device.toml names.
    station: Station  # What its device.toml says it is.
    boot: str  # Which start of the machine.
    connection: int  # As in the status of this connection.
    nonce: str  # Random; the welcome says it again. One welcome to each.
    software: str  # Its version.
    clock: ClockQuality  # How good its clock was when it said this.
    streams: tuple[StreamHead, ...]  # Every epoch of every stream still held.
    held: dict[str, VersionMark]  # scope -> version in force
    keys: dict[str, int]  # scope -> identifier key version held
    v: int = WIRE_VERSION
    key: str = ""  # base64url SHA-256 of the device key's uncompressed point.
    root: int = 0  # Version of the root document in force.
    configuration: ConfigurationReport | None = None  # See "Desired configuration".


class HighWater(Wire, frozen=True, kw_only=True):
    """Up to where the city has one epoch of a stream."""

    stream: Stream  # Which stream.
    epoch: str  # Which life of its journal.
    up_to: int  # You have committed all up to here; 0: nothing.
    digest: str = ""  # Of the fact, or the gap, at `up_to`; "" at 0.


class Welcome(Wire, frozen=True, kw_only=True):
    """Signed by the freshness key; the time in it is trusted because it answers our nonce."""

    device: str  # Whom it is for.
    nonce: str  # That of the hello.
    utc_ms: int  # Your time now, in milliseconds since 1970.
    # Of each epoch that the hello names (0 where you have nothing), and of others you know.
    high_water: tuple[HighWater, ...]
    wanted: dict[str, VersionMark]  # scope -> newest version, of each list that it may read
    # Facts a second that each stream may send; null: no limit. The next `Ack` of a stream replaces
    # it there.
    throttle_per_s: int | None = None
    v: int = WIRE_VERSION
    # To a till: which other tills of its site you hear now; see "Who else is live".
    live: tuple[str, ...] = ()


class Health(Wire, frozen=True, kw_only=True):
    """Each minute, QoS 0. Numbers only: a monitoring system may keep them for ever."""

    device: str  # Who.
    boot: str  # Which start of the machine.
    uptime_s: int  # Of the process that speaks with you.
    clock: ClockQuality  # How good its clock is.
    depth: dict[str, int]  # stream -> facts not acknowledged
    held: dict[str, VersionMark]  # scope -> version in force
    list_age_s: dict[str, int]  # scope -> age of the head that last confirmed it
    counters: dict[str, int]  # What happened since its start; `refused_...` among it.
    parts: dict[str, str]  # reader north-in -> up
    disk_free_bytes: int  # Where its state is.
    v: int = WIRE_VERSION
    edge_counters: dict[str, int] = field(
        default_factory=dict
    )  # Of the other process; none while it does not answer.
    gauges: dict[str, int] = field(
        default_factory=dict
    )  # Units stand last: commit_ms_p99, certificate_left_s, …
    configuration: ConfigurationReport | None = None  # As in `Hello`.
