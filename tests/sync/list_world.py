"""A city that keeps one list per scope, a link that misbehaves, and a device that holds pictures,
all in virtual time, for the intake.

The city answers pulls as the wire says. The device's store is a dictionary that refuses what the
real one refuses (a delta on another base, a digest that does not come out, a step back), so an
intake that asks for it is caught in the act.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from edge.messages import (
    Delta,
    Head,
    Manifest,
    Pull,
    Row,
    RowKey,
    VersionMark,
    b64u,
    decode_pack,
    encode_pack,
    set_digest,
    set_digest_bytes,
)
from sync.answers import (
    ApplyDelta,
    Current,
    DropSnapshot,
    FinishSnapshot,
    IntakeAnswer,
    Refuse,
    SendPull,
    StartSnapshot,
    StoreChunk,
)
from sync.intake import Intake
from sync.later import rank
from sync.scope_intake import root_of

DEVICE = "lane-1"
ROWS_PER_CHUNK = 2
FAR_MS = 10**15
SIGNED_MS = 1_772_442_000_000  # The city's day; what it signs later was signed so much later.

Rows = dict[bytes, bytes]


def digest_of_rows(rows: Rows) -> bytes:
    return set_digest_bytes(set_digest(Row(1, key, body) for key, body in rows.items()))


@dataclass(kw_only=True)
class Chunk:
    scope: str
    snapshot_id: str
    index: int
    data: bytes


@dataclass
class ListCity:
    """One scope at the city: every version's rows, the deltas it kept, its newest snapshot."""

    scope: str
    list_epoch: int = 1
    number: int = 1
    rows: Rows = field(default_factory=dict)
    history: dict[VersionMark, Rows] = field(default_factory=dict)
    deltas: dict[VersionMark, Delta] = field(default_factory=dict)
    manifest: Manifest | None = None
    chunks: list[bytes] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self.make_snapshot()

    @property
    def version(self) -> VersionMark:
        return VersionMark(self.list_epoch, self.number)

    def change(self, upserts: Rows, removes: Iterable[bytes] = ()) -> Delta:
        base = self.version
        gone = [key for key in removes if key in self.rows and key not in upserts]
        self.rows = {k: v for k, v in (self.rows | upserts).items() if k not in gone}
        self.number += 1
        self.history[self.version] = dict(self.rows)
        delta = Delta(
            scope=self.scope,
            base=base,
            target=self.version,
            upserts=tuple(Row(1, key, body) for key, body in upserts.items()),
            removes=tuple(RowKey(1, key) for key in gone),
            set_digest=digest_of_rows(self.rows),
            issued_utc_ms=SIGNED_MS + self.number,
        )
        self.deltas[base] = delta
        return delta

    def make_snapshot(self) -> None:
        self.made += 1
        rows = sorted(self.rows.items())
        groups = [rows[i : i + ROWS_PER_CHUNK] for i in range(0, len(rows), ROWS_PER_CHUNK)]
        self.chunks = [encode_pack([Row(1, k, v) for k, v in group]) for group in groups]
        self.manifest = Manifest(
            scope=self.scope,
            version=self.version,
            snapshot_id=f"{self.scope}#{self.made}",
            chunk_hashes=tuple(hashlib.sha256(chunk).digest() for chunk in self.chunks),
            rows=len(rows),
            set_digest=digest_of_rows(self.rows),
            issued_utc_ms=SIGNED_MS + self.number,
            identifier_key_version=0,
            seal_key_version=0,
        )
        self.history[self.version] = dict(self.rows)

    def restore(self) -> None:
        """From a backup: numbers go back, so the list epoch goes up."""
        self.list_epoch += 1
        self.number = max(1, self.number - 3)
        self.deltas.clear()
        self.make_snapshot()

    def head(self, *, issued_utc_ms: int = 0) -> Head:
        assert self.manifest is not None
        return Head(
            scope=self.scope,
            version=self.version,
            snapshot_id=self.manifest.snapshot_id,
            snapshot_version=self.manifest.version,
            root=root_of(self.manifest),
            set_digest=b64u(digest_of_rows(self.rows)),
            issued_utc_ms=SIGNED_MS + issued_utc_ms,
            valid_until_utc_ms=FAR_MS,
        )

    def answer(self, pull: Pull) -> list[Delta | Manifest | Chunk]:
        assert self.manifest is not None
        if pull.snapshot_id:
            if pull.snapshot_id != self.manifest.snapshot_id:
                return []  # Long gone; a city need not explain itself.
            return [
                Chunk(
                    scope=self.scope,
                    snapshot_id=pull.snapshot_id,
                    index=index,
                    data=self.chunks[index],
                )
                for index in pull.chunks
            ]
        chain: list[Delta | Manifest | Chunk] = []
        version = pull.have
        while version is not None and version in self.deltas:
            chain.append(self.deltas[version])
            version = self.deltas[version].target
        return chain if version == self.version and chain else [self.manifest]


