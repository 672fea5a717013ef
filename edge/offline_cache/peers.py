"""What the school's other devices did and reported, as sync keeps it and edge reads it.

sync's side takes an open transaction of `sync.db`; it is told what to keep by the kernel
(`sync/peers.py`), which has checked signature, roster and sequence. A till's facts are kept whole
with what the till signed, so that another can hand them in for it; what they spend stands in
`peer_tail` besides, for lookups. They are dropped no sooner than ten minutes after the money
picture in force includes them. Of passages only the last of each person at each lane is kept.

edge's side reads `sync.db` and writes one thing, into its own journal: how far its decisions have
seen the peers' facts (`note_seen`). What a heartbeat says of that is `peer_own.py`'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from edge.messages import (
    Handover,
    PassageFact,
    PeerBeat,
    PeerLife,
    SideFact,
    Stream,
    VersionMark,
    encode_pack,
    encode_peer,
)
from edge.model import ClockQuality, CorruptData, Direction, Moment
from edge.offline_cache import peer_books
from edge.offline_cache.moves import moves
from edge.offline_cache.outbox import schema_version
from edge.offline_cache.peer_books import peers_tail as peers_tail
from edge.offline_cache.record import decode_known
from edge.offline_cache.store import telling

INCLUDED_MS: Final = 10 * 60 * 1000  # house.md: facts live on so long after the base has them.
SIDES_MAX: Final = 20_000  # Our choice, of one lane: ten times the people of a large school.

_LIVES: Final = msgspec.msgpack.Decoder(tuple[PeerLife, ...])


# ------------------------------------------------------------------------ sync.db, sync's side


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHeld:
    """One epoch of a peer: its facts of `(after, up_to]`, its passages up to `side`."""

    device: str
    epoch: str
    after: int
    up_to: int
    digest: str
    side: int


@telling()
def held_lives(db: sqlite3.Connection) -> list[PeerHeld]:
    rows = db.execute("SELECT device, epoch, after, up_to, digest, side FROM peer_lives")
    return [
        PeerHeld(device=d, epoch=e, after=after, up_to=up_to, digest=digest, side=side)
        for d, e, after, up_to, digest, side in rows
    ]


@telling()
def held_bytes(db: sqlite3.Connection) -> dict[str, int]:
    """How much of each peer is held."""
    return dict(db.execute("SELECT device, sum(length(body)) FROM peer_facts GROUP BY 1"))


def move_life(
    db: sqlite3.Connection, device: str, epoch: str, *, after: int, up_to: int, digest: str
) -> None:
    """All of this epoch up to `up_to` is known; what is held of it begins behind `after`."""
    db.execute(
        "INSERT INTO peer_lives VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, '', 0)"
        " ON CONFLICT DO UPDATE SET after = ?3, up_to = ?4, digest = ?5",
        (device, epoch, after, up_to, digest),
    )


def take_facts(
    db: sqlite3.Connection,
    device: str,
    epoch: str,
    *,
    first: int,
    facts: Sequence[bytes],
    batch: tuple[int, int],
    header: bytes,
    signature: bytes,
) -> None:
    """Facts as they came, what they spend, and the till's own signature over them."""
    for sequence, body in enumerate(facts, start=first):
        db.execute(
            "INSERT OR REPLACE INTO peer_facts VALUES (?, ?, ?, ?)", (device, epoch, sequence, body)
        )
        fact = decode_known(body)
        if fact is not None:
            peer_books.add(db, device, epoch, sequence, fact)
    db.execute(
        "INSERT OR REPLACE INTO peer_proofs VALUES (?, ?, ?, ?, ?, ?)",
        (device, epoch, *batch, header, signature),
    )


def take_sides(
    db: sqlite3.Connection, device: str, epoch: str, up_to: int, facts: Iterable[SideFact]
) -> None:
    """Where this lane last put each person, what guardians last said there, and that all up to
    `up_to` is known."""
    db.execute(
        "INSERT INTO peer_lives VALUES (?1, ?2, 0, 0, '', ?3, 0, '', 0)"
        " ON CONFLICT DO UPDATE SET side = ?3",
        (device, epoch, up_to),
    )
    for fact in facts:
        for cardholder, zone, direction in moves(fact):
            way = "" if direction is None else direction.value
            passage = fact.passage or "" if isinstance(fact, PassageFact) else ""
            db.execute(
                "INSERT OR REPLACE INTO peer_sides (cardholder_id, zone_id, device, direction,"
                " wall_ms, clock, passage) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (cardholder, zone, device, way, fact.wall_ms, fact.clock.value, passage),
            )
        if isinstance(fact, Handover):
            db.execute(
                "INSERT OR REPLACE INTO peer_handovers VALUES (?, ?, ?, ?)",
                (fact.guardian, device, fact.access, fact.wall_ms),
            )
    for table in ("peer_sides", "peer_handovers"):
        db.execute(
            f"DELETE FROM {table} WHERE device = ?1 AND wall_ms <= (SELECT wall_ms FROM {table}"
            " WHERE device = ?1 ORDER BY wall_ms DESC LIMIT 1 OFFSET ?2)",
            (device, SIDES_MAX),
        )


