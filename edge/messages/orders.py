"""Keys, certificates, orders, and what a signature is for. Pure."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Final

from edge.messages.wire import WIRE_VERSION, Wire


class RootKey(Wire, frozen=True, kw_only=True):
    """One key of the city, and what it may sign."""

    key_id: str  # How signatures name it.
    role: str  # list, freshness, order, release
    public: str  # base64url, Ed25519, 32 bytes


class Root(Wire, frozen=True, kw_only=True):
    """Names the keys in force; signed by the root key that a device was enrolled with."""

    version: int  # Higher with each document.
    keys: tuple[RootKey, ...]  # All keys in force; at least one of each role but `release`.
    issued_utc_ms: int  # When it was signed.
    list_epoch: int = 1  # The highest there is: only the root key raises it.
    v: int = WIRE_VERSION


class Renew(Wire, frozen=True, kw_only=True):
    """A device's request for its next certificate, sent under the one it has."""

    device: str  # Who asks.
    csr_pem: str  # Of a new EC P-256 key, signed by it; its name is not looked at.
    v: int = WIRE_VERSION


class Renewed(Wire, frozen=True, kw_only=True):
    """The answer to `Renew`. Nothing in it is secret; the chain proves it."""

    device: str  # Whom it is for.
    certificate_pem: str  # The device's, for the key of the request.
    chain_pem: str  # What issued it, up to the root certificate.
    v: int = WIRE_VERSION


class Order(Wire, frozen=True, kw_only=True):
    """The city asks one device to do something now. Signed; never retained."""

    device: str  # Who is to do it.
    counter: int  # Above that of every order before to this device.
    order: str  # The word: see "Orders".
    not_before_utc_ms: int  # Earlier it is refused (`early`).
    not_after_utc_ms: int  # From then on it is refused (`late`).
    access_point: str | None = None  # Of `open_once`.
    v: int = WIRE_VERSION
    scope: str = ""  # Of `reload_list`.
    process: str = ""  # edge or sync: of `restart`, `set_log_level`, `fetch_logs`.
    level: str = ""  # debug, info, warning, error: of `set_log_level`.
    minutes: int = 0  # Of `set_log_level` and `fetch_logs`.
    release: str = ""  # The version: of `update`.
    sha256: str = ""  # Of the bundle, 64 hex digits: of `update`.


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
    """The last line of a signed JSON message."""

    key_id: str  # Which key of the root document; among neighbours the device's id.
    signature: str  # base64url, over the signing input.
