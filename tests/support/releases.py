"""Releases for tests: bundles of made-up wheels, what a city signs about them, wheels that are real
enough for pip."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from edge.messages import CHUNK_BYTES_MAX, Release, Signed, SignedWhat, encode_pack
from edge.trust import Verifier
from tests.support import small_city
from tests.support.times import NOON_MS

PLATFORM, PYTHON = "linux-test", "3.11"
ROLES = {role: role for role in (*small_city.ROLES, "release")}


def bundle_bytes(files: Mapping[str, bytes]) -> bytes:
    """A bundle as `hil/release.py` writes one."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.USTAR_FORMAT) as bundle:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return out.getvalue()


def release_of(bundle: bytes, version: str = "0.2.0", **fields: object) -> Release:
    """What is to be signed about it."""
    chunks = [bundle[n : n + CHUNK_BYTES_MAX] for n in range(0, len(bundle), CHUNK_BYTES_MAX)]
    values: dict[str, object] = {
        "release": version,
        "sha256": hashlib.sha256(bundle).hexdigest(),
        "size_bytes": len(bundle),
        "chunk_hashes": tuple(hashlib.sha256(chunk).digest() for chunk in chunks),
        "platform": PLATFORM,
        "python": PYTHON,
        "schema_from": {"journal": 1, "sync": 1},
        "issued_utc_ms": NOON_MS,
        **fields,
    }
    return Release(**values)  # type: ignore[arg-type]


def sign(release: Release, key: str = "release") -> Signed:
    return small_city.sign(SignedWhat.RELEASE, encode_pack(release), key=key)


def verifier() -> Verifier:
    """Of a city that sends releases."""
    return Verifier(small_city.root_document(roles=ROLES))


def chunk(bundle: bytes, index: int) -> bytes:
    return bundle[index * CHUNK_BYTES_MAX : (index + 1) * CHUNK_BYTES_MAX]


def write_wheel(folder: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """A wheel of pure Python that pip installs."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    texts = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    return _zipped(folder / f"{stem}-{version}-py3-none-any.whl", info, texts)


def reversioned(wheel: Path, folder: Path, version: str, changes: Mapping[str, str]) -> Path:
    """The same wheel under another version, with some of its files changed (name -> text)."""
    name, old = wheel.name.split("-")[:2]
    texts: dict[str, str | bytes] = {}
    with zipfile.ZipFile(wheel) as found:
        for member in found.namelist():
            if member.endswith("/RECORD"):
                continue
            data: str | bytes = found.read(member)
            place = member.replace(f"{name}-{old}.dist-info", f"{name}-{version}.dist-info")
            if member.endswith("/METADATA"):
                assert isinstance(data, bytes)
                data = data.replace(
                    f"\nVersion: {old}\n".encode(), f"\nVersion: {version}\n".encode()
                )
            texts[place] = changes.get(member, data)
    info = f"{name}-{version}.dist-info"
    return _zipped(folder / wheel.name.replace(f"-{old}-", f"-{version}-"), info, texts)


def _zipped(path: Path, info: str, texts: Mapping[str, str | bytes]) -> Path:
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, text in texts.items():
            data = text.encode() if isinstance(text, str) else text
            wheel.writestr(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}")
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return path
