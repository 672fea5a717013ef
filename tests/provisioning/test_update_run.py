"""Goal: the updater installs what the city signed, keeps it if it works, and else goes back, though
it is killed at every step and the disk refuses at every write.

Method: the real updater, its folders on disk, and a station that is a few lines: it starts what the
link names. Making is real up to the environment, which a file stands for (`test_update_make.py`
makes real ones). Kills are SIGKILL in a child at each rename, link, folder and removal, one after
another.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.messages import Release, Signed, SignedWhat, encode_pack
from edge.model import DeviceFault, SetupProblem
from provisioning.update_make import About, MakeFailed, Maker
from provisioning.update_place import Place
from provisioning.update_run import Look, Tools, Updater, describe
from provisioning.update_steps import TRIAL_MS_MAX, UP_MS_MAX, Act, State, Step, go_back
from sync.release_files import Ready, ReleaseFiles
from sync.release_rules import Machine, Why
from tests.support import killing, releases, small_city
from tests.support.killing import steps_until_done

A, B = "0.1.0", "0.2.0"
WHEEL = "moskvenok_edge-0.2.0-py3-none-any.whl"
BUNDLE = releases.bundle_bytes(
    {
        "requirements.txt": b"moskvenok-edge==0.2.0 --hash=sha256:" + b"00" * 32 + b"\n",
        WHEEL: b"x" * 70_000,
    }
)
RELEASE = releases.release_of(BUNDLE, B)
MACHINE = Machine(platform=releases.PLATFORM, python=releases.PYTHON)
SCHEMAS = {"journal": 3, "sync": 3}
MORE_EVENTS = frozenset({"os.symlink", "os.mkdir", "os.rmdir"})  # Steps to die at, too.


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickMaker(Maker):
    """Unpacks for real; what an environment would be is a file."""

    schemas: dict[str, dict[str, int]] = field(default_factory=dict)  # Of some releases.

    def _environment(self, folder: Path) -> None:
        pass

    def _install(self, folder: Path, wheels: Path) -> None:
        pass

    def ask(self, release: str) -> About:
        if not self.place.folder(release).is_dir():
            raise MakeFailed(Why.BROKEN, "it is gone")
        return About(software=release, schemas=self.schemas.get(release, SCHEMAS))


class FakeStation:
    """What runs is on disk, as the processes outlive the updater's death."""

    def __init__(self, place: Place, *, works: bool = True, connects: bool = True) -> None:
        self._place = place
        self._running = place.prefix / "running"
        self.works, self.connects = works, connects
        self.refuses = False
        self.restarts = 0

    @property
    def running(self) -> str:
        return self._running.read_text()

    def look(self) -> Look:
        running = self.running
        if running != A and not self.works:
            return Look(edge="", sync=running, connected=False)
        return Look(edge=running, sync=running, connected=running == A or self.connects)

    def restart(self) -> None:
        if self.refuses:
            raise DeviceFault("systemctl: it will not")
        self.restarts += 1
        self._running.write_text(self._place.current())


