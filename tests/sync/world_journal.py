"""What the worlds of sync share where edge's facts are in them: its journal, and sales in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge.offline_cache.record import Journal, open_journal
from tests.support import facts
from tests.sync.sync_world import DEVICE, SITE, World


@contextmanager
def journal_of(world: World) -> Iterator[Journal]:
    """As edge of this station opens it."""
    journal = open_journal(
        world.settings.journal_path,
        device=DEVICE,
        site=SITE,
        station=world.settings.station,
        machine="m",
        moment=world.clock.moment(),
    )
    try:
        yield journal
    finally:
        journal.close()


def record(journal: Journal, world: World, count: int) -> None:
    """So many sales, a commit each."""
    moment = world.clock.moment()
    for _ in range(count):
        with journal.record(moment) as tap:
            tap.add(facts.sale(tap.stamp(moment)))
