"""Goal: a release that was ordered comes whole or not at all, whatever is cut, spoilt or full.

Method: `Releases` with its folder on disk and a city that is a function; the process ends after
each chunk and begins anew; every signature that is not a release key's is tried; the stick too.
"""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.clock import moment_at
from edge.messages import (
    CHUNK_BYTES_MAX,
    Pull,
    PushRelease,
    PushReleaseChunk,
    Release,
    Signed,
    SignedWhat,
    encode_pack,
)
from edge.model import ClockQuality, CorruptData, DeviceFault, Moment
from sync.release_files import (
    Ready,
    ReleaseFiles,
    Told,
    Wanted,
    read_stick,
    stick_bytes,
    stick_chunks,
)
from sync.release_rules import Machine, Why
from sync.releases import DISK_FREE_BYTES_MIN, Releases
from tests.support import releases, small_city
from tests.support.times import NOON_MS
from tests.support.whole_device import ZONE

BUNDLE = bytes(range(256)) * 1_700  # Eight chunks, the last one short.
RELEASE = releases.release_of(BUNDLE, "0.2.0")
WANTED = Wanted(release="0.2.0", sha256=RELEASE.sha256, counter=7)
MACHINE = Machine(platform=releases.PLATFORM, python=releases.PYTHON)
NO_DISK = namedtuple("NO_DISK", "total used free")