class Bench:
    def __init__(self, folder: Path, *, works: bool = True, connects: bool = True) -> None:
        self.place = Place(folder / "opt")
        self.files = ReleaseFiles(folder / "updates")
        self.files.folder.mkdir(parents=True)
        (self.place.folder(A) / "wheels").mkdir(parents=True)
        self.place.finish(A, "aa" * 32)
        self.place.switch(A)
        self.place.trust(A)
        (self.place.prefix / "running").write_text(A)
        self.station = FakeStation(self.place, works=works, connects=connects)
        self.maker = QuickMaker(place=self.place, python="")
        self.now_ms = 0
        self.boot = "boot 1"
        self.said: list[str] = []
        self.schemas = dict(SCHEMAS)
        self.unreadable = False

    def updater(self) -> Updater:
        return Updater(
            Tools(
                place=self.place,
                files=self.files,
                maker=self.maker,
                station=self.station,
                machine=MACHINE,
                verifier=releases.verifier,
                schemas=self._schemas,
                boot=self.boot,
                mono_ms=lambda: self.now_ms,
                wait=self._wait,
                say=self.said.append,
            )
        )

    def _schemas(self) -> dict[str, int]:
        if self.unreadable:
            raise DeviceFault("sync.db: cannot be read")
        return self.schemas

    def _wait(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)

    def run(self) -> State:
        return self.updater().run()

    def until(self, step: Step) -> Updater:
        """As far as there, and no further."""
        updater = self.updater()
        for _ in range(2_000):
            if self.place.state().step is step:
                return updater
            updater.step()
        raise AssertionError(f"never {step}: {self.place.state()}")

    def lay_ready(
        self,
        release: Release = RELEASE,
        *,
        bundle: bytes = BUNDLE,
        signed: Signed | None = None,
        token: str = "order 7",
        without_city: bool = False,
    ) -> None:
        """As sync leaves it."""
        one = releases.sign(release) if signed is None else signed
        self.files.signed.write_bytes(encode_pack(one))
        self.files.bundle.write_bytes(bundle)
        ready = Ready(
            release=release.release,
            sha256=release.sha256,
            token=token,
            counter=7,
            without_city=without_city,
        )
        (self.files.folder / "ready.json").write_bytes(msgspec.json.encode(ready))

    def told(self) -> tuple[bool, bool, str]:
        told = self.files.told()
        assert told is not None
        return told.running, told.done, told.why


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_nothing_ready_changes_nothing(bench: Bench) -> None:
    assert bench.run() == State()
    assert bench.place.current() == A and bench.station.restarts == 0


def test_a_good_release_takes_the_place_of_the_one_before(bench: Bench) -> None:
    bench.lay_ready()
    state = bench.run()
    assert (bench.place.current(), bench.place.updater(), bench.station.running) == (B, B, B)
    assert state.done and state.former == A and bench.place.folder(A).is_dir()
    assert bench.told() == (False, True, "")
    assert list(bench.files.folder.iterdir()) == [bench.files.folder / "told.json"]
    assert (bench.place.folder(B) / "wheels" / WHEEL).read_bytes() == b"x" * 70_000
    assert bench.run() == state and bench.station.restarts == 1
    assert any("on trial" in line for line in bench.said)


@pytest.mark.parametrize(
    ("works", "connects", "detail", "after_ms"),
    [
        (False, True, "did not come up", UP_MS_MAX),
        (True, False, "city was not reached", TRIAL_MS_MAX),
    ],
)
def test_a_bad_release_goes_by_itself(
    tmp_path: Path, works: bool, connects: bool, detail: str, after_ms: int
) -> None:
    bench = Bench(tmp_path, works=works, connects=connects)
    bench.lay_ready()
    state = bench.run()
    assert (bench.place.current(), bench.place.updater(), bench.station.running) == (A, A, A)
    assert bench.told() == (False, False, "rolled_back") and detail in state.detail
    assert after_ms <= bench.now_ms <= after_ms + 5_000
    assert bench.files.ready() is None and not bench.place.folder(B).exists()


def test_during_the_trial_the_updater_is_the_one_before(bench: Bench) -> None:
    bench.lay_ready()
    bench.until(Step.TRIAL)
    assert bench.place.current() == B and bench.place.updater() == A
    assert bench.told() == (True, False, "")


def test_processes_that_cannot_be_started_anew_are_seen_by_the_trial(bench: Bench) -> None:
    bench.station.refuses = True
    bench.lay_ready()
    bench.until(Step.BACK)
    bench.station.refuses = False
    assert bench.run().why == Why.ROLLED_BACK and bench.station.running == A


def test_a_technician_may_vouch_for_it_where_there_is_no_city(tmp_path: Path) -> None:
    bench = Bench(tmp_path, connects=False)
    bench.lay_ready(without_city=True)
    assert bench.run().done and bench.place.current() == B


@pytest.mark.parametrize("role", ["list", "freshness", "order", "root", "stranger"])
def test_what_no_release_key_signed_is_not_installed(bench: Bench, role: str) -> None:
    bench.lay_ready(signed=releases.sign(RELEASE, key=role))
    assert bench.run().why == Why.BAD_SIGNATURE
    assert bench.place.current() == A and bench.station.restarts == 0
    assert bench.told() == (False, False, "bad_signature") and bench.files.ready() is None


