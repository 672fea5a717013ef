"""Reads what the children wrote to their logs and passes on what a person should see.

A log line of ours is a JSON object with a level; of it a warning or an error is shown, once in a
while however often it comes. Anything else in a log is somebody's own words (a traceback, amqtt)
and stays in the file: the end of it is shown when the child dies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

SHOWN_LEVELS: Final = ("warning", "error", "critical")
QUIET_S: Final = 30.0  # Our choice: the same words of the same part are shown twice a minute.
READ_BYTES_MAX: Final = 256 * 1024  # Our choice: per look; a flood is in the file, not here.
WORDS_MAX: Final = 200  # Our choice: two lines of a terminal.
REMEMBERED_MAX: Final = 256  # Our choice: different sentences; the oldest is forgotten.
NOT_SHOWN: Final = frozenset({"level", "timestamp", "process", "event", "part", "exception"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One line worth showing. `topic` is what it is about, without what varies."""

    level: str
    topic: str
    words: str


def read_line(line: bytes) -> Sentence | None:
    """The sentence in a line of a log, if it is worth showing.

    >>> read_line(b'{"level":"warning","event":"down","part":"readers","reader":"r1"}').words
    'readers: down (reader r1)'
    """
    try:
        entry = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    level = str(entry.get("level", ""))
    if level not in SHOWN_LEVELS:
        return None
    more = ", ".join(f"{key} {value}" for key, value in entry.items() if key not in NOT_SHOWN)
    part = f"{entry['part']}: " if "part" in entry else ""
    topic = f"{part}{entry.get('event', '')}"[:WORDS_MAX]
    words = f"{topic} ({more})" if more else topic
    return Sentence(level=level, topic=topic, words=words[:WORDS_MAX])


class LogWatch:
    """Follows one child's log from its present end."""

    def __init__(self, path: Path, show: Callable[[str, str], None]) -> None:
        """`show(level, words)` is called for each sentence."""
        self._path = path
        self._show = show
        self._at = path.stat().st_size if path.exists() else 0
        self._rest = b""
        self._shown_s: dict[str, float] = {}

    def look(self, now_s: float) -> None:
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._at:
                    self._at, self._rest = 0, b""  # A new file under the old name.
                file.seek(self._at)
                data = file.read(READ_BYTES_MAX)
                self._at = file.tell()
        except OSError:
            return  # Not there yet.
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-READ_BYTES_MAX:]
        for line in lines:
            if found := read_line(line):
                self._tell(found, now_s)

    def _tell(self, found: Sentence, now_s: float) -> None:
        if now_s - self._shown_s.get(found.topic, -QUIET_S) < QUIET_S:
            return
        self._shown_s.pop(found.topic, None)
        self._shown_s[found.topic] = now_s
        while len(self._shown_s) > REMEMBERED_MAX:
            del self._shown_s[next(iter(self._shown_s))]
        self._show(found.level, found.words)
