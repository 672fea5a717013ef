"""Read -> relay with the commit, beside a bare durable commit of the same bytes on the same disk.

The agent, its journal and its lists are real; the reader hands over a read and the lane is mock
pins. A tap and a bare commit take turns, so that both see the same disk at the same time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

from edge.agent import Agent, Parts
from edge.clock import Clock
from edge.messages import Stream, Unrecorded
from edge.model import UidKind
from edge.offline_cache.lookup import Cache
from edge.offline_cache.outbox import lives, next_facts
from edge.offline_cache.record import open_journal
from edge.readers.reader import CardRead, LinkUp, ReaderCounters, ReaderEvent, Signal
from edge.settings import DeviceSettings
from edge.trust import FileKeyStore
from edge.turnstile.relay import open_lines
from edge.wiring import wiring_of
from hil.bench.figures import Figure, figure, percentile
from hil.bench.station import DEVICE, SITE, build, uid_of

PEOPLE = 100_000
OUTBOX = 100_000
TAPS = 2_000
BARE_MS_EXTRA = 2.0  # promises.md: at most twice a durable commit and 2 ms.


class HandReader:
    """A reader that reports what it is handed."""

    reader_id = "r1"
    alive_ms = 0

    def __init__(self) -> None:
        self.waiting: list[ReaderEvent] = [LinkUp(reader_id="r1")]

    def poll(self) -> list[ReaderEvent]:
        events, self.waiting = self.waiting, []
        return events

    def signal(self, signal: Signal) -> None:
        return

    def counters(self) -> ReaderCounters:
        return ReaderCounters()

    def close(self) -> None:
        return


@contextmanager
def agent_of(settings: DeviceSettings) -> Iterator[tuple[Agent, HandReader, Clock]]:
    """The real agent of a station, its reader in our hand."""
    clock = Clock(ZoneInfo(settings.time_zone))
    moment = clock.moment()
    journal = open_journal(
        settings.journal_path,
        device=DEVICE,
        site=SITE,
        station=settings.station,
        machine="bench",
        moment=moment,
    )
    wiring = wiring_of(settings)
    lines = None if wiring is None else open_lines(wiring, now_ms=clock.mono_ms)
    reader = HandReader()
    parts = Parts(
        settings=settings,
        clock=clock,
        journal=journal,
        cache=Cache(settings.folders.state, device=DEVICE, site=SITE, journal=journal.writer.db),
        keys=FileKeyStore(settings.key_path),
        readers={"r1": (reader, "" if lines is None else "north-in")},
        lines=lines,
        ring_sync=lambda: None,
        move_line=None if lines is None else lines.move,
    )
    agent = Agent(parts, moment)
    try:
        yield agent, reader, clock
    finally:
        agent.close()


def fill_outbox(agent: Agent, clock: Clock, facts: int) -> None:
    """Facts that wait for the city, a thousand a commit."""
    journal = agent.parts.journal
    while journal.head < facts:
        moment = clock.moment()
        with journal.record(moment) as filling:
            for _ in range(1_000):
                filling.add(Unrecorded(**filling.stamp(moment), counts={"access": 1}))


def bare_commits(path: Path) -> sqlite3.Connection:
    """One table, one row a commit, as durable as the journal."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE facts (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    return db


def measure(folder: Path) -> list[Figure]:
    settings = build(folder / "taps", PEOPLE)
    bare = bare_commits(folder / "bare.db")
    taps_ms: list[float] = []
    bare_ms: list[float] = []
    body = bytes(400)
    with agent_of(settings) as (agent, reader, clock):
        fill_outbox(agent, clock, OUTBOX)
        agent.step(clock.moment())
        gate = agent.gates["north-in"]
        for number in range(TAPS):
            started = time.perf_counter()
            read = CardRead(
                uid=uid_of(number % PEOPLE),
                at_ms=clock.mono_ms(),
                kind=UidKind.ISO14443,
                tier=1,
                reader_id="r1",
            )
            reader.waiting.append(read)
            agent.step(clock.moment())
            assert gate.relay_active, "every card of the bench may pass"
            taps_ms.append(1000 * (time.perf_counter() - started))
            if number == 0:
                life = lives(agent.parts.journal.writer.db, Stream.MAIN)[-1]
                body = next_facts(
                    agent.parts.journal.writer.db,
                    life.life,
                    life.head,
                    rows_max=1,
                    bytes_max=1 << 20,
                )[0]
            started = time.perf_counter()
            bare.execute("BEGIN IMMEDIATE")
            bare.execute("INSERT INTO facts (body) VALUES (?)", (body,))
            bare.execute("COMMIT")
            bare_ms.append(1000 * (time.perf_counter() - started))
            agent.move("north-in.rotation", True)
            agent.move("north-in.rotation", False)
            agent.step(clock.moment())
            agent.parts.lines.let_go("north-in.relay") if agent.parts.lines else None
    bare.close()
    figures = []
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        value, limit = percentile(taps_ms, share), percentile(bare_ms, share)
        figures.append(
            figure(
                f"read -> relay, decision committed ({name})",
                value,
                "ms",
                limit=limit,
                limit_name="bare durable commit",
                goal=f"<= 2 x commit + {BARE_MS_EXTRA:g} ms",
                ok=value <= 2 * limit + BARE_MS_EXTRA,
            )
        )
    return figures