def test_a_signature_over_another_kind_of_message_is_none(bench: Bench) -> None:
    other = small_city.sign(SignedWhat.MANIFEST, encode_pack(RELEASE), key="release")
    bench.lay_ready(signed=other)
    assert bench.run().why == Why.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"version": A}, Why.TOO_OLD),
        ({"version": "0.0.9"}, Why.TOO_OLD),
        ({"platform": "linux-other"}, Why.WRONG_PLATFORM),
        ({"python": "3.99"}, Why.WRONG_PLATFORM),
        ({"schema_from": {"sync": 4}}, Why.SCHEMA),
        ({"chunk_hashes": ()}, Why.MALFORMED),
    ],
)
def test_what_is_not_for_here_is_not_installed(
    bench: Bench, fields: dict[str, Any], why: Why
) -> None:
    bench.lay_ready(releases.release_of(BUNDLE, **fields))
    assert bench.run().why == why
    assert bench.place.current() == A and bench.station.restarts == 0


def test_a_ready_note_for_another_release_than_was_signed_is_refused(bench: Bench) -> None:
    bench.lay_ready(RELEASE, signed=releases.sign(releases.release_of(BUNDLE, "0.3.0")))
    assert bench.run().why == Why.OTHER_RELEASE


@pytest.mark.parametrize("place", [0, 600, 40_000, -1])
def test_a_bundle_changed_after_it_was_checked_is_not_unpacked(bench: Bench, place: int) -> None:
    spoilt = bytearray(BUNDLE)
    spoilt[place] ^= 1
    bench.lay_ready(bundle=bytes(spoilt))
    assert bench.run().why == Why.MALFORMED
    assert bench.place.current() == A and not bench.place.folder(B).exists()


def test_the_same_release_can_be_ordered_again_after_it_went_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, works=False)
    bench.lay_ready()
    assert bench.run().why == Why.ROLLED_BACK
    bench.station.works = True
    bench.lay_ready(token="order 8")
    assert bench.run().done and bench.place.current() == B


def test_two_updaters_never_work_at_once(bench: Bench) -> None:
    with bench.place.locked(), pytest.raises(SetupProblem, match="under way"):
        bench.run()


def test_databases_of_a_newer_schema_bar_the_way_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, connects=False)
    bench.lay_ready()
    bench.until(Step.TRIAL)
    bench.schemas["journal"] = 4  # The new release has taken it over.
    state = bench.run()
    assert state.why == Why.NO_WAY_BACK and bench.place.current() == B
    assert bench.place.updater() == A, "the one that is known to work goes on looking"
    assert bench.told() == (False, False, "no_way_back")


def test_databases_that_a_bad_release_spoilt_do_not_bar_the_way_back(tmp_path: Path) -> None:
    """The former release sets such a file aside when it starts."""
    bench = Bench(tmp_path, connects=False)
    bench.lay_ready()
    bench.until(Step.TRIAL)
    bench.unreadable = True
    assert bench.run().why == Why.ROLLED_BACK and bench.place.current() == A


def test_a_former_release_that_is_gone_bars_the_way_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, works=False)
    bench.lay_ready()
    bench.until(Step.TRIAL)
    bench.place.discard(A)
    assert bench.run().why == Why.NO_WAY_BACK and bench.place.current() == B


def test_a_release_that_never_worked_does_not_become_the_updater(tmp_path: Path) -> None:
    """It stays in use as there is no way back; one that is refused after it changes nothing."""
    bench = Bench(tmp_path, works=False)
    bench.lay_ready()
    bench.until(Step.TRIAL)
    bench.schemas["journal"] = 4
    assert bench.run().why == Why.NO_WAY_BACK
    bench.lay_ready(token="order 9")
    assert bench.run().why == Why.TOO_OLD
    assert (bench.place.current(), bench.place.updater()) == (B, A)
    assert bench.place.folder(A).is_dir()


def test_what_came_while_another_was_on_trial_is_next(bench: Bench) -> None:
    bench.lay_ready()
    bench.until(Step.TRIAL)
    bench.lay_ready(token="stick 9")
    assert bench.run().why == Why.TOO_OLD and bench.place.current() == B
    assert bench.place.state().token == "stick 9" and bench.files.ready() is None


def test_by_hand_it_goes_back_too(bench: Bench) -> None:
    bench.lay_ready()
    state = bench.run()
    bench.place.keep(go_back(state, current=B, token="hand 1"))
    bench.run()
    assert (bench.place.current(), bench.place.updater(), bench.station.running) == (A, A, A)
    assert not bench.place.folder(B).exists()


