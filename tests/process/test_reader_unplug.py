"""Goal: a reader whose plug is pulled in a stream of people costs nobody a tap that was shown after
it is back, and lets nobody in by what lay there before.

Method: the real `edge` process on a station's real files, lists and sealed keys from the reference
city's books, a PN532 or a serial reader on a pty, a body that walks after each grant. The plug is
pulled between two people, with a card in the field, and for so long that reopening waits its
longest. 48 taps for each reader, 500 at night.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from edge import control
from edge.messages import AccessFact, AnyFact, Stream, decode_fact
from edge.model import AccessReason, DeviceFault, Outcome, UidKind
from edge.offline_cache import outbox
from edge.offline_cache.store import FileKind, open_reader
from edge.settings import DeviceSettings
from hil.bench.card_station import CardSchool, build_station, card_school
from hil.devices.cards.chip import Chip, UidCard
from hil.devices.reader_pn532 import VirtualPn532
from hil.devices.reader_serial import VirtualSerialReader

pytestmark = [pytest.mark.process, pytest.mark.slow]

TAPS: Final = 500 if os.environ.get("NIGHTLY") else 48
WAIT_S_MAX: Final = 60.0  # Our choice: another run may share the processors.
RECOVERY_S_MAX: Final = 2.0  # After every outage: what is promised of a plug put back.
LOOK_S: Final = 0.02  # Our choice: a status costs the agent something; asking takes nothing away.
AGAIN_S: Final = 3.2  # Past the rule that the same card again within 3 s is no new presentation.
LONG_OUTAGE_S: Final = 4.0  # By then the next try to open is 2 s away and more.
CROWD: Final = 12
PROVEN: Final = {"pupil-ev2": 6, "staff-424": 6, "guest-sun": 4, "band-aes": 3}


class Gate:
    """The `edge` process of one entrance, and the people in front of it."""

    def __init__(self, settings: DeviceSettings, log: Path) -> None:
        self.settings = settings
        self._log = log
        command = [sys.executable, "-m", "edge", "--config", str(settings.source)]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        self._walked = 0

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return control.ask(self.settings.socket_path("edge"), request)

    def wait(self, is_so: Callable[[], bool]) -> float:
        """Until it is so; how many seconds it took."""
        began_s = time.monotonic()
        while not self._holds(is_so):
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() - began_s < WAIT_S_MAX, self._log.read_text()[-3_000:]
            time.sleep(LOOK_S)
        return time.monotonic() - began_s

    def is_up(self) -> bool:
        (reader,) = self.ask({"request": "status"})["readers"]
        return bool(reader["up"])

    def reads(self) -> int:
        return int(self.ask({"request": "status"})["counters"].get("reads", 0))

    def let_walk(self) -> None:
        """Whoever may, walks through: the lane is free for the next."""
        granted = int(self.ask({"request": "status"})["counters"].get("access_grant", 0))
        if granted > self._walked:
            self._walked = granted
            for active in (True, False):
                self.ask({"request": "move", "line": "north-in.rotation", "active": active})

    def facts(self) -> list[AnyFact]:
        db = open_reader(self.settings.journal_path, FileKind.JOURNAL)
        assert db is not None
        life = outbox.lives(db, Stream.MAIN)[-1]
        bodies = outbox.next_facts(db, life.life, 1, rows_max=100_000, bytes_max=1 << 26)
        db.close()
        return [decode_fact(body) for body in bodies]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=WAIT_S_MAX) == 0, self._log.read_text()[-3_000:]

    def _holds(self, is_so: Callable[[], bool]) -> bool:
        try:
            return is_so()
        except DeviceFault:
            return False  # Not yet up, or busy.


class Crowd:
    """Cards one after another, no one again so soon that it would be the same presentation."""

    def __init__(self, city: CardSchool, *, proven: bool) -> None:
        plain = [
            card.uid
            for card in city.school.cards
            if card.uid_kind is UidKind.ISO14443 and len(card.uid) == 7
        ]
        self.outage = UidCard(plain[CROWD])  # Shown while the plug is out, and by nobody else.
        self.cards: list[tuple[str, Chip]] = [("", UidCard(uid)) for uid in plain[:CROWD]]
        if proven:
            self.cards += [(name, city.cards.make(name)) for name in PROVEN]
        self._shown_s = [-AGAIN_S] * len(self.cards)

    def next(self, number: int) -> tuple[str, Chip]:
        place = number % len(self.cards)
        time.sleep(max(0.0, self._shown_s[place] + AGAIN_S - time.monotonic()))
        self._shown_s[place] = time.monotonic()
        return self.cards[place]


@contextmanager
def gate_with(tmp_path: Path, city: CardSchool, reader: str) -> Iterator[Gate]:
    settings = build_station(tmp_path / "gate", city, reader=reader)
    gate = Gate(settings, tmp_path / "edge.log")
    try:
        gate.wait(gate.is_up)
        yield gate
        gate.end()
    finally:
        gate.process.kill()
        gate.process.wait()


def stream(gate: Gate, taps: int, *, show: Callable[[int], None],
           outages: dict[int, Callable[[], float]]) -> list[float]:  # fmt: skip
    """So many people; how long each outage's recovery took."""
    recoveries = []
    for number in range(taps):
        if number in outages:
            recoveries.append(outages[number]())
        before = gate.reads()
        show(number)
        gate.wait(lambda before=before: gate.reads() > before)  # type: ignore[misc]
        gate.let_walk()
    return recoveries


