"""A process that ends itself by SIGKILL at the k-th thing it does to its files.

What counts: every SQL statement that begins, every file removed or renamed, every database
opened. Nothing gets a chance to tidy up, and the lock files fall with the process.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

DONE = 17  # The exit code of a scenario that came to its end.
FILE_EVENTS = frozenset({"os.remove", "os.rename", "sqlite3.connect"})


def killed_at(step: int, scenario: Callable[[], None]) -> bool:
    """Run the scenario in a child that dies at the `step`-th step; False when it had fewer."""
    child = os.fork()
    if child == 0:
        try:
            _count_down(step)
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


def _count_down(step: int) -> None:
    left = step

    def one_more(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def counting(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*args, **kwargs)
        db.set_trace_callback(one_more)
        return db

    setattr(sqlite3, "connect", counting)  # noqa: B010  A child's own copy of the module.
    sys.addaudithook(lambda event, _args: one_more() if event in FILE_EVENTS else None)
