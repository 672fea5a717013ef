"""The bundle of a release: a tar of wheels, read as strictly as it was written. Pure.

Plain files in one flat folder and nothing else: no link, no folder, no device, no long or extended
name, nothing twice, and all of it bounded. So there is nothing to climb out of. `tar tf` lists it.
The form is POSIX.1-1988 ustar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge.messages import RELEASE_BYTES_MAX
from edge.model import CorruptData

BLOCK: Final = 512  # ustar
MEMBERS_MAX: Final = 256  # Our choice: several times the wheels of a till with everything.
REQUIREMENTS: Final = "requirements.txt"
ABOUT: Final = "release.json"  # For the city's desk; a device goes by what was signed.
REQUIREMENTS_BYTES_MAX: Final = 256 * 1024  # Our choice: a line of 130 bytes a wheel, with room.
# A wheel's name: binary distribution format, five or six parts.
WHEEL: Final = re.compile(r"[A-Za-z0-9_.+!]+(-[A-Za-z0-9_.+!]+){4,5}\.whl", re.ASCII)
# One wheel a line, with its hashes; no option, no address, no folder.
REQUIREMENT: Final = re.compile(
    r"[A-Za-z0-9._-]+==([A-Za-z0-9._+!-]+)((?: --hash=sha256:[0-9a-f]{64})+)", re.ASCII
)
NAME_CHARS_MAX: Final = 100  # ustar, without its prefix.
_OCTAL: Final = re.compile(rb"[0-7]{1,11}[\0 ]", re.ASCII)
_MAGIC: Final = b"ustar\x0000"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the bundle begins."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the file that began last."""

    data: bytes


class BundleReader:
    """Bytes in, members and their pieces out. Cut the bytes anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0  # Of the file that began last,
        self._padding = 0  # and the zeros behind it.
        self._names: set[str] = set()
        self._total = 0
        self._ended = False

    def feed(self, data: bytes) -> Iterator[Member | Piece]:
        """What these bytes say. `CorruptData` for anything that is not such a bundle."""
        self._rest += data
        while self._rest:
            if self._left:
                piece = self._rest[: self._left]
                self._left -= len(piece)
                self._rest = self._rest[len(piece) :]
                yield Piece(piece)
            elif self._padding:
                zeros = self._rest[: self._padding]
                if zeros.strip(b"\0"):
                    raise CorruptData("bundle: something between its files")
                self._padding -= len(zeros)
                self._rest = self._rest[len(zeros) :]
            elif len(self._rest) < BLOCK:
                return
            else:
                block, self._rest = self._rest[:BLOCK], self._rest[BLOCK:]
                member = self._header(block)
                if member is not None:
                    yield member

    def close(self) -> None:
        """Nothing more comes. `CorruptData` when it ends in the middle, or has no requirements."""
        if self._rest or self._left or self._padding or not self._ended:
            raise CorruptData("bundle: cut off")
        if REQUIREMENTS not in self._names:
            raise CorruptData(f"bundle: without {REQUIREMENTS}")

    def _header(self, block: bytes) -> Member | None:
        if not block.strip(b"\0"):
            self._ended = True  # Two blocks of zeros, and more to fill up a record.
            return None
        if self._ended:
            raise CorruptData("bundle: something behind its end")
        wanted = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
        if _number(block[148:156]) != wanted:
            raise CorruptData("bundle: a header whose sum is wrong")
        if block[257:265] != _MAGIC:
            raise CorruptData("bundle: not ustar")
        if block[156:157] != b"0":
            raise CorruptData("bundle: something that is no plain file")
        if block[157:257].strip(b"\0") or block[345:].strip(b"\0"):
            raise CorruptData("bundle: a file with a link or a long name")
        name = self._name(block[:NAME_CHARS_MAX])
        size = _number(block[124:136])
        self._total += size
        if self._total > RELEASE_BYTES_MAX or len(self._names) >= MEMBERS_MAX:
            raise CorruptData("bundle: more than a release may hold")
        if name in (REQUIREMENTS, ABOUT) and size > REQUIREMENTS_BYTES_MAX:
            raise CorruptData(f"bundle: {name} of {size} bytes")
        self._names.add(name)
        self._left, self._padding = size, -size % BLOCK
        return Member(name, size)

    def _name(self, field: bytes) -> str:
        raw = field.rstrip(b"\0")
        try:
            name = raw.decode("ascii")
        except UnicodeDecodeError as error:
            raise CorruptData("bundle: a name that is not ASCII") from error
        if name not in (REQUIREMENTS, ABOUT) and WHEEL.fullmatch(name) is None:
            raise CorruptData(f"bundle: {name!r:.120} is no wheel")
        if name.casefold() in {known.casefold() for known in self._names}:
            raise CorruptData(f"bundle: {name} twice")
        return name


def wanted_hashes(requirements: bytes) -> frozenset[str]:
    """The SHA-256 of every wheel that the requirements name. `CorruptData` for anything that pip
    could take for more than that."""
    try:
        lines = requirements.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise CorruptData(f"bundle: {REQUIREMENTS} is not ASCII") from error
    found: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line and number == len(lines):
            continue
        match = REQUIREMENT.fullmatch(line)
        if match is None:
            raise CorruptData(f"bundle: {REQUIREMENTS}, line {number}: {line!r:.80}")
        found |= {word.removeprefix("--hash=sha256:") for word in match[2].split()}
    return frozenset(found)


def _number(field: bytes) -> int:
    """An octal number of a header."""
    text = field.lstrip(b" ")
    if _OCTAL.match(text) is None or text.strip(b"01234567 \0"):
        raise CorruptData("bundle: a number that is none")
    return int(text.strip(b" \0") or b"0", 8)
