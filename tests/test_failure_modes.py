"""Goal: every way in which the wire is known to fail has a test, and that test is there.

Method: pytest itself collects the files that `failure_modes.py` names, in a process of its own; a
test that was renamed, taken out or is no longer collected is missed here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.failure_modes import MODES

ROOT = Path(__file__).parent.parent
COLLECT_S_MAX = 240.0  # Our choice: a loaded machine; an idle one takes three seconds.
# What the city was promised to be shown: words that some mode's name must have.
PROMISED = (
    *("acknowledges and forgets", "queue", "PUBACK with a failure", "PUBACK never"),
    *("acknowledgement is lost", "another epoch", "of the future", "duplicated", "overlapping"),
    *("city is down", "restored from a backup", "restored from an image"),
    *("statement of a tap", "statement of a drain", "statement of a swap", "WAL lost its tail"),
    *("disk full", "EIO", "read-only", "flush stalls", "1970", "2099", "jumps within a batch"),
    *("week's outage", "ten thousand", "handshake that hangs", "captive portal", "DNS"),
    *("half-open", "device's certificate has ended", "authority's certificate has ended"),
    *("same client id twice", "Receive Maximum 1", "8 KB", "rollback", "freeze", "fast-forward"),
    *("mix-and-match", "wrong scope", "truncation", "cut at each chunk", "delta is missing"),
    *("delta comes again", "another list epoch", "set digest", "exception in any callback"),
    *("dead thread", "poison fact", "configuration change", "schema upgrade", "two writers"),
    *("broker killed", "cluster"),
)


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """Every test of the named files, without its parameters, below `tests/`."""
    files = sorted(
        {f"tests/{test.partition('::')[0]}" for tests in MODES.values() for test in tests}
    )
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p"]
    inner = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    ended = subprocess.run(
        [*argv, "no:cacheprovider", *files],
        cwd=ROOT,
        env=inner,
        capture_output=True,
        text=True,
        timeout=COLLECT_S_MAX,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3_000:] + ended.stderr[-3_000:]
    lines = [line for line in ended.stdout.splitlines() if "::" in line]
    return {line.partition("[")[0].removeprefix("tests/") for line in lines}


def test_every_mode_has_a_test_and_every_test_is_there(collected: set[str]) -> None:
    missing = {
        mode: [test for test in tests if test not in collected]
        for mode, tests in MODES.items()
        if not tests or not set(tests) <= collected
    }
    assert missing == {}


def test_a_test_that_is_gone_is_missed(collected: set[str]) -> None:
    """The set is what pytest collects, and not what stands in a file."""
    assert "sync/test_outages.py::test_a_poison_fact_blocks_nobody_behind_it" in collected
    assert "sync/test_outages.py::record" not in collected


def test_every_promised_mode_is_named() -> None:
    assert [words for words in PROMISED if not any(words in mode for mode in MODES)] == []
