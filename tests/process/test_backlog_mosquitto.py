"""Goal: tills that were cut off for three days drain and reconcile within ten minutes: the city
then has every fact once, and its totals are those of the journals and of every Z report.

Method: real Mosquitto with mutual TLS, the reference city, `sync` of four tills. Three days of
sales and a close-out each are recorded by the product's own journal and till desk while no `sync`
runs; then all four start at once. The city's database is held against the journals, fact for fact
(`books.py`), and against the reports, tender by tender.
4 tills x 3 days x 2,000 sales with NIGHTLY=1, a fortieth of it in every run.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from edge.clock import moment_at
from edge.config import load
from edge.counter import Counter as TillCounter
from edge.machine import machine_id
from edge.messages import CloseOut, SaleFact, decode_fact
from edge.model import ClockQuality, Moment, Station, SupervisedAct
from edge.offline_cache.card_counters import CardCounters
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal, open_journal
from edge.pos.closeout import equals_journal, totals_of
from edge.settings import DeviceSettings
from edge.till_desk import TillDesk
from hil.world.school import make_school
from tests.process import books
from tests.process.chaos import Chaos, Mosquitto
from tests.process.chaos_writer import Tapping
from tests.process.school import SEED as SCHOOL_SEED
from tests.support.times import MOSCOW

NIGHT: Final = bool(os.environ.get("NIGHTLY"))
TILLS, DAYS = 4, 3
SALES: Final = 2_000 if NIGHT else 50
TAPS: Final = SALES * 5 // 2  # Staff without an account, and a fifth of the others, are refused.
BATCH: Final = 100  # Taps in one transaction: the drill is about draining, not about recording.
DRAIN_S_MAX: Final = 600.0  # ledger.md: within ten minutes.
DAY_MS: Final = 24 * 60 * 60 * 1000
SEED: Final = 7

pytestmark = [pytest.mark.process, pytest.mark.slow]


class Cashier:
    def cashier(self, _moment: Moment) -> str:
        return "s0001c9003"

    def supervise(self, _moment: Moment, _act: SupervisedAct) -> str:
        return ""


class Backlog(Chaos):
    """As ever, but nobody writes, and `sync` starts when it is told."""

    def _start(self) -> None:
        self._prepare()

    def drain(self) -> float:
        """Seconds from the first process's start until the city has everything."""
        heads = sum(self.heads().values())
        began_s = time.monotonic()
        for device in self.devices:
            self._begin(device.station.sync)
        while sum(self.progress().values()) < heads:
            if time.monotonic() - began_s > DRAIN_S_MAX:
                pytest.fail(f"{self.progress()} of {heads} facts: {self.last_words()}")
            time.sleep(0.05)
        return time.monotonic() - began_s


def three_days(settings: DeviceSettings, seed: str) -> list[CloseOut]:
    """Recorded as edge does; the Z reports."""
    now_ms = time.time_ns() // 1_000_000
    days = [
        moment_at(
            boot="b00000000001",
            mono_ms=1_000_000 + n * DAY_MS,
            wall_ms=now_ms - (DAYS - n) * DAY_MS,
            quality=ClockQuality.NTP,
            zone=MOSCOW,
        )
        for n in range(DAYS)
    ]
    journal = open_journal(
        settings.journal_path,
        device=settings.device_id,
        site=settings.site_id,
        station=Station.TILL,
        machine=machine_id(),
        moment=days[0],
    )
    db = journal.writer.db
    cache = Cache(
        settings.folders.state, device=settings.device_id, site=settings.site_id, journal=db
    )
    counter = TillCounter(cache, journal, CardCounters(db), lambda _name: None, MOSCOW)
    counter.staff = Cashier()
    desk = TillDesk(counter, None, lambda _name: None)  # type: ignore[arg-type]
    reports = []
    for moment in days:
        sell(journal, settings.site_id, moment, seed)
        report = desk.close_out(moment)
        assert isinstance(report, CloseOut), report
        reports.append(report)
    cache.close()
    journal.close()
    return reports


def sell(journal: Journal, site: str, moment: Moment, seed: str) -> None:
    tapping = Tapping(make_school(SCHOOL_SEED, site), Station.TILL, moment.local_date)
    for first in range(0, TAPS, BATCH):
        with journal.record(moment) as tap:
            for _ in range(min(BATCH, TAPS - first)):
                tapping.tap(tap, moment, random.Random(f"{seed}/{tap.head}"))


def test_three_days_of_four_tills_drain_and_reconcile(tmp_path: Path) -> None:
    shares = [("till", DAYS * TAPS) for _ in range(TILLS)]
    backlog = Backlog(tmp_path, SEED, Mosquitto(), shares)
    with backlog:
        reports = {
            device.name: three_days(load(device.station.config), f"{SEED}/{device.name}")
            for device in backlog.devices
        }
        facts = sum(backlog.heads().values())
        took_s = backlog.drain()
        print(f"{facts} facts of {TILLS} tills in {took_s:.1f} s ({facts / took_s:.0f} a second)")
        problems, meant = backlog.settle()
        assert problems == [], problems
        assert meant.facts["close_out"] == TILLS * DAYS
        the_city_agrees_with_every_report(backlog.city.database, reports)


def the_city_agrees_with_every_report(database: Path, reports: dict[str, list[CloseOut]]) -> None:
    """Facts as the city holds them, counted anew over each report's ranges; then all of its
    ledger."""
    sold_minor = reported_minor = 0
    with closing(books.open_city(database)) as city:
        for device, said in reports.items():
            for report in said:
                held = []
                for one in report.ranges:
                    rows = city.execute(
                        "SELECT bytes FROM fact WHERE device = ? AND stream = 'main'"
                        " AND epoch = ? AND sequence BETWEEN ? AND ? ORDER BY sequence",
                        (device, one.epoch, one.first, one.last),
                    )
                    held += [decode_fact(data) for (data,) in rows]
                assert equals_journal(report, held), (device, report.number)
                assert sum(isinstance(fact, SaleFact) for fact in held) >= SALES
                counted = Counter(totals_of(held).total_minor_by_tender)
                sold_minor += counted.total()
                reported_minor += sum(report.total_minor_by_tender.values())
        (booked_minor,) = city.execute(
            "SELECT sum(amount_minor) FROM posting WHERE account LIKE 'sales:%'"
        ).fetchone()
    assert sold_minor == reported_minor == booked_minor > 0
