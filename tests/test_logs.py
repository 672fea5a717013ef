"""Goal: no personal value reaches a log line, however deep it lies and at whatever level; a line
is JSON unless somebody watches.

Method: every personal field at every level, plain, in a mapping, in a list, in other letters; a
stream that is a terminal and one that is not.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from edge import logs

SECRET = "04a1b2c3d4e580"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("level", logs.LEVELS)
@pytest.mark.parametrize("terminal", [False, True])
def test_a_personal_field_is_hidden_at_every_level(level: str, terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    logs.set_up("edge", level="debug", stream=stream)
    say = getattr(logs.get("gate"), level)
    for field in logs.PERSONAL:
        say("card read", **{field: SECRET})
        say("card read", **{field: SECRET.encode()})
        say("card read", **{field.upper(): SECRET})
        say("card read", **{field: [SECRET]})
        say("card read", read={"at": 1, field: SECRET, "more": [{field: (SECRET,)}]})
    out = stream.getvalue()
    assert SECRET not in out
    assert out.count("[personal]") >= 6 * len(logs.PERSONAL)


def test_a_bound_personal_field_is_hidden_too() -> None:
    stream = io.StringIO()
    logs.set_up("edge", stream=stream)
    logs.get("gate").bind(uid=SECRET, reader="north-in").info("read")
    [line] = lines(stream)
    assert (line["uid"], line["reader"]) == ("[personal]", "north-in")


def test_a_line_is_one_json_object() -> None:
    stream = io.StringIO()
    logs.set_up("sync", stream=stream)
    logs.get("uplink").warning("не в сети\nбольше", why="broker", count=3, parts=("a", "b"))
    [line] = lines(stream)
    assert line["event"] == "не в сети\nбольше"
    assert (line["process"], line["part"], line["level"]) == ("sync", "uplink", "warning")
    assert (line["why"], line["count"], line["parts"]) == ("broker", 3, ["a", "b"])
    assert str(line["timestamp"]).endswith("Z")
    assert "не в сети" in stream.getvalue()  # As a person reads it.


def test_a_terminal_gets_words() -> None:
    stream = Terminal()
    logs.set_up("edge", stream=stream)
    logs.get("gate").info("reader up", reader="north-in")
    out = stream.getvalue()
    assert "reader up" in out
    assert "north-in" in out
    with pytest.raises(ValueError):
        json.loads(out)


@pytest.mark.parametrize("terminal", [False, True])
def test_an_exception_is_told_without_the_values_around_it(terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    logs.set_up("edge", stream=stream)
    uid = "".join(["04a1", "b2c3", "d4e580"])
    try:
        raise ValueError(f"{len(uid)} digits")
    except ValueError:
        logs.get("gate").exception("a mistake of ours")
    out = stream.getvalue()
    assert "ValueError: 14 digits" in out
    assert uid not in out


@pytest.mark.parametrize("level", logs.LEVELS)
def test_what_is_below_the_level_is_not_written(level: str) -> None:
    stream = io.StringIO()
    logs.set_up("edge", level=level, stream=stream)
    log = logs.get("gate")
    for each in logs.LEVELS:
        getattr(log, each)(each)
    written = [line["event"] for line in lines(stream)]
    assert written == list(logs.LEVELS[logs.LEVELS.index(level) :])
