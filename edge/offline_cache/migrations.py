"""The schemas, one set of migrations per kind of file. STRICT tables, explicit types.

Imported only when a file is new or older than `SCHEMA_VERSIONS` says, so that a device that
starts every morning does not pay for sqlite-utils. A reader accepts one version older and newer.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from edge.offline_cache.store import SCHEMA_VERSIONS, FileKind

STREAM_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE lives (  -- one life (epoch) of a stream; the chain goes on from its head
    life INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    epoch TEXT NOT NULL UNIQUE,
    head INTEGER NOT NULL,      -- sequence of the last fact, 0 before the first
    digest TEXT NOT NULL,       -- of the last fact
    held_from INTEGER NOT NULL  -- oldest fact still kept
) STRICT;
CREATE TABLE facts (
    life INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,         -- exactly as edge/messages.py encoded it
    PRIMARY KEY (life, sequence)
) STRICT, WITHOUT ROWID;
"""

journal = Migrations("journal")
sync = Migrations("sync")
picture = Migrations("picture")
MIGRATIONS: Final = {
    FileKind.JOURNAL: journal,
    FileKind.SYNC: sync,
    FileKind.PICTURE: picture,
}


def _run(db: Database, script: str) -> None:
    """Statements one by one: `executescript` would commit the migration's transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""
    assert not statement.strip()


@journal()
def m001_first_system(db: Database) -> None:
    _run(
        db,
        STREAM_TABLES
        + """
