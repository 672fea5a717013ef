"""A real agent on real files with its reader, lines and clock in a test's hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from edge import health
from edge.agent import Agent, Parts
from edge.clock import Anchor, Clock
from edge.config import load
from edge.messages import AnyFact, Stream, decode_fact
from edge.model import UidKind
from edge.offline_cache import marks, outbox
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import open_journal
from edge.offline_cache.store import FileKind, Writer
from edge.pin import PinDesk
from edge.readers.reader import CardRead
from edge.trust import FileKeyStore
from edge.turnstile.relay import open_lines
from edge.wiring import wiring_of
from hil.bench.station import DEVICE, SITE, build, uid_of
from hil.bench.taps import HandReader

UTC_MS = 1_773_000_000_000
BOOT = "b00t"


@dataclass
class Bench:
    """One station; `time` is the monotonic clock in ms."""

    agent: Agent
    reader: HandReader
    clock: Clock
    time: list[int]
    rings: list[int] = field(default_factory=list)
    killed: bool = False  # Ends without a word, as by kill -9: its lines fall, and no more.

    @property
    def gate(self) -> Any:
        return self.agent.gates["north-in"]

    def step(self, ms: int = 0) -> None:
        self.time[0] += ms
        self.agent.step(self.clock.moment())

    def tap(self, number: int, *, age_ms: int = 0, uid: bytes | None = None) -> None:
        """The n-th person's card, or one of this number, shown so long ago."""
        self.reader.waiting.append(
            CardRead(
                uid=uid if uid is not None else uid_of(number),
                at_ms=self.time[0] - age_ms,
                kind=UidKind.ISO14443,
                tier=1,
                reader_id="r1",
            )
        )
        self.step()

    def vanish(self) -> None:
        """What the system does for a process that is killed."""
        parts = self.agent.parts
        if parts.lines is not None:
            parts.lines.close()
        self.agent.staff.close()
        parts.cache.close()
        parts.journal.close()

    def walk(self) -> None:
        """A body pushes the arm round."""
        self.agent.move("north-in.rotation", True)
        self.agent.move("north-in.rotation", False)
        self.step(1)

    def basket(self, *lines: tuple[str, int]) -> str:
        assert self.agent.till is not None
        return self.agent.till.set_basket(lines, self.clock.moment())

    def facts(self) -> list[AnyFact]:
        """All of the epoch, the chain checked."""
        db = self.agent.parts.journal.writer.db
        life = outbox.lives(db, Stream.MAIN)[-1]
        assert outbox.chain_problem(db, life) == ""
        bodies = outbox.next_facts(db, life.life, 1, rows_max=1_000, bytes_max=1 << 20)
        return [decode_fact(body) for body in bodies]

    def screen(self) -> dict[str, Any]:
        """The only screen of this station."""
        (screen,) = health.screens(self.agent, self.clock.moment())["screens"]
        assert isinstance(screen, dict)
        return screen


@contextmanager
def station(
    folder: Path,
    *,
    people: int,
    till: bool = False,
    pins: PinDesk | None = None,
    device_toml: str = "",
    active: frozenset[str] = frozenset(),
    start_ms: int | None = None,
) -> Iterator[Bench]:
    """An entrance or a till whose lists were confirmed a moment ago.

    `active` names inputs that are so before the agent starts. With `start_ms` the station of this
    folder is started again at that time; everything is as it was left.
    """
    if start_ms is None:
        settings = build(folder, people, till=till, device_toml=device_toml)
    else:
        settings = load(folder / "device.toml")
    time = [start_ms or 1_000_000]
    clock = Clock(
        ZoneInfo("Europe/Moscow"), boot=BOOT, mono_ms=lambda: time[0], wall_ms=lambda: 0, ntp=bool
    )
    clock.anchor = Anchor(boot=BOOT, mono_ms=0, utc_ms=UTC_MS)
    moment = clock.moment()
    writer = Writer(settings.sync_path, FileKind.SYNC)
    with writer.transaction() as db:
        db.execute("DELETE FROM anchor")
        db.execute("UPDATE pictures SET issued_utc_ms = ?", (moment.wall_ms,))
    marks.set_anchor(writer, moment, moment.wall_ms)
    writer.close()
    journal = open_journal(
        settings.journal_path,
        device=DEVICE,
        site=SITE,
        station=settings.station,
        machine="bench",
        moment=moment,
    )
    wiring = wiring_of(settings)
    lines = (
        None if wiring is None else open_lines(wiring, now_ms=clock.mono_ms, active_at_start=active)
    )
    reader = HandReader()
    rings: list[int] = []
    parts = Parts(
        settings=settings,
        clock=clock,
        journal=journal,
        cache=Cache(settings.folders.state, device=DEVICE, site=SITE, journal=journal.writer.db),
        keys=FileKeyStore(settings.key_path),
        readers={"r1": (reader, "" if till else "north-in")},
        lines=lines,
        ring_sync=lambda: rings.append(journal.head),
        move_line=None if lines is None else lines.move,
        pins=pins,
    )
    agent = Agent(parts, moment)
    bench = Bench(agent, reader, clock, time, rings)
    try:
        bench.step()
        yield bench
    finally:
        if bench.killed:
            bench.vanish()
        else:
            agent.close()
