"""Goal: a release is made without a network from exactly the wheels that were signed, or not made.

Method: pip and environments for real, with wheels of a few lines: once as on a device, with an
environment of its own, and for each thing wrong with a release in one that shares pip.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge.messages import Release
from provisioning.update_make import ROOM_BYTES_MIN, MakeFailed, Maker
from provisioning.update_place import Place
from sync.release_rules import Why
from tests.support import releases

VERSION = "0.2.0"
EMPTY = {
    f"{package}/{module}.py": ""
    for package, modules in {
        "edge": ("__init__", "__main__", "agent"),
        "edge/offline_cache": ("__init__",),
        "sync": ("__init__", "__main__", "loop"),
        "provisioning": ("__init__", "update_run"),
    }.items()
    for module in modules
}
OURS = EMPTY | {
    "edge/offline_cache/record.py": f'import tiny_dep\nSOFTWARE = "{VERSION}"\n',
    "edge/offline_cache/store.py": (
        "from types import SimpleNamespace\n"
        'SCHEMA_VERSIONS = {SimpleNamespace(value="journal").value: 3}\n'
        "class K(str):\n    value = property(str)\n"
        'SCHEMA_VERSIONS = {K("journal"): 3, K("sync"): 4}\n'
    ),
}


class Builder:
    """Makes wheels and bundles in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def ours(self, files: Mapping[str, str] = OURS, version: str = VERSION) -> Path:
        return releases.write_wheel(self.folder, "moskvenok-edge", version, files)

    def tiny_dep(self, text: str = "") -> Path:
        return releases.write_wheel(self.folder, "tiny-dep", "1.0", {"tiny_dep.py": text})

    def bundle(self, *wheels: Path, left_out: tuple[Path, ...] = ()) -> tuple[Path, Release]:
        lines = []
        for wheel in (*wheels, *left_out):
            name, version = wheel.name.split("-")[:2]
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{digest}\n")
        files = {"requirements.txt": "".join(lines).encode()}
        files |= {wheel.name: wheel.read_bytes() for wheel in wheels}
        data = releases.bundle_bytes(files)
        path = self.folder / "release.bundle"
        path.write_bytes(data)
        return path, releases.release_of(data, VERSION)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path / "build")


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """Quick: its releases share this environment's pip."""
    shared = Path(sysconfig.get_path("purelib"))
    return Maker(place=Place(tmp_path / "opt"), python=sys.executable, shared=(shared,))


@pytest.mark.slow
def test_a_release_has_an_environment_of_its_own(builder: Builder, tmp_path: Path) -> None:
    maker = Maker(place=Place(tmp_path / "opt"), python=sys.executable)
    bundle, release = builder.bundle(builder.ours(), builder.tiny_dep())
    maker.make(release, bundle)
    folder = maker.place.folder(VERSION)
    assert maker.place.made(VERSION, release.sha256)
    assert maker.ask(VERSION).schemas == {"journal": 3, "sync": 4}
    code = "import sys, json, tiny_dep; print(json.dumps([sys.prefix, tiny_dep.__file__]))"
    said = subprocess.run(
        [folder / "bin" / "python", "-I", "-c", code], capture_output=True, check=True
    )
    prefix, place = json.loads(said.stdout)
    assert prefix == str(folder) and place.startswith(str(folder))
    assert (folder / "bin" / "pip").exists(), "the next release is made from this one"


def why(maker: Maker, bundle: Path, release: Release) -> tuple[Why, str]:
    """Why it cannot be made; nothing of it is left."""
    with pytest.raises(MakeFailed) as failed:
        maker.make(release, bundle)
    assert not maker.place.folder(VERSION).exists()
    assert not maker.place.made(VERSION, release.sha256)
    return failed.value.why, failed.value.detail


def test_wheels_that_another_release_has_may_be_left_out(builder: Builder, maker: Maker) -> None:
    held = maker.place.begin("0.1.0") / "wheels"
    held.mkdir()
    dep = builder.tiny_dep("word = 'held'")
    (held / dep.name).write_bytes(dep.read_bytes())
    bundle, release = builder.bundle(builder.ours(), left_out=(dep,))
    maker.make(release, bundle)
    beside = maker.place.folder(VERSION) / "wheels" / dep.name
    assert beside.samefile(held / dep.name), "a link, so it stays when the other release goes"