CREATE TABLE tail (             -- this till's spend, for base plus tail
    account_id TEXT NOT NULL,
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    purse TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    business_date TEXT NOT NULL,
    PRIMARY KEY (account_id, epoch, sequence, purse)
) STRICT, WITHOUT ROWID;
CREATE TABLE sides (            -- where a person's last taken passage led
    cardholder_id TEXT NOT NULL,
    zone_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    wall_ms INTEGER NOT NULL,
    local_date TEXT NOT NULL,
    PRIMARY KEY (cardholder_id, zone_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE answered_orders (
    counter INTEGER PRIMARY KEY,
    digest TEXT NOT NULL,       -- of the order's signed bytes: the same bytes are ignored
    accepted INTEGER NOT NULL,
    acted INTEGER NOT NULL
) STRICT;
""",
    )


@sync()
def m001_first_sync(db: Database) -> None:
    _run(
        db,
        STREAM_TABLES
        + """
CREATE TABLE acks (             -- committed by the city, up to and with
    stream TEXT NOT NULL,
    epoch TEXT NOT NULL,
    up_to INTEGER NOT NULL,
    PRIMARY KEY (stream, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE pictures (         -- what is in force: pointer, version floor, freshness
    scope TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    list_epoch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    issued_utc_ms INTEGER NOT NULL,   -- of the newest signed head that named this version
    received_boot TEXT NOT NULL,
    received_mono_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE retired (          -- generations that left force, to be deleted in a while
    path TEXT PRIMARY KEY,
    boot TEXT NOT NULL,
    mono_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE scope_keys (
    scope TEXT NOT NULL,
    purpose TEXT NOT NULL,
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,       -- to the device key, as it came
    PRIMARY KEY (scope, purpose, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE roots (version INTEGER PRIMARY KEY, document BLOB NOT NULL) STRICT;
CREATE TABLE orders (           -- verified, waiting for edge
    counter INTEGER PRIMARY KEY,
    payload BLOB NOT NULL,
    received_mono_ms INTEGER NOT NULL,
    received_boot TEXT NOT NULL
) STRICT;
CREATE TABLE anchor (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    boot TEXT NOT NULL,
    mono_ms INTEGER NOT NULL,
    utc_ms INTEGER NOT NULL,    -- the time the city signed over our nonce
    floor_utc_ms INTEGER NOT NULL  -- the newest time it ever signed to us
) STRICT;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
""",
    )


@picture()
def m001_first_picture(db: Database) -> None:
    _run(
        db,
        """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE rows (
    kind INTEGER NOT NULL,
    key BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
""",
    )


STREAM_TABLES_2: Final = """
ALTER TABLE lives ADD COLUMN held_after TEXT NOT NULL DEFAULT '';  -- digest before held_from
ALTER TABLE lives ADD COLUMN closed_at INTEGER;  -- facts above it live on as restated ones
ALTER TABLE lives ADD COLUMN restated_to INTEGER NOT NULL DEFAULT 0;
CREATE TABLE gaps (             -- facts that went from the middle to make room
    life INTEGER NOT NULL,
    source INTEGER NOT NULL,
    target INTEGER NOT NULL,
    digest TEXT NOT NULL,       -- of the fact at `target`: the chain goes on from it
    counts TEXT NOT NULL,       -- JSON, by kind
    PRIMARY KEY (life, source)
) STRICT, WITHOUT ROWID;
CREATE TABLE milestones (       -- so far the stream had come by then: its facts are that old
    life INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    utc_s INTEGER NOT NULL,     -- by the city's time alone
    PRIMARY KEY (life, sequence)
) STRICT, WITHOUT ROWID;
"""


@journal()
def m002_nothing_lost(db: Database) -> None:
    _run(
        db,
        STREAM_TABLES_2
        + """
CREATE TABLE parts (            -- readers, lanes, disk: sync tells of what changed
    part TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE card_counters (    -- the last message seen of cards that make their own (SUN)
    credential_id TEXT PRIMARY KEY,
    counter INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE seen (             -- so far this till's decisions know its peers' facts
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    store TEXT NOT NULL,        -- the sync.db it was seen in
    up_to INTEGER NOT NULL,
    PRIMARY KEY (device, epoch)
) STRICT, WITHOUT ROWID;
""",
    )


PEER_TABLES_2: Final = """
CREATE TABLE peer_lives (       -- all of (after, up_to] is held, or was and is in the base
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    after INTEGER NOT NULL,     -- held facts begin behind it
    up_to INTEGER NOT NULL,
    digest TEXT NOT NULL,       -- of the fact at up_to; "" where it was never held
    side INTEGER NOT NULL,      -- passages are known up to here
    included INTEGER NOT NULL,  -- the money picture in force included it already at
    boot TEXT NOT NULL,         -- that moment
    mono_ms INTEGER NOT NULL,
    PRIMARY KEY (device, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_facts (       -- exactly as the peer recorded and sent them
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (device, epoch, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_proofs (      -- what the peer signed: header and signature of its batches
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    header BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (device, epoch, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_tail (        -- what peers' facts spend, for base plus tail
    account_id TEXT NOT NULL,
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    purse TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    business_date TEXT NOT NULL,
    PRIMARY KEY (account_id, device, epoch, sequence, purse)
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_sides (       -- the last passage taken of a person at each other lane
    cardholder_id TEXT NOT NULL,
    zone_id TEXT NOT NULL,
    device TEXT NOT NULL,
    direction TEXT NOT NULL,
    wall_ms INTEGER NOT NULL,
    clock TEXT NOT NULL,
    PRIMARY KEY (cardholder_id, zone_id, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_reports (     -- what a peer last said of itself, and until when it is heard
    device TEXT PRIMARY KEY,
    store TEXT NOT NULL,
    lives BLOB NOT NULL,        -- MessagePack of PeerLife
    base_list_epoch INTEGER,
    base_number INTEGER,
    heard_boot TEXT NOT NULL,
    heard_until_ms INTEGER NOT NULL  -- monotonic; 0: it is not heard
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_cover (       -- it has seen my facts so far, and I hold all it had done by then
    device TEXT NOT NULL,
    store TEXT NOT NULL,
    epoch TEXT NOT NULL,        -- of my journal
    up_to INTEGER NOT NULL,
    PRIMARY KEY (device, store, epoch)
) STRICT, WITHOUT ROWID;
"""


@sync()
def m002_nothing_lost_at_sync(db: Database) -> None:
    _run(
        db,
        STREAM_TABLES_2
        + """
ALTER TABLE acks ADD COLUMN head INTEGER NOT NULL DEFAULT 0;  -- how far the stream had come
CREATE TABLE ahead (            -- the city has other facts than we, or more: edge closes the epoch
    stream TEXT NOT NULL,
    epoch TEXT NOT NULL,
    high_water INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (stream, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE parts (            -- as last told in diag
    part TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""
        + PEER_TABLES_2,
    )


@journal()
def m003_stations(db: Database) -> None:
    _run(
        db,
        """
ALTER TABLE sides ADD COLUMN trusted INTEGER NOT NULL DEFAULT 1;  -- its time may be compared
ALTER TABLE sides ADD COLUMN passage TEXT NOT NULL DEFAULT '';    -- the grant it was taken on
CREATE TABLE handovers (        -- what a guardian last said of an entry, or did not say in time
    guardian TEXT PRIMARY KEY,
    access TEXT NOT NULL,       -- the grant of that entry
    chosen INTEGER NOT NULL,    -- 0: the officer was told that nothing was said
    local_date TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE visits (           -- admissions of today: the same card again is the same visit
    credential_id TEXT PRIMARY KEY,
    tariff TEXT NOT NULL,
    wall_ms INTEGER NOT NULL,
    local_date TEXT NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE tail ADD COLUMN hold_ended INTEGER NOT NULL DEFAULT 0;  -- a hold sold or released
CREATE TABLE tail_items (       -- pieces bought, for limits by category; as the tail
    account_id TEXT NOT NULL,
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    category TEXT NOT NULL,
    pieces INTEGER NOT NULL,
    business_date TEXT NOT NULL,
    PRIMARY KEY (account_id, epoch, sequence, category)
) STRICT, WITHOUT ROWID;
CREATE TABLE holds (            -- open ones; a hold of nothing is not made
    epoch TEXT NOT NULL,        -- of the fact, as first recorded
    sequence INTEGER NOT NULL,
    purse TEXT NOT NULL,
    account_id TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    business_date TEXT NOT NULL,
    PRIMARY KEY (epoch, sequence, purse)
) STRICT, WITHOUT ROWID;
CREATE TABLE claims (           -- what a person was handed that is handed over once: a meal's key
    cardholder_id TEXT NOT NULL,
    claim TEXT NOT NULL,
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (cardholder_id, claim, epoch, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE shift_sales (      -- sales since the last close-out: they can be voided
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    lit INTEGER NOT NULL,       -- 0: the green light was never seen to be on
    voided INTEGER NOT NULL,
    PRIMARY KEY (epoch, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE undone (           -- sales voided or given back, in part or whole, and by which facts
    device TEXT NOT NULL,       -- that sold
    epoch TEXT NOT NULL,
    sale INTEGER NOT NULL,
    by_epoch TEXT NOT NULL,     -- of this journal
    by_sequence INTEGER NOT NULL,
    PRIMARY KEY (device, epoch, sale, by_epoch, by_sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE wrong_pins (       -- of staff who try to sign in; gone with the right one
    cardholder_id TEXT PRIMARY KEY,
    count INTEGER NOT NULL,     -- in a row
    boot TEXT NOT NULL,         -- of the last one: locks are timed by no clock that can be set
    mono_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
""",
    )


@sync()
def m003_stations_at_sync(db: Database) -> None:
    _run(
        db,
        """
CREATE INDEX peer_sides_of_day ON peer_sides (device, wall_ms);  -- who is inside; what may go
ALTER TABLE peer_sides ADD COLUMN passage TEXT NOT NULL DEFAULT '';  -- the grant it was taken on
CREATE TABLE peer_handovers (   -- what a guardian last said at each other lane
    guardian TEXT NOT NULL,
    device TEXT NOT NULL,
    access TEXT NOT NULL,       -- of this entry
    wall_ms INTEGER NOT NULL,
    PRIMARY KEY (guardian, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_items (       -- as tail_items of the journal
    account_id TEXT NOT NULL,
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    category TEXT NOT NULL,
    pieces INTEGER NOT NULL,
    business_date TEXT NOT NULL,
    PRIMARY KEY (account_id, device, epoch, sequence, category)
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_holds (       -- open ones
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    purse TEXT NOT NULL,
    account_id TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    business_date TEXT NOT NULL,
    PRIMARY KEY (device, epoch, sequence, purse)
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_claims (      -- as claims of the journal
    cardholder_id TEXT NOT NULL,
    claim TEXT NOT NULL,
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (cardholder_id, claim, device, epoch, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE live_tills (       -- other tills that the city named live, and until when it counts
    device TEXT PRIMARY KEY,
    boot TEXT NOT NULL,
    until_ms INTEGER NOT NULL   -- monotonic
) STRICT, WITHOUT ROWID;
""",
    )


def migrate(connection: sqlite3.Connection, kind: FileKind) -> None:
    """Bring a file up to this version, in one transaction: it is made whole or not at all."""
    db = Database(connection)
    with db.atomic():
        MIGRATIONS[kind].apply(db)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSIONS[kind]}")
