"""Goal: a process that ends says in its exit code and in one line whose turn it is, and gives away
nothing personal; a damaged `sync.db` is mended by the next start.

Method: `main` with runs that end in each way; the same file read whole and with a page overwritten.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from edge import logs, machine
from edge.config import load
from edge.model import CorruptData, DeviceFault, SetupProblem
from edge.offline_cache.epochs import open_store
from edge.offline_cache.soundness import is_whole
from edge.offline_cache.store import DamagedFile, FileKind, Writer
from edge.settings import DeviceSettings
from sync import __main__ as sync_process
from tests.support.times import at
from tests.sync.sync_world import TOML

NAME = "Иванова Аня"


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    """Logging as it was: `main` sets it up for a process, and here a process goes on."""
    umask = os.umask(0o022)
    yield
    os.umask(umask)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logs.set_level("info")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "device.toml"
    path.write_text(TOML)
    monkeypatch.setattr(sys, "argv", ["sync", "--config", str(path)])
    (tmp_path / "state").mkdir()
    return path


def fault(_settings: DeviceSettings) -> None:
    raise KeyError(NAME)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (SetupProblem("no key; provision"), 1),
        (DeviceFault("disk: no; check it"), 1),
        (CorruptData("sync.db: damaged; start again"), 1),
    ],
)
def test_the_exit_code_says_whose_turn_it_is(
    config: Path, capsys: pytest.CaptureFixture[str], error: Exception | None, code: int
) -> None:
    def run(settings: DeviceSettings) -> None:
        assert settings.source == config
        if error is not None:
            raise error

    assert machine.main("sync", "Carries.", run) == code
    assert capsys.readouterr().err == ("" if error is None else f"sync: {error}\n")


def test_a_fault_of_ours_is_2_and_says_where_and_nobodys_name(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert machine.main("sync", "Carries.", fault) == 2
    said = capsys.readouterr().err
    assert "KeyError" in said and f"{Path(__file__).name}" in said and " fault" in said
    line = json.loads(logs.recent(0)[-1])
    assert line["fault"] == "KeyError" and line["places"][-1].endswith(" fault")
    assert NAME not in said and NAME not in json.dumps(line, ensure_ascii=False)


def test_a_damaged_store_is_marked_and_the_next_start_sets_it_aside(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(config)
    store = Writer(settings.sync_path, FileKind.SYNC)
    with store.transaction() as db:
        db.executemany(
            "INSERT INTO counters VALUES (?, ?)", ((f"{n:0200}", n) for n in range(2_000))
        )
    store.checkpoint()
    store.close()
    assert is_whole(settings.sync_path, FileKind.SYNC)

    def carry(_settings: DeviceSettings) -> None:
        raise DamagedFile("a page")

    monkeypatch.setattr(sync_process, "carry", carry)
    with pytest.raises(CorruptData, match=r"^a page$"):
        sync_process.run(settings)  # A picture's page: nothing is wrong with the store.
    assert not settings.sync_path.with_name("sync.db.unsound").exists()
    content = bytearray(settings.sync_path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8_192] = b"x" * 8_192
    settings.sync_path.write_bytes(content)
    assert not is_whole(settings.sync_path, FileKind.SYNC)
    with pytest.raises(CorruptData, match="start sync again"):
        sync_process.run(settings)
    again = open_store(settings.sync_path, machine="this", moment=at())
    assert list(settings.sync_path.parent.glob("sync.db.damaged-*"))
    again.close()
