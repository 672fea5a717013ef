"""A lane at human pace, and what one passage writes to the disk.

People tap as soon as the lane takes the next one and walk as people do (`hil/devices/lane.py`), in
virtual time on the real agent: what the agent adds to their own pace is what is seen. Read to relay
is `taps.py`'s, the decision alone `lookups.py`'s.
"""

from __future__ import annotations

from pathlib import Path

from edge.messages import Stream
from edge.model import UidKind
from edge.offline_cache.outbox import lives, next_facts
from edge.readers.reader import CardRead
from hil.bench.figures import Figure, figure
from hil.bench.station import build, uid_of
from hil.bench.taps import agent_of
from hil.devices.lane import STEP_S, TURN_S
from hil.scenarios.rush import virtual_rush

PEOPLE = 120  # Some minutes at the lane.
PER_MINUTE_GOAL = 30  # promises.md.
PASSAGES = 1_000
PAGE_BYTES = 4_096  # SQLite's page, and a block of ext4.
FRAME_BYTES = PAGE_BYTES + 24  # sqlite.org/fileformat: a page in the WAL and its header.
WEAR_GOAL = 3  # promises.md.


def measure(folder: Path) -> list[Figure]:
    return [_pace(), _wear(folder)]


def _pace() -> Figure:
    rush = virtual_rush(people=PEOPLE, every_s=None)
    lost = rush.problem
    return figure(
        "passages per lane per minute, human pace" + (f": {lost}" if lost else ", none lost"),
        rush.per_minute,
        "/min",
        limit=60 / (STEP_S + TURN_S),
        limit_name="the people alone",
        goal=f">= {PER_MINUTE_GOAL}, none lost",
        ok=rush.per_minute >= PER_MINUTE_GOAL and not lost,
    )


def _wear(folder: Path) -> Figure:
    """Bytes the process hands to the kernel's files in a thousand passages, checkpoints too."""
    settings = build(folder / "wear", PASSAGES)
    with agent_of(settings) as (agent, reader, clock):
        agent.step(clock.moment())
        before = agent.parts.journal.head
        written = _written_bytes()
        for number in range(PASSAGES):
            read = CardRead(
                uid=uid_of(number),
                at_ms=clock.mono_ms(),
                kind=UidKind.ISO14443,
                tier=1,
                reader_id="r1",
            )
            reader.waiting.append(read)
            agent.step(clock.moment())
            for active in (True, False):
                agent.move("north-in.rotation", active)
                agent.step(clock.moment())
        written = _written_bytes() - written
        journal = agent.parts.journal
        life = lives(journal.writer.db, Stream.MAIN)[-1]
        bodies: list[bytes] = []
        while before + len(bodies) < journal.head:
            start = before + len(bodies) + 1
            bodies += next_facts(
                journal.writer.db, life.life, start, rows_max=500, bytes_max=1 << 24
            )
    assert len(bodies) == 2 * PASSAGES, "an access and a passage each"
    pages = sum(-(-len(body) // PAGE_BYTES) for body in bodies)
    limit = pages * (PAGE_BYTES + FRAME_BYTES) / PASSAGES
    value = written / PASSAGES
    return figure(
        "disk written per passage",
        value / 1024,
        "KiB",
        limit=limit / 1024,
        limit_name="facts in whole pages + WAL",
        goal=f"<= {WEAR_GOAL} x",
        ok=value <= WEAR_GOAL * limit,
    )


def _written_bytes() -> int:
    """proc_pid_io(5): what this process has written by system calls so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))