class Bench:
    """One device's folder, and a city."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.files = ReleaseFiles(folder)
        self.now_ms = 0
        self.signed: Signed | None = releases.sign(RELEASE)
        self.bundle = BUNDLE
        self.spoil: Callable[[int, bytes], bytes] = lambda _index, data: data
        self.pulls: list[Pull] = []
        self.start()

    def start(self) -> None:
        """Another life of sync."""
        self.releases = Releases(device="d", files=self.files, machine=MACHINE, held="0.1.0")

    def moment(self) -> Moment:
        wall_ms = NOON_MS + self.now_ms
        return moment_at(
            boot="b", mono_ms=self.now_ms, wall_ms=wall_ms, quality=ClockQuality.CITY, zone=ZONE
        )

    def answers(self, pull: Pull) -> list[PushRelease | PushReleaseChunk]:
        if not pull.chunks:
            return [PushRelease(sha256=pull.release, signed=self.signed)]
        return [
            PushReleaseChunk(
                sha256=pull.release,
                index=index,
                data=self.spoil(index, releases.chunk(self.bundle, index)),
            )
            for index in pull.chunks
        ]

    def run(self, seconds: int, *, chunks_max: int = 10**6) -> int:
        """Time goes by, with the city at the other end; how many chunks came."""
        came = 0
        for _ in range(seconds):
            self.now_ms += 1_000
            pull = self.releases.step(self.moment(), connected=True)
            if pull is None:
                continue
            self.pulls.append(pull)
            for push in self.answers(pull):
                if came == chunks_max:
                    return came
                came += isinstance(push, PushReleaseChunk)
                try:
                    self.releases.take(push, releases.verifier(), self.moment())
                except CorruptData:
                    continue  # Refused and counted, one floor up.
        return came


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "updates")


def test_what_was_ordered_comes_and_is_laid_ready(bench: Bench) -> None:
    assert not bench.releases.busy()
    bench.releases.want(WANTED)
    assert bench.releases.busy() and bench.releases.came_of(7) is None
    assert bench.run(30) == 8
    assert bench.files.bundle.read_bytes() == BUNDLE
    assert bench.files.read_signed() == bench.signed
    token = f"order 7 {RELEASE.sha256}"
    assert bench.files.ready() == Ready(
        release="0.2.0", sha256=RELEASE.sha256, token=token, counter=7
    )
    assert bench.files.wanted() is None and not bench.files.part.exists()
    assert bench.releases.busy({7}) and bench.releases.came_of(7) is None, "not installed yet"
    assert not bench.releases.busy({8}), "its time was over: another may take its place"
    assert all(len(pull.chunks) <= 4 for pull in bench.pulls)
    bench.files.tell(Told(running=True, release="0.2.0", counter=7))
    bench.files.forget_ready()
    assert bench.releases.busy() and bench.releases.came_of(7) is None
    bench.files.tell(Told(running=False, release="0.2.0", counter=7, done=True))
    assert not bench.releases.busy() and bench.releases.came_of(7) == ""


@pytest.mark.parametrize("after", range(9))
def test_killed_after_any_chunk_it_goes_on_where_it_was(bench: Bench, after: int) -> None:
    bench.releases.want(WANTED)
    came = bench.run(30, chunks_max=after)
    bench.start()
    came += bench.run(120)
    assert bench.files.bundle.read_bytes() == BUNDLE
    assert came == 8, "no chunk came twice"


def test_a_part_that_the_disk_lost_is_fetched_again(bench: Bench) -> None:
    bench.releases.want(WANTED)
    bench.run(30, chunks_max=6)
    with bench.files.part.open("r+b") as part:  # Torn: what was never flushed.
        part.seek(2 * CHUNK_BYTES_MAX + 100)
        part.write(bytes(512))
        part.truncate(5 * CHUNK_BYTES_MAX + 17)
    bench.start()
    assert bench.run(120) == 4
    assert bench.files.bundle.read_bytes() == BUNDLE


def test_killed_between_ready_and_the_end_it_is_ready(bench: Bench) -> None:
    bench.releases.want(WANTED)
    bench.run(30)
    bench.files.want(WANTED)  # As if its removal had not reached the disk.
    bench.start()
    assert bench.releases.fetching is None and bench.files.wanted() is None
    assert bench.files.ready() is not None and bench.run(5) == 0


def test_spoilt_chunks_never_get_in(bench: Bench) -> None:
    bench.releases.want(WANTED)
    bench.spoil = lambda index, data: data if index % 2 else bytes(len(data))
    bench.run(600)
    assert bench.files.ready() is None and not bench.files.bundle.exists()
    bench.spoil = lambda _index, data: data
    bench.run(600)
    assert bench.files.bundle.read_bytes() == BUNDLE


def test_chunks_that_are_right_and_make_another_whole_are_not_laid_ready(bench: Bench) -> None:
    """The city signed a digest that is not that of its chunks."""
    digest = "ab" * 32
    bench.signed = releases.sign(releases.release_of(BUNDLE, "0.2.0", sha256=digest))
    bench.releases.want(Wanted(release="0.2.0", sha256=digest, counter=7))
    assert bench.run(3_600) == 8, "nothing is asked for in vain"
    assert bench.files.ready() is None and not bench.files.bundle.exists()
    assert bench.releases.came_of(7) == Why.MALFORMED


def test_a_part_that_changed_under_us_is_fetched_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ReleaseFiles.complete

    def worn(files: ReleaseFiles, release: Release, signed: Signed, ready: Ready) -> bool:
        monkeypatch.setattr(ReleaseFiles, "complete", real)
        with files.part.open("r+b") as part:
            part.seek(CHUNK_BYTES_MAX)
            part.write(b"worn")
        return real(files, release, signed, ready)

    monkeypatch.setattr(ReleaseFiles, "complete", worn)
    bench.releases.want(WANTED)
    assert bench.run(60) == 9
    assert bench.files.bundle.read_bytes() == BUNDLE


def refused(bench: Bench) -> str | None:
    bench.releases.want(WANTED)
    bench.run(120)
    assert bench.files.ready() is None and not bench.releases.busy()
    assert bench.files.wanted() is None and not bench.files.part.exists()
    return bench.releases.came_of(7)


@pytest.mark.parametrize("role", ["list", "freshness", "order", "root", "stranger"])
def test_another_key_than_a_release_key_is_refused(bench: Bench, role: str) -> None:
    bench.signed = releases.sign(RELEASE, key=role)
    assert refused(bench) == Why.BAD_SIGNATURE


def test_a_signature_for_something_else_is_refused(bench: Bench) -> None:
    """The right key's, over another kind of message."""
    signed = small_city.sign(SignedWhat.MANIFEST, encode_pack(RELEASE), key="release")
    bench.signed = signed
    assert refused(bench) == Why.BAD_SIGNATURE


