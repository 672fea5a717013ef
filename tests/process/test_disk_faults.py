"""Goal: a disk that refuses, fails or is taken away for writing loses no fact that was said to be
recorded, sells nothing meanwhile, and stops no lane; what a lane could not record is declared.

Method: a process of its own that records, under strace, which makes its k-th write or flush fail
(EIO, ENOSPC, EROFS) or kills it there, for every k of a few transactions; and the real agent on a
tmpfs that is filled to the last byte.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from edge import health
from edge.messages import Stream as FactStream
from edge.messages import Unrecorded, decode_fact
from edge.offline_cache import outbox
from edge.offline_cache.record import open_journal
from edge.offline_cache.room import Level
from edge.offline_cache.store import FileKind, open_reader
from hil.devices.pcsc_stack import ROOT, is_inside, namespaces_missing, rerun_inside
from tests.support.agent_bench import Bench, station

TAPS = 12
CALLS = "pwrite64,fdatasync"
FIRST_CALL, LAST_CALL = 40, 120  # Of making the file, some; of the taps, all.
RUN_S_MAX = 60.0
DISK_MIB = 24


def missing(tool: str) -> str:
    return "" if which(tool) else f"{tool} is not installed; run: apt-get install {tool}"


def need(problem: str) -> None:
    """What is missing fails a CI run and skips any other."""
    if problem and os.environ.get("CI") == "true":
        pytest.fail(problem)
    if problem:
        print(problem)
        pytest.skip(problem)


def run_child(folder: Path, *inject: str) -> list[str]:
    """What the child said. It may have been killed, or have given up while making its file."""
    folder.mkdir()
    argv = [sys.executable, "-m", "tests.process.disk_child", str(folder), str(TAPS)]
    if inject:
        argv = ["strace", "-f", "-qq", "-o", "/dev/null", *inject, *argv]
    ended = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX, check=False
    )
    lines = ended.stdout.splitlines()
    assert lines or "DeviceFault" in ended.stderr or ended.returncode < 0, ended.stderr
    return lines


def bodies(folder: Path) -> dict[str, bytes]:
    """Every fact on the disk by its key; every chain is whole."""
    db = open_reader(folder / "journal.db", FileKind.JOURNAL)
    if db is None:
        return {}
    found: dict[str, bytes] = {}
    for life in outbox.lives(db, FactStream.MAIN):
        assert outbox.chain_problem(db, life) == ""
        facts = outbox.next_facts(db, life.life, 1, rows_max=1_000, bytes_max=1 << 20)
        found |= {f"{life.epoch}.{n}": body for n, body in enumerate(facts, start=1)}
    db.close()
    return found


def assert_nothing_lost(folder: Path, lines: list[str]) -> None:
    """All that was said to be recorded is there; all that was refused is not, but for a last
    commit of which nobody could say whether it arrived."""
    found = bodies(folder)
    said = dict(line.split() for line in lines if "." in line)
    assert said.keys() <= found.keys()
    sales = [body for body in found.values() if b'"kind":"sale"' in body]
    lit = [kind for kind in said.values() if kind == "sale"]
    assert len(lit) <= len(sales) <= len(lit) + 1
    if "no_money 0" in lines:  # The disk was well at the end: nothing is in doubt.
        assert len(lit) == len(sales)
        declared = sum(
            sum(fact.counts.values())
            for fact in map(decode_fact, found.values())
            if isinstance(fact, Unrecorded)
        )
        (left,) = [int(line.split()[1]) for line in lines if line.startswith("left")]
        assert declared + left == lines.count("refused access")


@pytest.mark.process
def test_without_a_fault_everything_is_recorded(tmp_path: Path) -> None:
    lines = run_child(tmp_path / "run")
    assert_nothing_lost(tmp_path / "run", lines)
    assert len([line for line in lines if "." in line]) == TAPS and lines[-1] == "no_money 0"


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "lasting"), [("EIO", False), ("EIO", True), ("ENOSPC", True), ("EROFS", True)]
)
def test_a_write_or_flush_that_fails_anywhere(tmp_path: Path, error: str, lasting: bool) -> None:
    need(missing("strace"))
    refused = 0
    for call in range(FIRST_CALL, LAST_CALL, 11):
        inject = f"inject={CALLS}:error={error}:when={call}{'+' if lasting else ''}"
        folder = tmp_path / str(call)
        lines = run_child(folder, "-e", f"trace={CALLS}", "-e", inject)
        assert_nothing_lost(folder, lines)
        refusals = [line for line in lines if line.startswith("refused")]
        refused += len(refusals)
        if lasting and refusals:
            assert "no_money 1" in lines
    assert refused > 0


@pytest.mark.process
@pytest.mark.slow
def test_killed_at_any_write_or_flush(tmp_path: Path) -> None:
    need(missing("strace"))
    killed = 0
    for call in range(FIRST_CALL, LAST_CALL, 9):
        folder = tmp_path / str(call)
        inject = f"inject={CALLS}:signal=SIGKILL:when={call}"
        lines = run_child(folder, "-e", f"trace={CALLS}", "-e", inject)
        assert_nothing_lost(folder, lines)
        killed += "no_money 0" not in lines
    assert killed > 5


# ---------------------------------------------------------------------- a full disk


@pytest.mark.process
@pytest.mark.slow
def test_on_a_full_disk() -> None:
    need(namespaces_missing())
    code, output = rerun_inside(
        __file__, "-rA", "--tb=short", "-o", "python_functions=check_*", timeout_s=120.0
    )
    print(output)
    assert code == 0, output


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk of its own, gone with the namespace of this process."""
    assert is_inside()
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    subprocess.run(argv, check=True)
    return folder