def test_a_wheel_that_nobody_has_is_missed(builder: Builder, maker: Maker) -> None:
    held = maker.place.begin("0.1.0") / "wheels"
    held.mkdir()
    dep = builder.tiny_dep("word = 'as signed'")
    bundle, release = builder.bundle(builder.ours(), left_out=(dep,))
    other = builder.tiny_dep("word = 'another'")
    (held / dep.name).write_bytes(other.read_bytes())
    found, detail = why(maker, bundle, release)
    assert found is Why.INSTALL_FAILED and "tiny-dep" in detail


def test_a_wheel_whose_hash_is_not_named_is_not_installed(builder: Builder, maker: Maker) -> None:
    wheel = builder.ours()
    data = releases.bundle_bytes(
        {
            "requirements.txt": b"moskvenok-edge==0.2.0 --hash=sha256:" + b"00" * 32 + b"\n",
            wheel.name: wheel.read_bytes(),
        }
    )
    bundle = builder.folder / "other.bundle"
    bundle.write_bytes(data)
    found, detail = why(maker, bundle, releases.release_of(data, VERSION))
    assert found is Why.INSTALL_FAILED and "hash" in detail.lower()


@pytest.mark.parametrize(
    ("files", "version", "words"),
    [
        (OURS | {"sync/loop.py": "import nothing_like_it\n"}, VERSION, "nothing_like_it"),
        (OURS | {"edge/agent.py": "def broken(:\n"}, VERSION, "SyntaxError"),
        (
            {name: text for name, text in OURS.items() if "update_run" not in name},
            VERSION,
            "update",
        ),
        (OURS, "0.3.0", ""),
    ],
    ids=["import", "syntax", "no updater", "other version"],
)
def test_a_release_that_cannot_be_loaded_is_not_tried(
    builder: Builder, maker: Maker, files: dict[str, str], version: str, words: str
) -> None:
    if version != VERSION:
        files = files | {
            "edge/offline_cache/record.py": f'import tiny_dep\nSOFTWARE = "{version}"\n'
        }
    bundle, release = builder.bundle(builder.ours(files), builder.tiny_dep())
    # What is shared here would fill the gap: on a device nothing is.
    found, detail = why(maker, bundle, release)
    assert found is Why.BROKEN and words in detail


@pytest.mark.parametrize(
    "line",
    [
        *("--index-url http://127.0.0.1:9/", "-e /", "./x.whl", "-r /etc/passwd", "a @ file:///x"),
        *("moskvenok-edge==0.2.0", "", "# nothing", "moskvenok-edge==0.2.0 --hash=md5:00"),
    ],
)
def test_requirements_that_ask_for_more_are_not_followed(
    builder: Builder, maker: Maker, line: str
) -> None:
    """Options in the requirements open no way to the network or to another folder."""
    wheel = builder.ours()
    good = f"moskvenok-edge==0.2.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    text = f"{line}\n{good}\n".encode()
    data = releases.bundle_bytes({"requirements.txt": text, wheel.name: wheel.read_bytes()})
    bundle = builder.folder / "other.bundle"
    bundle.write_bytes(data)
    found, detail = why(maker, bundle, releases.release_of(data, VERSION))
    assert found is Why.MALFORMED and "line 1" in detail


def test_without_room_it_is_not_begun(
    builder: Builder, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, release = builder.bundle(builder.ours(), builder.tiny_dep())
    full = type("S", (), {"f_bavail": ROOM_BYTES_MIN // 4096, "f_frsize": 4096})
    monkeypatch.setattr("os.statvfs", lambda _path: full)
    found, detail = why(maker, bundle, release)
    assert found is Why.NO_SPACE and "MiB" in detail


def test_what_runs_is_never_made_anew(builder: Builder, maker: Maker) -> None:
    bundle, release = builder.bundle(builder.ours(), builder.tiny_dep())
    maker.make(release, bundle)
    maker.place.switch(VERSION)
    with pytest.raises(AssertionError):
        maker.make(release, bundle)
    assert maker.place.made(VERSION, release.sha256)
