"""The folder `state/updates`: what is wanted, what is here of it, what is ready, what became of it.

    wanted.json       by sync: the release an order named
    release.part      by sync: its bundle as far as it is here
    release.signed    its manifest as it was signed
    release.bundle    whole and checked
    ready.json        written last, by sync or by `moskvenok update take`: to be installed
    told.json         by the updater: what it is doing, and how the last one ended

Where the folder is there, an updater is installed. Everything in it may be written by the group,
so the updater believes nothing here but signatures; its own memory lies elsewhere. Small files are
written beside and renamed, and on disk when the call returns. Nobody follows a link here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from edge.messages import (
    MESSAGE_BYTES_MAX,
    RELEASE_BYTES_MAX,
    Release,
    Signed,
    decode_json,
    decode_pack,
    encode_pack,
)
from edge.model import CorruptData, DeviceFault
from sync.release_rules import chunk_span

FILE_MODE: Final = 0o660  # house.md
SMALL_BYTES_MAX: Final = 16 * 1024  # Our choice: a few words and digests.
# A release on a stick: this line with the length of what was signed, that, the bundle.
STICK_MARK: Final = b"moskvenok-release 1 "
STICK_LINE_MAX: Final = len(STICK_MARK) + 6
STICK_BYTES_MAX: Final = STICK_LINE_MAX + MESSAGE_BYTES_MAX + RELEASE_BYTES_MAX

T = TypeVar("T")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What an order asked for."""

    release: str
    sha256: str
    counter: int


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be installed. `token` tells one wish from the next for the same release."""

    release: str
    sha256: str
    token: str
    counter: int = 0  # Of the order; 0: it came on a stick.
    without_city: bool = False  # A technician vouches for it where no city can be reached.


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The updater's word to sync and to whoever asks."""

    running: bool
    release: str
    counter: int = 0
    done: bool = False
    why: str = ""
    held: str = ""  # The release in use.
    held_sha256: str = ""


class NoSpace(DeviceFault):
    """The disk is full."""


