"""Goal: a release that the city orders is fetched, installed, started and kept; one that does not
work is taken back by the device itself; and the city is told both.

Method: Mosquitto with TLS, the reference city, and a station that runs from releases side by side,
each in an environment of its own: this tree's wheel as it is, and the same under two more versions,
of which the second has a sync that ends at once. The environments share this one's libraries. The
updater is the real one; its clock goes faster while it waits for what will never come up.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from edge.clock import boot_id
from edge.messages import Release
from edge.offline_cache.record import SOFTWARE
from hil.bench.town import DEVICE, Process, Town, until
from hil.release import build_wheel, write_bundle
from provisioning.update_make import Maker
from provisioning.update_place import Place
from provisioning.update_run import RunningStation, Tools, Updater, believed, schemas_here
from provisioning.update_steps import State
from sync.release_files import ReleaseFiles
from sync.releases import this_machine
from tests.support import releases

GOOD, BROKEN = "0.2.0", "0.3.0"
RECORD = "edge/offline_cache/record.py"
FASTER = 30  # Four minutes of a trial in eight seconds.


class Station(RunningStation):
    """Its supervisor is this test."""

    def __init__(self, town: Town) -> None:
        super().__init__(town.settings)
        self._town = town

    def restart(self) -> None:
        for process in (self._town.sync, self._town.edge):
            process.stop()
            process.start()


class Bench:
    """A town whose station runs from `PREFIX/current`."""

    def __init__(self, town: Town, folder: Path) -> None:
        self.town = town
        self.folder = folder
        self.place = Place(folder / "opt")
        shared = Path(sysconfig.get_path("purelib"))
        self.maker = Maker(place=self.place, python=sys.executable, shared=(shared,))
        self.files = ReleaseFiles(town.settings.updates_path)
        self.files.folder.mkdir(parents=True)
        self.wheel = build_wheel(folder / "wheel")
        bundle = self.bundle(SOFTWARE, {})
        self.maker.make(self.manifest(bundle), bundle)
        self.place.switch(SOFTWARE)
        self.place.trust(SOFTWARE)
        python = str(self.place.prefix / "current" / "bin" / "python")
        config = str(town.settings.source)
        town.edge, town.sync = (
            Process(town.folder, name, python, "-I", "-m", name, "--config", config)
            for name in ("edge", "sync")
        )

    def bundle(self, version: str, changes: dict[str, str]) -> Path:
        """This tree under another version, with some files changed."""
        wheels = self.folder / version
        wheels.mkdir()
        source = (Path(__file__).parents[2] / RECORD).read_text()
        changes[RECORD] = source.replace(f'"{SOFTWARE}"', f'"{version}"')
        wheel = releases.reversioned(self.wheel, wheels, version, changes)
        return write_bundle(wheels, wheel, [])

    def manifest(self, bundle: Path) -> Release:
        machine = this_machine()
        return releases.release_of(
            bundle.read_bytes(), SOFTWARE, platform=machine.platform, python=machine.python
        )

    def order(self, bundle: Path) -> int:
        """The city publishes it and orders it."""
        said = self.town.ask_city("POST", "/releases", {"file": str(bundle)})
        order = {"device": DEVICE, "order": "update", "valid_s": 120}
        order |= {name: said[name] for name in ("release", "sha256")}
        return int(self.town.ask_city("POST", "/orders", order)["counter"])

    def update(self, *, faster: int = 1) -> State:
        """One life of the updater, once the release is ready."""
        until(lambda: self.files.ready() is not None, "the release", look_s=0.05)
        tools = Tools(
            place=self.place,
            files=self.files,
            maker=self.maker,
            station=Station(self.town),
            machine=this_machine(),
            verifier=lambda: believed(self.town.settings, self.place),
            schemas=lambda: schemas_here(self.town.settings),
            boot=boot_id(),
            mono_ms=lambda: faster * time.monotonic_ns() // 1_000_000,
            wait=lambda _seconds: time.sleep(0.1),
            say=lambda text: print(text, file=sys.stderr),
        )
        return Updater(tools).run()

    def told(self, counter: int) -> str:
        """What the city knows of an order in the end."""
        found: list[dict[str, Any]] = []

        def is_told() -> bool:
            rows = self.town.ask_city("GET", "/status")["orders"]
            found[:] = [row for row in rows if row["counter"] == counter]
            return found[0]["outcome"] not in (None, "")

        until(is_told, f"the end of order {counter}", look_s=0.1)
        return f"{found[0]['answer']}, {found[0]['outcome']}"

    def runs(self) -> tuple[Any, Any]:
        request = {"request": "status"}
        edge, sync = (self.town.ask_station(name, request) for name in ("edge", "sync"))
        return edge.get("software"), sync.get("software")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if which("mosquitto") is None:
        missing = "mosquitto is not installed; run: apt-get install mosquitto"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("update")
    with Town(folder / "t") as town:
        made = Bench(town, folder)
        town.start(town.edge)
        town.start(town.sync)
        town.wait_connected()
        until(lambda: made.runs() == (SOFTWARE, SOFTWARE), "both processes")
        yield made


@pytest.mark.process
def test_a_release_that_is_ordered_is_installed_and_kept(bench: Bench) -> None:
    counter = bench.order(bench.bundle(GOOD, {}))
    state = bench.update()
    assert state.done, state
    assert bench.place.current() == bench.place.updater() == GOOD
    assert bench.runs() == (GOOD, GOOD)
    assert bench.told(counter) == "accepted, done"


@pytest.mark.process
def test_a_broken_release_is_taken_back_by_the_device_itself(bench: Bench) -> None:
    before = bench.place.current()
    source = (Path(__file__).parents[2] / "sync" / "__main__.py").read_text()
    begins = '    """One life of the process."""\n'
    assert begins in source
    spoilt = source.replace(begins, begins + '    raise CorruptData("broken on purpose")\n')
    counter = bench.order(bench.bundle(BROKEN, {"sync/__main__.py": spoilt}))
    state = bench.update(faster=FASTER)
    assert not state.done and state.why == "rolled_back", state
    assert bench.place.current() == bench.place.updater() == before
    until(lambda: bench.runs() == (before, before), "the release before")
    bench.town.wait_connected()
    assert bench.told(counter) == "accepted, not done: rolled_back"
    assert not bench.place.folder(BROKEN).exists()