def test_a_manifest_changed_after_it_was_signed_is_refused(bench: Bench) -> None:
    other = encode_pack(releases.release_of(BUNDLE, "0.3.0"))
    signed = releases.sign(RELEASE)
    bench.signed = Signed(other, signed.key_id, signed.signature)
    assert refused(bench) == Why.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"version": "0.3.0"}, Why.OTHER_RELEASE),
        ({"sha256": "ab" * 32}, Why.OTHER_RELEASE),
        ({"platform": "linux-other"}, Why.WRONG_PLATFORM),
        ({"schema_from": {"sync": 99}}, Why.SCHEMA),
        ({"size_bytes": 1}, Why.MALFORMED),
    ],
)
def test_signed_and_not_for_here_is_refused(bench: Bench, fields: dict[str, Any], why: Why) -> None:
    bench.signed = releases.sign(releases.release_of(BUNDLE, **fields))
    assert refused(bench) == why


def test_an_older_release_is_refused(bench: Bench) -> None:
    old = releases.release_of(BUNDLE, "0.1.0")
    bench.signed = releases.sign(old)
    bench.releases.want(Wanted(release="0.1.0", sha256=old.sha256, counter=7))
    bench.run(10)
    assert bench.releases.came_of(7) == Why.TOO_OLD


def test_a_city_without_it_says_so(bench: Bench) -> None:
    bench.signed = None
    assert refused(bench) == Why.NO_RELEASE


def test_a_release_that_leaves_no_room_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = DISK_FREE_BYTES_MIN + RELEASE.size_bytes
    monkeypatch.setattr("shutil.disk_usage", lambda _path: NO_DISK(0, 0, free - 1))
    assert refused(bench) == Why.NO_SPACE
    monkeypatch.setattr("shutil.disk_usage", lambda _path: NO_DISK(0, 0, free))
    bench.releases.want(WANTED)
    bench.run(30)
    assert bench.files.ready() is not None