def fill(folder: Path) -> Path:
    """Not one more byte fits."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4_096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def sold(bench: Bench) -> bool:
    assert bench.basket(("compote", 1)) == ""
    before = len(bench.facts())
    bench.tap(3)
    bench.step(5_000)
    return any(fact.__struct_config__.tag == "sale" for fact in bench.facts()[before:])


def level(bench: Bench) -> str:
    return str(bench.agent.keeper.status(bench.clock.moment())["level"])


def check_a_lane_goes_on_counts_and_declares(disk: Path) -> None:
    with station(disk, people=200) as bench:
        bench.step(1_000)
        keeper = bench.agent.keeper
        assert keeper.status(bench.clock.moment())["reserve"]
        filler = fill(disk)
        bench.step(1_000)
        assert keeper.level is Level.FULL and not keeper.status(bench.clock.moment())["reserve"]
        fill(disk)
        granted, number = 0, 0
        while not bench.gate.unwritten.counts:
            number += 1
            assert number < 5_000
            bench.tap(number % 200)
            granted += bench.gate.relay_active
            bench.walk()
            bench.step(4_000)
        for _ in range(5):
            number += 1
            bench.tap(number % 200)
            assert bench.gate.relay_active, "a child is not locked out by a disk"
            bench.walk()
            bench.step(4_000)
        status = keeper.status(bench.clock.moment())
        assert status["refused"] and status["alarms"]
        assert health.screens(bench.agent, bench.clock.moment())["screens"][0]["disk"] == "refused"
        missing_now = dict(bench.gate.unwritten.counts)
        assert missing_now["access"] >= 5
        filler.unlink()
        bench.step(10_000)
        bench.step(10_000)
        assert (
            bench.gate.unwritten.counts == {} and not keeper.status(bench.clock.moment())["refused"]
        )
        found = [fact for fact in bench.facts() if isinstance(fact, Unrecorded)]
        assert [fact.counts for fact in found] == [missing_now]
        bench.step(5_000)
        assert level(bench) == "roomy" and keeper.status(bench.clock.moment())["reserve"]


def check_a_till_sells_nothing_and_says_why(disk: Path) -> None:
    with station(disk, people=200, till=True) as bench:
        bench.step(1_000)
        assert sold(bench)
        filler = fill(disk)
        bench.step(1_000)
        fill(disk)
        bench.step(1_000)
        assert level(bench) == "full"
        assert not sold(bench)
        assert bench.basket(("compote", 1)) == ""
        bench.tap(3)
        screen = bench.screen()
        assert screen["reason"] == "notice.not_recorded" and screen["basket"]
        assert screen["disk"] in ("full", "refused")
        status = bench.agent.keeper.status(bench.clock.moment())
        assert not status["sells"] and any("full" in alarm for alarm in status["alarms"])
        filler.unlink()
        for _ in range(4):
            bench.step(5_000)
        assert level(bench) == "roomy"
        assert sold(bench)


def check_a_start_on_a_full_disk_has_a_reserve_of_its_own(disk: Path) -> None:
    with station(disk, people=20) as bench:
        bench.step(1_000)
        path = bench.agent.parts.journal.writer.path
    fill(disk)
    (path.parent / "reserve").unlink()
    fill(disk)
    journal = open_journal(
        path,
        device=bench.agent.parts.settings.device_id,
        site=bench.agent.parts.settings.site_id,
        station=bench.agent.parts.settings.station,
        machine="bench",
        moment=bench.clock.moment(),
    )
    with journal.record(bench.clock.moment()) as tap:
        tap.add(Unrecorded(**tap.stamp(bench.clock.moment()), counts={"access": 1}))
    journal.close()
