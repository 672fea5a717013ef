"""A city, a broker and some devices as real processes, and a hand that kills them in turn.

Mutual TLS and the access list as the city writes them; devices made by `moskvenok provision`.
`sync` of each is the product; in edge's place a child records facts by the product's own journal
(`chaos_writer.py`). Each kill comes when the city has so many facts, so facts are in motion at
each. Everything hangs on the seed but the operating system's timing.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import pytest

from edge.messages import Stream
from hil.city.mosquitto import broker_files
from tests.process import books
from tests.process.brokers import free_port, mosquitto_program
from tests.process.school import SITE, Child, City, Station, wait_until

STUCK_S: Final = 400.0  # Our choice: longer than the longest back-off of all (300 s).
LOOK_S: Final = 0.02
DOWN_S_MAX: Final = 1.0  # Our choice: a supervisor's restart, and a little more.
CALM_S_MAX: Final = 1.0  # Our choice: what is on the wire arrives in a tenth of it.
TRICKLE_S: Final = 0.15  # Our choice: fewer batches than a window while something is down.
AHEAD_MAX: Final = 4_000  # Our choice: how far a journal runs ahead of the city: 40 batches.
AHEAD_SHARE: Final = 8  # Our choice: an eighth of its facts in a short run,
CALM_SHARE: Final = 0.5  # Our choice: as many kills in a rush as in a lull.
KILLS_END: Final = 0.8  # and no kill after this part of a run: each finds every writer at work.
PERSISTENT: Final = """persistence true
persistence_location {folder}/store/
autosave_interval 1
autosave_on_changes true
"""


class Broker(Protocol):
    """What a run needs of its broker; the victims are its own."""

    url: str  # For the city.
    endpoints: tuple[str, ...]  # For devices.

    def prepare(self, folder: Path) -> None:
        """The city has written its files there."""
        ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def last_words(self) -> str: ...


class Mosquitto:
    """Real Mosquitto on a free port. It keeps its store over a kill, or comes back without."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"mqtts://127.0.0.1:{self.port}"
        self.endpoints: tuple[str, ...] = (self.url,)
        self._process: Child | None = None
        self._store = Path()

    def prepare(self, folder: Path) -> None:
        self._store = folder / "store"
        self._store.mkdir()
        text = broker_files(folder).configuration.read_text()
        own = folder / "chaos.conf"  # The city writes the other one anew at each start.
        own.write_text(text + PERSISTENT.format(folder=folder))
        self._process = Child(folder.parent / "broker.log", mosquitto_program(), "-c", str(own))

    def start(self) -> None:
        assert self._process is not None
        self._process.start()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def kill(self, *, empty: bool) -> None:
        assert self._process is not None
        self._process.kill()
        if empty:
            shutil.rmtree(self._store)
            self._store.mkdir()

    def last_words(self) -> str:
        return "" if self._process is None else self._process.last_words()


class ChaosCity(City):
    """The city, which may be started again: its newest line says where it listens."""

    def start(self) -> None:
        self.log.with_suffix(".out").unlink(missing_ok=True)
        self.log.with_suffix(".out").touch()
        super().start()

    @property
    def database(self) -> Path:
        return self.folder / "city.db"


@dataclass
class Device:
    """A station whose facts a child records."""

    station: Station
    writer: Child
    allowed: Path
    wanted: int

    @property
    def name(self) -> str:
        return self.station.device

    @property
    def state(self) -> Path:
        return self.station.folder / "state"

    def allow(self, number: int) -> None:
        """In one step: a reader sees the old number or the new."""
        part = self.allowed.with_suffix(".part")
        part.write_text(str(min(number, self.wanted)))
        part.replace(self.allowed)


@dataclass(frozen=True)
class Kill:
    """When the city has `at` facts: end something, wait, start it."""

    at: int
    what: str
    do: Callable[[random.Random], None]