def nobody_was_lost(gate: Gate, taps: int) -> list[AccessFact]:
    facts = [fact for fact in gate.facts() if isinstance(fact, AccessFact)]
    assert len(facts) == taps == gate.reads(), "one fact for each who was shown, no other"
    assert all(fact.read_age_ms < 2_000 for fact in facts)
    assert all(fact.reason is not AccessReason.STALE_READ for fact in facts)
    return facts


def test_a_pn532_is_pulled_out_in_a_stream_of_people(tmp_path: Path) -> None:
    with (
        card_school(tmp_path) as city,
        VirtualPn532(tmp_path / "port") as device,
        gate_with(tmp_path, city, f'driver = "pn532"\nport = "{device.path}"') as gate,
    ):
        crowd = Crowd(city, proven=True)

        def show(number: int) -> None:
            device.take_away()
            device.lay(crowd.next(number)[1])

        def pull(*, for_s: float, in_the_middle: bool) -> Callable[[], float]:
            def outage() -> float:
                device.take_away()
                if in_the_middle:  # A card is being asked, and has said two things so far.
                    looks = device.looks
                    device.lay(city.cards.make("pupil-ev2"), leaves_after=2)
                    gate.wait(lambda: device.looks > looks)
                device.unplug()
                device.take_away()
                gate.wait(lambda: not gate.is_up())
                device.lay(crowd.outage)  # Shown to nobody; it still lies there afterwards.
                time.sleep(for_s)
                device.replug()
                recovery_s = gate.wait(gate.is_up)
                device.take_away()
                return recovery_s

            return outage

        recoveries = stream(
            gate,
            TAPS,
            show=show,
            outages={
                TAPS // 4: pull(for_s=0, in_the_middle=False),
                TAPS // 2: pull(for_s=0, in_the_middle=True),
                3 * TAPS // 4: pull(for_s=LONG_OUTAGE_S, in_the_middle=False),
            },
        )
        print("recovery, s:", [round(s, 2) for s in recoveries])
        assert max(recoveries) < RECOVERY_S_MAX
        facts = nobody_was_lost(gate, TAPS)
        for number, fact in enumerate(facts):
            name, _ = crowd.cards[number % len(crowd.cards)]
            assert fact.tier == PROVEN.get(name, 1), name
            if name:
                assert (fact.outcome, fact.reason) == (Outcome.GRANT, AccessReason.AUTHORIZED)


def test_a_serial_reader_is_pulled_out_in_a_stream_of_people(tmp_path: Path) -> None:
    reader = 'driver = "serial"\nframe = "hex_line"\nport = "{}"'
    with (
        card_school(tmp_path) as city,
        VirtualSerialReader(tmp_path / "port", frame="hex_line") as device,
        gate_with(tmp_path, city, reader.format(device.path)) as gate,
    ):
        crowd = Crowd(city, proven=False)

        def pull(for_s: float) -> Callable[[], float]:
            def outage() -> float:
                device.babble(device.encode(crowd.outage.uid)[:5])  # Half a card, and it is out.
                device.unplug()
                gate.wait(lambda: not gate.is_up())
                time.sleep(for_s)
                device.replug()
                device.tap(crowd.outage.uid)  # What its buffer kept comes when it is opened.
                return gate.wait(gate.is_up)

            return outage

        recoveries = stream(
            gate,
            TAPS,
            show=lambda number: device.tap(crowd.next(number)[1].uid),
            outages={TAPS // 3: pull(0), 2 * TAPS // 3: pull(LONG_OUTAGE_S)},
        )
        print("recovery, s:", [round(s, 2) for s in recoveries])
        assert max(recoveries) < RECOVERY_S_MAX
        nobody_was_lost(gate, TAPS)
