"""All that sync is put together from; tests bring their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge.certificates import Identity
from edge.clock import Clock
from edge.offline_cache.store import Writer
from edge.settings import DeviceSettings
from edge.trust import KeyStore
from sync.bridge import Bridge
from sync.neighbour import Neighbour
from sync.network_watch import NetworkWatch
from sync.roots import Roots
from sync.session import Endpoint
from sync.sessions import Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The adapters of process 2. `Sync.stop` closes bridge, neighbour, network and writer."""

    settings: DeviceSettings
    clock: Clock
    writer: Writer
    bridge: Bridge
    keys: KeyStore
    roots: Roots
    identity: Identity
    sessions: Sessions
    neighbour: Neighbour
    endpoints: tuple[Endpoint, ...]  # Of device.toml.
    random: Callable[[], float]
    ring_edge: Callable[[], None]
    network: NetworkWatch = field(default_factory=NetworkWatch)
