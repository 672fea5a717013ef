"""Checks of the way down: heads, manifests, chunks, deltas, vectors.

A picture is built as a device builds it, and everything that can be recomputed is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zstandard

from edge.messages import (
    CHUNK_BYTES_MAX,
    CHUNK_ROWS_BYTES_MAX,
    ROW_NUMBERS,
    Delta,
    Head,
    Manifest,
    Pull,
    PushChunk,
    PushDelta,
    PushManifest,
    Row,
    RowBody,
    RowKind,
    Signed,
    SignedWhat,
    VectorEntry,
    VersionMark,
    b64u,
    decode_body,
    decode_pack,
    set_digest,
    set_digest_bytes,
)
from edge.model import CorruptData, Station
from hil.conformance.chain import Chain
from hil.conformance.facts_checks import begin
from hil.conformance.link import Message
from hil.conformance.player import Player
from hil.conformance.rules import Rule
from sync import topics
from sync.scope_intake import root_of

DELTAS_MAX = 200  # Our choice: a longer chain is a loop.
CHUNKS_MAX = 200  # Our choice: a city of a check has a school's lists, not a town's.
AHEAD_MS_MAX = 5 * 60_000  # Our choice: clocks of broker, city and this machine differ a little.


@dataclass(slots=True, kw_only=True)
class Picture:
    """A list as a device holds it."""

    scope: str
    version: VersionMark
    rows: dict[tuple[int, bytes], bytes]
    vector: tuple[VectorEntry, ...] = ()
    manifest: Manifest | None = field(default=None)

    @property
    def digest(self) -> bytes:
        rows = (Row(kind, key, body) for (kind, key), body in self.rows.items())
        return set_digest_bytes(set_digest(rows))

    def row(self, kind: RowKind, key: bytes, body: type[RowBody]) -> Any:
        """Its body; None where there is none, or none that can be read."""
        data = self.rows.get((ROW_NUMBERS[kind], key))
        try:
            return None if data is None else decode_pack(body, data)
        except CorruptData:
            return None

    def all_of(self, kind: RowKind, body: type[RowBody]) -> list[tuple[str, Any]]:
        """Key and body of every row of a kind that can be read, in the order of the keys."""
        keys = sorted(key for of, key in self.rows if of == ROW_NUMBERS[kind])
        found = [(key.decode(errors="replace"), self.row(kind, key, body)) for key in keys]
        return [(key, row) for key, row in found if row is not None]


class ListChecks:
    """All lists of one player."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.check = player.report.check
        self.pictures: dict[str, Picture] = {}

    # --------------------------------------------------------------------------- heads

    def heads(self) -> None:
        """New subscriptions bring every head at once."""
        player = self.player
        player.forget("head")
        player.link.reopen()
        player.listen(player.silence_s)
        retained: dict[str, Message] = {}
        player.until("head", lambda m: _collect(retained, m), 0.0)
        before = {scope: player.newest_head(scope) for scope in player.identity.scopes}
        welcome = player.hello()
        player.listen(player.silence_s)  # A head that was on its way when the welcome was made.
        for scope, head in before.items():
            name = topics.of_scope(scope, topics.TopicKind.HEAD)
            self.check(Rule.HEAD_RETAINED, name in retained, f"none came on {name}")
            newest = player.newest_head(scope)
            if head is None or newest is None:
                continue
            self.check(Rule.HEAD_SIGNED, True, "")
            now_ms = player.link.now_ms()
            self.check(
                Rule.HEAD_FRESH,
                head.issued_utc_ms <= now_ms + AHEAD_MS_MAX and now_ms < head.valid_until_utc_ms,
                f"{scope}: issued {head.issued_utc_ms}, valid until {head.valid_until_utc_ms},"
                f" now {now_ms}",
            )
            wanted = None if welcome is None else welcome.wanted.get(scope)
            between = wanted is not None and _rank(head.version) <= _rank(wanted) <= _rank(
                newest.version
            )
            text = f"{scope}: welcome {wanted}, heads {head.version} to {newest.version}"
            self.check(Rule.HEAD_WANTED, between, text)

    # ----------------------------------------------------------------------- snapshots

    def snapshots(self) -> None:
        for scope in self.player.identity.scopes:
            picture = self.fetch(scope)
            if picture is not None:
                self.pictures[scope] = picture

    def fetch(self, scope: str) -> Picture | None:
        """A snapshot, chunk by chunk, checked all the way."""
        player = self.player
        push = player.pull(
            Pull(device=player.device, scope=scope), lambda push: isinstance(push, PushManifest)
        )
        if not isinstance(push, PushManifest):
            self.check(Rule.MANIFEST, False, f"{scope}: a pull of everything brought no manifest")
            return None
        try:
            payload = player.verifier.open(SignedWhat.MANIFEST, push.signed)
            manifest = decode_pack(Manifest, payload)
        except CorruptData as error:
            self.check(Rule.MANIFEST, False, f"{scope}: {error}")
            return None
        if not self.check(Rule.MANIFEST, manifest.scope == scope, f"{scope}: of {manifest.scope}"):
            return None
        self._compare(player.newest_head(scope), manifest)
        rows = self._rows(manifest)
        if rows is None:
            return None
        picture = Picture(
            scope=scope,
            version=manifest.version,
            rows={(row.kind, row.key): row.body for row in rows},
            vector=manifest.vector,
            manifest=manifest,
        )
        right = picture.digest == manifest.set_digest
        self.check(Rule.SET_DIGEST, right, f"{scope}: a snapshot's rows have another set digest")
        self._compare_digest(picture)
        return picture

    def _compare(self, head: Head | None, manifest: Manifest) -> None:
        """The manifest against the head that names it, if it is that one."""
        if head is None or head.snapshot_id != manifest.snapshot_id:
            return
        self.check(
            Rule.MANIFEST,
            head.snapshot_version == manifest.version and head.root == root_of(manifest),
            f"{manifest.scope}: head and manifest of snapshot {manifest.snapshot_id} differ",
        )

    def _rows(self, manifest: Manifest) -> list[Row] | None:
        rows: list[Row] = []
        count = len(manifest.chunk_hashes)
        if not self.check(Rule.CHUNKS, 1 <= count <= CHUNKS_MAX, f"{count} chunks"):
            return None
        for index, wanted in enumerate(manifest.chunk_hashes):
            found = self._chunk(manifest, index, wanted)
            if found is None:
                return None
            rows += found
        places = [(row.kind, row.key) for row in rows]
        self.check(
            Rule.CHUNKS,
            places == sorted(set(places)) and len(rows) == manifest.rows,
            f"{manifest.scope}: {len(rows)} rows of {manifest.rows}, or not in order",
        )
        for row in rows:
            try:
                decode_body(row)
            except CorruptData as error:
                self.check(Rule.CHUNKS, False, f"{manifest.scope}: {error}")
        return rows

    def _chunk(self, manifest: Manifest, index: int, wanted: bytes) -> list[Row] | None:
        chunk = self._pull_chunk(manifest, index)
        text = f"{manifest.scope}: chunk {index}"
        if chunk is None:
            self.check(Rule.CHUNKS, False, f"{text} did not come")
            return None
        digest = hashlib.sha256(chunk.data).digest()
        sized = len(chunk.data) <= CHUNK_BYTES_MAX
        detail = f"{text} of {len(chunk.data)} bytes has another hash, or is too long"
        if not self.check(Rule.CHUNKS, sized and digest == wanted, detail):
            return None
        try:
            raw = zstandard.ZstdDecompressor().decompress(
                chunk.data, max_output_size=CHUNK_ROWS_BYTES_MAX
            )
            return decode_pack(list[Row], raw, size_max=CHUNK_ROWS_BYTES_MAX)
        except (zstandard.ZstdError, CorruptData) as error:
            self.check(Rule.CHUNKS, False, f"{text}: {error}")
            return None

    def _pull_chunk(self, manifest: Manifest, index: int) -> PushChunk | None:
        pull = Pull(
            device=self.player.device,
            scope=manifest.scope,
            snapshot_id=manifest.snapshot_id,
            chunks=(index,),
        )

        def mine(push: object) -> bool:
            return (
                isinstance(push, PushChunk)
                and push.snapshot_id == manifest.snapshot_id
                and push.index == index
            )

        push = self.player.pull(pull, mine)
        return push if isinstance(push, PushChunk) else None

    def resume(self) -> None:
        """The last chunk of the longest list, twice: the same, and nothing else with it."""
        held = [p.manifest for p in self.pictures.values() if p.manifest is not None]
        if not held:
            return
        manifest = max(held, key=lambda found: len(found.chunk_hashes))
        index = len(manifest.chunk_hashes) - 1
        first = self._pull_chunk(manifest, index)
        more = self.player.next_push(
            lambda push: isinstance(push, PushChunk), self.player.silence_s
        )
        second = self._pull_chunk(manifest, index)
        self.check(
            Rule.CHUNK_RESUME,
            first is not None and first == second and more is None,
            f"{manifest.scope}: chunk {index} asked for twice: "
            + ("more than it came" if more else "it differs, or did not come"),
        )

    # -------------------------------------------------------------------------- deltas

    def changes(self) -> None:
        """Facts of a till move its list of money: a new version, heard and pulled."""
        player = self.player
        money = f"{player.identity.site}/money"
        chains: list[Chain] = []

        def send() -> bool:
            chain = begin(player, 2)
            chains.extend([chain] if chain is not None else [])
            return chain is not None

        if player.identity.station is Station.TILL:
            moved = self._change(money, send, "two facts of a till")
            if moved is not None:
                self._check_vector(moved, chains[0])

    def changed_rows(self, change: Callable[[], None]) -> None:
        """Something changed by hand at the city moves rows of the settings."""

        def done() -> bool:
            change()
            return True

        self._change(f"{self.player.identity.site}/settings", done, "a setting of this device")

    def _change(self, scope: str, cause: Callable[[], bool], words: str) -> Picture | None:
        """Causes a change and follows it by every way there is; the picture after it."""
        player, picture = self.player, self.pictures.get(scope)
        if picture is None or not self.catch_up(picture):
            return None
        rows, held = dict(picture.rows), picture.version
        player.forget("delta")
        if not cause():
            return None
        if not self._await_newer(scope, held):
            self.check(Rule.HEAD_MOVES, False, f"{scope}: {words}, and no new head above {held}")
            return None
        self.check(Rule.HEAD_MOVES, True, "")
        self._heard_deltas(scope)
        missed = Picture(scope=scope, version=held, rows=rows, vector=picture.vector)
        if not self.catch_up(missed):
            return None
        fresh = self.fetch(scope)
        if fresh is not None and self.catch_up(fresh) and self.catch_up(missed):
            self.check(
                Rule.SNAPSHOT_EQUALS,
                fresh.version == missed.version and fresh.rows == missed.rows,
                f"{scope}: of {missed.version}, fetched whole or step by step, are not the same",
            )
        self.pictures[scope] = missed
        return missed

    def _await_newer(self, scope: str, held: VersionMark) -> bool:
        ends = self.player.patience_s
        step = self.player.silence_s
        while ends > 0:
            head = self.player.newest_head(scope)
            if head is not None and _rank(head.version) > _rank(held):
                return True
            self.player.listen(step)
            ends -= step
        return False

    def _heard_deltas(self, scope: str) -> None:
        """What came by itself leads on step by step; a missing one is no fault of the city's."""
        name = topics.of_scope(scope, topics.TopicKind.DELTA)
        heard: list[Message] = []
        self.player.until("delta", lambda m: _gather(heard, m), 0.0)
        for message in heard:
            if message.topic == name:
                try:
                    self._open_delta(scope, decode_pack(Signed, message.payload))
                except CorruptData as error:
                    self.check(Rule.DELTA, False, f"{scope}: {error}")

    def _open_delta(self, scope: str, signed: Signed) -> Delta | None:
        try:
            delta = decode_pack(Delta, self.player.verifier.open(SignedWhat.DELTA, signed))
        except CorruptData as error:
            self.check(Rule.DELTA, False, f"{scope}: {error}")
            return None
        step = (delta.base.list_epoch, delta.base.number + 1)
        right = delta.scope == scope and _rank(delta.target) == step
        text = f"{scope}: a delta of {delta.scope} from {delta.base} to {delta.target}"
        return delta if self.check(Rule.DELTA, right, text) else None

    def catch_up(self, picture: Picture) -> bool:
        """Pulls from what is held to the newest head; True when it is there."""
        player, scope = self.player, picture.scope
        for _ in range(DELTAS_MAX):
            head = player.newest_head(scope)
            if head is None:
                return False
            if _rank(picture.version) >= _rank(head.version):
                self._compare_digest(picture)
                return True
            pull = Pull(device=player.device, scope=scope, have=picture.version)
            push = player.pull(pull, lambda push: isinstance(push, PushDelta | PushManifest))
            text = f"{scope}: a pull from {picture.version}"
            if isinstance(push, PushManifest):
                found = self.fetch(scope)
                if found is None:
                    return False
                picture.version, picture.rows = found.version, found.rows
                picture.vector = found.vector
                self.check(Rule.DELTA_PULL, True, "")
                self.player.report.leave_out(Rule.DELTA, "this city sends snapshots alone")
                continue
            if not isinstance(push, PushDelta):
                self.check(Rule.DELTA_PULL, False, f"{text} brought nothing")
                return False
            if not self._take(picture, push, text):
                return False
        self.check(Rule.DELTA_PULL, False, f"{scope}: pulling comes to no end")
        return False

    def _take(self, picture: Picture, push: PushDelta, text: str) -> bool:
        """The first delta of an answer, then those behind it as long as they come."""
        following: PushDelta | None = push
        while following is not None:
            delta = self._open_delta(picture.scope, following.signed)
            if delta is None:
                return False
            fits = delta.base == picture.version
            if not self.check(Rule.DELTA_PULL, fits, f"{text} brought one from {delta.base}"):
                return False
            for row in delta.upserts:
                picture.rows[row.kind, row.key] = row.body
            for gone in delta.removes:
                picture.rows.pop((gone.kind, gone.key), None)
            picture.version, picture.vector = delta.target, delta.vector
            right = picture.digest == delta.set_digest
            self.check(Rule.SET_DIGEST, right, f"{picture.scope}: after delta {delta.target}")
            head = self.player.newest_head(picture.scope)
            if head is not None and _rank(picture.version) >= _rank(head.version):
                return True
            found = self.player.next_push(
                lambda push: isinstance(push, PushDelta), self.player.silence_s
            )
            following = found if isinstance(found, PushDelta) else None
        return True

    def _compare_digest(self, picture: Picture) -> None:
        head = self.player.newest_head(picture.scope)
        if head is not None and head.version == picture.version:
            right = head.set_digest == b64u(picture.digest)
            self.check(Rule.SET_DIGEST, right, f"{picture.scope}: the head of {head.version}")

    def _check_vector(self, picture: Picture, chain: Chain) -> None:
        included = {(e.device, e.stream, e.epoch): e.sequence for e in picture.vector}
        found = included.get((self.player.device, chain.stream.value, chain.epoch))
        text = f"{picture.scope}: {chain.head} facts are acknowledged, the vector says {found}"
        self.check(Rule.VECTOR, found == chain.head, text)


def _rank(version: VersionMark) -> tuple[int, int]:
    return version.list_epoch, version.number


def _collect(retained: dict[str, Message], message: Message) -> bool:
    """Notes a retained head; never what is waited for, so that all are looked at."""
    if message.retained:
        retained.setdefault(message.topic, message)
    return False


def _gather(heard: list[Message], message: Message) -> bool:
    """The same for all messages of a leaf."""
    heard.append(message)
    return False
