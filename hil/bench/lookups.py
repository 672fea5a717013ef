"""The decision alone, lookup included, over a school's list and over a whole city's.

By the clock, as a person at the gate has it, and over every decision. The processor time beside
it says how much of that was ours: nothing here waits for a disk, so the rest was other programs'
turn. With a commit `taps.py` measures.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from edge.model import AccessPoint, Direction, Outcome, Presentation, UidKind
from edge.settings import DeviceSettings
from edge.trust import credential_id
from edge.turnstile.decision import decide_access
from hil.bench.figures import Figure, figure, percentile
from hil.bench.station import IDENTIFIER_KEY, build, uid_of
from hil.bench.taps import agent_of

SMALL, LARGE = 10_000, 1_400_000
DECISIONS = 20_000  # Our choice: 180 of them lie above the p99.
GOAL_US = 200.0  # promises.md.
POINT = AccessPoint(access_point_id="north-in", zone_id="school", direction=Direction.IN)


@dataclass(frozen=True, slots=True)
class Taken:
    """One decision, in microseconds: by the clock, and of the processor."""

    wall_us: float
    processor_us: float


def measure(folder: Path) -> list[Figure]:
    small = decide_many(build(folder / "small", SMALL), SMALL)
    large = decide_many(build(folder / "large", LARGE), LARGE)
    limit = percentile([taken.wall_us for taken in small], 0.99)
    value = percentile([taken.wall_us for taken in large], 0.99)
    return [
        figure(
            f"decision with lookup, {LARGE:,} people (p99)",
            value,
            "µs",
            limit=limit,
            limit_name=f"with {SMALL:,} people",
            goal=f"<= {GOAL_US:g} µs and <= 2 x",
            ok=value <= GOAL_US and value <= 2 * limit,
        ),
        figure(
            "the same, processor time (p99)",
            percentile([taken.processor_us for taken in large], 0.99),
            "µs",
            limit=percentile([taken.processor_us for taken in small], 0.99),
            limit_name=f"with {SMALL:,} people",
            goal="shown",
            ok=True,
        ),
    ]


def decide_many(settings: DeviceSettings, people: int) -> list[Taken]:
    """Every decision's time, cards drawn at random with a fixed seed."""
    draw = random.Random(1)
    taken = []
    with agent_of(settings) as (agent, _, clock):
        agent.step(clock.moment())
        cache = agent.parts.cache
        cards = [
            credential_id(IDENTIFIER_KEY, UidKind.ISO14443, uid_of(draw.randrange(people)))
            for _ in range(DECISIONS)
        ]
        for identifier in cards:
            processor_s = time.thread_time()
            began_s = time.perf_counter()
            moment = clock.moment()
            view = cache.access_view(identifier, "school", moment)
            presentation = Presentation(credential_id=identifier, age_ms=0)
            decision = decide_access(presentation, view, POINT, moment.now())
            wall_s = time.perf_counter() - began_s
            taken.append(Taken(1e6 * wall_s, 1e6 * (time.thread_time() - processor_s)))
            assert decision.outcome is Outcome.GRANT
    return taken[DECISIONS // 10 :]  # Warm: the first tenth reads pages into the cache.
