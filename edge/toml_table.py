"""A table of a TOML file, read key by key: what is wrong is told with its place in the file.

`edge/config.py` says which keys there are; here only what a value may be, and how it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")  # protocol.md: fits a topic and a CN.
VALUE_CHARS_SHOWN: Final = 80  # Our choice: one line on a technician's screen.

T = TypeVar("T")
Wrong = Callable[[str, str, str], None]  # Key, what was found, what to do.


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with the file."""

    key: str
    found: str
    do: str

    def __str__(self) -> str:
        return f"{self.key}: {self.found}; {self.do}"


class Table:
    """One table of the file, with its place in it for messages."""

    def __init__(self, wrong: Wrong, at: str, table: Mapping[str, Any]) -> None:
        self._wrong, self._at, self._table = wrong, at, table
        self._seen: set[str] = set()

    def path(self, key: str) -> str:
        return f"{self._at}.{key}" if self._at else key

    def get(self, key: str, kind: type[T], default: T | None) -> T:
        self._seen.add(key)
        value = self._table.get(key)
        if value is None:
            return default  # type: ignore[return-value]  # None only where a caller asks for it
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self._wrong(self.path(key), shown(value), f"must be {_WORDS[kind]}")
            return default if default is not None else kind()
        return value

    def name(self, key: str) -> str:
        value = self.get(key, str, "")
        if not NAME.fullmatch(value):
            self._wrong(self.path(key), shown(value), "use a-z, 0-9 and -, at most 64 characters")
        return value

    def one_of(self, key: str, words: tuple[str, ...]) -> str:
        value = self.get(key, str, "")
        if value not in words:
            self._wrong(self.path(key), shown(value), f"one of {', '.join(words)}")
        return value

    def choice(self, key: str, kind: Callable[[str], T], default: T | None = None) -> T | None:
        value = self.get(key, str, "")
        if not value and default is not None:
            return default
        try:
            return kind(value)
        except ValueError:
            words = ", ".join(str(word) for word in kind)  # type: ignore[attr-defined]
            self._wrong(self.path(key), shown(value), f"one of {words}")
            return None

    def number(self, key: str, default: int | None, least: int, most: int) -> int:
        value = self.get(key, int, default if default is not None else -1)
        if not least <= value <= most:
            found = shown(value) if key in self._table else "nothing"
            self._wrong(self.path(key), found, f"a number from {least} to {most}")
        return value

    def table(self, key: str) -> Table:
        value: dict[str, Any] = self.get(key, dict, {})
        return Table(self._wrong, self.path(key), value)

    def tables(self, key: str) -> list[Table]:
        value: list[Any] = self.get(key, list, [])
        tables = []
        for number, item in enumerate(value):
            at = f"{self.path(key)}[{number}]"
            if isinstance(item, dict):
                tables.append(Table(self._wrong, at, item))
            else:
                self._wrong(at, shown(item), "must be a table")
        return tables

    def no_more(self) -> None:
        """What nobody asked for is a mistyped key."""
        for key in sorted(self._table.keys() - self._seen):
            self._wrong(self.path(key), "not a key of this file", "remove or mend it")


def shown(value: object) -> str:
    """A value as a message shows it: never long, whatever stands in the file."""
    try:
        return repr(value)[:VALUE_CHARS_SHOWN]
    except (ValueError, RecursionError):  # A number of 5,000 digits, a table in a table in a …
        return f"a {type(value).__name__} too large to show"


_WORDS: Final[dict[type, str]] = {
    str: "text in quotes",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
