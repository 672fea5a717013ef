"""What happens on the connection to a broker, as values: the links make them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from sync.session import Endpoint


@unique
class Loss(StrEnum):
    """Why there is no connection (any more)."""

    ASKED = "asked"  # We ended it.
    UNREACHABLE = "unreachable"  # No name, no route, nobody listening, or nobody in time.
    UNTRUSTED = "untrusted"  # The broker's certificate is not the city's.
    DATES = "dates"  # It would be, but for the dates: whose clock is wrong?
    DENIED = "denied"  # The broker does not want this identity.
    SILENT = "silent"  # It took the connection and never answered.
    TAKEN_OVER = "taken_over"  # The same client id connected elsewhere: an alarm.
    ENDED = "ended"  # The broker ended it and said why.
    OVERSIZE = "oversize"  # It sent what nobody should hold in memory.
    LOST = "lost"


# Reason codes of MQTT 5.0 (2.4); a broker of 3.1.1 says the same in other numbers.
_DENIALS: Final = {0x85, 0x86, 0x87, 0x8A, 0x8C, 0x9C, 0x9D}  # Who we are is not wanted here.
_SESSION_TAKEN_OVER: Final = 0x8E


def loss_of_code(code: int) -> Loss:
    """What a broker's reason for refusing or ending a connection means."""
    if code == _SESSION_TAKEN_OVER:
        return Loss.TAKEN_OVER
    return Loss.DENIED if code in _DENIALS else Loss.ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A new session; subscribe first, for nothing is remembered from any before."""

    endpoint: Endpoint
    protocol: str  # "5" or "3.1.1"
    receive_max: int  # Unacknowledged publishes the broker takes at once.
    packet_bytes_max: int | None  # The largest packet it takes; None: it did not say.
    keepalive_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """No connection, or none after all. Exactly one per `connect`. What was published and not
    yet answered is unknown: it is neither delivered nor not."""

    loss: Loss
    detail: str
    was_connected: bool


@dataclass(frozen=True, slots=True)
class Token:
    """Which delivery of which connection. Give it back to `Bridge.done` after the commit."""

    link: int
    mid: int  # 0: QoS 0, nothing to acknowledge.


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something came. The broker keeps it in flight until `done`."""

    topic: str
    payload: bytes = field(repr=False)
    retained: bool
    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The broker's PUBACK: worth pacing by, never worth deleting for."""

    number: int
    failure: str  # "" or the broker's reason, such as "Not authorized".
    heard: bool  # False: MQTT 5 said that nobody subscribes.


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionsReady:
    """The broker answered. A forbidden topic may be granted and stay silent all the same."""

    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Oversized:
    """A message above the wire's limit was thrown away and acknowledged."""

    topic: str
    size_bytes: int


BridgeEvent = Connected | Disconnected | Message | Published | SubscriptionsReady | Oversized
