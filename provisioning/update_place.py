"""Where releases stand side by side, and the one link that says which of them runs.

    PREFIX/releases/VERSION/    an environment of its own, its wheels, `made.json` once it is whole
    PREFIX/current              -> releases/VERSION: what edge and sync are started from
    PREFIX/updater              -> releases/VERSION: what the updater is started from; it moves only
                                   when a release is kept, so a broken one cannot keep itself
    PREFIX/update.json          the updater's memory
    PREFIX/root.json            whose signatures count: pinned when a device is first looked at here

All of it is the updater's alone: nobody who can be reached from the network may write here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from edge.messages import MESSAGE_BYTES_MAX
from edge.model import DeviceFault, SetupProblem
from edge.order_rules import RELEASE
from provisioning.update_steps import State
from sync.release_files import sync_folder

PREFIX_DEFAULT: Final = "/opt/moskvenok"  # FHS 3.0: add-on software.
STATE_BYTES_MAX: Final = 16 * 1024
ANCHOR_BYTES_MAX: Final = 2 * MESSAGE_BYTES_MAX  # A root document is one message, here in base64.
FOLDER_MODE: Final = 0o755
FILE_MODE: Final = 0o644
UMASK: Final = 0o022


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A release's folder holds all of this one."""

    release: str
    sha256: str


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """Whom releases here are believed by: the city's root key, and its newest root document."""

    root_public: str  # As the enrolment has it.
    document: bytes  # As sync has it: two signed lines.


class Place:
    """One `PREFIX`. `SetupProblem` where we may not write, `DeviceFault` where the disk refuses."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.releases = prefix / "releases"
        self._current = prefix / "current"
        self._updater = prefix / "updater"
        self._state = prefix / "update.json"
        self._lock = prefix / "update.lock"
        self.anchor_path = prefix / "root.json"

    def folder(self, release: str) -> Path:
        assert RELEASE.fullmatch(release), "checked when it came"
        return self.releases / release

    # -------------------------------------------------------------------------- the memory

    def state(self) -> State:
        """What was kept last; at rest when nothing was."""
        try:
            data = self._state.read_bytes()[:STATE_BYTES_MAX]
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise _problem(self._state, error) from error
        try:
            return msgspec.json.decode(data, type=State)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SetupProblem(
                f"{self._state}: damaged ({error}); see which release runs with "
                '"moskvenok version", then delete this file'
            ) from error

    def keep(self, state: State) -> None:
        """On disk when this returns."""
        _write(self._state, msgspec.json.encode(state))

    def anchor(self) -> Anchor | None:
        """Whom it was pinned to; None: to nobody yet."""
        try:
            data = self.anchor_path.read_bytes()[:ANCHOR_BYTES_MAX]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _problem(self.anchor_path, error) from error
        try:
            return msgspec.json.decode(data, type=Anchor)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SetupProblem(
                f"{self.anchor_path}: damaged ({error}); compare the root key in the device's "
                "identity with the city's, then delete this file: it is made anew"
            ) from error

    def pin(self, anchor: Anchor) -> None:
        """On disk when this returns."""
        if self.anchor() != anchor:
            _write(self.anchor_path, msgspec.json.encode(anchor))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One updater at a time. `SetupProblem` when another is at work. What is made meanwhile can
        be read by those who run it, whatever the technician's umask."""
        former_umask = os.umask(UMASK)
        try:
            with self._locked():
                yield
        finally:
            os.umask(former_umask)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.prefix.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise _problem(self._lock, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SetupProblem(
                    'an update is under way; watch it with "moskvenok update status"'
                ) from error
            yield
        finally:
            os.close(descriptor)

    # --------------------------------------------------------------------------- the links

    def current(self) -> str:
        """The release that runs; "" when there is none."""
        return self._named(self._current)

    def updater(self) -> str:
        return self._named(self._updater)

    def switch(self, release: str) -> None:
        """The one moment at which another release runs: a rename."""
        self._point(self._current, release)

    def trust(self, release: str) -> None:
        """The updater is started from this one from now on."""
        if self.updater() != release:
            self._point(self._updater, release)

    def _named(self, link: Path) -> str:
        try:
            target = link.readlink()
        except OSError:
            return ""
        name = target.name
        fits = target.parent.name == "releases" and RELEASE.fullmatch(name) is not None
        return name if fits and self.folder(name).is_dir() else ""

    def _point(self, link: Path, release: str) -> None:
        beside = link.with_name(link.name + ".new")
        try:
            beside.unlink(missing_ok=True)
            beside.symlink_to(Path("releases") / self.folder(release).name)
            beside.replace(link)
            sync_folder(self.prefix)
        except OSError as error:
            raise _problem(link, error) from error

    # ------------------------------------------------------------------------ the releases

    def made(self, release: str, sha256: str) -> bool:
        """Whether all of exactly this one is there, on disk."""
        try:
            data = (self.folder(release) / "made.json").read_bytes()
            return msgspec.json.decode(data, type=Made) == Made(release=release, sha256=sha256)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return False

    def begin(self, release: str) -> Path:
        """An empty folder for it; whatever of it was there half is gone."""
        folder = self.folder(release)
        assert release not in (self.current(), self.updater()), "what runs is never made anew"
        try:
            self.releases.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            (folder / "made.json").unlink(missing_ok=True)
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(mode=FOLDER_MODE)
        except OSError as error:
            raise _problem(folder, error) from error
        return folder

    def finish(self, release: str, sha256: str) -> None:
        """All of it is there: its files first, then the word that they are."""
        os.sync()
        try:
            sync_folder(self.releases)
        except OSError as error:
            raise _problem(self.releases, error) from error
        made = Made(release=release, sha256=sha256)
        _write(self.folder(release) / "made.json", msgspec.json.encode(made))

    def discard(self, release: str) -> None:
        shutil.rmtree(self.folder(release), ignore_errors=True)

    def prune(self, keep: set[str]) -> None:
        """No more releases than can be gone back to."""
        keep = keep | {self.current(), self.updater()}
        try:
            found = [path.name for path in self.releases.iterdir() if path.is_dir()]
        except OSError:
            return
        for name in found:
            if name not in keep and RELEASE.fullmatch(name):
                self.discard(name)

    def wheels(self) -> Iterator[Path]:
        """Of all releases that stand here."""
        return self.releases.glob("*/wheels/*.whl")


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(beside, flags, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _problem(path, error) from error


def _problem(path: Path, error: OSError) -> Exception:
    if isinstance(error, PermissionError):
        return SetupProblem(f"{path}: may not be written; run this as root")
    return DeviceFault(f"{path}: {error.strerror}; check folder and disk")
