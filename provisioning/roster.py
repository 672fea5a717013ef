"""Who gets which card: the class list that comes to the desk, and the roster that leaves it.

The roster is the only place a UID is written to, whole, and it is the issuer's own file: mode 0600,
named by them, carried to the city and deleted. On the screen a card is its last byte.
"""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from edge.model import SetupProblem, UidKind
from edge.settings import ReaderSettings
from provisioning.files import SECRET_MODE, read_whole, write_whole

PERSON: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
PEOPLE_MAX: Final = 5_000  # Our choice: the largest school twice over.
SUFFIXES: Final = (".csv", ".jsonl")
COLUMNS: Final = ("person", "uid", "kind", "tier", "profile", "key_version", "reader")
KINDS: Final = {kind: kind.name.lower() for kind in UidKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterLine:
    """One credential as the city is told of it."""

    person: str
    uid: str = field(repr=False)  # Hex.
    kind: str
    tier: int
    profile: str = ""
    key_version: int | None = None
    reader: str = ""  # What read the number, and how it prints numbers: `reader_profile`.


def reader_profile(settings: ReaderSettings) -> str:
    """How the reader at the desk says a number: two that say it otherwise enrol two numbers.

    >>> reader_profile(ReaderSettings(reader_id="desk", driver="pcsc"))
    'pcsc'
    """
    order = "reversed" if settings.reversed else ""
    return ":".join(filter(None, (settings.driver, settings.frame, settings.numbering, order)))


def masked(uid: bytes) -> str:
    """A card as it is named on a screen.

    >>> masked(bytes.fromhex("04a1b2c3d4e580"))
    '…80 (7 bytes)'
    """
    return f"…{uid[-1]:02X} ({len(uid)} bytes)"


# --- The class list --------------------------------------------------------------------------


def read_class_list(path: Path) -> list[str]:
    """The people of a CSV file, by its column "person". `SetupProblem`: file, line, column, what
    to do. Other columns, names above all, are not looked at."""
    data = read_whole(path)
    if data is None:
        raise SetupProblem(f"{path}: no such file; give a CSV file with a column person")
    text = _text(path, data)
    rows = csv.reader(io.StringIO(text), delimiter=_delimiter(text), strict=True)
    people: list[str] = []
    seen: dict[str, int] = {}
    column: int | None = None
    try:
        for row in rows:
            line = rows.line_num
            if not any(cell.strip() for cell in row):
                continue
            if column is None:
                column = _person_column(path, line, row)
                continue
            person = row[column].strip() if column < len(row) else ""
            where = f"{path}: line {line}, column {column + 1} (person)"
            if not PERSON.fullmatch(person):
                found = f'"{person:.40}"' if person else "empty"
                raise SetupProblem(f"{where}: {found}; write the city's id: letters, digits, . _ -")
            if person in seen:
                raise SetupProblem(
                    f"{where}: {person} stands in line {seen[person]} already; remove one of them"
                )
            if len(people) >= PEOPLE_MAX:
                raise SetupProblem(f"{where}: more than {PEOPLE_MAX} people; split the list")
            seen[person] = line
            people.append(person)
    except csv.Error as error:
        raise SetupProblem(
            f"{path}: line {rows.line_num}, column 1: {error}; save the list again as CSV (UTF-8)"
        ) from error
    if column is None:
        raise SetupProblem(f"{path}: line 1, column 1: empty; begin with a line of column names")
    if not people:
        where = f"{path}: line {rows.line_num}, column {column + 1}"
        raise SetupProblem(f"{where}: nobody in the list; write one person a line under it")
    return people


def _text(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise SetupProblem(
            f"{path}: line {line}, column {column} (byte): not UTF-8; save the list again as CSV "
            "(UTF-8)"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise SetupProblem(
            f"{path}: line {line}, column 1: not a text file; save it as CSV (UTF-8)"
        )
    return text


def _delimiter(text: str) -> str:
    """A comma, or what spreadsheets of this country write: a semicolon."""
    first = text.lstrip().partition("\n")[0]
    return ";" if first.count(";") > first.count(",") else ","


def _person_column(path: Path, line: int, row: list[str]) -> int:
    names = [cell.strip().lower() for cell in row]
    if names.count("person") != 1:
        found = ", ".join(name[:20] for name in names[:10])
        what = "two columns are called" if "person" in names else "no column is called"
        raise SetupProblem(
            f'{path}: line {line}, column 1: {what} "person"; there are {found}; name the column '
            "with the city's ids so"
        )
    return names.index("person")


# --- The roster ------------------------------------------------------------------------------


class Roster:
    """The issuer's file. Every line is on disk when `add` returns; a second run goes on in it."""

    def __init__(self, path: Path) -> None:
        if path.suffix not in SUFFIXES:
            raise SetupProblem(f"{path}: the roster is a {' or a '.join(SUFFIXES)} file")
        self.path = path
        self._lines = self._read()

    @property
    def people(self) -> set[str]:
        return {line.person for line in self._lines}

    def holder_of(self, uid: bytes) -> str:
        """Who has this card already; "" for nobody."""
        found = [line.person for line in self._lines if line.uid == uid.hex()]
        return found[0] if found else ""

    def add(self, line: RosterLine) -> None:
        """Twice the same is once: a card made anew keeps its one line."""
        kept = [old for old in self._lines if (old.uid, old.kind) != (line.uid, line.kind)]
        self._lines = [*kept, line]
        write_whole(self.path, self._written(self._lines), mode=SECRET_MODE)

    def _written(self, lines: Iterable[RosterLine]) -> bytes:
        if self.path.suffix == ".jsonl":
            return b"".join(json.dumps(asdict(line)).encode() + b"\n" for line in lines)
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(line) for line in lines)
        return out.getvalue().encode()

    def _read(self) -> list[RosterLine]:
        data = read_whole(self.path)
        if data is None:
            return []
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SetupProblem(
                f"{self.path}: mode {mode:04o} lets others read card numbers; run: "
                f"chmod 600 {self.path}"
            )
        text = _text(self.path, data)
        rows: list[dict[str, object]] = []
        try:
            if self.path.suffix == ".jsonl":
                rows = [json.loads(line) for line in text.splitlines()]
            else:
                rows = list(csv.DictReader(io.StringIO(text), strict=True))
            return [_roster_line(row) for row in rows]
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise SetupProblem(
                f"{self.path}: not a roster of ours ({type(error).__name__}); name another file"
            ) from error


def _roster_line(row: dict[str, object]) -> RosterLine:
    version = row["key_version"]
    return RosterLine(
        person=str(row["person"]),
        uid=bytes.fromhex(str(row["uid"])).hex(),
        kind=str(row["kind"]),
        tier=int(str(row["tier"])),
        profile=str(row["profile"]),
        key_version=None if version in (None, "") else int(str(version)),
        reader=str(row.get("reader") or ""),  # A roster of before has none.
    )