class ReleaseFiles:
    """The folder's files. `DeviceFault` where the disk refuses, `CorruptData` for what is no such
    file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.part = folder / "release.part"
        self.bundle = folder / "release.bundle"
        self.signed = folder / "release.signed"
        self._wanted = folder / "wanted.json"
        self._ready = folder / "ready.json"
        self._told = folder / "told.json"

    # ------------------------------------------------------------------------ small files

    def wanted(self) -> Wanted | None:
        return _read(self._wanted, Wanted)

    def ready(self) -> Ready | None:
        return _read(self._ready, Ready)

    def told(self) -> Told | None:
        return _read(self._told, Told)

    def want(self, wanted: Wanted) -> None:
        _write(self._wanted, wanted)

    def tell(self, told: Told) -> None:
        if self.told() != told:
            _write(self._told, told)

    def forget_wanted(self) -> None:
        """And what has come of it."""
        self._wanted.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def forget_ready(self) -> None:
        """It is dealt with. What says that there is one goes first."""
        for path in (self._ready, self.bundle, self.signed):
            path.unlink(missing_ok=True)

    def read_signed(self) -> Signed:
        data = _read_bytes(self.signed, MESSAGE_BYTES_MAX)
        if data is None:
            raise CorruptData(f"{self.signed}: is not there; order or take the release again")
        return decode_pack(Signed, data)

    # ---------------------------------------------------------------------------- fetching

    def have(self, release: Release) -> list[int]:
        """Which chunks of it are in the part file: told by their hashes alone, so nothing has to
        be remembered over a power cut."""
        found = []
        try:
            with _open(self.part, os.O_RDONLY) as file:
                for index, wanted in enumerate(release.chunk_hashes):
                    _, size = chunk_span(release, index)
                    data = file.read(size)
                    if len(data) == size and hashlib.sha256(data).digest() == wanted:
                        found.append(index)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _fault(self.part, error) from error
        return found

    def put(self, release: Release, index: int, data: bytes) -> None:
        """A checked chunk in its place. It need not be on disk yet: `have` sees what is."""
        first, size = chunk_span(release, index)
        assert len(data) == size
        try:
            with _open(self.part, os.O_RDWR | os.O_CREAT) as file:
                file.seek(first)
                file.write(data)
        except OSError as error:
            raise _fault(self.part, error) from error

    def complete(self, release: Release, signed: Signed, ready: Ready) -> bool:
        """All chunks are here: make it ready. False when the whole is not what was signed."""
        try:
            with _open(self.part, os.O_RDWR) as file:
                file.truncate(release.size_bytes)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
        except OSError as error:
            raise _fault(self.part, error) from error
        if digest != release.sha256:
            return False
        self._make_ready(signed, ready)
        return True

    def _make_ready(self, signed: Signed, ready: Ready) -> None:
        _write_bytes(self.signed, encode_pack(signed))
        try:
            self.part.replace(self.bundle)
        except OSError as error:
            raise _fault(self.bundle, error) from error
        _write(self._ready, ready)  # Flushes the folder, and with it the rename.
        self._wanted.unlink(missing_ok=True)

    # --------------------------------------------------------------------------- the stick

    def take(self, stick: Path, release: Release, signed: Signed, ready: Ready) -> None:
        """A release from a file whose manifest was checked: copied, chunk by chunk. `CorruptData`
        when it is damaged; what was ready before is gone then, and nothing is."""
        self.forget_ready()
        self.forget_wanted()
        for index, data in enumerate(stick_chunks(stick, release)):
            self.put(release, index, data)
        if not self.complete(release, signed, ready):
            raise CorruptData(f"{stick}: is not what was signed; copy it to the stick again")


def read_stick(path: Path) -> Signed:
    """What a release file says it is, unverified."""
    try:
        with path.open("rb") as file:
            signed, _ = _stick_head(path, file.read(STICK_LINE_MAX + MESSAGE_BYTES_MAX))
    except OSError as error:
        raise _fault(path, error) from error
    return signed


def stick_chunks(path: Path, release: Release) -> Iterator[bytes]:
    """The bundle in a release file, each chunk checked."""
    try:
        with path.open("rb") as file:
            _, first = _stick_head(path, file.read(STICK_LINE_MAX + MESSAGE_BYTES_MAX))
            if file.seek(0, os.SEEK_END) != first + release.size_bytes:
                raise CorruptData(f"{path}: cut off, or longer than was signed; copy it again")
            file.seek(first)
            yield from checked_chunks(file, release, path)
    except OSError as error:
        raise _fault(path, error) from error


def checked_chunks(file: BufferedIOBase, release: Release, path: Path) -> Iterator[bytes]:
    """The chunks from here on, each only once its hash is that of the manifest."""
    for index, wanted in enumerate(release.chunk_hashes):
        _, size = chunk_span(release, index)
        data = file.read(size)
        if len(data) != size or hashlib.sha256(data).digest() != wanted:
            raise CorruptData(f"{path}: chunk {index} is not what was signed")
        yield data


def stick_bytes(signed: Signed) -> bytes:
    """What stands before the bundle in a release file."""
    head = encode_pack(signed)
    return STICK_MARK + b"%d\n" % len(head) + head


def _stick_head(path: Path, data: bytes) -> tuple[Signed, int]:
    line, mark, _ = data[:STICK_LINE_MAX].partition(b"\n")
    digits = line.removeprefix(STICK_MARK)
    if not mark or not line.startswith(STICK_MARK) or not digits.isdigit():
        raise CorruptData(f"{path}: not a release of this software")
    first, size = len(line) + 1, int(digits)
    if size > MESSAGE_BYTES_MAX or len(data) < first + size:
        raise CorruptData(f"{path}: a release whose head is cut off; copy it again")
    return decode_pack(Signed, data[first : first + size]), first + size


# --------------------------------------------------------------------------------- helpers


def open_unfollowed(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a plain file itself, never of what a link names; a pipe under its name is not
    waited for. Raises `OSError`."""
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, FILE_MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return descriptor


def _open(path: Path, flags: int) -> BufferedIOBase:
    descriptor = open_unfollowed(path, flags)
    if flags & os.O_CREAT:
        os.fchmod(descriptor, FILE_MODE)
    return os.fdopen(descriptor, "rb") if flags == os.O_RDONLY else os.fdopen(descriptor, "r+b")


def _read_bytes(path: Path, size_max: int) -> bytes | None:
    try:
        with _open(path, os.O_RDONLY) as file:
            data = file.read(size_max + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _fault(path, error) from error
    if len(data) > size_max:
        raise CorruptData(f"{path}: more than {size_max} bytes")
    return data


def _read(path: Path, kind: type[T]) -> T | None:
    """None when there is none, or none that can be read: whoever wants something writes it anew,
    and nothing else hangs on it."""
    try:
        data = _read_bytes(path, SMALL_BYTES_MAX)
        return None if data is None else decode_json(kind, data)
    except (CorruptData, DeviceFault):
        return None


def _write(path: Path, value: msgspec.Struct) -> None:
    _write_bytes(path, msgspec.json.encode(value))


def _write_bytes(path: Path, data: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    try:
        beside.unlink(missing_ok=True)
        descriptor = open_unfollowed(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, FILE_MODE)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _fault(path, error) from error


def sync_folder(folder: Path) -> None:
    """Names in a folder, on disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fault(path: Path, error: OSError) -> DeviceFault:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{path}: the disk is full; make room")
    return DeviceFault(f"{path}: {error.strerror}; check folder and disk")
