"""Files and folders of an installation: written beside and renamed, with owner, group and mode.

`house.md`: group `moskvenok`, folders 2770, files 0660, the device key 0600. Where there is no
such user or group (a bench), everything stays with the person who ran the command.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge.model import SetupProblem

USER: Final = "moskvenok"
FOLDER_MODE: Final = 0o2770
FILE_MODE: Final = 0o660
SECRET_MODE: Final = 0o600
READ_BYTES_MAX: Final = 1024 * 1024  # Our choice: four times the largest device.toml allowed.


def make_folder(path: Path) -> bool:
    """The folder with its mode and owner; True when it was not there. Parents are left alone."""
    try:
        made = not path.is_dir()
        path.mkdir(parents=True, exist_ok=True)
        own(path)
        if os.geteuid() == 0:
            with _itself(path) as descriptor:
                os.fchmod(descriptor, FOLDER_MODE)
        elif stat.S_IMODE(path.stat().st_mode) != FOLDER_MODE:
            path.chmod(FOLDER_MODE)
        if made:
            _sync_folder(path.parent)
    except OSError as error:
        raise SetupProblem(
            f"{path}: the folder cannot be made ready ({error.strerror}); run this as root, or "
            "choose a folder of your own"
        ) from error
    return made


def write_whole(path: Path, data: bytes, *, mode: int = FILE_MODE) -> None:
    """The whole file or the one before; on disk when this returns. `SetupProblem` if refused."""
    beside = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # The umask may have taken some of it.
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        own(beside)
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise SetupProblem(
            f"{path}: cannot be written ({error.strerror}); check the disk, and that you may write "
            "there"
        ) from error


def read_whole(path: Path) -> bytes | None:
    """What the file holds, None when there is none. `SetupProblem` when it may not be read."""
    try:
        with path.open("rb") as file:
            data = file.read(READ_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupProblem(
            f"{path}: cannot be read ({error.strerror}); run this as root or as user {USER}"
        ) from error
    if len(data) > READ_BYTES_MAX:
        raise SetupProblem(f"{path}: more than {READ_BYTES_MAX} bytes; is this the right file?")
    return data


def own(path: Path) -> None:
    """Give the file or folder to the agent's user, if there is one and we may. `SetupProblem` for
    a link: others may write in the folder around it, and root must not give away what they name."""
    if os.geteuid() == 0:
        with _itself(path) as descriptor:
            own_open(descriptor)


def own_open(descriptor: int) -> None:
    """The same for what is open."""
    if os.geteuid() != 0:
        return
    try:
        user, group = pwd.getpwnam(USER).pw_uid, grp.getgrnam(USER).gr_gid
    except KeyError:
        return
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (user, group):
        os.fchown(descriptor, user, group)
        # chown(2) clears the set-group-ID bit of a folder.
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode))


@contextmanager
def _itself(path: Path) -> Iterator[int]:
    """A file or folder held open, so that it cannot be exchanged while root changes it."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise SetupProblem(
            f"{path}: a link, and root changes nothing by a link; put the file or folder itself"
            " there, or name the place it leads to in device.toml"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
