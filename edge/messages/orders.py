"""Keys, certificates, orders, and what a signature is for. Pure."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Final

from edge.messages.wire import WIRE_VERSION, Wire


class RootKey(Wire, frozen=True, kw_only=True):
    key_id: str
    role: str  # list, freshness, order, release
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
    KEYS = "keys"
    WELCOME = "welcome"
    ORDER = "order"
    ROOT = "root"
    RELEASE = "release"


SIGNING_ROLE: Final[dict[SignedWhat, str]] = {
    SignedWhat.HEAD: "freshness",
    SignedWhat.WELCOME: "freshness",
    SignedWhat.MANIFEST: "list",
    SignedWhat.DELTA: "list",
    SignedWhat.KEYS: "list",
    SignedWhat.ORDER: "order",
    SignedWhat.ROOT: "root",
    SignedWhat.RELEASE: "release",
}


class SignatureLine(Wire, frozen=True, kw_only=True):
    key_id: str
    signature: str
