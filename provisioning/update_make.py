"""A release is made: its bundle unpacked, an environment of its own, everything from its wheels.

No network: pip is given the wheels and nothing else, and takes none whose hash the requirements do
not name. A bundle may leave out wheels that a release before it has here. In the end the new
environment is asked to load itself. Nothing that runs is touched.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from edge.messages import Release
from edge.model import CorruptData, DeviceFault
from provisioning.update_place import Place
from provisioning.update_tar import ABOUT, REQUIREMENTS, BundleReader, Member, wanted_hashes
from sync.release_files import checked_chunks, open_unfollowed
from sync.release_rules import Why

MAKE_S_MAX: Final = 900.0  # Our choice: 20 wheels take a minute on a slow board; a slow card, ten.
LOOK_S_MAX: Final = 60.0
# Measured 2026-11: 23 MB of wheels make a release of 149 MB, of which pip and the wheels are 40.
ROOM_FACTOR: Final = 7
ROOM_BYTES_MIN: Final = 48 * 1024 * 1024  # An empty environment with pip is 15 MB.
DETAIL_CHARS_MAX: Final = 400
KEPT_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "HOME")

# What a release must be able to do before it may be tried. Its answer is one line of JSON.
LOOK: Final = """
import json
import edge.agent, edge.__main__, sync.loop, sync.__main__, provisioning.update_run
from edge.offline_cache.record import SOFTWARE
from edge.offline_cache.store import SCHEMA_VERSIONS
schemas = {kind.value: number for kind, number in SCHEMA_VERSIONS.items()}
print(json.dumps({"software": SOFTWARE, "schemas": schemas}))
"""


class MakeFailed(Exception):
    """It could not be made: a word for the city, a sentence for the technician."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(f"{why}: {detail}")
        self.why = why
        self.detail = detail[-DETAIL_CHARS_MAX:]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What an installed release says of itself."""

    software: str
    schemas: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Makes releases in one place with one Python."""

    place: Place
    python: str  # A program that makes environments: this one, or the system's.
    # Folders of packages that every release here may use beside its own: for a bench, where all of
    # them share one environment. A device has none.
    shared: Sequence[Path] = ()

    def make(self, release: Release, bundle: Path) -> None:
        """`MakeFailed` says why not; then nothing of it is left. The bundle is checked once more
        against its manifest while it is unpacked, chunk by chunk."""
        try:
            folder = self.place.begin(release.release)
            self._check_room(folder, release.size_bytes)
            wheels = folder / "wheels"
            wheels.mkdir()
            unpack(bundle, release, folder, wheels)
            self._link_known(folder / REQUIREMENTS, wheels)
            # Those of another release come from there, and are unpacked here all the same.
            self._check_room(folder, sum(path.stat().st_size for path in wheels.iterdir()))
            self._environment(folder)
            self._install(folder, wheels)
            about = self.ask(release.release)
            if about.software != release.release:
                raise MakeFailed(Why.BROKEN, f"it calls itself {about.software:.40}")
            self.place.finish(release.release, release.sha256)
        except MakeFailed:
            self.place.discard(release.release)
            raise
        except CorruptData as problem:
            self.place.discard(release.release)
            raise MakeFailed(Why.MALFORMED, str(problem)) from problem
        except (OSError, DeviceFault) as problem:
            self.place.discard(release.release)
            why = Why.NO_SPACE if _is_full(problem) else Why.INSTALL_FAILED
            raise MakeFailed(why, str(problem)) from problem

    def ask(self, release: str) -> About:
        """What a release here says of itself; `MakeFailed` when it cannot be loaded."""
        python = self.place.folder(release) / "bin" / "python"
        said = self._run([str(python), "-I", "-c", LOOK], LOOK_S_MAX, Why.BROKEN)
        try:
            return msgspec.json.decode(said.splitlines()[-1] if said else b"", type=About)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MakeFailed(Why.BROKEN, f"it says {said[:80]!r}") from error

    def _check_room(self, folder: Path, wheels_bytes: int) -> None:
        found = os.statvfs(folder)
        free = found.f_bavail * found.f_frsize
        needed = ROOM_BYTES_MIN + ROOM_FACTOR * wheels_bytes
        if free < needed:
            raise MakeFailed(
                Why.NO_SPACE, f"{folder}: {free >> 20} MiB are free, {needed >> 20} are needed"
            )

    def _link_known(self, requirements: Path, wheels: Path) -> None:
        """Wheels that the requirements name and that another release has here."""
        wanted = set(wanted_hashes(requirements.read_bytes()))
        wanted -= {_digest(path) for path in wheels.iterdir()}
        for path in self.place.wheels() if wanted else ():
            beside = wheels / path.name
            if path.parent != wheels and not beside.exists() and _digest(path) in wanted:
                os.link(path, beside)

    def _environment(self, folder: Path) -> None:
        without_pip = ["--without-pip"] if self.shared else []
        self._run(
            [self.python, "-I", "-m", "venv", *without_pip, str(folder)],
            MAKE_S_MAX,
            Why.INSTALL_FAILED,
        )
        if self.shared:
            (site,) = (folder / "lib").glob("python*/site-packages")
            text = "".join(f"{path}\n" for path in self.shared)
            (site / "shared.pth").write_text(text)

    def _install(self, folder: Path, wheels: Path) -> None:
        self._run(
            [
                *(str(folder / "bin" / "python"), "-I", "-m", "pip", "install", "--no-index"),
                *("--find-links", str(wheels), "--require-hashes", "--only-binary", ":all:"),
                *("--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet"),
                *(["--no-deps", "--ignore-installed"] if self.shared else []),
                *("--requirement", str(folder / REQUIREMENTS)),
            ],
            MAKE_S_MAX,
            Why.INSTALL_FAILED,
        )

    def _run(self, command: list[str], wait_s: float, why: Why) -> bytes:
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=wait_s,
                check=False,
                env=_bare(os.environ),
                cwd="/",
            )
        except subprocess.TimeoutExpired as error:
            raise MakeFailed(why, f"{command[0]}: not within {wait_s:.0f} s") from error
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()
            full = os.strerror(errno.ENOSPC) in words
            raise MakeFailed(Why.NO_SPACE if full else why, words or f"exit {done.returncode}")
        return done.stdout


def unpack(bundle: Path, release: Release, folder: Path, wheels: Path) -> None:
    """Requirements into `folder`, wheels into `wheels`. `CorruptData` when the bundle is not what
    was signed, or no bundle."""
    reader = BundleReader()
    target = None
    try:
        with os.fdopen(open_unfollowed(bundle), "rb") as file:
            for data in checked_chunks(file, release, bundle):
                for event in reader.feed(data):
                    if not isinstance(event, Member):
                        assert target is not None
                        target.write(event.data)
                        continue
                    if target is not None:
                        target.close()
                    place = folder if event.name in (REQUIREMENTS, ABOUT) else wheels
                    target = (place / event.name).open("xb")
        reader.close()
    finally:
        if target is not None:
            target.close()


def _is_full(problem: BaseException | None) -> bool:
    """Whether it is the disk that was full, however it was told."""
    while problem is not None:
        if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        problem = problem.__cause__
    return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bare(ours: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the caller's that changes what Python or pip does."""
    kept = {name: ours[name] for name in KEPT_VARIABLES if name in ours}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
