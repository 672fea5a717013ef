"""Goal: from the city's key to the lane's relay: a card that proves itself is let in, a copy not.

Method: real processes (`school.py`): Mosquitto, the reference city, `edge` and `sync`, pcscd with
vpcd; model chips with cryptography of their own. The city seals their keys and sends them down the
wire; the entrance reads them over PC/SC. `edge` is killed between two showings of one message, a
card is torn away in the middle, pcscd is restarted in a stream of taps (12 of them; 500 at night).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from edge.messages import AccessFact, AnyFact, decode_fact
from edge.model import AccessReason, Outcome
from hil.city.card_keys import open_card_keys
from hil.devices.cards.chip import Chip
from hil.devices.cards.school import SchoolCards
from hil.devices.vpcd_card import EMPTY_S_MIN
from tests.process.oracle import is_drained, journal, of_kind
from tests.process.school import RERUN_S_MAX, World, run_checks_of, wait_until

STREAM_TAPS = 500 if os.environ.get("NIGHTLY") else 12
RECOVERY_S_MAX = 2.0
AGAIN_S = 3.2  # Past the rule that the same card again within 3 s is no new presentation.


@pytest.mark.process
@pytest.mark.slow
def test_cards_that_prove_something() -> None:
    run_checks_of(__file__, limit_s=RERUN_S_MAX + 3 * STREAM_TAPS)


class Lane:
    """The way in, with a PC/SC reader, and the cards of its school."""

    def __init__(self, world: World) -> None:
        self.world = world
        keys = open_card_keys(world.city.folder)
        assert keys is not None
        self.cards = SchoolCards(world.school, keys)
        self._slot = world.slot_out
        self._shown_s, self._shown = 0.0, b""

    def facts(self) -> list[AccessFact]:
        whole = [
            fact
            for (stream, _), facts in journal(self.world.gate).items()
            if stream == "main"
            for fact in facts
        ]
        return of_kind(_decoded(whole), AccessFact)

    def screen(self) -> dict[str, Any]:
        answer = self.world.gate.ask("screen")
        screens = [] if answer is None else answer["screens"]
        return next((s for s in screens if s["access_point"] == "north-in"), {})

    def counters(self) -> dict[str, int]:
        return dict((self.world.gate.ask("status") or {"counters": {}})["counters"])

    def reads(self) -> int:
        return self.counters().get("reads", 0)

    def show(self, card: Chip) -> AccessFact:
        """Lay the card down until it was read; the fact that came of it."""
        if card.real_uid == self._shown:
            time.sleep(max(0.0, self._shown_s + AGAIN_S - time.monotonic()))
        before = len(self.facts())
        self._slot.insert(card)
        wait_until(lambda: len(self.facts()) > before, self.world.gate.last_words)
        self._slot.remove()
        self._shown_s, self._shown = time.monotonic(), card.real_uid
        return self.facts()[-1]

    def show_and_fail(self, card: Chip) -> dict[str, Any]:
        """Lay a card down that names nobody; what the screen then says."""
        before = sum(n for name, n in self.counters().items() if name.startswith("read_failed"))
        self._slot.insert(card)
        wait_until(
            lambda: (
                sum(n for name, n in self.counters().items() if name.startswith("read_failed"))
                > before
            ),
            self.world.gate.last_words,
        )
        self._slot.remove()
        return self.screen()


def _decoded(bodies: list[bytes]) -> list[AnyFact]:
    return [decode_fact(body) for body in bodies]


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with World(tmp_path_factory.mktemp("school"), tls=False) as world:
        config = world.gate.config
        text = config.read_text()
        readers, mark, rest = text.partition("[[lanes]]")
        swapped = readers.replace("north-in", "?").replace("north-out", "north-in")
        config.write_text(swapped.replace("?", "north-out") + mark + rest)
        world.start_stations()
        yield Lane(world)


def check_genuine_cards_are_let_in_with_what_they_proved(lane: Lane) -> None:
    for name, tier in (("pupil-ev2", 6), ("staff-424", 6), ("guest-sun", 4)):
        fact = lane.show(lane.cards.make(name))
        assert (fact.outcome, fact.reason, fact.tier) == (
            Outcome.GRANT, AccessReason.AUTHORIZED, tier,
        ), name  # fmt: skip


def check_copies_are_refused_and_the_record_says_whose_they_are(lane: Lane) -> None:
    genuine = lane.show(lane.cards.make("staff-424"))
    for name, tier, counter in (
        ("clone", 0, "not_proven_wrong_key"),
        ("factory", 0, "not_proven_wrong_key"),
        ("copy", 1, "not_proven_unknown_family"),
    ):
        before = lane.counters().get(counter, 0)
        fact = lane.show(lane.cards.make(name))
        assert (fact.outcome, fact.reason, fact.tier) == (
            Outcome.DENY, AccessReason.TIER_BELOW_ENROLLED, tier,
        ), name  # fmt: skip
        assert fact.credential == genuine.credential and fact.cardholder == genuine.cardholder
        assert lane.counters()[counter] == before + 1
    bank = lane.show(lane.cards.make("bank"))
    assert bank.reason is AccessReason.UNKNOWN_CREDENTIAL


def check_a_phone_and_a_card_torn_away_say_so(lane: Lane) -> None:
    assert lane.show_and_fail(lane.cards.make("phone"))["reason"] == "random_uid"
    for answers in (1, 3, 5, 7):
        torn = lane.cards.make("pupil-ev2")
        honest, left = torn.apdu, [answers]

        def apdu(command: bytes, honest: Any = honest, left: list[int] = left) -> bytes | None:
            left[0] -= 1
            return honest(command) if left[0] >= 0 else None

        torn.apdu = apdu  # type: ignore[method-assign,assignment]
        assert lane.show_and_fail(torn)["reason"] == "left_field"
    assert lane.show(lane.cards.make("pupil-ev2")).outcome is Outcome.GRANT


def check_a_message_is_no_good_again_after_a_restart(lane: Lane) -> None:
    counter = 1_000
    first = lane.show(lane.cards.guest(counter=counter))
    assert first.outcome is Outcome.GRANT
    lane.world.gate.edge.restart()
    wait_until(lane.world.gate.is_ready, lane.world.gate.last_words)
    again = lane.show(lane.cards.guest(counter=counter))  # The same read, shown again.
    assert (again.outcome, again.reason) == (Outcome.DENY, AccessReason.REPLAYED)
    newer = lane.show(lane.cards.guest(counter=counter + 7))
    assert newer.outcome is Outcome.GRANT


def check_a_stream_of_cards_outlives_a_restart_of_pcscd(lane: Lane) -> None:
    names = ("pupil-ev2", "staff-424", "bank", "guest-sun")
    guest = lane.cards.guest(counter=2_000)
    before = len(lane.facts())
    for number in range(STREAM_TAPS):
        if number == STREAM_TAPS // 2:
            lane.world.pcscd.restart()
            began_s = time.monotonic()
            wait_until(lambda: _up(lane), lane.world.gate.last_words)
            assert time.monotonic() - began_s < RECOVERY_S_MAX
            time.sleep(EMPTY_S_MIN)
        name = names[number % len(names)]
        card = guest if name == "guest-sun" else lane.cards.make(name)
        fact = lane.show(card)
        wanted = Outcome.DENY if name == "bank" else Outcome.GRANT
        assert fact.outcome is wanted, (number, name, fact.reason)
        assert fact.read_age_ms < 2_000
    assert len(lane.facts()) == before + STREAM_TAPS, "one fact for each card, no other"


def check_the_city_has_it_all(lane: Lane) -> None:
    gate, city = lane.world.gate, lane.world.city
    wait_until(lambda: is_drained(lane.world), gate.last_words)
    held = journal(gate)
    facts: list[AccessFact] = []
    for (stream, epoch), bodies in held.items():
        if stream == "main":
            assert city.facts(gate.device, stream, epoch) == bodies
            facts += of_kind(_decoded(bodies), AccessFact)
    assert {fact.tier for fact in facts} == {0, 1, 4, 6}


def _up(lane: Lane) -> bool:
    status = lane.world.gate.ask("status")
    return status is not None and all(reader["up"] for reader in status["readers"])