@dataclass
class Picture:
    version: VersionMark
    rows: Rows


class Device:
    """The shell and the store around an intake: carries answers out and tells the outcome."""

    def __init__(self, scopes: tuple[str, ...], *, spread: float = 0.5) -> None:
        self.now_ms = 0
        self.intake = Intake(device=DEVICE, scopes=scopes, key_scopes=(), spread=spread)
        self.pictures: dict[str, Picture] = {}
        self.builds: dict[str, tuple[Manifest, dict[int, Rows]]] = {}
        self.refused: list[Refuse] = []
        self.current: dict[str, Head] = {}
        self.sent: list[Pull] = []
        self.mismatches = 0
        self.snapshots = 0

    def carry_out(self, answers: Iterable[IntakeAnswer]) -> None:
        queue: deque[IntakeAnswer] = deque(answers)
        for _ in range(10_000):
            if not queue:
                return
            queue.extend(self._one(queue.popleft()))
        raise AssertionError("the intake answers itself for ever")

    def _one(self, answer: IntakeAnswer) -> tuple[IntakeAnswer, ...]:
        match answer:
            case SendPull(pull=pull):
                assert bool(pull.keys) + bool(pull.chunks) <= 1 and len(pull.chunks) <= 4
                self.sent.append(pull)
            case ApplyDelta(delta=delta):
                return self._apply(delta)
            case StartSnapshot(manifest=manifest):
                self.builds[manifest.scope] = (manifest, {})
            case StoreChunk(scope=scope, index=index, data=data):
                manifest, parts = self.builds[scope]
                assert manifest.snapshot_id == answer.snapshot_id and index not in parts
                parts[index] = {row.key: row.body for row in decode_pack(list[Row], data)}
            case FinishSnapshot(manifest=manifest, later=later):
                return self._finish(manifest, later)
            case DropSnapshot(scope=scope, snapshot_id=snapshot_id):
                assert self.builds.pop(scope)[0].snapshot_id == snapshot_id
            case Current(scope=scope, head=head):
                picture = self.pictures[scope]
                assert head.version == picture.version
                if b64u(digest_of_rows(picture.rows)) != head.set_digest:
                    self.mismatches += 1
                    return self.intake.mismatch(scope=scope, now_ms=self.now_ms)
                self.current[scope] = head
            case Refuse():
                self.refused.append(answer)
        return ()

    def _apply(self, delta: Delta) -> tuple[IntakeAnswer, ...]:
        picture = self.pictures[delta.scope]
        assert picture.version == delta.base, "a delta on another base"
        rows = self._changed(picture.rows, delta)
        if digest_of_rows(rows) != delta.set_digest:
            self.mismatches += 1
            return self.intake.mismatch(scope=delta.scope, now_ms=self.now_ms)
        self.pictures[delta.scope] = Picture(delta.target, rows)
        return self._tell_held(delta.scope)

    def _finish(self, manifest: Manifest, later: tuple[Delta, ...]) -> tuple[IntakeAnswer, ...]:
        built, parts = self.builds.pop(manifest.scope)
        assert built == manifest and sorted(parts) == list(range(len(manifest.chunk_hashes)))
        rows: Rows = {}
        for part in parts.values():
            rows |= part
        assert digest_of_rows(rows) == manifest.set_digest
        version = manifest.version
        for delta in later:
            assert delta.base == version, "a hole in what follows the snapshot"
            rows = self._changed(rows, delta)
            assert digest_of_rows(rows) == delta.set_digest
            version = delta.target
        before = self.pictures.get(manifest.scope)
        assert before is None or rank(version) >= rank(before.version), "a step back"
        self.snapshots += 1
        self.pictures[manifest.scope] = Picture(version, rows)
        return self._tell_held(manifest.scope)

    def _tell_held(self, scope: str) -> tuple[IntakeAnswer, ...]:
        version = self.pictures[scope].version
        return self.intake.held(scope=scope, version=version, now_ms=self.now_ms)

    @staticmethod
    def _changed(rows: Rows, delta: Delta) -> Rows:
        gone = {key.key for key in delta.removes}
        upserts = {row.key: row.body for row in delta.upserts}
        return {k: v for k, v in (rows | upserts).items() if k not in gone}


@dataclass(frozen=True, kw_only=True)
class Faults:
    lost: float = 0.0
    doubled: float = 0.0
    late_ms_max: int = 20
    link_lost: float = 0.0
    spoilt: float = 0.0  # A row of the picture changes under us.
    restored: float = 0.0
    replayed: float = 0.0  # An old message once more.
    forgotten: float = 0.0  # The city makes a new snapshot and drops its deltas.


CALM = Faults()