def test_a_disk_that_is_full_in_the_middle_ends_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.releases.want(WANTED)
    bench.run(30, chunks_max=3)
    real = os.open

    def full(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if str(path).endswith(".part") and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", full)
    bench.run(120)
    assert bench.releases.came_of(7) == Why.NO_SPACE and not bench.releases.busy()


def test_an_order_that_nothing_is_left_of_is_told_as_restarted(bench: Bench) -> None:
    assert bench.releases.came_of(7) == Why.RESTARTED
    bench.files.tell(Told(running=False, release="0.2.0", counter=6, done=True))
    assert bench.releases.came_of(7) == Why.RESTARTED


def test_what_became_of_another_citys_order_is_not_told_of_this_one(bench: Bench) -> None:
    """Counters begin anew with a city; the updater's memory does not."""
    bench.files.tell(Told(running=False, release="0.1.0", counter=7, done=True))
    bench.releases.want(WANTED)
    bench.run(30)
    assert bench.files.ready() is not None and bench.releases.came_of(7) is None


def test_what_nobody_waits_for_is_forgotten(bench: Bench) -> None:
    bench.releases.want(WANTED)
    bench.run(30, chunks_max=3)
    bench.releases.forget()
    assert not bench.releases.busy() and not bench.files.part.exists()
    assert bench.run(30) == 0


def test_answers_to_somebody_else_are_ignored(bench: Bench) -> None:
    bench.releases.want(WANTED)
    for push in (
        PushRelease(sha256="00" * 32, signed=None),
        PushReleaseChunk(sha256="00" * 32, index=0, data=b"x"),
        PushReleaseChunk(sha256=RELEASE.sha256, index=0, data=b"x"),  # Before its manifest.
    ):
        bench.releases.take(push, releases.verifier(), bench.moment())
    assert bench.releases.came_of(7) is None and not bench.files.part.exists()


@pytest.mark.parametrize("index", [-1, 7, 8, 10**9])
def test_a_chunk_that_was_not_asked_for_is_none_of_ours(bench: Bench, index: int) -> None:
    """Not though it is right, and not though there is none so numbered."""
    bench.releases.want(WANTED)
    manifest = PushRelease(sha256=RELEASE.sha256, signed=bench.signed)
    assert bench.releases.step(bench.moment(), connected=True) is not None
    bench.releases.take(manifest, releases.verifier(), bench.moment())
    pull = bench.releases.step(bench.moment(), connected=True)
    assert pull is not None and pull.chunks == (0, 1, 2, 3)
    push = PushReleaseChunk(
        sha256=RELEASE.sha256, index=index, data=releases.chunk(BUNDLE, index % 8)
    )
    bench.releases.take(push, releases.verifier(), bench.moment())
    assert bench.releases.came_of(7) is None and not bench.files.part.exists()


def test_files_that_others_spoilt_are_as_none(bench: Bench) -> None:
    for name in ("wanted.json", "ready.json", "told.json"):
        (bench.files.folder / name).write_bytes(b"\xff{")
    bench.start()
    assert not bench.releases.busy()
    (bench.files.folder / "told.json").write_bytes(b" " * 20_000)
    assert bench.files.told() is None


def test_no_link_is_followed(bench: Bench, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    for name in ("told.json", "told.json.new", "release.part", "wanted.json.new"):
        (bench.files.folder / name).unlink(missing_ok=True)
        (bench.files.folder / name).symlink_to(victim)
    assert bench.files.told() is None
    with pytest.raises(DeviceFault):
        bench.files.put(RELEASE, 0, releases.chunk(BUNDLE, 0))
    bench.files.want(WANTED)
    assert victim.read_bytes() == b"untouched"


def test_a_pipe_in_place_of_a_file_is_not_waited_for(bench: Bench) -> None:
    """Whoever may write there could else hold the updater up for good."""
    for name in ("wanted.json", "ready.json", "told.json", "release.part", "release.signed"):
        os.mkfifo(bench.files.folder / name)
    assert bench.files.ready() is None and bench.files.told() is None
    for look in (
        bench.files.read_signed,
        lambda: bench.files.have(RELEASE),
        lambda: bench.files.put(RELEASE, 0, releases.chunk(BUNDLE, 0)),
    ):
        with pytest.raises(DeviceFault, match="not a plain file"):
            look()


# ---------------------------------------------------------------------------------- the stick


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = tmp_path / "a.release"
    path.write_bytes(stick_bytes(releases.sign(RELEASE)) + BUNDLE)
    return path


READY = Ready(release="0.2.0", sha256=RELEASE.sha256, token="stick 1")


def test_a_stick_gives_what_the_wire_gives(bench: Bench, stick: Path) -> None:
    signed = read_stick(stick)
    assert releases.verifier().open(SignedWhat.RELEASE, signed) == encode_pack(RELEASE)
    bench.files.take(stick, RELEASE, signed, READY)
    assert bench.files.bundle.read_bytes() == BUNDLE and bench.files.ready() == READY


def test_a_stick_cut_anywhere_is_refused(bench: Bench, stick: Path) -> None:
    whole = stick.read_bytes()
    for size in (0, 5, 20, 25, 200, len(whole) - len(BUNDLE), len(whole) // 2, len(whole) - 1):
        stick.write_bytes(whole[:size])
        with pytest.raises(CorruptData):
            signed = read_stick(stick)
            bench.files.take(stick, RELEASE, signed, READY)
        assert bench.files.ready() is None


@pytest.mark.parametrize(
    "head",
    [
        *(b"moskvenok-release 1 \n", b"moskvenok-release 1 -5\n", b"moskvenok-release 2 10\n"),
        *(b"moskvenok-release 1 99999\n", b"moskvenok-release 1 999999999\n", b"PK\x03\x04\n"),
        *(b"moskvenok-release 1 4\nabcd", "moskvenok-release 1 ٣\n".encode()),
    ],
)
def test_a_file_that_is_no_release_is_refused(stick: Path, head: bytes) -> None:
    stick.write_bytes(head + b"x" * 100)
    with pytest.raises(CorruptData):
        read_stick(stick)


def test_a_stick_with_a_changed_or_added_byte_is_refused(bench: Bench, stick: Path) -> None:
    whole = stick.read_bytes()
    signed = read_stick(stick)
    for bad in (whole + b"x", whole[:-9] + b"?" + whole[-8:]):
        stick.write_bytes(bad)
        with pytest.raises(CorruptData):
            bench.files.take(stick, RELEASE, signed, READY)
        assert bench.files.ready() is None
        with pytest.raises(CorruptData):
            list(stick_chunks(stick, RELEASE))


def test_decoding_release_is_what_was_signed() -> None:
    assert isinstance(RELEASE, Release) and len(RELEASE.chunk_hashes) == 8
