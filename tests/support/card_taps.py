"""What a reader's thread does with a card, and what it then reports to a station."""

from __future__ import annotations

import secrets

from edge.messages import AccessFact
from edge.readers.dialogue import Evidence, Failure, run
from edge.readers.proving import Prover
from edge.readers.reader import CardRead, ReadFailed
from hil.bench.card_station import (
    Station,
)
from hil.devices.cards.bench import lay
from hil.devices.cards.chip import Chip


def prove(station: Station, card: Chip) -> Evidence | Failure:
    """What a reader's thread does."""
    shown = lay(card)
    native = shown[:1] == b"\x04" and type(card).__name__.startswith("Ultralight")
    prover = Prover(station.keyring, random_bytes=secrets.token_bytes)
    dialogue = prover.dialogue(now_ms=0, shown=shown if native else None, native=native)
    return run(dialogue, transmit=card.apdu, now_ms=lambda: 0)


def tap(station: Station, outcome: Evidence | Failure) -> None:
    """And what it then reports. Somebody else has walked since the last tap."""
    station.time[0] += 10_000
    if isinstance(outcome, Failure):
        station.hand.waiting.append(
            ReadFailed(at_ms=station.time[0], failure=outcome, reader_id="r1")
        )
    else:
        station.hand.waiting.append(
            CardRead(
                uid=outcome.uid,
                at_ms=station.time[0],
                kind=outcome.uid_kind,
                tier=outcome.tier,
                reader_id="r1",
                evidence=outcome,
            )
        )
    station.step()


def last_access(station: Station) -> AccessFact:
    found = [fact for fact in station.facts() if isinstance(fact, AccessFact)]
    return found[-1]
