"""The inbox between `moskvenok lists take` and `sync`: its folders, its bounds, its answer.

`state/inbox/` holds the sticks that wait, few, each a folder `stick-…` with an index and its files,
which appears whole, by a rename. Their names are in the order in which they came: `sync` takes one
after the other, leaves `stick-….answer` beside each and removes its folder. A stick that is brought
while another waits changes nothing about that one. Both sides read with this module, and neither
believes the other: a name is a plain name, a file is a regular file of exactly the size that its
index says.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from edge.messages import (
    MESSAGE_BYTES_MAX,
    STICK_FILE_BYTES_MAX,
    STICK_FILES_MAX,
    STICK_INDEX,
    StickFile,
    StickIndex,
    VersionMark,
    decode_json,
    encode_json,
    is_file_name,
)
from edge.model import CorruptData
from edge.settings import DeviceSettings

Read = Callable[[int], bytes]  # So many bytes, less only at the end.

# Eight digits of its place in the order, eight drawn: no two that come at once have one name.
STICK: Final = re.compile(r"stick-([0-9a-f]{8})[0-9a-f]{8}")
PLACE_MAX: Final = 0xFFFF_FFFF
COPYING: Final = ".copying-"  # In front of a stick that is not whole yet,
GONE: Final = ".gone-"  # and of one that nobody looks at any more.
ANSWER: Final = ".answer"
FILE_MODE: Final = 0o660  # house.md.
WAITING_MAX: Final = 4  # Our choice: one brought twice by mistake, and a newer one likewise.
ANSWERS_KEPT: Final = 4  # Our choice: whoever asked is long gone when four more have come.
ANSWER_BYTES_MAX: Final = 16 * 1024
# Our choice: the longest list of the city (13 MB today), a school's four, and growth.
INBOX_BYTES_MAX: Final = 2 * STICK_FILE_BYTES_MAX  # Of one stick.
assert WAITING_MAX <= ANSWERS_KEPT, "each that waits keeps its answer until the last has one"


class ListAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one list. `version`: what is in force now, of whatever origin."""

    scope: str
    in_force: bool
    version: VersionMark | None
    reason: str = ""  # Of a refusal: one of the words of `update_refused`.


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What sync says of a stick. "" of root and keys: there was none; else `taken`, or why not."""

    root: str = ""
    keys: str = ""
    lists: tuple[ListAnswer, ...] = ()
    problem: str = ""  # With the stick as a whole.


def inbox_of(settings: DeviceSettings) -> Path:
    return settings.folders.state / "inbox"


def new_name(inbox: Path) -> str:
    """Behind all that wait, and behind all whose answer still lies there. For who holds the inbox
    locked until a stick has the name."""
    there = [path.name.removesuffix(ANSWER) for path in (*sticks(inbox), *answers(inbox))]
    last = max((int(found[1], 16) for name in there if (found := STICK.fullmatch(name))), default=0)
    return f"stick-{min(last + 1, PLACE_MAX):08x}{secrets.token_hex(4)}"


def read_index(folder: Path) -> StickIndex:
    """The index of a stick. `CorruptData` says what is wrong with it, and where."""
    path = folder / STICK_INDEX
    with opened(path, size_max=MESSAGE_BYTES_MAX) as (read, _):
        data = read(MESSAGE_BYTES_MAX + 1)
    try:
        index = decode_json(StickIndex, data)
    except CorruptData as problem:
        raise CorruptData(f"{path}: not an index of a stick ({problem})") from problem
    if len(index.files) > STICK_FILES_MAX:
        raise CorruptData(f"{path}: names {len(index.files)} files, more than {STICK_FILES_MAX}")
    names = [one.name for one in index.files]
    for one in index.files:
        if not is_file_name(one.name):
            raise CorruptData(f"{path}: {one.name[:80]!r} is no name of a file of a stick")
        if not 0 < one.size_bytes <= STICK_FILE_BYTES_MAX:
            raise CorruptData(
                f"{path}: {one.name} of {one.size_bytes} bytes, where 1 to"
                f" {STICK_FILE_BYTES_MAX} are possible"
            )
    if len(set(names)) < len(names):
        raise CorruptData(f"{path}: names a file twice")
    return index


@contextmanager
def opened_file(folder: Path, one: StickFile) -> Iterator[Read]:
    """A file of the index, of exactly its size; else `CorruptData`."""
    path = folder / one.name
    with opened(path, size_max=STICK_FILE_BYTES_MAX) as (read, size):
        if size != one.size_bytes:
            raise CorruptData(f"{path}: {size} bytes, and its index says {one.size_bytes}")
        yield read


@contextmanager
def opened(path: Path, *, size_max: int) -> Iterator[tuple[Read, int]]:
    """How to read a regular file, and its size; never what a link points to. `CorruptData` also
    when reading fails later on."""
    try:
        # Without blocking, or a pipe under this name would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CorruptData(f"{path}: cannot be read ({error.strerror})") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise CorruptData(f"{path}: not a file")
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > size_max:
            raise CorruptData(f"{path}: {found.st_size} bytes, more than {size_max}")

        def read(size: int) -> bytes:
            try:
                return file.read(size)
            except OSError as error:
                raise CorruptData(f"{path}: cannot be read ({error.strerror})") from error

        yield read, found.st_size


def sticks(inbox: Path) -> list[Path]:
    """Those that wait, whole, the first to be taken first."""
    return sorted(path for path in _entries(inbox) if STICK.fullmatch(path.name))


def bytes_of(stick: Path) -> int:
    """What it takes on the disk; 0 when it has just gone."""
    with suppress(FileNotFoundError), os.scandir(stick) as files:
        return sum(one.stat(follow_symlinks=False).st_size for one in files)
    return 0


def remove(stick: Path) -> None:
    """At once for whoever looks, then for the disk. Raises `OSError`."""
    gone = stick.with_name(GONE + stick.name)
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(FileNotFoundError):
        stick.rename(gone)
    try:
        if gone.exists():
            shutil.rmtree(gone)
    except FileNotFoundError:  # A command that sweeps was there, too.
        shutil.rmtree(gone, ignore_errors=True)


def answer_path(inbox: Path, name: str) -> Path:
    return inbox / (name + ANSWER)


def read_answer(inbox: Path, name: str) -> Answer | None:
    """None while there is none."""
    path = answer_path(inbox, name)
    if not path.exists():
        return None
    with opened(path, size_max=ANSWER_BYTES_MAX) as (read, _):
        return decode_json(Answer, read(ANSWER_BYTES_MAX), size_max=ANSWER_BYTES_MAX)


def write_answer(inbox: Path, name: str, answer: Answer) -> None:
    """Whole, and on the disk when this returns. Raises `OSError`."""
    path = answer_path(inbox, name)
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        os.fchmod(file.fileno(), FILE_MODE)
        file.write(encode_json(answer))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    flush_folder(inbox)


def flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[int]:
    """While a stick is copied: what nobody holds is a leftover. And the inbox itself, for a moment,
    while a stick gets its folder, and then its name. Gives the folder itself, whatever its own name
    comes to mean meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield descriptor
    finally:
        os.close(descriptor)


def _is_locked(folder: Path) -> bool:
    try:
        with locked(folder):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False  # No folder, or none that there is any more.


def answers(inbox: Path) -> list[Path]:
    """In the order of their sticks. No clock is asked: it may have been set since."""
    return sorted(
        path
        for path in _entries(inbox)
        if path.name.endswith(ANSWER) and STICK.fullmatch(path.name.removesuffix(ANSWER))
    )


def sweep(inbox: Path) -> None:
    """What a process that was ended left half copied or half removed goes; what one copies just
    now stays. Not now, where a command has the inbox locked: its folder may have no lock yet."""
    with suppress(FileNotFoundError, BlockingIOError), locked(inbox):
        for path in _entries(inbox):
            if path.name.startswith((COPYING, GONE)) and not _is_locked(path):
                shutil.rmtree(path, ignore_errors=True)


def _entries(inbox: Path) -> list[Path]:
    try:
        with os.scandir(inbox) as entries:
            return [Path(entry.path) for entry in entries]
    except FileNotFoundError:
        return []
