"""Goal: children are up or on their way up, and not one outlives the supervisor.

Method: real processes of a few lines each. Restart times are passed in, not waited for; what must
be waited for (a process to be gone) is looked for in /proc with a bound. Ended by pid, and only
what the test started.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.model import SetupProblem
from hil.supervisor import (
    LOG_BYTES_MAX,
    RESTART_S_MAX,
    STEADY_S,
    STOP_S_MAX,
    Child,
    Life,
    Supervisor,
    end_in_words,
    restart_delay_s,
)

WAIT_S_MAX = 10.0
SLEEP = (
    sys.executable,
    "-c",
    "import time; print('{\"ready\": true}', flush=True); time.sleep(600)",
)
DEAF_WORDS = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('{\"ready\": true}', flush=True); time.sleep(600)"
)
DEAF = (sys.executable, "-c", DEAF_WORDS)
FAILS = (sys.executable, "-c", "import sys; print('no disk left', file=sys.stderr); sys.exit(3)")

pytestmark = pytest.mark.process


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S_MAX
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Running: neither gone nor a zombie that waits for its parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Deaths(list[tuple[str, int, float]]):
    def note(self, name: str, code: int, wait_s: float) -> None:
        self.append((name, code, wait_s))


@pytest.fixture
def deaths() -> Deaths:
    return Deaths()


@pytest.fixture
def supervisor(tmp_path: Path, deaths: Deaths) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "logs", died=deaths.note)
    yield supervisor
    supervisor.hurry()
    asyncio.run(supervisor.stop())


def started(supervisor: Supervisor, name: str, command: tuple[str, ...], rank: int = 0) -> int:
    held = supervisor.start(Child(name=name, command=command, rank=rank))
    return held.process.pid


def test_delays_grow_and_are_bounded() -> None:
    delays = [restart_delay_s(failures) for failures in range(1, 200)]
    assert delays == sorted(delays)
    assert delays[0] < 1
    assert delays[-1] == RESTART_S_MAX


def test_a_child_that_dies_is_restarted_later_and_later(
    supervisor: Supervisor, deaths: Deaths
) -> None:
    started(supervisor, "bad", FAILS)
    now_s = time.monotonic()
    waits = []
    for round_ in range(4):
        supervisor["bad"].process.wait(timeout=WAIT_S_MAX)
        assert supervisor.step(now_s)
        name, code, wait_s = deaths[-1]
        assert (name, code) == ("bad", 3)
        assert supervisor["bad"].life is Life.WAITING
        assert not supervisor.step(now_s + wait_s - 0.01), "not before its time"
        now_s += wait_s
        assert supervisor.step(now_s)
        assert supervisor["bad"].restarts == round_ + 1
        waits.append(wait_s)
    assert waits == sorted(set(waits))
    assert supervisor.last_lines("bad")[-1] == "no disk left"


def test_a_long_life_makes_the_wait_short_again(supervisor: Supervisor, deaths: Deaths) -> None:
    started(supervisor, "bad", FAILS)
    supervisor["bad"].process.wait(timeout=WAIT_S_MAX)
    supervisor["bad"].failures = 7
    supervisor.step(supervisor["bad"].since_s + STEADY_S)
    assert deaths[-1][2] == restart_delay_s(1)


def test_the_first_line_is_read_once_it_is_whole(supervisor: Supervisor) -> None:
    started(supervisor, "good", SLEEP)
    wait_for(lambda: supervisor.first_line("good") is not None)
    assert supervisor.first_line("good") == {"ready": True}
    assert supervisor.first_line("nobody") is None


@pytest.mark.parametrize("line", [b"", b"half", b"no json\n", b"[1]\n", b"\xff\n"])
def test_a_first_line_that_is_none(supervisor: Supervisor, tmp_path: Path, line: bytes) -> None:
    (tmp_path / "logs" / "odd.out").write_bytes(line)
    assert supervisor.first_line("odd") is None


def test_stop_goes_from_the_highest_rank_down(supervisor: Supervisor, tmp_path: Path) -> None:
    goodbye = tmp_path / "goodbye"
    tell = (
        "import pathlib, signal, sys, time\n"
        "def bye(*_):\n"
        f"    with open({str(goodbye)!r}, 'a') as file: file.write(sys.argv[1])\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, bye)\n"
        "print('{\"ready\": true}', flush=True)\n"
        "time.sleep(600)\n"
    )
    for name, rank in (("a", 0), ("b", 1), ("c", 2)):
        started(supervisor, name, (sys.executable, "-c", tell, name), rank)
    wait_for(lambda: all(supervisor.first_line(name) for name in "abc"))
    assert asyncio.run(supervisor.stop()) == []
    assert goodbye.read_text() == "cba"
    assert {held.life for held in supervisor.all()} == {Life.STOPPED}
    assert not supervisor.step(time.monotonic() + 1000), "what was stopped stays stopped"


def test_a_child_that_will_not_go_is_killed_when_somebody_hurries(supervisor: Supervisor) -> None:
    pid = started(supervisor, "deaf", DEAF)
    wait_for(lambda: supervisor.first_line("deaf") is not None)
    supervisor.hurry()
    before = time.monotonic()
    assert asyncio.run(supervisor.stop()) == ["deaf"]
    assert time.monotonic() - before < STOP_S_MAX
    assert not alive(pid)


def test_a_program_that_is_not_there_is_a_setup_problem(supervisor: Supervisor) -> None:
    with pytest.raises(SetupProblem, match="is it installed"):
        started(supervisor, "none", ("/no/such/program",))


def test_a_log_that_grows_is_emptied_and_written_on(supervisor: Supervisor) -> None:
    words = (
        "import sys, time\n"
        f"sys.stderr.write('x' * {LOG_BYTES_MAX + 1} + '\\n'); sys.stderr.flush()\n"
        "sys.stdin.read(); print('{}', flush=True)\n"
        "time.sleep(0.2); sys.stderr.write('after\\n'); sys.stderr.flush(); time.sleep(600)\n"
    )
    started(supervisor, "loud", (sys.executable, "-c", words))
    wait_for(lambda: supervisor.first_line("loud") is not None)
    supervisor.trim_logs()
    assert supervisor.log_path("loud").stat().st_size < LOG_BYTES_MAX
    wait_for(lambda: supervisor.last_lines("loud") == ["after"])
    assert supervisor.log_path("loud").read_bytes() == b"after\n", "no hole before it"


def test_ends_have_words() -> None:
    assert end_in_words(1) == "exited with 1"
    assert end_in_words(-signal.SIGKILL) == "killed by SIGKILL"
    assert end_in_words(-60) == "killed by signal 60"


PARENT = """
import os, sys, time
from pathlib import Path
from hil.supervisor import Child, Supervisor
supervisor = Supervisor(Path(sys.argv[1]), died=lambda *_: None)
command = (sys.executable, "-c", sys.argv[2])
pids = [supervisor.start(Child(name=n, command=command, rank=0)).process.pid for n in "ab"]
while not all(supervisor.first_line(n) for n in "ab"):
    time.sleep(0.01)
print(*pids, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_no_child_outlives_a_supervisor_that_was_killed(tmp_path: Path, end: int) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", PARENT, str(tmp_path), DEAF_WORDS),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            assert len(pids) == 2
            assert all(alive(pid) for pid in pids)
        finally:
            os.kill(parent.pid, end)
    wait_for(lambda: not any(alive(pid) for pid in pids))
