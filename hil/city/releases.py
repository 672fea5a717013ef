"""Releases that the city hands out: bundles as they were built, and what it signs about them.

A bundle is a ustar of wheels with `requirements.txt` and `release.json`, which says for which
machine it was built (`python -m hil.release` makes one). The manifest is signed when it is asked
for, with the release key of that day. One folder for all sites.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.messages import (
    CHUNK_BYTES_MAX,
    RELEASE_BYTES_MAX,
    AnyReleasePush,
    PushRelease,
    PushReleaseChunk,
    Release,
    Signed,
    SignedWhat,
    decode_pack,
    encode_pack,
)
from edge.model import CorruptData, SetupProblem
from hil.city.keys import CityKeys

ABOUT: Final = "release.json"
ABOUT_BYTES_MAX: Final = 16 * 1024
CHUNKS_AT_ONCE: Final = 4  # WIRE: chunk indexes asked for in one pull.
SHA256: Final = re.compile(r"[0-9a-f]{64}")
WORD: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.+-]{0,63}")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """`release.json` of a bundle."""

    release: str
    platform: str
    python: str
    schema_from: dict[str, int]


class Releases:
    """In the city's folder; every site's core has one, and they share the files."""

    def __init__(self, keys: CityKeys) -> None:
        self._keys = keys
        self.folder = keys.folder / "releases"

    def publish(self, file: Path, now_ms: int) -> Release:
        """Keep a bundle; it can be ordered from now on. `SetupProblem` for what is none."""
        about = _about(file)
        hashes, digest = [], hashlib.sha256()
        with file.open("rb") as bundle:
            while chunk := bundle.read(CHUNK_BYTES_MAX):
                hashes.append(hashlib.sha256(chunk).digest())
                digest.update(chunk)
        size = file.stat().st_size
        if size > RELEASE_BYTES_MAX:
            raise SetupProblem(f"{file}: {size} bytes, more than {RELEASE_BYTES_MAX}")
        release = Release(
            release=about.release,
            sha256=digest.hexdigest(),
            size_bytes=size,
            chunk_hashes=tuple(hashes),
            platform=about.platform,
            python=about.python,
            schema_from=about.schema_from,
            issued_utc_ms=now_ms,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self._bundle(release.sha256)
        shutil.copyfile(file, kept.with_suffix(".new"))
        kept.with_suffix(".new").replace(kept)
        payload = self._payload(release.sha256)
        payload.with_suffix(".new").write_bytes(encode_pack(release))
        payload.with_suffix(".new").replace(payload)
        return release

    def answer(self, sha256: str, chunks: Sequence[int]) -> list[AnyReleasePush]:
        """The manifest, or some chunks; nothing signed where there is no such release."""
        signed = self.signed(sha256)
        if signed is None or not chunks:
            return [PushRelease(sha256=sha256[:64], signed=signed)]
        pushes: list[AnyReleasePush] = []
        with self._bundle(sha256).open("rb") as bundle:
            for index in sorted(set(chunks))[:CHUNKS_AT_ONCE]:
                if 0 <= index <= RELEASE_BYTES_MAX // CHUNK_BYTES_MAX:
                    bundle.seek(index * CHUNK_BYTES_MAX)
                    data = bundle.read(CHUNK_BYTES_MAX)
                    pushes.append(PushReleaseChunk(sha256=sha256, index=index, data=data))
        return pushes

    def signed(self, sha256: str) -> Signed | None:
        """What is signed about a release that is kept."""
        if SHA256.fullmatch(sha256) is None or not self._payload(sha256).is_file():
            return None
        payload = self._payload(sha256).read_bytes()
        return self._keys.signing["release"].sign(SignedWhat.RELEASE, payload)

    def write_stick(self, sha256: str, path: Path) -> None:
        """One file for `moskvenok update take`: a line, what is signed, the bundle."""
        signed = self.signed(sha256)
        if signed is None:
            raise SetupProblem(f"no release {sha256:.64}; publish it first")
        head = encode_pack(signed)
        with path.open("wb") as file, self._bundle(sha256).open("rb") as bundle:
            file.write(b"moskvenok-release 1 %d\n" % len(head) + head)
            shutil.copyfileobj(bundle, file)
            file.flush()
            os.fsync(file.fileno())

    def listed(self) -> list[dict[str, Any]]:
        """What can be ordered."""
        found = []
        for path in sorted(self.folder.glob("*.manifest")):
            release = decode_pack(Release, path.read_bytes())
            names = ("release", "sha256", "size_bytes", "platform", "python")
            found.append({name: getattr(release, name) for name in names})
        return found

    def _bundle(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.bundle"

    def _payload(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.manifest"


def _about(file: Path) -> About:
    try:
        with tarfile.open(file, "r:") as bundle:
            member = bundle.extractfile(ABOUT)
            data = b"" if member is None else member.read(ABOUT_BYTES_MAX)
        about = msgspec.json.decode(data, type=About)
    except (OSError, KeyError, tarfile.TarError, msgspec.MsgspecError, CorruptData) as error:
        raise SetupProblem(f"{file}: not a release bundle ({error}); see hil/release.py") from error
    words = (about.release, about.platform, about.python)
    if any(WORD.fullmatch(word) is None for word in words):
        raise SetupProblem(f"{file}: its {ABOUT} names {words}; build it again")
    return about
