"""A process that ends itself by SIGKILL at the k-th thing it does to its files.

What counts: every SQL statement that begins, every file removed or renamed, every database
opened. Nothing gets a chance to tidy up, and the lock files fall with the process. With `within`,
only what changes files of that folder counts, and only once the scenario has called `arm`: to die
at a read is to die at the next write.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DONE = 17  # The exit code of a scenario that came to its end.
FILE_EVENTS = frozenset({"os.remove", "os.rename", "sqlite3.connect"})


_armed = True


def arm() -> None:
    """From here on steps count."""
    global _armed
    _armed = True


def killed_at(step: int, scenario: Callable[[], None], *, within: Path | None = None) -> bool:
    """Run the scenario in a child that dies at the `step`-th step; False when it had fewer."""
    child = os.fork()
    if child == 0:
        try:
            _count_down(step, within)
            scenario()
            os._exit(DONE)
        except BaseException:  # Reported through the exit code; a child never returns to pytest.
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == DONE, "the scenario itself failed; see its traceback"
    return False


def steps_until_done(scenario: Callable[[], None]) -> Iterator[int]:
    """Kill at step 1, 2, 3 …; after each kill the caller looks. Ends when nothing is left."""
    step = 1
    while killed_at(step, scenario):
        yield step
        step += 1
    assert step > 1, "a scenario that does nothing shows nothing"


@contextmanager
def child_doing(work: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """A child that writes to a pipe: (its pid, the pipe's reading end). Killed at the end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            work(writing)
        except BaseException:  # As above.
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    os.close(writing)
    try:
        yield child, reading
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)


def _count_down(step: int, within: Path | None) -> None:
    global _armed
    left, _armed = step, within is None

    def one_more(statement: str = "") -> None:
        nonlocal left
        if within is not None and statement.startswith(("SELECT", "PRAGMA")):
            return
        left -= _armed
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def ours(path: object) -> bool:
        return within is None or str(within) in str(path)

    def counting(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*args, **kwargs)
        if ours(args[0]):
            db.set_trace_callback(one_more)
        return db

    setattr(sqlite3, "connect", counting)  # noqa: B010  A child's own copy of the module.

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and ours(args[0]):
            one_more()

    sys.addaudithook(hook)
