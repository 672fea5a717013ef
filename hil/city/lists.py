"""The publisher: versions, deltas, snapshots, heads and the applied vector of every scope.

`list_row` is what the newest version of each scope consists of; a delta is made from it and moves
it in the same transaction, so chain and snapshot cannot part. The set digest is kept by adding and
taking away row hashes. The money scope waits up to `gather_ms` for more changes; its rows and its
vector are read in one transaction. What must go out is returned, never sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from edge.messages import (
    MESSAGE_BYTES_MAX,
    SET_DIGEST_MODULUS,
    AnyPush,
    Delta,
    Head,
    Manifest,
    PushChunk,
    PushDelta,
    PushManifest,
    Row,
    RowKey,
    RowKind,
    Signed,
    SignedWhat,
    VectorEntry,
    VersionMark,
    b64u,
    decode_pack,
    encode_json,
    encode_pack,
    row_hash,
    set_digest,
    set_digest_bytes,
)
from edge.model import Station
from hil.city.chunks import pack_chunks
from hil.city.keys import CITY_SCOPE, PARTS, CityKeys
from hil.city.money_lists import MoneyQueue, applied_vector, show_earmarks
from hil.city.registry import Registry
from hil.city.rows import row_key
from hil.city.store import Store

GATHER_MS: Final = 2_000  # protocol.md: money deltas are gathered for up to 2 s.
HEAD_LIFE_MS: Final = 24 * 60 * 60 * 1000  # Our choice: a school day; past it arrival is refused.
HEAD_REFRESH_MS: Final = 5 * 60 * 1000  # Our choice: a list's age is then honest to 5 minutes.
DELTA_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 1024  # Our choice: room for envelope and topic.
DELTAS_KEPT: Final = 512  # Our choice: a longer chain is never shorter than a snapshot here.
CHAIN_MAX: Final = 64  # Our choice: deltas in one answer to a pull; past it a snapshot is quicker.
SNAPSHOTS_KEPT: Final = 3  # Our choice: who began to fetch one may end it.
CHUNKS_AT_ONCE: Final = 4  # WIRE: chunk indexes asked for in one pull.
SNAPSHOT_ID_BYTES: Final = 16  # WIRE: 32 hex digits.
LIST_KEY: Final = "list_key"  # With which the snapshots and deltas kept are signed.
MUSEUM: Final = "museum"  # The part of `CITY_SCOPE`.
SCOPE_PARTS: Final[dict[Station, tuple[str, ...]]] = {
    Station.ENTRANCE: ("people", "settings"),
    Station.PRESCHOOL: ("people", "settings"),
    Station.TILL: ("people", "money", "menu", "settings"),
    Station.ADMISSION: ("settings",),
}


class Out(NamedTuple):
    """One message to publish, after the commit."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeState:
    """The newest version of a scope."""

    scope: str
    version: VersionMark
    digest: int
    vector: tuple[VectorEntry, ...]
    snapshot: str


