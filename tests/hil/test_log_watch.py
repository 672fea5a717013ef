"""Goal: a person sees what matters of the logs, once in a while, and nothing else of them.

Method: files written as the children write them; time passed in.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.log_watch import QUIET_S, REMEMBERED_MAX, LogWatch, read_line


def line(level: str, event: str, **more: object) -> bytes:
    return json.dumps({"level": level, "event": event, "part": "p", **more}).encode() + b"\n"


class Shown(list[tuple[str, str]]):
    def show(self, level: str, words: str) -> None:
        self.append((level, words))


def test_a_warning_is_shown_and_other_lines_are_not(tmp_path: Path) -> None:
    path, shown = tmp_path / "a.log", Shown()
    watch = LogWatch(path, shown.show)
    watch.look(0)
    path.write_bytes(
        line("info", "ready")
        + b"Traceback\n"
        + b"\xff\n[1]\n"
        + line("warning", "down", reader="r")
    )
    watch.look(1)
    assert shown == [("warning", "p: down (reader r)")]


def test_what_was_there_before_is_old_news(tmp_path: Path) -> None:
    path, shown = tmp_path / "a.log", Shown()
    path.write_bytes(line("error", "yesterday"))
    watch = LogWatch(path, shown.show)
    watch.look(0)
    with path.open("ab") as file:
        file.write(line("error", "today"))
    watch.look(1)
    assert [words for _, words in shown] == ["p: today"]


def test_a_line_is_shown_whole_however_it_was_written(tmp_path: Path) -> None:
    words = line("warning", "down")
    for cut in range(len(words)):
        path, shown = tmp_path / f"{cut}.log", Shown()
        watch = LogWatch(path, shown.show)
        with path.open("ab") as file:
            file.write(words[:cut])
            file.flush()
            watch.look(0)
            file.write(words[cut:])
        watch.look(1)
        assert shown == [("warning", "p: down")]


def test_the_same_topic_is_quiet_for_a_while_whatever_its_numbers(tmp_path: Path) -> None:
    path, shown = tmp_path / "a.log", Shown()
    watch = LogWatch(path, shown.show)
    for second in range(0, int(2 * QUIET_S), 5):
        with path.open("ab") as file:
            file.write(line("warning", "waiting", facts=second))
        watch.look(second)
    assert [words for _, words in shown] == ["p: waiting (facts 0)", "p: waiting (facts 30)"]


def test_a_new_file_under_the_old_name_is_read_from_its_start(tmp_path: Path) -> None:
    path, shown = tmp_path / "a.log", Shown()
    watch = LogWatch(path, shown.show)
    path.write_bytes(line("info", "long" * 100))
    watch.look(0)
    path.write_bytes(line("error", "new"))
    watch.look(1)
    assert [words for _, words in shown] == ["p: new"]


def test_ever_new_words_do_not_grow(tmp_path: Path) -> None:
    path, shown = tmp_path / "a.log", Shown()
    watch = LogWatch(path, shown.show)
    path.write_bytes(b"".join(line("error", f"e{n}") for n in range(2 * REMEMBERED_MAX)))
    watch.look(0)
    assert len(shown) == 2 * REMEMBERED_MAX
    assert len(watch._shown_s) == REMEMBERED_MAX


@pytest.mark.parametrize("data", [b"", b"{", b"null", b'{"level":"warning"'])
def test_what_is_no_line_of_ours_is_none(data: bytes) -> None:
    assert read_line(data) is None
