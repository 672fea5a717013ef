"""Goal: a technician can have the certificate renewed and is told the truth about it; log lines are
those of the process that was named.

Method: real control sockets that answer as sync and edge do, a scene at a time; no time passes.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.config import load
from edge.control import ControlSocket
from edge.model import SetupProblem
from provisioning.cli import GOOD, YOURS
from provisioning.keeping import WAIT_S, connected, renewed
from tests.provisioning.conftest import Run
from tests.provisioning.enrolment_city import EnrolmentCity
from tests.provisioning.running import edge_status, running, sync_status

OLD = {"from_utc_s": 0, "until_utc_s": 100, "renewal": "rest", "why": ""}
NEW = OLD | {"until_utc_s": 200}


@pytest.fixture
def installed(template: tuple[EnrolmentCity, Path], tmp_path: Path) -> Path:
    shutil.copytree(template[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / "device.toml"


@contextmanager
def scenes(config: Path, *certificates: dict[str, Any], connected: bool = True) -> Iterator[None]:
    """sync: each status is the next scene, the last one for ever."""
    left = list(certificates)
    wake, stop = threading.Event(), threading.Event()
    control = ControlSocket(load(config).socket_path("sync"), wake.set)

    def loop() -> None:
        while not stop.is_set():
            wake.wait(5)
            wake.clear()
            for request in control.poll():
                if request.name == "renew":
                    request.answer({"ok": True, "connected": connected})
                    continue
                one = left.pop(0) if len(left) > 1 else left[0]
                request.answer(sync_status(certificate=one))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        wake.set()
        thread.join()
        control.close()


class Time:
    def __init__(self) -> None:
        self.now_s = 0.0

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


def renew(config: Path) -> int:
    time = Time()
    return renewed(config, wait=time.wait, now_s=lambda: time.now_s)


def test_it_is_told_when_the_new_one_ends(installed: Path) -> None:
    steps = [OLD | {"renewal": step} for step in ("rest", "rest", "asked", "ready", "trying")]
    with scenes(installed, *steps, NEW):
        assert renew(installed) == 200


@pytest.mark.parametrize(
    ("certificates", "said"),
    [
        ([OLD, OLD | {"renewal": "asked"}, OLD | {"why": "no_answer"}], "no_answer"),
        ([OLD, OLD | {"why": "misfit"}], "misfit"),
        ([OLD | {"why": "denied"}, OLD | {"renewal": "asked", "why": "denied"}, OLD], "stays"),
        ([OLD], "not renewed yet"),
    ],
)
def test_what_went_wrong_is_said(
    installed: Path, certificates: list[dict[str, Any]], said: str
) -> None:
    with scenes(installed, *certificates), pytest.raises(SetupProblem, match=said):
        renew(installed)
    assert WAIT_S > 2 * 60


def test_without_a_connection_it_is_for_later(installed: Path) -> None:
    with (
        scenes(installed, OLD, connected=False),
        pytest.raises(SetupProblem, match="no connection"),
    ):
        renew(installed)


def test_lines_of_the_process_that_was_named(run: Run, installed: Path) -> None:
    told = {"ok": True, "lines": ['{"event":"ready"}', "второй"]}
    with running(installed, "sync", {"logs": told}) as asked:
        words = run("logs", "--config", installed, "--process", "sync", "--minutes", 5)
        facts = json.loads(run("logs", "--config", installed, "--process", "sync", "--json").stdout)
    assert words.exit_code == GOOD and words.stdout.splitlines() == told["lines"]
    assert facts["lines"] == told["lines"] and asked[0]["minutes"] == 5


def test_a_process_that_refuses_is_quoted(run: Run, installed: Path) -> None:
    with running(installed, "edge", {}):
        result = run("logs", "--config", installed)
    assert result.exit_code == YOURS and "edge refuses" in result.output


@pytest.mark.parametrize(
    ("edge", "sync", "said"),
    [
        ({"lockdown": True}, {}, "nobody is let in"),
        ({}, {"refusal": "revoked", "refusal_text": "ask why"}, "revoked: ask why"),
        ({}, {"certificate_left_s": 20 * 86_400}, "ends in 20.0 days"),
        ({}, {"certificate_left_s": -1}, "has ended"),
        (
            {},
            {"configuration": {"wanted": 3, "version": 2, "state": "rolled_back", "why": "x"}},
            "version 3 rolled_back: x",
        ),
        (
            {},
            {"configuration": {"wanted": 3, "version": 2, "state": "refused", "why": "colour"}},
            "refused: colour",
        ),
    ],
    ids=str,
)
def test_status_says_what_wants_a_look(
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


def test_status_is_good_where_all_is_applied(run: Run, installed: Path) -> None:
    sync = sync_status(
        certificate_left_s=60 * 86_400,
        configuration={"wanted": 3, "version": 3, "state": "applied", "why": ""},
        refusal="",
    )
    with (
        running(installed, "edge", {"status": edge_status(lockdown=False)}),
        running(installed, "sync", {"status": sync}),
    ):
        result = run("status", "--config", installed)
    assert result.exit_code == GOOD, result.output
    assert "version 3 applied" in result.output and "60.0 days" in result.output


# ---------------------------------------------------------------------------------- connect

ON_THE_WAY = {"connected": False, "reason": "lost", "next_try_s": None}
FAILED = ON_THE_WAY | {"reason": "no route", "next_try_s": 2}


@contextmanager
def attempts(config: Path, *statuses: dict[str, Any]) -> Iterator[list[str]]:
    """sync: waits for its next try until it is asked to connect; then each status in turn."""
    left, asked = list(statuses), list[str]()
    wake, stop = threading.Event(), threading.Event()
    control = ControlSocket(load(config).socket_path("sync"), wake.set)

    def loop() -> None:
        while not stop.is_set():
            wake.wait(5)
            wake.clear()
            for request in control.poll():
                asked.append(request.name)
                if request.name == "connect":
                    request.answer({"ok": True, "connected": False, "trying": True})
                elif "connect" not in asked:
                    request.answer(sync_status(**FAILED | {"next_try_s": 200}))
                else:
                    request.answer(sync_status(**(left.pop(0) if len(left) > 1 else left[0])))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        wake.set()
        thread.join()
        control.close()


def connect(config: Path) -> str:
    time = Time()
    return connected(config, wait=time.wait, now_s=lambda: time.now_s)


def test_a_device_is_told_to_try_and_reaches_the_city(installed: Path) -> None:
    with attempts(installed, ON_THE_WAY, ON_THE_WAY, {"connected": True}) as asked:
        assert connect(installed) == "mqtts://broker.example:8883"
    assert asked == ["connect", "status", "status", "status"]


@pytest.mark.parametrize(
    ("statuses", "words"),
    [((ON_THE_WAY, FAILED), "no route"), ((ON_THE_WAY,), "no answer yet")],
)
def test_a_try_that_failed_says_why(
    installed: Path, statuses: tuple[dict[str, Any], ...], words: str
) -> None:
    with attempts(installed, *statuses), pytest.raises(SetupProblem, match=words):
        connect(installed)
