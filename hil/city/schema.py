"""The tables of a site's books: one SQLite file or one PostgreSQL schema, one writer.

`fact` holds the bytes as they came; everything else is either what was made of them in the same
transaction (cursor, ledger, feed, suspense) or what people of the city have entered. Written in
SQLite's words (STRICT); `database.py` turns the types into PostgreSQL's.
"""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 2

TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- Devices, and how they got their identity.
CREATE TABLE claim (
    code TEXT PRIMARY KEY, made_ms INTEGER NOT NULL, device TEXT, public_key BLOB) STRICT;
CREATE TABLE device (
    device TEXT PRIMARY KEY, site TEXT NOT NULL, station TEXT NOT NULL,
    public_key BLOB NOT NULL, certificate TEXT NOT NULL, enrolled_ms INTEGER NOT NULL,
    online INTEGER NOT NULL DEFAULT 0, boot TEXT NOT NULL DEFAULT '',
    connection INTEGER NOT NULL DEFAULT -1, status_ms INTEGER, hello_ms INTEGER,
    health TEXT NOT NULL DEFAULT '', order_counter INTEGER NOT NULL DEFAULT 0,
    revoked_ms INTEGER, next_key BLOB, next_certificate TEXT) STRICT;
CREATE TABLE desired (device TEXT PRIMARY KEY, version INTEGER NOT NULL, data TEXT NOT NULL) STRICT;
CREATE TABLE revoked (serial TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;

-- What came up.
CREATE TABLE fact (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    kind TEXT NOT NULL, digest TEXT NOT NULL, bytes BLOB NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (device, stream, epoch, sequence)) STRICT;
CREATE TABLE cursor (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL,
    up_to INTEGER NOT NULL, digest TEXT NOT NULL, moved_ms INTEGER NOT NULL,
    PRIMARY KEY (device, stream, epoch)) STRICT;
CREATE TABLE gap (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL,
    source INTEGER NOT NULL, target INTEGER NOT NULL, digest TEXT NOT NULL,
    counts TEXT NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (device, stream, epoch, source)) STRICT;
CREATE TABLE fork (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    digest TEXT NOT NULL, bytes BLOB NOT NULL, received_ms INTEGER NOT NULL,
    PRIMARY KEY (device, stream, epoch, sequence, digest)) STRICT;
-- Facts of a closed epoch that came once more, inside a fact of a newer one.
CREATE TABLE restated (
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    digest TEXT NOT NULL, PRIMARY KEY (device, stream, epoch, sequence, digest)) STRICT;
CREATE TABLE suspense (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL,
    reason TEXT NOT NULL, received_ms INTEGER NOT NULL,
    UNIQUE (device, stream, epoch, sequence)) STRICT;
CREATE TABLE alarm (
    device TEXT NOT NULL, what TEXT NOT NULL, text TEXT NOT NULL, times INTEGER NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    PRIMARY KEY (device, what)) STRICT;

-- Money: double entry. `balance` and `spend` are sums of postings, kept with them.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, reference TEXT NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL) STRICT;
CREATE TABLE posting (
    entry INTEGER NOT NULL REFERENCES entry (id), account TEXT NOT NULL, purse TEXT NOT NULL,
    amount_minor INTEGER NOT NULL) STRICT;
CREATE INDEX posting_by_account ON posting (account, purse);
CREATE TABLE balance (
    account TEXT NOT NULL, purse TEXT NOT NULL, amount_minor INTEGER NOT NULL,
    PRIMARY KEY (account, purse)) STRICT;
CREATE TABLE spend (
    account TEXT NOT NULL, date TEXT NOT NULL, amount_minor INTEGER NOT NULL,
    PRIMARY KEY (account, date)) STRICT;

-- People and what they may: entered by the city.
CREATE TABLE person (
    cardholder TEXT PRIMARY KEY, name TEXT NOT NULL, section TEXT NOT NULL, category TEXT NOT NULL,
    account TEXT, suspended INTEGER NOT NULL, here INTEGER NOT NULL, rights TEXT NOT NULL,
    allergens TEXT NOT NULL, wards TEXT NOT NULL,
    sealed_name BLOB NOT NULL, sealed_group BLOB NOT NULL) STRICT;
CREATE TABLE card (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL, uid_kind INTEGER NOT NULL, credential BLOB NOT NULL, cardholder TEXT,
    label TEXT NOT NULL, tier INTEGER NOT NULL, valid_from_utc_s INTEGER NOT NULL,
    valid_until_utc_s INTEGER NOT NULL, hot TEXT NOT NULL,
    profile TEXT NOT NULL DEFAULT '', key_version INTEGER,
    UNIQUE (uid_kind, uid)) STRICT;
CREATE INDEX card_by_cardholder ON card (cardholder);
CREATE TABLE account (
    account TEXT PRIMARY KEY, suspended INTEGER NOT NULL, purses TEXT NOT NULL,
    day_limit_minor INTEGER, week_limit_minor INTEGER) STRICT;
CREATE TABLE ban (
    account TEXT NOT NULL, what TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (account, what, value)) STRICT;
CREATE TABLE product (
    product TEXT PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL,
    price_minor INTEGER NOT NULL, allergens TEXT NOT NULL, allergens_checked INTEGER NOT NULL,
    purse TEXT NOT NULL, offered INTEGER NOT NULL) STRICT;
CREATE TABLE schedule (schedule TEXT PRIMARY KEY, windows TEXT NOT NULL) STRICT;
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- What went down.
CREATE TABLE list_row (
    scope TEXT NOT NULL, kind INTEGER NOT NULL, key BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (scope, kind, key)) STRICT;
CREATE TABLE list_head (
    scope TEXT PRIMARY KEY, list_epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    set_digest BLOB NOT NULL, vector BLOB NOT NULL, snapshot TEXT NOT NULL) STRICT;
CREATE TABLE delta (
    scope TEXT NOT NULL, list_epoch INTEGER NOT NULL, target INTEGER NOT NULL,
    base INTEGER NOT NULL, message BLOB NOT NULL,
    PRIMARY KEY (scope, list_epoch, target)) STRICT;
CREATE TABLE snapshot (
    snapshot TEXT PRIMARY KEY, scope TEXT NOT NULL, list_epoch INTEGER NOT NULL,
    number INTEGER NOT NULL, root TEXT NOT NULL, manifest BLOB NOT NULL, bytes INTEGER NOT NULL,
    made_ms INTEGER NOT NULL, place INTEGER NOT NULL) STRICT;
CREATE TABLE chunk (
    snapshot TEXT NOT NULL REFERENCES snapshot (snapshot) ON DELETE CASCADE,
    position INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (snapshot, position)) STRICT;
CREATE TABLE unpublished (
    scope TEXT NOT NULL, item TEXT NOT NULL, since_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, item)) STRICT;
CREATE TABLE sent_order (
    device TEXT NOT NULL, counter INTEGER NOT NULL, word TEXT NOT NULL, access_point TEXT,
    not_after_utc_ms INTEGER NOT NULL, message BLOB NOT NULL,
    answer TEXT NOT NULL DEFAULT '', outcome TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (device, counter)) STRICT;
CREATE TABLE feed (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, at TEXT NOT NULL,
    cardholder TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL) STRICT;
"""
