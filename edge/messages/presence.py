"""Presence, greeting and health. Pure."""

from __future__ import annotations

from msgspec import field

from edge.messages.wire import WIRE_VERSION, Stream, VersionMark, Wire
from edge.model import ClockQuality, Station


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
    # To a till: which other tills of its site the city hears now. It counts for 60 s.
    live: tuple[str, ...] = ()


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
    edge_counters: dict[str, int] = field(
        default_factory=dict
    )  # Of the other process; none while it does not answer.
    gauges: dict[str, int] = field(
        default_factory=dict
    )  # Units stand last: commit_ms_p99, certificate_left_s, …
    configuration: ConfigurationReport | None = None
