"""A tap with a card that proves itself: the agent's share of it, beside a bare durable commit.

The card is a model chip in this process, so no radio and no pcscd is in it; what the chip takes to
compute its own side is taken out. What is left is what the device adds to the radio: the dialogue's
cryptography, the card's row and its sealed key (the *proof*), then the decision, its fact on disk,
the relay. The proof stands beside the same dialogue with its key at hand. The whole tap has the
same goal, disk included; the bare commit beside it says how much of that was the disk's.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from edge.readers.dialogue import Evidence, run
from edge.readers.proving import Prover
from edge.readers.reader import CardRead
from hil.bench.card_station import Station, build_station, card_school, running
from hil.bench.figures import Figure, figure, percentile
from hil.bench.taps import bare_commits
from hil.devices.cards.chip import Chip

TAPS = 600
WARM = 50
GOAL_MS = 5.0  # Our choice: a sixtieth of a tap's radio budget, so no reader waits for us.
CARDS = {
    "pupil-ev2": "DESFire EV2, random UID",
    "staff-424": "NTAG 424",
    "guest-sun": "NTAG 424 message",
}
FACT = bytes(600)  # An access fact of this bench is as long.


class Timed:
    """A card whose own computing time is kept apart."""

    def __init__(self, card: Chip) -> None:
        self.card = card
        self.own_s = 0.0

    def transmit(self, command: bytes) -> bytes:
        began_s = time.perf_counter()
        answer = self.card.apdu(command)
        self.own_s += time.perf_counter() - began_s
        return answer


@dataclass(frozen=True, slots=True)
class Taken:
    """One tap's share of the agent, in milliseconds."""

    proof_ms: float
    whole_ms: float


def tap(station: Station, prover: Prover, card: Chip) -> Taken:
    """One person's tap."""
    card.power(on=True)
    timed = Timed(card)
    now_ms = station.time[0]
    began_s = time.perf_counter()
    outcome = run(prover.dialogue(now_ms=now_ms), transmit=timed.transmit, now_ms=lambda: now_ms)
    proven_s = time.perf_counter()
    assert isinstance(outcome, Evidence), outcome
    read = CardRead(
        uid=outcome.uid,
        at_ms=now_ms,
        kind=outcome.uid_kind,
        tier=outcome.tier,
        reader_id="r1",
        evidence=outcome,
    )
    station.hand.waiting.append(read)
    station.step()
    ended_s = time.perf_counter()
    gate = station.agent.gates["north-in"]
    assert gate.relay_active, "every card of the bench may pass"
    station.agent.move("north-in.rotation", True)
    station.agent.move("north-in.rotation", False)
    if station.agent.parts.lines is not None:
        station.agent.parts.lines.let_go("north-in.relay")
    station.step(10_000)
    return Taken(
        1_000 * (proven_s - began_s - timed.own_s), 1_000 * (ended_s - began_s - timed.own_s)
    )


def bare_dialogue(station: Station, card: Chip) -> float:
    """The same conversation, its profile and key at hand; milliseconds of ours."""
    card.power(on=True)
    timed = Timed(card)
    (profile,) = station.keyring.candidates(card.real_uid)
    key = station.keyring.key_of(profile.profile_id, card.real_uid)
    dialogue = profile.dialogue(card.uid, key_of=lambda _: key, random_bytes=secrets.token_bytes)
    began_s = time.perf_counter()
    outcome = run(dialogue, transmit=timed.transmit, now_ms=lambda: 0)
    taken_s = time.perf_counter() - began_s - timed.own_s
    assert isinstance(outcome, Evidence), outcome
    return 1_000 * taken_s


def bare_commit(bare: sqlite3.Connection) -> float:
    began_s = time.perf_counter()
    bare.execute("BEGIN IMMEDIATE")
    bare.execute("INSERT INTO facts (body) VALUES (?)", (FACT,))
    bare.execute("COMMIT")
    return 1_000 * (time.perf_counter() - began_s)


def measure(folder: Path) -> list[Figure]:
    figures = []
    with card_school(folder) as city:
        settings = build_station(folder / "gate", city)
        bare = bare_commits(folder / "bare.db")
        for name, words in CARDS.items():
            card = city.cards.make(name)
            with running(settings) as station:
                prover = Prover(station.keyring, random_bytes=secrets.token_bytes)
                rounds = [
                    (tap(station, prover, card), bare_dialogue(station, card), bare_commit(bare))
                    for _ in range(TAPS + WARM)
                ][WARM:]
            proof = percentile([taken.proof_ms for taken, _, _ in rounds], 0.99)
            whole = percentile([taken.whole_ms for taken, _, _ in rounds], 0.99)
            dialogue = percentile([ms for _, ms, _ in rounds], 0.99)
            commit = percentile([ms for _, _, ms in rounds], 0.99)
            figures += [
                figure(
                    f"proof, the agent's share: {words} (p99)",
                    proof,
                    "ms",
                    limit=dialogue,
                    limit_name="dialogue, key at hand",
                    goal=f"<= {GOAL_MS:g} ms",
                    ok=proof <= GOAL_MS,
                ),
                figure(
                    f"tap with proof, the agent's share: {words} (p99)",
                    whole,
                    "ms",
                    limit=commit,
                    limit_name="bare durable commit",
                    goal=f"<= {GOAL_MS:g} ms",
                    ok=whole <= GOAL_MS,
                ),
            ]
        bare.close()
    return figures
