"""What holds for every test: nothing is skipped in silence.

A test that cannot run says why; with `CI=true` that is a failure. Tests marked `rig` need real
hardware: they are not part of a run unless `RIG` names its wiring file, and the run says so.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import pytest

CI = os.environ.get("CI") == "true"
COMPUTING_EACH = 2  # Our choice: those that wait are through when a tenth of the time is left.


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the files out (see `_dealt`). Leave out what needs a rig, and count it."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    items[:] = [item for path in _dealt(files) for item in files[path]]
    if "RIG" in os.environ:
        return
    rig = [item for item in items if item.get_closest_marker("rig") is not None]
    if rig:
        config.hook.pytest_deselected(items=rig)
        items[:] = [item for item in items if item not in rig]
        config.stash[RIG_COUNT] = len(rig)


def _dealt(files: Mapping[Path, Sequence[pytest.Item]]) -> list[Path]:
    """Files in the order in which workers take them: after each that waits for processes some that
    compute, so that whenever one waits another has work for its core. What is left at the end
    computes and is short, so no worker is left alone with it."""
    waiting = [path for path, inside in files.items() if any(map(_waits, inside))]
    computing = [path for path in files if path not in waiting]
    computing.sort(key=lambda path: -_slow(files[path]))
    dealt: list[Path] = []
    for path in waiting:
        dealt += [path, *computing[:COMPUTING_EACH]]
        del computing[:COMPUTING_EACH]
    return dealt + computing


def _waits(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) is not None for name in ("process", "browser"))


def _slow(items: Sequence[pytest.Item]) -> int:
    return sum(item.get_closest_marker("slow") is not None for item in items)


RIG_COUNT = pytest.StashKey[int]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    count = config.stash.get(RIG_COUNT, 0)
    if count:
        terminalreporter.write_line(
            f"{count} tests need real hardware: set RIG=<device.toml of the rig>"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped, which CI does not allow: {reason}"
    return report
