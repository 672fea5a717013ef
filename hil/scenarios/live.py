"""A scenario on the real process in real time: edge on virtual pins, cards at virtual serial ports.

For scripts marked `live`. The lane waits for a body as long as it may, since a loaded machine is
slow; what stands on a screen for seconds alone is left to virtual time, and so are single pulses.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from edge import control
from edge.clock import Clock
from edge.messages import AccessFact, AnyFact, Order, Stream, decode_fact, encode_json
from edge.model import AccessReason, CorruptData, DeviceFault
from edge.offline_cache import marks, outbox
from edge.offline_cache.store import FileKind, Writer, open_reader
from hil.devices.reader_serial import VirtualSerialReader
from hil.scenarios.device import WALKING, make_folder
from hil.scenarios.play import Played, Reached, problems_of
from hil.scenarios.saying import books_problem
from hil.scenarios.script import Script, Step, duration_ms
from hil.scenarios.stage import TURN_MS, filled
from hil.scenarios.town import Town, uid_of

WAIT_MS: Final = 30_000  # edge/settings.py: no lane waits longer for a body.
PATIENCE_S: Final = 90.0  # Our choice: a crowded machine; an idle one answers in milliseconds.
LOOK_S: Final = 0.02
DEVICE: Final = "s0001-one"
LASTING: Final = ("granted", "lockdown")  # States of a screen that stand until something happens.


class LivePlace:
    """One edge process, its socket and its files."""

    def __init__(self, script: Script, folder: Path) -> None:
        self.shown = 0
        self.settings = make_folder(script, folder, DEVICE)
        town = Town(script, {DEVICE: script.station})
        clock = Clock(ZoneInfo(script.zone))
        self._clock = clock
        self._writer = Writer(self.settings.sync_path, FileKind.SYNC)
        now_ms = time.time_ns() // 1_000_000
        marks.set_anchor(self._writer, clock.moment(), now_ms)
        for scope in town.scopes:
            town.install(self.settings, self._writer, scope, clock.moment(), now_ms)
        self._orders = 0
        self._payload = b""
        self._readers = {
            name: VirtualSerialReader(folder / f"tty-{name}", frame="hex_line") for name in WALKING
        }
        self._log = folder / "edge.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge", "--config", str(self.settings.source)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def ready(self) -> bool:
        """It answers, and has opened lists, keys and time."""
        assert self._process.poll() is None, self._log.read_text()
        try:
            status = self.ask("status")
        except (DeviceFault, CorruptData):
            return False
        up = all(reader["up"] for reader in status["readers"])
        return bool(up and status["clock_trusted"] and status["lists"])

    def ask(self, request: str, **body: Any) -> dict[str, Any]:
        socket = self.settings.socket_path("edge")
        return control.ask(socket, {"request": request, **body}, timeout_s=PATIENCE_S)

    def act(self, step: Step) -> dict[str, Any] | None:
        match step.verb:
            case "tap":
                self._tap(step.given.get("at", "in"), uid_of(step.what))
            case "walk":
                for active in (True, False):
                    assert self.ask("move", line=f"{step.what}.rotation", active=active)["ok"]
                    time.sleep(TURN_MS / 1000)
            case "move":
                active = step.given.get("active", True)
                assert self.ask("move", line=step.what, active=active)["ok"]
            case "wait":
                time.sleep(duration_ms(step.what) / 1000)
            case "ask":
                return self.ask(step.what, **filled(step.given.get("with", {}), self.screen()))
            case "sign_in":
                return self._sign_in(step)
            case "order":
                self._order(step)
            case verb:
                raise AssertionError(f"{verb} is not played live; script.py refuses it")
        return None

    def facts(self) -> list[AnyFact]:
        db = open_reader(self.settings.journal_path, FileKind.JOURNAL)
        assert db is not None
        try:
            life = outbox.lives(db, Stream.MAIN)[-1]
            bodies = outbox.next_facts(db, life.life, 1, rows_max=10_000, bytes_max=1 << 26)
            return [decode_fact(body) for body in bodies]
        finally:
            db.close()

    def screen(self) -> dict[str, Any]:
        return self.ask("screen")

    def lit(self, line_id: str) -> bool:
        (lane,) = self.ask("status")["lanes"]
        return bool(lane["lines"][line_id])

    def opened(self) -> None:
        return None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers.values():
            reader.close()
        self._writer.close()

    def _tap(self, reader: str, uid: bytes) -> None:
        """Whoever is told to tap again, because the machine was too slow, does."""
        while True:
            before = len(self.facts())
            self._readers[reader].tap(uid)
            until(lambda before=before: len(self.facts()) > before)  # type: ignore[misc]
            new = self.facts()[before:]
            if not new or not _stale(new[0]):
                return
            self.shown = before + 1

    def _sign_in(self, step: Step) -> dict[str, Any]:
        assert self.ask("sign_in_start", role="officer")["ok"]
        self._readers["in"].tap(uid_of(step.what))
        asked: list[dict[str, Any]] = []

        def taken() -> bool:
            asked.append(self.ask("sign_in_pin", pin=step.given["pin"]))
            return bool(asked[-1]["ok"])

        until(taken)  # Once the card was read.
        return asked[-1]

    def _order(self, step: Step) -> None:
        """Into the inbox, where sync leaves an order that it has verified."""
        now_ms = time.time_ns() // 1_000_000
        if not step.given.get("replay", False):
            self._orders += 1
            self._payload = encode_json(
                Order(
                    device=DEVICE,
                    counter=self._orders,
                    order=step.what,
                    not_before_utc_ms=now_ms - 1_000,
                    not_after_utc_ms=now_ms + step.ms("valid", 10_000),
                    access_point=step.given.get("point"),
                )
            )
        marks.take_order(self._writer, self._orders, self._payload, self._clock.moment())
        control.ring(self.settings.socket_path("edge"))


def play_live(script: Script) -> Played:
    """In real time. Each step has long to become as it says."""
    assert script.live
    problems: list[str] = []
    with live_place(script) as place:
        place.shown = len(place.facts())
        for step in script.steps:
            answer = place.act(step)
            expected = {**step.expected, "screen": _lasting(step.expected.get("screen", {}))}
            expected.pop("text", None)

            def found(
                step: Step = step,
                expected: dict[str, Any] = expected,
                answer: dict[str, Any] | None = answer,
            ) -> list[str]:
                return problems_of(script, step, expected, place, answer)[0]

            until(lambda found=found: not found())  # type: ignore[misc]
            problems += found()
            place.shown = len(place.facts())
        facts = place.facts()
        wrong = books_problem(facts)
        problems += [f"{script.path.name}: {wrong}"] if wrong else []
    reached = Reached(reasons={fact.reason for fact in facts if isinstance(fact, AccessFact)})
    return Played(script=script, problems=tuple(problems), reached=reached)


def until(is_so: Callable[[], bool]) -> bool:
    """Wait for it with a bound; whether it came."""
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end_s:
            return False
        time.sleep(LOOK_S)
    return True


@contextmanager
def live_place(script: Script) -> Iterator[LivePlace]:
    with tempfile.TemporaryDirectory(prefix="scenario-") as folder:
        place = LivePlace(replace(script, wait_ms=WAIT_MS), Path(folder) / "one")
        try:
            assert until(place.ready), "edge did not become ready"
            yield place
        finally:
            place.close()


def _stale(fact: AnyFact) -> bool:
    return isinstance(fact, AccessFact) and fact.reason is AccessReason.STALE_READ


def _lasting(screen: dict[str, str]) -> dict[str, str]:
    return {point: words for point, words in screen.items() if words.split()[0] in LASTING}
