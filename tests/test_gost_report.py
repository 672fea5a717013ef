"""Goal: every line of `docs/gost-51241.md` names tests and scenarios that exist and are run.

Method: the page is read, pytest collects the files it names in a process of its own, scenarios are
looked up in their folder. A name that is nowhere, and a line that names nothing, must be found.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hil.scenarios.script import all_scripts, load

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gost-51241.md"
DEMANDS = 8  # Of 5.3.1.
TEST = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")
SCENARIO = re.compile(r"scenario `(\w+)`")


def lines_of(text: str) -> list[str]:
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]  # Below the heading of the table.


def named(text: str) -> tuple[set[tuple[str, str]], set[str]]:
    return set(TEST.findall(text)), set(SCENARIO.findall(text))


def problems(text: str, collected: str) -> list[str]:
    """What the page says that is not so."""
    found = []
    ids = set(re.findall(r"^tests/(\S+\.py)::(\w+)", collected, re.M))
    files = {file for file, _ in ids}
    scenarios = {path.stem for path in all_scripts()}
    for line in lines_of(text):
        tests, shown = named(line.split("|")[3])
        if not tests or not shown:
            found.append(f"names no test or no scenario: {line[:60]}")
        for file, test in sorted(tests):
            if file not in files or (test and (file, test) not in ids):
                found.append(f"no such test: {file} {test}")
        found += [f"no such scenario: {name}" for name in sorted(shown - scenarios)]
    return found


@pytest.fixture(scope="module")
def collected() -> str:
    tests, _ = named("\n".join(lines_of(PAGE.read_text(encoding="utf-8"))))
    files = sorted({f"tests/{file}" for file, _ in tests})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    return done.stdout


@pytest.mark.slow
def test_every_demand_names_what_shows_it_and_that_is_run(collected: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(lines_of(text)) == DEMANDS
    assert problems(text, collected) == []
    for name in named(text)[1]:
        load(ROOT / "hil" / "scenarios" / f"{name}.toml")


@pytest.mark.slow
def test_a_name_that_is_nowhere_is_found(collected: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert problems(text.replace("scenario `forced`", "scenario `forsed`"), collected) == [
        "no such scenario: forsed"
    ]
    gone = text.replace("::test_gost_51241_forced_opening_is_an_alarm", "::test_gone")
    assert problems(gone, collected) == ["no such test: test_agent_lane.py test_gone"]
    assert len(problems(SCENARIO.sub("", text), collected)) == DEMANDS
