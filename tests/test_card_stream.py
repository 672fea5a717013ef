"""Goal: in a stream of people, cards of all kinds, copies and torn ones each get their own answer,
through a restart of pcscd and an unplugged reader.

Method: as in `test_card_station.py`; 500 taps through the real PC/SC loop over a service in memory
that is restarted, and whose reader is unplugged, in the middle; and the real PN532 driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from edge.clock import Anchor, Clock
from edge.keyring import Keyring
from edge.messages import AccessFact
from edge.model import AccessReason, Outcome
from edge.readers.dialogue import Failure, Tier
from edge.readers.open_reader import open_reader
from edge.readers.pcsc import PcscSession
from edge.readers.proving import AWAY_MS_MIN, HOLD_MS
from edge.readers.reader import CardRead, LinkUp, Reader
from edge.readers.watch import REPEAT_MS_MAX
from edge.readers.worker import ReaderWorker, monotonic_ms
from edge.settings import DeviceSettings, ReaderSettings
from hil.bench.card_station import (
    NOON_MS,
    CardSchool,
    Station,
    build_station,
    card_school,
    running,
)
from hil.devices.cards.chip import Chip, UidCard
from hil.devices.reader_listener import Listener
from hil.devices.reader_pn532 import VirtualPn532
from hil.devices.reader_scard import VirtualScard

READER = "Lane 00 00"
TAPS = 500
AGAIN_MAX = 25  # Dialogues that ran out of time: one in twenty, on a machine far too busy.
assert AWAY_MS_MIN + REPEAT_MS_MAX < HOLD_MS  # So time alone does not let a card be asked again.
RECOVERY_MS_MAX = 2_000  # From the moment the service or the reader is back.


@pytest.fixture
def city(tmp_path: Path) -> Iterator[CardSchool]:
    with card_school(tmp_path) as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path, city: CardSchool) -> DeviceSettings:
    return build_station(tmp_path / "gate", city)


class Lane:
    """The real PC/SC loop and the real agent, and a clock that can be moved on."""

    def __init__(self, settings: DeviceSettings) -> None:
        self.ahead_ms = 0
        self.service = VirtualScard(READER)
        self.clock = Clock(ZoneInfo("Europe/Moscow"), boot="b00t", mono_ms=self.now_ms)
        self.clock.anchor = Anchor(boot="b00t", mono_ms=self.now_ms(), utc_ms=NOON_MS)
        self.keyring = Keyring(settings.folders.state, site="s0001")
        self.session = PcscSession(
            ReaderSettings(reader_id="r1", driver="pcsc", name="Lane"),
            scard=self.service,
            cards=self.keyring,
        )
        self.reader = ReaderWorker(
            reader_id="r1",
            session=self.session,
            wake=lambda: None,
            now_ms=self.now_ms,
        )

    def now_ms(self) -> int:
        return monotonic_ms() + self.ahead_ms

    def wait(self, station: Station, is_so: Callable[[], bool], limit_s: float = 10.0) -> int:
        """Step until it is so; how many milliseconds it took."""
        began_s = time.monotonic()
        while not is_so():
            waited_s = time.monotonic() - began_s
            assert waited_s < limit_s, (station.agent.readers["r1"].reason, station.agent.counters)
            station.agent.step(self.clock.moment())
            time.sleep(0.001)
        return round(1_000 * (time.monotonic() - began_s))


@contextmanager
def lane(settings: DeviceSettings) -> Iterator[tuple[Lane, Station]]:
    made = Lane(settings)
    with running(settings, clock=made.clock, reader=made.reader, keyring=made.keyring) as station:
        made.wait(station, lambda: station.agent.readers["r1"].up)
        yield made, station


EXPECTED = {  # In this order: no card has the number of the one before, or it would be a repeat.
    "pupil-ev2": (Outcome.GRANT, AccessReason.AUTHORIZED),
    "staff-424": (Outcome.GRANT, AccessReason.AUTHORIZED),
    "bank": (Outcome.DENY, AccessReason.UNKNOWN_CREDENTIAL),
    "clone": (Outcome.DENY, AccessReason.TIER_BELOW_ENROLLED),
    "guest-sun": (Outcome.GRANT, AccessReason.AUTHORIZED),
    "copy": (Outcome.DENY, AccessReason.TIER_BELOW_ENROLLED),
}


class TornAway(Chip):
    """Leaves the field after so many answers."""

    def __init__(self, card: Chip, answers: int) -> None:
        self._card, self._left = card, answers
        super().__init__(card.real_uid, keys={})

    def apdu(self, command: bytes) -> bytes:
        self._left -= 1
        return self._card.apdu(command) if self._left >= 0 else b""


@pytest.mark.slow
def test_500_taps_through_a_restart_and_an_unplugged_reader(
    city: CardSchool, gate: DeviceSettings
) -> None:
    cards = {name: city.cards.make(name) for name in EXPECTED}
    names, told = list(EXPECTED), []
    with lane(gate) as (made, station):
        gate_state, agent = station.agent.gates["north-in"], station.agent

        def answered() -> tuple[int, int]:
            counted = agent.counters.get
            return counted("reads", 0), counted("read_failed_deadline", 0)

        def torn() -> tuple[int, int]:
            return agent.counters.get("read_failed_left_field", 0), answered()[1]

        def show(name: str, card: Chip) -> None:
            """Until it is read: where the machine was too busy for the dialogue, the person is
            told so, and taps again."""
            reads, _ = answered()
            while answered()[0] == reads and answered()[1] <= AGAIN_MAX:
                made.service.insert(READER, card)
                before = answered()
                made.wait(station, lambda: answered() != before)  # noqa: B023
                made.service.remove(READER)
                made.ahead_ms += 4_000  # The next person; the same card again is no repeat.
            told.append(name)
            gate_state._last = None

        for number in range(TAPS):
            name = names[number % len(names)]
            if number == TAPS // 3:
                made.service.stop_service()
                made.wait(station, lambda: not agent.readers["r1"].up)
                made.service.insert(READER, cards["staff-424"])  # Shown to nobody.
                made.service.start_service()
                assert made.wait(station, lambda: agent.readers["r1"].up) < RECOVERY_MS_MAX
                made.service.remove(READER)
            if number == 2 * TAPS // 3:
                made.service.unplug(READER)
                made.wait(station, lambda: not agent.readers["r1"].up)
                made.service.replug(READER)
                assert made.wait(station, lambda: agent.readers["r1"].up) < RECOVERY_MS_MAX
            if number % 50 == 49:  # Somebody's hand is too quick; then it is held still.
                failed = torn()
                made.service.insert(
                    READER, TornAway(city.cards.make("staff-424"), number // 50 % 4 + 1)
                )
                made.wait(station, lambda: torn() != failed)  # noqa: B023
                made.service.remove(READER)
                made.ahead_ms += 4_000
            show(name, cards[name])
        facts = [fact for fact in station.facts() if isinstance(fact, AccessFact)]
        assert answered()[1] <= AGAIN_MAX, "the dialogues are too slow, not the machine"
    assert len(facts) == len(told) == TAPS, "none is lost, and none came by itself"
    for fact, name in zip(facts, told, strict=True):
        assert (fact.outcome, fact.reason) == EXPECTED[name], name
        assert fact.read_age_ms < 2_000
    assert {fact.tier for fact in facts if fact.outcome is Outcome.GRANT} == {
        Tier.SUN,
        Tier.SESSION,
    }


def test_a_copy_that_flutters_is_asked_once_and_again_when_it_was_taken_away(
    city: CardSchool, gate: DeviceSettings
) -> None:
    clone = city.cards.make("clone")
    with lane(gate) as (made, station):
        repeats = station.agent.readers["r1"].reader.counters

        def lay_down(is_so: Callable[[], bool]) -> None:
            made.service.insert(READER, clone)
            made.wait(station, is_so)
            made.service.remove(READER)

        def not_proven() -> int:
            return station.agent.counters.get("not_proven_wrong_key", 0)

        lay_down(lambda: not_proven() == 1)
        for number in (1, 2, 3):
            lay_down(lambda number=number: repeats().repeats == number)  # type: ignore[misc]
        assert clone.wrong_keys == 1
        # The worker saw an empty field; half a second later it may be asked again.
        attempts = made.session._prover._attempts
        made.wait(station, lambda: (attempts._gone_ms or 0) > attempts._failed_ms[clone.uid])
        made.ahead_ms += AWAY_MS_MIN + REPEAT_MS_MAX
        lay_down(lambda: not_proven() == 2)
        assert clone.wrong_keys == 2


class Number(UidCard):
    """A card with a settable UID: it refuses what it does not know."""

    def answer(self, command: bytes) -> bytes:
        return b"\x00"


@pytest.mark.slow
def test_a_pn532_asks_wristbands_and_cards_alike(
    tmp_path: Path, city: CardSchool, gate: DeviceSettings
) -> None:
    """The whole way of a raw channel: a chip on a pty, nfcpy, the keyring, the dialogue."""
    band, ahead_ms = city.cards.make("band-aes"), [0]

    def opened(wake: Callable[[], None]) -> Reader:
        settings = ReaderSettings(reader_id="r1", driver="pn532", port=str(device.path))
        return open_reader(
            settings,
            wake=wake,
            now_ms=lambda: monotonic_ms() + ahead_ms[0],
            cards=station.keyring,
        )

    with (
        running(gate) as station,
        VirtualPn532(tmp_path / "pn532") as device,
        Listener(opened) as one,
    ):
        one.expect(LinkUp)
        for card, tier, failure in (
            (band, Tier.ULTRALIGHT_AES, None),
            (city.cards.make("pupil-ev2"), Tier.SESSION, None),
            (band.clone(), Tier.NUMBER, Failure.WRONG_KEY),
            (city.cards.make("guest-sun"), Tier.SUN, None),
            (Number(band.real_uid), Tier.UID, Failure.UNKNOWN_FAMILY),
        ):
            device.lay(card)
            read = one.expect(CardRead)
            assert read.evidence is not None
            assert (read.uid, read.tier, read.evidence.failure) == (
                card.real_uid, tier, failure,
            )  # fmt: skip
            device.take_away()
            device.wait_looked()
            ahead_ms[0] += 2 * REPEAT_MS_MAX  # The next person.