def store_report(db: sqlite3.Connection, device: str, beat: PeerBeat) -> None:
    base = (None, None) if beat.base is None else (beat.base.list_epoch, beat.base.number)
    db.execute(
        "INSERT INTO peer_reports VALUES (?1, ?2, ?3, ?4, ?5, '', 0) ON CONFLICT DO UPDATE SET"
        " store = ?2, lives = ?3, base_list_epoch = ?4, base_number = ?5",
        (device, beat.store, encode_pack(beat.lives), *base),
    )


def store_cover(db: sqlite3.Connection, device: str, store: str, epoch: str, up_to: int) -> None:
    db.execute("DELETE FROM peer_cover WHERE device = ? AND store <> ?", (device, store))
    db.execute(
        "INSERT INTO peer_cover VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET up_to = max(up_to, excluded.up_to)",
        (device, store, epoch, up_to),
    )


def store_heard(db: sqlite3.Connection, until_ms: Mapping[str, int], boot: str) -> None:
    """Until when each counts as heard; 0 ends it. Only who has reported can be heard."""
    db.executemany(
        "UPDATE peer_reports SET heard_boot = ?, heard_until_ms = ? WHERE device = ?",
        ((boot, until, device) for device, until in until_ms.items()),
    )


def forget(db: sqlite3.Connection, device: str) -> None:
    """It left the roster: its reports count no more, its passages neither. What it has spent
    stays until the base has it."""
    for table in ("peer_reports", "peer_cover", "peer_sides", "peer_handovers"):
        db.execute(f"DELETE FROM {table} WHERE device = ?", (device,))


def sweep(
    db: sqlite3.Connection, vector: Mapping[tuple[str, str], int], moment: Moment
) -> list[PeerHeld]:
    """Drop facts that the money picture in force has included for long enough; what is held then.

    A mark is set at what the picture includes now; ten minutes of one boot later, if it still
    includes that, all up to the mark goes, and the next mark is set.
    """
    marks = db.execute(
        "SELECT device, epoch, after, up_to, included, boot, mono_ms FROM peer_lives"
    ).fetchall()
    for device, epoch, after, up_to, mark, boot, mono_ms in marks:
        included = min(vector.get((device, epoch), 0), up_to)
        waited = boot == moment.boot and moment.mono_ms - mono_ms >= INCLUDED_MS
        if mark and (boot != moment.boot or included < mark):
            _mark(db, device, epoch, included, moment)  # Another boot, another base: from anew.
            continue
        if mark and waited:
            for table, column in (
                ("peer_facts", "sequence"),
                ("peer_tail", "sequence"),
                ("peer_items", "sequence"),
                ("peer_holds", "sequence"),
                ("peer_claims", "sequence"),
                ("peer_proofs", "last"),
            ):
                db.execute(
                    f"DELETE FROM {table} WHERE device = ? AND epoch = ? AND {column} <= ?",
                    (device, epoch, mark),
                )
            db.execute(
                "UPDATE peer_lives SET after = max(after, ?), included = 0"
                " WHERE device = ? AND epoch = ?",
                (mark, device, epoch),
            )
            after, mark = max(after, mark), 0
        if not mark and included > after:
            _mark(db, device, epoch, included, moment)
    return held_lives(db)


def _mark(db: sqlite3.Connection, device: str, epoch: str, included: int, moment: Moment) -> None:
    db.execute(
        "UPDATE peer_lives SET included = ?, boot = ?, mono_ms = ? WHERE device = ? AND epoch = ?",
        (included, moment.boot, moment.mono_ms, device, epoch),
    )


@telling()
def signed_batch(
    db: sqlite3.Connection, device: str, epoch: str, after: int
) -> tuple[bytes, int] | None:
    """A batch that a till signed and that brings what follows `after`, as it came, and where it
    ends: what another till may hand in for it. None when none is held whole."""
    row = db.execute(
        "SELECT first, last, header, signature FROM peer_proofs WHERE device = ? AND epoch = ?"
        " AND first <= ? AND last > ? ORDER BY last DESC",
        (device, epoch, after + 1, after),
    ).fetchone()
    if row is None:
        return None
    first, last, header, signature = row
    facts = [
        body
        for (body,) in db.execute(
            "SELECT body FROM peer_facts WHERE device = ? AND epoch = ?"
            " AND sequence BETWEEN ? AND ? ORDER BY sequence",
            (device, epoch, first, last),
        )
    ]
    if len(facts) != last - first + 1:
        return None
    return encode_peer(b"\n".join((header, *facts)), device, signature), last


