"""Goal: whenever sync is killed while it changes pictures, a reader finds exactly one whole version
that the city signed, and sync goes on from it.

Method: a child ends itself by SIGKILL at its first, second, third … step (a statement, a file made
or deleted) until it comes to its end alive, each time on a fresh copy of the same files. After
each death edge's own `Cache` looks, and sync starts again and finishes the work.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.messages import VersionMark, b64u
from edge.offline_cache.apply import RETIRED_MS, SnapshotBuilder
from edge.offline_cache.lookup import Cache
from edge.offline_cache.record import Journal
from tests.support.killing import killed_at
from tests.support.pictures import open_station, seen
from tests.support.small_city import (
    DEVICE,
    PEOPLE,
    SITE,
    Key,
    Scope,
    cardholder,
    credential,
    id_bytes,
)
from tests.support.times import NOON_MS, at

UID = bytes.fromhex("04a1b2c3d4e580")
Versions = dict[VersionMark, dict[Key, bytes]]


def copies(base: Path, scenario: Callable[[Path], None]) -> Iterator[Path]:
    """A folder after each possible death, until the scenario survives."""
    step = 0
    while True:
        step += 1
        folder = base.with_name(f"dead at {step}")
        shutil.copytree(base, folder)
        if not killed_at(step, lambda folder=folder: scenario(folder)):  # type: ignore[misc]
            assert step > 10
            return
        yield folder
        shutil.rmtree(folder)


def assert_one_whole_version(folder: Path, versions: Versions) -> VersionMark:
    found = seen(folder, PEOPLE)
    assert found is not None
    version, rows = found
    assert rows == versions[version]
    journal = Journal(folder / "journal.db", device=DEVICE, site=SITE)
    cache = Cache(folder, device=DEVICE, site=SITE, journal=journal.writer.db)
    view = cache.access_view(b64u(id_bytes(UID)), "school", at())
    assert view.people is not None
    assert view.cardholder is not None
    assert view.people.version.number == version.number
    # p1 is suspended from the second version on: rows and version are of one moment.
    assert view.cardholder.suspended == (version.number >= 2)
    cache.close()
    journal.close()
    return version


def base_files(tmp_path: Path, people: Scope) -> Path:
    people.put(cardholder("p1"), credential(UID), *[cardholder(f"q{n}") for n in range(5)])
    station = open_station(tmp_path / "base")
    station.install(people)
    station.close()
    return station.folder


def test_killed_anywhere_in_a_delta(tmp_path: Path) -> None:
    people = Scope(PEOPLE)
    base = base_files(tmp_path, people)
    versions = {people.version: dict(people.rows)}
    delta = people.put(cardholder("p1", suspended=True), remove=((1, b"q2"),))
    versions[people.version] = dict(people.rows)

    def apply(folder: Path) -> None:
        station = open_station(folder)
        station.pictures.apply_delta(delta, at())
        station.close()

    found = set()
    for folder in copies(base, apply):
        version = assert_one_whole_version(folder, versions)
        found.add(version)
        station = open_station(folder)
        assert station.pictures.held(PEOPLE) == version
        if version == delta.base:
            station.pictures.apply_delta(delta, at())
        else:
            station.pictures.freshen(people.head(), at())
        station.close()
        assert assert_one_whole_version(folder, versions) == people.version
    assert found == set(versions)


def test_killed_anywhere_in_a_snapshot(tmp_path: Path) -> None:
    people = Scope(PEOPLE)
    base = base_files(tmp_path, people)
    versions = {people.version: dict(people.rows)}
    people.put(cardholder("p1", suspended=True), cardholder("new"))
    manifest, chunks = people.snapshot(rows_per_chunk=3)
    later = people.put(remove=((1, b"q1"),))
    versions[people.version] = dict(people.rows)

    def replace(folder: Path) -> None:
        station = open_station(folder)
        station.install_packed(manifest, chunks, later=(later,))
        station.pictures.sweep(at(RETIRED_MS))
        station.close()

    found = set()
    for folder in copies(base, replace):
        version = assert_one_whole_version(folder, versions)
        found.add(version)
        station = open_station(folder)
        assert station.pictures.held(PEOPLE) == version
        if version != people.version:
            station.install_packed(manifest, chunks, later=(later,))
        station.pictures.sweep(at(3 * RETIRED_MS))
        station.close()
        assert assert_one_whole_version(folder, versions) == people.version
        assert len(list(folder.glob("picture-*.db"))) == 1  # Nothing half-built stays for ever.
    assert found == set(versions)


def test_killed_anywhere_in_the_first_list(tmp_path: Path) -> None:
    people = Scope(PEOPLE)
    people.put(cardholder("p1"), credential(UID))
    people.put(cardholder("p1", suspended=True))
    manifest, chunks = people.snapshot()
    base = tmp_path / "base"
    open_station(base).close()

    def build(folder: Path) -> None:
        station = open_station(folder)
        builder = SnapshotBuilder(folder, manifest, station.pictures.next_generation(PEOPLE))
        builder.add_chunk(0, chunks[0])
        builder.finish()
        station.pictures.put_in_force(builder.path, PEOPLE, builder.generation, NOON_MS, at())
        station.close()

    for folder in copies(base, build):
        if seen(folder, PEOPLE) is not None:
            assert_one_whole_version(folder, {people.version: people.rows})
        station = open_station(folder)
        station.install(people)
        station.close()
        assert_one_whole_version(folder, {people.version: people.rows})
