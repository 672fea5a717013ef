"""Lists down: signatures checked, the intake asked, pictures changed. No rule of its own.

What arrives is bytes from a broker that nobody trusts: it is opened by the `Verifier` first, and
only then decoded and shown to the intake. What is refused is counted and told to the city at a
bounded rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from edge import logs
from edge.messages import (
    AnyReleasePush,
    Delta,
    Head,
    Manifest,
    Pull,
    PushChunk,
    PushDelta,
    PushKeys,
    PushManifest,
    PushPhoto,
    PushRelease,
    PushReleaseChunk,
    Signed,
    SignedWhat,
    VersionMark,
    decode_json,
    decode_pack,
    decode_push,
    decode_signed_lines,
    from_b64u,
)
from edge.model import ClockQuality, CorruptData, DeviceFault, Moment, SetupProblem
from edge.offline_cache import marks
from edge.offline_cache.apply import Pictures, SnapshotBuilder, half_built, in_force
from edge.offline_cache.store import DamagedFile, Writer
from edge.trust import KeyStore, Verifier
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
from sync.photos import Photos
from sync.picture_watch import PictureWatch
from sync.scope_keys import ScopeKeys
from sync.topics import CITY_SCOPE

SendPullTo = Callable[[Pull], None]  # Raises DeviceFault when it cannot be taken on.


class Downlink:
    """All lists of this device."""

    def __init__(
        self,
        *,
        device: str,
        scopes: tuple[str, ...],
        writer: Writer,
        pictures: Pictures,
        keys: KeyStore,
        verifier: Verifier,
        spread: float,
        changed: Callable[[], None],
        refused: Callable[[str, str, str], None],
        photos: Photos | None = None,
    ) -> None:
        self.counters: dict[str, int] = {}
        self.snapshots: dict[str, int] = {}  # scope -> put in force since the start.
        self.watch = PictureWatch(pictures, scopes)
        self.take_release: Callable[[AnyReleasePush, Moment], None] = lambda _push, _moment: None
        self._verifier = verifier
        self._device = device
        self._scopes = scopes
        # Where people stand by a keyed hash: at a school, and at the city's museums.
        self._key_scopes = tuple(s for s in scopes if s.endswith("/people") or s == CITY_SCOPE)
        self._writer = writer
        self._pictures = pictures
        self.keys = ScopeKeys(device=device, scopes=scopes, writer=writer, keys=keys)
        self._changed = changed
        self._refused = refused
        self._photos = photos
        self.builders: dict[str, SnapshotBuilder] = {}  # Of lists that are coming.
        self._manifests: dict[str, Signed] = {}  # As the newest of each scope came.
        self._unreadable: dict[str, str] = {}  # Scope -> what was said of it in the log.
        self._waiting: list[Pull] = []
        self._intake = Intake(
            device=device, scopes=scopes, key_scopes=self._key_scopes, spread=spread
        )
        self._log = logs.get("downlink")

    def start(self, moment: Moment) -> None:
        """Tell the intake what is held, and what was half there when the process before this
        ended. A picture that is lost counts as none; its floor counts all the same."""
        self._trust_epoch(moment)
        for scope in self.watch.start(moment):
            self._note_lost(scope)
        for scope in self._scopes:
            if not self._pictures.lost(scope):
                self._pictures.settle(scope)
            self._tell_held(scope, moment)
            self._resume(scope, moment)
        self._tell_keys(moment)

    @property
    def verifier(self) -> Verifier:
        """Whose signatures count."""
        return self._verifier

    def take_root(self, verifier: Verifier, moment: Moment) -> None:
        """Other keys count from now on, and perhaps a higher list epoch."""
        self._verifier = verifier
        self._trust_epoch(moment)

    def look(self, suspects: Mapping[str, int], moment: Moment) -> None:
        """Once a second: are the pictures in force still what was signed? `suspects`: scope ->
        generation that edge could not read."""
        ours = {scope: self._pictures.generation(scope) for scope in self._unreadable}
        found = {scope: number for scope, number in ours.items() if number is not None}
        for scope in self.watch.look({**suspects, **found}, moment):
            self._tell_lost(scope, moment)

    def lost(self) -> dict[str, str]:
        """Scope -> why, of lists that are being fetched again."""
        return self.watch.lost()

    def held(self) -> dict[str, VersionMark]:
        """Scope -> version in force, for hello and health."""
        versions = {}
        for scope in self._scopes:
            version = self._held(scope)
            if version is not None:
                versions[scope] = version
        return versions

    def ages_s(self, moment: Moment) -> dict[str, int]:
        """Scope -> since when the city has not said that its list is the newest, where that can be
        told."""
        ages = {}
        for scope in self._scopes:
            pointer = in_force(self._writer.db, scope)
            if pointer is None:
                continue
            if moment.clock_trusted:
                ages[scope] = max(0, (moment.wall_ms - pointer.issued_utc_ms) // 1000)
            elif pointer.received_boot == moment.boot:
                ages[scope] = max(0, (moment.mono_ms - pointer.received_mono_ms) // 1000)
        return ages

    def row(self, scope: str, kind: int, key: bytes) -> bytes | None:
        """One row of a list in force; None when there is none, or it cannot be read."""
        try:
            return self._pictures.row(scope, kind, key)
        except (CorruptData, DeviceFault):
            return None  # Counted where the list itself is looked at.

    def pull_keys(self) -> None:
        """Ask anew for keys that are sealed to a device key on its way out."""
        scopes = self.keys.to_reseal()
        if scopes:
            self._waiting.append(Pull(device=self._device, keys=scopes))

    def ask(self, pull: Pull) -> None:
        """Something that is no list, behind what waits already."""
        self._waiting.append(pull)

    def reload(self, scope: str, moment: Moment) -> None:
        """By order: fetch the whole list anew. The one in force stays until the new one is."""
        answers = self._intake.mismatch(scope=scope, now_ms=moment.mono_ms)
        self._carry_out(answers, moment)

    def brought(self, scope: str) -> bool:
        """A person brings this list. True when a whole one is wanted, though one is in force."""
        return self._intake.brought(scope=scope)

    def close(self) -> None:
        """Half-built lists are kept: the next process goes on with them."""
        for builder in self.builders.values():
            builder.close()
        self.builders.clear()

    # --------------------------------------------------------------------- link and time

    def connected(self, wanted: dict[str, VersionMark], moment: Moment) -> None:
        self._carry_out(self._intake.connected(wanted, now_ms=moment.mono_ms), moment)

    def disconnected(self) -> None:
        self._intake.disconnected()
        self._waiting.clear()
        if self._photos is not None:
            self._photos.disconnected()

    def step(self, send: SendPullTo | None, moment: Moment) -> None:
        """Time went by; and what the intake wants pulled is pulled, when there is a link."""
        for scope in self.watch.step(moment):
            self._tell_lost(scope, moment)
        self._carry_out(self._intake.step(now_ms=moment.mono_ms), moment)
        if self._photos is not None:
            # After the lists: a face is of less use than knowing whom to let in.
            pull = self._photos.step(moment, connected=send is not None and not self._waiting)
            self._waiting += [] if pull is None else [pull]
        while self._waiting and send is not None:
            send(self._waiting[0])
            self._waiting.pop(0)

    # ----------------------------------------------------------------------- what came

    def take_head(self, data: bytes, moment: Moment) -> None:
        payload = self._verifier.open(SignedWhat.HEAD, decode_signed_lines(data))
        head = decode_json(Head, payload)
        marks.raise_floor(self._writer, head.issued_utc_ms)
        answers = self._intake.head(head, now_ms=moment.mono_ms, utc_ms=_utc_ms(moment))
        self._carry_out(answers, moment)

    def take_delta(self, data: bytes, moment: Moment) -> None:
        self._take_signed_delta(decode_pack(Signed, data), moment)

    def take_push(self, data: bytes, moment: Moment) -> None:
        push = decode_push(data)
        match push:
            case PushDelta(signed=signed):
                self._take_signed_delta(signed, moment)
            case PushManifest(signed=signed):
                payload = self._verifier.open(SignedWhat.MANIFEST, signed)
                manifest = decode_pack(Manifest, payload)
                if manifest.scope in self._scopes:  # Of another's lists nothing is kept.
                    self._manifests[manifest.scope] = signed
                answers = self._intake.manifest(manifest, now_ms=moment.mono_ms)
                self._carry_out(answers, moment)
            case PushChunk():
                answers = self._intake.chunk(
                    scope=push.scope,
                    snapshot_id=push.snapshot_id,
                    index=push.index,
                    data=push.data,
                    now_ms=moment.mono_ms,
                )
                self._carry_out(answers, moment)
            case PushKeys(signed=signed):
                self.keys.take(self._verifier.open(SignedWhat.KEYS, signed))
                self._count("keys_taken")
                self._changed()
                self._tell_keys(moment)
            case PushPhoto():
                if self._photos is not None:
                    self._photos.take(push, moment)
            case PushRelease() | PushReleaseChunk():
                self.take_release(push, moment)

    # ------------------------------------------------------------------------- helpers

    def _take_signed_delta(self, signed: Signed, moment: Moment) -> None:
        delta = decode_pack(Delta, self._verifier.open(SignedWhat.DELTA, signed))
        self._carry_out(self._intake.delta(delta, now_ms=moment.mono_ms), moment)

    def _carry_out(self, answers: Iterable[IntakeAnswer], moment: Moment) -> None:
        for answer in answers:
            match answer:
                case SendPull(pull=pull):
                    self._waiting.append(pull)
                case ApplyDelta(delta=delta):
                    self._apply(delta, moment)
                case StartSnapshot(manifest=manifest):
                    self._start(manifest)
                case StoreChunk():
                    self._store(answer, moment)
                case FinishSnapshot(manifest=manifest, later=later):
                    self._finish(manifest, later, moment)
                case DropSnapshot(scope=scope):
                    self._drop(scope)
                case Current(scope=scope, head=head):
                    self._current(scope, head, moment)
                case Refuse(what=what, scope=scope, reason=reason):
                    self._refused(what, scope, reason)

    def _apply(self, delta: Delta, moment: Moment) -> None:
        try:
            self._pictures.apply_delta(delta, moment)
        except DamagedFile as damage:
            self.watch.declare_lost(delta.scope, str(damage))
            self._tell_lost(delta.scope, moment)
            return
        except CorruptData as problem:
            self._log.warning("a delta does not fit; asking for all", reason=str(problem))
            self._refused("delta", delta.scope, "mismatch")
            answers = self._intake.mismatch(scope=delta.scope, now_ms=moment.mono_ms)
            self._carry_out(answers, moment)
            return
        self._count("deltas_applied")
        self._changed()
        self._tell_held(delta.scope, moment)

    def _start(self, manifest: Manifest) -> None:
        self._drop(manifest.scope)
        generation = self._pictures.next_generation(manifest.scope)
        signed = self._manifests.pop(manifest.scope, None)
        self.builders[manifest.scope] = SnapshotBuilder(
            self._pictures.folder, manifest, generation, signed=signed
        )
        self._log.info(
            "list coming", scope=manifest.scope, rows=manifest.rows, number=manifest.version.number
        )

    def _store(self, chunk: StoreChunk, moment: Moment) -> None:
        builder = self.builders.get(chunk.scope)
        if builder is None:
            return
        try:
            builder.add_chunk(chunk.index, chunk.data)
        except (CorruptData, DeviceFault) as problem:
            self._fail(builder.manifest, problem, moment)

    def _finish(self, manifest: Manifest, later: tuple[Delta, ...], moment: Moment) -> None:
        builder = self.builders.pop(manifest.scope, None)
        if builder is None:
            return
        try:
            builder.finish(later)
            path, number = builder.path, builder.generation
            self._pictures.put_in_force(
                path, manifest.scope, number, manifest.issued_utc_ms, moment
            )
        except (CorruptData, DeviceFault) as problem:
            self.builders[manifest.scope] = builder
            self._fail(manifest, problem, moment)
            return
        self._count("snapshots_in_force")
        self.snapshots[manifest.scope] = self.snapshots.get(manifest.scope, 0) + 1
        self._log.info("list in force", scope=manifest.scope, number=manifest.version.number)
        self.watch.replaced(manifest.scope, moment)
        self._changed()
        self._tell_held(manifest.scope, moment)

    def _fail(self, manifest: Manifest, problem: CorruptData | DeviceFault, moment: Moment) -> None:
        """What the disk refused is raised on; the intake asks for the list anew, after a wait."""
        builder = self.builders.pop(manifest.scope)
        answers = self._intake.snapshot_failed(
            scope=manifest.scope, snapshot_id=manifest.snapshot_id, now_ms=moment.mono_ms
        )
        if isinstance(problem, DeviceFault):
            builder.close()  # Swept within a minute, unless it is in force after all.
            raise problem
        builder.discard()
        self._log.warning("a list was refused", scope=manifest.scope, reason=str(problem))
        self._refused("snapshot", manifest.scope, "mismatch")
        self._carry_out(answers, moment)

    def _drop(self, scope: str) -> None:
        builder = self.builders.pop(scope, None)
        if builder is not None:
            builder.discard()

    def _current(self, scope: str, head: Head, moment: Moment) -> None:
        digest = self._pictures.set_digest(scope)
        if digest is not None and digest != from_b64u(head.set_digest):
            self._count("set_digest_mismatch")
            self._refused("head", scope, "set_digest")
            answers = self._intake.mismatch(scope=scope, now_ms=moment.mono_ms)
            self._carry_out(answers, moment)
            return
        self._pictures.freshen(head, moment)

    def _held(self, scope: str) -> VersionMark | None:
        """None for a list that is lost, too."""
        if self._pictures.lost(scope):
            return None
        try:
            version = self._pictures.held(scope)
        except (CorruptData, DeviceFault) as problem:
            self._count("picture_unreadable")
            if self._unreadable.get(scope) != str(problem):  # Then the watch looks, and tells.
                self._unreadable[scope] = str(problem)
                self._log.error("a list cannot be read", scope=scope, reason=str(problem))
            return None
        self._unreadable.pop(scope, None)
        return version

    def _tell_held(self, scope: str, moment: Moment) -> None:
        answers = self._intake.held(
            scope=scope,
            version=self._held(scope),
            floor=self._pictures.floor(scope),
            now_ms=moment.mono_ms,
        )
        self._carry_out(answers, moment)

    def _tell_lost(self, scope: str, moment: Moment) -> None:
        """To be fetched again; whatever comes is no older than what was held."""
        self._note_lost(scope)
        self._tell_held(scope, moment)

    def _note_lost(self, scope: str) -> None:
        self._unreadable.pop(scope, None)
        self._count("pictures_lost")
        self._refused("picture", scope, "lost")

    def _resume(self, scope: str, moment: Moment) -> None:
        """Go on with a snapshot that was half there; one that is of no more use is swept."""
        for generation, signed in half_built(self._pictures.folder, scope):
            if scope in self.builders:
                return
            try:
                payload = self._verifier.open(SignedWhat.MANIFEST, signed)
                manifest = decode_pack(Manifest, payload)
                if manifest.scope != scope:
                    continue
                builder = SnapshotBuilder(
                    self._pictures.folder, manifest, generation, signed=signed
                )
            except (CorruptData, DeviceFault, SetupProblem) as problem:
                self._log.warning("a half list is given up", scope=scope, reason=str(problem))
                continue
            self.builders[scope] = builder
            self._log.info("going on with a list", scope=scope, chunks=len(builder.taken))
            answers = self._intake.resume(
                scope=scope, manifest=manifest, stored=builder.taken, now_ms=moment.mono_ms
            )
            self._carry_out(answers, moment)

    def _trust_epoch(self, moment: Moment) -> None:
        answers = self._intake.trust_epoch(
            self._verifier.list_epoch, now_ms=moment.mono_ms, utc_ms=_utc_ms(moment)
        )
        self._carry_out(answers, moment)

    def _tell_keys(self, moment: Moment) -> None:
        for scope in self._key_scopes:
            identifier, seal = self.keys.versions(scope)
            answers = self._intake.keys_held(
                scope=scope, identifier=identifier, seal=seal, now_ms=moment.mono_ms
            )
            self._carry_out(answers, moment)

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1


def _utc_ms(moment: Moment) -> int | None:
    """The time, or its floor; None when nothing is known."""
    known = moment.clock_trusted or moment.quality is ClockQuality.FLOOR
    return moment.wall_ms if known else None
