"""Names on the school's own broker: built, parsed, and what each station listens to. Pure."""

from __future__ import annotations

from edge.messages import PeerKind
from edge.model import Station
from sync.topics import HAND_IN, PREFIX


def topic_of(site: str, device: str, kind: PeerKind) -> str:
    return f"peer/{site}/{device}/{kind}"


def up_for(device: str, other: str) -> str:
    """On the city's broker: where a till hands in what another till has signed."""
    return f"{PREFIX}d/{device}/{HAND_IN}/{other}"


def parse_topic(site: str, topic: str) -> tuple[str, PeerKind] | None:
    """Who says it, and of which kind; None for a topic that is none of this school's."""
    match topic.split("/"):
        case ["peer", where, device, kind] if where == site and kind in set(PeerKind):
            return device, PeerKind(kind)
    return None


def subscriptions(site: str, station: Station) -> tuple[str, ...]:
    """Tills read all four, lanes what concerns passages."""
    return tuple(
        f"peer/{site}/+/{kind}"
        for kind in PeerKind
        if kind is not PeerKind.SPEND or station is Station.TILL
    )