class World:
    """Both, and what lies between. Every device knows of all list epochs the root key began."""

    def __init__(self, random: Random, scopes: tuple[str, ...]) -> None:
        self.random = random
        self.faults = CALM
        self.cities = {scope: ListCity(scope) for scope in scopes}
        self.device = Device(scopes, spread=random.random())
        self.connected = False
        self._session = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._old: list[Head | Delta | Manifest | Chunk] = []
        self._keys = 0

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.device.now_ms + delay_ms, self._count, action))

    def run_second(self) -> None:
        until_ms = self.device.now_ms + 1_000
        while self._queue and self._queue[0][0] <= until_ms:
            self.device.now_ms, _, action = heapq.heappop(self._queue)
            action()
            self.flush()
        self.device.now_ms = until_ms
        self.device.carry_out(self.device.intake.step(now_ms=until_ms))
        self.flush()

    def flush(self) -> None:
        """Pulls leave, and the city answers them."""
        while self.device.sent:
            pull = self.device.sent.pop(0)
            if self.connected:
                for delay_ms in self._copies():
                    self.at(delay_ms, lambda pull=pull: self._answer(pull))  # type: ignore[misc]

    def connect(self) -> None:
        self.connected = True
        wanted = {scope: city.version for scope, city in self.cities.items()}
        self.device.carry_out(self.device.intake.connected(wanted, now_ms=self.device.now_ms))
        for city in self.cities.values():
            self._down(city.head(issued_utc_ms=self.device.now_ms))
        self.flush()

    def disconnect(self) -> None:
        self.connected = False
        self._session += 1
        self.device.intake.disconnected()

    def change(self, scope: str, rows: int) -> None:
        city = self.cities[scope]
        upserts: Rows = {}
        for _ in range(rows):
            self._keys += 1
            key = b"%d" % self.random.randrange(40)
            upserts[key] = b"%d" % self._keys
        removes = [b"%d" % self.random.randrange(40) for _ in range(self.random.randrange(3))]
        delta = city.change(upserts, removes)
        self._down(delta)
        self._down(city.head(issued_utc_ms=self.device.now_ms))

    def go_wrong(self) -> None:
        faults, random = self.faults, self.random
        city = random.choice(list(self.cities.values()))
        if random.random() < faults.link_lost:
            if self.connected:
                self.disconnect()
            else:
                self.connect()
        if random.random() < faults.forgotten:
            city.deltas.clear()
            city.make_snapshot()
            self._down(city.head(issued_utc_ms=self.device.now_ms))
        if random.random() < faults.restored:
            city.restore()
            self.trust(city)
            self._down(city.head(issued_utc_ms=self.device.now_ms))
        if random.random() < faults.replayed and self._old:
            self.take(random.choice(self._old))
        if random.random() < faults.spoilt:
            picture = self.device.pictures.get(city.scope)
            if picture is not None:
                picture.rows[b"spoilt"] = b"x"

    def trust(self, city: ListCity) -> None:
        """The root document that begins the epoch comes first."""
        intake, now_ms = self.device.intake, self.device.now_ms
        highest = max(one.list_epoch for one in self.cities.values())
        assert highest >= city.list_epoch
        self.device.carry_out(intake.trust_epoch(highest, now_ms=now_ms, utc_ms=now_ms))

    def take(self, what: Head | Delta | Manifest | Chunk) -> None:
        """It arrives, and its signature is good."""
        intake, now_ms = self.device.intake, self.device.now_ms
        answers: tuple[IntakeAnswer, ...] = ()
        match what:
            case Head():
                answers = intake.head(what, now_ms=now_ms, utc_ms=now_ms)
            case Delta():
                answers = intake.delta(what, now_ms=now_ms)
            case Manifest():
                answers = intake.manifest(what, now_ms=now_ms)
            case Chunk():
                answers = intake.chunk(
                    scope=what.scope,
                    snapshot_id=what.snapshot_id,
                    index=what.index,
                    data=what.data,
                    now_ms=now_ms,
                )
        self.device.carry_out(answers)
        self.flush()

    def check_current(self) -> None:
        for scope, city in self.cities.items():
            picture = self.device.pictures[scope]
            assert (picture.version, picture.rows) == (city.version, city.rows), scope
            assert self.device.current[scope].version == city.version
        assert not self.device.builds

    def _answer(self, pull: Pull) -> None:
        for push in self.cities[pull.scope].answer(pull):
            self._down(push)

    def _down(self, what: Head | Delta | Manifest | Chunk) -> None:
        self._old.append(what)
        if not self.connected:
            return
        session = self._session
        for delay_ms in self._copies():
            self.at(delay_ms, lambda: self.take(what) if session == self._session else None)

    def _copies(self) -> list[int]:
        if self.random.random() < self.faults.lost:
            return []
        copies = 2 if self.random.random() < self.faults.doubled else 1
        return [self.random.randint(1, self.faults.late_ms_max) for _ in range(copies)]