# ------------------------------------------------------------------------- sync.db, edge's side


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerState:
    """What is known of one other device of the school, for decisions."""

    device: str
    heard: bool  # A heartbeat made in the last moments came from it.
    store: str
    lives: tuple[PeerLife, ...]  # How far it says it has come.
    base: VersionMark | None
    covers: Mapping[str, int]  # Own epoch -> it has seen my facts so far, in the store it has now,
    # and I know all that it had done by then.


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSide:
    """A person's last passage taken at another lane."""

    device: str
    direction: Direction | None  # None: forgiven by the officer there.
    wall_ms: int
    clock: ClockQuality
    passage: str  # The grant it was taken on; "" where it is none.


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """How far the peers' facts are known in a store: (device, epoch) -> up to."""

    store: str
    up_to: Mapping[tuple[str, str], int]
    # Held begins behind this: what lies before must be in the base. Not a part of what was seen.
    after: Mapping[tuple[str, str], int] = field(default_factory=dict, compare=False)

    def up_to_with(
        self, device: str, epoch: str, vector: Mapping[tuple[str, str, str], int]
    ) -> int:
        """Every fact of that till's epoch up to here is held, or in the base with this vector."""
        key, included = (device, epoch), vector.get((device, Stream.MAIN, epoch), 0)
        if self.after.get(key, 0) > included:
            return included  # The base went back: what is between it and held facts is missing.
        return max(self.up_to.get(key, 0), included)


@telling()
def peer_states(sync_db: sqlite3.Connection, moment: Moment) -> dict[str, PeerState]:
    """Every device of the roster that ever reported. Not in it: never heard of."""
    if schema_version(sync_db) < 2:
        return {}
    covers: dict[tuple[str, str], dict[str, int]] = {}
    for device, store, epoch, up_to in sync_db.execute("SELECT * FROM peer_cover"):
        covers.setdefault((device, store), {})[epoch] = up_to
    states = {}
    rows = sync_db.execute(
        "SELECT device, store, lives, base_list_epoch, base_number, heard_boot, heard_until_ms"
        " FROM peer_reports"
    )
    for device, store, lives, list_epoch, number, boot, until_ms in rows:
        try:
            decoded = _LIVES.decode(lives)
        except msgspec.MsgspecError as error:
            raise CorruptData(f"the report of {device}: {error}") from error
        states[device] = PeerState(
            device=device,
            heard=boot == moment.boot and moment.mono_ms < until_ms,
            store=store,
            lives=decoded,
            base=None if list_epoch is None else VersionMark(list_epoch, number),
            covers=covers.get((device, store), {}),
        )
    return states


@telling()
def known(sync_db: sqlite3.Connection) -> Known:
    """How far each till's facts are known: held here, or in the base that is in force."""
    if schema_version(sync_db) < 2:
        return Known(store="", up_to={})
    store = sync_db.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchone()
    rows = sync_db.execute(
        "SELECT device, epoch, after, up_to FROM peer_lives WHERE up_to > 0"
    ).fetchall()
    return Known(
        store="" if store is None else str(store[0]),
        up_to={(device, epoch): up_to for device, epoch, _, up_to in rows},
        after={(device, epoch): after for device, epoch, after, _ in rows},
    )


def is_complete(
    state: PeerState, known_up_to: Known, vector: Mapping[tuple[str, str, str], int]
) -> bool:
    """Whether all that a till reported to have done is known: the tail has no hole."""
    return all(
        known_up_to.up_to_with(state.device, life.epoch, vector) >= life.head
        for life in state.lives
    )


@telling()
def peers_sides(
    sync_db: sqlite3.Connection, cardholder_id: str, zone_id: str
) -> tuple[PeerSide, ...]:
    """A person's last passage at each other lane of a zone."""
    schema = schema_version(sync_db)
    if schema < 2:
        return ()
    passage = "passage" if schema >= 3 else "''"
    rows = sync_db.execute(
        f"SELECT device, direction, wall_ms, clock, {passage} FROM peer_sides"
        " WHERE cardholder_id = ? AND zone_id = ?",
        (cardholder_id, zone_id),
    )
    return tuple(
        PeerSide(
            device=d,
            direction=Direction(way) if way else None,
            wall_ms=wall_ms,
            clock=ClockQuality(clock),
            passage=grant,
        )
        for d, way, wall_ms, clock, grant in rows
    )


@telling()
def was_said(sync_db: sqlite3.Connection, guardian_id: str, access: str) -> bool:
    """Whether a guardian has said at another lane for whom they came in by this grant."""
    if schema_version(sync_db) < 3:
        return False
    row = sync_db.execute(
        "SELECT 1 FROM peer_handovers WHERE guardian = ? AND access = ?", (guardian_id, access)
    ).fetchone()
    return row is not None


# ------------------------------------------------------------------------- the journal, edge's


def seen_of(journal: sqlite3.Connection) -> Known:
    """What was last noted."""
    with telling():
        rows = journal.execute("SELECT device, epoch, store, up_to FROM seen").fetchall()
    up_to = {(device, epoch): number for device, epoch, _, number in rows}
    return Known(store=rows[0][2] if rows else "", up_to=up_to)


def note_seen(db: sqlite3.Connection, seen: Known) -> None:
    """From here on every decision rests on the peers' facts so far. In a transaction of the
    journal, alone or with the next fact; read from `sync.db` before the lookup it is noted for."""
    db.execute("DELETE FROM seen")
    db.executemany(
        "INSERT INTO seen VALUES (?, ?, ?, ?)",
        ((d, e, seen.store, up_to) for (d, e), up_to in sorted(seen.up_to.items())),
    )
