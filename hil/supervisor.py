"""Starts the miniature's processes, keeps them up, and lets none of them outlive it.

A child gets SIGKILL from the kernel when the supervisor is gone, `kill -9` included
(PR_SET_PDEATHSIG), so a crash leaves nothing behind. A child that dies is started again after a
growing wait. Children are stopped in order, the ones started last first, with a bounded wait.

What the processes are, and when one counts as ready, is the miniature's business.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.model import SetupProblem

PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>
RESTART_S_FIRST: Final = 0.5  # Our choice: quick once, for what a restart mends.
RESTART_S_MAX: Final = 30.0  # Our choice: a child that cannot run is tried twice a minute.
STEADY_S: Final = 30.0  # Our choice, as protocol.md's reconnect: after this it was a good life.
STOP_S_MAX: Final = 8.0  # Our choice: a commit takes milliseconds, a goodbye to a broker seconds.
LOOK_S: Final = 0.05  # Our choice: how often a stop looks whether a child is gone.
LOG_BYTES_MAX: Final = 4 * 1024 * 1024  # Our choice: a day of a quiet station is 200 KiB.
LINE_BYTES_MAX: Final = 64 * 1024  # Our choice: a first line is 100 bytes; the rest is not one.

# Loaded before any fork: between fork and exec nothing may be looked up.
_PRCTL: Final = ctypes.CDLL(None, use_errno=True).prctl


@unique
class Life(StrEnum):
    """Where a child stands."""

    RUNNING = "running"
    WAITING = "waiting"  # It died; it is started again at `due_s`.
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One process to keep up. Children of a higher `rank` are stopped first."""

    name: str
    command: tuple[str, ...]
    rank: int
    folder: Path | None = None
    environment: Mapping[str, str] | None = None  # Beside ours.


@dataclass(slots=True, kw_only=True)
class Held:
    """A child and what has become of it. Times are seconds of the monotonic clock."""

    child: Child
    process: subprocess.Popen[bytes]
    life: Life
    since_s: float
    due_s: float = 0.0
    restarts: int = 0
    failures: int = 0  # In a row, each after a life shorter than `STEADY_S`.
    exit_code: int | None = None


def restart_delay_s(failures: int) -> float:
    """How long to wait before the next start, after so many short lives in a row.

    >>> [restart_delay_s(failures) for failures in (1, 2, 3, 20)]
    [0.5, 1.0, 2.0, 30.0]
    """
    assert failures >= 1
    doublings = min(failures - 1, 16)
    return min(RESTART_S_FIRST * (1 << doublings), RESTART_S_MAX)


def end_in_words(exit_code: int) -> str:
    """`exited with 1`, `killed by SIGKILL`."""
    if exit_code >= 0:
        return f"exited with {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


def dies_with_us() -> Callable[[], None]:
    """What a child does between fork and exec, so that it does not outlive this process."""
    ours = os.getpid()

    def ask_the_kernel() -> None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != ours:  # We were gone before the line above: nobody will tell.
            os._exit(1)

    return ask_the_kernel


class Supervisor:
    """Owns the children. Use it from the main thread only: a child dies with the *thread* that
    made it (prctl(2)), and the main thread lives as long as the process.
    """

    def __init__(self, logs: Path, *, died: Callable[[str, int, float], None]) -> None:
        """`died(name, exit code, seconds until the next start)` is told of every early end."""
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._died = died
        self._held: dict[str, Held] = {}
        self._hurry = False

    def __getitem__(self, name: str) -> Held:
        return self._held[name]

    def all(self) -> tuple[Held, ...]:
        """In the order they were started."""
        return tuple(self._held.values())

    def shown(self) -> list[dict[str, Any]]:
        """Every child as the page shows it."""
        return [
            {
                "name": held.child.name,
                "life": held.life.value,
                "pid": held.process.pid,
                "restarts": held.restarts,
                "end": None if held.exit_code is None else end_in_words(held.exit_code),
            }
            for held in self.all()
        ]

    def log_path(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def start(self, child: Child) -> Held:
        """Raises `SetupProblem` when its program is not there."""
        assert child.name not in self._held, f"{child.name} is started once"
        process = self._spawn(child)
        held = Held(child=child, process=process, life=Life.RUNNING, since_s=time.monotonic())
        self._held[child.name] = held
        return held

    def step(self, now_s: float) -> bool:
        """Look at every child, start again what is due. True when something changed."""
        changed = False
        for held in self._held.values():
            if held.life is Life.RUNNING and (code := held.process.poll()) is not None:
                self._note_death(held, code, now_s)
                changed = True
            elif held.life is Life.WAITING and now_s >= held.due_s:
                held.process = self._spawn(held.child)
                held.life, held.since_s = Life.RUNNING, now_s
                held.restarts += 1
                changed = True
        return changed

    def trim_logs(self) -> None:
        """Empty a log that has grown too long. Children append, so they go on at its new end."""
        for held in self._held.values():
            path = self.log_path(held.child.name)
            if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
                os.truncate(path, 0)

    def replace_command(self, name: str, command: tuple[str, ...]) -> None:
        """What the next start of this child runs."""
        held = self._held[name]
        held.child = replace(held.child, command=command)

    def first_line(self, name: str) -> dict[str, Any] | None:
        """The JSON object of the child's first line on standard output, once it is there."""
        try:
            with (self._logs / f"{name}.out").open("rb") as file:
                line = file.readline(LINE_BYTES_MAX)
        except OSError:
            return None
        if not line.endswith(b"\n"):
            return None
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            return None

    def last_lines(self, name: str, count: int = 5) -> list[str]:
        """The end of the child's log, for a message about its end."""
        try:
            with self.log_path(name).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 8 * 1024))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-count:]

    def hurry(self) -> None:
        """Whoever waits for a stop does not want to any longer: kill now."""
        self._hurry = True

    async def stop(self) -> list[str]:
        """End every child, highest rank first, and return the names of those that were killed."""
        killed = []
        for rank in sorted({held.child.rank for held in self._held.values()}, reverse=True):
            killed += await self._stop_some(
                [held for held in self._held.values() if held.child.rank == rank]
            )
        return killed

    async def _stop_some(self, some: Iterable[Held]) -> list[str]:
        running = []
        for held in some:
            if held.process.poll() is None:
                held.process.terminate()
                running.append(held)
            held.life = Life.STOPPED
        killed = []
        until_s = time.monotonic() + STOP_S_MAX
        while running := [held for held in running if held.process.poll() is None]:
            if self._hurry or time.monotonic() >= until_s:
                for held in running:
                    held.process.kill()
                    held.process.wait()
                    killed.append(held.child.name)
                break
            await asyncio.sleep(LOOK_S)
        return killed

    def _note_death(self, held: Held, code: int, now_s: float) -> None:
        held.failures = 1 if now_s - held.since_s >= STEADY_S else held.failures + 1
        held.exit_code = code
        wait_s = restart_delay_s(held.failures)
        held.life, held.since_s, held.due_s = Life.WAITING, now_s, now_s + wait_s
        self._died(held.child.name, code, wait_s)

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **(child.environment or {})}
        with (
            self.log_path(child.name).open("ab") as log,
            (self._logs / f"{child.name}.out").open("wb") as out,
        ):
            try:
                return subprocess.Popen(
                    child.command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    cwd=child.folder,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is ours: children are stopped in order.
                    preexec_fn=dies_with_us(),
                )
            except OSError as error:
                raise SetupProblem(
                    f"{child.name}: {child.command[0]} does not start ({error}); is it installed?"
                ) from error
