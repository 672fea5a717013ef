"""One list on its way down: order, gaps, duplicates, snapshots. Pure; `intake.py` holds them all.

Everything told here was verified by signature before. What remains is what a signature cannot
say: that it is newer than what is held, fits exactly, belongs to the snapshot the newest head
names, and is whole. Deltas that cannot be applied yet are remembered, within bounds; while a
snapshot is fetched, those above its version are kept too, because it may go in force only when
they bring it up to what is already held.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from edge.messages import (
    CHUNK_BYTES_MAX,
    DIGEST_BYTES,
    Delta,
    Head,
    Manifest,
    Pull,
    VersionMark,
    b64u,
)
from sync.answers import (
    ApplyDelta,
    Current,
    DropSnapshot,
    FinishSnapshot,
    IntakeAnswer,
    Refuse,
    StartSnapshot,
    StoreChunk,
)
from sync.later import Later, rank

CHUNKS_PER_PULL: Final = 4  # protocol.md: window 4.
CHUNKS_MAX: Final = 1_800  # Our choice: what fits a manifest of one message, 34 bytes each.
PULL_PATIENCE_MS: Final = 10_000  # Our choice: the same as for an acknowledgement.
RETRY_MS_MIN: Final = 5_000  # Our choice: a city that did not answer is crowded.
RETRY_MS_MAX: Final = 300_000  # Our choice: as the highest wait between connections.
STALE_PULLS_MAX: Final = 2  # Our choice: so often unanswered, the city no longer has those chunks.
# Our choice: nothing was signed before 2020, and microseconds taken for milliseconds lie beyond
# 2200. What names such a time is a mistake: believed, it would make a list fresh for ever.
ISSUED_MS_MIN: Final = 1_577_836_800_000
ISSUED_MS_END: Final = 7_258_118_400_000
LIST_EPOCH_FIRST: Final = 1  # What a root document says that says nothing of it.

assert CHUNKS_MAX * (DIGEST_BYTES + 2) < 64 * 1024
assert PULL_PATIENCE_MS < RETRY_MS_MAX


@dataclass(slots=True, kw_only=True)
class Retry:
    """Waits that double until something succeeds. `spread` keeps devices out of step."""

    spread: float
    not_before_ms: int = 0
    failures: int = 0

    def failed(self, now_ms: int) -> None:
        wait_ms = min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** min(self.failures, 10))
        self.failures += 1
        self.not_before_ms = now_ms + round(wait_ms * (0.5 + self.spread / 2))

    def succeeded(self) -> None:
        self.failures = 0
        self.not_before_ms = 0


@dataclass(slots=True, kw_only=True)
class _Build:
    manifest: Manifest
    stored: set[int] = field(default_factory=set)
    finishing: bool = False

    def missing(self) -> tuple[int, ...]:
        """The next group to ask for."""
        every = range(len(self.manifest.chunk_hashes))
        found: list[int] = []
        for index in every:
            if index not in self.stored:
                found.append(index)
                if len(found) == CHUNKS_PER_PULL:
                    break
        return tuple(found)


@dataclass(slots=True, kw_only=True)
class _Asked:
    pull: Pull
    at_ms: int  # Of the pull, then of each thing that came of it.
    until: tuple[int, int]  # For deltas: what the city had when it was asked.


class ScopeIntake:
    """One scope. Each call returns answers; the caller carries them out in order."""

    def __init__(self, *, device: str, scope: str, spread: float) -> None:
        self.scope = scope
        self.held: VersionMark | None = None
        self.head: Head | None = None
        self.duplicates = 0
        self._device = device
        self._floor: VersionMark | None = None
        self._list_epoch_max = LIST_EPOCH_FIRST
        self._early: Head | None = None  # Of a list epoch that no root document has named yet.
        self._wanted: VersionMark | None = None
        self._later = Later()
        self._applying: Delta | None = None
        self._build: _Build | None = None
        self._asked: _Asked | None = None
        self._retry = Retry(spread=spread)
        self._bad = False  # The picture in force is not what was signed.
        self._resnap = False  # A snapshot is wanted although there is a picture.
        self._ask_anew = False  # The city no longer answers for the snapshot being built.
        self._bad_retry = Retry(spread=spread)

    # ------------------------------------------------------------------ what the shell says

    def set_held(
        self, version: VersionMark | None, floor: VersionMark | None
    ) -> list[IntakeAnswer]:
        """What is in force now: at start, after a delta, after a snapshot."""
        answers: list[IntakeAnswer] = []
        applied = self._applying
        self._applying = None
        build = self._build
        by_delta = applied is not None and version == applied.target
        if by_delta:
            self._bad_retry.succeeded()  # Its set digest was checked: the picture is the city's.
        elif version != self.held or (build is not None and build.finishing):
            self._bad = self._resnap = False  # Another picture altogether.
        self.held = version
        self._floor = max(floor, self._floor, version, key=rank)
        if build is not None and build.finishing:
            self._build = self._asked = None
        elif build is not None and not self._resnap and rank(version) >= rank(self._tip(build)):
            answers.append(self._drop(build))  # Came by another way, such as a stick.
        if applied is not None and by_delta and self._build is None:
            self._later.forget(applied.base)
        if not by_delta:
            self._forget_old()
        self._retry.succeeded()
        if self._asked is not None and rank(version) >= self._asked.until and self._build is None:
            self._asked = None
        if self.head is not None and version == self.head.version:
            answers.append(Current(scope=self.scope, head=self.head))
        return answers

    def trust_epoch(self, list_epoch: int, utc_ms: int | None) -> list[IntakeAnswer]:
        """The root document in force says that this is the highest list epoch there is."""
        self._list_epoch_max = list_epoch
        early = self._early
        if early is None or early.version.list_epoch > list_epoch:
            return []
        self._early = None
        return self.take_head(early, utc_ms)

    def resume(self, manifest: Manifest, stored: frozenset[int]) -> list[IntakeAnswer]:
        """Before anything came: a snapshot was half there when the process ended."""
        assert self._build is None and self.head is None
        version, chunks = manifest.version, len(manifest.chunk_hashes)
        believed = (
            rank(self._floor)[0] <= version.list_epoch <= self._list_epoch_max
            and chunks <= CHUNKS_MAX
            and all(0 <= index < chunks for index in stored)
        )
        if not believed or rank(version) <= rank(self.held):
            return [DropSnapshot(scope=self.scope, snapshot_id=manifest.snapshot_id)]
        self._build = _Build(manifest=manifest, stored=set(stored))
        return []

    def mismatch(self) -> None:
        """The picture in force, or what a delta made of it, is not what was signed."""
        self._applying = None
        self._bad = True

    def brought(self) -> bool:
        """It comes by hand: no wait that spares the city. True: whole, though there is one."""
        self._resnap |= self._bad
        return self._resnap

    def snapshot_failed(self, snapshot_id: str) -> None:
        """What was built is not what was signed, or may not go in force."""
        if self._build is not None and self._build.manifest.snapshot_id == snapshot_id:
            self._build = None
            self._bad, self._resnap = True, False  # Not at once: the back-off says when.

    def connected(self, wanted: VersionMark | None) -> None:
        self._wanted = max(wanted, self._wanted, key=rank)
        self._asked = None
        self._retry.succeeded()

    def disconnected(self) -> None:
        self._asked = None

    # ------------------------------------------------------------------ what came

    def take_head(self, head: Head, utc_ms: int | None) -> list[IntakeAnswer]:
        """A head. `utc_ms` is the time as far as it can be trusted (a floor counts)."""
        if not _issued_sanely(head.issued_utc_ms):
            return [self._refuse("head", "issued")]
        if head.version.list_epoch > self._list_epoch_max:
            if self._early is None or rank(head.version) >= rank(self._early.version):
                self._early = head  # Its root document may be on its way.
            return [self._refuse("head", "list_epoch")]
        if rank(head.version) < max(rank(self._floor), self._head_rank()):
            return [self._refuse("head", "rollback")]
        if rank(head.snapshot_version) > rank(head.version):
            return [self._refuse("head", "mixed")]
        if utc_ms is not None and utc_ms >= head.valid_until_utc_ms:
            return [self._refuse("head", "frozen")]
        before = self.head
        same = before is not None and before.version == head.version
        if before is not None and same and head.issued_utc_ms < before.issued_utc_ms:
            self.duplicates += 1
            return []
        self.head = head
        answers: list[IntakeAnswer] = []
        build = self._build
        if build is not None and build.manifest.version.list_epoch < head.version.list_epoch:
            answers.append(self._drop(build))
        if head.version == self.held:
            answers.append(Current(scope=self.scope, head=head))
        return answers

    def take_delta(self, delta: Delta, now_ms: int) -> list[IntakeAnswer]:
        """A delta, live or pulled."""
        base, target = delta.base, delta.target
        if base.list_epoch != target.list_epoch or base.number >= target.number:
            return [self._refuse("delta", "numbers")]
        if not _issued_sanely(delta.issued_utc_ms):
            return [self._refuse("delta", "issued")]
        if target.list_epoch < rank(self._floor)[0]:
            return [self._refuse("delta", "rollback")]
        highest = min(self._list_epoch_max, max(rank(self.held)[0], self._goal()[0]))
        if target.list_epoch > highest:
            return [self._refuse("delta", "list_epoch")]  # Only a snapshot may begin one.
        for_build = self._build is not None and rank(base) >= rank(self._build.manifest.version)
        if rank(target) <= rank(self.held) and not for_build:
            self.duplicates += 1
            return []
        if rank(base) < rank(self.held) < rank(target):
            return [self._refuse("delta", "base")]
        self.duplicates += not self._later.keep(delta)
        if self._asked is not None and not self._asked.pull.chunks:
            self._asked.at_ms = now_ms
        return []

    def take_manifest(self, manifest: Manifest, now_ms: int) -> list[IntakeAnswer]:
        """A snapshot's table of contents."""
        build = self._build
        if build is not None and build.manifest.snapshot_id == manifest.snapshot_id:
            self.duplicates += 1
            self._ask_anew = False
            if self._asked is not None and not self._asked.pull.chunks:
                self._asked = None
                if not build.missing():  # Deltas were asked for, and it has none: ask later.
                    self._retry.failed(now_ms)
            return []
        reason = self._manifest_problem(manifest)
        if reason:
            return [self._refuse("manifest", reason)]
        needed = self._resnap or rank(manifest.version) > rank(self.held)
        if not needed or (self._bad and not self._resnap):
            self.duplicates += 1  # Nothing to gain, or its back-off still runs.
            return []
        self._build = _Build(manifest=manifest)
        self._ask_anew = False
        self._asked = None
        self._retry.succeeded()
        self._forget_old()
        return [StartSnapshot(manifest=manifest)]

    def take_chunk(
        self, snapshot_id: str, index: int, data: bytes, now_ms: int
    ) -> list[IntakeAnswer]:
        """A piece of the snapshot being built."""
        build = self._build
        if build is None or build.manifest.snapshot_id != snapshot_id:
            return [self._refuse("chunk", "wrong_snapshot")]
        if not 0 <= index < len(build.manifest.chunk_hashes):
            return [self._refuse("chunk", "index")]
        if index in build.stored:
            self.duplicates += 1
            return []
        if len(data) > CHUNK_BYTES_MAX:
            return [self._refuse("chunk", "size")]
        if hashlib.sha256(data).digest() != build.manifest.chunk_hashes[index]:
            self._asked = None
            self._retry.failed(now_ms)
            return [self._refuse("chunk", "chunk_hash")]
        build.stored.add(index)
        self._retry.succeeded()
        if self._asked is not None and self._asked.pull.chunks:
            self._asked.at_ms = now_ms
            if build.stored.issuperset(self._asked.pull.chunks):
                self._asked = None
        return [StoreChunk(scope=self.scope, snapshot_id=snapshot_id, index=index, data=data)]

    # ------------------------------------------------------------------ what to do now

    @property
    def waits_for_city(self) -> bool:
        """A pull is out and not yet given up."""
        return self._asked is not None

    def advance(self, now_ms: int) -> list[IntakeAnswer]:
        """What can be done with what is here, without asking the city."""
        if self._applying is not None:
            return []
        build = self._build
        if build is not None and build.finishing:
            return []
        if build is not None and not build.missing():
            chain = self._later.chain(build.manifest.version)
            tip = chain[-1].target if chain else build.manifest.version
            if rank(tip) >= rank(self._floor):
                build.finishing = True
                return [FinishSnapshot(manifest=build.manifest, later=tuple(chain))]
            if self._later.full:
                self._bad = True
                return [self._drop(build), self._refuse("manifest", "chain_too_long")]
        if self._bad or self._resnap or self.held is None:
            return []
        delta = self._later.on(self.held)
        if delta is None:
            return []
        self._applying = delta
        return [ApplyDelta(delta=delta)]

    def next_pull(self, now_ms: int) -> Pull | None:
        """What to ask the city for now, if anything; remembered as asked."""
        if self._asked is not None and now_ms - self._asked.at_ms >= PULL_PATIENCE_MS:
            self._give_up(self._asked, now_ms)
        if self._asked is not None or self._applying is not None:
            return None
        if self._bad and not self._resnap and now_ms >= self._bad_retry.not_before_ms:
            self._resnap = True
            self._bad_retry.failed(now_ms)
        if now_ms < self._retry.not_before_ms:
            return None
        pull = self._needed()
        if pull is not None:
            self._asked = _Asked(pull=pull, at_ms=now_ms, until=self._goal())
        return pull

    def _needed(self) -> Pull | None:
        build = self._build
        if build is not None:
            if build.finishing:
                return None
            missing = build.missing()
            if missing and self._ask_anew:
                return Pull(device=self._device, scope=self.scope)
            if missing:
                made = build.manifest.snapshot_id
                return Pull(device=self._device, scope=self.scope, snapshot_id=made, chunks=missing)
            return Pull(device=self._device, scope=self.scope, have=self._tip(build))
        if self._bad and not self._resnap:
            return None  # Its back-off runs.
        goal = self._goal()
        if self._resnap or self.held is None or goal[0] > self.held.list_epoch:
            return Pull(device=self._device, scope=self.scope)
        if goal > rank(self.held):
            return Pull(device=self._device, scope=self.scope, have=self.held)
        return None

    # ------------------------------------------------------------------ helpers

    def _give_up(self, asked: _Asked, now_ms: int) -> None:
        self._asked = None
        self._retry.failed(now_ms)
        if asked.pull.chunks and self._retry.failures >= STALE_PULLS_MAX:
            self._ask_anew = True  # The same manifest in answer goes on where this stopped.

    def _goal(self) -> tuple[int, int]:
        """The newest version known to exist."""
        wanted = self._wanted
        if wanted is not None and wanted.list_epoch > self._list_epoch_max:
            wanted = None  # A welcome begins no list epoch either.
        return max(rank(wanted), self._head_rank(), self._later.top)

    def _head_rank(self) -> tuple[int, int]:
        return rank(None if self.head is None else self.head.version)

    def _manifest_problem(self, manifest: Manifest) -> str:
        """The reason to refuse a manifest, or ""."""
        version, head = manifest.version, self.head
        hashes = manifest.chunk_hashes
        if len(hashes) > CHUNKS_MAX or any(len(h) != DIGEST_BYTES for h in hashes):
            return "shape"
        if not _issued_sanely(manifest.issued_utc_ms):
            return "issued"
        if version.list_epoch > self._list_epoch_max:
            return "list_epoch"
        if version.list_epoch < rank(self._floor)[0]:
            return "rollback"
        if self._floor is not None and version.list_epoch > max(
            self._floor.list_epoch, self._goal()[0]
        ):
            return "list_epoch"  # The list key alone may not begin one.
        if head is not None and manifest.snapshot_id == head.snapshot_id:
            if version != head.snapshot_version or root_of(manifest) != head.root:
                return "mixed"
        elif head is not None and rank(version) < rank(head.snapshot_version):
            return "wrong_snapshot"
        elif (
            head is not None
            and version == head.version
            and b64u(manifest.set_digest) != head.set_digest
        ):
            return "mixed"
        elif head is None and rank(version) < rank(self._floor):
            return "rollback"
        if self._build is not None and rank(version) < rank(self._build.manifest.version):
            return "rollback"
        # It may be below what is held, when snapshots are rare: then it goes in force only with
        # the deltas that bring it up (`advance`).
        return ""

    def _forget_old(self) -> None:
        oldest = rank(self.held)
        if self._build is not None:
            oldest = min(oldest, rank(self._build.manifest.version))
        self._later.forget_below(oldest)

    def _drop(self, build: _Build) -> DropSnapshot:
        self._build = self._asked = None
        return DropSnapshot(scope=self.scope, snapshot_id=build.manifest.snapshot_id)

    def _refuse(self, what: str, reason: str) -> Refuse:
        return Refuse(what=what, scope=self.scope, reason=reason)

    def _tip(self, build: _Build) -> VersionMark:
        chain = self._later.chain(build.manifest.version)
        return chain[-1].target if chain else build.manifest.version


def root_of(manifest: Manifest) -> str:
    """What a head says of the snapshot it names: SHA-256 over its chunk hashes."""
    return b64u(hashlib.sha256(b"".join(manifest.chunk_hashes)).digest())


def _issued_sanely(utc_ms: int) -> bool:
    return ISSUED_MS_MIN <= utc_ms < ISSUED_MS_END
