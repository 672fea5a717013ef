"""Builds a release of this tree: `python -m hil.release`, or `make release`.

One file: the wheel of this tree and, unless `--alone`, the wheels of what the lock file names for
this machine, with their hashes. It is for machines and a Python like those it is built on. The
city publishes it (`moskvenok city release FILE`), which signs it; devices take nothing unsigned.

`--alone` leaves out what a device has of the release before: right when the lock file is the same.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from edge.model import SetupProblem
from edge.offline_cache.record import SOFTWARE

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("edge", "sync", "provisioning", "hil")
BESIDE: Final = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
SCHEMA_FROM: Final = {"journal": 1, "sync": 1}  # migrations.py goes on from the first of each.
NAME_CHARS_MAX: Final = 100  # ustar.
LEGACY: Final = re.compile(r"manylinux(1|2010|2014)_")  # PEP 600: each has a newer spelling.


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hil.release", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the file")
    parser.add_argument(
        "--lock",
        type=Path,
        action="append",
        help="lock file, default requirements/run.txt; again for a Raspberry Pi's: pi.txt",
    )
    parser.add_argument("--wheels", type=Path, help="folder with wheels: no network is used")
    parser.add_argument("--alone", action="store_true", help="only this tree's own wheel")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="mk-release-") as scratch:
            folder = Path(scratch)
            ours = build_wheel(folder / "ours")
            locks = options.lock or [ROOT / "requirements" / "run.txt"]
            others = collect(locks, folder / "others", options.wheels)
            path = write_bundle(options.out, ours, others, alone=options.alone)
    except SetupProblem as problem:
        print(f"release: {problem}", file=sys.stderr)
        return 1
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path}\n{path.stat().st_size} bytes, sha256 {digest}")
    return 0


def build_wheel(folder: Path) -> Path:
    """This tree's wheel, built in a copy: nothing is left in the tree. No network."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="mk-wheel-") as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        leave = shutil.ignore_patterns("__pycache__", "*.pyc")
        for name in PACKAGES:
            shutil.copytree(ROOT / name, tree / name, ignore=leave)
        for name in BESIDE:
            if (ROOT / name).exists():
                shutil.copy(ROOT / name, tree / name)
        _pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, tree)
    (wheel,) = folder.glob("*.whl")
    version = wheel.name.split("-")[1]
    if version != SOFTWARE:
        raise SetupProblem(
            f"setup.cfg says {version}, edge/offline_cache/record.py says {SOFTWARE}; a device"
            " tells by the latter which release runs: make them one"
        )
    return wheel


def collect(locks: Sequence[Path], folder: Path, wheels: Path | None) -> list[Path]:
    """Wheels of everything the lock files name for this machine, built where there is none."""
    folder.mkdir(parents=True)
    named = [word for lock in locks for word in ("-r", lock)]
    offline = [] if wheels is None else ["--no-index", "--find-links", wheels.absolute()]
    _pip("wheel", *offline, "--require-hashes", "--no-deps", "-w", folder, *named)
    return sorted(folder.glob("*.whl"))


def write_bundle(
    out: Path, ours: Path, others: Iterable[Path], *, alone: bool = False, name: str = ""
) -> Path:
    """The file. The requirements name every wheel, also those that are left out."""
    version = ours.name.split("-")[1]
    machine, python = (
        sysconfig.get_platform(),
        ".".join(platform.python_version_tuple()[:2]),
    )
    about = {
        "release": version,
        "platform": machine,
        "python": python,
        "schema_from": SCHEMA_FROM,
    }
    wheels = [ours, *others]
    requirements = "".join(_requirement(wheel) for wheel in wheels)
    out.mkdir(parents=True, exist_ok=True)
    path = out / (name or f"moskvenok-edge-{version}-{machine}-py{python}.bundle")
    beside = path.with_name(path.name + ".new")
    with tarfile.open(beside, "w:", format=tarfile.USTAR_FORMAT) as bundle:
        _add(bundle, "release.json", json.dumps(about).encode())
        _add(bundle, "requirements.txt", requirements.encode())
        for wheel in [ours] if alone else wheels:
            _add(bundle, bundle_name(wheel.name), wheel.read_bytes())
    beside.replace(path)
    return path


def bundle_name(name: str) -> str:
    """A wheel's name without its tags' older spellings: ustar holds 100 characters.

    >>> bundle_name("a-1-cp36-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")
    'a-1-cp36-abi3-manylinux_2_17_x86_64.whl'
    """
    stem, _, tags = name.removesuffix(".whl").rpartition("-")
    spellings = tags.split(".")
    newer = [tag for tag in spellings if LEGACY.match(tag) is None]
    short = f"{stem}-{'.'.join(newer or spellings)}.whl"
    if len(short) > NAME_CHARS_MAX:
        raise SetupProblem(f"{name}: too long a name for a bundle")
    return short


def _requirement(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name.replace('_', '-')}=={version} --hash=sha256:{digest}\n"


def _add(bundle: tarfile.TarFile, name: str, data: bytes) -> None:
    """The same bytes make the same file: no times, no owners."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    bundle.addfile(info, io.BytesIO(data))


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--no-input", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = done.stderr.strip()[-600:]
        raise SetupProblem(
            f"pip {arguments[0]}: {words}; without a network name a folder of wheels: --wheels"
        )


if __name__ == "__main__":
    sys.exit(main())