def test_no_more_releases_stand_there_than_are_needed(bench: Bench) -> None:
    for version in ("0.2.0", "0.3.0", "0.4.0"):
        bench.lay_ready(releases.release_of(BUNDLE, version), token=version)
        assert bench.run().done
    assert {path.name for path in bench.place.releases.iterdir()} == {"0.3.0", "0.4.0"}


# --------------------------------------------------------------------------- cuts and faults


@pytest.mark.slow
@pytest.mark.parametrize(
    ("works", "connects", "ends"), [(True, True, B), (False, True, A), (True, False, A)]
)
def test_killed_at_any_step_one_of_the_two_runs_and_the_next_life_ends_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    works: bool,
    connects: bool,
    ends: str,
) -> None:
    monkeypatch.setattr(killing, "FILE_EVENTS", killing.FILE_EVENTS | MORE_EVENTS)
    number = 0

    def fresh() -> Bench:
        nonlocal number
        number += 1
        made = Bench(tmp_path / str(number), works=works, connects=connects)
        made.lay_ready()
        return made

    benches = [fresh()]
    kills = 0
    for _step in steps_until_done(lambda: (benches[-1].run(), None)[1]):
        kills += 1
        bench = benches[-1]
        current = bench.place.current()
        assert current == A or bench.place.made(current, RELEASE.sha256)
        assert bench.place.updater() in (A, bench.place.current())
        if kills % 2:  # A reboot starts what the link names; else the processes go on.
            (bench.place.prefix / "running").write_text(current)
            bench.boot = "boot 2"
        state = bench.run()
        assert (bench.place.current(), bench.station.running) == (ends, ends)
        assert bench.files.ready() is None and state.step is Step.REST
        assert bench.told() == (False, ends == B, "" if ends == B else "rolled_back")
        benches.append(fresh())
    assert kills > 8
    assert (benches[-1].place.current(), benches[-1].station.running) == (ends, ends)


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_at_any_write_leaves_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    """At the n-th flush it refuses, once; the service is started again, and it ends well."""
    real, flushes = os.fsync, 0
    for refused in range(1, 40):
        bench = Bench(tmp_path / str(refused))
        bench.lay_ready()
        flushes = 0

        def fsync(descriptor: int, refused: int = refused) -> None:
            nonlocal flushes
            flushes += 1
            if flushes == refused:
                raise OSError(kind, os.strerror(kind))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            bench.run()
        except DeviceFault:
            assert bench.place.current() in (A, B)
        monkeypatch.setattr(os, "fsync", real)
        if flushes < refused:
            break
        bench.run()
        bench.lay_ready(token="order 8")
        bench.run()
        assert (bench.place.current(), bench.station.running) == (B, B), refused
    else:
        pytest.fail("it writes for ever")


def test_a_full_disk_does_not_stop_the_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, works=False)
    bench.lay_ready()
    updater = bench.until(Step.TRIAL)
    monkeypatch.setattr(Place, "keep", _full)
    acts = [updater.step()[1] for _ in range(200)]
    assert Act.SWITCH_BACK in acts
    assert bench.place.current() == A
    monkeypatch.undo()
    assert bench.run().why == Why.ROLLED_BACK
    assert bench.station.running == A and bench.told() == (False, False, "rolled_back")


def _full(_place: Place, _state: State) -> None:
    raise DeviceFault("update.json: No space left on device")


def test_a_damaged_memory_is_said_and_nothing_is_guessed(bench: Bench) -> None:
    (bench.place.prefix / "update.json").write_bytes(b"{")
    with pytest.raises(SetupProblem, match="damaged"):
        bench.run()
    assert bench.place.current() == A


@pytest.mark.parametrize("target", ["../../etc", "/etc", "releases/../..", "releases/.hidden"])
def test_a_link_that_names_no_release_counts_as_none(bench: Bench, target: str) -> None:
    (bench.place.prefix / "current").unlink()
    (bench.place.prefix / "current").symlink_to(target)
    assert bench.place.current() == ""


def test_each_state_has_a_line() -> None:
    for step in Step:
        state = State(step=step, release=B, former=A, why="rolled_back", detail="by hand")
        assert B in describe(state)
    assert describe(State()) == "no update yet"
