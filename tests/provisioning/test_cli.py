"""Goal: the command answers at once, names what was mistyped, and its exit codes mean something.

Method: what `--help` imports is read off a fresh interpreter; entry points are stood in for; each
kind of exception goes through the one place that turns it into an exit code.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import Result

from edge.model import CorruptData, DeviceFault, SetupProblem
from provisioning import cli
from tests.provisioning.conftest import Run

HEAVY = (
    *("cryptography", "paho", "gpiozero", "lgpio", "rich", "msgspec", "serial", "smartcard"),
    *("sqlite3", "sqlite_utils", "structlog", "starlette", "amqtt", "edge.messages", "edge.trust"),
)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from provisioning.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('LOADED', *sorted(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "provision " in done.stdout
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert not {name for name in loaded if name.startswith("provisioning.")} - {"provisioning.cli"}


def test_every_command_of_the_table_is_there_and_helps(run: Run) -> None:
    for name in cli.COMMANDS:
        result = run(name, "--help")
        assert result.exit_code == 0, result.output
        assert result.output.startswith(f"Usage: moskvenok {name}")


def test_the_manual_has_the_verbs_of_the_table_in_the_order_of_a_visit() -> None:
    text = (Path(cli.__file__).parent / "README.md").read_text()
    assert re.findall(r"^## .*`moskvenok (\w+)`", text, re.M) == list(cli.COMMANDS)


def test_the_manual_shows_only_options_that_exist() -> None:
    text = (Path(cli.__file__).parent / "README.md").read_text()
    for name in cli.COMMANDS:
        section = re.search(rf"^## .*`moskvenok {name}`\n(.*?)(?=^## |\Z)", text, re.M | re.S)
        assert section is not None
        command = cli.main.get_command(click.Context(cli.main), name)
        assert command is not None
        parts = [command, *getattr(command, "commands", {}).values()]
        known = {option for part in parts for one in part.params for option in one.opts}
        assert set(re.findall(r"--[a-z][a-z-]+", section[1])) <= known, name


@pytest.mark.parametrize(
    ("typed", "meant"), [("docter", "doctor"), ("provison", "provision"), ("stauts", "status")]
)
def test_a_mistyped_command_is_answered_with_the_nearest(run: Run, typed: str, meant: str) -> None:
    result = run(typed)
    assert result.exit_code == cli.YOURS
    assert f'There is no command "{typed}". Did you mean {meant}?' in result.output


def test_nothing_like_it_points_to_the_help(run: Run) -> None:
    assert 'See "moskvenok --help"' in run("xyzzy").output


def test_a_mistyped_option_is_yours_too(run: Run) -> None:
    result = run("status", "--jsn")
    assert result.exit_code == cli.YOURS
    assert "--json" in result.output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SetupProblem("r1: pull its plug"), cli.YOURS),
        (DeviceFault("r1: pull its plug"), cli.YOURS),
        (CorruptData("r1: pull its plug"), cli.YOURS),
        (click.Abort(), cli.YOURS),
        (click.UsageError("r1: pull its plug"), cli.YOURS),
        (ValueError("r1: pull its plug"), cli.OURS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_wrong_has_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    result = _calling(run, monkeypatch, error)
    assert result.exit_code == code
    if not isinstance(error, click.Abort):
        assert "r1: pull its plug" in result.stderr
    found = json.loads(result.stdout)
    assert found["ok"] is False and found["schema"] == 1


def _calling(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Result:
    @click.command()
    @click.option("--json", is_flag=True)
    def boom(json: bool) -> None:
        raise error

    monkeypatch.setitem(sys.modules, "boom", SimpleNamespace(boom=boom))
    monkeypatch.setitem(cli.COMMANDS, "boom", ("boom", "boom", "Fails."))
    return run("boom", "--json")


def test_a_command_of_another_package_is_listed_unloaded_and_can_be_called(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def wave() -> None:
        click.echo("waved")

    table = {"wave": ("bench_of_test", "wave", "Wave a card.")}
    _entry_points(monkeypatch, bench=table)
    result = run("--help")
    assert "Wave a card." in result.output and "Not available" not in result.output
    assert run("wave").exit_code == cli.YOURS  # Its module is not installed: said, not thrown.
    assert "install" in run("wave").stderr
    monkeypatch.setitem(sys.modules, "bench_of_test", SimpleNamespace(wave=wave))
    assert run("wave").output == "waved\n"
    assert "Did you mean wave" in run("wav").output


@pytest.mark.parametrize(
    "table",
    [
        ImportError("no module named bench"),
        ValueError("anything"),
        ["wave"],
        {"wave": "bench:wave"},
        {"wave": ("bench", "wave")},
        {"wave": ("bench", "wave", 3)},
        {7: ("bench", "wave", "Wave.")},
        {"status": ("bench", "status", "Another status.")},
    ],
    ids=str,
)
def test_a_broken_entry_point_breaks_nothing_else(
    run: Run, monkeypatch: pytest.MonkeyPatch, table: Any
) -> None:
    _entry_points(monkeypatch, bad=table, good={"wave": ("bench", "wave", "Wave a card.")})
    result = run("--help")
    assert result.exit_code == cli.GOOD
    assert '"bad"' in result.output and "Wave a card." in result.output
    assert run("version", "--json").exit_code == cli.GOOD
    assert run("status", "--help").output.startswith("Usage: moskvenok status")


def _entry_points(monkeypatch: pytest.MonkeyPatch, **tables: Any) -> None:
    class Entry:
        def __init__(self, name: str, table: Any) -> None:
            self.name, self._table = name, table

        def load(self) -> Any:
            if isinstance(self._table, Exception):
                raise self._table
            return self._table

    def entry_points(*, group: str) -> list[EntryPoint]:
        assert group == cli.GROUP
        return [Entry(name, table) for name, table in tables.items()]  # type: ignore[misc]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    monkeypatch.setattr(cli.main, "_added", None)


def test_version_says_what_is_installed(run: Run) -> None:
    found = json.loads(run("version", "--json").output)
    assert found["software"] and found["wire"] == 1
    assert set(found["databases"]) == {"journal", "sync", "picture"}
    assert found["software"] in run("version").output
