"""Goal: a technician with a stick can see, take, install and go back, and is told what to do.

Method: the command on a station's files, with releases that a test city signed; making an
environment and starting processes are stood for by a few lines (`test_update_make.py` and
`test_update_mosquitto.py` do both for real).
"""

from __future__ import annotations

import configparser
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from edge.config import load
from edge.messages import SignedWhat, b64u, encode_json
from edge.model import CorruptData
from provisioning import update, update_make, update_run
from provisioning.cli import GOOD, YOURS
from provisioning.update_make import About, MakeFailed, Maker
from provisioning.update_place import Place
from provisioning.update_run import Look, RunningStation, believed
from provisioning.update_steps import State, Step
from sync.release_files import Ready, ReleaseFiles, stick_bytes
from sync.release_rules import Why
from sync.releases import this_machine
from tests.provisioning.conftest import Run
from tests.support import releases, small_city
from tests.sync.sync_world import TOML, signed_lines

A, B = "0.1.0", "0.2.0"
WHEEL = "moskvenok_edge-0.2.0-py3-none-any.whl"
LINE = b"moskvenok-edge==0.2.0 --hash=sha256:" + b"00" * 32 + b"\n"
BUNDLE = releases.bundle_bytes({"requirements.txt": LINE, WHEEL: b"x"})


