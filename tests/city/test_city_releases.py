"""Goal: the reference city signs what was built, hands it out piece by piece, and what it hands out
is what a device takes; a builder's file is the same each time.

Method: bundles of small wheels published in a city's folder; the answers to pulls put together and
checked with the product's own rules; the desk's refusals; keys of an older city.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from edge.messages import (
    Pull,
    PushRelease,
    PushReleaseChunk,
    Release,
    SignedWhat,
    decode_pack,
    decode_push,
    decode_signed_lines,
    encode_json,
)
from edge.model import SetupProblem
from edge.offline_cache.record import SOFTWARE
from edge.trust import Verifier, open_root
from hil import release as builder
from hil.city.desk import Refused
from hil.city.intake import CityCore
from hil.city.keys import open_keys, utc
from hil.city.release_desk import publish
from hil.release_command import release as command
from provisioning.update_tar import BundleReader, wanted_hashes
from sync.release_files import read_stick, stick_chunks
from sync.release_rules import judge
from sync.releases import this_machine
from tests.city.sham import NOON_MS, Sham, make_core
from tests.support import releases


@pytest.fixture
def core(tmp_path: Path) -> CityCore:
    made = make_core(tmp_path)
    Sham(made, "till-1")
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Three chunks: the wheel is noise, so it stays large."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    noise = "".join(hashlib.sha256(b"%d" % n).hexdigest() for n in range(4_000))
    wheel = releases.write_wheel(folder, "moskvenok-edge", "7.0", {"edge/noise.py": noise})
    return builder.write_bundle(tmp_path / "dist", wheel, [])


def pulled(core: CityCore, **fields: object) -> list[PushRelease | PushReleaseChunk]:
    pull = Pull(device="till-1", **fields)  # type: ignore[arg-type]
    outs = core.receive("mk/v1/d/till-1/pull", encode_json(pull), NOON_MS)
    found = []
    for out in outs:
        assert out.topic == "mk/v1/d/till-1/push"
        push = decode_push(out.payload)
        assert isinstance(push, PushRelease | PushReleaseChunk)
        found.append(push)
    return found


def test_what_was_published_is_handed_out_signed_and_whole(core: CityCore, bundle: Path) -> None:
    said = publish(core, {"file": str(bundle)}, NOON_MS).answer
    assert said["release"] == "7.0" and said["size_bytes"] == bundle.stat().st_size
    (first,) = pulled(core, release=said["sha256"])
    assert isinstance(first, PushRelease) and first.signed is not None
    root = open_root(core.keys.root_public, decode_signed_lines(core.keys.root_document))
    manifest = decode_pack(Release, Verifier(root).open(SignedWhat.RELEASE, first.signed))
    assert judge(manifest, machine=this_machine(), held="0.1", schemas={"journal": 3}) is None
    chunks = pulled(core, release=said["sha256"], chunks=(0, 1, 2))
    whole = b"".join(one.data for one in chunks if isinstance(one, PushReleaseChunk))
    assert whole == bundle.read_bytes()
    assert hashlib.sha256(whole).hexdigest() == manifest.sha256 == said["sha256"]


@pytest.mark.parametrize("digest", ["ab" * 32, "../../keys", "", "AB" * 32])
def test_of_a_release_it_has_not_it_says_so(core: CityCore, digest: str) -> None:
    if digest:
        (answer,) = pulled(core, release=digest)
        assert answer == PushRelease(sha256=digest, signed=None)


def test_chunks_that_are_none_come_empty_and_no_more_than_four(
    core: CityCore, bundle: Path
) -> None:
    digest = publish(core, {"file": str(bundle)}, NOON_MS).answer["sha256"]
    assert len(pulled(core, release=digest, chunks=tuple(range(9)))) == 4
    odd = pulled(core, release=digest, chunks=(-1, 10**12, 1_000))
    assert [one.data for one in odd if isinstance(one, PushReleaseChunk)] == [b""]


def test_a_rotated_release_key_signs_from_then_on(core: CityCore, bundle: Path) -> None:
    digest = publish(core, {"file": str(bundle)}, NOON_MS).answer["sha256"]
    core.keys.rotate_signing("release", NOON_MS)
    (first,) = pulled(core, release=digest)
    assert isinstance(first, PushRelease) and first.signed is not None
    assert first.signed.key_id == "release-2"


def test_a_stick_is_what_a_device_reads(core: CityCore, bundle: Path, tmp_path: Path) -> None:
    stick = tmp_path / "a.release"
    publish(core, {"file": str(bundle), "stick": str(stick)}, NOON_MS)
    manifest = decode_pack(Release, read_stick(stick).payload)
    assert b"".join(stick_chunks(stick, manifest)) == bundle.read_bytes()
    assert core.releases.listed()[0]["release"] == "7.0"


@pytest.mark.parametrize("made", ["nothing", "text", "folder", "zip", "without", "words"])
def test_a_file_that_is_no_bundle_is_refused_in_words(
    core: CityCore, tmp_path: Path, made: str
) -> None:
    path = tmp_path / "it"
    if made == "text":
        path.write_text("hello")
    elif made == "folder":
        path.mkdir()
    elif made == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("release.json", "{}")
    elif made == "without":
        path.write_bytes(releases.bundle_bytes({"requirements.txt": b""}))
    elif made == "words":
        about = {"release": "../x", "platform": "p", "python": "3", "schema_from": {}}
        path.write_bytes(releases.bundle_bytes({"release.json": json.dumps(about).encode()}))
    with pytest.raises(Refused):
        publish(core, {"file": str(path)}, NOON_MS)
    assert core.releases.listed() == []


@pytest.mark.parametrize("body", [{}, {"file": ""}, {"file": 7}, {"file": "a/b"}, {"file": "/\0"}])
def test_a_request_without_a_path_is_refused(core: CityCore, body: dict[str, object]) -> None:
    with pytest.raises(Refused):
        publish(core, body, NOON_MS)


def test_a_city_of_before_releases_gets_its_key(tmp_path: Path) -> None:
    keys = open_keys(tmp_path, "s0001", utc(NOON_MS))
    path = tmp_path / "keys.json"
    file = msgspec.json.decode(path.read_bytes())
    del file["signing"]["release"]
    path.write_bytes(msgspec.json.encode(file))
    again = open_keys(tmp_path, "s0001", utc(NOON_MS))
    assert again.root_version == keys.root_version + 1
    root = open_root(again.root_public, decode_signed_lines(again.root_document))
    Verifier(root).open(
        SignedWhat.RELEASE, again.signing["release"].sign(SignedWhat.RELEASE, b"it")
    )
    assert open_keys(tmp_path, "s0001", utc(NOON_MS)).root_document == again.root_document


# -------------------------------------------------------------------------------- the builder


def test_the_same_wheels_make_the_same_file(bundle: Path, tmp_path: Path) -> None:
    wheel = next((tmp_path / "wheels").glob("*.whl"))
    again = builder.write_bundle(tmp_path / "again", wheel, [])
    assert again.read_bytes() == bundle.read_bytes()
    reader, names = BundleReader(), []
    for event in reader.feed(bundle.read_bytes()):
        names += [event.name] if hasattr(event, "name") else []
    reader.close()
    assert names == ["release.json", "requirements.txt", wheel.name]


def test_what_is_left_out_is_named_all_the_same(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    ours = next(folder.glob("*.whl"))
    dep = releases.write_wheel(folder, "tiny-dep", "1.0", {"tiny.py": ""})
    alone = builder.write_bundle(tmp_path / "alone", ours, [dep], alone=True)
    found = {}
    name = ""
    for event in BundleReader().feed(alone.read_bytes()):
        if hasattr(event, "name"):
            name = event.name
        else:
            found[name] = event.data
    assert dep.name not in found
    assert hashlib.sha256(dep.read_bytes()).hexdigest() in wanted_hashes(found["requirements.txt"])


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("a-1-py3-none-any.whl", "a-1-py3-none-any.whl"),
        (
            "a-1-cp36-abi3-manylinux_2_12_x86_64.manylinux2010_x86_64.whl",
            "a-1-cp36-abi3-manylinux_2_12_x86_64.whl",
        ),
        ("a-1-cp311-cp311-manylinux2014_x86_64.whl", "a-1-cp311-cp311-manylinux2014_x86_64.whl"),
    ],
)
def test_a_long_name_loses_its_tags_older_spellings(name: str, short: str) -> None:
    assert builder.bundle_name(name) == short
    with pytest.raises(SetupProblem):
        builder.bundle_name("x" * 100 + "-1-py3-none-any.whl")


@pytest.mark.slow
def test_this_tree_makes_a_wheel_that_calls_itself_what_it_is(tmp_path: Path) -> None:
    wheel = builder.build_wheel(tmp_path / "out")
    assert wheel.name.split("-")[1] == SOFTWARE
    with zipfile.ZipFile(wheel) as found:
        names = set(found.namelist())
    assert "provisioning/units/moskvenok-update.service" in names
    assert {"edge/screens/common.js", "provisioning/update_run.py"} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_command_says_what_is_wrong_with_its_city(bundle: Path) -> None:
    for url in ("https://127.0.0.1:1", "nothing", "http://127.0.0.1:1"):
        done = CliRunner().invoke(command, [str(bundle), "--http", url])
        assert isinstance(done.exception, SetupProblem), done.output