@dataclass
class Chaos:
    """All of it; started when entered, ended when left."""

    folder: Path
    seed: int
    broker: Broker
    shares: Sequence[tuple[str, int]]  # (kind of station, facts of it): a device each.
    devices: list[Device] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Chaos:
        self._stack = ExitStack()
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self._prepare()
        for device in self.devices:
            device.allow(device.wanted // AHEAD_SHARE)
            self._begin(device.writer)
            self._begin(device.station.sync)

    def _prepare(self) -> None:
        """The city and its broker, up; the devices there, none of their processes begun."""
        files = self.folder / "broker"
        more = [word for url in self.broker.endpoints for word in ("--endpoint", url)]
        self.city = ChaosCity(self.folder, self.broker.url, "--mosquitto", str(files), *more)
        self._begin(self.city)
        for number, (kind, facts) in enumerate(self.shares, start=1):
            self.devices.append(self._device(number, kind, facts))
        self.broker.prepare(files)
        self._stack.callback(self.broker.stop)
        self.broker.start()
        wait_until(
            lambda: self.city.get("/status")["broker_connected"],
            lambda: self.city.last_words() + self.broker.last_words(),
        )

    def _device(self, number: int, kind: str, facts: int) -> Device:
        name = f"{SITE}-{kind}-{number}"
        station = Station(self.folder / name, name)
        reader = f"r1:serial:{self.folder}/no-tty:hex_line"
        lane = "north:mock:north-in=in:school:relay=17:rotation=27/up"
        options: tuple[str, ...] = ("--reader", reader)
        if kind == "entrance":
            options = ("--reader", f"{reader}:access_point=north-in", "--lane", lane)
        station.provision(self.city, *options, station=kind)
        allowed = self.folder / f"{name}.allowed"
        allowed.write_text("0")
        writer = Child(
            station.logs / "writer.log",
            *(sys.executable, "-m", "tests.process.chaos_writer", str(station.config)),
            *(str(facts), f"{self.seed}/{name}", str(allowed)),
        )
        return Device(station=station, writer=writer, allowed=allowed, wanted=facts)

    def _begin(self, child: Child) -> None:
        child.start()
        self._stack.callback(child.stop)

    # --------------------------------------------------------------------------- the run

    @property
    def wanted(self) -> int:
        return sum(device.wanted for device in self.devices)

    def progress(self) -> dict[str, int]:
        """Facts of `main` that the city has committed, by device."""
        try:
            db = books.open_city(self.city.database)
        except sqlite3.OperationalError:
            return {}
        try:
            rows = db.execute(
                "SELECT device, sum(up_to) FROM cursor WHERE stream = 'main' GROUP BY 1"
            )
            return dict(rows.fetchall())
        except sqlite3.OperationalError:
            return {}  # The city is just opening it.
        finally:
            db.close()

    def run(self, kills: Sequence[Kill]) -> None:
        """Facts, and kills between them, until the city has everything."""
        draw = random.Random(f"{self.seed}/run")
        began_s = time.monotonic()
        for kill in sorted(kills, key=lambda kill: kill.at):
            self._reach(kill.at)
            if draw.random() < CALM_SHARE:
                self._calm()
            print(f"{time.monotonic() - began_s:7.1f} s, {kill.at} facts: {kill.what}", flush=True)
            kill.do(draw)
            self.kills[kill.what] += 1
        self._reach(self.wanted)
        for device in self.devices:
            wait_until(lambda d=device: not d.writer.runs(), device.writer.last_words)  # type: ignore[misc]

    def _reach(self, number: int) -> None:
        moved, moved_s = -1, time.monotonic()
        while True:
            progress = self.progress()
            total = sum(progress.values())
            for device in self.devices:
                ahead = min(AHEAD_MAX, device.wanted // AHEAD_SHARE)
                device.allow(total * device.wanted // self.wanted + ahead)
            if total >= number:
                return
            if total > moved:
                moved, moved_s = total, time.monotonic()
            if time.monotonic() - moved_s > STUCK_S:
                pytest.fail(f"stuck at {total} of {number}: {self.last_words()}")
            time.sleep(LOOK_S)

    def _calm(self) -> None:
        """A lull: nothing new is recorded, and what is on the wire arrives. What `down` lets
        trickle then is lost alone, and the city sees a hole when it is back."""
        until_s = time.monotonic() + CALM_S_MAX
        while time.monotonic() < until_s:
            heads = self.heads()
            for device in self.devices:
                device.allow(heads[device.name])
            if sum(self.progress().values()) == sum(heads.values()):
                return
            time.sleep(LOOK_S)

    def down(self, draw: random.Random, max_s: float = DOWN_S_MAX) -> None:
        """Somebody is away, and now and then there is a tap all the same."""
        until_s = time.monotonic() + draw.uniform(0, max_s)
        while time.monotonic() < until_s:
            heads = self.heads()
            for device in self.devices:
                device.allow(heads[device.name] + 1)
            time.sleep(min(TRICKLE_S, max(0.0, until_s - time.monotonic())))

    def settle(self) -> tuple[list[str], books.Meant]:
        """Every stream is at rest and the city has it; then the books are held against the
        journals."""
        syncs = [device.station.sync for device in self.devices]
        until_s = time.monotonic() + STUCK_S
        while True:
            for sync in syncs:
                sync.send(signal.SIGSTOP)
            drained = self._is_drained()
            for sync in syncs:
                if drained:
                    sync.kill()
                else:
                    sync.send(signal.SIGCONT)
            if drained:
                self.city.stop()
                states = {device.name: device.state for device in self.devices}
                return books.problems(self.city.database, states)
            if time.monotonic() > until_s:
                pytest.fail(f"never at rest: {self.last_words()}")
            time.sleep(0.2)

    def _is_drained(self) -> bool:
        db = books.open_city(self.city.database)
        try:
            marks = books.cursors(db)
        finally:
            db.close()
        return all(
            marks.get((device.name, *place), (0, ""))[0] == head
            for device in self.devices
            for place, head in books.heads(device.state).items()
        )

    def heads(self) -> dict[str, int]:
        """Of `main`, by device."""
        return {d.name: sum(books.heads(d.state, (Stream.MAIN,)).values()) for d in self.devices}

    def last_words(self) -> str:
        words = [self.city.last_words(), self.broker.last_words(), json.dumps(self.progress())]
        for device in self.devices:
            words += [device.writer.last_words(), device.station.sync.last_words()]
        return "\n".join(words)

    # --------------------------------------------------------------------------- victims

    def restart(self, child: Child) -> Callable[[random.Random], None]:
        def do(draw: random.Random) -> None:
            child.kill()
            self.down(draw)
            child.start()

        return do

    def restart_writer(self, device: Device) -> Callable[[random.Random], None]:
        """Unless it has recorded everything already."""

        def do(draw: random.Random) -> None:
            alive = device.writer.runs()
            device.writer.kill()
            self.down(draw, DOWN_S_MAX / 4)
            device.writer.start()
            assert alive, (
                f"{device.name} had ended before it was killed: {device.writer.last_words()}"
            )

        return do


def spread_kills(
    seed: int, total: int, victims: Sequence[tuple[str, int, Callable[[random.Random], None]]]
) -> list[Kill]:
    """Each victim so many times, at random points of the run."""
    draw = random.Random(f"{seed}/kills")
    return [
        Kill(at=draw.randrange(total // 50, int(total * KILLS_END)), what=what, do=do)
        for what, times, do in victims
        for _ in range(times)
    ]
