"""Stations with lists in force, for all tests of the cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.model import (
    Station as StationKind,
)
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from tests.support.pictures import Station, open_station
from tests.support.small_city import (
    DEVICE,
    PEOPLE,
    SITE,
    Scope,
    cardholder,
)
from tests.support.till_files import Bench, lists
from tests.support.times import at


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path)
    yield made
    made.close()


@pytest.fixture
def people(station: Station) -> Scope:
    """A list of three people in force, at version (1, 3)."""
    scope = Scope(PEOPLE)
    for number in range(3):
        scope.put(cardholder(f"p{number}"))
    station.install(scope, rows_per_chunk=2)
    return scope


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lists in force and a new journal, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("files") / "state"
    station = open_station(folder)
    for scope in lists().values():
        station.install(scope)
    station.close()
    journal = Journal(folder / "journal.db", device=DEVICE, site=SITE)
    journal.open_epoch(at(), why="new_store", station=StationKind.TILL)
    journal.close()
    return folder


@pytest.fixture
def bench(files: Path, tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "state"
    shutil.copytree(files, folder)
    station = open_station(folder)
    journal = Journal(folder / "journal.db", device=DEVICE, site=SITE)
    cache = Cache(folder, device=DEVICE, site=SITE, journal=journal.writer.db)
    cache.refresh()
    yield Bench(station, journal, cache, *lists().values())
    cache.close()
    journal.close()
    station.close()
