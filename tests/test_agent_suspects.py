"""Goal: what an agent cannot read of the city's lists it says once, and leaves for sync to look at.

Method: a real agent on real files (`agent_bench`); a row of a list in force is overwritten, and
seconds go by; then the list is replaced.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from edge import logs
from edge.offline_cache import marks
from hil.bench.station import SITE
from tests.support.agent_bench import Bench, station

PEOPLE, SETTINGS = f"{SITE}/people", f"{SITE}/settings"


def spoil(folder: Path, scope: str) -> None:
    (path,) = folder.glob(f"picture-{scope.replace('/', '-')}-*.db")
    db = sqlite3.connect(path)
    db.execute("UPDATE rows SET body = x'c1' WHERE kind IN (2, 48)")
    db.commit()
    db.close()


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logs.set_level("info")


def told(bench: Bench) -> dict[str, int]:
    return marks.suspects(bench.agent.parts.journal.writer.db)


def test_a_list_that_a_tap_could_not_read_is_left_for_sync(tmp_path: Path) -> None:
    with station(tmp_path, people=5) as bench:
        bench.step()
        bench.tap(1)
        assert told(bench) == {}
        bench.walk()
        spoil(bench.agent.parts.settings.folders.state, PEOPLE)
        rings = len(bench.rings)
        bench.tap(2)
        bench.step(1_000)
        assert told(bench) == {PEOPLE: 1} and len(bench.rings) > rings
        for _ in range(5):
            bench.step(1_000)
        assert told(bench) == {PEOPLE: 1}


def test_what_cannot_be_read_for_an_hour_is_said_seven_times_and_not_each_second(
    tmp_path: Path,
) -> None:
    logs.set_up("edge", level="error", stream=io.StringIO())
    with station(tmp_path, people=5) as bench:
        bench.step()
        spoil(bench.agent.parts.settings.folders.state, SETTINGS)
        bench.agent.parts.cache._small_at.clear()  # Another version came.
        for _ in range(3_600):
            bench.step(1_000)
        assert bench.agent.counters["look_failed"] == 3_600
        said = [line for line in logs.recent(0) if "cannot read what the city sent" in line]
        assert 6 <= len(said) <= 7
        assert told(bench) == {SETTINGS: 1}
