"""A process of its own that records facts as `edge` does, one transaction a tap, until it is
killed or has all of them: `python -m tests.process.chaos_writer CONFIG FACTS SEED ALLOWED`.

Killed and started again it goes on from the journal's own head, through the product's own start.
`ALLOWED` is a file with the number it may record up to now, so that facts are in motion for the
whole of a run and not only at its beginning. What it records hangs on the seed and the sequence
alone.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from edge.clock import Clock
from edge.config import load
from edge.control import ring
from edge.machine import machine_id
from edge.messages import AccessFact, PassageFact, Posting, SaleFact, SaleLine, VersionMark, b64u
from edge.model import (
    AccessReason,
    Direction,
    Moment,
    Outcome,
    PassageResult,
    PurchaseReason,
    Station,
    Tender,
)
from edge.offline_cache.record import Journal, JournalRecording, open_journal
from hil.world.school import PURSE, ZONE, Person, School, make_school
from tests.support import facts as shapes

SCHOOL_SEED = 7
LOOK_S = 0.005
VERSION = VersionMark(1, 1)
REFUSED_OF_TEN = 2  # Our choice: enough of both kinds in any thousand.


@dataclass(frozen=True, slots=True)
class Tapping:
    """Who comes, what they want; all of it from the random numbers of one tap."""

    school: School
    station: Station
    local_date: str

    def tap(self, recording: JournalRecording, moment: Moment, draw: random.Random) -> None:
        if self.station is Station.TILL:
            self._sale(recording, moment, draw)
        else:
            self._passage(recording, moment, draw)

    def _passage(self, tap: JournalRecording, moment: Moment, draw: random.Random) -> None:
        person = draw.choice(self.school.people)
        way = draw.choice((Direction.IN, Direction.OUT))
        granted = draw.randrange(10) >= REFUSED_OF_TEN
        key = tap.add(
            AccessFact(
                **tap.stamp(moment),
                access_point=f"north-{way}",
                zone=ZONE,
                direction=way,
                reader="r1",
                tier=1,
                credential=b64u(draw.randbytes(16)),
                cardholder=person.cardholder_id,
                outcome=Outcome.GRANT if granted else Outcome.DENY,
                reason=AccessReason.AUTHORIZED if granted else AccessReason.HOT_LISTED,
                caveats=(),
                people=VERSION,
                list_age_s=60,
                read_age_ms=draw.randrange(300),
            )
        )
        if granted:
            tap.add(
                PassageFact(
                    **tap.stamp(moment),
                    access_point=f"north-{way}",
                    zone=ZONE,
                    direction=way,
                    result=draw.choice((PassageResult.TAKEN, PassageResult.NOT_TAKEN)),
                    passage=key,
                    cardholder=person.cardholder_id,
                )
            )

    def _sale(self, tap: JournalRecording, moment: Moment, draw: random.Random) -> None:
        person: Person = draw.choice(self.school.people)
        product = draw.choice(self.school.products)
        credential = b64u(draw.randbytes(16))
        if person.account_id is None or draw.randrange(10) < REFUSED_OF_TEN:
            refused = shapes.refused_sale(tap.stamp(moment))
            assert refused.reason is PurchaseReason.HOT_LISTED
            tap.add(refused)
            return
        quantity = draw.randint(1, 3)
        total = quantity * product.price_minor
        site = self.school.site_id
        tap.add(
            SaleFact(
                **tap.stamp(moment),
                account=person.account_id,
                cardholder=person.cardholder_id,
                credential=credential,
                tier=1,
                reader="r1",
                lines=(
                    SaleLine(
                        product=product.product_id,
                        category=product.category,
                        quantity=quantity,
                        price_minor=product.price_minor,
                    ),
                ),
                total_minor=total,
                tender=Tender.ACCOUNT,
                postings=(
                    Posting(account=person.account_id, purse=PURSE, amount_minor=-total),
                    Posting(account=f"sales:{site}", purse=PURSE, amount_minor=total),
                ),
                business_date=self.local_date,
                people=VERSION,
                money=VERSION,
                menu=VERSION,
                caveats=(),
            )
        )


def main(config: Path, wanted: int, seed: str, allowed: Path) -> None:
    settings = load(config)
    clock = Clock(ZoneInfo(settings.time_zone))
    journal = open_journal(
        settings.journal_path,
        device=settings.device_id,
        site=settings.site_id,
        station=settings.station,
        machine=machine_id(),
        moment=clock.moment(),
    )
    school = make_school(SCHOOL_SEED, settings.site_id)
    tapping = Tapping(school, settings.station, clock.moment().local_date)
    sync_socket = settings.socket_path("sync")
    while journal.head < wanted:
        up_to = min(wanted, int(allowed.read_text() or 0))
        if journal.head >= up_to:
            time.sleep(LOOK_S)
            continue
        _record(journal, tapping, clock, seed, up_to)
        ring(sync_socket)
    journal.close()


def _record(journal: Journal, tapping: Tapping, clock: Clock, seed: str, up_to: int) -> None:
    """Taps until `up_to`, each in a transaction of its own; at most a few, then a doorbell."""
    for _ in range(8):
        if journal.head >= up_to:
            return
        moment = clock.moment()
        draw = random.Random(f"{seed}/{journal.head}")
        with journal.record(moment) as tap:
            tapping.tap(tap, moment, draw)


if __name__ == "__main__":
    os.umask(0o007)
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
