"""What holds for every test: nothing is skipped in silence.

A test that cannot run says why; with `CI=true` that is a failure. Tests marked `rig` need real
hardware: they are not part of a run unless `RIG` names its wiring file, and the run says so.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

CI = os.environ.get("CI") == "true"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What waits for processes goes first, or the last worker would be left alone with it. Leave
    out what needs a rig, and count it."""
    waits = {item.path for item in items if _waits(item)}
    items.sort(key=lambda item: item.path not in waits)
    if "RIG" in os.environ:
        return
    rig = [item for item in items if item.get_closest_marker("rig") is not None]
    if rig:
        config.hook.pytest_deselected(items=rig)
        items[:] = [item for item in items if item not in rig]
        config.stash[RIG_COUNT] = len(rig)


def _waits(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) is not None for name in ("process", "browser"))


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