class Station:
    """A device with release A in place, and the command on it."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.config = folder / "device.toml"
        self.config.write_text(TOML)
        for name in ("state", "identity", "run"):
            (folder / name).mkdir()
        root = small_city.root_document(roles=releases.ROLES)
        identity = folder / "identity"
        (identity / "root.pub").write_text(b64u(small_city.public_bytes("root")) + "\n")
        (identity / "root.json").write_bytes(signed_lines(small_city.signed_root(root)))
        self.prefix = folder / "opt"
        self.place = Place(self.prefix)
        self.place.folder(A).mkdir(parents=True)
        self.place.switch(A)
        self.place.trust(A)
        self.files = ReleaseFiles(folder / "state" / "updates")
        self.folder = folder
        self._run = run

    def stick(self, version: str = B, **fields: Any) -> Path:
        machine = this_machine()
        made_for = {"platform": machine.platform, "python": machine.python, **fields}
        release = releases.release_of(BUNDLE, version, **made_for)
        path = self.folder / f"{version}.release"
        path.write_bytes(stick_bytes(releases.sign(release)) + BUNDLE)
        return path

    def __call__(self, *args: object, code: int = GOOD) -> dict[str, Any]:
        done = self._run(
            "update", *args, "--config", self.config, "--prefix", self.prefix, "--json"
        )
        assert done.exit_code == code, done.output
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def words(self, *args: object) -> str:
        return self._run("update", *args, "--config", self.config, "--prefix", self.prefix).output


@pytest.fixture
def station(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Station:
    made = Station(tmp_path, run)

    def look(_station: RunningStation) -> Look:
        running = made.place.current()
        return Look(edge=running, sync=running, connected=True)

    monkeypatch.setattr(RunningStation, "look", look)
    monkeypatch.setattr(RunningStation, "restart", lambda _station: None)
    monkeypatch.setattr(Maker, "_environment", lambda _maker, _folder: None)
    monkeypatch.setattr(Maker, "_install", lambda _maker, _folder, _wheels: None)
    schemas = {"journal": 3, "sync": 3}
    monkeypatch.setattr(
        Maker, "ask", lambda _maker, release: About(software=release, schemas=schemas)
    )
    return made


def test_a_stick_is_taken_installed_and_gone_back_from(station: Station) -> None:
    assert station("status")["current"] == A
    assert station("take", station.stick())["release"] == B
    assert station("status")["ready"] == B and station.place.current() == A
    assert station("install")["done"] is True
    said = station("status")
    assert (said["current"], said["former"], said["ready"], said["ok"]) == (B, A, "", True)
    assert station("back")["current"] == A
    assert station.place.current() == A and station.place.updater() == A
    assert "no release to go back to" in station("back", code=YOURS)["error"]


def test_the_same_in_words(station: Station) -> None:
    assert "is ready" in station.words("take", station.stick())
    assert f"{B}: kept" in station.words("install")
    told = station.words("status")
    assert B in told and "to go back to" in told
    assert f"{A} runs again" in station.words("back")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"version": A}, "too_old"),
        ({"version": "0.0.1"}, "too_old"),
        ({"platform": "linux-other"}, "wrong_platform"),
        ({"python": "2.7"}, "wrong_platform"),
    ],
)
def test_a_stick_that_is_not_for_here_is_refused_in_words(
    station: Station, fields: dict[str, Any], word: str
) -> None:
    assert word in station("take", station.stick(**fields), code=YOURS)["error"]
    assert station.files.ready() is None


def test_a_stick_that_the_city_did_not_sign_is_refused(station: Station) -> None:
    release = releases.release_of(BUNDLE, B)
    stick = station.folder / "bad.release"
    for key in ("order", "stranger"):
        stick.write_bytes(stick_bytes(releases.sign(release, key=key)) + BUNDLE)
        assert "signed by" in station("take", stick, code=YOURS)["error"]
    stick.write_bytes(b"PK\x03\x04 a zip" * 20)
    assert "not a release" in station("take", stick, code=YOURS)["error"]
    assert station.files.ready() is None


def test_with_nothing_ready_there_is_nothing_to_install(station: Station) -> None:
    assert "take a file" in station("install", code=YOURS)["error"]


def test_the_units_call_makes_the_folder_that_lets_orders_through(station: Station) -> None:
    assert station("status")["taken_by_order"] is False
    station("run")
    assert station("status")["taken_by_order"] is True and station.place.current() == A


def test_going_back_by_hand_is_not_said_to_be_done_while_the_other_runs(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station("take", station.stick())
    station("install")
    still = Look(edge=B, sync="", connected=False)
    monkeypatch.setattr(RunningStation, "look", lambda _station: still)
    said = station("back", code=YOURS)
    assert "edge still runs 0.2.0" in said["error"] and station.place.current() == A


def test_what_was_cut_off_is_gone_on_with(station: Station) -> None:
    station("take", station.stick())
    ready = station.files.ready()
    assert ready is not None
    station.place.keep(
        State(step=Step.MAKING, release=B, sha256=ready.sha256, token=ready.token, former=A)
    )
    assert station("status")["step"] == "making"
    station("run")
    assert station.place.current() == B


def test_a_release_that_does_not_load_is_not_gone_back_to(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station("take", station.stick())
    station("install")

    def broken(_maker: Maker, _release: str) -> About:
        raise MakeFailed(Why.BROKEN, "it is damaged")

    monkeypatch.setattr(Maker, "ask", broken)
    assert "cannot be gone back to" in station("back", code=YOURS)["error"]
    assert station.place.current() == B and station("status")["step"] == "rest"


def test_the_way_back_is_barred_while_another_updater_works(station: Station) -> None:
    with station.place.locked():
        assert "under way" in station("back", code=YOURS)["error"]
        assert "under way" in station("take", station.stick(), code=YOURS)["error"]


def test_a_root_document_of_somebody_else_is_not_believed(station: Station) -> None:
    settings = load(station.config)
    with station.place.locked():
        assert believed(settings, station.place).root_version == 1
        other = small_city.sign(SignedWhat.ROOT, b"{}", key="stranger", key_id="root")
        settings.root_document_path.write_bytes(signed_lines(other))
        with pytest.raises(CorruptData):
            believed(settings, station.place)


def test_who_may_write_the_identity_does_not_choose_what_root_installs(station: Station) -> None:
    """Another root key, with a root document and a release of its own: all of it well signed."""
    station("run")  # As the manual has it, once at the first installation.
    settings = load(station.config)
    release = releases.release_of(
        BUNDLE, B, platform=this_machine().platform, python=this_machine().python
    )
    root = small_city.root_document(roles=releases.ROLES)
    settings.root_key_path.write_text(b64u(small_city.public_bytes("stranger")) + "\n")
    other = small_city.sign(SignedWhat.ROOT, encode_json(root), key="stranger", key_id="root")
    settings.root_document_path.write_bytes(signed_lines(other))
    stick = station.stick()
    assert "another root key" in station("take", stick, code=YOURS)["error"]
    station.files.take(
        stick,
        release,
        releases.sign(release),
        Ready(release=B, sha256=release.sha256, token="by hand"),
    )
    station("run")
    said = station("status", code=YOURS)
    assert (said["current"], said["why"]) == (A, Why.BAD_SIGNATURE)
    station.place.anchor_path.unlink()  # What a technician does who has enrolled it elsewhere.
    assert station("take", stick)["release"] == B


def test_an_older_root_document_than_was_seen_does_not_count(station: Station) -> None:
    settings = load(station.config)
    before = settings.root_document_path.read_bytes()
    newer = small_city.root_document(roles=releases.ROLES, version=2)
    settings.root_document_path.write_bytes(signed_lines(small_city.signed_root(newer)))
    station("run")
    settings.root_document_path.write_bytes(before)
    with station.place.locked():
        assert believed(settings, station.place).root_version == 2


def test_a_damaged_identity_does_not_stop_the_way_back(station: Station) -> None:
    station("take", station.stick())
    station("install")
    settings = load(station.config)
    station.place.keep(State(step=Step.BACK, release=B, former=A, token="x", why="rolled_back"))
    settings.root_key_path.write_bytes(b"\xff\xfe")
    station.place.anchor_path.write_bytes(b"{")
    station("run")
    assert station.place.current() == A


def test_no_release_is_taken_while_another_is_under_way(station: Station) -> None:
    station.place.keep(State(step=Step.MAKING, release=B, former=A, token="x"))
    assert "goes on with it" in station("take", station.stick(), code=YOURS)["error"]


def test_what_is_made_can_be_read_by_those_who_run_it(station: Station) -> None:
    former = os.umask(0o077)
    try:
        station("take", station.stick())
        station("install")
        assert stat.S_IMODE(station.place.folder(B).stat().st_mode) == 0o755
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(former)


def test_the_units_are_shipped_and_start_what_exists() -> None:
    """Each is a file systemd reads, and names only programs and folders of the manual."""
    folder = Path(update.__file__).parent / "units"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("moskvenok-edge.service", "moskvenok-sync.service", "moskvenok-update.service"),
        *("moskvenok-update.path", "moskvenok-update.timer"),
    }
    for name in names:
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(folder / name)
        assert unit.has_section("Unit")
        if name.endswith(".service"):
            command = unit["Service"]["ExecStart"].split()
            assert command[0] in (
                "/opt/moskvenok/current/bin/python",
                "/opt/moskvenok/updater/bin/python",
            )
            assert ("updater" in command[0]) is ("update" in name)
    ready = configparser.ConfigParser(interpolation=None)
    ready.read(folder / "moskvenok-update.path")
    assert ready["Path"]["PathExists"].endswith("/state/updates/ready.json")
    assert all(unit in update_run.SYSTEMCTL for unit in names if "update" not in unit)
    assert "update_run" in update_make.LOOK
