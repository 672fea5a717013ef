"""Goal: the newest lines are there for whoever asks from afar, within bounds and redacted; how much
is logged can be changed while the process runs.

Method: lines of every size into small rings; every level against every other.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from edge import logs
from edge.logs import LINE_CHARS_MAX, LevelKeeper, Ring


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    logs.set_level("info")
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@given(st.lists(st.text(max_size=40)), st.integers(0, 200))
def test_a_ring_keeps_the_newest_within_its_bytes(lines: list[str], bytes_max: int) -> None:
    ring = Ring(bytes_max)
    for at_ms, line in enumerate(lines):
        ring.add(at_ms, line)
    kept = ring.since(0)
    assert kept == lines[len(lines) - len(kept) :]
    size = sum(len(line.encode()) for line in kept)
    assert size <= bytes_max
    if len(kept) < len(lines):
        assert size + len(lines[-len(kept) - 1].encode()) > bytes_max


def test_a_long_line_is_cut_and_the_window_is_kept_to() -> None:
    ring = Ring()
    for at_ms in (10, 20, 30):
        ring.add(at_ms, "x" * 5_000)
    assert [len(line) for line in ring.since(0)] == [LINE_CHARS_MAX + 1] * 3
    assert len(ring.since(20)) == 2 and ring.since(31) == []


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_kept_is_json_and_as_redacted_as_what_is_written(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_ring", Ring())
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    logs.set_up("edge", stream=stream)
    logs.get("gate").warning("read", uid="04aabb", reader="r1")
    [line] = logs.recent(0)
    kept = json.loads(line)
    assert (kept["uid"], kept["reader"], kept["level"]) == ("[personal]", "r1", "warning")
    assert "04aabb" not in stream.getvalue()


@pytest.mark.parametrize("level", logs.LEVELS)
def test_below_the_level_nothing_is_written_or_kept(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_ring", Ring())
    stream = io.StringIO()
    logs.set_up("edge", stream=stream)
    log = logs.get("gate")
    logs.set_level(level)
    for one in logs.LEVELS:
        getattr(log, one)(one)
    expected = list(logs.LEVELS[logs.LEVELS.index(level) :])
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == expected
    assert [json.loads(line)["event"] for line in logs.recent(0)] == expected
    log.exception("always", exc_info=False)
    assert "always" in stream.getvalue()


def test_an_order_goes_before_the_citys_setting_and_that_before_the_file() -> None:
    keeper = LevelKeeper("warning")

    def level(configured: str, now_ms: int) -> int:
        keeper.settle(configured, now_ms)
        return logs._level

    assert level("", 0) == 30
    assert level("error", 0) == 40
    keeper.order("debug", 1, 0)
    assert logs._level == 10
    assert level("error", 59_999) == 10
    assert level("error", 60_000) == 40
    keeper.order("info", 0, 60_000)
    assert level("error", 10**12) == 20
