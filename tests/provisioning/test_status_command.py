"""Goal: what the two processes say can be read aloud, and the exit code says whether to worry.

Method: real control sockets answer with what edge and sync answer, changed in one place at a time.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from provisioning.cli import GOOD, YOURS
from provisioning.status import watch
from tests.provisioning.conftest import Run
from tests.provisioning.enrolment_city import EnrolmentCity
from tests.provisioning.running import edge_status, running, sync_status


@pytest.fixture
def installed(template: tuple[EnrolmentCity, Path], tmp_path: Path) -> Path:
    shutil.copytree(template[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / "device.toml"


def test_all_good_is_said_line_by_line(run: Run, installed: Path) -> None:
    with (
        running(installed, "edge", {"status": edge_status()}),
        running(installed, "sync", {"status": sync_status()}),
    ):
        words = run("status", "--config", installed)
        facts = json.loads(run("status", "--config", installed, "--json").stdout)
    assert words.exit_code == GOOD, words.output
    assert "look" not in words.output
    for text in ("entrance gate-1", "reader r1", "north-in idle", "version 1.7", "has everything"):
        assert text in words.output
    assert facts["ok"] is True and facts["edge"]["station"] == "entrance"


@pytest.mark.parametrize(
    ("edge", "sync", "said"),
    [
        ({"readers": [{"reader": "r1", "up": False, "reason": "no [r1] there"}]}, {}, "no [r1]"),
        ({"clock": "unknown", "clock_trusted": False}, {}, "not to be trusted"),
        ({"lists": {}}, {}, "none yet"),
        ({"lists": {"problem": "picture is gone"}}, {}, "picture is gone"),
        ({"simulated_taps": True}, {}, "benches only"),
        ({"lanes": [{"lane": "north", "alarms": ["fire_clear"]}]}, {}, "alarm: fire_clear"),
        ({"ok": False, "error": "stuck"}, {}, "stuck"),
        ({}, {"connected": False, "reason": "no route"}, "no route"),
        ({"disk": {"alarms": ["the disk is 91 % full; free it"]}}, {}, "the disk is 91 % full"),
        ({}, {"connected": False, "reason": "no", "next_try_s": 212}, "next try in 212 s"),
        ({}, {"alarms": ["list x/people is lost; connect"]}, "list x/people is lost"),
        ({}, {"refused": {"head": 2}}, "2 of head"),
        ({}, {"device": "gate-2"}, "runs as another device: gate-2"),
    ],
    ids=str,
)
def test_what_wants_a_look_is_said(
    run: Run, installed: Path, edge: dict[str, Any], sync: dict[str, Any], said: str
) -> None:
    with (
        running(installed, "edge", {"status": edge_status(**edge)}),
        running(installed, "sync", {"status": sync_status(**sync)}),
    ):
        result = run("status", "--config", installed)
    assert result.exit_code == YOURS
    line = next(line for line in result.output.splitlines() if said in line)
    assert "look" in line


def test_nobody_running_is_said_and_no_fault(run: Run, installed: Path) -> None:
    result = run("status", "--config", installed)
    assert result.exit_code == YOURS
    assert "is the agent running?" in " ".join(result.output.split())


def test_waiting_facts_are_counted(run: Run, installed: Path) -> None:
    waiting = sync_status(streams={"main": {"epoch": "e", "head": 12, "acknowledged": 9}})
    with (
        running(installed, "edge", {"status": edge_status()}),
        running(installed, "sync", {"status": waiting}),
    ):
        result = run("status", "--config", installed)
    assert "3 facts wait" in result.output and result.exit_code == GOOD


def test_watching_goes_on_until_it_is_stopped() -> None:
    shown: list[int] = []

    def show() -> int:
        shown.append(1)
        return YOURS

    def wait(seconds: float) -> None:
        if len(shown) == 3:
            raise KeyboardInterrupt

    assert watch(show, wait) == YOURS
    assert len(shown) == 3


def test_watching_in_json_is_a_line_a_look(
    run: Run, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioning.status.watch", lambda show: show() and show())
    result = run("status", "--config", installed, "--watch", "--json")
    assert [json.loads(line)["ok"] for line in result.stdout.splitlines()] == [False, False]


def test_a_line_is_moved_and_the_device_blinks(run: Run, installed: Path) -> None:
    with running(installed, "edge", {"move": {"ok": True}, "identify": {"ok": True}}) as asked:
        assert run("line", "north-in.rotation", "on", "--config", installed).exit_code == GOOD
        assert run("line", "north-in.rotation", "off", "--config", installed).exit_code == GOOD
        assert run("identify", "--config", installed, "--json").exit_code == GOOD
    move = {"request": "move", "line": "north-in.rotation"}
    assert asked == [move | {"active": True}, move | {"active": False}, {"request": "identify"}]


def test_a_refusal_is_told_in_edges_words(run: Run, installed: Path) -> None:
    with running(installed, "edge", {"move": {"ok": False, "error": "a real line"}}):
        result = run("line", "north-in.rotation", "on", "--config", installed)
    assert result.exit_code == YOURS and "edge refuses: a real line" in result.stderr
    assert run("identify", "--config", installed).exit_code == YOURS
    assert run("line", "north-in.rotation", "up", "--config", installed).exit_code == YOURS
