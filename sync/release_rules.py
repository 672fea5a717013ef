"""Which releases may be taken at all: their order, what they are made for, how big they are. Pure.

Asked by sync before it fetches one and by the updater before it installs one. Signatures are
`edge/trust.py`'s business; what is here is asked of a manifest that a release key has signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from edge.messages import CHUNK_BYTES_MAX, DIGEST_BYTES, RELEASE_CHUNKS_MAX, Release
from edge.order_rules import RELEASE, SHA256

VERSION: Final = re.compile(
    r"(\d{1,9}(?:\.\d{1,9}){0,4})(?:(a|b|rc)(\d{1,9}))?(?:\.post(\d{1,9}))?(?:\.dev(\d{1,9}))?",
    re.ASCII,
)
BEFORE_ALL: Final = -1  # A development version comes before its first alpha,
AFTER_ALL: Final = 3  # and the final version after its last candidate.
PRE: Final = {"a": 0, "b": 1, "rc": 2}


@unique
class Why(StrEnum):
    """Why a release is not taken, or was not kept. On the wire for ever, as `why` of an outcome."""

    NO_RELEASE = "no_release"  # The city has none of that digest.
    BAD_SIGNATURE = "bad_signature"
    OTHER_RELEASE = "other_release"  # Signed, and not the one that was ordered.
    MALFORMED = "malformed"  # Its manifest or its bundle makes no sense.
    WRONG_PLATFORM = "wrong_platform"  # Another machine or Python.
    TOO_OLD = "too_old"  # No newer than what is held.
    SCHEMA = "schema"  # Cannot take over the databases here.
    NO_SPACE = "no_space"
    INSTALL_FAILED = "install_failed"  # pip would not, or not in time.
    BROKEN = "broken"  # Installed, and cannot even be loaded.
    ROLLED_BACK = "rolled_back"  # It did not come up, or did not reach the city.
    NO_WAY_BACK = "no_way_back"  # As before, and its databases are too new for the one before.
    FAILED = "failed"  # The disk refused.
    RESTARTED = "restarted"  # Nothing is under way that would end it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a release is made for."""

    platform: str  # sysconfig.get_platform()
    python: str  # 3.11


def version_key(text: str) -> tuple[tuple[int, ...], tuple[int, int], int, int] | None:
    """Versions in the order of PEP 440, local parts and epochs left out; None: not one of ours.

    >>> version_key("1.10") > version_key("1.9.2") > version_key("1.9rc1") > version_key("1.9.dev3")
    True
    >>> version_key("1.0") == version_key("1"), version_key("../1")
    (True, None)
    """
    found = VERSION.fullmatch(text)
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    pre, post, dev = found[2], found[4], found[5]
    if pre is not None:
        stage = (PRE[pre], int(found[3]))
    elif post is None and dev is not None:
        stage = (BEFORE_ALL, 0)
    else:
        stage = (AFTER_ALL, 0)
    after = -1 if post is None else int(post)
    return tuple(numbers), stage, after, 10**9 if dev is None else int(dev)


def is_newer(release: str, held: str) -> bool:
    """Whether one may take the other's place. What cannot be compared may not."""
    mine, theirs = version_key(held), version_key(release)
    return mine is not None and theirs is not None and theirs > mine


def problem_of(release: Release) -> Why | None:
    """What is wrong with a manifest by itself."""
    chunks = len(release.chunk_hashes)
    good = (
        RELEASE.fullmatch(release.release) is not None
        and version_key(release.release) is not None
        and SHA256.fullmatch(release.sha256) is not None
        and 0 < chunks <= RELEASE_CHUNKS_MAX
        and (chunks - 1) * CHUNK_BYTES_MAX < release.size_bytes <= chunks * CHUNK_BYTES_MAX
        and all(len(one) == DIGEST_BYTES for one in release.chunk_hashes)
    )
    return None if good else Why.MALFORMED


def judge(
    release: Release, *, machine: Machine, held: str, schemas: Mapping[str, int]
) -> Why | None:
    """Why this device does not take it. `schemas`: kind of database -> version found here."""
    if (wrong := problem_of(release)) is not None:
        return wrong
    if (release.platform, release.python) != (machine.platform, machine.python):
        return Why.WRONG_PLATFORM
    if not is_newer(release.release, held):
        return Why.TOO_OLD
    for kind, version in schemas.items():
        if release.schema_from.get(kind, 0) > version:
            return Why.SCHEMA
    return None


def chunk_span(release: Release, index: int) -> tuple[int, int]:
    """First byte and length of a chunk."""
    first = index * CHUNK_BYTES_MAX
    return first, min(CHUNK_BYTES_MAX, release.size_bytes - first)
