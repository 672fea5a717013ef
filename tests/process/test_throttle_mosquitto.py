"""Goal: a city that is crowded says how fast, and a device with much to say keeps to it from its
first batch on, and no longer than the city says so.

Method: the reference city and its broker, `sync` of a till as a process with three days of facts in
its journal; `POST /throttle` before it starts, and null while it drains. Only what a device may not
be faster than is timed: a loaded machine is slower.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import pytest

from edge.config import load
from tests.process.chaos import Chaos, Mosquitto
from tests.process.school import wait_until
from tests.process.test_backlog_mosquitto import DAYS, TAPS, Backlog, three_days

PER_S: Final = 20
BATCHES: Final = 5  # Four pauses of a second lie between them.
SEED: Final = 7

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_a_till_drains_no_faster_than_a_crowded_city_says(tmp_path: Path) -> None:
    with Backlog(tmp_path, SEED, Mosquitto(), [("till", DAYS * TAPS)]) as backlog:
        (device,) = backlog.devices
        three_days(load(device.station.config), str(SEED))
        (facts,) = backlog.heads().values()
        assert facts > 2 * PER_S * BATCHES
        city = backlog.city
        assert city.post("/throttle", {"per_s": PER_S}) == {"per_s": PER_S}
        began_s = time.monotonic()
        backlog._begin(device.station.sync)
        reach(backlog, PER_S * (BATCHES - 1) + 1)
        assert time.monotonic() - began_s >= BATCHES - 1, "one batch a second"
        city.post("/throttle", {"per_s": None})
        reach(backlog, facts)
        problems, _ = backlog.settle()
        assert problems == [], problems


def reach(backlog: Chaos, facts: int) -> None:
    wait_until(lambda: sum(backlog.progress().values()) >= facts, backlog.last_words)