class Publisher:
    """Keeps to the transaction of the caller."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        keys: CityKeys,
        *,
        random_bytes: Callable[[int], bytes],
        gather_ms: int = GATHER_MS,
    ) -> None:
        self._store = store
        self._registry = registry
        self._keys = keys
        self._random_bytes = random_bytes
        self.gather_ms = gather_ms
        self.money = MoneyQueue(store, registry)
        self.scopes = tuple(f"{registry.site}/{part}" for part in PARTS)
        if registry.site == keys.site_id:
            self.scopes += (CITY_SCOPE,)  # The city's first site publishes it.

    # ---------------------------------------------------------------------------- changes

    def refresh(self, part: str, now_ms: int, *, whole: bool = False) -> list[Out]:
        """Compares the whole list with the records and publishes what differs."""
        scope = CITY_SCOPE if part == MUSEUM else f"{self._registry.site}/{part}"
        wanted = {(row.kind, row.key): row for row in self._registry.rows_of(part, now_ms)}
        held = self._held_rows(scope)
        upserts = [row for key, row in wanted.items() if held.get(key) != row.body]
        removes = [RowKey(*key) for key in held if key not in wanted]
        return self.publish(scope, upserts, removes, now_ms, whole=whole)

    def publish_hot(self, credentials: Iterable[bytes], why: str, now_ms: int) -> list[Out]:
        """The hot list alone: nothing is waited for and nothing else is looked at."""
        scope, chosen = f"{self._registry.site}/people", list(credentials)
        if why:
            rows = [self._registry.hot_row(credential, why) for credential in chosen]
            return self.publish(scope, rows, [], now_ms)
        removes = [row_key(RowKind.HOT, credential) for credential in chosen]
        return self.publish(scope, [], removes, now_ms)

    def touch_account(self, account: str, now_ms: int) -> None:
        """Its row goes out with the next money version."""
        self.money.touch(RowKind.ACCOUNT, account.encode(), now_ms)

    def touch_vector(self, now_ms: int) -> None:
        """A till's stream moved: tills may drop what the base includes, so tell them."""
        self.money.touch_vector(now_ms)

    def publish_money(self, now_ms: int, *, at_once: bool = False) -> list[Out]:
        """The gathered changes of balances, when the oldest has waited long enough."""
        if not (self.money.any() if at_once else self.money.due(now_ms, self.gather_ms)):
            return []
        outs = self.publish(f"{self._registry.site}/money", *self.money.changes(now_ms), now_ms)
        self.money.clear()
        return outs

    def publish(
        self,
        scope: str,
        upserts: Sequence[Row],
        removes: Sequence[RowKey],
        now_ms: int,
        *,
        whole: bool = False,
    ) -> list[Out]:
        """One new version, or nothing when nothing differs. Delta first, then the head.

        With `whole` there is a new snapshot and no delta: a delta does not name its keys.
        """
        state = self.state(scope)
        new, gone, digest = self._apply(
            scope, upserts, removes, 0 if state is None else state.digest
        )
        vector: tuple[VectorEntry, ...] = ()
        if scope.endswith("/money"):
            vector = applied_vector(self._store, self._registry.site, now_ms)
        if state is None:
            self._set_head(scope, VersionMark(self._keys.list_epoch, 1), digest, vector, "")
            return [self._snapshot_head(scope, now_ms)]
        if not new and not gone and vector == state.vector:
            if scope.endswith("/money"):
                show_earmarks(self._store, state.version)
            return []
        target = VersionMark(state.version.list_epoch, state.version.number + 1)
        if scope.endswith("/money"):
            show_earmarks(self._store, target)
        delta = Delta(
            scope=scope,
            base=state.version,
            target=target,
            upserts=tuple(new),
            removes=tuple(gone),
            set_digest=set_digest_bytes(digest),
            issued_utc_ms=now_ms,
            vector=vector,
        )
        signed = self._keys.signing["list"].sign(SignedWhat.DELTA, encode_pack(delta))
        message = encode_pack(signed)
        self._set_head(scope, target, digest, vector, state.snapshot)
        if whole or len(message) > DELTA_BYTES_MAX:
            # A split would tear the vector from the balances: a new snapshot instead.
            return [self._snapshot_head(scope, now_ms)]
        self._store.execute(
            "INSERT INTO delta VALUES (?, ?, ?, ?, ?)",
            (scope, target.list_epoch, target.number, state.version.number, message),
        )
        self._store.execute(
            "DELETE FROM delta WHERE scope = ? AND target <= ?",
            (scope, target.number - DELTAS_KEPT),
        )
        return [Out(f"mk/v1/s/{scope}/delta", message), self.head(scope, now_ms)]

    def _apply(
        self, scope: str, upserts: Sequence[Row], removes: Sequence[RowKey], digest: int
    ) -> tuple[list[Row], list[RowKey], int]:
        """Moves `list_row`; what really changed, and the set digest after it."""
        new, gone = [], []
        for row in upserts:
            old = self._row(scope, row.kind, row.key)
            if old is not None and old.body == row.body:
                continue
            digest += row_hash(row) - (0 if old is None else row_hash(old))
            new.append(row)
            self._store.execute(
                "INSERT INTO list_row VALUES (?, ?, ?, ?) ON CONFLICT (scope, kind, key)"
                " DO UPDATE SET body = excluded.body",
                (scope, row.kind, row.key, row.body),
            )
        for key in removes:
            old = self._row(scope, key.kind, key.key)
            if old is None:
                continue
            digest -= row_hash(old)
            gone.append(key)
            self._store.execute(
                "DELETE FROM list_row WHERE scope = ? AND kind = ? AND key = ?",
                (scope, key.kind, key.key),
            )
        return new, gone, digest % SET_DIGEST_MODULUS

    def _row(self, scope: str, kind: int, key: bytes) -> Row | None:
        found = self._store.one(
            "SELECT body FROM list_row WHERE scope = ? AND kind = ? AND key = ?", (scope, kind, key)
        )
        return None if found is None else Row(kind, key, found[0])

    def _held_rows(self, scope: str) -> dict[tuple[int, bytes], bytes]:
        found = self._store.rows("SELECT kind, key, body FROM list_row WHERE scope = ?", (scope,))
        return {(kind, key): body for kind, key, body in found}

    # ------------------------------------------------------------------ heads and snapshots

    def state(self, scope: str) -> ScopeState | None:
        found = self._store.one(
            "SELECT list_epoch, number, set_digest, vector, snapshot FROM list_head"
            " WHERE scope = ?",
            (scope,),
        )
        if found is None:
            return None
        list_epoch, number, digest, vector, snapshot = found
        return ScopeState(
            scope=scope,
            version=VersionMark(list_epoch, number),
            digest=int.from_bytes(digest, "big"),
            vector=decode_pack(tuple[VectorEntry, ...], vector),
            snapshot=snapshot,
        )

    def _known(self, scope: str) -> ScopeState:
        state = self.state(scope)
        assert state is not None, f"{scope} was never published"
        return state

    def _set_head(
        self,
        scope: str,
        version: VersionMark,
        digest: int,
        vector: tuple[VectorEntry, ...],
        snapshot: str,
    ) -> None:
        self._store.execute(
            "INSERT INTO list_head VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (scope) DO UPDATE SET"
            " list_epoch = excluded.list_epoch, number = excluded.number,"
            " set_digest = excluded.set_digest, vector = excluded.vector,"
            " snapshot = excluded.snapshot",
            (
                *(scope, version.list_epoch, version.number),
                *(set_digest_bytes(digest), encode_pack(vector), snapshot),
            ),
        )

    def heads(self, now_ms: int) -> list[Out]:
        """All of them, freshly issued: after a reconnect, and again every few minutes."""
        return [self.head(scope, now_ms) for scope in self.scopes]

    def head(self, scope: str, now_ms: int, *, life_ms: int = HEAD_LIFE_MS) -> Out:
        state = self._known(scope)
        snapshot_version, root = self._snapshot_facts(state.snapshot)
        head = Head(
            scope=scope,
            version=state.version,
            snapshot_id=state.snapshot,
            snapshot_version=snapshot_version,
            root=root,
            set_digest=b64u(set_digest_bytes(state.digest)),
            issued_utc_ms=now_ms,
            valid_until_utc_ms=now_ms + life_ms,
        )
        lines = self._keys.signing["freshness"].sign_lines(SignedWhat.HEAD, encode_json(head))
        return Out(f"mk/v1/s/{scope}/head", lines, retain=True)

    def _snapshot_facts(self, snapshot: str) -> tuple[VersionMark, str]:
        row = self._store.one(
            "SELECT list_epoch, number, root FROM snapshot WHERE snapshot = ?", (snapshot,)
        )
        assert row is not None, "a head names a snapshot that is kept"
        return VersionMark(row[0], row[1]), row[2]

    def _snapshot_head(self, scope: str, now_ms: int) -> Out:
        self._make_snapshot(scope, now_ms)
        return self.head(scope, now_ms)

    def snapshot_all(self, now_ms: int) -> None:
        """At start: a station that comes first fetches no chain of old deltas."""
        for scope in self.scopes:
            state = self._known(scope)
            if self._snapshot_facts(state.snapshot)[0] != state.version:
                self._make_snapshot(scope, now_ms)

    def adopt(self, now_ms: int) -> list[Out]:
        """What newer keys ask for: lists that begin a new epoch, and snapshots signed anew."""
        key_id = self._keys.signing["list"].key_id
        before = self._store.meta(LIST_KEY)
        if before != key_id:
            self._store.set_meta(LIST_KEY, key_id)
        outs = []
        for scope in self.scopes:
            state = self._known(scope)
            begins = state.version.list_epoch < self._keys.list_epoch
            if begins:
                first = VersionMark(self._keys.list_epoch, 1)
                self._set_head(scope, first, state.digest, state.vector, state.snapshot)
            if begins or before not in (None, key_id):
                # The old deltas lead from versions that are no more, or bear an old signature.
                self._store.execute("DELETE FROM delta WHERE scope = ?", (scope,))
                self._make_snapshot(scope, now_ms)
            outs.append(self.head(scope, now_ms))
        return outs

    def _make_snapshot(self, scope: str, now_ms: int) -> None:
        """Of the published rows, not of the records: the version stays what it was."""
        state = self._known(scope)
        held = sorted(self._held_rows(scope).items())
        rows = [Row(kind, key, body) for (kind, key), body in held]
        assert set_digest(rows) == state.digest, f"{scope}: the kept set digest has drifted"
        chunks = list(pack_chunks(rows))
        hashes = tuple(hashlib.sha256(chunk).digest() for chunk in chunks)
        keys, snapshot = self._keys.scopes[scope], self._random_bytes(SNAPSHOT_ID_BYTES).hex()
        manifest = Manifest(
            scope=scope,
            version=state.version,
            snapshot_id=snapshot,
            chunk_hashes=hashes,
            rows=len(rows),
            set_digest=set_digest_bytes(state.digest),
            issued_utc_ms=now_ms,
            identifier_key_version=keys.identifier_version,
            seal_key_version=keys.seal_version,
            vector=state.vector,
        )
        signed = self._keys.signing["list"].sign(SignedWhat.MANIFEST, encode_pack(manifest))
        message = encode_pack(signed)
        assert len(message) <= DELTA_BYTES_MAX, f"{scope}: its manifest fits no message"
        self._store.execute(
            "INSERT INTO snapshot VALUES (?, ?, ?, ?, ?, ?, ?, ?,"
            " (SELECT COALESCE(MAX(place), 0) + 1 FROM snapshot))",
            (
                *(snapshot, scope, state.version.list_epoch, state.version.number),
                b64u(hashlib.sha256(b"".join(hashes)).digest()),
                *(message, sum(map(len, chunks)), now_ms),
            ),
        )
        for position, chunk in enumerate(chunks):
            self._store.execute("INSERT INTO chunk VALUES (?, ?, ?)", (snapshot, position, chunk))
        self._set_head(scope, state.version, state.digest, state.vector, snapshot)
        self._store.execute(
            "DELETE FROM snapshot WHERE scope = ? AND snapshot NOT IN (SELECT snapshot FROM"
            " snapshot WHERE scope = ? ORDER BY place DESC LIMIT ?)",
            (scope, scope, SNAPSHOTS_KEPT),
        )

    # ------------------------------------------------------------------------------ pulls

    def answer_pull(
        self, scope: str, have: VersionMark | None, now_ms: int
    ) -> tuple[list[AnyPush], list[Out]]:
        """Deltas from `have` to the head, or the manifest of a snapshot; and heads that changed."""
        state = self._known(scope)
        if have == state.version:
            return [], [self.head(scope, now_ms)]
        chain = None if have is None else self._chain(state, have)
        if chain is not None:
            return [PushDelta(signed=signed) for signed in chain], []
        outs: list[Out] = []
        base, _ = self._snapshot_facts(state.snapshot)
        if base != state.version and self._chain(state, base) is None:
            outs = [self._snapshot_head(scope, now_ms)]
            state = self._known(scope)
        return [self.manifest(state.snapshot)], outs

    def _chain(self, state: ScopeState, have: VersionMark) -> list[Signed] | None:
        """The deltas from there to the head, if all are kept and they are the shorter way."""
        newest = state.version
        if have.list_epoch != newest.list_epoch or not 0 < have.number < newest.number:
            return None
        missing = newest.number - have.number
        if missing > CHAIN_MAX:
            return None
        found = self._store.rows(
            "SELECT message FROM delta WHERE scope = ? AND list_epoch = ? AND target > ?"
            " ORDER BY target",
            (state.scope, newest.list_epoch, have.number),
        )
        size = self._store.one("SELECT bytes FROM snapshot WHERE snapshot = ?", (state.snapshot,))
        assert size is not None
        if len(found) != missing or (missing > 1 and sum(len(m) for (m,) in found) > size[0]):
            return None
        return [decode_pack(Signed, message) for (message,) in found]

    def manifest(self, snapshot: str) -> PushManifest:
        row = self._store.one("SELECT manifest FROM snapshot WHERE snapshot = ?", (snapshot,))
        assert row is not None
        return PushManifest(signed=decode_pack(Signed, row[0]))

    def answer_chunks(self, scope: str, snapshot: str, wanted: Sequence[int]) -> list[AnyPush]:
        """Chunks of a kept snapshot; the newest manifest when it is kept no longer."""
        found: list[AnyPush] = []
        for position in sorted(set(wanted))[:CHUNKS_AT_ONCE]:
            row = self._store.one(
                "SELECT c.data FROM chunk c JOIN snapshot s USING (snapshot)"
                " WHERE s.scope = ? AND c.snapshot = ? AND c.position = ?",
                (scope, snapshot, position),
            )
            if row is not None:
                chunk = PushChunk(scope=scope, snapshot_id=snapshot, index=position, data=row[0])
                found.append(chunk)
        return found or [self.manifest(self._known(scope).snapshot)]
